package directory

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// How an operation can fail. Everything else is an error of ours or of the configuration.
var (
	ErrNotFound  = errors.New("not found in the tenant")
	ErrConflict  = errors.New("conflicts with what the tenant holds")
	ErrAlready   = errors.New("already so")                                 // e.g. the member is in the group
	ErrDenied    = errors.New("the tenant refuses this credential")         // 401, 403
	ErrInvalid   = errors.New("the tenant refuses the request")             // 400, or refused before it was sent
	ErrAmbiguous = errors.New("no usable answer: it may have taken effect") // connection lost, 5xx, unreadable answer
	ErrThrottled = errors.New("the tenant throttles")                       // 429; see ThrottledError

	// ErrUnsent comes with ErrAmbiguous where it is known that the request never left: no token, no
	// connection. Nothing has taken effect. Whoever knows only ErrAmbiguous looks once for nothing.
	ErrUnsent = errors.New("the request was not sent")

	// ErrNotReplicated comes with ErrNotFound where the tenant says that an object which the request
	// names does not exist yet. Right after a create that passes.
	ErrNotReplicated = errors.New("not in every replica of the tenant yet")
)

// ThrottledError carries how long the tenant asks to wait. It matches ErrThrottled.
type ThrottledError struct {
	After time.Duration // 0 where the tenant named no time
}

func (e *ThrottledError) Error() string {
	if e.After == 0 {
		return ErrThrottled.Error()
	}
	return ErrThrottled.Error() + ", retry after " + e.After.String()
}

// Is makes every ThrottledError match ErrThrottled.
func (e *ThrottledError) Is(target error) bool { return target == ErrThrottled }

// Error is a failed operation. It never holds a name, a UPN, a token or a text that the tenant wrote:
// all of its members may be logged and put on a ledger.
type Error struct {
	Op   string // the operation, e.g. "disable"
	Code string // what happened, one of the Code constants: stable
	// Status is the HTTP status of the answer, 0 where none came. With [ErrDenied], 401 is a token that
	// was refused and has been dropped: the next attempt asks for a new one.
	Status int
	// Reason is the product's own code, e.g. "Authorization_RequestDenied" or "AADSTS700027"; Target the
	// property that a conflict is about. Either may be empty.
	Reason, Target string
	// After is how long the tenant asks to wait before anything else is sent; 0 where it did not say.
	After time.Duration
	// Kinds are the sentinels above that the error matches.
	Kinds []error
	// Cause is the local cause where there is one, such as a refused connection; it is never an answer.
	Cause error
}

// Codes of failed operations. Think before adding: whoever reads a ledger years later knows only these.
const (
	CodeNotFound      = "not-found"
	CodeNotReplicated = "not-replicated"
	CodeConflict      = "conflict"
	CodeAlready       = "already"
	CodeDenied        = "denied"
	CodeToken         = "token-refused"    // 401: the token is not good, or no longer
	CodeCredential    = "credential"       // the authority refuses the credential itself
	CodeNoToken       = "no-token"         // the authority could not be reached or did not answer
	CodeInvalid       = "invalid"          // 400 and other refusals of the request
	CodeThrottled     = "throttled"        // 429
	CodeUnavailable   = "unavailable"      // 5xx
	CodeNoConnection  = "no-connection"    // the request never left
	CodeLostAnswer    = "lost-answer"      // the request may have left and no whole answer came
	CodeUnreadable    = "unreadable"       // an answer that is not what the product would say
	CodeForeignLink   = "foreign-link"     // a next page on another host
	CodeTooLong       = "too-many-results" // more pages than are ever read
	CodeMisuse        = "misuse"           // an argument that no request can be made of
)

func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.Op)
	unsent := slices.Contains(e.Kinds, ErrUnsent)
	for _, k := range e.Kinds {
		if unsent && k == ErrAmbiguous {
			continue // what was not sent has not taken effect
		}
		if _, ok := k.(*ThrottledError); ok {
			k = ErrThrottled // the wait stands at the end
		}
		b.WriteString(": " + k.Error())
	}
	b.WriteString(" (" + e.Code)
	if e.Status != 0 {
		fmt.Fprintf(&b, ", status %d", e.Status)
	}
	if e.Reason != "" {
		b.WriteString(", " + e.Reason)
	}
	if e.Target != "" {
		b.WriteString(" on " + e.Target)
	}
	b.WriteString(")")
	if e.After > 0 {
		b.WriteString(", retry after " + e.After.String())
	}
	if e.Cause != nil {
		b.WriteString(": " + e.Cause.Error())
	}
	return b.String()
}

// Unwrap gives the kinds and the cause.
func (e *Error) Unwrap() []error {
	if e.Cause == nil {
		return e.Kinds
	}
	return append(e.Kinds[:len(e.Kinds):len(e.Kinds)], e.Cause)
}

// RetryAfter is how long the tenant asked to wait, 0 where it did not. A 503 can ask as well as a 429.
func RetryAfter(err error) time.Duration {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.After
	}
	if e, ok := errors.AsType[*ThrottledError](err); ok {
		return e.After
	}
	return 0
}
