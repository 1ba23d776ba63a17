package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"jmlbridge/consumer/apply"
	"jmlbridge/consumer/plan"
	"jmlbridge/consumer/state"
	"jmlbridge/internal/program"
	"jmlbridge/internal/store"
	"jmlbridge/schema"
)

func (a *app) holdsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "holds",
		Short: "What a rule of the enclave keeps from happening: list, show, release, discard",
		Long: `A hold is something valid that a rule of the enclave stops. Most end by themselves when the rule is content:
the policy knows the role, the account is put right. Those past an hourly limit end by an operator's word
on exactly the set that was shown, or, for cuts, by themselves when cut_hold is over.`,
		GroupID: "ops",
		Args:    noArgs,
		RunE:    help,
	}
	cmd.AddCommand(a.holdsList(), a.holdsShow(),
		a.holdsDecide("release", "Let what is held happen", state.HoldReleased,
			`release lets through exactly the set that "holds show" printed with this digest. One operator is enough.`),
		a.holdsDecide("discard", "Keep what is held from happening", state.HoldDiscarded,
			`discard drops exactly the set that "holds show" printed with this digest, until a new fact about a person
comes. To discard cuts takes two operators with different logins: the first word is kept, the second ends it.`))
	return cmd
}

// shownHold is one hold as scripts read it.
type shownHold struct {
	ID      string          `json:"id"`
	Code    string          `json:"code"`
	Issuer  string          `json:"iss,omitempty"`
	Subject string          `json:"sub,omitempty"`
	State   state.HoldState `json:"state"`
	Created time.Time       `json:"created"`
	Expires *time.Time      `json:"expires,omitempty"`
	Digest  schema.Digest   `json:"digest"`
	Shown   json.RawMessage `json:"shown"`
	Leaning state.HoldState `json:"leaning,omitempty"` // what those in by want, while one more must agree
	By      []string        `json:"by,omitempty"`
	Reason  string          `json:"reason,omitempty"`
	Ended   *time.Time      `json:"ended,omitempty"`
	Ends    string          `json:"ends"` // how it ends, for people
}

func showHold(h *state.Hold) shownHold {
	s := shownHold{ID: h.Name(), Code: h.Code, Issuer: h.Issuer, State: h.State, Created: h.Created, Expires: optional(h.Expires), Digest: h.Digest, Shown: h.Shown,
		Leaning: h.Leaning, By: h.By, Reason: h.Reason, Ended: optional(h.Ended), Ends: endOf(h)}
	if h.Issuer != "" { // of one person; else the subject only tells holds of many apart
		s.Subject = h.Subject
	}
	return s
}

// heldSet is what is in a hold of many.
type heldSet struct {
	Lane     string `json:"lane"`
	Count    int    `json:"count"`
	Subjects []struct {
		Issuer  string `json:"iss"`
		Subject string `json:"sub"`
	} `json:"subjects"`
}

// setOf reads a hold of many persons; ok is false for a hold of one.
func setOf(h *state.Hold) (s heldSet, ok bool) {
	err := json.Unmarshal(h.Shown, &s)
	return s, err == nil && s.Lane != ""
}

// cuts reports whether a hold keeps people from losing access.
func (s heldSet) cuts() bool { return s.Lane != plan.Give.String() }

// ends says how a hold of one person ends, by its code: the rule's end, not an operator's word.
var ends = map[string]string{
	string(plan.HoldUnknownRole):     "when the policy names the role",
	string(plan.HoldProtected):       "when the account is not under protected any more, or no message concerns it",
	string(plan.HoldNotOwned):        "when the account bears the bridge's mark, or is renamed so that it does not look like the person's",
	string(plan.HoldDisabledLocally): "when somebody in the enclave enables the account again",
	string(plan.HoldForeignGroup):    "when the account is taken out of the group by hand, or the group is listed in the policy",
	string(plan.HoldNoUsageLocation): "when the person or the policy has a usage location",
	"ambiguous-mark":                 "when only one account bears the mark",
	"no-name":                        "when the person has another preferred alias, or upn.template makes another name",
	"account-missing":                "when the account is restored, or a new engagement begins",
}

