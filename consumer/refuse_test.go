package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"jmlbridge/consumer/state"
	"jmlbridge/e2e/sandbox/tenant"
	"jmlbridge/internal/doctor"
	"jmlbridge/internal/ledger"
	"jmlbridge/internal/ledger/entry"
	"jmlbridge/internal/store"
	"jmlbridge/schema"
)

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
		{"secret readable by others", func(f *files) { f.chmod("keys/cut.secret", 0o640) }, []string{"consumer.yaml:15:", "cut.secret"}},
		{"credential of the queue missing", func(f *files) { f.remove("keys/midpoint.nk") }, []string{"consumer.yaml:", "midpoint.nk"}},
		{"queue without TLS", func(f *files) { f.edit("consumer.yaml", "tls://", "nats://") }, []string{"consumer.yaml:", "only tls://"}},
		{"CA is no certificate", func(f *files) { f.write("keys/tenant-ca.pem", "nothing", 0o644) }, []string{"consumer.yaml:17:", "tenant-ca.pem"}},
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
			if found, ok := f.examined(); ok && !strings.Contains(c.name, "queue") { // of which the look at the mid-point tells
				text := fmt.Sprint(found)
				for _, s := range c.say {
					if !doctor.Failed(found) || !strings.Contains(text, s) {
						t.Errorf("doctor does not say %q: %v", s, found)
					}
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

// The folder of the checkpoint's copy may be where a volume is to be mounted: it is missed, and made by nobody.
func TestDoctorMissesTheVolumeOfTheCopy(t *testing.T) {
	f := newFiles(t)
	f.init()
	says := func() bool {
		list, _ := f.examined()
		return slices.ContainsFunc(list, func(x doctor.Finding) bool {
			return x.Name == "checkpoint copy" && x.Verdict == doctor.Bad && strings.Contains(x.Text, "is the volume mounted?")
		})
	}
	if says() {
		t.Error("the folder is there, and it is said to be missing")
	}
	f.remove("copy")
	if !says() {
		t.Error("the folder is missing, and nothing says so")
	}
	if _, err := os.Lstat(f.path("copy")); err == nil {
		t.Error("it was made")
	}
}

// examined is what doctor finds in files; false where the configuration is refused before.
func (f *files) examined() ([]doctor.Finding, bool) {
	cfg, err := loadConfig(f.config)
	if err != nil {
		return nil, false
	}
	a := &app{out: io.Discard, err: io.Discard, now: f.clock}
	return a.examineFiles(f.t.Context(), cfg), true
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
	if code != exitCritical || !strings.Contains(out, "A START WOULD BE REFUSED") || !strings.Contains(out, alarmOldCopy) || strings.Contains(out, "run recover") {
		t.Errorf("status: exit %d\n%s", code, out)
	}
	if strings.Contains(out, "start `consumer run`") || !strings.Contains(out, "no leaver is cut") {
		t.Errorf("status asks to start what would be refused, or does not say that nobody runs:\n%s", out)
	}
	if found, _ := w.examined(); !doctor.Failed(found) || !strings.Contains(fmt.Sprint(found), "older copy") {
		t.Errorf("doctor: %v", found)
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

// A database that published starts only where something of that is found: one that was put back elsewhere, with places in its
// configuration where nothing is, may be an old copy.
func TestDatabaseElsewhere(t *testing.T) {
	w := newWorld(t)
	w.heartbeat()
	p := w.start("run")
	eventually(t, "something is published", func() bool { _, err := os.Stat(w.path("copy/checkpoint")); return err == nil })
	p.stop()
	if err := os.Mkdir(w.path("elsewhere"), 0o750); err != nil {
		t.Fatal(err)
	}
	w.edit("consumer.yaml", "{dir: ledger,", "{dir: elsewhere/ledger,")
	w.edit("consumer.yaml", "copy/checkpoint", "elsewhere/checkpoint")
	for _, args := range [][]string{{"run"}, {"run", "--observe"}, {"cut", "100001", "--reason", "x", "--unknown"}} {
		code, _, errs := w.consumer(args...)
		if code != exitMisused || !strings.Contains(errs, "published to "+w.path("ledger")) {
			t.Errorf("%v: exit %d, %s", args, code, errs)
		}
	}
	code, out, _ := w.consumer("status", "--check", "--severity", "critical")
	if code != exitCritical || !strings.Contains(out, "A START WOULD BE REFUSED") || strings.Contains(out, "the first one is written") {
		t.Errorf("status: exit %d\n%s", code, out)
	}
	w.must("plan", "--all") // it may be looked at
	for from, to := range map[string]string{"ledger": "elsewhere/ledger", "copy/checkpoint": "elsewhere/checkpoint"} {
		if err := os.Rename(w.path(from), w.path(to)); err != nil {
			t.Fatal(err)
		}
	}
	w.must("clock", "confirm", "--reason", "moved with what it published")
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

// So is the series: another one is for recover, which begins in new places.
func TestSeriesNeverChanges(t *testing.T) {
	w := newWorld(t)
	p := w.start("run")
	eventually(t, "something is published", func() bool { _, err := os.Stat(w.path("copy/checkpoint")); return err == nil })
	p.stop()
	w.edit("consumer.yaml", "{dir: ledger,", "{series: 2, dir: ledger,")
	for _, args := range [][]string{{"run"}, {"clock", "confirm", "--reason", "x"}} {
		code, _, errs := w.consumer(args...)
		if code != exitMisused || !strings.Contains(errs, "ledger.series") || !strings.Contains(errs, "want 1, ") || !strings.Contains(errs, "recover") {
			t.Errorf("%v: exit %d, %s", args, code, errs)
		}
	}
}

// A report that cannot be written is not the enclave's own disk: nobody is told to disable leavers by hand.
func TestAReportThatCannotBeWritten(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skipf("there is no output that is always full: %v", err)
	}
	defer full.Close()
	w := newWorld(t)
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	var errs strings.Builder
	cmd := exec.Command(exe, "-c", w.config, "status")
	cmd.Env, cmd.Stdout, cmd.Stderr = append(os.Environ(), asProgram+"=1"), full, &errs
	if err := cmd.Run(); cmd.ProcessState.ExitCode() != exitFailed {
		t.Errorf("exit %d, %v", cmd.ProcessState.ExitCode(), err)
	}
	if text := errs.String(); !strings.Contains(text, "no space left") || strings.Contains(text, "leavers") {
		t.Errorf("said: %s", text)
	}
}

// The attribute with the ownership marks never changes: by another one nobody's account would be known, and nobody cut.
func TestAnotherMarkAttributeIsRefused(t *testing.T) {
	w := newWorld(t)
	w.heartbeat()
	w.start("run").stop()
	w.edit("consumer.yaml", "tenant:\n", "tenant:\n  mark_attribute: extensionAttribute14\n")
	for _, args := range [][]string{{"run"}, {"doctor"}} {
		code, out, errs := w.consumer(args...)
		if said := out + errs; code == exitDone || !strings.Contains(said, "tenant.mark_attribute") || !strings.Contains(said, "Put extensionAttribute15 back") {
			t.Errorf("%v: exit %d, %s", args, code, said)
		}
	}
}
