package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"

	"jmlbridge/e2e/servicebus/entity"
)

// What the program leaves in its folder is enough for a client to get in.
func TestRun(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "bus")
	namespace := write(t, "queues: [{name: other, lock: 5s}]\ntopics: [{name: events, subscriptions: [{name: audit}]}]\n")
	faults := write(t, "- {on: send, kind: error, condition: amqp:not-allowed, count: 1}\n")
	ctx, stop := context.WithCancel(t.Context())
	out, in := io.Pipe()
	done := make(chan int)
	var stderr bytes.Buffer
	go func() {
		done <- run(ctx, []string{"-dir", dir, "-queue", "jml", "-namespace", namespace, "-faults", faults, "-host", "localhost"}, in, &stderr)
	}()
	var ready, left endpoints
	if err := json.NewDecoder(out).Decode(&ready); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(read(t, filepath.Join(dir, "endpoints.json")), &left); err != nil {
		t.Fatal(err)
	}
	if left.Address != ready.Address || !strings.HasPrefix(left.Host, "localhost:") || len(left.Entities) != 7 || left.WebSocket != "wss://"+left.Host+"/$servicebus/websocket" {
		t.Fatalf("endpoints: %+v", left)
	}
	for _, path := range []string{left.Rules["sender"].File, left.Rules["listener"].File, left.ControlToken, left.Journal, filepath.Join(dir, "endpoints.json")} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", path, info, err)
		}
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(read(t, left.CA)) {
		t.Fatal("no CA certificate")
	}
	host, _, err := net.SplitHostPort(left.Host)
	if err != nil {
		t.Fatal(err)
	}
	limit, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	client, err := azservicebus.NewClientFromConnectionString(strings.TrimSpace(string(read(t, left.Rules["sender"].File))),
		&azservicebus.ClientOptions{TLSConfig: &tls.Config{RootCAs: pool, ServerName: host}})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close(context.WithoutCancel(limit))
	sender, err := client.NewSender("jml", nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := sender.SendMessage(limit, &azservicebus.Message{Body: []byte("x")}, nil); err == nil {
		t.Fatal("the fault did not strike")
	}
	if err := sender.SendMessage(limit, &azservicebus.Message{Body: []byte("x")}, nil); err != nil {
		t.Fatal(err)
	}
	tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}
	defer tr.CloseIdleConnections()
	call := func(method, path, body, token string) (int, []byte) {
		t.Helper()
		req, err := http.NewRequestWithContext(limit, method, left.Control+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+token)
		resp, err := tr.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		raw, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, raw
	}
	token := strings.TrimSpace(string(read(t, left.ControlToken)))
	if code, _ := call("GET", "/counts", "", "wrong"); code != 401 {
		t.Errorf("without its token the control API said %d", code)
	}
	_, raw := call("GET", "/counts", "", token)
	var counts map[string]entity.Counts
	if err := json.Unmarshal(raw, &counts); err != nil || counts["jml"].Active != 1 || len(counts) != 6 {
		t.Errorf("counts: %s, %v", raw, err)
	}
	if code, raw := call("POST", "/faults", "{on: deliver, kind: lose}", token); code != 200 {
		t.Errorf("fault: %d %s", code, raw)
	}
	if code, raw := call("POST", "/faults", "{on: deliver, kind: silence}", token); code != 400 {
		t.Errorf("a fault that cannot be: %d %s", code, raw)
	}
	for _, mode := range []string{"refused", "none", "silent", "none"} {
		if code, raw := call("POST", "/outage/"+mode, "", token); code != 200 {
			t.Errorf("outage %s: %d %s", mode, code, raw)
		}
	}
	stop()
	if code := <-done; code != 0 {
		t.Fatalf("exit code %d: %s", code, stderr.String())
	}
	if text := string(read(t, left.Journal)); strings.Count(text, `"operation":"send"`) != 2 || !strings.Contains(text, `"error":"amqp:not-allowed","fault":"fault-1"`) {
		t.Errorf("journal: %s", text)
	}
}

func TestMisuse(t *testing.T) {
	dir := t.TempDir()
	for _, tt := range []struct {
		name string
		args []string
		code int
		text string
	}{
		{"no folder", []string{"-queue", "jml"}, 2, "-dir is required"},
		{"no entity", []string{"-dir", dir}, 2, "-queue or -namespace is required"},
		{"unknown flag", []string{"-x"}, 2, "-x"},
		{"argument", []string{"-dir", dir, "-queue", "jml", "more"}, 2, `unexpected argument "more"`},
		{"queue twice", []string{"-dir", dir, "-queue", "jml", "-queue", "JML"}, 2, "is there twice"},
		{"name of a queue", []string{"-dir", dir, "-queue", "a b"}, 2, `entity name "a b"`},
		{"no namespace", []string{"-dir", dir, "-namespace", filepath.Join(dir, "none")}, 2, "read namespace"},
		{"unknown key", []string{"-dir", dir, "-namespace", write(t, "queues:\n- {name: a, size: 4}\n")}, 2, "size"},
		{"unknown right", []string{"-dir", dir, "-namespace", write(t, "queues: [{name: a}]\nrules: [{name: r, rights: look}]")}, 2, `right "look"`},
		{"rule without rights", []string{"-dir", dir, "-namespace", write(t, "queues: [{name: a}]\nrules: [{name: r}]")}, 2, "no rights"},
		{"bad fault", []string{"-dir", dir, "-queue", "jml", "-faults", write(t, "- {on: send, kind: nothing}\n")}, 2, `kind "nothing"`},
		{"address taken", []string{"-dir", dir, "-queue", "jml", "-listen", "256.0.0.1:0"}, 1, "listen"},
	} {
		var stderr bytes.Buffer
		if code := run(t.Context(), tt.args, io.Discard, &stderr); code != tt.code || !strings.Contains(stderr.String(), tt.text) {
			t.Errorf("%s: code %d, %s", tt.name, code, stderr.String())
		}
	}
}

func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}
