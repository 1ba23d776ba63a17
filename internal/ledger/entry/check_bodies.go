package entry

import "jmlbridge/schema"

func (c *checker) instant(name string, i *schema.Instant) {
	if i != nil && (i.Unix() <= 0 || i.Time().Year() > 9999) {
		c.failf("%s is not a time of our era", name)
	}
}

func (m *Message) check(c *checker, read bool) {
	c.position("message", &m.Position)
	c.optID("event", m.Event)
	c.optID("sub", m.Subject)
	c.that(m.Engagement >= 0, "engagement: want 0 or more")
	c.optID("jti", m.ID)
	c.optText("txn", m.Txn)
	c.id("key", m.Key)
	c.optID("recipient", m.Recipient)
	c.instant("iat", m.IssuedAt)
	c.instant("toe", m.Occurred)
	c.instant("effective", m.Effective)
	c.that(m.Cuts == nil || *m.Cuts >= 0, "cuts: want 0 or more")
	if r := m.Roster; r != nil {
		c.id("roster.id", r.ID)
		c.that(r.Part >= 1 && r.Parts >= r.Part, "roster: want part within 1..parts")
		c.that(r.Generation >= 0 && r.Live >= 0 && r.Closed >= 0, "roster: want numbers from 0 up")
	}
	if read {
		c.that(m.Event != "" && m.ID != "" && m.IssuedAt != nil, "event, jti and iat: want all three of a message that was read")
	}
}

func (r *Received) check(c *checker) {
	c.among("disposition", r.Disposition, DispositionAdmitted, DispositionGap, DispositionFilled, DispositionDuplicate, DispositionFork,
		DispositionRefused, DispositionCutCore, DispositionHeld, DispositionGeneration)
	r.Message.check(c, r.Disposition == DispositionAdmitted)
	c.optCode("code", r.Code)
}

func (s *Sent) check(c *checker) {
	s.Message.check(c, true)
	c.id("aud", s.Audience)
}

func (p *Parked) check(c *checker) {
	c.code("code", p.Code)
	c.that(p.Size >= 0, "size: want 0 or more")
	c.optID("key", p.Key)
	c.position("position", p.Position)
	c.optText("detail", p.Detail)
}

func (r *Refused) check(c *checker) {
	c.code("code", r.Code)
	c.that(r.Size >= 0, "size: want 0 or more")
	c.optID("key", r.Key)
	c.position("position", r.Position)
	c.optText("detail", r.Detail)
	c.that((r.Wire == nil) != (r.Summary == nil), "want either wire or summary")
	if s := r.Summary; s != nil {
		c.that(s.Count >= 1 && s.Size >= 0, "summary.count: want 1 or more")
		c.moment("summary.first", &s.First)
		c.moment("summary.last", &s.Last)
		c.that(r.Size == 0 && r.Key == "" && r.Position == nil && r.Payload == nil, "a summary has only code, detail and its own members")
	}
}

func (h *Held) check(c *checker) {
	c.id("hold", h.Hold)
	c.code("code", h.Code)
	c.that(h.Part >= 1 && h.Parts >= h.Part, "want part within 1..parts")
	c.that(len(h.Subjects) <= MaxSubjects && len(h.Subjects) <= h.Count, "subjects: too many for one part or for count")
	for i := range h.Subjects {
		c.who(&h.Subjects[i])
	}
	c.cause("cause", h.Cause)
	c.moment("until", h.Until)
}

func (r *Released) check(c *checker) {
	c.id("hold", r.Hold)
	c.among("action", r.Action, ReleasedRelease, ReleasedDiscard, ReleasedExpired, ReleasedResolved)
	c.that(len(r.By) <= MaxNames, "by: too many")
	for _, by := range r.By {
		c.id("by", by)
	}
	c.that(len(r.By) > 0 || r.Action == ReleasedExpired || r.Action == ReleasedResolved, "by: want who released or discarded it")
	c.optText("reason", r.Reason)
	c.optCode("code", r.Code)
}

func (s *Superseded) check(c *checker) {
	c.who(&s.Who)
	c.among("fence", s.Fence, FenceState, FenceDesired)
	c.position("position", s.Position)
	c.cause("by", &s.By)
	c.optCode("code", s.Code)
}

func (i *Intent) check(c *checker) {
	c.who(&i.Who)
	c.optID("account", i.Account)
	c.that(len(i.Ops) >= 1 && len(i.Ops) <= MaxOps, "ops: want 1 to 256")
	for n := range i.Ops {
		op := &i.Ops[n]
		c.that(op.N == n+1, "ops.n: want 1, 2, 3, ...")
		c.code("ops.op", op.Op)
		c.among("ops.class", op.Class, ClassGive, ClassTake)
		c.optID("ops.target", op.Target)
		c.that(len(op.Attributes) <= MaxNames, "ops.attributes: too many")
		for _, a := range op.Attributes {
			c.id("ops.attributes", a)
		}
	}
	c.cause("cause", &i.Cause)
	c.moment("due", i.Due)
	c.that(i.Attempt == 0 || i.Attempt >= 2, "attempt: want 2 or more, or absent")
	c.optID("hold", i.Hold)
	c.that(len(i.Approvals) <= MaxNames, "approvals: too many")
	for n := range i.Approvals {
		c.position("approvals", &i.Approvals[n])
	}
}

