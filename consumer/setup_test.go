package main

import (
	"bytes"
	"context"
	"crypto"
	"encoding/json"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nkeys"

	"jmlbridge/consumer/state"
	"jmlbridge/e2e/sandbox/tenant"
	"jmlbridge/internal/envelope/seal"
	"jmlbridge/internal/keys"
	"jmlbridge/internal/ledger"
	"jmlbridge/internal/ledger/entry"
	"jmlbridge/internal/queue"
	"jmlbridge/internal/queue/anyqueue"
	"jmlbridge/internal/queue/natsqueue"
	"jmlbridge/internal/store"
	"jmlbridge/producer/midpoint"
	"jmlbridge/schema"
)

// asProgram makes the test binary the program itself, for tests that need a process.
const asProgram = "JMLBRIDGE_TEST_AS_CONSUMER"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" || len(os.Args) > 1 && os.Args[1] == anyqueue.ChildCommand {
		main()
		return
	}
	os.Exit(m.Run())
}

const (
	gov1     = "urn:jmlbridge:enclave:gov-1"
	issuer   = "https://iam.mssp.example/jml"
	soc      = "aaaaaaaa-0000-0000-0000-000000000001"
	patience = 2 * time.Minute // for anything that another process must do
)

// files is an enclave's folder with a configuration, and nothing that answers.
type files struct {
	t      *testing.T
	dir    string
	config string
	values map[string]string // of the configuration's template
	login  string
	clock  func() time.Time
}

const configTemplate = `enclave: {uri: "urn:jmlbridge:enclave:gov-1", name: GOV-1}
database: @data@consumer.db
ledger: {dir: @data@ledger, key: keys/ledger.pem, checkpoint_copy: copy/checkpoint, interval: 10ms}
keys: {decryption: [keys/decryption.pem]}
policy: policy.yaml
queue:
  nats:
    url: [@url@]
    ca: @queue_ca@
    nkey: @nkey@
    stream: JML-GOV-1
tenant:
  id: @tenant@
  cloud: {name: custom, authority: "@authority@", graph_root: "@graph@"}
  cut: {kind: client-secret, client: @cut@, secret_file: keys/cut.secret}
  grant: {kind: client-secret, client: @grant@, secret_file: keys/grant.secret}
  transport: {ca_file: keys/tenant-ca.pem, proxy: "@proxy@", proxy_credentials: "@proxy_credentials@"}
stale_after: 5m
disk: {reserve_mib: @reserve_mib@}
alarms: {file: @data@alarms.jsonl}
liveness: {file: alive.json, interval: 100ms}
log: {level: info, format: json}
`

const policyText = `version: 1
upn: {template: "{alias}", domain: rehearsal.example}
usage_location: US
grace: 30d
groups:
  soc-analysts:
    id: aaaaaaaa-0000-0000-0000-000000000001
roles:
  soc-analyst: {groups: [soc-analysts]}
protected: [breakglass@rehearsal.example]
limits: {give_per_hour: 100, cut_per_hour: 100, cut_hold: 30m, urgent_per_hour: 5}
`

