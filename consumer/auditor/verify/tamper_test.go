package verify

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"jmlbridge/internal/ledger/archive"
	"jmlbridge/internal/ledger/entry"
	"jmlbridge/internal/ledger/tiles"
)

// long is a ledger of more than two full bundles.
func long(t testing.TB) *world {
	w := story(t)
	for len(w.entries) < 2*tiles.Width+40 {
		w.add(&entry.Clock{Action: entry.ClockConfirmed, Against: entry.AgainstLedger, By: "op"})
	}
	return w.publish()
}

// A flipped bit anywhere in the tiles folder is found, as what it is.
func TestEveryFlippedBit(t *testing.T) {
	w := long(t)
	wants(t, w.verify(w.options()))
	var paths []string
	err := filepath.WalkDir(filepath.Join(w.dir, "tiles"), func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			paths = append(paths, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(paths) < 8 {
		t.Fatalf("want a checkpoint, bundles and tiles of two levels, got %v", paths)
	}
	for _, path := range paths {
		good, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		allowed := []Code{TileBroken, TreeBroken}
		switch {
		case strings.HasSuffix(path, "checkpoint"):
			allowed = []Code{CheckpointBad}
		case strings.Contains(path, "entries"):
			allowed = []Code{TreeBroken}
		}
		for _, at := range []int{0, len(good) / 3, len(good) - 1} {
			bad := slices.Clone(good)
			bad[at] ^= 4
			if err := os.WriteFile(path, bad, 0o600); err != nil {
				t.Fatal(err)
			}
			r := w.verify(w.options())
			if r.Verifies || len(r.Findings) == 0 {
				t.Errorf("%s: a bit of octet %d is flipped, and the ledger verifies", path, at)
			}
			for _, f := range r.Findings {
				if !slices.Contains(allowed, f.Code) {
					t.Errorf("%s, octet %d: want one of %v, got %s: %s", path, at, allowed, f.Code, f.Detail)
				}
			}
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		if !strings.HasSuffix(path, "checkpoint") {
			if r := w.verify(w.options()); r.Verifies {
				t.Errorf("%s is gone, and the ledger verifies", path)
			}
		} else if _, err := Run(context.Background(), w.options()); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("without a checkpoint nothing can be verified: want that error, got %v", err)
		}
		if err := os.WriteFile(path, good, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	wants(t, w.verify(w.options()))
}

// lines rewrites the one day file of a world's archive.
func (w *world) lines(edit func([]string) []string) {
	w.t.Helper()
	var list []string
	for l, err := range archive.Read(w.archiveDir()) {
		if err != nil {
			w.t.Fatal(err)
		}
		list = append(list, `{"payload":"`+l.Payload.String()+`","jws":"`+l.JWS+`"}`)
	}
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	for _, l := range edit(list) {
		if _, err := z.Write([]byte(l + "\n")); err != nil {
			w.t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		w.t.Fatal(err)
	}
	w.day(b.Bytes())
}

func (w *world) day(data []byte) {
	w.t.Helper()
	if err := os.WriteFile(filepath.Join(w.archiveDir(), archive.FileName(archive.DayOf(noon))), data, 0o600); err != nil {
		w.t.Fatal(err)
	}
}

func TestArchiveTamperedWith(t *testing.T) {
	const header = len(`{"payload":"`) + 43 + len(`","jws":"`)
	for _, tc := range []struct {
		name string
		edit func(l []string) []string
		want []string
	}{
		{"nothing", func(l []string) []string { return l }, nil},
		{"a payload altered", func(l []string) []string {
			i := strings.Index(l[1], ".") + 100
			c := byte('A')
			if l[1][i] == c {
				c = 'B'
			}
			l[1] = l[1][:i] + string(c) + l[1][i+1:]
			return l
		}, []string{"message-altered"}},
		{"a signature altered", func(l []string) []string {
			i := strings.LastIndex(l[1], ".") + 10
			c := byte('A')
			if l[1][i] == c {
				c = 'B'
			}
			l[1] = l[1][:i] + string(c) + l[1][i+1:]
			return l
		}, []string{"signature-bad"}},
		{"a signature of the message before", func(l []string) []string {
			l[1] = l[1][:strings.LastIndex(l[1], ".")] + l[0][strings.LastIndex(l[0], "."):]
			return l
		}, []string{"signature-bad"}},
		{"a signature in another spelling", func(l []string) []string {
			// The last of the 86 characters has four unused bits, zero in the canonical spelling.
			i := strings.LastIndex(l[1], `"`) - 1
			const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
			n := strings.IndexByte(alphabet, l[1][i])
			l[1] = l[1][:i] + string(alphabet[n|1]) + l[1][i+1:]
			return l
		}, []string{"signature-bad"}},
		{"another header", func(l []string) []string {
			l[1] = l[1][:header] + "eyJhbGciOiJub25lIn0" + l[1][strings.Index(l[1], "."):]
			return l
		}, []string{"key-not-given"}},
		{"a line left out", func(l []string) []string { return slices.Delete(l, 1, 2) }, []string{"archive-missing"}},
		{"a line in another spelling", func(l []string) []string {
			l[1] = strings.Replace(l[1], `","jws"`, `", "jws"`, 1)
			return l
		}, []string{"archive-form", "archive-missing"}},
		{"a line twice", func(l []string) []string { return slices.Insert(l, 1, l[0]) }, []string{"archive-unlisted"}},
		{"lines in another order", func(l []string) []string { l[0], l[1] = l[1], l[0]; return l }, nil},
		{"more at the end", func(l []string) []string { return append(l, l[0]) }, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t).begin()
			for _, s := range []string{"E1", "E2", "E3"} {
				w.joins(s)
			}
			w.publish()
			w.lines(tc.edit)
			wants(t, w.verify(w.options()), tc.want...)
		})
	}
}

// A file that ends in the middle of a write is no fault as long as nothing is missing for longer than the
// grace; a file that is damaged is.
func TestArchiveFilesDamaged(t *testing.T) {
	w := newWorld(t).begin()
	for _, s := range []string{"E1", "E2", "E3"} {
		w.joins(s)
	}
	w.publish()
	member := func(rows ...archive.Row) []byte {
		m, err := archive.Member(rows)
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	two, last := member(w.rows[:2]...), member(w.rows[2])
	w.day(slices.Concat(two, last[:len(last)/2]))
	r := w.verify(w.options())
	wants(t, r)
	if r.Open.Unarchived != 1 || len(r.Open.Torn) != 1 {
		t.Errorf("want one message not archived yet and one file torn, got %+v", r.Open)
	}
	damaged := slices.Clone(two)
	damaged[len(damaged)/2] ^= 0x55
	w.day(slices.Concat(damaged, last))
	if r = w.verify(w.options()); r.Counts.Findings[ArchiveBroken] != 1 {
		t.Errorf("want archive-broken once, got %v", r.Counts.Findings)
	}

	w.add(&entry.Clock{Action: entry.ClockConfirmed, Against: entry.AgainstLedger, By: "op"})
	w.wait(DefaultGrace * 2)
	w.add(&entry.Clock{Action: entry.ClockConfirmed, Against: entry.AgainstLedger, By: "op"})
	w.publish()
	w.day(slices.Concat(two, last[:len(last)/2]))
	wants(t, w.verify(w.options()), "archive-missing")

	if err := os.RemoveAll(w.archiveDir()); err != nil {
		t.Fatal(err)
	}
	if _, err := Run(context.Background(), w.options()); err == nil || !strings.Contains(err.Error(), "tiles only") {
		t.Errorf("want an error that tells of tiles only, got %v", err)
	}
}

// A ledger that has just begun has no archive, and verifies: no entry needs one.
func TestFreshLedgerHasNoArchive(t *testing.T) {
	w := newWorld(t).begin()
	w.publish()
	if err := os.RemoveAll(w.archiveDir()); err != nil {
		t.Fatal(err)
	}
	wants(t, w.verify(w.options()))
}

// The ledger may grow while it is read: the partial tiles of the checkpoint in hand are gone then.
func TestLedgerThatGrowsMeanwhile(t *testing.T) {
	w := story(t)
	w.publish()
	old := w.readCheckpoint()
	for len(w.entries) < 2*tiles.Width+40 {
		w.add(&entry.Clock{Action: entry.ClockConfirmed, Against: entry.AgainstLedger, By: "op"})
	}
	w.publish()
	if err := os.WriteFile(filepath.Join(w.dir, "tiles", "checkpoint"), old, 0o600); err != nil {
		t.Fatal(err)
	}
	if got := w.verify(w.options()); !got.Verifies || got.Ledger.Size >= tiles.Width {
		t.Errorf("want the first entries to verify, got %+v", got.Findings)
	}
}

// Any edit of any octet of a line is noticed, and nothing panics.
func FuzzArchiveLine(f *testing.F) {
	w := newWorld(f).begin()
	w.joins("E1")
	jws := w.rows[0].JWS
	good := `{"payload":"` + w.rows[0].Payload.String() + `","jws":"` + jws + `"}`
	ks := w.options().Keys
	f.Add([]byte(good))
	f.Add([]byte(`{"payload":"","jws":"..."}`))
	f.Add([]byte(good[:len(good)-20]))
	f.Fuzz(func(t *testing.T, line []byte) {
		m := ks.message(line)
		if m.fault == "" && string(line) != good && m.claimed == w.rows[0].Payload {
			t.Errorf("another spelling of the same message is taken: %q", line)
		}
	})
}

func FuzzKeys(f *testing.F) {
	w := newWorld(f)
	f.Add(w.trust)
	f.Add([]byte(`{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}`))
	f.Add([]byte("-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEA\n-----END PUBLIC KEY-----\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		ks := Keys{}
		if err := ks.Add(data); err == nil && len(ks) == 0 {
			t.Error("no error and no key")
		}
		for id, k := range ks {
			if k.ID != id || k.public == nil || len(k.header) == 0 {
				t.Errorf("half a key: %+v", k)
			}
		}
	})
}

// The tree here agrees with the one of the writer at every size, and with RFC 6962's empty tree.
func TestTreeAgreesWithTheWriters(t *testing.T) {
	here := &tree{broken: func(string, string) {}}
	var there tiles.Frontier
	for i := range 70000 {
		if i < 600 || i%997 == 0 || i == 65536 || i == 65537 {
			if here.root() != hash(there.Root()) {
				t.Fatalf("size %d: other roots", i)
			}
		}
		h := leafHash([]byte{byte(i), byte(i >> 8)})
		here.add(h)
		there.Append(h)
	}
	for _, n := range []int64{0, 7, 999, 1000, 1234067} {
		if got, want := tilePath(1, n), tiles.TilePath(1, n, 0); got != want {
			t.Errorf("tile %d: want %s, got %s", n, want, got)
		}
	}
}
