// Package admit judges verified messages by their place: whether a message is for this enclave, from a
// key that may say this, in a generation that an operator opened, and where it stands in the chain.
//
// Only messages whose signature was verified come here, and nothing of the mid-point: not the order of
// delivery, not a queue header. What is admitted of one generation is always the beginning of its chain,
// in order and without holes. Whatever else came from a trusted key is recorded and may take access away
// ([Cuts]), never give it. No check can be switched off: they stand in one list, in checks.go.
//
// The package is pure: no clock, no network, no disk, no log.
package admit

import (
	"time"

	"jmlbridge/schema"
)

// Limits on what a stolen key or a wrong clock can do.
const (
	// MaxJump is how far past the furthest seq known a message may stand. Beyond it the chain could
	// only be closed by filling the disk.
	MaxJump = 1 << 20

	// MaxSkew is how far the producer's clock may be ahead of ours.
	MaxSkew = 5 * time.Minute
)

// Disposition says what becomes of a message. The zero value is the safe one: kept, and believed in
// nothing. The values stand in the database.
type Disposition int

// Dispositions. Those from Ahead on are recorded in the archive.
const (
	Parked         Disposition = iota // may become valid; kept
	Refused                           // can never become valid
	Duplicate                         // recorded before
	Ahead                             // after a gap: waits for it to close
	Behind                            // before the start of what is followed, or of a generation that is over
	Forked                            // of a stream that says two things: waits for an operator
	Admitted                          // the next in the chain
	ContentRefused                    // the next in the chain, saying nothing that we may read
	Late                              // was missing when a roster stood in for it; also what waited and was overtaken so
	RuledOut                          // of a branch that an operator ruled out; also what was admitted of it before
)

var dispositionNames = [...]string{"parked", "refused", "duplicate", "ahead", "behind", "forked", "admitted", "content-refused", "late", "ruled-out"}

func (d Disposition) String() string {
	if d < 0 || int(d) >= len(dispositionNames) {
		return "unknown"
	}
	return dispositionNames[d]
}

// Code says why a message was not admitted, named after the attack that it would be. Codes are stable:
// auditors count them. Those of packages envelope and schema stand beside these. Think before adding one.
type Code string

// Codes of this package.
const (
	CodeWrongEnclave  Code = "wrong-enclave"    // its audience is another enclave
	CodeForged        Code = "forged"           // the key is trusted, but not for this issuer and stream
	CodeReplay        Code = "replay"           // the same message again
	CodeKeyRetired    Code = "key-retired"      // the key was retired at an earlier position
	CodeKeyWindow     Code = "key-window"       // the key is not yet, or no longer, valid
	CodeKind          Code = "kind-not-allowed" // the key may not sign this kind of event
	CodeGeneration    Code = "generation"       // nobody here opened this generation
	CodeOldGeneration Code = "old-generation"   // a later generation was opened
	CodeFuture        Code = "future"           // issued later than our clock allows
	CodeFastForward   Code = "fast-forward"     // too far ahead of everything known
	CodeGap           Code = "gap"              // something before it is missing
	CodeFork          Code = "fork"             // the stream says two things at one place
	CodeRuledOut      Code = "ruled-out"        // of a branch of a fork that an operator ruled out
	CodeRollback      Code = "rollback"         // from before the place where we joined
	CodeCovered       Code = "covered"          // from before the head of a roster that stands in for it
	CodeNoRoster      Code = "no-roster"        // the stream was joined in its middle and no roster came yet
	CodeNewerVersion  Code = Code(schema.CodeNewerVersion)
)

// Acts says what a message may do. The zero value is the safe one.
type Acts int

const (
	Nothing Acts = iota
	Cuts         // only what takes access away
	Fully
)

// StreamState says whether a generation of a stream is followed.
type StreamState string

// States of a generation; they stand in the database.
const (
	Live       StreamState = "live"
	ForkedAway StreamState = "forked" // until an operator names a branch or opens a generation
	Closed     StreamState = "closed" // a later generation was opened
)

