package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"jmlbridge/e2e/stage"
)

// stopTime bounds the clean end of all programs.
const stopTime = 60 * time.Second

// story is one run of the quickstart.
type story struct {
	options
	screen *screen
	bridge *stage.Stage
	follow *follower
	ears   *ears
	first  []*person
	second []*person

	began     time.Time
	buildTime time.Duration
	problems  []string // what did not come out as promised

	breakGlass string // the protected account as it was before anything ran
}

func newStory(o options, s *screen) *story { return &story{options: o, screen: s, began: time.Now()} }

// tell runs the whole story and ends with its verdict. Whatever happens, no program is left running.
func (s *story) tell(ctx context.Context) error {
	err := s.acts(ctx)
	serr := s.stop()
	if err == nil {
		err = serr
	}
	if err == nil && len(s.problems) == 0 {
		err = s.auditAll(ctx)
	}
	switch {
	case ctx.Err() != nil:
		ended := "Every program has ended."
		if serr != nil {
			ended = "Not every program ended well: " + serr.Error()
		}
		s.screen.box(yellow, "Stopped by Ctrl-C", ended, "", "Left in   "+s.dir)
		return ctx.Err()
	case err == nil && len(s.problems) == 0:
		s.verdict()
		return nil
	case err != nil:
		s.problems = append(s.problems, err.Error())
	}
	lines := []string{"Not as promised"}
	for _, p := range s.problems {
		lines = append(lines, "- "+p)
	}
	s.screen.box(red, append(lines, "", "Left in   "+s.dir, "Logs      "+filepath.Join(s.dir, "logs"))...)
	return errors.New("not as promised")
}

func (s *story) acts(ctx context.Context) error {
	for _, act := range []func(context.Context) error{s.build, s.setUp, s.start, s.firstAct, s.secondAct, s.lookBack} {
		if err := act(ctx); err != nil {
			return err
		}
		if len(s.problems) > 0 {
			return nil // what follows would build on it
		}
	}
	return nil
}

func (s *story) build(ctx context.Context) error {
	s.screen.print(s.screen.paint(bold, "jmlbridge quickstart"))
	s.screen.say("HR says that someone joined, moved or left. That fact crosses, signed and encrypted, from the commercial side " +
		"into a government enclave, which pulls it, decides by its own policy, acts in its own tenant, and records all of it.")
	s.screen.section("1  Build")
	if s.bin != "" {
		s.screen.item("programs", "those in "+s.bin)
		return nil
	}
	s.bin = filepath.Join(s.dir, "bin")
	done := s.screen.busy("building the programs (the first time takes some minutes)")
	began := time.Now()
	_, err := stage.Build(ctx, s.bin)
	s.buildTime = time.Since(began)
	done()
	if err != nil {
		return err
	}
	built, err := os.ReadDir(s.bin)
	if err != nil {
		return err
	}
	var names []string
	for _, f := range built {
		names = append(names, f.Name())
	}
	s.screen.item("built", fmt.Sprintf("%s in %.1fs", strings.Join(names, ", "), s.buildTime.Seconds()))
	return nil
}

func (s *story) setUp(ctx context.Context) (err error) {
	s.screen.section("2  Set up both sides")
	if s.containers {
		s.bridge, err = stage.Attach(ctx, s.inContainers())
	} else {
		var flags []string
		if s.faults != "" {
			flags = []string{"-faults", s.faults}
		}
		done := s.screen.busy("making keys, credentials and configurations")
		s.bridge, err = stage.New(ctx, stage.Config{Dir: s.dir, Programs: stage.In(s.bin), Sandbox: flags, Queue: s.queue})
		done()
	}
	if err != nil {
		return err
	}
	b := s.bridge
	state, err := b.Tenant.State(ctx)
	if err != nil {
		return err
	}
	if u := state.User(stage.BreakGlass); u != nil {
		s.breakGlass = fmt.Sprintf("%+v", *u)
	}
	s.screen.item("tenant", fmt.Sprintf("a rehearsal tenant that speaks Microsoft Graph over TLS: an identity to cut, another to grant, %d groups, and a break-glass account", len(stage.Groups())))
	midpoint := "a NATS server: certificate, and one credential each for the two sides"
	if s.queue == stage.ServiceBus {
		midpoint = "a namespace that speaks the Service Bus dialect of AMQP over TLS: one queue, and one right each for the two sides (send, listen)"
	}
	s.screen.item("mid-point", midpoint)
	s.screen.item("enclave", "decryption key, ledger key, database, and a policy: role -> groups, limits, protected accounts")
	s.screen.item("commercial", "signing key "+short(b.SigningKID)+", database, and what the columns of the HR export mean")
	s.screen.item("carried", "across by hand, public only: the enclave's encryption key to the producer, the producer's card to the enclave, which compared its key id")
	return nil
}

