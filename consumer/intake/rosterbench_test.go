package intake

import (
	"fmt"
	"testing"
	"time"

	"jmlbridge/schema"
)

// BenchmarkRoster applies a roster of 100,000 people: to an enclave that knows nothing of them, and to one where
// it changes nothing. read is decoding it once, on one core.
func BenchmarkRoster(b *testing.B) {
	const people = 100_000
	for range b.N {
		w := newWorld(b)
		p := newProducer(b, "hr", w.to)
		w.trust(p)
		live := make([]schema.LiveEngagement, 0, people)
		for i := range people {
			live = append(live, lives(fmt.Sprintf("%06d", i), 1, "analyst"))
		}
		batches := func() (list []sealed) { return p.roster(live, nil) }
		for _, run := range []string{"new", "unchanged"} {
			list := batches()
			start := time.Now()
			for i := 0; i < len(list); i += 20 {
				w.give(list[i:min(i+20, len(list))]...)
			}
			taken := time.Since(start)
			start = time.Now()
			w.applyRosters()
			b.ReportMetric(taken.Seconds(), run+"-take-s")
			b.ReportMetric(time.Since(start).Seconds(), run+"-apply-s")
			b.ReportMetric(float64(len(list)), "parts")
		}
		r := w.lastRoster()
		start := time.Now()
		for part := 1; part <= r.Parts; part++ {
			if _, err := rosterPart(w.db.Read(), r, part); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(time.Since(start).Seconds(), "read-s")
	}
}
