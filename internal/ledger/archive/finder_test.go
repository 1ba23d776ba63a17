package archive

import (
	"bytes"
	"testing"

	"jmlbridge/schema"
)

// A ledger asks for its messages in their order, and now and then for one that is not there; what follows is found.
func TestFinder(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "2026-11-22", member(t, 0, 10))
	write(t, dir, "2026-11-23", append(member(t, 10, 5), member(t, 15, 5)[:30]...)) // a write was under way
	write(t, dir, "2026-11-24", member(t, 20, 3))
	f := NewFinder(dir)
	defer f.Close()
	find := func(n int, want bool) {
		t.Helper()
		r := rows(n, 1)[0]
		if jws, ok := f.Find(r.Payload); ok != want || ok && jws != r.JWS {
			t.Errorf("message %d: found is %v, want %v", n, ok, want)
		}
	}
	find(0, true)
	find(3, true)
	if _, ok := f.Find(schema.Digest{1}); ok {
		t.Error("found what is not there")
	}
	find(2, false) // given up
	for n := 4; n < 15; n++ {
		find(n, true)
	}
	find(16, false)
	find(22, true)
	if f.Broken() != nil || f.octets != 0 {
		t.Errorf("broken: %v, %d octets kept", f.Broken(), f.octets)
	}
	write(t, dir, "2026-11-21", bytes.Repeat([]byte("x"), 100))
	f2 := NewFinder(dir)
	defer f2.Close()
	if _, ok := f2.Find(rows(0, 1)[0].Payload); ok || f2.Broken() == nil {
		t.Errorf("an archive that cannot be read: found is %v, broken: %v", ok, f2.Broken())
	}
}
