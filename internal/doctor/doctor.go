// Package doctor is how a program looks at its own surroundings before they matter: named checks, each with findings
// that say what was looked at, what was found and what to do.
//
// A check only looks. It changes nothing, here or at the other end, and what it could not find out it says
// so: unknown is not well. It knows no domain; programs bring the checks.
package doctor

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"
	"unicode"
)

// Verdict of a finding. The zero value is not a good one.
type Verdict string

// Verdicts.
const (
	Bad     Verdict = "bad"     // it will not work
	Warning Verdict = "warning" // it works, and is not as it should be
	Unknown Verdict = "unknown" // it could not be found out
	Well    Verdict = "ok"
)

// Finding is one thing that was looked at.
type Finding struct {
	Check   string  `json:"check"` // of which it is part
	Name    string  `json:"name"`  // what was looked at
	Verdict Verdict `json:"verdict"`
	Text    string  `json:"text"`         // what was found
	Do      string  `json:"do,omitempty"` // what to do about it
}

// Of is the finding on something that was tried: well as the text says, or bad for the error.
func Of(name, well string, err error) Finding {
	if err != nil {
		return Finding{Name: name, Verdict: Bad, Text: strings.ReplaceAll(err.Error(), "\n", "; ")}
	}
	return Finding{Name: name, Verdict: Well, Text: well}
}

// Check is a part of the surroundings.
type Check struct {
	Name string
	// Look returns at least one finding, in the order in which things were looked at; Check need not be set in them.
	Look func(context.Context) []Finding
}

// Time is how long one check may take.
const Time = 90 * time.Second

// Run makes the checks one after the other.
func Run(ctx context.Context, checks []Check) (all []Finding) {
	for _, c := range checks {
		one, cancel := context.WithTimeout(ctx, Time)
		list := c.Look(one)
		cancel()
		for i := range list {
			list[i].Check = c.Name
		}
		all = append(all, list...)
	}
	return all
}

// Failed tells whether a finding is bad.
func Failed(list []Finding) bool {
	for _, f := range list {
		if f.Verdict != Well && f.Verdict != Warning && f.Verdict != Unknown {
			return true
		}
	}
	return false
}

// Warn tells a log of a check's warnings.
func Warn(log *slog.Logger, check string, list []Finding) {
	for _, f := range list {
		if f.Verdict == Warning {
			log.Warn(check, "of", f.Name, "note", f.Text, "do", f.Do)
		}
	}
}

// Print writes the findings for people.
func Print(w io.Writer, list []Finding) error {
	var b strings.Builder
	check := ""
	for _, f := range list {
		if f.Check != check {
			check = f.Check
			fmt.Fprintf(&b, "%s\n", check)
		}
		fmt.Fprintf(&b, "  %-8s %-12s %s\n", f.Verdict, f.Name, printable(f.Text))
		if f.Do != "" {
			fmt.Fprintf(&b, "  %21s do: %s\n", "", printable(f.Do))
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// maxText is how much is printed of one text, in characters: whoever is at the other end may have written it.
const maxText = 1000

// printable is text as one line that a terminal takes for nothing else.
func printable(text string) string {
	n := 0
	text = strings.Map(func(r rune) rune {
		switch n++; {
		case n > maxText:
			return -1
		case r == '\n' || r == '\t':
			return ' '
		case !unicode.IsPrint(r):
			return '\uFFFD'
		}
		return r
	}, text)
	if n > maxText {
		text += " [...]"
	}
	return text
}
