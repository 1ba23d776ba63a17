package intake

import (
	"slices"
	"testing"
	"time"

	"jmlbridge/consumer/fence"
	"jmlbridge/consumer/plan"
	"jmlbridge/consumer/state"
	"jmlbridge/internal/ledger"
	"jmlbridge/internal/ledger/entry"
	"jmlbridge/internal/store"
	"jmlbridge/schema"
)

// Two issuers may have the same subject id, for two persons: an alarm about each stands, names its issuer, and its end on
// the ledger names the person.
func TestAlarmsOfTwoIssuersStandApart(t *testing.T) {
	const other = "https://hr.partner.example/jml"
	refused := func(p *producer, id string) []sealed {
		first := p.joiner(id, 1)
		p.replace(`"reason":`, `"mood":1,"reason":`)
		return []sealed{first, p.leaver(id, 1)}
	}
	for _, c := range []struct {
		name, code string
		say        func(p *producer, id string) []sealed
	}{
		{"a jump", alarmJump, func(p *producer, id string) []sealed { return []sealed{p.joiner(id, 1, "a"), p.joiner(id, 40, "a")} }},
		{"a jump by a roster", alarmJump, func(p *producer, id string) []sealed {
			return append([]sealed{p.joiner(id, 1, "a")}, p.roster([]schema.LiveEngagement{lives(id, 4000, "a")}, nil)...)
		}},
		{"content", alarmContent, refused},
	} {
		for id, named := range map[string]string{"1": "1", "a@b.example": "a%40b.example", "hr#1": "hr%231"} {
			t.Run(c.name+" of "+id, func(t *testing.T) {
				w, p := setup(t)
				q := newProducer(t, "hr", w.to)
				q.issuer = other
				w.trust(q)
				w.give(c.say(p, id)...)
				w.give(c.say(q, id)...)
				w.applyRosters()
				list, err := state.Alarms(w.db.Read())
				if err != nil {
					t.Fatal(err)
				}
				var keys []string
				for _, a := range list {
					if a.Code == c.code {
						keys = append(keys, a.Key)
					}
				}
				if want := []string{named + "@" + other, named + "@" + iss}; !slices.Equal(keys, want) {
					t.Errorf("%s stands of %q, want %q", c.code, keys, want)
				}
				w.set(w.now.Load().Add(noticeFor + time.Minute))
				w.sweep()
				var ended []string
				for e, err := range ledger.Entries(t.Context(), w.db.DB, 0) {
					if err != nil {
						t.Fatal(err)
					}
					if a, ok := e.Body.(*entry.Alarm); ok && a.Code == c.code && a.State == entry.AlarmCleared {
						ended = append(ended, a.Subject+" of "+a.Issuer)
					}
				}
				if want := []string{id + " of " + other, id + " of " + iss}; !slices.Equal(ended, want) {
					t.Errorf("the ledger ends it of %q, want %q", ended, want)
				}
			})
		}
	}
}

// The alarm on a forgotten engagement finds its person, whatever the id looks like, and nobody of another issuer.
func TestAForgottenEngagementIsOnePersons(t *testing.T) {
	const id = "a@https://hr.partner.example/jml"
	w, p := setup(t)
	q := newProducer(t, "hr", w.to)
	q.issuer = "https://hr.partner.example/jml@" + iss // with the id "a" it would be spelled as p's person, but for the encoding
	w.trust(q)
	w.give(p.joiner(id, 1, "a"), p.leaver(id, 1), p.joiner(id, 2, "a"))
	w.give(q.joiner("a", 1, "a"), q.leaver("a", 1))
	w.anew(p)
	w.give(p.leaver(id, 1))
	w.set(w.now.Load().Add(2 * time.Minute))
	w.sweep()
	if !slices.Equal(w.alarms(), []string{alarmForgotten}) {
		t.Fatalf("want the alarm to stand though somebody of nearly that name has no access, got %v", w.alarms())
	}
	w.update(func(tx *store.Tx) error {
		return state.Lock(tx, state.SubjectKey{Issuer: iss, Subject: id}, &fence.Lock{By: "me", At: *w.now.Load()}, plan.Disable, *w.now.Load())
	})
	w.set(w.now.Load().Add(2 * time.Minute))
	w.sweep()
	if len(w.alarms()) != 0 {
		t.Errorf("want it over with the access, got %v", w.alarms())
	}
}
