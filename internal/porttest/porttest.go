// Package porttest gives servers of tests and rehearsals a port of this machine that they can come back to.
//
// Of the ports from which the kernel lends one to every connection that goes out, anybody may get the one that a server has left
// for a moment or does not have yet: even the client that knocks there. So these lie below that range.
package porttest

import (
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
)

// The range, below every system's own: Linux lends from 32768 up, others from 49152.
const (
	lowest = 10000
	many   = 20000
	tries  = 200
)

// Who asks for a port keeps the UDP port of the same number until the process ends. Nobody else who asks here, in any process
// of this machine, is given the same one meanwhile, also while nobody listens on it.
var kept struct {
	sync.Mutex
	ports []net.PacketConn
}

// Free is an address of 127.0.0.1 on which nobody listens now. It knocks, and does not listen there to find out: a program that this
// process is just starting would hold that socket, until it runs, even when it is closed here.
func Free() (*net.TCPAddr, error) {
	for range tries {
		addr := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: lowest + rand.IntN(many)}
		ours, err := net.ListenPacket("udp4", addr.String())
		if err != nil {
			continue
		}
		if c, err := net.DialTCP("tcp4", nil, addr); err == nil {
			c.Close()
			ours.Close()
			continue
		}
		kept.Lock()
		kept.ports = append(kept.ports, ours)
		kept.Unlock()
		return addr, nil
	}
	return nil, fmt.Errorf("of %d ports from %d to %d none is free", tries, lowest, lowest+many-1)
}