func short(id string) string { return id[:min(len(id), 8)] + "..." }

func (s *story) start(ctx context.Context) error {
	s.screen.section("3  Start")
	b := s.bridge
	if !s.containers {
		if err := b.Start(ctx); err != nil {
			return err
		}
	}
	s.ears = listen(b.Consumer)
	if s.containers {
		s.screen.say("Each program runs in a container of its own: producer on the networks commercial and midpoint; the mid-point on midpoint; the enclave's " +
			"way out on midpoint and enclave; consumer and tenant on enclave alone, which has no other way.")
	}
	for _, p := range []struct {
		process    *stage.Process
		name, text string
	}{
		{b.Sandbox, "sandbox", "the rehearsal tenant, " + b.Tenant.GraphV1},
		{b.MidPoint, "mid-point", "holds sealed messages; can make them late, not wrong"},
		{b.Producer, "producer", "says a heartbeat every second, so that silence is noticed"},
		{b.Consumer, "consumer", "dials out to mid-point and tenant, and listens nowhere"},
	} {
		if !s.containers { // there it is 1 for each
			p.text = fmt.Sprintf("pid %-7d %s", p.process.PID(), p.text)
		}
		s.screen.item(p.name, p.text)
	}
	s.follow = newFollower(b, s.screen, s.containers)
	return nil
}

func (s *story) firstAct(ctx context.Context) error {
	s.first = newcomers()
	s.screen.section("4  The first HR export")
	s.screen.say("Twelve people work here. One row names a country that does not exist, and the two rows of one person contradict each " +
		"other: nobody is announced by such rows. Everyone's way:")
	s.screen.legend(sFact, "what HR's row says")
	s.screen.legend(sQueued, "signed, encrypted for the enclave alone, and confirmed by the mid-point")
	s.screen.legend(sVerified, "pulled by the enclave; signature, audience, place in the chain and all else hold")
	s.screen.legend(sPlanned, "decided by the enclave's own policy; on its ledger before anything is touched")
	s.screen.legend(sApplied, "done in the tenant, as the tenant's own journal has it")
	s.screen.legend(sLedger, "the outcome, on the ledger under a signed checkpoint")
	s.screen.say("Times count from handing over the export; #n is an entry of the enclave's ledger. A message counts as queued " +
		"when the producer logs its confirmation; the enclave may have it a moment sooner.")
	if err := s.act(ctx, "hr-1.csv", stage.Export(firstExport...), s.first); err != nil || len(s.problems) > 0 {
		return err
	}
	s.checkTenant(ctx, s.first)
	return nil
}

func (s *story) secondAct(ctx context.Context) error {
	s.second = changed(s.first)
	s.screen.section("5  The second HR export")
	s.screen.say("Some have moved, three have left, one is on leave, HR has corrected its mistakes, and somebody is missing from the file, which " +
		"says nothing: absence is never a leaver. Whatever takes access away goes first.")
	if err := s.act(ctx, "hr-2.csv", stage.Export(secondExport()...), s.second); err != nil || len(s.problems) > 0 {
		return err
	}
	s.checkTenant(ctx, s.second)
	s.showCuts()
	return nil
}

// act hands an export over and shows what comes of it.
func (s *story) act(ctx context.Context, name, export string, people []*person) error {
	file := filepath.Join(s.bridge.Commercial, name)
	if err := os.WriteFile(file, []byte(export), 0o600); err != nil {
		return err
	}
	s.screen.print("")
	if err := s.follow.announce(ctx, file, people); err != nil {
		return err
	}
	if err := s.follow.follow(ctx); err != nil {
		return err
	}
	if len(s.follow.doubts) == 0 {
		if err := s.idle(ctx); err != nil {
			return err
		}
	}
	s.screen.print("")
	return s.doubted(ctx)
}

