package schema

import (
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// The types and limits of event.md §2, and the place in the chain of §9.

func checkStream(p *Position) error {
	if len(p.ID) > MaxStreamID {
		return refusef(CodeTooLong, "stream.id", "want at most %d octets, got %d", MaxStreamID, len(p.ID))
	}
	if !isName(p.ID) {
		return refusef(CodeBadValue, "stream.id", "want a name of a-z, 0-9, '.', '_' and '-' that begins with a letter or digit, got %q", p.ID)
	}
	if err := first(checkGeneration("stream.generation", p.Generation), checkSeq("stream.seq", p.Seq)); err != nil {
		return err
	}
	if (p.Seq == 1) != p.Prev.IsZero() {
		return refusef(CodeBadValue, "stream.prev", "want the zero digest at seq 1 and only there")
	}
	return nil
}

func checkGeneration(path string, n int) error {
	if n < 1 || n > MaxGeneration {
		return refusef(CodeBadValue, path, "want 1 to %d, got %d", MaxGeneration, n)
	}
	return nil
}

func checkSeq(path string, n uint64) error {
	if n < 1 || n > MaxSeq {
		return refusef(CodeBadValue, path, "want 1 to %d, got %d", uint64(MaxSeq), int64(n))
	}
	return nil
}

func checkEngagement(path string, n int) error {
	if n < 1 || n > MaxEngagement {
		return refusef(CodeBadValue, path, "want 1 to %d, got %d", MaxEngagement, n)
	}
	return nil
}

func checkPad(pad string) error {
	if len(pad) > SizeClass {
		return refusef(CodeTooLong, "pad", "want at most %d octets, got %d", SizeClass, len(pad))
	}
	if pad != zeros[:len(pad)] {
		return refusef(CodeBadValue, "pad", "want nothing but '0'")
	}
	return nil
}

func checkSpan(start Instant, end *Instant) error {
	if err := checkInstant("start", start); err != nil || end == nil {
		return err
	}
	if err := checkInstant("end", *end); err != nil {
		return err
	}
	if end.Before(start) {
		return refusef(CodeBadValue, "end", "want an end that is not before start %s, got %s", start, *end)
	}
	return nil
}

func checkInstant(path string, i Instant) error {
	if i.sec < 1 || i.sec > maxInstant {
		return refusef(CodeBadValue, path, "want an instant after 1970-01-01T00:00:00Z and before the year 10000")
	}
	return nil
}

func checkClaimTime(path string, i Instant) error {
	if i.sec < 1 || i.sec > maxInstant {
		return refusef(CodeBadValue, path, "want seconds since 1970, 1 to %d, got %d", int64(maxInstant), i.sec)
	}
	return nil
}

// CheckRole returns a *RefusedError unless role may be a role's name.
func CheckRole(role string) error { return checkRoles([]string{role}) }

func checkRoles(roles []string) error {
	if len(roles) > MaxRoles {
		return refusef(CodeTooLong, "roles", "want at most %d role names, got %d", MaxRoles, len(roles))
	}
	for i, role := range roles {
		if len(role) > MaxRole {
			return refusef(CodeTooLong, indexed("roles", i), "want at most %d octets, got %d", MaxRole, len(role))
		}
		if !isName(role) {
			return refusef(CodeBadValue, indexed("roles", i), "want a name of a-z, 0-9, '.', '_' and '-' that begins with a letter or digit, got %q", role)
		}
		if i > 0 && roles[i-1] >= role {
			return refusef(CodeBadValue, indexed("roles", i), "want the role names sorted and without repeats")
		}
	}
	return nil
}

// isName reports whether s matches ^[a-z0-9][a-z0-9._-]*$.
func isName(s string) bool {
	for i := range len(s) {
		switch c := s[i]; {
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9':
		case i > 0 && (c == '.' || c == '_' || c == '-'):
		default:
			return false
		}
	}
	return s != ""
}

func checkSubject(path, id string) error {
	if len(id) > MaxSubjectID {
		return refusef(CodeTooLong, path, "want at most %d octets, got %d", MaxSubjectID, len(id))
	}
	for i := range len(id) {
		if id[i] <= ' ' || id[i] > '~' {
			return refusef(CodeBadValue, path, "want printable ASCII without space")
		}
	}
	if id == "" {
		return refusef(CodeBadValue, path, "must not be empty")
	}
	return nil
}

func checkText(path, s string) error {
	if len(s) > MaxText {
		return refusef(CodeTooLong, path, "want at most %d octets of UTF-8, got %d", MaxText, len(s))
	}
	return checkCharacters(path, s)
}

// checkCharacters holds event.md §2: no control characters, and none that end a line or turn the
// direction of what an operator reads after them.
func checkCharacters(path, s string) error {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return checkRunes(path, s)
		}
		if s[i] < ' ' || s[i] == 0x7f {
			return refusef(CodeBadValue, path, "want text without control characters")
		}
	}
	return nil
}

func checkRunes(path, s string) error {
	if !utf8.ValidString(s) {
		return refusef(CodeBadValue, path, "want UTF-8")
	}
	for _, c := range s {
		if unicode.IsControl(c) || 0x2028 <= c && c <= 0x202e || 0x2066 <= c && c <= 0x2069 {
			return refusef(CodeBadValue, path, "want text without control characters, got U+%04X", c)
		}
	}
	return nil
}

// checkUUID holds RFC 9562's version 7, in lower case.
func checkUUID(path, s string) error {
	ok := len(s) == 36
	for i := 0; ok && i < len(s); i++ {
		switch c := s[i]; i {
		case 8, 13, 18, 23:
			ok = c == '-'
		case 14:
			ok = c == '7'
		case 19:
			ok = c == '8' || c == '9' || c == 'a' || c == 'b'
		default:
			ok = '0' <= c && c <= '9' || 'a' <= c && c <= 'f'
		}
	}
	if !ok {
		return refusef(CodeBadValue, path, "want a UUID of version 7 in lower case, got %q", clip(s))
	}
	return nil
}

// checkURI holds the generic form of RFC 3986 as far as a name needs it: a scheme, a colon, and then only
// characters that a URI may have.
func checkURI(path, s string) error {
	if len(s) > MaxURI {
		return refusef(CodeTooLong, path, "want at most %d octets, got %d", MaxURI, len(s))
	}
	scheme, rest, _ := strings.Cut(s, ":")
	ok := scheme != "" && rest != "" && letter(scheme[0])
	for i := 0; ok && i < len(scheme); i++ {
		c := scheme[i]
		ok = letter(c) || digit(c) || c == '+' || c == '-' || c == '.'
	}
	for i := 0; ok && i < len(rest); i++ {
		c := rest[i]
		ok = letter(c) || digit(c) || strings.IndexByte("-._~:/?#[]@!$&'()*+,;=%", c) >= 0
	}
	if !ok {
		return refusef(CodeBadValue, path, "want a URI like https://iam.example/jml or urn:example:enclave:1, got %q", clip(s))
	}
	return nil
}

func letter(c byte) bool { return 'a' <= c|0x20 && c|0x20 <= 'z' }

func digit(c byte) bool { return '0' <= c && c <= '9' }

func indexed(name string, i int) string { return name + "[" + strconv.Itoa(i) + "]" }
