package main

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/mod/sumdb/note"

	"jmlbridge/consumer/apply"
	"jmlbridge/consumer/policy"
	"jmlbridge/consumer/state"
	"jmlbridge/internal/command"
	"jmlbridge/internal/directory"
	"jmlbridge/internal/doctor"
	"jmlbridge/internal/envelope"
	"jmlbridge/internal/keys/custody"
	"jmlbridge/internal/keys/vault"
	"jmlbridge/internal/ledger"
	"jmlbridge/internal/ledger/entry"
	"jmlbridge/internal/ledger/tiles"
	"jmlbridge/internal/program"
	"jmlbridge/internal/store"
	"jmlbridge/internal/syslog"
	"jmlbridge/schema"
)

func (a *app) runCommand() *cobra.Command {
	var observe bool
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Pull, decide, act and record, until stopped",
		Long: `run is the consumer itself. It pulls messages, admits them, brings the tenant into agreement with them and
records everything. It only dials out. SIGINT or SIGTERM stop it: what is under way is finished and
recorded first; a second signal ends it at once, which is as safe as a power cut.

With --observe it does everything but write to the tenant: for the first days, and for rehearsals.

Before it touches anything it checks the configuration, the keys, both credentials and the policy with its groups and
protected accounts in the tenant, that nobody else runs on the database, and that the database is not an old copy.`,
		Example: `  consumer -c /etc/jmlbridge/consumer.yaml run --observe
  consumer -c /etc/jmlbridge/consumer.yaml run`,
		GroupID: "work",
		Args:    command.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := loadConfig(a.configFile)
			if err != nil {
				return err
			}
			return a.runner(cmd.Context(), cfg, observe)
		},
	}
	cmd.Flags().BoolVar(&observe, "observe", false, "plan and record, but write nothing to the tenant")
	return cmd
}

// runner is one run, from the first look at the files to the last checkpoint.
type runner struct {
	*app
	cfg     *Config
	observe bool
	log     *slog.Logger

	policy         *policy.Policy
	ring           *envelope.Ring
	signer         note.Signer
	verifier       note.Verifier
	second         note.Signer   // nil: there is no second key
	secondVerifier note.Verifier // of it
	tenants        *tenants
	queue          *watchedQueue
	db             *state.DB
	space          *space
	collector      *syslog.Sender // of alarms; nil: there is none

	unchecked bool             // the policy could not be held against the tenant yet
	said      map[string]error // to the credential of each slot by the tenant, where it answered; owned by recheck once that runs
	unheard   bool             // nothing was published yet
	failing   bool             // the last publication failed; both belong to the publisher's goroutine

	mu         sync.Mutex        // guards what follows; held while an alarm of the process is written
	unrecorded map[string]change // by the alarm's code: what is to be recorded yet
}

func (r *runner) mode() string {
	if r.observe {
		return "observe"
	}
	return "run"
}

// metaMode is the key of the database under which the last start left its mode and process.
const metaMode = "mode"

// observes reports whether the consumer that runs as pid writes nothing to the tenant.
func observes(r state.Reader, pid int) (bool, error) {
	value, err := state.Meta(r, metaMode)
	return pid != 0 && value == fmt.Sprintf("observe %d", pid), err
}

// runner starts in this order: what only reads files; the lock; the database; what only asks. Then the
// first entry, and work. Whatever fails before that entry has changed nothing.
func (a *app) runner(ctx context.Context, cfg *Config, observe bool) (err error) {
	r := &runner{app: a, cfg: cfg, observe: observe, log: a.logger(cfg.Log), unheard: true}
	if err := r.read(); err != nil {
		return err
	}
	if _, err := os.Lstat(cfg.Database); err != nil {
		_, err := state.Open(cfg.Database) // says what is wrong; the lock would leave a file beside nothing
		return err
	}
	r.space = newSpace(cfg.roomConfig(), r.log)
	if _, err := r.space.Look(); err != nil { // before the first write: a full disk must not keep leavers waiting
		r.log.Error("could not look after the room on the disk", "err", oneLine(err))
	}
	lock, err := store.Take(cfg.Database)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Release()) }()
	if r.db, err = state.Open(cfg.Database); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.db.Close()) }()
	if err := r.db.Check(cfg.Enclave.URI); err != nil {
		return err
	}
	if err := cfg.sameMark(r.db.Read()); err != nil {
		return err
	}
	if err := notBehind(ctx, r.db, cfg, r.verifier); err != nil {
		return err
	}
	child := &child{runner: r}
	receiver, err := child.open()
	if err != nil {
		return cfg.file.Errorf("$.queue."+cfg.Queue.Kind(), "%v", err)
	}
	r.queue = &watchedQueue{Receiver: receiver, changed: r.midpoint}
	defer func() {
		err = errors.Join(err, receiver.Close())
		child.stop()
	}()
	if err := r.checkPolicy(ctx); err != nil {
		return err
	}
	if ctx.Err() != nil {
		return nil // stopped before anything began
	}
	// From here on a signal ends the work in its order, and leaves no start half recorded.
	if err := r.start(context.WithoutCancel(ctx)); err != nil {
		return err
	}
	child.begin()
	return r.work(ctx)
}