// showCuts prints when the leavers' access ended, by the tenant's journal.
func (s *story) showCuts() {
	s.screen.print("")
	rows := [][]string{{"access ended", "because", "account disabled", "sessions revoked"}}
	after := func(t time.Time) string { return fmt.Sprintf("%.2fs", t.Sub(s.follow.began).Seconds()) }
	for _, p := range s.second {
		if !p.revoked {
			continue
		}
		c := s.follow.cuts[p.id]
		if c == nil || c.disabled.IsZero() || c.revoked.IsZero() {
			s.problems = append(s.problems, fmt.Sprintf("%s (%s): the tenant's journal shows no disable and revocation of the account", p.name, p.id))
			continue
		}
		why := strings.ToLower(p.row.Reason)
		if p.fate == suspended {
			why = "on leave"
		}
		rows = append(rows, []string{p.name, why, after(c.disabled), after(c.revoked)})
	}
	s.screen.table(rows)
	s.screen.say("  from handing over the export to the tenant's own journal entry")
}

// stop ends every program, the consumer first.
func (s *story) stop() error {
	if s.bridge == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), stopTime) // also after Ctrl-C
	defer cancel()
	if s.ears != nil {
		s.problems = append(s.problems, s.ears.stop()...)
	}
	err := s.bridge.Stop(ctx)
	return errors.Join(err, s.bridge.Close())
}

// auditAll lets the auditor, who has the published folder and public keys only, judge the ledger.
func (s *story) auditAll(ctx context.Context) error {
	s.screen.section("7  The auditor")
	ended := "All programs have ended cleanly."
	if s.containers {
		ended = "The programs run on; the ledger grows with every heartbeat, and whoever verifies it judges what stands under one checkpoint."
	}
	s.screen.say(ended + " The auditor gets the published folder, the ledger's public key, the producer's card and the " +
		"checkpoint that was kept elsewhere, and opens no connection.")
	b := s.bridge
	s.screen.print("")
	res, err := b.Verify(ctx)
	for line := range strings.Lines(res.Stdout) {
		for _, part := range wrapHanging(strings.TrimRight(line, "\n"), s.screen.width-4, 10) {
			s.screen.print("    " + part)
		}
	}
	if err != nil {
		var exit *stage.ExitError
		if errors.As(err, &exit) && exit.Code == 3 {
			return errors.New("the auditor says that the ledger does not verify; its report stands above")
		}
		return err
	}
	return nil
}

func (s *story) verdict() {
	b := s.bridge
	cuts, slowest := 0, time.Duration(0)
	for _, p := range s.second {
		if c := s.follow.cuts[p.id]; p.revoked && c != nil {
			cuts++
			slowest = max(slowest, c.disabled.Sub(s.follow.began), c.revoked.Sub(s.follow.began))
		}
	}
	took := (time.Since(s.began) - s.buildTime).Seconds()
	built := ""
	if s.buildTime > 0 {
		built = fmt.Sprintf(", and %.1fs before it to build", s.buildTime.Seconds())
	}
	lines := []string{
		"Everything came out as promised",
		fmt.Sprintf("%d people lost their access, the slowest %.2fs after HR's export was handed over.", cuts, slowest.Seconds()),
		"The auditor's verdict: the ledger verifies.",
		fmt.Sprintf("It took %.1fs%s.", took, built),
		"",
	}
	timeline := fmt.Sprintf("%s timeline 10008 %s --ledger-key %s", b.Programs.Auditor, b.Ledger.Dir, filepath.Join(b.AuditorDir, "ledger.vkey"))
	if s.containers {
		compose, service := "docker compose", "story"
		if s.queue == stage.ServiceBus {
			compose, service = compose+" --profile servicebus", service+"-servicebus"
		}
		s.screen.box(green, append(lines, "The containers run on; look around with docker compose logs, ps and exec.", "What is left of them, keys included, ends with "+compose+" down --volumes.")...)
		timeline = compose + " run --rm --no-deps --entrypoint '' " + service + " " + timeline
	} else {
		s.screen.box(green, append(lines, s.left()...)...)
	}
	s.screen.print("")
	s.screen.say("One leaver's whole story, proved against the ledger's key:")
	s.screen.print("  " + s.screen.paint(bold, timeline))
}

// left says where everything is.
func (s *story) left() []string {
	return []string{
		"Everything is left in " + s.dir,
		"  commercial/  the producer: configuration, HR exports, keys, database, its own ledger",
		"  enclave/     the consumer: configuration, policy, keys, database, ledger, alarms",
		"  midpoint/    the queue between them",
		"  tenant/      the rehearsal tenant's journal, request by request",
		"  auditor/     the public keys that an auditor needs",
		"  logs/        what every program said",
	}
}
