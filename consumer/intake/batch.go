package intake

import (
	"context"
	"errors"
	"fmt"
	"time"

	"jmlbridge/consumer/admit"
	"jmlbridge/consumer/state"
	"jmlbridge/internal/crash"
	"jmlbridge/internal/envelope"
	"jmlbridge/internal/ledger"
	"jmlbridge/internal/ledger/entry"
	"jmlbridge/internal/store"
)

// batch is one transaction: what it has read, and what it will write at its end.
type batch struct {
	*Intake
	tx  *store.Tx
	now time.Time

	keys     map[string]*state.Key
	streams  map[streamKey]*stream
	latest   map[streamName]*stream // the latest generation of each
	silenced map[string]bool        // keys of the alarms on retired keys that stand
	subjects map[state.SubjectKey]*subject

	drained int  // waiting messages judged again
	rosters bool // one is whole now
}

// maxDrain is how many waiting messages one transaction judges again. A long gap that closes must not
// keep the executor from writing.
const maxDrain = 2000

type streamName struct{ iss, name string }

type streamKey struct {
	streamName
	generation int
}

type stream struct {
	*state.Stream
	touched bool
	more    bool // messages wait that the next transaction lets in
	open    bool // something was wrong with it when the transaction began
}

type subject struct {
	*state.Subject
	changed bool
}

// commit makes a batch of opened messages durable in one transaction: from then on, what is in the
// database decides what comes first.
func (in *Intake) commit(ctx context.Context, items []*item) error {
	crash.Point("intake-opened")
	var more bool
	err := in.DB.Update(ctx, func(tx *store.Tx) (err error) {
		more, err = in.write(tx, items)
		return err
	})
	if err != nil {
		return fmt.Errorf("commit %d messages: %w", len(items), err)
	}
	crash.Point("intake-committed")
	in.Committed()
	if more {
		return in.drainAll(ctx)
	}
	return nil
}

// drainAll lets in what waits and may come in by now, in as many transactions as it takes.
func (in *Intake) drainAll(ctx context.Context) error {
	for more := true; more; {
		err := in.DB.Update(ctx, func(tx *store.Tx) error {
			b, err := in.begin(tx)
			if err != nil {
				return err
			}
			for _, s := range b.streams {
				if !s.open {
					continue
				}
				s.touched = true
				if err := b.lapse(s); err != nil {
					return err
				}
				if s.more {
					continue
				}
				if err := b.drain(s); err != nil {
					return err
				}
			}
			more, err = b.end()
			return err
		})
		if err != nil {
			return fmt.Errorf("let waiting messages in: %w", err)
		}
		in.Committed()
	}
	return nil
}

func (in *Intake) write(tx *store.Tx, items []*item) (more bool, err error) {
	b, err := in.begin(tx)
	if err != nil {
		return false, err
	}
	if err := b.preload(items); err != nil {
		return false, err
	}
	// An operator may have ruled on a fork: what waited of the branch comes before what comes now.
	for _, s := range b.streams {
		if s.open && s.State == admit.Live {
			if err := b.drain(s); err != nil {
				return false, err
			}
		}
	}
	for _, it := range items { // in order: the chain is judged one message at a time
		if err := b.take(it); err != nil {
			return false, err
		}
	}
	if err := b.setAside(items); err != nil {
		return false, err
	}
	if n := len(items); n > 0 && items[n-1].delivery.Position != nil {
		if err := state.SetPosition(tx, in.Name, items[n-1].delivery.Position); err != nil {
			return false, err
		}
	}
	if more, err = b.end(); err != nil {
		return false, err
	}
	crash.Point("intake-written")
	return more, nil
}

// begin reads what is trusted and followed: a command may have changed it since the last batch.
func (in *Intake) begin(tx *store.Tx) (*batch, error) {
	b := &batch{Intake: in, tx: tx, now: in.Now(), keys: map[string]*state.Key{}, streams: map[streamKey]*stream{},
		latest: map[streamName]*stream{}, subjects: map[state.SubjectKey]*subject{}}
	list, err := state.Keys(tx)
	if err != nil {
		return nil, err
	}
	for _, k := range list {
		b.keys[k.KID] = k
	}
	streams, err := state.Streams(tx)
	if err != nil {
		return nil, err
	}
	for _, s := range streams {
		st := &stream{Stream: s, open: s.Highest > s.Head || !s.GapSince.IsZero() || s.ForkSeq > 0}
		name := streamName{s.Issuer, s.Name}
		b.streams[streamKey{name, s.Generation}] = st
		if b.latest[name] == nil { // the latest comes first
			b.latest[name] = st
		}
	}
	if b.silenced, err = silenced(tx); err != nil {
		return nil, err
	}
	return b, nil
}

