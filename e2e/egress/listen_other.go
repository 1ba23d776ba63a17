//go:build !linux

package main

import (
	"context"
	"net"
)

// listenOn listens at an address. Elsewhere than on Linux it cannot be bound to an interface.
func listenOn(ctx context.Context, address string) (net.Listener, error) {
	return new(net.ListenConfig).Listen(ctx, "tcp", address)
}
