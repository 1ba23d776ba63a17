package schema

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Kind names an event type without its version.
type Kind string

// The events of version 1. Their meaning stands in event.md.
const (
	KindJoiner    Kind = "joiner"
	KindMover     Kind = "mover"
	KindLeaver    Kind = "leaver"
	KindSuspend   Kind = "suspend"
	KindResume    Kind = "resume"
	KindHeartbeat Kind = "heartbeat"
	KindRoster    Kind = "roster"
	KindApproval  Kind = "approval"
)

// Kinds lists every kind, in the order of event.md.
var Kinds = []Kind{KindJoiner, KindMover, KindLeaver, KindSuspend, KindResume, KindHeartbeat, KindRoster, KindApproval}

// ProducerKinds are those that a producer's own key signs: all but another person's word.
var ProducerKinds = slices.DeleteFunc(slices.Clone(Kinds), func(k Kind) bool { return k == KindApproval })

// Cuts reports whether k takes access away as a whole: these act from any verified position.
func (k Kind) Cuts() bool { return k == KindLeaver || k == KindSuspend }

const uriPrefix = "tag:jmlbridge.internal,2026:"

// URI is the key of an event in the events claim.
func URI(k Kind, version int) string { return fmt.Sprintf("%s%s:v%d", uriPrefix, k, version) }

// ParseURI splits an event key. It fails for anything but tag:jmlbridge.internal,2026:<kind>:v<n>.
func ParseURI(s string) (Kind, int, error) {
	rest, ok := strings.CutPrefix(s, uriPrefix)
	kind, ver, ok2 := strings.Cut(rest, ":v")
	n, err := strconv.Atoi(ver)
	if !ok || !ok2 || err != nil || n < 1 || kind == "" || URI(Kind(kind), n) != s {
		return "", 0, fmt.Errorf("want an event URI like %q, got %q", URI(KindLeaver, 1), s)
	}
	return Kind(kind), n, nil
}

// Event is one of the eight types below.
type Event interface {
	Kind() Kind
	check() error           // the rules of event.md §5 on single events; returns a *RefusedError
	read(*reader)           // strict
	append(b []byte) []byte // in canonical form, after check
}

// Joiner says: a new engagement begins. Full desired state. It ends every earlier engagement.
type Joiner struct {
	Engagement int      `json:"engagement"`
	Person     Person   `json:"person"`
	Roles      []string `json:"roles"` // names, sorted, without repeats; the enclave decides what they mean
	Start      Instant  `json:"start"`
	End        *Instant `json:"end,omitempty"`
}

// Mover says: this is the desired state from Effective on. Whole again, not a delta.
type Mover struct {
	Engagement int      `json:"engagement"`
	Person     Person   `json:"person"`
	Roles      []string `json:"roles"`
	Start      Instant  `json:"start"`
	End        *Instant `json:"end,omitempty"`
	Effective  Instant  `json:"effective"`
}

// Leaver says: every engagement up to this one is over from Effective on. Terminal; of several the
// earliest Effective wins.
type Leaver struct {
	Engagement int     `json:"engagement"` // cut core: name, place and meaning frozen for all versions
	Effective  Instant `json:"effective"`  // cut core
	Reason     string  `json:"reason"`     // a ReasonX constant
	Urgent     bool    `json:"urgent"`
}

// Suspend says: no access from Effective on, until a Resume.
type Suspend struct {
	Engagement int     `json:"engagement"` // cut core
	Effective  Instant `json:"effective"`  // cut core
	Reason     string  `json:"reason"`
}

// Resume ends every suspension before it, from Effective on.
type Resume struct {
	Engagement int     `json:"engagement"`
	Effective  Instant `json:"effective"`
	Reason     string  `json:"reason"`
}

// Reasons of Leaver, Suspend and Resume. Facts for the record; none changes what is done.
const (
	ReasonTermination   = "termination"
	ReasonResignation   = "resignation"
	ReasonEndOfContract = "end-of-contract"
	ReasonTransfer      = "transfer" // left the scope: still employed, off this enclave
	ReasonDeceased      = "deceased"
	ReasonLeave         = "leave" // leave of absence
	ReasonInvestigation = "investigation"
	ReasonReturn        = "return"
	ReasonOther         = "other"
)

// Reasons lists what a leaver, suspend or resume may give as its reason; nil for other kinds. The caller
// must not change it.
func Reasons(k Kind) []string {
	switch k {
	case KindLeaver:
		return leaverReasons
	case KindSuspend:
		return suspendReasons
	case KindResume:
		return resumeReasons
	}
	return nil
}

