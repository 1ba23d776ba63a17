package busqueue

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"

	"jmlbridge/internal/queue"
)

const (
	peekTime  = 15 * time.Second // for one look
	peekEvery = time.Second      // while there is nothing new; a look costs ten operations on Standard
	maxPeek   = 250              // messages of one look
	// While the queue always has something new its dead letters go first so often: one that was set aside may be a leaver, and
	// must not wait for the traffic to end.
	asideEvery = time.Second
	asideAgain = 3 * time.Second // after they could not be read: each attempt is a connection
	// Heartbeats come every minute. A queue that was made anew begins to count anew, and nothing of it lies behind the cursor:
	// after so long without anything new its oldest message tells. After rewindAfter the cursor is not believed any more
	// whatever that says. What is looked at twice is known.
	doubtAfter  = 2 * time.Minute
	rewindAfter = 15 * time.Minute
)

// Dark looks at one queue and its dead letters and leaves both as they are. Its position is how far it has
// looked.
type Dark struct {
	a    *account
	ctx  context.Context // ends with Close
	stop context.CancelFunc
	turn sync.Mutex // held by Fetch; guards what follows

	links   [2]*link
	cursor  cursor
	news    time.Time // when something new last came
	asked   time.Time // when the oldest message was last looked at
	doubt   time.Duration
	aside   time.Time // when the last look at the dead letters ended
	last    [2]error  // of the last look at each
	why     string    // they cannot be read; empty: they can
	closing sync.WaitGroup

	unread aside // has a lock of its own
}

// cursor is the next sequence number of the queue and of its dead letters, and when the newest message of the queue that
// was looked at was put there, in Unix milliseconds; 0: not known. All is the service's word: a lie makes us late, and the
// silence that follows is an alarm.
type cursor struct {
	next [2]int64
	put  int64
}

// darkPosition begins the position of a dark receiver. That of another kind says nothing about what was skipped,
// and is not believed.
const darkPosition = "dark "

func (c cursor) position() queue.Position {
	return queue.Position(fmt.Sprintf("%s%d %d %d", darkPosition, c.next[0], c.next[1], c.put))
}

func parseCursor(p queue.Position) (c cursor) {
	text, ok := strings.CutPrefix(string(p), darkPosition)
	list := strings.Split(text, " ")
	if !ok || len(list) < 2 || len(list) > 3 { // of two numbers: of a version before this one
		return cursor{}
	}
	var n [3]int64
	for i, s := range list {
		var err error
		if n[i], err = strconv.ParseInt(s, 10, 64); err != nil || n[i] < 0 {
			return cursor{}
		}
	}
	return cursor{[2]int64{n[0], n[1]}, n[2]}
}

// OpenDark checks the configuration. It begins behind from, or with the oldest message where from is not the
// position of a dark receiver.
func OpenDark(cfg Config, from queue.Position) (*Dark, error) {
	a, err := cfg.open()
	if err != nil {
		return nil, fmt.Errorf("mid-point: %w", err)
	}
	r := &Dark{a: a, cursor: parseCursor(from), news: time.Now(), doubt: doubtAfter, unread: aside{patience: asidePatience}}
	r.ctx, r.stop = context.WithCancel(context.Background())
	return r, nil
}

// Close ends the connections and a Fetch under way.
func (r *Dark) Close() error {
	r.stop()
	r.turn.Lock()
	defer r.turn.Unlock()
	for i := range r.links {
		r.drop(i)
	}
	r.closing.Wait()
	return nil
}

func (r *Dark) drop(i int) {
	if l := r.links[i]; l != nil {
		r.links[i] = nil
		r.closing.Go(func() { finish(l.client, l.dialer) })
	}
}

// Leased implements queue.Receiver: nothing is ever leased.
func (r *Dark) Leased() time.Duration { return 0 }

// Settle implements queue.Receiver by doing nothing: the service is not told.
func (r *Dark) Settle(_ context.Context, batch []queue.Delivery) error {
	for _, d := range batch {
		if d.Lease != any(r) {
			return fmt.Errorf("settle: a delivery that this queue did not make (%T)", d.Lease)
		}
	}
	if r.ctx.Err() != nil {
		return queue.ErrClosed
	}
	return nil
}

// Fetch implements queue.Receiver.
func (r *Dark) Fetch(ctx context.Context, most int) ([]queue.Delivery, error) {
	if most < 1 {
		return nil, fmt.Errorf("fetch of %d messages: ask for at least one", most)
	}
	r.turn.Lock()
	defer r.turn.Unlock()
	call, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(r.ctx, cancel)()
	until, pause := time.Now().Add(r.a.Patience), minBackoff
	for {
		got, err := r.look(call, min(most, maxPeek))
		switch {
		case len(got) > 0:
			r.news = time.Now()
			return got, nil
		case r.ctx.Err() != nil:
			return nil, queue.ErrClosed
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case errors.Is(err, queue.ErrRefused):
			return nil, err
		case err != nil && time.Now().Add(pause).After(until):
			return nil, fmt.Errorf("waited %s: %w", r.a.Patience, err)
		case err != nil:
			rest(call, pause)
			pause = min(2*pause, maxBackoff)
		default:
			until, pause = time.Now().Add(r.a.Patience), minBackoff
			if r.anew(call) {
				r.a.Log.Warn("the queue was made anew; looking at it from its beginning", "cursor", string(r.cursor.position()))
				r.cursor, r.news = cursor{}, time.Now()
				continue
			}
			if time.Since(r.news) > rewindAfter {
				r.a.Log.Warn("nothing new for long; looking at the queue from its beginning", "cursor", string(r.cursor.position()))
				r.cursor, r.news = cursor{}, time.Now()
			}
			rest(call, peekEvery)
		}
	}
}

