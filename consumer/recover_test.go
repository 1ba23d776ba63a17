package main

import (
	"encoding/json"
	"errors"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"jmlbridge/consumer/auditor/verify"
	"jmlbridge/consumer/recall"
	"jmlbridge/consumer/state"
	"jmlbridge/e2e/sandbox/tenant"
	"jmlbridge/internal/ledger/entry"
	"jmlbridge/internal/store"
	"jmlbridge/schema"
)

// roster says the whole truth: who is live, and whose engagement is closed.
func (w *world) roster(live ...schema.LiveEngagement) { w.files.t.Helper(); w.rosterOf(live, nil) }

func (w *world) rosterOf(live []schema.LiveEngagement, closed []schema.ClosedEngagement) {
	w.files.t.Helper()
	id, err := uuid.NewV7()
	if err != nil {
		w.files.t.Fatal(err)
	}
	parts, err := schema.SplitRoster(id.String(), schema.RosterHead{Generation: 1, Seq: w.seq, Hash: w.prev}, live, closed)
	if err != nil {
		w.files.t.Fatal(err)
	}
	for _, p := range parts {
		w.say("", p)
	}
}

func live(subject, alias string) schema.LiveEngagement {
	since := schema.At(time.Now().Add(-time.Hour))
	return schema.LiveEngagement{Subject: subject, Engagement: 1, State: schema.StateActive, Since: since, Start: since,
		Person: schema.Person{DisplayName: "Ann Example", PreferredAlias: alias}, Roles: []string{"soc-analyst"}}
}

