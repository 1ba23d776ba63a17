package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"jmlbridge/consumer/fence"
	"jmlbridge/consumer/plan"
	"jmlbridge/consumer/state"
	"jmlbridge/internal/ledger/entry"
	"jmlbridge/internal/store"
	"jmlbridge/schema"
)

func TestCutWithoutRunner(t *testing.T) {
	f := newFiles(t)
	f.init()
	f.card("card.json", signing(t), "hr", 1)
	f.must("trust", "add", f.path("card.json"), "--reason", "x")
	db := f.open()

	if code, _, errs := f.consumer("cut", "100001", "--reason", "INC-91"); code != exitMisused || !strings.Contains(errs, "nothing was ever said") {
		t.Errorf("an unknown person: exit %d, %s", code, errs)
	}
	if code, _, _ := f.consumer("cut", "100001"); code != exitMisused {
		t.Errorf("without a reason: exit %d", code)
	}
	for _, args := range [][]string{{"--reason", "INC-91", "--wait", "-3s"}, {"--reason", strings.Repeat("x", entry.MaxText+1)}} {
		if code, _, errs := f.consumer(append([]string{"cut", "100001"}, args...)...); code != exitMisused || !strings.Contains(errs, args[len(args)-2]+": want ") {
			t.Errorf("%v: exit %d, %s", args[len(args)-2], code, errs)
		}
	}
	for _, args := range [][]string{{}, {"--unknown"}} {
		args = append([]string{"cut", "100001", "--reason", "INC-91", "--issuer", issuer + "/"}, args...)
		if code, _, errs := f.consumer(args...); code != exitMisused || !strings.Contains(errs, "--issuer is one of "+issuer) {
			t.Errorf("%v: exit %d, %s; want it said that there is no such producer", args, code, errs)
		}
	}
	if n := len(entries[*entry.Operator](t, db)); n != 0 {
		t.Fatalf("%d operator entries of nothing done", n)
	}
	code, out, errs := f.consumer("cut", "100001", "--reason", "INC-91", "--unknown")
	if code != exitFailed || !strings.Contains(errs, "nobody is running") {
		t.Errorf("exit %d, %s%s", code, out, errs)
	}
	if code, _, errs := f.consumer("cut", "100001", "--reason", "INC-91", "--wait", "0"); code != exitDone || !strings.Contains(errs, "nobody is running") {
		t.Errorf("without waiting: exit %d, %s", code, errs)
	}
	s := f.subject(db, "100001")
	if s.Doc.Lock == nil || s.Doc.Lock.By != "ann" || s.Lane != plan.Disable || s.Doc.At(time.Now()).Why != fence.WhyLocked {
		t.Errorf("subject %+v", s)
	}
	op := entries[*entry.Operator](t, db)
	if len(op) != 2 || op[0].By != "ann" || op[0].Action != "cut" || op[0].Subject != "100001" || op[0].Reason != "INC-91" {
		t.Errorf("operator entries %+v", op)
	}
	if list := f.locked(); len(list) != 1 || list[0].Subject != "100001" || list[0].Issuer != issuer || list[0].By != "ann" || time.Since(list[0].Since) > patience || list[0].Cut != nil {
		t.Errorf("who is cut by hand: %+v", list)
	}
	if out := f.must("status"); !strings.Contains(out, "cut       100001 by ann since ") || !strings.Contains(out, "NOT SEEN TO BE CUT; until consumer unlock 100001 --reason TEXT") {
		t.Errorf("status:\n%s", out)
	}
	settle := func(known plan.Known) {
		account, err := json.Marshal(known)
		if err != nil {
			t.Fatal(err)
		}
		f.update(db, func(tx *store.Tx) error {
			_, err := state.Settle(tx, s.SubjectKey, s.Rev, state.Work{Account: account})
			return err
		})
	}
	settle(plan.Known{})
	if out := f.must("status"); !strings.Contains(out, "who has no account; until consumer unlock 100001") {
		t.Errorf("status, when there is no account:\n%s", out)
	}
	now := time.Now()
	settle(plan.Known{ID: "a-1", DisabledAt: now, RevokedAt: now})
	if list := f.locked(); len(list) != 1 || list[0].Cut == nil || !list[0].Cut.Equal(now) {
		t.Errorf("who is cut by hand, once the account is: %+v", list)
	}
	f.must("unlock", "100001", "--reason", "closed")
	if s := f.subject(db, "100001"); s.Doc.Lock != nil {
		t.Error("still locked")
	}
	if list := f.locked(); list == nil || len(list) != 0 {
		t.Errorf("who is cut by hand, after unlock: %+v", list)
	}
	if code, _, _ := f.consumer("unlock", "100001", "--reason", "closed"); code != exitMisused {
		t.Errorf("unlock of somebody who is not locked: exit %d", code)
	}
}

