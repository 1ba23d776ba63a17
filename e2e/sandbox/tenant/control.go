package tenant

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
)

// A controlServer is the control API of a running tenant: not part of Graph,
// on a listener of its own, for whoever has the bearer token.
type controlServer struct {
	*http.Server
	root  string
	token string
}

// ControlToken is the bearer token of the control API.
func (s *Server) ControlToken() string {
	if s.control == nil {
		return ""
	}
	return s.control.token
}

func startControl(s *Server, addr string) (*controlServer, error) {
	network, root := "tcp", ""
	if path, ok := strings.CutPrefix(addr, unixPrefix); ok {
		network, addr, root = "unix", path, addr
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) { // left by one that was killed
			return nil, fmt.Errorf("listen for control: %w", err)
		}
	}
	l, err := net.Listen(network, addr)
	if err != nil {
		return nil, fmt.Errorf("listen for control: %w", err)
	}
	if root == "" {
		root = "https://" + l.Addr().String()
	}
	c := &controlServer{root: root, token: rand.Text()}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /state", func(w http.ResponseWriter, _ *http.Request) { reply(w, s.Snapshot()) })
	mux.HandleFunc("GET /state/comparable", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, s.Snapshot().Comparable()) })
	mux.HandleFunc("GET /journal", func(w http.ResponseWriter, r *http.Request) {
		since, _ := strconv.ParseUint(r.URL.Query().Get("since"), 10, 64) // absent means all
		enc := json.NewEncoder(w)
		for _, e := range s.JournalSince(since) {
			enc.Encode(e) // a caller that is gone is its own problem
		}
	})
	mux.HandleFunc("GET /passwords", func(w http.ResponseWriter, _ *http.Request) { reply(w, s.received.all()) })
	mux.HandleFunc("GET /faults", func(w http.ResponseWriter, _ *http.Request) { reply(w, s.Faults()) })
	mux.HandleFunc("POST /faults", func(w http.ResponseWriter, r *http.Request) {
		raw, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBodyBytes))
		var list []Fault
		if err == nil {
			list, err = ParseFaults(raw)
		}
		var names []string
		if err == nil {
			names, err = s.AddFaults(list...)
		}
		replyOr(w, names, err)
	})
	mux.HandleFunc("DELETE /faults", func(w http.ResponseWriter, _ *http.Request) { s.RemoveFault(""); reply(w, nil) })
	mux.HandleFunc("DELETE /faults/{name}", func(w http.ResponseWriter, r *http.Request) { s.RemoveFault(r.PathValue("name")); reply(w, nil) })
	mux.HandleFunc("POST /outage/{mode}", func(w http.ResponseWriter, r *http.Request) {
		replyOr(w, nil, s.SetOutage(Outage(r.PathValue("mode"))))
	})
	mux.HandleFunc("POST /gates/{name}/release", func(w http.ResponseWriter, r *http.Request) { s.Release(r.PathValue("name")); reply(w, nil) })
	mux.HandleFunc("GET /gates/{name}/held", func(w http.ResponseWriter, r *http.Request) {
		n, err := strconv.Atoi(r.URL.Query().Get("n"))
		if err != nil {
			n = 1
		}
		ctx, stop := context.WithTimeout(r.Context(), waitFor)
		defer stop()
		replyOr(w, nil, s.WaitHeld(ctx, r.PathValue("name"), n))
	})
	mux.HandleFunc("POST /tokens/{app}/revoke", func(w http.ResponseWriter, r *http.Request) {
		replyOr(w, nil, s.RevokeTokens(r.PathValue("app")))
	})
	mux.HandleFunc("POST /plant", func(w http.ResponseWriter, r *http.Request) {
		raw, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBodyBytes))
		var seed Seed
		if err == nil {
			err = decodeYAML(raw, &seed)
		}
		if err == nil {
			err = s.Plant(seed)
		}
		replyOr(w, nil, err)
	})
	c.Server = &http.Server{TLSConfig: s.ca.config(true), TLSNextProto: noHTTP2, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if subtle.ConstantTimeCompare([]byte(r.Header.Get("Authorization")), []byte("Bearer "+c.token)) != 1 {
			http.Error(w, "control wants the bearer token from control.token", http.StatusUnauthorized)
			return
		}
		mux.ServeHTTP(w, r)
	})}
	go c.ServeTLS(l, "", "") // ends with Close; an accept error before that shows as a refused connection
	return c, nil
}

func reply(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(v) // a caller that is gone is its own problem
}

func replyOr(w http.ResponseWriter, v any, err error) {
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	reply(w, v)
}

// ParseFaults reads a YAML or JSON list of faults, or a single one. Unknown
// keys and what no fault can be are refused; durations are written like 2s.
func ParseFaults(raw []byte) ([]Fault, error) {
	var list []Fault
	trimmed := bytes.TrimSpace(raw)
	if len(trimmed) > 0 && trimmed[0] == '{' {
		var one Fault
		if err := decodeYAML(raw, &one); err != nil {
			return nil, fmt.Errorf("fault: %w", err)
		}
		list = append(list, one)
	} else if err := decodeYAML(raw, &list); err != nil {
		return nil, fmt.Errorf("faults: %w", err)
	}
	for _, x := range list {
		if _, err := compile(x); err != nil {
			return nil, err
		}
	}
	return list, nil
}
