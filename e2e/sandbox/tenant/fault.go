package tenant

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
)

// A Fault spoils the answers to matching requests. Of several that match, the
// first in force decides; gates and delays of all of them add up.
type Fault struct {
	Name   string `json:"name,omitempty" yaml:"name"`     // for removing it; "" gets one
	Method string `json:"method,omitempty" yaml:"method"` // regular expression; "" matches all
	Path   string `json:"path,omitempty" yaml:"path"`     // regular expression on the path with version and query, or the token endpoint's path
	Body   string `json:"body,omitempty" yaml:"body"`     // regular expression on the request body; "" matches all
	App    string `json:"app,omitempty" yaml:"app"`       // name of an app registration; "" matches all

	Skip        int     `json:"skip,omitempty" yaml:"skip"`               // so many matching requests go through first
	Count       int     `json:"count,omitempty" yaml:"count"`             // and so many are hit; 0 means all
	Probability float64 `json:"probability,omitempty" yaml:"probability"` // of those; 0 means always

	Kind    Kind `json:"kind" yaml:"kind"`
	Applied bool `json:"applied,omitempty" yaml:"applied"` // the request takes effect all the same: the answer alone is lost or spoiled

	Status     int           `json:"status,omitempty" yaml:"status"`         // of error, html, gateway and empty; 0 means 503, of empty 200; html, gateway and empty may be 200 too
	RetryAfter time.Duration `json:"retryAfter,omitempty" yaml:"retryAfter"` // of error and throttle; 0 means no header for error, one second for throttle; negative means no header
	Claims     bool          `json:"claims,omitempty" yaml:"claims"`         // of unauthorized: with a claims challenge
	Gate       string        `json:"gate,omitempty" yaml:"gate"`             // of delay: until this gate is released
	Delay      time.Duration `json:"delay,omitempty" yaml:"delay"`           // of delay: so long, in real time
}

// A Kind says what a fault does.
type Kind string

// The kinds. Those marked * honour Applied.
const (
	Error        Kind = "error"        // * Graph's error body with Status
	Drop         Kind = "drop"         // * the connection breaks without an answer
	Break        Kind = "break"        // the request takes effect; the connection breaks inside the body, or at once when there is none
	HTML         Kind = "html"         // * an HTML page with Status, as a proxy sends it
	Gateway      Kind = "gateway"      // * {"Message":…} with Status: JSON, but not Graph's
	Empty        Kind = "empty"        // * Status and nothing else, as a middlebox answers
	Garbage      Kind = "garbage"      // the request takes effect; the body is broken JSON
	Throttle     Kind = "throttle"     // 429
	Unauthorized Kind = "unauthorized" // 401 as for a revoked token
	Ignore       Kind = "ignore"       // the request is answered as done, and is not
	Delay        Kind = "delay"        // waits before the request takes effect, or after it when Applied
)

type rule struct {
	Fault
	method, path, body *regexp.Regexp
	seen, hit          int
}

// faults are the rules in force, and the gates.
type faults struct {
	mu    sync.Mutex // guards all; never held while waiting
	rules []*rule
	named int
	rand  *rand.Rand
	gates map[string]*gate
}

// A gate holds requests until it is released.
type gate struct {
	open    chan struct{}
	held    int
	changed chan struct{} // closed and replaced when held changes
}

func newFaults(seed uint64) *faults {
	return &faults{rand: rand.New(rand.NewPCG(seed, 0)), gates: map[string]*gate{}}
}

