package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"jmlbridge/consumer/state"
	"jmlbridge/internal/keys"
	"jmlbridge/internal/ledger/entry"
	"jmlbridge/internal/store"
)

// What the example has in the places that only the operator can fill is not taken for an answer.
func TestInitOfTheExample(t *testing.T) {
	f := newFiles(t)
	f.values["tenant"], f.values["url"] = uuid.Nil.String(), "tls://queue.mssp.example:4222"
	f.save()
	if code, _, errs := f.consumer("init"); code != exitMisused || !strings.Contains(errs, "tenant.id: want ") {
		t.Errorf("the example's tenant: exit %d, %s", code, errs)
	}
	f.values["tenant"] = uuid.NewString()
	f.save()
	if code, _, errs := f.consumer("init"); code != exitDone || !strings.Contains(errs, "warning: queue.mssp.example") {
		t.Errorf("the example's queue: exit %d, %s", code, errs)
	}
}

func TestInit(t *testing.T) {
	f := newFiles(t)
	out := f.must("init", "-o", "json")
	var m made
	if err := json.Unmarshal([]byte(out), &m); err != nil {
		t.Fatal(err)
	}
	key, err := keys.ReadDecryption(m.DecryptionKey)
	if err != nil {
		t.Fatal(err)
	}
	pub, err := keys.ReadPublic(m.EncryptionKey)
	if err != nil {
		t.Fatal(err)
	}
	if id, _ := keys.ID(pub); id != m.EncryptionKID {
		t.Error("the public key printed is not the one in its file")
	}
	if id, _ := keys.ID(key.Public()); id != m.EncryptionKID {
		t.Error("the public key is not that of the private one")
	}
	if v, err := keys.LedgerVerifier(m.LedgerVerifier); err != nil || v.Name() != "jmlbridge.internal/gov-1/ledger" {
		t.Errorf("the auditors' line: %v, %v", v, err)
	}
	db := f.open()
	if db.Enclave() != gov1 {
		t.Error("the database is of another enclave")
	}
	if s := entries[*entry.Started](t, db); len(s) != 1 || s[0].Mode != "init" || s[0].Enclave != gov1 {
		t.Errorf("started entries: %+v", s)
	}
	if tr := entries[*entry.Trust](t, db); len(tr) != 1 || tr[0].Use != entry.UseDecrypt || tr[0].Key != m.EncryptionKID || tr[0].By != "ann" {
		t.Errorf("trust entries: %+v", tr)
	}
	// Once.
	before, err := os.ReadFile(m.LedgerKey)
	if err != nil {
		t.Fatal(err)
	}
	code, _, errs := f.consumer("init")
	if code != exitMisused || !strings.Contains(errs, "exists already") {
		t.Errorf("second init: exit %d, %s", code, errs)
	}
	if after, _ := os.ReadFile(m.LedgerKey); string(before) != string(after) {
		t.Error("a key was overwritten")
	}
}

// Whatever is there already, nothing is made.
// What a start refuses of the files that people write is told before anything is made.
func TestInitRefusesFilesThatAStartRefuses(t *testing.T) {
	for _, name := range []string{"consumer.yaml", "policy.yaml"} {
		t.Run(name, func(t *testing.T) {
			f := newFiles(t)
			if err := os.Chmod(f.path(name), 0o666); err != nil {
				t.Fatal(err)
			}
			for _, args := range [][]string{{"init"}, {"run"}} {
				if code, _, errs := f.consumer(args...); code != exitMisused || !strings.Contains(errs, "mode 0666 lets everyone change it; chmod o-w "+f.path(name)) {
					t.Errorf("%v: exit %d, %s", args, code, errs)
				}
			}
			f.nothingMade()
			if err := os.Chmod(f.path(name), 0o640); err != nil {
				t.Fatal(err)
			}
			f.init()
		})
	}
	t.Run("a policy with an unknown key", func(t *testing.T) {
		f := newFiles(t)
		f.edit("policy.yaml", "limits:", "limit:")
		if code, _, errs := f.consumer("init"); code != exitMisused || !strings.Contains(errs, "policy.yaml:") || !strings.Contains(errs, "Nothing was made") {
			t.Errorf("exit %d, %s", code, errs)
		}
		f.nothingMade()
	})
	t.Run("no policy yet", func(t *testing.T) {
		f := newFiles(t)
		f.remove("policy.yaml")
		if code, _, errs := f.consumer("init"); code != exitDone || !strings.Contains(errs, "warning: there is no policy file "+f.path("policy.yaml")) {
			t.Errorf("exit %d, %s", code, errs)
		}
	})
}

