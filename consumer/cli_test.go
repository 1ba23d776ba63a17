package main

import (
	"errors"
	"strconv"
	"strings"
	"testing"

	"jmlbridge/consumer/state"
	"jmlbridge/internal/command"
	"jmlbridge/internal/store"
)

func TestCommandLine(t *testing.T) {
	f := newFiles(t)
	for _, c := range []struct {
		code int
		say  string
		args []string
	}{
		{exitMisused, "consumer: there is no command \"frobnicate\"\n", []string{"frobnicate"}},
		{exitMisused, "consumer: holds show: want ID, got 0 arguments\n", []string{"holds", "show"}},
		{exitMisused, "consumer: status: unknown flag", []string{"status", "--frobnicate"}},
		{exitMisused, "no arguments", []string{"status", "now"}},
		{exitMisused, "no command", []string{"trust", "nobody"}},
		{exitMisused, "no such file", []string{"-c", f.path("nowhere.yaml"), "status"}},
		{exitMisused, "consumer.db", []string{"status"}}, // never created by looking
		{exitMisused, "consumer.db", []string{"trust", "list"}},
		{exitDone, "", []string{"completion", "bash"}},
		{exitDone, "", []string{"--help"}},
	} {
		code, _, errs := f.consumer(c.args...)
		if code != c.code || !strings.Contains(errs, c.say) || strings.Count(errs, "--help") > 1 {
			t.Errorf("%v: exit %d, %q; want %d and %q", c.args, code, errs, c.code, c.say)
		}
	}
	f.nothingMade()
}

// Every command shows how it is used.
func TestHelpHasExamples(t *testing.T) {
	a := &app{}
	for _, c := range a.root().Commands() {
		if c.Hidden {
			continue // not for people
		}
		subs := c.Commands()
		if len(subs) == 0 {
			subs = append(subs, c)
		}
		for _, s := range subs {
			if s.Example == "" || s.Short == "" {
				t.Errorf("%s has no example or no short text", s.CommandPath())
			}
		}
	}
}

func TestExitCodes(t *testing.T) {
	for _, c := range []struct {
		err  error
		code int
	}{
		{nil, 0}, {errors.New("x"), 1}, {command.Usagef("x"), 2}, {command.Misusef("x"), 2}, {&store.LockedError{}, 2}, {&store.RefusedError{}, 2}, {&severityError{1, state.Notice}, 3},
		{&severityError{1, state.Warning}, 4}, {&severityError{2, state.Critical}, 5}, {&severityError{}, 5},
	} {
		if got := exitCode(c.err); got != c.code {
			t.Errorf("exit code of %v is %s, want %d", c.err, strconv.Itoa(got), c.code)
		}
	}
}
