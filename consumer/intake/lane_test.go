package intake

import (
	"encoding/json"
	"testing"
	"time"

	"jmlbridge/consumer/plan"
	"jmlbridge/consumer/state"
	"jmlbridge/internal/store"
	"jmlbridge/schema"
)

// Whoever loses all access by a message is due to be cut, whatever the message is: there the limits count it.
func TestAMessageThatTakesAllAccessIsACut(t *testing.T) {
	later, past := schema.At(t0.Add(24*time.Hour)), schema.At(t0.Add(-time.Minute))
	ann := schema.Person{DisplayName: "Ann Example"}
	for _, tc := range []struct {
		name string
		says func(p *producer) []sealed
		want plan.Lane
	}{
		{"a joiner of a later start", func(p *producer) []sealed {
			return []sealed{p.say("1", &schema.Joiner{Engagement: 2, Person: ann, Roles: []string{"a"}, Start: later})}
		}, plan.Disable},
		{"a mover to a later start", func(p *producer) []sealed {
			return []sealed{p.say("1", &schema.Mover{Engagement: 1, Person: ann, Roles: []string{"a"}, Start: later, Effective: past})}
		}, plan.Disable},
		{"a mover to an end that has passed", func(p *producer) []sealed {
			return []sealed{p.say("1", &schema.Mover{Engagement: 1, Person: ann, Roles: []string{"a"}, Start: past, End: &past, Effective: past})}
		}, plan.Disable},
		{"a roster of a later start", func(p *producer) []sealed {
			l := lives("1", 1, "a")
			l.Start = later
			return p.roster([]schema.LiveEngagement{l}, nil)
		}, plan.Disable},
		{"a leaver", func(p *producer) []sealed { return []sealed{p.leaver("1", 1)} }, plan.Disable},
		{"a leaver of a later date", func(p *producer) []sealed {
			return []sealed{p.say("1", &schema.Leaver{Engagement: 1, Effective: later, Reason: schema.ReasonResignation})}
		}, plan.Take},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w, p := setup(t)
			w.give(p.joiner("1", 1, "a"))
			w.update(func(tx *store.Tx) error { // as the executor leaves it
				account, err := json.Marshal(plan.Known{ID: "x", UPN: "ann@enclave.example"})
				if err == nil {
					_, err = state.Settle(tx, state.SubjectKey{Issuer: iss, Subject: "1"}, w.subject("1").Rev, state.Work{Account: account})
				}
				return err
			})
			w.give(tc.says(p)...)
			w.applyRosters()
			if s := w.subject("1"); s.Lane != tc.want || s.Due.After(*w.now.Load()) {
				t.Errorf("lane %s at %v, want %s at once", s.Lane, s.Due, tc.want)
			}
		})
	}
}
