package schema

import (
	"bytes"
	"fmt"
	"math"
)

// maxDepth bounds the nesting of values that are skipped unread. Values that are read have the depth of
// their Go type.
const maxDepth = 32

// reader walks once over a payload and refuses what event.md §4 forbids: it is where duplicate, unknown
// and missing members are found, which encoding/json lets pass or matches without regard to case.
//
// The first refusal sticks: later calls do nothing and return zero values, so that callers need to look
// at err only once, at the end. Strings never alias data.
type reader struct {
	data    []byte
	pos     int
	lenient bool // skip unknown members instead of refusing them; for the cut core and the frame
	path    []step
	err     error
}

// step is one member on the way to the cursor; index counts from 1 inside an array.
type step struct {
	name  string
	index int
}

// shape lists the members of an object: those that must be there first, then the optional ones.
type shape struct {
	required int
	names    []string
}

func (r *reader) refuse(c Code, format string, args ...any) {
	if r.err == nil {
		var path []byte
		for i, p := range r.path {
			if i > 0 {
				path = append(path, '.')
			}
			path = append(path, p.name...)
			if p.index > 0 {
				path = fmt.Appendf(path, "[%d]", p.index-1)
			}
		}
		r.err = refusef(c, string(path), format, args...)
	}
}

func (r *reader) refuseAt(name string, c Code, format string, args ...any) {
	r.path = append(r.path, step{name: name})
	r.refuse(c, format, args...)
	r.path = r.path[:len(r.path)-1]
}

// next skips white space and returns the octet at the cursor, 0 at the end or after a refusal.
func (r *reader) next() byte {
	for r.err == nil && r.pos < len(r.data) {
		switch c := r.data[r.pos]; c {
		case ' ', '\t', '\r', '\n':
			r.pos++
		default:
			return c
		}
	}
	return 0
}

// want reads c, or refuses.
func (r *reader) want(c byte, what string) bool {
	if r.next() == c && r.err == nil {
		r.pos++
		return true
	}
	r.refuse(CodeMalformed, "want %s at octet %d", what, r.pos)
	return false
}

// more reports whether another element comes before the closing octet, and reads the comma or the
// closing octet.
func (r *reader) more(first bool, closing byte) bool {
	c := r.next()
	switch {
	case r.err != nil:
		return false
	case c == closing:
		r.pos++
		return false
	case first:
		return true
	case c == ',':
		r.pos++
		return true
	}
	r.refuse(CodeMalformed, "want ',' or %q at octet %d", closing, r.pos)
	return false
}

// end refuses anything after the value, white space too.
func (r *reader) end() {
	if r.err == nil && r.pos != len(r.data) {
		r.refuse(CodeTrailing, "%d octets follow the JSON value", len(r.data)-r.pos)
	}
}

// object reads an object of the shape sh. read is called for each known member, with the cursor before
// its value, and must consume that. A name that differs from a known one only by case counts as its
// repeat, since other readers would take it for the same.
func (r *reader) object(sh *shape, read func(name string)) {
	if !r.want('{', "an object") {
		return
	}
	var seen, near uint32
	for first := true; r.more(first, '}'); first = false {
		name := r.raw()
		if !r.want(':', "':'") {
			return
		}
		i, exact := sh.find(name)
		switch {
		case i >= 0 && (seen|near)&(1<<i) != 0 && (exact || seen&(1<<i) != 0):
			r.refuseAt(sh.names[i], CodeDuplicate, "the member appears twice")
		case i >= 0 && exact:
			seen |= 1 << i
			r.path = append(r.path, step{name: sh.names[i]})
			read(sh.names[i])
			if r.err == nil {
				r.path = r.path[:len(r.path)-1]
			}
		case !r.lenient:
			r.unknown(name)
		default:
			if i >= 0 {
				near |= 1 << i
			}
			r.skip(maxDepth)
		}
	}
	for i := range sh.required {
		if r.err == nil && seen&(1<<i) == 0 {
			r.refuseAt(sh.names[i], CodeMissing, "the member must be present")
		}
	}
}

func (r *reader) unknown(name []byte) {
	code := CodeUnknownMember
	if len(r.path) == 0 {
		switch string(name) {
		case "exp", "sub", "nbf":
			code = CodeForbidden
		}
	}
	r.refuse(code, "%q must not be present", clip(name))
}

// find returns the index of name in sh, or of the member that name equals but for case, or -1.
func (sh *shape) find(name []byte) (i int, exact bool) {
	for i, n := range sh.names {
		if n == string(name) {
			return i, true
		}
	}
	for i, n := range sh.names {
		if bytes.EqualFold(name, []byte(n)) {
			return i, false
		}
	}
	return -1, false
}

// array reads an array; read is called before each element.
func (r *reader) array(read func()) {
	if !r.want('[', "an array") {
		return
	}
	for i := 0; r.more(i == 0, ']'); i++ {
		if n := len(r.path); n > 0 {
			r.path[n-1].index = i + 1
		}
		read()
	}
	if n := len(r.path); n > 0 && r.err == nil {
		r.path[n-1].index = 0
	}
}

// small reads a number whose limit is far below 2^31: what exceeds that stays too large, and what is
// negative stays negative, where int has 32 bits too.
func (r *reader) small() int { return int(max(-1, min(r.int(), math.MaxInt32))) }

func (r *reader) instant() Instant {
	var i Instant
	if text := r.raw(); r.err == nil && i.UnmarshalText(text) != nil {
		r.refuse(CodeBadValue, "want an instant like 2006-01-02T15:04:05Z")
	}
	return i
}

func (r *reader) instantOrNil() *Instant {
	i := r.instant()
	return &i
}

func (r *reader) digest() Digest {
	var d Digest
	if text := r.raw(); r.err == nil {
		if err := d.UnmarshalText(text); err != nil {
			r.refuse(CodeBadValue, "%v", err)
		}
	}
	return d
}

// clip keeps what a producer wrote from filling our logs.
func clip[T string | []byte](s T) string {
	const most = 80 // octets
	if len(s) > most {
		return string(s[:most]) + "..."
	}
	return string(s)
}

// stop ends the reading with a refusal that already names its place.
func (r *reader) stop(err error) {
	if r.err == nil {
		r.err = err
	}
}

// judge ends the reading with a refusal by one of the rules of check.go, at the cursor's place.
func (r *reader) judge(err error) {
	if re, ok := err.(*RefusedError); ok {
		r.refuse(re.Code, "%s", re.Detail)
	}
}
