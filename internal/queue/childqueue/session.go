package childqueue

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"time"

	"jmlbridge/internal/doctor"
	"jmlbridge/internal/queue"
)

// session is one child while it lives.
type session struct {
	cmd *exec.Cmd
	in  io.WriteCloser

	wmu sync.Mutex // guards w; held across a write to the pipe, which a child that hangs can block until it is killed
	w   *bufio.Writer

	begun   time.Time
	heard   atomic.Int64 // of the last answer to a ping: nanoseconds since begun
	empty   atomic.Uint64
	aside   uint64        // what was told last of its word on what was set aside; owned by its reader, like the next
	since   time.Time     // when that was
	between time.Duration // two that are told, at least
	told    func(bool)
	results atomic.Uint64 // messages published, fetched or settled
	octets  atomic.Uint64 // of the bodies of those published or fetched

	mu    sync.Mutex // guards what follows
	calls map[uint64]*call
	next  uint64
	why   error // set when it ended, or why it was killed
	words words // what it said last on standard error

	ended chan struct{} // closed when the process is gone and calls have failed
}

// call is one request under way. Until done is closed it belongs to the session's reader.
type call struct {
	most   int // deliveries that were asked for
	got    []delivered
	octets int // of got
	finds  int // findings that it may bring at most
	found  []doctor.Finding
	res    result
	done   chan struct{}
}

// begin starts a child, which has until ctx ends to open its adapter.
func begin(ctx context.Context, c *Command, o opening) (*session, error) {
	s := &session{cmd: exec.Command(c.Path, c.Args...), told: c.Aside, between: c.Limits.Aside, calls: make(map[uint64]*call), ended: make(chan struct{})}
	s.cmd.Env = append([]string{}, c.Env...) // nil would be all of ours
	s.cmd.Dir = "/"
	in, err := s.cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	errs, err := s.cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := launch(s.cmd); err != nil {
		return nil, fmt.Errorf("start the process that speaks to the mid-point: %w", err)
	}
	s.in, s.w = in, bufio.NewWriterSize(in, pipeBuffer)
	s.begun = time.Now()

	opened := s.enlist(0)
	var readers sync.WaitGroup
	readers.Go(func() { c.ration.relay(errs, c.Log, s.hears) })
	readers.Go(func() { s.read(out) })
	go func() {
		err := s.wait(&readers, out, errs, in)
		s.end(err)
	}()
	stop := context.AfterFunc(ctx, func() { s.kill(fmt.Errorf("it did not open the queue: %w", context.Cause(ctx))) })
	defer stop()
	if err := s.say(frame{kindOpen, opened.id, o.encode()}); err != nil {
		s.kill(err)
	}
	res, err := s.await(context.Background(), opened)
	if err == nil && res.err != nil {
		err = &unopenedError{res.err}
	}
	if err != nil {
		s.kill(err)
		<-s.ended
		return nil, err
	}
	return s, nil
}

// wait returns how the process ended, once what it said was read. Its pipes are closed behind it: what it may have started has them as well,
// and nobody waits for that.
func (s *session) wait(readers *sync.WaitGroup, pipes ...io.Closer) error {
	state, err := s.cmd.Process.Wait()
	closing := time.AfterFunc(closeTime, func() {
		for _, p := range pipes {
			_ = p.Close()
		}
	})
	readers.Wait()
	if closing.Stop() {
		for _, p := range pipes {
			_ = p.Close()
		}
	}
	if err == nil && !state.Success() {
		err = &exec.ExitError{ProcessState: state}
	}
	return err
}

// unopenedError is a child that cannot use what its configuration names: a file that is gone, or that others may read. The mid-point
// was not asked, and it goes on until a person changes something.
type unopenedError struct{ why error }

func (e *unopenedError) Error() string   { return e.why.Error() }
func (e *unopenedError) Unwrap() []error { return []error{queue.ErrRefused, e.why} }

// enlisted is a call with its number.
type enlisted struct {
	*call
	id uint64
}

// enlist notes a call that may bring up to most deliveries.
func (s *session) enlist(most int) enlisted { return s.note(&call{most: most}) }

func (s *session) note(c *call) enlisted {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.next++
	c.done = make(chan struct{})
	s.calls[s.next] = c
	return enlisted{c, s.next}
}

func (s *session) forget(id uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.calls, id)
}

func (s *session) say(frames ...frame) error {
	s.wmu.Lock()
	defer s.wmu.Unlock()
	for _, f := range frames {
		if err := writeFrame(s.w, f); err != nil {
			return err
		}
	}
	return s.w.Flush()
}

// read takes what the child says until that ends. A child that says what is not of the protocol is killed.
func (s *session) read(out io.Reader) {
	r := bufio.NewReaderSize(out, pipeBuffer)
	for {
		f, err := readFrame(r)
		if errors.Is(err, io.EOF) || errors.Is(err, os.ErrClosed) {
			return // the process has ended, or will be found silent
		}
		if err == nil {
			err = s.take(f)
		}
		if err != nil {
			s.kill(err)
			_, _ = io.Copy(io.Discard, r) // until it is gone
			return
		}
	}
}

