package intake

import (
	"slices"
	"testing"
	"time"

	"jmlbridge/consumer/fence"
	"jmlbridge/consumer/state"
	"jmlbridge/internal/store"
	"jmlbridge/schema"
)

// anew lets p begin the next generation, which the enclave trusts.
func (w *world) anew(p *producer) {
	w.t.Helper()
	p.generation, p.seq, p.prev = p.generation+1, 0, schema.Digest{}
	w.update(func(tx *store.Tx) error {
		return state.TrustGeneration(tx, iss, p.stream, state.Pin{Generation: p.generation}, w.by())
	})
}

func (p *producer) suspend(subject string, n int) sealed {
	return p.say(subject, &schema.Suspend{Engagement: n, Effective: schema.At(p.now), Reason: schema.ReasonLeave})
}

// A producer that was restored from a backup may have forgotten an engagement. What it says of the one before reaches
// nobody, and is not good news of the present one: whoever it takes access from is told of, a roster that knows no later
// engagement does not name the person, and no lease is renewed.
func TestAProducerThatForgotAnEngagement(t *testing.T) {
	forgotten := func(t *testing.T) (*world, *producer, time.Time) {
		w, p := setup(t)
		w.give(p.joiner("1", 1, "a"), p.leaver("1", 1), p.joiner("1", 2, "a"))
		said := p.now
		p.now = p.now.Add(time.Hour)
		w.set(p.now)
		w.anew(p)
		return w, p, said
	}
	for _, c := range []struct {
		name   string
		say    func(p *producer) sealed
		alarms []string
	}{
		{"leaver", func(p *producer) sealed { return p.leaver("1", 1) }, []string{"engagement-forgotten"}},
		{"suspend", func(p *producer) sealed { return p.suspend("1", 1) }, []string{"engagement-forgotten"}},
		{"mover", func(p *producer) sealed { return p.mover("1", 1, "b") }, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			w, p, said := forgotten(t)
			w.give(c.say(p))
			if !slices.Equal(w.alarms(), c.alarms) {
				t.Errorf("want alarms %v, got %v", c.alarms, w.alarms())
			}
			if s := w.subject("1"); !s.SaidAt.Equal(said) || !s.Doc.At(*w.now.Load()).Access {
				t.Errorf("want access as before and no lease renewed, got it said at %v, %+v", s.SaidAt, s.Doc.At(*w.now.Load()))
			}
		})
	}
	for name, rosters := range map[string]func(p *producer) []sealed{
		"live": func(p *producer) []sealed { return p.roster([]schema.LiveEngagement{lives("1", 1, "a")}, nil) },
		"closed": func(p *producer) []sealed {
			return p.roster(nil, []schema.ClosedEngagement{{Subject: "1", Engagement: 1, Effective: schema.At(t0)}})
		},
	} {
		t.Run("roster, "+name, func(t *testing.T) {
			w, p, said := forgotten(t)
			for range 2 { // and it does not name the person the day after
				w.give(rosters(p)...)
				w.applyRosters()
				if s := w.subject("1"); !s.Unnamed || !s.SaidAt.Equal(said) || !s.Doc.At(*w.now.Load()).Access || !slices.Equal(w.alarms(), []string{"unnamed"}) {
					t.Fatalf("want the person held as not named, and no lease renewed, got %+v, alarms %v", s, w.alarms())
				}
			}
			w.give(p.roster([]schema.LiveEngagement{lives("1", 3, "a")}, []schema.ClosedEngagement{{Subject: "1", Engagement: 1, Effective: schema.At(t0)}})...)
			w.applyRosters()
			if s := w.subject("1"); s.Unnamed || !s.Doc.At(*w.now.Load()).Access || len(w.alarms()) != 0 {
				t.Errorf("want the person named by a roster that is ahead of what was forgotten, got %+v, alarms %v", s, w.alarms())
			}
		})
	}
}

// What a restored producer says with a number past all that it may have forgotten reaches the present engagement, whatever
// comes first.
func TestANumberPastWhatWasForgottenReachesIt(t *testing.T) {
	for name, say := range map[string]func(p *producer) sealed{
		"leaver":  func(p *producer) sealed { return p.leaver("1", 5) },
		"suspend": func(p *producer) sealed { return p.suspend("1", 5) },
		"mover":   func(p *producer) sealed { return p.mover("1", 5) },
	} {
		t.Run(name, func(t *testing.T) {
			w, p := setup(t)
			w.give(p.joiner("1", 1, "a"), p.leaver("1", 1), p.joiner("1", 2, "a"))
			w.anew(p)
			w.give(say(p))
			if v := access(w, "1"); len(v.Roles()) != 0 && v.Access || len(w.alarms()) != 0 {
				t.Errorf("want nothing left, got %+v, alarms %v", v, w.alarms())
			}
		})
	}
}

// The alarm ends with the access, or with the next word on the engagement that goes on.
func TestTheAlarmOnAForgottenEngagementEnds(t *testing.T) {
	for name, end := range map[string]func(w *world, p *producer){
		"leaver": func(w *world, p *producer) { w.give(p.leaver("1", 5)) },
		"word":   func(w *world, p *producer) { w.give(p.mover("1", 3, "a")) },
		"by hand": func(w *world, p *producer) {
			w.update(func(tx *store.Tx) error {
				s, err := state.LoadSubject(tx, state.SubjectKey{Issuer: iss, Subject: "1"})
				if err != nil {
					return err
				}
				s.Doc.Lock = &fence.Lock{By: "me", At: *w.now.Load()}
				return state.SaveFacts(tx, s)
			})
		},
	} {
		t.Run(name, func(t *testing.T) {
			w, p := setup(t)
			w.give(p.joiner("1", 1, "a"), p.leaver("1", 1), p.joiner("1", 2, "a"))
			w.anew(p)
			w.give(p.leaver("1", 1))
			p.now = p.now.Add(25 * time.Hour)
			w.set(p.now)
			w.sweep()
			if !slices.Equal(w.alarms(), []string{"engagement-forgotten"}) {
				t.Fatalf("want the alarm to stand, got %v", w.alarms())
			}
			end(w, p)
			w.set(p.now.Add(2 * time.Minute))
			w.sweep()
			if len(w.alarms()) != 0 {
				t.Errorf("want it over, got %v", w.alarms())
			}
		})
	}
}
