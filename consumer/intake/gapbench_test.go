package intake

import (
	"fmt"
	"testing"
)

// BenchmarkGaps takes in b.N messages as they were written, and the same with every hundredth withheld until all
// others are in: then each closes a gap and lets ninety-nine in. The metric ratio is the processor time of a message
// with gaps against one without; at most 1.5 is wanted, however many there are.
func BenchmarkGaps(b *testing.B) {
	spent := func(withhold bool) float64 {
		w, p := setup(b)
		var now, late []sealed
		for i := range b.N {
			m := p.joiner(fmt.Sprintf("%07d", i), 1, "soc-analyst")
			if withhold && i%100 == 0 {
				late = append(late, m)
			} else {
				now = append(now, m)
			}
		}
		before := cpu(b)
		for _, list := range [][]sealed{now, late} {
			for len(list) > 0 {
				n := min(500, len(list))
				w.give(list[:n]...)
				list = list[n:]
			}
		}
		used := cpu(b) - before
		if s := w.stream(); s.Head != uint64(b.N) {
			b.Fatalf("want all %d admitted, got up to %d", b.N, s.Head)
		}
		return float64(used.Microseconds()) / float64(b.N)
	}
	whole, gaps := spent(false), spent(true)
	b.ReportMetric(whole, "µs-cpu-whole/msg")
	b.ReportMetric(gaps, "µs-cpu-gaps/msg")
	b.ReportMetric(gaps/whole, "ratio")
	b.ReportMetric(0, "ns/op")
}
