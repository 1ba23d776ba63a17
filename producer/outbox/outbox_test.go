package outbox

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	"pgregory.net/rapid"

	"jmlbridge/internal/ledger"
	"jmlbridge/internal/ledger/entry"
	"jmlbridge/internal/queue"
	"jmlbridge/internal/store"
	"jmlbridge/producer/register"
	"jmlbridge/schema"
)

var ctx = context.Background()

func TestChainPerEnclave(t *testing.T) {
	b := setup(t)
	var subjects []string
	for i := range 3*chunk + 7 { // several chunks in one transaction
		subjects = append(subjects, fmt.Sprintf("E%04d", i))
	}
	sent := b.joins(t, gov1, subjects...)
	if len(sent) != len(subjects) || sent[len(sent)-1].Seq != uint64(len(subjects)) {
		t.Fatalf("sent %d", len(sent))
	}
	b.joins(t, gov2, "E0001")
	b.leave(t, gov1, "E0001")
	var m1, m2 midpoint
	b.drain(t, gov1, &m1)
	b.drain(t, gov2, &m2)
	sets := b.chainOf(t, gov1, m1.messages())
	if len(sets) != len(subjects)+1 || sets[len(sets)-1].Event.Kind() != schema.KindLeaver {
		t.Errorf("%d messages", len(sets))
	}
	if got := b.chainOf(t, gov2, m2.messages()); len(got) != 1 || got[0].Stream.Seq != 1 {
		t.Errorf("the chains are not apart: %v", kinds(got))
	}
}

// The ledger names every message that was stored, by the digests of what is published.
func TestLedgerNamesEveryMessage(t *testing.T) {
	b := setup(t)
	b.joins(t, gov1, "1", "2")
	b.leave(t, gov1, "2")
	var m midpoint
	b.drain(t, gov1, &m)
	wires := map[schema.Digest]bool{}
	for _, msg := range m.messages() {
		wires[schema.DigestOf(msg.Body)] = true
	}
	n := 0
	for e, err := range ledger.Entries(ctx, b.db, 0) {
		if err != nil {
			t.Fatal(err)
		}
		if s, ok := e.Entry.Body.(*entry.Sent); ok {
			n++
			if !wires[s.Wire] || s.Audience != gov1 || s.Seq != uint64(n) || s.Engagement != 1 {
				t.Errorf("entry %+v", s)
			}
		}
	}
	if n != 3 {
		t.Errorf("want 3 entries, got %d", n)
	}
}

// Whatever fails inside a transaction leaves register, chain, outbox and ledger as they were; and when
// it was kept although an error came, deciding again says nothing new.
func TestAllOrNothing(t *testing.T) {
	b := setup(t)
	b.joins(t, gov1, "1")
	before := b.snapshot(t)
	boom := errors.New("boom")
	twice := b.emit(&schema.Joiner{Person: schema.Person{DisplayName: "A"}, Roles: []string{}, Start: schema.At(b.clock.now())})
	for name, fail := range map[string]func() error{
		"decide fails late": func() error {
			n := 0
			_, err := b.Update(ctx, gov1, []string{"2", "3"}, func(s string, last register.State) (register.Decision, error) {
				if n++; n == 2 {
					return register.Decision{}, boom
				}
				return twice(s, last)
			})
			return err
		},
		"signing fails midway": func() error {
			b.key.n = 2
			_, err := b.Update(ctx, gov1, []string{"2", "3", "4"}, twice)
			return err
		},
		"an event cannot be sent": func() error {
			_, err := b.Update(ctx, gov1, []string{"2", "3 with space"}, twice)
			return err
		},
		"the last statement fails": func() error {
			_, err := b.update(ctx, gov1, []string{"2", "3"}, twice, func(*store.Tx) error { return boom })
			return err
		},
		"an unknown enclave": func() error {
			_, err := b.Update(ctx, "urn:nobody", []string{"2"}, twice)
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			if fail() == nil {
				t.Fatal("want an error")
			}
			if after := b.snapshot(t); after != before {
				t.Errorf("something happened:\n%s\n%s", before, after)
			}
		})
	}
	join := func(_ string, last register.State) (register.Decision, error) {
		if last.Status != "" {
			return register.Decision{Cases: []register.Case{register.Unchanged}, Next: last}, nil
		}
		return twice("", last)
	}
	b.key.n = 0
	if sent, err := b.Update(ctx, gov1, []string{"2"}, join); err != nil || len(sent) != 1 {
		t.Fatal(sent, err)
	}
	kept := b.snapshot(t)
	// The answer to that was lost: the caller decides again.
	if sent, err := b.Update(ctx, gov1, []string{"2"}, join); err != nil || len(sent) != 0 || b.snapshot(t) != kept {
		t.Errorf("said twice: %v %v", sent, err)
	}
}

