package entra

import (
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"jmlbridge/internal/directory"
)

// verdict says what has become of the operation. It judges by what our transport saw; the SDK's error
// counts only where the request never left or the answer was good and the SDK could not read it.
func (c *call) verdict(err error) *directory.Error {
	if e, ok := errors.AsType[*directory.Error](err); ok { // ours, from below the SDK or beside it
		return e
	}
	v := &directory.Error{Op: c.op, Code: directory.CodeLostAnswer, Kinds: []error{directory.ErrAmbiguous}, Cause: cause(err)}
	if e, ok := errors.AsType[*tokenError](err); ok {
		return e.verdict(c.op, c.clock())
	}
	if len(c.exchanges) == 0 {
		if contextError(err) != nil {
			v.Code, v.Kinds = directory.CodeNoConnection, append(v.Kinds, directory.ErrUnsent)
			return v
		}
		// Nothing was sent and the network had no part in it: a request that the SDK could not make.
		v.Code, v.Kinds = directory.CodeMisuse, []error{directory.ErrInvalid, directory.ErrUnsent}
		return v
	}
	x := c.exchanges[len(c.exchanges)-1]
	v.Status = x.request.Status
	switch {
	case v.Status == 0 && !x.left:
		v.Code, v.Kinds = directory.CodeNoConnection, append(v.Kinds, directory.ErrUnsent)
	case v.Status == 0:
	case v.Status < 400:
		if v.Cause == nil || v.Cause == errPanic { // whole, but of no use; otherwise it was cut short
			v.Code = directory.CodeUnreadable
		}
	default:
		return classify(c.op, x.answer)
	}
	return v
}

func (c *call) clock() func() time.Time {
	if c.now != nil {
		return c.now
	}
	return time.Now
}

// cause is the part of err that says what happened to the connection, without the address, which can
// hold a UPN. Nil for everything that the SDK says.
func cause(err error) error {
	if e := contextError(err); e != nil {
		return e
	}
	for _, e := range []error{errNoCall, errNoToken, errPanic} {
		if errors.Is(err, e) {
			return e
		}
	}
	// An address that does not parse is no connection's failure, and its error quotes the address.
	if e, ok := errors.AsType[*url.Error](err); ok && e.Op != "parse" && !errors.Is(e.Err, errUnreadable) {
		return e.Err
	}
	return nil
}

// The texts by which Graph tells what it gives no code for.
const (
	textDomain        = "domain portion of the userprincipalname property is invalid" // not a verified domain of the tenant
	textAlready       = "added object references already exist"
	textNotReplicated = "one of the objects being referenced don't exist"
)

// classify reads a refusal of operation op.
func classify(op string, a refusal) *directory.Error {
	v := &directory.Error{Op: op, Status: a.status, Reason: word(a.code, 64), After: a.after}
	is := func(code string, kinds ...error) *directory.Error {
		v.Code, v.Kinds = code, kinds
		return v
	}
	// perhaps is is for a refusal that may be a gateway's, without a code of Graph's: it can have stopped the answer as well as
	// the request.
	perhaps := func(code string, kind error) *directory.Error {
		if a.code == "" {
			return is(code, kind, directory.ErrAmbiguous)
		}
		return is(code, kind)
	}
	message := strings.ToLower(a.message)
	switch a.status {
	case http.StatusUnauthorized:
		return is(directory.CodeToken, directory.ErrDenied)
	case http.StatusForbidden:
		return perhaps(directory.CodeDenied, directory.ErrDenied)
	case http.StatusNotFound, http.StatusGone:
		if a.code == "" { // the word of a gateway or a proxy about a page, and none of Graph's about an object
			return is(directory.CodeUnreadable, directory.ErrAmbiguous)
		}
		return is(directory.CodeNotFound, directory.ErrNotFound)
	case http.StatusConflict:
		return is(directory.CodeConflict, directory.ErrConflict)
	case http.StatusTooManyRequests:
		return is(directory.CodeThrottled, &directory.ThrottledError{After: a.after})
	case http.StatusRequestTimeout:
		return is(directory.CodeUnavailable, directory.ErrAmbiguous)
	case http.StatusBadRequest:
		for _, d := range a.details {
			if slices.Contains([]string{"ObjectConflict", "ConflictingObjects"}, d.Code) {
				v.Target = word(d.Target, 64)
				return is(directory.CodeConflict, directory.ErrConflict)
			}
		}
		switch {
		case strings.Contains(message, "another object with the same value for property"):
			return is(directory.CodeConflict, directory.ErrConflict)
		case strings.Contains(message, textAlready):
			return is(directory.CodeAlready, directory.ErrAlready)
		case strings.Contains(message, textNotReplicated):
			return is(directory.CodeNotReplicated, directory.ErrNotReplicated, directory.ErrNotFound)
		case strings.Contains(message, textDomain):
			v.Target = "userPrincipalName"
		}
	}
	if a.status >= 500 {
		return is(directory.CodeUnavailable, directory.ErrAmbiguous)
	}
	return perhaps(directory.CodeInvalid, directory.ErrInvalid)
}

// retryAfter reads both forms of Retry-After. A date is taken against the answer's own Date, so that a
// clock of ours that is off does not matter.
func retryAfter(h http.Header, now func() time.Time) time.Duration {
	s := strings.TrimSpace(h.Get("Retry-After"))
	if s == "" {
		return 0
	}
	var d time.Duration
	if n, err := strconv.ParseUint(s, 10, 31); err == nil {
		d = time.Duration(n) * time.Second
	} else if at, err := http.ParseTime(s); err == nil {
		from, err := http.ParseTime(h.Get("Date"))
		if err != nil {
			from = now()
		}
		d = at.Sub(from)
	}
	return min(max(d, 0), maxRetryAfter)
}
