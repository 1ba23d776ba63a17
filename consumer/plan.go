package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"

	"jmlbridge/consumer/admit"
	"jmlbridge/consumer/apply"
	"jmlbridge/consumer/fence"
	"jmlbridge/consumer/plan"
	"jmlbridge/consumer/policy"
	"jmlbridge/consumer/state"
	"jmlbridge/internal/command"
	"jmlbridge/internal/program"
	"jmlbridge/schema"
)

// plannedPerson is one person's plan as scripts read it: ids, no names.
type plannedPerson struct {
	Issuer  string        `json:"iss"`
	Subject string        `json:"sub"`
	Access  bool          `json:"access"`
	Why     string        `json:"why"`
	Ops     []plannedOp   `json:"ops"`
	Holds   []plannedHold `json:"holds"`
	Waits   string        `json:"waits,omitempty"`       // nothing is done before something comes: for what it waits, roster or gap
	Locked  string        `json:"cut_by_hand,omitempty"` // by whom and since when
	Error   string        `json:"error,omitempty"`
}

type plannedOp struct {
	Op     string `json:"op"`
	Lane   string `json:"lane"`
	Gives  bool   `json:"gives"`
	Target string `json:"target,omitempty"`
}

type plannedHold struct {
	Code   string `json:"code"`
	Target string `json:"target"`
}

