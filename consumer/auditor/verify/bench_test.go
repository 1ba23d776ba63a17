package verify

import (
	"crypto/sha256"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"jmlbridge/internal/ledger/entry"
)

// large is a ledger of n persons, each with a joiner, an account, a leaver and a cut: 8 entries.
func large(b *testing.B, n int) *world {
	w := newWorld(b).begin()
	for i := range n {
		s := "E" + strconv.Itoa(i)
		w.does(s, "active", w.hears(s, w.joiner(1, "analyst")), "create", "add-member")
		w.does(s, "left", w.hears(s, w.leaver(1)), "disable", "revoke-sessions")
	}
	return w.publish()
}

// BenchmarkVerify compares the whole verification with its floor: SHA-256 over the same octets and the
// signature checks alone, on the same processors. The ratio is what counts.
func BenchmarkVerify(b *testing.B) {
	w := large(b, 2500)
	o := w.options()
	before := processorTime(b)
	for b.Loop() {
		if r := w.verify(o); !r.Verifies {
			b.Fatal(r.Findings)
		}
	}
	report(b, before, len(w.rows))
}

func BenchmarkFloor(b *testing.B) {
	w := large(b, 2500)
	ks := w.options().Keys
	var bodies [][]byte
	for _, e := range w.entries {
		body, err := entry.Encode(e)
		if err != nil {
			b.Fatal(err)
		}
		bodies = append(bodies, body)
	}
	files, err := filepath.Glob(filepath.Join(w.archiveDir(), "*"))
	if err != nil || len(files) != 1 {
		b.Fatal(files, err)
	}
	day, err := os.ReadFile(files[0])
	if err != nil {
		b.Fatal(err)
	}
	before := processorTime(b)
	for b.Loop() {
		var wg sync.WaitGroup
		cpus := runtime.GOMAXPROCS(0)
		for cpu := range cpus {
			wg.Go(func() {
				if cpu == 0 {
					sha256.Sum256(day)
				}
				for i := cpu; i < len(bodies); i += cpus {
					sha256.Sum256(bodies[i])
				}
				for i := cpu; i < len(w.rows); i += cpus {
					if _, err := ks.signed([]byte(w.rows[i].JWS)); err != nil {
						b.Error(err)
					}
				}
			})
		}
		wg.Wait()
	}
	report(b, before, len(w.rows))
}

// report gives both clocks: processor time does not depend on what else the machine does.
func report(b *testing.B, before time.Duration, messages int) {
	n := float64(b.N) * float64(messages)
	b.ReportMetric(float64(b.Elapsed().Microseconds())/n, "µs/message")
	b.ReportMetric(float64((processorTime(b)-before).Microseconds())/n, "cpu-µs/message")
}

func processorTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
