package main

import (
	"strings"
	"testing"
	"time"

	"jmlbridge/consumer/plan"
	"jmlbridge/consumer/state"
	"jmlbridge/internal/ledger/entry"
	"jmlbridge/internal/store"
)

// Where two producers have a subject id, they mean two persons: every command that takes one asks whose it is, and what is
// listed says so, in words that can be typed.
func TestTwoProducersOfOneSubjectID(t *testing.T) {
	const partner = "https://hr.partner.example/jml"
	f := newFiles(t)
	f.init()
	f.card("ours.json", signing(t), "hr", 1)
	f.must("trust", "add", f.path("ours.json"), "--reason", "x")
	db := f.open()
	ours, theirs := state.SubjectKey{Issuer: issuer, Subject: "100001"}, state.SubjectKey{Issuer: partner, Subject: "100001"}
	hold := func(k state.SubjectKey) {
		f.update(db, func(tx *store.Tx) error {
			code := string(plan.HoldProtected)
			_, err := state.OpenHold(tx, &state.Hold{SubjectKey: k, Code: code, Shown: state.ShowOne(k, 1, code, []string{"a"}), Created: time.Now()})
			return err
		})
	}
	hold(ours)
	if out := f.must("holds", "list"); strings.Contains(out, issuer) {
		t.Errorf("with one producer nobody needs to be told whose it is:\n%s", out)
	}
	f.card("theirs.json", signing(t), "hr", 1)
	f.edit("theirs.json", issuer, partner)
	f.must("trust", "add", f.path("theirs.json"), "--reason", "x")
	hold(theirs)
	f.update(db, func(tx *store.Tx) error {
		for _, k := range []state.SubjectKey{ours, theirs} {
			if err := state.SaveFacts(tx, &state.Subject{SubjectKey: k, FactAt: time.Now()}); err != nil {
				return err
			}
			a := state.AlarmOf("cut-held", k)
			a.Severity, a.Last, a.Text = state.Critical, time.Now(), "x"
			if _, err := state.RaiseAlarm(tx, a); err != nil {
				return err
			}
		}
		return nil
	})
	why := []string{"--reason", "INC-91"}
	for _, args := range [][]string{
		append([]string{"cut", "100001", "--wait", "0"}, why...), append([]string{"unlock", "100001"}, why...),
		{"plan", "100001"}, append([]string{"lease", "extend", "100001", "--for", "1d"}, why...),
	} {
		code, _, errs := f.consumer(args...)
		if code != exitMisused || !strings.Contains(errs, "say which with --issuer: "+partner+", "+issuer) {
			t.Errorf("%v: exit %d, %s; want it asked whose the person is", args, code, errs)
		}
	}
	if n := len(entries[*entry.Operator](t, db)); n != 0 {
		t.Fatalf("%d acts on nobody in particular", n)
	}
	f.must(append([]string{"cut", "100001", "--issuer", partner, "--wait", "0"}, why...)...)
	if s := f.subject(db, "100001"); s.Doc.Lock != nil {
		t.Error("the other person was cut")
	}
	out := f.must("status")
	for _, want := range []string{"until consumer unlock 100001 --issuer " + partner + " --reason TEXT", "cut-held 100001@" + issuer + " ", "cut-held 100001@" + partner + " "} {
		if !strings.Contains(out, want) {
			t.Errorf("status does not say %q:\n%s", want, out)
		}
	}
	out = f.must("holds", "list")
	for _, want := range []string{"ISSUER", issuer, partner} {
		if !strings.Contains(out, want) {
			t.Errorf("holds list does not say %q:\n%s", want, out)
		}
	}
	f.must("unlock", "100001", "--issuer", partner, "--reason", "closed")
}

// The column with the issuer is there where there are several, and only there.
func TestPlanSaysWhoseThePersonIs(t *testing.T) {
	for n, issuers := range [][]string{{"urn:a"}, {"urn:a", "urn:b"}} {
		var out strings.Builder
		a := &app{out: &out}
		list := []plannedPerson{{Subject: "1", Issuer: "urn:a", Why: "left", Ops: []plannedOp{{Op: "disable", Lane: "disable"}}},
			{Subject: "2", Issuer: "urn:a", Holds: []plannedHold{{"protected", "a"}}}, {Subject: "3", Issuer: "urn:a", Waits: waitsGap}, {Subject: "4", Issuer: "urn:a", Error: "x"}, {Subject: "5", Issuer: "urn:a"}}
		if err := a.showPlan(list, issuers, true); err != nil || strings.Count(out.String(), "urn:a") != 5*n {
			t.Errorf("%d producers: %v\n%s", len(issuers), err, out.String())
		}
	}
}
