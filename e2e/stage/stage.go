// Package stage sets up a whole bridge on one machine, out of the real programs: a mid-point, a
// rehearsal tenant, a producer and a consumer, each a process of its own, with every key, credential and
// configuration made as their operators would make them and only public things carried across.
//
// It is for the quickstart, the end-to-end tests and the benchmark. It drives the programs from outside
// and reads what an operator, an auditor or the tenant's owner could read: log lines, published ledgers,
// the sandbox's journal. Waiting is for a line or a condition, with the caller's deadline; nothing
// sleeps for a time that should be enough.
//
// Invariant: no process outlives the Stage; where the kernel can (Linux), also not when we are killed.
package stage

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"jmlbridge/internal/porttest"
)

// Names that a Stage uses unless its Config says otherwise.
const (
	Issuer      = "https://iam.mssp.example/jml"
	Stream      = "hr"
	Enclave     = "GOV-1"
	EnclaveURI  = "urn:jmlbridge:enclave:gov-1"
	Domain      = "rehearsal.example"
	BreakGlass  = "breakglass@" + Domain
	HeartbeatOf = time.Second // default of Config.Heartbeat

	// Kinds of mid-points.
	NATS       = "nats"
	ServiceBus = "servicebus"
	Cluster    = "cluster" // three stock NATS servers

	// CheckpointCopy is the file in AuditorDir that gets a copy of each of the consumer's checkpoints: it stands for
	// the write-once volume.
	CheckpointCopy = "gov-1.checkpoint"
)

// Config says what is to be set up. Only Dir and Programs must be given.
type Config struct {
	Dir      string   // is made; must be empty
	Programs Programs // from Build

	Queue      string        // the mid-point: NATS (default), ServiceBus or Cluster
	Transport  string        // of ServiceBus: amqp (default) or websocket
	Pull       string        // of the consumer: acked (default) or dark
	Identities bool          // at a ServiceBus: both sides log in at the tenant, and shared keys open nothing
	TTL        time.Duration // of messages at a ServiceBus; what lives longer is dead-lettered; default: for ever

	Heartbeat      time.Duration // of the producer; default 1s
	StaleAfter     time.Duration // of the consumer; default 30s
	Lease          time.Duration // of the mid-point: how soon unsettled messages come again; default the program's, 30s
	LedgerInterval time.Duration // least time between two publications of the consumer; default 100ms
	Workers        int           // of the consumer; default the program's
	Writes         float64       // writes per second of the consumer; default 100
	Rehires        int           // that the producer lets pass at once; default 100
	LogLevel       string        // of producer and consumer; default info
	KeyKind        string        // of the enclave's decryption key: P-256 (default), P-384, RSA-3072
	Grace          string        // of the policy; default 30d
	GivePerHour    int           // of the policy; default 1,000,000
	CutPerHour     int           // of the policy; default 1,000,000

	Groups  []Group  // seeded in the tenant and allow-listed; default Groups()
	Roles   []Role   // default Roles()
	Source  string   // YAML of the producer's source: block; default maps the columns of Row
	Scope   string   // YAML of the enclave's scope: block; default everyone: true
	Sandbox []string // further flags of the sandbox

	// ProducerYAML and ConsumerYAML change the text of a configuration before it is written; nil: not.
	ProducerYAML, ConsumerYAML, PolicyYAML func(string) string

	Network *Network // where the programs stand; nil: all on this machine's loopback

	// OnLine sees every line of every process as it comes, on the process's own goroutine; may be nil.
	OnLine func(*Process, Line)
}

// Network says where the programs stand when each has a network of its own: a namespace, or a container's.
type Network struct {
	MidPoint string // host name or address of the mid-point
	Tenant   string // host name or address of the tenant
	Proxy    string // host:port of the enclave's way out, to the mid-point alone

	// Enter is, by a program's name, the command line that puts what follows it into that program's network.
	Enter map[string][]string
}

// Ports of a mid-point and a tenant that have an address of their own.
const (
	MidPointPort = 4222
	// ServiceBusPort is that of a Service Bus there.
	ServiceBusPort = 5671
	TenantPort     = 8443
)

// Stage is a bridge that is set up. The sandbox runs; the rest is started by Start, or one by one.
type Stage struct {
	Config
	Commercial, EnclaveDir, MidPointDir, TenantDir, AuditorDir, LogDir string // folders

	Sandbox, MidPoint, Producer, Consumer *Process
	Nodes                                 []*Process // the mid-point, in place of MidPoint, where that is a Cluster

	Tenant *Tenant // the sandbox's own word
	Bus    *Bus    // the mid-point's, where that is a Service Bus
	Ledger *Ledger // the consumer's
	Sent   *Ledger // the producer's

	cluster *cluster
	owner   *Owner // of the mid-point, where that was taken over
	others  []*Process
	carried string // folder of the media

	Card       string // file: the producer's public card, as it was carried to the enclave and the auditor
	SigningKID string
}

