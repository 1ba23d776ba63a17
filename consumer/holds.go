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
	"jmlbridge/consumer/ruling"
	"jmlbridge/consumer/state"
	"jmlbridge/internal/command"
	"jmlbridge/internal/config"
	"jmlbridge/internal/ledger"
	"jmlbridge/internal/ledger/entry"
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
		Args:    command.NoArgs,
		RunE:    command.Help,
	}
	keep := keepFor(defaultDiscard)
	discard := a.holdsDecide("discard", "Keep what is held from happening", a.completeHolds, decideTo(state.HoldDiscarded, &keep),
		`discard drops exactly the set that "holds show" printed with this digest, until a new fact about a person
comes. To discard what takes access away, disables and roles that are lost, takes two operators with different logins:
the first word is kept, the second ends it. It holds for a time (--for; the shorter of the two words), under an alarm;
then it comes back, inside the limits.`)
	discard.Flags().Var(&keep, "for", "`time` after which discarded cuts come back, at most 7d")
	cmd.AddCommand(a.holdsList(), a.holdsShow(),
		a.holdsDecide("release", "Let what is held happen", a.completeHolds, decideTo(state.HoldReleased, &keep),
			`release lets through exactly the set that "holds show" printed with this digest. One operator is enough. Of a hold
of code `+ruling.Code+` it lets stand what was given on a word that was disowned, and lets that word count.`),
		a.holdsDecide("undo", "Take back what was given on a word that was disowned", a.completeHolds, takeBack,
			`undo takes back what a hold of code `+ruling.Code+` lists, inside the limits of all cuts: an account that was opened
is disabled and keeps its groups; from anybody else the roles are taken by which groups were given. Whoever a good word
comes about has what that says.`),
		discard,
		a.holdsDecide("restore", "Bring back what was discarded", a.completeDiscarded, restore,
			`restore makes due again what was discarded with a hold ("holds list --discarded"), as far as no new fact about
a person has come since. It is counted like new work: past an hourly limit it is held again, for you to release.`))
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
	Leaned  *time.Time      `json:"leaned,omitempty"`  // when the last of them said so, of the digest
	Missing int             `json:"missing,omitempty"` // how many operators with other logins must say the same
	By      []string        `json:"by,omitempty"`
	Reason  string          `json:"reason,omitempty"`
	Ended   *time.Time      `json:"ended,omitempty"`
	Lapses  *time.Time      `json:"lapses,omitempty"`  // of discarded cuts: when they come back
	Waiting *int            `json:"waiting,omitempty"` // of an open one of many: of how many there is still something to decide
	Ends    string          `json:"ends"`              // how it ends, for people
}

// undecided is of whom there is still something to decide by an open hold of many: newer facts and operators decide on single
// persons. nil: it is over, or of one person.
func undecided(r state.Reader, h *state.Hold, now time.Time) (map[state.SubjectKey]bool, error) {
	if _, many := setOf(h); !many || h.State != state.HoldOpen {
		return nil, nil
	}
	if h.Code != ruling.Code {
		return state.Behind(r, h.ID)
	}
	list, err := ruling.Question(r, h, now)
	who := map[state.SubjectKey]bool{}
	for _, p := range list {
		who[state.SubjectKey{Issuer: p.Issuer, Subject: p.Subject}] = true
	}
	return who, err
}

