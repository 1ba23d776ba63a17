package intake

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"jmlbridge/consumer/admit"
	"jmlbridge/schema"
)

// However a history is cut into batches, delayed, repeated and shuffled, once all of it has come every
// person's record is the one that the history in order leaves; and before that nobody has access whom
// the part of the history that came in sequence, less the cuts that came, does not give it.
func TestDeliveriesConverge(t *testing.T) {
	const messages, subjects = 30, 4
	for seed := range uint64(12) {
		rnd := rand.New(rand.NewPCG(seed, 7))
		w, p := setup(t)
		inOrder := newWorld(t)
		inOrder.ring = w.ring
		inOrder.trust(p)

		list := make([]sealed, 0, messages)
		engagement := map[string]int{}
		suspended := map[string]bool{}
		for range messages {
			id := fmt.Sprint(rnd.IntN(subjects))
			n := engagement[id]
			p.now = p.now.Add(time.Second)
			switch k := rnd.IntN(6); {
			case n == 0 || k == 0:
				engagement[id]++
				suspended[id] = false
				list = append(list, p.joiner(id, n+1, "a", "b"))
			case k == 1:
				list = append(list, p.leaver(id, n))
			case k == 2:
				suspended[id] = true
				list = append(list, p.say(id, &schema.Suspend{Engagement: n, Effective: schema.At(t0.Add(-time.Minute)), Reason: schema.ReasonLeave}))
			case k == 3 && suspended[id]:
				suspended[id] = false
				list = append(list, p.say(id, &schema.Resume{Engagement: n, Effective: schema.At(t0.Add(-time.Second)), Reason: schema.ReasonReturn}))
			case k == 4:
				list = append(list, p.heartbeat())
			default:
				list = append(list, p.mover(id, n, []string{"a", "b", "c"}[rnd.IntN(3)]))
			}
		}
		inOrder.give(list...)
		if s := inOrder.stream(); s.Head != messages {
			t.Fatalf("seed %d: want the history admitted, got %+v", seed, s)
		}

		deliveries := append(append([]sealed{}, list...), list[:messages/3]...)
		rnd.Shuffle(len(deliveries), func(i, j int) { deliveries[i], deliveries[j] = deliveries[j], deliveries[i] })
		for len(deliveries) > 0 {
			n := min(1+rnd.IntN(6), len(deliveries))
			w.give(deliveries[:n]...)
			deliveries = deliveries[n:]
			if rnd.IntN(4) == 0 {
				w.reopen()
			}
		}
		s := w.stream()
		if s.Head != messages || s.HeadHash != p.prev || s.State != admit.Live || len(w.alarms()) != 0 {
			t.Fatalf("seed %d: want the chain whole, got %+v and alarms %v", seed, s, w.alarms())
		}
		for i := range subjects {
			id := fmt.Sprint(i)
			got, want := access(w, id), access(inOrder, id)
			a, _ := json.Marshal(got)
			b, _ := json.Marshal(want)
			if got.Access != want.Access || got.Closed != want.Closed || fmt.Sprint(got.Roles()) != fmt.Sprint(want.Roles()) || got.Want.Engagement != want.Want.Engagement {
				t.Errorf("seed %d: subject %s: want\n  %s\ngot\n  %s", seed, id, b, a)
			}
		}
	}
}
