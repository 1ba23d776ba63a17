package busqueue

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"

	"jmlbridge/internal/queue"
)

// Limits of a source.
const (
	maxAsk     = 1024    // messages asked for at once
	heldOctets = 8 << 20 // of bodies that nobody has fetched
	minOctets  = 2 << 10 // that a message is thought to have at least
	holeWait   = 50 * time.Millisecond
	// A link that returns nothing so often, one time after the other, within so short a time is wedged.
	wedgeResults = 3
	wedgeTime    = 5 * time.Second
	// After a panic messages are asked for one by one for so long: the one that causes it is delivered once a
	// lock, ten times by default, and must not take its neighbours with it into the dead letters.
	carefulFor = 15 * time.Minute
)

// held is a message under lock. Its body is gone once it was handed out.
type held struct {
	source *source
	lock   [16]byte
	own    atomic.Pointer[own] // nil: it is settled by its lock alone
	seq    int64               // unbelieved
	came   time.Time
	body   []byte
}

// own is what settling a message by its own link needs. The library keeps its body in that.
type own struct {
	message *azservicebus.ReceivedMessage
	by      *link
	conn    uint64 // of by's connections: on another one the message's own link is dead
}

// link is one client with one receiver, until it is given up.
type link struct {
	client   *azservicebus.Client
	receiver *azservicebus.Receiver
	dialer   *dialer
	given    chan struct{} // closed when it is given up
	once     sync.Once
}

func (l *link) giveUp() { l.once.Do(func() { close(l.given) }) }

func (l *link) givenUp() bool {
	select {
	case <-l.given:
		return true
	default:
		return false
	}
}

// source receives from a queue or its dead letters without end.
type source struct {
	a       *account
	sub     azservicebus.SubQueue
	changed *signal
	empty   atomic.Uint64

	mu      sync.Mutex // guards what follows
	link    *link
	pending []*held // in order of sequence numbers
	octets  int
	next    int64 // the sequence number after the highest that was handed out; 0: none was
	why     error // why nothing comes; nil: something may
	room    *signal

	careful time.Time // until when one message is asked for at a time; owned by run, like ask
	ask     int
	size    int // octets of a message, on average in the last batch

	closing sync.WaitGroup
}

func newSource(a *account, sub azservicebus.SubQueue, changed *signal) *source {
	return &source{a: a, sub: sub, changed: changed, room: newSignal(), ask: 1, size: minOctets,
		why: fmt.Errorf("%w (not connected yet)", queue.ErrUnreachable)}
}

func (s *source) dead() bool { return s.sub == azservicebus.SubQueueDeadLetter }

// state says whether there is no link, and why.
func (s *source) state() (down bool, why error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.why != nil, s.why
}

func (s *source) stand(why error) {
	s.mu.Lock()
	before := s.why
	s.why = why
	s.mu.Unlock()
	if (before == nil) != (why == nil) {
		s.changed.wake()
	}
	if s.dead() && why != nil && (before == nil || before.Error() != why.Error()) { // nobody else says it
		s.a.Log.Warn("the dead letters cannot be read", "err", why.Error())
	}
}

// run keeps a link and a receive pending on it until ctx ends.
func (s *source) run(ctx context.Context) {
	defer s.closing.Wait()
	pause := minBackoff
	for ctx.Err() == nil {
		l, err := newLink(s.a, s.sub)
		if err == nil {
			began := time.Now()
			err = s.pump(ctx, l)
			s.mu.Lock()
			s.link = nil
			s.mu.Unlock()
			s.closing.Go(func() { finish(l.client, l.dialer) })
			if time.Since(began) > maxBackoff {
				pause = minBackoff
			}
		}
		if ctx.Err() != nil {
			return
		}
		s.stand(err)
		if !rest(ctx, pause) {
			return
		}
		pause = min(2*pause, maxBackoff)
	}
}

// newLink makes a link; nothing is sent yet.
func newLink(a *account, sub azservicebus.SubQueue) (*link, error) {
	l := &link{dialer: &dialer{a: a}, given: make(chan struct{})}
	var err error
	if l.client, err = a.client(l.dialer); err != nil {
		return nil, fmt.Errorf("%w: %v", queue.ErrRefused, err)
	}
	l.receiver, err = l.client.NewReceiverForQueue(a.Queue, &azservicebus.ReceiverOptions{SubQueue: sub})
	if err != nil {
		return nil, fmt.Errorf("%w: %v", queue.ErrRefused, err)
	}
	return l, nil
}

