package sim

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"time"

	"jmlbridge/consumer/admit"
	"jmlbridge/consumer/plan"
	"jmlbridge/consumer/state"
)

// Counts is what a schedule, or many of them, came to.
type Counts struct {
	Schedules    int64
	Messages     int64 // the producer wrote
	Acknowledged int64 // of them, to the mid-point
	Applied      int64 // operations on the tenant that took effect
	Crashes      int64 // of producers and of the consumer
	Lost         int64 // acknowledged, and not in the archive
	Duplicated   int64 // accounts of one person beside another
	Resurrected  int64 // intents that give to someone who left
	Unreported   int64 // gaps, forks, and branches that go on, of which no alarm told
}

// Add sums up.
func (c *Counts) Add(o Counts) {
	c.Schedules += o.Schedules
	c.Messages += o.Messages
	c.Acknowledged += o.Acknowledged
	c.Applied += o.Applied
	c.Crashes += o.Crashes
	c.Lost += o.Lost
	c.Duplicated += o.Duplicated
	c.Resurrected += o.Resurrected
	c.Unreported += o.Unreported
}

// Failure is an invariant that did not hold.
type Failure struct{ Invariant, Text string }

func (f *Failure) Error() string { return f.Invariant + ": " + f.Text }

// clock is the time, which only the schedule moves.
type clock struct{ t time.Time }

func (c *clock) now() time.Time       { return c.t }
func (c *clock) pass(d time.Duration) { c.t = c.t.Add(d) }

// after is time.After: whoever waits makes the time pass.
func (c *clock) after(d time.Duration) <-chan time.Time {
	c.pass(d)
	ch := make(chan time.Time, 1)
	ch <- c.t
	return ch
}

// mood is how one schedule's adversary and world are, in percent.
type mood struct {
	drop, reorder, repeat, alter, forge, flood, freeze int // of the mid-point
	faults, crash, producerCrash                       int
	forgetful                                          int // producer's people, who restore and do not say so
	newer                                              int // of what is said is in a newer version
	giveLimit, cutLimit                                int
	people                                             int
	days                                               int           // that may pass at once
	jumps                                              int           // of the enclave's clock, in percent of steps
	grace                                              time.Duration // until accounts of leavers are deleted
	fills                                              int           // of the enclave's disk, and room again, in percent of steps
	losses                                             int           // of the enclave's database, in percent of steps
	approves                                           int           // of a second signer's words, in percent of steps; 0: nobody has to agree
	rules                                              int           // of an operator on a stream that says two things, in percent of steps; 0: only a new generation ends that
}

// world is one schedule.
type world struct {
	lab   *Lab
	dir   string
	rng   *rand.Rand
	clock *clock
	mood  mood
	trace io.Writer // nil: nobody reads it
	log   *slog.Logger

	producers []*producer
	mid       *midpoint
	consumer  *consumer
	tenant    *tenant
	watch     *watch

	thief    *thief                // nil: nobody has a producer's key
	known    map[[32]byte]*message // authentic messages by digest of their octets
	calm     bool                  // the adversary rests, and nothing fails
	outlived time.Time             // whose engagement was over by then has no account in the end; zero: grace was not waited for
	count    Counts
}

// of is the producer with a name.
func (w *world) of(issuer string) *producer {
	for _, p := range w.producers {
		if p.issuer == issuer {
			return p
		}
	}
	w.broken("the ledger speaks of %q, whom nobody knows", issuer)
	return nil
}

func (w *world) anyProducer() *producer { return w.producers[w.rng.IntN(len(w.producers))] }

// stopped ends a schedule.
type stopped struct{ err error }

func (w *world) failf(invariant, format string, args ...any) {
	w.tracef("%s: %s", invariant, fmt.Sprintf(format, args...))
	panic(stopped{&Failure{invariant, fmt.Sprintf(format, args...)}})
}

// broken is a schedule that cannot go on for a reason that is no invariant's: an error where none may be.
func (w *world) broken(format string, args ...any) { w.failf("broken", format, args...) }

func (w *world) tracef(format string, args ...any) {
	if w.trace != nil {
		fmt.Fprintf(w.trace, "%s %s\n", w.clock.now().Format("02 15:04:05"), fmt.Sprintf(format, args...))
	}
}

func (w *world) chance(percent int) bool { return percent > 0 && w.rng.IntN(100) < percent }

func (w *world) upTo(d time.Duration) time.Duration {
	if d <= 0 {
		return 0
	}
	return time.Duration(w.rng.Int64N(int64(d)))
}

func (w *world) anyone() string { return fmt.Sprintf("P-%d", 1+w.rng.IntN(w.mood.people)) }

