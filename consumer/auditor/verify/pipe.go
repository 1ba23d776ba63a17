package verify

import (
	"context"
	"runtime"
)

// window is how many batches may be under way at once in one pipe: bounded memory, and enough for every
// processor to have work while the next batch is read.
func window() int { return 4 * runtime.GOMAXPROCS(0) }

type job[In, Out any] struct {
	in   In
	out  Out
	err  error
	done chan struct{}
}

// pipe maps batches on all processors and gives the results in the order in which the batches came.
type pipe[In, Out any] struct {
	order  chan *job[In, Out]
	cancel context.CancelFunc
}

// newPipe starts one goroutine that reads, by calling source, and one per processor that works. source
// passes batches to emit until it returns; emit is false where nobody wants more. close must be called.
func newPipe[In, Out any](ctx context.Context, source func(emit func(In) bool) error, work func(In) (Out, error)) *pipe[In, Out] {
	ctx, cancel := context.WithCancel(ctx)
	p := &pipe[In, Out]{order: make(chan *job[In, Out], window()), cancel: cancel}
	todo := make(chan *job[In, Out], window())
	send := func(to chan<- *job[In, Out], j *job[In, Out]) bool {
		select {
		case to <- j:
			return true
		case <-ctx.Done():
			return false
		}
	}
	go func() {
		defer close(p.order)
		defer close(todo)
		err := source(func(in In) bool {
			j := &job[In, Out]{in: in, done: make(chan struct{})}
			return send(p.order, j) && send(todo, j)
		})
		if err != nil {
			j := &job[In, Out]{err: err, done: make(chan struct{})}
			close(j.done)
			send(p.order, j)
		}
	}()
	for range runtime.GOMAXPROCS(0) {
		go func() {
			for j := range todo {
				j.out, j.err = work(j.in)
				close(j.done)
			}
		}()
	}
	return p
}

// next waits for the next result; ok is false at the end.
func (p *pipe[In, Out]) next(ctx context.Context) (out Out, ok bool, err error) {
	select {
	case j, open := <-p.order:
		if !open {
			return out, false, ctx.Err()
		}
		select {
		case <-j.done:
			return j.out, j.err == nil, j.err
		case <-ctx.Done():
			return out, false, ctx.Err()
		}
	case <-ctx.Done():
		return out, false, ctx.Err()
	}
}

func (p *pipe[In, Out]) close() { p.cancel() }
