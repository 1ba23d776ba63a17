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
	"github.com/spf13/pflag"

	"jmlbridge/internal/command"
	"jmlbridge/internal/ledger/entry"
	"jmlbridge/internal/program"
	"jmlbridge/internal/store"
	"jmlbridge/producer/announce"
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

// personFlags are the flags of a joiner and a mover, each with the member of the event that it fills.
var personFlags = []struct{ flag, member string }{
	{"display-name", "person.displayName"}, {"given-name", "person.name.givenName"}, {"family-name", "person.name.familyName"},
	{"title", "person.title"}, {"user-type", "person.userType"}, {"organization", "person.organization"}, {"division", "person.division"},
	{"department", "person.department"}, {"cost-center", "person.costCenter"}, {"country", "person.usageLocation"},
	{"alias", "person.preferredAlias"}, {"manager", "person.manager.value"}, {"role", "roles"}, {"start", "start"}, {"end", "end"},
}

// flagsOf lists the flags that describe an event of kind k.
func flagsOf(k schema.Kind) []string {
	flags := []string{"engagement"}
	if k != schema.KindJoiner {
		flags = append(flags, "effective")
	}
	switch k {
	case schema.KindJoiner, schema.KindMover:
		for _, p := range personFlags {
			flags = append(flags, p.flag)
		}
	case schema.KindLeaver:
		flags = append(flags, "reason", "urgent")
	default:
		flags = append(flags, "reason")
	}
	return flags
}

// aroundFlags say nothing of the event itself: where it goes, and what is said about it. They fit every kind, and
// standard input.
var aroundFlags = []string{"enclave", "occurred", "ticket", "output"}

// fits refuses flags that say nothing of an event of kind k: whoever gave one meant another event.
func fits(cmd *cobra.Command, k schema.Kind, fromInput bool) error {
	var wrong []string
	all := cmd.InheritedFlags() // those of every command
	cmd.Flags().Visit(func(fl *pflag.Flag) {
		if all.Lookup(fl.Name) == nil && !slices.Contains(aroundFlags, fl.Name) && (fromInput || !slices.Contains(flagsOf(k), fl.Name)) {
			wrong = append(wrong, "--"+fl.Name)
		}
	})
	switch {
	case wrong == nil:
		return nil
	case fromInput:
		return command.Usagef("emit: %s and standard input both describe the event; want one of them", strings.Join(wrong, ", "))
	}
	return command.Usagef("emit: a %s does not take %s; it takes --%s, and --%s with every kind", k, strings.Join(wrong, ", "),
		strings.Join(flagsOf(k), ", --"), strings.Join(aroundFlags, ", --"))
}

func (a *app) emitCommand() *cobra.Command {
	var f emitFlags
	var format string
	cmd := &cobra.Command{
		Use:   "emit KIND SUBJECT [-]",
		Short: "Announce one event that no file states yet",
		Long: `emit states one event of KIND (joiner, mover, leaver, suspend or resume) about SUBJECT, the HR id. It is
for what cannot wait for the next export, such as an urgent leaver. A file does not undo a cut: after an
emitted leaver the person is announced again only when the file has said that they left and later that they
are back, or when it states a first day after the leaver and after every first day that was announced.
A mover it does undo: what a person is and may do is as the next file says, so let HR change it there too.

The event comes from flags, or with "-" as its JSON (schema/event.md) from standard input. A leaver takes
--engagement, --effective, --reason and --urgent, a suspend or resume the first three; a joiner takes
--engagement, --start, --end, --role and what describes the person, and a mover these and --effective. Every
kind takes --enclave, --ticket, --occurred and --output, also beside "-". Other flags are refused. A mover
takes what no flag names from what was announced last. Without --enclave a leaver, suspend or resume goes to
every enclave that knows the person.

A manager of whom an enclave was never told is left out there, as by import. A cut may be announced two
years ahead at most.`,
		Example: `  producer emit leaver 4711 --reason termination --urgent
  producer emit suspend 4711 --reason investigation --ticket HR-88
  producer emit joiner 4712 --display-name "Ada Lovelace" --role analyst --country GB
  producer emit mover 4712 --role analyst --role on-call
  echo '{"engagement":1,"effective":"2026-03-02T12:00:00Z","reason":"return"}' | producer emit resume 4711 -`,
		GroupID: "work",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 2 || len(args) == 3 && args[2] == "-" {
				return nil
			}
			return command.Usagef("emit: want KIND SUBJECT, and perhaps - for standard input, got %q", args)
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
			inJSON, err := command.AsJSON(format)
			if err != nil {
				return err
			}
			kind := schema.Kind(args[0])
			sent, err := a.emit(cmd, kind, args[1], len(args) == 3, &f)
			if store.IsFull(err) && kind.Cuts() {
				err = fmt.Errorf("%w; this %s of subject %s was NOT stored for that enclave or those after it, which will not hear of it: have their operators cut by hand now (consumer cut %s --reason ...), and emit it again when there is room", err, kind, args[1], args[1])
			}
			if len(sent) == 0 && (err != nil || !inJSON) {
				return err
			}
			return errors.Join(err, a.reportSent(sent, inJSON))
		},
	}
	fl := cmd.Flags()
	fl.StringSliceVar(&f.enclaves, "enclave", nil, "`name` of an enclave to say it to; may be repeated")
	fl.IntVar(&f.engagement, "engagement", 0, "`number` of the engagement (default: the live one; the next for a joiner)")
	fl.StringVar(&f.effective, "effective", "now", "`instant` (RFC 3339) from which it holds")
	fl.StringVar(&f.occured, "occurred", "", "`instant` (RFC 3339) at which the source says it became true")
	fl.StringVar(&f.start, "start", "", "`instant` at which the engagement begins (default of a joiner: now)")
	fl.StringVar(&f.end, "end", "", "`instant` at which it ends, or none")
	fl.StringVar(&f.reason, "reason", "", "`word` for the record (default other). "+reasons())
	fl.StringVar(&f.ticket, "ticket", "", "the source's `ticket` number")
	fl.BoolVar(&f.urgent, "urgent", false, "of a leaver: inside the enclave's small allowance it goes before all others")
	fl.StringArrayVar(&f.roles, "role", nil, "role `name`; may be repeated; the enclave decides what it means; \"\" alone: none")
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
	command.OutputFlag(cmd, &format)
	return cmd
}