func (s *session) take(f frame) error {
	if f.kind == kindPong {
		p := payload{rest: f.payload}
		empty, aside := p.number(), uint64(0)
		if len(p.rest) > 0 {
			if aside = p.number(); aside != asideRead && aside != asideUnread {
				p.fail()
			}
		}
		if err := p.end(); err != nil {
			return err
		}
		if now := time.Now(); aside != 0 && aside != s.aside && (s.aside == 0 || now.Sub(s.since) >= s.between) {
			s.aside, s.since = aside, now
			s.told(aside == asideRead)
		}
		s.empty.Store(empty)
		s.heard.Store(int64(time.Since(s.begun)))
		return nil
	}
	s.mu.Lock()
	c := s.calls[f.call]
	if f.kind == kindDone {
		delete(s.calls, f.call)
	}
	s.mu.Unlock()
	switch {
	case c == nil: // nobody waits for it any more
		return nil
	case f.kind == kindDelivery:
		// Now and not at the end of the call: until then all of it is in our memory.
		if len(c.got) >= c.most {
			return fmt.Errorf("%w: more deliveries than the %d that were asked for", errFrame, c.most)
		}
		if c.octets += len(f.payload); len(c.got) > 0 && c.octets > maxFetched {
			return fmt.Errorf("%w: deliveries of more than %d octets at once", errFrame, maxFetched)
		}
		d, err := decodeDelivered(f.payload)
		if err != nil {
			return err
		}
		c.got = append(c.got, d)
		s.did(1, len(d.Body))
	case f.kind == kindFinding:
		if len(c.found) >= c.finds {
			return fmt.Errorf("%w: more findings than the %d of an examination", errFrame, c.finds)
		}
		found, err := decodeFinding(f.payload)
		if err != nil {
			return err
		}
		c.found = append(c.found, found)
	case f.kind == kindDone:
		res, err := decodeResult(f.payload)
		if err != nil {
			res.err = err
		}
		c.res = res
		close(c.done)
		return err
	default:
		return fmt.Errorf("%w: a frame of kind %d from a child", errFrame, f.kind)
	}
	return nil
}

// did notes messages that went through the child, for watch.
func (s *session) did(messages, octets int) {
	s.results.Add(uint64(messages))
	s.octets.Add(uint64(octets))
}

// goneError is a call whose child ended under it.
type goneError struct{ why error }

func (e *goneError) Error() string {
	return fmt.Sprintf("the process that speaks to it ended: %v", e.why)
}
func (e *goneError) Unwrap() error { return queue.ErrUnreachable }

// await waits for the end of a call. After ctx ended it asks the child to end it, and takes what comes.
func (s *session) await(ctx context.Context, c enlisted) (result, error) {
	select {
	case <-c.done:
		return c.res, nil
	case <-s.ended:
		return s.late(c)
	case <-ctx.Done():
	}
	_ = s.say(frame{kindCancel, c.id, nil})
	patience := time.NewTimer(cancelTime)
	defer patience.Stop()
	select {
	case <-c.done:
		return c.res, nil
	case <-s.ended:
		return s.late(c)
	case <-patience.C:
		s.kill(errors.New("it does not end what it was asked to"))
		<-s.ended
		return s.late(c)
	}
}

// late is the result of a call whose end may have crossed with that of the child.
func (s *session) late(c enlisted) (result, error) {
	select {
	case <-c.done:
		return c.res, nil
	default:
		s.forget(c.id)
		s.mu.Lock()
		defer s.mu.Unlock()
		return result{}, &goneError{s.why}
	}
}

// kill ends the child at once. The first reason stands.
func (s *session) kill(why error) {
	s.mu.Lock()
	if s.why == nil {
		s.why = why
	}
	s.mu.Unlock()
	_ = s.cmd.Process.Kill()
}

// hears notes what the child says on standard error.
func (s *session) hears(line string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.words.note(line)
}

// end notes that the process is gone.
func (s *session) end(err error) {
	s.mu.Lock()
	if s.why == nil {
		if s.why = err; err == nil {
			s.why = errors.New("it ended by itself")
		}
		if s.words.text != "" {
			s.why = fmt.Errorf("%w, and its last words were: %s", s.why, s.words.text)
		}
	}
	s.mu.Unlock()
	close(s.ended)
}

// close lets the child end its connection, and ends it where it does not.
func (s *session) close() {
	s.mu.Lock()
	if s.why == nil {
		s.why = queue.ErrClosed
	}
	s.mu.Unlock()
	_ = s.in.Close()
	t := time.NewTimer(closeTime + cancelTime)
	defer t.Stop()
	select {
	case <-s.ended:
	case <-t.C:
		_ = s.cmd.Process.Kill()
		<-s.ended
	}
}

func encodeNumber(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }
