package intake

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"jmlbridge/consumer/state"
	"jmlbridge/internal/envelope"
	"jmlbridge/internal/envelope/seal"
	"jmlbridge/internal/keys"
	"jmlbridge/internal/queue"
	"jmlbridge/internal/queue/memqueue"
	"jmlbridge/internal/store"
	"jmlbridge/schema"
)

var oldKey = sync.OnceValues(func() (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, 3072) })

// oldStore is a store with the old key of an enclave that has a newer one.
type oldStore struct {
	key   *rsa.PrivateKey
	away  atomic.Bool
	hangs atomic.Int64 // nanoseconds until it does not answer
	asked atomic.Int64
}

func (s *oldStore) Public() crypto.PublicKey { return &s.key.PublicKey }

func (s *oldStore) Decrypt(r io.Reader, msg []byte, opts crypto.DecrypterOpts) ([]byte, error) {
	s.asked.Add(1)
	if s.away.Load() {
		time.Sleep(time.Duration(s.hangs.Load()))
		return nil, errors.New("403")
	}
	return s.key.Decrypt(r, msg, opts)
}

// rotated is a world in the middle of a rotation, on virtual time: what the producer says goes to the new key, but where it
// says old.
type rotated struct {
	*world
	*producer
	t     *testing.T
	store *oldStore
	old   *seal.Recipient
	told  atomic.Pointer[[]bool]
	room  *volume
	q     *memqueue.Queue
}

func rotate(t *testing.T, f func(*testing.T, *rotated)) {
	key, err := oldKey()
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		w, p := setup(t)
		r := &rotated{world: w, producer: p, t: t, store: &oldStore{key: key}, room: newVolume(t), q: memqueue.New(memqueue.Options{})}
		r.told.Store(new([]bool))
		newer, err := keys.GenerateDecryption(keys.P256)
		if err != nil {
			t.Fatal(err)
		}
		r.rings(r.store, newer.(*ecdsa.PrivateKey))
		if p.to, err = seal.NewRecipient(newer.Public()); err != nil {
			t.Fatal(err)
		}
		if r.old, err = seal.NewRecipient(&key.PublicKey); err != nil {
			t.Fatal(err)
		}
		r.store.away.Store(true)
		f(t, r)
	})
}

func (r *rotated) rings(list ...crypto.PrivateKey) {
	r.t.Helper()
	var err error
	if r.world.ring, err = envelope.NewRing(list...); err != nil {
		r.t.Fatal(err)
	}
}

// aged says something to the old key.
func (r *rotated) aged(say func(*producer) sealed) sealed {
	newer := r.producer.to
	defer func() { r.producer.to = newer }()
	r.producer.to = r.old
	return say(r.producer)
}

func (r *rotated) joined(who string) func(*producer) sealed {
	return func(p *producer) sealed { return p.joiner(who, 1) }
}

// start runs the intake; its clock goes with the virtual one.
func (r *rotated) start() *running {
	began := time.Now()
	return r.run(r.q, func(c *Config) {
		c.Now, c.Committed, c.Room = func() time.Time { return t0.Add(time.Since(began)) }, nil, r.room
		c.Unopened = func(waits bool) { list := append(slices.Clone(*r.told.Load()), waits); r.told.Store(&list) }
	})
}

// pass lets time go by.
func (r *rotated) pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func (r *rotated) expect(what string, cut string, in string, left int, told ...bool) {
	r.t.Helper()
	if s := r.subject(cut); len(s.Doc.Ceilings) == 0 && access(r.world, cut).Access || s.Subject == "" {
		r.t.Errorf("%s: the leaver %s is not in", what, cut)
	}
	if got := access(r.world, "ann").Access; got != (in == "in") {
		r.t.Errorf("%s: access of ann: %v", what, got)
	}
	if got := r.q.Len(); got != left {
		r.t.Errorf("%s: %d messages are not settled, want %d", what, got, left)
	}
	if got := *r.told.Load(); !slices.Equal(got, told) {
		r.t.Errorf("%s: told %v, want %v", what, got, told)
	}
}

