package schema

import (
	"strconv"
	"strings"
)

// The functions below write the canonical form of event.md §3: members in the order of event.md §5, no
// white space, empty optional members left out. They are for values that have passed check, whose
// strings hold no character that JSON must escape but '"' and '\'.

func appendSET(b []byte, s *SET) []byte {
	b = appendMember(b, `{"iss":`, s.Issuer)
	b = appendMember(b, `,"aud":`, s.Audience)
	b = appendMember(b, `,"jti":`, s.ID)
	b = strconv.AppendInt(append(b, `,"iat":`...), s.IssuedAt.sec, 10)
	if s.Occurred != nil {
		b = strconv.AppendInt(append(b, `,"toe":`...), s.Occurred.sec, 10)
	}
	b = appendOptional(b, `,"txn":`, s.Txn)
	if s.Subject != "" {
		b = append(appendMember(b, `,"sub_id":{"format":"opaque","id":`, s.Subject), '}')
	}
	b = appendMember(b, `,"stream":{"id":`, s.Stream.ID)
	b = strconv.AppendInt(append(b, `,"generation":`...), int64(s.Stream.Generation), 10)
	b = strconv.AppendUint(append(b, `,"seq":`...), s.Stream.Seq, 10)
	b = appendDigest(append(b, `,"prev":`...), s.Stream.Prev)
	b = append(b, `},"events":{"`+uriPrefix...)
	b = append(b, s.Event.Kind()...)
	b = strconv.AppendInt(append(b, ":v"...), int64(s.Version), 10)
	b = append(s.Event.append(append(b, `":`...)), '}')
	b = appendOptional(b, `,"pad":`, s.Pad)
	return append(b, '}')
}

func (e *Joiner) append(b []byte) []byte {
	b = appendDesired(b, e.Engagement, &e.Person, e.Roles, e.Start, e.End)
	return append(b, '}')
}

func (e *Mover) append(b []byte) []byte {
	b = appendDesired(b, e.Engagement, &e.Person, e.Roles, e.Start, e.End)
	return append(appendInstant(b, `,"effective":`, e.Effective), '}')
}

func appendDesired(b []byte, engagement int, p *Person, roles []string, start Instant, end *Instant) []byte {
	b = strconv.AppendInt(append(b, `{"engagement":`...), int64(engagement), 10)
	return appendWants(b, p, roles, start, end)
}

// appendWants writes the members that joiner, mover and roster share.
func appendWants(b []byte, p *Person, roles []string, start Instant, end *Instant) []byte {
	b = appendPerson(append(b, `,"person":`...), p)
	b = appendRoles(b, roles)
	b = appendInstant(b, `,"start":`, start)
	if end != nil {
		b = appendInstant(b, `,"end":`, *end)
	}
	return b
}

func (e *Leaver) append(b []byte) []byte {
	b = appendSuspension(b, e.Engagement, e.Effective, e.Reason)
	return append(strconv.AppendBool(append(b, `,"urgent":`...), e.Urgent), '}')
}

func (e *Suspend) append(b []byte) []byte {
	return append(appendSuspension(b, e.Engagement, e.Effective, e.Reason), '}')
}

func (e *Resume) append(b []byte) []byte {
	return append(appendSuspension(b, e.Engagement, e.Effective, e.Reason), '}')
}

func appendSuspension(b []byte, engagement int, effective Instant, reason string) []byte {
	b = strconv.AppendInt(append(b, `{"engagement":`...), int64(engagement), 10)
	b = appendInstant(b, `,"effective":`, effective)
	return appendMember(b, `,"reason":`, reason)
}

func (e *Heartbeat) append(b []byte) []byte {
	b = append(b, `{"cuts":[`...)
	for i := range e.Cuts {
		b = e.Cuts[i].append(appendComma(b, i))
	}
	return append(strconv.AppendInt(append(b, `],"total":`...), int64(e.Total), 10), '}')
}

func (c *CutNotice) append(b []byte) []byte {
	b = appendMember(b, `{"sub":`, c.Subject)
	b = strconv.AppendInt(append(b, `,"engagement":`...), int64(c.Engagement), 10)
	b = appendMember(b, `,"kind":`, string(c.Kind))
	b = appendInstant(b, `,"effective":`, c.Effective)
	return append(strconv.AppendUint(append(b, `,"seq":`...), c.Seq, 10), '}')
}

