package intake

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"jmlbridge/consumer/fence"
	"jmlbridge/consumer/state"
	"jmlbridge/internal/store"
	"jmlbridge/schema"
)

// in says a whole roster in parts of so many statements, where roster would make one.
func (p *producer) in(size int, live []schema.LiveEngagement, closed []schema.ClosedEngagement) (list []sealed) {
	p.t.Helper()
	for _, r := range p.split(size, live, closed) {
		list = append(list, p.say("", r))
	}
	return list
}

func (p *producer) split(size int, live []schema.LiveEngagement, closed []schema.ClosedEngagement) (parts []*schema.Roster) {
	p.t.Helper()
	id, err := uuid.NewV7()
	if err != nil {
		p.t.Fatal(err)
	}
	var d schema.RosterDigest
	for i := range live {
		if err := d.Live(&live[i]); err != nil {
			p.t.Fatal(err)
		}
	}
	for i := range closed {
		if err := d.Closed(&closed[i]); err != nil {
			p.t.Fatal(err)
		}
	}
	for from := 0; from < len(live) || from == 0; from += size {
		parts = append(parts, &schema.Roster{Live: live[min(from, len(live)):min(from+size, len(live))], Closed: []schema.ClosedEngagement{}})
	}
	for from := 0; from < len(closed); from += size {
		parts = append(parts, &schema.Roster{Live: []schema.LiveEngagement{}, Closed: closed[from:min(from+size, len(closed))]})
	}
	head := schema.RosterHead{Generation: p.generation, Seq: p.seq, Hash: p.prev}
	for i, r := range parts {
		r.ID, r.Part, r.Parts, r.Head, r.Digest = id.String(), i+1, len(parts), head, d.Sum()
	}
	return parts
}

// A part that says nothing new renews whom it names without being read. One that is not so is read: it is not what
// was archived here, and that is seen.
func TestARosterThatSaysNothingNewIsNotReadAgain(t *testing.T) {
	w, p := setup(t)
	var live []schema.LiveEngagement
	for i := range 10 {
		id := fmt.Sprintf("%02d", i)
		w.give(p.joiner(id, 1, "a"))
		live = append(live, lives(id, 1, "a"))
	}
	apply := func() error { return w.intake().applyRosters(t.Context()) }
	spoil := func() {
		w.update(func(tx *store.Tx) error {
			_, err := tx.Exec(`UPDATE message SET jws = x'00' WHERE event = 'roster'`)
			return err
		})
	}
	w.give(p.in(3, live, nil)...)
	if err := apply(); err != nil {
		t.Fatal(err)
	}
	p.now = p.now.Add(time.Hour)
	w.set(p.now)
	rev := w.subject("04").Rev
	head := p.seq
	w.give(p.in(3, live, nil)...)
	spoil()
	if err := apply(); err != nil {
		t.Fatalf("want what says nothing new applied without reading it: %v", err)
	}
	if r := w.lastRoster(); r.State != state.RosterApplied || r.Named != len(live) || r.Changed != 0 || r.Unnamed != 0 {
		t.Errorf("got %+v", r)
	}
	if s := w.subject("04"); s.Rev != rev || !s.SaidAt.Equal(p.now) || s.Doc.Confirmed != (fence.Position{Engagement: 1, Generation: 1, Seq: head}) {
		t.Errorf("want the person confirmed and no more, got rev %d (was %d), said at %v, %+v", s.Rev, rev, s.SaidAt, s.Doc.Confirmed)
	}
	w.give(p.mover("04", 1, "b"))
	live[4].Roles = []string{"b"}
	w.give(p.in(3, live, nil)...)
	spoil()
	if err := apply(); err == nil {
		t.Error("want the part read of whom something was said since")
	}
}

