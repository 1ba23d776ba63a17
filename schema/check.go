package schema

import (
	"cmp"
	"errors"
	"slices"
	"strings"
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
	return CheckTxn(s.Txn)
}

// CheckTxn returns a *RefusedError unless a fact may bear the source's ticket, or none where it is empty.
func CheckTxn(txn string) error {
	if len(txn) > MaxTxn {
		return refusef(CodeTooLong, "txn", "want at most %d octets, got %d", MaxTxn, len(txn))
	}
	return checkCharacters("txn", txn)
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