func (e *Roster) append(b []byte) []byte {
	b = appendMember(b, `{"id":`, e.ID)
	b = strconv.AppendInt(append(b, `,"part":`...), int64(e.Part), 10)
	b = strconv.AppendInt(append(b, `,"parts":`...), int64(e.Parts), 10)
	b = appendDigest(append(b, `,"digest":`...), e.Digest)
	b = strconv.AppendInt(append(b, `,"head":{"generation":`...), int64(e.Head.Generation), 10)
	b = strconv.AppendUint(append(b, `,"seq":`...), e.Head.Seq, 10)
	b = appendDigest(append(b, `,"hash":`...), e.Head.Hash)
	b = append(b, `},"live":[`...)
	for i := range e.Live {
		b = e.Live[i].append(appendComma(b, i))
	}
	b = append(b, `],"closed":[`...)
	for i := range e.Closed {
		b = e.Closed[i].append(appendComma(b, i))
	}
	return append(b, ']', '}')
}

func (l *LiveEngagement) append(b []byte) []byte {
	b = appendMember(b, `{"sub":`, l.Subject)
	b = strconv.AppendInt(append(b, `,"engagement":`...), int64(l.Engagement), 10)
	b = appendMember(b, `,"state":`, l.State)
	b = appendInstant(b, `,"since":`, l.Since)
	return append(appendWants(b, &l.Person, l.Roles, l.Start, l.End), '}')
}

func (c *ClosedEngagement) append(b []byte) []byte {
	b = appendMember(b, `{"sub":`, c.Subject)
	b = strconv.AppendInt(append(b, `,"engagement":`...), int64(c.Engagement), 10)
	return append(appendInstant(b, `,"effective":`, c.Effective), '}')
}

func (e *Approval) append(b []byte) []byte {
	b = strconv.AppendInt(append(b, `{"engagement":`...), int64(e.Engagement), 10)
	b = appendRoles(b, e.Roles)
	return append(appendInstant(b, `,"expiry":`, e.Expiry), '}')
}

func appendPerson(b []byte, p *Person) []byte {
	b = append(b, '{')
	if p.Name != (Name{}) {
		start := len(b) + len(`"name":{`)
		b = append(b, `"name":{`...)
		b = appendOptional(b, `,"formatted":`, p.Name.Formatted)
		b = appendOptional(b, `,"familyName":`, p.Name.FamilyName)
		b = appendOptional(b, `,"givenName":`, p.Name.GivenName)
		b = appendOptional(b, `,"middleName":`, p.Name.MiddleName)
		b = append(b[:start], b[start+1:]...) // no comma before the first
		b = append(b, '}', ',')
	}
	b = appendMember(b, `"displayName":`, p.DisplayName)
	b = appendOptional(b, `,"userType":`, p.UserType)
	b = appendOptional(b, `,"title":`, p.Title)
	b = appendOptional(b, `,"organization":`, p.Organization)
	b = appendOptional(b, `,"division":`, p.Division)
	b = appendOptional(b, `,"department":`, p.Department)
	b = appendOptional(b, `,"costCenter":`, p.CostCenter)
	if p.Manager != nil {
		b = append(appendMember(b, `,"manager":{"value":`, p.Manager.Value), '}')
	}
	b = appendOptional(b, `,"usageLocation":`, p.UsageLocation)
	b = appendOptional(b, `,"preferredAlias":`, p.PreferredAlias)
	return append(b, '}')
}

func appendRoles(b []byte, roles []string) []byte {
	b = append(b, `,"roles":[`...)
	for i, role := range roles {
		b = appendString(appendComma(b, i), role)
	}
	return append(b, ']')
}

func appendComma(b []byte, i int) []byte {
	if i > 0 {
		b = append(b, ',')
	}
	return b
}

func appendInstant(b []byte, prefix string, i Instant) []byte {
	b = append(append(b, prefix...), '"')
	return append(i.Time().AppendFormat(b, instantLayout), '"')
}

func appendDigest(b []byte, d Digest) []byte {
	b, _ = d.AppendText(append(b, '"'))
	return append(b, '"')
}

func appendOptional(b []byte, prefix, s string) []byte {
	if s == "" {
		return b
	}
	return appendMember(b, prefix, s)
}

func appendMember(b []byte, prefix, s string) []byte {
	return appendString(append(b, prefix...), s)
}

func appendString(b []byte, s string) []byte {
	b = append(b, '"')
	for {
		i := strings.IndexByte(s, '"')
		if j := strings.IndexByte(s, '\\'); i < 0 || j >= 0 && j < i {
			i = j
		}
		if i < 0 {
			return append(append(b, s...), '"')
		}
		b = append(append(b, s[:i]...), '\\', s[i])
		s = s[i+1:]
	}
}
