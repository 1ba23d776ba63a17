package command_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"jmlbridge/internal/command"
)

// A refusal names the command once, says what came, and points to the help only where that helps.
func TestRefusals(t *testing.T) {
	var out, errs bytes.Buffer
	root := command.Root(&cobra.Command{Use: "tool"}, &out, &errs)
	group := &cobra.Command{Use: "key", Args: command.NoArgs, RunE: command.Help}
	group.AddCommand(&cobra.Command{Use: "show ID", Args: command.Exactly("ID"), RunE: func(*cobra.Command, []string) error { return command.Misusef("no such key") }})
	root.AddCommand(group, &cobra.Command{Use: "list", Args: command.NoArgs, RunE: func(*cobra.Command, []string) error { return fmt.Errorf("list: %w", errors.New("gone")) }})
	for _, c := range []struct {
		args    string
		misused bool
		want    string
	}{
		{"nothing", true, "tool: there is no command \"nothing\"\nRun the command with --help for its use.\n"},
		{"key take", true, "tool: key: there is no command \"take\"\nRun the command with --help for its use.\n"},
		{"key show", true, "tool: key show: want ID, got 0 arguments\nRun the command with --help for its use.\n"},
		{"key show a b", true, "tool: key show: want ID, got 2 arguments\nRun the command with --help for its use.\n"},
		{"list it", true, "tool: list: want no arguments, got \"it\"\nRun the command with --help for its use.\n"},
		{"help nothing", true, "tool: help: there is no command \"nothing\"\nRun the command with --help for its use.\n"},
		{"help key nothing", true, "tool: help: there is no command \"key nothing\"\nRun the command with --help for its use.\n"},
		{"completion tcsh", true, "tool: completion: there is no command \"tcsh\"\nRun the command with --help for its use.\n"},
		{"list --all", true, "tool: list: unknown flag: --all\nRun the command with --help for its use.\n"},
		{"key show -fBj6_chbxuiAh01btOEkIVH4rPBFXcv59ZR2LPC_Tk", true, "tool: key show: unknown shorthand flag: 'f' in -fBj6_chbxuiAh01btOEkIVH4rPBFXcv59ZR2LPC_Tk; an id or a hash that begins with - comes last, after --\nRun the command with --help for its use.\n"},
		{"key show -- -fBj6_chbxuiAh01btOEkIVH4rPBFXcv59ZR2LPC_Tk", true, "tool: no such key\n"},
		{"key show a", true, "tool: no such key\n"},
		{"list", false, "tool: list: gone\n"},
	} {
		errs.Reset()
		err := command.Execute(t.Context(), root, strings.Fields(c.args))
		if err == nil {
			t.Errorf("%s: no error", c.args)
			continue
		}
		command.PrintError(&errs, "tool", err)
		if errs.String() != c.want || command.Misused(err) != c.misused {
			t.Errorf("%s: misused %v, says\n%swant\n%s", c.args, command.Misused(err), &errs, c.want)
		}
	}
	if out.Len() > 0 {
		t.Errorf("a refusal printed %q", &out)
	}
	for _, args := range []string{"help", "help key show", "completion bash", "completion", "key", "--help"} {
		out.Reset()
		if err := command.Execute(t.Context(), root, strings.Fields(args)); err != nil || out.Len() == 0 {
			t.Errorf("%s: %v, printed %q", args, err, &out)
		}
	}
	if _, err := command.AsJSON("xml"); !command.Misused(err) {
		t.Errorf("-o xml: %v", err)
	}
}

// What is printed to be pasted does what it says and nothing else, whatever a producer named a person.
func TestLine(t *testing.T) {
	for arg, want := range map[string]string{
		"100042":         "consumer unlock 100042 --reason TEXT",
		"a@b.example":    "consumer unlock a@b.example --reason TEXT",
		"a;touch${IFS}x": "consumer unlock 'a;touch${IFS}x' --reason TEXT",
		"$(id)":          "consumer unlock '$(id)' --reason TEXT",
		"O'N":            `consumer unlock 'O'\''N' --reason TEXT`,
		"-dash":          "consumer unlock --reason TEXT -- -dash",
		"-$(id)":         "consumer unlock --reason TEXT -- '-$(id)'",
		"~root":          "consumer unlock '~root' --reason TEXT",
		"#1":             "consumer unlock '#1' --reason TEXT",
		"*":              "consumer unlock '*' --reason TEXT",
	} {
		if got := command.Line("consumer unlock", arg, "--reason", "TEXT"); got != want {
			t.Errorf("%q: %s, want %s", arg, got, want)
		}
	}
}
