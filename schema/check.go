package schema

import (
	"cmp"
	"errors"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// The rules of event.md §2 and §5, held alike by Encode and Decode. Each returns a *RefusedError or nil; none
// puts a person's attribute into it.

func (s *SET) check() error {
	if s.Event == nil {
		return refusef(CodeEvents, "events", "want exactly one event, got none")
	}
	if s.Version != 1 {
		return refusef(CodeBadValue, "events", "this program writes version 1, got version %d", s.Version)
	}
	kind := s.Event.Kind()
	err := first(
		checkURI("iss", s.Issuer),
		checkURI("aud", s.Audience),
		checkUUID("jti", s.ID),
		checkClaimTime("iat", s.IssuedAt),
		checkStream(&s.Stream),
		checkPad(s.Pad),
	)
	if err != nil {
		return err
	}
	if kind == KindHeartbeat || kind == KindRoster {
		err = s.checkOwnWord()
	} else {
		err = s.checkFact()
	}
	if err != nil {
		return err
	}
	if err := s.Event.check(); err != nil {
		return under("events."+string(kind), err)
	}
	switch e := s.Event.(type) {
	case *Heartbeat:
		return under("events.heartbeat", e.checkAt(s.Stream))
	case *Roster:
		return under("events.roster", e.checkAt(s.Stream))
	}
	return nil
}

// checkFact is for events about one person.
func (s *SET) checkFact() error {
	if s.Subject == "" {
		return refusef(CodeMissing, "sub_id", "%s is about a person and must name one", s.Event.Kind())
	}
	if err := checkSubject("sub_id.id", s.Subject); err != nil {
		return err
	}
	if s.Occurred != nil {
		if err := checkClaimTime("toe", *s.Occurred); err != nil {
			return err
		}
	}
	if len(s.Txn) > MaxTxn {
		return refusef(CodeTooLong, "txn", "want at most %d octets, got %d", MaxTxn, len(s.Txn))
	}
	return checkCharacters("txn", s.Txn)
}

// checkOwnWord is for what the producer says of itself: no source stated it, nobody is its subject.
func (s *SET) checkOwnWord() error {
	for _, c := range []struct {
		name    string
		present bool
	}{{"sub_id", s.Subject != ""}, {"toe", s.Occurred != nil}, {"txn", s.Txn != ""}} {
		if c.present {
			return refusef(CodeBadValue, c.name, "must not be present in a %s", s.Event.Kind())
		}
	}
	return nil
}

func (e *Joiner) check() error {
	return first(
		checkEngagement("engagement", e.Engagement),
		e.Person.check(),
		checkRoles(e.Roles),
		checkSpan(e.Start, e.End),
	)
}

func (e *Mover) check() error {
	return first(
		checkEngagement("engagement", e.Engagement),
		e.Person.check(),
		checkRoles(e.Roles),
		checkSpan(e.Start, e.End),
		checkInstant("effective", e.Effective),
	)
}

func (e *Leaver) check() error { return checkReasoned(KindLeaver, e.Engagement, e.Effective, e.Reason) }

func (e *Suspend) check() error {
	return checkReasoned(KindSuspend, e.Engagement, e.Effective, e.Reason)
}

func (e *Resume) check() error { return checkReasoned(KindResume, e.Engagement, e.Effective, e.Reason) }

func checkReasoned(k Kind, engagement int, effective Instant, reason string) error {
	err := first(checkEngagement("engagement", engagement), checkInstant("effective", effective))
	switch {
	case err != nil:
		return err
	case len(reason) > MaxReason:
		return refusef(CodeTooLong, "reason", "want at most %d octets, got %d", MaxReason, len(reason))
	case !slices.Contains(Reasons(k), reason):
		return refusef(CodeBadValue, "reason", "want one of %s", strings.Join(Reasons(k), ", "))
	}
	return nil
}

func (e *Heartbeat) check() error {
	for i := range e.Cuts {
		c := &e.Cuts[i]
		err := first(
			checkSubject("sub", c.Subject),
			checkEngagement("engagement", c.Engagement),
			checkInstant("effective", c.Effective),
			checkSeq("seq", c.Seq),
		)
		if err == nil && !c.Kind.Cuts() {
			err = refusef(CodeBadValue, "kind", "want %q or %q", KindLeaver, KindSuspend)
		}
		if err == nil && i > 0 && e.Cuts[i-1].Seq >= c.Seq {
			err = refusef(CodeBadValue, "seq", "want the cuts in the order of seq, without repeats")
		}
		if err != nil {
			return under(indexed("cuts", i), err)
		}
	}
	if e.Total < len(e.Cuts) || e.Total > MaxCuts {
		return refusef(CodeBadValue, "total", "want %d (the cuts listed here) to %d, got %d", len(e.Cuts), MaxCuts, e.Total)
	}
	return nil
}

// checkAt holds that a heartbeat repeats only what came before it in its own generation.
func (e *Heartbeat) checkAt(p Position) error {
	if n := len(e.Cuts); n > 0 && e.Cuts[n-1].Seq >= p.Seq {
		return refusef(CodeBadValue, indexed("cuts", n-1)+".seq", "want a seq before the heartbeat's own %d, got %d", p.Seq, e.Cuts[n-1].Seq)
	}
	return nil
}

func (e *Roster) check() error {
	err := checkUUID("id", e.ID)
	switch {
	case err != nil:
		return err
	case e.Parts < 1 || e.Parts > MaxRosterParts:
		return refusef(CodeBadValue, "parts", "want 1 to %d, got %d", MaxRosterParts, e.Parts)
	case e.Part < 1 || e.Part > e.Parts:
		return refusef(CodeBadValue, "part", "want 1 to parts (%d), got %d", e.Parts, e.Part)
	}
	if err := checkGeneration("head.generation", e.Head.Generation); err != nil {
		return err
	}
	if e.Head.Seq > MaxSeq {
		return refusef(CodeBadValue, "head.seq", "want 0 to %d", uint64(MaxSeq))
	}
	if (e.Head.Seq == 0) != e.Head.Hash.IsZero() {
		return refusef(CodeBadValue, "head.hash", "want the zero digest at seq 0 and only there")
	}
	for i := range e.Live {
		if err := e.Live[i].check(); err != nil {
			return under(indexed("live", i), err)
		}
		if i > 0 && compareLive(&e.Live[i-1], &e.Live[i]) >= 0 {
			return refusef(CodeBadValue, indexed("live", i), "want the statements in the order of sub and engagement, without repeats")
		}
	}
	for i := range e.Closed {
		if err := e.Closed[i].check(); err != nil {
			return under(indexed("closed", i), err)
		}
		if i > 0 && compareClosed(&e.Closed[i-1], &e.Closed[i]) >= 0 {
			return refusef(CodeBadValue, indexed("closed", i), "want the statements in the order of sub and engagement, without repeats")
		}
	}
	return nil
}

// checkAt holds that a roster was taken before its first part was numbered.
func (e *Roster) checkAt(p Position) error {
	switch {
	case e.Head.Generation > p.Generation:
		return refusef(CodeBadValue, "head.generation", "want at most the message's own generation %d, got %d", p.Generation, e.Head.Generation)
	case e.Head.Generation == p.Generation && e.Head.Seq+uint64(e.Part) > p.Seq:
		return refusef(CodeBadValue, "head.seq", "want at most %d before part %d at seq %d, got %d", int64(p.Seq)-int64(e.Part), e.Part, p.Seq, e.Head.Seq)
	}
	return nil
}

func (l *LiveEngagement) check() error {
	if l.State != StateActive && l.State != StateSuspended {
		return refusef(CodeBadValue, "state", "want %q or %q", StateActive, StateSuspended)
	}
	return first(
		checkSubject("sub", l.Subject),
		checkEngagement("engagement", l.Engagement),
		checkInstant("since", l.Since),
		l.Person.check(),
		checkRoles(l.Roles),
		checkSpan(l.Start, l.End),
	)
}

func (c *ClosedEngagement) check() error {
	return first(
		checkSubject("sub", c.Subject),
		checkEngagement("engagement", c.Engagement),
		checkInstant("effective", c.Effective),
	)
}

func compareLive(a, b *LiveEngagement) int {
	return cmp.Or(strings.Compare(a.Subject, b.Subject), cmp.Compare(a.Engagement, b.Engagement))
}

func compareClosed(a, b *ClosedEngagement) int {
	return cmp.Or(strings.Compare(a.Subject, b.Subject), cmp.Compare(a.Engagement, b.Engagement))
}

func (e *Approval) check() error {
	return first(
		checkEngagement("engagement", e.Engagement),
		checkRoles(e.Roles),
		checkInstant("expiry", e.Expiry),
	)
}

func (p *Person) check() error {
	if p.DisplayName == "" {
		return refusef(CodeBadValue, "person.displayName", "must not be empty")
	}
	if c := p.UsageLocation; c != "" && (len(c) != 2 || !upper(c[0]) || !upper(c[1])) {
		return refusef(CodeBadValue, "person.usageLocation", "want two capital letters (ISO 3166-1 alpha-2)")
	}
	if p.Manager != nil {
		if err := checkSubject("person.manager.value", p.Manager.Value); err != nil {
			return err
		}
	}
	return first(
		checkText("person.name.formatted", p.Name.Formatted),
		checkText("person.name.familyName", p.Name.FamilyName),
		checkText("person.name.givenName", p.Name.GivenName),
		checkText("person.name.middleName", p.Name.MiddleName),
		checkText("person.displayName", p.DisplayName),
		checkText("person.userType", p.UserType),
		checkText("person.title", p.Title),
		checkText("person.organization", p.Organization),
		checkText("person.division", p.Division),
		checkText("person.department", p.Department),
		checkText("person.costCenter", p.CostCenter),
		checkText("person.preferredAlias", p.PreferredAlias),
	)
}

func upper(c byte) bool { return 'A' <= c && c <= 'Z' }

// first returns the first error that is not nil.
func first(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// under puts the path prefix before the place that err names.
func under(prefix string, err error) error {
	var re *RefusedError
	if errors.As(err, &re) {
		re.Path = strings.TrimSuffix(prefix+"."+re.Path, ".")
	}
	return err
}

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
	for i := range len(pad) {
		if pad[i] != '0' {
			return refusef(CodeBadValue, "pad", "want nothing but '0'")
		}
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
