package main

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"jmlbridge/consumer/policy"
	"jmlbridge/consumer/recall"
	"jmlbridge/consumer/state"
	"jmlbridge/internal/command"
	"jmlbridge/internal/config"
	"jmlbridge/internal/keys"
	"jmlbridge/internal/keys/custody"
	"jmlbridge/internal/ledger"
	"jmlbridge/internal/ledger/archive"
	"jmlbridge/internal/ledger/entry"
	"jmlbridge/internal/ledger/tiles"
	"jmlbridge/internal/program"
	"jmlbridge/internal/store"
	"jmlbridge/schema"
)

// recovered is what recover prints.
type recovered struct {
	Database       string        `json:"database"`
	Previous       string        `json:"previous_ledger"`
	Size           int64         `json:"previous_size"`
	Root           schema.Digest `json:"previous_root"`
	Read           int64         `json:"entries_read"` // of the previous ledger; 0: its folder was not at hand
	Unread         int64         `json:"unread"`       // heartbeats and parts of rosters on it that are not in its archive
	Keys           int           `json:"keys"`         // of producers, that are trusted again
	Closed         int           `json:"closed"`       // persons who stay out
	Open           int           `json:"open"`         // of them, whose account was not seen to be cut
	Accounts       *int          `json:"accounts"`     // in the tenant that bear the bridge's mark; null: it was not looked through
	Memberships    *int          `json:"memberships"`  // of these in groups of the policy; null as above
	LedgerVerifier string        `json:"ledger_verifier"`
	VerifierFile   string        `json:"verifier_file"`
}

func (a *app) recoverCommand() *cobra.Command {
	var format, reason, folder, checkpoint string
	var noTenant, newerLost bool
	cmd := &cobra.Command{
		Use:   "recover",
		Short: "Begin a new database where the old one is lost, and link it to the old ledger",
		Long: `recover is for the day on which the database is lost for good, and keys, configuration, policy and the published
ledger, or at least its checkpoint copy, remain. Raise ledger.series in the configuration and name new places for
ledger.dir and ledger.checkpoint_copy; the old ones stay as they are, for the auditors.

It makes a database whose ledger names the old one's last checkpoint in its first entry. From the old folder, which it
verifies entry by entry, it takes the producers' keys, where each stream was, and everybody who had left, was
suspended or was cut, by messages, heartbeats and rosters (archive/ beside tiles/): they stay out, and whose account
was not seen to be cut is cut by "consumer run", inside the limits. What you ruled holds: a word that was disowned brings nobody
back. Out of the tenant it takes every account that bears the bridge's mark: those whose people the producer's next roster
does not name are shown ("consumer unclaimed"). Nobody is cut for being unknown, and nothing is given before that roster.
In which groups of the policy each of them is, it takes too: by that the limits count who is to lose roles.

One that was killed has made nothing: the next one names what it left, to be removed first.`,
		Example: `  consumer recover --ledger /var/lib/jmlbridge/ledger --checkpoint /mnt/worm/gov-1.checkpoint --reason "disk lost, INC-7"`,
		GroupID: "setup",
		Args:    command.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			inJSON, err := command.AsJSON(format)
			if err != nil {
				return err
			}
			if strings.TrimSpace(reason) == "" {
				return command.Usagef("--reason: say why; it goes on the ledger")
			}
			if folder == "" && checkpoint == "" {
				return command.Usagef("want --ledger DIR, --checkpoint FILE or both: the new ledger is linked to the last checkpoint of the old one")
			}
			cfg, err := loadConfig(a.configFile)
			if err != nil {
				return err
			}
			by, err := a.by(reason)
			if err != nil {
				return err
			}
			old, err := cfg.previous(folder, checkpoint, newerLost)
			if err != nil {
				return err
			}
			done, err := a.recover(cmd.Context(), cfg, old, folder, noTenant, by)
			if err != nil {
				return err
			}
			if inJSON {
				return program.PrintJSON(a.out, done)
			}
			fmt.Fprintf(a.out, `Made the database %s. Its ledger follows %s at %d entries (root %s).
  read      %s
  trusted   %s of producers
  out       %s, as before; the account of %d was not seen to be cut: `+"`consumer run`"+` cuts it, inside the limits
  tenant    %s

Give to auditors (public, one line, also in %s), beside the old line and the old folder:
  %s

`, done.Database, done.Previous, done.Size, tlog.Hash(done.Root), done.known(), count(done.Keys, "key"), persons(done.Closed), done.Open, done.looked(), done.VerifierFile, done.LedgerVerifier)
			if done.Keys == 0 {
				fmt.Fprintf(a.out, "Next: consumer -c %s trust add CARD --expect KEYID --at-seq N --head-hash H --reason TEXT, where H is the hash of the producer's present head and N one more than its number\n", a.configFile)
			}
			_, err = fmt.Fprint(a.out, "Then: `consumer run`, and have the producer's people run `producer roster`: nothing is given before it comes, and a heartbeat after it.\n")
			return err
		},
	}
	cmd.Flags().StringVar(&folder, "ledger", "", "the old published `folder`, with tiles/ and archive/ in it")
	cmd.Flags().StringVar(&checkpoint, "checkpoint", "", "the old checkpoint copy, a `file`")
	cmd.Flags().BoolVar(&newerLost, "newer-lost", false, "take a ledger that is not the last one, since every newer one is gone for good: what was cut and ruled on those is forgotten")
	cmd.Flags().BoolVar(&noTenant, "no-tenant", false, "do not look through the tenant: accounts whose people nobody names are not found, and who is to lose roles is counted one by one")
	cmd.Flags().StringVar(&reason, "reason", "", "`text` for the ledger; required")
	command.OutputFlag(cmd, &format)
	return cmd
}