// The database is lost, and keys, configuration, policy and the published ledger are there: a new one is begun that
// is linked to the old. Whoever had left stays out, whoever was not cut yet is cut, nobody is cut for being unknown.
func TestRecover(t *testing.T) {
	w := newWorld(t)
	p := w.start("run")
	w.heartbeat()
	for subject, alias := range map[string]string{"100001": "ann", "100002": "bob", "100003": "cyd", "100004": "dan", "100005": "fay", "100006": "gus", "100007": "hal"} {
		w.joiner(subject, alias, "soc-analyst")
	}
	eventually(t, "all have accounts", func() bool {
		return w.enabled("ann") && w.enabled("bob") && w.enabled("cyd") && w.enabled("dan") && w.enabled("fay") && w.enabled("gus") && w.enabled("hal")
	})
	w.leaver("100001")
	eventually(t, "ann is cut", func() bool { u, _ := w.account("ann"); return !u.Enabled && u.SessionsRevoked && len(u.Groups) == 0 })
	w.must("cut", "100004", "--reason", "INC-1", "--wait", patience.String())
	p.stop()

	// Taken in, and not cut: only observed.
	p = w.start("run", "--observe")
	w.leaver("100002")
	w.say("100005", &schema.Suspend{Engagement: 1, Effective: schema.At(time.Now()), Reason: schema.ReasonLeave})
	eventually(t, "both are in", func() bool {
		return strings.Contains(p.said(), `"event":"leaver:v1"`) && strings.Contains(p.said(), `"event":"suspend:v1"`)
	})
	away := live("100005", "fay")
	away.State = schema.StateSuspended
	w.rosterOf([]schema.LiveEngagement{live("100003", "cyd"), live("100004", "dan"), away, live("100006", "gus")},
		[]schema.ClosedEngagement{{Subject: "100007", Engagement: 1, Effective: schema.At(time.Now().Add(-time.Minute))}})
	eventually(t, "the roster is applied", func() bool {
		db := w.open()
		defer db.Close()
		applied, err := state.RosterDone(db.Read(), issuer)
		return err == nil && applied
	})
	p.stop()
	before := w.report("ledger", "keys/ledger.vkey")
	for _, name := range []string{"consumer.db", "consumer.db-wal", "consumer.db-shm", "consumer.db.lock", "consumer.db.reserve"} {
		if err := os.Remove(w.path(name)); err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
	}

	args := []string{"recover", "--ledger", w.path("ledger"), "--checkpoint", w.path("copy/checkpoint"), "--reason", "disk lost"}
	if code, _, errs := w.consumer(args...); code != exitMisused || !strings.Contains(errs, "series") {
		t.Errorf("under the old name: exit %d, %s", code, errs)
	}
	w.edit("consumer.yaml", "{dir: ledger,", "{series: 2, dir: ledger-2,")
	if code, _, errs := w.consumer(args...); code != exitMisused || !strings.Contains(errs, "exists") {
		t.Errorf("over the old checkpoint copy: exit %d, %s", code, errs)
	}
	w.edit("consumer.yaml", "copy/checkpoint", "copy/checkpoint-2")
	var made recovered
	if err := json.Unmarshal([]byte(w.must(append(args, "-o", "json")...)), &made); err != nil {
		t.Fatal(err)
	}
	if made.Size != before.Ledger.Size || made.Read != made.Size || made.Keys != 1 || made.Closed != 5 || made.Open != 3 || made.Unread != 0 || made.Accounts == nil || *made.Accounts != 7 || made.Previous != before.Ledger.Origin {
		t.Errorf("made %+v of a ledger of %d", made, before.Ledger.Size)
	}
	if code, _, errs := w.consumer(args...); code != exitMisused || !strings.Contains(errs, "exists") {
		t.Errorf("a second time: exit %d, %s", code, errs)
	}

	p = w.start("run")
	eventually(t, "bob, fay, and hal, of whom a roster alone told, are cut", func() bool { return !w.enabled("bob") && !w.enabled("fay") && !w.enabled("hal") })
	w.joiner("100009", "eve", "soc-analyst")
	w.heartbeat()
	eventually(t, "the stream goes on where it was", func() bool {
		var s status
		if err := json.Unmarshal([]byte(w.must("status", "-o", "json")), &s); err != nil {
			t.Fatal(err)
		}
		return len(s.Streams) == 1 && s.Streams[0].Head == w.seq && s.Streams[0].GapSince == nil
	})
	if !w.enabled("cyd") || !w.enabled("gus") {
		t.Error("somebody was cut for being unknown")
	}
	if list := w.unclaimed(); len(list) < 2 || list["100003"] != recall.Waiting || list["100006"] != recall.Waiting {
		t.Errorf("before the roster: %v", list)
	}
	for _, args := range [][]string{{"plan", "100006"}, {"lease", "extend", "100006", "--for", "48h", "--reason", "x"}} {
		if code, _, errs := w.consumer(args...); code != exitMisused || !strings.Contains(errs, "the next roster speaks of them") {
			t.Errorf("%q of an unclaimed account: exit %d, %s", args, code, errs)
		}
	}
	if w.enabled("ann") || w.enabled("dan") || w.enabled("eve") {
		t.Error("somebody was given access before the producer's roster")
	}
	if u, ok := w.account("eve"); ok {
		t.Errorf("an account was made before the producer's roster: %+v", u)
	}
	if out := w.must("status"); !strings.Contains(out, "NO ROSTER YET") {
		t.Errorf("status does not say that all gives wait for a roster:\n%s", out)
	}
	if out := w.must("plan", "100009"); !strings.Contains(out, "for the producer's roster") || !strings.Contains(w.must("plan", "100009", "-o", "json"), `"waits": "roster"`) {
		t.Errorf("plan does not say that eve waits for a roster:\n%s", out)
	}
	w.joiner("100001", "ann", "soc-analyst") // the old engagement once more: a producer that was put back
	w.roster(live("100001", "ann"), live("100003", "cyd"), live("100004", "dan"), away, live("100007", "hal"), live("100009", "eve"))
	eventually(t, "eve has an account", func() bool { return w.enabled("eve") })
	if w.enabled("ann") || w.enabled("bob") || w.enabled("dan") || w.enabled("fay") || w.enabled("hal") || !w.enabled("cyd") {
		t.Error("after the roster somebody who had left, or was cut by hand, is back, or somebody is out who is live")
	}

	if out := w.must("status"); strings.Contains(out, "NO ROSTER YET") {
		t.Errorf("the roster came:\n%s", out)
	}

	// The roster does not name gus: he may have left when nobody could take it in.
	eventually(t, "all but gus are claimed", func() bool {
		list := w.unclaimed()
		return len(list) == 1 && list["100006"] == recall.Unknown && slices.Contains(w.alarmed(state.Critical), alarmUnclaimed)
	})
	if !w.enabled("gus") {
		t.Error("gus was cut for being unknown")
	}
	if code, _, errs := w.consumer("plan", "100006"); code != exitMisused || !strings.Contains(errs, "no roster since has named them") || strings.Contains(errs, "next roster") {
		t.Errorf("plan of somebody whom the roster left out: exit %d, %s", code, errs)
	}
	if code, _, errs := w.consumer("unclaimed", "close", "nobody", "--reason", "x"); code != exitMisused || !strings.Contains(errs, "none of the unclaimed") {
		t.Errorf("another account is closed: exit %d, %s", code, errs)
	}
	w.must("cut", "100006", "--reason", "HR says he left", "--wait", patience.String())
	if w.enabled("gus") {
		t.Error("gus has access")
	}
	eventually(t, "every account is claimed", func() bool {
		return len(w.unclaimed()) == 0 && !slices.Contains(w.alarmed(state.Notice), alarmUnclaimed)
	})
	p.stop()

	after := w.report("ledger-2", "keys/ledger-2.vkey")
	if b := after.Ledger.Previous; b == nil || b.Ledger != before.Ledger.Origin || b.Size != before.Ledger.Size || b.Root.String() != schema.Digest(made.Root).String() {
		t.Errorf("the auditor's link: %+v", b)
	}
	want := map[string]verify.CutState{"100001": verify.CutAlready, "100002": verify.CutDone, "100004": verify.CutAlready, "100005": verify.CutDone, "100007": verify.CutDone}
	if got := recalledCuts(after); !maps.Equal(got, want) {
		t.Errorf("of those who had left before, the new ledger answers %v, want %v", got, want)
	}
	db := w.open()
	if s := entries[*entry.Started](t, db); s[0].Mode != "recover" || s[0].Previous == nil {
		t.Errorf("the first entry: %+v", s[0])
	}
	if open, err := state.OpenIntents(db.Read()); err != nil || len(open) > 0 {
		t.Errorf("%d intents are open, %v", len(open), err)
	}

	// Lost once more: whoever is cut is cut, and neither counts nor waits.
	db.Close()
	for _, name := range []string{"consumer.db", "consumer.db-wal", "consumer.db-shm", "consumer.db.lock", "consumer.db.reserve"} {
		if err := os.Remove(w.path(name)); err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
	}
	w.edit("consumer.yaml", "{series: 2, dir: ledger-2,", "{series: 3, dir: ledger-3,")
	w.edit("consumer.yaml", "copy/checkpoint-2", "copy/checkpoint-3")
	if code, _, errs := w.consumer(args...); code != exitMisused || !strings.Contains(errs, "series 2") || !strings.Contains(errs, "--newer-lost") {
		t.Errorf("from the ledger before the last: exit %d, %s", code, errs)
	}
	if _, err := os.Lstat(w.path("consumer.db")); err == nil {
		t.Error("the refusal made a database")
	}
	said := w.must("recover", "--ledger", w.path("ledger-2"), "--checkpoint", w.path("copy/checkpoint-2"), "--reason", "lost again")
	if !strings.Contains(said, "6 persons, as before; the account of 0 was not seen to be cut") {
		t.Errorf("said:\n%s", said)
	}
	if out := w.must("plan", "--all"); strings.Contains(out, "disable") || strings.Contains(out, "revoke-sessions") {
		t.Errorf("somebody is to be cut a second time:\n%s", out)
	}
	cuts := func() (n int) {
		for _, e := range w.tenant.Journal() {
			if strings.Contains(e.Path, "revokeSignInSessions") {
				n++
			}
		}
		return n
	}
	was := cuts()
	p = w.start("run")
	w.heartbeat()
	eventually(t, "everybody was looked at", func() bool {
		db := w.open()
		defer db.Close()
		backlog, _, err := state.Backlog(db.Read(), time.Now())
		return err == nil && len(backlog) == 0
	})
	db = w.open()
	if n, err := state.Effects(db.Read(), "cut", time.Now().Add(-time.Hour)); err != nil || n > 0 || cuts() != was {
		t.Errorf("%d cuts were counted, and sessions of %d accounts revoked once more; %v", n, cuts()-was, err)
	}
	db.Close()
	p.stop()
	third := recalledCuts(w.report("ledger-3", "keys/ledger-3.vkey"))
	for subject, state := range third {
		if state != verify.CutAlready {
			t.Errorf("of %s the third ledger says %s", subject, state)
		}
	}
	if len(third) != 6 {
		t.Errorf("the third ledger answers for %v, want 6 persons", third)
	}
}

