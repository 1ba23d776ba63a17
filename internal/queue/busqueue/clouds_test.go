package busqueue_test

import (
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"jmlbridge/e2e/servicebus/broker"
	"jmlbridge/internal/cloud"
	"jmlbridge/internal/cloud/cloudtest"
	"jmlbridge/internal/doctor"
	"jmlbridge/internal/queue/busqueue"
)

// shown notes the tokens that a namespace is shown, and lets them in.
type shown struct {
	mu   sync.Mutex // guards list
	list []string
}

func (s *shown) Verify(token, path string, now time.Time) (broker.Rights, time.Time, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.list = append(s.list, path+" with "+token)
	return broker.Listen, now.Add(time.Hour), nil
}

// In every cloud the unmodified client logs in at that cloud's authority for Service Bus, goes to the namespace's own host and
// shows the token there and nowhere else, as audience the queue of that namespace.
func TestClouds(t *testing.T) {
	const scope = "https://servicebus.azure.net//.default"
	for name, c := range map[string]struct {
		cloud            cloud.Config
		namespace, login string
	}{
		"public":     {cloud.Config{Name: "AzurePublic"}, "jml.servicebus.windows.net", "login.microsoftonline.com"},
		"government": {cloud.Config{Name: "AzureGovernment"}, "jml.servicebus.usgovcloudapi.net", "login.microsoftonline.us"},
		"DoD":        {cloud.Config{Name: "AzureGovernmentDoD"}, "jml.servicebus.usgovcloudapi.net", "login.microsoftonline.us"},
		"custom":     {cloud.Config{Name: "custom", Authority: "https://login.example", ServiceBus: "bus.example"}, "jml.bus.example", "login.example"},
	} {
		t.Run(name, func(t *testing.T) {
			var tokens shown
			b, err := broker.Start(broker.Config{Listen: broker.PipeOnly, Hosts: []string{c.namespace}, Queues: []broker.Queue{{Name: testQueue}}, Tokens: &tokens})
			if err != nil {
				t.Fatal(err)
			}
			defer b.Close()
			o := outside(t, b, http.StatusForbidden, "")
			found := examine(t, o, c.cloud, c.namespace)
			if doctor.Failed(found) || !strings.Contains(found[len(found)-1].Text, "may not manage") {
				t.Errorf("it found %+v", found)
			}
			said := []string{c.namespace + " with " + cloudtest.Token(scope), "login " + c.login + " for " + scope}
			slices.Sort(said)
			if got := o.Said(); !slices.Equal(got, said) {
				t.Errorf("it asked %q, expected %q", got, said)
			}
			asked := o.Asked()
			slices.Sort(asked)
			want := []string{c.namespace + ":443", c.namespace + ":5671", c.login + ":443"}
			slices.Sort(want)
			if got := slices.Compact(asked); !slices.Equal(got, want) {
				t.Errorf("the proxy was asked for %q, expected %q", got, want)
			}
			tokens.mu.Lock()
			defer tokens.mu.Unlock()
			slices.Sort(tokens.list)
			if got, want := slices.Compact(tokens.list), []string{testQueue + " with " + cloudtest.Token(scope)}; !slices.Equal(got, want) {
				t.Errorf("the namespace was shown %q, expected %q", got, want)
			}
		})
	}
}

// outside is the whole outside, in which every namespace is b; asked for the queue's settings it says what is given.
func outside(t *testing.T, b *broker.Broker, status int, settings string) *cloudtest.Outside {
	o := cloudtest.New(t)
	o.Service = func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_, _ = io.WriteString(w, settings)
	}
	o.Other = func(_ string, conn net.Conn) {
		defer conn.Close()
		far, err := b.Pipe()
		if err != nil {
			return
		}
		defer far.Close()
		go func() { _, _ = io.Copy(far, conn); far.Close() }()
		_, _ = io.Copy(conn, far)
	}
	return o
}

// examine is what doctor finds of a receiver with an identity of its own.
func examine(t *testing.T, o *cloudtest.Outside, where cloud.Config, namespace string) (found []doctor.Finding) {
	busqueue.Examine(limited(t), busqueue.Config{
		Namespace: namespace, Queue: testQueue, CA: o.CA, Proxy: o.URL(), Cloud: where,
		Credential: cloud.CredentialConfig{Kind: cloud.ClientSecret, Tenant: cloudtest.Tenant, Client: "client", SecretFile: o.Secret},
	}, true, func(f doctor.Finding) { found = append(found, f) })
	return found
}

// Whoever is told the queue's settings may manage it, which is too much; who is refused may not; and what is no answer is none.
func TestExamineManage(t *testing.T) {
	const namespace = "jml.servicebus.usgovcloudapi.net"
	b, err := broker.Start(broker.Config{Listen: broker.PipeOnly, Hosts: []string{namespace}, Queues: []broker.Queue{{Name: testQueue}}, Tokens: new(shown)})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	for name, c := range map[string]struct {
		status   int
		settings string
		want     doctor.Verdict
	}{
		"told": {http.StatusOK, `<entry xmlns="http://www.w3.org/2005/Atom"><title>jml-gov-1</title><content type="application/xml">` +
			`<QueueDescription xmlns="http://schemas.microsoft.com/netservices/2010/10/servicebus/connect"><LockDuration>PT1M</LockDuration></QueueDescription></content></entry>`, doctor.Warning},
		"refused":   {http.StatusUnauthorized, "", doctor.Well},
		"forbidden": {http.StatusForbidden, "", doctor.Well},
		"broken":    {http.StatusBadGateway, "", doctor.Unknown},
		"nonsense":  {http.StatusOK, "<html>", doctor.Unknown},
	} {
		found := examine(t, outside(t, b, c.status, c.settings), cloud.Config{Name: cloud.AzureGovernment}, namespace)
		last := found[len(found)-1]
		if last.Verdict != c.want || !strings.Contains(last.Text, "manage") {
			t.Errorf("%s: it found %+v, expected %s", name, last, c.want)
		}
	}
}
