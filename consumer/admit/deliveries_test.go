package admit

import (
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"jmlbridge/schema"
)

// book is the archive of one stream in memory, worked the way the intake works it.
type book struct {
	stream Stream
	at     map[uint64][]kept
	chain  []schema.Digest // admitted, in order
}

type kept struct {
	m Message
	d Disposition
}

func newBook() *book {
	return &book{stream: Stream{State: Live, Generation: 1, Joined: 1}, at: map[uint64][]kept{}}
}

func (b *book) judge(m Message, again bool) Verdict {
	return Judge(&Case{Enclave: enclave, Key: key(), Stream: &b.stream, Latest: b.stream, Message: m, Now: t0, Again: again,
		Recorded: func(seq uint64) (list []Recorded) {
			for _, k := range b.at[seq] {
				if !again || k.m.Payload != m.Payload {
					list = append(list, Recorded{Payload: k.m.Payload, Prev: k.m.Stream.Prev})
				}
			}
			return list
		}})
}

func (b *book) take(m Message) Verdict {
	v := b.judge(m, false)
	if v.Disposition >= Ahead {
		b.at[m.Stream.Seq] = append(b.at[m.Stream.Seq], kept{m, v.Disposition})
	}
	b.stream = v.Stream
	if v.Disposition == Admitted {
		b.chain = append(b.chain, m.Payload)
		b.drain()
	}
	return v
}

func (b *book) drain() {
	for b.stream.State == Live {
		next := b.at[b.stream.Head+1]
		if len(next) == 0 || next[0].d != Ahead {
			return
		}
		v := b.judge(next[0].m, true)
		next[0].d, b.stream = v.Disposition, v.Stream
		if v.Disposition != Admitted {
			return
		}
		b.chain = append(b.chain, next[0].m.Payload)
	}
}

// history is a chain of n messages, and one that leaves it before message fork (0: none).
func history(n, fork int) (all []Message, straight []schema.Digest) {
	at := func(branch string, i int) string {
		if branch != "" && i < fork {
			branch = ""
		}
		return fmt.Sprintf("%s%d", branch, i)
	}
	for i := 1; i <= n; i++ {
		m := message(uint64(i), at("", i-1), at("", i))
		if i == 1 {
			m.Stream.Prev = schema.Digest{}
		}
		all, straight = append(all, m), append(straight, m.Payload)
	}
	if fork > 0 {
		for i := fork; i <= n; i++ {
			m := message(uint64(i), at("x", i-1), at("x", i))
			if i == 1 {
				m.Stream.Prev = schema.Digest{}
			}
			all = append(all, m)
		}
	}
	return all, straight
}

// Whatever the mid-point does, what is admitted is the beginning of one chain, in order; once all has
// come, it is the whole chain; and it acts fully exactly once.
func TestDeliveriesInAnyOrderAdmitAPrefix(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		all, straight := history(rapid.IntRange(1, 12).Draw(t, "messages"), 0)
		b := newBook()
		came := map[schema.Digest]bool{}
		for _, i := range rapid.SliceOf(rapid.IntRange(0, len(all)-1)).Draw(t, "deliveries") {
			v := b.take(all[i])
			if was := came[all[i].Payload]; was != (v.Disposition == Duplicate) {
				t.Fatalf("message %d: seen before is %v, judged %s", i+1, was, v.Disposition)
			}
			came[all[i].Payload] = true
			if v.Acts == Fully && v.Disposition != Admitted || v.Disposition == Forked {
				t.Fatalf("message %d: judged %s acting %d", i+1, v.Disposition, v.Acts)
			}
			prefix := 0
			for prefix < len(straight) && came[straight[prefix]] {
				prefix++
			}
			if len(b.chain) != prefix || b.stream.Head != uint64(prefix) {
				t.Fatalf("want the %d messages from the start admitted, got %d", prefix, len(b.chain))
			}
			for j, d := range b.chain {
				if d != straight[j] {
					t.Fatalf("message %d admitted out of order", j+1)
				}
			}
			if gap := len(came) > prefix; gap == b.stream.GapSince.IsZero() {
				t.Fatalf("want a gap noted %v, got since %s", gap, b.stream.GapSince)
			}
		}
	})
}

// A stream that says two things is noticed as soon as both came, in whatever order, and what was
// admitted is a prefix of one branch.
func TestForksAreAlwaysNoticed(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 8).Draw(t, "messages")
		fork := rapid.IntRange(1, n).Draw(t, "fork")
		all, _ := history(n, fork)
		b := newBook()
		took := map[uint64]map[schema.Digest]bool{}
		for _, i := range rapid.SliceOf(rapid.IntRange(0, len(all)-1)).Draw(t, "deliveries") {
			m := all[i]
			b.take(m)
			if took[m.Stream.Seq] == nil {
				took[m.Stream.Seq] = map[schema.Digest]bool{}
			}
			took[m.Stream.Seq][m.Payload] = true
		}
		twice := false
		for _, payloads := range took {
			twice = twice || len(payloads) > 1
		}
		if twice && b.stream.State != ForkedAway {
			t.Fatal("two messages came at one place and nobody noticed")
		}
		for i := range b.chain {
			if i > 0 && all[i].Payload != b.chain[i] && all[n+i-fork+1].Payload != b.chain[i] {
				t.Fatalf("message %d is of no branch", i+1)
			}
		}
	})
}

// Neighbours betray a fork even where no number came twice.
func TestNeighboursBetrayAFork(t *testing.T) {
	for n := 2; n <= 6; n++ {
		for fork := 2; fork <= n; fork++ {
			all, _ := history(n, fork)
			main, branch := all[:n], all[n:]
			b := newBook()
			for _, m := range branch { // ahead of what is missing
				b.take(m)
			}
			for _, m := range main[:fork-1] {
				b.take(m)
			}
			if b.stream.State != Live || int(b.stream.Head) != n {
				t.Fatalf("n %d fork %d: want the branch admitted whole, got %+v", n, fork, b.stream)
			}
			if b.take(main[fork-1]); b.stream.State != ForkedAway {
				t.Fatalf("n %d fork %d: want the other branch noticed", n, fork)
			}
		}
	}
}