// Stream is one generation of a stream as far as it was followed. The zero value is one that nobody
// opened.
type Stream struct {
	State      StreamState
	Generation int
	Joined     uint64        // the first seq expected
	Head       uint64        // everything from Joined up to it is known
	HeadHash   schema.Digest // of the payload at Head; zeros before seq 1
	Highest    uint64        // the furthest seq recorded
	GapSince   time.Time     // zero: no gap
	ForkSeq    uint64        // where the fork was seen; 0: nowhere
	Issued     time.Time     // iat of the head
	// Covered is the head of the last roster that stood in for missing messages: what is missing up to it
	// is no gap any more, and what comes of it is late. 0: there was none.
	Covered uint64
	// Unrostered says that the stream was joined in its middle and that nobody has stated yet what held
	// before: nothing in it gives.
	Unrostered bool
	// RuledOut is the furthest seq recorded of branches that an operator ruled out; 0: there were none.
	RuledOut uint64
}

// Key is what an operator lets a signing key do. The zero value may say nothing.
type Key struct {
	Issuer, Stream      string
	Kinds               []schema.Kind
	NotBefore, NotAfter time.Time // ends included; zero is unbounded
	Retired             *Point    // the last position at which it is good; nil while in use
}

// Point is a place in a stream.
type Point struct {
	Generation int
	Seq        uint64
}

// Message is what a verified payload says about its place.
type Message struct {
	Issuer, Audience string
	Stream           schema.Position
	Payload          schema.Digest
	Issued           time.Time   // zero: could not be read, of refused content
	Kind             schema.Kind // empty: could not be read, of refused content
	Content          Code        // why the content was refused or is of a newer version; empty: it was read
}

// Recorded is a message that is in the archive.
type Recorded struct {
	Payload, Prev schema.Digest
	RuledOut      bool // an operator ruled that it is not of the chain
}

// Case is everything that one judgement looks at.
type Case struct {
	Enclave string
	Key     *Key    // that signed it
	Stream  *Stream // the generation that the message names; nil: nobody opened it
	Latest  Stream  // the latest generation opened of this stream
	Message Message
	Now     time.Time

	// Again says that the message is in the archive already and waits there: the checks that ask for the
	// time were passed when it came.
	Again bool

	// Recorded returns what the archive has at seq in the generation that the message names, without
	// the message itself where it is judged again. It is asked only where Stream is not nil.
	Recorded func(seq uint64) []Recorded
}

// Verdict is what a case comes to. The zero value parks and does nothing.
type Verdict struct {
	Disposition Disposition
	Code        Code // empty where admitted
	Acts        Acts
	// At is the place that the message's facts bear. It never lies beyond MaxJump, whatever the message
	// says, so that a stolen key cannot put a fence out of reach.
	At Point
	// Stream is the generation after this message; as it was, unless the message is recorded.
	Stream Stream
}

// Gap is the evidence of a hole: these messages exist, for the one after them names their hash, and they
// did not come.
type Gap struct {
	First, Last uint64        // seqs missing, both included
	Before      schema.Digest // payload of First - 1
	After       schema.Digest // payload that the one at Last must have
	Since       time.Time     // when the hole was first seen
}

// Cover returns s after a whole roster that was taken at head, whose payload is hash: it states what the
// messages up to there came to, so none of them is waited for any more.
func Cover(s Stream, head uint64, hash schema.Digest) Stream {
	s.Unrostered = false
	if head > s.Head {
		s.Head, s.HeadHash, s.Covered = head, hash, head
	}
	if s.Head >= s.Highest {
		s.Highest, s.GapSince = s.Head, time.Time{}
	}
	return s
}

// Hole returns the gap between s and the nearest message after it that is recorded; ok is false where
// there is none.
func Hole(s Stream, seq uint64, prev schema.Digest) (g Gap, ok bool) {
	if seq <= s.Head+1 {
		return Gap{}, false
	}
	return Gap{s.Head + 1, seq - 1, s.HeadHash, prev, s.GapSince}, true
}
