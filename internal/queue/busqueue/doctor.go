package busqueue

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus/admin"

	"jmlbridge/internal/doctor"
	"jmlbridge/internal/outbound"
	"jmlbridge/internal/queue"
)

// Examine dials once, step by step, and says which one fails; then whether the credential can do more than the side
// that it is for needs: to send, or to receive. It sends and receives no message. It tells each finding as soon as it is
// known: the answer to the next question may end the process (see the package).
func Examine(ctx context.Context, cfg Config, receives bool, tell func(doctor.Finding)) {
	add := func(name string, err error, well, do string) bool {
		f := doctor.Finding{Name: name, Verdict: doctor.Well, Text: well}
		if err != nil {
			f.Verdict, f.Text, f.Do = doctor.Bad, err.Error(), do
		}
		tell(f)
		return err == nil
	}
	a, err := cfg.open()
	if !add("settings", err, "servicebus "+cfg.Namespace+", queue "+cfg.Queue, "correct the block under queue") {
		return
	}
	proxied, err := a.way.Proxied(a.address())
	if !add("way out", err, map[bool]string{true: "by a proxy, which resolves the name", false: "directly"}[proxied], "correct proxy, or HTTPS_PROXY") {
		return
	}
	if !a.examineWay(ctx, proxied, add, tell) {
		return
	}
	a.examineRights(ctx, receives, tell)
}

// examineWay goes as far as a run does before it speaks AMQP, and takes no longer for each step than that.
func (a *account) examineWay(ctx context.Context, proxied bool, add func(name string, err error, well, do string) bool, tell func(doctor.Finding)) bool {
	step := func() (context.Context, context.CancelFunc) { return context.WithTimeout(ctx, dialTime) }
	if !proxied {
		resolving, cancel := step()
		defer cancel()
		found, err := net.DefaultResolver.LookupHost(resolving, a.host)
		if !add("name", err, strings.Join(found, ", "), "look at the namespace's name and at this machine's resolver") {
			return false
		}
	}
	dialing, cancel := step()
	defer cancel()
	conn, err := a.way.DialContext(dialing, "tcp", a.address())
	if !add("connection", err, "to "+a.address(), outbound.Advise(err, "let this machine, or the proxy, reach "+a.address()+"; where only port 443 is open, transport: websocket")) {
		return false
	}
	defer conn.Close()
	if a.plain {
		tell(doctor.Finding{Name: "tls", Verdict: doctor.Warning, Text: "none: this is the emulator", Do: "never with real people"})
		return true
	}
	conf := a.way.TLS()
	conf.ServerName = a.host
	secure := tls.Client(conn, conf)
	well, do := "", ""
	if err = secure.HandshakeContext(dialing); err == nil {
		state := secure.ConnectionState()
		well = tls.VersionName(state.Version) + ", certificate of " + state.PeerCertificates[0].Subject.String() + " by " + state.PeerCertificates[0].Issuer.String()
	} else {
		err = explainTLS(err)
		do = a.adviseTLS(err)
	}
	if !add("tls", err, well, do) || a.Transport != WebSocket {
		return err == nil
	}
	upgrading, cancel := step()
	defer cancel()
	ws, err := a.webSocket(upgrading)
	if !add("websocket", err, "upgraded", "let the proxy pass WebSockets") {
		return false
	}
	_ = ws.Close()
	return true
}

// adviseTLS is what to do about an error of explainTLS.
func (a *account) adviseTLS(err error) string {
	if errors.Is(err, queue.ErrRefused) {
		return "name the authority that vouches for it (or the proxy's own, where that inspects TLS) under ca"
	}
	do := "find out what stands there: a firewall or proxy that lets connections to " + a.address() +
		" open and passes nothing on, something that does not speak TLS, or a mid-point that is away"
	if a.Transport != WebSocket {
		do += "; where only port 443 is let through, transport: websocket"
	}
	return do
}

// right is one that a credential may have. Its question is answered with nil where it does, with ErrRefused where it does
// not; anything else is not known.
type right struct {
	name string
	ask  func(context.Context) error
}

