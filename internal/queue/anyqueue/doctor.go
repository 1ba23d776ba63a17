package anyqueue

import (
	"context"
	"log/slog"
	"os"
	"slices"

	"jmlbridge/internal/cloud"
	"jmlbridge/internal/confine"
	"jmlbridge/internal/doctor"
	"jmlbridge/internal/queue/busqueue"
	"jmlbridge/internal/queue/childqueue"
	"jmlbridge/internal/queue/natsqueue"
)

// Examine looks at the way to the mid-point and at the credential for it, of a receiver or of a publisher. It does not
// touch what is in the queue. It looks from a child process, whatever the mid-point: an answer that ends the child is a finding
// like others, and a wall that keeps the child from a file or a name shows here as it would in a run.
func Examine(ctx context.Context, c Config, receives bool) []doctor.Finding {
	if err := c.Check(); err != nil {
		return []doctor.Finding{{Name: "settings", Verdict: doctor.Bad, Text: err.Error(), Do: "correct the block under queue"}}
	}
	cmd, err := c.command(Options{Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return []doctor.Finding{{Name: "process", Verdict: doctor.Bad, Text: err.Error()}}
	}
	list, err := childqueue.Examine(ctx, cmd, receives)
	if err != nil {
		f := doctor.Finding{Name: "process", Verdict: doctor.Bad, Text: err.Error(),
			Do: "find out who answers there: no answer of a sound mid-point ends the process. In a run it is replaced again and again, and little or nothing gets through"}
		if n := len(list); n > 0 {
			f.Text = "behind " + list[n-1].Name + ": " + f.Text
		}
		list = append(list, f)
	}
	return list
}

// Holding is the identity by which the mid-point is reached, under its name in the program; false: it is none, but a key or a
// connection string.
func (c Config) Holding(name string) (cloud.Holding, bool) {
	b := c.ServiceBus
	if b == nil || b.Credential == (cloud.CredentialConfig{}) {
		return cloud.Holding{}, false
	}
	h := cloud.Holding{Name: name, For: cloud.OfMidpoint, Credential: b.Credential}
	h.Credential.Development = h.Credential.Development || b.Development
	return h, true
}

// Exposed says that a process of its own speaks to the mid-point, which could get at the identities of this machine: where the kernel
// does not keep it to its ports, or the endpoint that gives them has one of those.
func (c Config) Exposed() bool {
	return c.inChild() && (!confine.Able().Ports || slices.Contains(c.ports(os.Environ()), portHTTP))
}

// Confined says to what the process that speaks to the mid-point is kept here; nothing where there is none. It sends nothing.
func (c Config) Confined() []doctor.Finding {
	if !c.inChild() {
		return nil
	}
	f := doctor.Finding{Name: ChildCommand, Verdict: doctor.Well, Text: confine.Able().String()}
	if !confine.Able().Files {
		f.Verdict, f.Text = doctor.Warning, "runs where Landlock is missing: whoever takes that process over reads every key that its user may read"
		f.Do = "take a kernel with Landlock (Linux 5.13 or newer, `landlock` among its security modules), or NATS"
	}
	return []doctor.Finding{f}
}

// examine is what the child does for Examine.
func (c Config) examine(ctx context.Context, receives bool, tell func(doctor.Finding)) {
	if c.ServiceBus != nil {
		busqueue.Examine(ctx, *c.ServiceBus, receives, tell)
		return
	}
	for _, f := range natsqueue.Examine(ctx, *c.NATS, receives, receives && c.Pull == Dark) {
		tell(f)
	}
}
