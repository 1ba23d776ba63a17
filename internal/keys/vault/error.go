package vault

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
)

// An Error says that a store did not do what it was asked.
type Error struct {
	Op     string // get, sign, decrypt, ...
	Ref    Ref
	Status int    // of the answer; 0: there was none
	Code   string // as the store names it, e.g. Forbidden/ForbiddenByRbac
	Err    error  // why there was no answer, or what was wrong with it
}

func (e *Error) Unwrap() error { return e.Err }

func (e *Error) Error() string {
	what := "no answer"
	if e.Status != 0 {
		what = fmt.Sprintf("answered %d %s", e.Status, e.Code)
	}
	if e.Err != nil {
		what += ": " + oneLine(e.Err)
	}
	text := fmt.Sprintf("key store: %s with %s: %s", e.Op, e.Ref, what)
	switch {
	case e.Status == http.StatusForbidden && strings.Contains(e.Code, "Key"):
		text += "; the key is disabled or outside its dates"
	case e.Status == http.StatusForbidden:
		text += fmt.Sprintf("; give this application the permission %s on the key, or let its network in", e.Op)
	case e.Status == http.StatusUnauthorized:
		text += "; the credential is not one of the store's tenant, or its token has been revoked"
	case e.Status == http.StatusNotFound:
		text += "; check name and version, and that the key was not deleted"
	}
	return text
}

// codeForm is that of the codes; what has another is text, which is not ours to log.
var codeForm = regexp.MustCompile(`^[0-9A-Za-z._-]{1,64}$`)

// aadsts is how Entra names why there is no token.
var aadsts = regexp.MustCompile(`AADSTS[0-9]{1,9}`)

// answered reports whether the store itself refused the request as it was.
func (e *Error) answered() bool { return e.Status == http.StatusBadRequest }

// fail makes an *Error of what the library returns. Its own text repeats the whole answer, which is not ours to
// log.
func fail(op string, ref Ref, err error) error {
	e := &Error{Op: op, Ref: ref, Err: err}
	var answer *azcore.ResponseError
	var challenge *ChallengeError
	var token *azidentity.AuthenticationFailedError
	switch {
	case errors.As(err, &challenge):
		e.Err = challenge
	case errors.As(err, &answer):
		e.Status, e.Code, e.Err = answer.StatusCode, "without a code", nil
		if codeForm.MatchString(answer.ErrorCode) {
			e.Code = answer.ErrorCode
		}
		if more := innerCode(answer.RawResponse); more != "" {
			e.Code += "/" + more
		}
	case errors.As(err, &token) && token.RawResponse != nil: // its text is the whole answer
		e.Err = fmt.Errorf("no token: the authority answered %d %s", token.RawResponse.StatusCode, aadsts.FindString(err.Error()))
	case errors.Is(err, context.DeadlineExceeded):
		e.Err = context.DeadlineExceeded
	case errors.Is(err, context.Canceled):
		e.Err = context.Canceled
	}
	return e
}

// innerCode is the finer reason of a refusal. The library has read the body and put it back.
func innerCode(r *http.Response) string {
	if r == nil || r.Body == nil {
		return ""
	}
	var body struct {
		Error struct {
			Inner struct {
				Code string `json:"code"`
			} `json:"innererror"`
		} `json:"error"`
	}
	if json.NewDecoder(r.Body).Decode(&body) != nil || !codeForm.MatchString(body.Error.Inner.Code) {
		return ""
	}
	return body.Error.Inner.Code
}

func oneLine(err error) string {
	text := strings.Join(strings.Fields(err.Error()), " ") // what became of a connection stands on the second line
	const most = 300                                       // octets
	if len(text) > most {
		text = text[:most]
	}
	return text
}