func newFiles(t *testing.T) *files {
	t.Helper()
	dir := t.TempDir()
	f := &files{t: t, dir: dir, config: filepath.Join(dir, "consumer.yaml"), login: "ann", clock: time.Now, values: map[string]string{
		"url": "tls://127.0.0.1:1", "queue_ca": "keys/midpoint-ca.pem", "nkey": "keys/midpoint.nk", "tenant": uuid.NewString(),
		"authority": "https://127.0.0.1:1/", "graph": "https://127.0.0.1:1/v1.0", "cut": uuid.NewString(), "grant": uuid.NewString(), "proxy": "none", "proxy_credentials": "",
		"data": "", "reserve_mib": "1",
	}}
	for _, d := range []string{"keys", "copy"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	ca, err := os.ReadFile(filepath.Join("testdata", "ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	f.write("keys/tenant-ca.pem", string(ca), 0o644)
	f.write("keys/midpoint-ca.pem", string(ca), 0o644)
	nk, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	seed, err := nk.Seed()
	if err != nil {
		t.Fatal(err)
	}
	f.write("keys/midpoint.nk", string(seed), 0o600)
	f.write("keys/cut.secret", "cut-secret\n", 0o600)
	f.write("keys/grant.secret", "grant-secret\n", 0o600)
	f.write("policy.yaml", policyText, 0o600)
	f.save()
	return f
}

func (f *files) write(name, text string, mode os.FileMode) {
	f.t.Helper()
	path := f.path(name)
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		f.t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		f.t.Fatal(err)
	}
}

func (f *files) path(name string) string { return filepath.Join(f.dir, name) }

// save writes the configuration.
func (f *files) save() {
	text := configTemplate
	for k, v := range f.values {
		text = strings.ReplaceAll(text, "@"+k+"@", v)
	}
	f.write("consumer.yaml", text, 0o600)
}

// edit replaces text in a file.
func (f *files) edit(name, from, to string) {
	f.t.Helper()
	text, err := os.ReadFile(f.path(name))
	if err != nil {
		f.t.Fatal(err)
	}
	if !strings.Contains(string(text), from) {
		f.t.Fatalf("%s does not contain %q", name, from)
	}
	f.write(name, strings.Replace(string(text), from, to, 1), 0o600)
}

// consumer runs a command in this process.
func (f *files) consumer(args ...string) (code int, out, errs string) {
	var o, e bytes.Buffer
	a := &app{out: &o, err: &e, now: f.clock, login: func() (string, error) { return f.login, nil }}
	code = a.main(f.t.Context(), append([]string{"-c", f.config}, args...))
	return code, o.String(), e.String()
}

// must runs a command that must succeed.
func (f *files) must(args ...string) string {
	f.t.Helper()
	code, out, errs := f.consumer(args...)
	if code != exitDone {
		f.t.Fatalf("consumer %v: exit %d\n%s%s", args, code, out, errs)
	}
	return out
}

func (f *files) init() { f.t.Helper(); f.must("init") }

// open opens the database as another process would.
func (f *files) open() *state.DB {
	f.t.Helper()
	db, err := state.Open(f.path(f.values["data"] + "consumer.db"))
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { db.Close() })
	return db
}

func (f *files) update(db *state.DB, fn func(*store.Tx) error) {
	f.t.Helper()
	if err := db.Tx(f.t.Context(), fn); err != nil {
		f.t.Fatal(err)
	}
}

// entries returns the ledger's entries of one kind.
func entries[B entry.Body](t *testing.T, db *state.DB) (list []B) {
	t.Helper()
	for e, err := range ledger.Entries(t.Context(), db.DB, 0) {
		if err != nil {
			t.Fatal(err)
		}
		if b, ok := e.Body.(B); ok {
			list = append(list, b)
		}
	}
	return list
}

// eventually waits for what another goroutine or process brings about.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", patience, what)
		}
		time.Sleep(10 * time.Millisecond) // polling a condition of another process
	}
}

// producer signs messages of one stream.
type producer struct {
	t      *testing.T
	key    crypto.Signer
	signer *seal.Signer
	to     *seal.Recipient
	pub    *natsqueue.Publisher
	stream string
	seq    uint64
	prev   schema.Digest
}

// newProducer makes one; its card is written to name.
func newProducer(f *files, name string, kinds ...schema.Kind) *producer {
	f.t.Helper()
	key, err := keys.GenerateSigning(keys.ES256)
	if err != nil {
		f.t.Fatal(err)
	}
	p := &producer{t: f.t, key: key, stream: "hr"}
	if p.signer, err = seal.NewSigner(key); err != nil {
		f.t.Fatal(err)
	}
	f.card(name, key, "hr", 1, kinds...)
	return p
}