func (w *world) anyRoles() []string {
	switch w.rng.IntN(4) {
	case 0:
		return []string{"guest"}
	case 1:
		return []string{"analyst"}
	case 2:
		return []string{"lead"}
	}
	return []string{"analyst", "lead"}
}

// seams are also where the program writes its log.
type logSeam struct{ w *world }

func (h logSeam) Enabled(context.Context, slog.Level) bool { return true }
func (h logSeam) WithAttrs([]slog.Attr) slog.Handler       { return h }
func (h logSeam) WithGroup(string) slog.Handler            { return h }
func (h logSeam) Handle(_ context.Context, r slog.Record) error {
	if h.w.trace != nil {
		text := r.Message
		r.Attrs(func(a slog.Attr) bool {
			if a.Key != "account" && a.Key != "roster" { // made by chance
				text += " " + a.String()
			}
			return true
		})
		h.w.tracef("  log: %s", text)
	}
	h.w.consumer.seam("log")
	return nil
}

// Run plays the schedule of a seed and writes what happens to trace, which may be nil. An error is a *Failure.
func (l *Lab) Run(seed uint64, trace io.Writer) (count Counts, err error) {
	dir := filepath.Join(l.dir, "schedule")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return count, err
	}
	defer os.RemoveAll(dir)
	w := &world{lab: l, dir: dir, rng: rand.New(rand.NewPCG(seed, 0x6a6d6c)), clock: &clock{epoch}, trace: trace, known: map[[32]byte]*message{}}
	w.log = slog.New(logSeam{w})
	l.signed, l.keyOf = map[string][]byte{}, map[string]int{}
	defer func() {
		for _, p := range w.producers {
			bury(p.path, p.stop)
		}
		if w.consumer != nil {
			bury(w.consumer.path, w.consumer.stop)
		}
	}()
	defer func() {
		w.count.Schedules = 1
		count = w.count
		switch p := recover().(type) {
		case nil:
		case stopped:
			err = p.err
			if trace != nil && w.consumer != nil && w.consumer.db != nil {
				w.dump()
			}
		default:
			err = &Failure{"panic", fmt.Sprintf("%v\n%s", p, debug.Stack())}
		}
	}()
	w.begin()
	if seed >= Thieves {
		w.thief = newThief(w, seed)
	}
	for range 20 + w.rng.IntN(40) {
		w.step()
	}
	w.rest()
	w.final()
	return count, nil
}

func (w *world) begin() {
	w.mood = mood{people: 2 + w.rng.IntN(4), giveLimit: 1000, cutLimit: 1000, forgetful: 40, grace: 30 * 24 * time.Hour}
	attack := func(most int) int {
		if w.rng.IntN(2) == 0 {
			return 0
		}
		return w.rng.IntN(most)
	}
	w.mood.drop, w.mood.reorder, w.mood.repeat = attack(40), attack(90), attack(40)
	w.mood.alter, w.mood.forge, w.mood.flood, w.mood.freeze = attack(20), attack(40), attack(8), attack(30)
	w.mood.faults, w.mood.crash, w.mood.producerCrash = attack(40), attack(60), attack(20)
	if w.chance(20) {
		w.mood.newer = w.rng.IntN(25)
	}
	if w.chance(20) {
		w.mood.forgetful = 90
	}
	if w.chance(20) {
		w.mood.giveLimit, w.mood.cutLimit = 1+w.rng.IntN(3), 1+w.rng.IntN(2)
	}
	if w.chance(20) {
		w.mood.days = 1 + w.rng.IntN(9)
	}
	if w.chance(25) {
		w.mood.grace = max(time.Minute, w.upTo(3*24*time.Hour).Truncate(time.Minute)) // none would be never
	}
	if w.chance(15) {
		w.mood.jumps = 5
	}
	if w.chance(15) {
		w.mood.fills = 10
	}
	if w.chance(12) {
		w.mood.losses = 1 + w.rng.IntN(8)
	} else if w.chance(30) {
		w.mood.rules = 1 + w.rng.IntN(30)
		if w.chance(50) {
			w.mood.forgetful = 90
		}
	}
	w.tenant = &tenant{w: w, lag: w.upTo(40 * time.Second)}
	if w.chance(15) {
		w.tenant.lag = w.upTo(plan.Settling - time.Minute)
	}
	w.mid = &midpoint{w: w}
	w.watch = &watch{w: w, delivered: map[*message]bool{}, open: map[int64]*openIntent{}}
	w.producers = append(w.producers, newProducer(w, 0))
	if w.chance(20) {
		w.producers = append(w.producers, newProducer(w, 1))
	}
	first := w.producers[0]
	if w.chance(85) { // followed from its beginning
		first.opened = 1
		first.model.Open(1)
		if w.chance(25) {
			w.mood.approves = 10 + w.rng.IntN(30)
			first.second = &approver{p: first}
			for _, p := range w.producers { // the other has no second signer, and so nobody who leads
				p.model.Second("lead")
			}
		}
	}
	w.consumer = newConsumer(w)
	w.consumer.start()
	w.consumer.alive("start", func() error { w.consumer.sweep(); return nil })
}

