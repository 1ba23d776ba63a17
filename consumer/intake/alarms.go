package intake

import (
	"fmt"
	"time"

	"jmlbridge/consumer/admit"
	"jmlbridge/consumer/state"
)

// alarms raises and ends what a stream's state calls for, in the transaction that changed it.
func (b *batch) alarms(s *stream) error {
	var hole admit.Gap
	var waits, lacks bool // something was received behind the head; messages before it were not
	if s.Highest > s.Head && s.State == admit.Live {
		next, prev, ok, err := state.NextRecorded(b.tx, s.Ref, s.Head)
		if err != nil {
			return err
		}
		if waits = ok; waits {
			hole, lacks = admit.Hole(s.Stream.Stream, next, prev)
		}
	}
	missing := lacks && !b.putOff(s, hole)
	s.GapSince = since(s.GapSince, missing, b.now)
	leased := missing && b.onLease(s)
	var gap, newer string
	switch {
	case missing && !leased:
		gap = fmt.Sprintf("messages %d to %d of stream %s did not come: that may hide a leaver. The hash before is %s, the hash that the last of them must have is %s. Cuts act, grants wait; ask the mid-point and the producer. More may be missing behind these: `consumer status` counts all",
			hole.First, hole.Last, s.Name, hole.Before, hole.After)
		if b.silenced[(streamName{s.Issuer, s.Name}).key()] {
			gap += ". A message was refused for its key's end (key-retired): where that is what is missing, no resend helps, have the producer's people run `producer roster`"
		}
	case waits && !lacks:
		newer = fmt.Sprintf("message %d of stream %s is of a newer version or its key is gone: grants after it wait; upgrade this program", s.Head+1, s.Name)
	}
	if !s.open && gap == "" && newer == "" && s.State == admit.Live {
		return nil // nothing stood, nothing stands
	}
	fork := ""
	if s.State == admit.ForkedAway {
		fork = fmt.Sprintf("stream %s says two things around message %d: its key is stolen or its producer was restored from a backup. Cuts act, grants wait; ask the producer which branch is theirs, then `consumer fork choose`, or trust the next generation that they open", s.Name, s.ForkSeq)
	}
	for _, a := range []struct{ code, text string }{
		{string(admit.CodeGap), gap}, {string(admit.CodeNewerVersion), newer}, {string(admit.CodeFork), fork},
	} {
		if leased && a.code == string(admit.CodeGap) {
			continue // where it stands already, it goes on standing
		}
		if err := b.alarm(a.code, s.AlarmKey(), a.text, s); err != nil {
			return err
		}
	}
	return nil
}

// leaseMost is how long after a gap was first seen its alarm is put off at most, whatever the mid-point says of leases.
const leaseMost = time.Minute

// onLease reports whether the messages that a stream lacks may be leased to nobody, as after a kill. Its grants wait and
// the status shows the gap all the same; what waits is to wake somebody for it.
func (b *batch) onLease(s *stream) bool {
	if b.Queue == nil {
		return false
	}
	wait := min(b.Queue.Leased(), leaseMost, s.GapSince.Add(leaseMost).Sub(b.now))
	if wait <= 0 {
		return false
	}
	if due := b.now.Add(wait); b.gapDue.IsZero() || due.Before(b.gapDue) {
		b.gapDue = due
	}
	return true
}

// alarmRetired says that a stream which is followed was heard by a key past its end. Nothing else would tell
// that a leaver may be in it. It ends with the next message of the stream that is admitted.
const alarmRetired = string(admit.CodeKeyRetired)

// key names a stream whatever its generation: what ends the alarm may be of the next one.
func (n streamName) key() string { return fmt.Sprintf("%s@%s", n.name, n.iss) }

// silenced reads for which streams that alarm stands, so that not every message has to ask.
func silenced(r state.Reader) (map[string]bool, error) {
	standing, err := state.Alarms(r)
	if err != nil {
		return nil, err
	}
	list := map[string]bool{}
	for _, a := range standing {
		if a.Code == alarmRetired {
			list[a.Key] = true
		}
	}
	return list, nil
}

// retired raises that alarm. Its text is the same for every message, so that who holds a stolen key cannot
// fill the ledger with it.
func (b *batch) retired(name streamName, code admit.Code) error {
	s := b.latest[name]
	if code != admit.CodeKeyRetired || s == nil || b.silenced[name.key()] {
		return nil
	}
	b.silenced[name.key()], s.touched = true, true // a gap of it says so
	return b.alarm(alarmRetired, name.key(), fmt.Sprintf("a message of stream %s was refused, for its key was retired at an earlier place: it may be a leaver. Ask the producer's people what they sent and with which key", name.name), s)
}

// heard ends it.
func (b *batch) heard(name streamName) error {
	if len(b.silenced) == 0 || !b.silenced[name.key()] {
		return nil
	}
	delete(b.silenced, name.key())
	return b.alarm(alarmRetired, name.key(), "", nil)
}

// alarm makes an alarm stand, or ends it where there is nothing to say.
func (b *batch) alarm(code, key, text string, s *stream) (err error) {
	if text == "" {
		_, err = state.ClearAlarm(b.tx, code, key, b.now)
		return err
	}
	a := state.Alarm{Code: code, Key: key, Severity: state.Critical, Text: text, Last: b.now}
	if s != nil {
		a.Issuer, a.Stream = s.Issuer, s.Name
	}
	_, err = state.RaiseAlarm(b.tx, a)
	return err
}

// since keeps the time from which something holds, as long as the clock is not put back before it.
func since(was time.Time, holds bool, now time.Time) time.Time {
	switch {
	case !holds:
		return time.Time{}
	case was.IsZero(), was.After(now):
		return now
	}
	return was
}
