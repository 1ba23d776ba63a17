package tenant

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
)

// A call is one Graph request on its way through the tenant.
type call struct {
	s        *Server
	method   string
	path     string   // as it came, with the version
	parts    []string // of the path, unescaped, after the version
	query    url.Values
	header   http.Header
	body     []byte
	app      *registration
	now      time.Time
	view     int64 // unix nanoseconds: what reads by id show
	ixView   int64 // what $filter shows
	known    int64 // objects born later are unknown to writes
	advanced bool  // ConsistencyLevel: eventual

	requestID string
	clientID  string // client-request-id, both if there were two
	units     int    // resource units
	percent   float64

	applied bool // something was written
	seq     uint64
	changes []Change
}

// An answer is a response before it is on the wire, so that the journal is
// written first and a fault can take the answer's place.
type answer struct {
	status  int
	header  http.Header
	body    []byte
	kind    string // content type; "" is Graph's JSON
	refused *refusal
}

func refuse(r *refusal) answer { return answer{status: r.status, refused: r} }

func noContent() answer { return answer{status: http.StatusNoContent} }

func jsonAnswer(status int, body []byte) answer { return answer{status: status, body: body} }

func (a *answer) set(key, value string) {
	if a.header == nil {
		a.header = http.Header{}
	}
	a.header[key] = []string{value} // as spelled: some of Graph's are lower case
}

// did notes a change for the journal. The caller holds the lock.
func (c *call) did(ch Change) {
	c.applied = true
	if c.seq == 0 {
		c.seq = c.s.dir.next()
	}
	c.changes = append(c.changes, ch)
}

// primary is the view of writes: the newest state.
const primary = math.MaxInt64

// nano is the moment at which a write becomes true.
func (c *call) nano() int64 { return c.now.UnixNano() }

// context is the @odata.context of an answer, as a member.
func (c *call) context(what string) string {
	return `"@odata.context":"` + c.s.root + `/v1.0/$metadata#` + what + `"`
}

// errorBody is Graph's error envelope.
func (c *call) errorBody(r *refusal) []byte {
	inner := map[string]string{"date": c.now.UTC().Format("2006-01-02T15:04:05"), "request-id": c.requestID, "client-request-id": c.clientID}
	body := map[string]any{"code": r.code, "message": r.message, "innerError": inner}
	if r.status == http.StatusTooManyRequests { // documented with the status repeated inside
		inner["code"], inner["status"], inner["message"] = "429", "429", r.message
	}
	if len(r.details) > 0 {
		body["details"] = r.details
	}
	out, _ := json.Marshal(map[string]any{"error": body}) // strings only: always encodes
	return out
}

// finish fills the answer's body and headers in, as Graph sends them.
func (c *call) finish(a *answer) {
	if a.refused != nil && a.body == nil {
		a.body = c.errorBody(a.refused)
	}
	a.set("Request-Id", c.requestID)
	a.set("Client-Request-Id", c.clientID)
	a.set("Date", c.now.UTC().Format(http.TimeFormat))
	a.set("X-Ms-Ags-Diagnostic", `{"ServerInfo":{"DataCenter":"Loopback","Slice":"E","Ring":"1","ScaleUnit":"000","RoleInstance":"SANDBOX"}}`)
	if c.units > 0 {
		a.set("X-Ms-Resource-Unit", strconv.Itoa(c.units))
	}
	if c.percent > 0.8 {
		a.set("X-Ms-Throttle-Limit-Percentage", strconv.FormatFloat(math.Round(c.percent*100)/100, 'f', -1, 64))
	}
	if len(a.body) > 0 {
		kind := a.kind
		if kind == "" {
			kind = "application/json;odata.metadata=minimal;odata.streaming=true;IEEE754Compatible=false;charset=utf-8"
			if a.refused != nil {
				kind = "application/json"
			}
		}
		a.set("Content-Type", kind)
	}
}

// write puts the answer on the wire.
func (a *answer) write(w http.ResponseWriter) {
	h := w.Header()
	for k, v := range a.header {
		h[k] = v
	}
	if a.status != http.StatusNoContent {
		h.Set("Content-Length", strconv.Itoa(len(a.body)))
	}
	w.WriteHeader(a.status)
	if len(a.body) > 0 {
		w.Write(a.body) // a caller that is gone is its own problem
	}
}

// unauthorized is Graph's 401. A challenge asks a client that declared CP1 for
// a new token, as continuous access evaluation does.
func unauthorized(code, message string) answer {
	return refuse(&refusal{status: http.StatusUnauthorized, code: code, message: message})
}

func challenge(root string, notBefore time.Time) answer {
	a := unauthorized("InvalidAuthenticationToken",
		"Continuous access evaluation resulted in challenge with result: InteractionRequired and code: TokenIssuedBeforeRevocationTimestamp")
	claims := fmt.Sprintf(`{"access_token":{"nbf":{"essential":true, "value":"%d"}}}`, notBefore.Unix())
	a.set("Www-Authenticate", fmt.Sprintf(`Bearer realm="", authorization_uri="%s/common/oauth2/authorize", client_id="00000003-0000-0000-c000-000000000000", error="insufficient_claims", claims="%s"`,
		root, base64.StdEncoding.EncodeToString([]byte(claims))))
	return a
}

// clientRequestID keeps what came: two values are a fault of the caller that
// the journal should show. None gives a fresh one, as Graph does.
func clientRequestID(h http.Header) string {
	if v := h.Values("Client-Request-Id"); len(v) > 0 {
		return strings.Join(v, ", ")
	}
	return uuid.NewString()
}

// writePart begins an answer of which only this much will come.
func (a *answer) writePart(w http.ResponseWriter, whole int) {
	h := w.Header()
	for k, v := range a.header {
		h[k] = v
	}
	h.Set("Content-Length", strconv.Itoa(whole))
	w.WriteHeader(a.status)
	w.Write(a.body) // the caller sees it broken anyway
	http.NewResponseController(w).Flush()
}
