package intake

import (
	"fmt"
	"strings"
	"time"

	"jmlbridge/consumer/admit"
	"jmlbridge/consumer/ruling"
	"jmlbridge/consumer/state"
	"jmlbridge/internal/ledger/entry"
	"jmlbridge/schema"
)

// Codes of the alarms on rosters.
const (
	alarmRoster  = "roster-broken"      // ends with the next one that is whole, or with the generation
	alarmUnnamed = "unnamed"            // people have access whom the last roster does not name
	alarmAgainst = "roster-contradicts" // the last roster names people live whom a leaver ended
)

// collect notes a part of a roster and, with the last one, verifies the whole. The parts may come past a gap
// and in any order: what they say is signed, and is believed only once all of it is here.
func (b *batch) collect(it *item, e *schema.Roster, s *stream, v admit.Verdict) error {
	r, err := state.RosterOf(b.tx, s.Ref, e.ID)
	if err != nil {
		return err
	}
	if v.Disposition == admit.Admitted {
		if err := b.abandon(e, it.frame.Stream.Seq, s); err != nil {
			return err
		}
	}
	if r == nil {
		r = &state.Roster{StreamRef: s.Ref, ID: e.ID, Parts: e.Parts, Digest: e.Digest, Head: e.Head, Issued: it.set.IssuedAt.Time(), State: state.RosterCollecting, Since: b.now}
	}
	if r.State != state.RosterCollecting {
		return nil
	}
	if e.Parts != r.Parts || e.Digest != r.Digest || e.Head != r.Head {
		return b.broken(r, s, fmt.Sprintf("part %d differs from the others in parts, digest or head", e.Part))
	}
	added, err := state.AddRosterPart(b.tx, s.Ref, e.ID, e.Part, it.frame.Stream.Seq)
	if err != nil || !added {
		return err
	}
	b.checked.follow(r, e, it.opened.PayloadDigest)
	r.Seen, r.Live, r.Closed = r.Seen+1, r.Live+len(e.Live), r.Closed+len(e.Closed)
	if r.Seen < r.Parts {
		return state.SaveRoster(b.tx, r)
	}
	why, err := b.verify(r, s)
	if err != nil {
		return err
	}
	if why != "" {
		return b.broken(r, s, why)
	}
	r.State = state.RosterVerified
	if _, err := state.ClearAlarm(b.tx, alarmRoster, s.AlarmKey(), b.now); err != nil {
		return err
	}
	if err := b.cover(r, s); err != nil {
		return err
	}
	b.rosters = true
	b.tx.After(func() { b.Intake.rosters = true })
	return state.SaveRoster(b.tx, r)
}

// abandon gives up the rosters that can never be whole: everything up to seq came, and parts are missing.
func (b *batch) abandon(e *schema.Roster, seq uint64, s *stream) error {
	older, err := state.Collecting(b.tx, s.Ref)
	if err != nil {
		return err
	}
	for _, o := range older {
		if o.ID == e.ID {
			continue
		}
		first, _, err := state.RosterSpan(b.tx, s.Ref, o.ID)
		if err != nil {
			return err
		}
		if first < seq {
			if err := b.broken(o, s, "another one began before it was whole"); err != nil {
				return err
			}
		}
	}
	return nil
}

func (b *batch) broken(r *state.Roster, s *stream, why string) error {
	r.State, r.DoneAt = state.RosterBroken, b.now
	if err := state.SaveRoster(b.tx, r); err != nil {
		return err
	}
	return b.alarm(alarmRoster, s.AlarmKey(), fmt.Sprintf("roster %s of stream %s is not believed: %s; the next one will say the whole truth again", r.ID, s.Name, why), s)
}

