package announce

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"jmlbridge/internal/config"
	"jmlbridge/internal/envelope/seal"
	"jmlbridge/internal/keys"
	"jmlbridge/internal/ledger/entry"
	"jmlbridge/internal/store"
	"jmlbridge/producer/outbox"
	"jmlbridge/producer/register"
	"jmlbridge/producer/scope"
	"jmlbridge/producer/source"
	"jmlbridge/schema"
)

const aud = "urn:jmlbridge:enclave:gov-1"

var (
	ctx = context.Background()
	now = time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC)
)

type bench struct {
	*outbox.Box
	db *store.DB
	im *source.Importer
	e  Enclave
}

func setup(t testing.TB, m source.Mapping, rules scope.Rules) *bench {
	t.Helper()
	path := filepath.Join(t.TempDir(), "producer.db")
	if err := store.Create(path, outbox.Schema); err != nil {
		t.Fatal(err)
	}
	db, err := store.Open(path, outbox.Schema)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	if err := outbox.Init(ctx, db, "https://iam.mssp.example/jml", "hr", []string{aud}, now); err != nil {
		t.Fatal(err)
	}
	signing, err := keys.GenerateSigning(keys.ES256)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := seal.NewSigner(signing)
	if err != nil {
		t.Fatal(err)
	}
	decryption, err := keys.GenerateDecryption(keys.P256)
	if err != nil {
		t.Fatal(err)
	}
	recipient, err := seal.NewRecipient(decryption.Public())
	if err != nil {
		t.Fatal(err)
	}
	box, err := outbox.New(db, outbox.Config{
		Issuer: "https://iam.mssp.example/jml", Stream: "hr", Signer: signer, Recipients: map[string]*seal.Recipient{aud: recipient},
		Now: func() time.Time { return now }, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := rules.Compile(); err != nil {
		t.Fatal(err)
	}
	im, err := source.New(m, rules.Columns(), box.Fits)
	if err != nil {
		t.Fatal(err)
	}
	return &bench{box, db, im, Enclave{aud, "GOV-1", &rules}}
}

func (b *bench) read(t testing.TB, text string) *source.Snapshot {
	t.Helper()
	s, err := b.im.Read("export.csv", source.CSV, strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (b *bench) plan(t testing.TB, text string, o Options) *Plan {
	t.Helper()
	p, err := Make(ctx, b.Box, b.e, b.read(t, text), o, now)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func (b *bench) take(t testing.TB, text string, o Options) *Plan {
	t.Helper()
	p := b.plan(t, text, o)
	res, err := p.Do(ctx, b.Box, now, nil)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, c := range p.Changes {
		n += len(c.Kinds)
	}
	if len(res.Sent) != n || len(res.Skipped) != 0 {
		t.Fatalf("planned %d events, said %d, skipped %v", n, len(res.Sent), res.Skipped)
	}
	return p
}

func said(p *Plan) string {
	var out []string
	for _, c := range p.Changes {
		for _, k := range c.Kinds {
			out = append(out, c.Subject+" "+string(k))
		}
	}
	return strings.Join(out, ", ")
}

func simple() source.Mapping {
	return source.Mapping{
		Subject: "id", Manager: "manager", Person: source.Person{DisplayName: "name", Department: "dept"},
		Status: &source.StatusColumn{Column: "status", Active: []config.Text{"a"}, Inactive: []config.Text{"i"}},
		Leave:  &source.LeaveColumn{Column: "leave", OnLeave: []config.Text{"y"}, Present: []config.Text{"n"}},
	}
}

func security() scope.Rules {
	return scope.Rules{In: []scope.Rule{{When: []source.Condition{{Column: "dept", In: []config.Text{"sec"}}}}}}
}

const header = "id,name,dept,status,leave,manager\n"

func TestTheWayOfAPerson(t *testing.T) {
	b := setup(t, simple(), security())
	for _, step := range []struct{ rows, want string }{
		{"1,A,sec,a,n,\n2,B,sec,a,n,1\n3,C,sales,a,n,\n4,D,sec,i,n,\n", "1 joiner, 2 joiner"},
		{"1,A,sec,a,n,\n2,B,sec,a,n,1\n3,C,sales,a,n,\n4,D,sec,i,n,\n", ""},
		{"2,B,sec,a,n,1\n", ""},                               // absence says nothing
		{"1,A,sec,a,n,3\n2,BB,sec,a,n,1\n", "2 mover"},        // 3 does not cross, so is not named
		{"1,A,sec,a,n,\n1,AA,sec,i,n,\n2,BB,sec,a,n,1\n", ""}, // contradiction
		{"1,A,sec,?,n,\n2,BB,sec,a,n,1\n", ""},                // refused
		{"2,BB,sec,a,y,1\n1,A,sec,i,n,\n", "2 suspend, 1 leaver"},
		{"1,A,sec,i,n,\n2,BB,sec,a,n,1\n", "2 resume"},
		{"1,A,sec,a,n,\n2,BB,sales,a,n,1\n", "2 leaver, 1 joiner"}, // out of scope; hired again
		{"1,A,sec,a,n,\n2,BB,sec,a,n,1\n", "2 joiner"},
	} {
		if p := b.take(t, header+step.rows, Options{Limits: Limits{Transfers: Limit{Count: 5}, Rehires: Limit{Count: 5}}}); said(p) != step.want {
			t.Errorf("%q:\nwant %q\ngot  %q", step.rows, step.want, said(p))
		}
	}
}

func TestAbsence(t *testing.T) {
	b := setup(t, simple(), security())
	rows := header
	for i := range 20 {
		rows += fmt.Sprintf("%d,P,sec,a,n,\n", i)
	}
	b.take(t, rows, Options{})
	two := strings.Replace(strings.Replace(rows, "3,P,sec,a,n,\n", "", 1), "\n4,P,sec,a,n,\n", "\n", 1)
	limits := Limits{Absences: Limit{Count: 1}}
	for _, c := range []struct {
		name, file, want string
		o                Options
		held             int
	}{
		{"not complete", two, "", Options{Limits: limits}, 0},
		{"complete, past the limit", two, "", Options{Complete: true, Limits: limits}, 2},
		{"a row without an id", two + ",P,sec,a,n,\n", "", Options{Complete: true, AllowAbsences: 9, Limits: limits}, 2},
		{"inside the share", two, "3 leaver, 4 leaver", Options{Complete: true, Limits: Limits{Absences: Limit{Share: 0.1}}}, 0},
		{"allowed by number", two, "3 leaver, 4 leaver", Options{Complete: true, AllowAbsences: 2, Limits: limits}, 0},
		{"allowed a smaller number", two, "", Options{Complete: true, AllowAbsences: 1, Limits: limits}, 2},
		{"held rows are no absence", strings.Replace(rows, "7,P,", "7,P,sec,a,n,\n7,Q,", 1), "", Options{Complete: true, Limits: Limits{Absences: Limit{Share: 1}}}, 0},
		{"refused rows are no absence", strings.Replace(rows, "7,P,sec,a", "7,P,sec,?", 1), "", Options{Complete: true, Limits: Limits{Absences: Limit{Share: 1}}}, 0},
	} {
		p := b.plan(t, c.file, c.o)
		held := 0
		for _, h := range p.HeldBack {
			held += h.Count
		}
		if said(p) != c.want || held != c.held {
			t.Errorf("%s: want %q with %d held, got %q with %d", c.name, c.want, c.held, said(p), held)
		}
	}
}

// A file that is said to be complete and has nobody in it, or nobody of those who are live, is refused
// whatever the limits say, and nothing is done.
func TestACompleteFileWithoutAnyone(t *testing.T) {
	b := setup(t, simple(), security())
	three := header + "1,A,sec,a,n,\n2,B,sec,a,n,\n3,C,sec,a,n,\n"
	generous := Options{Complete: true, AllowAbsences: 99, Limits: Limits{Absences: Limit{Count: 99, Share: 1}}}
	refused := func(file, want string) {
		t.Helper()
		_, err := Make(ctx, b.Box, b.e, b.read(t, file), generous, now)
		var absurd *AbsurdError
		if !errors.As(err, &absurd) || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: want %q, got %v", file, want, err)
		}
	}
	refused(header, "no row of it was accepted")
	b.take(t, three, Options{})
	refused(header, "no row of it was accepted, and 3 people are live")
	refused(header+"1,A,sec,?,n,\n", "no row of it was accepted")
	refused(header+"7,A,sales,a,n,\n8,B,sec,i,n,\n9,C,sec,a,n,\n", "not one of the 3 people")
	if p := b.plan(t, header+"1,A,sec,a,n,\n", generous); said(p) != "2 leaver, 3 leaver" {
		t.Errorf("one is there: %q", said(p))
	}
	// Nor does a count let everyone leave by the scope; a share, or the operator's number, does.
	gone := strings.ReplaceAll(three, "sec", "sales")
	if p := b.plan(t, gone, Options{Limits: Limits{Transfers: Limit{Count: 20, Share: 0.1}}}); said(p) != "" || len(p.HeldBack) != 1 || p.HeldBack[0].Count != 3 {
		t.Errorf("all by count: %q %+v", said(p), p.HeldBack)
	}
	if p := b.plan(t, gone, Options{AllowTransfers: 3}); len(p.Changes) != 3 {
		t.Errorf("all by the operator's number: %q", said(p))
	}
}

func TestScopeChangeIsLimited(t *testing.T) {
	b := setup(t, simple(), security())
	rows := header
	for i := range 20 {
		rows += fmt.Sprintf("%d,P,sec,a,n,\n", i)
	}
	b.take(t, rows, Options{})
	nobody := scope.Rules{In: []scope.Rule{{When: []source.Condition{{Column: "dept", In: []config.Text{"security"}}}}}}
	b.e.Scope = &nobody
	moved := strings.Replace(rows, "\n5,P,sec,a", "\n5,P,sec,i", 1)
	o := Options{Limits: Limits{Transfers: Limit{Count: 3, Share: 0.1}}}
	p := b.plan(t, moved, o)
	if said(p) != "5 leaver" || len(p.HeldBack) != 1 || p.HeldBack[0].Count != 19 || p.HeldBack[0].What != "transfers" {
		t.Errorf("got %q, %+v", said(p), p.HeldBack)
	}
	o.AllowTransfers = 19
	if p := b.plan(t, moved, o); len(p.Changes) != 20 {
		t.Errorf("allowed by number: %d", len(p.Changes))
	}
}

// Half of the people are out of the scope and the other half is absent: each number is inside its count, and both together
// are everybody.
func TestNotEverybodyLeavesByTwoCounts(t *testing.T) {
	b := setup(t, simple(), security())
	rows, half := header, header
	for i := range 10 {
		rows += fmt.Sprintf("%d,P,sec,a,n,\n", i)
		if i < 5 {
			half += fmt.Sprintf("%d,P,sales,a,n,\n", i)
		}
	}
	b.take(t, rows, Options{})
	o := Options{Complete: true, Limits: Limits{Absences: Limit{Count: 5}, Transfers: Limit{Count: 20}}}
	if p := b.plan(t, half, o); len(p.Changes) != 0 || len(p.HeldBack) != 2 {
		t.Errorf("got %q, %+v", said(p), p.HeldBack)
	}
	if p := b.plan(t, half+"9,P,sec,a,n,\n", o); len(p.Changes) != 9 {
		t.Errorf("with one who stays: %q, %+v", said(p), p.HeldBack)
	}
}

// An older export: whoever left since is in it as active. Nobody comes back by it.
func TestAnOlderExport(t *testing.T) {
	m := simple()
	m.Start = "first"
	m.Dates = source.Dates{Formats: []string{"YYYY-MM-DD"}, Zone: "UTC"}
	const header = "id,name,dept,status,leave,manager,first\n"
	for _, first := range []string{"", "2020-01-01"} {
		b := setup(t, m, security())
		older, newer := header, header
		for i := range 12 {
			older += fmt.Sprintf("%d,P,sec,a,n,,%s\n", i, first)
			newer += fmt.Sprintf("%d,P,sec,%s,n,,%s\n", i, map[bool]string{true: "i", false: "a"}[i < 6], first)
		}
		o := Options{Limits: Limits{Rehires: Limit{Count: 5, Share: 0.5}}}
		b.take(t, older, o)
		b.take(t, newer, o)
		p := b.take(t, older, o)
		if said(p) != "" {
			t.Errorf("first day %q: %s", first, said(p))
		}
		if first != "" {
			if len(p.Held) != 6 || p.Held[0].Lines[0] != 2 || !strings.Contains(p.Held[0].Reason, "first day 2020-01-01T00:00:00Z, but announced as a leaver as of 2026-03-02T12:00:00Z") {
				t.Errorf("held %+v", p.Held)
			}
			continue
		}
		if len(p.HeldBack) != 1 || p.HeldBack[0].What != "rehires" || p.HeldBack[0].Count != 6 || p.HeldBack[0].Flag != "--allow-rehires" {
			t.Errorf("held back %+v", p.HeldBack)
		}
		o.AllowRehires = 5
		if p := b.plan(t, older, o); said(p) != "" {
			t.Errorf("allowed a smaller number: %s", said(p))
		}
		o.AllowRehires = 6
		if p := b.take(t, older, o); len(p.Changes) != 6 {
			t.Errorf("allowed by number: %s", said(p))
		}
	}
}

// Whoever an operator changed between plan and execution is left alone.
func TestSomeoneElseWasFaster(t *testing.T) {
	b := setup(t, simple(), security())
	b.take(t, header+"1,A,sec,a,n,\n", Options{})
	p := b.plan(t, header+"1,AA,sec,a,n,\n2,B,sec,a,n,\n", Options{})
	leaver := &schema.Leaver{Effective: schema.At(now), Reason: "other"}
	_, err := b.Update(ctx, aud, []string{"1"}, func(_ string, last register.State) (register.Decision, error) {
		return register.Emit(last, register.Said{Event: leaver}, now)
	})
	if err != nil {
		t.Fatal(err)
	}
	res, err := p.Do(ctx, b.Box, now, nil)
	if err != nil || len(res.Sent) != 1 || !slices.Equal(res.Skipped, []string{"1"}) {
		t.Errorf("%+v %v", res, err)
	}
}

// Whom another command changed between plan and execution leaves all the same, with or without a row: it is a cut of the same engagement.
func TestSomeoneElseWasFasterThanALeaver(t *testing.T) {
	b := setup(t, simple(), security())
	b.take(t, header+"1,A,sec,a,n,\n2,B,sec,a,n,\n3,C,sec,a,n,\n4,D,sec,a,n,\n5,E,sec,a,n,\n", Options{})
	o := Options{Complete: true, Limits: Limits{Absences: Limit{Count: 9}, Transfers: Limit{Count: 9}}}
	p := b.plan(t, header+"1,A,sec,i,n,\n2,B,sales,a,n,\n4,D,sec,i,n,\n5,E,sec,a,n,\n", o)
	for subject, e := range map[string]schema.Event{
		"1": &schema.Suspend{Effective: schema.At(now), Reason: "other"}, "2": &schema.Suspend{Effective: schema.At(now), Reason: "other"},
		"3": &schema.Suspend{Effective: schema.At(now), Reason: "other"}, "4": &schema.Joiner{Engagement: 2, Person: schema.Person{DisplayName: "D"}, Roles: []string{}, Start: schema.At(now)},
	} {
		_, err := b.Update(ctx, aud, []string{subject}, func(_ string, last register.State) (register.Decision, error) {
			return register.Emit(last, register.Said{Event: e}, now)
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	res, err := p.Do(ctx, b.Box, now, nil)
	if err != nil || len(res.Sent) != 3 || !slices.Equal(res.Skipped, []string{"4"}) { // 4 was hired again
		t.Errorf("%+v %v", res, err)
	}
}

// Whatever files come: the same file again says nothing, and no leaver comes of absent, refused or held
// rows.
func TestImportIsIdempotent(t *testing.T) {
	b := setup(t, simple(), security())
	rapid.Check(t, func(rt *rapid.T) {
		text := header
		stated := map[string]bool{}
		pick := func(what string, from ...string) string { return rapid.SampledFrom(from).Draw(rt, what) }
		for range rapid.IntRange(1, 12).Draw(rt, "rows") {
			id, dept, status := pick("id", "1", "2", "3", "4", "5", "6"), pick("dept", "sec", "sec", "sales"), pick("status", "a", "a", "i", "?")
			if status == "i" || dept == "sales" {
				stated[id] = true
			}
			text += fmt.Sprintf("%s,%s,%s,%s,%s,%s\n", id, pick("name", "A", "B"), dept, status, pick("leave", "n", "y", "!"), pick("manager", "", "1", "9"))
		}
		o := Options{Limits: Limits{Transfers: Limit{Share: 1}, Rehires: Limit{Count: 6}}}
		for _, c := range b.take(t, text, o).Changes {
			if slices.Contains(c.Kinds, schema.KindLeaver) && !stated[c.Subject] {
				rt.Fatalf("%s: a leaver that no row states", c.Subject)
			}
		}
		if again := b.take(t, text, o); len(again.Changes) != 0 {
			rt.Fatalf("the same file again says %s", said(again))
		}
	})
}

// Of somebody who left after a restore one row in scope is enough, in whatever order the rows stand.
func TestRowsOfALeaverThatDifferInScope(t *testing.T) {
	b := setup(t, simple(), security())
	b.take(t, header+"1,A,sec,a,n,\n", Options{})
	if _, _, err := b.Recover(ctx, 0, func(int) []entry.Body { return nil }); err != nil {
		t.Fatal(err)
	}
	for _, rows := range []string{"2,B,sales,i,n,\n2,B,sec,i,n,\n", "2,B,sec,i,n,\n2,B,sales,i,n,\n", "2,B,sales,i,n,\n2,B,ir,i,n,\n2,B,sec,i,n,\n"} {
		if p := b.plan(t, header+"1,A,sec,a,n,\n"+rows, Options{}); said(p) != "2 leaver" {
			t.Errorf("%q: %q, %v", rows, said(p), p.Cases)
		}
	}
	if p := b.plan(t, header+"1,A,sec,a,n,\n2,B,sales,i,n,\n2,B,ir,i,n,\n", Options{}); said(p) != "" {
		t.Errorf("none of them in scope: %q", said(p))
	}
}

// An id in another case, or that lost its leading zeros in a spreadsheet, is no stranger's: what the row says would be lost
// on one, or make a second account. It is held, and that nothing is known of the live person is told.
func TestAnIDInAnotherSpelling(t *testing.T) {
	b := setup(t, simple(), security())
	b.take(t, header+"E500,A,sec,a,n,\n00501,B,sec,a,n,\n7,C,sec,a,n,\n", Options{})
	for _, c := range []struct {
		name, rows, want string
		held             int
		unread           []string
		o                Options
	}{
		{"leaving", "e500,A,sec,i,n,\n501,B,sec,i,n,\n7,C,sec,a,n,\n", "", 2, []string{"00501", "E500"}, Options{}},
		{"of numbers", "'00501,B,sec,a,n,\n7.0,C,sec,i,n,\n", "", 2, []string{"00501", "7"}, Options{}},
		{"active", "e500,A,sec,a,n,\n501,B,sec,a,n,\n7,C,sec,a,n,\n", "", 2, []string{"00501", "E500"}, Options{}},
		{"in a complete file", "e500,A,sec,a,n,\n501,B,sec,a,n,\n7,C,sec,a,n,\n", "", 2, []string{"00501", "E500"}, Options{Complete: true, Limits: Limits{Absences: Limit{Count: 5}}}},
		{"two people", "E500,A,sec,a,n,\ne500,X,sec,a,n,\n00501,B,sec,i,n,\n7,C,sec,a,n,\n", "00501 leaver, e500 joiner", 0, nil, Options{}},
		{"a stranger", "e5000,X,sec,a,n,\n7,C,sec,i,n,\n", "7 leaver, e5000 joiner", 0, nil, Options{}},
	} {
		if p := b.plan(t, header+c.rows, c.o); said(p) != c.want || len(p.Held) != c.held || !slices.Equal(p.Unread, c.unread) {
			t.Errorf("%s: want %q, %d held and %v unread, got %q, %+v and %v", c.name, c.want, c.held, c.unread, said(p), p.Held, p.Unread)
		}
	}
	b.take(t, header+"E500,A,sec,i,n,\n", Options{})
	for rows, held := range map[string]int{"e500,A,sec,a,n,\n": 1, "e500,A,sec,i,n,\n": 0, "e500,A,sales,a,n,\n": 0} {
		if p := b.plan(t, header+rows, Options{}); said(p) != "" || len(p.Held) != held || len(p.Unread) > 0 {
			t.Errorf("%q, where whoever has the other spelling has left: %q, held %+v, unread %v", rows, said(p), p.Held, p.Unread)
		}
	}
}

// Two people whose ids differ in spelling alone may stand in two files: what the reason names leaves the live one alone.
func TestAnIDInAnotherSpellingOfSomebodyElse(t *testing.T) {
	b := setup(t, simple(), security())
	b.take(t, header+"501,A,sec,a,n,\n", Options{})
	const other = header + "00501,B,sec,a,n,\n"
	if p := b.plan(t, other, Options{}); said(p) != "" || len(p.Held) != 1 || !strings.Contains(p.Held[0].Reason, "emit the joiner of 00501") {
		t.Fatalf("%q %+v", said(p), p.Held)
	}
	_, err := b.Update(ctx, aud, []string{"00501"}, func(_ string, last register.State) (register.Decision, error) {
		return register.Emit(last, register.Said{Event: &schema.Joiner{Person: schema.Person{DisplayName: "B", Department: "sec"}, Roles: []string{}, Start: schema.At(now)}}, now)
	})
	if err != nil {
		t.Fatal(err)
	}
	if p := b.plan(t, other, Options{}); len(p.Held) != 0 || len(p.Unread) != 0 {
		t.Errorf("%+v, %v", p.Held, p.Unread)
	}
	if p := b.plan(t, header+"501,A,sec,i,n,\n", Options{}); said(p) != "501 leaver" {
		t.Errorf("the live one: %q", said(p))
	}
}
