package directory

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"
)

// The mark is in tenants for years: it never changes.
func TestMark(t *testing.T) {
	for _, tt := range []struct{ issuer, subject, want string }{
		{"https://iam.mssp.example/jml", "HR-0001", "jmlbridge:c2858b2c72c8:HR-0001"},
		{"https://other.example", "HR-0001", "jmlbridge:eb8aeaa7d6dc:HR-0001"},
		{"https://iam.mssp.example/jml", "a:b", "jmlbridge:c2858b2c72c8:a:b"},
	} {
		if got := Mark(tt.issuer, tt.subject); got != tt.want {
			t.Errorf("Mark(%q, %q) = %s, expected %s", tt.issuer, tt.subject, got, tt.want)
		}
	}
}

func TestErrorText(t *testing.T) {
	for _, tt := range []struct {
		err  *Error
		want string
	}{
		{&Error{Op: "disable", Code: CodeUnavailable, Status: 503, After: 9 * time.Second, Kinds: []error{ErrAmbiguous}},
			"disable: no usable answer: it may have taken effect (unavailable, status 503), retry after 9s"},
		{&Error{Op: "create", Code: CodeConflict, Status: 400, Reason: "Request_BadRequest", Target: "userPrincipalName", Kinds: []error{ErrConflict}},
			"create: conflicts with what the tenant holds (conflict, status 400, Request_BadRequest on userPrincipalName)"},
		{&Error{Op: "get", Code: CodeThrottled, Status: 429, After: time.Second, Kinds: []error{&ThrottledError{time.Second}}},
			"get: the tenant throttles (throttled, status 429), retry after 1s"},
		{&Error{Op: "get", Code: CodeNoConnection, Kinds: []error{ErrAmbiguous, ErrUnsent}, Cause: context.Canceled},
			"get: the request was not sent (no-connection): context canceled"},
	} {
		if got := tt.err.Error(); got != tt.want {
			t.Errorf("%s\nexpected %s", got, tt.want)
		}
	}
}

func TestErrorMatches(t *testing.T) {
	kinds := make([]error, 1, 4) // room, which Unwrap must not write into
	kinds[0] = &ThrottledError{After: 5 * time.Second}
	e := &Error{Kinds: kinds, After: 5 * time.Second, Cause: context.DeadlineExceeded}
	err := fmt.Errorf("work on 1: %w", e)
	if !errors.Is(err, ErrThrottled) || !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, ErrAmbiguous) {
		t.Errorf("%v matches the wrong kinds", err)
	}
	if kinds[:2][1] != nil {
		t.Error("Unwrap wrote into Kinds")
	}
	if d := RetryAfter(err); d != 5*time.Second {
		t.Errorf("retry after %s", d)
	}
	if d := RetryAfter(fmt.Errorf("x: %w", &ThrottledError{After: time.Minute})); d != time.Minute {
		t.Errorf("retry after %s", d)
	}
	if d := RetryAfter(errors.New("other")); d != 0 || RetryAfter(nil) != 0 {
		t.Errorf("retry after %s", d)
	}
	if got := (&ThrottledError{}).Error(); got != "the tenant throttles" {
		t.Errorf("%q promises a wait that nobody named", got)
	}
}

func TestPriority(t *testing.T) {
	ctx := t.Context()
	if p := PriorityOf(ctx); p != Normal {
		t.Errorf("priority %d without one", p)
	}
	if p := PriorityOf(WithPriority(WithPriority(ctx, Low), High)); p != High {
		t.Errorf("priority %d, expected the innermost", p)
	}
}
