package entry

import "jmlbridge/schema"

// A Started entry: a program began to run, and with what.
type Started struct {
	Program  string         `json:"program"` // ProgramConsumer or ProgramProducer
	Version  string         `json:"version"`
	Go       string         `json:"go"`
	FIPS     FIPS           `json:"fips"`
	Mode     string         `json:"mode"`             // a code: init, run, observe, recover, ...
	Policy   *schema.Digest `json:"policy,omitempty"` // consumer only
	Config   *schema.Digest `json:"config,omitempty"`
	Ledger   string         `json:"ledger"`            // id of this ledger, made with the database
	Enclave  string         `json:"enclave,omitempty"` // its URI
	Instance string         `json:"instance"`          // id of this run
	Cloud    string         `json:"cloud,omitempty"`
	Tenant   string         `json:"tenant,omitempty"`
	Previous *Previous      `json:"previous,omitempty"` // mode recover only: the ledger that this one follows
}

// Previous is the last known checkpoint of the ledger that was lost with its database.
type Previous struct {
	Ledger string        `json:"ledger"`
	Size   int64         `json:"size"`
	Root   schema.Digest `json:"root"`
}

// The programs that keep a ledger.
const (
	ProgramConsumer = "consumer"
	ProgramProducer = "producer"
)

// FIPS is the state of the Go FIPS 140-3 module.
type FIPS struct {
	Enabled bool   `json:"enabled"`
	Version string `json:"version,omitempty"` // of the module
}

// An Operator entry: a person acted on the machine.
type Operator struct {
	By         string         `json:"by"`     // OS login
	Action     string         `json:"action"` // a code: cut, unlock, enroll, hold-release, ...
	Issuer     string         `json:"iss,omitempty"`
	Subject    string         `json:"sub,omitempty"`
	Engagement int            `json:"engagement,omitempty"`
	Target     string         `json:"target,omitempty"` // id of what else it was about: hold, key, generation
	Reason     string         `json:"reason,omitempty"`
	Digest     *schema.Digest `json:"digest,omitempty"` // of the set that was shown, or of the input
	Until      *Moment        `json:"until,omitempty"`
	// Effective is from when on what is recalled of the ledger before takes access away.
	Effective *schema.Instant `json:"effective,omitempty"`
	// First is of an act that stood on the ledger before this one: who acted there, and when. By recovered it.
	First *First `json:"first,omitempty"`
}

// First is who did something on an earlier ledger, and when.
type First struct {
	By string `json:"by"` // OS login
	At Moment `json:"at"`
}

// A Trust entry: what the enclave believes has changed.
type Trust struct {
	Action     string          `json:"action"` // a TrustX constant
	Key        string          `json:"key,omitempty"`
	Use        string          `json:"use,omitempty"` // UseSign or UseDecrypt
	Issuer     string          `json:"iss,omitempty"`
	Stream     string          `json:"stream,omitempty"`
	Generation int             `json:"generation,omitempty"`
	Alg        string          `json:"alg,omitempty"`
	Events     []string        `json:"events,omitempty"` // kinds that the key may sign; absent: all
	NotBefore  *schema.Instant `json:"not_before,omitempty"`
	NotAfter   *schema.Instant `json:"not_after,omitempty"`
	AtSeq      uint64          `json:"at_seq,omitempty"` // pin or last good number, by Action
	Head       *schema.Digest  `json:"head,omitempty"`   // pin: the payload digest before AtSeq; or the branch chosen
	JWK        string          `json:"jwk,omitempty"`    // the public key
	By         string          `json:"by"`               // OS login
	Reason     string          `json:"reason,omitempty"`
}

// Actions of a Trust.
const (
	TrustAdd        = "add"        // a key, its stream and where the stream begins
	TrustRetire     = "retire"     // the key is good up to AtSeq
	TrustRevoke     = "revoke"     // the key is good for nothing more
	TrustGeneration = "generation" // a new generation of the stream is accepted
	TrustBranch     = "branch"     // a fork is ruled: the branch with Head at AtSeq goes on
)

// Uses of a key.
const (
	UseSign    = "sig"
	UseDecrypt = "enc"
)

// A Policy entry: another policy is in force from here on.
type Policy struct {
	Digest   schema.Digest  `json:"digest"`
	Previous *schema.Digest `json:"previous,omitempty"`
	By       string         `json:"by,omitempty"` // OS login
	Counts   []Count        `json:"counts,omitempty"`
}

// A Lease entry: how long access may outlive the last word on a person.
type Lease struct {
	Action     string         `json:"action"` // a LeaseX constant
	Issuer     string         `json:"iss,omitempty"`
	Subject    string         `json:"sub,omitempty"` // absent: Count subjects, of a roster
	Engagement int            `json:"engagement,omitempty"`
	Role       string         `json:"role,omitempty"`
	Until      *Moment        `json:"until,omitempty"`
	Previous   *Moment        `json:"previous,omitempty"`
	Cause      *Cause         `json:"cause,omitempty"`
	Count      int64          `json:"count,omitempty"`
	Digest     *schema.Digest `json:"digest,omitempty"` // of the sorted list of subjects
	By         string         `json:"by,omitempty"`     // OS login
	Reason     string         `json:"reason,omitempty"`
}

// Actions of a Lease.
const (
	LeaseRenewed  = "renewed"
	LeaseExtended = "extended" // by an operator
	LeaseWarned   = "warned"
	LeaseExpired  = "expired"
)

// A Clock entry: the machine's clock went otherwise than time does.
type Clock struct {
	Action   string  `json:"action"` // a ClockX constant
	Against  string  `json:"against"`
	Expected *Moment `json:"expected,omitempty"`
	Found    *Moment `json:"found,omitempty"`
	Offset   int64   `json:"offset_ms,omitempty"`
	By       string  `json:"by,omitempty"` // OS login
	Reason   string  `json:"reason,omitempty"`
}

// Actions of a Clock, and what the clock was held against.
const (
	ClockJumped    = "jumped"    // lease cuts and deletes pause
	ClockConfirmed = "confirmed" // an operator says that it is right now

	AgainstMonotonic = "monotonic"
	AgainstLedger    = "ledger" // the last entry, at start
)

// An Alarm entry: something needs a person, or no longer does.
type Alarm struct {
	Code     string `json:"code"`
	Key      string `json:"key,omitempty"` // what it is about: one alarm for each code and key
	State    string `json:"state"`         // AlarmRaised or AlarmCleared
	Severity string `json:"severity,omitempty"`
	Issuer   string `json:"iss,omitempty"`
	Stream   string `json:"stream,omitempty"`
	Subject  string `json:"sub,omitempty"`
	Entry    *int64 `json:"entry,omitempty"` // what raised it
	Detail   string `json:"detail,omitempty"`
}

// States of an Alarm.
const (
	AlarmRaised  = "raised"
	AlarmCleared = "cleared"
)

// Kind implements Body.
func (*Started) Kind() Kind { return KindStarted }

// Kind implements Body.
func (*Operator) Kind() Kind { return KindOperator }

// Kind implements Body.
func (*Trust) Kind() Kind { return KindTrust }

// Kind implements Body.
func (*Policy) Kind() Kind { return KindPolicy }

// Kind implements Body.
func (*Lease) Kind() Kind { return KindLease }

// Kind implements Body.
func (*Clock) Kind() Kind { return KindClock }

// Kind implements Body.
func (*Alarm) Kind() Kind { return KindAlarm }
