package porttest

import (
	"net"
	"testing"
)

// Somebody can listen where Free says, and it says so to nobody twice, whether somebody listens there or not.
func TestFree(t *testing.T) {
	seen := map[int]bool{}
	for range 500 {
		addr, err := Free()
		if err != nil {
			t.Fatal(err)
		}
		if !addr.IP.IsLoopback() || addr.Port < lowest || addr.Port >= lowest+many {
			t.Errorf("free is %v", addr)
		}
		if seen[addr.Port] {
			t.Fatalf("%v is given twice", addr)
		}
		seen[addr.Port] = true
		l, err := net.Listen("tcp4", addr.String())
		if err != nil {
			t.Fatal(err)
		}
		l.Close()
	}
}
