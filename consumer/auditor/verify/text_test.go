package verify

import (
	"strings"
	"testing"
)

// A stream that was followed from a place on, and closed before anything came, has no range.
func TestTextOfAStreamOfNothing(t *testing.T) {
	for want, s := range map[string]Stream{
		"none from 91 on, closed; 0 messages": {First: 91, Head: 90, Closed: true},
		"91 to 91, whole; 1 messages":         {First: 91, Head: 91, Messages: 1},
	} {
		var b strings.Builder
		if err := (&Report{Streams: []Stream{s}}).WriteText(&b); err != nil || !strings.Contains(b.String(), want) {
			t.Errorf("want %q, got %v:\n%s", want, err, b.String())
		}
	}
}
