package childqueue

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"jmlbridge/internal/queue"
)

// Times of a parent.
const (
	openTime   = 20 * time.Second // for a child to start and read its files; it does not wait for the mid-point
	cancelTime = 5 * time.Second  // for a child to end a call that it was asked to end
	patience   = 10 * time.Second // how long a call waits for a child before it says so
	minBackoff = 250 * time.Millisecond
	maxBackoff = 30 * time.Second // between children
	steadyFor  = time.Minute      // a child that lived so long was a good one: the pause starts anew
	failTime   = time.Second      // that a fetch takes at least which fails, whatever the child says: its caller writes it down and tries again
)

// Limits are what a child may not exceed. Zero fields take the values beside them.
type Limits struct {
	Look     time.Duration // between two looks; 1 s
	Silence  time.Duration // since the last answer to a ping; 15 s
	Resident int64         // octets of memory; 512 MiB
	Burning  time.Duration // of a processor's time within a minute beyond what its results may have cost; 15 s, or less in a container held to less than a core
	Empty    uint64        // empty results between two looks; 200
	Aside    time.Duration // between two changes of its word on what was set aside, of which the later ones wait; 1 min
	Idle     time.Duration // fetching nothing but failures; 5 min: a new one reads its files and names anew
}

func (l *Limits) fill() {
	def := func(v *time.Duration, d time.Duration) {
		if *v == 0 {
			*v = d
		}
	}
	def(&l.Look, time.Second)
	def(&l.Silence, 15*time.Second)
	def(&l.Burning, burning(cores()))
	def(&l.Aside, time.Minute)
	def(&l.Idle, 5*time.Minute)
	if l.Resident == 0 {
		l.Resident = 512 << 20
	}
	if l.Empty == 0 {
		l.Empty = 200
	}
}

// Command is how a child is started and what it is told.
type Command struct {
	Path     string // of the binary: our own
	Args     []string
	Env      []string      // all of its environment
	Config   []byte        // the queue's block of the configuration, for the child's Adapters
	Patience time.Duration // how long a call waits for a child; 10 s
	Log      *slog.Logger
	// Replaced is told each time that a child had to be replaced, and why; may be nil. It must not block. It is not
	// told of one that was idle: that the mid-point is away is for whoever calls to tell.
	Replaced func(why error)
	// Aside is told whether what the queue set aside can be read, by each child when that is known and when it changes; may be
	// nil. It must not block.
	Aside  func(read bool)
	Limits Limits

	ration *ration // of Log; check makes it
}

func (c *Command) check() error {
	if len(c.Config) > maxConfig {
		return fmt.Errorf("a configuration of %d octets, at most %d", len(c.Config), maxConfig)
	}
	if c.Patience <= 0 {
		c.Patience = patience
	}
	if c.Replaced == nil {
		c.Replaced = func(error) {}
	}
	if c.Aside == nil {
		c.Aside = func(bool) {}
	}
	c.Limits.fill()
	c.ration = new(ration)
	return nil
}

// keeper keeps one child alive.
type keeper struct {
	c    Command
	role role

	mu      sync.Mutex // guards what follows
	from    queue.Position
	session *session // nil: none lives
	why     error    // why none does
	closed  bool
	changed chan struct{} // closed and replaced with session and closed
	failing time.Time     // since when every call was answered with a failure; zero: the last one was not
	born    time.Time     // when the newest child was started

	starting context.Context // ends with the keeper, so that nobody waits for a child that starts
	stop     context.CancelFunc
	done     chan struct{} // closed when run has ended
}

// keep starts the first child. What is wrong with the configuration is said now.
func keep(c Command, r role, from queue.Position) (*keeper, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	k := &keeper{c: c, role: r, from: from, changed: make(chan struct{}), done: make(chan struct{})}
	k.starting, k.stop = context.WithCancel(context.Background())
	s, err := k.begin()
	if err != nil {
		k.stop()
		return nil, err
	}
	k.set(s, nil)
	go k.run(s)
	return k, nil
}

func (k *keeper) begin() (*session, error) {
	ctx, cancel := context.WithTimeout(k.starting, openTime)
	defer cancel()
	k.mu.Lock()
	o := opening{k.role, k.from, k.c.Config}
	k.mu.Unlock()
	return begin(ctx, &k.c, o)
}

// run replaces the child until the keeper is closed.
func (k *keeper) run(s *session) {
	defer close(k.done)
	pause := minBackoff
	for {
		born := time.Now()
		if s != nil {
			s.watch(k.c.Limits, k.failed)
			if k.isClosed() {
				return
			}
			k.mu.Lock()
			k.session, k.why = nil, &goneError{s.why}
			k.mu.Unlock()
			k.c.Log.Error("the process that speaks to the mid-point is replaced", "why", s.why.Error())
			if !errors.Is(s.why, errIdle) { // it did nothing wrong
				k.c.Replaced(s.why)
			}
		}
		if time.Since(born) > steadyFor {
			pause = minBackoff
		}
		if !k.rest(context.Background(), about(pause)) {
			return
		}
		pause = min(2*pause, maxBackoff)
		var err error
		if s, err = k.begin(); err != nil {
			k.c.Log.Error("the process that speaks to the mid-point does not start", "err", err.Error())
		}
		if !k.set(s, err) {
			s.close()
			return
		}
	}
}

