package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// listenOn listens at an address of this machine and on the interface that has it. Bound to the address
// alone, Linux would take a connection to it from any interface: whoever is outside could come in by
// sending to the inner address.
func listenOn(ctx context.Context, address string) (net.Listener, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	device, err := deviceOf(net.ParseIP(host))
	if err != nil {
		return nil, fmt.Errorf("-listen %s: %w", address, err)
	}
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var bound error
		err := c.Control(func(fd uintptr) { bound = unix.BindToDevice(int(fd), device) })
		return errors.Join(err, bound)
	}}
	return lc.Listen(ctx, "tcp", address)
}

// deviceOf is the interface that has an address.
func deviceOf(ip net.IP) (string, error) {
	if ip == nil {
		return "", errors.New("want an IP address of this machine")
	}
	list, err := net.Interfaces()
	if err != nil {
		return "", err
	}
	for _, i := range list {
		addrs, err := i.Addrs()
		if err != nil {
			return "", err
		}
		for _, a := range addrs {
			if n, ok := a.(*net.IPNet); ok && n.IP.Equal(ip) {
				return i.Name, nil
			}
		}
	}
	return "", errors.New("no interface of this machine has that address")
}
