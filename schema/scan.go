package schema

import (
	"bytes"
	"unicode/utf16"
	"unicode/utf8"
)

// This part of the reader knows JSON (RFC 8259) and nothing of events.

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
