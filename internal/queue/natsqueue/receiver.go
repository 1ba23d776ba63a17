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

	// unknownLease is how long a lease is taken to be while the mid-point has not been asked.
	unknownLease = time.Minute

	// againWithin is how soon after its lease a message has come again.
	againWithin = 10 * time.Second

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
	known   bool                     // what leased says
	leased  time.Time                // until when messages may be leased to nobody; see Leased
	waiting map[string]chan struct{} // each Settle under way, by the token of its confirmation; closed by it
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
	r := &Receiver{link: l, cfg: cfg, prefix: l.nc.NewInbox() + ".", waiting: make(map[string]chan struct{})}
	r.sub, err = l.nc.Subscribe(r.prefix+"*", r.settled)
	if err != nil {
		l.Close()
		return nil, fmt.Errorf("mid-point: %w", err)
	}
	// Confirmations are never kept: no reason to drop any.
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
	began := time.Now()
	for {
		batch, err := r.fetch(ctx, max)
		if len(batch) > 0 {
			return batch, nil // an error that is still there comes again
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if err = r.ended(err); err != nil && !fell(err) && !r.again(ctx, began, err) { // else wait for the next connection
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
	case errors.Is(err, jetstream.ErrNotPullConsumer):
		return fmt.Errorf("%w: consumer %s of %s pushes (deliver_subject); expected one to pull from", queue.ErrRefused, r.cfg.Durable, r.cfg.Stream)
	case err != nil:
		return explain(err)
	}
	info := c.CachedInfo()
	conf := info.Config
	switch {
	case conf.AckPolicy != jetstream.AckExplicitPolicy:
		return fmt.Errorf("%w: consumer %s of %s acknowledges by %q; expected explicit, since otherwise messages are dropped before they are ours",
			queue.ErrRefused, r.cfg.Durable, r.cfg.Stream, conf.AckPolicy)
	case conf.MaxDeliver > 0:
		return fmt.Errorf("%w: consumer %s of %s gives up after %d deliveries (max_deliver); expected -1",
			queue.ErrRefused, r.cfg.Durable, r.cfg.Stream, conf.MaxDeliver)
	case info.Paused:
		return fmt.Errorf("%w: consumer %s of %s is paused for another %s (pause_until): it delivers nothing", queue.ErrRefused, r.cfg.Durable, r.cfg.Stream, info.PauseRemaining)
	case r.cfg.Subject != "" && passesOver(append(conf.FilterSubjects, conf.FilterSubject), r.cfg.Subject):
		return fmt.Errorf("%w: consumer %s of %s passes over what comes to %s (filter_subject); expected no filter", queue.ErrRefused, r.cfg.Durable, r.cfg.Stream, r.cfg.Subject)
	case conf.HeadersOnly:
		return fmt.Errorf("%w: consumer %s of %s delivers headers without bodies (headers_only); expected false, since what is acknowledged so is lost",
			queue.ErrRefused, r.cfg.Durable, r.cfg.Stream)
	}
	r.mu.Lock()
	r.known = true
	if r.leased = (time.Time{}); info.NumAckPending > 0 {
		r.leased = time.Now().Add(conf.AckWait + againWithin)
	}
	r.mu.Unlock()
	r.checked = epoch
	return nil
}

// passesOver tells whether filters keep subject away; empty ones are none. One with a wildcard is taken to let it through.
func passesOver(filters []string, subject string) bool {
	filters = slices.DeleteFunc(filters, func(f string) bool { return f == "" })
	return len(filters) > 0 && !slices.ContainsFunc(filters, func(f string) bool { return f == subject || strings.ContainsAny(f, "*>") })
}

// Leased is for how long from now messages may be leased to nobody: to a process that was killed, or to the
// connection before this one. It is the mid-point's word, and unknown before the first connection.
func (r *Receiver) Leased() time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.known {
		return unknownLease
	}
	return max(0, time.Until(r.leased))
}

// lease is what Settle needs of a delivery.
type lease struct {
	reply string
	seq   uint64 // in the stream; only for order within a batch
}

// order puts redelivered and new messages into publishing order.
func (r *Receiver) order(batch []queue.Delivery) []queue.Delivery {
	slices.SortStableFunc(batch, func(a, b queue.Delivery) int {
		return cmp.Compare(a.Lease.(lease).seq, b.Lease.(lease).seq)
	})
	return batch
}

// Settle implements queue.Receiver: all acknowledgements go out at once, and the last is answered. The server
// takes what comes on one connection in order, so that answer confirms them all.
func (r *Receiver) Settle(ctx context.Context, batch []queue.Delivery) error {
	if len(batch) == 0 {
		return nil
	}
	leases := make([]lease, len(batch))
	for i, d := range batch {
		l, ok := d.Lease.(lease)
		if !ok || !strings.HasPrefix(l.reply, ackPrefix) {
			return fmt.Errorf("settle: a delivery that this queue did not make (%T)", d.Lease)
		}
		leases[i] = l
	}
	// A server that has lost its place does not answer for what lies beyond it: the furthest one speaks for all.
	slices.SortFunc(leases, func(a, b lease) int { return cmp.Compare(a.seq, b.seq) })
	for {
		err := r.settle(ctx, leases)
		var unsent *unsentError
		if !errors.As(err, &unsent) || !fell(err) {
			return r.ended(err)
		}
	}
}

func (r *Receiver) settle(ctx context.Context, leases []lease) error {
	live, cancel, err := r.await(ctx)
	if err != nil {
		return err
	}
	defer cancel(nil)

	done := make(chan struct{})
	r.mu.Lock()
	r.next++
	token := strconv.FormatUint(r.next, 36)
	r.waiting[token] = done
	r.mu.Unlock()
	defer r.forget(token)

	last := len(leases) - 1
	for i, l := range leases {
		ack := &nats.Msg{Subject: l.reply, Data: []byte("+ACK")}
		if i == last {
			ack.Reply = r.prefix + token
		}
		if err := r.nc.PublishMsg(ack); err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return &unsentError{explain(noticed(live, err))}
		}
	}
	timer := time.NewTimer(answerWait)
	defer timer.Stop()
	select {
	case <-done:
		return nil
	case what := <-r.denied:
		return fmt.Errorf("settle: %w our credential (%s)", queue.ErrRefused, what)
	case <-live.Done():
		return context.Cause(live)
	case <-timer.C:
		return fmt.Errorf("settle: %w: %d acknowledgements unconfirmed after %s; those messages come again",
			queue.ErrUnreachable, len(leases), answerWait)
	}
}

// settled takes one confirmation. It runs on the subscription's own goroutine.
func (r *Receiver) settled(m *nats.Msg) {
	token := strings.TrimPrefix(m.Subject, r.prefix)
	r.mu.Lock()
	defer r.mu.Unlock()
	done := r.waiting[token]
	if done == nil || m.Header.Get("Status") != "" { // unknown, or "no responders"
		return
	}
	delete(r.waiting, token)
	close(done)
}

func (r *Receiver) forget(token string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.waiting, token)
}
