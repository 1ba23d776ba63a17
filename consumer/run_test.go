package main

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"jmlbridge/consumer/alarms"
	"jmlbridge/consumer/state"
	"jmlbridge/e2e/sandbox/tenant"
	"jmlbridge/internal/doctor"
	"jmlbridge/internal/ledger/entry"
	"jmlbridge/internal/outbound/proxytest"
	"jmlbridge/schema"
)

// account is a user of the sandbox by the first part of its name.
func (w *world) account(alias string) (tenant.UserState, bool) {
	for _, u := range w.tenant.Snapshot().Users {
		if strings.HasPrefix(u.UserPrincipalName, alias+"@") {
			return u, true
		}
	}
	return tenant.UserState{}, false
}

func (w *world) enabled(alias string) bool {
	u, ok := w.account(alias)
	return ok && u.Enabled
}

// A person joins, an operator cuts another way in and out, and everything is recorded and published.
func TestRun(t *testing.T) {
	w := newWorld(t)
	p := w.start("run")
	w.heartbeat()
	w.joiner("100042", "ann.example", "soc-analyst")
	eventually(t, "the joiner has an account in its group", func() bool {
		u, ok := w.account("ann.example")
		return ok && u.Enabled && slices.Contains(u.Groups, "SOC")
	})

	var s status
	eventually(t, "status shows the stream", func() bool {
		if err := json.Unmarshal([]byte(w.must("status", "-o", "json")), &s); err != nil {
			t.Fatal(err)
		}
		return len(s.Streams) == 1 && s.Streams[0].Head == 2 && s.Backlog["give"] == 0 && s.Interrupts == 0
	})
	if s.Runner != p.Process.Pid || s.Streams[0].Stale {
		t.Errorf("status %+v", s)
	}
	if code, out, errs := w.consumer("status", "--check"); code != exitDone {
		t.Errorf("--check of a healthy one: exit %d\n%s%s", code, out, errs)
	}
	if out := w.must("plan", "100042"); !strings.Contains(out, "nothing to do for 1 of them") {
		t.Errorf("plan of who is in order:\n%s", out)
	}

	// The second runner is told who the first is, and harms nothing.
	code, _, errs := w.consumer("run")
	if code != exitMisused || !strings.Contains(errs, strconv.Itoa(p.Process.Pid)) {
		t.Errorf("second runner: exit %d, %s", code, errs)
	}

	out := w.must("cut", "100042", "--reason", "INC-91", "--wait", patience.String())
	if !strings.Contains(out, "disabled at") {
		t.Errorf("cut said %q", out)
	}
	if u, _ := w.account("ann.example"); u.Enabled || !u.SessionsRevoked {
		t.Errorf("after the cut: %+v", u)
	}
	w.leaver("100042")
	eventually(t, "the leaver is out of the group", func() bool {
		u, _ := w.account("ann.example")
		return len(u.Groups) == 0
	})
	p.stop()

	db := w.open()
	started := entries[*entry.Started](t, db)
	if last := started[len(started)-1]; last.Mode != "run" || last.Policy == nil || last.Enclave != gov1 || last.Version == "" || last.Cloud != "custom" {
		t.Errorf("started entry %+v", last)
	}
	if pol := entries[*entry.Policy](t, db); len(pol) != 1 || pol[0].Previous != nil {
		t.Errorf("policy entries %+v", pol)
	}
	if err := json.Unmarshal([]byte(w.must("status", "-o", "json")), &s); err != nil {
		t.Fatal(err)
	}
	if s.Ledger.Published != s.Ledger.Size || s.Ledger.Error != "" {
		t.Errorf("not everything is published at the end: %+v", s.Ledger)
	}
	if copied, err := os.ReadFile(w.path("copy/checkpoint")); err != nil || !strings.HasPrefix(string(copied), "jmlbridge.internal/gov-1/ledger\n"+strconv.FormatInt(s.Ledger.Size, 10)+"\n") {
		t.Errorf("checkpoint copy %q, %v", copied, err)
	}
	for _, line := range strings.Split(strings.TrimSpace(p.said()), "\n") {
		var l map[string]any
		if err := json.Unmarshal([]byte(line), &l); err != nil {
			t.Errorf("a log line that is not JSON: %q", line)
		}
		if strings.Contains(line, "ann.example") || strings.Contains(line, "Ann Example") {
			t.Errorf("a person's name in the log: %s", line)
		}
	}
}