// A roster whose parts come as they were sent is verified while they come. Nothing is believed for it: what the archive has
// at a part's place must be what was checked, and what was checked by an intake that is gone is read back.
func TestARosterThatComesInOrderIsNotReadBack(t *testing.T) {
	spoil := func(t *testing.T, w *world) { // reading back any part fails from here on
		t.Helper()
		w.update(func(tx *store.Tx) error {
			_, err := tx.Exec(`UPDATE message SET jws = x'00' WHERE event = 'roster'`)
			return err
		})
	}
	replace := func(t *testing.T, w *world) { // what was checked is not what the archive has
		t.Helper()
		w.update(func(tx *store.Tx) error {
			_, err := tx.Exec(`UPDATE message SET payload = zeroblob(32) WHERE event = 'roster' AND seq = (SELECT MIN(seq) FROM message WHERE event = 'roster')`)
			return err
		})
		spoil(t, w)
	}
	restart := func(t *testing.T, w *world) {
		t.Helper()
		w.in = nil
		spoil(t, w)
	}
	for _, c := range []struct {
		name    string
		order   []int // in which its four parts come
		between func(*testing.T, *world)
		read    bool
	}{
		{"in order", []int{0, 1, 2, 3}, spoil, false},
		{"with a repetition", []int{0, 1, 1, 0, 2, 3}, spoil, false},
		{"out of order", []int{0, 2, 1, 3}, spoil, true},
		{"another is archived", []int{0, 1, 2, 3}, replace, true},
		{"with a restart", []int{0, 1, 2, 3}, restart, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			w, p := setup(t)
			var live []schema.LiveEngagement
			for i := range 10 {
				id := fmt.Sprintf("%02d", i)
				w.give(p.joiner(id, 1, "a"))
				live = append(live, lives(id, 1, "a"))
			}
			parts := p.in(3, live, nil)
			for _, i := range c.order[:len(c.order)-1] {
				w.give(parts[i])
			}
			c.between(t, w)
			err := w.tryGive(t.Context(), parts[c.order[len(c.order)-1]])
			if read := err != nil; read != c.read {
				t.Fatalf("want a part read back: %v, got %v", c.read, err)
			}
			if r := w.lastRoster(); !c.read && r.State != state.RosterVerified {
				t.Errorf("want it verified, got %+v", r)
			}
		})
	}
}

// A roster with a part that does not fit is told of once all parts are here, and the next one is believed.
func TestARosterThatDoesNotFitItsDigestIsBroken(t *testing.T) {
	for name, spoil := range map[string]func([]*schema.Roster){
		"another statement": func(list []*schema.Roster) { list[1].Live = []schema.LiveEngagement{lives("2", 1, "b")} },
		"another order":     func(list []*schema.Roster) { list[0].Live, list[1].Live = list[1].Live, list[0].Live },
		"another digest":    func(list []*schema.Roster) { list[2].Digest = schema.DigestOf(nil) },
	} {
		t.Run(name, func(t *testing.T) {
			w, p := setup(t)
			live := []schema.LiveEngagement{lives("1", 1, "a"), lives("2", 1, "a"), lives("3", 1, "a")}
			list := p.split(1, live, nil)
			spoil(list)
			for _, r := range list {
				w.give(p.say("", r))
			}
			w.applyRosters()
			if r := w.lastRoster(); r.State != state.RosterBroken || !slices.Equal(w.alarms(), []string{"roster-broken"}) || access(w, "1").Access {
				t.Fatalf("want it not believed, got %+v, alarms %v", r, w.alarms())
			}
			for _, m := range p.in(1, live, nil) {
				w.give(m)
			}
			w.applyRosters()
			if len(w.alarms()) != 0 || !access(w, "3").Access {
				t.Errorf("want the next one believed, got alarms %v", w.alarms())
			}
		})
	}
}

// What was in effect by a clock that was ahead is not known to be said once the clock is right: a roster is read then.
func TestAClockThatGoesBackLetsRostersBeRead(t *testing.T) {
	for name, issued := range map[string]time.Duration{"issued before the date": 0, "issued after it": 6 * time.Hour} {
		t.Run(name, func(t *testing.T) {
			w, p := setup(t)
			w.set(t0.Add(10 * time.Hour))
			w.give(p.joiner("1", 1, "a"))
			l := lives("1", 1, "b")
			w.give(p.say("1", &schema.Mover{Engagement: 1, Person: l.Person, Roles: l.Roles, Start: l.Start, Effective: schema.At(t0.Add(5 * time.Hour))}))
			p.now = t0.Add(issued)
			w.give(p.roster([]schema.LiveEngagement{l}, nil)...)
			w.applyRosters()
			if v := access(w, "1"); !v.Access || !slices.Equal(v.Roles(), l.Roles) {
				t.Fatalf("want the move in effect, got %+v", v)
			}
			w.set(t0.Add(time.Hour))
			p.now = t0.Add(time.Hour)
			w.give(p.roster([]schema.LiveEngagement{l}, nil)...)
			w.applyRosters()
			if v := access(w, "1"); !v.Access || !slices.Equal(v.Roles(), l.Roles) {
				t.Errorf("want what the roster states, got %+v", v)
			}
		})
	}
}

