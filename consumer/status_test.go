package main

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"jmlbridge/consumer/apply"
	"jmlbridge/consumer/plan"
	"jmlbridge/consumer/state"
	"jmlbridge/internal/ledger/entry"
	"jmlbridge/internal/store"
	"jmlbridge/schema"
)

func TestStatus(t *testing.T) {
	f := newFiles(t)
	f.init()
	f.card("card.json", signing(t), "hr", 1)
	f.must("trust", "add", f.path("card.json"), "--reason", "x")
	f.card("second.json", signing(t), "approvals", 1, schema.KindApproval)
	f.must("trust", "add", f.path("second.json"), "--reason", "x")
	db := f.open()
	f.people(db, plan.Give, "give-limit", "100001", "100002", "100003")

	var s status
	if err := json.Unmarshal([]byte(f.must("status", "-o", "json")), &s); err != nil {
		t.Fatal(err)
	}
	if s.Enclave != gov1 || s.Runner != 0 || s.Backlog["give"] != 3 || s.Holds["give-limit"] != 1 || len(s.Streams) != 2 {
		t.Fatalf("status %+v", s)
	}
	hr := slices.IndexFunc(s.Streams, func(st streamStatus) bool { return st.Stream == "hr" })
	if hr < 0 || !s.Streams[hr].Stale || s.Streams[1-hr].Stale || s.Streams[1-hr].NoRoster { // approvals have neither heartbeats nor rosters
		t.Errorf("streams %+v", s.Streams)
	}
	if s.Ledger.Size == 0 || s.Ledger.Published != 0 || s.Ledger.Error == "" {
		t.Errorf("ledger %+v", s.Ledger)
	}
	codes := map[string]bool{}
	for _, a := range s.Alarms {
		codes[a.Code] = true
		if a.Do == "" {
			t.Errorf("alarm %s says not what to do", a.Code)
		}
		if a.Code == "stale" && !strings.Contains(a.Text, "stream hr ") {
			t.Errorf("the silence is said to be of another stream: %s", a.Text)
		}
		if opened, err := state.OpenedAt(db.Read(), issuer); err != nil || a.Code == "stale" && !a.Since.Equal(opened) {
			t.Errorf("silent since %v, %v; want since it was trusted, %v", a.Since, err, opened)
		}
	}
	if !codes["not-running"] || !codes["stale"] || !codes["give-limit"] {
		t.Errorf("alarms %v", codes)
	}
	screen := f.must("status")
	for _, want := range []string{"NOBODY RUNS", "hr", "STALE", "give-limit 1", "do: ", "no reserve for cuts is laid by now"} {
		if !strings.Contains(screen, want) {
			t.Errorf("the screen lacks %q:\n%s", want, screen)
		}
	}
	if code, _, _ := f.consumer("status", "--check"); code != exitCritical {
		t.Errorf("--check: exit %d, want 5: nobody runs", code)
	}
	if code, _, _ := f.consumer("status", "--check", "--severity", "bad"); code != exitMisused {
		t.Errorf("--severity bad: exit %d, want 2", code)
	}
	if code, _, _ := f.consumer("status", "-o", "xml"); code != exitMisused {
		t.Errorf("-o xml: exit %d, want 2", code)
	}
}

// The worst that stands, of what is asked for, is the exit code. A hold for an unknown role is no alarm; who asks for
// notices hears of it.
func TestCheckExitsBySeverity(t *testing.T) {
	for _, c := range []struct {
		name    string
		unknown int
		alarms  []state.Severity
		exits   [3]int // by the least severity asked for: notice, warning, critical
	}{
		{"nothing", 0, nil, [3]int{}},
		{"an unknown role", 1, nil, [3]int{exitNotice, 0, 0}},
		{"a notice", 0, []state.Severity{state.Notice}, [3]int{exitNotice, 0, 0}},
		{"a warning after an unknown role", 1, []state.Severity{state.Warning}, [3]int{exitWarning, exitWarning, 0}},
		{"all of them", 1, []state.Severity{state.Warning, state.Critical, state.Notice}, [3]int{exitCritical, exitCritical, exitCritical}},
	} {
		s := status{Holds: map[string]int{string(plan.HoldUnknownRole): c.unknown, "give-limit": 1}}
		for _, rank := range c.alarms {
			s.Alarms = append(s.Alarms, alarmStatus{rank: rank})
		}
		for i, least := range []state.Severity{state.Notice, state.Warning, state.Critical} {
			if got := exitCode(s.check(least)); got != c.exits[i] {
				t.Errorf("%s, from %s on: exit %d, want %d", c.name, least, got, c.exits[i])
			}
		}
	}
}

