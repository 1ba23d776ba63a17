package intake

import (
	"bytes"
	"context"
	"slices"
	"time"

	"jmlbridge/consumer/admit"
	"jmlbridge/internal/disk"
	"jmlbridge/internal/queue"
	"jmlbridge/schema"
)

// Room tells how much the disk can still take.
type Room interface {
	Level() disk.Level

	// Full reports whether err says that the disk is full, and gives what was laid by for that.
	Full(err error) bool
}

// endless is the room of whoever does not watch it.
type endless struct{}

func (endless) Level() disk.Level { return disk.Ample }
func (endless) Full(error) bool   { return false }

// Of what is kept in memory while the disk is full, or a key store cannot be asked for a key.
const (
	lineMessages = 5000
	lineOctets   = 16 << 20 // of bodies; opened they take thrice as much
	roomPause    = time.Second
)

// takes reports whether a message is taken in by a full disk as well: what takes access away and says that the
// stream is alive. What is refused leaves a digest, or only a count.
func (it *item) takes() bool {
	return !it.placed || it.core != nil || it.frame.Kind.Cuts() || it.frame.Kind == schema.KindHeartbeat
}

// join puts what was fetched at the end of the line. What comes again while it stands there, since it was not
// settled, has a new lease and nothing else, but that it may be opened by now.
func (in *Intake) join(items []*item) {
	if len(in.line) == 0 && !slices.ContainsFunc(items, func(it *item) bool { return it.failed != nil }) {
		in.line = items
		return
	}
	told := 0
	at := make(map[schema.Digest]*item, len(in.line))
	for _, it := range in.line {
		at[it.wire] = it
	}
	for _, it := range items {
		known := at[it.wire]
		if known == nil {
			in.line = append(in.line, it)
			if it.failed != nil { // who repeats it does not fill the line
				at[it.wire] = it
			}
			continue
		}
		if !bytes.Equal(it.delivery.Position, known.delivery.Position) {
			it.delivery.Position = nil // it is past what stands between
		}
		known.delivery = it.delivery
		told += it.counted()
		if known.failed != nil && it.failed == nil {
			told += known.become(it)
		}
	}
	in.waits(-told)
}

// blocked reports whether no more can be kept. A leaver that is behind it waits.
func (in *Intake) blocked() bool {
	octets := 0
	for _, it := range in.line {
		octets += len(it.body)
	}
	return len(in.line) >= lineMessages || octets >= lineOctets
}

// next picks from the line what is committed now, and what stays. On a full disk what takes goes past what
// gives, and what is opened past what is not; nobody's place at the mid-point is past what stays.
func (in *Intake) next() (now, later []*item) {
	full := in.Room.Level() == disk.Full
	for _, it := range in.line {
		switch {
		case it.failed != nil, full && !it.takes():
			later = append(later, it)
		case len(now) < max(in.Limits.Batch, 1):
			if len(later) > 0 {
				it.delivery.Position = nil
			}
			now = append(now, it)
		default:
			later = append(later, it)
		}
	}
	return now, later
}

// once commits what there is room for now and returns it, to be settled; what is left stays in the line. full says that
// the disk was, and that nothing of it is done.
func (in *Intake) once(work context.Context) (batch []queue.Delivery, full bool, err error) {
	now, later := in.next()
	if len(now) == 0 {
		return nil, false, nil
	}
	line := in.line
	in.line = later
	if err := in.commit(work, now); err != nil {
		in.line = line
		if in.Room.Full(err) {
			return nil, true, nil
		}
		return nil, false, err
	}
	batch = make([]queue.Delivery, len(now))
	for i, it := range now {
		batch[i] = it.delivery
		batch[i].Body = nil // settling goes by the lease
	}
	return batch, false, nil
}

// advance commits what there is room for and hands it on to be settled. It returns false where that ended.
func (in *Intake) advance(work context.Context, to chan<- []queue.Delivery) (bool, error) {
	for len(in.line) > 0 {
		batch, full, err := in.once(work)
		switch {
		case err != nil:
			return false, in.stopped(work, err)
		case full:
			pause(in.fetching, roomPause)
			if in.fetching.Err() != nil {
				return false, nil // nothing of it is settled: it comes again
			}
		case len(batch) == 0:
			return true, nil
		case !send(work, to, batch):
			return false, nil
		}
	}
	in.line = nil
	return true, nil
}

// putOff reports whether all of a hole is messages that came and wait for room: nobody withholds them.
func (b *batch) putOff(s *stream, hole admit.Gap) bool {
	seqs := map[uint64]bool{}
	for _, it := range b.line {
		p := it.frame.Stream
		if it.placed && it.frame.Issuer == s.Issuer && p.ID == s.Name && p.Generation == s.Generation && p.Seq >= hole.First && p.Seq <= hole.Last {
			seqs[p.Seq] = true
		}
	}
	return uint64(len(seqs)) == hole.Last-hole.First+1
}
