package childqueue

import (
	"context"
	"errors"
	"fmt"
	"time"

	"jmlbridge/internal/queue"
)

// Publisher is a queue.Publisher whose adapter runs in a child.
type Publisher struct{ *keeper }

// OpenPublisher starts a child. It does not wait for the mid-point.
func OpenPublisher(c Command) (*Publisher, error) {
	k, err := keep(c, rolePublisher, nil)
	if err != nil {
		return nil, err
	}
	return &Publisher{k}, nil
}

// Publish implements queue.Publisher. A child that ends under it has perhaps published: its caller does so
// again under the same ids.
func (p *Publisher) Publish(ctx context.Context, msgs []queue.Message) (n int, err error) {
	var bad error // with the message that cannot be sent; those before it can
	for i, m := range msgs {
		if bad = fits(m); bad != nil {
			msgs = msgs[:i]
			break
		}
	}
	for n < len(msgs) {
		most, octets := n, 0
		for most < len(msgs) && most-n < maxBatch && octets+len(msgs[most].Body) <= maxOctets {
			octets += len(msgs[most].Body)
			most++
		}
		k, err := p.publish(ctx, msgs[n:most])
		n += k
		if err != nil {
			return n, p.ended(err)
		}
	}
	if bad == nil && p.isClosed() {
		return n, queue.ErrClosed
	}
	return n, bad
}

func fits(m queue.Message) error {
	if len(m.Body) > queue.MaxBody {
		return fmt.Errorf("message of %d octets, at most %d: %w", len(m.Body), queue.MaxBody, queue.ErrTooLarge)
	}
	if len(m.ID) > maxID {
		return fmt.Errorf("message id of %d octets, at most %d", len(m.ID), maxID)
	}
	return nil
}

func (p *Publisher) publish(ctx context.Context, msgs []queue.Message) (int, error) {
	s, err := p.await(ctx)
	if err != nil {
		return 0, err
	}
	c := s.enlist(0)
	frames := make([]frame, 0, len(msgs)+1)
	for _, m := range msgs {
		frames = append(frames, frame{kindMessage, c.id, encodeMessage(m)})
	}
	if err := s.say(append(frames, frame{kindPublish, c.id, nil})...); err != nil {
		s.kill(err)
	}
	res, err := s.await(ctx, c)
	if err == nil && res.n > uint64(len(msgs)) {
		err = fmt.Errorf("%w: %d of %d messages published", errFrame, res.n, len(msgs))
		s.kill(err)
	}
	if err != nil {
		return 0, err
	}
	octets := 0
	for _, m := range msgs[:res.n] {
		octets += len(m.Body)
	}
	s.did(int(res.n), octets)
	p.judged(res.err != nil && res.n == 0)
	return int(res.n), inTime(ctx, res.err)
}

// inTime is ctx's error where that is what ended the call in the child.
func inTime(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// Receiver is a queue.Receiver whose adapter runs in a child.
type Receiver struct{ *keeper }

// OpenReceiver starts a child, which begins at from if it keeps no state at the mid-point. It does not wait
// for the mid-point.
func OpenReceiver(c Command, from queue.Position) (*Receiver, error) {
	if len(from) > maxPosition {
		return nil, fmt.Errorf("a position of %d octets, at most %d", len(from), maxPosition)
	}
	k, err := keep(c, roleReceiver, from)
	if err != nil {
		return nil, err
	}
	return &Receiver{k}, nil
}

// leasedFor is how long what a child had fetched may stay leased to it, by what brokers grant unless told otherwise.
const leasedFor = time.Minute

// Leased is for how long from now messages may be leased to nobody: to the child before this one, or to that of a
// process before ours. Whether there are any, only the mid-point knows.
func (r *Receiver) Leased() time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	return max(0, leasedFor-time.Since(r.born))
}

// lease is a delivery's number in the child that made it.
type lease struct {
	of     *session
	number uint64
}

// Fetch implements queue.Receiver. It goes on with the next child where one ends under it.
func (r *Receiver) Fetch(ctx context.Context, most int) ([]queue.Delivery, error) {
	if most < 1 {
		return nil, fmt.Errorf("fetch of %d messages: ask for at least one", most)
	}
	most = min(most, maxBatch)
	began := time.Now()
	for {
		s, err := r.await(ctx)
		if err != nil {
			return nil, err
		}
		got, err := r.fetch(ctx, s, most)
		switch {
		case len(got) > 0:
			return got, nil
		case errors.As(err, new(*goneError)) && ctx.Err() == nil && !r.isClosed():
			continue
		}
		r.rest(ctx, min(failTime, r.c.Patience)-time.Since(began))
		return nil, r.ended(inTime(ctx, err))
	}
}

func (r *Receiver) fetch(ctx context.Context, s *session, most int) ([]queue.Delivery, error) {
	c := s.enlist(most)
	if err := s.say(frame{kindFetch, c.id, encodeNumber(uint64(most))}); err != nil {
		s.kill(err)
	}
	res, err := s.await(ctx, c)
	if err != nil {
		return nil, err
	}
	if res.n != uint64(len(c.got)) || len(c.got) == 0 && res.err == nil {
		err := fmt.Errorf("%w: %d deliveries, said to be %d of at most %d", errFrame, len(c.got), res.n, most)
		s.kill(err)
		return nil, &goneError{err}
	}
	if len(c.got) == 0 {
		r.judged(ctx.Err() == nil)
		return nil, res.err
	}
	r.judged(false)
	got := make([]queue.Delivery, len(c.got))
	for i, d := range c.got {
		got[i] = d.Delivery
		got[i].Lease = lease{s, d.lease}
	}
	r.mu.Lock()
	r.from = got[len(got)-1].Position
	r.mu.Unlock()
	return got, nil
}

// Settle implements queue.Receiver. What a child fetched that has ended cannot be settled: it comes again.
func (r *Receiver) Settle(ctx context.Context, batch []queue.Delivery) error {
	numbers := make(map[*session][]uint64)
	for _, d := range batch {
		l, ok := d.Lease.(lease)
		if !ok || l.of == nil {
			return fmt.Errorf("settle: a delivery that this queue did not make (%T)", d.Lease)
		}
		numbers[l.of] = append(numbers[l.of], l.number)
	}
	if r.isClosed() {
		return queue.ErrClosed
	}
	var errs []error
	for s, list := range numbers {
		for len(list) > 0 {
			n := min(len(list), maxBatch)
			errs = append(errs, r.settle(ctx, s, list[:n]))
			list = list[n:]
		}
	}
	return r.ended(errors.Join(errs...))
}

func (r *Receiver) settle(ctx context.Context, s *session, list []uint64) error {
	if s.gone() {
		return fmt.Errorf("settle: the process that fetched them has ended; they come again: %w", queue.ErrUnreachable)
	}
	c := s.enlist(0)
	if err := s.say(frame{kindSettle, c.id, encodeLeases(list)}); err != nil {
		s.kill(err)
	}
	res, err := s.await(ctx, c)
	if err != nil {
		return err
	}
	if res.err == nil {
		s.did(len(list), 0)
	}
	return inTime(ctx, res.err)
}
