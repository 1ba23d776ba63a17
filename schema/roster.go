package schema

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
)

// rosterFrame is the room, in octets, that every roster part leaves in MaxPayload for the claims around
// its statements: iss and aud at their longest, all numbers at their widest.
const rosterFrame = 1536

// RosterDigest is the digest over all statements of a roster (event.md §5.7): a SHA-256 over one canonical
// line for each live statement, then for each closed one, each ended by a line feed. The statements must
// come in the order of the roster. The zero value is ready.
type RosterDigest struct {
	h      hash.Hash
	line   []byte
	live   LiveEngagement // the last of each kind, to hold the order
	closed ClosedEngagement
}

// Live adds the next live statement. It refuses one that breaks a rule, is out of order, or comes after a
// closed one.
func (d *RosterDigest) Live(l *LiveEngagement) error {
	if d.closed.Subject != "" {
		return fmt.Errorf("want the live statements of a roster before the closed ones, got live %q after closed %q", l.Subject, d.closed.Subject)
	}
	if err := l.check(); err != nil {
		return err
	}
	if compareLive(&d.live, l) >= 0 {
		return fmt.Errorf("want the live statements in the order of sub and engagement, got %q engagement %d after %q engagement %d", l.Subject, l.Engagement, d.live.Subject, d.live.Engagement)
	}
	d.live = LiveEngagement{Subject: l.Subject, Engagement: l.Engagement}
	d.write(l.append(d.line[:0]))
	return nil
}

// Closed adds the next closed statement.
func (d *RosterDigest) Closed(c *ClosedEngagement) error {
	if err := c.check(); err != nil {
		return err
	}
	if compareClosed(&d.closed, c) >= 0 {
		return fmt.Errorf("want the closed statements in the order of sub and engagement, got %q engagement %d after %q engagement %d", c.Subject, c.Engagement, d.closed.Subject, d.closed.Engagement)
	}
	d.closed = *c
	d.write(c.append(d.line[:0]))
	return nil
}

func (d *RosterDigest) write(line []byte) {
	d.line = append(line, '\n')
	if d.h == nil {
		d.h = sha256.New()
	}
	d.h.Write(d.line)
}

// last is the digest of the statement that was added last.
func (d *RosterDigest) last() Digest { return DigestOf(d.line) }

// Digest is SHA-256 over the canonical line of the statement. It says nothing of the roster in which it stands.
func (l *LiveEngagement) Digest() Digest { return DigestOf(append(l.append(nil), '\n')) }

// Statements is a digest over the digests of statements, in their order. The zero value is ready.
type Statements struct{ h hash.Hash }

// Add adds the digest of the next statement.
func (s *Statements) Add(d Digest) {
	if s.h == nil {
		s.h = sha256.New()
	}
	s.h.Write(d[:])
}

// Sum returns the digest of what was added so far.
func (s *Statements) Sum() Digest {
	if s.h == nil {
		return DigestOf(nil)
	}
	return Digest(s.h.Sum(nil))
}

// Sum returns the digest of what was added so far.
func (d *RosterDigest) Sum() Digest {
	if d.h == nil {
		return DigestOf(nil)
	}
	return Digest(d.h.Sum(nil))
}