// pump receives on one link until that is no good any more. Its error says why.
func (s *source) pump(ctx context.Context, l *link) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-l.given:
			cancel()
		case <-ctx.Done():
		}
	}()
	// Opening the management link now shows whether we are let in at all, and settling will need it.
	if err := greet(ctx, l); err != nil {
		return err
	}
	s.mu.Lock()
	s.link = l
	s.mu.Unlock()
	s.stand(nil)
	s.ask = 1
	var empties []time.Time
	for {
		n, err := s.awaitRoom(ctx)
		if err != nil {
			return errGivenUp
		}
		got, err := guarded(func() ([]*azservicebus.ReceivedMessage, error) { return l.receiver.ReceiveMessages(ctx, n, nil) })
		var panicked *panicError
		switch {
		case ctx.Err() != nil && len(got) == 0:
			return errGivenUp
		case errors.As(err, &panicked):
			s.a.Log.Warn("a message made the client panic; it will come again, and for a while messages are taken one by one", "asked", n, "panic", fmt.Sprint(panicked.value))
			s.careful, s.ask = time.Now().Add(carefulFor), 1
		case err != nil:
			return explain(err, l.dialer.failed())
		case len(got) == 0:
			s.ask = 1
			s.empty.Add(1)
			if empties = append(empties, time.Now()); len(empties) == wedgeResults {
				if time.Since(empties[0]) < wedgeTime {
					return fmt.Errorf("%w (the link is dead and does not know it)", queue.ErrUnreachable)
				}
				empties = empties[1:]
			}
			// The link or its connection was lost. The next receive would make it anew, and might hang in
			// that for ever: it has no deadline.
			if err := greet(ctx, l); err != nil {
				return err
			}
		default:
			empties = nil
			s.hold(l, got, n)
		}
	}
}

// errGivenUp ends a pump that somebody else found no good.
var errGivenUp = fmt.Errorf("%w (its connection was given up)", queue.ErrUnreachable)

// greet makes an exchange on a link, and all that it needs for that. It looks for a message far behind the last:
// the answer is that there is none.
func greet(ctx context.Context, l *link) error {
	ctx, cancel := context.WithTimeout(ctx, openTime)
	defer cancel()
	_, err := l.peek(ctx, 1<<62, 1)
	return explain(err, l.dialer.failed())
}

// peek looks at up to most messages from a sequence number on.
func (l *link) peek(ctx context.Context, from int64, most int) ([]*azservicebus.ReceivedMessage, error) {
	return guarded(func() ([]*azservicebus.ReceivedMessage, error) {
		return l.receiver.PeekMessages(ctx, most, &azservicebus.PeekMessagesOptions{FromSequenceNumber: &from})
	})
}

// awaitRoom says for how many messages there is room, once there is some.
func (s *source) awaitRoom(ctx context.Context) (int, error) {
	for {
		room := s.room.wait()
		s.mu.Lock()
		free := min(maxAsk-len(s.pending), (heldOctets-s.octets)/s.size)
		s.mu.Unlock()
		if free > 0 || s.held() == 0 {
			return max(1, min(s.ask, free)), nil
		}
		select {
		case <-room:
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
}

func (s *source) held() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.pending)
}

// hold keeps what came for whoever fetches.
func (s *source) hold(l *link, got []*azservicebus.ReceivedMessage, asked int) {
	now, conn, octets, came := time.Now(), l.dialer.made(), 0, 0
	list := make([]*held, 0, len(got))
	for _, m := range got {
		h := &held{source: s, lock: m.LockToken, came: now, body: m.Body}
		if m.SequenceNumber != nil {
			h.seq = *m.SequenceNumber
		}
		if len(h.body) > queue.MaxBody { // nobody signed that: cut, it is refused and recorded
			h.body = slices.Clone(h.body[:queue.MaxBody])
		} else {
			h.own.Store(&own{m, l, conn})
		}
		octets, came = octets+len(h.body), came+len(m.Body)
		list = append(list, h)
	}
	s.size = max(came/len(got), minOctets)
	// A new link begins with one message and doubles: whatever ended the last one may come again.
	if len(got) == asked && now.After(s.careful) {
		s.ask = min(2*s.ask, maxAsk)
	}
	s.mu.Lock()
	s.pending = append(s.pending, list...)
	slices.SortStableFunc(s.pending, func(a, b *held) int { return cmp.Compare(a.seq, b.seq) })
	s.octets += octets
	s.mu.Unlock()
	s.changed.wake()
}

// take hands out up to most messages, whatever is missing between them.
func (s *source) take(most int) []*held {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.remove(min(most, len(s.pending)))
}