// read opens every file that the configuration names, before anything else is done.
func (r *runner) read() (err error) {
	f := r.cfg.file
	if r.policy, err = r.cfg.policy(); err != nil {
		return err
	}
	var list []crypto.PrivateKey
	for i, at := range r.cfg.Keys.Decryption {
		key, err := r.cfg.keeper.Decryption(at)
		if err != nil {
			return f.Errorf(fmt.Sprintf("$.keys.decryption[%d]", i), "%v", err)
		}
		list = append(list, key)
	}
	if r.ring, err = envelope.NewRing(list...); err != nil {
		return f.Errorf("$.keys.decryption", "%v", err)
	}
	if err := r.cfg.sameName(); err != nil {
		return err
	}
	key, err := r.cfg.keeper.Ledger(r.cfg.Ledger.Key)
	if err != nil {
		return f.Errorf("$.ledger.key", "%v", err)
	}
	if err := custody.Unwrap(key); err != nil {
		if _, away := errors.AsType[*vault.Error](err); !away {
			return f.Errorf("$.ledger.key", "%v", err)
		}
		// What is recorded is durable meanwhile, and leavers must not wait for it.
		r.log.Warn("the ledger's key cannot be unwrapped yet; checkpoints wait for it", "err", oneLine(err))
	}
	if r.signer, r.verifier, err = tiles.NewSigner(r.cfg.origin(), key); err != nil {
		return f.Errorf("$.ledger.key", "%v", err)
	}
	if ref := r.cfg.Ledger.SecondKey; ref != nil {
		key, err := r.cfg.keeper.Signer(*ref)
		if err == nil {
			r.second, r.secondVerifier, err = tiles.NewSecondSigner(r.cfg.origin(), key)
		}
		if err != nil {
			return f.Errorf("$.ledger.second_key", "%v", err)
		}
	}
	if c := r.cfg.Alarms.Syslog; c != nil {
		if r.collector, err = syslog.New(*c, "jmlbridge-consumer", r.collects); err != nil {
			return f.Errorf("$.alarms.syslog", "%v", err)
		}
	}
	r.tenants, err = openTenants(r.cfg, r.log)
	return err
}

func (r *runner) ledger() ledger.Config {
	return ledger.Config{DB: r.db.DB, Signer: r.signer, Verifier: r.verifier, Second: r.second, SecondVerifier: r.secondVerifier, Dir: r.cfg.Ledger.Dir, Copy: r.cfg.Ledger.CheckpointCopy,
		Archive: r.db, Interval: r.cfg.Ledger.Interval.D(), Report: r.published}
}

// checkPolicy refuses a policy that names groups which cannot be used, or protected accounts that are none. A tenant that does not answer
// is no reason to leave leavers where they are: run goes on, and asks again. So it does where the tenant refuses a credential, for the
// other one may work.
func (r *runner) checkPolicy(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, policyTime)
	defer cancel()
	r.said, _ = r.tenants.tryCredentials(ctx)
	for slot, err := range r.said {
		if err != nil {
			r.log.Error("the tenant refuses a credential", "slot", slot, "err", oneLine(err))
		}
	}
	notes, err := checkTenant(ctx, r.tenants.grant, r.policy)
	for _, n := range notes {
		r.log.Warn("policy", "note", n)
	}
	if errors.Is(err, errUnchecked) {
		r.log.Warn("the policy is not yet checked against the tenant", "err", oneLine(err))
		r.unchecked = true
		return nil
	}
	return err
}