func endOf(h *state.Hold) string {
	if h.State != state.HoldOpen {
		return "it has ended"
	}
	if e, ok := ends[h.Code]; ok {
		return e
	}
	if !h.Expires.IsZero() {
		return "by release, by two operators' discard, or by itself at " + stamp(h.Expires)
	}
	return "by release or discard"
}

func (a *app) holdsList() *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List what is held now",
		Example: `  consumer holds list
  consumer holds list -o json`,
		Args: noArgs,
		RunE: func(*cobra.Command, []string) error {
			inJSON, err := asJSON(format)
			if err != nil {
				return err
			}
			db, _, err := a.openRead()
			if err != nil {
				return err
			}
			defer db.Close()
			open, err := state.Holds(db.Read())
			if err != nil {
				return err
			}
			list := []shownHold{}
			var rows [][]string
			for _, h := range open {
				list = append(list, showHold(h))
				whom := h.Subject
				if set, ok := setOf(h); ok {
					whom = fmt.Sprintf("%s, lane %s", persons(set.Count), set.Lane)
				}
				rows = append(rows, []string{h.Name(), h.Code, whom, age(a.now(), h.Created), endOf(h)})
			}
			if inJSON {
				return program.PrintJSON(a.out, list)
			}
			if len(rows) == 0 {
				_, err = fmt.Fprintln(a.out, "Nothing is held.")
				return err
			}
			return program.Table(a.out, []string{"ID", "CODE", "WHOM", "AGE", "ENDS"}, rows)
		},
	}
	outputFlag(cmd, &format)
	return cmd
}

func holdID(text string) (int64, error) {
	id, err := strconv.ParseInt(text, 10, 64)
	if err != nil || id < 1 {
		return 0, usagef("want the number of a hold as `consumer holds list` shows it, got %q", text)
	}
	return id, nil
}

func (a *app) holdsShow() *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use:     "show ID",
		Short:   "Show one hold: exactly what a release would let through",
		Example: `  consumer holds show 7`,
		Args:    exactly("ID"),

		ValidArgsFunction: a.completeHolds,
		RunE: func(_ *cobra.Command, args []string) error {
			inJSON, err := asJSON(format)
			if err != nil {
				return err
			}
			id, err := holdID(args[0])
			if err != nil {
				return err
			}
			db, _, err := a.openRead()
			if err != nil {
				return err
			}
			defer db.Close()
			h, err := state.HoldByID(db.Read(), id)
			if errors.Is(err, state.ErrNotFound) {
				return &misuseError{err}
			}
			if err != nil {
				return err
			}
			if inJSON {
				return program.PrintJSON(a.out, showHold(h))
			}
			return a.describe(h)
		},
	}
	outputFlag(cmd, &format)
	return cmd
}

func (a *app) describe(h *state.Hold) error {
	lines := [][2]string{{"hold", h.Name()}, {"code", h.Code}, {"state", string(h.State)}, {"since", stamp(h.Created)}, {"ends", endOf(h)}}
	set, many := setOf(h)
	if many {
		lines = append(lines, [2]string{"lane", set.Lane}, [2]string{"persons", strconv.Itoa(set.Count)})
	} else {
		lines = append(lines, [2]string{"subject", h.Subject}, [2]string{"issuer", h.Issuer})
	}
	if len(h.By) > 0 {
		word := string(h.State)
		if h.Leaning != "" {
			word = string(h.Leaning) + ", one more must agree"
		}
		lines = append(lines, [2]string{"decided", strings.Join(h.By, ", ") + ": " + word + " (" + h.Reason + ")"})
	}
	lines = append(lines, [2]string{"digest", h.Digest.String()})
	for _, l := range lines {
		fmt.Fprintf(a.out, "%-9s %s\n", l[0], l[1])
	}
	if !many {
		_, err := fmt.Fprintf(a.out, "what      %s\n", h.Shown)
		return err
	}
	for _, s := range set.Subjects {
		fmt.Fprintf(a.out, "  %s  %s\n", s.Subject, s.Issuer)
	}
	if h.State != state.HoldOpen {
		return nil
	}
	_, err := fmt.Fprintf(a.out, "\nTo let it happen:    consumer holds release %s --digest %s --reason TEXT\nTo keep it from it:  consumer holds discard %s --digest %s --reason TEXT\n", h.Name(), h.Digest, h.Name(), h.Digest)
	return err
}

