package main

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

func TestWrap(t *testing.T) {
	for _, c := range []struct {
		text string
		n    int
		hang int
		want []string
	}{
		{"", 10, 0, []string{""}},
		{"fits as  it is", 14, 0, []string{"fits as  it is"}},
		{"one two three", 8, 0, []string{"one two", "three"}},
		{"exactly ten", 7, 0, []string{"exactly", "ten"}},
		{"  in two parts", 8, 0, []string{"  in two", "  parts"}},
		{"a      b c", 8, 4, []string{"a      b", "    c"}},
		{"aVeryLongWord after", 5, 0, []string{"aVeryLongWord", "after"}},
		{"aVeryLongWord", 5, 0, []string{"aVeryLongWord"}},
		{"line\nand line", 8, 0, []string{"line", "and line"}},
		{"Spärck Jönes", 6, 0, []string{"Spärck", "Jönes"}},
		{"x " + together("stays together"), 8, 0, []string{"x", together("stays together")}},
	} {
		if got := wrapHanging(c.text, c.n, c.hang); !slices.Equal(got, c.want) {
			t.Errorf("%q in %d: want %q, got %q", c.text, c.n, c.want, got)
		}
	}
}

// Whatever the width, what is printed fits, and columns stand under each other.
func TestFits(t *testing.T) {
	for _, width := range []int{narrow, wide} {
		for _, tty := range []bool{false, true} {
			var out bytes.Buffer
			s := &screen{w: &out, width: width, tty: tty}
			long := strings.Repeat("words and words ", 20)
			s.section("1  A part")
			s.say(long)
			s.item("label", long)
			s.legend(sFact, long)
			s.step(12340*time.Millisecond, "Karen Spärck Jones", sVerified, "", long, "line 3+14")
			s.step(0, "Karen Spärck Jones", sVerified, "", long, "")
			s.check(true, long)
			s.check(false, long)
			s.box("", "Title", long)
			for line := range strings.Lines(out.String()) {
				line = strings.TrimSuffix(line, "\n")
				if n := utf8.RuneCountInString(line); n > width {
					t.Errorf("%d columns of %d: %s", n, width, line)
				}
			}
			if ascii := !strings.ContainsAny(out.String(), "─│✓"); ascii == tty {
				t.Errorf("tty %v: wrong characters:\n%s", tty, out.String())
			}
		}
	}
}

// Colours are only for those who want them.
func TestColour(t *testing.T) {
	var out bytes.Buffer
	s := newScreen(&out)
	s.check(true, "plain")
	if strings.Contains(out.String(), "\x1b") || s.tty {
		t.Errorf("colour in a buffer: %q", out.String())
	}
	s.colour = true
	s.check(true, "green")
	if !strings.Contains(out.String(), "\x1b["+green+"m") {
		t.Errorf("no colour: %q", out.String())
	}
}
