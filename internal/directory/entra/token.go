package entra

import (
	"context"
	"errors"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"

	"jmlbridge/internal/cloud"
	"jmlbridge/internal/directory"
)

// renewing is a credential that can be thrown away and made anew, from the files as they are then. A
// credential of azidentity keeps a token that was revoked until it would have expired.
type renewing struct {
	make func() (azcore.TokenCredential, error)
	now  func() time.Time

	mu         sync.Mutex // guards what follows; never held across a token request
	cred       azcore.TokenCredential
	generation int // of cred
	dropped    time.Time
}

func newRenewing(now func() time.Time, newCredential func() (azcore.TokenCredential, error)) (*renewing, error) {
	cred, err := newCredential()
	if err != nil {
		return nil, err
	}
	return &renewing{make: newCredential, now: now, cred: cred, generation: 1}, nil
}

// GetToken implements azcore.TokenCredential.
func (r *renewing) GetToken(ctx context.Context, opts policy.TokenRequestOptions) (azcore.AccessToken, error) {
	cred, generation, err := r.current()
	if err != nil {
		return azcore.AccessToken{}, &tokenError{err, true}
	}
	if c := callOf(ctx); c != nil {
		c.generation = generation
	}
	ctx, cancel := context.WithTimeout(ctx, cloud.TokenTimeout)
	defer cancel()
	token, err := cred.GetToken(ctx, opts)
	switch {
	case err != nil && ctx.Err() != nil: // the library's error does not say so
		return azcore.AccessToken{}, &tokenError{ctx.Err(), false}
	case err != nil:
		return azcore.AccessToken{}, &tokenError{err, false}
	}
	return token, nil
}

func (r *renewing) current() (azcore.TokenCredential, int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.cred == nil {
		cred, err := r.make()
		if err != nil {
			return nil, 0, err
		}
		r.cred, r.generation = cred, r.generation+1
	}
	return r.cred, r.generation, nil
}

// drop throws the credential of that generation away. Many calls refused at once drop it once.
func (r *renewing) drop(generation int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if generation != r.generation || r.cred == nil {
		return
	}
	now := r.now()
	if since := now.Sub(r.dropped); !r.dropped.IsZero() && since >= 0 && since < dropInterval {
		return
	}
	r.cred, r.dropped = nil, now
}

// tokenError says that no token could be had: nothing went to Graph.
type tokenError struct {
	err   error
	local bool // the credential's own files, not the authority
}

func (e *tokenError) Error() string { return "no token: " + e.err.Error() }
func (e *tokenError) Unwrap() error { return e.err }

var aadsts = regexp.MustCompile(`AADSTS[0-9]{1,9}`)

// verdict tells a credential that is refused from an authority that cannot be heard.
func (e *tokenError) verdict(op string, now func() time.Time) *directory.Error {
	v := &directory.Error{Op: op, Code: directory.CodeNoToken, Kinds: []error{directory.ErrAmbiguous, directory.ErrUnsent}}
	if e.local {
		v.Code, v.Kinds, v.Cause = directory.CodeCredential, []error{directory.ErrDenied, directory.ErrUnsent}, e.err
		return v
	}
	var answer *http.Response
	if failed, ok := errors.AsType[*azidentity.AuthenticationFailedError](e.err); ok {
		answer = failed.RawResponse
	}
	if answer == nil {
		v.Cause = errors.New(oneLine(e.err.Error())) // about addresses and connections: no person is known here
		if ctx := contextError(e.err); ctx != nil {
			v.Cause = ctx
		}
		return v
	}
	v.Status = answer.StatusCode
	v.Reason = aadsts.FindString(e.err.Error())
	v.After = retryAfter(answer.Header, now)
	if s := answer.StatusCode; s >= 400 && s < 500 && s != http.StatusRequestTimeout && s != http.StatusTooManyRequests {
		v.Code, v.Kinds = directory.CodeCredential, []error{directory.ErrDenied, directory.ErrUnsent}
	}
	return v
}

func oneLine(s string) string {
	s = strings.Join(strings.Fields(s), " ") // what happened to the connection stands on its second line
	const most = 300
	if len(s) > most {
		s = s[:most]
	}
	return s
}

func contextError(err error) error {
	for _, c := range []error{context.Canceled, context.DeadlineExceeded} {
		if errors.Is(err, c) {
			return c
		}
	}
	return nil
}