// While a store cannot be asked for one key, what another opens goes on: it is admitted, committed and settled. What waits is
// asked for now and then, comes again after its lease without piling up, and is taken in once.
func TestAKeyThatIsAwayHoldsUpNoOther(t *testing.T) {
	for _, first := range []bool{true, false} {
		t.Run(fmt.Sprintf("the old one first %v", first), func(t *testing.T) {
			rotate(t, func(t *testing.T, r *rotated) {
				joiner, leaver := r.aged(r.joined("ann")), r.leaver("bob", 1)
				list := []sealed{joiner, leaver}
				if !first {
					slices.Reverse(list)
				}
				publish(t, r.q, list...)
				publish(t, r.q, joiner) // the mid-point repeats it
				run := r.start()
				r.pass(time.Second)
				r.expect("away", "bob", "", 2)
				r.pass(unopenedAfter + retryPause)
				r.expect("told", "bob", "", 2, true)
				entries := len(r.entries())
				const long = 10 * time.Minute
				before := r.store.asked.Load()
				r.pass(long)
				if got, most := r.store.asked.Load()-before, int64(long/retryPause); got > most || got < most/2 {
					t.Errorf("asked %d times in %s, want about %d", got, long, most)
				}
				r.expect("for long", "bob", "", 2, true)
				if got := r.entries()[entries:]; slices.ContainsFunc(got, func(e string) bool { return !strings.Contains(e, "gap") }) {
					t.Errorf("recorded meanwhile: %q", got)
				}
				r.store.away.Store(false)
				r.pass(retryPause + 2*time.Second)
				if !access(r.world, "ann").Access {
					t.Error("the old message is not in, though its key is there again")
				}
				r.pass(2 * time.Minute) // what is leased comes again
				r.expect("back", "bob", "in", 0, true, false)
				run.stop()
				run.end()
				want := []string{"received leaver:v1 2 gap: gap", "raised gap", "received joiner:v1 1 filled", "cleared gap", "received  1 duplicate: replay"}
				if got := r.entries()[1:]; !slices.Equal(got, want) || r.world.stream().Head != 2 {
					t.Errorf("head %d, entries %q, want %q", r.world.stream().Head, got, want)
				}
			})
		})
	}
}

// A store that takes long not to answer is waited for once, and no further batch waits for it.
func TestAKeyThatIsAwaySlowsNoOther(t *testing.T) {
	rotate(t, func(t *testing.T, r *rotated) {
		r.store.hangs.Store(int64(10 * time.Second))
		publish(t, r.q, r.aged(r.joined("ann")))
		run := r.start()
		r.pass(11 * time.Second)
		for i := range 30 {
			who := fmt.Sprint("leaver-", i)
			publish(t, r.q, r.aged(r.joined("more")), r.leaver(who, 1))
			r.pass(time.Second)
			if r.subject(who).Subject == "" {
				t.Errorf("leaver %d waits", i)
			}
		}
		r.store.away.Store(false)
		for range 10 + retryPause/time.Second { // the last question is not answered yet
			publish(t, r.q, r.aged(r.joined("more")))
			r.pass(time.Second)
		}
		if !access(r.world, "ann").Access {
			t.Error("a key is not asked while messages for it come")
		}
		r.store.away.Store(true)
		publish(t, r.q, r.aged(r.joined("more")))
		r.pass(time.Second)
		run.stop()
		began := time.Now()
		run.end()
		if took := time.Since(began); took > 11*time.Second {
			t.Errorf("it ended after %s", took)
		}
	})
}

