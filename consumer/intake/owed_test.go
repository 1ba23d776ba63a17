package intake

import (
	"encoding/json"
	"testing"
	"time"

	"jmlbridge/consumer/plan"
	"jmlbridge/consumer/state"
	"jmlbridge/internal/directory"
	"jmlbridge/internal/store"
	"jmlbridge/schema"
)

// Whose account may be open, and who has no access by what came, is due to be cut, in the lane of cuts: whatever was known
// before, as after a recovery that left the end of an engagement and no date of the next one. Who had access goes there whatever is known
// of an account: where there is none that is open, it is no cut.
func TestWhoHasNoAccessAndAnOpenAccountIsDue(t *testing.T) {
	ahead := schema.At(t0.Add(7 * 24 * time.Hour))
	joins := func(n int) *schema.Joiner {
		return &schema.Joiner{Engagement: n, Person: schema.Person{DisplayName: "Ann Example"}, Roles: []string{"a"}, Start: ahead}
	}
	later := lives("1", 2, "a")
	later.Start = ahead
	cut := plan.Known{ID: "acc-1", DisabledAt: t0.Add(-time.Minute), RevokedAt: t0.Add(-time.Minute)}
	for _, tc := range []struct {
		name  string
		known plan.Known
		mark  bool // an account that bears the mark was found after a recovery
		lost  bool // the row was left by one: the first engagement is closed, and nothing is due
		say   func(p *producer) []sealed
		want  plan.Lane
	}{
		{"a joiner ahead, over an open account", plan.Known{ID: "acc-1"}, false, false, func(p *producer) []sealed { return []sealed{p.say("1", joins(2))} }, plan.Disable},
		{"a mover that puts the start off", plan.Known{ID: "acc-1"}, false, false, func(p *producer) []sealed {
			return []sealed{p.say("1", &schema.Mover{Engagement: 1, Person: schema.Person{DisplayName: "Ann Example"}, Roles: []string{"a"}, Start: ahead, Effective: schema.At(t0)})}
		}, plan.Disable},
		{"a joiner ahead, over an account that is cut", cut, false, false, func(p *producer) []sealed { return []sealed{p.say("1", joins(2))} }, plan.Disable},
		{"a joiner ahead, and no account", plan.Known{}, false, false, func(p *producer) []sealed { return []sealed{p.say("1", joins(2))} }, plan.Disable},
		{"a create that was not answered", plan.Known{TriedAt: t0}, false, false, func(p *producer) []sealed { return []sealed{p.say("1", joins(2))} }, plan.Disable},
		{"recovered, and a joiner ahead", plan.Known{ID: "acc-1"}, false, true, func(p *producer) []sealed { return []sealed{p.say("1", joins(2))} }, plan.Disable},
		{"recovered, and a roster with the start ahead", plan.Known{ID: "acc-1"}, false, true, func(p *producer) []sealed { return p.roster([]schema.LiveEngagement{later}, nil) }, plan.Disable},
		{"recovered, the account found by its mark", plan.Known{}, true, true, func(p *producer) []sealed { return p.roster([]schema.LiveEngagement{later}, nil) }, plan.Disable},
		{"recovered, and a roster with both closed", plan.Known{ID: "acc-1"}, false, true, func(p *producer) []sealed { return p.roster(nil, []schema.ClosedEngagement{gone("1", 2)}) }, plan.Disable},
		{"recovered, and a roster over an account that is cut", cut, false, true, func(p *producer) []sealed { return p.roster([]schema.LiveEngagement{later}, nil) }, plan.Strip},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w, p := setup(t)
			k := state.SubjectKey{Issuer: iss, Subject: "1"}
			w.give(p.joiner("1", 1, "a"))
			if tc.lost {
				w.give(p.leaver("1", 1))
			}
			w.update(func(tx *store.Tx) error {
				account, err := json.Marshal(tc.known)
				if err != nil {
					return err
				}
				if tc.mark {
					if err := state.AddUnclaimed(tx, state.Unclaimed{Account: "acc-1", Mark: directory.Mark(iss, "1"), Enabled: true, FoundAt: t0}); err != nil {
						return err
					}
				}
				_, err = state.Settle(tx, k, w.subject("1").Rev, state.Work{Lane: plan.Idle, Account: account})
				return err
			})
			w.give(tc.say(p)...)
			w.applyRosters()
			if got := w.subject("1"); got.Lane != tc.want || got.Doc.At(t0).Access {
				t.Errorf("lane %v, access %v; want %v and none", got.Lane, got.Doc.At(t0).Access, tc.want)
			}
		})
	}
}
