package main

import (
	"errors"
	"io/fs"
	"sync"
	"time"

	"jmlbridge/e2e/stage"
)

// ears looks at a process's sockets all the while it runs.
type ears struct {
	end  chan struct{}
	done chan struct{}
	once sync.Once

	mu       sync.Mutex // guards what follows
	looks    int
	outbound map[string]bool
	heard    map[string]bool
	err      error
}

func listen(p *stage.Process) *ears {
	e := &ears{end: make(chan struct{}), done: make(chan struct{}), outbound: map[string]bool{}, heard: map[string]bool{}}
	go func() {
		defer close(e.done)
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for {
			if pid := p.PID(); pid != 0 {
				for _, one := range stage.Family(pid) { // a child may speak to the mid-point
					e.look(one)
				}
			}
			select {
			case <-e.end:
				return
			case <-tick.C:
			}
		}
	}()
	return e
}

func (e *ears) look(pid int) {
	s, err := stage.SocketsOf(pid)
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case errors.Is(err, stage.ErrNoProc), errors.Is(err, fs.ErrNotExist): // no such system, or it has just ended
		return
	case err != nil:
		e.err = err
		return
	}
	e.looks++
	for _, a := range s.Outbound {
		e.outbound[a] = true
	}
	for _, a := range s.Listening {
		e.heard[a] = true
	}
}

func (e *ears) soFar() (looks int, outbound, heard []string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for a := range e.outbound {
		outbound = append(outbound, a)
	}
	for a := range e.heard {
		heard = append(heard, a)
	}
	return e.looks, outbound, heard
}

// stop ends the looking and says what was found.
func (e *ears) stop() (problems []string) {
	e.once.Do(func() { close(e.end) })
	<-e.done
	_, _, heard := e.soFar()
	for _, a := range heard {
		problems = append(problems, "the consumer listened on a socket: "+a)
	}
	if e.err != nil {
		problems = append(problems, "the consumer's sockets could not be read: "+e.err.Error())
	}
	return problems
}