// advise is what to do about an error of explain where a right was needed.
func (a *account) advise(err error, needed string) string {
	switch {
	case errors.Is(err, errNoQueue):
		return "correct queue (" + a.Queue + ") or namespace, or have that queue made"
	case errors.Is(err, errDisabled):
		return "have the queue enabled by whoever runs the namespace"
	case errors.Is(err, errDenied):
		return "give it the right to " + needed + " on this queue, and no other; where it has that, look whether it was replaced since"
	case errors.Is(err, errLogin):
		return "correct tenant, client and the file under credential; look whether the certificate or secret has expired, and whether the application knows it"
	case errors.Is(err, queue.ErrRefused):
		return "ask whoever runs the namespace what it does not allow; the queue must be a plain one, with requiresSession off"
	case a.token != nil:
		return "let this machine reach the login of the cloud as well as " + a.address() + "; if it does, the service does not answer: try again later, and ask whoever runs the namespace"
	}
	return "the way is open and the service does not answer: try again later, and ask whoever runs the namespace"
}

// examineRights asks for each right by opening what needs it, the one that this side needs first.
func (a *account) examineRights(ctx context.Context, receives bool, tell func(doctor.Finding)) {
	needed, other := right{"send", a.sends}, right{"listen", a.listens}
	if receives {
		needed, other = other, needed
	}
	narrow := fmt.Sprintf("make a policy of this queue with the right to %s alone, and use its connection string", needed.name)
	if err := needed.ask(ctx); err != nil {
		tell(doctor.Finding{Name: "credential", Verdict: doctor.Bad, Text: err.Error(), Do: a.advise(err, needed.name)})
		return
	}
	tell(doctor.Finding{Name: "credential", Verdict: doctor.Well, Text: "may " + needed.name})
	if a.wide {
		tell(doctor.Finding{Name: "least right", Verdict: doctor.Warning, Do: narrow,
			Text: "its connection string names no queue (EntityPath), as that of a policy of the namespace: it opens every queue there"})
	}
	for _, extra := range []right{other, {"manage", a.manages}} {
		f := doctor.Finding{Name: "least right", Verdict: doctor.Well, Text: "may not " + extra.name}
		switch err := extra.ask(ctx); {
		case err == nil:
			f.Verdict, f.Text, f.Do = doctor.Warning, "may "+extra.name+" as well, which this side does not need", narrow
		case !errors.Is(err, queue.ErrRefused):
			f.Verdict, f.Text = doctor.Unknown, "whether it may "+extra.name+": "+err.Error()
		}
		tell(f)
	}
}

// sends asks for a link to send by. A refusal ends the whole connection of a client: each question has one of its own.
func (a *account) sends(ctx context.Context) error {
	d := &dialer{a: a}
	c, err := a.client(d)
	if err != nil {
		return err
	}
	defer finish(c, d)
	s, err := c.NewSender(a.Queue, nil)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, openTime)
	defer cancel()
	_, err = guarded(func() (*azservicebus.MessageBatch, error) { return s.NewMessageBatch(ctx, nil) })
	return explain(err, d.failed())
}

// listens asks for the link that receiving needs.
func (a *account) listens(ctx context.Context) error {
	l, err := newLink(a, 0)
	if err != nil {
		return err
	}
	defer finish(l.client, l.dialer)
	return greet(ctx, l)
}

// manages asks for the queue's settings, which needs the right to manage.
func (a *account) manages(ctx context.Context) error {
	if a.plain {
		return errors.New("the emulator is not asked")
	}
	opts := &admin.ClientOptions{ClientOptions: azcore.ClientOptions{Transport: stayingClient(a.way.Transport()),
		Retry: policy.RetryOptions{MaxRetries: -1}, Telemetry: policy.TelemetryOptions{Disabled: true}}}
	var c *admin.Client
	var err error
	if a.connection != "" {
		c, err = admin.NewClientFromConnectionString(a.connection, opts)
	} else {
		c, err = admin.NewClient(a.Namespace, a.token, opts)
	}
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, openTime)
	defer cancel()
	got, err := guarded(func() (*admin.GetQueueResponse, error) { return c.GetQueue(ctx, a.Queue, nil) })
	var said *azcore.ResponseError
	switch {
	case errors.As(err, &said) && (said.StatusCode == http.StatusUnauthorized || said.StatusCode == http.StatusForbidden):
		return queue.ErrRefused
	case err != nil:
		return err
	case got == nil:
		return errors.New("what answers there shows no such queue; a rehearsal shows none at all")
	}
	return nil
}
