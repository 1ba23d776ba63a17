package busqueue_test

import (
	"encoding/pem"
	"errors"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"jmlbridge/internal/queue"
	"jmlbridge/internal/queue/busqueue"
)

// Whoever answers for the namespace sends us nowhere else: behind us there are hosts that only we can reach.
func TestNoRedirect(t *testing.T) {
	var reached atomic.Int32
	inside := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached.Add(1) }))
	defer inside.Close()
	s := httptest.NewTLSServer(http.RedirectHandler(inside.URL, http.StatusTemporaryRedirect))
	defer s.Close()
	dir, host := t.TempDir(), s.Listener.Addr().String()
	c := busqueue.Config{Namespace: host, Queue: testQueue, Transport: busqueue.WebSocket, Proxy: "none", Patience: 100 * time.Millisecond,
		CA: filepath.Join(dir, "ca.pem"), ConnectionFile: filepath.Join(dir, "listener.sas")}
	write(t, c.CA, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})), 0o644)
	write(t, c.ConnectionFile, "Endpoint=sb://"+host+"/;SharedAccessKeyName=listener;SharedAccessKey=AAAA\n", 0o600)
	p, err := busqueue.OpenPublisher(c)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if _, err := p.Publish(limited(t), messages(0, 1)); !errors.Is(err, queue.ErrUnreachable) || !strings.Contains(err.Error(), "307") {
		t.Errorf("%v; expected ErrUnreachable with the answer", err)
	}
	if n := reached.Load(); n > 0 {
		t.Errorf("%d requests went where the answer pointed", n)
	}
}