// snapshot is everything that counts in the database, in text.
func (b *bench) snapshot(t testing.TB) string {
	t.Helper()
	var out strings.Builder
	for _, q := range []string{
		"SELECT aud || generation || ':' || seq || hex(head) FROM chain ORDER BY ref", "SELECT subject || doc FROM person ORDER BY chain, subject",
		"SELECT jti || seq FROM outbox ORDER BY id", "SELECT id || hex(body) FROM wire ORDER BY id", "SELECT size || hex(hashes) FROM ledger_frontier",
		"SELECT seq || subject FROM cut ORDER BY chain, seq",
	} {
		rows, err := b.db.Read().Query(q)
		if err != nil {
			t.Fatal(err)
		}
		for rows.Next() {
			var s string
			if err := rows.Scan(&s); err != nil {
				t.Fatal(err)
			}
			out.WriteString(s + "\n")
		}
		if err := rows.Err(); err != nil {
			t.Fatal(err)
		}
	}
	return out.String()
}

// However the queue fails, what arrives is one chain in order, and a message always has the same octets.
func TestRelayNeverLosesAndNeverRenumbers(t *testing.T) {
	b := setup(t)
	var all []queue.Message
	people := 0
	rapid.Check(t, func(rt *rapid.T) {
		m := &midpoint{}
		m.answer = func(n int) (int, int, error) {
			switch rapid.IntRange(0, 4).Draw(rt, "fault") {
			case 0: // lost
				return 0, 0, queue.ErrUnreachable
			case 1: // done, but the answer was lost
				return 0, n, queue.ErrUnreachable
			case 2: // full after a part
				k := rapid.IntRange(0, n-1).Draw(rt, "room")
				return k, k, queue.ErrFull
			}
			return n, n, nil
		}
		for range rapid.IntRange(1, 5).Draw(rt, "people") {
			people++
			b.joins(t, gov2, fmt.Sprint("S", people))
		}
		r := b.relay(t, gov2, m)
		var err error
		for n := -1; n != 0 || err != nil; {
			if n, err = r.step(ctx); errors.As(err, new(*databaseError)) {
				rt.Fatal(err)
			}
		}
		all = append(all, m.messages()...)
	})
	sets := b.chainOf(t, gov2, all)
	var seq int64
	if err := b.db.Read().QueryRow("SELECT seq FROM chain WHERE aud = ?", gov2).Scan(&seq); err != nil || int64(len(sets)) != seq {
		t.Errorf("%d of %d arrived, %v", len(sets), seq, err)
	}
}

// A crash between publishing and marking publishes the same id and octets again.
func TestCrashBeforeMark(t *testing.T) {
	b := setup(t)
	b.joins(t, gov1, "1", "2")
	m := &midpoint{}
	r := b.relay(t, gov1, m)
	l := r.look(ctx, 0)
	if l.err != nil {
		t.Fatal(l.err)
	}
	for _, w := range l.batch {
		m.got = append(m.got, w.msg) // published; the process dies here
	}
	if err := b.db.Close(); err != nil {
		t.Fatal(err)
	}
	b.open(t)
	b.joins(t, gov1, "3")
	b.drain(t, gov1, m)
	got := m.messages()
	if len(got) != 5 || got[0].ID != got[2].ID || !slices.Equal(got[0].Body, got[2].Body) {
		t.Errorf("%d messages", len(got))
	}
	if sets := b.chainOf(t, gov1, got); len(sets) != 3 {
		t.Errorf("%d different messages", len(sets))
	}
}

// Run as the program does: messages that another writer stores are relayed while the relay runs, and it
// ends when it is told.
func TestRelayNoticesNewMessages(t *testing.T) {
	b := setup(t)
	m := &midpoint{came: make(chan struct{}, 1)}
	run, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- b.Relay(run, gov1, m) }()
	b.joins(t, gov1, "1")
	<-m.came
	b.leave(t, gov1, "1")
	<-m.came
	stop()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("ended with %v", err)
	}
	if sets := b.chainOf(t, gov1, m.messages()); !slices.Equal(kinds(sets), []schema.Kind{schema.KindJoiner, schema.KindLeaver}) {
		t.Errorf("%v", kinds(sets))
	}
}

// A queue that is dead only lengthens the outbox: the relay comes back by itself.
func TestRelayOutlastsAnOutage(t *testing.T) {
	b := setup(t)
	m := &midpoint{came: make(chan struct{}, 1)}
	tries := 0
	m.answer = func(n int) (int, int, error) {
		if tries++; tries <= 2 {
			return 0, 0, queue.ErrUnreachable
		}
		return n, n, nil
	}
	b.joins(t, gov1, "1")
	run, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- b.Relay(run, gov1, m) }()
	<-m.came
	b.joins(t, gov1, "2")
	for len(m.messages()) < 2 {
		<-m.came
	}
	stop()
	<-ended
	if sets := b.chainOf(t, gov1, m.messages()); len(sets) != 2 || tries < 3 {
		t.Errorf("%d messages after %d tries", len(sets), tries)
	}
	all, err := StatusOf(ctx, b.db, b.clock.now())
	if err != nil || all[0].Waiting != 0 || all[0].LastSent == nil {
		t.Errorf("%+v, %v", all, err)
	}
}

