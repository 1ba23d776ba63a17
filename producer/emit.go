package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"jmlbridge/internal/ledger/entry"
	"jmlbridge/internal/program"
	"jmlbridge/producer/outbox"
	"jmlbridge/producer/register"
	"jmlbridge/producer/source"
	"jmlbridge/schema"
)

// emitFlags are the members of an event on a command line.
type emitFlags struct {
	enclaves                       []string
	engagement                     int
	start, end, effective, occured string
	reason, ticket                 string
	urgent                         bool
	roles                          []string
	person                         schema.Person
	manager                        string
}

// emitKinds are the events that an operator may state.
var emitKinds = []schema.Kind{schema.KindJoiner, schema.KindMover, schema.KindLeaver, schema.KindSuspend, schema.KindResume}

func (a *app) emitCommand() *cobra.Command {
	var f emitFlags
	var format string
	cmd := &cobra.Command{
		Use:   "emit KIND SUBJECT [-]",
		Short: "Announce one event that no file states yet",
		Long: `emit states one event of KIND (joiner, mover, leaver, suspend or resume) about SUBJECT, the HR id. It is
for what cannot wait for the next export, such as an urgent leaver. A file does not undo it: after an
emitted leaver the person is announced again only when the file has caught up, or states a later first day.

The event comes from flags, or with "-" as its JSON (schema/event.md) from standard input. A mover takes
what no flag names from what was announced last. Without --enclave a leaver, suspend or resume goes to
every enclave that knows the person.`,
		Example: `  producer emit leaver 4711 --reason termination --urgent
  producer emit suspend 4711 --reason investigation --ticket HR-88
  producer emit joiner 4712 --display-name "Ada Lovelace" --role analyst --country GB
  producer emit mover 4712 --role analyst --role on-call
  echo '{"engagement":1,"effective":"2026-03-02T12:00:00Z","reason":"return"}' | producer emit resume 4711 -`,
		GroupID: "work",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 2 || len(args) == 3 && args[2] == "-" {
				return nil
			}
			return usagef("%s: want KIND SUBJECT, and perhaps - for standard input, got %q", cmd.CommandPath(), args)
		},
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			if len(args) > 0 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			var names []string
			for _, k := range emitKinds {
				names = append(names, string(k))
			}
			return names, cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			inJSON, err := asJSON(format)
			if err != nil {
				return err
			}
			sent, err := a.emit(cmd, schema.Kind(args[0]), args[1], len(args) == 3, &f)
			if inJSON && (err == nil || len(sent) > 0) {
				return errors.Join(err, program.PrintJSON(a.out, sent))
			}
			for _, s := range sent {
				fmt.Fprintf(a.out, "stored %s of subject %s for %s as seq %d (jti %s)\n", s.Kind, s.Subject, s.Audience, s.Seq, s.ID)
			}
			return err
		},
	}
	fl := cmd.Flags()
	fl.StringSliceVar(&f.enclaves, "enclave", nil, "`name` of an enclave to say it to; may be repeated")
	fl.IntVar(&f.engagement, "engagement", 0, "`number` of the engagement (default: the live one; the next for a joiner)")
	fl.StringVar(&f.effective, "effective", "now", "`instant` (RFC 3339) from which it holds")
	fl.StringVar(&f.occured, "occurred", "", "`instant` (RFC 3339) at which the source says it became true")
	fl.StringVar(&f.start, "start", "", "`instant` at which the engagement begins (default of a joiner: now)")
	fl.StringVar(&f.end, "end", "", "`instant` at which it ends, or none")
	fl.StringVar(&f.reason, "reason", "", "`word` for the record: "+strings.Join(schema.Reasons(schema.KindLeaver), ", "))
	fl.StringVar(&f.ticket, "ticket", "", "the source's `ticket` number")
	fl.BoolVar(&f.urgent, "urgent", false, "of a leaver: inside the enclave's small allowance it goes before all others")
	fl.StringArrayVar(&f.roles, "role", nil, "role `name`; may be repeated; the enclave decides what it means")
	fl.StringVar(&f.person.DisplayName, "display-name", "", "`name` as it is shown")
	fl.StringVar(&f.person.Name.GivenName, "given-name", "", "given `name`")
	fl.StringVar(&f.person.Name.FamilyName, "family-name", "", "family `name`")
	fl.StringVar(&f.person.Title, "title", "", "job `title`")
	fl.StringVar(&f.person.UserType, "user-type", "", "`type` of worker, like Employee")
	fl.StringVar(&f.person.Organization, "organization", "", "`company`")
	fl.StringVar(&f.person.Division, "division", "", "`division`")
	fl.StringVar(&f.person.Department, "department", "", "`department`")
	fl.StringVar(&f.person.CostCenter, "cost-center", "", "cost `center`")
	fl.StringVar(&f.person.UsageLocation, "country", "", "usage location, an ISO 3166-1 alpha-2 `code`")
	fl.StringVar(&f.person.PreferredAlias, "alias", "", "preferred mail `nickname`")
	fl.StringVar(&f.manager, "manager", "", "the manager's HR `id`")
	outputFlag(cmd, &format)
	return cmd
}