func (w *world) leaver(subject string) {
	w.files.t.Helper()
	w.say(subject, &schema.Leaver{Engagement: 1, Effective: schema.At(time.Now()), Reason: schema.ReasonTermination})
}

// Cuts that a limit holds happen when they were first to happen, though the producer goes on to speak of these people and the
// program is started anew; and the auditor, who finds a hold that lasts longer, finds none.
func TestHeldCutsWaitOnce(t *testing.T) {
	w := newWorld(t)
	w.edit("policy.yaml", "cut_per_hour: 100, cut_hold: 30m", "cut_per_hour: 1, cut_hold: 6s")
	people := map[string]string{"100001": "ann", "100002": "bob", "100003": "cyd"}
	p := w.start("run")
	w.heartbeat()
	for subject, alias := range people {
		w.joiner(subject, alias, "soc-analyst")
	}
	enabled := func() (n int) {
		for _, alias := range people {
			if w.enabled(alias) {
				n++
			}
		}
		return n
	}
	eventually(t, "all have accounts", func() bool { return enabled() == len(people) })
	held := func() (ids []string) {
		var list []shownHold
		if err := json.Unmarshal([]byte(w.must("holds", "list", "-o", "json")), &list); err != nil {
			t.Fatal(err)
		}
		for _, h := range list {
			ids = append(ids, h.ID)
		}
		return ids
	}
	leave := func() {
		for subject := range people {
			w.leaver(subject)
		}
	}
	leave()
	eventually(t, "cuts are held", func() bool { return len(held()) > 0 })
	first := held()
	leave()
	eventually(t, "they are in holds of their own", func() bool { // or cut by now, on a slow machine
		h := held()
		return len(h) > 0 && !slices.Contains(h, first[0]) || enabled() == 0
	})
	p.stop()
	p = w.start("run")
	leave()
	eventually(t, "all are cut", func() bool { return enabled() == 0 })
	p.stop()
	db := w.open()
	ends := map[string]time.Time{}
	for _, h := range entries[*entry.Held](t, db) {
		for _, s := range h.Subjects {
			if was, ok := ends[s.Subject]; ok && h.Until.After(was) {
				t.Errorf("hold %s keeps %s until %s, and was to end at %s", h.Hold, s.Subject, h.Until, was)
			} else if !ok {
				ends[s.Subject] = h.Until.Time
			}
		}
	}
	if len(ends) < 2 {
		t.Errorf("held were %v", ends)
	}
	w.report("ledger", "keys/ledger.vkey")
}

// An observer plans and records, and the tenant stays as it is.
func TestObserve(t *testing.T) {
	w := newWorld(t)
	w.heartbeat()
	w.joiner("100042", "ann.example", "soc-analyst")
	p := w.start("run", "--observe")
	db := w.open()
	eventually(t, "the intent is on the ledger", func() bool { return len(entries[*entry.Outcome](t, db)) > 0 })
	if in := entries[*entry.Intent](t, db); !in[0].Observe {
		t.Errorf("intent %+v", in[0])
	}
	var s status
	if err := json.Unmarshal([]byte(w.must("status", "-o", "json")), &s); err != nil || !s.Observes {
		t.Errorf("status does not say that it only observes: %v", err)
	}
	if screen := w.must("status"); !strings.Contains(screen, "ONLY OBSERVES") {
		t.Errorf("status:\n%s", screen)
	}
	if code, out, _ := w.consumer("status", "--check"); code != exitWarning || !strings.Contains(out, "only-observes") {
		t.Errorf("status --check of one that only observes: exit %d, %s", code, out)
	}
	code, _, errs := w.consumer("cut", "100099", "--unknown", "--reason", "x")
	if code != exitFailed || !strings.Contains(errs, "only observes") {
		t.Errorf("cut: exit %d, %s", code, errs)
	}
	if code, out, _ := w.consumer("status", "--check"); code != exitCritical || !strings.Contains(out, "1 person is to be cut and will not be") {
		t.Errorf("status --check while somebody is to be cut: exit %d, %s", code, out)
	}
	out := w.must("plan", "100042", "-o", "json")
	var list []plannedPerson
	if err := json.Unmarshal([]byte(out), &list); err != nil || len(list) != 1 || len(list[0].Ops) != 2 || list[0].Ops[0].Op != "create" || list[0].Ops[1].Target != soc {
		t.Errorf("plan %s, %v", out, err)
	}
	p.stop()
	if _, ok := w.account("ann.example"); ok {
		t.Error("an account was made")
	}
	for _, e := range w.tenant.Journal() {
		if e.Method != "GET" && !strings.Contains(e.Path, "/token") {
			t.Errorf("%s %s was sent", e.Method, e.Path)
		}
	}
}

