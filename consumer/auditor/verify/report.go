package verify

import (
	"cmp"
	"slices"
	"time"

	"jmlbridge/internal/ledger/entry"
	"jmlbridge/schema"
)

// Report is the auditor's opinion. Its JSON form is stable: members are added, none changes its meaning.
type Report struct {
	Verifies  bool           `json:"verifies"`
	TilesOnly bool           `json:"tiles_only,omitempty"` // the signatures of messages were not checked
	Ledger    Ledger         `json:"ledger"`
	Checked   Checked        `json:"checked"`
	Counts    Counts         `json:"counts"`
	CutTimes  CutTimes       `json:"cut_times"`
	CutStates map[string]int `json:"cut_states"`
	Open      Open           `json:"open"`
	Streams   []Stream       `json:"streams"`
	Starts    []Start        `json:"starts"`
	Policies  []Policy       `json:"policies"`
	Operators []Act          `json:"operators"`
	Rulings   []Ruling       `json:"rulings"`
	Acts      int            `json:"acts"` // of operators, whatever entry has them, but for policies and changes of trust
	Cuts      []*Cut         `json:"cuts"`
	Findings  []Finding      `json:"findings"` // of each code the first hundred; Counts has all
}

// Ledger is which ledger was read, and how much of it.
type Ledger struct {
	Origin  string `json:"origin"`
	Size    int64  `json:"size"`
	Root    string `json:"root"`
	Second  bool   `json:"second_signature,omitempty"` // the second key that was given signed the checkpoint too
	Program string `json:"program,omitempty"`
	ID      string `json:"id,omitempty"`
	Enclave string `json:"enclave,omitempty"`
	// Previous is the last checkpoint of the ledger that this one follows, since its database was lost.
	Previous *entry.Previous `json:"previous,omitempty"`
	First    entry.Moment    `json:"first"`
	Last     entry.Moment    `json:"last"`
}

// Checked is how much was verified.
type Checked struct {
	Entries    int64 `json:"entries"`
	Messages   int64 `json:"messages"`   // that entries name
	Signatures int64 `json:"signatures"` // of these, found in the archive and good
	Rosters    int64 `json:"rosters"`    // whole, and said to be applied
	Intents    int64 `json:"intents"`
	Outcomes   int64 `json:"outcomes"`
	Gives      int64 `json:"gives"`
	Takes      int64 `json:"takes"`
	ByPrevious int64 `json:"takes_by_previous"` // explained by a message of the ledger before this one
	ByParked   int64 `json:"takes_by_parked"`   // explained by a parked message, which is not in the archive
	Accounts   int64 `json:"accounts"`          // that exist at the end, by the ledger
	Enabled    int64 `json:"enabled"`
	Copies     int   `json:"copies"` // checkpoint copies that the ledger extends
}

// Counts are by kind, code or result.
type Counts struct {
	Entries      map[string]int64 `json:"entries"`
	Dispositions map[string]int64 `json:"dispositions"`
	Refused      map[string]int64 `json:"refused"`
	Parked       map[string]int64 `json:"parked"`
	Held         map[string]int64 `json:"held"`
	Alarms       map[string]int64 `json:"alarms"`
	Results      map[string]int64 `json:"results"`
	Findings     map[Code]int64   `json:"findings"`
}

// Open is what was not over when the ledger ended, and is no finding.
type Open struct {
	Intents    int64    `json:"intents"`    // younger than the grace
	Rosters    int      `json:"rosters"`    // whole, and not applied yet
	Holds      int      `json:"holds"`      //
	Alarms     int      `json:"alarms"`     //
	Unarchived int64    `json:"unarchived"` // messages of the last minutes that the archive does not have yet
	Newer      int64    `json:"newer"`      // messages in the archive that are newer than the checkpoint
	Torn       []string `json:"torn,omitempty"`
}

// Stream is one generation of a stream as the ledger has it.
type Stream struct {
	Issuer     string        `json:"iss"`
	Stream     string        `json:"stream"`
	Audience   string        `json:"aud,omitempty"`
	Generation int           `json:"generation"`
	First      uint64        `json:"first"`
	Head       uint64        `json:"head"`
	Hash       schema.Digest `json:"hash"`
	Highest    uint64        `json:"highest"`
	Messages   int64         `json:"messages"`
	Missing    int64         `json:"missing"` // between head and highest
	Gaps       int64         `json:"gaps"`    // messages that came ahead of a gap
	Forks      int64         `json:"forks"`
	Repeats    int64         `json:"repeats"`
	Closed     bool          `json:"closed,omitempty"`
	Forked     bool          `json:"forked,omitempty"`
}

// Start is one start of the program.
type Start struct {
	Entry   int64        `json:"entry"`
	Time    entry.Moment `json:"time"`
	Program string       `json:"program"`
	Version string       `json:"version"`
	FIPS    bool         `json:"fips"`
	Module  string       `json:"fips_module,omitempty"` // v1.0.0 is certified; latest is that of a Go release
	Mode    string       `json:"mode"`
}

