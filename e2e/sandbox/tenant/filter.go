package tenant

import (
	"fmt"
	"slices"
	"strings"
)

// A filter is a parsed $filter over users. The language is the part of OData
// that the directory documents: eq, ne, in, startsWith, endsWith, and, or, not,
// parentheses, and comparisons of times.
type filter struct {
	op    string // and or not, or one of eq ne in ge le startsWith endsWith
	sub   []*filter
	name  string   // property
	p     int      // text property, or -1
	texts []string // operands, folded
	null  bool     // the operand is null
	truth bool     // the operand of accountEnabled
}

// needsAdvanced names the first part of f that is answered only as an advanced
// query: "" when there is none.
func (f *filter) needsAdvanced() string {
	for _, s := range f.sub {
		if n := s.needsAdvanced(); n != "" {
			return n
		}
	}
	switch {
	case f.op == "and" || f.op == "or":
		return ""
	case f.op == "not":
		return f.sub[0].anyName()
	case f.op == "ne" || f.op == "endsWith" || f.null, f.op == "ge" || f.op == "le":
		return f.name
	case f.p >= 0 && texts[f.p].filter == advanced:
		return f.name
	}
	return ""
}

func (f *filter) anyName() string {
	if len(f.sub) > 0 {
		return f.sub[0].anyName()
	}
	return f.name
}

// match judges one version of a user.
func (f *filter) match(e *entry, u *user) bool {
	switch f.op {
	case "and":
		return f.sub[0].match(e, u) && f.sub[1].match(e, u)
	case "or":
		return f.sub[0].match(e, u) || f.sub[1].match(e, u)
	case "not":
		return !f.sub[0].match(e, u)
	}
	if f.name == "accountEnabled" {
		return (u.enabled == f.truth) == (f.op == "eq")
	}
	v := f.value(e, u)
	switch f.op {
	case "eq", "in":
		if f.null {
			return v == ""
		}
		return v != "" && slices.Contains(f.texts, fold(v))
	case "ne":
		if f.null {
			return v != ""
		}
		return !slices.Contains(f.texts, fold(v))
	case "startsWith":
		return v != "" && strings.HasPrefix(fold(v), f.texts[0])
	case "endsWith":
		return v != "" && strings.HasSuffix(fold(v), f.texts[0])
	case "ge":
		return v != "" && fold(v) >= f.texts[0]
	case "le":
		return v != "" && fold(v) <= f.texts[0]
	}
	return false
}

func (f *filter) value(e *entry, u *user) string {
	switch {
	case f.p >= 0:
		return u.text[f.p]
	case f.name == "id":
		return e.id
	case f.name == "createdDateTime":
		return stamp(u.created)
	}
	return u.extensions[f.name]
}

// candidates narrows a search to the users that an index names; ok is false
// when every user has to be looked at.
func (d *directory) candidates(f *filter) (list []*entry, ok bool) {
	switch {
	case f.op == "and":
		if list, ok = d.candidates(f.sub[0]); ok {
			return list, true
		}
		return d.candidates(f.sub[1])
	case (f.op != "eq" && f.op != "in") || f.null:
		return nil, false
	case f.name == "id":
		for _, t := range f.texts {
			if e := d.users[t]; e != nil {
				list = append(list, e)
			}
		}
	default:
		ix := d.extIndex[f.name]
		if f.p >= 0 {
			ix = d.index[f.p]
		}
		if ix == nil {
			return nil, false
		}
		for _, t := range f.texts {
			list = append(list, ix.find(t)...)
		}
	}
	slices.SortFunc(list, func(a, b *entry) int { return int(int64(a.seq) - int64(b.seq)) })
	return slices.Compact(list), true
}

// parseFilter reads a $filter over users.
func (d *directory) parseFilter(s string) (*filter, *refusal) {
	if len(s) > maxFilter {
		return nil, badFilter("the clause is longer than %d bytes", maxFilter)
	}
	toks, err := lexFilter(s)
	if err != nil {
		return nil, badFilter("%v", err)
	}
	p := &filterParser{d: d, toks: toks}
	f, bad := p.or(0)
	if bad == nil && p.i != len(toks) {
		bad = badFilter("Syntax error at '%s'.", toks[p.i].text)
	}
	return f, bad
}

func badFilter(format string, args ...any) *refusal {
	return &refusal{status: 400, code: "BadRequest", message: "Invalid filter clause: " + fmt.Sprintf(format, args...)}
}

type token struct {
	text   string
	quoted bool
}

// lexFilter splits a clause into words, quoted strings (” inside is one '),
// and ( ) ,
func lexFilter(s string) ([]token, error) {
	var out []token
	for i := 0; i < len(s); {
		switch c := s[i]; {
		case c == ' ' || c == '\t':
			i++
		case c == '(' || c == ')' || c == ',':
			out = append(out, token{text: string(c)})
			i++
		case c == '\'':
			var b strings.Builder
			for i++; ; i++ {
				if i >= len(s) {
					return nil, fmt.Errorf("there is an unterminated string literal in '%s'", s)
				}
				if s[i] == '\'' {
					if i+1 < len(s) && s[i+1] == '\'' {
						i++
					} else {
						break
					}
				}
				b.WriteByte(s[i])
			}
			i++
			out = append(out, token{b.String(), true})
		default:
			j := i
			for j < len(s) && !strings.ContainsRune(" \t(),'", rune(s[j])) {
				j++
			}
			out = append(out, token{text: s[i:j]})
			i = j
		}
	}
	return out, nil
}

