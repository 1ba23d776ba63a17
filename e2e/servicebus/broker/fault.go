package broker

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"jmlbridge/e2e/servicebus/amqp"
)

// A Fault spoils what matches it. Of several that match, the first in force
// decides; delays and gates of all of them add up.
type Fault struct {
	Name      string `json:"name,omitempty" yaml:"name"`           // for removing it; "" gets one
	On        Point  `json:"on" yaml:"on"`                         // where it strikes
	Entity    string `json:"entity,omitempty" yaml:"entity"`       // path; "" matches all
	Operation string `json:"operation,omitempty" yaml:"operation"` // of manage, without com.microsoft:; "" matches all
	Message   string `json:"message,omitempty" yaml:"message"`     // message id, for send, deliver and settle; "" matches all

	Skip        int     `json:"skip,omitempty" yaml:"skip"`               // so many matches go through first
	Count       int     `json:"count,omitempty" yaml:"count"`             // and so many are hit; 0 means all
	Probability float64 `json:"probability,omitempty" yaml:"probability"` // of those; 0 means always

	Kind    Kind `json:"kind" yaml:"kind"`
	Applied bool `json:"applied,omitempty" yaml:"applied"` // it takes effect all the same: the answer alone is lost or spoiled

	Condition   string `json:"condition,omitempty" yaml:"condition"`     // of error, detach, end and close; "" means server-busy, detach-forced, internal-error and connection:forced
	Description string `json:"description,omitempty" yaml:"description"` // goes with it
	Status      int    `json:"status,omitempty" yaml:"status"`           // of error on token and manage; 0 means what fits the condition

	Gate  string        `json:"gate,omitempty" yaml:"gate"`   // of delay: until this gate is released
	Delay time.Duration `json:"delay,omitempty" yaml:"delay"` // of delay: so long, by the broker's clock

	Places int    `json:"places,omitempty" yaml:"places"` // of reorder: behind so many later messages; 0 means 1
	Poison Poison `json:"poison,omitempty" yaml:"poison"` // of poison: what is wrong with the message

	// Shape, of poison, is called with the message in place of Poison and may
	// change everything. It runs under the broker's lock.
	Shape func(m *amqp.Message, b *amqp.Bare) `json:"-" yaml:"-"`
}

// A Point says where a fault strikes.
type Point string

// The points.
const (
	OnDial    Point = "dial"    // a connection comes in: reset or silence
	OnOpen    Point = "open"    // the client opens the connection
	OnToken   Point = "token"   // a token is put at $cbs
	OnAttach  Point = "attach"  // a link is attached, other than to $cbs
	OnSend    Point = "send"    // a message or batch comes in
	OnDeliver Point = "deliver" // a message goes out
	OnSettle  Point = "settle"  // an outcome comes in, on the link
	OnManage  Point = "manage"  // a request to $management

	onNothing Point = ""
)

// A Kind says what a fault does.
type Kind string

// The kinds. Those marked * honour Applied.
const (
	Error     Kind = "error"     // * the answer is a refusal with Condition
	Reset     Kind = "reset"     // * the connection breaks without an answer
	Silence   Kind = "silence"   // * there is no answer; for dial and open nothing is ever heard again
	Detach    Kind = "detach"    // * the link is detached with Condition instead of an answer
	End       Kind = "end"       // * the session is ended
	CloseConn Kind = "close"     // * the connection is closed in order
	Delay     Kind = "delay"     // waits for Delay and Gate before the effect, or before the answer when Applied
	Ignore    Kind = "ignore"    // it is answered as done, and is not
	Malformed Kind = "malformed" // of token and manage: the reply has no properties
	Replay    Kind = "replay"    // of settle: done, and the message comes again as a new one
	Duplicate Kind = "duplicate" // of send and deliver: the message is there twice
	Lose      Kind = "lose"      // of deliver: the message is gone, and nobody gets it
	Alter     Kind = "alter"     // of send (for good) and deliver (this time): a bit of the body is flipped
	Reorder   Kind = "reorder"   // of deliver: later messages go first
	PoisonIt  Kind = "poison"    // of deliver: the message is made to trip its reader
)

