// Package entra is a tenant of Microsoft Entra, reached through Microsoft Graph. It alone knows Graph;
// what it gives and takes are package directory's words.
//
// One call of a method makes one attempt at one operation: nothing here repeats a request. Whoever calls
// decides what to do about an error, for only he knows whether he must look first. The SDK's own
// middlewares are left out for that reason, and because they corrupt the bodies that they repeat.
//
// Nothing that comes back is trusted to have a form. Our transport reads every answer whole before the
// SDK sees it, takes status and code from it, and gives the SDK only what can be a good answer: an answer
// cut short, a page of a proxy, broken JSON, a redirect or a 200 where Graph says 204 never pass for success. What the tenant or a
// gateway wrote as text is matched and forgotten, since it can name people; so is the text of the SDK's
// errors, which carry the address and with it a UPN.
//
// A [Tenant] has one credential. Cutting and granting use one Tenant each where they have a credential each.
package entra

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"regexp"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	auth "github.com/microsoft/kiota-authentication-azure-go"
	khttp "github.com/microsoft/kiota-http-go"
	kjson "github.com/microsoft/kiota-serialization-json-go"
	"github.com/microsoftgraph/msgraph-sdk-go/groups"
	"github.com/microsoftgraph/msgraph-sdk-go/users"

	"jmlbridge/internal/cloud"
	"jmlbridge/internal/directory"
)

// DefaultMarkAttribute holds the ownership mark where nothing else is configured.
const DefaultMarkAttribute = "extensionAttribute15"

// Config is what a Tenant needs.
type Config struct {
	Cloud      cloud.Cloud
	Credential cloud.CredentialConfig
	// Transport carries token requests and Graph alike; see outbound.Way. It must not repeat requests
	// of its own. Required.
	Transport http.RoundTripper
	// MarkAttribute holds the ownership mark: extensionAttribute1 to 15, or a directory extension
	// extension_<application id without dashes>_<name>. Default: extensionAttribute15.
	MarkAttribute string
	// Timeout bounds one operation with its token and all of its pages. Default: 45 s.
	Timeout time.Duration
	// Log gets one line a request at level debug: ids and status only. Default: none.
	Log *slog.Logger
	// Now is the clock for Retry-After dates. Default: time.Now.
	Now func() time.Time
}

// Tenant does operations on one tenant with one credential. It is safe for concurrent use.
type Tenant struct {
	root    string // Graph's base URL with version, no slash at the end
	mark    markAttribute
	timeout time.Duration
	log     *slog.Logger
	now     func() time.Time
	token   *renewing
	adapter *khttp.NetHttpRequestAdapter
}

// New reads the credential and prepares a Tenant. It sends nothing.
func New(cfg Config) (*Tenant, error) {
	if cfg.Transport == nil {
		return nil, errors.New("entra: no transport given")
	}
	root, err := url.Parse(cfg.Cloud.GraphRoot)
	if err != nil || root.Host == "" || cfg.Cloud.Scope == "" || cfg.Cloud.Authority == "" {
		return nil, errors.New("entra: the cloud is not complete; make it with cloud.Config, with graph_root where it is a custom one")
	}
	t := &Tenant{root: cfg.Cloud.GraphRoot, timeout: cfg.Timeout, log: cfg.Log, now: cfg.Now}
	if t.mark, err = parseMarkAttribute(cfg.MarkAttribute); err != nil {
		return nil, err
	}
	if t.timeout <= 0 {
		t.timeout = defaultTimeout
	}
	if t.log == nil {
		t.log = slog.New(slog.DiscardHandler)
	}
	if t.now == nil {
		t.now = time.Now
	}
	t.token, err = newRenewing(t.now, func() (azcore.TokenCredential, error) {
		return cfg.Cloud.NewCredential(cfg.Credential, cfg.Transport)
	})
	if err != nil {
		return nil, err
	}
	// Without continuous access evaluation: such a token lives longer than an hour, and the adapter repeats
	// a request whose token was challenged.
	const continuousEvaluation = false
	provider, err := auth.NewAzureIdentityAuthenticationProviderWithScopesAndValidHostsAndObservabilityOptionsAndIsCaeEnabled(
		t.token, []string{cfg.Cloud.Scope}, cfg.Cloud.ValidHosts(), auth.ObservabilityOptions{}, continuousEvaluation)
	if err != nil {
		return nil, fmt.Errorf("entra: %w", err)
	}
	adapter, err := khttp.NewNetHttpRequestAdapterWithParseNodeFactoryAndSerializationWriterFactoryAndHttpClient(
		provider, kjson.NewJsonParseNodeFactory(), kjson.NewJsonSerializationWriterFactory(),
		&http.Client{ // plain: a client with middlewares of the SDK would retry and compress
			Transport:     &recorder{next: cfg.Transport, root: root, now: t.now, log: t.log},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		})
	if err != nil {
		return nil, fmt.Errorf("entra: %w", err)
	}
	adapter.SetBaseUrl(t.root)
	t.adapter = adapter
	return t, nil
}

// users and groups make a builder for one request: builders are not safe for concurrent use, since the
// adapter writes its base URL into the builder's own map while it sends.
func (t *Tenant) users() *users.UsersRequestBuilder {
	return users.NewUsersRequestBuilderInternal(map[string]string{"baseurl": t.root}, t.adapter)
}

func (t *Tenant) groups() *groups.GroupsRequestBuilder {
	return groups.NewGroupsRequestBuilderInternal(map[string]string{"baseurl": t.root}, t.adapter)
}

// do runs f as operation op and makes its error one of package directory. Whatever f panics with is an
// error too: the SDK panics on answers that it does not expect.
func (t *Tenant) do(ctx context.Context, op string, f func(context.Context) error) (directory.Receipt, error) {
	ctx, cancel := context.WithTimeout(ctx, t.timeout)
	defer cancel()
	c := &call{op: op, priority: directory.PriorityOf(ctx)}
	err := guarded(func() error { return f(context.WithValue(ctx, callKey{}, c)) })
	receipt := c.receipt()
	if err == nil {
		return receipt, nil
	}
	verdict := c.verdict(err)
	if verdict.Code == directory.CodeToken || verdict.Code == directory.CodeCredential {
		t.token.drop(c.generation) // azidentity keeps a revoked token until it would have expired
	}
	return receipt, verdict
}

// errPanic stands for a panic of the SDK. What it panicked with is not kept: it can hold parts of an answer.
var errPanic = errors.New("the SDK panicked")

func guarded(f func() error) (err error) {
	defer func() {
		if recover() != nil {
			err = errPanic
		}
	}()
	return f()
}

// idForm is what an object id looks like: a GUID in practice. Anything else could make another path of
// it, and an empty one a request about all users.
var idForm = regexp.MustCompile(`^[0-9A-Za-z][0-9A-Za-z-]{0,63}$`)

// checkIDs refuses arguments that no request must be made of.
func checkIDs(op string, ids ...string) error {
	for _, id := range ids {
		if !idForm.MatchString(id) {
			return misuse(op, "not an object id")
		}
	}
	return nil
}

func misuse(op, cause string) error {
	return &directory.Error{Op: op, Code: directory.CodeMisuse,
		Kinds: []error{directory.ErrInvalid, directory.ErrUnsent}, Cause: errors.New(cause)}
}