func (a *app) emit(cmd *cobra.Command, kind schema.Kind, subject string, fromInput bool, f *emitFlags) ([]outbox.Sent, error) {
	if !slices.Contains(emitKinds, kind) {
		return nil, usagef("emit: want one of %v, got %q", emitKinds, kind)
	}
	if err := checkCountry(f.person); err != nil {
		return nil, err
	}
	now := a.now()
	occurred, err := optional("--occurred", f.occured, now)
	if err != nil {
		return nil, err
	}
	var given schema.Event
	if fromInput {
		for _, name := range []string{"engagement", "effective", "start", "end", "reason", "urgent", "role", "display-name", "manager"} {
			if cmd.Flags().Changed(name) {
				return nil, usagef("--%s and standard input both describe the event; want one of them", name)
			}
		}
		data, err := io.ReadAll(io.LimitReader(a.in, schema.MaxPayload+1))
		if err != nil {
			return nil, fmt.Errorf("read standard input: %w", err)
		}
		if given, err = schema.DecodeEvent(kind, data); err != nil {
			return nil, err
		}
		switch e := given.(type) {
		case *schema.Joiner:
			err = checkCountry(e.Person)
		case *schema.Mover:
			err = checkCountry(e.Person)
		}
		if err != nil {
			return nil, err
		}
	}
	cfg, err := loadConfig(a.configFile)
	if err != nil {
		return nil, err
	}
	s, err := a.open(cmd.Context(), cfg, opening{reports: true})
	if err != nil {
		return nil, err
	}
	defer s.close()
	targets, err := s.targets(cmd.Context(), kind, subject, f)
	if err != nil {
		return nil, err
	}
	by, err := a.login()
	if err != nil {
		return nil, err
	}
	note := &entry.Operator{By: entry.ID(by), Action: "emit-" + string(kind), Issuer: cfg.Issuer, Subject: entry.ID(subject)}
	if f.ticket != "" {
		note.Target = entry.ID(f.ticket)
	}
	var all []outbox.Sent
	for _, e := range targets {
		sent, err := s.box.Update(cmd.Context(), e.Audience, []string{subject}, func(_ string, last register.State) (register.Decision, error) {
			event := given
			if event == nil {
				var err error
				if event, err = f.event(cmd, kind, last, now); err != nil {
					return register.Decision{}, err
				}
			}
			return register.Emit(last, register.Said{Event: event, Occurred: occurred, Txn: f.ticket}, now)
		}, note)
		all = append(all, sent...)
		if err != nil {
			return all, fmt.Errorf("enclave %s: %w", e.Name, err)
		}
	}
	a.hintRelay(cfg)
	return all, nil
}

// checkCountry holds what the schema leaves open: that two capitals are a country.
func checkCountry(p schema.Person) error {
	if c := p.UsageLocation; c != "" && !source.IsCountry(c) {
		return usagef("usage location: want an ISO 3166-1 alpha-2 code in capitals, got %q", c)
	}
	return nil
}