// What waits for a key is bounded; past that the intake waits, ends in order, and goes on when the key is back. At the end of a
// run nothing of it is settled, and the alarm stands.
func TestWhatWaitsForAKeyIsBounded(t *testing.T) {
	rotate(t, func(t *testing.T, r *rotated) {
		q := memqueue.New(memqueue.Options{Lease: 24 * time.Hour})
		large := func(i int) sealed {
			m, err := seal.Seal(bytes.Repeat([]byte{'0' + byte(i%10)}, schema.MaxPayload-i), r.signer, r.old)
			if err != nil {
				t.Fatal(err)
			}
			return sealed{wire: m.Wire}
		}
		n := 0
		for octets := 0; octets < lineOctets+3*batchOctets+queue.MaxBody; n++ { // and what the stages hold
			m := large(n)
			octets += len(m.wire)
			publish(t, q, m)
		}
		publish(t, q, r.leaver("bob", 1))
		r.q = q
		run := r.start()
		r.pass(time.Minute)
		if r.subject("bob").Subject != "" {
			t.Error("more was kept than the line holds")
		}
		if got := r.store.asked.Load(); got > 40 {
			t.Errorf("asked %d times in a minute", got)
		}
		run.stop()
		run.end()
		if got := *r.told.Load(); q.Len() != n+1 || !slices.Equal(got, []bool{true}) {
			t.Errorf("%d of %d are not settled at the end; told %v", q.Len(), n+1, got)
		}
		r.reopen()
		r.q = memqueue.New(memqueue.Options{})
		r.told.Store(new([]bool))
		for i := range n {
			publish(t, r.q, large(i))
		}
		publish(t, r.q, r.leaver("eve", 1))
		run = r.start()
		r.pass(time.Minute)
		r.store.away.Store(false)
		r.pass(2 * time.Minute)
		if r.subject("eve").Subject == "" || r.q.Len() > 0 || !slices.Equal(*r.told.Load(), []bool{true, false}) {
			t.Errorf("with the key back %d are not settled; told %v", r.q.Len(), *r.told.Load())
		}
		run.stop()
		run.end()
	})
}

// A position never passes what waits, and nothing waits for its number alone.
func TestAKeyThatIsAwayKeepsThePosition(t *testing.T) {
	rotate(t, func(t *testing.T, r *rotated) {
		in := r.intake()
		at := func(m sealed, position string) queue.Delivery {
			return queue.Delivery{Body: m.wire, Position: []byte(position)}
		}
		take := func(want int, position string, batch ...queue.Delivery) {
			t.Helper()
			taken, err := in.Take(t.Context(), batch)
			if err != nil {
				t.Fatal(err)
			}
			got, err := state.Position(r.db.Read(), "test")
			if err != nil || len(taken) != want || string(got) != position {
				t.Errorf("took %d, position %q, %v; want %d and %q", len(taken), got, err, want, position)
			}
		}
		take(1, "1", at(r.heartbeat(), "1"))
		old := r.aged(r.joined("ann"))
		take(1, "1", at(old, "2"), at(r.leaver("bob", 1), "3"))
		take(1, "1", at(r.heartbeat(), "4"), at(old, "5")) // the mid-point repeats it
		take(0, "1", at(old, "6"))
		other := r.aged(r.joined("eve"))
		take(1, "1", at(other, "7"), at(r.heartbeat(), "8"))
		if len(in.line) != 2 {
			t.Fatalf("%d in the line", len(in.line))
		}
		r.store.away.Store(false)
		take(0, "1") // it was asked a moment ago
		time.Sleep(retryPause)
		take(1, "1") // the first answers, and its own number is no more than what was repeated
		take(1, "7") // and so does the other
		take(1, "9", at(r.heartbeat(), "9"))
		if len(in.line) > 0 || r.world.stream().Head != 7 {
			t.Errorf("%d in the line, head %d", len(in.line), r.world.stream().Head)
		}
	})
}

