package intake

import (
	"slices"

	"jmlbridge/consumer/state"
	"jmlbridge/schema"
)

// checked is what is known of the roster whose parts come in, as far as these came in their order: it is kept in memory,
// so that a roster that came as it was sent need not be read back to be verified. Nothing depends on it. It outlives
// commits that failed and rulings that put messages aside, and so it counts only as far as the archive has, for every
// part, the payload that was checked.
type checked struct {
	ref   int64
	id    string
	check schema.RosterCheck // over parts
	parts []checkedPart
}

type checkedPart struct {
	payload schema.Digest
	state.Part
}

// follow checks a part that has just come, if it is the next one of its roster.
func (c *checked) follow(r *state.Roster, e *schema.Roster, payload schema.Digest) {
	if e.Part == 1 {
		*c = checked{ref: r.StreamRef, id: r.ID}
	}
	if c.ref != r.StreamRef || c.id != r.ID || e.Part != len(c.parts)+1 {
		return
	}
	if c.add(e, payload) != nil {
		*c = checked{} // what is wrong is found again, and told, once all parts are here
	}
}

// add checks the next part, and that the roster is whole with the last and not before.
func (c *checked) add(e *schema.Roster, payload schema.Digest) error {
	if _, err := c.check.Add(e); err != nil {
		return err
	}
	p := checkedPart{payload: payload}
	if n := len(e.Live); n > 0 && len(e.Closed) == 0 {
		p.Part = state.Part{Live: n, First: e.Live[0].Subject, Last: e.Live[n-1].Subject, Statements: c.check.Live()}
	}
	c.parts = append(c.parts, p)
	return nil
}

// of returns what was checked of a roster whose parts have these payloads; nothing where one of them is another.
func (c *checked) of(r *state.Roster, here []schema.Digest) checked {
	same := func(p checkedPart, d schema.Digest) bool { return p.payload == d }
	if c.ref != r.StreamRef || c.id != r.ID || len(c.parts) > len(here) || !slices.EqualFunc(c.parts, here[:len(c.parts)], same) {
		return checked{}
	}
	return *c
}
