package sim

import (
	"context"
	"errors"
	"slices"
	"time"

	"jmlbridge/consumer/admit"
	"jmlbridge/consumer/apply"
	"jmlbridge/consumer/fence"
	"jmlbridge/consumer/intake"
	"jmlbridge/consumer/plan"
	"jmlbridge/consumer/policy"
	"jmlbridge/consumer/ruling"
	"jmlbridge/consumer/state"
	"jmlbridge/internal/disk"
	"jmlbridge/internal/ledger"
	"jmlbridge/internal/ledger/entry"
	"jmlbridge/internal/queue"
	"jmlbridge/internal/store"
)

// staleAfter is how long without a heartbeat grants go on.
const staleAfter = 5 * time.Minute

// consumer is the real intake and the real executor on their database.
type consumer struct {
	mortal
	db     *state.DB
	in     *intake.Intake
	engine *apply.Engine
	policy *policy.Policy
	room   *room

	batch   []*message        // that Take has in hand; nil where it has none
	line    []*message        // that it keeps in memory, since the disk has no room for them
	dropped map[*message]bool // that it took on a full disk and did not keep
	unswept bool              // it started, perhaps without what waited for room, or had none to look, and has not looked since at what it has to report
	from    time.Time         // when its step began
	offset  time.Duration     // of the enclave's clock
	latest  time.Time         // that its clock said before the jumps that nobody has confirmed
	doubt   bool              // it jumped, and nobody has confirmed it yet
	inside  bool              // a step of the executor is under way: calls of the tenant may let messages in
}

func newConsumer(w *world) *consumer {
	c := &consumer{mortal: mortal{w: w, name: "consumer"}, dropped: map[*message]bool{}}
	c.room = newRoom(c)
	first := w.lab.blank
	if w.producers[0].opened == 1 {
		first = w.lab.consumer
		if w.producers[0].second != nil {
			first = w.lab.second
		}
	}
	c.lay(first, 0)
	var err error
	if c.policy, err = newPolicy(w.mood.giveLimit, w.mood.cutLimit, w.mood.grace, w.producers[0].second != nil); err != nil {
		w.broken("policy: %v", err)
	}
	return c
}

// start is a start of the program.
func (c *consumer) start() {
	w := c.w
	var err error
	if c.db, err = state.Open(c.path); err == nil {
		c.in, err = intake.New(intake.Config{DB: c.db, Name: "adversary", Ring: w.lab.ring, Openers: 1, Now: c.now, Log: w.log, StaleAfter: staleAfter, Committed: c.committed, Room: c.room})
	}
	if err == nil {
		c.engine, err = apply.New(apply.Config{DB: c.db, Policy: c.policy, Cut: w.tenant, Grant: w.tenant, SharedQuota: true, StaleAfter: staleAfter, Room: c.room,
			Committed: c.committed, Log: w.log, Now: c.now, After: w.clock.after, Jitter: w.upTo})
	}
	if err != nil {
		w.broken("start the consumer: %v", err)
	}
	if c.room.most > 0 {
		c.room.bound(c.room.most)
	}
	w.mid.again(c.line) // nothing of it was settled
	c.line, c.unswept = nil, w.mood.fills > 0
	w.watch.reopen()
}

func (c *consumer) stop() {
	if c.db != nil {
		_ = c.db.Close()
		c.db = nil
	}
}

// now is the enclave's clock as the program reads it.
func (c *consumer) now() time.Time {
	c.seam("clock")
	return c.clock()
}

// clock is the enclave's clock.
func (c *consumer) clock() time.Time { return c.w.clock.now().Add(c.offset) }

// jump sets the enclave's clock wrong, or right again. The program notices at once.
func (c *consumer) jump(offset time.Duration) {
	was := c.clock()
	c.offset = offset
	j := apply.Jumped(entry.AgainstMonotonic, was, c.clock())
	c.w.tracef("the enclave's clock jumps by %v", c.clock().Sub(was))
	if j == nil {
		return
	}
	c.operate(func(tx *store.Tx) error { return j.Record(tx, c.clock()) })
	if !c.doubt || was.After(c.latest) {
		c.latest = was
	}
	c.doubt = true
}

// confirm is `consumer clock confirm`.
func (c *consumer) confirm() {
	c.operate(func(tx *store.Tx) error { return apply.ClockConfirmed(tx, by(c.clock())) })
	c.w.tracef("operator confirms the clock")
	c.doubt = false
}

// committed is called when something was added to the ledger.
func (c *consumer) committed() {
	c.seam("committed")
	c.w.watch.read()
}

// alive runs f, and starts the program anew where it died in it.
func (c *consumer) alive(what string, f func() error) {
	w := c.w
	dead := c.lives(what, w.mood.crash, func() {
		if err := f(); err != nil {
			w.broken("%s: %v", what, err)
		}
	})
	if dead {
		c.resurrect()
	}
	w.watch.read()
}