// New makes everything and starts the sandbox, whose credentials the consumer's configuration needs.
// On an error nothing runs; the files stay for a look.
func New(ctx context.Context, c Config) (_ *Stage, err error) {
	if c.Dir, err = filepath.Abs(c.Dir); err != nil {
		return nil, err
	}
	c.defaults()
	s := newStage(c)
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	for _, dir := range []string{s.Commercial, s.EnclaveDir, s.TenantDir, s.AuditorDir, s.LogDir, s.carried} {
		if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
			return nil, err
		}
		if err := os.Mkdir(dir, 0o700); err != nil {
			return nil, fmt.Errorf("want an empty folder to set up the bridge in: %w", err)
		}
	}
	for _, step := range []func(context.Context) error{s.setUpTenant, s.setUpMidPoint, s.setUpEnclave, s.setUpCommercial, s.setUpTrust} {
		if err := step(ctx); err != nil {
			return nil, err
		}
	}
	return s, os.RemoveAll(s.carried)
}

// newStage lays the folders out. c has its defaults.
func newStage(c Config) *Stage {
	return &Stage{
		Config: c, Commercial: filepath.Join(c.Dir, "commercial"), EnclaveDir: filepath.Join(c.Dir, "enclave"),
		MidPointDir: filepath.Join(c.Dir, "midpoint"), TenantDir: filepath.Join(c.Dir, "tenant"),
		AuditorDir: filepath.Join(c.Dir, "auditor"), LogDir: filepath.Join(c.Dir, "logs"), carried: filepath.Join(c.Dir, "carried"),
	}
}

// medium is what is carried to one side by hand, such as a stick: what lies on it is taken from it there.
func (s *Stage) medium(to string) string { return filepath.Join(s.carried, to) }

// hand puts something on the medium to a side, whole or not at all: somebody may be waiting for it there.
func (s *Stage) hand(from, to, name string) error {
	whole := filepath.Join(s.medium(to), name)
	if err := carry(from, whole+".new"); err != nil {
		return err
	}
	return os.Rename(whole+".new", whole)
}

func (s *Stage) process(name, path string, ready func(Line) bool, args ...string) *Process {
	if s.Network != nil {
		if enter := s.Network.Enter[name]; len(enter) > 0 {
			path, args = enter[0], slices.Concat(enter[1:], []string{path}, args)
		}
	}
	return &Process{Name: name, path: path, args: args, dir: s.Dir, log: filepath.Join(s.LogDir, name+".log"), ready: ready, onLine: s.OnLine}
}

// runner is a process with a configuration. On this machine it is told of that as an operator does who stands in its
// folder, so that every name in it is a relative one; commands are told of it by its whole name (see run).
func (s *Stage) runner(name, path string, ready func(Line) bool, file string, args ...string) *Process {
	dir := s.Dir
	if s.Network == nil {
		dir, file = filepath.Split(file)
	}
	p := s.process(name, path, ready, append([]string{"-c", file}, args...)...)
	p.dir = dir
	return p
}

func (s *Stage) setUpTenant(ctx context.Context) error {
	seed := s.seedFile()
	if err := write(seed, s.seed()); err != nil {
		return err
	}
	isEndpoints := func(l Line) bool { return l.Stdout && l.String("authority") != "" }
	s.Sandbox = s.process("sandbox", s.Programs.Sandbox, isEndpoints, append(s.sandboxFlags(seed), s.Config.Sandbox...)...)
	if err := s.Sandbox.Start(ctx); err != nil {
		return err
	}
	return s.connectTenant()
}

func (s *Stage) sandboxFlags(seed string) []string {
	flags := []string{"-dir", s.TenantDir, "-seed", seed}
	if s.Network != nil { // nobody but who shares its files gets to the control API
		flags = append(flags, "-name", s.Network.Tenant, "-listen", fmt.Sprintf(":%d", TenantPort), "-control", "unix:"+filepath.Join(s.TenantDir, "control.sock"))
	}
	return flags
}

// connectTenant reads what the sandbox left for its users.
func (s *Stage) connectTenant() error {
	text, err := os.ReadFile(s.endpointsFile())
	if err != nil {
		return err
	}
	var ep Endpoints
	if err := json.Unmarshal(text, &ep); err != nil {
		return fmt.Errorf("read the sandbox's endpoints: %w", err)
	}
	s.Tenant, err = newTenant(ep)
	return err
}

