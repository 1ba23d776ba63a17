// Package directory says what a tenant is to the bridge: accounts, groups, what can be done to them
// and how an attempt can end. It knows no product; adapters translate.
//
// The directory is eventually consistent: a successful write is trusted and not confirmed by reading,
// a conflict means "go and look", a not-found right after a create may be a replica that lags.
// An attempt can also end without an answer ([ErrAmbiguous]): then it may or may not have taken
// effect, and whoever asked must look before asking again.
package directory

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"time"
)

// Account is what the bridge reads of one account. Pointers that are nil were not answered, which is
// never "false" or "empty".
type Account struct {
	ID      string // object id, immutable
	Mark    string // ownership mark; empty where the bridge did not make or adopt it
	UPN     string
	Enabled *bool
	// SessionsValidFrom is the instant before which every session is revoked.
	SessionsValidFrom time.Time
	EmployeeID        string
	Attributes        Attributes
	Groups            []string // ids of direct memberships, sorted; only where they were asked for
}

// Attributes are what the bridge keeps in step on an account. Empty means cleared.
type Attributes struct {
	DisplayName, GivenName, Surname             string
	EmployeeID                                  string // at most 16 characters; empty for longer subject ids
	EmployeeType, JobTitle, Department, Company string
	Division, CostCenter                        string
	UsageLocation                               string // ISO 3166-1 alpha-2; never cleared
}

// NewAccount is what a create needs. The adapter makes a random password that nobody keeps.
type NewAccount struct {
	Mark         string
	UPN          string
	MailNickname string
	Enabled      bool
	Attributes   Attributes
}

// Group is what a policy must know of a group before it may name it.
type Group struct {
	ID   string
	Name string
	// Dynamic groups have a rule for members: nobody can add or remove one by hand.
	Dynamic bool
	// RoleAssignable groups can carry a directory role: membership needs a stronger permission, and
	// whoever is in one can be disabled only by a privileged application.
	RoleAssignable bool
	// Foreign groups are managed elsewhere: in an on-premises directory or by the mail system.
	Foreign bool
}

// Request identifies one HTTP exchange, so that a ledger entry can be matched with the tenant's own
// audit log.
type Request struct {
	ClientRequestID string `json:"client_request_id"` // ours, one per request
	RequestID       string `json:"request_id,omitempty"`
	Status          int    `json:"status,omitempty"` // HTTP; 0 where no answer came
}

// Receipt lists the requests of one operation, in order; it is filled also when the operation fails.
type Receipt struct {
	Requests []Request
}

// MarkPrefix begins every mark.
const MarkPrefix = "jmlbridge:"

// Mark is the text by which an account is known to be the bridge's: the only place that holds a
// subject id of any length.
func Mark(issuer, subject string) string {
	sum := sha256.Sum256([]byte(issuer))
	return MarkPrefix + hex.EncodeToString(sum[:6]) + ":" + subject
}

// MarkedSubject is the subject of a mark of issuer; ok is false where the mark is another issuer's, or none.
func MarkedSubject(issuer, mark string) (subject string, ok bool) {
	subject, ok = strings.CutPrefix(mark, Mark(issuer, ""))
	return subject, ok && subject != ""
}
