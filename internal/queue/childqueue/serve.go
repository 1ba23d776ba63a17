package childqueue

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"
	"time"

	"jmlbridge/internal/doctor"
	"jmlbridge/internal/queue"
)

// Limits of a child.
const (
	pipeBuffer = 256 << 10       // octets read or written at once
	maxLeases  = 1 << 17         // deliveries that wait to be settled; the oldest are forgotten, and come again
	closeTime  = 2 * time.Second // for the adapter to end its connection
	maxCalls   = 64              // at the same time
)

// Adapters open the two ends of a queue by the block of a configuration that came over the pipe.
type Adapters struct {
	Publisher func(config []byte) (queue.Publisher, error)
	Receiver  func(config []byte, from queue.Position) (queue.Receiver, error)
	Examiner  func(config []byte) (Examiner, error)
}

// Examiner looks at the way to a mid-point and tells what it finds, one finding after the other and each as soon as
// it is known: it may not live to tell the next. The way is that of a receiver or of a publisher.
type Examiner func(ctx context.Context, receives bool, tell func(doctor.Finding))

// Counter is what a receiver has that can tell how often it was answered with nothing; see Limits.
type Counter interface{ Empty() uint64 }

// Asider is what a receiver has that also reads what its queue set aside: whether it can, once that is known.
type Asider interface{ AsideRead() (read, known bool) }