// known says how much of the old ledger was read.
func (r *recovered) known() string {
	s := count64(r.Read, "entry", "entries") + " of it"
	if r.Unread > 0 {
		s += "; not in its archive: " + count64(r.Unread, "heartbeat or part of a roster", "heartbeats and parts of rosters") + ". Who left by these alone, or is suspended still by an earlier word, is not known before the producer's roster"
	}
	return s
}

func count64(n int64, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return strconv.FormatInt(n, 10) + " " + many
}

// looked says what was found in the tenant.
func (r *recovered) looked() string {
	if r.Accounts == nil {
		return "was not looked through: find marked accounts whose people the producer's roster does not name by hand"
	}
	return count(*r.Accounts, "account") + " with the bridge's mark, and " + count(*r.Memberships, "membership") + " in groups of the policy; those that the producer's roster does not name will be in `consumer unclaimed list`"
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return strconv.Itoa(n) + " " + what + "s"
}

// before is the ledger that was lost with its database, as far as it is at hand.
type before struct {
	name   string
	last   tiles.Checkpoint // the furthest that is known
	reader *tiles.Reader    // nil: only a checkpoint is at hand
}

// previous opens the old ledger by the key that signs the new one too.
func (c *Config) previous(folder, checkpoint string, newerLost bool) (*before, error) {
	key, err := c.keeper.Ledger(c.Ledger.Key)
	if err == nil {
		err = custody.Unwrap(key)
	}
	if err != nil {
		return nil, c.file.Errorf("$.ledger.key", "%v", err)
	}
	p := &before{}
	open := func(path string) (cp tiles.Checkpoint, v note.Verifier, err error) {
		raw, err := os.ReadFile(path)
		if err != nil {
			return cp, nil, command.Misusef("read the old checkpoint: %w", err)
		}
		line, _, _ := bytes.Cut(raw, []byte("\n"))
		name := string(line)
		series, ok := c.seriesOf(name)
		if !ok || p.name != "" && p.name != name {
			return cp, nil, command.Misusef("%s is of ledger %q; want a ledger of this enclave, and one only", path, name)
		}
		if series >= c.Ledger.Series {
			return cp, nil, c.file.Errorf("$.ledger.series", "want more than %d, which is that of the old ledger (%s): a ledger's name is used once", series, path)
		}
		if series != c.Ledger.Series-1 && !newerLost {
			return cp, nil, c.file.Errorf("$.ledger.series", "is %d, and %s is of the ledger of series %d: want that of series %d, for whoever was cut and what was ruled on it would be forgotten. If there never was one, write series: %d; if it is gone for good, --newer-lost goes on without it",
				c.Ledger.Series, path, series, c.Ledger.Series-1, series+1)
		}
		p.name = name
		if _, v, err = tiles.NewSigner(name, key); err != nil {
			return cp, nil, c.file.Errorf("$.ledger.key", "%v", err)
		}
		if cp, err = tiles.OpenCheckpoint(raw, v); err != nil {
			return cp, nil, command.Misusef("%s: %w", path, err)
		}
		return cp, v, c.cosigned(path, name, raw)
	}
	if folder != "" {
		dir := filepath.Join(folder, ledger.TilesFolder)
		cp, v, err := open(filepath.Join(dir, tiles.CheckpointFile))
		if err != nil {
			return nil, err
		}
		p.last = cp
		if p.reader, err = tiles.OpenReader(dir, v); err != nil {
			return nil, command.Misusef("open the old ledger: %w", err)
		}
	}
	if checkpoint == "" {
		return p, nil
	}
	cp, _, err := open(checkpoint)
	if err != nil {
		return nil, err
	}
	if p.reader != nil && cp.Size <= p.last.Size {
		if err := p.reader.CheckExtends(cp); err != nil {
			return nil, command.Misusef("the old folder is not of the ledger of %s: %w", checkpoint, err)
		}
		return p, nil
	}
	p.last = cp // the folder, where there is one, is behind it
	return p, nil
}