// resurrect starts the program on what its disk holds.
func (c *consumer) resurrect() {
	w := c.w
	c.inside = false
	c.reborn(c.stop)
	c.start()
	if batch := c.batch; batch != nil {
		c.batch = nil
		w.mid.again(batch)
		c.recorded(batch)
	}
	w.watch.rosters()
	c.sweep()
}

// recorded finds out whether a batch that was under way in a crash is durable: all of it, or nothing.
func (c *consumer) recorded(batch []*message) {
	w := c.w
	there, missing := 0, 0
	var fresh []*message
	for _, x := range batch {
		if x.truth == nil || w.watch.had(x) || x.from.model.Disowned(*x.truth) {
			continue
		}
		if c.present(x) {
			there++
			fresh = append(fresh, x)
			delete(c.dropped, x) // there was room this time
		} else {
			missing++
		}
	}
	if there > 0 && missing > 0 && c.room.Level() != disk.Full { // which splits it
		w.failf("torn batch", "after a crash %d messages of a batch are recorded and %d are not", there, missing)
	}
	w.watch.deliver(fresh)
}

// pull is one round of the intake: fetch, make durable, settle.
func (c *consumer) pull() {
	w := c.w
	batch := w.mid.fetch(1 + w.rng.IntN(6))
	if len(batch) == 0 && len(c.line) == 0 {
		return
	}
	c.take(batch)
}

func (c *consumer) take(batch []*message) {
	w := c.w
	deliveries := make([]queue.Delivery, len(batch))
	for i, x := range batch {
		deliveries[i] = queue.Delivery{Body: x.body, Position: queue.Position("1"), Lease: x}
		if x.truth != nil {
			w.tracef("took %s", x)
		}
	}
	all := append(c.line, batch...)
	c.batch, c.line, c.room.spent = all, nil, false
	taken, err := c.in.Take(context.Background(), deliveries)
	if err != nil {
		w.broken("take: %v", err)
	}
	c.batch = nil
	batch = batch[:0:0]
	for _, d := range taken {
		batch = append(batch, d.Lease.(*message))
	}
	var there []*message
	if c.room.Level() == disk.Full {
		there = c.sift(all, batch)
	}
	for _, x := range batch {
		if c.dropped[x] && c.present(x) {
			delete(c.dropped, x)
		}
	}
	w.watch.deliver(append(there, batch...))
	c.seam("taken")
	if !w.mid.calm && w.chance(10) { // the settling is lost
		w.mid.again(batch)
		return
	}
	for _, x := range batch {
		if x.truth != nil && !x.settled && !c.dropped[x] {
			x.settled = true
			w.count.Acknowledged++
		}
	}
	c.seam("settled")
}

// sift finds, of what a full disk did not take, what stays in the line, and of what it took what there was no room to
// keep: that comes again, as when an operator asks the producer for it. What is there of the line all the same it returns.
func (c *consumer) sift(all, taken []*message) (there []*message) {
	w := c.w
	for _, x := range all {
		done := slices.Contains(taken, x)
		switch {
		case !done && !slices.Contains(c.line, x):
			c.line = append(c.line, x)
			if x.truth == nil {
				continue
			}
			w.tracef("no room for %s", x)
			if c.present(x) { // it came before, or what is behind it was not let in
				there = append(there, x)
			} else if x.truth.Event.Kind().Cuts() && !c.room.spent {
				w.failf("cut without room", "%s waits, and the reserve is not used up", x)
			}
		case done && x.truth != nil && !w.watch.delivered[x] && !c.dropped[x] && !c.present(x):
			c.drop(x)
		}
	}
	return there
}

// drop notes that the consumer answered for a message that it had no room to keep.
func (c *consumer) drop(x *message) {
	c.w.tracef("no room to keep %s", x)
	c.dropped[x] = true
	c.w.mid.again([]*message{x})
}

// roster takes up to n steps of the roster whose turn it is; n of 0 is all of them.
func (c *consumer) roster(n int) {
	for i := 0; c.room.Level() != disk.Full && (n == 0 || i < n); i++ {
		more, err := c.in.StepRoster(context.Background())
		if err != nil && !c.room.Full(err) {
			c.w.broken("apply a roster: %v", err)
		}
		c.w.watch.rosters()
		if !more {
			return
		}
	}
}

// work is one round of the executor.
func (c *consumer) work() {
	c.w.clock.pass(time.Millisecond) // no two steps are at one instant: holds are named after theirs
	c.inside, c.from = true, c.clock()
	_, err := c.engine.Step(context.Background())
	c.inside = false
	if err != nil && !c.room.Full(err) {
		c.w.broken("executor: %v", err)
	}
}

