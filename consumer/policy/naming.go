package policy

import (
	"strconv"
	"strings"
	"unicode"

	"golang.org/x/text/unicode/norm"

	"jmlbridge/schema"
)

// maxNickname leaves room for a number and keeps the UPN's first part under Entra's 64 characters.
const maxNickname = 56

// Nickname is the account name that the template makes of a person, before the domain. The nth
// candidate (from 0) differs from the others by a number: names that are taken, or were within two
// years, are passed over by the caller.
func (p *Policy) Nickname(person schema.Person, subject string, nth int) string {
	given, family := asciiName(person.Name.GivenName), asciiName(person.Name.FamilyName)
	alias := asciiName(person.PreferredAlias)
	if alias == "" {
		alias = strings.Trim(given+"."+family, ".")
	}
	if alias == "" {
		alias = asciiName(subject)
	}
	name := strings.NewReplacer("{alias}", alias, "{givenName}", given, "{familyName}", family, "{subject}", asciiName(subject)).Replace(p.UPN.Template)
	name = tidy(name)
	if name == "" {
		name = tidy("u-" + asciiName(subject))
	}
	if len(name) > maxNickname {
		name = strings.Trim(name[:maxNickname], ".-_")
	}
	if nth > 0 {
		name += strconv.Itoa(nth + 1)
	}
	return name
}

// asciiName drops accents and everything that Entra refuses in a user principal name.
func asciiName(s string) string {
	var b strings.Builder
	for _, r := range norm.NFKD.String(strings.ToLower(s)) {
		switch {
		case r == 'ß':
			b.WriteString("ss")
		case r == 'ø':
			b.WriteByte('o')
		case r == 'æ':
			b.WriteString("ae")
		case r == 'ł':
			b.WriteByte('l')
		case unicode.Is(unicode.Mn, r):
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9', r == '.', r == '-', r == '_':
			b.WriteRune(r)
		case r == ' ':
			b.WriteByte('-')
		}
	}
	return tidy(b.String())
}

// tidy takes dots from the ends and repeats: a name must not begin or end with one.
func tidy(s string) string {
	for strings.Contains(s, "..") {
		s = strings.ReplaceAll(s, "..", ".")
	}
	return strings.Trim(s, ".-_")
}
