package tenant

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// A moment is the whole truth of the model at one time.
type moment struct {
	ids    map[int]string // employeeId by user
	gone   map[int]bool   // soft-deleted
	member map[int]bool
}

// However users, values and memberships come, change, go and come back, a
// replica shows exactly what was true at its moment, as far back as the
// horizon; the model keeps everything for ever.
func TestReplicasShowThePast(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		horizon := rapid.IntRange(0, 6).Draw(t, "horizon")
		d := newDirectory(time.Now, time.Duration(horizon), Seed{})
		g := &container{node: node{id: "g"}}
		d.addContainer(g)
		var users []*entry
		past := []moment{{map[int]string{}, map[int]bool{}, map[int]bool{}}} // index is the time
		for now := int64(1); now <= 40; now++ {
			m := past[now-1]
			m = moment{cloned(m.ids), cloned(m.gone), cloned(m.member)}
			act(t, d, g, &users, m, now)
			past = append(past, m)
			for back := int64(0); back <= min(int64(horizon), now); back++ {
				check(t, d, g, users, past[now-back], now-back, now)
			}
		}
	})
}

// act does one thing to the directory and to the model.
func act(t *rapid.T, d *directory, g *container, users *[]*entry, m moment, now int64) {
	if len(*users) == 0 || rapid.IntRange(0, 9).Draw(t, "new") == 0 {
		u := &user{at: now}
		u.text[pEmployeeID] = "E0"
		m.ids[len(*users)] = "E0"
		*users = append(*users, d.addUser(fmt.Sprint(len(*users)), u))
		return
	}
	i := rapid.IntRange(0, len(*users)-1).Draw(t, "user")
	e := (*users)[i]
	switch rapid.IntRange(0, 2).Draw(t, "what") {
	case 0:
		next := e.cur.copyOf()
		m.ids[i] = rapid.SampledFrom([]string{"", "E0", "E1", "e1"}).Draw(t, "value")
		next.text[pEmployeeID] = m.ids[i]
		d.publish(e, next, now)
	case 1:
		m.member[i] = !m.member[i]
		d.toggle(g, &e.node, m.member[i], now)
	case 2:
		next := e.cur.copyOf()
		m.gone[i] = !m.gone[i]
		next.deleted = time.Time{}
		if m.gone[i] {
			next.deleted = time.Unix(now, 0)
		}
		d.publish(e, next, now)
	}
}

func check(t *rapid.T, d *directory, g *container, users []*entry, m moment, at, now int64) {
	for i, e := range users {
		want, known := m.ids[i]
		u := e.seen(at)
		if (u != nil) != known || known && (u.text[pEmployeeID] != want || u.live() == m.gone[i]) {
			t.Fatalf("at %d of %d user %d is %+v, want %q deleted %t", at, now, i, u, want, m.gone[i])
		}
		place, ok := g.place[&e.node]
		if shown := ok && g.edges[place].seen(at); shown != (m.member[i] && !m.gone[i]) {
			t.Fatalf("at %d of %d user %d is a member: %t", at, now, i, shown)
		}
	}
	for _, v := range []string{"E0", "E1"} {
		f, bad := d.parseFilter("employeeId eq '" + v + "'")
		if bad != nil {
			t.Fatal(bad.message)
		}
		var got, want []string
		d.each(f, at, 0, false, func(e *entry, _ *user) bool { got = append(got, e.id); return true })
		for i, e := range users {
			if id, known := m.ids[i]; known && fold(id) == fold(v) && !m.gone[i] {
				want = append(want, e.id)
			}
		}
		if !slices.Equal(got, want) {
			t.Fatalf("at %d of %d employeeId %s finds %v, want %v", at, now, v, got, want)
		}
	}
}

func cloned[V any](m map[int]V) map[int]V {
	out := make(map[int]V, len(m))
	for k, v := range m {
		out[k] = v
	}
	return out
}
