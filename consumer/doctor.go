package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"jmlbridge/consumer/apply"
	"jmlbridge/consumer/state"
	"jmlbridge/internal/cloud"
	"jmlbridge/internal/command"
	"jmlbridge/internal/doctor"
	"jmlbridge/internal/ledger"
	"jmlbridge/internal/program"
	"jmlbridge/internal/queue/anyqueue"
)

func (a *app) doctorCommand() *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Look at what run will need, and say what is wrong with it",
		Long: `doctor looks at the surroundings one step at a time and says which step fails: the files that the configuration names (policy, keys,
credentials), the database and whether it is an old copy; each key that lies in a key store; for the mid-point the settings, the way out, the name, the connection, TLS, the
credential and the queue, and whether the credential can do more than it should; for the tenant both credentials, and whether every group and
protected account of the policy is there; and how the credentials are held. Before init, what init makes is missing. It changes nothing and takes
no message. It does not look at free disk space ("status" does) or at the collector of alarms. It exits 1 when something will not work.`,
		Example: `  consumer -c /etc/jmlbridge/consumer.yaml doctor
  consumer doctor -o json`,
		GroupID: "ops",
		Args:    command.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			inJSON, err := command.AsJSON(format)
			if err != nil {
				return err
			}
			cfg, err := loadConfig(a.configFile)
			if err != nil {
				return err
			}
			found := doctor.Run(cmd.Context(), a.checks(cfg))
			if inJSON {
				err = program.PrintJSON(a.out, found)
			} else {
				err = doctor.Print(a.out, found)
			}
			if err == nil && doctor.Failed(found) {
				err = errors.New("something will not work; see above")
			}
			return err
		},
	}
	command.OutputFlag(cmd, &format)
	return cmd
}

// checks are what doctor looks at.
func (a *app) checks(c *Config) []doctor.Check {
	list := []doctor.Check{{Name: "files", Look: func(ctx context.Context) []doctor.Finding { return a.examineFiles(ctx, c) }}}
	if c.KeyStore != nil {
		list = append(list, doctor.Check{Name: "key store", Look: func(ctx context.Context) []doctor.Finding { return c.keeper.Examine(ctx, c.uses()) }})
	}
	return append(list, []doctor.Check{
		{Name: "mid-point", Look: func(ctx context.Context) []doctor.Finding {
			return anyqueue.Examine(ctx, c.Queue.Via(c.Tenant.Transport), true)
		}},
		{Name: "tenant", Look: c.examineTenant},
		{Name: checkHeld, Look: func(context.Context) []doctor.Finding { return c.examineHoldings() }},
	}...)
}

// examineFiles makes the checks with which run begins, and writes nothing.
func (a *app) examineFiles(ctx context.Context, c *Config) []doctor.Finding {
	r := &runner{app: a, cfg: c, log: a.logger(c.Log)}
	list := []doctor.Finding{doctor.Of("settings", "policy, keys and credentials can be read", r.read())}
	list = append(list, c.examineOutputs()...)
	db, err := state.OpenRead(c.Database)
	if err != nil {
		f := doctor.Of("database", "", err)
		if _, serr := os.Lstat(c.Database); errors.Is(serr, fs.ErrNotExist) {
			f.Do = "`consumer init`, if there never was one; \"The database is lost\" in consumer/README.md, if it is gone"
		}
		return append(list, f)
	}
	defer db.Close()
	list = append(list, doctor.Of("database", "it is this enclave's", errors.Join(db.Check(c.Enclave.URI), c.sameMark(db.Read()))))
	verifier := r.verifier
	if verifier == nil { // read came to its end before
		if verifier, err = c.verifier(); err != nil {
			return append(list, doctor.Finding{Name: "ledger", Verdict: doctor.Unknown, Text: "whether the database is an old copy cannot be seen without the ledger's key"})
		}
	}
	return append(list, doctor.Of("ledger", "the database is not behind what was published", notBehind(ctx, db, c, verifier)))
}