// Small words: what is missing is named, one person is one, and the shell knows ids.
func TestWords(t *testing.T) {
	f := newFiles(t)
	f.init()
	id := f.card("card.json", signing(t), "hr", 1)
	f.must("trust", "add", f.path("card.json"), "--reason", "x")
	h := f.people(f.open(), plan.Give, "give-limit", "100001")
	if list := f.must("holds", "list"); !strings.Contains(list, "1 person, lane give") {
		t.Errorf("list:\n%s", list)
	}
	if code, _, errs := f.consumer("plan", "100099"); code != exitMisused || !strings.Contains(errs, "nothing to plan") || strings.Contains(errs, "--unknown") {
		t.Errorf("plan of nobody: exit %d, %s", code, errs)
	}
	for _, c := range []struct {
		want string
		args []string
	}{
		{h.Name() + "\tgive-limit\n", []string{"holds", "show", ""}}, {h.Name() + "\t", []string{"holds", "release", ""}}, {h.Name() + "\t", []string{"holds", "discard", ""}},
		{id + "\thr of ", []string{"trust", "retire", ""}},
	} {
		a := []string{"__complete", "-c", f.config}
		if _, out, _ := f.consumer(append(a, c.args...)...); !strings.Contains(out, c.want) {
			t.Errorf("completion of %v offers %q, want %q", c.args, out, c.want)
		}
	}
	f.remove("policy.yaml")
	for _, args := range [][]string{{"run"}, {"plan"}} {
		if code, _, errs := f.consumer(args...); code != exitMisused || !strings.Contains(errs, "consumer.yaml:5") || !strings.Contains(errs, "no policy file") {
			t.Errorf("%v: exit %d, %s", args, code, errs)
		}
	}
}

func TestClockConfirm(t *testing.T) {
	f := newFiles(t)
	f.init()
	db := f.open()
	j := apply.Jumped(entry.AgainstLedger, time.Now(), time.Now().Add(-time.Hour))
	f.update(db, func(tx *store.Tx) error { return j.Record(tx, time.Now()) })
	if a, _ := state.Alarms(db.Read()); len(a) != 1 || a[0].Severity != state.Critical {
		t.Fatalf("alarms %+v", a)
	}
	if code, _, _ := f.consumer("clock", "confirm"); code != exitMisused {
		t.Errorf("without a reason: exit %d", code)
	}
	f.must("clock", "confirm", "--reason", "NTP")
	if a, _ := state.Alarms(db.Read()); len(a) != 0 {
		t.Errorf("alarms %+v", a)
	}
	c := entries[*entry.Clock](t, db)
	if len(c) != 2 || c[0].Action != entry.ClockJumped || c[0].Offset > -3_590_000 || c[1].Action != entry.ClockConfirmed || c[1].By != "ann" {
		t.Errorf("clock entries %+v", c)
	}
}

// Somebody of whom only a message behind a gap tells is said to wait for what is missing, and not to have nothing to do.
func TestPlanBehindAGap(t *testing.T) {
	w := newWorld(t)
	p := w.start("run")
	w.heartbeat()
	w.seq, w.prev = w.seq+1, schema.DigestOf([]byte("lost on its way"))
	w.joiner("100001", "ann", "soc-analyst")
	eventually(t, "the joiner waits", func() bool { return strings.Contains(p.said(), `"disposition":"gap"`) })
	if out := w.must("plan", "100001"); !strings.Contains(out, "for the missing messages") || strings.Contains(out, "nothing to do for 1") {
		t.Errorf("plan:\n%s", out)
	}
	if out := w.must("plan", "100001", "-o", "json"); !strings.Contains(out, `"waits": "gap"`) {
		t.Errorf("plan:\n%s", out)
	}
}

// That nobody may sign for a stream any more is to be seen at once, and not with its next message.
func TestStatusOfAStreamWithoutAKey(t *testing.T) {
	f := newFiles(t)
	f.init()
	id := f.card("card.json", signing(t), "hr", 1)
	f.must("trust", "add", f.path("card.json"), "--reason", "x")
	db := f.open()
	heard := time.Now().UTC().Truncate(time.Millisecond)
	f.update(db, func(tx *store.Tx) error {
		streams, err := state.Streams(tx)
		if err != nil {
			return err
		}
		streams[0].HeartbeatIAT, streams[0].HeartbeatAt = heard, heard
		return state.SaveStream(tx, streams[0])
	})
	look := func() (st streamStatus, alarm *alarmStatus, screen string) {
		t.Helper()
		var s status
		if err := json.Unmarshal([]byte(f.must("status", "-o", "json")), &s); err != nil || len(s.Streams) != 1 {
			t.Fatal(s.Streams, err)
		}
		if i := slices.IndexFunc(s.Alarms, func(a alarmStatus) bool { return a.Code == "no-key" }); i >= 0 {
			alarm = &s.Alarms[i]
		}
		return s.Streams[0], alarm, f.must("status")
	}
	if st, alarm, screen := look(); st.NoKey || st.GivesUntil != nil || alarm != nil || strings.Contains(screen, "NO KEY") {
		t.Errorf("with a key: %+v, %+v\n%s", st, alarm, screen)
	}
	f.must("trust", "revoke", id, "--from-seq", "1", "--reason", "stolen")
	st, alarm, screen := look()
	if !st.NoKey || st.GivesUntil == nil || !st.GivesUntil.Equal(heard.Add(5*time.Minute)) || st.Stale {
		t.Errorf("revoked: %+v", st)
	}
	if alarm == nil || alarm.Severity != "critical" || !strings.Contains(alarm.Do, "trust add") {
		t.Errorf("revoked: alarm %+v", alarm)
	}
	if !strings.Contains(screen, "NO KEY IS TRUSTED: what comes is refused, what gives waits after ") {
		t.Errorf("revoked:\n%s", screen)
	}
	f.card("second.json", signing(t), "hr", 1)
	f.must("trust", "add", f.path("second.json"), "--reason", "the next one")
	if st, alarm, screen := look(); st.NoKey || alarm != nil || strings.Contains(screen, "NO KEY") {
		t.Errorf("with the next key: %+v, %+v\n%s", st, alarm, screen)
	}
}
