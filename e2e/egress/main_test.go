package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"
)

// begin runs the program and returns its address.
func begin(t *testing.T, allow string) string {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	out, in := io.Pipe()
	ended := make(chan int)
	var stderr bytes.Buffer
	go func() {
		code := run(ctx, []string{"-listen", "127.0.0.1:0", "-allow", allow}, in, &stderr)
		in.Close()
		ended <- code
	}()
	lines := json.NewDecoder(out)
	var ready struct{ Msg, Address string }
	if err := lines.Decode(&ready); err != nil || ready.Msg != "egress ready" {
		t.Fatalf("want a ready line, got %+v, %v; %s", ready, err, stderr.String())
	}
	go io.Copy(io.Discard, io.MultiReader(lines.Buffered(), out))
	t.Cleanup(func() {
		stop()
		if code := <-ended; code != 0 {
			t.Errorf("ended with %d: %s", code, stderr.String())
		}
	})
	return ready.Address
}

// ask sends a request head and returns the answer's status with the connection behind it.
func ask(t *testing.T, proxy, head string) (int, net.Conn, *bufio.Reader) {
	t.Helper()
	c, err := net.Dial("tcp", proxy)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if _, err := io.WriteString(c, head); err != nil {
		t.Fatal(err)
	}
	in := bufio.NewReader(c)
	resp, err := http.ReadResponse(in, &http.Request{Method: http.MethodConnect})
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, c, in
}

func TestLetsThroughWhatIsAllowedOnly(t *testing.T) {
	echo, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer echo.Close()
	accepted := make(chan net.Conn, 1)
	go func() {
		for {
			c, err := echo.Accept()
			if err != nil {
				return
			}
			accepted <- c
			go func() { io.Copy(c, c); c.Close() }()
		}
	}()
	proxy := begin(t, " Mid-Point.example:4222, "+echo.Addr().String())

	code, c, in := ask(t, proxy, fmt.Sprintf("CONNECT %[1]s HTTP/1.1\r\nHost: %[1]s\r\n\r\n", echo.Addr()))
	if code != http.StatusOK {
		t.Fatalf("want 200 for an allowed destination, got %d", code)
	}
	if _, err := io.WriteString(c, "through\n"); err != nil {
		t.Fatal(err)
	}
	if line, err := in.ReadString('\n'); err != nil || line != "through\n" {
		t.Fatalf("through the tunnel came %q, %v", line, err)
	}
	(<-accepted).Close()

	_, port, _ := net.SplitHostPort(echo.Addr().String())
	for _, head := range []string{
		"CONNECT localhost:" + port + " HTTP/1.1\r\nHost: localhost:" + port + "\r\n\r\n", // another spelling is another destination
		"CONNECT 127.0.0.1:1 HTTP/1.1\r\nHost: 127.0.0.1:1\r\n\r\n",
		"GET http://" + echo.Addr().String() + "/ HTTP/1.1\r\nHost: " + echo.Addr().String() + "\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
		// The request line says where to; a Host header that says otherwise opens nothing.
		"CONNECT 127.0.0.1:1 HTTP/1.1\r\nHost: " + echo.Addr().String() + "\r\n\r\n",
		"CONNECT / HTTP/1.1\r\nHost: " + echo.Addr().String() + "\r\n\r\n", // would be port 80 of the proxy itself
	} {
		if code, _, _ := ask(t, proxy, head); code != http.StatusForbidden {
			t.Errorf("%q: want 403, got %d", head, code)
		}
	}
	select {
	case <-accepted:
		t.Error("a destination was reached that must not be")
	default:
	}
	if code := run(t.Context(), []string{"-listen", proxy, "-check"}, io.Discard, io.Discard); code != 0 {
		t.Errorf("-check of a proxy that listens: want 0, got %d", code)
	}
}

// Whoever stands outside and keeps a connection that the inside has ended must not keep the proxy's end of it.
func TestEndsBothEnds(t *testing.T) {
	outside, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer outside.Close()
	proxy := begin(t, outside.Addr().String())
	for _, inner := range []bool{true, false} { // who ends it
		code, c, in := ask(t, proxy, fmt.Sprintf("CONNECT %[1]s HTTP/1.1\r\nHost: %[1]s\r\n\r\n", outside.Addr()))
		if code != http.StatusOK {
			t.Fatalf("want 200, got %d", code)
		}
		far, err := outside.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer far.Close()
		first, other, heard := c, far, io.Reader(far)
		if !inner {
			first, other, heard = far, c, in
		}
		if err := first.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, heard); err != nil {
			t.Fatal(err)
		}
		// Our end stays open and says nothing.
		for until := time.Now().Add(20 * time.Second); tunnels() > 0; runtime.Gosched() {
			if time.Now().After(until) {
				t.Fatalf("ended by the inside %v: the proxy keeps the other end", inner)
			}
		}
		other.Close()
	}
}

// tunnels counts the goroutines that carry what goes through.
func tunnels() int {
	stacks := make([]byte, 1<<20)
	return strings.Count(string(stacks[:runtime.Stack(stacks, true)]), "elazarl/goproxy.copy")
}

func TestMisuse(t *testing.T) {
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{}, 2, "want -listen"},
		{[]string{"-listen", "127.0.0.1:0"}, 2, "-allow"},
		{[]string{"-listen", "127.0.0.1:0", "-allow", "a:1", "more"}, 2, "want -listen"},
		{[]string{"-listen", "127.0.0.1:0", "-allow", "a:1,"}, 2, "want HOST:PORT, got \"\""},
		{[]string{"-listen", "127.0.0.1:0", "-allow", "a"}, 2, "want HOST:PORT"},
		{[]string{"-listen", "127.0.0.1:0", "-allow", ":80"}, 2, "want HOST:PORT"},
		{[]string{"-listen", "192.0.2.1:0", "-allow", "a:1"}, 1, "192.0.2.1"},
		{[]string{"-listen", "127.0.0.1:1", "-check"}, 1, "refused"},
	} {
		var stderr strings.Builder
		if code := run(t.Context(), c.args, io.Discard, &stderr); code != c.code || !strings.Contains(stderr.String(), c.want) {
			t.Errorf("%q: want %d and %q, got %d and %q", c.args, c.code, c.want, code, stderr.String())
		}
	}
}
