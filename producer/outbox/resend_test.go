package outbox

import (
	"errors"
	"strings"
	"testing"
	"time"

	"jmlbridge/internal/envelope"
	"jmlbridge/internal/ledger"
	"jmlbridge/internal/ledger/entry"
	"jmlbridge/internal/queue/memqueue"
	"jmlbridge/internal/store"
	"jmlbridge/schema"
)

func resendNote(r *Resent) entry.Body {
	return &entry.Operator{By: "op", Action: "resend", Reason: "purged"}
}

func (b *bench) resend(t *testing.T, from, to uint64) *Resent {
	t.Helper()
	r, err := b.Resend(ctx, gov1, from, to, resendNote)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// arrive takes n messages off the queue, as an enclave would, and returns their numbers.
func (b *bench) arrive(t *testing.T, q *memqueue.Queue, n int, heads map[uint64]schema.Position, digests map[uint64]schema.Digest) (seqs []uint64) {
	t.Helper()
	r := q.Receiver()
	defer r.Close()
	for len(seqs) < n {
		batch, err := r.Fetch(ctx, n)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range batch {
			o, err := envelope.Open(d.Body, b.ring, b.trust)
			if err != nil {
				t.Fatal(err)
			}
			s, err := schema.Decode(o.Payload)
			if err != nil {
				t.Fatal(err)
			}
			if was, ok := digests[s.Stream.Seq]; ok && was != o.PayloadDigest {
				t.Errorf("seq %d came with other octets", s.Stream.Seq)
			}
			heads[s.Stream.Seq], digests[s.Stream.Seq] = s.Stream, o.PayloadDigest
			seqs = append(seqs, s.Stream.Seq)
		}
		if err := r.Settle(ctx, batch); err != nil {
			t.Fatal(err)
		}
	}
	return seqs
}

// The mid-point confirms messages and loses them while its duplicate window still knows their ids: sent
// again, they arrive, and the chain has no hole. One relay does all of it, as in a producer that runs on.
func TestResendClosesTheGap(t *testing.T) {
	b := setup(t)
	q := memqueue.New(memqueue.Options{Window: time.Hour})
	r := b.relay(t, gov1, nil)
	r.to = q.Publisher()
	drain := func() {
		t.Helper()
		for n := -1; n != 0; {
			var err error
			if n, err = r.step(ctx); err != nil {
				t.Fatal(err)
			}
		}
	}
	b.joins(t, gov1, "1", "2", "3", "4", "5")
	drain()
	lost := map[uint64]schema.Position{}
	digests := map[uint64]schema.Digest{}
	b.arrive(t, q, 5, lost, digests) // the enclave never hears of these; that they come again with the same octets is checked
	b.leave(t, gov1, "2")
	drain()

	// Published again under its first id, a message would be taken for a repetition.
	if err := b.unsend(); err != nil {
		t.Fatal(err)
	}
	r.after = 0
	drain()
	if q.Len() != 1 {
		t.Fatalf("want the leaver alone on the queue, got %d messages", q.Len())
	}

	if got := b.resend(t, 2, 4); got.Again != 3 || got.Waiting != 0 || got.To != 4 {
		t.Errorf("%+v", got)
	}
	if got := b.resend(t, 4, 4); got.Again != 0 || got.Waiting != 1 {
		t.Errorf("what waits anyway is not counted twice: %+v", got)
	}
	drain()
	if got := b.resend(t, 1, 0); got.Again != 6 || got.To != 6 { // twice: other ids again
		t.Errorf("%+v", got)
	}
	b.joins(t, gov1, "6") // new messages go with them
	drain()
	chain := map[uint64]schema.Position{}
	if seqs := b.arrive(t, q, 1+3+6+1, chain, digests); len(seqs) != 11 || seqs[0] != 6 || seqs[1] != 2 || seqs[10] != 7 {
		t.Errorf("order: %v", seqs)
	}
	for seq := uint64(1); seq <= 7; seq++ {
		prev := schema.Digest{}
		if seq > 1 {
			prev = digests[seq-1]
		}
		if p, ok := chain[seq]; !ok || p.Prev != prev {
			t.Errorf("seq %d: arrived %v, in its place %v", seq, ok, p.Prev == prev)
		}
	}
	acts := 0
	for e, err := range ledger.Entries(ctx, b.db, 0) {
		if err != nil {
			t.Fatal(err)
		}
		if o, ok := e.Entry.Body.(*entry.Operator); ok && o.Action == "resend" {
			acts++
		}
	}
	if acts != 3 {
		t.Errorf("want 3 acts on the ledger, got %d", acts)
	}
}

// While a batch is on its way an operator adds a neighbour: marking the batch does not mark it.
func TestResendBesideTheRelay(t *testing.T) {
	b := setup(t)
	m := &midpoint{}
	b.joins(t, gov1, "1", "2", "3")
	b.drain(t, gov1, m)
	b.resend(t, 1, 1)
	b.resend(t, 3, 3)
	m.answer = func(n int) (int, int, error) {
		m.answer = nil
		b.resend(t, 2, 2)
		return n, n, nil
	}
	b.drain(t, gov1, m)
	var ids []string
	for _, msg := range m.messages()[3:] {
		ids = append(ids, msg.ID[len(msg.ID)-3:])
	}
	if len(ids) != 3 || strings.Join(ids, " ") != strings.Repeat(ids[0]+" ", 2)+ids[0] || ids[0] != "-r1" {
		t.Errorf("want each of the three once more, got %v", ids)
	}
	if s, err := StatusOf(ctx, b.db, b.clock.now()); err != nil || s[0].Waiting != 0 {
		t.Errorf("%+v %v", s, err)
	}
}

func TestResendOfWhatIsGone(t *testing.T) {
	b := setup(t)
	m := &midpoint{}
	b.joins(t, gov1, "1", "2", "3")
	if _, err := b.Roster(ctx, gov1, 0); err != nil {
		t.Fatal(err)
	}
	b.drain(t, gov1, m)
	if n, err := b.Prune(ctx, gov1); err != nil || n != 0 {
		t.Errorf("deleted %d just after they were sent, %v", n, err)
	}
	b.clock.pass(keepSent)
	if n, err := b.Prune(ctx, gov1); err != nil || n != 3 {
		t.Fatal(n, err)
	}
	before, err := ledger.Size(b.db)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		from, to uint64
		want     string
	}{{2, 4, "4 to 4 are in the database"}, {1, 0, "4 to 4 are"}, {4, 9, "want 4 to 9 of generation 1, but the last number that was given is 4"}, {6, 0, "want 6 to 6 of generation 1, but the last number"}, {5, 5, "but the last number"}} {
		_, err := b.Resend(ctx, gov1, c.from, c.to, resendNote)
		var gone *GoneError
		if !errors.As(err, &gone) || gone.First != 4 || gone.Last != 4 || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%d to %d: %v", c.from, c.to, err)
		}
	}
	if _, err := b.Resend(ctx, gov2, 2, 0, resendNote); !errors.As(err, new(*GoneError)) || !strings.Contains(err.Error(), "the last number that was given is 0") {
		t.Errorf("an empty chain: %v", err)
	}
	// The one after the last: nothing was lost, and nothing is done.
	if r := b.resend(t, 5, 0); r.To != 4 || r.Again != 0 || r.Waiting != 0 {
		t.Errorf("the next number: %+v", r)
	}
	if after, err := ledger.Size(b.db); err != nil || after != before {
		t.Errorf("a refusal is on the ledger: %d, %d, %v", before, after, err)
	}
	// Pruning leaves no hole above one that was sent again lately.
	b.joins(t, gov1, "7", "8")
	b.drain(t, gov1, m)
	b.clock.pass(keepSent)
	b.resend(t, 5, 5)
	if _, err := b.Roster(ctx, gov1, 0); err != nil {
		t.Fatal(err)
	}
	b.drain(t, gov1, m)
	if n, err := b.Prune(ctx, gov1); err != nil || n != 1 {
		t.Errorf("want 4 alone to be deleted, got %d, %v", n, err)
	}
	b.resend(t, 5, 6)
	b.drain(t, gov1, m)
	// What is to be sent again is not deleted before it was.
	b.resend(t, 5, 0)
	if n, err := b.Prune(ctx, gov1); err != nil || n != 0 {
		t.Errorf("pruned %d, %v", n, err)
	}
}

// A database of the first version is brought to this one and keeps what waits.
func TestMigration(t *testing.T) {
	b := setup(t)
	b.joins(t, gov1, "1")
	err := b.db.Tx(ctx, func(tx *store.Tx) error {
		for _, q := range []string{"DROP TABLE courier", "ALTER TABLE producer DROP COLUMN kid", "ALTER TABLE outbox DROP COLUMN resent", "ALTER TABLE person DROP COLUMN barred", "ALTER TABLE chain DROP COLUMN restored", "PRAGMA user_version = 1"} {
			if _, err := tx.Exec(q); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := b.db.Close(); err != nil {
		t.Fatal(err)
	}
	b.open(t)
	if err := b.CourierReplaced(ctx, gov1, "killed"); err != nil {
		t.Error(err)
	}
	m := &midpoint{}
	b.drain(t, gov1, m)
	b.resend(t, 1, 0)
	b.drain(t, gov1, m)
	if got := m.messages(); len(got) != 2 || got[1].ID != got[0].ID+"-r1" || string(got[0].Body) != string(got[1].Body) {
		t.Errorf("%d messages", len(got))
	}
}
