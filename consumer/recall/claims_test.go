package recall

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"testing"
	"time"

	"jmlbridge/consumer/fence"
	"jmlbridge/consumer/plan"
	"jmlbridge/consumer/state"
	"jmlbridge/internal/directory"
	"jmlbridge/internal/ledger"
	"jmlbridge/internal/ledger/entry"
	"jmlbridge/internal/store"
	"jmlbridge/schema"
)

// What was found in the tenant is nobody's fault and nobody's leave: it is shown until its person is known by it.
func TestClaims(t *testing.T) {
	l, _ := newLost(t)
	l.received(schema.KindJoiner, "left", 1, 1, "admitted")
	l.received(schema.KindLeaver, "left", 1, 2, "admitted")
	l.did("lapsed", entry.ResultApplied, plan.DisableAccount, plan.RevokeSessions) // by a lease: the account is known, and nobody spoke of the person
	db, _ := l.restore()
	by := state.By{Login: "ann", Reason: "lost", Now: t0}
	yes, no := true, false
	in := func(f func(tx *store.Tx) error) {
		t.Helper()
		if err := db.Tx(t.Context(), f); err != nil {
			t.Fatal(err)
		}
	}
	in(func(tx *store.Tx) error {
		return Find(tx, Look{Accounts: []directory.Account{
			{ID: "id-lapsed", Mark: directory.Mark(iss, "lapsed"), Enabled: &no},
			{ID: "a-left", Mark: directory.Mark(iss, "left"), Enabled: &yes},
			{ID: "a-live", Mark: directory.Mark(iss, "live"), Enabled: &yes},
			{ID: "a-again", Mark: directory.Mark(iss, "live"), Enabled: &no},
			{ID: "a-lost", Mark: directory.Mark(iss, "lost")},
			{ID: "a-other", Mark: directory.Mark("https://other.example", "live"), Enabled: &yes},
			{ID: "a-empty", Mark: directory.Mark(iss, ""), Enabled: &no},
		}, Started: t0, Finished: t0}, new(Made), by)
	})
	standings := func() map[string]Standing {
		t.Helper()
		list, err := Claims(db.Read())
		if err != nil {
			t.Fatal(err)
		}
		m := map[string]Standing{}
		for _, c := range list {
			m[c.Account] = c.Standing
		}
		return m
	}
	check := func(when string, want map[string]Standing) {
		t.Helper()
		if got := standings(); !maps.Equal(got, want) {
			t.Errorf("%s: %v, want %v", when, got, want)
		}
	}
	check("at once", map[string]Standing{"id-lapsed": Waiting, "a-left": Waiting, "a-live": Waiting, "a-again": Waiting, "a-lost": Waiting, "a-other": Foreign, "a-empty": Foreign})
	// The ledger did not say whose account it was, and it is open: whoever left is looked at.
	if s, err := state.LoadSubject(db.Read(), state.SubjectKey{Issuer: iss, Subject: "left"}); err != nil || s.Lane != plan.Disable {
		t.Fatalf("%+v, %v", s, err)
	}
	known := func(subject, account string) func(tx *store.Tx) error {
		return func(tx *store.Tx) error {
			text, err := json.Marshal(plan.Known{ID: account})
			k := state.SubjectKey{Issuer: iss, Subject: subject}
			return errors.Join(err, state.SaveFacts(tx, &state.Subject{SubjectKey: k, Doc: fence.Subject{Wants: []fence.Want{{Position: fence.Position{Engagement: 1}}}}, FactAt: t0}), state.SetAccount(tx, k, text))
		}
	}
	in(known("live", "a-live"))
	in(known("left", "a-left"))
	check("two are known", map[string]Standing{"id-lapsed": Waiting, "a-left": Claimed, "a-live": Claimed, "a-again": Second, "a-lost": Waiting, "a-other": Foreign, "a-empty": Foreign})
	in(func(tx *store.Tx) error {
		ref, err := state.LastOpened(tx)
		return errors.Join(err, state.SaveRoster(tx, &state.Roster{StreamRef: ref, ID: "r", Parts: 1, State: state.RosterApplied, Since: t0, Issued: t0, Head: schema.RosterHead{Generation: 1, Seq: 3}}))
	})
	check("the roster has come", map[string]Standing{"id-lapsed": Unknown, "a-left": Claimed, "a-live": Claimed, "a-again": Second, "a-lost": Unknown, "a-other": Foreign, "a-empty": Foreign})
	// Operators discarded what the roster gives a person: it was spoken of, and nobody looked at the account for that.
	in(func(tx *store.Tx) error {
		k := state.SubjectKey{Issuer: iss, Subject: "lost"}
		h := &state.Hold{SubjectKey: state.SubjectKey{Subject: "x"}, Code: "give-limit", Shown: []byte(`{"lane":"give"}`), Created: t0}
		s := &state.Subject{SubjectKey: k, Doc: fence.Subject{Wants: []fence.Want{{Position: fence.Position{Engagement: 1}}}}, FactAt: t0, Lane: plan.Give, Due: t0}
		_, err := state.OpenHold(tx, h)
		return errors.Join(err, state.SaveFacts(tx, s), state.HoldLane(tx, h.ID, plan.Give, t0, state.Never), state.DropHeld(tx, h.ID))
	})
	if s, err := state.LoadSubject(db.Read(), state.SubjectKey{Issuer: iss, Subject: "lost"}); err != nil || !s.Discarded() {
		t.Fatalf("%+v, %v", s, err)
	}
	check("what one is given was discarded", map[string]Standing{"id-lapsed": Unknown, "a-left": Claimed, "a-live": Claimed, "a-again": Second, "a-lost": Waiting, "a-other": Foreign, "a-empty": Foreign})
	in(func(tx *store.Tx) error { return state.Claim(tx, "a-again") })
	if _, still := standings()["a-again"]; still {
		t.Error("what was closed is there")
	}
	if err := db.Tx(t.Context(), func(tx *store.Tx) error { return state.Claim(tx, "a-again") }); !errors.Is(err, state.ErrNotFound) {
		t.Errorf("closed twice: %v", err)
	}
}