type filterParser struct {
	d    *directory
	toks []token
	i    int
}

// word takes the next token if it is this bare word.
func (p *filterParser) word(w string) bool {
	if p.i < len(p.toks) && !p.toks[p.i].quoted && strings.EqualFold(p.toks[p.i].text, w) {
		p.i++
		return true
	}
	return false
}

func (p *filterParser) take() (token, *refusal) {
	if p.i >= len(p.toks) {
		return token{}, badFilter("Expression expected at the end.")
	}
	p.i++
	return p.toks[p.i-1], nil
}

func (p *filterParser) or(deep int) (*filter, *refusal) {
	return p.chain(deep, "or", func(n int) (*filter, *refusal) { return p.chain(n, "and", p.unary) })
}

func (p *filterParser) chain(deep int, op string, part func(int) (*filter, *refusal)) (*filter, *refusal) {
	left, bad := part(deep)
	for bad == nil && p.word(op) {
		var right *filter
		right, bad = part(deep)
		left = &filter{op: op, sub: []*filter{left, right}, p: -1}
	}
	return left, bad
}

func (p *filterParser) unary(deep int) (*filter, *refusal) {
	if deep > maxFilterDeep {
		return nil, badFilter("nested deeper than %d", maxFilterDeep)
	}
	switch {
	case p.word("not"):
		f, bad := p.unary(deep + 1)
		return &filter{op: "not", sub: []*filter{f}, p: -1}, bad
	case p.word("("):
		f, bad := p.or(deep + 1)
		if bad == nil && !p.word(")") {
			bad = badFilter("')' expected.")
		}
		return f, bad
	case p.word("startsWith"):
		return p.function("startsWith")
	case p.word("endsWith"):
		return p.function("endsWith")
	}
	return p.comparison()
}

func (p *filterParser) function(op string) (*filter, *refusal) {
	if !p.word("(") {
		return nil, badFilter("'(' expected after %s.", op)
	}
	f, bad := p.property(op)
	if bad != nil {
		return nil, bad
	}
	if !p.word(",") {
		return nil, badFilter("',' expected in %s.", op)
	}
	t, bad := p.take()
	if bad != nil {
		return nil, bad
	}
	if !t.quoted || f.name == "accountEnabled" || f.name == "id" || !p.word(")") {
		return nil, badFilter("%s takes a text property and a string literal.", op)
	}
	if f.p >= 0 && texts[f.p].whole || p.d.extensions[f.name] { // of extensions eq, ne and null alone are documented
		return nil, unsupportedFilter(f.name)
	}
	f.texts = []string{fold(t.text)}
	return f, nil
}

func (p *filterParser) property(op string) (*filter, *refusal) {
	t, bad := p.take()
	if bad != nil {
		return nil, bad
	}
	i, isText := textByName[t.text]
	switch {
	case t.quoted:
		return nil, badFilter("Property expected, found a string literal.")
	case isText && texts[i].filter == noFilter:
		return nil, unsupportedFilter(t.text)
	case isText:
		return &filter{op: op, name: t.text, p: i}, nil
	case t.text == "accountEnabled" || t.text == "id" || t.text == "createdDateTime" || p.d.extensions[t.text]:
		return &filter{op: op, name: t.text, p: -1}, nil
	}
	return nil, badFilter("Could not find a property named '%s' on type 'microsoft.graph.user'.", t.text)
}

func unsupportedFilter(name string) *refusal {
	return unsupported("Unsupported or invalid query filter clause specified for property '%s' of resource 'User'.", name)
}

func (p *filterParser) comparison() (*filter, *refusal) {
	f, bad := p.property("")
	if bad != nil {
		return nil, bad
	}
	op, bad := p.take()
	if bad != nil {
		return nil, bad
	}
	f.op = strings.ToLower(op.text)
	switch {
	case op.quoted:
		return nil, badFilter("Operator expected, found a string literal.")
	case f.op == "in":
		return p.list(f)
	case f.op == "eq" || f.op == "ne":
	case (f.op == "ge" || f.op == "le") && (f.name == "createdDateTime" || f.p >= 0 && texts[f.p].instant):
	default:
		return nil, unsupportedFilter(f.name)
	}
	return f, p.operand(f)
}

func (p *filterParser) operand(f *filter) *refusal {
	t, bad := p.take()
	switch {
	case bad != nil:
		return bad
	case f.name == "accountEnabled":
		if t.quoted || t.text != "true" && t.text != "false" {
			return badFilter("A boolean is expected for property 'accountEnabled'.")
		}
		f.truth = t.text == "true"
	case !t.quoted && t.text == "null":
		f.null = true
	case t.quoted, f.p >= 0 && texts[f.p].instant, f.name == "createdDateTime":
		f.texts = append(f.texts, fold(t.text))
	default:
		return badFilter("A string literal is expected for property '%s'.", f.name)
	}
	return nil
}

func (p *filterParser) list(f *filter) (*filter, *refusal) {
	if f.name == "accountEnabled" || !p.word("(") {
		return nil, badFilter("'in' takes a list of string literals.")
	}
	for {
		if bad := p.operand(f); bad != nil {
			return nil, bad
		}
		if p.word(")") {
			break
		}
		if !p.word(",") {
			return nil, badFilter("',' or ')' expected.")
		}
	}
	if len(f.texts) > maxFilterIn {
		return nil, badFilter("Too many child clauses specified in search filter expression containing 'OR' operators: %d. Max allowed: %d.", len(f.texts), maxFilterIn)
	}
	return f, nil
}
