// Program producer is the commercial side of the bridge: it turns what HR knows of people into signed,
// chained and encrypted facts, keeps them until the mid-point has them, and keeps a ledger of what it
// said.
//
// This package only puts the parts together: the configuration, the commands and the order of starting
// and stopping. The data path is in the folders below it: source reads an export, scope says who
// crosses, register compares with what was said before, announce plans and carries out, outbox numbers,
// seals, stores and relays; midpoint is a queue server for those who have none. It trusts its
// configuration, its database and whoever may run it, and nothing that the mid-point says.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr) // see exitCode
	stop()
	os.Exit(code)
}
