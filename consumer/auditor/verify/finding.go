package verify

// Code names what does not verify. Codes are stable: auditors count and compare them. README.md has a
// line for each. Think before adding one.
type Code string

// The tree: what the ledger's signature vouches for.
const (
	CheckpointBad  Code = "checkpoint-bad"  // the checkpoint is not signed by the key that was given, or is malformed
	SecondMissing  Code = "second-missing"  // the checkpoint is not signed by the second key that was given
	TreeBroken     Code = "tree-broken"     // an entry or a hash is not the one under the signed root; nothing behind it is judged
	TileBroken     Code = "tile-broken"     // a hash tile is not what the entries give
	CopyBad        Code = "copy-bad"        // a checkpoint copy is not signed by the key that was given
	Rollback       Code = "rollback"        // a checkpoint copy names more entries than the ledger has
	HistoryChanged Code = "history-changed" // the ledger does not begin with what a checkpoint copy vouches for
	EntryForm      Code = "entry-form"      // an entry is not in the one form of schema/ledger.md
	StartMissing   Code = "start-missing"   // the ledger does not begin with a start of its program
	IdentityMixed  Code = "identity-mixed"  // a start names another program, ledger or enclave than the first
)

// The messages and their chain.
const (
	ArchiveBroken   Code = "archive-broken"   // a file of the archive cannot be read to its end
	ArchiveForm     Code = "archive-form"     // a line of the archive is not in its one form
	ArchiveMissing  Code = "archive-missing"  // a message that an entry names is not in the archive
	ArchiveUnlisted Code = "archive-unlisted" // the archive has a message that no entry names
	MessageAltered  Code = "message-altered"  // an archived message does not hash to the digest it bears
	MessageForm     Code = "message-form"     // a signed message has no readable place in a chain
	SignatureBad    Code = "signature-bad"    // the key did not sign the message
	KeyNotGiven     Code = "key-not-given"    // a message, or the ledger's trust, names a key that the auditor was not given
	KeyDiffers      Code = "key-differs"      // the ledger's trust in a key is not what the card says
	KeyNotTrusted   Code = "key-not-trusted"  // the enclave took a message of a key that it did not trust then, for that
	KeyRetired      Code = "key-retired"      // the same, past the place at which the key was retired
	KeyWindow       Code = "key-window"       // the same, outside the key's window
	KindNotAllowed  Code = "kind-not-allowed" // the same, of a kind that the key may not sign
	WrongEnclave    Code = "wrong-enclave"    // a message for another enclave was taken
	EntryDiffers    Code = "entry-differs"    // an entry says something else than the message that it names
	ContentJudged   Code = "content-judged"   // content was taken that the schema refuses, or refused that it allows
	ChainBroken     Code = "chain-broken"     // a message was taken as the next in its chain and is not
	ChainClaim      Code = "chain-claim"      // the ledger says gap, fork or duplicate where the chain says otherwise
	RosterUnknown   Code = "roster-unknown"   // a roster is said to be applied, and no whole one came
	RosterUnapplied Code = "roster-unapplied" // a whole roster came, and was neither applied nor overtaken by a later one
	BranchUnknown   Code = "branch-unknown"   // an operator chose a branch of a stream, and there is no such fork or branch
	SentTwice       Code = "sent-twice"       // a producer used a number twice, or a generation that is over
)

// What was done to accounts.
const (
	GiveWithoutFact    Code = "give-without-fact"   // something was given to a person of whom nothing in sequence says so
	GiveAfterCut       Code = "give-after-cut"      // something was given while a leaver, suspend, end or lock was in force
	GiveEarly          Code = "give-early"          // something was given before the engagement begins
	ApprovalMissing    Code = "approval-missing"    // something was given on an approval that did not come, is another's, or was over
	GiveDisowned       Code = "give-disowned"       // something was given on a word that an operator had disowned
	GiveStale          Code = "give-while-stale"    // something was given while the issuer was silent
	CauseMissing       Code = "cause-missing"       // an intent names a cause that the ledger does not have
	CauseMismatch      Code = "cause-mismatch"      // an intent names a cause that does not say so
	OpMislabelled      Code = "op-mislabelled"      // an operation is classed as taking and gives, or the reverse
	PolicyUnrecorded   Code = "policy-unrecorded"   // an intent was planned by a policy that the ledger does not have in force
	IntentUnanswered   Code = "intent-unanswered"   // an intent has no outcome
	OutcomeUnexplained Code = "outcome-unexplained" // an outcome answers no open intent, or another person's
	OutcomeIncomplete  Code = "outcome-incomplete"  // an outcome does not answer each operation once
	AccountDiffers     Code = "account-differs"     // what was to be done for one person was done to the account of another
	RequestMissing     Code = "request-missing"     // an operation is said to be applied, by no request that succeeded
	ObserveActed       Code = "observe-acted"       // something was done by an intent that was only to be shown
	CutMissing         Code = "cut-missing"         // a person lost access and the account was not disabled, and nothing says why
	RevokeMissing      Code = "revoke-missing"      // an account was disabled and its sessions never revoked
	CutLate            Code = "cut-late"            // an account was disabled later than the limit asked for
	HoldUnknown        Code = "hold-unknown"        // the end of a hold that was never recorded
	HoldExtended       Code = "hold-extended"       // a cut was held for longer than until when it was first to happen
	DiscardAlone       Code = "discard-alone"       // one operator discarded cuts, which takes two
)

// maxListed is how many findings of one code are listed in full; all are counted.
const maxListed = 100

// Finding is one thing that does not verify.
type Finding struct {
	Code    Code   `json:"code"`
	Entry   *int64 `json:"entry,omitempty"` // index on the ledger
	Issuer  string `json:"iss,omitempty"`
	Subject string `json:"sub,omitempty"`
	Stream  string `json:"stream,omitempty"`
	Gen     int    `json:"generation,omitempty"`
	Seq     uint64 `json:"seq,omitempty"`
	Where   string `json:"where,omitempty"` // file and line, for what is no entry
	Detail  string `json:"detail"`
}
