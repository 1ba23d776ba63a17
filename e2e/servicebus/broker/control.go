package broker

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"

	"jmlbridge/e2e/servicebus/entity"
)

// Control is the control API of a running broker: no part of Service Bus, on a
// listener of its own, for whoever has the bearer token.
type Control struct {
	URL   string
	Token string

	server *http.Server
}

// Control opens the control API at an address, with the broker's certificate.
func (b *Broker) Control(addr string) (*Control, error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("listen for control: %w", err)
	}
	_, port, _ := net.SplitHostPort(l.Addr().String())
	c := &Control{URL: "https://" + net.JoinHostPort(b.hosts[0], port), Token: rand.Text()}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /counts", func(w http.ResponseWriter, _ *http.Request) {
		all := map[string]entity.Counts{}
		for _, path := range b.Entities() {
			if c, ok := b.Counts(path); ok {
				all[path] = c
			}
		}
		reply(w, all)
	})
	mux.HandleFunc("GET /faults", func(w http.ResponseWriter, _ *http.Request) { reply(w, b.Faults()) })
	mux.HandleFunc("POST /faults", func(w http.ResponseWriter, r *http.Request) {
		raw, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxControl))
		var list []Fault
		if err == nil {
			list, err = ParseFaults(raw)
		}
		var names []string
		if err == nil {
			names, err = b.AddFaults(list...)
		}
		replyOr(w, names, err)
	})
	mux.HandleFunc("DELETE /faults", func(w http.ResponseWriter, _ *http.Request) { b.RemoveFault(""); reply(w, nil) })
	mux.HandleFunc("DELETE /faults/{name}", func(w http.ResponseWriter, r *http.Request) { b.RemoveFault(r.PathValue("name")); reply(w, nil) })
	mux.HandleFunc("POST /outage/{mode}", func(w http.ResponseWriter, r *http.Request) { replyOr(w, nil, b.outage(r.PathValue("mode"))) })
	mux.HandleFunc("POST /reset", func(w http.ResponseWriter, _ *http.Request) { b.Reset(); reply(w, nil) })
	mux.HandleFunc("POST /close", func(w http.ResponseWriter, r *http.Request) {
		b.CloseConnections(r.FormValue("condition"))
		reply(w, nil)
	})
	mux.HandleFunc("POST /detach", func(w http.ResponseWriter, r *http.Request) {
		reply(w, map[string]int{"links": b.DetachLinks(r.FormValue("entity"), r.FormValue("condition"))})
	})
	mux.HandleFunc("POST /expire-locks", func(w http.ResponseWriter, r *http.Request) { b.ExpireLocks(r.FormValue("entity")); reply(w, nil) })
	mux.HandleFunc("POST /disable", func(w http.ResponseWriter, r *http.Request) { b.Disable(r.FormValue("entity"), true); reply(w, nil) })
	mux.HandleFunc("POST /enable", func(w http.ResponseWriter, r *http.Request) { b.Disable(r.FormValue("entity"), false); reply(w, nil) })
	mux.HandleFunc("POST /gates/{name}/release", func(w http.ResponseWriter, r *http.Request) { b.Release(r.PathValue("name")); reply(w, nil) })
	mux.HandleFunc("GET /gates/{name}/held", func(w http.ResponseWriter, r *http.Request) {
		n, err := strconv.Atoi(r.URL.Query().Get("n"))
		if err != nil {
			n = 1
		}
		ctx, stop := context.WithTimeout(r.Context(), controlWait)
		defer stop()
		replyOr(w, nil, b.WaitHeld(ctx, r.PathValue("name"), n))
	})
	c.server = &http.Server{TLSConfig: b.ca.server(), ReadHeaderTimeout: handshakeTime, TLSNextProto: map[string]func(*http.Server, *tls.Conn, http.Handler){},
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if subtle.ConstantTimeCompare([]byte(r.Header.Get("Authorization")), []byte("Bearer "+c.Token)) != 1 {
				http.Error(w, "control wants the bearer token from control.token", http.StatusUnauthorized)
				return
			}
			mux.ServeHTTP(w, r)
		})}
	go c.server.ServeTLS(l, "", "") // ends with Close; an accept error before that shows as a refused connection
	return c, nil
}

// Close ends it.
func (c *Control) Close() error { return c.server.Close() }

// outage puts the network into a state.
func (b *Broker) outage(mode string) error {
	switch mode {
	case "none":
		b.Silence(false)
		return b.Start()
	case "refused":
		b.Stop()
	case "silent":
		b.Silence(true)
	default:
		return fmt.Errorf("outage %q: expected none, refused or silent", mode)
	}
	return nil
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
