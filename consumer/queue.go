package main

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"

	"jmlbridge/internal/queue"
	"jmlbridge/internal/queue/natsqueue"
)

// watchedQueue tells when fetching begins to fail and when it works again.
type watchedQueue struct {
	queue.Receiver
	changed func(error)

	// Owned by the one goroutine that fetches.
	told bool
	last string // the error that was told; empty: it works
}

// Fetch implements intake.Queue.
func (q *watchedQueue) Fetch(ctx context.Context, max int) ([]queue.Delivery, error) {
	batch, err := q.Receiver.Fetch(ctx, max)
	if ctx.Err() != nil {
		return batch, err
	}
	now := ""
	if err != nil {
		now = err.Error()
	}
	if !q.told || now != q.last {
		q.told, q.last = true, now
		q.changed(err)
	}
	return batch, err
}

// natsConfig is the queue's part of the configuration, with the tenant's proxy where it names none.
func (c *Config) natsConfig() (natsqueue.Config, error) {
	q := c.Queue
	switch t := c.Tenant.Transport; {
	case q.Proxy == "none", q.Proxy == "" && t.Proxy == "none":
		q.Proxy = ""
	case q.Proxy == "" && t.Proxy == "": // as the environment says for the first server
		if len(q.URL) == 0 {
			return q, nil
		}
		server, err := url.Parse(q.URL[0])
		if err != nil {
			return q, nil // natsqueue says what is wrong with it
		}
		u, err := http.ProxyFromEnvironment(&http.Request{URL: &url.URL{Scheme: "https", Host: server.Host}})
		if err != nil {
			return q, fmt.Errorf("HTTPS_PROXY in the environment is not an address")
		}
		if u != nil {
			q.Proxy = u.String()
		}
	case q.Proxy == "":
		u, err := url.Parse(t.Proxy)
		if err != nil {
			return q, fmt.Errorf("tenant.transport.proxy is not an address")
		}
		if t.ProxyCredentials != "" { // its mode was checked when the transport was made
			line, err := os.ReadFile(t.ProxyCredentials)
			if err != nil {
				return q, err
			}
			user, password, _ := strings.Cut(strings.TrimSpace(string(line)), ":")
			u.User = url.UserPassword(user, password)
		}
		q.Proxy = u.String()
	}
	return q, nil
}
