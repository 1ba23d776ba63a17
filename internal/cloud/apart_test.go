package cloud

import (
	"slices"
	"strings"
	"testing"

	"jmlbridge/internal/doctor"
)

// Secrets that are easily copied are warned of, and a credential that opens what another should; and nothing else is.
func TestExamineHoldings(t *testing.T) {
	cert := func(client, file string) CredentialConfig {
		return CredentialConfig{Kind: ClientCertificate, Tenant: tenant, Client: client, CertificateFile: file}
	}
	secret := CredentialConfig{Kind: ClientSecret, Tenant: tenant, Client: "d", SecretFile: "s"}
	meant := secret
	meant.Development = true
	host, named := CredentialConfig{Kind: ManagedIdentity}, CredentialConfig{Kind: ManagedIdentity, Client: "A"}
	pod := func(client string) CredentialConfig {
		return CredentialConfig{Kind: WorkloadIdentity, Tenant: tenant, Client: client}
	}
	other := pod("e")
	other.TokenFile = "/run/other"
	t.Setenv("AZURE_FEDERATED_TOKEN_FILE", "/run/token")
	same := pod("f")
	same.TokenFile = "/run/token"
	none := CredentialConfig{}
	for name, c := range map[string]struct {
		cut, grant, keys, queue CredentialConfig
		free                    bool     // identities of the machine are kept from the process as well
		want                    []string // the names of what is warned of
	}{
		"each its own":                           {cert("a", "1"), cert("b", "2"), cert("c", "3"), cert("d", "4"), false, nil},
		"two applications by one file inside":    {cert("a", "1"), cert("b", "1"), none, cert("d", "4"), false, nil},
		"a connection string":                    {cert("a", "1"), cert("b", "2"), none, none, false, nil},
		"a secret":                               {cert("a", "1"), secret, none, none, false, []string{"tenant.grant"}},
		"a secret that is meant":                 {cert("a", "1"), meant, none, none, false, nil},
		"secret at the mid-point":                {cert("a", "1"), cert("b", "2"), none, secret, false, []string{"queue"}},
		"one application for both":               {cert("a", "1"), cert("a", "2"), none, none, false, []string{"tenant.grant"}},
		"one application everywhere":             {cert("a", "1"), cert("A", "1"), none, cert("a", "1"), false, []string{"tenant.grant", "queue", "queue"}},
		"the mid-point's application has keys":   {cert("a", "1"), cert("b", "2"), cert("c", "3"), cert("c", "4"), false, []string{"queue"}},
		"the key store's is the tenant's":        {cert("a", "1"), cert("b", "2"), cert("a", "1"), none, false, nil},
		"one file on both sides of the wall":     {cert("a", "1"), cert("b", "2"), none, cert("d", "1"), false, []string{"queue"}},
		"one secret on both sides of the wall":   {meant, cert("b", "2"), none, CredentialConfig{Kind: ClientSecret, Client: "e", SecretFile: "s", Development: true}, false, []string{"queue"}},
		"managed where it is exposed":            {host, cert("b", "2"), named, none, false, []string{"tenant.cut", "key_store"}},
		"managed where it is not":                {host, cert("b", "2"), named, none, true, nil},
		"managed at the mid-point":               {cert("a", "1"), cert("b", "2"), none, host, false, nil},
		"managed on both sides":                  {host, cert("b", "2"), none, host, false, []string{"tenant.cut", "queue"}},
		"one service account on both sides":      {pod("a"), cert("b", "2"), none, pod("d"), false, []string{"queue"}},
		"one of them by its name":                {pod("a"), cert("b", "2"), none, same, false, []string{"queue"}},
		"two service accounts":                   {pod("a"), pod("b"), none, other, false, nil},
		"a managed one that is also a certified": {named, cert("b", "2"), none, cert("a", "1"), true, []string{"queue"}},
	} {
		var held []Holding
		for _, h := range []Holding{{"tenant.cut", OfTenant, c.cut}, {"tenant.grant", OfTenant, c.grant}, {"key_store", OfKeys, c.keys}, {"queue", OfMidpoint, c.queue}} {
			if h.Credential != none {
				held = append(held, h)
			}
		}
		found := ExamineHoldings(held, !c.free)
		var got []string
		for _, f := range found {
			if f.Verdict == doctor.Warning {
				got = append(got, f.Name)
			}
			if f.Verdict == doctor.Warning && f.Do == "" || doctor.Failed(found) || len(got) == 0 && (len(found) != 1 || f.Verdict != doctor.Well) {
				t.Errorf("%s: %+v", name, f)
			}
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: warned of %q, expected %q: %+v", name, got, c.want, found)
		}
	}
	if err := (CredentialConfig{Kind: ManagedIdentity, Development: true}).check(); err == nil || !strings.Contains(err.Error(), "development") {
		t.Errorf("development of a managed identity: %v", err)
	}
}
