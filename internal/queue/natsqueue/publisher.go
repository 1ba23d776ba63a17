package natsqueue

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"jmlbridge/internal/queue"
)

// Codes of JetStream's refusals that we tell apart (the server's errors.json); jetstream names only
// some of them.
const (
	codeStoreFailed    = 10077 // DiscardNew and no room; a failing disk gives no answer at all
	codeNoResources    = 10023 // the account's or the server's storage is used up
	codeNoStorage      = 10047
	codeNoLeader       = 10008 // a cluster that has none at the moment
	codeTooManyPending = 10167 // the server's own intake is full for the moment
)

// maxID bounds, in octets, a message ID.
const maxID = 128

// Publisher publishes to one subject of one stream.
type Publisher struct {
	*link
	cfg  Config
	turn chan struct{} // holds one token; who has it publishes, so that batches do not interleave

	// Owned by who has turn:
	checked <-chan struct{} // the connection on which the stream was checked
	last    uint64          // what the next message will find as the stream's last sequence if nobody else publishes; 0: not known
}

// OpenPublisher checks the configuration and begins to connect. It does not wait for the mid-point:
// an unreachable one shows in Publish.
func OpenPublisher(cfg Config) (*Publisher, error) {
	if !subjectOK.MatchString(cfg.Subject) {
		return nil, fmt.Errorf("mid-point: subject: %q is not a subject to publish to", cfg.Subject)
	}
	l, err := connect(cfg, RoleProducer)
	if err != nil {
		return nil, err
	}
	p := &Publisher{link: l, cfg: cfg, turn: make(chan struct{}, 1)}
	p.turn <- struct{}{}
	return p, nil
}

