// Package command is what the command lines of all programs have in common: how they refuse a command that makes no
// sense, the forms of their output and log, and who acts. It knows no domain.
package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// UsageError is a command line that makes no sense; --help would have helped.
type UsageError struct{ error }

func (e *UsageError) Unwrap() error { return e.error }

// MisuseError is something around the program that a person must put right before anything can be done.
type MisuseError struct{ error }

func (e *MisuseError) Unwrap() error { return e.error }

// Usagef makes a [UsageError].
func Usagef(format string, args ...any) error { return &UsageError{fmt.Errorf(format, args...)} }

// Misusef makes a [MisuseError].
func Misusef(format string, args ...any) error { return &MisuseError{fmt.Errorf(format, args...)} }

// Misuse makes a [MisuseError] of err.
func Misuse(err error) error { return &MisuseError{err} }

// Misused reports whether err is of either kind.
func Misused(err error) bool {
	return errors.As(err, new(*UsageError)) || errors.As(err, new(*MisuseError))
}

// PrintError tells people on w why a program ends, and where a command line makes no sense how to find its use.
func PrintError(w io.Writer, program string, err error) {
	fmt.Fprintf(w, "%s: %v\n", program, err)
	if errors.As(err, new(*UsageError)) {
		fmt.Fprintln(w, "Run the command with --help for its use.")
	}
}

// idLength is the length in octets of a key id or a digest, as they are written: base64url of 32 octets.
const idLength = 43

// Root makes cmd the root of a program that writes to out and errs, and prints its errors itself. Flags that do not
// exist are a [UsageError].
func Root(cmd *cobra.Command, out, errs io.Writer) *cobra.Command {
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	cmd.Args, cmd.RunE = NoArgs, Help
	cmd.SetOut(out)
	cmd.SetErr(errs)
	cmd.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		if _, word, ok := strings.Cut(err.Error(), " in -"); ok && len(word) >= idLength-1 {
			return Usagef("%s%w; an id or a hash that begins with - comes last, after --", called(c), err)
		}
		return Usagef("%s%w", called(c), err)
	})
	return cmd
}

// Execute runs what the command line args asks of root. The library's own commands, which answer what they do not know
// with their help and success, refuse it as all others do.
func Execute(ctx context.Context, root *cobra.Command, args []string) error {
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd(args...)
	for _, c := range root.Commands() {
		switch answer := c.Run; {
		case c.Name() == "completion":
			c.Args, c.RunE = NoArgs, Help
		case c.Name() == "help" && answer != nil:
			c.Run, c.RunE = nil, func(cmd *cobra.Command, args []string) error {
				if _, rest, err := root.Find(args); err != nil || len(rest) > 0 {
					return Usagef("help: there is no command %q", strings.Join(args, " "))
				}
				answer(cmd, args)
				return nil
			}
		}
	}
	root.SetArgs(args)
	return root.ExecuteContext(ctx)
}

// Help answers a command that only groups others.
func Help(cmd *cobra.Command, _ []string) error { return cmd.Help() }

// NoArgs wants none. For a command that groups others, an argument is a command that does not exist.
func NoArgs(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	if cmd.HasSubCommands() {
		return Usagef("%sthere is no command %q", called(cmd), args[0])
	}
	return Usagef("%swant no arguments, got %q", called(cmd), args[0])
}

// Exactly wants one argument for each name.
func Exactly(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) == len(names) {
			return nil
		}
		plural := "s"
		if len(args) == 1 {
			plural = ""
		}
		return Usagef("%swant %s, got %d argument%s", called(cmd), strings.Join(names, " "), len(args), plural)
	}
}

// called begins a sentence about a command by its name; that of the program stands before every error.
func called(cmd *cobra.Command) string {
	_, name, sub := strings.Cut(cmd.CommandPath(), " ")
	if !sub {
		return ""
	}
	return name + ": "
}

// Formats of output and of logs.
const (
	Text = "text"
	JSON = "json"
)

// Logger writes to w what operators read, from level on; the form is Text or JSON.
func Logger(w io.Writer, format string, level slog.Level) *slog.Logger {
	o := &slog.HandlerOptions{Level: level}
	if format == JSON {
		return slog.New(slog.NewJSONHandler(w, o))
	}
	return slog.New(slog.NewTextHandler(w, o))
}

// OutputFlag adds -o to a command that scripts may want to read.
func OutputFlag(cmd *cobra.Command, format *string) {
	cmd.Flags().StringVarP(format, "output", "o", Text, "`format` of the output: text or json")
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{Text, JSON}, cobra.ShellCompDirectiveNoFileComp))
}

// AsJSON checks the value of -o.
func AsJSON(format string) (bool, error) {
	switch format {
	case Text:
		return false, nil
	case JSON:
		return true, nil
	}
	return false, Usagef("-o: want text or json, got %q", format)
}

// OnTerminal reports whether somebody looks at w as it is written.
func OnTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// Line is a command line to paste into a shell: words, an argument that somebody else chose, and flags with what goes before
// each. The argument is quoted where the shell would read anything else in it, and stands behind -- where it looks like a flag.
func Line(words, arg string, flags ...string) string {
	line := append([]string{words}, flags...)
	if strings.HasPrefix(arg, "-") {
		return strings.Join(append(line, "--", Quote(arg)), " ")
	}
	return strings.Join(slices.Insert(line, 1, Quote(arg)), " ")
}

// Quote is a word as a POSIX shell takes it for itself.
func Quote(word string) string {
	plain := func(r rune) bool {
		return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune("-_.,:/@%+", r)
	}
	if word != "" && strings.IndexFunc(word, func(r rune) bool { return !plain(r) }) < 0 {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}
