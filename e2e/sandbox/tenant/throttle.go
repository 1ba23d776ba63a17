package tenant

import (
	"fmt"
	"math"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// A throttle keeps Graph's token buckets. Time is given, never read.
type throttle struct {
	q      Quotas
	tenant string

	mu     sync.Mutex // guards the buckets
	writes map[string]*bucket
	units  map[string]*bucket
	all    *bucket
}

func newThrottle(q Quotas, tenant string) *throttle {
	return &throttle{q: q, tenant: tenant, writes: map[string]*bucket{}, units: map[string]*bucket{}, all: &bucket{q: q.AllWrites}}
}

// A bucket fills at N per Per, up to N. Retrying at once still counts, so it
// may owe a little; a nil quota never runs dry.
type bucket struct {
	q    Quota
	left float64
	at   time.Time
}

func (b *bucket) fill(now time.Time) {
	if b.at.IsZero() {
		b.left = float64(b.q.N)
	} else if d := now.Sub(b.at); d > 0 {
		b.left = min(float64(b.q.N), b.left+float64(b.q.N)*float64(d)/float64(b.q.Per))
	}
	b.at = now
}

// wait is how long until n can be taken.
func (b *bucket) wait(n float64) time.Duration {
	if b.q.N <= 0 || b.left >= n {
		return 0
	}
	return time.Duration((n - b.left) / float64(b.q.N) * float64(b.q.Per))
}

func (b *bucket) take(n float64) { b.left = max(b.left-n, -float64(b.q.N)/10) }

func (b *bucket) used() float64 {
	if b.q.N <= 0 {
		return 0
	}
	return 1 - b.left/float64(b.q.N)
}

// admit takes what the call costs, or gives the 429 to answer with. It also
// tells the call how full the fullest bucket is.
func (t *throttle) admit(c *call, write bool) *answer {
	t.mu.Lock()
	defer t.mu.Unlock()
	units := bucketOf(t.units, c.app.ID, t.q.Units, c.now)
	writes := bucketOf(t.writes, c.app.ID, t.q.Writes, c.now)
	t.all.fill(c.now)
	kinds := []struct {
		b           *bucket
		n           float64
		scope, info string
	}{
		{units, float64(c.units), "Tenant_Application/ReadWrite", "ResourceUnitLimitExceeded"},
		{writes, 1, "Tenant_Application/Write", "WriteLimitExceeded"},
		{t.all, 1, "Tenant/Write", "WriteLimitExceeded"},
	}
	if !write {
		kinds = kinds[:1]
	}
	var refused *answer
	for _, k := range kinds {
		if k.b.q.N <= 0 || k.b.q.Per <= 0 {
			continue
		}
		if w := k.b.wait(k.n); w > 0 && refused == nil {
			a := tooMany(w, k.scope+"/"+c.app.ID+"/"+t.tenant, k.info)
			refused = &a
		}
	}
	for _, k := range kinds {
		if k.b.q.N > 0 && k.b.q.Per > 0 {
			k.b.take(k.n)
			c.percent = max(c.percent, k.b.used())
		}
	}
	return refused
}

func bucketOf(m map[string]*bucket, id string, q Quota, now time.Time) *bucket {
	b := m[id]
	if b == nil {
		b = &bucket{q: q}
		m[id] = b
	}
	b.fill(now)
	return b
}

// tooMany is the documented 429. A negative wait leaves Retry-After out.
func tooMany(wait time.Duration, scope, info string) answer {
	a := refuse(&refusal{status: http.StatusTooManyRequests, code: "TooManyRequests",
		message: "Too many requests, please wait and retry."})
	if wait >= 0 {
		a.set("Retry-After", strconv.Itoa(max(1, int(math.Ceil(wait.Seconds())))))
	}
	a.set("X-Ms-Throttle-Scope", scope)
	a.set("X-Ms-Throttle-Information", info)
	return a
}

// cost is the documented price of a call in resource units.
func cost(base int, c *call) int {
	if c.query.Get("$select") != "" {
		base--
	}
	if c.query.Get("$expand") != "" {
		base++
	}
	if n, err := strconv.Atoi(c.query.Get("$top")); err == nil && n < 20 {
		base--
	}
	return max(base, 1)
}

// String names a quota for people.
func (q Quota) String() string {
	if q.N <= 0 {
		return "none"
	}
	return fmt.Sprintf("%d/%s", q.N, q.Per)
}
