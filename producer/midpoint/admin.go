package midpoint

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"
)

// maxUnsettled is how many messages the enclave may have in hand at a time.
const maxUnsettled = 20_000

// adminWait bounds one administrative request to our own server.
const adminWait = 30 * time.Second

// admin is the mid-point's own way into one enclave's account, inside this process.
type admin struct {
	nc      *nats.Conn
	js      jetstream.JetStream
	enclave Enclave
}

// adminKeys are the mid-point's own keys, one for each enclave's account. They are made at each
// start, are written nowhere and open in-process connections only.
type adminKeys map[string]adminKey

type adminKey struct {
	public string
	pair   nkeys.KeyPair
}

func newAdminKeys(cfg Config) (adminKeys, error) {
	out := make(adminKeys)
	for _, e := range cfg.Enclaves {
		kp, err := nkeys.CreateUser()
		if err != nil {
			return nil, err
		}
		pub, err := kp.PublicKey()
		if err != nil {
			return nil, err
		}
		out[e.Name] = adminKey{pub, kp}
	}
	return out, nil
}

func newAdmin(srv *server.Server, e Enclave, key adminKey) (*admin, error) {
	nc, err := nats.Connect("", nats.InProcessServer(srv), nats.Nkey(key.public, key.pair.Sign), nats.NoReconnect())
	if err != nil {
		return nil, fmt.Errorf("mid-point: connect to our own server: %w", err)
	}
	js, err := jetstream.New(nc)
	if err != nil {
		nc.Close()
		return nil, fmt.Errorf("mid-point: %w", err)
	}
	return &admin{nc, js, e}, nil
}

// stream is what an enclave's stream looks like; nothing about it is left to the server's defaults
// that could lose a message.
func (e Enclave) stream() jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name:        e.Stream(),
		Subjects:    []string{e.Subject()},
		Retention:   jetstream.LimitsPolicy,
		Storage:     jetstream.FileStorage,
		PersistMode: jetstream.DefaultPersistMode, // written before it is confirmed
		Discard:     jetstream.DiscardNew,
		MaxBytes:    e.MaxMiB << 20,
		MaxMsgs:     -1,
		MaxMsgSize:  maxMessage,
		Duplicates:  e.DuplicateWindow,
		Replicas:    1,
		DenyDelete:  true,
		// Nobody settles what is read dark: it goes by age, and is read by number.
		MaxAge:      e.Keep,
		AllowDirect: e.dark(),
	}
}

func (e Enclave) consumer() jetstream.ConsumerConfig {
	return jetstream.ConsumerConfig{
		Durable:       durable,
		DeliverPolicy: jetstream.DeliverAllPolicy,
		AckPolicy:     jetstream.AckExplicitPolicy,
		AckWait:       e.Lease,
		MaxDeliver:    -1, // it comes until it is settled
		MaxAckPending: maxUnsettled,
	}
}

// create makes e's stream and consumer. Where the stream is already there (Add after a crash) it is
// adjusted instead.
func create(ctx context.Context, a *admin) error {
	ctx, cancel := context.WithTimeout(ctx, adminWait)
	defer cancel()
	e := a.enclave
	_, err := a.js.Stream(ctx, e.Stream())
	if err == nil {
		return adjust(ctx, a)
	}
	if !errors.Is(err, jetstream.ErrStreamNotFound) {
		return fmt.Errorf("stream %s: %w", e.Stream(), err)
	}
	if _, err := a.js.CreateStream(ctx, e.stream()); err != nil {
		return fmt.Errorf("create stream %s: %w", e.Stream(), err)
	}
	if e.dark() {
		return nil
	}
	if _, err := a.js.CreateConsumer(ctx, e.Stream(), e.consumer()); err != nil {
		return fmt.Errorf("create the consumer of stream %s: %w", e.Stream(), err)
	}
	return nil
}

// adjust brings the limits of an existing stream in line with the configuration. It creates no
// stream; a lost consumer holds no message, so it alone is made again.
func adjust(ctx context.Context, a *admin) error {
	ctx, cancel := context.WithTimeout(ctx, adminWait)
	defer cancel()
	e := a.enclave
	_, err := a.js.Stream(ctx, e.Stream())
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return refusef("store", "enclave %s has no stream in this store: is it the right store, or has the enclave not been added yet?", e.Name)
	}
	if err != nil {
		return fmt.Errorf("stream %s: %w", e.Stream(), err)
	}
	if _, err := a.js.UpdateStream(ctx, e.stream()); err != nil {
		return fmt.Errorf("stream %s in the store does not fit the configuration: %w", e.Stream(), err)
	}
	if e.dark() { // one that was there before would only stand for something that nobody does
		if err := a.js.DeleteConsumer(ctx, e.Stream(), durable); err != nil && !errors.Is(err, jetstream.ErrConsumerNotFound) {
			return fmt.Errorf("remove the consumer of stream %s, which is pulled dark: %w", e.Stream(), err)
		}
		return nil
	}
	if _, err := a.js.CreateOrUpdateConsumer(ctx, e.Stream(), e.consumer()); err != nil {
		return fmt.Errorf("the consumer of stream %s does not fit the configuration: %w", e.Stream(), err)
	}
	return nil
}
