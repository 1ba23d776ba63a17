package admit

import (
	"slices"
	"time"

	"jmlbridge/schema"
)

// check looks at one thing. It returns true when it has decided, and v then says how.
type check struct {
	name string
	ask  func(c *Case, v *Verdict) bool
}

// checks are asked in this order until one decides; the last one always does. What was recorded before
// is recognised before anything that changes with time or trust is asked, so that a repetition is
// harmless whenever it comes. Whatever is wrong with the content is asked last: such a message still has
// its place in the chain.
var checks = []check{
	{"audience", audience},
	{"issuer and stream are those of the key", pinned},
	{"not recorded before", duplicate},
	{"key in use at this place", retired},
	{"key in its window", window},
	{"generation opened", generation},
	{"not issued in the future", future},
	{"no jump out of reach", jump},
	{"not of a branch that was ruled out", ruledOut},
	{"stream says one thing", forked},
	{"neighbours in the chain agree", chain},
	{"not before the start", behind},
	{"not stood in for by a roster", late},
	{"nothing missing before", gap},
	{"content", content},
}

// Judge asks the checks.
func Judge(c *Case) Verdict { return judge(checks, c) }

func judge(checks []check, c *Case) Verdict {
	v := Verdict{At: Point{c.Message.Stream.Generation, c.Message.Stream.Seq}}
	if c.Stream != nil {
		v.Stream = *c.Stream
	}
	for _, k := range checks {
		if k.ask(c, &v) {
			break
		}
	}
	if v.Acts == Cuts && !c.mayCut() {
		v.Acts = Nothing
	}
	return v
}

// mayCut reports whether the content can be believed where the chain does not vouch for it.
func (c *Case) mayCut() bool {
	return c.Key.May(c.Message.Kind) && (c.Message.Content == "" || c.Message.Content == CodeNewerVersion)
}

func (v *Verdict) decide(d Disposition, code Code, acts Acts) bool {
	v.Disposition, v.Code, v.Acts = d, code, acts
	return true
}

// back puts the facts of a message that stands out of reach at the furthest place that is known.
func (v *Verdict) back(s *Stream) { v.At = Point{s.Generation, s.Highest} }

// record notes that the archive gets this message.
func (v *Verdict) record(c *Case) { v.Stream.Highest = max(v.Stream.Highest, c.Message.Stream.Seq) }

func audience(c *Case, v *Verdict) bool {
	return c.Message.Audience != c.Enclave && v.decide(Refused, CodeWrongEnclave, Nothing)
}

func pinned(c *Case, v *Verdict) bool {
	k, m := c.Key, &c.Message
	ok := k != nil && k.Issuer != "" && k.Issuer == m.Issuer && k.Stream == m.Stream.ID
	return !ok && v.decide(Refused, CodeForged, Nothing)
}

func duplicate(c *Case, v *Verdict) bool {
	m := &c.Message
	if c.Stream == nil || m.Stream.Seq > max(c.Stream.Highest, c.Stream.RuledOut) {
		return false
	}
	for _, r := range c.Recorded(m.Stream.Seq) {
		if r.Payload == m.Payload {
			return v.decide(Duplicate, CodeReplay, Nothing)
		}
	}
	return false
}

func retired(c *Case, v *Verdict) bool {
	r, at := c.Key.Retired, c.Message.Stream
	good := r == nil || at.Generation < r.Generation || at.Generation == r.Generation && at.Seq <= r.Seq
	return !good && v.decide(Refused, CodeKeyRetired, Nothing)
}

// window goes by our clock and not by iat: whoever steals a key that is over could date back.
func window(c *Case, v *Verdict) bool {
	k := c.Key
	out := !c.Again && (!k.NotBefore.IsZero() && c.Now.Before(k.NotBefore) || !k.NotAfter.IsZero() && c.Now.After(k.NotAfter))
	return out && v.decide(Parked, CodeKeyWindow, Nothing)
}

func generation(c *Case, v *Verdict) bool {
	if c.Stream != nil {
		return false
	}
	if c.Message.Stream.Generation > c.Latest.Generation { // one that was passed over has its own place, behind the latest
		v.back(&c.Latest)
	}
	return v.decide(Parked, CodeGeneration, Cuts)
}

func future(c *Case, v *Verdict) bool {
	if c.Again || !c.Message.Issued.After(c.Now.Add(MaxSkew)) {
		return false
	}
	if c.Message.Stream.Seq > c.Stream.Highest+MaxJump {
		v.back(c.Stream)
	}
	return v.decide(Parked, CodeFuture, Cuts)
}

