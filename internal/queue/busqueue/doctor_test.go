package busqueue_test

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"jmlbridge/e2e/servicebus/broker"
	"jmlbridge/internal/doctor"
	"jmlbridge/internal/queue/busqueue"
)

// Each step that fails is named, nothing behind it is tried, and a credential that can do more is told of.
func TestExamine(t *testing.T) {
	s := newBus(t, broker.Queue{})
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	for name, c := range map[string]struct {
		rule     string
		receives bool
		edit     func(*busqueue.Config)
		want     string // the last finding: name, verdict and a word of it
		warns    bool
	}{
		"well":          {"listener", true, nil, "least right unknown manage", false}, // the endpoint has no management over HTTP
		"well, sender":  {"sender", false, nil, "least right unknown manage", false},
		"WebSocket":     {"listener", true, func(c *busqueue.Config) { c.Transport = busqueue.WebSocket }, "least right unknown manage", false},
		"too much":      {"manager", true, nil, "least right unknown manage", true},
		"too much, too": {"manager", false, nil, "least right unknown manage", true},
		"all queues":    {"listener", true, func(c *busqueue.Config) { c.ConnectionFile = s.files["listener"] }, "least right unknown manage", true},
		"wrong side":    {"sender", true, nil, "credential bad listen", false},
		"no queue":      {"listener", true, func(c *busqueue.Config) { c.Queue, c.ConnectionFile = "other", s.files["listener"] }, "credential bad no such queue", false},
		"no file":       {"listener", true, func(c *busqueue.Config) { c.ConnectionFile = "/nowhere" }, "settings bad nowhere", false},
		"certificate":   {"listener", true, func(c *busqueue.Config) { c.CA = newBus(t, broker.Queue{}).ca }, "tls bad certificate", false},
		"nobody there": {"listener", true, func(c *busqueue.Config) {
			c.Namespace = closed.Addr().String()
			c.ConnectionFile = filepath.Join(t.TempDir(), "sas")
			text, _ := os.ReadFile(s.files["listener"])
			write(t, c.ConnectionFile, strings.Replace(string(text), s.Host(), c.Namespace, 1), 0o600)
		}, "connection bad refused", false},
		"no such name": {"listener", true, func(c *busqueue.Config) {
			c.Namespace = "nowhere.invalid:5671"
			c.ConnectionFile = filepath.Join(t.TempDir(), "sas")
			text, _ := os.ReadFile(s.files["listener"])
			write(t, c.ConnectionFile, strings.Replace(string(text), s.Host(), c.Namespace, 1), 0o600)
		}, "name bad nowhere.invalid", false},
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
			if warned != c.warns || doctor.Failed(found) != (last.Verdict == doctor.Bad) {
				t.Errorf("warned %t, failed %t: %+v", warned, doctor.Failed(found), found)
			}
		})
	}
	if c, _ := s.Counts(testQueue); c.Sent+c.Delivered != 0 {
		t.Errorf("it touched the queue: %+v", c)
	}
}
