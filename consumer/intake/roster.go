package intake

import (
	"fmt"

	"jmlbridge/consumer/state"
	"jmlbridge/schema"
)

// roster notes an admitted part of a roster and, with the last one, verifies the whole. Nothing is applied:
// a verified roster waits in its table.
func (b *batch) roster(it *item, e *schema.Roster, s *stream) error {
	r, err := state.RosterOf(b.tx, s.Ref, e.ID)
	if err != nil {
		return err
	}
	if r == nil {
		// A new one begins; what was not whole by now will never be.
		older, err := state.Collecting(b.tx, s.Ref)
		if err != nil {
			return err
		}
		for _, o := range older {
			if err := b.broken(o, s, "another roster began before it was whole"); err != nil {
				return err
			}
		}
		r = &state.Roster{StreamRef: s.Ref, ID: e.ID, Parts: e.Parts, Digest: e.Digest, Head: e.Head, State: state.RosterCollecting, Since: b.now}
	}
	if r.State != state.RosterCollecting {
		return nil
	}
	if e.Part != r.Seen+1 || e.Parts != r.Parts || e.Digest != r.Digest || e.Head != r.Head {
		return b.broken(r, s, fmt.Sprintf("part %d of %d came where part %d of %d was to come, or it is of another roster", e.Part, e.Parts, r.Seen+1, r.Parts))
	}
	r.Seen, r.Live, r.Closed = e.Part, r.Live+len(e.Live), r.Closed+len(e.Closed)
	if err := state.SaveRoster(b.tx, r); err != nil {
		return err
	}
	if err := state.AddRosterPart(b.tx, s.Ref, e.ID, e.Part, it.frame.Stream.Seq); err != nil {
		return err
	}
	if r.Seen < r.Parts {
		return nil
	}
	if err := b.verify(r); err != nil {
		return b.broken(r, s, err.Error())
	}
	r.State, r.DoneAt = state.RosterVerified, b.now
	if _, err := state.ClearAlarm(b.tx, alarmRoster, alarmKey(s.Stream), b.now); err != nil {
		return err
	}
	return state.SaveRoster(b.tx, r)
}

const alarmRoster = "roster-broken"

func (b *batch) broken(r *state.Roster, s *stream, why string) error {
	r.State, r.DoneAt = state.RosterBroken, b.now
	if err := state.SaveRoster(b.tx, r); err != nil {
		return err
	}
	return b.alarm(alarmRoster, alarmKey(s.Stream), fmt.Sprintf("roster %s of stream %s is not believed: %s; the next one will say the whole truth again", r.ID, s.Name, why), s)
}

// verify reads the parts back from the archive, one at a time.
func (b *batch) verify(r *state.Roster) error {
	var check schema.RosterCheck
	for part := 1; part <= r.Parts; part++ {
		jws, err := state.RosterPart(b.tx, r.StreamRef, r.ID, part)
		if err != nil {
			return err
		}
		octets, err := payload(jws)
		if err != nil {
			return err
		}
		set, err := schema.Decode(octets)
		if err != nil {
			return err
		}
		e, ok := set.Event.(*schema.Roster)
		if !ok {
			return fmt.Errorf("part %d is not a roster's", part)
		}
		whole, err := check.Add(e)
		if err != nil {
			return err
		}
		if whole != (part == r.Parts) {
			return fmt.Errorf("it is whole after part %d of %d", part, r.Parts)
		}
	}
	return nil
}
