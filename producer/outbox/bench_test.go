package outbox

import (
	"fmt"
	"testing"

	"jmlbridge/producer/register"
	"jmlbridge/schema"
)

// BenchmarkUpdate announces people, a thousand in a transaction: number, chain, sign, encrypt, store.
func BenchmarkUpdate(b *testing.B) {
	w := setup(b)
	n := 0
	for b.Loop() {
		subjects := make([]string, 1000)
		for i := range subjects {
			n++
			subjects[i] = fmt.Sprint("E", n)
		}
		_, err := w.Update(ctx, gov1, subjects, func(_ string, last register.State) (register.Decision, error) {
			j := &schema.Joiner{Person: schema.Person{DisplayName: "A"}, Roles: []string{}, Start: schema.At(w.clock.now())}
			return register.Emit(last, register.Said{Event: j}, w.clock.now())
		})
		if err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "events/s")
}

// BenchmarkRelay reads, hands over and marks, with a mid-point that costs nothing.
func BenchmarkRelay(b *testing.B) {
	w := setup(b)
	var subjects []string
	for i := range 5000 {
		subjects = append(subjects, fmt.Sprint("E", i))
	}
	w.joins(b, gov1, subjects...)
	for b.Loop() {
		b.StopTimer()
		if err := w.unsend(); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
		w.drain(b, gov1, &midpoint{})
	}
	b.ReportMetric(float64(b.N*5000)/b.Elapsed().Seconds(), "messages/s")
}
