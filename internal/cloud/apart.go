package cloud

import (
	"cmp"
	"os"
	"strings"

	"jmlbridge/internal/doctor"
)

// What a credential is for.
const (
	OfTenant   = "tenant"    // changes accounts
	OfKeys     = "keys"      // uses keys in a store
	OfMidpoint = "mid-point" // speaks to whom nobody trusts
)

// Holding is a credential of one program.
type Holding struct {
	Name       string // of its place in the configuration, like tenant.cut
	For        string
	Credential CredentialConfig
}

// ExamineHoldings says what is weak in how the credentials of one program are held: secrets that are easily copied, and one that
// opens what another should. It sends nothing. exposed: what speaks to the mid-point is a process of its own, from which the
// other credentials are kept, but not this machine's identities.
func ExamineHoldings(held []Holding, exposed bool) (list []doctor.Finding) {
	warn := func(name, text, do string) {
		list = append(list, doctor.Finding{Name: name, Verdict: doctor.Warning, Text: text, Do: do})
	}
	for i, h := range held {
		switch c := h.Credential; {
		case c.Kind == ClientSecret && !c.Development:
			warn(h.Name, "is a client secret: a copy of it works from anywhere until it ends, and nothing tells that there is one",
				"use client-certificate, managed-identity or workload-identity; for a rehearsal, say development: true beside kind")
		case c.Kind == ManagedIdentity && exposed && h.For != OfMidpoint:
			warn(h.Name, "is a managed identity: this machine gives its token to every process that can reach its metadata endpoint, and so to the one that speaks to the mid-point, if that is taken over",
				"use client-certificate here, whose file is kept from that process; see the page")
		}
		for _, other := range held[:i] {
			if why := together(h, other); why != "" {
				warn(h.Name, "and "+other.Name+" "+why, "give each an application, and a certificate, of its own")
			}
		}
	}
	if len(list) == 0 {
		list = append(list, doctor.Finding{Name: "held", Verdict: doctor.Well, Text: "no secret to copy, and each opens its own only"})
	}
	return list
}

// together says why whoever has one of the two credentials has the other; empty: so far as can be seen here, it is not so.
func together(a, b Holding) string {
	x, y := a.Credential, b.Credential
	across := (a.For == OfMidpoint) != (b.For == OfMidpoint)
	switch {
	case !across && (a.For != OfTenant || b.For != OfTenant):
		return "" // held by one process for one purpose
	case x.identity() == y.identity():
		return "are one identity: what either may do, both may"
	case !across:
		return "" // two applications that one process proves to be
	case x.CertificateFile != "" && x.CertificateFile == y.CertificateFile, x.SecretFile != "" && x.SecretFile == y.SecretFile:
		return "are proved by one file: whoever has it is both"
	case x.Kind == WorkloadIdentity && y.Kind == WorkloadIdentity && x.token() == y.token():
		return "are proved by one token of a service account: whoever has it is both"
	}
	return ""
}

// identity tells identities apart, whatever proves them. A managed identity that is not named is the host's own.
func (cfg CredentialConfig) identity() string {
	return strings.ToLower(cmp.Or(cfg.Client, cfg.Kind))
}

func (cfg CredentialConfig) token() string {
	return cmp.Or(cfg.TokenFile, os.Getenv("AZURE_FEDERATED_TOKEN_FILE"))
}