func (a *app) holdsDecide(verb, short string, to state.HoldState, long string) *cobra.Command {
	var digest, reason string
	cmd := &cobra.Command{
		Use:     verb + " ID",
		Short:   short,
		Long:    long,
		Example: `  consumer holds ` + verb + ` 7 --digest 4fJ2... --reason "checked with HR, CHG-204"`,
		Args:    exactly("ID"),

		ValidArgsFunction: a.completeHolds,
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := holdID(args[0])
			if err != nil {
				return err
			}
			var shown schema.Digest
			if digest == "" {
				return usagef("--digest: give the digest that `consumer holds show %d` printed: what you saw is what is decided", id)
			}
			if err := shown.UnmarshalText([]byte(digest)); err != nil {
				return usagef("--digest: %w", err)
			}
			if strings.TrimSpace(reason) == "" {
				return usagef("--reason: say why; it goes on the ledger")
			}
			by, err := a.by(reason)
			if err != nil {
				return err
			}
			db, _, err := a.open(cmd.Context())
			if err != nil {
				return err
			}
			defer db.Close()
			var said string
			err = db.Tx(cmd.Context(), func(tx *store.Tx) (err error) {
				said, err = decide(tx, id, shown, to, by)
				return err
			})
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(a.out, said)
			return err
		},
	}
	cmd.Flags().StringVar(&digest, "digest", "", "`digest` of what was shown; required")
	cmd.Flags().StringVar(&reason, "reason", "", "`text` for the ledger; required")
	return cmd
}

// discardersOfCuts is how many operators it takes to keep somebody's access that a fact takes away.
const discardersOfCuts = 2

// decide carries out an operator's word and tells what came of it.
func decide(tx *store.Tx, id int64, shown schema.Digest, to state.HoldState, by state.By) (string, error) {
	h, err := state.HoldByID(tx, id)
	if err != nil {
		return "", &misuseError{err}
	}
	set, many := setOf(h)
	if !many {
		return "", misusef("hold %s (%s) is not an operator's to end; it ends %s", h.Name(), h.Code, endOf(h))
	}
	need := 1
	if to == state.HoldDiscarded && set.cuts() {
		need = discardersOfCuts
	}
	h, done, err := state.DecideHold(tx, id, shown, to, by.Login, by.Reason, need, by.Now)
	if errors.Is(err, state.ErrChanged) || errors.Is(err, state.ErrNotFound) {
		return "", &misuseError{err}
	}
	if err != nil {
		return "", err
	}
	if !done {
		return fmt.Sprintf("Your word on hold %s is kept. It is about cuts, so an operator with another login must say the same; until then it happens at %s.", h.Name(), stamp(h.Expires)), nil
	}
	if to == state.HoldReleased {
		err = state.LetThrough(tx, id, by.Now)
	} else {
		err = state.DropHeld(tx, id)
	}
	if err != nil {
		return "", err
	}
	if err := apply.ClearLimit(tx, h.Code, by.Now); err != nil {
		return "", err
	}
	return fmt.Sprintf("Hold %s of %s is %s.", h.Name(), persons(set.Count), to), nil
}