// Everything goes through the proxy, and nothing listens.
func TestProxyAndNoListener(t *testing.T) {
	w := newWorld(t)
	via := proxytest.New(t, "enclave:s3cret")
	w.values["proxy"], w.values["proxy_credentials"] = via.URL(), "keys/proxy.secret"
	w.write("keys/proxy.secret", "enclave:s3cret\n", 0o600)
	w.save()
	w.heartbeat()
	w.joiner("100042", "ann.example", "soc-analyst")
	p := w.start("run")
	eventually(t, "the joiner has an account", func() bool { _, ok := w.account("ann.example"); return ok })

	asked := via.Asked()
	for _, want := range []string{w.mid.Addr(), strings.TrimPrefix(strings.TrimSuffix(w.tenant.Endpoints().Authority, "/"), "https://")} {
		if !slices.Contains(asked, want) {
			t.Errorf("the proxy was never asked for %s, only for %v", want, asked)
		}
	}
	_, port, err := net.SplitHostPort(via.Addr())
	if err != nil {
		t.Fatal(err)
	}
	sockets := socketsOf(t, p.Process.Pid)
	if len(sockets.remote) == 0 {
		t.Error("no connection at all: the test looks at the wrong thing")
	}
	for _, r := range sockets.remote {
		if r != port {
			t.Errorf("a connection past the proxy, to port %s", r)
		}
	}
	if len(sockets.listening) > 0 {
		t.Errorf("it listens: %v", sockets.listening)
	}
	// The same look finds a listener where there is one: this process has the proxy.
	if here := socketsOf(t, os.Getpid()); len(here.listening) == 0 {
		t.Error("the test cannot see a listening socket")
	}
	p.stop()
}

// sockets of a process.
type sockets struct {
	listening []string
	remote    []string // ports that it is connected to
}

// socketsOf reads /proc: the sockets that pid has open, and what they do.
func socketsOf(t *testing.T, pid int) (s sockets) {
	t.Helper()
	proc := filepath.Join("/proc", strconv.Itoa(pid))
	fds, err := os.ReadDir(filepath.Join(proc, "fd"))
	if err != nil {
		t.Skipf("no /proc to look into: %v", err)
	}
	open := map[string]bool{}
	for _, fd := range fds {
		if to, err := os.Readlink(filepath.Join(proc, "fd", fd.Name())); err == nil && strings.HasPrefix(to, "socket:[") {
			open[strings.Trim(to, "socket:[]")] = true
		}
	}
	for _, table := range []string{"tcp", "tcp6"} {
		text, err := os.ReadFile(filepath.Join(proc, "net", table))
		if err != nil {
			continue // no IPv6 here
		}
		for _, line := range strings.Split(string(text), "\n")[1:] {
			f := strings.Fields(line)
			if len(f) < 10 || !open[f[9]] {
				continue
			}
			switch f[3] {
			case "0A":
				s.listening = append(s.listening, table+" "+f[1])
			case "01":
				var port int
				if _, err := fmt.Sscanf(f[2][strings.IndexByte(f[2], ':')+1:], "%X", &port); err == nil {
					s.remote = append(s.remote, strconv.Itoa(port))
				}
			}
		}
	}
	text, err := os.ReadFile(filepath.Join(proc, "net", "unix"))
	if err != nil {
		return s
	}
	const acceptsConnections = 0x10000
	for _, line := range strings.Split(string(text), "\n")[1:] {
		f := strings.Fields(line)
		if len(f) < 7 || !open[f[6]] {
			continue
		}
		if flags, err := strconv.ParseUint(f[3], 16, 32); err == nil && flags&acceptsConnections != 0 {
			s.listening = append(s.listening, "unix "+f[6])
		}
	}
	return s
}

