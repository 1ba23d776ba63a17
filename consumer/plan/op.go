package plan

import (
	"jmlbridge/consumer/fence"
	"jmlbridge/internal/directory"
)

// Kind names an operation on one account. Stable: it goes on the ledger.
type Kind string

const (
	DisableAccount Kind = "disable"
	RevokeSessions Kind = "revoke-sessions"
	RemoveMember   Kind = "remove-member"
	DeleteAccount  Kind = "delete"

	CreateAccount Kind = "create"
	UpdateAccount Kind = "update"
	SetManager    Kind = "set-manager"
	ClearManager  Kind = "clear-manager"
	EnableAccount Kind = "enable"
	AddMember     Kind = "add-member"
)

// Gives reports whether k gives access or changes who someone is; everything else takes.
func (k Kind) Gives() bool {
	switch k {
	case DisableAccount, RevokeSessions, RemoveMember, DeleteAccount:
		return false
	}
	return true // an unknown operation is counted as giving: gives wait, takes do not
}

// Op is one operation. Which account it is done to the executor knows.
type Op struct {
	Kind  Kind
	Lane  Lane
	Group string // object id, of RemoveMember and AddMember

	Create  *directory.NewAccount // of CreateAccount; the UPN is the executor's, see Naming in policy
	From    directory.Attributes  // of UpdateAccount: as observed
	To      directory.Attributes  // of UpdateAccount: as wanted
	Manager string                // object id, of SetManager
	// Approvals are those on which an AddMember rests, or whose end is why a RemoveMember takes the group.
	Approvals []fence.Approval
}

// HoldCode says why something that the facts want is not planned. Stable.
type HoldCode string

const (
	HoldUnknownRole     HoldCode = "unknown-role"      // the policy does not name the role
	HoldProtected       HoldCode = "protected"         // the policy forbids touching the account
	HoldNotOwned        HoldCode = "not-owned"         // the account bears no mark of ours, or another's
	HoldDisabledLocally HoldCode = "disabled-locally"  // somebody in the enclave disabled it; no message undoes that
	HoldForeignGroup    HoldCode = "foreign-group"     // a leaver, or one to whom the bridge gave it, is in a group off the allow-list
	HoldNoUsageLocation HoldCode = "no-usage-location" // neither the person nor the policy names one
	HoldUnnamed         HoldCode = "unnamed"           // has access, and the producer's last roster does not say so
	HoldUnapproved      HoldCode = "unapproved"        // the role wants a second signer's word, and there is none, or it ended
	HoldDisowned        HoldCode = "disowned"          // an operator disowned the word that gave it; many persons in one hold
)

// Hold is one thing that is not done, for people to see.
type Hold struct {
	Code   HoldCode
	Target string // a role name or an object id; never a person's name
	Takes  bool   // true where what waits would take access away: that is the loudest kind
}
