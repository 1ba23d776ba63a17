package busqueue

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"

	"jmlbridge/internal/queue"
)

// Limits of this adapter.
const (
	patience   = 10 * time.Second // how long a call waits out an outage before it says so
	openTime   = 20 * time.Second // for a link: about twenty round trips, and a token
	sendTime   = 30 * time.Second // for the answer to a batch
	closeTime  = 2 * time.Second  // for a connection to end in order; then it is cut
	minBackoff = 100 * time.Millisecond
	maxBackoff = 10 * time.Second
	maxID      = 128 // octets of a message id, as the service allows
)

// Publisher sends to one queue.
type Publisher struct {
	a    *account
	turn chan struct{} // holds one token; who has it publishes, so that batches do not interleave

	ctx  context.Context // ends with Close
	stop context.CancelFunc

	// Owned by who has turn.
	sender *azservicebus.Sender
	client *azservicebus.Client
	dialer *dialer

	closing sync.WaitGroup
}

// OpenPublisher checks the configuration. It does not wait for the mid-point: an unreachable one shows in
// Publish.
func OpenPublisher(cfg Config) (*Publisher, error) {
	a, err := cfg.open()
	if err != nil {
		return nil, fmt.Errorf("mid-point: %w", err)
	}
	p := &Publisher{a: a, turn: make(chan struct{}, 1)}
	p.ctx, p.stop = context.WithCancel(context.Background())
	p.turn <- struct{}{}
	return p, nil
}

// Close ends the connection and every call under way.
func (p *Publisher) Close() error {
	p.stop()
	<-p.turn // whoever publishes ends at once
	p.drop()
	p.closing.Wait()
	p.turn <- struct{}{}
	return nil
}