// reportSent prints what was stored.
func (a *app) reportSent(sent []outbox.Sent, inJSON bool) error {
	var stored, lines []string
	for _, s := range sent {
		stored = append(stored, fmt.Sprintf("%d for %s", s.Seq, s.Audience))
		lines = append(lines, fmt.Sprintf("stored %s of subject %s for %s as seq %d (jti %s)\n", s.Kind, s.Subject, s.Audience, s.Seq, s.ID))
	}
	var err error
	if inJSON {
		err = program.PrintJSON(a.out, sent)
	} else {
		_, err = io.WriteString(a.out, strings.Join(lines, ""))
	}
	if len(sent) == 0 {
		return err
	}
	return unreported("stored and numbered, and will be sent: "+strings.Join(stored, ", "), err)
}

// occurredAhead is by how much the source's clock may be ahead of ours.
const occurredAhead = 5 * time.Minute

func (a *app) emit(cmd *cobra.Command, kind schema.Kind, subject string, fromInput bool, f *emitFlags) ([]outbox.Sent, error) {
	if !slices.Contains(emitKinds, kind) {
		return nil, command.Usagef("emit: want one of %v, got %q", emitKinds, kind)
	}
	if err := fits(cmd, kind, fromInput); err != nil {
		return nil, err
	}
	now := a.now()
	occurred, err := optional("--occurred", f.occured, now)
	if err != nil {
		return nil, err
	}
	if occurred != nil && occurred.Time().Sub(now) > occurredAhead {
		return nil, command.Usagef("--occurred: want when it became true, which is past, got %s; a date to come is --effective", *occurred)
	}
	var given schema.Event
	if fromInput {
		if given, err = a.readEvent(kind); err != nil {
			return nil, err
		}
	}
	cfg, err := loadConfig(a.configFile)
	if err != nil {
		return nil, err
	}
	s, err := a.open(cmd.Context(), cfg, opening{reports: true, facts: true})
	if err != nil {
		return nil, err
	}
	defer s.close()
	targets, lost, err := s.targets(cmd.Context(), kind, subject, f)
	if err != nil {
		return nil, err
	}
	for _, name := range lost {
		a.remark(fmt.Sprintf("subject %s may be live in enclave %s by what is lost since the backup, and this leaver is not said there: say it with --enclave %s too where they were in its scope", subject, name, name),
			"the subject may be live in this enclave by what is lost since the backup, and the leaver is not said there", "enclave", name, "subject", subject)
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
	var refused error           // by some enclaves' registers: the others hear of it all the same
	var manager *schema.Manager // of a given event: a stranger to one enclave need not be one to the next
	if p := personOf(given); p != nil {
		manager = p.Manager
	}
	for _, e := range targets {
		if p := personOf(given); p != nil {
			p.Manager = manager
		}
		event, err := given, error(nil)
		stranger := false
		var begins schema.Instant // of an engagement that is closed before
		sent, err := s.box.Update(cmd.Context(), e.Audience, []string{subject}, func(_ string, last register.State) (_ register.Decision, err error) {
			if given == nil {
				if event, err = f.event(cmd, kind, last, now); err != nil {
					return register.Decision{}, err
				}
			}
			if p := personOf(event); p != nil {
				if stranger, err = s.checkPerson(cmd.Context(), e, subject, p); err != nil {
					return register.Decision{}, err
				}
			}
			if last.Status == "" && kind == schema.KindLeaver { // who was lost with a register, or a slip in the id
				alike, err := announce.Alike(cmd.Context(), s.box, e.Audience, subject)
				if err != nil {
					return register.Decision{}, err
				}
				if alike != "" {
					return register.Decision{}, &register.NonsenseError{Reason: fmt.Sprintf("nothing was ever announced of this id, and it differs in spelling alone from subject %s, who is live: emit the leaver of that one. Is it somebody else, whom a restored register has forgotten, have the enclave cut them", alike)}
				}
			}
			if l, ok := event.(*schema.Leaver); ok && last.At(now).Status.Live() && l.Effective.Before(last.Start) {
				begins = last.Start
			}
			return register.Emit(last, register.Said{Event: event, Occurred: occurred, Txn: f.ticket}, now)
		}, note)
		all = append(all, sent...)
		if err != nil {
			if given == nil {
				err = byFlag(err)
			}
			err = fmt.Errorf("enclave %s: %w", e.Name, err)
			if !errors.As(err, new(*register.NonsenseError)) {
				return all, errors.Join(refused, err)
			}
			refused = errors.Join(refused, err)
			continue
		}
		if !begins.IsZero() {
			a.remark(fmt.Sprintf("subject %s, enclave %s: the leaver is before %s, the first day that was announced: the engagement never begins", subject, e.Name, begins),
				"the leaver is before the first day that was announced: the engagement never begins", "enclave", e.Name, "subject", subject, "start", begins.String())
		}
		if stranger {
			a.remark(fmt.Sprintf("the manager of subject %s is not announced to enclave %s; left out", subject, e.Name),
				"the manager is not announced to this enclave; left out", "enclave", e.Name, "subject", subject)
		}
	}
	if len(all) > 0 {
		a.hintRelay(cmd.Context(), s)
		if refused != nil { // no misuse: something was done
			refused = fmt.Errorf("not said to every enclave: %s", refused.Error())
		}
	}
	return all, refused
}

// readEvent reads an event of kind from standard input.
func (a *app) readEvent(kind schema.Kind) (schema.Event, error) {
	data, err := io.ReadAll(io.LimitReader(a.in, schema.MaxPayload+1))
	if err != nil {
		return nil, fmt.Errorf("read standard input: %w", err)
	}
	event, err := schema.DecodeEvent(kind, data)
	if err != nil {
		return nil, fmt.Errorf("standard input: want the JSON of one %s as in schema/event.md, an object with at least %s: %w", kind, strings.Join(needs(kind), ", "), err)
	}
	return event, nil
}

// needs names the members that an event of kind cannot do without.
func needs(kind schema.Kind) []string {
	switch kind {
	case schema.KindJoiner:
		return []string{"engagement", "person", "roles", "start"}
	case schema.KindMover:
		return []string{"engagement", "person", "roles", "start", "effective"}
	case schema.KindLeaver:
		return []string{"engagement", "effective", "reason", "urgent"}
	}
	return []string{"engagement", "effective", "reason"}
}

// personOf is the person that e describes; nil for an event that describes none.
func personOf(e schema.Event) *schema.Person {
	switch e := e.(type) {
	case *schema.Joiner:
		return &e.Person
	case *schema.Mover:
		return &e.Person
	}
	return nil
}

// checkPerson holds of p what the schema leaves open: that two capitals are a country, and that a manager is somebody
// else of whom the enclave was told. It leaves another manager out and reports it.
func (s *opened) checkPerson(ctx context.Context, e *Enclave, subject string, p *schema.Person) (stranger bool, err error) {
	if c := p.UsageLocation; c != "" && !source.IsCountry(c) {
		return false, command.Usagef("usage location (--country): want an ISO 3166-1 alpha-2 code in capitals, got %q", c)
	}
	if p.Manager != nil && p.Manager.Value == subject {
		return false, command.Usagef("manager (--manager): want somebody else than the person, got %q", subject)
	}
	stranger = announce.DropStranger(p, func(manager string) bool {
		var last register.State
		last, err = s.box.State(ctx, e.Audience, manager)
		return last.Status != ""
	})
	return stranger, err
}

// byFlag names the flag behind the member that was refused, which is what the operator typed.
func byFlag(err error) error {
	var refused *schema.RefusedError
	if !errors.As(err, &refused) {
		return err
	}
	for member, flag := range map[string]string{"sub_id.id": "SUBJECT", "txn": "--ticket", "toe": "--occurred"} {
		if refused.Path == member {
			return command.Usagef("%s: %s", flag, refused.Detail)
		}
	}
	_, member, _ := strings.Cut(strings.TrimPrefix(refused.Path, "events."), ".") // behind the kind
	member, _, _ = strings.Cut(member, "[")
	for _, p := range personFlags {
		if member == p.member {
			return command.Usagef("--%s: %s", p.flag, refused.Detail)
		}
	}
	if slices.Contains([]string{"engagement", "effective", "reason"}, member) {
		return command.Usagef("--%s: %s", member, refused.Detail)
	}
	return err
}

// reasons lists the words of each kind, for the help.
func reasons() string {
	var all []string
	for _, k := range emitKinds {
		if words := schema.Reasons(k); words != nil {
			all = append(all, fmt.Sprintf("Of a %s: %s", k, strings.Join(words, ", ")))
		}
	}
	return strings.Join(all, ". ")
}

// targets are the enclaves that an event goes to: those that were named, the only one, or all that know
// the person. lost names those where a leaver may be missing, since the register was restored and may have forgotten the person.
func (s *opened) targets(ctx context.Context, kind schema.Kind, subject string, f *emitFlags) (all []*Enclave, lost []string, err error) {
	for _, name := range f.enclaves {
		e, err := s.cfg.enclave(name)
		if err != nil {
			return nil, nil, err
		}
		all = append(all, e)
	}
	switch {
	case len(all) > 0:
		return all, lost, nil
	case len(s.cfg.Enclaves) == 1:
		return []*Enclave{&s.cfg.Enclaves[0]}, nil, nil
	case kind == schema.KindJoiner || kind == schema.KindMover:
		return nil, nil, command.Usagef("a %s goes to one enclave; name it with --enclave", kind)
	}
	for i := range s.cfg.Enclaves {
		e := &s.cfg.Enclaves[i]
		state, err := s.box.State(ctx, e.Audience, subject)
		if err != nil {
			return nil, nil, err
		}
		switch {
		case state.Status.Live():
			all = append(all, e)
		case kind == schema.KindLeaver && state.MayBeLost():
			lost = append(lost, e.Name)
		}
	}
	if len(all) == 0 {
		return nil, nil, command.Misusef("no enclave has a live engagement of subject %s; name one with --enclave to say it all the same", subject)
	}
	return all, lost, nil
}

// event makes the event of the flags. A mover begins with what was said last.
func (f *emitFlags) event(cmd *cobra.Command, kind schema.Kind, last register.State, now time.Time) (schema.Event, error) {
	effective, err := instant("--effective", f.effective, now)
	if err != nil {
		return nil, err
	}
	switch kind {
	case schema.KindLeaver:
		return &schema.Leaver{Engagement: f.engagement, Effective: effective, Reason: orElse(f.reason, schema.ReasonOther), Urgent: f.urgent}, nil
	case schema.KindSuspend:
		return &schema.Suspend{Engagement: f.engagement, Effective: effective, Reason: orElse(f.reason, schema.ReasonOther)}, nil
	case schema.KindResume:
		return &schema.Resume{Engagement: f.engagement, Effective: effective, Reason: orElse(f.reason, schema.ReasonOther)}, nil
	}
	person, roles, start, end := f.person, f.roles, schema.At(now), (*schema.Instant)(nil)
	if len(roles) == 1 && roles[0] == "" {
		roles = []string{}
	}
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
		if start, err = instant("--start", f.start, now); err != nil {
			return nil, err
		}
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
	return &schema.Mover{Engagement: f.engagement, Person: person, Roles: roles, Start: start, End: end, Effective: effective}, nil
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

// optional reads an instant; empty and "none" are none.
func optional(flag, text string, now time.Time) (*schema.Instant, error) {
	if text == "" || text == "none" {
		return nil, nil
	}
	i, err := instant(flag, text, now)
	return &i, err
}

// instant reads an instant; "now" is now.
func instant(flag, text string, now time.Time) (schema.Instant, error) {
	if text == "now" {
		return schema.At(now), nil
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return schema.Instant{}, command.Usagef("%s: want an instant like 2026-03-02T12:00:00Z, or now, got %q", flag, text)
	}
	return schema.At(t), nil
}

func orElse(s, other string) string {
	if s == "" {
		return other
	}
	return s
}
