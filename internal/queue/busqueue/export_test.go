package busqueue

import "time"

// Impatient lets it be known after d that dead letters cannot be read.
func (r *Receiver) Impatient(d time.Duration) { r.unread.patience = d }

// Impatient lets it be known after d that dead letters cannot be read.
func (r *Dark) Impatient(d time.Duration) { r.unread.patience = d }

// Doubting lets the oldest message be looked at after d without news.
func (r *Dark) Doubting(d time.Duration) { r.doubt = d }

// Aside is whether the dead letters can be read.
type Aside struct{ a aside }

func NewAside() *Aside                     { return &Aside{aside{patience: asidePatience}} }
func (a *Aside) Note(queue, dead error)    { a.a.note(queue, dead) }
func (a *Aside) Judge() (read, known bool) { return a.a.judge() }
