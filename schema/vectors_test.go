package schema

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A vector is one file of testdata/vectors, with the fields and the reason of its sidecar. The files were
// written apart from this package and are never regenerated: when one breaks, the change is wrong.
type vector struct {
	name    string
	payload []byte
	field   map[string]string // by "code", "path", "schema" and "core"
	why     string
}

func vectors(t testing.TB, dir string) []vector {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("testdata", "vectors", dir, "*.json"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no vectors in %s: %v", dir, err)
	}
	var vs []vector
	for _, f := range files {
		v := vector{name: strings.TrimSuffix(filepath.Base(f), ".json"), field: map[string]string{}}
		if v.payload, err = os.ReadFile(f); err != nil {
			t.Fatal(err)
		}
		if dir != "accepted" {
			side, err := os.ReadFile(strings.TrimSuffix(f, ".json") + ".txt")
			if err != nil {
				t.Fatal(err)
			}
			for line := range strings.Lines(string(side)) {
				line = strings.TrimSuffix(line, "\n")
				if name, value, ok := strings.Cut(line, ":"); ok && v.why == "" && !strings.Contains(name, " ") && len(name) <= 6 {
					v.field[name] = strings.TrimSpace(value)
				} else {
					v.why += line
				}
			}
			if v.field["code"] == "" || v.why == "" {
				t.Fatalf("%s: the sidecar must name a code and a reason", v.name)
			}
		}
		vs = append(vs, v)
	}
	return vs
}

func TestAcceptedVectors(t *testing.T) {
	kinds := map[Kind]int{}
	for _, v := range vectors(t, "accepted") {
		t.Run(v.name, func(t *testing.T) {
			s, err := Decode(v.payload)
			if err != nil {
				t.Fatal(err)
			}
			kinds[s.Event.Kind()]++
			again, err := Encode(s)
			if err != nil || !bytes.Equal(again, v.payload) {
				t.Errorf("want the same bytes\n%s\ngot %v\n%s", v.payload, err, again)
			}
			f, err := DecodeFrame(v.payload)
			want := Frame{s.Issuer, s.Audience, s.Stream, s.ID, s.IssuedAt, s.Subject, s.Event.Kind(), 1}
			if err != nil || f != want {
				t.Errorf("want the frame %+v, got %+v, %v", want, f, err)
			}
			c, err := DecodeCutCore(v.payload)
			switch e := s.Event.(type) {
			case *Leaver:
				if err != nil || c != (CutCore{want, e.Engagement, e.Effective}) {
					t.Errorf("the cut core differs from the event: %+v, %v", c, err)
				}
			case *Suspend:
				if err != nil || c != (CutCore{want, e.Engagement, e.Effective}) {
					t.Errorf("the cut core differs from the event: %+v, %v", c, err)
				}
			default:
				if err == nil {
					t.Errorf("a %s has no cut core, got %+v", s.Event.Kind(), c)
				}
			}
		})
	}
	for _, k := range Kinds {
		if kinds[k] < 2 {
			t.Errorf("want vectors of %s, minimal and full, got %d", k, kinds[k])
		}
	}
}

func TestRefusedVectors(t *testing.T) {
	codes := map[Code]int{}
	for _, v := range vectors(t, "refused") {
		t.Run(v.name, func(t *testing.T) {
			s, err := Decode(v.payload)
			var re *RefusedError
			if !errors.As(err, &re) {
				t.Fatalf("%s: want %s, got %+v, %v", v.why, v.field["code"], s, err)
			}
			codes[re.Code]++
			if string(re.Code) != v.field["code"] || re.Path != v.field["path"] {
				t.Errorf("%s: want %s at %q, got %v", v.why, v.field["code"], v.field["path"], re)
			}
		})
	}
	for _, c := range []Code{CodeMalformed, CodeTrailing, CodeDuplicate, CodeUnknownMember, CodeForbidden, CodeMissing, CodeBadValue, CodeTooLong, CodeEvents, CodeUnknownEvent, CodeNotCanonical} {
		if codes[c] == 0 {
			t.Errorf("no vector is refused with %s", c)
		}
	}
}

func TestNewerVectors(t *testing.T) {
	for _, v := range vectors(t, "newer") {
		t.Run(v.name, func(t *testing.T) {
			_, err := Decode(v.payload)
			if got := codeOf(err); string(got) != v.field["code"] {
				t.Errorf("want %s, got %v", v.field["code"], err)
			}
			if f, err := DecodeFrame(v.payload); err != nil || f.Version < 2 || f.Stream.Seq != 42 {
				t.Errorf("the frame must be readable, got %+v, %v", f, err)
			}
			c, err := DecodeCutCore(v.payload)
			got := string(codeOf(err))
			if err == nil {
				got = fmt.Sprintf("%s %d %s", c.Subject, c.Engagement, c.Effective)
			}
			if got != v.field["core"] {
				t.Errorf("%s: want the cut core %q, got %q (%v)", v.why, v.field["core"], got, err)
			}
		})
	}
}

// Content that is refused still advances the chain, as long as issuer, audience and stream are plain.
func TestFrameOfRefused(t *testing.T) {
	noChain := map[Code]bool{CodeMalformed: true, CodeTrailing: true, CodeDuplicate: true, CodeTooLong: true}
	for _, v := range vectors(t, "refused") {
		place, _, _ := strings.Cut(v.field["path"], ".")
		f, err := DecodeFrame(v.payload)
		switch code := Code(v.field["code"]); {
		case place == "iss", place == "aud", place == "stream" && code != CodeUnknownMember:
			if err == nil {
				t.Errorf("%s: the place in the chain is not certain, yet got the frame %+v", v.name, f)
			}
		case noChain[code]: // some are readable (a wrong type inside the event), some not
		default:
			if err != nil || f.Stream.Seq == 0 {
				t.Errorf("%s: want the frame of content that is refused with %s, got %+v, %v", v.name, code, f, err)
			}
		}
	}
}
