package natsqueue

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math"
	"net"
	"net/url"
	"os"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"jmlbridge/internal/doctor"
	"jmlbridge/internal/outbound"
	"jmlbridge/internal/queue"
)

// Examine dials once, step by step, and says which one fails; then whether the credential can do more than it should: a
// receiver's publish, a publisher's more than that to its one subject. A receiver acknowledges, or is dark. It publishes and fetches no message.
func Examine(ctx context.Context, cfg Config, receives, dark bool) (list []doctor.Finding) {
	add := func(name string, err error, well, do string) bool {
		f := doctor.Finding{Name: name, Verdict: doctor.Well, Text: well}
		if err != nil {
			f.Verdict, f.Text, f.Do = doctor.Bad, err.Error(), do
		}
		list = append(list, f)
		return err == nil
	}
	role := RoleProducer
	if receives {
		role = RoleConsumer
	}
	_, err := cfg.options(role)
	if !add("settings", err, "nats "+strings.Join(cfg.URL, ", ")+", stream "+cfg.Stream, "correct the block under queue") {
		return list
	}
	reached, first := false, len(list)
	for _, server := range cfg.URL {
		if examineServer(ctx, cfg, server, add) {
			reached = true
		}
	}
	if !reached {
		return list
	}
	for i := range list[first:] { // one server is enough to go on with
		if f := &list[first+i]; f.Verdict == doctor.Bad {
			f.Verdict = doctor.Warning
		}
	}
	if cfg.Durable == "" {
		cfg.Durable = defaultDurable
	}
	l, err := connect(cfg, role)
	if !add("connection", err, "made", "") {
		return list
	}
	defer l.Close()
	live, cancel, err := l.await(ctx)
	if !add("credential", err, "let in", "look at the credential, and at its public half in the mid-point's configuration") {
		return list
	}
	defer cancel(nil)
	switch {
	case dark:
		d := &Dark{link: l, stream: cfg.Stream}
		_, err := d.read(live, directRequest{Seq: math.MaxInt64, Next: ">"}) // past whatever there is
		add("stream", err, "stream "+cfg.Stream+" may be read directly", "look at the stream (allow_direct) and at the credential's permissions at the mid-point")
	case receives:
		r := &Receiver{link: l, cfg: cfg}
		add("consumer", r.attach(live), "consumer "+cfg.Durable+" of stream "+cfg.Stream+" keeps its promises", "look at the stream and the consumer at the mid-point")
	}
	if f, ok := examineReplicas(l, live, cfg, receives && !dark); ok {
		list = append(list, f)
	}
	err = maySend(l, live, cfg)
	switch {
	case !receives:
		add("subject", err, "stream "+cfg.Stream+" takes "+cfg.Subject, "look at the subject, and at the credential's permissions")
		list = append(list, examinePublisher(l, live, cfg))
	case cfg.Subject == "": // a receiver's configuration does not name it
		list = append(list, doctor.Finding{Name: "least right", Verdict: doctor.Unknown, Text: "whether it may publish: subject is not set, so there is nothing to try"})
	case err == nil:
		list = append(list, doctor.Finding{Name: "least right", Verdict: doctor.Warning, Text: "may publish to " + cfg.Subject + " as well, which this side does not need", Do: "narrow the credential's permissions at the mid-point"})
	case errors.Is(err, queue.ErrRefused):
		list = append(list, doctor.Finding{Name: "least right", Verdict: doctor.Well, Text: "may not publish to " + cfg.Subject})
	default:
		list = append(list, doctor.Finding{Name: "least right", Verdict: doctor.Unknown, Text: "whether it may publish: " + err.Error()})
	}
	if receives {
		list = append(list, examineMore("may ask nothing else of the stream, of what was tried", asks(l, live, cfg)))
	}
	return list
}

