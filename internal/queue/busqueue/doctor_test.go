package busqueue_test

import (
	"context"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"jmlbridge/e2e/servicebus/broker"
	"jmlbridge/internal/doctor"
	"jmlbridge/internal/outbound/proxytest"
	"jmlbridge/internal/queue/busqueue"
)

// Each step that fails is named with what to do about it, nothing behind it is tried, and a credential that can do more is told of.
func TestExamine(t *testing.T) {
	s := newBus(t, broker.Queue{})
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	elsewhere := func(address string) func(*busqueue.Config) {
		return func(c *busqueue.Config) {
			c.Namespace = address
			c.ConnectionFile = filepath.Join(t.TempDir(), "sas")
			text, _ := os.ReadFile(s.files["listener"])
			write(t, c.ConnectionFile, strings.Replace(string(text), s.Host(), c.Namespace, 1), 0o600)
		}
	}
	disabled := newBus(t, broker.Queue{})
	p := proxytest.New(t, "user:p@ss")
	disabled.Disable(testQueue, true)
	for name, c := range map[string]struct {
		rule     string
		receives bool
		edit     func(*busqueue.Config)
		want     string // the last finding: name, verdict and a word of it
		warns    bool
		do       string // a part of what is to be done
	}{
		"well":          {"listener", true, nil, "least right unknown manage", false, ""}, // the endpoint has no management over HTTP
		"well, sender":  {"sender", false, nil, "least right unknown manage", false, ""},
		"WebSocket":     {"listener", true, func(c *busqueue.Config) { c.Transport = busqueue.WebSocket }, "least right unknown manage", false, ""},
		"too much":      {"manager", true, nil, "least right unknown manage", true, ""},
		"too much, too": {"manager", false, nil, "least right unknown manage", true, ""},
		"all queues":    {"listener", true, func(c *busqueue.Config) { c.ConnectionFile = s.files["listener"] }, "least right unknown manage", true, ""},
		"wrong side":    {"sender", true, nil, "credential bad listen", false, "right to listen"},
		"no queue":      {"listener", true, func(c *busqueue.Config) { c.Queue, c.ConnectionFile = "other", s.files["listener"] }, "credential bad no such queue", false, "correct queue (other)"},
		"no file":       {"listener", true, func(c *busqueue.Config) { c.ConnectionFile = "/nowhere" }, "settings bad nowhere", false, "block"},
		"certificate":   {"listener", true, func(c *busqueue.Config) { c.CA = newBus(t, broker.Queue{}).ca }, "tls bad certificate", false, "under ca"},
		"disabled":      {"listener", true, func(c *busqueue.Config) { *c = disabled.config("listener") }, "credential bad disabled", false, "enabled"},
		"other machine": {"listener", true, elsewhere(talker(t, "HTTP/1.1 400 Bad Request\r\n\r\n")), "tls bad not answer", false, "does not speak TLS"},
		"nobody there":  {"listener", true, elsewhere(closed.Addr().String()), "connection bad refused", false, "reach"},
		"proxy's word":  {"listener", true, func(c *busqueue.Config) { c.Proxy = p.URL() }, "connection bad 407", false, "proxy_credentials"},
		"no such name":  {"listener", true, elsewhere("nowhere.invalid:5671"), "name bad nowhere.invalid", false, "resolver"},
	} {
		t.Run(name, func(t *testing.T) {
			conf := s.config(c.rule)
			conf.ConnectionFile = filepath.Join(t.TempDir(), "sas")
			write(t, conf.ConnectionFile, s.ConnectionString(c.rule)+";EntityPath="+testQueue, 0o600)
			if c.edit != nil {
				c.edit(&conf)
			}
			var found []doctor.Finding
			busqueue.Examine(limited(t), conf, c.receives, func(f doctor.Finding) { found = append(found, f) })
			warned := false
			for _, f := range found {
				warned = warned || f.Verdict == doctor.Warning
			}
			last := found[len(found)-1]
			got := last.Name + " " + string(last.Verdict) + " " + last.Text
			for word := range strings.FieldsSeq(c.want) {
				if !strings.Contains(got, word) {
					t.Fatalf("the last finding is %q; expected %q in it", got, c.want)
				}
			}
			if !strings.Contains(last.Do, c.do) {
				t.Errorf("it says to do %q; expected %q in it", last.Do, c.do)
			}
			if warned != c.warns || doctor.Failed(found) != (last.Verdict == doctor.Bad) {
				t.Errorf("warned %t, failed %t: %+v", warned, doctor.Failed(found), found)
			}
		})
	}
	if c, _ := s.Counts(testQueue); c.Sent+c.Delivered != 0 {
		t.Errorf("it touched the queue: %+v", c)
	}
}

// On a network that passes nothing on it is said which step has no answer, and not that an authority is missing.
func TestExamineSilence(t *testing.T) {
	s := newBus(t, broker.Queue{})
	s.Silence(true)
	for _, transport := range []string{busqueue.AMQP, busqueue.WebSocket} {
		conf := s.config("listener")
		conf.Transport = transport
		var found []doctor.Finding
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		busqueue.Examine(ctx, conf, true, func(f doctor.Finding) { found = append(found, f) })
		cancel()
		last := found[len(found)-1]
		if last.Name != "tls" || last.Verdict != doctor.Bad || !strings.Contains(last.Text, "does not answer") || !strings.Contains(last.Do, "firewall") {
			t.Errorf("%s: the last finding is %+v", transport, last)
		}
	}
}

// talker says text to whoever connects.
func talker(t *testing.T, text string) (address string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(conn, text)
			_, _ = io.Copy(io.Discard, conn)
			conn.Close()
		}
	}()
	return l.Addr().String()
}
