package main

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	jose "github.com/go-jose/go-jose/v4"
	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"jmlbridge/consumer/state"
	"jmlbridge/internal/keys"
	"jmlbridge/internal/ledger"
	"jmlbridge/internal/ledger/entry"
	"jmlbridge/internal/program"
	"jmlbridge/internal/store"
)

// made is what init leaves, for people and scripts.
type made struct {
	Enclave        string `json:"enclave"`
	Database       string `json:"database"`
	DecryptionKey  string `json:"decryption_key"`
	EncryptionKey  string `json:"encryption_key"` // public; goes to the producer
	EncryptionKID  string `json:"encryption_kid"`
	LedgerKey      string `json:"ledger_key"`
	LedgerVerifier string `json:"ledger_verifier"`      // the line for auditors
	VerifierFile   string `json:"ledger_verifier_file"` // the same line in a file
}

func (a *app) initCommand() *cobra.Command {
	var kind, format string
	cmd := &cobra.Command{
		Use:   "init",
		Short: "Make the keys and the database, once",
		Long: `init makes the enclave's decryption key, the ledger's key, the folder of the ledger and the database at
the places that the configuration names. It is done once in an enclave's life: where any of them exists
nothing is made. It prints what to carry to the producer and to auditors; both are public.`,
		Example: `  consumer -c consumer.yaml init
  consumer -c consumer.yaml init --key P-384 -o json`,
		GroupID: "setup",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			inJSON, err := asJSON(format)
			if err != nil {
				return err
			}
			cfg, err := loadConfig(a.configFile)
			if err != nil {
				return err
			}
			m, err := a.create(cmd.Context(), cfg, kind)
			if err != nil {
				return err
			}
			if inJSON {
				return program.PrintJSON(a.out, m)
			}
			_, err = fmt.Fprintf(a.out, `Made the database %s and the keys beside it.

Carry to the producer (public):
  enclave URI     %s
  encryption key  %s
  key id          %s

Give to auditors (public, one line, also in %s):
  %s

Next: trust a producer with its card,
  consumer -c %s trust add CARD --expect KEYID --reason TEXT
`, m.Database, m.Enclave, m.EncryptionKey, m.EncryptionKID, m.VerifierFile, m.LedgerVerifier, a.configFile)
			return err
		},
	}
	cmd.Flags().StringVar(&kind, "key", keys.P256, "`kind` of the decryption key: P-256, P-384 or RSA-3072")
	_ = cmd.RegisterFlagCompletionFunc("key", cobra.FixedCompletions([]string{keys.P256, keys.P384, keys.RSA3072}, cobra.ShellCompDirectiveNoFileComp))
	outputFlag(cmd, &format)
	cmd.AddCommand(a.initKeyCommand())
	return cmd
}

// initKeyCommand makes the next generation of the decryption key.
func (a *app) initKeyCommand() *cobra.Command {
	var kind string
	cmd := &cobra.Command{
		Use:   "key FILE",
		Short: "Make the next decryption key, to replace the present one",
		Long: `key makes another decryption key. Name its file beside the present one under keys.decryption, restart the
consumer, and then carry the public half to the producer. Take the old one out of the configuration when
no message to it can come any more.`,
		Example: `  consumer -c consumer.yaml init key keys/decryption-2.pem`,
		Args:    exactly("FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			by, err := a.who()
			if err != nil {
				return err
			}
			db, _, err := a.open(cmd.Context())
			if err != nil {
				return err
			}
			defer db.Close()
			var undo undo
			key, err := undo.newDecryptionKey(args[0], kind)
			if err == nil {
				err = db.Tx(cmd.Context(), func(tx *store.Tx) error { return a.recordDecryptionKey(tx, key, by) })
			}
			if err != nil {
				return undo.all(err)
			}
			id, err := keys.ID(key.Public())
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(a.out, "Made %s.\n\nCarry to the producer, once the consumer runs with it (public):\n  encryption key  %s\n  key id          %s\n", args[0], publicName(args[0]), id)
			return err
		},
	}
	cmd.Flags().StringVar(&kind, "key", keys.P256, "`kind` of the key: P-256, P-384 or RSA-3072")
	return cmd
}