// remove hands out the first n. mu is held.
func (s *source) remove(n int) []*held {
	if n == 0 {
		return nil
	}
	out := slices.Clone(s.pending[:n])
	s.pending = slices.Delete(s.pending, 0, n)
	for _, h := range out {
		s.octets -= len(h.body)
		s.next = max(s.next, h.seq+1)
	}
	s.room.wake()
	return out
}

// takeInOrder hands out up to most messages before the first hole in their numbers, and says how long to wait for
// the hole to close where it stands at once. A message that was handed back comes again in that time; one
// that expired or is another's does not.
func (s *source) takeInOrder(most int) (out []*held, soon time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n, next := 0, s.next
	for n < min(most, len(s.pending)) {
		h := s.pending[n]
		partitioned := h.seq>>48 != 0 // the upper bits name a partition: the numbers have holes by design
		if h.seq > next && next > 0 && !partitioned {
			if soon = time.Until(h.came.Add(holeWait)); soon > 0 {
				break
			}
		}
		next, soon = max(next, h.seq+1), 0
		n++
	}
	return s.remove(n), soon
}

// settleAll settles what this source received, in rounds: what a lost link left unconfirmed is settled on the next one. There
// are two rounds at least, and more while the patience lasts.
func (s *source) settleAll(ctx context.Context, list []*held) error {
	left, until := list, time.Now().Add(s.a.Patience)
	for round, pause := 1, minBackoff; ; round, pause = round+1, min(2*pause, maxBackoff) {
		l, err := s.awaitLink(ctx)
		over := err != nil
		if !over {
			if left, err = s.settleOn(ctx, l, left); err == nil {
				return nil
			}
			over = round > 1 && time.Now().Add(pause).After(until)
		}
		if over || errors.Is(err, queue.ErrRefused) || !rest(ctx, pause) {
			for _, h := range left { // nobody may ever ask again
				h.own.Store(nil)
			}
			return fmt.Errorf("settle: %d of %d messages unconfirmed; they come again: %w", len(left), len(list), err)
		}
	}
}

// settleOn settles a list on one link. It returns what that left unconfirmed, and the first of the errors.
func (s *source) settleOn(ctx context.Context, l *link, list []*held) (left []*held, first error) {
	work := make(chan *held, len(list))
	for _, h := range list {
		work <- h
	}
	close(work)
	var mu sync.Mutex // guards left and first
	var wg sync.WaitGroup
	for range min(settlers, len(list)) {
		wg.Go(func() {
			for h := range work {
				err := errGivenUp
				if !l.givenUp() { // else the rest fails as well, each after its time
					err = s.settle(ctx, l, h)
				}
				if err != nil {
					mu.Lock()
					left = append(left, h)
					first = cmp.Or(first, err)
					mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
	return left, first
}

// settle completes one message. A lock that was lost is no failure: the message comes again and is known.
func (s *source) settle(ctx context.Context, l *link, h *held) error {
	if o := h.own.Load(); o != nil && o.by == l && o.conn == l.dialer.made() {
		if err := s.complete(ctx, l, o.message); err == nil || lockLost(err) {
			return nil
		}
	}
	// On a lost connection the library would go on with the dead link for 40 s and reset the new one.
	h.own.Store(nil)
	err := s.complete(ctx, l, &azservicebus.ReceivedMessage{LockToken: h.lock})
	switch {
	case err == nil, lockLost(err):
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, context.DeadlineExceeded):
		l.giveUp() // a management link that does not answer on a standing connection may be wedged for ever
	}
	return explain(err, l.dialer.failed())
}

func (s *source) complete(ctx context.Context, l *link, m *azservicebus.ReceivedMessage) error {
	ctx, cancel := context.WithTimeout(ctx, settleTime)
	defer cancel()
	_, err := guarded(func() (struct{}, error) { return struct{}{}, l.receiver.CompleteMessage(ctx, m, nil) })
	return err
}

func lockLost(err error) bool {
	var sb *azservicebus.Error
	return errors.As(err, &sb) && sb.Code == azservicebus.CodeLockLost
}

// awaitLink returns the link that stands, after the patience an error.
func (s *source) awaitLink(ctx context.Context) (*link, error) {
	t := time.NewTimer(s.a.Patience)
	defer t.Stop()
	for {
		changed := s.changed.wait()
		s.mu.Lock()
		l, why := s.link, s.why
		s.mu.Unlock()
		if l != nil && !l.givenUp() {
			return l, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-t.C:
			if why == nil {
				why = queue.ErrUnreachable
			}
			return nil, fmt.Errorf("waited %s: %w", s.a.Patience, why)
		}
	}
}