// On a full disk at the same time a leaver goes past both, and each wait ends by itself.
func TestAKeyThatIsAwayOnAFullDisk(t *testing.T) {
	rotate(t, func(t *testing.T, r *rotated) {
		r.room.free.Store(0)
		r.room.look(t)
		oldLeaver := r.aged(func(p *producer) sealed { return p.leaver("eve", 1) })
		publish(t, r.q, oldLeaver, r.aged(r.joined("ann")), r.joiner("dan", 1), r.leaver("bob", 1))
		run := r.start()
		r.pass(2 * time.Minute)
		r.expect("both", "bob", "", 3, true)
		r.store.away.Store(false)
		r.pass(retryPause + 2*time.Second)
		r.expect("a full disk", "eve", "", 2, true, false)
		if access(r.world, "dan").Access {
			t.Error("a full disk took a joiner")
		}
		r.room.free.Store(1 << 30)
		r.room.look(t)
		r.pass(2 * time.Second)
		r.expect("neither", "eve", "in", 0, true, false)
		if s := r.world.stream(); s.Head != 4 {
			t.Errorf("head %d", s.Head)
		}
		run.stop()
		run.end()
	})
}

// A parked message whose key is away stays parked, holds up nothing, and is let in soon after its key is back.
func TestAParkedMessageWhoseKeyIsAway(t *testing.T) {
	t.Run("it is back", func(t *testing.T) { parkedAway(t, false) })
	t.Run("the messages are given up", func(t *testing.T) { parkedAway(t, true) })
}

func parkedAway(t *testing.T, dropped bool) {
	rotate(t, func(t *testing.T, r *rotated) {
		x := newProducer(t, "approvals", r.old)
		r.store.away.Store(false)
		r.store.hangs.Store(int64(10 * time.Second))
		list := []sealed{x.heartbeat(), x.heartbeat()}
		publish(t, r.q, list...)
		run := r.start()
		parked := func(want int) {
			t.Helper()
			if list, err := state.ListParked(r.db.Read()); err != nil || len(list) != want {
				t.Errorf("%d parked, want %d, %v", len(list), want, err)
			}
		}
		r.pass(time.Second)
		parked(2)
		r.store.away.Store(true)
		r.trust(x, schema.KindHeartbeat)
		r.pass(time.Minute)
		parked(2)
		before := r.store.asked.Load()
		for i := range 30 {
			who := fmt.Sprint("leaver-", i)
			publish(t, r.q, r.leaver(who, 1))
			r.pass(time.Second)
			if r.subject(who).Subject == "" {
				t.Errorf("leaver %d waits", i)
			}
		}
		if got := r.store.asked.Load() - before; got > 6 {
			t.Errorf("asked %d times in half a minute", got)
		}
		if got := *r.told.Load(); !slices.Equal(got, []bool{true}) {
			t.Errorf("told %v", got)
		}
		if dropped {
			r.update(func(tx *store.Tx) error {
				for _, m := range list {
					if err := state.Unpark(tx, schema.DigestOf(m.wire)); err != nil {
						return err
					}
				}
				return nil
			})
			r.pass(6 * time.Minute)
		} else {
			r.store.away.Store(false)
			r.pass(10*time.Second + retryPause + lookEvery + time.Second)
		}
		parked(0)
		if got := *r.told.Load(); !slices.Equal(got, []bool{true, false}) {
			t.Errorf("told %v", got)
		}
		run.stop()
		run.end()
	})
}

// Where no key can be asked the intake waits, and what is told does not flicker when one of them is back.
func TestNoKeyCanBeAsked(t *testing.T) {
	rotate(t, func(t *testing.T, r *rotated) {
		key, err := rsa.GenerateKey(rand.Reader, 3072)
		if err != nil {
			t.Fatal(err)
		}
		newer := &oldStore{key: key}
		newer.away.Store(true)
		r.rings(r.store, newer)
		if r.producer.to, err = seal.NewRecipient(&key.PublicKey); err != nil {
			t.Fatal(err)
		}
		publish(t, r.q, r.aged(r.joined("ann")), r.leaver("bob", 1))
		run := r.start()
		r.pass(time.Minute)
		if r.subject("bob").Subject != "" || r.q.Len() != 2 || len(r.entries()) > 5 {
			t.Errorf("%d messages, entries %q", r.q.Len(), r.entries())
		}
		newer.away.Store(false)
		r.pass(retryPause + time.Second)
		r.expect("one is back", "bob", "", 1, true)
		newer.away.Store(true)
		publish(t, r.q, r.leaver("eve", 1))
		r.pass(time.Minute)
		r.expect("and away again", "bob", "", 2, true)
		r.store.away.Store(false)
		r.pass(2*retryPause + time.Second)
		r.expect("the other is back", "bob", "in", 1, true)
		newer.away.Store(false)
		r.pass(time.Minute)
		r.expect("both are", "eve", "in", 0, true, false)
		run.stop()
		run.end()
	})
}

