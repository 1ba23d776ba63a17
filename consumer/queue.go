package main

import (
	"context"
	"fmt"
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
	case q.Proxy == "none", q.Proxy == "" && (t.Proxy == "" || t.Proxy == "none"):
		q.Proxy = ""
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
