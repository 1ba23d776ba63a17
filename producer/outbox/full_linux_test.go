package outbox

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// On a full disk what waits goes on, a leaver perhaps, since sending needs no room; it is marked when there is some again, and not
// published twice meanwhile.
func TestAFullDiskHoldsUpNothingThatWaits(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "size=4m,mode=0700"); err != nil {
		t.Skipf("a volume that is really full is a mount of its own, which takes the rights of root: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Errorf("unmount %s: %v", dir, err)
		}
	})
	b := setupIn(t, dir)
	b.joins(t, gov1, "1", "2", "3")
	ballast := filepath.Join(dir, "ballast")
	f, err := os.Create(ballast)
	if err != nil {
		t.Fatal(err)
	}
	for block := make([]byte, 64<<10); ; {
		if _, err := f.Write(block); errors.Is(err, syscall.ENOSPC) && len(block) > 1 {
			block = block[:len(block)/2]
		} else if err != nil {
			break
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	unmarked := func() (n int) {
		t.Helper()
		if err := b.db.Read().QueryRow("SELECT COUNT(*) FROM outbox WHERE sent IS NULL").Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	m := &midpoint{}
	r := b.relay(t, gov1, m)
	for range 3 {
		if _, err := r.step(ctx); err != nil {
			t.Fatalf("the relay ends on a full disk: %v", err)
		}
	}
	if n := len(m.messages()); n != 3 || unmarked() != 3 || len(r.owed) != 3 {
		t.Fatalf("%d published, %d not marked, %d owed", n, unmarked(), len(r.owed))
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	b.leave(t, gov1, "2")
	r.tried = time.Time{}
	for range 3 {
		if _, err := r.step(ctx); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(m.messages()); n != 4 || unmarked() != 0 || len(r.owed) != 0 {
		t.Errorf("with room again: %d published, %d not marked, %d owed", n, unmarked(), len(r.owed))
	}
}
