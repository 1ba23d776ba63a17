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
	"jmlbridge/internal/ledger"
	"jmlbridge/internal/ledger/entry"
	"jmlbridge/internal/store"
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
	code, _, errs := w.consumer("cut", "100099", "--unknown", "--reason", "x")
	if code != exitFailed || !strings.Contains(errs, "only observes") {
		t.Errorf("cut: exit %d, %s", code, errs)
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
	via := newProxy(t, "enclave", "s3cret")
	w.values["proxy"], w.values["proxy_credentials"] = "http://"+via.Addr().String(), "keys/proxy.secret"
	w.write("keys/proxy.secret", "enclave:s3cret\n", 0o600)
	w.save()
	w.heartbeat()
	w.joiner("100042", "ann.example", "soc-analyst")
	p := w.start("run")
	eventually(t, "the joiner has an account", func() bool { _, ok := w.account("ann.example"); return ok })

	asked := via.asked()
	for _, want := range []string{w.mid.Addr(), strings.TrimPrefix(strings.TrimSuffix(w.tenant.Endpoints().Authority, "/"), "https://")} {
		if !slices.Contains(asked, want) {
			t.Errorf("the proxy was never asked for %s, only for %v", want, asked)
		}
	}
	_, port, err := net.SplitHostPort(via.Addr().String())
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
		if err != nil {
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
	var l liveness
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

// A policy that the tenant contradicts stops the start; a tenant that is away does not.
func TestPolicyGroups(t *testing.T) {
	w := newWorld(t, tenant.SeedGroup{ID: soc, DisplayName: "SOC"}, tenant.SeedGroup{ID: "aaaaaaaa-0000-0000-0000-00000000000d", DisplayName: "All", Dynamic: true})
	for _, c := range []struct{ id, say string }{
		{"aaaaaaaa-0000-0000-0000-0000000000ff", "the tenant has no group"},
		{"aaaaaaaa-0000-0000-0000-00000000000d", "is dynamic"},
	} {
		w.write("policy.yaml", strings.Replace(policyText, soc, c.id, 1), 0o600)
		before := len(entries[*entry.Started](t, w.open()))
		code, _, errs := w.consumer("run")
		if code != exitMisused || !strings.Contains(errs, c.say) || !strings.Contains(errs, "policy.yaml:7:") {
			t.Errorf("exit %d, %s; want 2 and policy.yaml:7: … %s", code, errs, c.say)
		}
		if after := len(entries[*entry.Started](t, w.open())); after != before {
			t.Error("it began to work")
		}
	}
	w.write("policy.yaml", policyText, 0o600)
	w.tenant.SetOutage(tenant.Refused)
	p := w.start("run")
	eventually(t, "the alarm stands", func() bool { return strings.Contains(w.must("status"), "policy-unchecked") })
	p.stop()
	w.tenant.SetOutage(tenant.NoOutage)
	p = w.start("run")
	eventually(t, "the alarm is gone", func() bool { return !strings.Contains(w.must("status"), "policy-unchecked") })
	p.stop()
	w.edit("policy.yaml", "grace: 30d", "grace: 31d")
	p = w.start("run")
	p.stop()
	pol := entries[*entry.Policy](t, w.open())
	if len(pol) != 2 || pol[1].Previous == nil || *pol[1].Previous != pol[0].Digest {
		t.Errorf("policy entries %+v", pol)
	}
}

// What is wrong with a file stops run before anything is done.
func TestRunRefuses(t *testing.T) {
	for _, c := range []struct {
		name string
		bad  func(f *files)
		say  []string
	}{
		{"key readable by others", func(f *files) { f.chmod("keys/decryption.pem", 0o644) }, []string{"consumer.yaml:4:", "decryption.pem"}},
		{"ledger key missing", func(f *files) { f.remove("keys/ledger.pem") }, []string{"consumer.yaml:3:", "ledger.pem"}},
		{"key of another kind", func(f *files) { f.copy("keys/ledger.pem", "keys/decryption.pem") }, []string{"consumer.yaml:4:"}},
		{"secret readable by others", func(f *files) { f.chmod("keys/cut.secret", 0o640) }, []string{"consumer.yaml:14:", "cut.secret"}},
		{"credential of the queue missing", func(f *files) { f.remove("keys/midpoint.nk") }, []string{"consumer.yaml:", "midpoint.nk"}},
		{"queue without TLS", func(f *files) { f.edit("consumer.yaml", "tls://", "nats://") }, []string{"consumer.yaml:", "only tls://"}},
		{"CA is no certificate", func(f *files) { f.write("keys/tenant-ca.pem", "nothing", 0o644) }, []string{"consumer.yaml:16:", "tenant-ca.pem"}},
		{"no policy", func(f *files) { f.remove("policy.yaml") }, []string{"policy.yaml"}},
		{"policy with an unknown key", func(f *files) { f.edit("policy.yaml", "grace:", "grase:") }, []string{"policy.yaml:4:", "grase"}},
		{"policy with a role outside", func(f *files) { f.edit("policy.yaml", "[soc-analysts]", "[admins]") }, []string{"policy.yaml:9:", "admins"}},
		{"config that everyone may write", func(f *files) { f.chmod("consumer.yaml", 0o666) }, []string{"consumer.yaml", "chmod"}},
		{"database missing", func(f *files) { f.remove("consumer.db") }, []string{"consumer.db"}},
		{"database of another program", func(f *files) { f.write("consumer.db", strings.Repeat("x", 8192), 0o600) }, []string{"consumer.db"}},
		{"database readable by the world", func(f *files) { f.chmod("consumer.db", 0o644) }, []string{"consumer.db", "chmod"}},
		{"database of a newer version", func(f *files) { f.newer() }, []string{"consumer.db", "newer"}},
		{"database of another enclave", func(f *files) { f.edit("consumer.yaml", "urn:jmlbridge:enclave:gov-1", "urn:jmlbridge:enclave:gov-2") }, []string{"gov-1", "gov-2"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFiles(t)
			f.init()
			c.bad(f)
			missing := strings.Contains(c.name, "missing")
			code, _, errs := f.consumer("run")
			if code != exitMisused {
				t.Errorf("exit %d, want 2: %s", code, errs)
			}
			for _, s := range c.say {
				if !strings.Contains(errs, s) {
					t.Errorf("it does not say %q: %s", s, errs)
				}
			}
			for _, made := range []string{"alarms.jsonl", "alive.json", "ledger/tiles"} {
				if _, err := os.Lstat(f.path(made)); err == nil {
					t.Errorf("%s was made", made)
				}
			}
			if _, err := os.Lstat(f.path("consumer.db")); missing && strings.HasPrefix(c.name, "database") && err == nil {
				t.Error("the database was made")
			}
		})
	}
}

func (f *files) chmod(name string, mode os.FileMode) {
	f.t.Helper()
	if err := os.Chmod(f.path(name), mode); err != nil {
		f.t.Fatal(err)
	}
}

func (f *files) remove(name string) {
	f.t.Helper()
	if err := os.Remove(f.path(name)); err != nil {
		f.t.Fatal(err)
	}
}

func (f *files) copy(from, to string) {
	f.t.Helper()
	text, err := os.ReadFile(f.path(from))
	if err != nil {
		f.t.Fatal(err)
	}
	f.write(to, string(text), 0o600)
}

// newer makes the database one of a version that this program does not know.
func (f *files) newer() {
	f.t.Helper()
	f.remove("consumer.db")
	s := state.Schema()
	s.Version = 99
	s.DDL += "INSERT INTO meta (key, value) VALUES ('enclave', '" + gov1 + "'), ('id', 'x');"
	if err := store.Create(f.path("consumer.db"), s); err != nil {
		f.t.Fatal(err)
	}
}

// An old copy of the database is put back after more was published: it must not run.
func TestOldDatabase(t *testing.T) {
	w := newWorld(t)
	old, err := os.ReadFile(w.path("consumer.db")) // no runner, and every command closes it
	if err != nil {
		t.Fatal(err)
	}
	w.heartbeat()
	p := w.start("run")
	eventually(t, "something is published", func() bool { _, err := os.Stat(w.path("copy/checkpoint")); return err == nil })
	p.stop()
	for _, name := range []string{"consumer.db-wal", "consumer.db-shm"} {
		_ = os.Remove(w.path(name))
	}
	w.write("consumer.db", string(old), 0o600)
	code, _, errs := w.consumer("run")
	if code != exitMisused || !strings.Contains(errs, "older copy") {
		t.Errorf("exit %d, %s", code, errs)
	}
	// Whatever would be written is forgotten with the copy: every command that writes refuses too.
	for _, args := range [][]string{
		{"cut", "100001", "--reason", "x", "--unknown"}, {"unlock", "100001", "--reason", "x"}, {"clock", "confirm", "--reason", "x"},
		{"holds", "release", "1", "--digest", schema.DigestOf(nil).String(), "--reason", "x"}, {"holds", "discard", "1", "--digest", schema.DigestOf(nil).String(), "--reason", "x"},
		{"trust", "add", w.path("card.json"), "--reason", "x"}, {"trust", "generation", w.path("card.json"), "--reason", "x"},
		{"trust", "retire", "KEY", "--at-seq", "0", "--reason", "x"}, {"init", "key", w.path("keys/next.pem")},
	} {
		code, _, errs := w.consumer(args...)
		if code != exitMisused || !strings.Contains(errs, "older copy") || !strings.Contains(errs, "nothing was done") || strings.Contains(errs, "recover") {
			t.Errorf("%v: exit %d, %s", args, code, errs)
		}
		if by := strings.Contains(errs, "nothing was cut: disable the account by hand"); by != (args[0] == "cut") {
			t.Errorf("%v: %s", args, errs)
		}
	}
	if _, err := os.Stat(w.path("keys/next.pem")); err == nil {
		t.Error("a key was made beside an old copy")
	}
	code, out, _ := w.consumer("status", "--check", "--severity", "critical")
	if code != exitSeverity || !strings.Contains(out, "A START WOULD BE REFUSED") || !strings.Contains(out, alarmOldCopy) || strings.Contains(out, "run recover") {
		t.Errorf("status: exit %d\n%s", code, out)
	}
	if n := len(entries[*entry.Operator](t, w.open())); n != 0 {
		t.Errorf("%d acts on an old copy", n)
	}
	// Also when the folder of the ledger went back with it: the copy on the other volume is ahead.
	if err := os.RemoveAll(w.path("ledger")); err != nil {
		t.Fatal(err)
	}
	if code, _, errs = w.consumer("run"); code != exitMisused || !strings.Contains(errs, filepath.Join("copy", "checkpoint")) {
		t.Errorf("without the folder: exit %d, %s", code, errs)
	}
}

// Beside a consumer that publishes all the time no command takes the database for an old copy.
func TestNoFalseRefusal(t *testing.T) {
	w := newWorld(t)
	w.start("run")
	db := w.open()
	from, err := ledger.Size(db.DB)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < 25 || w.grown(db) < from+100; i++ {
		for range 5 {
			w.heartbeat()
		}
		w.must("clock", "confirm", "--reason", "x")
		var s status
		if err := json.Unmarshal([]byte(w.must("status", "-o", "json")), &s); err != nil || s.Refused != "" {
			t.Fatalf("status: %v, %s", err, s.Refused)
		}
	}
}

func (f *files) grown(db *state.DB) int64 {
	f.t.Helper()
	size, err := ledger.Size(db.DB)
	if err != nil {
		f.t.Fatal(err)
	}
	return size
}

// A protected name with a slip of the pen protects nobody: it is refused before anything is done.
func TestProtectedMustExist(t *testing.T) {
	w := newWorld(t)
	w.edit("policy.yaml", "breakglass@rehearsal.example", "BreakGlass@rehearsal.example, brakeglass@rehearsal.example")
	code, _, errs := w.consumer("run")
	if code != exitMisused || !strings.Contains(errs, "policy.yaml:10") || !strings.Contains(errs, "brakeglass") || strings.Contains(errs, "BreakGlass") {
		t.Errorf("exit %d, %s", code, errs)
	}
	if s := entries[*entry.Started](t, w.open()); len(s) != 1 {
		t.Errorf("%d starts on the ledger, want that of init", len(s))
	}
}

// The name is part of the ledger's: another one is refused by name, not by a signature.
func TestNameNeverChanges(t *testing.T) {
	f := newFiles(t)
	f.init()
	f.edit("consumer.yaml", "name: GOV-1", "name: GOV-2")
	for _, args := range [][]string{{"run"}, {"clock", "confirm", "--reason", "x"}} {
		code, _, errs := f.consumer(args...)
		if code != exitMisused || !strings.Contains(errs, "consumer.yaml:1") || !strings.Contains(errs, "the name never changes") || !strings.Contains(errs, "GOV-1") {
			t.Errorf("%v: exit %d, %s", args, code, errs)
		}
	}
	if _, out, _ := f.consumer("status"); !strings.Contains(out, "the name never changes") {
		t.Errorf("status:\n%s", out)
	}
}

// A clock that is behind the ledger is recorded and raised; cuts go on.
func TestClockBehindLedger(t *testing.T) {
	f := newFiles(t)
	f.clock = func() time.Time { return time.Now().Add(2 * time.Hour) }
	f.init()
	f.clock = time.Now
	p := f.start("run")
	defer p.stop()
	db := f.open()
	eventually(t, "the alarm stands", func() bool { return strings.Contains(f.must("status"), "critical  clock") })
	if c := entries[*entry.Clock](t, db); len(c) != 1 || c[0].Against != entry.AgainstLedger || c[0].Offset > -time.Hour.Milliseconds() {
		t.Errorf("clock entries %+v", c)
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
