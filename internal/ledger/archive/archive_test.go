package archive

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"jmlbridge/schema"
)

func rows(from, n int) []Row {
	var all []Row
	for i := from; i < from+n; i++ {
		jws := fmt.Sprintf("header.%s%d.signature", strings.Repeat("MDAw", 100), i)
		all = append(all, Row{ID: int64(i), Payload: schema.DigestOf([]byte(jws)), JWS: jws})
	}
	return all
}

func member(t testing.TB, from, n int) []byte {
	t.Helper()
	b, err := Member(rows(from, n))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func write(t testing.TB, dir, day string, data []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, FileName(day)), data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// read returns how many lines came, in order, and the errors.
func read(t testing.TB, dir string) (n int, errs []error) {
	t.Helper()
	for line, err := range Read(dir) {
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if want := rows(n, 1)[0]; line.JWS != want.JWS || line.Payload != want.Payload {
			t.Fatalf("line %d: want %v, got %v", n, want, line)
		}
		n++
	}
	return n, errs
}

func TestMembersFollowEachOther(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "2026-11-22", append(member(t, 0, 10), member(t, 10, 1)...))
	write(t, dir, "2026-11-23", member(t, 11, 5))
	write(t, dir, "2026-11-24", nil)
	if err := os.WriteFile(filepath.Join(dir, "README"), []byte("not ours"), 0o600); err != nil {
		t.Fatal(err)
	}
	if n, errs := read(t, dir); n != 16 || errs != nil {
		t.Errorf("want 16 lines, got %d, %v", n, errs)
	}
}

// However a file is cut, whole lines before the cut are read, the cut is reported, and the next day too.
func TestTornFile(t *testing.T) {
	first, second := member(t, 0, 4), member(t, 4, 4)
	whole := append(bytes.Clone(first), second...)
	for cut := range whole {
		dir := t.TempDir()
		write(t, dir, "2026-11-22", whole[:cut])
		n, errs := read(t, dir)
		if cut == 0 || cut == len(first) {
			if errs != nil {
				t.Errorf("cut at %d: between members nothing is torn, got %v", cut, errs)
			}
		} else {
			var torn *TornError
			if len(errs) != 1 || !errors.As(errs[0], &torn) {
				t.Errorf("cut at %d: want a torn file, got %v", cut, errs)
			}
		}
		if cut >= len(first) && n < 4 {
			t.Errorf("cut at %d: only %d lines of the whole member were read", cut, n)
		}
	}
	dir := t.TempDir()
	write(t, dir, "2026-11-22", first[:len(first)-3])
	write(t, dir, "2026-11-23", member(t, 4, 2))
	days := map[string]bool{}
	for line, err := range Read(dir) {
		if err == nil {
			days[line.JWS[len(line.JWS)-11:]] = true
		}
	}
	if !days["4.signature"] && !days["04.signature"] {
		t.Errorf("the day after a torn file was not read: %v", days)
	}
}

// A damaged file ends in an error or, where compression has two ways to say the same, gives the same
// lines. Lines before the error may be false: whoever reads them holds their signatures against a key.
func TestDamagedFileIsNoticed(t *testing.T) {
	good := member(t, 0, 20)
	noticed := 0
	for at := range good {
		bad := bytes.Clone(good)
		bad[at] ^= 0x40
		dir := t.TempDir()
		write(t, dir, "2026-11-22", bad)
		var lines []string
		var failed error
		for line, err := range Read(dir) {
			if err != nil {
				failed = err
				continue
			}
			lines = append(lines, line.JWS)
		}
		if failed != nil {
			noticed++
			continue
		}
		for i, want := range rows(0, 20) {
			if len(lines) != 20 || lines[i] != want.JWS {
				t.Errorf("octet %d changed: other lines and no error", at)
				break
			}
		}
	}
	if noticed < len(good)/2 {
		t.Errorf("only %d of %d damaged files were noticed", noticed, len(good))
	}
}

func TestOtherSpellingsAreRefused(t *testing.T) {
	d := schema.DigestOf([]byte("x")).String()
	good := `{"payload":"` + d + `","jws":"a.b.c"}`
	if _, err := parseLine([]byte(good)); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{
		"", "{}", good + " ", " " + good, `{"jws":"a.b.c","payload":"` + d + `"}`, strings.Replace(good, "a.b.c", `\u0061.b.c`, 1),
		strings.Replace(good, `"jws"`, `"x":1,"jws"`, 1), strings.Replace(good, d, d[:42], 1), good + good,
	} {
		if l, err := parseLine([]byte(bad)); err == nil {
			t.Errorf("%q was taken as %v", bad, l)
		}
	}
}

func FuzzRead(f *testing.F) {
	f.Add(member(f, 0, 3))
	f.Add(append(member(f, 0, 1), "\x1f\x8b\x08\x00half"...))
	f.Fuzz(func(t *testing.T, data []byte) {
		dir := t.TempDir()
		write(t, dir, "2026-11-22", data)
		n := 0
		for _, err := range Read(dir) {
			if n++; err != nil && n > 1<<16 {
				t.Fatal("does not end")
			}
		}
	})
}

func FuzzParseLine(f *testing.F) {
	f.Add([]byte(`{"payload":"` + schema.DigestOf(nil).String() + `","jws":"a.b.c"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		l, err := parseLine(data)
		if err != nil {
			return
		}
		m, err := Member([]Row{{Day: time.Time{}, Payload: l.Payload, JWS: l.JWS}})
		if err != nil {
			t.Fatal(err)
		}
		z, err := gzip.NewReader(bytes.NewReader(m))
		if err != nil {
			t.Fatal(err)
		}
		var again bytes.Buffer
		if _, err := again.ReadFrom(z); err != nil || again.String() != string(data)+"\n" {
			t.Errorf("%q reads back as %q, %v", data, again.String(), err)
		}
	})
}

func BenchmarkMember(b *testing.B) {
	all := rows(0, 1000)
	for i := range all {
		all[i].JWS = strings.Repeat("eyJpc3MiOiJodHRwczovL2lhbS5tc3NwLmV4YW1wbGUv", 8) + strings.Repeat("MDAw", 600) + all[i].Payload.String()
	}
	b.ReportAllocs()
	var size int
	for b.Loop() {
		m, err := Member(all)
		if err != nil {
			b.Fatal(err)
		}
		size = len(m)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/1000, "ns/message")
	b.ReportMetric(float64(size)/1000, "octets/message")
}