// cosigned refuses an old checkpoint that does not bear the second key's signature, where there is one: else whoever
// has the first key alone could say what the old ledger was.
func (c *Config) cosigned(path, name string, raw []byte) error {
	if c.Ledger.SecondKey == nil {
		return nil
	}
	line, err := c.secondLine(name)
	if err != nil {
		return err
	}
	second, err := tiles.NewSecondVerifier(line)
	if err != nil {
		return err
	}
	if err := tiles.CheckSecond(raw, second); err != nil {
		return command.Misusef("%s: %w. Want the last checkpoint that the old ledger published. If it never had this second key, take ledger.second_key out of the configuration, recover, put it back, `consumer keys --adopt`", path, err)
	}
	return nil
}

// secondLine is the verifier line of the second key for a ledger of this name.
func (c *Config) secondLine(name string) (string, error) {
	second, err := c.keeper.Signer(*c.Ledger.SecondKey)
	if err != nil {
		return "", err
	}
	ec, _ := second.Public().(*ecdsa.PublicKey)
	return tiles.SecondVerifierKey(name, ec)
}

// recover makes everything or leaves nothing.
func (a *app) recover(ctx context.Context, cfg *Config, old *before, folder string, noTenant bool, by state.By) (_ *recovered, err error) {
	if err := cfg.unfinished(); err != nil {
		return nil, err
	}
	for _, p := range []string{cfg.Database, filepath.Join(cfg.Ledger.Dir, ledger.TilesFolder, tiles.CheckpointFile), cfg.Ledger.CheckpointCopy, cfg.verifierFile()} {
		if _, err := os.Lstat(p); p != "" && err == nil {
			return nil, command.Misusef("%s exists; recover makes a new database and a new ledger in new places, and keeps the old ones. Nothing was changed", p)
		}
	}
	var pubs []crypto.PublicKey
	for i, at := range cfg.Keys.Decryption {
		key, err := cfg.keeper.Decryption(at)
		if err != nil {
			return nil, cfg.file.Errorf(fmt.Sprintf("$.keys.decryption[%d]", i), "%v", err)
		}
		pubs = append(pubs, key.(interface{ Public() crypto.PublicKey }).Public())
	}
	var pol *policy.Policy
	if !noTenant {
		if pol, err = cfg.policy(); err != nil {
			return nil, err
		}
	}
	known := recall.New()
	done := &recovered{Database: cfg.Database, Previous: old.name, Size: old.last.Size, Root: schema.Digest(old.last.Root), VerifierFile: cfg.verifierFile()}
	if old.reader != nil {
		messages := archive.NewFinder(filepath.Join(folder, ledger.ArchiveFolder))
		defer messages.Close()
		known.Content = messages.Find
		for leaf, err := range old.reader.Entries(ctx, 0) {
			if err != nil {
				return nil, fmt.Errorf("read the old ledger: %w. Nothing was made; with --checkpoint alone it is linked without being read", err)
			}
			e, err := entry.Decode(leaf.Body)
			if err != nil {
				return nil, fmt.Errorf("entry %d of the old ledger: %w", leaf.Index, err)
			}
			if err := known.Read(e); err != nil {
				return nil, fmt.Errorf("entry %d of the old ledger: %w", leaf.Index, err)
			}
			done.Read++
		}
		done.Unread = known.Unread
		if err := messages.Broken(); err != nil && done.Unread > 0 && !errors.Is(err, fs.ErrNotExist) {
			fmt.Fprintf(a.err, "the old archive cannot be read to its end: %v\n", err)
		}
	}
	look := recall.Look{Started: a.now()}
	if !noTenant {
		t, err := openTenants(cfg, nil)
		if err != nil {
			return nil, err
		}
		if look.Accounts, err = marked(ctx, t.cut); err != nil {
			return nil, fmt.Errorf("look through the tenant for the bridge's accounts: %w. Nothing was made; with --no-tenant it is left out", err)
		}
		in, err := members(ctx, t.cut, pol, look.Accounts)
		if _, wrong := errors.AsType[*config.Error](err); wrong {
			return nil, err
		}
		if err != nil {
			return nil, fmt.Errorf("look through the groups of the policy for the bridge's accounts: %w. Nothing was made; with --no-tenant it is left out", err)
		}
		look.Finished = a.now()
		n := len(look.Accounts)
		done.Accounts, done.Memberships = &n, &in
	}
	var undo undo
	defer func() {
		if err != nil {
			err = undo.all(err)
		}
	}()
	if err := undo.dir(filepath.Dir(cfg.Database), 0o750); err != nil {
		return nil, err
	}
	lines := []string{cfg.verifierFile()}
	if cfg.Ledger.SecondKey != nil {
		lines = append(lines, secondName(lines[0]))
	}
	founding, err := store.BeginFounding(cfg.Database, lines, func(path string) error { return state.Create(path, cfg.Enclave.URI, a.now()) })
	if err != nil {
		return nil, err
	}
	undo.add(founding.Undo)
	if err := undo.dir(cfg.Ledger.Dir, 0o750); err != nil {
		return nil, err
	}
	if done.LedgerVerifier, err = cfg.recoverLines(&undo); err != nil {
		return nil, err
	}
	db, err := state.Open(founding.Database())
	if err != nil {
		return nil, err
	}
	err = db.Tx(ctx, func(tx *store.Tx) error {
		err := a.recordStart(tx, db, cfg, "recover", func(s *entry.Started) {
			s.Previous = &entry.Previous{Ledger: old.name, Size: old.last.Size, Root: schema.Digest(old.last.Root)}
		})
		if err != nil {
			return err
		}
		for _, pub := range pubs {
			if err := a.recordDecryptionKey(tx, pub, by.Login); err != nil {
				return err
			}
		}
		made, err := known.Restore(tx, by)
		if err != nil {
			return err
		}
		if done.Accounts != nil {
			if err := recall.Find(tx, look, &made, by); err != nil {
				return err
			}
		}
		done.Keys, done.Closed, done.Open = made.Keys, made.Closed, made.Open
		_, err = ledger.Append(tx, entry.New(by.Now, &entry.Operator{By: by.Login, Action: "recover", Target: old.name, Digest: &made.Digest, Reason: entry.Text(by.Reason)}))
		return err
	})
	if err := errors.Join(err, db.Close()); err != nil {
		return nil, err
	}
	return done, founding.Finish()
}

// recoverLines leaves the lines by which auditors verify the new ledger.
func (c *Config) recoverLines(undo *undo) (line string, err error) {
	key, err := c.keeper.Ledger(c.Ledger.Key)
	if err != nil {
		return "", err
	}
	pub, _ := key.Public().(ed25519.PublicKey)
	if line, err = keys.LedgerVerifierKey(c.origin(), pub); err != nil {
		return "", err
	}
	if err := undo.line(c.verifierFile(), line); err != nil || c.Ledger.SecondKey == nil {
		return line, err
	}
	text, err := c.secondLine(c.origin())
	if err != nil {
		return "", err
	}
	return line, undo.line(secondName(c.verifierFile()), text)
}
