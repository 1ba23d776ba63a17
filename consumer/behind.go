package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/mod/sumdb/note"

	"jmlbridge/consumer/state"
	"jmlbridge/internal/directory/entra"
	"jmlbridge/internal/keys"
	"jmlbridge/internal/ledger"
	"jmlbridge/internal/ledger/tiles"
)

// alarmOldCopy stands in status only: what it is about keeps a run from beginning.
const alarmOldCopy = "old-copy"

// oldCopyError refuses to work on a database that is not the one that published.
type oldCopyError struct{ *ledger.BehindError }

func (e *oldCopyError) Unwrap() error { return e.BehindError }

func (e *oldCopyError) Error() string {
	at := fmt.Sprintf("the ledger's checkpoint %s", e.Path)
	switch e.Problem {
	case ledger.ProblemBehind:
		return fmt.Sprintf("%s names %d entries and the database has %d: an older copy of the database was put back. Put the newest one back, or see \"An old database was put back\" in consumer/README.md", at, e.Published, e.Database)
	case ledger.ProblemForked:
		return fmt.Sprintf("%s names %d entries that are not those of the database, which has %d: the database went on from an older copy, or is another one. Put the right one back, or see \"An old database was put back\" in consumer/README.md", at, e.Published, e.Database)
	case ledger.ProblemMissing:
		if e.Was != e.Path {
			return fmt.Sprintf("%s is not there, though this database (%d entries) published to %s: nothing shows that the database is not an old copy. Name that folder, or move it here; of a database that was put back elsewhere, see \"An old database was put back\" in consumer/README.md", at, e.Database, e.Was)
		}
		return fmt.Sprintf("%s is gone, though this database (%d entries) published there: nothing shows that the database is not an old copy. Mount or restore its folder", at, e.Database)
	}
	return e.BehindError.Error()
}

// notBehind refuses a database that is behind what it published, read-only. A consumer that runs and
// publishes meanwhile is no matter: what is published is never ahead of its database.
func notBehind(ctx context.Context, db *state.DB, cfg *Config, v note.Verifier) error {
	err := ledger.CheckNotBehind(ctx, ledger.Config{DB: db.DB, Verifier: v, Dir: cfg.Ledger.Dir, Copy: cfg.Ledger.CheckpointCopy})
	if behind, ok := errors.AsType[*ledger.BehindError](err); ok {
		return &oldCopyError{behind}
	}
	return err
}

// verifier reads the key that checkpoints are held against: the private one as run does, or its public
// half where whoever looks may not read that.
func (c *Config) verifier() (note.Verifier, error) {
	if err := c.sameName(); err != nil {
		return nil, err
	}
	key, err := c.keeper.Ledger(c.Ledger.Key)
	if err != nil {
		if line, err := os.ReadFile(c.verifierFile()); err == nil {
			return keys.LedgerVerifier(firstLine(line))
		}
		return nil, c.file.Errorf("$.ledger.key", "%v", err)
	}
	_, v, err := tiles.NewSigner(c.origin(), key)
	if err != nil {
		return nil, c.file.Errorf("$.ledger.key", "%v", err)
	}
	return v, nil
}

// metaMark is the key of the database under which the first start left the attribute with the ownership marks.
const metaMark = "mark-attribute"

// markAttribute is where the ownership marks stand.
func (c *Config) markAttribute() string {
	return cmp.Or(c.Tenant.MarkAttribute, entra.DefaultMarkAttribute)
}

// sameMark refuses another attribute than the one in which the accounts of this database bear their marks: by it the bridge
// would know none of them for its own.
func (c *Config) sameMark(r state.Reader) error {
	was, err := state.Meta(r, metaMark)
	if err != nil || was == "" || was == c.markAttribute() {
		return err
	}
	return c.file.Errorf("$.tenant.mark_attribute", "the attribute never changes: the accounts that the bridge made bear their marks in %s, by %s it would know none of them, and nobody could be cut. Put %s back", was, c.markAttribute(), was)
}

// sameName refuses another enclave.name or ledger.series than the one under which the ledger began: both are part of the
// ledger's name, which every checkpoint and the auditors' line bear.
func (c *Config) sameName() error {
	sources := []string{c.verifierFile(), filepath.Join(c.Ledger.Dir, ledger.TilesFolder, tiles.CheckpointFile)}
	if c.Ledger.CheckpointCopy != "" {
		sources = append(sources, c.Ledger.CheckpointCopy)
	}
	for _, path := range sources {
		text, err := os.ReadFile(path)
		if err != nil {
			continue // whoever needs the file says so
		}
		line, _, _ := bytes.Cut(text, []byte("\n"))
		name, _, _ := strings.Cut(string(line), "+")
		if series, ok := c.seriesOf(name); ok && series != c.Ledger.Series {
			return c.file.Errorf("$.ledger.series", "want %d, the series of the ledger that is there (%s), got %d: only `consumer recover` begins another, in new places. Put %d back; if the database is lost, see \"The database is lost\" in the README",
				series, path, c.Ledger.Series, series)
		}
		before, ok := strings.CutPrefix(name, "jmlbridge.internal/")
		before, mine := strings.CutSuffix(before, "/ledger")
		if ok && mine && name != c.origin() {
			return c.file.Errorf("$.enclave.name", "the name never changes: this enclave's ledger began as %s (%s), and %s would make another ledger of it. Put the old name back", strings.ToUpper(before), path, c.Enclave.Name)
		}
	}
	return nil
}
