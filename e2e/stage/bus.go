package stage

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
)

// Bus is what the owner of a Service Bus mid-point may do and see: outages, faults, counts.
type Bus struct {
	url, token string
	client     *http.Client
}

func newBus(address, token string, ca []byte) (*Bus, error) {
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(ca) {
		return nil, errors.New("the namespace's CA file holds no certificate")
	}
	return &Bus{address, token, &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}}}, nil
}

// BusCounts are what the queue holds now, and has done so far.
type BusCounts struct {
	Active, Locked, Dead                   int
	Sent, Delivered, Completed, DeadLetter int
}

func (b *Bus) do(ctx context.Context, method, path, body string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, b.url+path, bytes.NewReader([]byte(body)))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+b.token)
	resp, err := b.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode/100 != 2 {
		err = fmt.Errorf("%s %s: %s: %s", method, path, resp.Status, bytes.TrimSpace(text))
	}
	return text, err
}

// Outage begins one (refused, silent) or ends it (none). What the queues hold stays.
func (b *Bus) Outage(ctx context.Context, mode string) error {
	_, err := b.do(ctx, http.MethodPost, "/outage/"+mode, "")
	return err
}

// Reset breaks every connection.
func (b *Bus) Reset(ctx context.Context) error {
	_, err := b.do(ctx, http.MethodPost, "/reset", "")
	return err
}

// Fault puts faults in force, as YAML.
func (b *Bus) Fault(ctx context.Context, yaml string) error {
	_, err := b.do(ctx, http.MethodPost, "/faults", yaml)
	return err
}

// Mend ends every fault.
func (b *Bus) Mend(ctx context.Context) error {
	_, err := b.do(ctx, http.MethodDelete, "/faults", "")
	return err
}

// ExpireLocks ends every lock, as the time would.
func (b *Bus) ExpireLocks(ctx context.Context) error {
	_, err := b.do(ctx, http.MethodPost, "/expire-locks?entity="+url.QueryEscape(busQueue), "")
	return err
}

// Counts tells what the enclave's queue holds.
func (b *Bus) Counts(ctx context.Context) (c BusCounts, err error) {
	text, err := b.do(ctx, http.MethodGet, "/counts", "")
	if err != nil {
		return c, err
	}
	var all map[string]BusCounts
	if err := json.Unmarshal(text, &all); err != nil {
		return c, fmt.Errorf("read the namespace's counts: %w", err)
	}
	return all[busQueue], nil
}

func (b *Bus) close() { b.client.CloseIdleConnections() }
