package main

import (
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// Whoever asks for help at three in the morning wants a line to copy.
func TestHelpHasExamples(t *testing.T) {
	var look func(*cobra.Command)
	look = func(c *cobra.Command) {
		for _, s := range c.Commands() {
			switch {
			case s.Hidden: // not for people
			case s.HasSubCommands():
				look(s)
			case s.Example == "" || s.Short == "":
				t.Errorf("%s has no example or no short text", s.CommandPath())
			}
		}
	}
	look((&app{}).root())
}

// An error names the program once, and what it wants by the names in the help.
func TestMisuseIsSaidOnce(t *testing.T) {
	p := newPlace(t)
	for want, args := range map[string][]string{
		"producer: import: want FILE, got 0 arguments\n":                {"import"},
		"producer: midpoint renew: want FILE CA, got 1 argument\n":      {"midpoint", "renew", "x"},
		"producer: midpoint: there is no command \"start\"\n":           {"midpoint", "start"},
		"producer: there is no command \"publish\"\n":                   {"publish"},
		"producer: status: want no arguments, got \"x\"\n":              {"status", "x"},
		"producer: emit: want KIND SUBJECT, and perhaps - for standard": {"emit", "leaver"},
	} {
		if code, _, errs := p.try("", args...); code != exitMisused || !strings.HasPrefix(errs, want) {
			t.Errorf("%v: want %q, got %d %q", args, want, code, errs)
		}
	}
}
