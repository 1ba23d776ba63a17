package stage

import (
	"fmt"
	"regexp"
	"strings"
	"time"
)

// A Group of the tenant that the policy lets the bridge use.
type Group struct {
	Name    string // in the policy
	ID      string
	Display string // in the tenant
}

// A Role of the producer's and the groups that it stands for.
type Role struct {
	Name   string
	Groups []string // names of Groups
}

// Groups are the default ones.
func Groups() []Group {
	return []Group{
		{"soc-analysts", "6f1c1c1e-0000-4000-8000-000000000001", "SOC Analysts"},
		{"soc-leads", "6f1c1c1e-0000-4000-8000-000000000002", "SOC Leads"},
		{"on-call", "6f1c1c1e-0000-4000-8000-000000000003", "On Call"},
		{"engineering", "6f1c1c1e-0000-4000-8000-000000000004", "Engineering"},
	}
}

// Roles are the default ones.
func Roles() []Role {
	return []Role{
		{"soc-analyst", []string{"soc-analysts"}}, {"soc-lead", []string{"soc-analysts", "soc-leads"}},
		{"on-call", []string{"on-call"}}, {"engineer", []string{"engineering"}},
	}
}

func (c *Config) defaults() {
	or(&c.Heartbeat, HeartbeatOf)
	or(&c.StaleAfter, 30*time.Second)
	or(&c.LedgerInterval, 100*time.Millisecond)
	or(&c.Workers, 16)
	or(&c.Writes, 100)
	or(&c.Rehires, 100)
	or(&c.LogLevel, "info")
	or(&c.KeyKind, "P-256")
	or(&c.Grace, "30d")
	or(&c.GivePerHour, 1_000_000)
	or(&c.CutPerHour, 1_000_000)
	or(&c.Source, rowSource)
	or(&c.Scope, "everyone: true\n")
	if c.Groups == nil {
		c.Groups = Groups()
	}
	if c.Roles == nil {
		c.Roles = Roles()
	}
}

func or[T comparable](v *T, otherwise T) {
	if *v == *new(T) {
		*v = otherwise
	}
}

// A Row is one line of an HR export with the columns of the default Source.
type Row struct {
	ID, Status, Leave, Given, Family, Country, Department, Title, Manager, First, Last, Reason, Roles string
}

// Header is the first line of such an export.
const Header = "WorkerID,Status,OnLeave,GivenName,FamilyName,Country,Department,Title,Manager,FirstDay,LastDay,Reason,Roles"

const rowSource = `subject: WorkerID
status: {column: Status, active: [Active], inactive: [Inactive]}
leave: {column: OnLeave, on_leave: ["Yes"], present: ["No"]}
start: FirstDay
end: LastDay
manager: Manager
reason: {column: Reason, values: {Resigned: resignation, Dismissed: termination, "Contract ended": end-of-contract}}
person:
  givenName: GivenName
  familyName: FamilyName
  usageLocation: Country
  department: Department
  title: Title
roles:
  - column: Roles
`

// Export writes rows as CSV. An empty Status is Active, an empty Leave is No, an empty Country is US.
// Cells are written as they are: a comma or a quote makes a row as bad as in a real export.
func Export(rows ...Row) string {
	var b strings.Builder
	b.WriteString(Header + "\n")
	for _, r := range rows {
		or(&r.Status, "Active")
		or(&r.Leave, "No")
		or(&r.Country, "US")
		b.WriteString(strings.Join([]string{r.ID, r.Status, r.Leave, r.Given, r.Family, r.Country, r.Department, r.Title, r.Manager, r.First, r.Last, r.Reason, r.Roles}, ",") + "\n")
	}
	return b.String()
}

func (s *Stage) seed() string {
	var b strings.Builder
	fmt.Fprintf(&b, "tenant: {displayName: Enclave rehearsal, domains: [%s]}\ngroups:\n", Domain)
	for _, g := range s.Groups {
		fmt.Fprintf(&b, "  - {id: %s, displayName: %q}\n", g.ID, g.Display)
	}
	fmt.Fprintf(&b, "users:\n  - {userPrincipalName: %s, displayName: Break Glass, roles: [Global Administrator]}\n", BreakGlass)
	return b.String()
}

