package tenant

import (
	"encoding/base64"
	"net/http"
	"net/url"
	"slices"
	"sort"
	"strconv"
	"strings"
)

// A page is one answer of a list under construction.
type page struct {
	c     *call
	top   int
	after uint64 // sequence number that the previous page ended with
	n     int
	last  uint64
	more  bool
	body  []byte
	count int // for @odata.count; -1 leaves it out
}

// newPage reads $top and $skiptoken.
func newPage(c *call, context string) (*page, *refusal) {
	p := &page{c: c, top: defaultPage, count: -1}
	if s := c.query.Get("$top"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 || n > maxPage {
			return nil, badRequest("Invalid page size specified: '%s'. Must be between 1 and %d inclusive.", s, maxPage)
		}
		p.top = n
	}
	if s := c.query.Get("$skiptoken"); s != "" {
		raw, err := base64.RawURLEncoding.DecodeString(s)
		n, err2 := strconv.ParseUint(string(raw), 36, 64)
		if err != nil || err2 != nil {
			return nil, badRequest("Skip token is invalid.")
		}
		p.after = n
	}
	p.body = append(p.body, '{')
	p.body = append(p.body, c.context(context)...)
	return p, nil
}

// full reports whether the page takes no more; the element that finds it full
// is the proof that there is a next page.
func (p *page) full() bool {
	if p.n == p.top {
		p.more = true
	}
	return p.more
}

// item prepares for one element, whose place in the list is seq.
func (p *page) item(seq uint64) {
	if p.n > 0 {
		p.body = append(p.body, ',')
	} else {
		p.body = append(p.body, `"value":[`...)
	}
	p.n++
	p.last = seq
}

// open writes what stands before the elements.
func (p *page) open() {
	if p.count >= 0 {
		p.body = append(p.body, `,"@odata.count":`...)
		p.body = strconv.AppendInt(p.body, int64(p.count), 10)
	}
	p.body = append(p.body, ',')
}

func (p *page) close() answer {
	if p.n == 0 {
		p.body = append(p.body, `"value":[`...)
	}
	p.body = append(p.body, ']')
	if p.more {
		q := url.Values{}
		for k, v := range p.c.query {
			q[k] = v
		}
		q.Set("$skiptoken", base64.RawURLEncoding.EncodeToString([]byte(strconv.FormatUint(p.last, 36))))
		p.body = append(p.body, `,"@odata.nextLink":`...)
		p.body = appendText(p.body, p.c.s.root+p.c.path+"?"+q.Encode())
	}
	return jsonAnswer(http.StatusOK, append(p.body, '}'))
}

// counted reports whether an advanced query was asked for in full: the header
// and $count.
func (c *call) counted() bool { return c.advanced && c.query.Get("$count") == "true" }

// search is a $filter over users together with the moment its index shows. The
// filter is nil when there is none.
func (c *call) search() (*filter, int64, *refusal) {
	text := c.query.Get("$filter")
	if text == "" {
		if c.query.Has("$count") && c.query.Get("$count") == "true" && !c.advanced {
			return nil, 0, unsupported("Request with $count parameter only work if the ConsistencyLevel header is set to eventual.")
		}
		return nil, c.view, nil
	}
	f, bad := c.s.dir.parseFilter(text)
	if bad != nil {
		return nil, 0, bad
	}
	if name := f.needsAdvanced(); name != "" && !c.counted() && c.parts[len(c.parts)-1] != "$count" {
		return nil, 0, unsupportedFilter(name)
	}
	return f, c.ixView, nil
}

// each calls do for the users that a search finds, after seq, until do says
// stop.
func (d *directory) each(f *filter, t int64, after uint64, deleted bool, do func(*entry, *user) bool) {
	list, ok := []*entry(nil), false
	if f != nil {
		list, ok = d.candidates(f)
	}
	if !ok {
		list = d.order
	}
	i := sort.Search(len(list), func(i int) bool { return list[i].seq > after })
	for _, e := range list[i:] {
		if e.gone {
			continue
		}
		u := e.seen(t)
		if u == nil || u.deleted.IsZero() == deleted || deleted && d.now().Sub(u.deleted) > deletedKept || f != nil && !f.match(e, u) {
			continue
		}
		if !do(e, u) {
			return
		}
	}
}

func listUsers(c *call) answer { return c.userList(false) }

func listDeleted(c *call) answer { return c.userList(true) }

func (c *call) userList(deleted bool) answer {
	d := c.s.dir
	sel := c.query.Get("$select")
	fields, bad := d.selection(sel)
	if bad != nil {
		return refuse(bad)
	}
	f, t, bad := c.search()
	if bad != nil {
		return refuse(bad)
	}
	context := "users"
	if sel != "" {
		context = "users(" + sel + ")"
	}
	p, bad := newPage(c, context)
	if bad != nil {
		return refuse(bad)
	}
	if c.counted() {
		p.count = 0
		d.each(f, t, 0, deleted, func(*entry, *user) bool { p.count++; return true })
	}
	p.open()
	d.each(f, t, p.after, deleted, func(e *entry, u *user) bool {
		if p.full() {
			return false
		}
		p.item(e.seq)
		p.body = appendUser(p.body, e, u, fields, "")
		p.body, bad = c.expand(p.body, u)
		p.body = append(p.body, '}')
		return bad == nil
	})
	if bad != nil {
		return refuse(bad)
	}
	return p.close()
}

func countUsers(c *call) answer {
	if !c.advanced {
		return refuse(badRequest("$count is not currently supported."))
	}
	f, t, bad := c.search()
	if bad != nil {
		return refuse(bad)
	}
	n := 0
	c.s.dir.each(f, t, 0, false, func(*entry, *user) bool { n++; return true })
	return answer{status: http.StatusOK, body: []byte(strconv.Itoa(n)), kind: "text/plain"}
}

// names splits a $select of groups and units, which is not checked further.
func names(list string) []string {
	if list == "" {
		return nil
	}
	out := strings.Split(list, ",")
	for i := range out {
		out[i] = strings.TrimSpace(out[i])
	}
	return slices.DeleteFunc(out, func(s string) bool { return s == "" || strings.ContainsAny(s, `"\`) })
}
