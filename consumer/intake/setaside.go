package intake

import (
	"encoding/json"
	"fmt"
	"time"

	"jmlbridge/consumer/state"
)

// alarmSetAside says that the mid-point had set messages aside. They were fetched from there and judged like any
// other; that they were late is what somebody should know.
const alarmSetAside = "set-aside"

// metaSetAside is the key of the database under which SetAside stands.
const metaSetAside = "set-aside"

// SetAside counts the messages that the mid-point had set aside. That they were is its word alone; what they were is
// what their signatures say.
type SetAside struct {
	Count int64     `json:"count"`
	Cuts  int64     `json:"cuts"` // leavers and suspends among them
	Last  time.Time `json:"last,omitzero"`
}

// ReadSetAside returns the count since the database was made.
func ReadSetAside(r state.Reader) (s SetAside, err error) {
	text, err := state.Meta(r, metaSetAside)
	if err != nil || text == "" {
		return s, err
	}
	if err := json.Unmarshal([]byte(text), &s); err != nil {
		return s, fmt.Errorf("read the count of messages that were set aside: %w", err)
	}
	return s, nil
}

// setAside counts those of a batch, and raises the alarm. Its text has no number: whoever runs the mid-point could
// fill the ledger with alarms.
func (b *batch) setAside(items []*item) error {
	var count, cuts int64
	for _, it := range items {
		if it.delivery.DeadLettered {
			count++
			if it.placed && it.frame.Kind.Cuts() {
				cuts++
			}
		}
	}
	if count == 0 {
		return nil
	}
	s, err := ReadSetAside(b.tx)
	if err != nil {
		return err
	}
	s.Count, s.Cuts, s.Last = s.Count+count, s.Cuts+cuts, b.now.UTC()
	text, err := json.Marshal(s)
	if err != nil {
		return err
	}
	if err := state.SetMeta(b.tx, metaSetAside, string(text)); err != nil {
		return err
	}
	a := state.Alarm{Code: alarmSetAside, Severity: state.Warning, Last: b.now,
		Text: "the mid-point had set messages aside (they waited too long, or were delivered too often); they were fetched from there and judged like any other. How many: consumer status"}
	if s.Cuts > 0 {
		a.Text += ". Leavers or suspends were among them: those came late"
	}
	_, err = state.RaiseAlarm(b.tx, a)
	return err
}