// That no alarm can be written to their file is told before there is one: by doctor, by status, whether or not somebody
// runs, and where the alarms go besides. With the folder there it ends.
func TestAlarmsWithoutAFolder(t *testing.T) {
	w := newWorld(t)
	w.edit("consumer.yaml", "alarms.jsonl", "alarms/alarms.jsonl")
	told := func() bool { return strings.Contains(w.must("status"), alarmUnwritten) }
	if found, _ := w.examined(); !doctor.Failed(found) || !strings.Contains(fmt.Sprint(found), "the folder of alarms.file is not there") || !told() {
		t.Errorf("before a run doctor says %v, and status %v", found, told())
	}
	p := w.start("run")
	stands := func() bool { return slices.Contains(w.alarmed(state.Warning), alarmUnwritten) }
	eventually(t, "it is an alarm", stands)
	if n := strings.Count(w.must("status"), alarmUnwritten); n != 1 {
		t.Errorf("status says it %d times", n)
	}
	if err := os.Mkdir(w.path("alarms"), 0o700); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the alarm is over, and was written", func() bool {
		text, err := os.ReadFile(w.path("alarms/alarms.jsonl"))
		return err == nil && strings.Contains(string(text), `"cleared","code":"`+alarmUnwritten+`"`)
	})
	p.stop()
	if found, _ := w.examined(); strings.Contains(fmt.Sprint(found), "alarms.file") || told() {
		t.Errorf("after all doctor says %v, and status %v", found, told())
	}
}