// Serve is the child: it opens what the parent asks for and does as it is told until in ends, which is how
// the parent closes it and what happens when the parent dies. The error is for the child's log.
func Serve(in io.Reader, out io.Writer, a Adapters) error {
	s := &server{w: bufio.NewWriterSize(out, pipeBuffer), calls: make(map[uint64]context.CancelFunc),
		messages: make(map[uint64]*batch), leases: make(map[uint64]any)}
	r := bufio.NewReaderSize(in, pipeBuffer)
	first, err := readFrame(r)
	if err != nil {
		return fmt.Errorf("read the opening: %w", err)
	}
	o, err := decodeOpening(first.payload)
	if err != nil || first.kind != kindOpen {
		return errors.Join(err, fmt.Errorf("%w: it does not begin with an opening", errFrame))
	}
	switch o.role {
	case rolePublisher:
		s.pub, err = a.Publisher(o.config)
	case roleReceiver:
		s.rec, err = a.Receiver(o.config, o.from)
	case roleExaminer:
		s.examine, err = a.Examiner(o.config)
	}
	if serr := s.say(frame{kindDone, first.call, result{err: err}.encode()}); err != nil || serr != nil {
		return errors.Join(err, serr)
	}
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	err = s.listen(ctx, r)
	stop()
	s.close()
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// server is one child at work.
type server struct {
	pub     queue.Publisher // one of the three
	rec     queue.Receiver
	examine Examiner

	wmu sync.Mutex // guards w; held across a write to the pipe
	w   *bufio.Writer

	messages map[uint64]*batch // said for a publish to come; owned by listen

	mu     sync.Mutex // guards what follows
	calls  map[uint64]context.CancelFunc
	next   uint64
	oldest uint64
	leases map[uint64]any
	held   []queue.Delivery // fetched and not said: the next fetch begins with them
}

type batch struct {
	msgs   []queue.Message
	octets int
}

func (s *server) say(frames ...frame) error {
	s.wmu.Lock()
	defer s.wmu.Unlock()
	for _, f := range frames {
		if err := writeFrame(s.w, f); err != nil {
			return err
		}
	}
	return s.w.Flush()
}

func (s *server) close() {
	done := make(chan struct{})
	go func() {
		defer close(done)
		switch {
		case s.pub != nil:
			_ = s.pub.Close()
		case s.rec != nil:
			_ = s.rec.Close()
		}
	}()
	t := time.NewTimer(closeTime)
	defer t.Stop()
	select {
	case <-done:
	case <-t.C: // the process ends anyhow
	}
}

func (s *server) listen(ctx context.Context, r *bufio.Reader) error {
	for {
		f, err := readFrame(r)
		if err != nil {
			return err
		}
		if err := s.take(ctx, f); err != nil {
			return err
		}
	}
}

// take does what one frame asks for. Calls go on beside.
func (s *server) take(ctx context.Context, f frame) error {
	switch {
	case f.kind == kindPing && len(f.payload) == 0:
		var empty uint64
		if c, ok := s.rec.(Counter); ok {
			empty = c.Empty()
		}
		pong := binary.BigEndian.AppendUint64(nil, empty)
		if a, ok := s.rec.(Asider); ok {
			if read, known := a.AsideRead(); known {
				pong = binary.BigEndian.AppendUint64(pong, asideSaid(read))
			}
		}
		return s.say(frame{kindPong, f.call, pong})
	case f.kind == kindCancel && len(f.payload) == 0:
		s.mu.Lock()
		cancel := s.calls[f.call]
		s.mu.Unlock()
		if cancel != nil {
			cancel()
		}
		return nil
	case f.kind == kindMessage && s.pub != nil:
		m, err := decodeMessage(f.payload)
		if err != nil {
			return err
		}
		b := s.messages[f.call]
		if b == nil {
			b = new(batch)
			s.messages[f.call] = b
		}
		b.msgs, b.octets = append(b.msgs, m), b.octets+len(m.Body)
		if len(b.msgs) > maxBatch || b.octets > maxOctets || len(s.messages) > maxCalls {
			return fmt.Errorf("%w: a publish of too much", errFrame)
		}
		return nil
	case f.kind == kindPublish && s.pub != nil && len(f.payload) == 0:
		b := s.messages[f.call]
		delete(s.messages, f.call)
		if b == nil {
			b = new(batch)
		}
		return s.start(ctx, f.call, func(ctx context.Context) result {
			n, err := s.pub.Publish(ctx, b.msgs)
			return result{uint64(n), err}
		})
	case f.kind == kindFetch && s.rec != nil:
		p := payload{rest: f.payload}
		most := p.number()
		if err := p.end(); err != nil || most > maxBatch {
			return fmt.Errorf("%w: a fetch of %d", errFrame, most)
		}
		return s.start(ctx, f.call, func(ctx context.Context) result { return s.fetch(ctx, f.call, int(most)) })
	case f.kind == kindSettle && s.rec != nil:
		list, err := decodeLeases(f.payload)
		if err != nil {
			return err
		}
		return s.start(ctx, f.call, func(ctx context.Context) result { return result{err: s.settle(ctx, list)} })
	case f.kind == kindExamine && s.examine != nil:
		p := payload{rest: f.payload}
		receives := p.number()
		if err := p.end(); err != nil || receives > 1 {
			return fmt.Errorf("%w: an examination of %d", errFrame, receives)
		}
		return s.start(ctx, f.call, func(ctx context.Context) result {
			s.examine(ctx, receives == 1, func(found doctor.Finding) { _ = s.say(frame{kindFinding, f.call, encodeFinding(found)}) })
			return result{}
		})
	}
	return fmt.Errorf("%w: a frame of kind %d here", errFrame, f.kind)
}

func (s *server) start(ctx context.Context, id uint64, do func(context.Context) result) error {
	ctx, cancel := context.WithCancel(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.calls) >= maxCalls || s.calls[id] != nil {
		cancel()
		return fmt.Errorf("%w: too many calls", errFrame)
	}
	s.calls[id] = cancel
	go func() {
		res := do(ctx)
		s.mu.Lock()
		delete(s.calls, id)
		s.mu.Unlock()
		cancel()
		_ = s.say(frame{kindDone, id, res.encode()}) // a pipe that is gone ends listen as well
	}()
	return nil
}

// fetch sends what came before it says that this was all.
func (s *server) fetch(ctx context.Context, id uint64, most int) result {
	s.mu.Lock()
	got := s.held
	s.held = nil
	s.mu.Unlock()
	if len(got) == 0 {
		var err error
		if got, err = s.rec.Fetch(ctx, most); len(got) == 0 {
			return result{err: err}
		}
	}
	var frames []frame
	octets := 0
	for _, d := range got[:min(most, len(got))] {
		if octets += (delivered{Delivery: d}).size(); len(frames) > 0 && octets > maxFetched {
			break
		}
		frames = append(frames, frame{kindDelivery, id, delivered{s.lend(d.Lease), d}.encode()})
	}
	s.mu.Lock()
	s.held = append(s.held, got[len(frames):]...)
	s.mu.Unlock()
	if err := s.say(frames...); err != nil {
		return result{err: err}
	}
	return result{n: uint64(len(frames))}
}

func (s *server) lend(lease any) uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.next++
	s.leases[s.next] = lease
	for ; len(s.leases) > maxLeases; s.oldest++ {
		delete(s.leases, s.oldest)
	}
	return s.next
}

// settle settles those that are known: the others were settled, or come again.
func (s *server) settle(ctx context.Context, list []uint64) error {
	known := make(map[uint64]any, len(list))
	s.mu.Lock()
	for _, l := range list {
		if lease, ok := s.leases[l]; ok {
			known[l] = lease
		}
	}
	s.mu.Unlock()
	var got []queue.Delivery
	for _, l := range slices.Sorted(maps.Keys(known)) {
		got = append(got, queue.Delivery{Lease: known[l]})
	}
	if err := s.rec.Settle(ctx, got); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for l := range known {
		delete(s.leases, l)
	}
	return nil
}
