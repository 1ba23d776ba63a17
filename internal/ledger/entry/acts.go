package entry

import "jmlbridge/schema"

// An Intent entry: what is about to be done to one account. It is durable before the directory is touched.
type Intent struct {
	Who
	Account   string        `json:"account,omitempty"` // object id, if it is known
	Ops       []Op          `json:"ops"`
	Cause     Cause         `json:"cause"`
	Policy    schema.Digest `json:"policy"`              // of the policy that it was planned by
	Due       *Moment       `json:"due,omitempty"`       // since when it was due: the clock of a cut
	Attempt   int           `json:"attempt,omitempty"`   // 2 and up: how often this was tried
	Hold      string        `json:"hold,omitempty"`      // the hold that it waited in
	Urgent    bool          `json:"urgent,omitempty"`    //
	Observe   bool          `json:"observe,omitempty"`   // run --observe: shown, never done
	Approvals []Position    `json:"approvals,omitempty"` // where a second signer was asked for
}

// Op is one operation of an intent. Values of attributes are nowhere on the ledger.
type Op struct {
	N          int      `json:"n"`                    // 1 and up, in order
	Op         string   `json:"op"`                   // a code: create, update, disable, revoke, add-member, ...
	Class      string   `json:"class"`                // ClassGive or ClassTake
	Target     string   `json:"target,omitempty"`     // id of the group, licence or other object
	Attributes []string `json:"attributes,omitempty"` // names of what is written
}

// Classes of an Op.
const (
	ClassGive = "give"
	ClassTake = "take"
)

// Outcome answers the intent at index Intent: every one has exactly one.
type Outcome struct {
	Intent int64 `json:"intent"`
	Who
	Account string   `json:"account,omitempty"` // object id, known now
	Results []Result `json:"results"`
}

// Result is what became of one operation.
type Result struct {
	N        int       `json:"n"`              // of the Op
	Result   string    `json:"result"`         // a ResultX constant
	Code     string    `json:"code,omitempty"` // why it failed or was skipped
	At       *Moment   `json:"at,omitempty"`   // when the directory's answer came
	Requests []Request `json:"requests,omitempty"`
}

// Results of an operation.
const (
	ResultApplied     = "applied"     // we wrote it and the directory said yes
	ResultAlready     = "already"     // it was so before
	ResultFound       = "found"       // a write whose answer was lost or ambiguous had been done, by looking
	ResultFailed      = "failed"      // the directory said no; Code says how
	ResultSkipped     = "skipped"     // not tried: an earlier one failed, or run --observe
	ResultInterrupted = "interrupted" // the program ended in between; a new intent follows
)

// Request is one request to the directory, for matching with its own audit log.
type Request struct {
	Client string `json:"client"`            // client-request-id that we sent
	Server string `json:"server,omitempty"`  // request-id that it answered
	Status int    `json:"status,omitempty"`  // HTTP status; absent: no answer came
	Code   string `json:"code,omitempty"`    // of the directory's error, in our spelling
	Method string `json:"method,omitempty"`  // HTTP method
	Retry  int    `json:"attempt,omitempty"` // 2 and up
}

// An Observed entry: what was found by looking. Exactly one of the three.
type Observed struct {
	Survey  *Survey  `json:"survey,omitempty"`
	Account *Account `json:"account,omitempty"`
	Source  *Source  `json:"source,omitempty"`
}

// Survey is one complete reading of the tenant's owned accounts.
type Survey struct {
	Digest   schema.Digest `json:"digest"` // of the sorted list of accounts and states, which is in the archive
	Count    int64         `json:"count"`  // accounts in the list
	Counts   []Count       `json:"counts,omitempty"`
	Started  Moment        `json:"started"`
	Finished Moment        `json:"finished"`
}

// SurveyForeign counts, in a Survey, the accounts whose person cannot be named: their mark is of an issuer that is not trusted.
const SurveyForeign = "foreign"

// CodeSeen says of an Account that a tenant was looked through when its ledger began: whoever disabled it.
const CodeSeen = "seen"

// Account is one account as it was found: for each closed engagement whose account still exists, or
// is newly gone. This is the proof of "gone".
type Account struct {
	Who
	Account string         `json:"account,omitempty"` // object id
	State   string         `json:"state"`             // a StateX constant
	Closed  bool           `json:"closed,omitempty"`  // the engagement is over
	Code    string         `json:"code,omitempty"`    // what is wrong: zombie, orphan, drift, missing; or where it is known from: recall, seen
	Survey  *schema.Digest `json:"survey,omitempty"`  // the survey that it was seen in
	Since   *Moment        `json:"since,omitempty"`   // when the bridge disabled it, on an earlier ledger
}

// States of an account.
const (
	StateEnabled  = "enabled"
	StateDisabled = "disabled"
	StateDeleted  = "deleted" // in the directory's bin
	StateGone     = "gone"
)

// Source is what the producer was given to read.
type Source struct {
	Name     string        `json:"name"`   // of the source, by the configuration
	Digest   schema.Digest `json:"digest"` // of the file or answer
	Count    int64         `json:"count"`  // rows
	Counts   []Count       `json:"counts,omitempty"`
	Complete bool          `json:"complete,omitempty"` // the operator said that it names everybody
	By       string        `json:"by,omitempty"`       // OS login
}

// Kind implements Body.
func (*Intent) Kind() Kind { return KindIntent }

// Kind implements Body.
func (*Outcome) Kind() Kind { return KindOutcome }

// Kind implements Body.
func (*Observed) Kind() Kind { return KindObserved }
