package e2e

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"

	"jmlbridge/e2e/stage"
)

// workforce is people whose HR file changes from export to export, by chance that a seed repeats.
type workforce struct {
	rnd  *rand.Rand
	rows []stage.Row
	from int // first id
}

// newWorkforce has n people, of whom nobody is in the file before the first wave.
func newWorkforce(seed uint64, from, n int) *workforce {
	w := &workforce{rnd: rand.New(rand.NewPCG(seed, 0)), from: from}
	for i := range n {
		w.rows = append(w.rows, stage.Row{ID: fmt.Sprint(from + i), Given: "Worker", Family: fmt.Sprintf("N%d", from+i), Roles: w.roles(), Department: "SOC"})
	}
	return w
}

func (w *workforce) roles() string {
	names := []string{"soc-analyst", "soc-lead", "on-call", "engineer"}
	w.rnd.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
	some := names[:1+w.rnd.IntN(3)]
	slices.Sort(some)
	return strings.Join(some, ";")
}

// export is the file as it stands.
func (w *workforce) export() string { return stage.Export(w.rows...) }

// change lets about half of the people move, take leave or come back, leave or be hired again.
func (w *workforce) change(wave int) {
	for i := range w.rows {
		r := &w.rows[i]
		switch n := w.rnd.IntN(10); {
		case r.Status == "Inactive":
			if n < 6 { // an engagement of its own, whose first day the file does not state
				r.Status, r.Leave, r.Reason, r.Roles = "Active", "No", "", w.roles()
			}
		case n < 3:
			r.Roles, r.Title = w.roles(), fmt.Sprintf("Title %d", wave)
		case n < 5:
			r.Leave = map[string]string{"Yes": "No", "No": "Yes", "": "Yes"}[r.Leave]
		case n < 7:
			r.Status, r.Leave, r.Reason = "Inactive", "No", "Resigned"
		}
	}
}