// add puts faults in force and returns their names.
func (f *faults) add(list ...Fault) ([]string, error) {
	var rules []*rule
	for _, x := range list {
		r, err := compile(x)
		if err != nil {
			return nil, err
		}
		rules = append(rules, r)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	var names []string
	for _, r := range rules {
		if r.Name == "" {
			f.named++
			r.Name = fmt.Sprintf("fault-%d", f.named)
		}
		names = append(names, r.Name)
	}
	f.rules = append(f.rules, rules...)
	return names, nil
}

func compile(x Fault) (*rule, error) {
	r := &rule{Fault: x}
	for _, p := range []struct {
		text string
		to   **regexp.Regexp
		what string
	}{{x.Method, &r.method, "method"}, {x.Path, &r.path, "path"}, {x.Body, &r.body, "body"}} {
		if p.text == "" {
			continue
		}
		re, err := regexp.Compile(p.text)
		if err != nil {
			return nil, fmt.Errorf("fault %q: %s: %w", x.Name, p.what, err)
		}
		*p.to = re
	}
	kinds := []Kind{Error, Drop, Break, HTML, Gateway, Empty, Garbage, Throttle, Unauthorized, Ignore, Delay}
	switch {
	case !slices.Contains(kinds, x.Kind):
		return nil, fmt.Errorf("fault %q: kind %q: expected one of %v", x.Name, x.Kind, kinds)
	case x.Kind == Delay && x.Gate == "" && x.Delay <= 0:
		return nil, fmt.Errorf("fault %q: a delay needs a gate or a time", x.Name)
	case x.Probability < 0 || x.Probability > 1 || x.Skip < 0 || x.Count < 0:
		return nil, fmt.Errorf("fault %q: probability is 0 to 1, skip and count are not negative", x.Name)
	case x.Kind == Ignore && x.Applied:
		return nil, fmt.Errorf("fault %q: what is ignored cannot be applied", x.Name)
	case x.Status == http.StatusOK && slices.Contains([]Kind{HTML, Gateway, Empty}, x.Kind):
	case x.Status != 0 && (x.Status < 400 || x.Status > 599):
		return nil, fmt.Errorf("fault %q: status %d: expected 400 to 599", x.Name, x.Status)
	}
	switch {
	case r.Status != 0:
	case r.Kind == Empty:
		r.Status = http.StatusOK
	default:
		r.Status = http.StatusServiceUnavailable
	}
	return r, nil
}

// remove ends the fault of that name; "" ends all.
func (f *faults) remove(name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.rules = slices.DeleteFunc(f.rules, func(r *rule) bool { return name == "" || r.Name == name })
}

// Hits is how often a fault has struck.
type Hits struct {
	Fault
	Seen int `json:"seen"` // matching requests
	Hit  int `json:"hit"`  // of them spoiled
}

func (f *faults) list() []Hits {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := make([]Hits, len(f.rules))
	for i, r := range f.rules {
		out[i] = Hits{r.Fault, r.seen, r.hit}
	}
	return out
}

// strike picks the faults for one request: at most one that spoils the answer,
// and the delays.
func (f *faults) strike(method, path, app string, body []byte) (spoil *Fault, delays []Fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, r := range f.rules {
		if r.method != nil && !r.method.MatchString(method) || r.path != nil && !r.path.MatchString(path) ||
			r.body != nil && !r.body.Match(body) || r.App != "" && r.App != app || r.Kind != Delay && spoil != nil {
			continue
		}
		r.seen++
		if r.seen <= r.Skip || r.Count > 0 && r.hit >= r.Count || r.Probability > 0 && f.rand.Float64() >= r.Probability {
			continue
		}
		r.hit++
		if r.Kind == Delay {
			delays = append(delays, r.Fault)
			continue
		}
		hit := r.Fault
		spoil = &hit
	}
	return spoil, delays
}

// chance draws whether a read goes to a lagging replica.
func (f *faults) chance(share float64) bool {
	if share >= 1 {
		return true
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.rand.Float64() < share
}

// wait sits out the delays that stand before (or after) the effect.
func (f *faults) wait(ctx context.Context, delays []Fault, applied bool) {
	for _, d := range delays {
		if d.Applied != applied {
			continue
		}
		if d.Delay > 0 {
			t := time.NewTimer(d.Delay)
			select {
			case <-t.C:
			case <-ctx.Done():
				t.Stop()
			}
		}
		if d.Gate != "" {
			f.hold(ctx, d.Gate)
		}
	}
}

func (f *faults) gate(name string) *gate {
	g := f.gates[name]
	if g == nil {
		g = &gate{open: make(chan struct{}), changed: make(chan struct{})}
		f.gates[name] = g
	}
	return g
}

func (g *gate) count(n int) {
	g.held += n
	close(g.changed)
	g.changed = make(chan struct{})
}

func (f *faults) hold(ctx context.Context, name string) {
	f.mu.Lock()
	g := f.gate(name)
	open := g.open
	g.count(1)
	f.mu.Unlock()
	select {
	case <-open:
	case <-ctx.Done():
	}
	f.mu.Lock()
	g.count(-1)
	f.mu.Unlock()
}

// release lets what a gate holds go on. Later requests are held again.
func (f *faults) release(name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	g := f.gate(name)
	close(g.open)
	g.open = make(chan struct{})
}

// waitHeld returns when a gate holds at least n requests.
func (f *faults) waitHeld(ctx context.Context, name string, n int) error {
	for {
		f.mu.Lock()
		g := f.gate(name)
		held, changed := g.held, g.changed
		f.mu.Unlock()
		if held >= n {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("gate %s holds %d requests, expected %d: %w", name, held, n, context.Cause(ctx))
		}
	}
}

// early is the answer of a fault that keeps the request from taking effect;
// nil when it goes on to its effect.
func (x *Fault) early(c *call) *answer {
	if x == nil || x.Applied && x.Kind != Throttle && x.Kind != Unauthorized {
		return nil
	}
	switch x.Kind {
	case Break, Garbage, Drop:
		if x.Kind == Drop {
			return &answer{}
		}
		return nil
	}
	return x.late(c, answer{})
}

// late is the answer that takes the place of the real one.
func (x *Fault) late(c *call, real answer) *answer {
	a := answer{status: x.Status}
	switch x.Kind {
	case Error:
		text := map[int]string{500: "InternalServerError", 502: "BadGateway", 503: "ServiceUnavailable", 504: "GatewayTimeout"}[x.Status]
		if text == "" {
			text = strings.ReplaceAll(http.StatusText(x.Status), " ", "")
		}
		a = refuse(&refusal{status: x.Status, code: text, message: "The service is temporarily unavailable."})
		if x.RetryAfter > 0 {
			a.set("Retry-After", fmt.Sprint(int(x.RetryAfter/time.Second)))
		}
	case HTML:
		a.kind = "text/html; charset=utf-8"
		a.body = fmt.Appendf(nil, "<html><head><title>%d</title></head><body><h1>%s</h1></body></html>\n", x.Status, http.StatusText(x.Status))
	case Gateway:
		a.kind = "application/json"
		a.body, _ = json.Marshal(map[string]string{"Message": http.StatusText(x.Status)}) // a string always encodes
	case Empty: // the status alone
	case Garbage:
		a = real
		a.body = []byte(`{"@odata.context":"`)
	case Throttle:
		wait := x.RetryAfter
		if wait == 0 {
			wait = time.Second
		}
		if c.app == nil { // the token endpoint; what it says is not documented
			a = authFailure(c.now, http.StatusTooManyRequests, "temporarily_unavailable", 90055, "There are too many incoming requests.")
			if wait >= 0 {
				a.set("Retry-After", fmt.Sprint(int(wait/time.Second)))
			}
			break
		}
		a = tooMany(wait, "Tenant_Application/ReadWrite/"+c.app.ID+"/"+c.s.tenantID, "CPULimitExceeded")
	case Unauthorized:
		a = unauthorized("InvalidAuthenticationToken", "Access token validation failure. The token has been revoked.")
		if x.Claims {
			a = challenge(c.s.root, c.now)
		}
	case Ignore:
		a = noContent()
		if n := len(c.parts); n > 0 && strings.HasSuffix(c.parts[n-1], "revokeSignInSessions") {
			a = jsonAnswer(http.StatusOK, []byte("{"+c.context("Edm.Boolean")+`,"value":true}`))
		}
	default: // drop and break keep the real answer; the wire is what breaks
		a = real
	}
	return &a
}
