package entra

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"jmlbridge/internal/directory"
)

// call is one operation under way. It belongs to the goroutine that runs it.
type call struct {
	op         string
	priority   directory.Priority
	eventual   bool // the query needs Graph's advanced capabilities, on every page
	generation int  // of the credential that gave the token
	exchanges  []*exchange
	now        func() time.Time
}

type callKey struct{}

func callOf(ctx context.Context) *call {
	c, _ := ctx.Value(callKey{}).(*call)
	return c
}

func (c *call) receipt() directory.Receipt {
	var r directory.Receipt
	for _, e := range c.exchanges {
		r.Requests = append(r.Requests, e.request)
	}
	return r
}

// exchange is one request and what came back.
type exchange struct {
	request directory.Request
	left    bool // unless it is known that no connection was had, the request may have arrived
	answer  refusal
}

// refusal is what is kept of an answer of status 400 and above.
type refusal struct {
	status  int
	code    string   // error.code
	details []detail // error.details
	message string   // error.message: matched, never kept longer, never shown
	after   time.Duration
}

type detail struct{ Code, Target string }

// recorder is the transport below the SDK. It gives each request exactly one client-request-id, writes
// down what became of it, and lets nothing up that the SDK would misread.
type recorder struct {
	next http.RoundTripper
	root *url.URL // the only place requests may go
	now  func() time.Time
	log  *slog.Logger
}

var (
	errNoCall     = errors.New("a request outside of an operation")
	errNoToken    = errors.New("a request without a token")
	errUnreadable = errors.New("an answer that Graph would not give")
)

// RoundTrip implements http.RoundTripper.
func (r *recorder) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.Body != nil {
		defer req.Body.Close()
	}
	c := callOf(req.Context())
	if c == nil {
		return nil, errNoCall
	}
	c.now = r.now
	if !r.ours(req.URL) {
		return nil, &directory.Error{Op: c.op, Code: directory.CodeForeignLink,
			Kinds: []error{directory.ErrInvalid, directory.ErrUnsent}, Cause: errors.New("a link leads away from Graph's address")}
	}
	if req.Header.Get("Authorization") == "" {
		return nil, errNoToken // the SDK leaves it out in silence where host and valid hosts disagree
	}
	x := &exchange{request: directory.Request{ClientRequestID: uuid.NewString()}}
	c.exchanges = append(c.exchanges, x)
	var asked, connected atomic.Bool
	out, err := r.outgoing(req, c, x.request.ClientRequestID, &httptrace.ClientTrace{
		GetConn: func(string) { asked.Store(true) },
		GotConn: func(httptrace.GotConnInfo) { connected.Store(true) },
	})
	if err != nil {
		return nil, err
	}
	start := r.now()
	resp, err := r.next.RoundTrip(out)
	x.left = err == nil || connected.Load() || !asked.Load()
	if err == nil {
		resp, err = x.take(resp, req, c.op, r.now)
	}
	r.log.DebugContext(req.Context(), "graph", "op", c.op, "client_request_id", x.request.ClientRequestID,
		"request_id", x.request.RequestID, "status", x.request.Status, "took", r.now().Sub(start))
	return resp, err
}

func (r *recorder) ours(u *url.URL) bool {
	return u.Scheme == r.root.Scheme && u.Host == r.root.Host && u.User == nil &&
		strings.HasPrefix(u.EscapedPath(), r.root.EscapedPath()+"/")
}

// outgoing is req with our headers and a body of known length, which the transport may send again only
// while nothing of it has left.
func (r *recorder) outgoing(req *http.Request, c *call, id string, trace *httptrace.ClientTrace) (*http.Request, error) {
	out := req.Clone(httptrace.WithClientTrace(req.Context(), trace))
	if req.Body != nil && req.Body != http.NoBody {
		body, err := io.ReadAll(req.Body)
		if err != nil {
			return nil, err
		}
		out.ContentLength = int64(len(body))
		out.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
		out.Body, _ = out.GetBody()
	}
	out.Header.Set("User-Agent", "jmlbridge")
	out.Header.Set("Client-Request-Id", id)
	out.Header.Del("X-Ms-Throttle-Priority")
	switch c.priority {
	case directory.High:
		out.Header.Set("X-Ms-Throttle-Priority", "High")
	case directory.Low:
		out.Header.Set("X-Ms-Throttle-Priority", "Low")
	}
	if c.eventual {
		out.Header.Set("ConsistencyLevel", "eventual")
	}
	return out, nil
}

// take reads the answer whole. A refusal goes up without its body, so that the SDK keeps its status
// whatever a gateway wrote; of the rest only nothing or whole JSON does.
func (x *exchange) take(resp *http.Response, req *http.Request, op string, now func() time.Time) (*http.Response, error) {
	defer resp.Body.Close()
	x.request.Status = resp.StatusCode
	x.request.RequestID = word(resp.Header.Get("Request-Id"), 64)
	header := make(http.Header)
	switch {
	case resp.StatusCode >= 400:
		body, _ := io.ReadAll(io.LimitReader(resp.Body, maxErrorAnswer)) // what is missing of it changes nothing
		x.answer = readRefusal(resp, body, now)
		return reply(resp, req, header, nil), nil // no WWW-Authenticate: the SDK would repeat the request for it
	case resp.StatusCode < 200 || resp.StatusCode >= 300:
		return nil, errUnreadable
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	switch {
	case err != nil:
		return nil, err
	case len(body) > maxAnswer,
		bare(op) && resp.StatusCode != http.StatusNoContent: // a middlebox says 200
		return nil, errUnreadable
	case len(body) == 0:
		return reply(resp, req, header, nil), nil
	}
	if kind, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type")); err != nil || kind != "application/json" || !json.Valid(body) {
		return nil, errUnreadable
	}
	header.Set("Content-Type", "application/json")
	return reply(resp, req, header, body), nil
}

// bare reports whether Graph answers operation op with 204 where it does it.
func bare(op string) bool {
	switch op {
	case "disable", "remove-member", "delete", "update", "enable", "add-member", "set-manager", "clear-manager":
		return true
	}
	return false
}

func reply(resp *http.Response, req *http.Request, header http.Header, body []byte) *http.Response {
	return &http.Response{
		Status: resp.Status, StatusCode: resp.StatusCode,
		Proto: resp.Proto, ProtoMajor: resp.ProtoMajor, ProtoMinor: resp.ProtoMinor,
		Header: header, Body: io.NopCloser(bytes.NewReader(body)), ContentLength: int64(len(body)), Request: req,
	}
}

func readRefusal(resp *http.Response, body []byte, now func() time.Time) refusal {
	var doc struct {
		Error struct {
			Code, Message string
			Details       []detail
		}
	}
	if json.Unmarshal(body, &doc) != nil {
		// Perhaps not JSON at all. Half a document must not be half a verdict.
		doc.Error.Code, doc.Error.Message, doc.Error.Details = "", "", nil
	}
	return refusal{resp.StatusCode, doc.Error.Code, doc.Error.Details, doc.Error.Message, retryAfter(resp.Header, now)}
}

// word returns s if it is a short word of an id or a code, else nothing: it goes into logs and ledgers.
func word(s string, most int) string {
	if len(s) > most {
		return ""
	}
	for _, r := range s {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '-', r == '_', r == '.':
		default:
			return ""
		}
	}
	return s
}