// Who has no access is held against the tenant: an open account is cut at once, whatever the old ledger had of it, and
// where none is open nobody is to be cut, and none counts as a cut.
func TestWhoIsCutAfterALook(t *testing.T) {
	l, _ := newLost(t)
	for i, who := range []string{"undone", "done", "unnamed", "open", "none", "hidden", "cut"} {
		l.received(schema.KindLeaver, who, 1, uint64(i+1), "admitted")
	}
	for _, who := range []string{"undone", "cut"} {
		l.did(who, entry.ResultApplied, plan.DisableAccount, plan.RevokeSessions)
	}
	for _, who := range []string{"done", "hidden"} {
		l.did(who, entry.ResultApplied, plan.CreateAccount)
	}
	db, made := l.restore()
	if made.Open != 2 {
		t.Errorf("made %+v", made)
	}
	yes, no := true, false
	err := db.Tx(t.Context(), func(tx *store.Tx) error {
		return Find(tx, Look{Accounts: []directory.Account{
			{ID: "id-undone", Mark: directory.Mark(iss, "undone"), Enabled: &yes},
			{ID: "id-cut", Mark: directory.Mark(iss, "cut"), Enabled: &no},
			{ID: "id-done", Mark: directory.Mark(iss, "done"), Enabled: &no},
			{ID: "a", Mark: directory.Mark(iss, "unnamed"), Enabled: &no},
			{ID: "b", Mark: directory.Mark(iss, "open"), Enabled: &no},
			{ID: "c", Mark: directory.Mark(iss, "open")}, // not answered is not "disabled"
		}, Started: t0, Finished: t0}, &made, state.By{Login: "ann", Reason: "lost", Now: t0})
	})
	if err != nil {
		t.Fatal(err)
	}
	for who, want := range map[string]plan.Lane{"undone": plan.Disable, "open": plan.Disable, "hidden": plan.Disable, "done": plan.Strip, "unnamed": plan.Strip, "none": plan.Strip, "cut": plan.Strip} {
		if s := subjectOf(t, db, who); s.Lane != want {
			t.Errorf("%s is in lane %v, want %v", who, s.Lane, want)
		}
	}
	if made.Open != 3 {
		t.Errorf("%d accounts are to be cut, want those of undone, open and hidden", made.Open)
	}
}

