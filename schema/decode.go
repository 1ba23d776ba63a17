package schema

// The members of each object, the required ones first. What they mean and bear stands in event.md §5.
var (
	setShape       = &shape{6, []string{"iss", "aud", "jti", "iat", "stream", "events", "toe", "txn", "sub_id", "pad"}}
	subjectShape   = &shape{2, []string{"format", "id"}}
	streamShape    = &shape{4, []string{"id", "generation", "seq", "prev"}}
	joinerShape    = &shape{4, []string{"engagement", "person", "roles", "start", "end"}}
	moverShape     = &shape{5, []string{"engagement", "person", "roles", "start", "effective", "end"}}
	leaverShape    = &shape{4, []string{"engagement", "effective", "reason", "urgent"}}
	suspendShape   = &shape{3, []string{"engagement", "effective", "reason"}}
	heartbeatShape = &shape{2, []string{"cuts", "total"}}
	cutShape       = &shape{5, []string{"sub", "engagement", "kind", "effective", "seq"}}
	rosterShape    = &shape{7, []string{"id", "part", "parts", "digest", "head", "live", "closed"}}
	headShape      = &shape{3, []string{"generation", "seq", "hash"}}
	liveShape      = &shape{7, []string{"sub", "engagement", "state", "since", "person", "roles", "start", "end"}}
	closedShape    = &shape{3, []string{"sub", "engagement", "effective"}}
	approvalShape  = &shape{3, []string{"engagement", "roles", "expiry"}}
	personShape    = &shape{1, []string{"displayName", "name", "userType", "title", "organization", "division", "department", "costCenter", "manager", "usageLocation", "preferredAlias"}}
	nameShape      = &shape{0, []string{"formatted", "familyName", "givenName", "middleName"}}
	managerShape   = &shape{1, []string{"value"}}
)

func newReader(data []byte) *reader {
	return &reader{data: data, path: make([]step, 0, 8)}
}

func (r *reader) set() *SET {
	s := new(SET)
	r.object(setShape, func(name string) {
		switch name {
		case "iss":
			s.Issuer = r.string()
		case "aud":
			s.Audience = r.string()
		case "jti":
			s.ID = r.string()
		case "iat":
			s.IssuedAt = Instant{r.int()}
		case "toe":
			s.Occurred = &Instant{r.int()}
		case "txn":
			s.Txn = r.string()
		case "sub_id":
			s.Subject = r.subject()
		case "stream":
			s.Stream = r.position()
		case "events":
			s.Version = r.events(func(kind Kind, version int) {
				switch s.Event = newEvent(kind); {
				case s.Event == nil:
					r.refuse(CodeUnknownEvent, "%q is not an event of this program", clip(URI(kind, version)))
				case version != 1:
					r.stop(newer(kind, version))
				default:
					s.Event.read(r)
				}
			})
		case "pad":
			s.Pad = padding(r.raw())
		}
	})
	return s
}

func (r *reader) subject() (id string) {
	r.object(subjectShape, func(name string) {
		switch name {
		case "format":
			if f := r.string(); f != "opaque" {
				r.refuse(CodeBadValue, "want %q, got %q", "opaque", clip(f))
			}
		case "id":
			id = r.string()
			r.judge(checkSubject("", id))
		}
	})
	return id
}

func (r *reader) position() (p Position) {
	r.object(streamShape, func(name string) {
		switch name {
		case "id":
			p.ID = r.string()
		case "generation":
			p.Generation = r.small()
		case "seq":
			p.Seq = uint64(r.int())
		case "prev":
			p.Prev = r.digest()
		}
	})
	return p
}

// events reads the events claim, which has one member; read is called before its value.
func (r *reader) events(read func(Kind, int)) (version int) {
	if !r.want('{', "an object") {
		return 0
	}
	var only string
	count := 0
	for ; r.more(count == 0, '}'); count++ {
		uri := r.raw()
		if count > 0 {
			code := CodeEvents
			if string(uri) == only {
				code = CodeDuplicate
			}
			r.refuse(code, "want exactly one event")
			return 0
		}
		var kind Kind
		if kind, version = r.uri(uri); !r.want(':', "':'") {
			return 0
		}
		only = string(uri)
		r.path = append(r.path, step{name: string(kind)})
		read(kind, version)
		if r.err == nil {
			r.path = r.path[:len(r.path)-1]
		}
	}
	if count == 0 {
		r.refuse(CodeEvents, "want exactly one event, got none")
	}
	return version
}

var kindsByURI = func() map[string]Kind {
	m := make(map[string]Kind, len(Kinds))
	for _, k := range Kinds {
		m[URI(k, 1)] = k
	}
	return m
}()

func (r *reader) uri(uri []byte) (Kind, int) {
	if k, ok := kindsByURI[string(uri)]; ok {
		return k, 1
	}
	k, version, err := ParseURI(string(uri))
	if err != nil {
		r.refuse(CodeUnknownEvent, "want an event URI like %q, got %q", URI(KindLeaver, 1), clip(uri))
	}
	return k, version
}

func (e *Joiner) read(r *reader) {
	r.object(joinerShape, func(name string) {
		switch name {
		case "engagement":
			e.Engagement = r.small()
		case "person":
			e.Person = r.person()
		case "roles":
			e.Roles = r.roles()
		case "start":
			e.Start = r.instant()
		case "end":
			e.End = r.instantOrNil()
		}
	})
}

