package schema

import (
	"strings"
	"testing"
)

// A digest is compared and typed by people: what is wrong with one is said exactly.
func TestDigestFaults(t *testing.T) {
	good := DigestOf(nil).String()
	for text, want := range map[string]string{
		good[:42]:        "got 42 characters",
		good + "A":       "got 44 characters",
		good[:42] + "+":  "got '+' as character 43",
		"a b" + good[3:]: "got ' ' as character 2",
		good[:42] + "B":  "got one that ends in 'B', in which none ends",
	} {
		var d Digest
		if err := d.UnmarshalText([]byte(text)); err == nil || !strings.Contains(err.Error(), want) || d != (Digest{}) {
			t.Errorf("%s: want %q, got %v", text, want, err)
		}
	}
}
