package childqueue

import (
	"strings"
	"testing"
	"time"
)

// rate is what a child takes and brings in a second, on average over period seconds.
type rate struct {
	cpu     time.Duration
	results int
	octets  int
	period  int // all results come in the first of so many seconds; 0: in each
	seconds int // for so long
}

// A child is replaced for what it burns beyond its results, soon, whatever passes beside that; and one that works is not, however
// busy or slow.
func TestBurning(t *testing.T) {
	const (
		ms       = time.Millisecond
		body     = 192 << 10
		day      = 24 * 60 * 60
		honestly = 0 // never replaced
	)
	var turns []rate
	for range 10 {
		turns = append(turns, rate{cpu: 1000 * ms, seconds: 4}, rate{seconds: 8})
	}
	for name, c := range map[string]struct {
		rates    []rate
		replaced int // in this second at the latest; honestly: never
	}{
		"a link that spins, alone":                        {[]rate{{cpu: 1000 * ms, seconds: 600}}, 17},
		"after a quiet day":                               {[]rate{{cpu: 1 * ms, seconds: day}, {cpu: 1000 * ms, seconds: 600}}, day + 17},
		"beside heartbeats of a second, in a fetch":       {[]rate{{cpu: 400 * ms, results: 2, seconds: 150}}, 41}, // 60 s in 2.5 min
		"beside heartbeats of a second, in a publish":     {[]rate{{cpu: 520 * ms, results: 1, seconds: 150}}, 31}, // 78 s in 2.5 min
		"beside heartbeats of a minute":                   {[]rate{{cpu: 700 * ms, results: 1, period: 60, seconds: 300}}, 24},
		"by turns":                                        {turns, 60},
		"beside a junk message a second":                  {[]rate{{cpu: 1000 * ms, results: 2, octets: body, seconds: 600}}, 18},
		"beside ten of them":                              {[]rate{{cpu: 1000 * ms, results: 20, octets: 10 * body, seconds: 600}}, 25},
		"two cores beside ten of them":                    {[]rate{{cpu: 2000 * ms, results: 20, octets: 10 * body, seconds: 600}}, 11},
		"after a busy minute":                             {[]rate{{cpu: 900 * ms, results: 3000, seconds: 60}, {cpu: 1000 * ms, seconds: 600}}, 60 + 61},
		"quiet":                                           {[]rate{{cpu: 1 * ms, results: 1, period: 60, seconds: day}}, honestly},
		"busy":                                            {[]rate{{cpu: 900 * ms, results: 3000, octets: 3000 * 4096, seconds: 600}}, honestly},
		"busy on four cores":                              {[]rate{{cpu: 4000 * ms, results: 13000, octets: 13000 * 4096, seconds: 600}}, honestly},
		"busy with large bodies":                          {[]rate{{cpu: 2000 * ms, results: 1000, octets: 1000 * body, seconds: 600}}, honestly},
		"busy, each of its calls taking ten seconds":      {[]rate{{cpu: 1000 * ms, results: 3300, period: 10, seconds: 600}}, honestly},
		"just started":                                    {[]rate{{cpu: 800 * ms, seconds: 1}, {cpu: 1 * ms, seconds: day}}, honestly},
		"started into a backlog":                          {[]rate{{cpu: 1000 * ms, seconds: 3}, {cpu: 1000 * ms, results: 3000, seconds: 600}}, honestly},
		"its mid-point is away":                           {[]rate{{cpu: 10 * ms, seconds: day}}, honestly},
		"20 times slower: just started":                   {[]rate{{cpu: 1000 * ms, seconds: 10}, {cpu: 20 * ms, seconds: day}}, honestly},
		"20 times slower: its mid-point is away":          {[]rate{{cpu: 200 * ms, seconds: day}}, honestly},
		"20 times slower: busy":                           {[]rate{{cpu: 1000 * ms, results: 170, octets: 170 * 4096, seconds: 600}}, honestly}, // 6 ms each
		"20 times slower: busy with large bodies":         {[]rate{{cpu: 1000 * ms, results: 70, octets: 70 * body, seconds: 600}}, honestly},   // 14 ms each
		"20 times slower: a batch of 1,024":               {[]rate{{cpu: 1000 * ms, results: 1024, period: 7, seconds: 7 * 60}}, honestly},
		"a quarter of a core: a link that spins":          {[]rate{{cpu: 250 * ms, seconds: 600}}, 23},
		"a quarter of a core: beside a parent that works": {[]rate{{cpu: 125 * ms, seconds: 600}}, 43},
		"a quarter of a core: just started":               {[]rate{{cpu: 250 * ms, seconds: 20}, {cpu: 1 * ms, seconds: day}}, honestly}, // all of openTime
		"a quarter of a core: busy":                       {[]rate{{cpu: 250 * ms, results: 800, octets: 800 * 4096, seconds: 600}}, honestly},
		"a quarter of a core: its mid-point is away":      {[]rate{{cpu: 10 * ms, seconds: day}}, honestly},
		"/proc cannot be read":                            {[]rate{{seconds: 600}}, honestly},
	} {
		t.Run(name, func(t *testing.T) {
			limit := burning(0)
			if held, ok := strings.CutPrefix(name, "a quarter of a core: "); ok && held != "" {
				limit = burning(0.25)
			}
			now := sample{at: time.Now()}
			var w window
			second, at := 0, 0
			for _, r := range c.rates {
				for s := range r.seconds {
					now.at, now.cpu = now.at.Add(time.Second), now.cpu+r.cpu
					if period := max(1, r.period); (s+1)%period == 0 { // at the end of what they cost
						now.results, now.octets = now.results+uint64(r.results), now.octets+uint64(r.octets)
					}
					second++
					if since := w.slide(now); burnt(since, now) > limit && at == 0 {
						at = second
					}
				}
			}
			if (at == 0) != (c.replaced == honestly) || at > c.replaced {
				t.Errorf("replaced in second %d, expected %d (0: never)", at, c.replaced)
			}
		})
	}
}

// The window holds no more than its time, and begins at a sample that says something.
func TestWindow(t *testing.T) {
	var w window
	start := time.Now()
	for i := range 600 {
		now := sample{at: start.Add(time.Duration(i) * time.Second), cpu: time.Duration(max(0, i-3)) * time.Second}
		since := w.slide(now)
		if d := now.at.Sub(since.at); d > burnTime || len(w) > 61 {
			t.Fatalf("second %d: %d samples over %s", i, len(w), d)
		}
		if since.cpu == 0 && now.cpu > 0 {
			t.Fatalf("second %d: it begins with what is not known", i)
		}
	}
	if len(w) != 61 {
		t.Errorf("%d samples in a minute, expected 61", len(w))
	}
}

// The pause between two children is never longer than the longest.
func TestAbout(t *testing.T) {
	for _, pause := range []time.Duration{minBackoff, maxBackoff} {
		for range 1000 {
			if d := about(pause); d < pause/2 || d > pause {
				t.Fatalf("%s for %s", d, pause)
			}
		}
	}
}
