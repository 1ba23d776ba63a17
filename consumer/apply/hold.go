package apply

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"jmlbridge/consumer/fence"
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

// set is who is held together, until the same time.
type set struct {
	until   time.Time
	persons []shownEntry
}

// sets groups people by until when they wait. Whoever has been held before waits no longer than was said then.
type sets []set

func (l *sets) add(s *state.Subject, lane plan.Lane, until time.Time, cause fence.Position) {
	if by := s.By(lane); !by.IsZero() && by.Before(until) {
		until = by
	}
	i := slices.IndexFunc(*l, func(x set) bool { return x.until.Equal(until) })
	if i < 0 {
		i = len(*l)
		*l = append(*l, set{until: until})
	}
	x := &(*l)[i]
	x.persons = append(x.persons, shownEntry{s.Issuer, s.Subject, cause.Engagement, cause.Seq})
}

// open puts each set behind a hold of its own, as of now, and returns the last of these with until when it lasts.
func (l sets) open(tx *store.Tx, code string, lane plan.Lane, cause *entry.Cause, now time.Time) (h *state.Hold, until *time.Time, err error) {
	slices.SortFunc(l, func(a, b set) int { return a.until.Compare(b.until) })
	n := 0 // of the holds of this moment
	for _, x := range l {
		shown := shownHold{Code: code, Lane: lane.String(), Count: len(x.persons), Subjects: x.persons}
		if x.until != state.Never {
			shown.Until = &x.until
		}
		list, err := json.Marshal(shown)
		if err != nil {
			return nil, nil, err
		}
		// The time makes the key: a second hold of the same kind must not end the first.
		moment := now.UTC().Format("20060102T150405.000")
		key := moment
		for ; ; n++ {
			if n > 0 {
				key = fmt.Sprintf("%s-%d", moment, n)
			}
			standing, err := state.HeldAs(tx, state.SubjectKey{Subject: key})
			if err != nil {
				return nil, nil, err
			}
			if !slices.Contains(standing, code) {
				break
			}
		}
		h, until = &state.Hold{SubjectKey: state.SubjectKey{Subject: key}, Code: code, Shown: list, Created: now, Cause: cause}, shown.Until
		if until != nil {
			h.Expires = *until
		}
		for _, p := range x.persons {
			h.Subjects = append(h.Subjects, entry.Who{Issuer: p.Issuer, Subject: p.Subject, Engagement: p.Engagement})
		}
		if _, err := state.OpenHold(tx, h); err != nil {
			return nil, nil, err
		}
		for _, p := range x.persons {
			k := state.SubjectKey{Issuer: p.Issuer, Subject: p.Subject}
			switch {
			case lane == plan.Give || lane == plan.Delete: // at once: see hold
			case code == AlarmPolicyLimit: // whatever else waits for them
				err = state.HoldPerson(tx, h.ID, k, lane, x.until)
			default:
				err = state.HoldRow(tx, h.ID, k, lane, x.until)
			}
			if err != nil {
				return nil, nil, err
			}
		}
	}
	return h, until, nil
}

// hold puts behind holds whoever is a further effect of the work that is due in lane: whoever was held before behind one that
// ends when that was to end.
func (e *Engine) hold(tx *store.Tx, now time.Time, lane plan.Lane, p *past) error {
	var all sets
	count := 0
	err := e.eachEffect(tx, lane, now, func(s *state.Subject) error {
		if !p.spareUrgent || !s.Urgent {
			all.add(s, lane, p.until, s.Doc.At(now).Cause)
			count++
		}
		return nil
	})
	if err != nil {
		return err
	}
	if count == 0 {
		return nil
	}
	h, until, err := all.open(tx, p.code, lane, nil, now)
	if err == nil && (lane == plan.Give || lane == plan.Delete) {
		err = state.HoldLane(tx, h.ID, lane, now, p.until)
	}
	if err != nil {
		return err
	}
	text, err := limitText(tx, h, until, int64(count), p.left.tightest().past())
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

// Standing lists the open holds but for those of many behind which nobody waits any more: newer facts or operators decided
// on each, and the executor ends such a hold when it next looks.
func Standing(r state.Reader) ([]*state.Hold, error) {
	open, err := state.Holds(r)
	if err != nil {
		return nil, err
	}
	waiting, err := state.HeldBack(r)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(open, func(h *state.Hold) bool { return ofMany(h.Code) && waiting[h.ID] == 0 }), nil
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
