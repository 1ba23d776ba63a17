package natsqueue_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"jmlbridge/internal/queue"
	"jmlbridge/internal/queue/natsqueue"
)

// owned is a server that whoever owns the mid-point wrote: it lets everybody in and says this to whoever subscribes, and that to whoever asks.
func owned(t *testing.T, says func(inbox string) string, answers string) natsqueue.Config {
	t.Helper()
	ca := filepath.Join(t.TempDir(), "ca.pem")
	cert := makeCert(t, ca)
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			raw, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer raw.Close()
				fmt.Fprintf(raw, "INFO {\"server_id\":\"x\",\"version\":\"2.15.2\",\"headers\":true,\"max_payload\":1048576,\"tls_required\":true,\"nonce\":\"abcdefgh\"}\r\n")
				conn := tls.Server(raw, &tls.Config{Certificates: []tls.Certificate{cert}})
				in := bufio.NewReader(conn)
				sid := ""
				for {
					line, err := in.ReadString('\n')
					if err != nil {
						return
					}
					switch {
					case strings.HasPrefix(line, "PING"):
						io.WriteString(conn, "PONG\r\n")
					case strings.HasPrefix(line, "SUB "):
						sid = strings.Fields(line)[2]
						io.WriteString(conn, says(strings.Fields(line)[1]))
					case strings.HasPrefix(line, "PUB "):
						fmt.Fprintf(conn, "MSG %s %s %d\r\n%s\r\n", strings.Fields(line)[2], sid, len(answers), answers)
					}
				}
			}()
		}
	}()
	s := newServer(t, nil)
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return natsqueue.Config{URL: []string{"tls://localhost:" + port}, CA: ca, NKey: s.nkeys[natsqueue.RoleConsumer], Stream: testStream, Patience: time.Second}
}

// A server that announces a message beyond all bounds, or in a way in which the client reads another size than the guard, does
// not end the program: it is refused.
func TestUnsoundServer(t *testing.T) {
	const size = "9223372036854775807"
	for name, says := range map[string]string{
		"a size beyond all bounds": "MSG %s 1 " + size + "\r\nx",
		"with headers":             "HMSG %s 1 12 " + size + "\r\nNATS/1.0\r\n\r\n",
		"a size of a terabyte":     "MSG %s 1 1099511627776\r\nx",
		"no size":                  "MSG %s 1 -1\r\nx",
		"in small letters":         "msg %s 1 " + size + "\r\nx",
		"with tabs":                "MSG\t%s\t1\t" + size + "\r\nx",
		"behind a tab":             "MSG %s 1 " + size + "\t1 1\r\nx",
		"in one line of two":       "PING\rMSG %s 1 " + size + "\r\nx",
		"behind a longer end":      "MSG %s 1 1\r\nxyz\nMSG a 1 " + size + "\r\nx",
		"a line without an end":    "MSG %s" + strings.Repeat("x", 64<<10),
	} {
		t.Run(name, func(t *testing.T) {
			r := openReceiver(t, owned(t, func(inbox string) string { return fmt.Sprintf(says, inbox) }, ""))
			if _, err := r.Fetch(t.Context(), 1); !errors.Is(err, queue.ErrRefused) || !strings.Contains(err.Error(), "not NATS") {
				t.Errorf("want ErrRefused for what is not NATS, got %v", err)
			}
		})
	}
}

// What is too large for a message comes cut, to be refused by whoever reads it: it keeps nothing behind it away.
func TestTooLargeComesCut(t *testing.T) {
	s := newServer(t, nil)
	s.create(time.Minute, nil)
	s.admin(func(ctx context.Context, js jetstream.JetStream) error {
		for _, n := range []int{queue.MaxBody, 512 << 10, 1} {
			if _, err := js.Publish(ctx, testSubject, make([]byte, n)); err != nil {
				return err
			}
		}
		return nil
	})
	dark, err := natsqueue.OpenDark(s.config(natsqueue.RoleConsumer), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer dark.Close()
	for name, r := range map[string]queue.Receiver{"dark": dark, "acked": openReceiver(t, s.config(natsqueue.RoleConsumer))} {
		var sizes []int
		for len(sizes) < 3 {
			batch, err := r.Fetch(t.Context(), 10)
			if err != nil {
				t.Fatal(err)
			}
			for _, d := range batch {
				sizes = append(sizes, len(d.Body))
			}
		}
		if want := []int{queue.MaxBody, queue.MaxBody, 1}; !slices.Equal(sizes, want) {
			t.Errorf("%s: bodies of %d octets; expected %d", name, sizes, want)
		}
	}
}

// What a server says goes into errors, and these into logs: not at any length.
func TestLongAnswers(t *testing.T) {
	long := `{"error":{"code":500,"err_code":1,"description":"` + strings.Repeat("x", 1<<20) + `"}}`
	r := openReceiver(t, owned(t, func(string) string { return "" }, long))
	if _, err := r.Fetch(t.Context(), 1); !errors.Is(err, queue.ErrRefused) || len(err.Error()) > 2<<10 {
		t.Errorf("want ErrRefused in few words, got %d octets: %.200v", len(err.Error()), err)
	}
}

// Callers do not pause after an outage: an answer that is none is not told as one before patience is at its end. Nor is that of a cluster
// without a leader, which is one.
func TestNonsenseTakesPatience(t *testing.T) {
	for name, answer := range map[string]string{
		"no JSON":   "{",
		"no leader": `{"error":{"code":503,"err_code":10008,"description":"JetStream system temporarily unavailable"}}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := owned(t, func(string) string { return "" }, answer)
			c.Patience = 2 * time.Second
			r, began := openReceiver(t, c), time.Now()
			if _, err := r.Fetch(t.Context(), 1); !errors.Is(err, queue.ErrUnreachable) || errors.Is(err, queue.ErrRefused) {
				t.Errorf("want ErrUnreachable, got %v", err)
			}
			if took := time.Since(began); took < c.Patience/2 {
				t.Errorf("told as an outage after %s", took)
			}
		})
	}
}
