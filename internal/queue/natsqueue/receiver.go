package natsqueue

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"jmlbridge/internal/queue"
)

const (
	// maxFetch bounds one Fetch, so that a batch settles well within its lease.
	maxFetch = 4096

	defaultDurable = "enclave"

	ackPrefix = "$JS.ACK." // of the subjects to which messages are acknowledged
)

// Receiver pulls from one durable consumer of one stream and acknowledges to it.
type Receiver struct {
	*link
	cfg     Config
	checked <-chan struct{} // the connection on which the consumer was checked; owned by Fetch

	mu      sync.Mutex // guards the fields below
	sub     *nats.Subscription
	prefix  string // of the subjects under which acknowledgements are confirmed
	next    uint64
	waiting map[string]*settlement
}

// settlement is one Settle under way; Receiver.mu guards it.
type settlement struct {
	left int
	done chan struct{} // closed when left is 0
}

// OpenReceiver checks the configuration and begins to connect. It does not wait for the mid-point: an
// unreachable one shows in Fetch.
func OpenReceiver(cfg Config) (*Receiver, error) {
	if cfg.Durable == "" {
		cfg.Durable = defaultDurable
	}
	if !nameOK.MatchString(cfg.Durable) {
		return nil, fmt.Errorf("mid-point: durable: %q is not a consumer name (letters, digits, - and _)", cfg.Durable)
	}
	l, err := connect(cfg, RoleConsumer)
	if err != nil {
		return nil, err
	}
	r := &Receiver{link: l, cfg: cfg, prefix: l.nc.NewInbox() + ".", waiting: make(map[string]*settlement)}
	r.sub, err = l.nc.Subscribe(r.prefix+"*", r.settled)
	if err != nil {
		l.Close()
		return nil, fmt.Errorf("mid-point: %w", err)
	}
	// Confirmations are counted, never kept: no reason to drop any.
	if err := r.sub.SetPendingLimits(-1, -1); err != nil {
		l.Close()
		return nil, fmt.Errorf("mid-point: %w", err)
	}
	return r, nil
}