func (s *Stage) policyYAML() string {
	var b strings.Builder
	fmt.Fprintf(&b, "version: 1\nupn: {template: \"{alias}\", domain: %s}\nusage_location: US\ngrace: %s\ngroups:\n", Domain, s.Grace)
	for _, g := range s.Groups {
		fmt.Fprintf(&b, "  %s: {id: %s}\n", g.Name, g.ID)
	}
	b.WriteString("roles:\n")
	for _, r := range s.Roles {
		fmt.Fprintf(&b, "  %s: {groups: [%s]}\n", r.Name, strings.Join(r.Groups, ", "))
	}
	fmt.Fprintf(&b, "protected: [%s]\nlimits: {give_per_hour: %d, cut_per_hour: %d, cut_hold: 30m, urgent_per_hour: 10}\n", BreakGlass, s.GivePerHour, s.CutPerHour)
	return b.String()
}

var nkeyLine = regexp.MustCompile(`(?m)^( *)nkey: .*$`)

// consumerYAML takes the queue block from the file that the mid-point's owner handed over; its key files
// lie in queue/.
func (s *Stage) consumerYAML(queue string) string {
	queue = strings.NewReplacer("ca: ", "ca: queue/", "nkey: ", "nkey: queue/", "connection_file: ", "connection_file: queue/", "certificate_file: ", "certificate_file: queue/", "secret_file: ", "secret_file: queue/").Replace(queue)
	if s.Pull != "" && !strings.Contains(queue, "pull: ") { // what a mid-point of ours hands over says so itself
		queue = strings.TrimSpace(queue) + "\n  pull: " + s.Pull
	}
	if s.Network != nil {
		queue = nkeyLine.ReplaceAllString(queue, "$0\n${1}proxy: http://"+s.Network.Proxy)
		queue = strings.ReplaceAll(queue, "proxy: none", "proxy: http://"+s.Network.Proxy)
	}
	return fmt.Sprintf(`enclave: {uri: %s, name: %s}
database: consumer.db
ledger: {dir: ledger, key: keys/ledger.pem, checkpoint_copy: ../auditor/%s, interval: %s}
keys: {decryption: [keys/decryption.pem]}
policy: policy.yaml
%s
tenant:
  id: %s
  cloud: {name: custom, authority: %q, graph_root: %q}
  cut: {kind: client-certificate, client: %s, certificate_file: tenant/cut.pem}
  grant: {kind: client-certificate, client: %s, certificate_file: tenant/grant.pem}
  transport: {ca_file: tenant/ca.pem, proxy: none}
  writes_per_second: %g
  workers: %d
stale_after: %s
disk: {reserve_mib: 8}
alarms: {file: alarms.jsonl}
liveness: {file: alive.json, interval: 1s}
log: {level: %s, format: json}
`, EnclaveURI, Enclave, CheckpointCopy, s.LedgerInterval, strings.TrimSpace(queue), s.Tenant.Tenant, s.Tenant.Authority, s.Tenant.GraphV1,
		s.Tenant.Apps["cut"].ClientID, s.Tenant.Apps["grant"].ClientID, s.Writes, s.Workers, s.StaleAfter, s.LogLevel)
}

func (s *Stage) producerYAML() string {
	return fmt.Sprintf(`issuer: %s
stream: %s
database: producer.db
ledger: {dir: ledger, key: keys/ledger.pem, origin: jmlbridge.internal/gov-1/producer}
signing: {key: keys/signing.pem}
heartbeat: %s
limits: {rehires: {count: %d}}
enclaves:
  - name: %s
    audience: %s
    encryption_key: gov-1.pub.pem
    queue_file: queue/queue.yaml
    scope:
%ssource:
%s`, Issuer, Stream, s.Heartbeat, s.Rehires, Enclave, EnclaveURI, indent(s.Scope, 6), indent(s.Source, 2))
}

func indent(text string, n int) string {
	var b strings.Builder
	for line := range strings.Lines(strings.TrimRight(text, "\n") + "\n") {
		b.WriteString(strings.Repeat(" ", n) + line)
	}
	return b.String()
}