// Alarms and life are in files, while it runs and afterwards.
func TestFiles(t *testing.T) {
	w := newWorld(t)
	text, err := os.ReadFile(w.path("consumer.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	// The least that is taken: a silence becomes an alarm only when somebody has listened for as long.
	w.write("consumer.yaml", strings.Replace(string(text), "stale_after: 5m", "stale_after: 10s", 1), 0o600)
	p := w.start("run")
	read := func() (lines []alarms.Line) {
		text, err := os.ReadFile(w.path("alarms.jsonl"))
		if err != nil || len(text) == 0 { // made, and not written yet
			return nil
		}
		for _, l := range strings.Split(strings.TrimSpace(string(text)), "\n") {
			var line alarms.Line
			if err := json.Unmarshal([]byte(l), &line); err != nil {
				t.Fatalf("%v: %s", err, l)
			}
			lines = append(lines, line)
		}
		return lines
	}
	has := func(state, code string) func() bool {
		return func() bool {
			return slices.ContainsFunc(read(), func(l alarms.Line) bool { return l.State == state && l.Code == code })
		}
	}
	eventually(t, "the silent producer is an alarm", has(alarms.Raised, "stale"))
	if l := read()[0]; l.Severity != "critical" || l.Key != issuer || l.Do == "" || l.Text == "" || l.Since.IsZero() {
		t.Errorf("line %+v", l)
	}
	w.heartbeat()
	eventually(t, "the heartbeat ends it", has(alarms.Cleared, "stale"))
	var l livenessFile
	eventually(t, "the liveness file shows the heartbeat", func() bool {
		text, err := os.ReadFile(w.path("alive.json"))
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(text, &l); err != nil {
			t.Fatalf("a reader saw half a file: %v", err)
		}
		return len(l.Heartbeats) == 1 && l.Heartbeats[0].Age != nil && l.Heartbeats[0].Head == 1
	})
	if l.PID != p.Process.Pid || l.LedgerSize == 0 || l.Mode != "run" {
		t.Errorf("liveness %+v", l)
	}
	before := l.Time
	eventually(t, "the liveness file is rewritten", func() bool {
		text, _ := os.ReadFile(w.path("alive.json"))
		return json.Unmarshal(text, &l) == nil && l.Time.After(before)
	})
	p.stop()
}

// A credential that the tenant refuses is told at the start, not by the first leaver.
func TestDeadCredential(t *testing.T) {
	w := newWorld(t, tenant.SeedGroup{ID: soc, DisplayName: "SOC"})
	good, err := os.ReadFile(w.path("keys/cut.secret"))
	if err != nil {
		t.Fatal(err)
	}
	w.write("keys/cut.secret", "expired\n", 0o600)
	p := w.start("run")
	eventually(t, "the alarm stands", func() bool {
		text := w.must("status")
		return strings.Contains(text, "credential-denied") && strings.Contains(text, "the cut credential") && strings.Contains(text, "AADSTS")
	})
	if text := w.must("status"); strings.Contains(text, "the grant credential") {
		t.Errorf("the other one is well:\n%s", text)
	}
	if code, text, _ := w.consumer("doctor"); code != exitFailed || !strings.Contains(text, "cut") || !strings.Contains(text, "AADSTS") {
		t.Errorf("doctor: exit %d\n%s", code, text)
	}
	p.stop()
	w.write("keys/cut.secret", string(good), 0o600)
	const secret = "is a client secret"
	if _, text, _ := w.consumer("doctor"); strings.Contains(text, "AADSTS") || strings.Count(text, secret) != 2 || !strings.Contains(text, "ok       ledger") {
		t.Errorf("doctor, with the right one, expected the files to be well and a warning of two secrets:\n%s", text)
	}
	p = w.start("run")
	eventually(t, "the alarm is gone", func() bool { return !strings.Contains(w.must("status"), "credential-denied") })
	p.stop()
	if text := p.said(); strings.Count(text, secret) != 2 {
		t.Errorf("the log warns of two secrets:\n%s", text)
	}
}

// A clock that is far from where database and ledger last knew it, either way, is recorded and raised at the start. What
// messages say goes on, and an operator's word ends the doubt.
func TestClockFarOff(t *testing.T) {
	for name, c := range map[string]struct {
		last     time.Duration // from now
		severity string
	}{
		"behind what is known": {20 * 365 * 24 * time.Hour, "critical"},
		"ahead of it":          {-400 * 24 * time.Hour, "notice"}, // or nothing ran for so long
	} {
		t.Run(name, func(t *testing.T) {
			f := newFiles(t)
			f.clock = func() time.Time { return time.Now().Add(c.last) }
			w := f.world()
			f.clock = time.Now
			p := w.start("run")
			w.heartbeat()
			w.joiner("100042", "ann.example", "soc-analyst")
			eventually(t, "the joiner has an account", func() bool { return w.enabled("ann.example") })
			if out := w.must("status"); !strings.Contains(out, c.severity+"  clock ") {
				t.Errorf("want the alarm at severity %s:\n%s", c.severity, out)
			}
			w.leaver("100042")
			eventually(t, "the leaver is cut", func() bool { return !w.enabled("ann.example") })
			w.must("clock", "confirm", "--reason", "compared")
			eventually(t, "the alarm is gone", func() bool { return !strings.Contains(w.must("status"), "  clock ") })
			p.stop()
			e := entries[*entry.Clock](t, w.open())
			if len(e) != 2 || e[0].Against != entry.AgainstLedger || e[1].Action != entry.ClockConfirmed {
				t.Fatalf("clock entries %+v", e)
			}
			if off := time.Duration(e[0].Offset)*time.Millisecond + c.last; off.Abs() > time.Hour {
				t.Errorf("want an offset of %v, got one %v beside", -c.last, off)
			}
		})
	}
}

// A mid-point that refuses us is an alarm; one that is away ends when it comes back.
func TestMidpointAlarms(t *testing.T) {
	w := newWorld(t)
	stranger := newFiles(t)
	good := w.values["nkey"]
	w.values["nkey"] = stranger.path("keys/midpoint.nk")
	w.save()
	p := w.start("run")
	eventually(t, "the alarm stands", func() bool { return strings.Contains(w.must("status"), "midpoint-") })
	p.stop()
	w.values["nkey"] = good
	w.save()
	p = w.start("run")
	w.heartbeat()
	eventually(t, "the alarm is gone", func() bool { return !strings.Contains(w.must("status"), "midpoint-") })
	p.stop()
}

// A signal that comes while the parts are still beginning ends the program as well as any other.
func TestStopAtTheStart(t *testing.T) {
	w := newWorld(t)
	for range 12 {
		p := w.launch(func(p *process, line string) {
			if strings.Contains(line, `"msg":"started"`) {
				_ = p.Process.Signal(syscall.SIGTERM)
			}
		}, "run")
		<-p.done
		if code := p.ProcessState.ExitCode(); code != exitDone {
			t.Fatalf("exit %d, want 0\n%s", code, p.said())
		}
	}
}

// A signal in the middle of an operation does not tear it: the answer is awaited and recorded.
func TestStopFinishesWhatItBegan(t *testing.T) {
	w := newWorld(t)
	w.heartbeat()
	w.joiner("100042", "ann.example", "soc-analyst")
	p := w.start("run")
	eventually(t, "the joiner has an account", func() bool { u, ok := w.account("ann.example"); return ok && len(u.Groups) == 1 })
	w.tenant.AddFaults(tenant.Fault{Name: "slow", Method: "^PATCH$", Path: "/users/", Body: `"accountEnabled":false`, Kind: tenant.Delay, Gate: "slow", Count: 1})
	w.leaver("100042")
	if err := w.tenant.WaitHeld(t.Context(), "slow", 1); err != nil {
		t.Fatal(err)
	}
	if err := p.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it says that it stops", func() bool { return strings.Contains(p.said(), `"msg":"ending"`) })
	w.tenant.Release("slow")
	<-p.done
	if code := p.ProcessState.ExitCode(); code != exitDone {
		t.Fatalf("exit %d", code)
	}
	db := w.open()
	if u, _ := w.account("ann.example"); u.Enabled {
		t.Error("the account was not disabled")
	}
	intents, outcomes := entries[*entry.Intent](t, db), entries[*entry.Outcome](t, db)
	if len(intents) != len(outcomes) {
		t.Fatalf("%d intents, %d outcomes", len(intents), len(outcomes))
	}
	var found bool
	for i, in := range intents {
		if in.Ops[0].Op == "disable" {
			found = true
			if r := outcomes[i].Results[0].Result; r != entry.ResultApplied {
				t.Errorf("the disable's outcome is %s", r)
			}
		}
	}
	if !found {
		t.Error("no disable on the ledger")
	}
	// The rest is done by the next run.
	p = w.start("run")
	eventually(t, "sessions revoked and memberships gone", func() bool {
		u, _ := w.account("ann.example")
		return u.SessionsRevoked && len(u.Groups) == 0
	})
	p.stop()
}

// Past the hourly limit everything waits for an operator, who lets it through while it runs.
func TestGiveLimitReleased(t *testing.T) {
	w := newWorld(t)
	w.edit("policy.yaml", "give_per_hour: 100", "give_per_hour: 1")
	w.heartbeat()
	w.joiner("100042", "ann.example", "soc-analyst")
	w.joiner("100043", "bob.example", "soc-analyst")
	p := w.start("run")
	var held []shownHold
	eventually(t, "both are held", func() bool {
		if err := json.Unmarshal([]byte(w.must("holds", "list", "-o", "json")), &held); err != nil {
			t.Fatal(err)
		}
		return len(held) == 1
	})
	if held[0].Code != "give-limit" {
		t.Fatalf("held %+v", held[0])
	}
	if users := w.tenant.Snapshot().Users; len(users) > 2 { // with the protected one
		t.Errorf("%d accounts were made, past the limit of 1", len(users)-1)
	}
	w.must("holds", "release", held[0].ID, "--digest", held[0].Digest.String(), "--reason", "checked with HR")
	eventually(t, "both have accounts", func() bool {
		_, a := w.account("ann.example")
		_, b := w.account("bob.example")
		return a && b
	})
	eventually(t, "the alarm is gone", func() bool { code, _, _ := w.consumer("status", "--check"); return code == exitDone })
	p.stop()
}

// Which FIPS 140-3 module does the cryptography is said at the start, in the log and on the ledger.
func TestFIPSIsSaid(t *testing.T) {
	w := newWorld(t)
	for _, mode := range []string{"on", "off"} {
		t.Setenv("GODEBUG", "fips140="+mode)
		p := w.start("run")
		p.stop()
		db := w.open()
		list := entries[*entry.Started](t, db)
		db.Close()
		said := list[len(list)-1].FIPS
		if said.Enabled != (mode == "on") || (said.Version != "") != said.Enabled {
			t.Errorf("fips140=%s: on the ledger %+v", mode, said)
		}
		if line := fmt.Sprintf(`"fips":%v,"fips_module":%q`, said.Enabled, said.Version); !strings.Contains(p.said(), line) {
			t.Errorf("fips140=%s: the log does not say %s", mode, line)
		}
	}
}
