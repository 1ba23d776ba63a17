package tenant

import (
	"slices"
	"sort"
)

// A container has members: a group or an administrative unit.
type container struct {
	node
	unit           bool // an administrative unit
	seq            uint64
	born           int64 // unix nanoseconds; 0 for the seed
	name           string
	description    string
	dynamic        bool
	roleAssignable bool
	mailEnabled    bool

	edges []edge // by seq
	place map[*node]int
	off   int // edges that are not on
}

// An edge is one membership, present or lately removed.
type edge struct {
	n   *node
	seq uint64
	on  bool
	at  int64 // unix nanoseconds of the last change; before it the edge was the other way round
	// first is when the edge came to be; before that there was none. Of more
	// than two changes inside the horizon a lagging replica shows the last two.
	first int64
}

// seen reports whether a replica that is current up to t shows the membership.
// A deleted member is not shown, and is again once it is restored.
func (e *edge) seen(t int64) bool {
	if e.n == nil || e.first > t || e.on != (e.at <= t) {
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
	return ok && c.edges[i].on
}

// join makes n a member since always (the seed's way).
func (d *directory) join(c *container, n *node) { d.toggle(c, n, true, 0) }

// toggle makes n a member of c, or no longer one, at the given moment.
func (d *directory) toggle(c *container, n *node, on bool, at int64) {
	i, ok := c.place[n]
	if !ok {
		i = len(c.edges)
		c.place[n] = i
		c.edges = append(c.edges, edge{n: n, seq: d.next(), first: at})
		c.off++
		n.in = append(n.in, c)
	}
	if c.edges[i].on == on && ok {
		return
	}
	c.edges[i].on, c.edges[i].at = on, at
	if on {
		c.off--
	} else {
		c.off++
		if d.horizon == 0 {
			c.drop(n)
		} else {
			d.due = append(d.due, retire{at: at, c: c, n: n})
		}
	}
	d.forget(at)
}

// drop forgets an edge that is off, or any edge of a purged node.
func (c *container) drop(n *node) {
	i, ok := c.place[n]
	if !ok || (c.edges[i].on && (n.entry == nil || !n.entry.gone)) {
		return
	}
	if c.edges[i].on {
		c.edges[i].on = false
		c.off++
	}
	delete(c.place, n)
	c.edges[i].n = nil
	n.in = slices.DeleteFunc(n.in, func(o *container) bool { return o == c })
	if c.off > 64 && c.off > len(c.edges)/2 {
		kept := make([]edge, 0, len(c.edges)-c.off)
		for _, e := range c.edges {
			if e.n != nil {
				c.place[e.n] = len(kept)
				kept = append(kept, e)
			}
		}
		c.edges = kept
		c.off = 0
		for _, e := range kept {
			if !e.on {
				c.off++
			}
		}
	}
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
// directory role: it holds one, or is in a role-assignable group.
func (e *entry) privileged() bool {
	if len(e.roles) > 0 {
		return true
	}
	for _, c := range e.in {
		if c.roleAssignable && c.has(&e.node) {
			return true
		}
	}
	return false
}
