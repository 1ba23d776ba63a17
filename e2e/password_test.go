package e2e

import (
	"bytes"
	"compress/gzip"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"jmlbridge/e2e/sandbox/tenant"
	"jmlbridge/e2e/stage"
)

// The random password that an account is made with is kept nowhere: not in the enclave's database, ledger, archive,
// logs, alarms or liveness file, and nowhere else on the bridge's disks, also where a create failed, its answer was
// lost, or the tenant refused it. The same search finds what is there to be found, and nobody's id or name at the
// mid-point.
func TestPasswordsAreKeptNowhere(t *testing.T) {
	// Pulled dark, for a mid-point forgets soon what is settled.
	ctx, b := up(t, programs, stage.Config{LogLevel: "debug", Pull: "dark"})
	b.Consumer.Env = []string{"TMPDIR=" + b.EnclaveDir} // what it leaves anywhere, it leaves there
	subject, name := "s"+rand.Text(), "Ann"+rand.Text() // to be found
	rows := []stage.Row{{ID: subject, Given: name, Family: "Planted"}}
	for i := range 11 {
		rows = append(rows, stage.Row{ID: fmt.Sprint(2000 + i), Given: "Bo", Family: fmt.Sprintf("Unknown%d", i), Roles: "soc-analyst"})
	}
	rows = append(rows, stage.Row{ID: "3000", Given: "Cy", Family: "Refused"})
	create := tenant.Fault{Method: "^POST$", Path: "/users$"}
	lost, failed, refused := create, create, create
	lost.Kind, lost.Applied, lost.Count = tenant.Drop, true, 2
	failed.Kind, failed.Skip, failed.Count = tenant.Error, 2, 2
	refused.Kind, refused.Status, refused.Body = tenant.Error, 400, "Refused"
	if err := b.Tenant.AddFaults(ctx, refused, lost, failed); err != nil {
		t.Fatal(err)
	}
	if err := b.begin(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := b.say(ctx, rows...); err != nil {
		t.Fatal(err)
	}
	err := b.until(ctx, "12 accounts, and an alarm for the one that is refused", func() (bool, error) {
		state, err := b.Tenant.State(ctx)
		if err != nil || len(state.Users) < 1+12 {
			return false, err
		}
		_, err = os.Stat(filepath.Join(b.EnclaveDir, "alarms.jsonl"))
		return err == nil, nil
	})
	if err == nil {
		err = b.published(ctx)
	}
	if err != nil {
		t.Fatal(err)
	}
	passwords, err := b.Tenant.Passwords(ctx)
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(passwords)
	passwords = slices.Compact(passwords)
	if len(passwords) < 13 || len(passwords[0]) < 30 {
		t.Fatalf("want at least 13 different passwords of 30 characters or more, got %d", len(passwords))
	}
	looked := func(when string) {
		found, err := search(b.Dir, append(passwords, subject, name, envelopeStart))
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range passwords {
			if len(found[p]) > 0 {
				t.Errorf("%s: a password is in %v", when, found[p])
			}
		}
		for _, f := range []string{"enclave/consumer.db*", "enclave/ledger/tiles/tile/entries/000.p/*", "logs/consumer.log"} {
			if !among(f, found[subject]) {
				t.Errorf("%s: the planted subject is not found in %s, only in %v: the search is worth nothing", when, f, found[subject])
			}
		}
		if !among("enclave/ledger/archive/*.jsonl.gz", found[name]) {
			t.Errorf("%s: the planted name is not found in the archive, only in %v: the search is worth nothing", when, found[name])
		}
		// Nor does the mid-point's store, which has every message, tell who it is about.
		midpoint, err := filepath.Rel(b.Dir, b.MidPointDir)
		if err != nil {
			t.Fatal(err)
		}
		there := func(f string) bool { return strings.HasPrefix(f, filepath.ToSlash(midpoint)+"/") }
		for _, secret := range []string{subject, name} {
			if i := slices.IndexFunc(found[secret], there); i >= 0 {
				t.Errorf("%s: the mid-point can read of whom a message is in %s", when, found[secret][i])
			}
		}
		if !slices.ContainsFunc(found[envelopeStart], there) {
			t.Errorf("%s: no message is found at the mid-point, only in %v: the search is worth nothing", when, found[envelopeStart])
		}
		for _, f := range []string{"enclave/consumer.db", "enclave/alive.json", "enclave/alarms.jsonl"} {
			if !among(f, found[""]) {
				t.Errorf("%s: there is no %s to look at", when, f)
			}
		}
	}
	looked("while it runs") // with what has not got beyond the write-ahead log
	if err := b.Stop(ctx); err != nil {
		t.Fatal(err)
	}
	looked("after its end")
}

// envelopeStart is how every compact JWE begins: {"alg":" in base64.
const envelopeStart = "eyJhbGciOi"

func among(pattern string, names []string) bool {
	return slices.ContainsFunc(names, func(n string) bool { ok, _ := filepath.Match(pattern, n); return ok })
}

// search lists the files below dir in which a text stands as it is, in hexadecimal, or inside of something in base64,
// also where they are compressed; under "" it lists every file that it looked at.
func search(dir string, texts []string) (found map[string][]string, err error) {
	found = map[string][]string{}
	spelled := map[string][][]byte{"": {nil}}
	for _, text := range texts {
		spelled[text] = spellings(text)
	}
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // replaced meanwhile by a newer one
		}
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		raw, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		if strings.HasSuffix(path, ".gz") {
			z, err := gzip.NewReader(bytes.NewReader(raw))
			if err != nil {
				return fmt.Errorf("%s: %w", path, err)
			}
			if raw, err = io.ReadAll(z); err != nil && !errors.Is(err, io.ErrUnexpectedEOF) { // it is still written
				return fmt.Errorf("%s: %w", path, err)
			}
		}
		name, err := filepath.Rel(dir, path)
		for text, forms := range spelled {
			if slices.ContainsFunc(forms, func(f []byte) bool { return bytes.Contains(raw, f) }) {
				found[text] = append(found[text], filepath.ToSlash(name))
			}
		}
		return err
	})
	return found, err
}

// spellings are how a text can stand in a file. In base64 that depends on how many octets stand before it; what depends
// on its neighbours is left off.
func spellings(text string) [][]byte {
	forms := [][]byte{[]byte(text), []byte(hex.EncodeToString([]byte(text)))}
	for before, off := range []int{0, 2, 3} {
		whole := make([]byte, before, before+len(text))
		whole = append(whole, text...)
		whole = whole[:len(whole)/3*3]
		for _, e := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
			forms = append(forms, []byte(e.EncodeToString(whole)[off:]))
		}
	}
	return forms
}
