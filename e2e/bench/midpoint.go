package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"jmlbridge/internal/config"
	"jmlbridge/internal/queue/anyqueue"
	"jmlbridge/internal/queue/natsqueue"
	"jmlbridge/producer/midpoint"
)

// asMidpoint is set to a configuration file in the process that is to be the mid-point.
const asMidpoint = "JMLBRIDGE_BENCH_MIDPOINT"

const (
	enclaveName = "GOV-1"
	audience    = "urn:jmlbridge:enclave:gov-1"
	issuer      = "https://iam.mssp.example/jml"
	streamName  = "hr"

	processTime = 30 * time.Second // for a process to be ready, or to end
)

// serveMidpoint is the mid-point's process: it serves until its standard input ends, as it does when the
// bench dies.
func serveMidpoint(file string) int {
	ctx, stop := context.WithCancel(context.Background())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		stop()
	}()
	var cfg midpoint.Config
	_, err := config.Load(file, &cfg)
	if err == nil {
		err = midpoint.Run(ctx, cfg.In(filepath.Dir(file)), slog.New(slog.NewJSONHandler(os.Stdout, nil)))
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "bench: mid-point: %v\n", err)
		return 1
	}
	return 0
}

// queueProcess is a running mid-point.
type queueProcess struct {
	cmd      *exec.Cmd
	stdin    io.Closer
	producer natsqueue.Config
	consumer natsqueue.Config
}

func startMidpoint(ctx context.Context, dir string) (_ *queueProcess, err error) {
	// The store is opened by its own process alone; this one only makes it.
	made, err := midpoint.Init(ctx, dir, midpoint.Setup{Hosts: []string{"127.0.0.1"}, Listen: "127.0.0.1:0", Enclaves: []string{enclaveName}}, slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	q := &queueProcess{cmd: exec.Command(self)}
	q.cmd.Env = append(os.Environ(), asMidpoint+"="+made.Config)
	q.cmd.Stderr = os.Stderr
	if q.stdin, err = q.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := q.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := q.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the mid-point: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, q.stop())
		}
	}()
	address := make(chan string, 1)
	go func() { // to its end: a full pipe would stop the server
		for lines := bufio.NewScanner(out); lines.Scan(); {
			var l struct{ Msg, Address string }
			if json.Unmarshal(lines.Bytes(), &l) == nil && l.Msg == "mid-point ready" {
				address <- l.Address
			}
		}
		close(address)
	}()
	var at string
	select {
	case at = <-address:
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-time.After(processTime):
	}
	if at == "" {
		return nil, fmt.Errorf("the mid-point was not ready within %s, or ended", processTime)
	}
	for _, c := range []struct {
		dir  string
		into *natsqueue.Config
	}{{made.Producers[enclaveName], &q.producer}, {made.Consumers[enclaveName], &q.consumer}} {
		var file struct {
			Queue anyqueue.Config `yaml:"queue"`
		}
		if _, err := config.Load(filepath.Join(c.dir, midpoint.QueueFile), &file); err != nil {
			return nil, err
		}
		*c.into = file.Queue.NATS.In(c.dir)
		c.into.URL = []string{"tls://" + at}
	}
	return q, nil
}

// cpu is zero where it cannot be read.
func (q *queueProcess) cpu() cpu {
	c, err := cpuOf(q.cmd.Process.Pid)
	if err != nil {
		return cpu{}
	}
	return c
}

// stop ends the process and waits for it.
func (q *queueProcess) stop() error {
	err := q.stdin.Close()
	late := time.AfterFunc(processTime, func() { _ = q.cmd.Process.Kill() })
	defer late.Stop()
	return errors.Join(err, q.cmd.Wait())
}