// Fetch implements queue.Receiver. One request takes what is there; only when there is nothing, a
// second one stands at the server until one message comes.
func (r *Receiver) Fetch(ctx context.Context, max int) ([]queue.Delivery, error) {
	if max < 1 {
		return nil, fmt.Errorf("fetch of %d messages: ask for at least one", max)
	}
	max = min(max, maxFetch)
	for {
		batch, err := r.fetch(ctx, max)
		if len(batch) > 0 {
			return batch, nil // an error that is still there comes again
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if err = r.ended(err); err != nil && !fell(err) { // else wait for the next connection
			return nil, err
		}
	}
}

func (r *Receiver) fetch(ctx context.Context, max int) ([]queue.Delivery, error) {
	live, cancel, err := r.await(ctx)
	if err != nil {
		return nil, err
	}
	defer cancel(nil)
	if err := r.attach(live); err != nil {
		return nil, err
	}
	batch, err := r.pull(live, max, false)
	if len(batch) > 0 || err != nil {
		return r.order(batch), err
	}
	batch, err = r.pull(live, 1, true)
	if len(batch) == 1 && max > 1 {
		more, _ := r.pull(live, max-1, false) // it seldom comes alone
		batch = append(batch, more...)
	}
	return r.order(batch), err
}

// attach looks the consumer up, once for each connection, and refuses one that would not keep the
// promises of package queue.
func (r *Receiver) attach(live context.Context) error {
	epoch := r.epoch()
	if r.checked == epoch {
		return nil
	}
	r.forgetDenied()
	if err := r.checkStream(live); err != nil {
		return err
	}
	c, err := ask(r.link, live, func(ctx context.Context) (jetstream.Consumer, error) {
		return r.js.Consumer(ctx, r.cfg.Stream, r.cfg.Durable)
	})
	switch {
	case errors.Is(err, jetstream.ErrConsumerNotFound), errors.Is(err, jetstream.ErrStreamNotFound),
		errors.Is(err, jetstream.ErrConsumerDoesNotExist):
		return fmt.Errorf("%w: there is no stream %s with a consumer %s; is this enclave set up at the mid-point?", queue.ErrRefused, r.cfg.Stream, r.cfg.Durable)
	case err != nil:
		return err
	}
	conf := c.CachedInfo().Config
	switch {
	case conf.AckPolicy != jetstream.AckExplicitPolicy:
		return fmt.Errorf("%w: consumer %s of %s acknowledges by %q; expected explicit, since otherwise messages are dropped before they are ours",
			queue.ErrRefused, r.cfg.Durable, r.cfg.Stream, conf.AckPolicy)
	case conf.MaxDeliver > 0:
		return fmt.Errorf("%w: consumer %s of %s gives up after %d deliveries (max_deliver); expected -1",
			queue.ErrRefused, r.cfg.Durable, r.cfg.Stream, conf.MaxDeliver)
	}
	r.checked = epoch
	return nil
}

// lease is what Settle needs of a delivery.
type lease struct {
	reply string
	seq   uint64 // in the stream; only for order within a fetch
}

// order puts redelivered and new messages into publishing order.
func (r *Receiver) order(batch []queue.Delivery) []queue.Delivery {
	slices.SortStableFunc(batch, func(a, b queue.Delivery) int {
		return cmp.Compare(a.Lease.(lease).seq, b.Lease.(lease).seq)
	})
	return batch
}

// Settle implements queue.Receiver: all acknowledgements go out at once, and each is answered.
func (r *Receiver) Settle(ctx context.Context, batch []queue.Delivery) error {
	if len(batch) == 0 {
		return nil
	}
	replies := make([]string, len(batch))
	for i, d := range batch {
		l, ok := d.Lease.(lease)
		if !ok || !strings.HasPrefix(l.reply, ackPrefix) {
			return fmt.Errorf("settle: a delivery that this queue did not make (%T)", d.Lease)
		}
		replies[i] = l.reply
	}
	for {
		err := r.settle(ctx, replies)
		var unsent *unsentError
		if !errors.As(err, &unsent) || !fell(err) {
			return r.ended(err)
		}
	}
}

func (r *Receiver) settle(ctx context.Context, replies []string) error {
	live, cancel, err := r.await(ctx)
	if err != nil {
		return err
	}
	defer cancel(nil)

	s := &settlement{left: len(replies), done: make(chan struct{})}
	tokens := make([]string, len(replies))
	r.mu.Lock()
	for i := range replies {
		r.next++
		tokens[i] = strconv.FormatUint(r.next, 36)
		r.waiting[tokens[i]] = s
	}
	r.mu.Unlock()
	defer r.forget(tokens)

	for i, reply := range replies {
		if err := r.nc.PublishRequest(reply, r.prefix+tokens[i], []byte("+ACK")); err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return &unsentError{explain(noticed(live, err))}
		}
	}
	timer := time.NewTimer(answerWait)
	defer timer.Stop()
	select {
	case <-s.done:
		return nil
	case what := <-r.denied:
		return fmt.Errorf("settle: %w our credential (%s)", queue.ErrRefused, what)
	case <-live.Done():
		return context.Cause(live)
	case <-timer.C:
		return fmt.Errorf("settle: %w: %d of %d acknowledgements unconfirmed after %s; those messages come again",
			queue.ErrUnreachable, r.left(s), len(replies), answerWait)
	}
}

// settled counts one confirmation. It runs on the subscription's own goroutine.
func (r *Receiver) settled(m *nats.Msg) {
	token := strings.TrimPrefix(m.Subject, r.prefix)
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.waiting[token]
	if s == nil || m.Header.Get("Status") != "" { // unknown, or "no responders"
		return
	}
	delete(r.waiting, token)
	if s.left--; s.left == 0 {
		close(s.done)
	}
}

func (r *Receiver) left(s *settlement) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return s.left
}

func (r *Receiver) forget(tokens []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, t := range tokens {
		delete(r.waiting, t)
	}
}
