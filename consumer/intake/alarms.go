package intake

import (
	"fmt"
	"time"

	"jmlbridge/consumer/admit"
	"jmlbridge/consumer/state"
)

// alarmKey names a generation of a stream.
func alarmKey(s *state.Stream) string {
	return fmt.Sprintf("%s#%d@%s", s.Name, s.Generation, s.Issuer)
}

// alarms raises and ends what a stream's state calls for, in the transaction that changed it.
func (b *batch) alarms(s *stream) error {
	var gap, newer string
	switch {
	case s.State == admit.Closed:
	case s.Highest > s.Head && s.State == admit.Live:
		next, prev, ok, err := state.NextRecorded(b.tx, s.Ref, s.Head)
		if err != nil {
			return err
		}
		hole, missing := admit.Hole(s.Stream.Stream, next, prev)
		switch {
		case ok && missing:
			gap = fmt.Sprintf("messages %d to %d of stream %s did not come: that may hide a leaver. The hash before is %s, the hash that the last of them must have is %s. Cuts act, grants wait; ask the mid-point and the producer",
				hole.First, hole.Last, s.Name, hole.Before, hole.After)
		case ok:
			newer = fmt.Sprintf("message %d of stream %s is of a newer version or its key is gone: grants after it wait; upgrade this program", s.Head+1, s.Name)
		}
	}
	s.GapSince = since(s.GapSince, gap != "", b.now)
	if !s.open && gap == "" && newer == "" && s.State == admit.Live {
		return nil // nothing stood, nothing stands
	}
	fork := ""
	if s.State == admit.ForkedAway {
		fork = fmt.Sprintf("stream %s says two things around message %d: its key is stolen or its producer was restored from a backup. Cuts act, grants wait; ask the producer to open the next generation and trust that", s.Name, s.ForkSeq)
	}
	for _, a := range []struct{ code, text string }{
		{string(admit.CodeGap), gap}, {string(admit.CodeNewerVersion), newer}, {string(admit.CodeFork), fork},
	} {
		if err := b.alarm(a.code, alarmKey(s.Stream), a.text, s); err != nil {
			return err
		}
	}
	return nil
}

// alarmRetired says that a stream which is followed was heard by a key past its end. Nothing else would tell
// that a leaver may be in it. It ends with the next message of the stream that is admitted.
const alarmRetired = string(admit.CodeKeyRetired)

// retiredKey names a stream whatever its generation: what ends the alarm may be of the next one.
func (n streamName) retiredKey() string { return fmt.Sprintf("%s@%s", n.name, n.iss) }

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
	if code != admit.CodeKeyRetired || s == nil || b.silenced[name.retiredKey()] {
		return nil
	}
	b.silenced[name.retiredKey()] = true
	return b.alarm(alarmRetired, name.retiredKey(), fmt.Sprintf("a message of stream %s was refused, for its key was retired at an earlier place: it may be a leaver. Ask the producer's people what they sent and with which key", name.name), s)
}

// heard ends it.
func (b *batch) heard(name streamName) error {
	if len(b.silenced) == 0 || !b.silenced[name.retiredKey()] {
		return nil
	}
	delete(b.silenced, name.retiredKey())
	return b.alarm(alarmRetired, name.retiredKey(), "", nil)
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

// since keeps the time from which something holds.
func since(was time.Time, holds bool, now time.Time) time.Time {
	switch {
	case !holds:
		return time.Time{}
	case was.IsZero():
		return now
	}
	return was
}
