// Package entry is the form of what stands on a ledger: one canonical JSON object for each thing
// that happened. schema/ledger.md is its specification, and section numbers refer to it.
//
// The form lasts for ever: an entry that one release wrote must be readable, octet for octet, by
// every later one. A member is therefore never added to a version, renamed or given another meaning;
// what is new gets version 2 of the entry beside this one. Entries name people by id only.
//
// The package is pure: no clock, network, disk or log. It trusts nothing that it decodes. Its
// invariant: what [Decode] accepts, [Encode] gives back octet for octet.
package entry

import (
	"fmt"
	"time"

	"jmlbridge/schema"
)

// Version is of the entry form, and of all its bodies together.
const Version = 1

// Limits of one entry (section 1).
const (
	MaxSize     = 65535 // octets; a tile bundle has two octets for the length
	MaxText     = 512   // octets of a reason or detail: free text, one line
	MaxID       = 255   // octets of an id: printable ASCII without space
	MaxCode     = 64    // octets of a code: lower-case letters, digits and hyphens
	MaxKey      = 4096  // octets of a public key in a trust entry
	MaxOps      = 256   // operations of one intent, and results of one outcome
	MaxRequests = 32    // requests of one result
	MaxSubjects = 100   // subjects in one part of a hold
	MaxNames    = 64    // attribute names, operators, counts or event kinds in one list
)

// Kind names what an entry records.
type Kind string

// All kinds there will ever be in version 1; section 3 has a heading for each.
const (
	KindStarted    Kind = "started"
	KindReceived   Kind = "received"
	KindParked     Kind = "parked"
	KindRefused    Kind = "refused"
	KindHeld       Kind = "held"
	KindReleased   Kind = "released"
	KindSuperseded Kind = "superseded"
	KindIntent     Kind = "intent"
	KindOutcome    Kind = "outcome"
	KindObserved   Kind = "observed"
	KindOperator   Kind = "operator"
	KindTrust      Kind = "trust"
	KindPolicy     Kind = "policy"
	KindLease      Kind = "lease"
	KindClock      Kind = "clock"
	KindAlarm      Kind = "alarm"
	KindSent       Kind = "sent"
)

// Kinds lists every kind, in the order of section 3.
var Kinds = []Kind{KindStarted, KindReceived, KindParked, KindRefused, KindHeld, KindReleased, KindSuperseded,
	KindIntent, KindOutcome, KindObserved, KindOperator, KindTrust, KindPolicy, KindLease, KindClock, KindAlarm, KindSent}

// An Entry is one thing that happened, at the time by the writer's clock.
type Entry struct {
	Time time.Time // kept to the millisecond, UTC
	Body Body
}

// New is an entry of now. What is below a millisecond is cut off.
func New(now time.Time, b Body) Entry { return Entry{now.UTC().Truncate(time.Millisecond), b} }

// Body is one of the pointer types of this package that are named like a kind.
type Body interface {
	Kind() Kind
	check(*checker)
}

// A Moment is a point in time to the millisecond, UTC, as in "2026-11-23T04:40:02.125Z". It is of
// the writer's clock; what messages state is a schema.Instant, to the second.
type Moment struct{ time.Time }

const momentForm = "2006-01-02T15:04:05.000Z"

// At cuts t to the millisecond.
func At(t time.Time) Moment { return Moment{t.UTC().Truncate(time.Millisecond)} }

func (m Moment) String() string { return m.UTC().Format(momentForm) }

// MarshalText implements encoding.TextMarshaler.
func (m Moment) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// MarshalJSON hides the one of time.Time.
func (m Moment) MarshalJSON() ([]byte, error) { return []byte(`"` + m.String() + `"`), nil }

// UnmarshalJSON takes only the form that MarshalJSON gives.
func (m *Moment) UnmarshalJSON(b []byte) error {
	if len(b) != len(momentForm)+2 || b[0] != '"' || b[len(b)-1] != '"' {
		return fmt.Errorf("want a time like %q, got %d octets", momentForm, len(b))
	}
	return m.UnmarshalText(b[1 : len(b)-1])
}

// UnmarshalText implements encoding.TextUnmarshaler.
func (m *Moment) UnmarshalText(text []byte) error {
	t, err := parseMoment(string(text))
	m.Time = t
	return err
}

func parseMoment(s string) (time.Time, error) {
	t, err := time.Parse(momentForm, s)
	if err != nil || t.Format(momentForm) != s || !plausible(t) {
		return time.Time{}, fmt.Errorf("want a time like %q, got %q", momentForm, s)
	}
	return t, nil
}

// plausible keeps the text of a time at 24 characters, and an unset time off the ledger.
func plausible(t time.Time) bool { return t.Unix() > 0 && t.Year() < 10000 }

// Position is a message's place in its producer's chain.
type Position struct {
	Issuer     string `json:"iss"`
	Stream     string `json:"stream"`
	Generation int    `json:"generation"`
	Seq        uint64 `json:"seq"`
}

// Who is a subject, and where it is known, which of its engagements.
type Who struct {
	Issuer     string `json:"iss"`
	Subject    string `json:"sub"`
	Engagement int    `json:"engagement,omitempty"`
}

// Cause says why something was done. Entry is the index of the entry of this ledger that explains
// it: the received, operator, policy, lease, observed or released one.
type Cause struct {
	Type     string    `json:"type"` // a CauseX constant
	Position *Position `json:"position,omitempty"`
	Entry    *int64    `json:"entry,omitempty"`
	Code     string    `json:"code,omitempty"`
}

// Types of a Cause.
const (
	CauseMessage   = "message"
	CauseOperator  = "operator"
	CausePolicy    = "policy"
	CauseLease     = "lease"
	CauseSchedule  = "schedule"
	CauseReconcile = "reconcile"
)

// Count is how many of something there were.
type Count struct {
	Name  string `json:"name"` // a code
	Count int64  `json:"count"`
}

// Index is a helper for optional references: a pointer to i.
func Index(i int64) *int64 { return &i }

// InstantAt is a helper for optional instants: a pointer to t, cut to the second.
func InstantAt(t time.Time) *schema.Instant { i := schema.At(t); return &i }

// MomentAt is a helper for optional moments: a pointer to t, cut to the millisecond.
func MomentAt(t time.Time) *Moment { m := At(t); return &m }
