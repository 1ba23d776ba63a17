package main

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"

	jose "github.com/go-jose/go-jose/v4"
	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"jmlbridge/consumer/state"
	"jmlbridge/internal/command"
	"jmlbridge/internal/keys"
	"jmlbridge/internal/keys/custody"
	"jmlbridge/internal/ledger"
	"jmlbridge/internal/ledger/entry"
	"jmlbridge/internal/ledger/tiles"
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

	SecondVerifier     string `json:"second_verifier,omitempty"` // of the ledger's second key, if it has one
	SecondVerifierFile string `json:"second_verifier_file,omitempty"`
}

// second tells of the second key's line, where there is one.
func (m *made) second() string {
	if m.SecondVerifier == "" {
		return ""
	}
	return fmt.Sprintf("and of the second key (also in %s):\n  %s\n", m.SecondVerifierFile, m.SecondVerifier)
}

func (a *app) initCommand() *cobra.Command {
	var kind, format string
	cmd := &cobra.Command{
		Use:   "init",
		Short: "Make the keys and the database, once",
		Long: `init makes the enclave's decryption key, the ledger's key, the folder of the ledger and the database at
the places that the configuration names. It is done once in an enclave's life: where any of them exists
nothing is made, nor where configuration or policy is what "run" refuses, such as a file that everyone
may change. One that was killed is named by the next one, with what it left. It prints what to carry to the producer and to auditors; both are public.`,
		Example: `  consumer -c consumer.yaml init
  consumer -c consumer.yaml init --key P-384 -o json`,
		GroupID: "setup",
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
			// A start reads both files and refuses them for who may change them or what they say: better told before anything is made.
			_, none := os.Stat(cfg.Policy)
			if _, err := cfg.policy(); err != nil && !errors.Is(none, os.ErrNotExist) {
				return fmt.Errorf("%w. Nothing was made", err)
			}
			m, err := a.create(cmd.Context(), cfg, kind)
			if err != nil {
				return err
			}
			if host := cfg.Queue.Placeholder(); host != "" {
				fmt.Fprintf(a.err, "consumer: warning: %s under queue is a host of examples; name yours before `consumer run`\n", host)
			}
			if errors.Is(none, os.ErrNotExist) {
				fmt.Fprintf(a.err, "consumer: warning: there is no policy file %s; write one after consumer/policy.example.yaml before `consumer run`\n", cfg.Policy)
			}
			if inJSON {
				return program.PrintJSON(a.out, m)
			}
			_, err = fmt.Fprintf(a.out, `Made the database %s and the keys.

Carry to the producer (public):
  enclave URI     %s
  encryption key  %s
  key id          %s

Give to auditors (public, one line, also in %s):
  %s
%s
Next: trust a producer with its card,
  consumer -c %s trust add CARD --expect KEYID --reason TEXT
`, m.Database, m.Enclave, m.EncryptionKey, m.EncryptionKID, m.VerifierFile, m.LedgerVerifier, m.second(), a.configFile)
			return err
		},
	}
	cmd.Flags().StringVar(&kind, "key", keys.P256, "`kind` of the decryption key: P-256, P-384 or RSA-3072")
	_ = cmd.RegisterFlagCompletionFunc("key", cobra.FixedCompletions([]string{keys.P256, keys.P384, keys.RSA3072}, cobra.ShellCompDirectiveNoFileComp))
	command.OutputFlag(cmd, &format)
	cmd.AddCommand(a.initKeyCommand())
	return cmd
}

// initKeyCommand makes the next generation of the decryption key.
func (a *app) initKeyCommand() *cobra.Command {
	var kind string
	cmd := &cobra.Command{
		Use:   "key FILE|KEYID",
		Short: "Make the next decryption key, to replace the present one",
		Long: `key makes another decryption key. Give its file as it will stand beside the present one under keys.decryption
(a relative path starts at the configuration's folder), name it there, restart the consumer, and then carry the
public half to the producer. Take the old one out of the configuration when
no message to it can come any more.

A key in a key store was made there: name it under keys.decryption first, and give its key id here.`,
		Example: `  consumer init key keys/decryption-2.pem
  consumer init key 3bYcZ...`,
		Args: command.Exactly("FILE|KEYID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			by, err := a.who()
			if err != nil {
				return err
			}
			db, cfg, err := a.open(cmd.Context())
			if err != nil {
				return err
			}
			defer db.Close()
			at := cfg.decryptionKey(args[0])
			var undo undo
			key, err := undo.decryptionKey(cmd.Context(), cfg, at, kind)
			if err == nil {
				err = db.Tx(cmd.Context(), func(tx *store.Tx) error { return a.recordDecryptionKey(tx, key, by) })
			}
			if err != nil {
				return undo.all(err)
			}
			id, err := keys.ID(key)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(a.out, "Made %s.\n\nCarry to the producer, once the consumer runs with it (public):\n  encryption key  %s\n  key id          %s\n", custody.Describe(at), custody.PublicFile(at), id)
			return err
		},
	}
	cmd.Flags().StringVar(&kind, "key", keys.P256, "`kind` of the key: P-256, P-384 or RSA-3072")
	return cmd
}