// card writes the card of a key and returns the key's id.
func (f *files) card(name string, key crypto.Signer, stream string, generation int, kinds ...schema.Kind) string {
	f.t.Helper()
	id, err := keys.ID(key.Public())
	if err != nil {
		f.t.Fatal(err)
	}
	pem, err := keys.MarshalPublic(key.Public())
	if err != nil {
		f.t.Fatal(err)
	}
	if kinds == nil {
		kinds = []schema.Kind{schema.KindJoiner, schema.KindMover, schema.KindLeaver, schema.KindSuspend, schema.KindResume, schema.KindHeartbeat, schema.KindRoster}
	}
	text, err := json.Marshal(card{Card: cardForm, Issuer: issuer, Stream: stream, Generation: generation, Keys: []cardKey{{ID: id, Alg: keys.ES256, Public: string(pem), Kinds: kinds}}})
	if err != nil {
		f.t.Fatal(err)
	}
	f.write(name, string(text), 0o644)
	return id
}

// say seals the next message and publishes it.
func (p *producer) say(subject string, e schema.Event) {
	p.t.Helper()
	p.seq++
	id, err := uuid.NewV7()
	if err != nil {
		p.t.Fatal(err)
	}
	payload, err := schema.EncodePadded(&schema.SET{Issuer: issuer, Audience: gov1, ID: id.String(), IssuedAt: schema.At(time.Now()), Subject: subject, Event: e, Version: 1,
		Stream: schema.Position{ID: p.stream, Generation: 1, Seq: p.seq, Prev: p.prev}})
	if err != nil {
		p.t.Fatal(err)
	}
	m, err := seal.Seal(payload, p.signer, p.to)
	if err != nil {
		p.t.Fatal(err)
	}
	p.prev = schema.DigestOf(payload)
	if _, err := p.pub.Publish(p.t.Context(), []queue.Message{{ID: id.String(), Body: m.Wire}}); err != nil {
		p.t.Fatal(err)
	}
}

func (p *producer) heartbeat() {
	p.t.Helper()
	p.say("", &schema.Heartbeat{Cuts: []schema.CutNotice{}})
}

func (p *producer) joiner(subject, alias string, roles ...string) {
	p.t.Helper()
	p.say(subject, &schema.Joiner{Engagement: 1, Person: schema.Person{DisplayName: "Ann Example", PreferredAlias: alias}, Roles: slices.Sorted(slices.Values(roles)), Start: schema.At(time.Now().Add(-time.Hour))})
}

// world is files with a mid-point, a tenant and a producer that answer.
type world struct {
	*files
	mid    *midpoint.Server
	tenant *tenant.Server
	*producer
}

func newWorld(t *testing.T, seed ...tenant.SeedGroup) *world {
	t.Helper()
	return newFiles(t).world(seed...)
}