// After the database is lost the limit on roles that people lose holds for whom the producer's roster moves, before anybody has
// looked at their accounts: where each was a member was read when they were found.
func TestRecoverKeepsTheLimitOnRoles(t *testing.T) {
	const leads = "aaaaaaaa-0000-0000-0000-000000000002"
	w := newWorld(t, tenant.SeedGroup{ID: soc, DisplayName: "SOC"}, tenant.SeedGroup{ID: leads, DisplayName: "Leads"})
	w.edit("policy.yaml", "\nroles:", "\n  soc-leads: {id: "+leads+"}\nroles:\n  soc-lead: {groups: [soc-analysts, soc-leads]}")
	w.edit("policy.yaml", "limits: {", "limits: {take_per_hour: 2, ")
	p := w.start("run")
	w.heartbeat()
	people := map[string]string{"100001": "ann", "100002": "bob", "100003": "cyd", "100004": "dan"}
	for subject, alias := range people {
		w.joiner(subject, alias, "soc-lead")
	}
	leading := func() (n int) {
		for _, alias := range people {
			if u, ok := w.account(alias); ok && slices.Contains(u.Groups, "Leads") {
				n++
			}
		}
		return n
	}
	eventually(t, "all lead", func() bool { return leading() == len(people) })
	p.stop()
	for _, name := range []string{"consumer.db", "consumer.db-wal", "consumer.db-shm", "consumer.db.lock", "consumer.db.reserve"} {
		if err := os.Remove(w.path(name)); err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
	}
	w.edit("consumer.yaml", "{dir: ledger,", "{series: 2, dir: ledger-2,")
	w.edit("consumer.yaml", "copy/checkpoint", "copy/checkpoint-2")
	args := []string{"recover", "--ledger", w.path("ledger"), "--checkpoint", w.path("copy/checkpoint"), "--reason", "disk lost"}
	w.edit("policy.yaml", leads, "aaaaaaaa-0000-0000-0000-00000000000f")
	if code, _, errs := w.consumer(args...); code != exitMisused || !strings.Contains(errs, "has no group") {
		t.Errorf("with a group that the tenant does not have: exit %d, %s", code, errs)
	}
	if _, err := os.Lstat(w.path("consumer.db")); err == nil {
		t.Error("the refusal made a database")
	}
	w.edit("policy.yaml", "aaaaaaaa-0000-0000-0000-00000000000f", leads)
	if out := w.must(args...); !strings.Contains(out, "4 accounts with the bridge's mark, and 8 memberships in groups of the policy") {
		t.Errorf("said:\n%s", out)
	}

	p = w.start("run")
	var all []schema.LiveEngagement
	for subject, alias := range people { // as analysts
		all = append(all, live(subject, alias))
	}
	slices.SortFunc(all, func(a, b schema.LiveEngagement) int { return strings.Compare(a.Subject, b.Subject) })
	w.roster(all...)
	w.heartbeat()
	eventually(t, "all of it is held", func() bool { return slices.Contains(w.alarmed(state.Critical), "take-limit") })
	if n := leading(); n != len(people) {
		t.Errorf("%d of %d lead still, past the limit of 2", n, len(people))
	}
	var holds []struct {
		ID     string        `json:"id"`
		Digest schema.Digest `json:"digest"`
	}
	if err := json.Unmarshal([]byte(w.must("holds", "list", "-o", "json")), &holds); err != nil || len(holds) != 1 {
		t.Fatalf("holds %+v, %v", holds, err)
	}
	w.must("holds", "release", holds[0].ID, "--digest", holds[0].Digest.String(), "--reason", "HR says so")
	eventually(t, "the roles are lost", func() bool { return leading() == 0 })
	p.stop()
	w.report("ledger-2", "keys/ledger-2.vkey")
}