// anew reports, after some silence, whether the oldest message of the queue is behind the cursor and younger than what is
// before it: then it is of another queue, whose numbers began anew.
func (r *Dark) anew(ctx context.Context) bool {
	l := r.links[inQueue]
	if l == nil || r.cursor.put == 0 || time.Since(r.news) < r.doubt || time.Since(r.asked) < r.doubt {
		return false
	}
	r.asked = time.Now()
	ctx, cancel := context.WithTimeout(ctx, peekTime)
	defer cancel()
	got, err := l.look(ctx, 0, 1)
	return err == nil && len(got) > 0 && got[0].seq >= 0 && got[0].seq < r.cursor.next[inQueue] && got[0].put > r.cursor.put
}

// The two that are looked at, as places of their links and cursors.
const (
	inQueue = iota
	inDeadLetters
)

// look looks once at the queue and at its dead letters, until one of them has something new.
func (r *Dark) look(ctx context.Context, most int) ([]queue.Delivery, error) {
	turns := [2]int{inQueue, inDeadLetters}
	if time.Since(r.aside) >= asideEvery {
		turns = [2]int{inDeadLetters, inQueue}
	}
	var errs [2]error
	for _, i := range turns {
		if i == inDeadLetters && r.why != "" && time.Since(r.aside) < asideAgain {
			continue
		}
		got, err := r.peek(ctx, i, most)
		if errs[i] = err; ctx.Err() == nil {
			r.last[i] = err
		}
		if i == inDeadLetters {
			r.aside = time.Now()
			r.asideFails(err)
		}
		if ctx.Err() == nil {
			r.unread.note(r.last[inQueue], r.last[inDeadLetters])
		}
		if len(got) > 0 {
			return got, nil
		}
	}
	return nil, errs[inQueue] // of the dead letters AsideRead tells
}

// asideFails says when the dead letters begin to be out of reach: while the queue is well, nobody else does.
func (r *Dark) asideFails(err error) {
	why := ""
	if err != nil {
		why = err.Error()
	}
	if why != r.why && why != "" && r.ctx.Err() == nil {
		r.a.Log.Warn("the dead letters cannot be read", "err", why)
	}
	r.why = why
}

// peek looks once from the cursor on. What makes the client fail on an answer is taken out of the answer all the same.
func (r *Dark) peek(ctx context.Context, i int, most int) ([]queue.Delivery, error) {
	if r.links[i] == nil {
		l, err := newLink(r.a, [2]azservicebus.SubQueue{0, azservicebus.SubQueueDeadLetter}[i])
		if err != nil {
			return nil, err
		}
		l.dialer.listen()
		r.links[i] = l
	}
	ctx, cancel := context.WithTimeout(ctx, peekTime)
	defer cancel()
	l := r.links[i]
	for {
		got, err := l.look(ctx, r.cursor.next[i], most)
		var panicked *panicError
		switch {
		case errors.As(err, &panicked) && most > 1:
			most = max(1, most/8) // the answer was too long to be heard
		case errors.As(err, &panicked):
			// One message, far longer than any of ours, and its number is not known: the next question is one further,
			// without rest.
			if r.cursor.next[i]++; ctx.Err() != nil {
				return nil, nil
			}
			r.a.Log.Warn("a message that makes the client panic is too long to be looked at and is skipped", "cursor", string(r.cursor.position()), "panic", fmt.Sprint(panicked.value))
			r.news = time.Now()
		case err != nil:
			r.drop(i)
			return nil, explain(err, l.dialer.failed())
		default:
			return r.deliver(i, got[:min(len(got), most)]), nil
		}
	}
}

// look is a peek that reads the answer itself where the client cannot.
func (l *link) look(ctx context.Context, from int64, most int) ([]peeked, error) {
	l.dialer.listen().forget()
	defer func() { l.dialer.listen().forget() }()
	got, err := l.peek(ctx, from, most)
	if err != nil {
		if out := l.dialer.listen().answer(); len(out) > 0 {
			return out, nil
		}
		return nil, err
	}
	out := make([]peeked, len(got))
	for i, m := range got {
		out[i] = peeked{seq: -1, body: m.Body}
		if m.EnqueuedTime != nil {
			out[i].put = m.EnqueuedTime.UnixMilli()
		}
		if m.SequenceNumber != nil {
			out[i].seq = *m.SequenceNumber
		}
	}
	return out, nil
}

// deliver moves the cursor behind what came.
func (r *Dark) deliver(i int, got []peeked) []queue.Delivery {
	out := make([]queue.Delivery, 0, len(got))
	for _, m := range got {
		if next := &r.cursor.next[i]; m.seq >= *next && m.seq < math.MaxInt64 {
			*next = m.seq + 1
		} else {
			*next++ // it must move on, whatever the service says
		}
		if i == inQueue {
			r.cursor.put = max(r.cursor.put, m.put)
		}
		body := m.body
		if len(body) > queue.MaxBody { // nobody signed that: cut, it is refused and recorded
			body = body[:queue.MaxBody]
		}
		out = append(out, queue.Delivery{Body: body, Position: r.cursor.position(), DeadLettered: i == inDeadLetters, Lease: r})
	}
	return out
}