// verify tells why the roster is not to be believed; empty: it is. It reads back, one at a time, the parts that were
// not checked while they came.
func (b *batch) verify(r *state.Roster, s *stream) (why string, err error) {
	first, last, err := state.RosterSpan(b.tx, s.Ref, r.ID)
	switch {
	case err != nil:
		return "", err
	case last-first+1 != uint64(r.Parts):
		return "its parts do not follow each other", nil
	case r.Head.Generation == s.Generation && r.Head.Seq >= first:
		return fmt.Sprintf("its head is message %d and it begins at message %d", r.Head.Seq, first), nil
	}
	if r.Head.Generation == s.Generation {
		// Where the message at the head is here, it must be the one that the roster names.
		payload, ok, err := state.PayloadAt(b.tx, s.Ref, r.Head.Seq)
		if err != nil {
			return "", err
		}
		if r.Head.Seq == s.Head {
			payload, ok = s.HeadHash, true
		}
		if ok && payload != r.Head.Hash {
			return fmt.Sprintf("its head is another message %d than the one that came", r.Head.Seq), nil
		}
	}
	here, err := state.RosterPayloads(b.tx, r)
	if err != nil {
		return "", err
	}
	c := b.checked.of(r, here)
	b.checked = checked{} // c goes on with it, and may end in the middle
	for part := len(c.parts) + 1; part <= r.Parts; part++ {
		e, err := rosterPart(b.tx, r, part)
		if err != nil {
			return "", err
		}
		if err := c.add(e, schema.Digest{}); err != nil { // of which nobody asks any more
			return err.Error(), nil
		}
	}
	for i, p := range c.parts {
		if p.Live == 0 {
			continue
		}
		if err := state.SavePart(b.tx, r, i+1, p.Part); err != nil {
			return "", err
		}
	}
	return "", nil
}

// rosterPart reads one part back. Its signature was verified when it came, and what was decided since of its place takes
// nothing from that: each part vouches for all of them.
func rosterPart(r state.Reader, of *state.Roster, part int) (*schema.Roster, error) {
	list, err := state.RosterParts(r, of.StreamRef, of.ID, part)
	if err != nil {
		return nil, err
	}
	for _, jws := range list {
		octets, err := payload(jws)
		if err != nil {
			return nil, err
		}
		set, err := schema.Decode(octets)
		if err != nil {
			continue // another message at its place
		}
		if e, ok := set.Event.(*schema.Roster); ok && e.ID == of.ID && e.Part == part {
			return e, nil
		}
	}
	return nil, fmt.Errorf("part %d of roster %s is not what was archived; the database was changed by another hand", part, of.ID)
}

// cover lets a whole roster stand in for what is missing before its head: the chain goes on there. What is
// missing is named on the ledger, by an alarm that ends by itself.
func (b *batch) cover(r *state.Roster, s *stream) error {
	head := s.Head // of the stream, where it is of the generation at hand
	if r.Head.Generation == s.Generation {
		head = r.Head.Seq
	}
	was := s.Stream.Stream
	s.Stream.Stream, s.touched = admit.Cover(was, head, r.Head.Hash), true
	if s.Head == was.Head {
		r.Overtaken = r.Head.Seq // nothing waited
		return nil
	}
	r.Overtaken = was.Head
	var runs []string
	missing := uint64(0)
	err := state.Missing(b.tx, s.Ref, was.Head, s.Head, func(first, last uint64) {
		missing += last - first + 1
		if len(runs) <= maxRuns {
			runs = append(runs, run(first, last))
		}
	})
	if err != nil || missing == 0 {
		return err
	}
	if len(runs) > maxRuns {
		runs[maxRuns] = "and more"
	}
	a := state.Alarm{Code: ruling.AlarmCovered, Key: s.AlarmKey(), Severity: state.Notice, Last: b.now, Issuer: s.Issuer, Stream: s.Name,
		Text: fmt.Sprintf("%d messages of stream %s had not come (%s), after hash %s; roster %s stands in for all up to message %d, hash %s. What comes of them yet may take access and gives none. Where they were not parked or refused here, ask whoever runs the mid-point where they are",
			missing, s.Name, strings.Join(runs, ", "), was.HeadHash, r.ID, s.Head, s.HeadHash)}
	_, err = state.RaiseAlarm(b.tx, a)
	return err
}

// maxRuns is how many runs of missing numbers an alarm's text names.
const maxRuns = 8

func run(first, last uint64) string {
	if first == last {
		return fmt.Sprint(first)
	}
	return fmt.Sprintf("%d to %d", first, last)
}

// renewed puts on the ledger that a roster was applied.
func (b *batch) renewed(r *state.Roster, s *stream, last uint64) error {
	_, err := b.record(&entry.Lease{Action: entry.LeaseRenewed, Issuer: s.Issuer, Count: int64(r.Named), Digest: &r.Digest,
		Cause: &entry.Cause{Type: entry.CauseMessage, Position: &entry.Position{Issuer: s.Issuer, Stream: s.Name, Generation: s.Generation, Seq: last}}})
	return err
}

// until is the earlier of two times: what a producer with a clock ahead of ours states must not last longer
// for it.
func until(t, now time.Time) time.Time {
	if t.After(now) {
		return now
	}
	return t
}
