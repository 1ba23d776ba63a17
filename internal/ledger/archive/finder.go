package archive

import (
	"errors"
	"iter"

	"jmlbridge/schema"
)

// maxAhead bounds the lines that are read past one that is looked for, in octets of their messages.
const maxAhead = 64 << 20

// Finder finds messages by their digest in about the order in which they came, which is that of a ledger's entries. It
// is asked for every one of them, reads the archive once, and keeps little of it.
type Finder struct {
	next   func() (Line, error, bool)
	stop   func()
	ahead  []Line // read, and not asked for yet, in their order
	octets int    // of these
	over   bool
	broken error
}

// NewFinder begins at the folder's first day. Call Close when done.
func NewFinder(dir string) *Finder {
	f := &Finder{}
	f.next, f.stop = iter.Pull2(Read(dir))
	return f
}

// Close ends the reading.
func (f *Finder) Close() { f.stop() }

// Broken says why the archive could not be read to its end; nil: it could, or was not.
func (f *Finder) Broken() error { return f.broken }

// Find returns the message with this payload digest; ok is false where it is not there, or far from its place. What
// stands before it is given up.
func (f *Finder) Find(d schema.Digest) (jws string, ok bool) {
	for i := 0; ; i++ {
		if i == len(f.ahead) && !f.more() {
			return "", false
		}
		if l := f.ahead[i]; l.Payload == d {
			for _, gone := range f.ahead[:i+1] {
				f.octets -= len(gone.JWS)
			}
			f.ahead = f.ahead[i+1:]
			return l.JWS, true
		}
	}
}

// more reads one line further.
func (f *Finder) more() bool {
	for !f.over && f.octets <= maxAhead {
		l, err, ok := f.next()
		var torn *TornError
		switch {
		case !ok:
			f.over = true
		case errors.As(err, &torn): // a write was under way
		case err != nil:
			f.over, f.broken = true, err
		default:
			f.ahead = append(f.ahead, l)
			f.octets += len(l.JWS)
			return true
		}
	}
	return false
}
