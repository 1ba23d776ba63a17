module jmlbridge

go 1.26.0

require (
	github.com/Azure/azure-sdk-for-go/sdk/azcore v1.24.0 // clouds and transport of azidentity
	github.com/Azure/azure-sdk-for-go/sdk/azidentity v1.15.0 // tokens for the tenant: certificate, secret, managed and workload identity
	github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus v1.11.0 // Azure Service Bus
	github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys v1.5.0 // keys in Key Vault and Managed HSM
	github.com/Azure/go-amqp v1.7.0 // the conditions that Service Bus refuses with
	github.com/coder/websocket v1.8.15 // AMQP over WebSocket, for Service Bus on port 443
	github.com/elazarl/goproxy v1.9.4 // tunnels of the rehearsal's egress proxy
	github.com/go-jose/go-jose/v4 v4.1.8 // JOSE key derivation, A256CBC-HS512 and JWKs
	github.com/goccy/go-yaml v1.19.2 // strict YAML whose errors know their line
	github.com/google/uuid v1.6.0 // UUIDv7 for jti and request ids
	github.com/landlock-lsm/go-landlock v0.11.2 // Landlock, to confine the process that speaks to the mid-point
	github.com/microsoft/kiota-authentication-azure-go v1.3.1 // how the Graph SDK takes an azidentity token
	github.com/microsoft/kiota-http-go v1.5.4 // the Graph SDK's request adapter, built without its middlewares
	github.com/microsoft/kiota-serialization-json-go v1.1.2 // the Graph SDK's JSON, registered by hand
	github.com/microsoftgraph/msgraph-sdk-go v1.89.0 // Microsoft Graph; only internal/directory/entra may import it
	github.com/nats-io/jwt/v2 v2.8.2 // tests make .creds files as nsc does
	github.com/nats-io/nats-server/v2 v2.15.2 // the mid-point of `producer midpoint`, and the real server of the queue's tests
	github.com/nats-io/nats.go v1.55.0 // the JetStream client
	github.com/nats-io/nkeys v0.4.17 // credentials at the mid-point
	github.com/rogpeppe/go-internal v1.16.0 // testscript, for the end-to-end scripts
	github.com/santhosh-tekuri/jsonschema/v6 v6.0.3 // tests hold the JSON Schemas to the vectors
	github.com/schollz/progressbar/v3 v3.19.1 // progress on a terminal
	github.com/spf13/cobra v1.10.2 // commands, help and shell completion
	github.com/spf13/pflag v1.0.9 // cobra's flags, where a command looks at which of them were given
	github.com/transparency-dev/formats v0.0.0-20251017110053-404c0d5b696c // tests verify our second signature by a verifier that we did not write
	github.com/transparency-dev/tessera v1.0.4 // tests run its fsck over our ledger: a verifier that we did not write
	golang.org/x/mod v0.42.0 // sumdb/tlog and sumdb/note: the Merkle tree and the signed checkpoint
	golang.org/x/net v0.62.0 // the proxy of the environment, as everybody reads it; puts filters of system calls together
	golang.org/x/sync v0.24.0 // errgroup
	golang.org/x/sys v0.49.0 // flock, and the reading of /proc
	golang.org/x/term v0.47.0 // whether somebody watches
	golang.org/x/text v0.43.0 // country codes, and names without accents
	golang.org/x/time v0.16.0 // the rate governor under Graph's quota
	modernc.org/sqlite v1.61.1 // SQLite without cgo: one static binary
	pgregory.net/rapid v1.3.0 // property tests
)

require (
	github.com/Azure/azure-sdk-for-go/sdk/internal v1.13.0 // indirect
	github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/internal v1.2.0 // indirect
	github.com/AzureAD/microsoft-authentication-library-for-go v1.10.1 // indirect
	github.com/BurntSushi/toml v1.4.1-0.20240526193622-a339e1f7089c // indirect
	github.com/antithesishq/antithesis-sdk-go v0.8.0-default-no-op // indirect
	github.com/cespare/xxhash/v2 v2.3.0 // indirect
	github.com/dustin/go-humanize v1.1.0 // indirect
	github.com/go-logr/logr v1.4.3 // indirect
	github.com/go-logr/stdr v1.2.2 // indirect
	github.com/golang-jwt/jwt/v5 v5.3.1 // indirect
	github.com/google/go-tpm v0.9.8 // indirect
	github.com/inconshreveable/mousetrap v1.1.0 // indirect
	github.com/klauspost/compress v1.20.3 // indirect
	github.com/kylelemons/godebug v1.1.0 // indirect
	github.com/mattn/go-isatty v0.0.24 // indirect
	github.com/microsoft/kiota-abstractions-go v1.9.3 // indirect
	github.com/minio/highwayhash v1.0.4 // indirect
	github.com/mitchellh/colorstring v0.0.0-20190213212951-d06e56a500db // indirect
	github.com/nats-io/nuid v1.0.1 // indirect
	github.com/ncruces/go-strftime v1.1.0 // indirect
	github.com/pkg/browser v0.0.0-20240102092130-5ac0b6a4141c // indirect
	github.com/remyoudompheng/bigfft v0.0.0-20230129092748-24d4a6f8daec // indirect
	github.com/rivo/uniseg v0.4.7 // indirect
	github.com/std-uritemplate/std-uritemplate/go/v2 v2.0.3 // indirect
	github.com/transparency-dev/merkle v0.0.2 // indirect
	go.opentelemetry.io/auto/sdk v1.2.1 // indirect
	go.opentelemetry.io/otel v1.40.0 // indirect
	go.opentelemetry.io/otel/metric v1.40.0 // indirect
	go.opentelemetry.io/otel/trace v1.40.0 // indirect
	golang.org/x/crypto v0.58.0 // indirect
	golang.org/x/exp/typeparams v0.0.0-20231108232855-2478ac86f678 // indirect
	golang.org/x/tools v0.52.0 // indirect
	honnef.co/go/tools v0.8.2 // indirect
	k8s.io/klog/v2 v2.130.1 // indirect
	kernel.org/pub/linux/libs/security/libcap/psx v1.2.78 // indirect
	modernc.org/libc v1.79.0 // indirect
	modernc.org/mathutil v1.7.1 // indirect
	modernc.org/memory v1.12.1 // indirect
)

tool honnef.co/go/tools/cmd/staticcheck // one linter, pinned here so that nothing is installed by hand
