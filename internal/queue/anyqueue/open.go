package anyqueue

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"

	"jmlbridge/internal/cloud"
	"jmlbridge/internal/confine"
	"jmlbridge/internal/outbound"
	"jmlbridge/internal/queue"
	"jmlbridge/internal/queue/busqueue"
	"jmlbridge/internal/queue/childqueue"
	"jmlbridge/internal/queue/natsqueue"
)

// ChildCommand is the hidden command of both programs under which they are the child that speaks to the
// mid-point. They answer it with [RunChild].
const ChildCommand = "queue-child"

// childMemory is what the child's garbage collector aims to stay under; childqueue ends a child far above it. Below that it lets twice
// as much lie as is usual: nearly all of a child's memory is bodies on their way. To look through them half as often costs
// 25 MiB in a backlog (100 in place of 80 where it receives); four times as much takes 170.
const (
	childMemory  = "192MiB"
	childGarbage = "200" // percent, GOGC
)

// Options of a program for its queue. Log must be set.
type Options struct {
	Log *slog.Logger
	// Replaced is told each time that the process which speaks to the mid-point had to be replaced, and why;
	// may be nil. It must not block.
	Replaced func(why error)
	// Aside is told whether the dead letters can be read, when that is known and when it changes; may be nil. It
	// must not block.
	Aside func(read bool)
}

// OpenPublisher opens the way in. It does not wait for the mid-point.
func OpenPublisher(c Config, o Options) (queue.Publisher, error) {
	if err := c.Check(); err != nil {
		return nil, err
	}
	if !c.inChild() {
		return c.publisher(o.Log)
	}
	cmd, err := c.command(o)
	if err != nil {
		return nil, err
	}
	p, err := childqueue.OpenPublisher(cmd)
	if err != nil { // p is a nil pointer, which makes an interface that is not nil
		return nil, err
	}
	return p, nil
}

// OpenReceiver opens the way out. A dark one begins behind from. It does not wait for the mid-point.
func OpenReceiver(c Config, from queue.Position, o Options) (queue.Receiver, error) {
	if err := c.Check(); err != nil {
		return nil, err
	}
	if !c.inChild() {
		return c.receiver(from, o.Log)
	}
	cmd, err := c.command(o)
	if err != nil {
		return nil, err
	}
	r, err := childqueue.OpenReceiver(cmd, from)
	if err != nil {
		return nil, err
	}
	return r, nil
}

// inChild says whether the adapter runs in a process of its own. The client of Service Bus can be made to spin, to
// hang and to die by whoever runs the other end; that of NATS to die, which its adapter guards against, and there a child is not for nothing. Beside the
// adapter in this process (BenchmarkNATSInAChild in e2e/bench, two cores): a message fetched and settled takes 47 µs of processor time
// in place of 21, which is 9 % of the 290 that the whole intake takes, and one published 55 in place of 22.
func (c Config) inChild() bool { return c.ServiceBus != nil }

func (c Config) publisher(log *slog.Logger) (queue.Publisher, error) {
	if c.ServiceBus != nil {
		b := *c.ServiceBus
		b.Log = log
		p, err := busqueue.OpenPublisher(b)
		if err != nil {
			return nil, err
		}
		return p, nil
	}
	p, err := natsqueue.OpenPublisher(*c.NATS)
	if err != nil {
		return nil, err
	}
	return p, nil
}

func (c Config) receiver(from queue.Position, log *slog.Logger) (r queue.Receiver, err error) {
	switch {
	case c.ServiceBus != nil && c.Pull == Dark:
		b := *c.ServiceBus
		b.Log = log
		r, err = busqueue.OpenDark(b, from)
	case c.ServiceBus != nil:
		b := *c.ServiceBus
		b.Log = log
		r, err = busqueue.OpenReceiver(b)
	case c.Pull == Dark:
		r, err = natsqueue.OpenDark(*c.NATS, from)
	default:
		r, err = natsqueue.OpenReceiver(*c.NATS)
	}
	if err != nil {
		return nil, err
	}
	return r, nil
}

