package stage

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"jmlbridge/internal/cloud"
)

// busApps are the registrations of the rehearsal tenant by which the two sides log in to a Service Bus, one by a secret and the
// other by a certificate.
var busApps = map[string]struct{ app, kind, key, file, right string }{
	"producer": {"admin", cloud.ClientSecret, "secret_file", "midpoint.secret", "send"},
	"consumer": {"bridge", cloud.ClientCertificate, "certificate_file", "midpoint-login.pem", "listen"},
}

// identities writes what a namespace must know to let both sides in by the tenant's tokens, and nobody by a shared key.
func (s *Stage) identities(ctx context.Context) (file string, err error) {
	keys, err := s.Tenant.keys(ctx)
	if err != nil {
		return "", err
	}
	jwks := filepath.Join(s.MidPointDir, "tenant.jwks")
	text := fmt.Sprintf("rules: []\ntokens:\n  jwks: %q\n  issuer: %q\n  assignments:\n", jwks, s.Tenant.Authority+s.Tenant.Tenant+"/v2.0")
	for _, a := range busApps {
		text += fmt.Sprintf("    - {principal: %s, rights: %q, entity: %s}\n", s.Tenant.Apps[a.app].ClientID, a.right, busQueue)
	}
	file = filepath.Join(s.MidPointDir, "namespace.yaml")
	return file, errors.Join(write(jwks, string(keys)), write(file, text))
}

// handIdentities makes for each side what its operators need: the authorities of the namespace and of the login, the identity's
// secret or certificate, and the block for its configuration.
func (s *Stage) handIdentities(made namespace) error {
	var roots []byte
	for _, name := range []string{made.CA, s.Tenant.CA} {
		text, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		roots = append(roots, text...)
	}
	host, _, _ := strings.Cut(made.Host, ":")
	for side, a := range busApps {
		app := s.Tenant.Apps[a.app]
		from := app.Secret
		if a.kind == cloud.ClientCertificate {
			from = app.Certificate
		}
		to := filepath.Join(s.MidPointDir, side, Enclave)
		if err := carry(from, filepath.Join(to, a.file)); err != nil {
			return err
		}
		block := fmt.Sprintf(`queue:
  servicebus:
    namespace: %q
    queue: %s
    ca: midpoint-ca.pem
    credential: {kind: %s, tenant: %s, client: %s, %s: %s}
    cloud: {name: %s, authority: %q, service_bus: %q}
    proxy: none
`, made.Host, busQueue, a.kind, s.Tenant.Tenant, app.ClientID, a.key, a.file, cloud.Custom, s.Tenant.Authority, host)
		if err := errors.Join(write(filepath.Join(to, "midpoint-ca.pem"), string(roots)), write(filepath.Join(to, "queue.yaml"), block)); err != nil {
			return err
		}
	}
	return nil
}

// keys are those by which the tenant's tokens are judged, as anybody may read them.
func (t *Tenant) keys(ctx context.Context) (json.RawMessage, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, t.Authority+t.Tenant+"/discovery/v2.0/keys", nil)
	if err != nil {
		return nil, err
	}
	resp, err := t.client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("the tenant's keys: %w", err)
	}
	defer resp.Body.Close()
	var keys json.RawMessage
	if err := json.NewDecoder(resp.Body).Decode(&keys); err != nil || resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the tenant's keys: %s: %w", resp.Status, err)
	}
	return keys, nil
}