func (s *Stage) setUpMidPoint(ctx context.Context) error {
	kinds := map[string]func(context.Context) error{"": s.setUpNATS, NATS: s.setUpNATS, ServiceBus: s.setUpServiceBus, Cluster: s.setUpCluster}
	setUp := kinds[s.Queue]
	if setUp == nil {
		return fmt.Errorf("there is no mid-point of kind %q", s.Queue)
	}
	return s.setUpMidPointBy(ctx, setUp)
}

// setUpMidPointBy makes the mid-point and hands each side its folder.
func (s *Stage) setUpMidPointBy(ctx context.Context, setUp func(context.Context) error) error {
	if err := setUp(ctx); err != nil {
		return err
	}
	consumer, producer := filepath.Join(s.MidPointDir, "consumer", Enclave), filepath.Join(s.MidPointDir, "producer", Enclave)
	return errors.Join(s.hand(consumer, "enclave", "queue"), os.RemoveAll(consumer), s.hand(producer, "commercial", "queue"), os.RemoveAll(producer))
}

func (s *Stage) setUpNATS(ctx context.Context) error {
	host, listen := "127.0.0.1", ":"+strconv.Itoa(MidPointPort)
	if s.Network != nil {
		host = s.Network.MidPoint
	} else {
		addr, err := porttest.Free() // clients come back to it after a restart
		if err != nil {
			return err
		}
		listen = addr.String()
	}
	args := []string{"midpoint", "init", s.MidPointDir, "--host", host, "--listen", listen, "--enclave", Enclave}
	if s.Pull == "dark" {
		args = append(args, "--dark")
	}
	_, err := s.run(ctx, nil, s.Programs.Producer, args...)
	if err != nil {
		return err
	}
	file := filepath.Join(s.MidPointDir, "midpoint", "midpoint.yaml")
	if s.Lease != 0 {
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		with := strings.Replace(string(text), "\n  consumer: ", fmt.Sprintf("\n  lease: %s\n  consumer: ", s.Lease), 1)
		if with == string(text) {
			return fmt.Errorf("%s: found no place for the lease", file)
		}
		if err := os.WriteFile(file, []byte(with), 0o600); err != nil {
			return err
		}
	}
	s.MidPoint = s.process("midpoint", s.Programs.Producer, func(l Line) bool { return l.Msg() == "mid-point ready" }, "--log", "json", "midpoint", "run", file)
	return nil
}

func (s *Stage) setUpEnclave(ctx context.Context) error {
	if err := take(filepath.Join(s.medium("enclave"), "queue"), filepath.Join(s.EnclaveDir, "queue")); err != nil {
		return err
	}
	for name, from := range map[string]string{"cut.pem": s.Tenant.Apps["cut"].Certificate, "grant.pem": s.Tenant.Apps["grant"].Certificate, "ca.pem": s.Tenant.CA} {
		if err := carry(from, filepath.Join(s.EnclaveDir, "tenant", name)); err != nil {
			return err
		}
	}
	queue, err := os.ReadFile(filepath.Join(s.EnclaveDir, "queue", "queue.yaml"))
	if err != nil {
		return err
	}
	if err := write(filepath.Join(s.EnclaveDir, "consumer.yaml"), edit(s.ConsumerYAML, s.consumerYAML(string(queue)))); err != nil {
		return err
	}
	if err := write(filepath.Join(s.EnclaveDir, "policy.yaml"), edit(s.PolicyYAML, s.policyYAML())); err != nil {
		return err
	}
	out, err := s.ConsumerDo(ctx, "init", "--key", s.KeyKind, "-o", "json")
	if err != nil {
		return err
	}
	var made struct {
		EncryptionKey  string `json:"encryption_key"`
		LedgerVerifier string `json:"ledger_verifier"`
		VerifierFile   string `json:"ledger_verifier_file"`
	}
	if err := json.Unmarshal([]byte(out.Stdout), &made); err != nil {
		return fmt.Errorf("read what consumer init made: %w", err)
	}
	s.Ledger = &Ledger{Dir: filepath.Join(s.EnclaveDir, "ledger"), Key: made.LedgerVerifier}
	s.Consumer = s.runner("consumer", s.Programs.Consumer, func(l Line) bool { return l.Msg() == "started" }, s.consumerFile(), "run")
	if err := carry(made.VerifierFile, filepath.Join(s.AuditorDir, "ledger.vkey")); err != nil {
		return err
	}
	return s.hand(made.EncryptionKey, "commercial", "gov-1.pub.pem")
}

