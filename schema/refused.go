package schema

import "fmt"

// Code names why a payload was refused. Codes are stable: auditors count them. Think before adding one.
type Code string

const (
	CodeMalformed     Code = "malformed"      // not JSON, or a value of the wrong type
	CodeTrailing      Code = "trailing-bytes" // something follows the JSON value
	CodeDuplicate     Code = "duplicate-member"
	CodeUnknownMember Code = "unknown-member"
	CodeForbidden     Code = "forbidden-claim" // exp, sub, nbf: a SET must not carry them
	CodeMissing       Code = "missing-member"
	CodeBadValue      Code = "bad-value"
	CodeTooLong       Code = "too-long"
	CodeEvents        Code = "not-one-event"
	CodeUnknownEvent  Code = "unknown-event"
	CodeNewerVersion  Code = "newer-version" // may become valid with a newer program: parked, not refused
	CodeNotCanonical  Code = "not-canonical"
)

// A RefusedError says which rule of event.md a payload breaks, and where.
type RefusedError struct {
	Code   Code
	Path   string // of the member, like stream.seq; empty for the payload as a whole
	Detail string // what was expected and what came; never a person's attribute value
}

func (e *RefusedError) Error() string {
	if e.Path == "" {
		return fmt.Sprintf("%s: %s", e.Code, e.Detail)
	}
	return fmt.Sprintf("%s: %s: %s", e.Code, e.Path, e.Detail)
}

func refusef(c Code, path, format string, args ...any) error {
	return &RefusedError{c, path, fmt.Sprintf(format, args...)}
}
