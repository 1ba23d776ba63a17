package main

import (
	"bytes"
	"context"
	"crypto"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"jmlbridge/internal/command"
	"jmlbridge/internal/keys"
	"jmlbridge/internal/ledger"
	"jmlbridge/internal/ledger/entry"
	"jmlbridge/internal/program"
)

// recovered is what recover leaves, for people and scripts.
type recovered struct {
	Generation     int      `json:"generation"`
	Messages       int      `json:"messages"` // of the rosters that begin it
	CardFile       string   `json:"card_file"`
	LedgerVerifier string   `json:"ledger_verifier"`
	VerifierFile   string   `json:"ledger_verifier_file"` // the same line in a file
	SetAside       []string `json:"set_aside"`

	SecondVerifier     string `json:"second_verifier,omitempty"` // of the ledger's second key, if it has one
	SecondVerifierFile string `json:"second_verifier_file,omitempty"`
}

func (a *app) recoverCommand() *cobra.Command {
	var reason, format string
	var force bool
	cmd := &cobra.Command{
		Use:   "recover",
		Short: "Go on from a restored database, in the next generation",
		Long: `recover is for a database that was restored from a backup: numbers were given since then that it does not
know, and none may be given twice. It opens the next generation of the stream, which begins with a roster
of everything that the database knows; sets the ledger that was published until now aside (its entries stay
evidence) and begins a new one; and leaves a card that the operator of each enclave must accept.

What was said between the backup and the loss is not known here. Emit again what an operator had emitted,
leavers and suspensions first, and import the newest export after it. Until a file that names everyone was taken whole (import --complete,
no row refused or held), a row in scope of somebody who has left is said as a leaver also where nothing was
ever announced of them, and emit leaver takes a person who is not known here. The next engagement of a person
skips the numbers that may have been given since the backup.

Stop the runner first. Without a reason to think that the database is old, --force is needed.`,
		Example: `  producer -c producer.yaml recover --reason "disk lost on 3 May, backup of 2 May"`,
		GroupID: "ops",
		Args:    command.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			inJSON, err := command.AsJSON(format)
			if err != nil {
				return err
			}
			if reason == "" {
				return command.Usagef("recover: want --reason, for the ledger and for the enclave's operators")
			}
			if err := checkReason(reason); err != nil {
				return err
			}
			cfg, err := loadConfig(a.configFile)
			if err != nil {
				return err
			}
			lock, err := takeLock(cfg.Database)
			if err != nil {
				return err
			}
			defer lock.Release()
			r, err := a.recover(cmd.Context(), cfg, reason, force)
			if err != nil {
				return err
			}
			if inJSON {
				return program.PrintJSON(a.out, r)
			}
			_, err = fmt.Fprintf(a.out, `Generation %d is open; it begins with %s of roster.

Carry to each enclave (public):
  card  %s

Give to auditors (the line of the new ledger, public, also in %s; the old ledger keeps its own):
  %s
%s
Set aside, keep as evidence: %s

Next: emit again what operators had emitted since the backup, leavers and suspensions first; import the newest export
(--complete if it names everyone: until then a row of somebody not known here who has left is said as a leaver too); start run;
and when status shows that nothing waits any more, have each enclave's operator accept the card. Not before: the new generation
begins with what the backup knows, and a suspension that it does not know would end there.
`, r.Generation, count(r.Messages, "message"), r.CardFile, r.VerifierFile, r.LedgerVerifier, secondLine(r.SecondVerifier, r.SecondVerifierFile), strings.Join(r.SetAside, ", "))
			return err
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "", "`text` for the ledger: what happened")
	cmd.Flags().BoolVar(&force, "force", false, "open a new generation although the database is not behind what it published")
	command.OutputFlag(cmd, &format)
	return cmd
}