// Publish implements queue.Publisher. Batches go out one after the other: behind one that fails nothing slips in.
func (p *Publisher) Publish(ctx context.Context, msgs []queue.Message) (n int, err error) {
	var bad error // with the message that cannot be sent; those before it can
	for i, m := range msgs {
		if bad = check(m); bad != nil {
			msgs = msgs[:i]
			break
		}
	}
	select {
	case <-p.turn:
		defer func() { p.turn <- struct{}{} }()
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	call, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(p.ctx, cancel)()
	most := len(msgs)
	var next filled
	for n < len(msgs) && err == nil {
		now := next
		if now.batch == nil {
			if now, err = p.fill(call, msgs[n:min(n+most, len(msgs))]); err != nil {
				break
			}
		}
		next = filled{}
		// While the service has a batch, the one behind it is made. It goes only once the first is confirmed.
		behind, giveUp := context.WithCancel(call)
		ahead := p.ahead(behind, msgs[n+now.n:min(n+now.n+most, len(msgs))])
		if err = p.send(call, now.batch); err != nil {
			giveUp()
		}
		next = <-ahead
		giveUp()
		if err == nil {
			n += now.n
			continue
		}
		next = filled{}
		if (errors.Is(err, queue.ErrFull) || errors.Is(err, queue.ErrTooLarge)) && now.n > 1 {
			// The batch does not fit as a whole; what still fits goes. One may be too large, too: the service need not take a batch
			// of the size that it allows a message.
			most, err = now.n/2, nil
		}
	}
	switch {
	case p.ctx.Err() != nil:
		return n, queue.ErrClosed
	case err != nil && ctx.Err() != nil:
		return n, ctx.Err()
	case err != nil:
		return n, err
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
	return nil
}

// filled is a batch of the leading n of some messages: as many as fit.
type filled struct {
	batch *azservicebus.MessageBatch
	n     int
}

// fill makes a batch, and the link where there is none.
func (p *Publisher) fill(ctx context.Context, msgs []queue.Message) (filled, error) {
	batch, err := p.begin(ctx)
	if err != nil {
		return filled{}, err
	}
	return put(batch, msgs)
}

// ahead makes the batch that is to go next, on the link that stands. Where that fails there is none: whoever sends it makes it
// then, and meets what was in the way.
func (p *Publisher) ahead(ctx context.Context, msgs []queue.Message) <-chan filled {
	made := make(chan filled, 1)
	if len(msgs) == 0 {
		made <- filled{}
		return made
	}
	sender := p.sender // the sending may drop it meanwhile
	go func() {
		ctx, cancel := context.WithTimeout(ctx, openTime)
		defer cancel()
		f, err := guarded(func() (filled, error) {
			batch, err := sender.NewMessageBatch(ctx, nil)
			if err != nil {
				return filled{}, err
			}
			return put(batch, msgs)
		})
		if err != nil {
			f = filled{}
		}
		made <- f
	}()
	return made
}

// put fills a batch.
func put(batch *azservicebus.MessageBatch, msgs []queue.Message) (filled, error) {
	n := 0
	for ; n < len(msgs); n++ {
		m := &azservicebus.Message{Body: msgs[n].Body}
		if id := msgs[n].ID; id != "" {
			m.MessageID = &id
		}
		err := batch.AddMessage(m, nil)
		if errors.Is(err, azservicebus.ErrMessageTooLarge) {
			break
		}
		if err != nil {
			return filled{}, err
		}
	}
	if n == 0 {
		return filled{}, fmt.Errorf("message of %d octets: %w", len(msgs[0].Body), queue.ErrTooLarge)
	}
	return filled{batch, n}, nil
}

// send sends one batch, and returns once it is confirmed.
func (p *Publisher) send(ctx context.Context, batch *azservicebus.MessageBatch) error {
	ctx, cancel := context.WithTimeout(ctx, sendTime)
	defer cancel()
	_, err := guarded(func() (struct{}, error) { return struct{}{}, p.sender.SendMessageBatch(ctx, batch, nil) })
	if err == nil {
		return nil
	}
	if err = explain(err, p.dialer.failed()); !errors.Is(err, queue.ErrFull) && !errors.Is(err, queue.ErrTooLarge) {
		p.drop() // a link that was refused something may be dead without knowing
	}
	return err
}

// begin makes an empty batch of the size that the link takes, and the link where there is none. It waits out an
// outage: nothing is under way yet.
func (p *Publisher) begin(ctx context.Context) (*azservicebus.MessageBatch, error) {
	until := time.Now().Add(p.a.Patience)
	for pause := minBackoff; ; pause = min(2*pause, maxBackoff) {
		batch, err := p.try(ctx)
		if err == nil || ctx.Err() != nil {
			return batch, err
		}
		p.drop()
		if errors.Is(err, queue.ErrRefused) {
			return nil, err
		}
		if time.Now().Add(pause).After(until) {
			return nil, fmt.Errorf("waited %s: %w", p.a.Patience, err)
		}
		if !rest(ctx, pause) {
			return nil, ctx.Err()
		}
	}
}

func (p *Publisher) try(ctx context.Context) (_ *azservicebus.MessageBatch, err error) {
	if p.client == nil {
		p.dialer = &dialer{a: p.a}
		if p.client, err = p.a.client(p.dialer); err != nil {
			return nil, fmt.Errorf("%w: %v", queue.ErrRefused, err)
		}
		if p.sender, err = p.client.NewSender(p.a.Queue, nil); err != nil {
			return nil, fmt.Errorf("%w: %v", queue.ErrRefused, err)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, openTime)
	defer cancel()
	batch, err := guarded(func() (*azservicebus.MessageBatch, error) { return p.sender.NewMessageBatch(ctx, nil) })
	return batch, explain(err, p.dialer.failed())
}

// drop gives up the connection.
func (p *Publisher) drop() {
	if p.client == nil {
		return
	}
	c, d := p.client, p.dialer
	p.client, p.sender = nil, nil
	p.closing.Go(func() { finish(c, d) })
}

// finish ends a client, in order if that does not take long.
func finish(c *azservicebus.Client, d *dialer) {
	ctx, cancel := context.WithTimeout(context.Background(), closeTime)
	defer cancel()
	defer d.cut()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = guarded(func() (struct{}, error) { return struct{}{}, c.Close(ctx) })
	}()
	select {
	case <-done:
	case <-ctx.Done():
	}
}

// rest waits; false: ctx ended first.
func rest(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