// Publish implements queue.Publisher. Messages are pipelined, each on condition that the stream has the last sequence that
// the one before it must have got, so that behind one that fails nothing slips in. Only somebody else's message at
// that very place can make up for ours.
//
// The condition is on the sequence and not on the last message's id, which would be exact, since a replicated stream's
// leader checks a sequence before the message is written, while every server checks the id again whenever it applies the
// message: one that was away and skips what was acknowledged meanwhile does not know the id, and its copy of the
// stream stops for good (nats-server 2.15).
func (p *Publisher) Publish(ctx context.Context, msgs []queue.Message) (n int, err error) {
	for i, m := range msgs {
		if err = check(m); err != nil {
			msgs = msgs[:i] // what stands before it can still go
			break
		}
	}
	bad := err
	select {
	case <-p.turn:
		defer func() { p.turn <- struct{}{} }()
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	for n < len(msgs) {
		expecting := p.last != 0
		k, err := p.run(ctx, msgs[n:])
		n += k
		var api *jetstream.APIError
		if (k > 0 || expecting) && errors.As(err, &api) && api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence {
			continue // somebody else published in between: begin again behind them
		}
		var unsent *unsentError
		if errors.As(err, &unsent) && fell(err) {
			continue // nothing is under way: wait for the next connection
		}
		if err != nil {
			return n, p.ended(p.inWords(err))
		}
	}
	return n, bad
}

func check(m queue.Message) error {
	if len(m.Body) > queue.MaxBody {
		return fmt.Errorf("message of %d octets, at most %d: %w", len(m.Body), queue.MaxBody, queue.ErrTooLarge)
	}
	if len(m.ID) > maxID {
		return fmt.Errorf("message id of %d octets, at most %d", len(m.ID), maxID)
	}
	for _, c := range []byte(m.ID) {
		if c <= ' ' || c > '~' {
			return fmt.Errorf("message id %q: expected printable ASCII without space", m.ID)
		}
	}
	return nil
}

// run publishes msgs until the first failure, with a window of unconfirmed ones as soon as the stream's last sequence is
// known.
func (p *Publisher) run(ctx context.Context, msgs []queue.Message) (n int, err error) {
	defer func() {
		if err != nil {
			p.last = 0
		}
	}()
	live, cancel, err := p.await(ctx)
	if err != nil {
		return 0, err
	}
	defer cancel(nil)
	if err := p.checkStream(live); err != nil {
		return 0, err
	}
	p.forgetDenied()

	window := make([]jetstream.PubAckFuture, 0, min(len(msgs), maxInFlight))
	timer := time.NewTimer(answerWait)
	defer timer.Stop()
	sent, octets := 0, 0
	for done := 0; done < len(msgs); done++ {
		for sent < len(msgs) && sent-done < maxInFlight && octets < maxFlight && (sent == done || p.last != 0) {
			f, err := p.send(msgs[sent])
			if err != nil {
				if sent == done {
					return done, &unsentError{noticed(live, err)}
				}
				break // first hear of those under way
			}
			window = append(window, f)
			octets += len(msgs[sent].Body)
			sent++
			if p.last != 0 {
				p.last++
			}
		}
		timer.Reset(answerWait)
		ack, err := p.confirmed(live, window[0], timer)
		if err != nil {
			return done, err
		}
		if p.last == 0 && !ack.Duplicate { // one that was there already says nothing of what came after it
			p.last = ack.Sequence
		}
		octets -= len(msgs[done].Body)
		window = window[1:]
	}
	return len(msgs), nil
}

// unsentError says that the next message never left, and that those before it are confirmed.
type unsentError struct{ error }

func (e *unsentError) Unwrap() error { return e.error }

func (p *Publisher) send(m queue.Message) (jetstream.PubAckFuture, error) {
	msg := &nats.Msg{Subject: p.cfg.Subject, Data: m.Body, Header: nats.Header{}}
	msg.Header[jetstream.ExpectedStreamHeader] = []string{p.cfg.Stream}
	if m.ID != "" {
		msg.Header[jetstream.MsgIDHeader] = []string{m.ID}
	}
	if p.last != 0 {
		msg.Header[jetstream.ExpectedLastSeqHeader] = []string{strconv.FormatUint(p.last, 10)}
	}
	// No retries of its own: they would come out of order.
	return p.js.PublishMsgAsync(msg, jetstream.WithRetryAttempts(0))
}

// confirmed waits for the answer to one message.
func (p *Publisher) confirmed(live context.Context, f jetstream.PubAckFuture, timer *time.Timer) (*jetstream.PubAck, error) {
	select {
	case ack := <-f.Ok():
		if ack.Stream != p.cfg.Stream {
			return nil, fmt.Errorf("%w: stream %s confirmed what was meant for %s", queue.ErrRefused, ack.Stream, p.cfg.Stream)
		}
		return ack, nil
	case err := <-f.Err():
		return nil, err
	case what := <-p.denied:
		return nil, fmt.Errorf("%w our credential the subject %s (%s)", queue.ErrRefused, p.cfg.Subject, what)
	case <-live.Done():
		return nil, context.Cause(live)
	case <-timer.C:
		return nil, fmt.Errorf("%w: no confirmation within %s", queue.ErrUnreachable, answerWait)
	}
}

// inWords gives err the kind that callers decide on.
func (p *Publisher) inWords(err error) error {
	var api *jetstream.APIError
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	case errors.Is(err, jetstream.ErrNoStreamResponse), errors.Is(err, nats.ErrNoResponders):
		return fmt.Errorf("%w: no stream there takes %s; is its enclave set up at the mid-point, and its store healthy?", queue.ErrRefused, p.cfg.Subject)
	case errors.As(err, &api):
		switch api.ErrorCode {
		case codeStoreFailed, codeNoResources, codeNoStorage, codeTooManyPending:
			return fmt.Errorf("stream %s: %s: %w", p.cfg.Stream, said(api.Description), queue.ErrFull)
		case jetstream.JSErrCodeStreamMessageExceedsMaximum:
			return fmt.Errorf("stream %s: %s: %w", p.cfg.Stream, said(api.Description), queue.ErrTooLarge)
		}
	}
	return explain(err)
}
