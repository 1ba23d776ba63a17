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