// What was seen of the tenant is on the new ledger: of everybody whose account it is, and of those who are out and have
// none. Of whoever may have been hired again since nothing is said. A third ledger does not take a disable for ours that was
// only seen.
func TestWhatWasSeenIsOnTheLedger(t *testing.T) {
	l, _ := newLost(t)
	for i, who := range []string{"open", "none", "shut", "deleted", "back", "anew"} {
		l.received(schema.KindLeaver, who, 1, uint64(i+1), "admitted")
	}
	l.did("deleted", entry.ResultApplied, plan.DeleteAccount)
	l.did("back", entry.ResultApplied, plan.DeleteAccount)
	l.received(schema.KindJoiner, "anew", 2, 7, "admitted")
	l.did("anew", entry.ResultApplied, plan.CreateAccount)
	db, made := l.restore()
	yes, no := true, false
	by := state.By{Login: "ann", Reason: "lost", Now: t0.Add(time.Hour)}
	look := Look{Started: t0, Finished: t0.Add(time.Minute), Accounts: []directory.Account{
		{ID: "id-open", Mark: directory.Mark(iss, "open"), Enabled: &yes},
		{ID: "id-shut", Mark: directory.Mark(iss, "shut"), Enabled: &no},
		{ID: "id-back", Mark: directory.Mark(iss, "back"), Enabled: &yes}, // out of the bin
		{ID: "id-anew", Mark: directory.Mark(iss, "anew"), Enabled: &yes},
		{ID: "id-live", Mark: directory.Mark(iss, "live"), Enabled: &yes},
		{ID: "id-blocked", Mark: directory.Mark(iss, "blocked"), Enabled: &no},
		{ID: "id-blocked-2", Mark: directory.Mark(iss, "blocked"), Enabled: &yes},
		{ID: "id-other", Mark: directory.Mark("https://other.example", "live"), Enabled: &yes},
		{ID: "id-odd", Mark: directory.Mark(iss, "a b\n"), Enabled: &yes},
	}}
	if err := db.Tx(t.Context(), func(tx *store.Tx) error { return Find(tx, look, &made, by) }); err != nil {
		t.Fatal(err)
	}
	if s := subjectOf(t, db, "back"); s.Lane != plan.Disable || string(s.Account) != "{}" {
		t.Errorf("a deleted account that is back and open: lane %v, account %s", s.Lane, s.Account)
	}
	got := map[string]string{}
	var survey *entry.Survey
	for e, err := range ledger.Entries(t.Context(), db.DB, 0) {
		if err != nil {
			t.Fatal(err)
		}
		o, ok := e.Entry.Body.(*entry.Observed)
		if !ok {
			continue
		}
		if o.Survey != nil {
			survey = o.Survey
			continue
		}
		a := o.Account
		if a.Code == entry.CodeSeen && (survey == nil || *a.Survey != survey.Digest) {
			t.Errorf("%s was seen in no survey", a.Subject)
		}
		got[a.Subject] += a.Code + " " + a.State + " " + a.Account + ";"
	}
	want := map[string]string{"open": "seen enabled id-open;", "none": "seen gone ;", "shut": "seen disabled id-shut;", "deleted": "recall gone id-deleted;",
		"back": "recall gone id-back;seen enabled id-back;", "live": "seen enabled id-live;", "blocked": "seen enabled id-blocked-2;"}
	if !maps.Equal(got, want) {
		t.Errorf("the ledger says\n%v, want\n%v", got, want)
	}
	if survey == nil || survey.Count != 9 || len(survey.Counts) != 1 || survey.Counts[0] != (entry.Count{Name: entry.SurveyForeign, Count: 2}) || !survey.Finished.Equal(t0.Add(time.Minute)) {
		t.Errorf("survey %+v", survey)
	}

	db, _ = lostAgain(t, db).restore()
	for who, want := range map[string]plan.Known{"open": {ID: "id-open"}, "shut": {ID: "id-shut"}, "none": {}, "back": {ID: "id-back"}} {
		s := subjectOf(t, db, who)
		var known plan.Known
		if err := json.Unmarshal(s.Account, &known); err != nil || !reflect.DeepEqual(known, want) || s.Lane != plan.Disable {
			t.Errorf("after the next loss %s is known by %+v in lane %v, want %+v, to be cut", who, known, s.Lane, want)
		}
	}
	var known plan.Known
	if s := subjectOf(t, db, "deleted"); json.Unmarshal(s.Account, &known) != nil || known.DeletedAt.IsZero() {
		t.Errorf("after the next loss what was deleted is known by %s", s.Account)
	}
}