// Whatever happens between rosters, those whose parts need not be read leave everything as reading them does.
func TestUnreadPartsLeaveWhatReadingLeaves(t *testing.T) {
	unread := 0
	for seed := range uint64(8) {
		rnd := rand.New(rand.NewPCG(seed, 11))
		w, p := setup(t)
		reads := newWorld(t)
		reads.ring = w.ring
		reads.trust(p)
		both := func(f func(w *world)) {
			f(w)
			f(reads)
		}
		type person struct {
			engagement int
			live       bool
			said       schema.LiveEngagement // as the producer has it
			closed     map[int]schema.ClosedEngagement
		}
		people := map[string]*person{}
		ids := []string{"0", "1", "2", "3", "4", "5", "6", "7"}
		now := t0
		for range 40 {
			id := ids[rnd.IntN(len(ids))]
			x := people[id]
			if x == nil {
				x = &person{closed: map[int]schema.ClosedEngagement{}}
				people[id] = x
			}
			p.now = now
			var list []sealed
			switch k := rnd.IntN(12); {
			case k < 4: // a roster
				var live []schema.LiveEngagement
				var closed []schema.ClosedEngagement
				forgotten := ""
				if rnd.IntN(5) == 0 {
					forgotten = ids[rnd.IntN(len(ids))]
				}
				for _, id := range ids {
					x := people[id]
					if x == nil || id == forgotten {
						continue
					}
					if x.live {
						live = append(live, x.said)
					}
					for n := 1; n <= x.engagement; n++ {
						if c, ok := x.closed[n]; ok {
							closed = append(closed, c)
						}
					}
				}
				if rnd.IntN(6) == 0 {
					p.now = now.Add(-time.Duration(rnd.IntN(48)) * time.Hour)
				}
				parts := p.in(1+rnd.IntN(3), live, closed)
				both(func(w *world) { w.give(parts...) })
				if rnd.IntN(4) == 0 { // said while it waits to be applied
					if x.live {
						x.said.Roles, x.said.Person = []string{"late"}, schema.Person{DisplayName: "Ann Example"}
						m := p.mover(id, x.engagement, "late")
						both(func(w *world) { w.give(m) })
					}
				}
				reads.update(func(tx *store.Tx) error {
					_, err := tx.Exec(`UPDATE roster_part SET live = 0`)
					return err
				})
				unread += w.stillParts()
				both(func(w *world) { w.applyRosters() })
				if got, want := everything(w), everything(reads); got != want {
					t.Fatalf("seed %d: reading every part leaves\n%s\nand leaving out those that say nothing new\n%s", seed, want, got)
				}
			case k < 5 && x.live:
				x.said.Roles, x.said.Person = []string{fmt.Sprint("r", rnd.IntN(3))}, schema.Person{DisplayName: "Ann Example"}
				m := p.say(id, &schema.Mover{Engagement: x.engagement, Person: x.said.Person, Roles: x.said.Roles, Start: x.said.Start,
					Effective: schema.At(now.Add(time.Duration(rnd.IntN(3)-1) * time.Hour))})
				if rnd.IntN(3) > 0 { // else it never comes, and the next roster heals that
					list = append(list, m)
				}
			case k < 6 && x.live:
				x.live = false
				x.closed[x.engagement] = schema.ClosedEngagement{Subject: id, Engagement: x.engagement, Effective: schema.At(now.Add(-time.Minute))}
				list = append(list, p.say(id, &schema.Leaver{Engagement: x.engagement, Effective: schema.At(now.Add(-time.Minute)), Reason: schema.ReasonTermination}))
			case k < 7 && x.live:
				if x.said.State == schema.StateActive {
					x.said.State, x.said.Since = schema.StateSuspended, schema.At(now.Add(-time.Minute))
					list = append(list, p.say(id, &schema.Suspend{Engagement: x.engagement, Effective: x.said.Since, Reason: schema.ReasonLeave}))
				} else {
					x.said.State, x.said.Since = schema.StateActive, schema.At(now.Add(-time.Second))
					list = append(list, p.say(id, &schema.Resume{Engagement: x.engagement, Effective: x.said.Since, Reason: schema.ReasonReturn}))
				}
			case k < 9 && !x.live:
				x.engagement++
				x.live, x.said = true, lives(id, x.engagement, "a")
				list = append(list, p.joiner(id, x.engagement, "a"))
			case k < 10:
				now = now.Add(time.Duration(rnd.IntN(30)-4) * time.Hour) // sometimes back
				both(func(w *world) { w.set(now) })
			case k < 11 && x.live: // a lease runs out, or an operator disowns
				why := []fence.Why{fence.WhyLease, fence.WhyDisowned}[rnd.IntN(2)]
				both(func(w *world) {
					w.update(func(tx *store.Tx) error {
						s, err := state.LoadSubject(tx, state.SubjectKey{Issuer: iss, Subject: id})
						if err != nil || s == nil {
							return err
						}
						s.Doc.Lapse = &fence.Lapse{Why: why, At: now}
						return state.SaveFacts(tx, s)
					})
				})
			default:
				both(func(w *world) {
					w.update(func(tx *store.Tx) error {
						_, err := state.Extend(tx, state.SubjectKey{Issuer: iss, Subject: id}, now.Add(24*time.Hour), now)
						return err
					})
				})
			}
			if len(list) > 0 {
				both(func(w *world) { w.give(list...) })
			}
		}
		if got, want := w.entries(), reads.entries(); !slices.Equal(got, want) {
			t.Fatalf("seed %d: reading every part leaves on the ledger\n%q\nand leaving out those that say nothing new\n%q", seed, want, got)
		}
	}
	if unread < 60 {
		t.Errorf("want many parts that need not be read, got %d", unread)
	}
}