// SplitRoster cuts the whole truth into parts that each fit MaxPayload, with id, head and digest filled
// in. live and closed must be sorted by subject and engagement; the parts share their memory. A roster
// without statements is one empty part.
func SplitRoster(id string, head RosterHead, live []LiveEngagement, closed []ClosedEngagement) ([]*Roster, error) {
	if err := disjoint(live, closed); err != nil {
		return nil, err
	}
	var d RosterDigest
	part := &Roster{Live: []LiveEngagement{}, Closed: []ClosedEngagement{}}
	parts := []*Roster{part}
	room := MaxPayload - rosterFrame
	// begin makes room for the statement in d.line, whose line feed counts as its comma, and reports
	// whether that began a new part.
	begin := func() bool {
		if room -= len(d.line); room >= 0 {
			return false
		}
		part = &Roster{Live: []LiveEngagement{}, Closed: []ClosedEngagement{}}
		parts = append(parts, part)
		room = MaxPayload - rosterFrame - len(d.line)
		return true
	}
	for i, from := 0, 0; i < len(live); i++ {
		if err := d.Live(&live[i]); err != nil {
			return nil, under(indexed("live", i), err)
		}
		if begin() {
			from = i
		}
		part.Live = live[from : i+1 : i+1]
	}
	for i, from := 0, 0; i < len(closed); i++ {
		if err := d.Closed(&closed[i]); err != nil {
			return nil, under(indexed("closed", i), err)
		}
		if begin() {
			from = i
		}
		part.Closed = closed[from : i+1 : i+1]
	}
	if len(parts) > MaxRosterParts {
		return nil, refusef(CodeTooLong, "parts", "the roster takes %d parts and at most %d may be sent", len(parts), MaxRosterParts)
	}
	for i, p := range parts {
		p.ID, p.Part, p.Parts, p.Head, p.Digest = id, i+1, len(parts), head, d.Sum()
		if err := p.check(); err != nil {
			return nil, err
		}
	}
	return parts, nil
}

// disjoint holds that no engagement is stated both live and closed. Both lists are sorted.
func disjoint(live []LiveEngagement, closed []ClosedEngagement) error {
	i, j := 0, 0
	for i < len(live) && j < len(closed) {
		l := ClosedEngagement{Subject: live[i].Subject, Engagement: live[i].Engagement}
		switch n := compareClosed(&l, &closed[j]); {
		case n == 0:
			return fmt.Errorf("engagement %d of %q is stated both live and closed", l.Engagement, l.Subject)
		case n < 0:
			i++
		default:
			j++
		}
	}
	return nil
}

// A RosterCheck verifies that parts belong to one roster and that the roster is whole, while they pass by
// in their order; it keeps none of them. The zero value is ready for part 1. Only after Add has returned
// true may the statements be believed as the whole truth.
type RosterCheck struct {
	first  Roster // without statements
	part   int
	digest RosterDigest
	live   Statements // of the last part
	err    error
}

// Add takes the next part, and reports whether it was the last and the digest fits. The first error is
// final.
func (c *RosterCheck) Add(p *Roster) (whole bool, err error) {
	if c.err == nil {
		c.err = c.add(p)
	}
	return c.err == nil && c.part == c.first.Parts, c.err
}

// Live is the digest over the live statements of the part that was added last.
func (c *RosterCheck) Live() Digest { return c.live.Sum() }

func (c *RosterCheck) add(p *Roster) error {
	if c.part > 0 && c.part == c.first.Parts {
		return errors.New("the roster was whole before this part")
	}
	if p.Part != c.part+1 {
		return fmt.Errorf("want part %d of a roster, got part %d", c.part+1, p.Part)
	}
	if c.part == 0 {
		c.first = Roster{ID: p.ID, Parts: p.Parts, Digest: p.Digest, Head: p.Head}
	}
	switch {
	case p.ID != c.first.ID:
		return fmt.Errorf("want part %d of roster %s, got a part of roster %s", p.Part, c.first.ID, p.ID)
	case p.Parts != c.first.Parts, p.Digest != c.first.Digest, p.Head != c.first.Head:
		return fmt.Errorf("part %d of roster %s differs from part 1 in parts, digest or head", p.Part, p.ID)
	}
	c.part, c.live = p.Part, Statements{}
	for i := range p.Live {
		if err := c.digest.Live(&p.Live[i]); err != nil {
			return fmt.Errorf("part %d of roster %s: %w", p.Part, p.ID, err)
		}
		c.live.Add(c.digest.last())
	}
	for i := range p.Closed {
		if err := c.digest.Closed(&p.Closed[i]); err != nil {
			return fmt.Errorf("part %d of roster %s: %w", p.Part, p.ID, err)
		}
	}
	if sum := c.digest.Sum(); c.part == c.first.Parts && sum != c.first.Digest {
		return fmt.Errorf("the statements of roster %s have the digest %s where the roster names %s", p.ID, sum, c.first.Digest)
	}
	return nil
}