func (e *Mover) read(r *reader) {
	r.object(moverShape, func(name string) {
		switch name {
		case "engagement":
			e.Engagement = r.small()
		case "person":
			e.Person = r.person()
		case "roles":
			e.Roles = r.roles()
		case "start":
			e.Start = r.instant()
		case "end":
			e.End = r.instantOrNil()
		case "effective":
			e.Effective = r.instant()
		}
	})
}

func (e *Leaver) read(r *reader) {
	r.object(leaverShape, func(name string) {
		switch name {
		case "engagement":
			e.Engagement = r.small()
		case "effective":
			e.Effective = r.instant()
		case "reason":
			e.Reason = r.string()
		case "urgent":
			e.Urgent = r.bool()
		}
	})
}

func (e *Suspend) read(r *reader) { r.suspension(&e.Engagement, &e.Effective, &e.Reason) }

func (e *Resume) read(r *reader) { r.suspension(&e.Engagement, &e.Effective, &e.Reason) }

func (r *reader) suspension(engagement *int, effective *Instant, reason *string) {
	r.object(suspendShape, func(name string) {
		switch name {
		case "engagement":
			*engagement = r.small()
		case "effective":
			*effective = r.instant()
		case "reason":
			*reason = r.string()
		}
	})
}

func (e *Heartbeat) read(r *reader) {
	r.object(heartbeatShape, func(name string) {
		switch name {
		case "cuts":
			e.Cuts = []CutNotice{}
			r.array(func() { e.Cuts = append(e.Cuts, r.cut()) })
		case "total":
			e.Total = r.small()
		}
	})
}

func (r *reader) cut() (c CutNotice) {
	r.object(cutShape, func(name string) {
		switch name {
		case "sub":
			c.Subject = r.string()
		case "engagement":
			c.Engagement = r.small()
		case "kind":
			c.Kind = Kind(r.string())
		case "effective":
			c.Effective = r.instant()
		case "seq":
			c.Seq = uint64(r.int())
		}
	})
	return c
}

func (e *Roster) read(r *reader) {
	r.object(rosterShape, func(name string) {
		switch name {
		case "id":
			e.ID = r.string()
		case "part":
			e.Part = r.small()
		case "parts":
			e.Parts = r.small()
		case "digest":
			e.Digest = r.digest()
		case "head":
			r.object(headShape, func(name string) {
				switch name {
				case "generation":
					e.Head.Generation = r.small()
				case "seq":
					e.Head.Seq = uint64(r.int())
				case "hash":
					e.Head.Hash = r.digest()
				}
			})
		case "live":
			e.Live = []LiveEngagement{}
			r.array(func() { e.Live = append(e.Live, r.live()) })
		case "closed":
			e.Closed = []ClosedEngagement{}
			r.array(func() { e.Closed = append(e.Closed, r.closed()) })
		}
	})
}

func (r *reader) live() (l LiveEngagement) {
	r.object(liveShape, func(name string) {
		switch name {
		case "sub":
			l.Subject = r.string()
		case "engagement":
			l.Engagement = r.small()
		case "state":
			l.State = r.string()
		case "since":
			l.Since = r.instant()
		case "person":
			l.Person = r.person()
		case "roles":
			l.Roles = r.roles()
		case "start":
			l.Start = r.instant()
		case "end":
			l.End = r.instantOrNil()
		}
	})
	return l
}

func (r *reader) closed() (c ClosedEngagement) {
	r.object(closedShape, func(name string) {
		switch name {
		case "sub":
			c.Subject = r.string()
		case "engagement":
			c.Engagement = r.small()
		case "effective":
			c.Effective = r.instant()
		}
	})
	return c
}

func (e *Approval) read(r *reader) {
	r.object(approvalShape, func(name string) {
		switch name {
		case "engagement":
			e.Engagement = r.small()
		case "roles":
			e.Roles = r.roles()
		case "expiry":
			e.Expiry = r.instant()
		}
	})
}

func (r *reader) roles() []string {
	roles := []string{}
	r.array(func() { roles = append(roles, r.string()) })
	return roles
}

func (r *reader) person() (p Person) {
	r.object(personShape, func(name string) {
		switch name {
		case "name":
			r.object(nameShape, func(name string) {
				switch name {
				case "formatted":
					p.Name.Formatted = r.string()
				case "familyName":
					p.Name.FamilyName = r.string()
				case "givenName":
					p.Name.GivenName = r.string()
				case "middleName":
					p.Name.MiddleName = r.string()
				}
			})
		case "displayName":
			p.DisplayName = r.string()
		case "userType":
			p.UserType = r.string()
		case "title":
			p.Title = r.string()
		case "organization":
			p.Organization = r.string()
		case "division":
			p.Division = r.string()
		case "department":
			p.Department = r.string()
		case "costCenter":
			p.CostCenter = r.string()
		case "manager":
			p.Manager = new(Manager)
			r.object(managerShape, func(string) { p.Manager.Value = r.string() })
		case "usageLocation":
			p.UsageLocation = r.string()
		case "preferredAlias":
			p.PreferredAlias = r.string()
		}
	})
	return p
}
