package apply

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"jmlbridge/consumer/plan"
	"jmlbridge/consumer/state"
	"jmlbridge/internal/ledger/entry"
	"jmlbridge/internal/store"
)

// shownHold is what an operator sees of a hold of many, and what its digest covers.
type shownHold struct {
	Code     string       `json:"code"`
	Lane     string       `json:"lane"`
	Count    int          `json:"count"`
	Until    *time.Time   `json:"until,omitempty"`
	Subjects []shownEntry `json:"subjects"`
}

type shownEntry struct {
	Issuer     string `json:"iss"`
	Subject    string `json:"sub"`
	Engagement int    `json:"engagement"`
	Seq        uint64 `json:"seq"`
}

// hold puts behind one hold whoever is a further effect of the work that is due in lane.
func (e *Engine) hold(tx *store.Tx, now time.Time, lane plan.Lane, p *past) error {
	shown := shownHold{Code: p.code, Lane: lane.String()}
	if p.until != state.Never {
		shown.Until = &p.until
	}
	var whom []entry.Who
	err := e.eachEffect(tx, lane, now, func(s *state.Subject) error {
		if p.spareUrgent && s.Urgent {
			return nil
		}
		cause := s.Doc.At(now).Cause
		shown.Subjects = append(shown.Subjects, shownEntry{s.Issuer, s.Subject, cause.Engagement, cause.Seq})
		whom = append(whom, entry.Who{Issuer: s.Issuer, Subject: s.Subject, Engagement: cause.Engagement})
		return nil
	})
	if err != nil {
		return err
	}
	shown.Count = len(shown.Subjects)
	if shown.Count == 0 {
		return nil
	}
	list, err := json.Marshal(shown)
	if err != nil {
		return err
	}
	// The time makes the key: a second hold of the same kind must not end the first.
	h := &state.Hold{SubjectKey: state.SubjectKey{Subject: now.UTC().Format("20060102T150405.000")}, Code: p.code, Shown: list, Created: now, Subjects: whom}
	if shown.Until != nil {
		h.Expires = p.until
	}
	if _, err := state.OpenHold(tx, h); err != nil {
		return err
	}
	if lane == plan.Give || lane == plan.Delete {
		err = state.HoldLane(tx, h.ID, lane, now, p.until)
	} else {
		for _, x := range shown.Subjects {
			if err == nil {
				err = state.HoldRow(tx, h.ID, state.SubjectKey{Issuer: x.Issuer, Subject: x.Subject}, lane, p.until)
			}
		}
	}
	if err != nil {
		return err
	}
	text, err := limitText(tx, h, shown.Until, int64(shown.Count), p.left.tightest().past())
	if err != nil {
		return err
	}
	return raise(tx, state.Alarm{Code: p.code, Severity: p.severity, Last: now, Text: text})
}

// held is what waits behind a hold of many, by its code.
var held = map[string]string{AlarmCutLimit: "cuts", AlarmGiveLimit: "gives", AlarmDeleteLimit: "deletes", AlarmTakeLimit: "losses of roles", AlarmPolicyLimit: "losses by the new policy"}

// namedHolds is how many holds an alarm names.
const namedHolds = 8

// behind is what waits behind all holds of one code.
type behind struct {
	holds   []string
	waiting int64
	first   time.Time // when the first of it happens by itself; zero: none does
	text    string    // of the last hold alone
}

func (b *behind) add(h *state.Hold, until *time.Time, waiting int64) {
	b.holds = append(b.holds, h.Name())
	b.waiting += waiting
	if until != nil && (b.first.IsZero() || until.Before(b.first)) {
		b.first = *until
	}
	b.text = alarmText(h, until, waiting, "")
}

func (b *behind) alarm(code string) string {
	if len(b.holds) == 1 {
		return b.text
	}
	names := strings.Join(b.holds[:min(len(b.holds), namedHolds)], ", ")
	if n := len(b.holds) - namedHolds; n > 0 {
		names += fmt.Sprintf(" and %d more", n)
	}
	text := fmt.Sprintf("%d holds (%s): %d %s waiting; ", len(b.holds), names, b.waiting, held[code])
	if !b.first.IsZero() {
		text += fmt.Sprintf("the first happen at %s unless two operators discard them; ", b.first.UTC().Format(time.RFC3339))
	}
	return text + "see `consumer holds list`"
}

// alarmText begins with the hold and how many wait behind it; why is of the limit, and may be empty.
func alarmText(h *state.Hold, until *time.Time, waiting int64, why string) string {
	text := fmt.Sprintf("hold %s: %d %s waiting%s; ", h.Name(), waiting, held[h.Code], why)
	if until != nil {
		return text + fmt.Sprintf("it happens at %s unless two operators discard them; see `consumer holds show %s`", until.UTC().Format(time.RFC3339), h.Name())
	}
	return text + fmt.Sprintf("nothing of it happens until `consumer holds release %s` or `discard`", h.Name())
}

// limitText is what the alarm of a limit says once a hold was opened: why, where it is the only one of its code, and
// else what waits behind all of them.
func limitText(tx *store.Tx, h *state.Hold, until *time.Time, waiting int64, why string) (string, error) {
	say, _, err := waitingBehind(tx)
	if err != nil {
		return "", err
	}
	if all := say[h.Code]; all != nil && len(all.holds) > 1 {
		return all.alarm(h.Code), nil
	}
	return alarmText(h, until, waiting, why), nil
}

// waitingBehind is what waits behind the open holds of many, by their code, and the holds behind which nobody does.
func waitingBehind(r state.Reader) (say map[string]*behind, idle []*state.Hold, err error) {
	open, err := state.Holds(r)
	if err != nil {
		return nil, nil, err
	}
	waiting, err := state.HeldBack(r)
	if err != nil {
		return nil, nil, err
	}
	say = map[string]*behind{}
	for _, h := range open {
		if !ofMany(h.Code) {
			continue
		}
		n := waiting[h.ID]
		if n == 0 {
			idle = append(idle, h)
			continue
		}
		var shown shownHold
		if err := json.Unmarshal(h.Shown, &shown); err != nil {
			return nil, nil, fmt.Errorf("hold %s: read what was shown: %w", h.Name(), err)
		}
		if say[h.Code] == nil {
			say[h.Code] = new(behind)
		}
		say[h.Code].add(h, shown.Until, n)
	}
	return say, idle, nil
}

// ofMany reports whether a hold with this code keeps the work of many back.
func ofMany(code string) bool {
	switch code {
	case AlarmCutLimit, AlarmGiveLimit, AlarmDeleteLimit, AlarmPolicyLimit, AlarmTakeLimit:
		return true
	}
	return false
}

// ClearLimit ends the alarm of a limit when nothing is held by it any more.
func ClearLimit(tx *store.Tx, code string, now time.Time) error {
	if !ofMany(code) {
		return nil
	}
	open, err := state.Holds(tx)
	if err != nil || slices.ContainsFunc(open, func(h *state.Hold) bool { return h.Code == code }) {
		return err
	}
	return clear(tx, code, "", now)
}
