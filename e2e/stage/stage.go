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
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"
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

	// CheckpointCopy is the file in AuditorDir that gets a copy of each of the consumer's checkpoints: it stands for
	// the write-once volume.
	CheckpointCopy = "gov-1.checkpoint"
)

// Config says what is to be set up. Only Dir and Programs must be given.
type Config struct {
	Dir      string   // is made; must be empty
	Programs Programs // from Build

	Heartbeat      time.Duration // of the producer; default 1s
	StaleAfter     time.Duration // of the consumer; default 30s
	Lease          time.Duration // of the mid-point: how soon unsettled messages come again; default the program's, 30s
	LedgerInterval time.Duration // least time between two publications of the consumer; default 100ms
	Workers        int           // of the consumer; default the program's
	Writes         float64       // writes per second of the consumer; default 100
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

	// OnLine sees every line of every process as it comes, on the process's own goroutine; may be nil.
	OnLine func(*Process, Line)
}

// Stage is a bridge that is set up. The sandbox runs; the rest is started by Start, or one by one.
type Stage struct {
	Config
	Commercial, EnclaveDir, MidPointDir, TenantDir, AuditorDir, LogDir string // folders

	Sandbox, MidPoint, Producer, Consumer *Process

	Tenant *Tenant // the sandbox's own word
	Ledger *Ledger // the consumer's
	Sent   *Ledger // the producer's

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
	s := &Stage{
		Config: c, Commercial: filepath.Join(c.Dir, "commercial"), EnclaveDir: filepath.Join(c.Dir, "enclave"),
		MidPointDir: filepath.Join(c.Dir, "midpoint"), TenantDir: filepath.Join(c.Dir, "tenant"),
		AuditorDir: filepath.Join(c.Dir, "auditor"), LogDir: filepath.Join(c.Dir, "logs"),
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	for _, dir := range []string{s.Commercial, s.EnclaveDir, s.TenantDir, s.AuditorDir, s.LogDir} {
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
	return s, nil
}

func (s *Stage) process(name, path string, ready func(Line) bool, args ...string) *Process {
	return &Process{Name: name, path: path, args: args, dir: s.Dir, log: filepath.Join(s.LogDir, name+".log"), ready: ready, onLine: s.OnLine}
}

func (s *Stage) setUpTenant(ctx context.Context) error {
	seed := filepath.Join(s.TenantDir, "seed.yaml")
	if err := write(seed, s.seed()); err != nil {
		return err
	}
	isEndpoints := func(l Line) bool { return l.Stdout && l.String("authority") != "" }
	s.Sandbox = s.process("sandbox", s.Programs.Sandbox, isEndpoints, append([]string{"-dir", s.TenantDir, "-seed", seed}, s.Config.Sandbox...)...)
	if err := s.Sandbox.Start(ctx); err != nil {
		return err
	}
	return s.connectTenant()
}

// connectTenant reads what the sandbox left for its users.
func (s *Stage) connectTenant() error {
	text, err := os.ReadFile(filepath.Join(s.TenantDir, "endpoints.json"))
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
	port, err := freePort()
	if err != nil {
		return err
	}
	_, err = s.run(ctx, nil, s.Programs.Producer, "midpoint", "init", s.MidPointDir, "--host", "127.0.0.1", "--listen", fmt.Sprintf("127.0.0.1:%d", port), "--enclave", Enclave)
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
	if err := carry(filepath.Join(s.MidPointDir, "consumer", Enclave), filepath.Join(s.EnclaveDir, "queue")); err != nil {
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
	s.Consumer = s.process("consumer", s.Programs.Consumer, func(l Line) bool { return l.Msg() == "started" }, "-c", s.consumerFile(), "run")
	if err := carry(made.VerifierFile, filepath.Join(s.AuditorDir, "ledger.vkey")); err != nil {
		return err
	}
	return carry(made.EncryptionKey, filepath.Join(s.Commercial, "gov-1.pub.pem"))
}

func (s *Stage) setUpCommercial(ctx context.Context) error {
	if err := carry(filepath.Join(s.MidPointDir, "producer", Enclave), filepath.Join(s.Commercial, "queue")); err != nil {
		return err
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
	s.Producer = s.process("producer", s.Programs.Producer, func(l Line) bool { return l.Msg() == "producer running" },
		"-c", s.producerFile(), "--log", "json", "--log-level", s.LogLevel, "run")
	return carry(made.CardFile, s.Card)
}

// setUpTrust is the ceremony: the card goes across, and its key id is compared by another way.
func (s *Stage) setUpTrust(ctx context.Context) error {
	card := filepath.Join(s.EnclaveDir, "producer-card.json")
	if err := carry(s.Card, card); err != nil {
		return err
	}
	_, err := s.ConsumerDo(ctx, "trust", "add", card, "--expect", s.SigningKID, "--reason", "set up on one machine")
	return err
}

// Start starts mid-point, producer and consumer, in this order, each when the one before is ready.
func (s *Stage) Start(ctx context.Context) error {
	for _, p := range []*Process{s.MidPoint, s.Producer, s.Consumer} {
		if err := p.Start(ctx); err != nil {
			return err
		}
	}
	return nil
}

// Stop stops consumer, producer, mid-point and sandbox, in this order. An error says which did not end
// well; the others are stopped all the same.
func (s *Stage) Stop(ctx context.Context) error {
	var errs []error
	for _, p := range []*Process{s.Consumer, s.Producer, s.MidPoint, s.Sandbox} {
		if p != nil {
			errs = append(errs, p.Stop(ctx))
		}
	}
	return errors.Join(errs...)
}

// Close ends whatever still runs, at once, and says what it could not end. For the end of a test; Stop
// before it to see whether everything ends well.
func (s *Stage) Close() error {
	var errs []error
	for _, p := range []*Process{s.Consumer, s.Producer, s.MidPoint, s.Sandbox} {
		if p != nil {
			errs = append(errs, p.Kill())
		}
	}
	if s.Tenant != nil {
		s.Tenant.close()
	}
	return errors.Join(errs...)
}

// freePort finds a port that nobody listens on now. The mid-point needs a fixed one: clients come back
// to it after a restart.
func freePort() (int, error) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	port := l.Addr().(*net.TCPAddr).Port
	return port, l.Close()
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

func write(path, text string) error { return os.WriteFile(path, []byte(text), 0o600) }

func edit(f func(string) string, text string) string {
	if f == nil {
		return text
	}
	return f(text)
}