func (s *Stage) setUpCommercial(ctx context.Context) error {
	for _, name := range []string{"queue", "gov-1.pub.pem"} {
		if err := take(filepath.Join(s.medium("commercial"), name), filepath.Join(s.Commercial, name)); err != nil {
			return err
		}
	}
	if err := write(filepath.Join(s.Commercial, "producer.yaml"), edit(s.ProducerYAML, s.producerYAML())); err != nil {
		return err
	}
	out, err := s.ProducerDo(ctx, "init", "-o", "json")
	if err != nil {
		return err
	}
	var made struct {
		LedgerVerifier string `json:"ledger_verifier"`
		KID            string `json:"kid"`
		CardFile       string `json:"card_file"`
	}
	if err := json.Unmarshal([]byte(out.Stdout), &made); err != nil {
		return fmt.Errorf("read what producer init made: %w", err)
	}
	s.SigningKID, s.Card = made.KID, filepath.Join(s.AuditorDir, "producer-card.json")
	s.Sent = &Ledger{Dir: filepath.Join(s.Commercial, "ledger"), Key: made.LedgerVerifier}
	s.Producer = s.runner("producer", s.Programs.Producer, func(l Line) bool { return l.Msg() == "producer running" },
		s.producerFile(), "--log", "json", "--log-level", s.LogLevel, "run")
	return errors.Join(carry(made.CardFile, s.Card), s.hand(made.CardFile, "enclave", "producer-card.json"))
}

// setUpTrust is the ceremony: the card goes across, and its key id is compared by another way.
func (s *Stage) setUpTrust(ctx context.Context) error {
	card := s.cardInEnclave()
	if err := take(filepath.Join(s.medium("enclave"), "producer-card.json"), card); err != nil {
		return err
	}
	_, err := s.ConsumerDo(ctx, "trust", "add", card, "--expect", s.SigningKID, "--reason", "set up on one machine")
	return err
}

// Start starts mid-point, producer and consumer, in this order, each when the one before is ready. A mid-point of
// Service Bus and a cluster run since New.
func (s *Stage) Start(ctx context.Context) error {
	for _, p := range append(s.midPoint(), s.Producer, s.Consumer) {
		if p.Running() {
			continue
		}
		if err := p.Start(ctx); err != nil {
			return err
		}
	}
	return nil
}

// midPoint is every process of the mid-point.
func (s *Stage) midPoint() []*Process {
	if s.MidPoint == nil {
		return slices.Clone(s.Nodes)
	}
	return []*Process{s.MidPoint}
}

// Stop stops consumer, producer, mid-point and sandbox, in this order. An error says which did not end
// well; the others are stopped all the same.
func (s *Stage) Stop(ctx context.Context) error {
	var errs []error
	for _, p := range slices.Concat([]*Process{s.Consumer, s.Producer}, s.midPoint(), []*Process{s.Sandbox}) {
		if p != nil {
			errs = append(errs, p.Stop(ctx))
		}
	}
	return errors.Join(errs...)
}

// Other is one more program beside those of the bridge, which Close ends like them. It is started by whoever asks.
func (s *Stage) Other(name string, ready func(Line) bool, path string, args ...string) *Process {
	p := s.process(name, path, ready, args...)
	s.others = append(s.others, p)
	return p
}

// Close ends whatever still runs, at once, and says what it could not end. For the end of a test; Stop
// before it to see whether everything ends well.
func (s *Stage) Close() error {
	var errs []error
	for _, p := range slices.Concat([]*Process{s.Consumer, s.Producer}, s.midPoint(), []*Process{s.Sandbox}, s.others) {
		if p != nil {
			errs = append(errs, p.Kill())
		}
	}
	if s.Tenant != nil {
		s.Tenant.close()
	}
	if s.Bus != nil {
		s.Bus.close()
	}
	if s.owner != nil {
		s.owner.close()
	}
	return errors.Join(errs...)
}

// carry copies a file or a folder with its modes, as an operator would on a medium.
func carry(from, to string) error {
	info, err := os.Stat(from)
	if err != nil {
		return fmt.Errorf("carry %s: %w", filepath.Base(from), err)
	}
	if info.IsDir() {
		list, err := os.ReadDir(from)
		for _, f := range list {
			err = errors.Join(err, carry(filepath.Join(from, f.Name()), filepath.Join(to, f.Name())))
		}
		return err
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
		return err
	}
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, info.Mode().Perm())
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

// take carries a file or a folder and leaves nothing of it behind.
func take(from, to string) error {
	if err := carry(from, to); err != nil {
		return err
	}
	return os.RemoveAll(from)
}

func write(path, text string) error { return os.WriteFile(path, []byte(text), 0o600) }

func edit(f func(string) string, text string) string {
	if f == nil {
		return text
	}
	return f(text)
}