func (a *app) planCommand() *cobra.Command {
	var all bool
	var issuer, format string
	cmd := &cobra.Command{
		Use:   "plan [SUBJECT...]",
		Short: "Show what would be done, and do nothing",
		Long: `plan reads what is known and looks at the tenant, and shows what "run" would do now for the persons named,
or for everybody with work waiting. It writes nothing: not to the tenant, not to the database. Limits are
not asked: they depend on what else happens in the hour.`,
		Example: `  consumer plan
  consumer plan 100042 100043
  consumer plan --all -o json`,
		GroupID: "work",
		RunE: func(cmd *cobra.Command, args []string) error {
			inJSON, err := command.AsJSON(format)
			if err != nil {
				return err
			}
			if all && len(args) > 0 {
				return command.Usagef("--all and subjects exclude each other")
			}
			db, cfg, err := a.openRead()
			if err != nil {
				return err
			}
			defer db.Close()
			pol, err := cfg.policy()
			if err != nil {
				return err
			}
			people, err := choose(db, args, issuer, all)
			if err != nil {
				return err
			}
			t, err := openTenants(cfg, nil)
			if err != nil {
				return err
			}
			issuers, err := state.Issuers(db.Read())
			if err != nil {
				return err
			}
			list, failed, err := a.preview(cmd.Context(), db, t, pol, people)
			if err != nil {
				return err
			}
			if inJSON {
				err = program.PrintJSON(a.out, list)
			} else {
				err = a.showPlan(list, issuers, len(args) > 0)
			}
			if err == nil && failed > 0 {
				err = fmt.Errorf("%d of %s could not be looked at", failed, persons(len(list)))
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "everybody, also where nothing is waiting")
	cmd.Flags().StringVar(&issuer, "issuer", "", "`URI` of the producer; needed where several know a subject")
	command.OutputFlag(cmd, &format)
	return cmd
}

// choose finds the persons that are asked for.
func choose(db *state.DB, ids []string, issuer string, all bool) (people []*state.Subject, err error) {
	for _, id := range ids {
		_, s, err := spoken(db.Read(), id, issuer, "plan")
		if err != nil {
			return nil, err
		}
		people = append(people, s)
	}
	if len(ids) > 0 {
		return people, nil
	}
	err = state.EachSubject(db.Read(), func(s *state.Subject) error {
		if (issuer == "" || s.Issuer == issuer) && (all || s.Lane != plan.Idle) {
			people = append(people, s)
		}
		return nil
	})
	return people, err
}

func (a *app) preview(ctx context.Context, db *state.DB, t *tenants, pol *policy.Policy, people []*state.Subject) (list []plannedPerson, failed int, err error) {
	list = []plannedPerson{}
	bar := progressbar.DefaultSilent(int64(len(people)))
	if command.OnTerminal(a.err) && len(people) > 20 {
		bar = progressbar.NewOptions(len(people), progressbar.OptionSetWriter(os.Stderr), progressbar.OptionSetDescription("looking"), progressbar.OptionClearOnFinish())
	}
	defer bar.Close()
	waits, err := waiting(db.Read())
	if err != nil {
		return nil, 0, err
	}
	for _, s := range people {
		now := a.now()
		view, err := apply.View(db.Read(), s, pol, now)
		if err != nil {
			return nil, 0, err
		}
		p := plannedPerson{Issuer: s.Issuer, Subject: s.Subject, Access: view.Access, Why: string(view.Why), Ops: []plannedOp{}, Holds: []plannedHold{}}
		if view.Why == fence.WhyUnknown {
			p.Waits = waits[s.Issuer]
		}
		if l := s.Doc.Lock; l != nil {
			p.Locked = fmt.Sprintf("cut by hand by %s since %s", l.By, stamp(l.At))
		}
		var looker apply.Looker = t.cut
		if view.Access {
			looker = t.grant
		}
		pl, err := apply.Preview(ctx, looker, db.Read(), s, pol, now)
		if ctx.Err() != nil {
			return nil, 0, ctx.Err()
		}
		if err != nil {
			p.Error = err.Error()
			failed++
		}
		if view.Why == fence.WhyLeft && s.Lane == plan.Idle && waits[s.Issuer] == waitsRoster && len(pl.Ops) > 0 {
			// After a recovery: the ledger of before had them as hired again, and what the leaver of before takes is not due.
			// The producer's roster says what holds.
			p.Waits, pl = waitsRoster, plan.Plan{}
		}
		for _, op := range pl.Ops {
			p.Ops = append(p.Ops, plannedOp{string(op.Kind), op.Lane.String(), op.Kind.Gives(), op.Group + op.Manager})
		}
		for _, h := range pl.Holds {
			p.Holds = append(p.Holds, plannedHold{string(h.Code), h.Target})
		}
		list = append(list, p)
		_ = bar.Add(1)
	}
	return list, failed, nil
}

// For what everything of an issuer's waits that would give.
const (
	waitsRoster = "roster" // its stream was joined in its middle
	waitsGap    = "gap"    // messages of its stream are missing
)

var waitsFor = map[string]string{waitsRoster: "producer's roster", waitsGap: "missing messages, or a roster"}

// waiting tells it of the issuers of whom it is so.
func waiting(r state.Reader) (map[string]string, error) {
	streams, err := state.Streams(r)
	if err != nil {
		return nil, err
	}
	keys, err := state.Keys(r)
	if err != nil {
		return nil, err
	}
	waits := map[string]string{}
	for _, s := range streams {
		switch {
		case !bears(keys, s, schema.KindJoiner) || s.State == admit.Closed: // approvals wait for nothing
		case s.Unrostered:
			waits[s.Issuer] = waitsRoster
		case !s.GapSince.IsZero() && waits[s.Issuer] == "":
			waits[s.Issuer] = waitsGap
		}
	}
	return waits, nil
}

// bears reports whether any key may sign a kind of event in a stream.
func bears(keys []*state.Key, s *state.Stream, kind schema.Kind) bool {
	return slices.ContainsFunc(keys, func(k *state.Key) bool {
		return k.Issuer == s.Issuer && k.Stream == s.Name && slices.Contains(k.Kinds, kind)
	})
}

// showPlan prints what would be done; of persons who were asked for by name also why nothing is.
func (a *app) showPlan(list []plannedPerson, issuers []string, named bool) error {
	var rows [][]string
	nothing := 0
	for _, p := range list {
		if len(p.Ops) == 0 && len(p.Holds) == 0 && p.Error == "" && p.Waits == "" {
			nothing++
			if named {
				rows = append(rows, []string{p.Subject, p.Why, "-", "nothing", p.Locked, p.Issuer})
			}
			continue
		}
		for _, op := range p.Ops {
			rows = append(rows, []string{p.Subject, p.Why, op.Lane, op.Op, op.Target, p.Issuer})
		}
		for _, h := range p.Holds {
			rows = append(rows, []string{p.Subject, p.Why, "held", h.Code, h.Target, p.Issuer})
		}
		if p.Waits != "" {
			rows = append(rows, []string{p.Subject, p.Why, "waits", "for the " + waitsFor[p.Waits], "", p.Issuer})
		}
		if p.Error != "" {
			rows = append(rows, []string{p.Subject, p.Why, "error", strings.ReplaceAll(p.Error, "\n", " "), "", p.Issuer})
		}
	}
	if len(rows) > 0 {
		if err := a.peopleTable(issuers, []string{"SUBJECT", "WHY", "LANE", "OPERATION", "TARGET"}, rows); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintf(a.out, "%s looked at; nothing to do for %d of them.\n", persons(len(list)), nothing)
	return err
}
