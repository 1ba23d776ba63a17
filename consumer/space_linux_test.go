package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"jmlbridge/consumer/auditor/verify"
	"jmlbridge/consumer/state"
	"jmlbridge/e2e/sandbox/tenant"
	"jmlbridge/internal/disk"
	"jmlbridge/internal/ledger/entry"
)

// volume is a small file system on which the enclave keeps its database, its ledger and its alarms.
type volume struct {
	t   *testing.T
	dir string
}

// onVolume makes the files of an enclave whose data lie on a volume of so many MiB.
func onVolume(t *testing.T, mib, reserve int) (*files, *volume) {
	t.Helper()
	f := newFiles(t)
	v := &volume{t, f.path("data")}
	if err := os.Mkdir(v.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", v.dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, fmt.Sprintf("size=%dm,mode=0700", mib)); err != nil {
		t.Skipf("a volume that is really full is a mount of its own, which takes the rights of root: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(v.dir, unix.MNT_DETACH); err != nil {
			t.Errorf("unmount %s: %v", v.dir, err)
		}
	})
	f.values["data"], f.values["reserve_mib"] = "data/", fmt.Sprint(reserve)
	f.save()
	return f, v
}

// fill takes everything that the volume still has, to the last block.
func (v *volume) fill() {
	v.t.Helper()
	w, err := os.OpenFile(filepath.Join(v.dir, "ballast"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		v.t.Fatal(err)
	}
	defer w.Close()
	for block := make([]byte, 64<<10); ; {
		n, err := w.Write(block)
		switch {
		case errors.Is(err, syscall.ENOSPC) && len(block) > 1:
			block = block[:len(block)/2]
		case errors.Is(err, syscall.ENOSPC):
			return
		case err != nil:
			v.t.Fatalf("wrote %d: %v", n, err)
		}
	}
}

// free gives it back.
func (v *volume) free() {
	v.t.Helper()
	if err := os.Remove(filepath.Join(v.dir, "ballast")); err != nil {
		v.t.Fatal(err)
	}
}

// disk is what status says of it, and the codes of what stands.
func (w *world) disk() (level string, codes []string) {
	w.files.t.Helper()
	var s status
	if err := json.Unmarshal([]byte(w.must("status", "-o", "json")), &s); err != nil {
		w.files.t.Fatal(err)
	}
	for _, a := range s.Alarms {
		codes = append(codes, a.Code)
	}
	return s.Disk.Level, codes
}

// verified is the auditor's word on what is published.
func (w *world) verified() {
	w.files.t.Helper()
	line, err := os.ReadFile(w.path("keys/ledger.vkey"))
	if err != nil {
		w.files.t.Fatal(err)
	}
	card, err := os.ReadFile(w.path("card.json"))
	if err != nil {
		w.files.t.Fatal(err)
	}
	producers := verify.Keys{}
	if err := producers.Add(card); err != nil {
		w.files.t.Fatal(err)
	}
	r, err := verify.Run(w.files.t.Context(), verify.Options{Dir: w.path("data/ledger"), LedgerKey: strings.TrimSpace(string(line)), Keys: producers})
	if err != nil {
		w.files.t.Fatal(err)
	}
	if !r.Verifies {
		text, _ := json.MarshalIndent(r, "", " ")
		w.files.t.Errorf("the ledger does not verify:\n%s", text)
	}
}

// The volume fills up to its last block while the consumer runs: a leaver behind joiners is cut, the joiners wait,
// and with room again all of it is applied.
func TestFullVolume(t *testing.T) {
	f, v := onVolume(t, 32, 4)
	w := f.world()
	p := w.start("run")
	w.heartbeat()
	w.joiner("100042", "ann.example", "soc-analyst")
	eventually(t, "ann has an account", func() bool { return w.enabled("ann.example") })
	if level, codes := w.disk(); level != "ample" || len(codes) > 0 {
		t.Fatalf("disk %s, alarms %q", level, codes)
	}

	v.fill()
	for i := range 20 {
		w.joiner(fmt.Sprint(200000+i), fmt.Sprintf("bob%02d.example", i), "soc-analyst")
	}
	w.leaver("100042")
	w.heartbeat()
	eventually(t, "ann is cut", func() bool {
		u, _ := w.account("ann.example")
		return !u.Enabled && u.SessionsRevoked && len(u.Groups) == 0
	})
	eventually(t, "status and the alarms file say so", func() bool {
		level, codes := w.disk()
		text, err := os.ReadFile(w.path("data/alarms.jsonl"))
		return level == "full" && slices.Contains(codes, alarmDiskFull) && err == nil && strings.Contains(string(text), alarmDiskFull)
	})
	if code, out, _ := w.consumer("status", "--check", "--severity", "critical"); code != exitCritical || !strings.Contains(out, "disk      FULL") {
		t.Errorf("exit %d:\n%s", code, out)
	}
	if _, ok := w.account("bob00.example"); ok {
		t.Error("on a full disk something was given")
	}

	v.free()
	eventually(t, "the joiners have accounts", func() bool { return w.enabled("bob00.example") && w.enabled("bob19.example") })
	eventually(t, "the alarms are over and the reserve is back", func() bool {
		level, codes := w.disk()
		info, err := os.Stat(w.path("data/consumer.db.reserve"))
		return level == "ample" && len(codes) == 0 && err == nil && info.Size() == 4<<20
	})
	if w.enabled("ann.example") {
		t.Error("ann is back")
	}
	p.stop()
	w.verified()
}

// Somebody else takes the reserve as well. Nothing can be recorded, so nothing is done; the program stays, says so,
// and goes on when there is room. A start on such a volume says what it takes.
func TestFullVolumeAndNoReserve(t *testing.T) {
	f, v := onVolume(t, 32, 2)
	w := f.world()
	p := w.start("run")
	w.heartbeat()
	w.joiner("100042", "ann.example", "soc-analyst")
	eventually(t, "ann has an account", func() bool { return w.enabled("ann.example") })
	eventually(t, "it is quiet", func() bool { return strings.Contains(p.said(), `"recorded"`) })
	v.fill()
	eventually(t, "the reserve is given up", func() bool { _, err := os.Stat(w.path("data/consumer.db.reserve")); return err != nil })
	v.fill()
	w.leaver("100042")
	w.joiner("200000", "bob.example", "soc-analyst")
	eventually(t, "it says that it cannot go on", func() bool { return strings.Contains(p.said(), `"the disk is full","reserve_given_up":false`) })
	select {
	case <-p.done:
		t.Fatalf("it ended: %v", p.err)
	default:
	}
	if _, ok := w.account("bob.example"); ok || !w.enabled("ann.example") {
		t.Error("something was done that could not be recorded")
	}
	if code, out, errs := w.consumer("status", "--check", "--severity", "critical"); code != exitCritical || !strings.Contains(out, alarmDiskFull) || !strings.Contains(out, "THE RESERVE IS USED UP") || !strings.Contains(out, spentText) {
		t.Errorf("status: exit %d\n%s%s", code, out, errs)
	}
	v.free()
	eventually(t, "ann is cut", func() bool { return !w.enabled("ann.example") })
	eventually(t, "bob has an account", func() bool { return w.enabled("bob.example") })
	p.stop()
	w.verified()

	// A start with nothing but the reserve cuts; one without it says what is wrong.
	v.fill()
	w.leaver("200000")
	p = w.start("run")
	eventually(t, "bob is cut", func() bool { return !w.enabled("bob.example") })
	p.stop()
	v.fill()
	p = f.launch(nil, "run")
	select {
	case <-p.done:
	case <-time.After(patience):
		t.Fatal("a start on a full volume without a reserve goes on")
	}
	if code := p.ProcessState.ExitCode(); code != exitFailed || !strings.Contains(p.said(), "make room") {
		t.Errorf("exit %d\n%s", code, p.said())
	}
	v.free()
	p = w.start("run")
	p.stop()
	w.verified()
	if _, err := disk.Free(v.dir); err != nil {
		t.Error(err)
	}
	db := w.open()
	if open, err := state.OpenIntents(db.Read()); err != nil || len(open) > 0 {
		t.Errorf("%d intents without an outcome, %v", len(open), err)
	}
}

// The volume fills up between an act and its record: the act is answered for as after a crash, without one.
func TestFullVolumeAtTheRecord(t *testing.T) {
	f, v := onVolume(t, 32, 2)
	w := f.world()
	p := w.start("run")
	w.heartbeat()
	w.joiner("100042", "ann.example", "soc-analyst")
	eventually(t, "ann has an account", func() bool { return w.enabled("ann.example") })
	if _, err := w.tenant.AddFaults(tenant.Fault{Name: "slow", Method: "PATCH", Kind: tenant.Delay, Gate: "disable", Applied: true}); err != nil {
		t.Fatal(err)
	}
	w.leaver("100042")
	if err := w.tenant.WaitHeld(t.Context(), "disable", 1); err != nil {
		t.Fatal(err)
	}
	v.fill()
	eventually(t, "the reserve is given up", func() bool { _, err := os.Stat(w.path("data/consumer.db.reserve")); return err != nil })
	v.fill()
	w.tenant.RemoveFault("slow")
	w.tenant.Release("disable")
	eventually(t, "the outcome cannot be recorded", func() bool { return strings.Contains(p.said(), "what is done cannot be recorded") })
	v.free()
	eventually(t, "the leaver is out", func() bool {
		u, _ := w.account("ann.example")
		return !u.Enabled && u.SessionsRevoked && len(u.Groups) == 0
	})
	p.stop()
	w.verified()
	db := w.open()
	interrupted := 0
	for _, o := range entries[*entry.Outcome](t, db) {
		for _, r := range o.Results {
			if r.Result == entry.ResultInterrupted {
				interrupted++
			}
		}
	}
	if open, err := state.OpenIntents(db.Read()); err != nil || len(open) > 0 || interrupted != 1 {
		t.Errorf("%d intents without an outcome and %d interrupted, want 0 and 1; %v", len(open), interrupted, err)
	}
}
