package busqueue

import (
	"sync"
	"time"
)

// asidePatience is how long the dead letters may be out of reach while the queue is not, before somebody has to know: a leaver
// that was set aside is there and nowhere else.
const asidePatience = 5 * time.Minute

// aside is whether the dead letters can be read.
type aside struct {
	patience time.Duration // asidePatience

	mu    sync.Mutex // guards what follows
	read  bool       // they could, at the last attempt
	since time.Time  // since when they cannot, and the queue can; zero: that is not so
}

// note takes down how an attempt at each ended. While nothing can be read that is told of the queue.
func (a *aside) note(queue, dead error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.read = dead == nil
	switch {
	case dead == nil || queue != nil:
		a.since = time.Time{}
	case a.since.IsZero():
		a.since = time.Now()
	}
}

// judge says whether they can be read, once that is known.
func (a *aside) judge() (read, known bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.read {
		return true, true
	}
	return false, !a.since.IsZero() && time.Since(a.since) >= a.patience
}

// AsideRead says whether the dead letters can be read, once that is known.
func (r *Dark) AsideRead() (read, known bool) { return r.unread.judge() }

// AsideRead says whether the dead letters can be read, once that is known. It is known by being asked again and again.
func (r *Receiver) AsideRead() (read, known bool) {
	_, queue := r.main.state()
	_, dead := r.dead.state()
	r.unread.note(queue, dead)
	return r.unread.judge()
}
