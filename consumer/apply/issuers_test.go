package apply

import (
	"slices"
	"strings"
	"testing"
	"time"

	"jmlbridge/consumer/fence"
	"jmlbridge/consumer/plan"
	"jmlbridge/consumer/policy"
	"jmlbridge/consumer/state"
	"jmlbridge/e2e/sandbox/tenant"
	"jmlbridge/schema"
)

// Two issuers may have the same subject id, for two persons. What is amiss with one is told of until that one is seen to,
// whatever becomes of the other.
func TestAnAlarmOutlivesWhatBecomesOfTheOtherPerson(t *testing.T) {
	const other = "https://hr.partner.example/jml"
	leaves := func(s *stepper) { s.say("1", fence.Fact{Kind: schema.KindLeaver}) }
	// fails lets the tenant do something to every write of Ana's account.
	fails := func(s *stepper, f tenant.Fault) {
		f.Name, f.Method, f.Path = "amiss", "^PATCH$", "/users/"+s.user("ana.ng").ID+"$"
		s.tenant.AddFaults(f)
	}
	for code, trouble := range map[string]func(s *stepper){
		AlarmCutFailing: func(s *stepper) {
			fails(s, tenant.Fault{Kind: tenant.Error, Status: 503})
			leaves(s)
			s.pass(2 * time.Minute)
		},
		AlarmGiveFailing: func(s *stepper) {
			fails(s, tenant.Fault{Kind: tenant.Error, Status: 400})
			s.say("1", fence.Fact{Kind: schema.KindMover, Person: person("Anna"), Roles: []string{"lead"}})
			s.pass(30 * time.Minute)
		},
		AlarmStripFailing: func(s *stepper) {
			s.tenant.AddFaults(tenant.Fault{Name: "amiss", Method: "^DELETE$", Path: "/members/" + s.user("ana.ng").ID, Kind: tenant.Error, Status: 400})
			leaves(s)
			s.pass(2 * time.Minute)
		},
		AlarmCutUndone: func(s *stepper) {
			fails(s, tenant.Fault{Kind: tenant.Ignore, Body: "accountEnabled"})
			leaves(s)
			s.pass(plan.Settling + time.Minute)
		},
		AlarmCutHeld: func(s *stepper) {
			p, err := policy.Parse("policy.yaml", []byte(strings.Replace(testPolicyText(1000, 1000), "breakglass@", "ana.ng@", 1)))
			if err != nil {
				s.t.Fatal(err)
			}
			s.config.Policy = p
			s.engine = s.stepper().engine
			leaves(s)
			s.pass(time.Second)
		},
	} {
		t.Run(code, func(t *testing.T) {
			b := setup(t)
			b.trustKey(other, schema.KindJoiner, schema.KindLeaver)
			b.join("1", "Ana", "analyst")
			b.settle()
			s := b.stepper()
			trouble(s)
			stands := func(when string) {
				t.Helper()
				list, err := state.Alarms(b.db.Read())
				if err != nil {
					t.Fatal(err)
				}
				var keys []string
				for _, a := range list {
					if a.Code == code {
						keys = append(keys, a.Key)
					}
				}
				if !slices.Equal(keys, []string{"1@" + issuer}) {
					b.dump()
					t.Fatalf("%s: %s stands of %q, want it of the first issuer's person alone", when, code, keys)
				}
			}
			stands("before the other comes")
			b.voice = other
			b.join("1", "Bea", "analyst")
			s.pass(time.Second)
			if !b.user("bea.ng").Enabled {
				t.Fatal("the other has no account")
			}
			stands("when the other has joined")
			leaves(s)
			s.pass(time.Second)
			if b.user("bea.ng").Enabled {
				t.Fatal("the other is not cut")
			}
			stands("when the other is cut")
			b.explained()
		})
	}
}

// Of work that fails inside the bridge, too.
func TestWorkThatFailsIsToldOfEachPerson(t *testing.T) {
	b := setup(t)
	other := "https://hr.partner.example/jml"
	b.trustKey(other, schema.KindJoiner, schema.KindLeaver)
	const poison = "no ledger takes this id"
	b.join(poison, "Ana", "analyst")
	b.voice = other
	b.join(poison, "Bea", "analyst")
	b.work(func() bool {
		return b.alarmed(AlarmInternal, poison+"@"+issuer) && b.alarmed(AlarmInternal, poison+"@"+other)
	})
}