func showHold(h *state.Hold, left map[state.SubjectKey]bool) shownHold {
	s := shownHold{ID: h.Name(), Code: h.Code, Issuer: h.Issuer, State: h.State, Created: h.Created, Expires: optional(h.Expires), Digest: h.Digest, Shown: h.Shown,
		Leaning: h.Leaning, By: h.By, Reason: h.Reason, Ended: optional(h.Ended), Lapses: optional(h.Lapses), Ends: endOf(h)}
	if h.Leaning != "" && h.State == state.HoldOpen {
		s.Leaned, s.Missing = optional(h.Leaned), discardersOfCuts-len(h.By)
	}
	if n := len(left); left != nil {
		s.Waiting = &n
	}
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

// lapses reports whether what is discarded of it comes back: what takes access away does, deletes come after that.
func (s heldSet) lapses() bool { return s.cuts() && s.Lane != plan.Delete.String() }

// ends says how a hold of one person ends, by its code: the rule's end, not an operator's word.
var ends = map[string]string{
	string(plan.HoldUnknownRole):     "when the policy names the role",
	string(plan.HoldProtected):       "when the account is not under protected any more, or no message concerns it",
	string(plan.HoldNotOwned):        "when the account bears the bridge's mark, or is renamed so that it does not look like the person's",
	string(plan.HoldDisabledLocally): "when somebody in the enclave enables the account again",
	string(plan.HoldForeignGroup):    "when the account is taken out of the group by hand, or the group is listed in the policy",
	string(plan.HoldNoUsageLocation): "when the person or the policy has a usage location",
	string(plan.HoldUnnamed):         "when an event or roster of the producer names the person; cut by hand whoever left",
	string(plan.HoldUnapproved):      "when a second signer approves the role, or the producer or the policy does not name it any more",
	ruling.Code:                      "person by person: by a good word, by release, which lets stand what was given, or by undo, which takes it back",
	"ambiguous-mark":                 "when only one account bears the mark",
	"no-name":                        "when the person has another preferred alias, or upn.template makes another name",
	"account-missing":                "when the account is restored, or a new engagement begins",
}

func endOf(h *state.Hold) string {
	if h.State == state.HoldDiscarded && !h.Lapses.IsZero() {
		return "discarded until " + stamp(h.Lapses) + "; `holds restore` brings it back before"
	}
	if h.State == state.HoldDiscarded {
		return "discarded; `holds restore` brings it back"
	}
	if h.State != state.HoldOpen {
		return "it has ended"
	}
	if e, ok := ends[h.Code]; ok {
		var shown struct {
			Engagement int `json:"engagement"`
		}
		if h.Code == string(plan.HoldUnapproved) && json.Unmarshal(h.Shown, &shown) == nil && shown.Engagement > 1 {
			e += fmt.Sprintf("; it is for engagement %d (`approve --engagement %[1]d`)", shown.Engagement)
		}
		return e
	}
	if !h.Expires.IsZero() && h.Leaning == state.HoldDiscarded {
		return fmt.Sprintf("by release, by the discard of %d more with another login (%s said so at %s, of digest %s), or by itself at %s", discardersOfCuts-len(h.By), strings.Join(h.By, ", "), stamp(h.Leaned), h.Digest, stamp(h.Expires))
	}
	if !h.Expires.IsZero() {
		return "by release, by two operators' discard, or by itself at " + stamp(h.Expires)
	}
	return "by release or discard"
}

func (a *app) holdsList() *cobra.Command {
	var format string
	var discarded bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List what is held now",
		Example: `  consumer holds list
  consumer holds list --discarded
  consumer holds list -o json`,
		Args: command.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			return a.reading(format, func(db *state.DB, inJSON bool) error {
				read, none := apply.Standing, "Nothing is held."
				if discarded {
					read, none = state.DiscardedHolds, "Nothing is discarded."
				}
				holds, err := read(db.Read())
				if err != nil {
					return err
				}
				list := []shownHold{}
				var rows [][]string
				for _, h := range holds {
					left, err := undecided(db.Read(), h, a.now())
					if err != nil {
						return err
					}
					list = append(list, showHold(h, left))
					whom := h.Subject
					if set, ok := setOf(h); ok {
						whom = fmt.Sprintf("%s, lane %s", persons(set.Count), set.Lane)
						if left != nil && len(left) < set.Count {
							whom = fmt.Sprintf("%d of %s", len(left), whom)
						}
					}
					rows = append(rows, []string{h.Name(), h.Code, whom, age(a.now(), h.Created), endOf(h), h.Issuer})
				}
				if inJSON {
					return program.PrintJSON(a.out, list)
				}
				if len(rows) == 0 {
					_, err = fmt.Fprintln(a.out, none)
					return err
				}
				issuers, err := state.Issuers(db.Read())
				if err != nil {
					return err
				}
				return a.peopleTable(issuers, []string{"ID", "CODE", "WHOM", "AGE", "ENDS"}, rows)
			})
		},
	}
	cmd.Flags().BoolVar(&discarded, "discarded", false, "those that were discarded and can be brought back, in place of what is held")
	command.OutputFlag(cmd, &format)
	return cmd
}