// locked is who is cut by hand, as status has it.
func (f *files) locked() []lockedStatus {
	f.t.Helper()
	var s status
	if err := json.Unmarshal([]byte(f.must("status", "-o", "json")), &s); err != nil {
		f.t.Fatal(err)
	}
	return s.Locked
}

// plan says why nothing is done for somebody who was named.
func TestPlanSaysWhyNothingIsDone(t *testing.T) {
	var out bytes.Buffer
	a := &app{out: &out}
	list := []plannedPerson{{Subject: "1002", Why: "locked", Locked: "cut by hand by ann since noon"}}
	if err := a.showPlan(list, nil, true); err != nil || !strings.Contains(out.String(), "1002") || !strings.Contains(out.String(), "cut by hand by ann since noon") {
		t.Errorf("named: %v\n%s", err, out.String())
	}
	out.Reset()
	if err := a.showPlan(list, nil, false); err != nil || strings.Contains(out.String(), "1002") {
		t.Errorf("among all: %v\n%s", err, out.String())
	}
}

func TestBackup(t *testing.T) {
	f := newFiles(t)
	f.init()
	db := f.open()
	f.people(db, plan.Disable, "cut-limit", "100001")
	to := filepath.Join(t.TempDir(), "copy.db")
	if out := f.must("backup", to, "--reason", "nightly"); !strings.Contains(out, "SHA-256") {
		t.Errorf("said %q", out)
	}
	if info, err := os.Stat(to); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("want a file for its owner alone, got %v, %v", info, err)
	}
	again, err := state.OpenRead(to)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if s, err := state.LoadSubject(again.Read(), state.SubjectKey{Issuer: issuer, Subject: "100001"}); err != nil || s == nil || s.Lane != plan.Disable {
		t.Errorf("want what was in the database, got %+v, %v", s, err)
	}
	if code, _, _ := f.consumer("backup", to, "--reason", "nightly"); code != exitMisused {
		t.Errorf("want a file that is there left alone, got exit code %d", code)
	}
}

// What nobody will ever vouch for fills a quota: exactly what was shown is given up, and that is on the ledger.
func TestParkedIsDropped(t *testing.T) {
	f := newFiles(t)
	f.init()
	db := f.open()
	park := func(code, kid, body string) {
		f.update(db, func(tx *store.Tx) error {
			_, _, err := state.Park(tx, &state.Parked{Wire: schema.DigestOf([]byte(body)), Code: code, KID: kid, Body: []byte(body), ReceivedAt: time.Now(), TriedAt: time.Now()}, state.Quota{Total: 1 << 20, PerKey: 1 << 20})
			return err
		})
	}
	list := func() (l []shownParked) {
		if err := json.Unmarshal([]byte(f.must("parked", "list", "-o", "json")), &l); err != nil {
			t.Fatal(err)
		}
		return l
	}
	if out := f.must("parked", "list"); !strings.Contains(out, "Nothing is parked") {
		t.Errorf("said %q", out)
	}
	park("unknown-key", "k1", "a")
	park("unknown-key", "k1", "bb")
	park("future", "k2", "c")
	was := list()
	if len(was) != 2 || was[0].Code != "unknown-key" || was[0].Key != "k1" || was[0].Count != 2 || was[0].Bytes != 3 || was[1].Count != 1 {
		t.Fatalf("parked: %+v", was)
	}
	park("unknown-key", "k1", "d")
	args := []string{"parked", "drop", "unknown-key", "--key", "k1", "--reason", "nobody's", "--digest"}
	if code, _, errs := f.consumer(append(args, was[0].Digest.String())...); code != exitMisused || !strings.Contains(errs, "look at it again") {
		t.Errorf("one more came: exit %d, %s", code, errs)
	}
	now := list()[0].Digest
	for _, other := range []string{"unknown-recipient", "future"} {
		if code, _, errs := f.consumer("parked", "drop", other, "--reason", "x", "--digest", now.String()); code != exitMisused || !strings.Contains(errs, "nothing") {
			t.Errorf("under another code: exit %d, %s", code, errs)
		}
	}
	if code, _, errs := f.consumer("parked", "drop", "unknown-key", "--key", "k2", "--reason", "x", "--digest", now.String()); code != exitMisused || !strings.Contains(errs, "with key k2") {
		t.Errorf("of another key: exit %d, %s", code, errs)
	}
	args = slices.Delete(args, 3, 5) // the digest says which key's
	if out := f.must(append(args, now.String())...); !strings.Contains(out, "3 parked under unknown-key are dropped") {
		t.Errorf("said %q", out)
	}
	if l := list(); len(l) != 1 || l[0].Code != "future" {
		t.Errorf("parked after it: %+v", l)
	}
	ops := entries[*entry.Operator](t, db)
	if len(ops) != 1 || ops[0].Action != "parked-drop" || ops[0].By != "ann" || ops[0].Target != "unknown-key/k1" || *ops[0].Digest != now || ops[0].Reason != "nobody's" {
		t.Errorf("on the ledger: %+v", ops)
	}
}