// Policy is a policy that came into force.
type Policy struct {
	Entry  int64         `json:"entry"`
	Time   entry.Moment  `json:"time"`
	Digest schema.Digest `json:"digest"`
}

// Act is what an operator did.
type Act struct {
	Entry   int64        `json:"entry"`
	Time    entry.Moment `json:"time"`
	By      string       `json:"by"`
	Action  string       `json:"action"`
	Issuer  string       `json:"iss,omitempty"`
	Subject string       `json:"sub,omitempty"`
	Target  string       `json:"target,omitempty"`
	Reason  string       `json:"reason,omitempty"`
}

// Ruling is how operators ended a hold.
type Ruling struct {
	Entry    int64        `json:"entry"`
	Time     entry.Moment `json:"time"`
	Hold     string       `json:"hold"`
	Code     string       `json:"code"`
	Action   string       `json:"action"`
	By       []string     `json:"by"`
	Subjects int          `json:"subjects"`
	Reason   string       `json:"reason,omitempty"`
}

// CutTimes are the clocks of a cut, over all that were done.
type CutTimes struct {
	TrueToReceived    Spread `json:"true_to_received"`
	DueToDisabled     Spread `json:"due_to_disabled"`
	TrueToDisabled    Spread `json:"true_to_disabled"`
	DisabledToRevoked Spread `json:"disabled_to_revoked"`
}

// Spread describes a set of durations, in milliseconds.
type Spread struct {
	Count  int   `json:"count"`
	Min    int64 `json:"min_ms"`
	Median int64 `json:"median_ms"`
	P99    int64 `json:"p99_ms"`
	Max    int64 `json:"max_ms"`
}

func newReport(o Options) *Report {
	r := &Report{TilesOnly: o.TilesOnly, CutStates: map[string]int{}, Streams: []Stream{}, Starts: []Start{}, Policies: []Policy{},
		Operators: []Act{}, Rulings: []Ruling{}, Cuts: []*Cut{}, Findings: []Finding{}}
	c := &r.Counts
	for _, m := range []*map[string]int64{&c.Entries, &c.Dispositions, &c.Refused, &c.Parked, &c.Held, &c.Alarms, &c.Results} {
		*m = map[string]int64{}
	}
	c.Findings = map[Code]int64{}
	return r
}

// by notes an act of an operator that has neither an Act nor a Ruling: leases extended, a clock confirmed. One command
// may leave an entry for each person.
func (v *verifier) by(login, reason string) {
	if login == "" {
		return
	}
	if a := (lastAct{login, reason, v.now}); a != v.lastAct {
		v.lastAct = a
		v.otherActs++
	}
}

// lastAct tells one command from the next.
type lastAct struct {
	by, reason string
	at         time.Time
}

// done finishes the report: sorted, summed up, with the verdict.
func (v *verifier) done() *Report {
	r := v.report
	r.Acts = len(r.Operators) + len(r.Rulings) + v.otherActs
	r.Open.Holds, r.Open.Alarms = len(v.holds), len(v.alarms)
	slices.SortStableFunc(r.Findings, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(place64(a.Entry), place64(b.Entry)), cmp.Compare(a.Code, b.Code), cmp.Compare(a.Where, b.Where), cmp.Compare(a.Subject, b.Subject))
	})
	slices.SortFunc(r.Streams, func(a, b Stream) int {
		return cmp.Or(cmp.Compare(a.Issuer, b.Issuer), cmp.Compare(a.Stream, b.Stream), cmp.Compare(a.Audience, b.Audience), cmp.Compare(a.Generation, b.Generation))
	})
	var received, due, whole, revoked []time.Duration
	for _, c := range r.Cuts {
		r.CutStates[string(c.State)]++
		if c.State != CutDone {
			continue
		}
		due = append(due, c.Disabled.Sub(c.Due.Time))
		if !c.Recalled { // when it was received stands on an earlier ledger
			received = append(received, c.Received.Sub(c.True.Time))
			whole = append(whole, c.Disabled.Sub(c.True.Time))
		}
		if c.Revoked != nil {
			revoked = append(revoked, c.Revoked.Sub(c.Disabled.Time))
		}
	}
	r.CutTimes = CutTimes{spread(received), spread(due), spread(whole), spread(revoked)}
	r.Verifies = len(r.Counts.Findings) == 0
	return r
}

func place64(i *int64) int64 {
	if i == nil {
		return -1
	}
	return *i
}

func spread(l []time.Duration) Spread {
	if len(l) == 0 {
		return Spread{}
	}
	slices.Sort(l)
	at := func(percent int) int64 { return l[min(len(l)-1, len(l)*percent/100)].Milliseconds() }
	return Spread{len(l), at(0), at(50), at(99), l[len(l)-1].Milliseconds()}
}
