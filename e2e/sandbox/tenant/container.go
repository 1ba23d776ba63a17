package tenant

import (
	"slices"
	"sort"
)

// A container has members: a group or an administrative unit.
type container struct {
	node
	unit           bool // an administrative unit
	restricted     bool // of a unit: its members are privileged
	seq            uint64
	born           int64 // unix nanoseconds; 0 for the seed
	name           string
	description    string
	dynamic        bool
	roleAssignable bool
	mailEnabled    bool
	mail           string // its address, that no user can have

	edges []edge // by seq
	place map[*node]int
	empty int // forgotten edges still in edges
}

// An edge is one membership, present or lately removed.
type edge struct {
	n   *node // nil once the edge is forgotten
	seq uint64
	// flips are the moments (unix nanoseconds) at which the membership began,
	// ended, began again… Pairs that no replica can show are dropped from the
	// front, so the parity always tells the present.
	flips []int64
}

// on reports whether the membership is there now.
func (e *edge) on() bool { return len(e.flips)%2 == 1 }

// seen reports whether a replica that is current up to t shows the membership.
// A deleted member is not shown, and is again once it is restored.
func (e *edge) seen(t int64) bool {
	if e.n == nil {
		return false
	}
	n := len(e.flips)
	for n > 0 && e.flips[n-1] > t {
		n--
	}
	if n%2 == 0 {
		return false
	}
	if e.n.entry != nil {
		return e.n.entry.seen(t).live()
	}
	return e.n.group.born <= t
}

func (d *directory) addContainer(c *container) {
	c.seq = d.next()
	c.place = map[*node]int{}
	c.group = c
	d.containers[c.id] = c
	d.sorted = append(d.sorted, c)
}

// findContainer finds by id or, for seeds, by display name.
func (d *directory) findContainer(key string, unit bool) *container {
	if c := d.containers[key]; c != nil && c.unit == unit {
		return c
	}
	for _, c := range d.sorted {
		if c.unit == unit && c.name == key {
			return c
		}
	}
	return nil
}

// has reports whether n is now a member of c.
func (c *container) has(n *node) bool {
	i, ok := c.place[n]
	return ok && c.edges[i].on()
}

// had reports whether n was a member of c at t, which is what a write at a replica that lags goes by.
func (c *container) had(n *node, t int64) bool {
	i, ok := c.place[n]
	if !ok {
		return false
	}
	before := 0
	for _, at := range c.edges[i].flips {
		if at <= t {
			before++
		}
	}
	return before%2 == 1
}

// join makes n a member since always (the seed's way).
func (d *directory) join(c *container, n *node) { d.toggle(c, n, true, 0) }

// toggle makes n a member of c, or no longer one, at the given moment.
func (d *directory) toggle(c *container, n *node, on bool, at int64) {
	i, ok := c.place[n]
	if !ok {
		if !on {
			return
		}
		i = len(c.edges)
		c.place[n] = i
		c.edges = append(c.edges, edge{n: n, seq: d.next()})
		n.in = append(n.in, c)
	}
	e := &c.edges[i]
	if e.on() == on {
		return
	}
	e.flips = append(e.flips, at)
	for len(e.flips) > 2 && e.flips[1]+int64(d.horizon) < at {
		e.flips = e.flips[2:]
	}
	switch {
	case on:
	case d.horizon == 0:
		c.drop(n)
	default:
		d.due = append(d.due, retire{at: at, c: c, n: n})
	}
	d.forget(at)
}

// drop forgets the edge to n, whatever its state.
func (c *container) drop(n *node) {
	i, ok := c.place[n]
	if !ok {
		return
	}
	delete(c.place, n)
	c.edges[i] = edge{seq: c.edges[i].seq} // keeps its place for pages under way
	n.in = slices.DeleteFunc(n.in, func(o *container) bool { return o == c })
	if c.empty++; c.empty <= 64 || c.empty <= len(c.edges)/2 {
		return
	}
	kept := make([]edge, 0, len(c.edges)-c.empty)
	for _, e := range c.edges {
		if e.n != nil {
			c.place[e.n] = len(kept)
			kept = append(kept, e)
		}
	}
	c.edges, c.empty = kept, 0
}

// after is where a page that follows seq begins.
func (c *container) after(seq uint64) int {
	return sort.Search(len(c.edges), func(i int) bool { return c.edges[i].seq > seq })
}

// memberOf lists the containers of n as seen at t: direct ones, or with those
// that they are nested in.
func (n *node) memberOf(t int64, transitive bool) []*container {
	var out []*container
	seen := map[*container]bool{}
	var walk func(*node)
	walk = func(n *node) {
		for _, c := range n.in {
			i, ok := c.place[n]
			if !ok || seen[c] || c.born > t || !c.edges[i].seen(t) {
				continue
			}
			seen[c] = true
			out = append(out, c)
			if transitive {
				walk(&c.node)
			}
		}
	}
	walk(n)
	slices.SortFunc(out, func(a, b *container) int { return int(int64(a.seq) - int64(b.seq)) })
	return out
}

// privileged reports whether changing e's sensitive properties takes a
// directory role: it holds one, or is in a role-assignable group or a restricted unit.
func (e *entry) privileged() bool {
	if len(e.roles) > 0 {
		return true
	}
	for _, c := range e.in {
		if (c.roleAssignable || c.restricted) && c.has(&e.node) {
			return true
		}
	}
	return false
}