var (
	leaverReasons  = []string{ReasonTermination, ReasonResignation, ReasonEndOfContract, ReasonTransfer, ReasonDeceased, ReasonOther}
	suspendReasons = []string{ReasonLeave, ReasonInvestigation, ReasonOther}
	resumeReasons  = []string{ReasonReturn, ReasonOther}
)

// Heartbeat is freshness, and repeats the cuts of the last 24 hours so that withholding a leaver
// needs every later heartbeat withheld as well.
type Heartbeat struct {
	Cuts  []CutNotice `json:"cuts"`  // of this generation, in the order of seq
	Total int         `json:"total"` // cuts in the window; those that do not fit rotate over the next heartbeats
}

// CutNotice repeats one leaver or suspend.
type CutNotice struct {
	Subject    string  `json:"sub"`
	Engagement int     `json:"engagement"`
	Kind       Kind    `json:"kind"` // leaver or suspend
	Effective  Instant `json:"effective"`
	Seq        uint64  `json:"seq"`
}

// Roster is part Part of Parts of the whole truth as of Head. Its statements bear the fence position
// of Head, never of the parts. Who is missing from it is reported, never cut for that.
type Roster struct {
	ID     string             `json:"id"`   // UUIDv7 shared by the parts
	Part   int                `json:"part"` // 1..Parts
	Parts  int                `json:"parts"`
	Digest Digest             `json:"digest"` // SHA-256 over every statement of all parts, one canonical JSON line each
	Head   RosterHead         `json:"head"`
	Live   []LiveEngagement   `json:"live"`
	Closed []ClosedEngagement `json:"closed"`
}

// RosterHead is the last message before the roster was taken.
type RosterHead struct {
	Generation int    `json:"generation"`
	Seq        uint64 `json:"seq"`
	Hash       Digest `json:"hash"`
}

// LiveEngagement is a person who has access, or is suspended.
type LiveEngagement struct {
	Subject    string   `json:"sub"`
	Engagement int      `json:"engagement"`
	State      string   `json:"state"` // StateActive or StateSuspended
	Since      Instant  `json:"since"` // of State
	Person     Person   `json:"person"`
	Roles      []string `json:"roles"`
	Start      Instant  `json:"start"`
	End        *Instant `json:"end,omitempty"`
}

// States of a LiveEngagement.
const (
	StateActive    = "active"
	StateSuspended = "suspended"
)

// ClosedEngagement states that an engagement is over: a positive fact, kept in the roster for twice
// the longest lease.
type ClosedEngagement struct {
	Subject    string  `json:"sub"`
	Engagement int     `json:"engagement"`
	Effective  Instant `json:"effective"`
}

// Approval is the second signer's word, from a key and stream of its own.
type Approval struct {
	Engagement int      `json:"engagement"`
	Roles      []string `json:"roles"`
	Expiry     Instant  `json:"expiry"`
}

// Person bears SCIM's names (RFC 7643); usageLocation is Graph's, preferredAlias ours. All but
// DisplayName may be empty and are then left out.
type Person struct {
	Name           Name     `json:"name,omitzero"`
	DisplayName    string   `json:"displayName"`
	UserType       string   `json:"userType,omitempty"`     // Graph employeeType
	Title          string   `json:"title,omitempty"`        // Graph jobTitle
	Organization   string   `json:"organization,omitempty"` // Graph companyName
	Division       string   `json:"division,omitempty"`
	Department     string   `json:"department,omitempty"`
	CostCenter     string   `json:"costCenter,omitempty"`
	Manager        *Manager `json:"manager,omitempty"`
	UsageLocation  string   `json:"usageLocation,omitempty"`  // ISO 3166-1 alpha-2
	PreferredAlias string   `json:"preferredAlias,omitempty"` // a wish for the mail nickname; the enclave decides
}

// Name is a person's name in parts.
type Name struct {
	Formatted  string `json:"formatted,omitempty"`
	FamilyName string `json:"familyName,omitempty"`
	GivenName  string `json:"givenName,omitempty"`
	MiddleName string `json:"middleName,omitempty"`
}

// Manager names another subject of the same issuer.
type Manager struct {
	Value string `json:"value"`
}

func (*Joiner) Kind() Kind    { return KindJoiner }
func (*Mover) Kind() Kind     { return KindMover }
func (*Leaver) Kind() Kind    { return KindLeaver }
func (*Suspend) Kind() Kind   { return KindSuspend }
func (*Resume) Kind() Kind    { return KindResume }
func (*Heartbeat) Kind() Kind { return KindHeartbeat }
func (*Roster) Kind() Kind    { return KindRoster }
func (*Approval) Kind() Kind  { return KindApproval }