// undo takes back what was made when a later step fails: a half-made enclave could not be made again.
type undo []func() error

func (u *undo) add(f func() error) { *u = append(*u, f) }

func (u undo) all(err error) error {
	for i := len(u) - 1; i >= 0; i-- {
		if e := u[i](); e != nil && !errors.Is(e, os.ErrNotExist) {
			err = errors.Join(err, fmt.Errorf("take back what was made: %w", e))
		}
	}
	return err
}

// dir makes a folder and those above it, where they are not there.
func (u *undo) dir(dir string, mode os.FileMode) error {
	if info, err := os.Stat(dir); err == nil {
		if !info.IsDir() {
			return misusef("%s is there and no folder; nothing was made", dir)
		}
		return nil
	}
	if parent := filepath.Dir(dir); parent != dir {
		if err := u.dir(parent, mode); err != nil {
			return err
		}
	}
	if err := os.Mkdir(dir, mode); err != nil {
		return err
	}
	u.add(func() error { return os.Remove(dir) })
	return nil
}

func publicName(private string) string { return strings.TrimSuffix(private, ".pem") + ".pub.pem" }

func verifierName(private string) string { return strings.TrimSuffix(private, ".pem") + ".vkey" }

func (u *undo) newDecryptionKey(path, kind string) (crypto.Signer, error) {
	key, err := keys.GenerateDecryption(kind)
	if err != nil {
		return nil, usagef("--key: %w", err)
	}
	if err := u.dir(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	for _, p := range []string{path, publicName(path)} {
		if _, err := os.Lstat(p); err == nil {
			return nil, misusef("%s exists; a key is never overwritten", p)
		}
	}
	if err := keys.WritePrivate(path, key); err != nil {
		return nil, err
	}
	u.add(func() error { return os.Remove(path) })
	if err := keys.WritePublic(publicName(path), key.Public()); err != nil {
		return nil, err
	}
	u.add(func() error { return os.Remove(publicName(path)) })
	return key, nil
}

// create makes everything or leaves nothing.
func (a *app) create(ctx context.Context, cfg *Config, kind string) (_ *made, err error) {
	by, err := a.who()
	if err != nil {
		return nil, err
	}
	if len(cfg.Keys.Decryption) != 1 {
		return nil, cfg.file.Errorf("$.keys.decryption", "want the one key that init makes, got %d; add a second later with `consumer init key`", len(cfg.Keys.Decryption))
	}
	decryption, verifier := cfg.Keys.Decryption[0], verifierName(cfg.Ledger.Key)
	for _, p := range []string{cfg.Database, decryption, publicName(decryption), cfg.Ledger.Key, verifier} {
		if _, err := os.Lstat(p); err == nil {
			return nil, misusef("%s exists already, so this enclave was set up before; init makes everything or nothing. Nothing was changed", p)
		}
	}
	for _, p := range []string{filepath.Join(cfg.Ledger.Dir, ledger.TilesFolder, "checkpoint"), cfg.Ledger.CheckpointCopy} {
		if _, err := os.Lstat(p); p != "" && err == nil {
			return nil, misusef("%s exists: another ledger was published there. Keep it for the auditors and name another place. Nothing was changed", p)
		}
	}
	var undo undo
	defer func() {
		if err != nil {
			err = undo.all(err)
		}
	}()
	if err := undo.dir(filepath.Dir(cfg.Database), 0o700); err != nil {
		return nil, err
	}
	if err := undo.dir(filepath.Dir(cfg.Ledger.Key), 0o700); err != nil {
		return nil, err
	}
	if err := undo.dir(cfg.Ledger.Dir, 0o750); err != nil {
		return nil, err
	}
	key, err := undo.newDecryptionKey(decryption, kind)
	if err != nil {
		return nil, err
	}
	line, err := undo.newLedgerKey(cfg, verifier)
	if err != nil {
		return nil, err
	}
	if err := state.Create(cfg.Database, cfg.Enclave.URI, a.now()); err != nil {
		return nil, err
	}
	undo.add(func() error { return os.Remove(cfg.Database) })
	if err := a.begin(ctx, cfg, key, by); err != nil {
		return nil, err
	}
	id, err := keys.ID(key.Public())
	if err != nil {
		return nil, err
	}
	return &made{cfg.Enclave.URI, cfg.Database, decryption, publicName(decryption), id, cfg.Ledger.Key, line, verifier}, nil
}

func (u *undo) newLedgerKey(cfg *Config, verifier string) (line string, err error) {
	key, err := keys.GenerateLedger()
	if err != nil {
		return "", err
	}
	if err := keys.WritePrivate(cfg.Ledger.Key, key); err != nil {
		return "", err
	}
	u.add(func() error { return os.Remove(cfg.Ledger.Key) })
	if line, err = keys.LedgerVerifierKey(cfg.origin(), key.Public().(ed25519.PublicKey)); err != nil {
		return "", err
	}
	f, err := os.OpenFile(verifier, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return "", err
	}
	u.add(func() error { return os.Remove(verifier) })
	_, err = fmt.Fprintln(f, line)
	return line, errors.Join(err, f.Close())
}

// begin writes the first entries of the ledger.
func (a *app) begin(ctx context.Context, cfg *Config, key crypto.Signer, by string) error {
	db, err := state.Open(cfg.Database)
	if err != nil {
		return err
	}
	err = db.Tx(ctx, func(tx *store.Tx) error {
		if err := a.recordStart(tx, db, cfg, "init", nil); err != nil {
			return err
		}
		return a.recordDecryptionKey(tx, key, by)
	})
	return errors.Join(err, db.Close())
}

// recordStart says on the ledger which program began to do what, and with what.
func (a *app) recordStart(tx *store.Tx, db *state.DB, cfg *Config, mode string, more func(*entry.Started)) error {
	id, err := ledger.ID(db.DB)
	if err != nil {
		return err
	}
	digest := cfg.digest()
	s := &entry.Started{Program: entry.ProgramConsumer, Version: program.Version(), Go: entry.ID(runtime.Version()), FIPS: program.FIPS(), Mode: mode,
		Config: &digest, Ledger: id, Enclave: db.Enclave(), Instance: uuid.NewString()}
	if more != nil {
		more(s)
	}
	_, err = ledger.Append(tx, entry.New(a.now(), s))
	return err
}

func (a *app) recordDecryptionKey(tx *store.Tx, key crypto.Signer, by string) error {
	id, err := keys.ID(key.Public())
	if err != nil {
		return err
	}
	alg, err := keys.EncryptionAlg(key.Public())
	if err != nil {
		return err
	}
	jwk, err := jose.JSONWebKey{Key: key.Public()}.MarshalJSON()
	if err != nil {
		return err
	}
	_, err = ledger.Append(tx, entry.New(a.now(), &entry.Trust{Action: entry.TrustAdd, Key: id, Use: entry.UseDecrypt, Alg: string(alg), JWK: string(jwk), By: by}))
	return err
}

// open opens the database for a command that changes something beside a runner or without one. Like
// run it refuses an old copy: what is written to one is forgotten together with it.
func (a *app) open(ctx context.Context) (*state.DB, *Config, error) {
	db, cfg, err := a.openWith(state.Open)
	if err != nil {
		return nil, nil, err
	}
	v, err := cfg.verifier()
	if err == nil {
		err = notBehind(ctx, db, cfg, v)
	}
	if err != nil {
		err = fmt.Errorf("nothing was done: %w", err)
		return nil, nil, errors.Join(err, db.Close())
	}
	return db, cfg, nil
}

// openRead opens it for looking.
func (a *app) openRead() (*state.DB, *Config, error) {
	return a.openWith(state.OpenRead)
}

func (a *app) openWith(open func(string) (*state.DB, error)) (*state.DB, *Config, error) {
	cfg, err := loadConfig(a.configFile)
	if err != nil {
		return nil, nil, err
	}
	db, err := open(cfg.Database)
	if err != nil {
		return nil, nil, err
	}
	if err := db.Check(cfg.Enclave.URI); err != nil {
		return nil, nil, errors.Join(err, db.Close())
	}
	return db, cfg, nil
}
