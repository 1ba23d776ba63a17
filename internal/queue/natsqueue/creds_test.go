package natsqueue_test

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"jmlbridge/internal/queue"
	"jmlbridge/internal/queue/natsqueue"
)

// identity is a key of NATS's decentralised authentication, with the name under which others know it.
type identity struct {
	nkeys.KeyPair
	public string
}

func newIdentity(t *testing.T, make func() (nkeys.KeyPair, error)) identity {
	t.Helper()
	kp, err := make()
	if err != nil {
		t.Fatal(err)
	}
	pub, err := kp.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	return identity{kp, pub}
}

// A .creds file, as nsc and hosted NATS hand it out, opens the queue of the account that it is of; what it is not allowed,
// the server refuses; and one of a user whom no account of the server made opens nothing.
func TestCredentialsFile(t *testing.T) {
	dir := t.TempDir()
	operator, account := newIdentity(t, nkeys.CreateOperator), newIdentity(t, nkeys.CreateAccount)
	system, stranger := newIdentity(t, nkeys.CreateAccount), newIdentity(t, nkeys.CreateAccount)
	signed := func(text string, err error) string {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	trusted := jwt.NewOperatorClaims(operator.public)
	trusted.SystemAccount = system.public
	if _, err := jwt.DecodeOperatorClaims(signed(trusted.Encode(operator))); err != nil {
		t.Fatal(err)
	}
	resolver := &server.MemAccResolver{}
	for _, a := range []identity{account, system} {
		claims := jwt.NewAccountClaims(a.public)
		if a == account {
			claims.Limits.JetStreamLimits = jwt.JetStreamLimits{MemoryStorage: jwt.NoLimit, DiskStorage: jwt.NoLimit, Streams: jwt.NoLimit, Consumer: jwt.NoLimit}
		}
		if err := resolver.Store(a.public, signed(claims.Encode(operator))); err != nil {
			t.Fatal(err)
		}
	}
	// creds makes the file of a user who may publish to these subjects; none: to all.
	creds := func(name string, of identity, publish ...string) string {
		user := newIdentity(t, nkeys.CreateUser)
		claims := jwt.NewUserClaims(user.public)
		claims.Pub.Allow.Add(publish...)
		seed, err := user.Seed()
		if err != nil {
			t.Fatal(err)
		}
		text, err := jwt.FormatUserConfig(signed(claims.Encode(of)), seed)
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(dir, name+".creds")
		write(t, file, text, 0o600)
		return file
	}
	s := newServer(t, func(o *server.Options) {
		o.Users, o.Nkeys = nil, nil
		o.TrustedOperators, o.AccountResolver, o.SystemAccount = []*jwt.OperatorClaims{trusted}, resolver, system.public
	})
	s.owner = nats.UserCredentials(creds("owner", account))
	s.create(time.Minute, nil)
	conf := func(file string) natsqueue.Config {
		c := s.config(natsqueue.RoleProducer)
		c.NKey, c.Creds, c.Patience = "", file, 2*time.Second
		return c
	}

	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	p := openPublisher(t, conf(creds("producer", account, testSubject)))
	if n, err := p.Publish(ctx, []queue.Message{{ID: "1", Body: []byte("one")}}); n != 1 || err != nil {
		t.Fatalf("published %d, %v", n, err)
	}
	r := openReceiver(t, conf(creds("consumer", account, "$JS.API.CONSUMER.INFO."+testStream+".enclave", "$JS.API.CONSUMER.MSG.NEXT."+testStream+".enclave", "$JS.ACK."+testStream+".enclave.>")))
	batch, err := r.Fetch(ctx, 10)
	if err != nil || len(batch) != 1 || string(batch[0].Body) != "one" {
		t.Fatalf("fetched %d, %v", len(batch), err)
	}
	if err := r.Settle(ctx, batch); err != nil {
		t.Fatal(err)
	}
	for name, file := range map[string]string{
		"one that may not publish here": creds("other", account, "jml.OTHER"),
		"one of an unknown account":     creds("stranger", stranger, testSubject),
	} {
		p, err := natsqueue.OpenPublisher(conf(file))
		if err == nil {
			_, err = p.Publish(ctx, []queue.Message{{ID: "2", Body: []byte("two")}})
			p.Close()
		}
		if err == nil {
			t.Errorf("%s published", name)
		}
	}
}