func (c *consumer) sweep() {
	if err := c.in.Sweep(context.Background()); err != nil {
		if !c.room.Full(err) {
			c.w.broken("sweep: %v", err)
		}
		c.unswept = true
		return // what there is to report is reported when there is room
	}
	c.unswept = false
	c.w.watch.alarms()
}

// operate is a transaction of an operator's command, in a process of its own: it does not die with the
// consumer.
func (c *consumer) operate(f func(tx *store.Tx) error) {
	c.room.outgrown(func() {
		if err := c.db.Update(context.Background(), f); err != nil {
			c.w.broken("operator: %v", err)
		}
	})
}

// lock is `consumer cut` and `consumer unlock`.
func (c *consumer) lock(p *producer, subject string, on bool) {
	c.operate(func(tx *store.Tx) error {
		lane, lock, action := plan.Give, (*fence.Lock)(nil), "unlock"
		if on {
			lane, lock, action = plan.Disable, &fence.Lock{By: "operator", Reason: "the schedule", At: c.clock()}, "cut"
		}
		if err := state.Lock(tx, state.SubjectKey{Issuer: p.issuer, Subject: subject}, lock, lane, c.clock()); err != nil {
			return err
		}
		_, err := ledger.Append(tx, entry.New(c.clock(), &entry.Operator{By: "operator", Action: action, Issuer: p.issuer, Subject: subject, Reason: "the schedule"}))
		return err
	})
	p.model.Lock(subject, on)
	c.w.tracef("operator locks %s of %d: %v", subject, p.n, on)
}

// join is `consumer trust add` of a producer's first key, to follow its stream after a message.
func (c *consumer) join(p *producer, pin state.Pin) {
	c.operate(func(tx *store.Tx) error {
		return state.TrustKey(tx, c.w.lab.key(p.n, firstKey), pin, by(c.clock()))
	})
	c.w.tracef("operator joins %d at %d/%d", p.n, pin.Generation, pin.Head)
	p.opened = pin.Generation
	p.model.Join(pin.Generation, pin.Head, pin.Hash)
	c.w.watch.heard(p)
	c.sweep()
}

// trust is `consumer trust generation`.
func (c *consumer) trust(p *producer, generation int) {
	c.operate(func(tx *store.Tx) error {
		if err := state.TrustGeneration(tx, p.issuer, stream, state.Pin{Generation: generation}, by(c.clock())); err != nil {
			return err
		}
		return intake.Voices(tx, c.clock())
	})
	p.opened = generation
	c.w.tracef("operator opens generation %d of %d", generation, p.n)
	p.model.Open(generation)
	c.sweep()
}

// rotate is `consumer trust add` of the producer's next key and `consumer trust retire` of the first.
func (c *consumer) rotate(p *producer, last admit.Point) {
	c.operate(func(tx *store.Tx) error {
		now := c.clock()
		if err := state.TrustKey(tx, c.w.lab.key(p.n, nextKey), state.Pin{}, by(now)); err != nil {
			return err
		}
		return state.RetireKey(tx, c.w.lab.kids[p.n*keysEach+firstKey], last, by(now))
	})
	c.w.tracef("operator retires the first key of %d at %d/%d", p.n, last.Generation, last.Seq)
	c.sweep()
}

// limits are the codes of holds by limits.
var limits = []string{apply.AlarmGiveLimit, apply.AlarmCutLimit, apply.AlarmTakeLimit, apply.AlarmDeleteLimit}

// release lets everything through that a limit holds, and takes back what was given on a word that was ruled out.
func (c *consumer) release() {
	c.decide([]string{ruling.Code}, c.undo)
	c.decide(limits, func(tx *store.Tx, h *state.Hold) error {
		_, done, err := state.DecideHold(tx, h.ID, h.Digest, state.HoldReleased, "operator", "the schedule", 1, c.clock())
		if err != nil || !done {
			return errors.Join(err, errors.New("a release that is not done"))
		}
		if err := state.LetThrough(tx, h.ID, c.clock()); err != nil {
			return err
		}
		if err := apply.ClearLimit(tx, h.Code, c.clock()); err != nil {
			return err
		}
		c.w.tracef("operator releases hold %d", h.ID)
		return nil
	})
}

// decide is an operator's decision, by f, on every open hold of these codes.
func (c *consumer) decide(codes []string, f func(tx *store.Tx, h *state.Hold) error) {
	open, err := state.Holds(c.db.Read())
	if err != nil {
		c.w.broken("look for holds: %v", err)
	}
	open = slices.DeleteFunc(open, func(h *state.Hold) bool { return !slices.Contains(codes, h.Code) })
	if len(open) == 0 {
		return
	}
	c.operate(func(tx *store.Tx) error {
		for _, h := range open {
			if err := f(tx, h); err != nil {
				return err
			}
		}
		return nil
	})
}