// examineServer dials one server by hand, and takes no longer for it than a run does.
func examineServer(ctx context.Context, cfg Config, server string, add func(name string, err error, well, do string) bool) bool {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	u, err := url.Parse(server)
	if err != nil {
		return add("address", err, "", "correct url")
	}
	at := u.Host
	if u.Port() == "" {
		at = net.JoinHostPort(u.Hostname(), "4222")
	}
	way, err := outbound.New(outbound.Config{Proxy: cfg.Proxy, ProxyCredentials: cfg.ProxyCredentials})
	if err != nil {
		return add("way out", err, "", "correct proxy")
	}
	proxied, err := way.Proxied(at)
	if !add("way out", err, map[bool]string{true: "by a proxy, which resolves the name", false: "directly"}[proxied], "correct proxy, or HTTPS_PROXY") {
		return false
	}
	if !proxied {
		found, err := net.DefaultResolver.LookupHost(ctx, u.Hostname())
		if !add("name", err, strings.Join(found, ", "), "look at the server's name and at this machine's resolver") {
			return false
		}
	}
	conn, err := way.DialContext(ctx, "tcp", at)
	if !add("connection", err, "to "+at, outbound.Advise(err, "let this machine, or the proxy, reach "+at)) {
		return false
	}
	defer conn.Close()
	// The server speaks first, in the open, and what it says there is not believed: a line of INFO.
	var line [64 << 10]byte
	if d, ok := ctx.Deadline(); ok {
		_ = conn.SetDeadline(d)
	}
	silent := "find out what stands there: a firewall or proxy that lets connections to " + at + " open and passes nothing on, or a mid-point that is away"
	switch n, err := conn.Read(line[:]); {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return add("server", errors.New("the connection stands, and nothing came on it in time"), "", silent)
	case err != nil:
		return add("server", fmt.Errorf("it is no NATS server (%v)", err), "", "look at url")
	case !strings.HasPrefix(string(line[:n]), "INFO "):
		return add("server", errors.New("it is no NATS server: that would have spoken first, with INFO"), "", "look at url")
	}
	conf, err := cfg.tls()
	if err != nil {
		return add("tls", err, "", "look at ca")
	}
	conf.ServerName = u.Hostname()
	secure := tls.Client(conn, conf)
	do := "name the authority that vouches for it under ca"
	if err = secure.HandshakeContext(ctx); errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded) {
		err, do = errors.New("the connection stands, and nothing more came on it in time"), silent
	}
	return add("tls", err, "the certificate is one that we trust", do)
}

// maySend tries to publish what the stream must refuse: nil, it would have taken another message; ErrRefused, it takes none
// of ours.
func maySend(l *link, live context.Context, cfg Config) error {
	l.forgetDenied()
	_, err := ask(l, live, func(ctx context.Context) (*jetstream.PubAck, error) {
		return l.js.PublishMsg(ctx, &nats.Msg{Subject: cfg.Subject, Header: nats.Header{jetstream.ExpectedStreamHeader: []string{"no-such-stream-" + cfg.Stream}}}, jetstream.WithRetryAttempts(0))
	})
	var api *jetstream.APIError
	switch {
	case errors.As(err, &api): // it came as far as the stream
		return nil
	case err == nil:
		return fmt.Errorf("stream %s took what it had to refuse", cfg.Stream)
	}
	return err
}

// try is something that a credential does not need.
type try struct {
	what string
	may  func() (bool, error)
}

// asks are tries of the stream's administration, without effect.
func asks(l *link, live context.Context, cfg Config) []try {
	return []try{
		{"ask who reads the stream", func() (bool, error) { return mayAsk(l, live, cfg, "$JS.API.CONSUMER.NAMES."+cfg.Stream) }},
		{"delete streams", func() (bool, error) { return mayAsk(l, live, cfg, "$JS.API.STREAM.DELETE.no-such-stream-"+cfg.Stream) }},
	}
}

// examinePublisher tries what a publisher does not need, without effect: to listen to its subject, for no longer than it takes to
// be let, to publish beside it what no stream may keep, and what asks tries.
func examinePublisher(l *link, live context.Context, cfg Config) doctor.Finding {
	return examineMore("may publish to "+cfg.Subject+" and, of what was tried, nothing else", append([]try{
		{"listen to " + cfg.Subject, func() (bool, error) { return mayListen(l, live, cfg.Subject) }},
		{"publish to " + cfg.Subject + ".doctor", func() (bool, error) { return mayAsk(l, live, cfg, cfg.Subject+".doctor") }},
	}, asks(l, live, cfg)...))
}

func examineMore(well string, tries []try) doctor.Finding {
	f := doctor.Finding{Name: "least right", Verdict: doctor.Well, Text: well}
	var more []string
	for _, t := range tries {
		may, err := t.may()
		switch {
		case err != nil:
			f.Verdict, f.Text = doctor.Unknown, "whether it may "+t.what+": "+err.Error()
			return f
		case may:
			more = append(more, t.what)
		}
	}
	if len(more) > 0 {
		f.Verdict, f.Text, f.Do = doctor.Warning, "may "+strings.Join(more, ", and ")+" as well, which this side does not need", "narrow the credential's permissions at the mid-point"
	}
	return f
}