func TestClockThatWentBack(t *testing.T) {
	b := setup(t)
	first := b.joins(t, gov1, "1")
	b.clock.pass(-time.Minute)
	second := b.joins(t, gov1, "2")
	if second[0].Issued != first[0].Issued {
		t.Errorf("iat went from %s to %s", first[0].Issued, second[0].Issued)
	}
	if sent, err := b.Heartbeat(ctx, gov1, time.Minute); err != nil || len(sent) != 1 {
		t.Fatalf("heartbeat: %v, %v", sent, err)
	}
	if sent, err := b.Roster(ctx, gov1, 24*time.Hour); err != nil || len(sent) != 1 {
		t.Fatalf("roster: %v, %v", sent, err)
	}
	b.drain(t, gov1, &midpoint{})
	b.clock.pass(-time.Hour)
	_, err := b.Update(ctx, gov1, []string{"3"}, b.emit(&schema.Joiner{Person: schema.Person{DisplayName: "A"}, Start: schema.At(b.clock.now())}))
	var ce *ClockError
	if !errors.As(err, &ce) {
		t.Errorf("want a *ClockError, got %v", err)
	}
	// Nor do heartbeats and rosters stay out without a word.
	if _, err := b.Heartbeat(ctx, gov1, time.Minute); !errors.As(err, &ce) {
		t.Errorf("heartbeat: want a *ClockError, got %v", err)
	}
	if _, err := b.Roster(ctx, gov1, 24*time.Hour); !errors.As(err, &ce) {
		t.Errorf("roster: want a *ClockError, got %v", err)
	}
	// When it was the clock of then that was wrong, a new generation is the way on.
	if _, _, err := b.Recover(ctx, 0, func(int) []entry.Body { return nil }); err != nil {
		t.Fatal(err)
	}
	if sent := b.joins(t, gov1, "3"); sent[0].Issued != schema.At(b.clock.now()) {
		t.Errorf("issued %s", sent[0].Issued)
	}
	b.clock.pass(time.Minute)
	if sent, err := b.Heartbeat(ctx, gov1, time.Minute); err != nil || len(sent) != 1 {
		t.Errorf("heartbeat in the new generation: %v, %v", sent, err)
	}
}

func TestNewRefusesAnotherProducersDatabase(t *testing.T) {
	b := setup(t)
	c := b.c
	c.Issuer = "https://other.example"
	if _, err := New(b.db, c); err == nil || !strings.Contains(err.Error(), "set it back") {
		t.Errorf("got %v", err)
	}
}

func TestAddEnclave(t *testing.T) {
	b := setup(t)
	if err := AddEnclave(ctx, b.db, gov1, b.clock.now()); err == nil {
		t.Error("a second chain for one enclave")
	}
	if err := AddEnclave(ctx, b.db, "urn:jmlbridge:enclave:gov-3", b.clock.now()); err != nil {
		t.Error(err)
	}
	all, err := StatusOf(ctx, b.db, b.clock.now())
	if err != nil || len(all) != 3 || all[2].Generation != 1 || all[2].Seq != 0 {
		t.Errorf("%+v, %v", all, err)
	}
}

// Several processes write at the same time: numbers have no holes and none is given twice.
func TestWritersBesideEachOther(t *testing.T) {
	b := setup(t)
	var g errgroup.Group
	for w := range 4 {
		db, err := store.Open(b.path, Schema) // a process of its own, as far as SQLite is concerned
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = db.Close() })
		box, err := New(db, b.c)
		if err != nil {
			t.Fatal(err)
		}
		join := b.emit(&schema.Joiner{Person: schema.Person{DisplayName: "A"}, Roles: []string{}, Start: schema.At(b.clock.now())})
		g.Go(func() error {
			for i := range 25 {
				if _, err := box.Update(ctx, gov1, []string{fmt.Sprint(w, "-", i), fmt.Sprint(w, "+", i)}, join); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	var m midpoint
	b.drain(t, gov1, &m)
	if sets := b.chainOf(t, gov1, m.messages()); len(sets) != 200 {
		t.Errorf("%d messages", len(sets))
	}
}

// What stands elsewhere is of everybody of whom an operator said something to any enclave: also a suspension that an older program
// stored, of somebody who has left that scope since.
func TestElsewhere(t *testing.T) {
	b := setup(t)
	at := schema.At(b.clock.now())
	keep := func(aud, subject string, s register.State) {
		t.Helper()
		_, err := b.Update(ctx, aud, []string{subject}, func(string, register.State) (register.Decision, error) {
			return register.Decision{Cases: []register.Case{register.Unchanged}, Next: s}, nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	keep(gov1, "1", register.State{Engagement: 1, Status: register.Closed, By: register.File, Since: at, Barred: &at})
	keep(gov1, "2", register.State{Engagement: 1, Status: register.Active, By: register.File, Since: at})
	keep(gov1, "3", register.State{Engagement: 1, Status: register.Active, By: register.File, Since: at})
	keep(gov2, "3", register.State{Engagement: 1, Status: register.Closed, By: register.Operator, Since: at, SaidEnd: at})
	words, err := b.Elsewhere(ctx, gov2)
	if err != nil || len(words) != 2 || len(words["1"]) != 1 || len(words["3"]) != 1 || words["1"][0].Audience != gov1 {
		t.Errorf("%+v, %v", words, err)
	}
}