// preload reads the persons of a batch in one query for each issuer.
func (b *batch) preload(items []*item) error {
	ids, seen := map[string][]string{}, map[state.SubjectKey]bool{}
	for _, it := range items {
		if !it.placed || it.frame.Subject == "" {
			continue
		}
		k := it.about()
		if !seen[k] {
			seen[k] = true
			ids[k.Issuer] = append(ids[k.Issuer], k.Subject)
		}
	}
	for iss, list := range ids {
		if err := b.loadSubjects(iss, list); err != nil {
			return err
		}
	}
	return nil
}

func (b *batch) loadSubjects(iss string, ids []string) error {
	known, err := state.LoadSubjects(b.tx, iss, ids)
	if err != nil {
		return err
	}
	for _, id := range ids {
		s := known[id]
		if s == nil {
			s = &state.Subject{SubjectKey: state.SubjectKey{Issuer: iss, Subject: id}}
		}
		b.subjects[s.SubjectKey] = &subject{Subject: s}
	}
	return nil
}

func (b *batch) subject(k state.SubjectKey) (*subject, error) {
	if s := b.subjects[k]; s != nil {
		return s, nil
	}
	s, err := state.LoadSubject(b.tx, k)
	if err != nil {
		return nil, err
	}
	if s == nil {
		s = &state.Subject{SubjectKey: k}
	}
	b.subjects[k] = &subject{Subject: s}
	return b.subjects[k], nil
}

func (b *batch) record(body entry.Body) (index int64, err error) {
	index, err = ledger.Append(b.tx, entry.New(b.now, body))
	if err == nil {
		b.tell(body, index)
	}
	return index, err
}

// take decides one message.
func (b *batch) take(it *item) error {
	switch {
	case it.refusal != nil && it.refusal.Parked():
		return b.park(it, string(it.refusal.Code), it.refusal.KID, it.refusal.Detail)
	case it.refusal != nil:
		return b.refuse(it, string(it.refusal.Code), it.refusal.KID, it.refusal.Detail)
	case !it.placed:
		return b.refuse(it, string(it.content.Code), it.kid, it.content.Error())
	}
	kid := it.kid
	key := b.keys[kid]
	if key == nil { // it was trusted when the message was opened
		return b.park(it, string(envelope.CodeUnknownKey), kid, "the key is not trusted any more")
	}
	name := streamName{it.frame.Issuer, it.frame.Stream.ID}
	s := b.streams[streamKey{name, it.frame.Stream.Generation}]
	v, err := b.judge(&admit.Case{Key: &key.Key, Message: it.message()}, name, s, 0)
	if err != nil {
		return err
	}
	if v.Disposition != admit.Parked && v.Disposition != admit.Refused {
		if err := b.unpark(it); err != nil {
			return err
		}
	}
	switch v.Disposition {
	case admit.Duplicate:
		return b.repeated(it)
	case admit.Refused:
		if err := b.refuse(it, string(v.Code), kid, ""); err != nil {
			return err
		}
		return b.retired(name, v.Code)
	case admit.Parked:
		if v.Code != admit.CodeNewerVersion {
			return b.parkVerified(it, v)
		}
		if err := b.unpark(it); err != nil { // from here on it waits in the archive
			return err
		}
	}
	filled := v.Disposition == admit.Admitted && s.Highest > s.Head
	if err := b.archive(it, s, v); err != nil {
		return err
	}
	s.Stream.Stream, s.touched, s.ReceivedAt = v.Stream, true, b.now
	if err := b.act(it, s, v, nil, filled); err != nil {
		return err
	}
	if s.Head >= it.frame.Stream.Seq || b.rosters {
		return b.drain(s)
	}
	return nil
}

// judge completes a case and asks the checks. without is the id of the message itself where it is in the
// archive already.
func (b *batch) judge(c *admit.Case, name streamName, s *stream, without int64) (admit.Verdict, error) {
	var failed error
	c.Enclave, c.Now, c.Again = b.DB.Enclave(), b.now, without != 0
	if l := b.latest[name]; l != nil {
		c.Latest = l.Stream.Stream
	}
	if s != nil {
		c.Stream = &s.Stream.Stream
		c.Recorded = func(seq uint64) []admit.Recorded {
			list, err := state.Recorded(b.tx, s.Ref, seq, without)
			if err != nil && failed == nil {
				failed = err
			}
			return list
		}
	}
	v := admit.Judge(c)
	return v, failed
}

