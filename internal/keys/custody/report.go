package custody

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"jmlbridge/internal/doctor"
	"jmlbridge/internal/keys"
	"jmlbridge/internal/keys/vault"
)

// Use is one key of a program, and what it is for.
type Use struct {
	Purpose string                           // signing, decryption, ledger, second
	File    string                           // of a private key in a file; empty for one in a store
	Ref     *vault.Ref                       // of a key in a store
	Wrapped string                           // the file that the key in the store unwraps
	Op      string                           // what the store must do: sign, decrypt, unwrapKey
	Read    func() (crypto.PublicKey, error) // reads the key in a file
}

// Line is what was found of a key.
type Line struct {
	Purpose  string   `json:"purpose"`
	Where    string   `json:"where"`
	Type     string   `json:"type,omitempty"`
	KID      string   `json:"kid,omitempty"`
	Problems []string `json:"problems"` // it cannot be used as it is
	Notes    []string `json:"notes"`    // somebody could do more than is needed

	unkept string // the one of the problems that is about our file and not about the store
}

// allowed are the operations of a key itself that go with what it is for.
var allowed = map[string][]string{
	"sign":      {"sign", "verify"},
	"decrypt":   {"decrypt", "encrypt"},
	"unwrapKey": {"unwrapKey", "wrapKey"},
}

// Report looks at every key: those in stores are asked for, held against their pin, tried, and what their credential
// may do beyond need is told.
func (k *Keeper) Report(ctx context.Context, uses []Use) []Line {
	var list []Line
	for _, u := range uses {
		l := Line{Purpose: u.Purpose, Problems: []string{}, Notes: []string{}}
		if u.Ref == nil {
			l.Where, l.Type = u.File, "file"
			pub, err := u.Read()
			if err == nil {
				l.KID, err = keys.ID(pub)
			}
			if err != nil {
				l.Problems = append(l.Problems, err.Error())
			}
		} else {
			l.Where = u.Ref.String()
			k.look(ctx, u, &l)
		}
		list = append(list, l)
	}
	return list
}

func (k *Keeper) look(ctx context.Context, u Use, l *Line) {
	problem := func(format string, args ...any) { l.Problems = append(l.Problems, fmt.Sprintf(format, args...)) }
	s, err := k.Stores()
	if err != nil {
		problem("%v", err)
		return
	}
	f, err := s.Look(ctx, *u.Ref)
	if err != nil {
		problem("%v", err)
		return
	}
	l.Type, l.KID = f.Type, f.KID
	if _, err := s.Pinned(ctx, *u.Ref, u.Op); err != nil {
		problem("%v", err)
	} else if err := open(s, u); err != nil {
		problem("%v", err)
		if _, ok := errors.AsType[unkept](err); ok {
			l.unkept = err.Error()
		}
	}
	if f.NotBefore != nil || f.Expires != nil {
		l.Notes = append(l.Notes, "it has dates in its store: past them it does nothing any more")
	}
	if extra := slices.DeleteFunc(slices.Clone(f.Ops), func(op string) bool { return slices.Contains(allowed[u.Op], op) }); len(extra) > 0 {
		l.Notes = append(l.Notes, fmt.Sprintf("the key can also %s; make it with --ops %s", strings.Join(extra, ", "), strings.Join(allowed[u.Op], " ")))
	}
	tried, err := s.Try(ctx, *u.Ref, f, u.Op)
	if err != nil {
		problem("%v", err)
		return
	}
	for _, t := range tried {
		switch {
		case t.Op == u.Op && t.Answer != vault.May:
			problem("%v", t.Err)
		case t.Op == "list" && t.Answer == vault.May:
			l.Notes = append(l.Notes, "the credential may list the store's keys; give its role on the key alone, not on the store")
		case t.Op != u.Op && t.Answer == vault.May:
			l.Notes = append(l.Notes, fmt.Sprintf("the credential may %s as well, which is not needed", t.Op))
		}
	}
}

// open does with what lies here of a key in a store as a start does. A wrapped key that init has not made yet is none.
func open(s *vault.Stores, u Use) (err error) {
	if u.Wrapped != "" {
		if _, err := os.Lstat(u.Wrapped); errors.Is(err, os.ErrNotExist) {
			return nil
		}
		key, err := s.LedgerKey(vault.Wrapping{File: u.Wrapped, Ref: *u.Ref})
		if err != nil {
			return err
		}
		return key.Unwrap()
	}
	if u.Op == "sign" {
		_, err = s.Signer(*u.Ref)
	} else {
		_, err = s.Decrypter(*u.Ref)
	}
	if errors.Is(err, os.ErrNotExist) {
		return unkept{u.Ref.Public}
	}
	return err
}

// unkept is a public half that is not in its file yet.
type unkept struct{ file string }

func (e unkept) Error() string {
	return fmt.Sprintf("its public half is not in %s yet: init, or this command with --adopt, leaves it there", e.file)
}

// Examine looks at the keys in stores for a doctor: without an answer to each nothing is opened, signed or published. What
// init leaves in files is another check's.
func (k *Keeper) Examine(ctx context.Context, uses []Use) (found []doctor.Finding) {
	uses = slices.DeleteFunc(slices.Clone(uses), func(u Use) bool { return u.Ref == nil })
	for _, l := range k.Report(ctx, uses) {
		problems := slices.DeleteFunc(slices.Clone(l.Problems), func(p string) bool { return p == l.unkept })
		f := doctor.Finding{Name: l.Purpose, Verdict: doctor.Well, Text: "the store has it, and does what it is for"}
		switch {
		case len(problems) > 0:
			f.Verdict, f.Text = doctor.Bad, strings.ReplaceAll(strings.Join(problems, "; "), "\n", "; ")
			f.Do = "let this machine, or the proxy, reach the store, and its credential read and use this key; the command `keys` tries all of them"
		case len(l.Notes) > 0:
			f.Verdict, f.Text, f.Do = doctor.Warning, strings.Join(l.Notes, "; "), "\"Keys in hardware\" in consumer/README.md has the least that is needed"
		}
		found = append(found, f)
	}
	return found
}

// Sound reports whether every key can be used.
func Sound(list []Line) bool {
	return !slices.ContainsFunc(list, func(l Line) bool { return len(l.Problems) > 0 })
}

// Print shows a report to people.
func Print(w io.Writer, list []Line) error {
	for _, l := range list {
		fmt.Fprintf(w, "%-10s  %s\n", l.Purpose, l.Where)
		if l.KID != "" {
			fmt.Fprintf(w, "            %s, key id %s\n", l.Type, l.KID)
		}
		for _, p := range l.Problems {
			fmt.Fprintf(w, "            WRONG: %s\n", p)
		}
		for _, n := range l.Notes {
			fmt.Fprintf(w, "            note: %s\n", n)
		}
	}
	verdict := "Every key can be used."
	if !Sound(list) {
		verdict = "Not every key can be used."
	}
	_, err := fmt.Fprintln(w, verdict)
	return err
}

// LedgerUses lists a ledger's keys.
func LedgerUses(key LedgerKey, second *vault.Ref) []Use {
	u := Use{Purpose: "ledger", File: key.Path, Op: "unwrapKey", Read: func() (crypto.PublicKey, error) {
		k, err := keys.ReadLedger(key.Path)
		if err != nil {
			return nil, err
		}
		return k.Public(), nil
	}}
	if key.Other != nil {
		u.Ref, u.Wrapped = &key.Other.Ref, key.Other.File
	}
	list := []Use{u}
	if second != nil {
		list = append(list, Use{Purpose: "second", Ref: second, Op: "sign"})
	}
	return list
}