// In which groups of the policy an account was found is kept for whoever is spoken of later: with the account where nobody
// is known by it, and with the person where the old ledger named the account.
func TestWhereAccountsWereMembersIsKept(t *testing.T) {
	l, _ := newLost(t)
	l.received(schema.KindLeaver, "left", 1, 1, "admitted")
	l.did("left", entry.ResultApplied, plan.DisableAccount, plan.RevokeSessions)
	l.did("lapsed", entry.ResultApplied, plan.DisableAccount, plan.RevokeSessions)
	l.received(schema.KindLeaver, "back", 1, 2, "admitted")
	l.did("back", entry.ResultApplied, plan.DeleteAccount)
	db, made := l.restore()
	yes, no := true, false
	err := db.Tx(t.Context(), func(tx *store.Tx) error {
		return Find(tx, Look{Accounts: []directory.Account{
			{ID: "id-left", Mark: directory.Mark(iss, "left"), Enabled: &no, Groups: []string{"soc"}},
			{ID: "id-lapsed", Mark: directory.Mark(iss, "lapsed"), Enabled: &no, Groups: []string{"lead", "soc"}},
			{ID: "id-back", Mark: directory.Mark(iss, "back"), Enabled: &yes, Groups: []string{"soc"}},
			{ID: "a", Mark: directory.Mark(iss, "live"), Enabled: &yes, Groups: []string{"soc"}},
			{ID: "b", Mark: directory.Mark(iss, "live"), Enabled: &no, Groups: []string{"lead", "soc"}},
			{ID: "c", Mark: directory.Mark(iss, "none"), Enabled: &yes},
		}, Started: t0, Finished: t0}, &made, state.By{Login: "ann", Reason: "lost", Now: t0})
	})
	if err != nil {
		t.Fatal(err)
	}
	all, err := state.AllGroupsFound(db.Read())
	if err != nil {
		t.Fatal(err)
	}
	for who, want := range map[string][]string{"left": {"soc"}, "lapsed": {"lead", "soc"}, "back": {"soc"}, "live": {"lead", "soc"}, "none": nil, "nobody": nil} {
		mark := directory.Mark(iss, who)
		if got, err := state.GroupsFound(db.Read(), mark); err != nil || !slices.Equal(got, want) || !slices.Equal(all[mark], want) {
			t.Errorf("%s was found in %v and %v, %v; want %v", who, got, all[mark], err, want)
		}
	}
	for who, want := range map[string]string{"left": "id-left [soc]", "lapsed": "id-lapsed [lead soc]", "back": " []"} {
		var known plan.Known
		if err := json.Unmarshal(subjectOf(t, db, who).Account, &known); err != nil || fmt.Sprint(known.ID, " ", known.Groups) != want {
			t.Errorf("%s is known by %s %v, %v; want %s", who, known.ID, known.Groups, err, want)
		}
	}
	list, err := state.AllUnclaimed(db.Read())
	if err != nil || len(list) != 6 || !slices.Equal(list[0].Groups, []string{"soc"}) {
		t.Errorf("unclaimed %+v, %v", list, err)
	}
}