// An answer to what was asked again, of what came again and was taken in meanwhile, is nothing any more; a newer lease is kept. What
// comes again once its key is back is opened in its place, and whoever was told of either is told.
func TestWhatIsAskedAgainAndComesAgain(t *testing.T) {
	rotate(t, func(t *testing.T, r *rotated) {
		in := r.intake()
		in.Config.Unopened = func(waits bool) { list := append(slices.Clone(*r.told.Load()), waits); r.told.Store(&list) }
		old, next := r.aged(r.joined("ann")), r.aged(r.joined("eve"))
		in.Openers = 1
		if _, err := in.open(t.Context(), slices.Repeat([]queue.Delivery{{Body: old.wire}}, 50)); err != nil || r.store.asked.Load() != 1 {
			t.Errorf("asked %d times for one batch, %v", r.store.asked.Load(), err)
		}
		come := func(lease int, m sealed) []*item {
			items, err := in.open(t.Context(), []queue.Delivery{{Body: m.wire, Lease: lease}})
			if err != nil {
				t.Fatal(err)
			}
			return items
		}
		expect := func(lines int, told ...bool) {
			t.Helper()
			if got := *r.told.Load(); len(in.line) != lines || !slices.Equal(got, told) {
				t.Errorf("%d in the line, told %v; want %d and %v", len(in.line), got, lines, told)
			}
		}
		in.join(come(1, old))
		in.join(come(1, next))
		again := come(2, old)
		time.Sleep(unopenedAfter)
		answer := in.unasked()
		in.tell(in.line)
		in.tell(again)
		in.join(again)
		expect(2, true)

		ending, end := context.WithCancel(t.Context())
		end()
		in.fetching = ending
		asked := r.store.asked.Load()
		r.store.away.Store(false)
		if left := in.openOnce(answer, in.Ring); len(left) != 1 || r.store.asked.Load() != asked {
			t.Errorf("a store was asked at the end of a run")
		}
		in.fetching = t.Context()
		if again = come(3, old); again[0].failed == nil {
			t.Error("what was not asked counts as an answer")
		}

		if left := in.openOnce(answer, in.Ring); len(left) > 0 || len(answer) != 1 {
			t.Fatalf("%d asked, %d not opened", len(answer), len(left))
		}
		in.fill(answer)
		in.join(come(4, next))
		expect(2, true, false)
		taken, _, err := in.once(t.Context())
		if err != nil || len(taken) != 2 || taken[0].Lease != 2 || taken[1].Lease != 4 {
			t.Fatalf("took %v, %v; want the newer leases settled", taken, err)
		}
		in.fill(answer)
		expect(0, true, false)
	})
}

// What is opened again at a time is bounded like what is fetched.
func TestWhatIsAskedAgainIsBounded(t *testing.T) {
	w, _ := setup(t)
	in := w.intake()
	for range 2 * in.Limits.Batch {
		in.line = append(in.line, &item{failed: &envelope.UnaskedError{}})
	}
	if got := len(in.unasked()); got != in.Limits.Batch {
		t.Errorf("%d messages", got)
	}
	largeBody := make([]byte, batchOctets/4)
	for _, it := range in.line {
		it.body = largeBody
	}
	if got := len(in.unasked()); got != 4 {
		t.Errorf("%d large messages", got)
	}
}
