package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/transparency-dev/tessera/api/layout"
	"github.com/transparency-dev/tessera/fsck"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"jmlbridge/e2e/sandbox/tenant"
)

// What a run left behind, read by others' code wherever there is some: the ledger by tessera's fsck, the
// tenant's changes by its own journal.

// runFsck checks a folder of tiles with the stock tool. It is given the paths of the specification (C2SP
// tlog-tiles, through tessera's own layout) and shares nothing with the code that wrote the folder.
func runFsck(ctx context.Context, dir, key string) error {
	v, err := note.NewVerifier(key)
	if err != nil {
		return err
	}
	return fsck.New(v.Name(), v, tilesFolder(dir), bundleLeaves, fsck.Opts{N: 2}).Check(ctx)
}

type tilesFolder string

func (f tilesFolder) read(path string) ([]byte, error) {
	return os.ReadFile(filepath.Join(string(f), filepath.FromSlash(path)))
}

func (f tilesFolder) ReadCheckpoint(context.Context) ([]byte, error) {
	return f.read(layout.CheckpointPath)
}

func (f tilesFolder) ReadTile(_ context.Context, l, i uint64, p uint8) ([]byte, error) {
	return f.read(layout.TilePath(l, i, p))
}

func (f tilesFolder) ReadEntryBundle(_ context.Context, i uint64, p uint8) ([]byte, error) {
	return f.read(layout.EntriesPath(i, p))
}

// bundleLeaves hashes the entries of a bundle as RFC 6962 says; each is preceded by its length in two octets.
func bundleLeaves(bundle []byte) (hashes [][]byte, err error) {
	for len(bundle) > 0 {
		if len(bundle) < 2 {
			return nil, errors.New("torn bundle")
		}
		n := int(bundle[0])<<8 | int(bundle[1])
		if bundle = bundle[2:]; len(bundle) < n {
			return nil, errors.New("torn bundle")
		}
		h := tlog.RecordHash(bundle[:n])
		hashes = append(hashes, h[:])
		bundle = bundle[n:]
	}
	return hashes, nil
}

// flipped copies a folder and turns one bit of one file in it.
func flipped(from, to, file string, octet int, bit uint) error {
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		return err
	}
	path := filepath.Join(to, filepath.FromSlash(file))
	raw, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	raw[octet%len(raw)] ^= 1 << (bit % 8)
	if err := os.Chmod(path, 0o600); err != nil {
		return err
	}
	return os.WriteFile(path, raw, 0o600)
}

// deed is one change of the tenant, in words: "add-member ann@x.example SOC".
func deed(e tenant.Entry, c tenant.Change) string {
	words := []string{c.Op, c.Name}
	if c.TargetName != "" {
		words = append(words, c.TargetName)
	}
	switch on, ok := c.Set["accountEnabled"]; {
	case c.Op == "update" && ok && on == true:
		words[0] = "enable"
	case c.Op == "update" && ok:
		words[0] = "disable"
	}
	return strings.Join(words, " ")
}

// deeds is every change that the bridge made, in the order in which it took effect.
func deeds(journal []tenant.Entry) (list []string) {
	applied := slices.DeleteFunc(slices.Clone(journal), func(e tenant.Entry) bool { return !e.Applied || e.App == "" })
	slices.SortStableFunc(applied, func(a, b tenant.Entry) int { return int(a.Seq) - int(b.Seq) })
	for _, e := range applied {
		for _, c := range e.Changes {
			list = append(list, deed(e, c))
		}
	}
	return list
}

// once is how often each deed was done that must be done once: accounts made, memberships given and taken.
func once(list []string) map[string]int {
	n := map[string]int{}
	for _, d := range list {
		switch op, _, _ := strings.Cut(d, " "); op {
		case "create", "add-member", "remove-member", "delete":
			n[d]++
		}
	}
	return n
}

// differ says where two counts differ; nothing where they agree.
func differ(want, got map[string]int) (list []string) {
	for d, n := range want {
		if got[d] != n {
			list = append(list, fmt.Sprintf("%s: want %d times, was %d times", d, n, got[d]))
		}
	}
	for d, n := range got {
		if want[d] == 0 {
			list = append(list, fmt.Sprintf("%s: want never, was %d times", d, n))
		}
	}
	slices.Sort(list)
	return list
}