func holdID(text string) (int64, error) {
	id, err := strconv.ParseInt(text, 10, 64)
	if err != nil || id < 1 {
		return 0, command.Usagef("want the number of a hold as `consumer holds list` shows it, got %q", text)
	}
	return id, nil
}

func (a *app) holdsShow() *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use:     "show ID",
		Short:   "Show one hold: exactly what a release would let through",
		Example: `  consumer holds show 7`,
		Args:    command.Exactly("ID"),

		ValidArgsFunction: a.completeHolds,
		RunE: func(_ *cobra.Command, args []string) error {
			id, err := holdID(args[0])
			if err != nil {
				return err
			}
			return a.reading(format, func(db *state.DB, inJSON bool) error {
				h, err := state.HoldByID(db.Read(), id)
				if errors.Is(err, state.ErrNotFound) {
					return command.Misuse(err)
				}
				if err != nil {
					return err
				}
				left, err := undecided(db.Read(), h, a.now())
				if err != nil {
					return err
				}
				if inJSON {
					return program.PrintJSON(a.out, showHold(h, left))
				}
				return a.describe(h, left)
			})
		},
	}
	command.OutputFlag(cmd, &format)
	return cmd
}

// decidedNote is behind whoever a hold shows and keeps no more.
const decidedNote = "decided since: a newer fact or an operator"

