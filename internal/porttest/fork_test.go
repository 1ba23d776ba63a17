package porttest

import (
	"net"
	"os"
	"os/exec"
	"sync"
	"testing"
)

// A program that is being started holds, until it runs, whatever its parent had open. No port that is given here is held by one.
func TestFreeBesideStarts(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	var starts sync.WaitGroup
	defer starts.Wait()
	done := make(chan struct{})
	defer close(done)
	for range 4 {
		starts.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				if err := exec.Command(self, "-test.run=^$").Run(); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for range 2000 {
		addr, err := Free()
		if err != nil {
			t.Fatal(err)
		}
		l, err := net.Listen("tcp4", addr.String())
		if err != nil {
			t.Fatal(err)
		}
		l.Close()
	}
}