// about is a pause of pause at most, so that not all who lost the same mid-point come back to it at once.
func about(pause time.Duration) time.Duration { return pause/2 + rand.N(pause/2) }

// rest waits, at most until ctx ends; false: the keeper was closed meanwhile.
func (k *keeper) rest(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	for {
		k.mu.Lock()
		closed, changed := k.closed, k.changed
		k.mu.Unlock()
		if closed {
			return false
		}
		select {
		case <-t.C:
			return true
		case <-ctx.Done():
			return true
		case <-changed:
		}
	}
}

// set makes s the child that calls go to. It returns false where s lives and the keeper was closed.
func (k *keeper) set(s *session, why error) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.closed {
		return s == nil
	}
	k.session, k.why, k.failing = s, why, time.Time{}
	if s != nil {
		k.born = time.Now()
	}
	close(k.changed)
	k.changed = make(chan struct{})
	return true
}

func (k *keeper) isClosed() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.closed
}

// await returns a child that lives, or says after the patience why none does.
func (k *keeper) await(ctx context.Context) (*session, error) {
	t := time.NewTimer(k.c.Patience)
	defer t.Stop()
	for {
		k.mu.Lock()
		s, why, closed, changed := k.session, k.why, k.closed, k.changed
		k.mu.Unlock()
		switch {
		case closed:
			return nil, queue.ErrClosed
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case s != nil && !s.gone():
			return s, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
		case <-t.C:
			if why == nil {
				why = errors.New("its process is being replaced")
			}
			if errors.Is(why, queue.ErrRefused) {
				return nil, why
			}
			return nil, fmt.Errorf("%w (waited %s; %w)", queue.ErrUnreachable, k.c.Patience, why)
		}
	}
}

func (s *session) gone() bool {
	select {
	case <-s.ended:
		return true
	default:
		return false
	}
}

// judged notes whether a call brought anything, for watch.
func (k *keeper) judged(failed bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case !failed:
		k.failing = time.Time{}
	case k.failing.IsZero():
		k.failing = time.Now()
	}
}

// ended is err, or ErrClosed where the caller's own Close is what ended the call.
func (k *keeper) ended(err error) error {
	if err != nil && k.isClosed() {
		return queue.ErrClosed
	}
	return err
}

// Close ends the child and every call under way.
func (k *keeper) Close() error {
	k.mu.Lock()
	was, s := k.closed, k.session
	k.closed = true
	if !was {
		close(k.changed)
		k.changed = make(chan struct{})
	}
	k.mu.Unlock()
	k.stop()
	if s != nil {
		s.close()
	}
	<-k.done
	return nil
}

// failed says since when every call was answered with a failure.
func (k *keeper) failed() time.Time {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.failing
}

// watch looks at a child until it has ended, and ends it where it exceeds a limit. failing says since when it brings
// nothing but failures.
func (s *session) watch(l Limits, failing func() time.Time) {
	tick := time.NewTicker(l.Look)
	defer tick.Stop()
	pinging := make(chan struct{}, 1) // a ping can hang in the pipe of a child that does not read
	last := look{sample: sample{at: time.Now()}}
	var minute window
	for {
		select {
		case <-s.ended:
			return
		case <-tick.C:
		}
		select {
		case pinging <- struct{}{}:
			go func() {
				_ = s.say(frame{kindPing, 0, nil})
				<-pinging
			}()
		default:
		}
		now := s.look()
		now.since = minute.slide(now.sample)
		if why := l.exceeded(last, now, failing()); why != nil {
			s.kill(why)
		}
		last = now
	}
}

// look is what one look at a child saw.
type look struct {
	sample
	heard    time.Time // when it last answered
	resident int64     // octets of memory
	empty    uint64
	since    sample // the first within the window
}

func (s *session) look() look {
	u := usageOf(s.cmd.Process.Pid)
	return look{sample: sample{time.Now(), u.cpu, s.results.Load(), s.octets.Load()}, heard: s.begun.Add(time.Duration(s.heard.Load())), resident: u.resident, empty: s.empty.Load()}
}

// errIdle is a child that is replaced in the hope of a better one: files and host names are read anew.
var errIdle = errors.New("nothing but failures")

// exceeded says which limit a child has exceeded, if any.
func (l Limits) exceeded(last, now look, failing time.Time) error {
	switch silence := now.at.Sub(now.heard); {
	case silence > l.Silence:
		return fmt.Errorf("it has not answered for %s", silence.Round(time.Millisecond))
	case now.resident > l.Resident:
		return fmt.Errorf("it takes %d MiB of memory, more than %d", now.resident>>20, l.Resident>>20)
	case burnt(now.since, now.sample) > l.Burning:
		return fmt.Errorf("it has burnt %s of a processor's time in %s for %d results", (now.cpu - now.since.cpu).Round(time.Millisecond),
			now.at.Sub(now.since.at).Round(time.Millisecond), now.results-now.since.results)
	case now.empty > last.empty && now.empty-last.empty > l.Empty:
		return fmt.Errorf("%d empty results in %s", now.empty-last.empty, now.at.Sub(last.at).Round(time.Millisecond))
	case !failing.IsZero() && now.at.Sub(failing) > l.Idle:
		return fmt.Errorf("%w for %s", errIdle, now.at.Sub(failing).Round(time.Second))
	}
	return nil
}