// decryptionKey is the configured key in a store that is pinned by this id, or the file of this name as it would stand
// in the configuration.
func (c *Config) decryptionKey(name string) custody.Key {
	for _, k := range c.Keys.Decryption {
		if k.Other != nil && k.Other.KID == name {
			return k
		}
	}
	return custody.Key{Path: c.file.Path(name)}
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
			return command.Misusef("%s is there and no folder; nothing was made", dir)
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

func verifierName(private string) string { return strings.TrimSuffix(private, ".pem") + ".vkey" }

// unfinished tells of an init or recover that was killed, and of the one folder that it may leave beside what the error has
// removed: whoever reads the list must not wonder about it.
func (c *Config) unfinished() error {
	err := store.CheckFounding(c.Database)
	if _, killed := errors.AsType[*store.UnfinishedError](err); !killed {
		return err
	}
	if in, read := os.ReadDir(c.Ledger.Dir); read == nil && len(in) == 0 {
		err = fmt.Errorf("%w. The ledger's folder %s is empty and may stay: it is used then", err, c.Ledger.Dir)
	}
	return err
}

// verifierFile is where the line is by which auditors verify the ledger.
func (c *Config) verifierFile() string {
	name := verifierName(custody.File(c.Ledger.Key))
	if c.Ledger.Series > 1 {
		name = strings.TrimSuffix(name, ".vkey") + "-" + strconv.Itoa(c.Ledger.Series) + ".vkey"
	}
	return name
}

// secondName is where that of its second key is.
func secondName(verifier string) string {
	return strings.TrimSuffix(verifier, ".vkey") + "-second.vkey"
}

func (u *undo) newDecryptionKey(path, kind string) (crypto.Signer, error) {
	key, err := keys.GenerateDecryption(kind)
	if err != nil {
		return nil, command.Usagef("--key: %w", err)
	}
	if err := u.dir(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	for _, p := range []string{path, custody.PublicFile(custody.Key{Path: path})} {
		if _, err := os.Lstat(p); err == nil {
			return nil, command.Misusef("%s exists; a key is never overwritten", p)
		}
	}
	if err := keys.WritePrivate(path, key); err != nil {
		return nil, err
	}
	u.add(func() error { return os.Remove(path) })
	if err := keys.WritePublic(custody.PublicFile(custody.Key{Path: path}), key.Public()); err != nil {
		return nil, err
	}
	u.add(func() error { return os.Remove(custody.PublicFile(custody.Key{Path: path})) })
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
	if cfg.Tenant.ID == uuid.Nil.String() {
		return nil, cfg.file.Errorf("$.tenant.id", "want the id of the enclave's tenant, got that of the example. Nothing was made")
	}
	decryption, verifier := cfg.Keys.Decryption[0], cfg.verifierFile()
	fresh := []string{cfg.Database, decryption.Path, custody.PublicFile(decryption), custody.File(cfg.Ledger.Key), verifier}
	if r := cfg.Ledger.SecondKey; r != nil {
		fresh = append(fresh, r.Public, secondName(verifier))
	}
	if err := cfg.unfinished(); err != nil {
		return nil, err
	}
	for _, p := range fresh {
		if p == "" { // of a key that lies in a store
			continue
		}
		if _, err := os.Lstat(p); err != nil {
			continue
		}
		if p == cfg.Database {
			return nil, command.Misusef("%s exists already, so this enclave was set up before; init makes everything or nothing. Nothing was changed", p)
		}
		return nil, command.Misusef("%s exists already, and init never replaces a key or what belongs to one: if this enclave was set up before, put its database back or see \"The database is lost\" in consumer/README.md; if not, move the file away. Nothing was changed", p)
	}
	for _, p := range []string{filepath.Join(cfg.Ledger.Dir, ledger.TilesFolder, "checkpoint"), cfg.Ledger.CheckpointCopy} {
		if _, err := os.Lstat(p); p != "" && err == nil {
			return nil, command.Misusef("%s exists: another ledger was published there. Keep it for the auditors and name another place. Nothing was changed", p)
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
	founding, err := store.BeginFounding(cfg.Database, slices.DeleteFunc(slices.Clone(fresh[1:]), func(p string) bool { return p == "" }),
		func(path string) error { return state.Create(path, cfg.Enclave.URI, a.now()) })
	if err != nil {
		return nil, err
	}
	undo.add(founding.Undo)
	if err := undo.dir(filepath.Dir(custody.File(cfg.Ledger.Key)), 0o700); err != nil {
		return nil, err
	}
	if err := undo.dir(cfg.Ledger.Dir, 0o750); err != nil {
		return nil, err
	}
	key, err := undo.decryptionKey(ctx, cfg, decryption, kind)
	if err != nil {
		return nil, err
	}
	line, err := undo.newLedgerKey(ctx, cfg, verifier)
	if err != nil {
		return nil, err
	}
	second, err := undo.secondKey(ctx, cfg, verifier)
	if err != nil {
		return nil, err
	}
	if err := a.begin(ctx, cfg, founding.Database(), key, by); err != nil {
		return nil, err
	}
	id, err := keys.ID(key)
	if err != nil {
		return nil, err
	}
	m := &made{Enclave: cfg.Enclave.URI, Database: cfg.Database, DecryptionKey: custody.Describe(decryption), EncryptionKey: custody.PublicFile(decryption),
		EncryptionKID: id, LedgerKey: custody.DescribeLedger(cfg.Ledger.Key), LedgerVerifier: line, VerifierFile: verifier}
	if second != "" {
		m.SecondVerifier, m.SecondVerifierFile = second, secondName(verifier)
	}
	return m, founding.Finish()
}

// decryptionKey makes a key in a file, or takes the pinned one of a store into use. It returns the public half.
func (u *undo) decryptionKey(ctx context.Context, cfg *Config, at custody.Key, kind string) (crypto.PublicKey, error) {
	if at.Other == nil {
		key, err := u.newDecryptionKey(at.Path, kind)
		if err != nil {
			return nil, err
		}
		return key.Public(), nil
	}
	if err := u.dir(filepath.Dir(at.Other.Public), 0o700); err != nil {
		return nil, err
	}
	pub, err := cfg.keeper.Adopt(ctx, *at.Other, "decrypt")
	if err != nil {
		return nil, err
	}
	u.add(func() error { return os.Remove(at.Other.Public) })
	if _, err := keys.EncryptionAlg(pub); err != nil {
		return nil, command.Misusef("%s: %w", at.Other, err)
	}
	_, err = cfg.keeper.Decryption(at) // that it can be used as it is configured
	return pub, err
}

func (u *undo) newLedgerKey(ctx context.Context, cfg *Config, verifier string) (line string, err error) {
	pub, err := cfg.keeper.MakeLedger(ctx, cfg.Ledger.Key)
	if err != nil {
		return "", err
	}
	u.add(func() error { return os.Remove(custody.File(cfg.Ledger.Key)) })
	if line, err = keys.LedgerVerifierKey(cfg.origin(), pub); err != nil {
		return "", err
	}
	return line, u.line(verifier, line)
}

// secondKey takes the ledger's second key into use, where there is one.
func (u *undo) secondKey(ctx context.Context, cfg *Config, verifier string) (line string, err error) {
	r := cfg.Ledger.SecondKey
	if r == nil {
		return "", nil
	}
	pub, err := cfg.keeper.Adopt(ctx, *r, "sign")
	if err != nil {
		return "", err
	}
	u.add(func() error { return os.Remove(r.Public) })
	ec, _ := pub.(*ecdsa.PublicKey)
	if line, err = tiles.SecondVerifierKey(cfg.origin(), ec); err != nil {
		return "", command.Misusef("%s: %w", r, err)
	}
	return line, u.line(secondName(verifier), line)
}

// line writes a public line into a new file.
func (u *undo) line(path, line string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	u.add(func() error { return os.Remove(path) })
	_, err = fmt.Fprintln(f, line)
	return errors.Join(err, f.Close())
}

// begin writes the first entries of the ledger into the new database at path.
func (a *app) begin(ctx context.Context, cfg *Config, path string, key crypto.PublicKey, by string) error {
	db, err := state.Open(path)
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

func (a *app) recordDecryptionKey(tx *store.Tx, key crypto.PublicKey, by string) error {
	id, err := keys.ID(key)
	if err != nil {
		return err
	}
	alg, err := keys.EncryptionAlg(key)
	if err != nil {
		return err
	}
	jwk, err := jose.JSONWebKey{Key: key}.MarshalJSON()
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
