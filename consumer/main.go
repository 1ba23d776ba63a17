// Program consumer is the enclave's side of the bridge: it pulls signed facts about people out of a
// mid-point that it does not trust, and brings the enclave's own tenant into agreement with them by
// the enclave's own policy.
//
// This package only puts the parts together: the configuration, the commands for operators and the
// order of starting and stopping. The rules are in the folders below it (intake, admit, fence, policy,
// plan, apply), which know nothing of each other's adapters; what they remember is in state. It trusts
// its configuration, its database and whoever may run it, and nothing that it pulls. It only dials
// out: it never listens.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)                        // a second signal ends the process at once
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr) // see exitCode
	stop()
	os.Exit(code)
}
