package tenant

import (
	"slices"
	"strings"
	"time"
)

// A directory is the tenant's state. The primary is always current: uniqueness
// and writes are judged there. Reads name the moment that their replica has
// reached, and superseded versions are kept just long enough for that.
//
// The caller holds the tenant's lock: for writing in every method that changes
// something, at least for reading in the rest.
type directory struct {
	now     func() time.Time
	horizon time.Duration // how far back a read can look

	domains    map[string]bool // verified, in lower case
	extensions map[string]bool // registered, as spelled

	users      map[string]*entry // by id
	order      []*entry          // by seq, purged ones dropped now and then
	purged     int               // purged entries still in order
	containers map[string]*container
	sorted     []*container // by seq
	index      [nText]*index
	extIndex   map[string]*index
	seq        uint64 // of the last object, edge or change
	due        []retire
}

// retire is a superseded thing to be forgotten once no replica can show it.
type retire struct {
	at    int64 // unix nanoseconds of the change
	ix    *index
	value string
	e     *entry
	c     *container
	n     *node
}

func newDirectory(now func() time.Time, horizon time.Duration, s Seed) *directory {
	d := &directory{now: now, horizon: horizon, domains: map[string]bool{}, extensions: map[string]bool{},
		users: map[string]*entry{}, containers: map[string]*container{}, extIndex: map[string]*index{}}
	for i := range texts {
		if texts[i].indexed {
			d.index[i] = newIndex()
		}
	}
	for _, x := range s.Domains() {
		d.domains[x] = true
	}
	for _, x := range s.Extensions {
		d.extensions[x] = true
		d.extIndex[x] = newIndex()
	}
	return d
}

// Domains are the verified domains in lower case.
func (s Seed) Domains() []string {
	out := make([]string, len(s.Tenant.Domains))
	for i, x := range s.Tenant.Domains {
		out[i] = strings.ToLower(x)
	}
	return out
}

func (d *directory) next() uint64 { d.seq++; return d.seq }

// addUser publishes a new object. The seed's objects have been there always.
func (d *directory) addUser(id string, u *user) *entry {
	e := &entry{node: node{id: id}, seq: d.next(), cur: u, born: u.at}
	e.entry = e
	d.users[id] = e
	d.order = append(d.order, e)
	for i := range texts {
		if d.index[i] != nil && u.text[i] != "" {
			d.index[i].add(u.text[i], e)
		}
	}
	for k, v := range u.extensions {
		d.extIndex[k].add(v, e)
	}
	return e
}

// publish makes next the current version of e.
func (d *directory) publish(e *entry, next *user, at int64) {
	prev := e.cur
	next.at = at
	if d.horizon > 0 { // before the index entries: these go only when no kept version has the value
		e.old = append(e.old, prev)
		d.due = append(d.due, retire{at: at, e: e})
	}
	for i := range texts {
		if ix := d.index[i]; ix != nil && next.text[i] != prev.text[i] {
			d.reindex(ix, prev.text[i], next.text[i], e, at)
		}
	}
	for name, ix := range d.extIndex {
		if was, is := prev.extensions[name], next.extensions[name]; was != is {
			d.reindex(ix, was, is, e, at)
		}
	}
	e.cur = next
	d.forget(at)
}

// reindex adds the new value at once; the old one stays findable for as long
// as a lagging index shows it. What is found is checked against the version
// that the reader sees, so a value too many is harmless.
func (d *directory) reindex(ix *index, was, is string, e *entry, at int64) {
	if is != "" {
		ix.add(is, e)
	}
	if was == "" || fold(was) == fold(is) {
		return
	}
	if d.horizon == 0 {
		ix.remove(was, e)
		return
	}
	d.due = append(d.due, retire{at: at, ix: ix, value: was, e: e})
}

// forget drops what no replica can show any more.
func (d *directory) forget(now int64) {
	n := 0
	for _, r := range d.due {
		if r.at+int64(d.horizon) >= now {
			break
		}
		n++
		switch {
		case r.c != nil:
			if i, ok := r.c.place[r.n]; ok && slices.Max(r.c.edges[i].flips) == r.at { // not changed again since
				r.c.drop(r.n)
			}
		case r.ix != nil:
			if !d.has(r.ix, r.value, r.e) {
				r.ix.remove(r.value, r.e)
			}
		default:
			for len(r.e.old) > 0 && len(r.e.old) > d.pending(r.e, now) {
				r.e.old = r.e.old[1:]
			}
		}
	}
	clear(d.due[:n]) // the array lives until append moves on
	d.due = d.due[n:]
}