// Between a recovery and the producer's first roster nothing is taken from whom the old ledger had as hired again, and plan
// says so: of them the new database knows the leaver alone.
func TestPlanAfterARecoveryLeavesTheHiredAgainToTheRoster(t *testing.T) {
	w := newWorld(t)
	p := w.start("run")
	w.heartbeat()
	w.joiner("100001", "ann", "soc-analyst")
	w.joiner("100002", "bob", "soc-analyst")
	eventually(t, "both have accounts", func() bool { return w.enabled("ann") && w.enabled("bob") })
	w.leaver("100001")
	eventually(t, "ann is cut", func() bool { u, _ := w.account("ann"); return !u.Enabled && u.SessionsRevoked })
	w.say("100001", &schema.Joiner{Engagement: 2, Person: schema.Person{DisplayName: "Ann Example", PreferredAlias: "ann"}, Roles: []string{"soc-analyst"}, Start: schema.At(time.Now().Add(-time.Hour))})
	eventually(t, "ann is back", func() bool { return w.enabled("ann") })
	p.stop()
	p = w.start("run", "--observe")
	w.leaver("100002")
	eventually(t, "bob's leaver is in", func() bool { return strings.Contains(p.said(), `"event":"leaver:v1"`) })
	p.stop()
	for _, name := range []string{"consumer.db", "consumer.db-wal", "consumer.db-shm", "consumer.db.lock", "consumer.db.reserve"} {
		if err := os.Remove(w.path(name)); err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
	}
	w.edit("consumer.yaml", "{dir: ledger,", "{series: 2, dir: ledger-2,")
	w.edit("consumer.yaml", "copy/checkpoint", "copy/checkpoint-2")
	w.must("recover", "--ledger", w.path("ledger"), "--checkpoint", w.path("copy/checkpoint"), "--reason", "disk lost")

	planned := func() map[string]plannedPerson {
		t.Helper()
		var list []plannedPerson
		if err := json.Unmarshal([]byte(w.must("plan", "--all", "-o", "json")), &list); err != nil {
			t.Fatal(err)
		}
		m := map[string]plannedPerson{}
		for _, x := range list {
			m[x.Subject] = x
		}
		return m
	}
	if l := planned(); len(l["100001"].Ops) > 0 || l["100001"].Waits != waitsRoster || len(l["100002"].Ops) == 0 || l["100002"].Ops[0].Op != "disable" {
		t.Errorf("planned %+v; want ann to wait for the roster, and bob to be disabled", l)
	}
	for _, args := range [][]string{{"plan", "--all"}, {"plan", "100001"}} {
		if out := w.must(args...); !slices.ContainsFunc(strings.Split(out, "\n"), func(l string) bool {
			return strings.HasPrefix(l, "100001") && strings.Contains(l, "for the producer's roster")
		}) {
			t.Errorf("%v says:\n%s", args, out)
		}
	}
	p = w.start("run")
	w.heartbeat()
	eventually(t, "bob is cut", func() bool { return !w.enabled("bob") })
	if !w.enabled("ann") {
		t.Error("ann, who was hired again, was cut before the roster")
	}
	again := live("100001", "ann")
	again.Engagement = 2
	w.roster(again)
	eventually(t, "the roster is taken in", func() bool { return planned()["100001"].Access })
	if l := planned()["100001"]; len(l.Ops) > 0 || l.Waits != "" || !w.enabled("ann") {
		t.Errorf("planned %+v after the roster", l)
	}
	p.stop()
}

