package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"jmlbridge/consumer/apply"
	"jmlbridge/consumer/state"
	"jmlbridge/internal/ledger/entry"
)

// The first load as README.md tells it: observe, look, run, release exactly what is shown. No limit is changed on the
// way, and whoever comes after is inside them again.
func TestFirstLoad(t *testing.T) {
	const people = 120
	f := newFiles(t)
	f.edit("policy.yaml", "give_per_hour: 100", "give_per_hour: 5")
	w := f.world()
	f.edit("consumer.yaml", "transport:", "writes_per_second: 500\n  transport:")
	w.heartbeat()
	for i := range people {
		w.joiner(fmt.Sprint(300000+i), fmt.Sprintf("new%03d.example", i), "soc-analyst")
	}
	p := w.start("run", "--observe")
	look := func() (s status) {
		t.Helper()
		if err := json.Unmarshal([]byte(w.must("status", "-o", "json")), &s); err != nil {
			t.Fatal(err)
		}
		return s
	}
	eventually(t, "the backlog that is expected", func() bool { return look().Backlog["give"] == people })
	if out := w.must("plan", "--all"); strings.Count(out, "create") < people {
		t.Errorf("plan --all:\n%s", out)
	}
	p.stop()
	if u, ok := w.account("new000.example"); ok {
		t.Fatalf("an observer made %+v", u)
	}

	p = w.start("run")
	eventually(t, "one hold with all of them", func() bool { return look().Holds[apply.AlarmGiveLimit] == 1 })
	var list []shownHold
	if err := json.Unmarshal([]byte(w.must("holds", "list", "-o", "json")), &list); err != nil || len(list) != 1 {
		t.Fatalf("holds %+v, %v", list, err)
	}
	shown := w.must("holds", "show", list[0].ID)
	for i := range people {
		if !strings.Contains(shown, fmt.Sprint(300000+i)) {
			t.Fatalf("the hold does not show %d", 300000+i)
		}
	}
	if _, ok := w.account("new000.example"); ok {
		t.Error("something was given before the release")
	}
	w.must("holds", "release", list[0].ID, "--digest", list[0].Digest.String(), "--reason", "first load, CHG-1")
	eventually(t, "all of them have accounts", func() bool {
		n := 0
		for _, u := range w.tenant.Snapshot().Users {
			if strings.HasPrefix(u.UserPrincipalName, "new") && u.Enabled && len(u.Groups) == 1 {
				n++
			}
		}
		return n == people
	})

	for i := range 6 { // one more than the hour allows
		w.joiner(fmt.Sprint(400000+i), fmt.Sprintf("late%d.example", i), "soc-analyst")
	}
	eventually(t, "who comes after is held again", func() bool { return look().Holds[apply.AlarmGiveLimit] == 1 || w.enabled("late5.example") })
	p.stop()
	db := w.open()
	holds, err := state.Holds(db.Read())
	if err != nil || len(holds) != 1 {
		t.Fatalf("holds %+v, %v", holds, err)
	}
	if pol := entries[*entry.Policy](t, db); len(pol) != 1 {
		t.Errorf("%d policies on the way, want one: no limit is changed", len(pol))
	}
}
