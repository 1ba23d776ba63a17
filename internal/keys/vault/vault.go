// Package vault keeps private keys in Azure Key Vault or a Managed HSM: a producer's signing key, an enclave's
// decryption key, the key under which a ledger's key is wrapped, and the one that signs checkpoints beside it.
//
// A key is named by the address of its store, its name and its version, and pinned by its thumbprint: what answers
// under that name is used only if its public half is the pinned one. The store is trusted to hold the private half
// and to do what it is asked; that it did is seen in what comes back, and whoever uses a signature verifies it. It
// is NOT trusted to say where a token comes from or what for: its 401 challenge must name the configured authority,
// tenant and resource, or nothing is asked for. Its address must lie in the configured cloud.
//
// No operation here has a way around the store. What could not be asked is an error, which says nothing about the
// message or the key, and the caller tries again; only what the store refused while it demonstrably worked is a
// refusal. All operations can be repeated, so that lost answers, throttling and timeouts are tried again here for
// some seconds before that.
package vault

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"

	"jmlbridge/internal/cloud"
	"jmlbridge/internal/outbound"
)

// Limits of one operation. With a wait that the store asks for above maxDelay it is not repeated here: the
// caller's own pause is longer.
const (
	opTimeout = 10 * time.Second // with all its attempts: a producer signs inside a transaction
	tryTime   = 4 * time.Second
	retries   = 3 // after the first attempt
	minDelay  = 250 * time.Millisecond
	maxDelay  = 4 * time.Second
	maxAnswer = 256 << 10 // octets of an answer; a page of 25 keys takes 10 KiB

	// Parallel is how many operations a caller should have under way at once to hide what each costs: at 15 ms
	// an operation some 2,000 in a second, which is more than a vault's own quota.
	Parallel = 32
)

// Config is how key stores are reached: one credential of its own, that may do nothing else.
type Config struct {
	Cloud      cloud.Config           `yaml:"cloud"`
	Credential cloud.CredentialConfig `yaml:"credential"`
	Transport  outbound.Config        `yaml:"transport"`
}

// Stores asks key stores. It is safe for concurrent use.
type Stores struct {
	ctx   context.Context
	cloud cloud.Cloud
	cred  azcore.TokenCredential
	guard *guard

	mu      sync.Mutex // guards clients; never held across I/O
	clients map[string]*azkeys.Client
}

// Open reads the credential. It sends nothing. When ctx ends, so do operations under way.
func Open(ctx context.Context, cfg Config) (*Stores, error) {
	s := &Stores{ctx: ctx, clients: map[string]*azkeys.Client{}}
	var err error
	if s.cloud, err = cfg.Cloud.Cloud(); err != nil {
		return nil, err
	}
	way, err := outbound.New(cfg.Transport)
	if err != nil {
		return nil, err
	}
	transport := way.Transport()
	transport.MaxIdleConnsPerHost = Parallel
	cred, err := s.cloud.NewCredential(cfg.Credential, transport)
	if err != nil {
		return nil, err
	}
	s.cred = shortLived{cred}
	s.guard = &guard{next: transport, authority: strings.TrimRight(s.cloud.Authority, "/"), tenant: cfg.Credential.Tenant}
	return s, nil
}

// shortLived asks for tokens that end by themselves. The library's live for a day, until a store says by a challenge
// that they were revoked; the guard follows none of that kind, so that nothing would be signed for that day.
type shortLived struct{ azcore.TokenCredential }

func (c shortLived) GetToken(ctx context.Context, o policy.TokenRequestOptions) (azcore.AccessToken, error) {
	o.EnableCAE = false
	return c.TokenCredential.GetToken(ctx, o)
}

// client is the client of the store at address, which must lie in the cloud.
func (s *Stores) client(address string) (*azkeys.Client, error) {
	root, resource, err := s.cloud.KeyStore(address)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := s.clients[root]; c != nil {
		return c, nil
	}
	c, err := azkeys.NewClient(root, s.cred, &azkeys.ClientOptions{
		ClientOptions: azcore.ClientOptions{
			Cloud:     s.cloud.Azure(),
			Transport: &http.Client{Transport: s.guard.forResource(resource), CheckRedirect: refuseRedirect},
			Retry: policy.RetryOptions{
				MaxRetries: retries, TryTimeout: tryTime, RetryDelay: minDelay, MaxRetryDelay: maxDelay,
			},
			Telemetry: policy.TelemetryOptions{Disabled: true},
		},
		DisableChallengeResourceVerification: true, // the guard compares the whole challenge, not a suffix
	})
	if err != nil {
		return nil, fmt.Errorf("key store %s: %w", root, err)
	}
	s.clients[root] = c
	return c, nil
}

func refuseRedirect(*http.Request, []*http.Request) error {
	return errors.New("redirected; a key store is asked at the configured address only")
}

// within runs f with the time of one operation.
func (s *Stores) within(f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(s.ctx, opTimeout)
	defer cancel()
	return f(ctx)
}