// join lets the enclave's people trust a producer's first key, mostly from its beginning on, else from a message
// that it has published by now.
func (w *world) join(p *producer) {
	pin := state.Pin{Generation: p.generation}
	if !w.chance(30) || p.generation > 1 && w.chance(50) {
		var chain []*message // of which the producer's head is the end
		for prev := p.head; ; {
			i := slices.IndexFunc(w.mid.stored, func(x *message) bool { return x.from == p && x.truth.Hash == prev })
			if i < 0 {
				break
			}
			chain = append(chain, w.mid.stored[i])
			prev = w.mid.stored[i].truth.Stream.Prev
		}
		if len(chain) > 0 {
			x := chain[w.rng.IntN(len(chain))].truth
			pin = state.Pin{Generation: x.Stream.Generation, Head: x.Stream.Seq, Hash: x.Hash}
		}
	}
	w.consumer.join(p, pin)
}

// step is one thing that happens.
func (w *world) step() {
	if w.thief != nil && w.thief.act() {
		return
	}
	p, c := w.anyProducer(), w.consumer
	if w.chance(w.mood.jumps) {
		w.jump()
		return
	}
	if w.chance(w.mood.fills) {
		switch n := w.rng.IntN(5); n {
		case 3, 4:
			c.stuff()
		default:
			c.fill([...]int64{0, reserve / 2, 100 * reserve}[n])
		}
		return
	}
	if w.chance(w.mood.losses) && c.offset == 0 && !c.doubt {
		c.lose()
		return
	}
	if w.chance(w.mood.approves) {
		w.producers[0].second.approve()
		return
	}
	if p.model.Forked() && w.chance(w.mood.rules) {
		c.rule(p)
		return
	}
	switch n := w.rng.IntN(100); {
	case n < 24:
		for range 1 + w.rng.IntN(3) {
			p.hr()
		}
		p.relay()
	case n < 33:
		p.beat()
		p.relay()
	case n < 57:
		c.alive("intake", func() error {
			c.pull()
			if w.chance(70) {
				c.roster(0)
			}
			return nil
		})
	case n < 79:
		c.alive("executor", func() error { c.work(); return nil })
	case n < 86:
		w.pass()
	case n < 89:
		p.roster()
		p.relay()
	case n < 92:
		w.operator()
	case n < 96:
		if p.backup == nil || w.chance(50) {
			p.keep()
		} else {
			p.restore(w.chance(w.mood.forgetful))
			p.relay()
		}
	case n < 97:
		c.alive("restart", func() error { c.stop(); c.start(); c.sweep(); return nil })
	case n < 98:
		c.alive("sweep", func() error { c.sweep(); return nil })
	default:
		c.alive("roster", func() error { c.roster(1); return nil })
	}
}

// jump lets the enclave's clock go wrong, either way, or right again; somebody confirms it now or later.
func (w *world) jump() {
	c := w.consumer
	switch n := w.rng.IntN(10); {
	case c.offset != 0 && n < 5:
		c.jump(0)
	case n < 7:
		c.jump(w.upTo(10 * 24 * time.Hour))
	default: // no further than producers' clocks may be ahead
		c.jump(-w.upTo(admit.MaxSkew - time.Minute))
	}
	if c.doubt && w.chance(50) {
		c.confirm()
	}
}

// pass lets time go by.
func (w *world) pass() {
	switch w.rng.IntN(5) {
	case 4:
		if w.mood.days > 0 {
			w.clock.pass(w.upTo(time.Duration(w.mood.days) * 24 * time.Hour))
		}
	case 0:
		w.clock.pass(w.upTo(20 * time.Minute))
	case 1:
		w.clock.pass(w.upTo(3 * time.Hour))
	default:
		w.clock.pass(w.upTo(2 * time.Minute))
	}
	w.tracef("time passes")
}

// interlude is what happens in the world while the tenant has a request.
func (w *world) interlude() {
	if w.consumer.inside && w.consumer.batch == nil && w.chance(6) {
		w.consumer.pull()
	}
}