// recalledCuts is what became of the cuts of an earlier ledger, by subject.
func recalledCuts(r *verify.Report) map[string]verify.CutState {
	m := map[string]verify.CutState{}
	for _, c := range r.Cuts {
		if c.Recalled {
			m[c.Subject] = c.State
		}
	}
	return m
}

// unclaimed is how the accounts of the lost database stand, by the subject of their mark.
func (w *world) unclaimed() map[string]recall.Standing {
	w.files.t.Helper()
	var list []shownClaim
	if err := json.Unmarshal([]byte(w.must("unclaimed", "list", "-o", "json")), &list); err != nil {
		w.files.t.Fatal(err)
	}
	m := map[string]recall.Standing{}
	for _, c := range list {
		m[c.Subject] = c.Standing
	}
	return m
}

// alarmed lists the codes of the alarms that stand, from a severity up.
func (w *world) alarmed(from state.Severity) (codes []string) {
	db := w.open()
	defer db.Close()
	list, err := state.Alarms(db.Read())
	if err != nil {
		w.files.t.Fatal(err)
	}
	for _, a := range list {
		if a.Severity >= from {
			codes = append(codes, a.Code)
		}
	}
	return codes
}

// With nothing but the checkpoint copy the link is made, and an operator pins the producer.
func TestRecoverFromTheCheckpointAlone(t *testing.T) {
	w := newWorld(t)
	p := w.start("run")
	w.heartbeat()
	eventually(t, "the heartbeat is in", func() bool { return strings.Contains(p.said(), `"event":"heartbeat:v1"`) })
	p.stop()
	for _, name := range []string{"consumer.db", "ledger"} {
		if err := os.RemoveAll(w.path(name)); err != nil {
			t.Fatal(err)
		}
	}
	w.edit("consumer.yaml", "{dir: ledger,", "{series: 3, dir: ledger,") // the second is lost without a trace
	w.edit("consumer.yaml", "copy/checkpoint", "copy/checkpoint-2")
	args := []string{"recover", "--checkpoint", w.path("copy/checkpoint"), "--reason", "all is lost"}
	if code, _, errs := w.consumer(args...); code != exitMisused || !strings.Contains(errs, "series: 2") {
		t.Errorf("past a series: exit %d, %s", code, errs)
	}
	// One that was killed, before or after it left the auditors' line, is named with what it left.
	line := w.path("keys/ledger-3.vkey")
	if err := os.Mkdir(w.path("ledger"), 0o750); err != nil { // of the one that was killed, too
		t.Fatal(err)
	}
	for _, left := range []string{"the folder " + w.path("consumer.db.init"), line + ", the folder " + w.path("consumer.db.init")} {
		if _, err := store.BeginFounding(w.path("consumer.db"), []string{line}, func(path string) error { return state.Create(path, gov1, time.Now()) }); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(left, line) {
			w.write("keys/ledger-3.vkey", "of the killed one", 0o644)
		}
		for _, args := range [][]string{append(args, "--newer-lost"), {"init"}} {
			if code, _, errs := w.consumer(args...); code != exitMisused || !strings.Contains(errs, "was killed, or it still runs") || !strings.Contains(errs, "remove "+left+", and begin again") || !strings.Contains(errs, "folder "+w.path("ledger")+" is empty and may stay") {
				t.Fatalf("%q after one that was killed: exit %d, %s", args, code, errs)
			}
		}
		if err := errors.Join(os.RemoveAll(line), os.RemoveAll(w.path("consumer.db.init"))); err != nil {
			t.Fatal(err)
		}
	}
	out := w.must(append(args, "--newer-lost")...)
	if _, err := os.Lstat(w.path("consumer.db.init")); err == nil {
		t.Error("recover left the folder in which the database waited")
	}
	if !strings.Contains(out, "read      0 entries") || !strings.Contains(out, "trust add") {
		t.Errorf("said:\n%s", out)
	}
	w.must("trust", "add", w.path("card.json"), "--at-seq", "2", "--head-hash", w.prev.String(), "--reason", "read out on the phone")
	p = w.start("run")
	w.heartbeat()
	eventually(t, "the stream goes on", func() bool { return strings.Contains(p.said(), `"seq":2,"disposition":"admitted"`) })
	p.stop()
	if r := w.report("ledger", "keys/ledger-3.vkey"); r.Ledger.Previous == nil || r.Ledger.Previous.Size < 3 {
		t.Errorf("the auditor's link: %+v", r.Ledger.Previous)
	}
}

