package main

import (
	"context"
	"errors"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"jmlbridge/internal/cloud"
	"jmlbridge/internal/command"
	"jmlbridge/internal/doctor"
	"jmlbridge/internal/ledger"
	"jmlbridge/internal/program"
	"jmlbridge/internal/queue/anyqueue"
	"jmlbridge/internal/store"
	"jmlbridge/producer/outbox"
)

func (a *app) doctorCommand() *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Look at what run will need, and say what is wrong with it",
		Long: `doctor looks at the surroundings one step at a time and says which step fails: the keys, the database and whether it is an old copy, the chain
of each enclave and its public key; each key that lies in a key store; for each mid-point the settings, the way out, the name, the connection, TLS, the credential and the queue, and
whether the credential can do more than it should; and how the credentials are held. Before init, what init makes is missing.
It changes nothing and takes no message. It does not look at free disk space or at the enclave. It exits 1 when something will not work.`,
		Example: `  producer -c producer.yaml doctor
  producer doctor -o json`,
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
			found := doctor.Run(cmd.Context(), cfg.checks())
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
func (c *Config) checks() []doctor.Check {
	list := []doctor.Check{{Name: "files", Look: c.examineFiles}}
	if c.KeyStore != nil {
		list = append(list, doctor.Check{Name: "key store", Look: func(ctx context.Context) []doctor.Finding { return c.keeper.Examine(ctx, c.uses()) }})
	}
	for i := range c.Enclaves {
		e := &c.Enclaves[i]
		list = append(list, doctor.Check{Name: "mid-point of " + e.Name, Look: func(ctx context.Context) []doctor.Finding {
			return anyqueue.Examine(ctx, e.Queue.Via(c.Transport), false)
		}})
	}
	return append(list, doctor.Check{Name: checkHeld, Look: func(context.Context) []doctor.Finding { return c.examineHoldings() }})
}

// examineFiles makes the checks with which run begins, and writes nothing.
func (c *Config) examineFiles(ctx context.Context) []doctor.Finding {
	signer, next, err := c.signers()
	list := []doctor.Finding{doctor.Of("signing key", "it can be used", err)}
	if c.Signing.Next != nil && err == nil {
		f := doctor.Finding{Name: "next key", Verdict: doctor.Well, Text: "it can be used"}
		if next == nil {
			f.Verdict, f.Text, f.Do = doctor.Warning, "it is named and not there", "`producer key next` makes it"
		}
		list = append(list, f)
	}
	for i := range c.Enclaves {
		_, err := c.Enclaves[i].recipient()
		list = append(list, doctor.Of("key of "+c.Enclaves[i].Name, "its public encryption key can be used", err))
	}
	db, err := store.OpenRead(c.Database, outbox.Schema)
	if err != nil {
		f := doctor.Of("database", "", err)
		if _, serr := os.Lstat(c.Database); errors.Is(serr, fs.ErrNotExist) {
			f.Do = "`producer init`, if there never was one"
		}
		return append(list, f)
	}
	defer db.Close()
	err = outbox.Belongs(db, c.Issuer, c.Stream)
	if err == nil && signer != nil {
		_, err = c.keyInForce(db)
	}
	list = append(list, doctor.Of("database", "it is this producer's", err))
	for _, e := range c.Enclaves {
		list = append(list, doctor.Of("chain of "+e.Name, "it has begun", outbox.Known(ctx, db, e.Audience)))
	}
	if c.Ledger.CheckpointCopy != "" {
		list = append(list, doctor.Of("checkpoint copy", "its folder is there", ledger.CheckCopy(c.Ledger.CheckpointCopy)))
	}
	return append(list, doctor.Of("ledger", "the database is not behind what was published", c.examineLedger(ctx, db)))
}

func (c *Config) examineLedger(ctx context.Context, db *store.DB) error {
	generation, err := outbox.Generation(ctx, db)
	if err != nil {
		return err
	}
	lc, err := c.ledgerConfig(db, generation)
	if err != nil {
		return err
	}
	return ledger.CheckNotBehind(ctx, lc)
}

// checkHeld is the check of how credentials are held. It needs no network: run makes it too.
const checkHeld = "credentials"

func (c *Config) examineHoldings() []doctor.Finding {
	var held []cloud.Holding
	exposed := false
	var confined []doctor.Finding
	if s := c.KeyStore; s != nil {
		held = append(held, cloud.Holding{Name: "key_store", For: cloud.OfKeys, Credential: s.Credential})
	}
	for _, e := range c.Enclaves {
		exposed = exposed || e.Queue.Exposed()
		if confined == nil { // one kernel for all of them
			confined = e.Queue.Confined()
		}
		if h, ok := e.Queue.Holding("queue of " + e.Name); ok {
			held = append(held, h)
		}
	}
	return append(cloud.ExamineHoldings(held, exposed), confined...)
}
