// Package queue is the seam between the bridge and its mid-point: opaque bodies in, opaque bodies
// out, at least once.
//
// The mid-point is NOT trusted. Whoever runs it can drop, delay, repeat, reorder, alter or withhold
// messages, and read whatever we do not encrypt. Nothing that an adapter returns beside Body is
// evidence of anything: a Position is a cursor that we hand back, never a number in our chain, and
// queue headers do not cross this seam at all. An adapter promises convenience (order, few
// duplicates), never truth; its callers hold the invariant that the worst a mid-point can do is to
// make us late.
//
// Adapters are in the folders below (memqueue for tests, natsqueue for NATS JetStream) and all pass
// the one conformance suite, queuetest, undisturbed and with faults on the way. They do not import each other.
package queue

import (
	"context"
	"errors"
	"time"

	"jmlbridge/schema"
)

// MaxBody is the largest message, in octets, that any adapter takes or hands out.
const MaxBody = schema.MaxWire

// Message is what a producer puts on the queue.
type Message struct {
	// ID makes publishing again harmless for as long as the queue's duplicate window reaches (the
	// event's jti). The receiving side neither sees nor believes it.
	ID string
	// Body is at most MaxBody octets, sealed by the caller. The adapter does not keep or change it.
	Body []byte
}

// Position is an adapter's own mark of how far a receiver has come. Its octets mean something to
// that adapter alone; the caller stores them with what it fetched and hands them back when opening
// a receiver that keeps no state at the mid-point. The zero value means "from the oldest message".
type Position []byte

// Delivery is one message as a receiver got it.
type Delivery struct {
	Body     []byte
	Position Position

	// DeadLettered says that the mid-point had put the message aside (it waited too long, or was delivered
	// too often) and that it was fetched from there. It is the mid-point's word and decides nothing: such a
	// message is judged like any other, and shown, since a leaver that was put aside must not be a silent one.
	DeadLettered bool

	// Lease is the adapter's own handle for Settle. Nobody else looks inside or makes one.
	Lease any
}

// Publisher puts messages on one queue. It is safe for concurrent use, but order is promised only
// within one Publish, and only while no other program publishes to the same queue.
type Publisher interface {
	// Publish puts msgs on the queue in their order and returns how many leading ones the queue has
	// confirmed as durable. The error is nil if and only if n is len(msgs).
	//
	// On an error, none of msgs[n:] was put in front of msgs[n]; some of them may be on the queue
	// nonetheless ("done, but the answer was lost"). The caller publishes msgs[n:] again under the
	// same IDs; the duplicate window absorbs most repetitions, the receiver recognises the others.
	// The error wraps ErrFull, ErrUnreachable, ErrRefused, ErrTooLarge or ErrClosed where one fits.
	Publish(ctx context.Context, msgs []Message) (n int, err error)

	// Close ends the connection. A Publish under way fails with ErrClosed. Closing twice is no error.
	Close() error
}

// Receiver takes messages from one queue. One goroutine at a time may call Fetch; Settle may be
// called while a Fetch is under way.
type Receiver interface {
	// Fetch returns between 1 and max messages, in the order in which they were published, as soon
	// as there is at least one. It never returns an empty batch without an error: it waits until a
	// message comes, ctx ends (the error is ctx's), the receiver is closed (ErrClosed), or the
	// mid-point has been out of reach for the adapter's patience (ErrUnreachable). The caller may
	// call again after any error but ErrClosed; reconnecting is the adapter's work, and because
	// patience is seconds long a loop around Fetch does not spin. ErrRefused may come at once: let
	// some time pass before the next call.
	//
	// A message that is not settled within its lease comes again.
	Fetch(ctx context.Context, max int) ([]Delivery, error)

	// Settle tells the mid-point that the batch is durably ours, and returns nil only when it has
	// confirmed every one. Settling twice, or after the lease ran out, is no error; an unconfirmed
	// one at worst comes again. A receiver that keeps its cursor inside ("dark") settles by doing
	// nothing.
	Settle(ctx context.Context, batch []Delivery) error

	// Leased is for how long from now messages may be leased to nobody: to a process that was killed, to a
	// connection that was lost. They come again, after others that were sent later. It is the mid-point's word or
	// a guess at it, and decides only whom a gap wakes and when; zero says that there are none.
	Leased() time.Duration

	// Close ends the connection and a Fetch under way. Closing twice is no error.
	Close() error
}

// What callers decide on. Errors of adapters wrap these and say the rest in words.
var (
	// ErrFull: the queue has no room. Nothing was dropped; publish again when it has been drained.
	ErrFull = errors.New("the queue is full")

	// ErrUnreachable: no answer from the mid-point. It may have done what we asked. Try again.
	ErrUnreachable = errors.New("the mid-point does not answer")

	// ErrRefused: the mid-point is there and does not let us, or the queue is not what we were
	// promised. A person has to change something; trying again later is harmless.
	ErrRefused = errors.New("the mid-point refuses")

	// ErrTooLarge: one message is over MaxBody or over the queue's own limit. It can never be sent.
	ErrTooLarge = errors.New("the message is too large for the queue")

	// ErrClosed: Close was called.
	ErrClosed = errors.New("the queue connection is closed")
)
