package entry

import (
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Text makes s fit a free-text member: one line of valid UTF-8, at most MaxText octets. Whatever
// comes from outside (a reason typed, an error's message) goes through it, since an entry that
// cannot be written stops the work that it records.
func Text(s string) string {
	s = strings.Map(func(r rune) rune {
		if r == utf8.RuneError {
			return '?'
		}
		if !plain(r) {
			return ' '
		}
		return r
	}, s)
	for len(s) > MaxText {
		_, n := utf8.DecodeLastRuneInString(s)
		s = s[:len(s)-n]
	}
	return s
}

// plain is the rule of schema/event.md section 2 for text: no controls, and nothing that ends a line
// or turns around what an operator reads after it.
func plain(r rune) bool {
	return !unicode.IsControl(r) && (r < 0x2028 || r > 0x202e) && (r < 0x2066 || r > 0x2069)
}

// ID makes s fit an id member that is only reported, not believed, such as the kid of a forged
// header: octets outside printable ASCII become '?', the rest is cut off.
func ID(s string) string {
	s = strings.Map(func(r rune) rune {
		if r <= ' ' || r > '~' {
			return '?'
		}
		return r
	}, s)
	return s[:min(len(s), MaxID)]
}

// checker collects the first rule that is broken.
type checker struct{ err error }

func (c *checker) failf(format string, args ...any) {
	if c.err == nil {
		c.err = fmt.Errorf(format, args...)
	}
}

func (c *checker) that(ok bool, rule string) {
	if !ok {
		c.failf("%s", rule)
	}
}

func (c *checker) optID(name, s string) {
	if len(s) > MaxID {
		c.failf("%s has %d octets; at most %d fit", name, len(s), MaxID)
		return
	}
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			c.failf("%s: want printable ASCII without space", name)
			return
		}
	}
}

func (c *checker) id(name, s string) {
	if s == "" {
		c.failf("%s is missing", name)
		return
	}
	c.optID(name, s)
}

func (c *checker) optCode(name, s string) {
	if len(s) > MaxCode {
		c.failf("%s has %d octets; at most %d fit", name, len(s), MaxCode)
		return
	}
	for i := range len(s) {
		if ch := s[i]; (ch < 'a' || ch > 'z') && (ch < '0' || ch > '9') && ch != '-' {
			c.failf("%s: want lower-case letters, digits and hyphens", name)
			return
		}
	}
}

func (c *checker) code(name, s string) {
	if s == "" {
		c.failf("%s is missing", name)
		return
	}
	c.optCode(name, s)
}

func (c *checker) optText(name, s string) {
	if len(s) > MaxText || !utf8.ValidString(s) {
		c.failf("%s: want at most %d octets of UTF-8, got %d octets", name, MaxText, len(s))
		return
	}
	for _, r := range s {
		if !plain(r) {
			c.failf("%s: want one line of printable text", name)
			return
		}
	}
}

func (c *checker) among(name, s string, set ...string) {
	if !slices.Contains(set, s) {
		c.failf("%s: want one of %s, got %.40q", name, strings.Join(set, ", "), s)
	}
}

func (c *checker) moment(name string, m *Moment) {
	if m != nil && !plausible(m.Time) {
		c.failf("%s: %v is not a time of our era", name, m.Time)
	}
}

func (c *checker) index(name string, i *int64) {
	if i != nil && *i < 0 {
		c.failf("%s: want an index of this ledger, got %d", name, *i)
	}
}

func (c *checker) counts(l []Count) {
	c.that(len(l) <= MaxNames, "counts: too many")
	for i, n := range l {
		c.code("counts.name", n.Name)
		c.that(n.Count >= 0, "counts.count: want 0 or more")
		c.that(i == 0 || l[i-1].Name < n.Name, "counts: want names sorted and each once")
	}
}

func (c *checker) position(name string, p *Position) {
	if p == nil {
		return
	}
	c.id(name+".iss", p.Issuer)
	c.id(name+".stream", p.Stream)
	c.that(p.Generation >= 1 && p.Seq >= 1, name+": want generation and seq from 1 up")
}

func (c *checker) who(w *Who) {
	c.id("iss", w.Issuer)
	c.id("sub", w.Subject)
	c.that(w.Engagement >= 0, "engagement: want 0 or more")
}

func (c *checker) cause(name string, w *Cause) {
	if w == nil {
		return
	}
	c.among(name+".type", w.Type, CauseMessage, CauseOperator, CausePolicy, CauseLease, CauseSchedule, CauseReconcile)
	c.position(name+".position", w.Position)
	c.that(w.Type != CauseMessage || w.Position != nil, name+": want the position of the message")
	c.index(name+".entry", w.Entry)
	c.optCode(name+".code", w.Code)
}