// instead are the kinds that keep an op from taking effect, unless Applied.
var instead = []Kind{Error, Reset, Silence, Detach, End, CloseConn}

// kindsAt are the kinds that make sense at each point.
var kindsAt = map[Point][]Kind{
	OnDial:    {Reset, Silence},
	OnOpen:    {Error, Reset, Silence, Delay},
	OnToken:   {Error, Reset, Silence, Detach, End, CloseConn, Delay, Ignore, Malformed},
	OnAttach:  {Error, Reset, Silence, End, CloseConn, Delay},
	OnSend:    {Error, Reset, Silence, Detach, End, CloseConn, Delay, Ignore, Duplicate, Alter},
	OnDeliver: {Reset, Detach, End, CloseConn, Duplicate, Lose, Alter, Reorder, PoisonIt},
	OnSettle:  {Error, Reset, Silence, Detach, End, CloseConn, Delay, Ignore, Replay},
	OnManage:  {Error, Reset, Silence, Detach, End, CloseConn, Delay, Ignore, Malformed},
}

// Hits is how often a fault has struck.
type Hits struct {
	Fault
	Seen int `json:"seen"` // matches
	Hit  int `json:"hit"`  // of them spoiled
}

type faults struct {
	list  []*Hits
	named int
	rand  *rand.Rand
	gates map[string]*gate
}

func (f *faults) seed(seed uint64) {
	f.rand = rand.New(rand.NewPCG(seed, 0))
	f.gates = map[string]*gate{}
}

// AddFaults puts faults in force and returns their names.
func (b *Broker) AddFaults(list ...Fault) ([]string, error) {
	for _, x := range list {
		if err := x.check(); err != nil {
			return nil, err
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	var names []string
	for _, x := range list {
		if x.Name == "" {
			b.faults.named++
			x.Name = fmt.Sprintf("fault-%d", b.faults.named)
		}
		names = append(names, x.Name)
		b.faults.list = append(b.faults.list, &Hits{Fault: x})
	}
	return names, nil
}

func (f *Fault) check() error {
	kinds := kindsAt[f.On]
	switch {
	case kinds == nil:
		return wrong("fault %q: on %q: expected dial, open, token, attach, send, deliver, settle or manage", f.Name, f.On)
	case !slices.Contains(kinds, f.Kind):
		return wrong("fault %q: kind %q on %s: expected one of %v", f.Name, f.Kind, f.On, kinds)
	case f.Kind == Delay && f.Gate == "" && f.Delay <= 0:
		return wrong("fault %q: a delay needs a gate or a time", f.Name)
	case f.Probability < 0 || f.Probability > 1 || f.Skip < 0 || f.Count < 0 || f.Places < 0:
		return wrong("fault %q: probability is 0 to 1; skip, count and places are not negative", f.Name)
	}
	if _, known := poisons[f.Poison]; f.Kind == PoisonIt && f.Shape == nil && !known {
		return wrong("fault %q: poison %q: expected one of %v", f.Name, f.Poison, slices.Sorted(maps.Keys(poisons)))
	}
	return nil
}

// RemoveFault ends the fault of that name; "" ends all.
func (b *Broker) RemoveFault(name string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.faults.list = slices.DeleteFunc(b.faults.list, func(h *Hits) bool { return name == "" || h.Name == name })
}

// Faults lists the faults in force.
func (b *Broker) Faults() []Hits {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := make([]Hits, len(b.faults.list))
	for i, h := range b.faults.list {
		out[i] = *h
	}
	return out
}

// Struck is how many ops the faults in force have spoiled.
func (b *Broker) Struck() (n int) {
	for _, h := range b.Faults() {
		n += h.Hit
	}
	return n
}