// world is what answers for the configuration in f.
func (f *files) world(seed ...tenant.SeedGroup) *world {
	t := f.t
	t.Helper()
	w := &world{files: f}
	ctx, stop := context.WithCancel(context.Background())
	t.Cleanup(stop)
	if seed == nil {
		seed = []tenant.SeedGroup{{ID: soc, DisplayName: "SOC"}}
	}
	var err error
	if w.tenant, err = tenant.Start(ctx, tenant.Config{Seed: tenant.Seed{Groups: seed, Users: []tenant.SeedUser{{UserPrincipalName: "breakglass@rehearsal.example", DisplayName: "Break Glass"}}}}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.tenant.Close() })
	ep := w.tenant.Endpoints()
	w.values["tenant"], w.values["authority"], w.values["graph"] = ep.Tenant, ep.Authority, ep.GraphV1
	for _, slot := range []string{"cut", "grant"} {
		c := w.tenant.App(slot)
		w.values[slot] = c.ID
		w.write("keys/"+slot+".secret", c.Secret, 0o600)
	}
	w.write("keys/tenant-ca.pem", string(w.tenant.CAPEM()), 0o644)

	dir := filepath.Join(w.dir, "mid")
	log := slog.New(slog.DiscardHandler)
	made, err := midpoint.Init(ctx, dir, midpoint.Setup{Hosts: []string{"127.0.0.1"}, Listen: "127.0.0.1:0", Enclaves: []string{"GOV-1"}}, log)
	if err != nil {
		t.Fatal(err)
	}
	server := midpoint.Config{Listen: "127.0.0.1:0", Store: "store", Cert: "server.pem", Key: "server.key", Enclaves: made.Enclaves}.In(filepath.Join(dir, "midpoint"))
	if w.mid, err = midpoint.Start(ctx, server, log); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.mid.Stop)
	w.values["url"] = "tls://" + w.mid.Addr()
	w.values["queue_ca"] = filepath.Join(made.Consumers["GOV-1"], "midpoint-ca.pem")
	w.values["nkey"] = filepath.Join(made.Consumers["GOV-1"], "midpoint.nk")
	w.save()

	w.init()
	w.producer = newProducer(w.files, "card.json")
	pub, err := keys.ReadPublic(w.path("keys/decryption.pub.pem"))
	if err != nil {
		t.Fatal(err)
	}
	if w.to, err = seal.NewRecipient(pub); err != nil {
		t.Fatal(err)
	}
	from := made.Producers["GOV-1"]
	if w.pub, err = natsqueue.OpenPublisher(natsqueue.Config{URL: []string{w.values["url"]}, CA: filepath.Join(from, "midpoint-ca.pem"), NKey: filepath.Join(from, "midpoint.nk"),
		Stream: "JML-GOV-1", Subject: "jml.GOV-1"}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.pub.Close() })
	w.must("trust", "add", w.path("card.json"), "--reason", "test")
	return w
}

// process is the program in a process of its own.
type process struct {
	*exec.Cmd
	t    *testing.T
	mu   sync.Mutex // guards log
	log  bytes.Buffer
	done chan struct{}
	err  error

	hears func(p *process, line string) // called with what it says, as it says it
}

// Write implements io.Writer: the program's standard error.
func (p *process) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.hears != nil {
		p.hears(p, string(b))
	}
	return p.log.Write(b)
}

func (p *process) said() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.log.String()
}

// launch runs the program in a process.
func (f *files) launch(hears func(*process, string), args ...string) *process {
	f.t.Helper()
	exe, err := os.Executable()
	if err != nil {
		f.t.Fatal(err)
	}
	p := &process{Cmd: exec.Command(exe, append([]string{"-c", f.config}, args...)...), t: f.t, done: make(chan struct{}), hears: hears}
	p.Env = append(os.Environ(), asProgram+"=1")
	p.Stderr = p
	if err := p.Start(); err != nil {
		f.t.Fatal(err)
	}
	go func() { p.err = p.Wait(); close(p.done) }()
	f.t.Cleanup(func() {
		_ = p.Process.Kill()
		<-p.done
		if f.t.Failed() {
			f.t.Logf("consumer %v said:\n%s", args, p.said())
		}
	})
	return p
}

// start runs the program in a process and waits until it works.
func (f *files) start(args ...string) *process {
	f.t.Helper()
	p := f.launch(nil, args...)
	eventually(f.t, "the consumer writes its liveness file", func() bool {
		select {
		case <-p.done:
			f.t.Fatalf("it ended: %v\n%s", p.err, p.said())
		default:
		}
		var l livenessFile
		text, err := os.ReadFile(f.path("alive.json"))
		return err == nil && json.Unmarshal(text, &l) == nil && l.PID == p.Process.Pid
	})
	return p
}

// stop ends the process as an operator would, and wants it to end well.
func (p *process) stop() {
	p.t.Helper()
	if err := p.Process.Signal(syscall.SIGTERM); err != nil {
		p.t.Fatal(err)
	}
	select {
	case <-p.done:
	case <-time.After(patience):
		p.t.Fatal("it does not stop")
	}
	if code := p.ProcessState.ExitCode(); code != exitDone {
		p.t.Fatalf("exit %d, want 0\n%s", code, p.said())
	}
}
