package entry

import "jmlbridge/schema"

// Message is what both sides record of a message: section 3.2.
type Message struct {
	Position
	Prev       schema.Digest   `json:"prev"`                 // payload digest of the message before it
	Event      string          `json:"event,omitempty"`      // kind and version, like "leaver:v1"
	Subject    string          `json:"sub,omitempty"`        // absent in heartbeats and rosters
	Engagement int             `json:"engagement,omitempty"` //
	ID         string          `json:"jti,omitempty"`        //
	Txn        string          `json:"txn,omitempty"`        // the source's own ticket
	Payload    schema.Digest   `json:"payload"`              // of the JWS payload octets: the message's identity
	Wire       schema.Digest   `json:"wire"`                 // of the octets that went through the queue
	Key        string          `json:"key"`                  // kid of the signing key
	Recipient  string          `json:"recipient,omitempty"`  // kid of the key that it was encrypted to
	IssuedAt   *schema.Instant `json:"iat,omitempty"`
	Occurred   *schema.Instant `json:"toe,omitempty"`
	Effective  *schema.Instant `json:"effective,omitempty"`
	Roster     *Roster         `json:"roster,omitempty"`
	Cuts       *int            `json:"cuts,omitempty"` // of a heartbeat: how many it repeats
}

// Roster is what is recorded of a roster's part; its statements are in the archive.
type Roster struct {
	ID         string        `json:"id"`
	Part       int           `json:"part"`
	Parts      int           `json:"parts"`
	Digest     schema.Digest `json:"digest"`     // of the whole roster
	Generation int           `json:"generation"` // of the head at which it was taken
	Seq        uint64        `json:"seq"`
	Hash       schema.Digest `json:"hash"`
	Live       int           `json:"live"`
	Closed     int           `json:"closed"`
}

// A Received entry: a message that a trusted key signed, for us, in a pinned stream. It is in the archive.
type Received struct {
	Message
	Disposition string `json:"disposition"`     // a DispositionX constant
	Code        string `json:"code,omitempty"`  // why, where it was not plainly admitted
	Stale       bool   `json:"stale,omitempty"` // the stream was stale when it came: it gives nothing
}

// Dispositions of a Received.
const (
	DispositionAdmitted   = "admitted"   // contiguous: the chain goes on
	DispositionGap        = "gap"        // ahead of a gap: kept; revocations act, grants wait
	DispositionFilled     = "filled"     // older than the head, and closes a gap or part of it
	DispositionDuplicate  = "duplicate"  // seen: same number, same payload
	DispositionFork       = "fork"       // seen: same number, other payload
	DispositionRefused    = "refused"    // authentic, but its content is refused; the chain goes on
	DispositionCutCore    = "cut-core"   // of an unknown version: only its cut core was read
	DispositionHeld       = "held"       // waits for an operator: new generation, jump of seq or engagement
	DispositionGeneration = "generation" // of a generation that a later one has replaced
)

// A Parked entry: octets that may become valid; kept and tried again.
type Parked struct {
	Code     string        `json:"code"`
	Wire     schema.Digest `json:"wire"`
	Size     int64         `json:"size"`               // octets
	Key      string        `json:"key,omitempty"`      // as the header names it; not verified
	Position *Position     `json:"position,omitempty"` // only if a signature verified
	Dropped  bool          `json:"dropped,omitempty"`  // the quota was full: the octets were not kept
	Detail   string        `json:"detail,omitempty"`
}

// A Refused entry: octets that can never become valid. Either one message, or Summary for many.
type Refused struct {
	Code     string         `json:"code"`
	Wire     *schema.Digest `json:"wire,omitempty"`
	Size     int64          `json:"size,omitempty"`     // octets
	Key      string         `json:"key,omitempty"`      // as the header names it; not verified
	Position *Position      `json:"position,omitempty"` // only if a signature verified
	Payload  *schema.Digest `json:"payload,omitempty"`  // only if a signature verified
	Detail   string         `json:"detail,omitempty"`
	Summary  *Summary       `json:"summary,omitempty"`
}

// Summary stands for refusals past the rate at which each gets an entry.
type Summary struct {
	Count int64  `json:"count"`
	First Moment `json:"first"`
	Last  Moment `json:"last"`
	Size  int64  `json:"size"` // octets of all together
}

// A Held entry: a rule of ours stops something valid. A hold of more than MaxSubjects is several entries.
type Held struct {
	Hold     string        `json:"hold"`   // id of the hold, shared by its parts
	Code     string        `json:"code"`   // the rule
	Digest   schema.Digest `json:"digest"` // of the set that an operator is shown and releases
	Count    int           `json:"count"`  // subjects in the set, in all parts
	Part     int           `json:"part"`   // 1..Parts
	Parts    int           `json:"parts"`  //
	Subjects []Who         `json:"subjects,omitempty"`
	Cause    *Cause        `json:"cause,omitempty"`
	Until    *Moment       `json:"until,omitempty"` // when the hold ends by itself (cut_hold)
}

// A Released entry: the end of a hold.
type Released struct {
	Hold   string        `json:"hold"`
	Action string        `json:"action"`       // a ReleasedX constant
	By     []string      `json:"by,omitempty"` // OS logins; two where two must agree
	Reason string        `json:"reason,omitempty"`
	Digest schema.Digest `json:"digest"` // of the set that was shown
	Code   string        `json:"code,omitempty"`
}

// Actions of a Released.
const (
	ReleasedRelease  = "release"  // an operator let it happen
	ReleasedDiscard  = "discard"  // an operator (two, for cuts) let it never happen
	ReleasedExpired  = "expired"  // its time was over: a held cut happens
	ReleasedResolved = "resolved" // the rule no longer stops it: the gap closed, the policy knows the role
)

// A Superseded entry: a statement that a later one of the same subject made void before it was carried out.
type Superseded struct {
	Who
	Fence    string    `json:"fence"` // FenceState or FenceDesired
	Position *Position `json:"position,omitempty"`
	By       Cause     `json:"by"`
	Code     string    `json:"code,omitempty"`
}

// The two fences of a subject.
const (
	FenceState   = "state"
	FenceDesired = "desired"
)

// A Sent entry: a message that the producer numbered, chained, signed and encrypted.
type Sent struct {
	Message
	Audience string `json:"aud"`
}

// SplitHeld cuts a hold into parts that fit one entry each.
func SplitHeld(h Held) []Body {
	all := h.Subjects
	h.Count, h.Parts = len(all), max(1, (len(all)+MaxSubjects-1)/MaxSubjects)
	var parts []Body
	for h.Part = 1; h.Part <= h.Parts; h.Part++ {
		part := h
		n := min(MaxSubjects, len(all))
		part.Subjects, all = all[:n:n], all[n:]
		parts = append(parts, &part)
	}
	return parts
}

// Kind implements Body.
func (*Received) Kind() Kind { return KindReceived }

// Kind implements Body.
func (*Parked) Kind() Kind { return KindParked }

// Kind implements Body.
func (*Refused) Kind() Kind { return KindRefused }

// Kind implements Body.
func (*Held) Kind() Kind { return KindHeld }

// Kind implements Body.
func (*Released) Kind() Kind { return KindReleased }

// Kind implements Body.
func (*Superseded) Kind() Kind { return KindSuperseded }

// Kind implements Body.
func (*Sent) Kind() Kind { return KindSent }