// examineOutputs looks for the folders that run writes into and does not make; those of the ledger it makes.
func (c *Config) examineOutputs() []doctor.Finding {
	var alive, alarms error
	if text := c.unwrittenAlarms(); text != "" {
		alarms = errors.New(text)
	}
	if dir := filepath.Dir(c.Liveness.File); !isFolder(dir) {
		alive = fmt.Errorf("the folder of liveness.file, %s, is not there: the file is not written", dir)
	}
	list := []doctor.Finding{doctor.Of("alarms file", "its folder is there", alarms), doctor.Of("liveness file", "its folder is there", alive)}
	if c.Ledger.CheckpointCopy != "" {
		list = append(list, doctor.Of("checkpoint copy", "its folder is there", ledger.CheckCopy(c.Ledger.CheckpointCopy)))
	}
	return list
}

func isFolder(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

// checkHeld is the check of how credentials are held. It needs no network: run makes it too.
const checkHeld = "credentials"

func (c *Config) examineHoldings() []doctor.Finding {
	held := []cloud.Holding{{Name: "tenant.cut", For: cloud.OfTenant, Credential: c.Tenant.Cut}, {Name: "tenant.grant", For: cloud.OfTenant, Credential: c.Tenant.Grant}}
	if s := c.KeyStore; s != nil {
		held = append(held, cloud.Holding{Name: "key_store", For: cloud.OfKeys, Credential: s.Credential})
	}
	if h, ok := c.Queue.Holding("queue"); ok {
		held = append(held, h)
	}
	return append(cloud.ExamineHoldings(held, c.Queue.Exposed()), c.Queue.Confined()...)
}

// examineTenant asks by each credential for nobody, and holds the policy against the tenant.
func (c *Config) examineTenant(ctx context.Context) (list []doctor.Finding) {
	t, err := openTenants(c, nil)
	if err != nil {
		return append(list, doctor.Of("settings", "", err))
	}
	said, unheard := t.tryCredentials(ctx)
	for _, slot := range []string{apply.SlotCut, apply.SlotGrant} {
		f := doctor.Finding{Name: slot, Verdict: doctor.Well, Text: "the tenant takes the credential"}
		switch err, answered := said[slot]; {
		case !answered:
			f.Verdict, f.Text, f.Do = doctor.Bad, "the tenant did not answer: "+oneLine(unheard[slot]), "look at cloud, authority, proxy and ca_file under tenant"
			switch {
			case strings.Contains(f.Text, "Proxy Authentication Required"):
				f.Do = "the proxy wants a user and a password, or others than these: correct proxy_credentials under tenant.transport"
			case strings.Contains(f.Text, "x509: "):
				f.Do = "whoever answers has a certificate that is not trusted here: look at ca_file under tenant.transport, which names the CA of the tenant, or of a proxy that opens TLS"
			}
		case err != nil:
			f.Verdict, f.Text, f.Do = doctor.Bad, "the tenant refuses the credential: "+reason(err), "look at the application's permissions, and at its secret or certificate and when that ends"
		}
		list = append(list, f)
	}
	pol, err := c.policy()
	if err != nil {
		return append(list, doctor.Of("policy", "", err))
	}
	f := doctor.Finding{Name: "policy", Verdict: doctor.Well, Text: "its groups and protected accounts are there"}
	notes, err := checkTenant(ctx, t.grant, pol)
	switch {
	case errors.Is(err, errUnchecked):
		f.Verdict, f.Text = doctor.Unknown, "the tenant did not answer for all that it names"
	case err != nil:
		f.Verdict, f.Text = doctor.Bad, oneLine(err)
	}
	list = append(list, f)
	for _, n := range notes {
		list = append(list, doctor.Finding{Name: "policy", Verdict: doctor.Warning, Text: n})
	}
	return list
}