func (b *batch) archive(it *item, s *stream, v admit.Verdict) error {
	return state.AddMessage(b.tx, &state.Message{
		StreamRef: s.Ref, Seq: it.frame.Stream.Seq, Payload: it.opened.PayloadDigest, Prev: it.frame.Stream.Prev, Wire: it.wire,
		JTI: it.frame.ID, KID: it.kid, Event: it.frame.Kind, Subject: it.frame.Subject,
		Disposition: v.Disposition, Code: v.Code, ReceivedAt: b.now, DecidedAt: b.now, JWS: it.opened.JWS, Octets: it.opened.Payload,
	})
}

// drain judges again, in order, the messages that waited for what came now.
func (b *batch) drain(s *stream) error {
	s.more = false
	for s.Highest > s.Head && s.State == admit.Live {
		m, err := state.Waiting(b.tx, s.Ref, s.Head+1)
		if err != nil || m == nil {
			return err
		}
		if b.drained >= maxDrain {
			s.more = true
			return nil
		}
		b.drained++
		it, err := again(m)
		if err != nil {
			return fmt.Errorf("message %d of stream %s: %w", m.Seq, s.Name, err)
		}
		key := b.keys[m.KID]
		if key == nil {
			return nil // it waits on, for its key
		}
		v, err := b.judge(&admit.Case{Key: &key.Key, Message: it.message()}, streamName{s.Issuer, s.Name}, s, m.ID)
		if err != nil {
			return err
		}
		if v.Disposition == m.Disposition && v.Code == m.Code {
			return nil // nothing has changed for it, such as a newer version
		}
		if err := state.SetDisposition(b.tx, m.ID, v.Disposition, v.Code, b.now); err != nil {
			return err
		}
		if err := b.retired(streamName{s.Issuer, s.Name}, v.Code); err != nil {
			return err
		}
		moved := v.Stream.Head > s.Head
		s.Stream.Stream, s.touched = v.Stream, true
		if err := b.act(it, s, v, m, false); err != nil {
			return err
		}
		if !moved {
			return nil
		}
	}
	return nil
}

// lapse refuses what waits behind a gap and is past the end of its key: its turn would only come to that, and until then it
// would contradict what the next key says there.
func (b *batch) lapse(s *stream) error {
	s.more = false
	ended := false
	for _, k := range b.keys {
		ended = ended || k.Retired != nil && k.Issuer == s.Issuer && k.Stream == s.Name
	}
	if !ended || s.State != admit.Live || s.Highest <= s.Head {
		return nil
	}
	for from, was := s.Head+1, b.drained; ; b.drained++ {
		m, err := state.WaitingPastKey(b.tx, s.Stream, from)
		if err != nil {
			return err
		}
		if s.more = m != nil && b.drained >= maxDrain; m == nil || s.more {
			if b.drained > was {
				s.Highest, err = state.Furthest(b.tx, s.Ref, s.Head)
			}
			return err
		}
		from = m.Seq
		it, err := again(m)
		if err != nil {
			return fmt.Errorf("message %d of stream %s: %w", m.Seq, s.Name, err)
		}
		name, v := streamName{s.Issuer, s.Name}, admit.Verdict{Disposition: admit.Refused, Code: admit.CodeKeyRetired, Stream: s.Stream.Stream}
		err = errors.Join(state.SetDisposition(b.tx, m.ID, v.Disposition, v.Code, b.now), b.retired(name, v.Code), b.act(it, s, v, m, false))
		if err != nil {
			return err
		}
	}
}

// end writes what the messages left: persons, streams and the alarms on them. more says that messages wait
// that another transaction lets in.
func (b *batch) end() (more bool, err error) {
	for _, s := range b.subjects {
		if !s.changed {
			continue
		}
		s.Doc.Compact(b.sure(s.Issuer), b.now)
		if err := state.SaveFacts(b.tx, s.Subject); err != nil {
			return false, err
		}
		s.changed = false
	}
	for _, s := range b.streams {
		if !s.touched {
			continue
		}
		if s.more {
			more = true // what is missing then, is told then
		} else if err := b.alarms(s); err != nil {
			return false, err
		}
		if err := state.SaveStream(b.tx, s.Stream); err != nil {
			return false, err
		}
	}
	return more, nil
}