func (a *app) describe(h *state.Hold, left map[state.SubjectKey]bool) error {
	lines := [][2]string{{"hold", h.Name()}, {"code", h.Code}, {"state", string(h.State)}, {"since", stamp(h.Created)}, {"ends", endOf(h)}}
	set, many := setOf(h)
	if many {
		lines = append(lines, [2]string{"lane", set.Lane}, [2]string{"persons", strconv.Itoa(set.Count)})
		if left != nil && len(left) < set.Count {
			lines = append(lines, [2]string{"of whom", strconv.Itoa(len(left)) + " to be decided on"})
		}
	} else {
		lines = append(lines, [2]string{"subject", h.Subject}, [2]string{"issuer", h.Issuer})
	}
	if len(h.By) > 0 {
		word := string(h.State)
		if h.Leaning != "" {
			word = string(h.Leaning) + " at " + stamp(h.Leaned) + ", one more must agree"
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
	if shown, ok := ruling.ParseShown(h); ok {
		return a.describeQuestion(h, shown, left)
	}
	for _, s := range set.Subjects {
		line := fmt.Sprintf("  %s  %s", s.Subject, s.Issuer)
		if left != nil && !left[state.SubjectKey{Issuer: s.Issuer, Subject: s.Subject}] {
			line += "  (" + decidedNote + ")"
		}
		fmt.Fprintln(a.out, line)
	}
	if h.State != state.HoldOpen {
		return nil
	}
	_, err := fmt.Fprintf(a.out, "\nTo let it happen:    consumer holds release %s --digest %s --reason TEXT\nTo keep it from it:  consumer holds discard %s --digest %s --reason TEXT\n", h.Name(), h.Digest, h.Name(), h.Digest)
	return err
}

// describeQuestion lists what was given on a word that was disowned.
func (a *app) describeQuestion(h *state.Hold, shown ruling.Shown, left map[state.SubjectKey]bool) error {
	fmt.Fprintf(a.out, "ruling    entry %d of the ledger\n\n", shown.Entry)
	var rows [][]string
	for _, p := range shown.Subjects {
		given := "nothing yet"
		switch {
		case p.Perhaps:
			given = "perhaps the account" // by the ledger before this one
		case p.Opened:
			given = "the account" // with its groups: they stay on it when it is disabled
		case len(p.Groups) > 0:
			given = "groups"
		}
		now := "in question"
		if left != nil && !left[state.SubjectKey{Issuer: p.Issuer, Subject: p.Subject}] {
			now = decidedNote
		}
		rows = append(rows, []string{p.Subject, strconv.FormatUint(p.Seq, 10), strings.Join(p.Roles, ","), given, strings.Join(p.Groups, ","), p.Issuer, now})
	}
	if err := program.Table(a.out, []string{"SUBJECT", "SAID AT", "ROLES", "GIVEN", "GROUPS", "ISSUER", "NOW"}, rows); err != nil || h.State != state.HoldOpen {
		return err
	}
	_, err := fmt.Fprintf(a.out, "\nTo take it back:   consumer holds undo %s --digest %s --reason TEXT\nTo let it stand:   consumer holds release %s --digest %s --reason TEXT\nOf one person:     add --subject ID\n", h.Name(), h.Digest, h.Name(), h.Digest)
	return err
}

// word is an operator's on the hold that was shown under a digest.
type word struct {
	id     int64
	digest schema.Digest
	only   []string // of the persons in it; none: all
	by     state.By
	cfg    *Config
}

// verdict carries out a word, and tells what came of it.
type verdict func(tx *store.Tx, w word) (string, error)

func (a *app) holdsDecide(verb, short string, complete cobra.CompletionFunc, do verdict, long string) *cobra.Command {
	var w word
	var digest, reason string
	cmd := &cobra.Command{
		Use:     verb + " ID",
		Short:   short,
		Long:    long,
		Example: `  consumer holds ` + verb + ` 7 --digest 4fJ2... --reason "checked with HR, CHG-204"`,
		Args:    command.Exactly("ID"),

		ValidArgsFunction: complete,
		RunE: func(cmd *cobra.Command, args []string) error {
			var err error
			if w.id, err = holdID(args[0]); err != nil {
				return err
			}
			if digest == "" {
				return command.Usagef("--digest: give the digest that `consumer holds show %d` printed: what you saw is what is decided", w.id)
			}
			if err := w.digest.UnmarshalText([]byte(digest)); err != nil {
				return command.Usagef("--digest: %w", err)
			}
			return a.acting(cmd.Context(), reason, "say why", func(db *state.DB, cfg *Config, by state.By) error {
				w.cfg, w.by = cfg, by
				var said string
				err := db.Tx(cmd.Context(), func(tx *store.Tx) (err error) {
					said, err = do(tx, w)
					return err
				})
				if err != nil {
					return err
				}
				_, err = fmt.Fprintln(a.out, said)
				return err
			})
		},
	}
	cmd.Flags().StringVar(&digest, "digest", "", "`digest` of what was shown; required")
	cmd.Flags().StringVar(&reason, "reason", "", "`text` for the ledger; required")
	if verb == "release" || verb == "undo" {
		cmd.Flags().StringArrayVar(&w.only, "subject", nil, "only this `person` of a hold of code "+ruling.Code+"; may be repeated")
	}
	return cmd
}

// takeBack takes back what was given on a word that was disowned.
func takeBack(tx *store.Tx, w word) (string, error) {
	pol, err := w.cfg.policy()
	if err != nil {
		return "", err
	}
	n, err := ruling.Undo(tx, w.id, w.digest, w.only, pol, w.by)
	return ruled(w, n, takenBack, err)
}

const takenBack = "taken back, inside the limits of all cuts: an account that was opened on it is disabled and keeps its groups, from anybody else the roles are taken by which groups were given"

// ruled tells what came of a word on grants in question.
func ruled(w word, n int, what string, err error) (string, error) {
	if errors.As(err, new(*ruling.RefusedError)) {
		return "", command.Misuse(err)
	}
	return fmt.Sprintf("What %s of hold %d were given is %s.", persons(n), w.id, what), err
}

// discardersOfCuts is how many operators it takes to keep somebody's access that a fact takes away.
const discardersOfCuts = 2

// decideTo carries out a release, or a discard that lasts so long.
func decideTo(to state.HoldState, keep *keepFor) verdict {
	return func(tx *store.Tx, w word) (string, error) {
		h, err := state.HoldByID(tx, w.id)
		switch {
		case err != nil:
			return "", command.Misuse(err)
		case h.Code == ruling.Code && to == state.HoldReleased:
			n, err := ruling.Keep(tx, w.id, w.digest, w.only, w.by)
			return ruled(w, n, "theirs", err)
		case h.Code == ruling.Code:
			return "", command.Misusef("what hold %s lists was given already: `consumer holds undo` takes it back, `consumer holds release` lets it stand", h.Name())
		case len(w.only) > 0:
			return "", command.Usagef("--subject: hold %s (%s) is decided as a whole", h.Name(), h.Code)
		}
		return decide(tx, w.id, w.digest, to, w.by, time.Duration(*keep))
	}
}

// How long discarded cuts are kept from happening.
const (
	defaultDiscard = 24 * time.Hour
	maxDiscard     = 7 * 24 * time.Hour // as long as a lease: for longer it is for HR to say otherwise
)

// keepFor is the flag for that.
type keepFor time.Duration

func (k *keepFor) String() string { return time.Duration(*k).String() }
func (k *keepFor) Type() string   { return "time" }
func (k *keepFor) Set(text string) error {
	d, err := config.ParseDuration(text)
	if err != nil || d.D() <= 0 || d.D() > maxDiscard {
		return fmt.Errorf("want a time like 24h, at most 7d, got %q", text)
	}
	*k = keepFor(d)
	return nil
}

// decide ends a hold, as soon as enough operators have said the same. What is discarded of cuts comes back after
// keep, or after the shorter time that another operator said.
func decide(tx *store.Tx, id int64, shown schema.Digest, to state.HoldState, by state.By, keep time.Duration) (string, error) {
	h, err := state.HoldByID(tx, id)
	if err != nil {
		return "", err
	}
	set, many := setOf(h)
	if !many {
		return "", command.Misusef("hold %s (%s) is not an operator's to end; it ends %s", h.Name(), h.Code, endOf(h))
	}
	need := 1
	if to == state.HoldDiscarded && set.cuts() {
		need = discardersOfCuts
	}
	until := by.Now.Add(keep)
	if h.Leaning == to && !h.Lapses.IsZero() && h.Lapses.Before(until) {
		until = h.Lapses
	}
	h, done, err := state.DecideHold(tx, id, shown, to, by.Login, by.Reason, need, by.Now)
	if errors.Is(err, state.ErrChanged) || errors.Is(err, state.ErrNotFound) {
		return "", command.Misuse(err)
	}
	if err != nil {
		return "", err
	}
	if !done {
		if err := state.SetLapse(tx, id, until); err != nil {
			return "", err
		}
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
	if to != state.HoldDiscarded || !set.lapses() {
		return fmt.Sprintf("Hold %s of %s is %s.", h.Name(), persons(set.Count), to), nil
	}
	if err := apply.DiscardStands(tx, h, set.Count, until, by.Now); err != nil {
		return "", err
	}
	_, err = ledger.Append(tx, entry.New(by.Now, &entry.Operator{By: by.Login, Action: "discard", Target: h.Name(), Digest: &h.Digest, Until: entry.MomentAt(until), Reason: entry.Text(by.Reason)}))
	return fmt.Sprintf("Hold %s of %s is %s. It comes back at %s, unless new facts count by then; an alarm stands until that.", h.Name(), persons(set.Count), to, stamp(until)), err
}