// mayAsk makes one request that changes nothing, and tells whether the server let it pass, whoever answers.
func mayAsk(l *link, live context.Context, cfg Config, subject string) (bool, error) {
	l.forgetDenied()
	_, err := ask(l, live, func(ctx context.Context) (struct{}, error) {
		_, err := l.nc.RequestMsgWithContext(ctx, &nats.Msg{Subject: subject, Header: nats.Header{jetstream.ExpectedStreamHeader: []string{"no-such-stream-" + cfg.Stream}}})
		if errors.Is(err, nats.ErrNoResponders) {
			err = nil
		}
		return struct{}{}, err
	})
	if errors.Is(err, queue.ErrRefused) {
		return false, nil
	}
	return err == nil, err
}

// mayListen subscribes and ends that at once. What comes meanwhile is a copy, and is dropped.
func mayListen(l *link, live context.Context, subject string) (bool, error) {
	ctx, cancel := context.WithTimeout(live, answerWait)
	defer cancel()
	sub, err := l.nc.SubscribeSync(subject)
	if err != nil {
		return false, err
	}
	defer func() { _ = sub.Unsubscribe() }()
	if err := l.nc.FlushWithContext(ctx); err != nil { // a refusal comes before the answer to that
		return false, err
	}
	last := l.nc.LastError()
	return !errors.Is(last, nats.ErrPermissionViolation) || !strings.Contains(last.Error(), `ubscription to "`+subject+`"`), nil
}

// replicas is how many servers are expected to keep the stream.
func (c Config) replicas() int {
	switch {
	case c.Replicas > 0:
		return c.Replicas
	case len(c.URL) > 1:
		return 3
	}
	return 1
}

// examineReplicas asks how many servers keep the stream: the stream itself where the configuration says that we may, else
// the consumer, where we have one, which lies where its stream does. Where one server is enough and nothing was found out,
// there is no finding.
func examineReplicas(l *link, live context.Context, cfg Config, durable bool) (doctor.Finding, bool) {
	f, want := doctor.Finding{Name: "replicas", Verdict: doctor.Unknown}, cfg.replicas()
	var cluster *jetstream.ClusterInfo
	var err error
	l.forgetDenied()
	switch {
	case cfg.CheckStream:
		var s jetstream.Stream
		if s, err = ask(l, live, func(ctx context.Context) (jetstream.Stream, error) { return l.js.Stream(ctx, cfg.Stream) }); err == nil {
			cluster = s.CachedInfo().Cluster
		}
	case durable:
		var c jetstream.Consumer
		if c, err = ask(l, live, func(ctx context.Context) (jetstream.Consumer, error) {
			return l.js.Consumer(ctx, cfg.Stream, cfg.Durable)
		}); err == nil {
			cluster = c.CachedInfo().Cluster
		}
	default:
		f.Text = "how many servers keep the stream: set check_stream where this credential may ask $JS.API.STREAM.INFO." + cfg.Stream
		return f, want > 1
	}
	if err != nil {
		f.Text = "how many servers keep the stream: " + err.Error()
		return f, want > 1
	}
	keep, away := 1, []string(nil)
	if cluster != nil {
		for _, p := range cluster.Replicas {
			if keep++; p.Offline {
				away = append(away, p.Name+" is away")
			} else if !p.Current {
				away = append(away, fmt.Sprintf("%s is %d behind", p.Name, p.Lag))
			}
		}
	}
	switch {
	case keep < want:
		f.Verdict, f.Text = doctor.Warning, fmt.Sprintf("%d of %d expected servers keep the stream: where they are lost, so is what waits there", keep, want)
		f.Do = fmt.Sprintf("nats stream edit %s --replicas %d, or correct replicas here", cfg.Stream, want)
	case len(away) > 0:
		f.Verdict, f.Text = doctor.Warning, fmt.Sprintf("%d servers keep the stream; %s", keep, strings.Join(away, ", "))
		f.Do = "bring it back: the queue goes on as long as more than half of them work"
	default:
		f.Verdict, f.Text = doctor.Well, fmt.Sprintf("%d keep the stream", keep)
	}
	return f, keep > 1 || want > 1
}
