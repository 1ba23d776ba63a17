package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"syscall"

	"github.com/rogpeppe/go-internal/testscript"

	"jmlbridge/e2e/stage"
	"jmlbridge/producer/outbox"
)

// bus is what the owner of a Service Bus mid-point does, or waits for.
func (s *story) bus(ts *testscript.TestScript, args []string) error {
	b := s.b.Bus
	if b == nil {
		return fmt.Errorf("this bridge has another mid-point: bridge queue=servicebus")
	}
	ctx, cancel := context.WithTimeout(s.ctx, patience)
	defer cancel()
	holds := func(what string, ok func(stage.BusCounts) bool) error {
		return stage.Until(ctx, what, func() (bool, error) {
			c, err := b.Counts(ctx)
			return err == nil && ok(c), err
		})
	}
	switch args[0] {
	case "outage":
		return b.Outage(ctx, args[1])
	case "reset":
		return b.Reset(ctx)
	case "fault":
		return b.Fault(ctx, ts.ReadFile(args[1]))
	case "mend":
		return b.Mend(ctx)
	case "poison":
		return b.Poison(ctx, args[1:]...)
	case "dead":
		return holds("dead letters", func(c stage.BusCounts) bool { return c.Dead > 0 && c.Active+c.Locked == 0 })
	case "empty":
		return holds("an empty queue", func(c stage.BusCounts) bool { return c.Dead+c.Active+c.Locked == 0 && c.Sent > 0 })
	}
	return fmt.Errorf("bus knows no %s", args[0])
}

// sent waits until the mid-point has confirmed everything that the producer has said.
func (s *story) sent(*testscript.TestScript, []string) error {
	return s.status("an empty outbox", func(e outbox.Status) bool { return e.Waiting == 0 })
}

// replaced waits until the producer's status says that the process by which it speaks to the mid-point was.
func (s *story) replaced(*testscript.TestScript, []string) error {
	return s.status("a replaced process in the status", func(e outbox.Status) bool { return e.Replaced != nil })
}

// status waits for what the producer's status has to say of its enclave.
func (s *story) status(what string, holds func(outbox.Status) bool) error {
	ctx, cancel := context.WithTimeout(s.ctx, patience)
	defer cancel()
	return stage.Until(ctx, what, func() (bool, error) {
		r, err := s.b.ProducerDo(ctx, "status", "-o", "json")
		if err != nil {
			return false, err
		}
		var status struct {
			Enclaves []outbox.Status `json:"enclaves"`
		}
		if err := json.Unmarshal([]byte(r.Stdout), &status); err != nil {
			return false, err
		}
		return len(status.Enclaves) == 1 && holds(status.Enclaves[0]), nil
	})
}

// child kills the process by which a program speaks to its mid-point.
func (s *story) child(_ *testscript.TestScript, args []string) error {
	p, err := s.process(args[0])
	if err != nil {
		return err
	}
	family := stage.Family(p.PID())
	if len(family) != 2 {
		return fmt.Errorf("%s and its children are %v; expected one child", args[0], family)
	}
	return syscall.Kill(family[1], syscall.SIGKILL)
}