// targets are the enclaves that an event goes to: those that were named, the only one, or all that know
// the person.
func (s *opened) targets(ctx context.Context, kind schema.Kind, subject string, f *emitFlags) ([]*Enclave, error) {
	var all []*Enclave
	for _, name := range f.enclaves {
		e, err := s.cfg.enclave(name)
		if err != nil {
			return nil, err
		}
		all = append(all, e)
	}
	switch {
	case len(all) > 0:
		return all, nil
	case len(s.cfg.Enclaves) == 1:
		return []*Enclave{&s.cfg.Enclaves[0]}, nil
	case kind == schema.KindJoiner || kind == schema.KindMover:
		return nil, usagef("a %s goes to one enclave; name it with --enclave", kind)
	}
	for i := range s.cfg.Enclaves {
		e := &s.cfg.Enclaves[i]
		state, err := s.box.State(ctx, e.Audience, subject)
		if err != nil {
			return nil, err
		}
		if state.Status.Live() {
			all = append(all, e)
		}
	}
	if len(all) == 0 {
		return nil, misusef("no enclave has a live engagement of subject %s; name one with --enclave to say it all the same", subject)
	}
	return all, nil
}

// event makes the event of the flags. A mover begins with what was said last.
func (f *emitFlags) event(cmd *cobra.Command, kind schema.Kind, last register.State, now time.Time) (schema.Event, error) {
	effective, err := optional("--effective", f.effective, now)
	if err != nil {
		return nil, err
	}
	switch kind {
	case schema.KindLeaver:
		return &schema.Leaver{Engagement: f.engagement, Effective: *effective, Reason: orElse(f.reason, schema.ReasonOther), Urgent: f.urgent}, nil
	case schema.KindSuspend:
		return &schema.Suspend{Engagement: f.engagement, Effective: *effective, Reason: orElse(f.reason, schema.ReasonOther)}, nil
	case schema.KindResume:
		return &schema.Resume{Engagement: f.engagement, Effective: *effective, Reason: orElse(f.reason, schema.ReasonOther)}, nil
	}
	person, roles, start, end := f.person, f.roles, schema.At(now), (*schema.Instant)(nil)
	if f.manager != "" {
		person.Manager = &schema.Manager{Value: f.manager}
	}
	if kind == schema.KindMover {
		person = merged(last.Person, person)
		start, end = last.Start, last.End
		if !cmd.Flags().Changed("role") {
			roles = last.Roles
		}
	}
	if person.DisplayName == "" {
		person.DisplayName = strings.TrimSpace(person.Name.GivenName + " " + person.Name.FamilyName)
	}
	if f.start != "" {
		t, err := optional("--start", f.start, now)
		if err != nil {
			return nil, err
		}
		start = *t
	}
	if f.end != "" {
		if end, err = optional("--end", f.end, now); err != nil {
			return nil, err
		}
	}
	roles = slices.Clone(roles)
	slices.Sort(roles)
	roles = slices.Compact(roles)
	if roles == nil {
		roles = []string{}
	}
	if kind == schema.KindJoiner {
		return &schema.Joiner{Engagement: f.engagement, Person: person, Roles: roles, Start: start, End: end}, nil
	}
	return &schema.Mover{Engagement: f.engagement, Person: person, Roles: roles, Start: start, End: end, Effective: *effective}, nil
}

// merged takes what is set in change, and the rest from last.
func merged(last, change schema.Person) schema.Person {
	p := last
	for _, m := range []struct {
		into *string
		from string
	}{
		{&p.DisplayName, change.DisplayName}, {&p.Name.GivenName, change.Name.GivenName}, {&p.Name.FamilyName, change.Name.FamilyName},
		{&p.Title, change.Title}, {&p.UserType, change.UserType}, {&p.Organization, change.Organization}, {&p.Division, change.Division},
		{&p.Department, change.Department}, {&p.CostCenter, change.CostCenter}, {&p.UsageLocation, change.UsageLocation},
		{&p.PreferredAlias, change.PreferredAlias},
	} {
		if m.from != "" {
			*m.into = m.from
		}
	}
	if change.Manager != nil {
		p.Manager = change.Manager
	}
	return p
}

// optional reads an instant; "now" is now, empty and "none" are none.
func optional(flag, text string, now time.Time) (*schema.Instant, error) {
	switch text {
	case "", "none":
		return nil, nil
	case "now":
		i := schema.At(now)
		return &i, nil
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return nil, usagef("%s: want an instant like 2026-03-02T12:00:00Z, or now, got %q", flag, text)
	}
	i := schema.At(t)
	return &i, nil
}

func orElse(s, other string) string {
	if s == "" {
		return other
	}
	return s
}
