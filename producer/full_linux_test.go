package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// On a disk without any room every command says so, and a leaver that was not stored is not taken for one that was.
func TestFullDisk(t *testing.T) {
	p := newPlace(t)
	data := filepath.Join(p.dir, "data")
	if err := os.Mkdir(data, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", data, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "size=4m,mode=0700"); err != nil {
		t.Skipf("a volume that is really full is a mount of its own, which takes the rights of root: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(data, unix.MNT_DETACH); err != nil {
			t.Errorf("unmount %s: %v", data, err)
		}
	})
	p.must(t, "init")
	p.must(t, "import", p.write(t, "export.csv", people))
	w, err := os.Create(filepath.Join(data, "ballast"))
	if err != nil {
		t.Fatal(err)
	}
	for block := make([]byte, 64<<10); ; {
		if _, err := w.Write(block); errors.Is(err, syscall.ENOSPC) && len(block) > 1 {
			block = block[:len(block)/2]
		} else if err != nil {
			break
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	full := fmt.Sprintf("The disk is full, or a quota: make room on the volume of %s,", filepath.Join(data, "producer.db"))
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"emit", "leaver", "1"}, "this leaver of subject 1 was NOT stored"},
		{[]string{"emit", "suspend", "1"}, "have their operators cut by hand now (consumer cut 1 "},
		{[]string{"status"}, full},
		{[]string{"backup", filepath.Join(p.dir, "copy.db"), "--reason", "x"}, full},
		{[]string{"import", p.write(t, "export.csv", "id,name,dept,status\n1,A,sec,i\n")}, full},
	} {
		if code, _, errs := p.try("", c.args...); code != exitFailed || !strings.Contains(errs, c.want) || !strings.Contains(errs, full) {
			t.Errorf("%v: want exit code 1, %q and what to do, got %d %s", c.args, c.want, code, errs)
		}
	}
	if err := os.Remove(filepath.Join(data, "ballast")); err != nil {
		t.Fatal(err)
	}
	p.must(t, "emit", "leaver", "1")
}