// start writes the entries that a run begins with: what runs, by which policy, and whether the clock is
// where it should be.
func (r *runner) start(ctx context.Context) error {
	now := r.now()
	leap, err := sinceLedger(r.db, now)
	if err != nil {
		return err
	}
	by, err := r.who()
	if err != nil {
		return err
	}
	err = r.db.Tx(ctx, func(tx *store.Tx) error {
		err := r.recordStart(tx, r.db, r.cfg, r.mode(), func(s *entry.Started) {
			digest := r.policy.Digest()
			s.Policy, s.Cloud, s.Tenant = &digest, r.tenants.cloud.Name, entry.ID(r.cfg.Tenant.ID)
		})
		if err != nil {
			return err
		}
		for _, code := range []string{alarmProcess, alarmUnread, alarmSyslog, alarmUnopened} { // of the last run
			if _, err := state.ClearAlarm(tx, code, "", now); err != nil {
				return err
			}
		}
		if err := state.SetMeta(tx, metaMode, fmt.Sprintf("%s %d", r.mode(), os.Getpid())); err != nil {
			return err
		}
		if err := state.SetMeta(tx, metaMark, r.cfg.markAttribute()); err != nil {
			return err
		}
		if err := r.inForce(tx, by); err != nil {
			return err
		}
		if err := state.LookAgain(tx, now); err != nil { // what kept a cut may be put right
			return err
		}
		if leap != nil {
			if err := leap.Record(tx, now); err != nil {
				return err
			}
		}
		if err := r.heard(tx, now); err != nil {
			return err
		}
		if r.unchecked {
			_, err = state.RaiseAlarm(tx, uncheckedAlarm(now))
		} else {
			err = clearPolicyAlarms(tx, now)
		}
		return err
	})
	if err != nil {
		return err
	}
	if leap != nil {
		r.log.Error("the clock is not where the ledger's last entry says", "offset", leap.Offset().String())
	}
	f := program.FIPS()
	doctor.Warn(r.log, checkHeld, r.cfg.examineHoldings())
	r.log.Info("started", "mode", r.mode(), "version", program.Version(), "fips", f.Enabled, "fips_module", f.Version, "policy", r.policy.Digest().String(), "enclave", r.db.Enclave(), "database", r.db.ID(), "pid", os.Getpid())
	return nil
}

// heard raises and ends the alarms on credentials, as the tenant answered to them.
func (r *runner) heard(tx *store.Tx, now time.Time) (err error) {
	for _, slot := range slices.Sorted(maps.Keys(r.said)) {
		if why := r.said[slot]; why != nil {
			_, err = state.RaiseAlarm(tx, state.Alarm{Code: apply.AlarmDenied, Key: slot, Severity: state.Critical, Last: now, Text: apply.DeniedText(slot, reason(why))})
		} else {
			_, err = state.ClearAlarm(tx, apply.AlarmDenied, slot, now)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// dead reports whether the tenant refuses a credential, as far as it said.
func (r *runner) dead() bool {
	return slices.ContainsFunc(slices.Collect(maps.Values(r.said)), func(err error) bool { return err != nil })
}

// reason is the tenant's word in an error, without what was asked for.
func reason(err error) string {
	e, ok := errors.AsType[*directory.Error](err)
	if !ok {
		return "no reason given"
	}
	if e.Reason == "" {
		return e.Code
	}
	return e.Code + "; the tenant says " + e.Reason
}

// inForce records a policy that is another than the last one.
func (r *runner) inForce(tx *store.Tx, by string) error {
	before, err := state.Meta(tx, state.MetaPolicy)
	if err != nil || before == r.policy.Digest().String() {
		return err
	}
	e := &entry.Policy{Digest: r.policy.Digest(), By: by, Counts: []entry.Count{
		{Name: "groups", Count: int64(len(r.policy.Groups))},
		{Name: "protected", Count: int64(len(r.policy.Protected))},
		{Name: "roles", Count: int64(len(r.policy.Roles))},
	}}
	if before != "" {
		e.Previous = new(schema.Digest)
		if err := e.Previous.UnmarshalText([]byte(before)); err != nil {
			return err
		}
	}
	if _, err := ledger.Append(tx, entry.New(r.now(), e)); err != nil {
		return err
	}
	if before != "" {
		if err := apply.PolicyChanged(tx, r.policy, r.now()); err != nil {
			return err
		}
	}
	return state.SetMeta(tx, state.MetaPolicy, r.policy.Digest().String())
}