func TestRecoverRefuses(t *testing.T) {
	f := newFiles(t)
	f.init()
	if code, _, errs := f.consumer("recover", "--reason", "x"); code != exitMisused || !strings.Contains(errs, "--checkpoint") {
		t.Errorf("from nothing: exit %d, %s", code, errs)
	}
	if code, _, errs := f.consumer("recover", "--checkpoint", f.path("nothing"), "--reason", "x"); code != exitMisused || !strings.Contains(errs, "old checkpoint") {
		t.Errorf("from a file that is not there: exit %d, %s", code, errs)
	}
	f.write("note", "example.com/log\n1\nAAAA\n", 0o600)
	if code, _, errs := f.consumer("recover", "--checkpoint", f.path("note"), "--reason", "x"); code != exitMisused || !strings.Contains(errs, "this enclave") {
		t.Errorf("from another's: exit %d, %s", code, errs)
	}
}

// report is the auditor's, on a ledger that must verify.
func (w *world) report(folder, line string) *verify.Report {
	w.files.t.Helper()
	key, err := os.ReadFile(w.path(line))
	if err != nil {
		w.files.t.Fatal(err)
	}
	card, err := os.ReadFile(w.path("card.json"))
	if err != nil {
		w.files.t.Fatal(err)
	}
	producers := verify.Keys{}
	if err := producers.Add(card); err != nil {
		w.files.t.Fatal(err)
	}
	r, err := verify.Run(w.files.t.Context(), verify.Options{Dir: w.path(folder), LedgerKey: strings.TrimSpace(string(key)), Keys: producers})
	if err != nil {
		w.files.t.Fatal(err)
	}
	if !r.Verifies {
		text, _ := json.MarshalIndent(r.Findings, "", " ")
		w.files.t.Errorf("ledger %s does not verify:\n%s", folder, text)
	}
	return r
}