// pending counts the superseded versions of e that a replica may still show:
// the one in force at the edge of the horizon, and all after it.
func (d *directory) pending(e *entry, now int64) int {
	edge := now - int64(d.horizon)
	for i := len(e.old) - 1; i >= 0; i-- {
		if e.old[i].at <= edge {
			if e.cur.at <= edge {
				return 0
			}
			return len(e.old) - i
		}
	}
	return len(e.old)
}

// has reports whether a version of e that is current or still kept bears value
// in ix.
func (d *directory) has(ix *index, value string, e *entry) bool {
	if e.gone {
		return false
	}
	bears := func(u *user) bool {
		for i := range texts {
			if d.index[i] == ix {
				return fold(u.text[i]) == fold(value)
			}
		}
		for name, x := range d.extIndex {
			if x == ix {
				return fold(u.extensions[name]) == fold(value)
			}
		}
		return false
	}
	return bears(e.cur) || slices.ContainsFunc(e.old, bears)
}

// purge takes e away for good.
func (d *directory) purge(e *entry) {
	e.gone = true
	delete(d.users, e.id)
	for i := range texts {
		if d.index[i] != nil && e.cur.text[i] != "" {
			d.index[i].remove(e.cur.text[i], e)
		}
	}
	for k, v := range e.cur.extensions {
		d.extIndex[k].remove(v, e)
	}
	for _, c := range slices.Clone(e.in) {
		c.drop(&e.node)
	}
	if d.purged++; d.purged > 64 && d.purged > len(d.order)/2 {
		d.order = slices.DeleteFunc(d.order, func(e *entry) bool { return e.gone })
		d.purged = 0
	}
}

// holder is the live user that now has value in the indexed property p.
func (d *directory) holder(p int, value string) *entry {
	for _, e := range d.index[p].find(value) {
		if e.cur.live() && fold(e.cur.text[p]) == fold(value) {
			return e
		}
	}
	return nil
}

// byNameOrID finds a user as Graph's {id|userPrincipalName} does, in the state
// that a reader at t sees. A user that is deleted there is not found.
func (d *directory) byNameOrID(key string, t int64) (*entry, *user) {
	if e := d.users[key]; e != nil {
		if u := e.seen(t); u.live() {
			return e, u
		}
		return nil, nil
	}
	if e := d.users[strings.ToLower(key)]; e != nil {
		if u := e.seen(t); u.live() {
			return e, u
		}
		return nil, nil
	}
	if !strings.Contains(key, "@") {
		return nil, nil
	}
	for _, e := range d.index[pUPN].find(key) {
		if u := e.seen(t); u.live() && fold(u.text[pUPN]) == fold(key) {
			return e, u
		}
	}
	return nil, nil
}

// fold is how the directory compares text: without regard to case.
func fold(s string) string { return strings.ToLower(s) }

// An index maps a folded value to the users that have it, or lately had it.
// Nearly every value has one user, which is what one is for.
type index struct {
	one  map[string]*entry
	more map[string][]*entry
}

func newIndex() *index { return &index{one: map[string]*entry{}, more: map[string][]*entry{}} }

func (x *index) add(value string, e *entry) {
	key := fold(value)
	switch first := x.one[key]; {
	case first == nil:
		x.one[key] = e
	case first != e && !slices.Contains(x.more[key], e):
		x.more[key] = append(x.more[key], e)
	}
}

func (x *index) remove(value string, e *entry) {
	key := fold(value)
	rest := x.more[key]
	if x.one[key] == e {
		if len(rest) == 0 {
			delete(x.one, key)
			return
		}
		x.one[key], rest = rest[0], rest[1:]
	} else {
		rest = slices.DeleteFunc(slices.Clone(rest), func(o *entry) bool { return o == e })
	}
	if len(rest) == 0 {
		delete(x.more, key)
		return
	}
	x.more[key] = rest
}

// find returns candidates in the order of their creation.
func (x *index) find(value string) []*entry {
	key := fold(value)
	first := x.one[key]
	if first == nil {
		return nil
	}
	out := append([]*entry{first}, x.more[key]...)
	slices.SortFunc(out, func(a, b *entry) int {
		if a.seq < b.seq {
			return -1
		}
		return 1
	})
	return out
}