func jump(c *Case, v *Verdict) bool {
	if c.Message.Stream.Seq <= c.Stream.Highest+MaxJump {
		return false
	}
	v.back(c.Stream)
	return v.decide(Parked, CodeFastForward, Cuts)
}

// ruledOut is what goes on where an operator ruled that the chain does not. It must not stop the stream again,
// however long it comes.
func ruledOut(c *Case, v *Verdict) bool {
	m := &c.Message
	if m.Stream.Seq > c.Stream.RuledOut+1 || c.Stream.RuledOut == 0 {
		return false
	}
	for _, r := range c.Recorded(m.Stream.Seq - 1) {
		if r.RuledOut && r.Payload == m.Stream.Prev {
			v.Stream.RuledOut = max(v.Stream.RuledOut, m.Stream.Seq)
			return v.decide(RuledOut, CodeRuledOut, Cuts)
		}
	}
	return false
}

func forked(c *Case, v *Verdict) bool {
	switch c.Stream.State {
	case Live:
		return false
	case Closed:
		v.record(c)
		return v.decide(Behind, CodeOldGeneration, Cuts)
	}
	v.record(c) // also of a state that this program does not know
	return v.decide(Forked, CodeFork, Cuts)
}

// chain finds the stream saying two things: another payload at a place that is taken, or neighbours that
// do not name each other's hash.
func chain(c *Case, v *Verdict) bool {
	s, m := c.Stream, &c.Message
	seq := m.Stream.Seq
	if seq == s.Head+1 && m.Stream.Prev != s.HeadHash || seq == s.Head && m.Payload != s.HeadHash {
		return v.fork(c)
	}
	if seq == s.Head+1 && s.Highest <= s.Head {
		return false // nothing else is recorded near
	}
	if seq >= s.Joined && seq <= s.Head && seq > s.Covered { // taken, and not a duplicate
		return v.fork(c)
	}
	for _, r := range c.Recorded(seq) {
		if !r.RuledOut {
			return v.fork(c)
		}
	}
	for _, r := range c.Recorded(seq + 1) {
		if !r.RuledOut && r.Prev != m.Payload {
			return v.fork(c)
		}
	}
	if seq != s.Head+1 {
		for _, r := range c.Recorded(seq - 1) {
			if !r.RuledOut && r.Payload != m.Stream.Prev {
				return v.fork(c)
			}
		}
	}
	return false
}

// behind is what lies before the place where an operator let us join: nothing vouches for its chain.
func behind(c *Case, v *Verdict) bool {
	if c.Message.Stream.Seq >= c.Stream.Joined {
		return false
	}
	v.record(c)
	return v.decide(Behind, CodeRollback, Cuts)
}

// late is what was missing when a roster stood in for it. The roster says what it came to, but for cuts that
// nothing may undo.
func late(c *Case, v *Verdict) bool {
	if c.Message.Stream.Seq > c.Stream.Head {
		return false
	}
	v.record(c)
	return v.decide(Late, CodeCovered, Cuts)
}

func (v *Verdict) fork(c *Case) bool {
	v.record(c)
	v.Stream.State, v.Stream.ForkSeq = ForkedAway, c.Message.Stream.Seq
	return v.decide(Forked, CodeFork, Cuts)
}

func gap(c *Case, v *Verdict) bool {
	if c.Message.Stream.Seq == c.Stream.Head+1 {
		return false
	}
	v.record(c)
	if v.Stream.GapSince.IsZero() {
		v.Stream.GapSince = c.Now
	}
	return v.decide(Ahead, CodeGap, Cuts)
}

func content(c *Case, v *Verdict) bool {
	m := &c.Message
	v.record(c)
	if m.Content == CodeNewerVersion {
		// A newer program will read it. Until then nothing after it may give: it might have taken away.
		return v.decide(Parked, CodeNewerVersion, Cuts)
	}
	v.Stream.Head, v.Stream.HeadHash, v.Stream.Issued = m.Stream.Seq, m.Payload, m.Issued
	if v.Stream.Head == v.Stream.Highest {
		v.Stream.GapSince = time.Time{}
	}
	switch {
	case m.Content != "":
		return v.decide(ContentRefused, m.Content, Nothing)
	case !c.Key.May(m.Kind):
		return v.decide(ContentRefused, CodeKind, Nothing)
	case c.Stream.Unrostered && m.Kind != schema.KindApproval: // which needs nothing that was said before it
		return v.decide(Admitted, CodeNoRoster, Cuts)
	}
	return v.decide(Admitted, "", Fully)
}

// May reports whether k may sign events of this kind.
func (k *Key) May(kind schema.Kind) bool { return slices.Contains(k.Kinds, kind) }