func TestLeaseExtend(t *testing.T) {
	f := newFiles(t)
	f.init()
	db := f.open()
	f.people(db, plan.Idle, "cut-limit", "100001", "100002")
	said := time.Now().Add(-8 * 24 * time.Hour)
	for _, id := range []string{"100001", "100002"} {
		s := f.subject(db, id)
		s.SaidAt, s.Doc.Lapse = said, &fence.Lapse{Why: fence.WhyLease, At: said}
		if err := db.Update(t.Context(), func(tx *store.Tx) error { return state.SaveFacts(tx, s) }); err != nil {
			t.Fatal(err)
		}
	}
	f.must("lease", "extend", "100001", "--issuer", issuer, "--for", "3d", "--reason", "INC-1")
	if s := f.subject(db, "100001"); s.Doc.Lapse != nil || s.Lane != plan.Give || s.Extended.IsZero() {
		t.Errorf("want it restored and extended, got %+v", s)
	}
	long := f.subject(db, "100001").Extended
	if out := f.must("lease", "extend", "100001", "--issuer", issuer, "--for", "1h", "--reason", "INC-2"); !strings.Contains(out, "last until "+stamp(long)+" at least, as was said before: ") || !strings.Contains(out, "is sooner and changes nothing") {
		t.Errorf("a shorter one: %s", out)
	}
	if e := entries[*entry.Lease](t, db); len(e) != 1 || e[0].Reason != "INC-1" {
		t.Errorf("what changed nothing is on the ledger: %+v", e)
	}
	if s := f.subject(db, "100001"); !s.Extended.Equal(long) {
		t.Errorf("a shorter one cut it to %v", s.Extended)
	}
	if s := f.subject(db, "100002"); s.Doc.Lapse == nil || !s.Extended.IsZero() {
		t.Error("want nobody else's touched")
	}
	for id, c := range map[string]fence.Closing{"100001": {Position: fence.Position{Engagement: 1}, Effective: said}, "100002": {Position: fence.Position{Engagement: 1}, Effective: said.Add(30 * 24 * time.Hour)}} {
		s := f.subject(db, id)
		s.Doc.Closings = append(s.Doc.Closings, c)
		if err := db.Update(t.Context(), func(tx *store.Tx) error { return state.SaveFacts(tx, s) }); err != nil {
			t.Fatal(err)
		}
	}
	f.card("card.json", signing(t), "hr", 1)
	f.must("trust", "add", f.path("card.json"), "--reason", "x")
	out := f.must("lease", "extend", "--all", "--issuer", issuer, "--for", "9d", "--reason", "INC-3")
	if e := entries[*entry.Lease](t, db); !strings.Contains(out, "Leases of 1 person last") || len(e) != 2 || e[1].Count != 1 {
		t.Errorf("want whoever left not counted: %s%+v", out, e)
	}
	for _, args := range [][]string{{"100001", "--for", "3d"}, {"--for", "3d", "--reason", "x"}, {"100001", "--for", "31d", "--reason", "x"}, {"100001", "--all", "--for", "1d", "--reason", "x"}} {
		if code, _, _ := f.consumer(append([]string{"lease", "extend"}, args...)...); code != exitMisused {
			t.Errorf("%v: want exit code %d, got %d", args, exitMisused, code)
		}
	}
}