func TestInitAllOrNothing(t *testing.T) {
	for _, there := range []string{"consumer.db", "keys/decryption.pem", "keys/decryption.pub.pem", "keys/ledger.pem", "keys/ledger.vkey", "copy/checkpoint"} {
		t.Run(there, func(t *testing.T) {
			f := newFiles(t)
			f.write(there, "precious", 0o600)
			code, _, errs := f.consumer("init")
			if code != exitMisused || !strings.Contains(errs, filepath.Base(there)) {
				t.Fatalf("exit %d, %s", code, errs)
			}
			if text, _ := os.ReadFile(f.path(there)); string(text) != "precious" {
				t.Error("it was overwritten")
			}
			if err := os.Remove(f.path(there)); err != nil {
				t.Fatal(err)
			}
			f.nothingMade()
			f.init() // and nothing is in the way afterwards
		})
	}
	t.Run("unknown kind of key", func(t *testing.T) {
		f := newFiles(t)
		if code, _, _ := f.consumer("init", "--key", "DES"); code != exitMisused {
			t.Errorf("exit %d", code)
		}
		f.nothingMade()
	})
	t.Run("a file where a folder should be", func(t *testing.T) {
		f := newFiles(t)
		f.write("ledger", "", 0o600)
		if code, _, _ := f.consumer("init"); code != exitMisused {
			t.Errorf("exit %d", code)
		}
		f.remove("ledger")
		f.nothingMade()
	})
	t.Run("the last step fails", func(t *testing.T) {
		f := newFiles(t)
		f.edit("consumer.yaml", "database: consumer.db", "database: "+strings.Repeat("x", 300)) // no file system takes that
		if code, _, _ := f.consumer("init"); code != exitFailed {
			t.Errorf("exit %d", code)
		}
		f.nothingMade()
	})
}

// An init that was killed, between whatever two steps, is named by the next one with exactly what it left; and without
// that, keys are never taken for left over.
func TestInitThatWasKilled(t *testing.T) {
	made := []string{"keys/decryption.pem", "keys/decryption.pub.pem", "keys/ledger.pem", "keys/ledger.vkey"}
	for n := range len(made) + 1 {
		f := newFiles(t)
		var all []string
		for _, name := range made {
			all = append(all, f.path(name))
		}
		if _, err := store.BeginFounding(f.path("consumer.db"), all, func(path string) error { return state.Create(path, gov1, time.Now()) }); err != nil {
			t.Fatal(err)
		}
		for _, name := range made[:n] {
			f.write(name, "of the killed one", 0o600)
		}
		left := strings.Join(append(slices.Clone(all[:n]), "the folder "+f.path("consumer.db.init")), ", ")
		code, _, errs := f.consumer("init")
		if code != exitMisused || !strings.Contains(errs, "was killed, or it still runs") || !strings.Contains(errs, "remove "+left+", and begin again") {
			t.Fatalf("killed after %d files: exit %d, %s", n, code, errs)
		}
		for _, name := range append(slices.Clone(made[:n]), "consumer.db.init") {
			if err := os.RemoveAll(f.path(name)); err != nil {
				t.Fatal(err)
			}
		}
		f.init()
		if err := os.Remove(f.path("consumer.db")); err != nil { // lost: its keys were in use
			t.Fatal(err)
		}
		if code, _, errs := f.consumer("init"); code != exitMisused || !strings.Contains(errs, "decryption.pem exists already, and init never replaces a key") {
			t.Errorf("keys without a database: exit %d, %s", code, errs)
		}
	}
}

func TestNextDecryptionKey(t *testing.T) {
	f := newFiles(t)
	f.init()
	next := f.path("keys/decryption-2.pem")
	f.must("init", "key", "keys/decryption-2.pem") // as it stands in the configuration, from whatever folder
	f.edit("consumer.yaml", "[keys/decryption.pem]", "[keys/decryption.pem, keys/decryption-2.pem]")
	if _, err := keys.ReadDecryption(next); err != nil {
		t.Fatal(err)
	}
	if tr := entries[*entry.Trust](t, f.open()); len(tr) != 2 || tr[1].Use != entry.UseDecrypt {
		t.Errorf("trust entries: %+v", tr)
	}
	if code, _, _ := f.consumer("init", "key", next); code != exitMisused {
		t.Errorf("the same again: exit %d", code)
	}
}