func (o *Outcome) check(c *checker) {
	c.index("intent", &o.Intent)
	c.who(&o.Who)
	c.optID("account", o.Account)
	c.that(len(o.Results) >= 1 && len(o.Results) <= MaxOps, "results: want 1 to 256")
	for i := range o.Results {
		r := &o.Results[i]
		c.that(r.N >= 1 && (i == 0 || r.N > o.Results[i-1].N), "results.n: want numbers of operations, rising")
		c.among("results.result", r.Result, ResultApplied, ResultAlready, ResultFound, ResultFailed, ResultSkipped, ResultInterrupted)
		c.optCode("results.code", r.Code)
		c.moment("results.at", r.At)
		c.that(len(r.Requests) <= MaxRequests, "results.requests: too many")
		for _, q := range r.Requests {
			c.id("requests.client", q.Client)
			c.optID("requests.server", q.Server)
			c.that(q.Status == 0 || q.Status >= 100 && q.Status <= 999, "requests.status: want an HTTP status")
			c.optCode("requests.code", q.Code)
			c.optID("requests.method", q.Method)
			c.that(q.Retry == 0 || q.Retry >= 2, "requests.attempt: want 2 or more, or absent")
		}
	}
}

func (o *Observed) check(c *checker) {
	n := 0
	if s := o.Survey; s != nil {
		n++
		c.that(s.Count >= 0, "survey.count: want 0 or more")
		c.counts(s.Counts)
		c.moment("survey.started", &s.Started)
		c.moment("survey.finished", &s.Finished)
	}
	if a := o.Account; a != nil {
		n++
		c.who(&a.Who)
		c.optID("account.account", a.Account)
		c.among("account.state", a.State, StateEnabled, StateDisabled, StateDeleted, StateGone)
		c.optCode("account.code", a.Code)
		c.moment("account.since", a.Since)
	}
	if s := o.Source; s != nil {
		n++
		c.id("source.name", s.Name)
		c.that(s.Count >= 0, "source.count: want 0 or more")
		c.counts(s.Counts)
		c.optID("source.by", s.By)
	}
	c.that(n == 1, "want exactly one of survey, account and source")
}

func (s *Started) check(c *checker) {
	c.among("program", s.Program, ProgramConsumer, ProgramProducer)
	c.id("version", s.Version)
	c.id("go", s.Go)
	c.optID("fips.version", s.FIPS.Version)
	c.code("mode", s.Mode)
	c.id("ledger", s.Ledger)
	c.optID("enclave", s.Enclave)
	c.id("instance", s.Instance)
	c.optID("cloud", s.Cloud)
	c.optID("tenant", s.Tenant)
	if p := s.Previous; p != nil {
		c.id("previous.ledger", p.Ledger)
		c.that(p.Size >= 0, "previous.size: want 0 or more")
	}
}

func (o *Operator) check(c *checker) {
	c.id("by", o.By)
	c.code("action", o.Action)
	c.optID("iss", o.Issuer)
	c.optID("sub", o.Subject)
	c.that(o.Engagement >= 0, "engagement: want 0 or more")
	c.optID("target", o.Target)
	c.optText("reason", o.Reason)
	c.moment("until", o.Until)
	c.instant("effective", o.Effective)
	if f := o.First; f != nil {
		c.id("first.by", f.By)
		c.moment("first.at", &f.At)
	}
}

func (t *Trust) check(c *checker) {
	c.among("action", t.Action, TrustAdd, TrustRetire, TrustRevoke, TrustGeneration, TrustBranch)
	c.optID("key", t.Key)
	if t.Use != "" {
		c.among("use", t.Use, UseSign, UseDecrypt)
	}
	c.optID("iss", t.Issuer)
	c.optID("stream", t.Stream)
	c.that(t.Generation >= 0, "generation: want 0 or more")
	c.optID("alg", t.Alg)
	c.that(len(t.Events) <= MaxNames, "events: too many")
	for _, e := range t.Events {
		c.code("events", e)
	}
	c.instant("not_before", t.NotBefore)
	c.instant("not_after", t.NotAfter)
	c.that(len(t.JWK) <= MaxKey, "jwk: too long")
	for i := range len(t.JWK) {
		if t.JWK[i] < ' ' || t.JWK[i] > '~' {
			c.failf("jwk: want printable ASCII")
			break
		}
	}
	c.id("by", t.By)
	c.optText("reason", t.Reason)
}

func (p *Policy) check(c *checker) {
	c.optID("by", p.By)
	c.counts(p.Counts)
}

func (l *Lease) check(c *checker) {
	c.among("action", l.Action, LeaseRenewed, LeaseExtended, LeaseWarned, LeaseExpired)
	c.optID("iss", l.Issuer)
	c.optID("sub", l.Subject)
	c.that(l.Engagement >= 0, "engagement: want 0 or more")
	c.optText("role", l.Role)
	c.moment("until", l.Until)
	c.moment("previous", l.Previous)
	c.cause("cause", l.Cause)
	c.that(l.Count >= 0, "count: want 0 or more")
	c.optID("by", l.By)
	c.optText("reason", l.Reason)
}

func (k *Clock) check(c *checker) {
	c.among("action", k.Action, ClockJumped, ClockConfirmed)
	c.among("against", k.Against, AgainstMonotonic, AgainstLedger)
	c.moment("expected", k.Expected)
	c.moment("found", k.Found)
	c.optID("by", k.By)
	c.optText("reason", k.Reason)
}

func (a *Alarm) check(c *checker) {
	c.code("code", a.Code)
	c.optText("key", a.Key)
	c.among("state", a.State, AlarmRaised, AlarmCleared)
	c.optCode("severity", a.Severity)
	c.optID("iss", a.Issuer)
	c.optID("stream", a.Stream)
	c.optID("sub", a.Subject)
	c.index("entry", a.Entry)
	c.optText("detail", a.Detail)
}
