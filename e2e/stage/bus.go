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
	"os"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
)

// Bus is what the owner of a Service Bus mid-point may do and see: outages, faults, counts, and messages of their own.
type Bus struct {
	url, token string
	sender     string // connection string of who may send
	roots      *x509.CertPool
	client     *http.Client
}

func newBus(made namespace) (*Bus, error) {
	b := &Bus{url: made.Control, roots: x509.NewCertPool()}
	for file, into := range map[string]*string{made.ControlToken: &b.token, made.Rules["sender"].File: &b.sender} {
		if file == "" { // identities: nobody has a connection string
			continue
		}
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		*into = strings.TrimSpace(string(text))
	}
	ca, err := os.ReadFile(made.CA)
	if err != nil {
		return nil, err
	}
	if !b.roots.AppendCertsFromPEM(ca) {
		return nil, errors.New("the namespace's CA file holds no certificate")
	}
	b.client = &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: b.roots}}}
	return b, nil
}

// poisons are messages that anyone can send who has the producer's credential, and that are made to trip who receives them.
var poisons = map[string]*azservicebus.AMQPAnnotatedMessage{
	"reason": {ApplicationProperties: map[string]any{"DeadLetterReason": int32(1)}, Body: azservicebus.AMQPAnnotatedMessageBody{Data: [][]byte{[]byte("poison")}}}, // the client panics on it
	"huge":   {Body: azservicebus.AMQPAnnotatedMessageBody{Data: [][]byte{bytes.Repeat([]byte("poison "), 35_000)}}},                                               // nearly all that the namespace takes
	"value":  {Body: azservicebus.AMQPAnnotatedMessageBody{Value: "poison"}},                                                                                       // no octets at all
	"two":    {Body: azservicebus.AMQPAnnotatedMessageBody{Data: [][]byte{[]byte("poison"), []byte("poison")}}},
}

// Poison sends one of each kind.
func (b *Bus) Poison(ctx context.Context, kinds ...string) (err error) {
	c, err := azservicebus.NewClientFromConnectionString(b.sender, &azservicebus.ClientOptions{TLSConfig: &tls.Config{RootCAs: b.roots, ServerName: "127.0.0.1"}})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close(ctx)) }()
	s, err := c.NewSender(busQueue, nil)
	if err != nil {
		return err
	}
	for _, kind := range kinds {
		m := poisons[kind]
		if m == nil {
			return fmt.Errorf("there is no poison %q", kind)
		}
		if err := s.SendAMQPAnnotatedMessage(ctx, m, nil); err != nil {
			return fmt.Errorf("send poison %s: %w", kind, err)
		}
	}
	return nil
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
