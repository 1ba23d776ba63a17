package schema

import (
	"bytes"
	"fmt"
	"unicode/utf16"
	"unicode/utf8"
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

func (r *reader) string() string { return string(r.raw()) }

// raw reads a string and returns its octets, which alias data unless the string has escapes.
func (r *reader) raw() []byte {
	if !r.want('"', "a string") {
		return nil
	}
	start := r.pos
	for r.pos < len(r.data) {
		r.pos += plainPrefix(r.data[r.pos:])
		if r.pos == len(r.data) {
			break
		}
		switch c := r.data[r.pos]; {
		case c == '"':
			r.pos++
			return r.data[start : r.pos-1]
		case c == '\\':
			return r.escaped(bytes.Clone(r.data[start:r.pos]))
		case !r.rune(c):
			return nil
		}
	}
	r.refuse(CodeMalformed, "the string that begins at octet %d has no end", start-1)
	return nil
}

// plain marks the octets that stand for themselves inside a string.
var plain = func() (t [256]bool) {
	for c := ' '; c < utf8.RuneSelf; c++ {
		t[c] = c != '"' && c != '\\'
	}
	return t
}()

func plainPrefix(b []byte) int {
	for i, c := range b {
		if !plain[c] {
			return i
		}
	}
	return len(b)
}

// rune moves past one unescaped character of a string; c is its first octet.
func (r *reader) rune(c byte) bool {
	if c >= 0x20 && c < utf8.RuneSelf {
		r.pos++
		return true
	}
	_, n := utf8.DecodeRune(r.data[r.pos:])
	if c < 0x20 || n == 1 {
		r.refuse(CodeMalformed, "a control character, or an octet that is not UTF-8, at octet %d", r.pos)
		return false
	}
	r.pos += n
	return true
}

// escaped is raw from the first backslash on.
func (r *reader) escaped(b []byte) []byte {
	for r.pos < len(r.data) {
		c := r.data[r.pos]
		switch {
		case c == '"':
			r.pos++
			return b
		case c != '\\':
			start := r.pos
			if !r.rune(c) {
				return nil
			}
			b = append(b, r.data[start:r.pos]...)
			continue
		}
		r.pos++
		var e byte
		if r.pos < len(r.data) {
			e = r.data[r.pos]
			r.pos++
		}
		switch e {
		case '"', '\\', '/':
			b = append(b, e)
		case 'b':
			b = append(b, '\b')
		case 'f':
			b = append(b, '\f')
		case 'n':
			b = append(b, '\n')
		case 'r':
			b = append(b, '\r')
		case 't':
			b = append(b, '\t')
		case 'u':
			u, ok := r.hex4()
			if utf16.IsSurrogate(u) {
				ok = ok && bytes.HasPrefix(r.data[r.pos:], []byte(`\u`))
				if ok {
					r.pos += 2
					var low rune
					low, ok = r.hex4()
					u = utf16.DecodeRune(u, low)
					ok = ok && u != utf8.RuneError
				}
			}
			if !ok {
				r.refuse(CodeMalformed, "an escape that names no character before octet %d", r.pos)
				return nil
			}
			b = utf8.AppendRune(b, u)
		default:
			r.refuse(CodeMalformed, "an unknown escape before octet %d", r.pos)
			return nil
		}
	}
	r.refuse(CodeMalformed, "a string has no end")
	return nil
}

func (r *reader) hex4() (u rune, ok bool) {
	if len(r.data)-r.pos < 4 {
		return 0, false
	}
	for _, c := range r.data[r.pos : r.pos+4] {
		switch {
		case '0' <= c && c <= '9':
			u = u<<4 | rune(c-'0')
		case 'a' <= c|0x20 && c|0x20 <= 'f':
			u = u<<4 | rune(c|0x20-'a'+10)
		default:
			return 0, false
		}
	}
	r.pos += 4
	return u, true
}

// int reads a whole number; one that an int64 cannot hold is a bad value.
func (r *reader) int() int64 {
	tok := r.number()
	if r.err != nil {
		return 0
	}
	digits, sign := tok, int64(1)
	if tok[0] == '-' {
		digits, sign = tok[1:], -1
	}
	var v int64
	for _, c := range digits {
		if c < '0' || c > '9' || len(digits) > 18 {
			r.refuse(CodeBadValue, "want a whole number without fraction, exponent or more than 18 digits")
			return 0
		}
		v = v*10 + int64(c-'0')
	}
	return sign * v
}

// number reads a JSON number (RFC 8259 §6) and returns its octets.
func (r *reader) number() []byte {
	c := r.next()
	start := r.pos
	if c == '-' {
		r.pos++
	}
	ok := r.digits()
	if lead := bytes.TrimPrefix(r.data[start:r.pos], []byte("-")); len(lead) > 1 && lead[0] == '0' {
		ok = false
	}
	if ok && r.at('.') {
		r.pos++
		ok = r.digits()
	}
	if ok && (r.at('e') || r.at('E')) {
		r.pos++
		if r.at('+') || r.at('-') {
			r.pos++
		}
		ok = r.digits()
	}
	if !ok {
		r.refuse(CodeMalformed, "want a number at octet %d", start)
		return nil
	}
	return r.data[start:r.pos]
}

func (r *reader) at(c byte) bool { return r.pos < len(r.data) && r.data[r.pos] == c }

func (r *reader) digits() bool {
	start := r.pos
	for r.pos < len(r.data) && '0' <= r.data[r.pos] && r.data[r.pos] <= '9' {
		r.pos++
	}
	return r.err == nil && r.pos > start
}

func (r *reader) bool() bool {
	switch r.next() {
	case 't':
		return r.literal("true")
	case 'f':
		r.literal("false")
		return false
	}
	r.refuse(CodeMalformed, "want true or false at octet %d", r.pos)
	return false
}

func (r *reader) literal(word string) bool {
	if r.err != nil || !bytes.HasPrefix(r.data[r.pos:], []byte(word)) {
		r.refuse(CodeMalformed, "want a JSON value at octet %d", r.pos)
		return false
	}
	r.pos += len(word)
	return true
}

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
	if text := r.raw(); r.err == nil && d.UnmarshalText(text) != nil {
		r.refuse(CodeBadValue, "want a SHA-256 digest as 43 characters of base64url, got %d characters", len(text))
	}
	return d
}

// skip moves past one value of any type, at most depth levels deep.
func (r *reader) skip(depth int) {
	if depth == 0 {
		r.refuse(CodeTooLong, "values are nested more than %d deep", maxDepth)
		return
	}
	switch c := r.next(); c {
	case '{':
		r.pos++
		for first := true; r.more(first, '}'); first = false {
			r.raw()
			if r.want(':', "':'") {
				r.skip(depth - 1)
			}
		}
	case '[':
		r.pos++
		for first := true; r.more(first, ']'); first = false {
			r.skip(depth - 1)
		}
	case '"':
		r.raw()
	case 't':
		r.literal("true")
	case 'f':
		r.literal("false")
	case 'n':
		r.literal("null")
	default:
		r.number()
	}
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