// operator is an act of an operator's.
func (w *world) operator() {
	p, c := w.anyProducer(), w.consumer
	if p.opened == 0 {
		w.join(p)
		return
	}
	switch w.rng.IntN(3) {
	case 0:
		subject := w.anyone()
		if i := slices.Index(p.locked, subject); i >= 0 {
			p.locked = slices.Delete(p.locked, i, i+1)
			c.lock(p, subject, false)
		} else {
			p.locked = append(p.locked, subject)
			c.lock(p, subject, true)
		}
	case 1:
		if p.generation > p.opened {
			c.trust(p, p.generation)
		}
	case 2:
		if !p.retired && w.thief == nil {
			p.retired = true
			p.stop()
			p.key = nextKey
			p.start()
			p.look()
			// Up to the last place that it signed, also where a restored producer does not know of that.
			last := p.at()
			for _, x := range w.mid.stored {
				if at := (admit.Point{Generation: x.truth.Stream.Generation, Seq: x.truth.Stream.Seq}); x.from == p && x.truth.Stream.ID == stream && behind(last, at) {
					last = at
				}
			}
			p.retiredAt = last
			c.rotate(p, last)
		}
	}
}

// rest: the adversary hands out what it has, nothing fails any more, and whoever has to decide something does.
func (w *world) rest() {
	c := w.consumer
	w.calm, w.mid.calm, w.tenant.calm = true, true, true
	w.tracef("the adversary rests")
	if w.mood.fills > 0 {
		c.fill(100 * reserve)
	}
	if c.offset != 0 {
		c.jump(0)
	}
	if c.doubt {
		c.confirm()
	}
	settle := func() {
		for _, p := range w.producers {
			for p.relay() {
			}
		}
		w.mid.rest()
		c.sweep()
		for len(w.mid.waiting) > 0 || len(c.line) > 0 {
			c.alive("intake", func() error { c.pull(); return nil })
		}
		c.alive("roster", func() error { c.roster(0); return nil })
	}
	for _, p := range w.producers {
		if p.opened == 0 {
			w.join(p)
		}
	}
	if w.thief != nil {
		w.thief.found()
	}
	w.decide(settle)
	for _, p := range w.producers {
		p.roster() // the next day's: whom it names is known again
	}
	w.decide(settle)    // a producer that was restored last, and says so nowhere, shows itself by that
	if w.thief != nil { // a roster that came while the stream said two things stands in for nothing; the next day's does
		w.producers[0].roster()
		w.decide(settle)
	}
	w.drain(settle)
	if w.mood.grace <= 3*24*time.Hour { // nothing but the deletes is left to happen
		w.outlived = w.clock.now()
		w.clock.pass(w.mood.grace)
		if w.mood.fills > 0 { // what is to be deleted waits for room, too
			c.fill(reserve / 2)
			c.alive("executor", func() error { c.work(); return nil })
			c.fill(100 * reserve)
		}
		w.drain(settle)
		w.clock.pass(time.Hour)
		w.drain(settle)
	}
}

// decide lets whoever has to decide on streams do so.
func (w *world) decide(settle func()) {
	settle()
	// A stream that says two things, or a generation that waits: the producer's people open another one and the
	// enclave's follow it. What comes of it may be a fork again.
	for range 5 {
		decided := false
		for _, p := range w.producers {
			if p.model.Forked() && w.mood.rules > 0 && w.chance(70) && w.consumer.rule(p) {
				decided = true
				continue
			}
			if p.model.Forked() || p.model.RuledOut(p.head) || p.generation < p.opened {
				p.keep()
				p.restore(false)
			}
			if p.generation > p.opened {
				w.consumer.trust(p, p.generation)
				decided = true
			}
		}
		if !decided {
			return
		}
		settle()
	}
}

// drain lets time pass until nothing is due any more.
func (w *world) drain(settle func()) {
	c := w.consumer
	for range 200 {
		for _, p := range w.producers {
			p.beat()
		}
		settle()
		c.release()
		c.alive("executor", func() error { c.work(); return nil })
		if w.idle() {
			return
		}
		w.clock.pass(max(time.Second, min(w.due().Sub(w.clock.now()), staleAfter-time.Minute)))
	}
	w.failf("no end", "work is still due long after the adversary rests")
}

// due is when something is to be done next, and no sooner than now; far off where nothing is.
func (w *world) due() time.Time {
	next, err := state.NextDue(w.consumer.db.Read(), w.consumer.clock())
	if err != nil {
		w.broken("look for the next work: %v", err)
	}
	if next.IsZero() {
		return state.Never
	}
	return next
}

// idle: nothing is due that can be done, for as long as a lagging read is not believed.
func (w *world) idle() bool {
	var due int
	now := w.consumer.clock()
	err := w.consumer.db.Read().QueryRow("SELECT count(*) FROM subject WHERE lane > 0 AND (due <= ? OR note LIKE 'held:%') OR next_at > 0 AND next_at <= ?", now.Add(15*time.Minute).UnixMilli(), now.UnixMilli()).Scan(&due)
	if err != nil {
		w.broken("look for due work: %v", err)
	}
	return due == 0
}