func (a *app) recover(ctx context.Context, cfg *Config, reason string, force bool) (_ *recovered, err error) {
	s, err := a.open(ctx, cfg, opening{unguarded: true, reports: true})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	err = ledger.CheckNotBehind(ctx, s.ledger)
	switch {
	case errors.As(err, new(*ledger.BehindError)):
	case err != nil:
		return nil, err
	case !force && s.foreign != nil:
		return nil, s.foreign
	case !force:
		made, err := cfg.complete(s.key.Public(), s.generation)
		if err != nil {
			return nil, err
		}
		if len(made) > 0 {
			return nil, command.Misusef("generation %d is open; the recover that opened it was killed before it left %s: made now, carry the card to each enclave and the line of a ledger to auditors. Nothing else was changed", s.generation, strings.Join(made, ", "))
		}
		return nil, command.Misusef("the database agrees with the ledger that it published last, so nothing seems to be lost; if it was restored all the same, say --force")
	}
	atLeast, err := cfg.nextGeneration()
	if err != nil {
		return nil, err
	}
	by, err := a.login()
	if err != nil {
		return nil, err
	}
	if s.foreign != nil {
		a.remark(fmt.Sprintf("key %s, which this database has in force, is not configured any more: signing.key signs from here on", s.foreign.KID),
			"the key that this database has in force is not configured any more: signing.key signs from here on", "kid", s.foreign.KID)
	}
	if kid, err := keys.ID(s.key.Public()); err == nil && s.next != nil && s.next.KID() != kid {
		a.remark(fmt.Sprintf("key %s signs from here on, as in this database; if there was a key switch since, switch again before anything else, and then state a roster: whoever has retired that key takes nothing of it", kid),
			"the key of this database signs from here on; if there was a key switch since, switch again before anything else, and then state a roster", "kid", kid)
	}
	r := &recovered{}
	// The folders go first. A crash after this leaves a database whose ledger is missing: every start is
	// refused, and recover goes on from there.
	for _, path := range []string{cfg.Ledger.Dir, cfg.Ledger.CheckpointCopy} {
		if path == "" {
			continue
		}
		aside := fmt.Sprintf("%s%s%d", path, asideMark, atLeast)
		switch err := os.Rename(path, aside); {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			return nil, command.Misusef("set the published ledger aside: %w; if it lies on write-once storage, name another ledger.dir or checkpoint_copy in the configuration first", err)
		default:
			r.SetAside = append(r.SetAside, aside)
		}
	}
	if err := os.MkdirAll(cfg.Ledger.Dir, 0o755); err != nil {
		return nil, err
	}
	started, err := s.startedEntry("recover", uuid.NewString())
	if err != nil {
		return nil, err
	}
	generation, sent, err := s.box.Recover(ctx, atLeast, func(generation int) []entry.Body {
		return []entry.Body{started, &entry.Operator{By: entry.ID(by), Action: "recover", Target: strconv.Itoa(generation), Reason: entry.Text(reason)}}
	})
	if err != nil {
		return nil, err
	}
	r.Generation, r.Messages, r.CardFile = generation, len(sent), cfg.cardFile(generation)
	if r.LedgerVerifier, r.SecondVerifier, err = cfg.verifiers(generation); err != nil {
		return nil, err
	}
	r.VerifierFile = cfg.verifierFile(generation)
	if r.SecondVerifier != "" {
		r.SecondVerifierFile = cfg.secondFile(generation)
	}
	_, err = cfg.complete(s.key.Public(), generation)
	return r, err
}

// complete makes what a recovery leaves for enclaves and auditors, where it is not there or was not written to its end: the
// card and the lines of a later generation than the first, of which nothing was published yet. All of it is public. It
// tells what it made.
func (c *Config) complete(key crypto.PublicKey, generation int) (made []string, err error) {
	if generation < 2 {
		return nil, nil // init's, which makes everything or nothing
	}
	if _, err := os.Lstat(filepath.Join(c.Ledger.Dir, ledger.TilesFolder, "checkpoint")); err == nil {
		return nil, nil // it was in use since, and whoever has carried the files may have taken them away
	}
	k, err := c.card(key, generation)
	if err != nil {
		return nil, err
	}
	card, err := k.text()
	if err != nil {
		return nil, err
	}
	first, second, err := c.verifiers(generation)
	if err != nil {
		return nil, err
	}
	for _, f := range []struct {
		path string
		text []byte
	}{{c.cardFile(generation), card}, {c.verifierFile(generation), []byte(first + "\n")}, {c.secondFile(generation), []byte(second + "\n")}} {
		if second == "" && f.path == c.secondFile(generation) {
			continue
		}
		switch there, err := os.ReadFile(f.path); {
		case err == nil && (len(there) >= len(f.text) || !bytes.HasPrefix(f.text, there)):
			continue
		case err == nil: // cut short
			if err := os.Remove(f.path); err != nil {
				return made, err
			}
		case !errors.Is(err, fs.ErrNotExist):
			return made, err
		}
		if err := writeNew(f.path, f.text); err != nil {
			return made, err
		}
		made = append(made, f.path)
	}
	return made, nil
}

const asideMark = ".before-g"

// nextGeneration is the lowest that no earlier recovery can have opened, as far as the folders tell: a
// backup may be older than a recovery, and then its database does not know of it.
func (c *Config) nextGeneration() (int, error) {
	highest := 1
	beside, err := os.ReadDir(filepath.Dir(c.Ledger.Dir))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, err
	}
	for _, e := range beside {
		if g, ok := strings.CutPrefix(e.Name(), filepath.Base(c.Ledger.Dir)+asideMark); ok {
			if n, err := strconv.Atoi(g); err == nil {
				highest = max(highest, n)
			}
		}
	}
	// The checkpoints name the generation in which they were signed.
	for _, path := range []string{filepath.Join(c.Ledger.Dir, ledger.TilesFolder, "checkpoint"), c.Ledger.CheckpointCopy} {
		text, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		line, _, _ := strings.Cut(string(text), "\n")
		if g, ok := strings.CutPrefix(line, c.Ledger.Origin+"/g"); ok {
			if n, err := strconv.Atoi(g); err == nil {
				highest = max(highest, n)
			}
		}
	}
	return highest + 1, nil
}