// command is how the child is started: our own binary, with the queue's block alone.
func (c Config) command(o Options) (childqueue.Command, error) {
	self, err := os.Executable()
	if err != nil {
		return childqueue.Command{}, fmt.Errorf("find our own program: %w", err)
	}
	here, err := os.Getwd()
	if err != nil {
		return childqueue.Command{}, fmt.Errorf("find our own folder: %w", err)
	}
	// The child stands in another folder: a name that is relative to ours would be of another file there.
	block, err := json.Marshal(c.In(here))
	if err != nil {
		return childqueue.Command{}, err
	}
	return childqueue.Command{Path: self, Args: []string{ChildCommand}, Env: c.childEnv(os.Environ()), Config: block, Log: o.Log, Replaced: o.Replaced, Aside: o.Aside, Patience: c.patience()}, nil
}

// childEnv is what the child of c is left of env: which cryptography is in force, whom to trust, and of the rest what
// its own block takes from there and nothing else. What the host says of an identity is a secret, and a proxy's address can hold one.
func (c Config) childEnv(env []string) []string {
	kept := []string{"GODEBUG", "SSL_CERT_FILE", "SSL_CERT_DIR"}
	if b := c.ServiceBus; b != nil {
		switch b.Credential.Kind {
		case cloud.ManagedIdentity:
			kept = append(kept, "IDENTITY_ENDPOINT", "IDENTITY_HEADER", "IDENTITY_SERVER_THUMBPRINT", "IMDS_ENDPOINT")
		case cloud.WorkloadIdentity:
			if b.Credential.TokenFile == "" {
				kept = append(kept, "AZURE_FEDERATED_TOKEN_FILE")
			}
		}
	}
	out := []string{"GOMEMLIMIT=" + childMemory, "GOGC=" + childGarbage, "GOTRACEBACK=single"}
	if c.proxy() == "" {
		out = append(out, outbound.Environment(env, c.addresses())...)
	}
	for _, line := range env {
		if name, _, _ := strings.Cut(line, "="); slices.Contains(kept, name) {
			out = append(out, line)
		}
	}
	return out
}

// RunChild is the whole program under ChildCommand: it takes the queue's block from in, confines itself to the
// files and ports that this names, and speaks to the mid-point until in ends.
func RunChild(in io.Reader, out, errs io.Writer) error {
	log := slog.New(slog.NewTextHandler(errs, &slog.HandlerOptions{Level: slog.LevelWarn, ReplaceAttr: withoutTime}))
	read := func(block []byte) (c Config, err error) {
		d := json.NewDecoder(bytes.NewReader(block))
		d.DisallowUnknownFields()
		if err := d.Decode(&c); err != nil {
			return c, fmt.Errorf("read the queue's block: %w", err)
		}
		if err := c.Check(); err != nil {
			return c, err
		}
		_, err = confine.To(confine.Left{Files: c.files(), Ports: c.ports(os.Environ())})
		return c, err
	}
	return childqueue.Serve(in, out, childqueue.Adapters{
		Publisher: func(block []byte) (queue.Publisher, error) {
			c, err := read(block)
			if err != nil {
				return nil, err
			}
			return c.publisher(log)
		},
		Receiver: func(block []byte, from queue.Position) (queue.Receiver, error) {
			c, err := read(block)
			if err != nil {
				return nil, err
			}
			return c.receiver(from, log)
		},
		Examiner: func(block []byte) (childqueue.Examiner, error) {
			c, err := read(block)
			if err != nil {
				return nil, err
			}
			return c.examine, nil
		},
	})
}

// withoutTime leaves the time to the parent's log.
func withoutTime(_ []string, a slog.Attr) slog.Attr {
	if a.Key == slog.TimeKey {
		return slog.Attr{}
	}
	return a
}