// stillParts is how many parts of the roster that comes next say nothing new.
func (w *world) stillParts() (n int) {
	w.t.Helper()
	r, err := state.RosterToApply(w.db.Read())
	for part := 1; err == nil && r != nil && part <= r.Parts; part++ {
		var p state.Part
		var still bool
		if p, err = state.LoadPart(w.db.Read(), r, part); err != nil {
			break
		}
		if still, err = state.Stated(w.db.Read(), iss, p, r.Head, until(r.Issued, *w.now.Load())); still {
			n++
		}
	}
	if err != nil {
		w.t.Fatal(err)
	}
	return n
}

// everything is what messages leave, but for what only saves reading.
func everything(w *world) string {
	w.t.Helper()
	var b strings.Builder
	for _, q := range []string{
		`SELECT subject || ' ' || doc || ' rev ' || rev || ' lane ' || lane || ' due ' || due || ' note ' || note || ' fact ' || fact_at || ' next ' || next_at || ' said ' || said_at || ' lease ' || lease_at
			|| ' stated ' || stated_generation || ' ' || stated_seq || ' unnamed ' || unnamed FROM subject ORDER BY subject`,
		`SELECT state || ' named ' || named || ' changed ' || changed || ' against ' || against || ' unnamed ' || unnamed FROM roster ORDER BY head_generation, head_seq, id`,
		`SELECT code || ' ' || iss || ' ' || subject || ' ' || state FROM hold ORDER BY id`,
		`SELECT code || ' ' || key || ' ' || text FROM alarm ORDER BY code, key`,
	} {
		err := w.db.Read().Each(q, nil, func(scan func(...any) error) error {
			var line string
			err := scan(&line)
			fmt.Fprintln(&b, line)
			return err
		})
		if err != nil {
			w.t.Fatal(err)
		}
	}
	return b.String()
}
