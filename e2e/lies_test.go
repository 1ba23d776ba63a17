package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"github.com/rogpeppe/go-internal/testscript"

	"jmlbridge/e2e/stage"
	"jmlbridge/internal/ledger/entry"
)

// owner is what the owner of a NATS mid-point does to it.
func (s *story) owner(_ *testscript.TestScript, args []string) (err error) {
	ctx, cancel := context.WithTimeout(s.ctx, patience)
	defer cancel()
	switch {
	case args[0] == "takes":
		s.thief, err = s.b.TakeOver(ctx)
		return err
	case s.thief == nil:
		return fmt.Errorf("nobody has taken the mid-point over: owner takes")
	case args[0] == "purge":
		return s.thief.Purge(ctx)
	case args[0] == "anew":
		return s.thief.Anew(ctx)
	case args[0] == "keep":
		_, err = s.thief.Keep(ctx)
		return err
	case args[0] == "replay":
		first := 0
		if args[1] != "all" && args[1] != "backwards" {
			if first, err = strconv.Atoi(args[1]); err != nil {
				return err
			}
		}
		return s.b.Replay(ctx, s.thief, first, args[1] == "backwards")
	}
	return fmt.Errorf("the owner knows no %s", args[0])
}

// disk damages the newest messages of a mid-point that does not run.
func (s *story) disk(_ *testscript.TestScript, args []string) error {
	if s.b.MidPoint.Running() {
		return fmt.Errorf("the mid-point runs, and has its messages in memory: end it first")
	}
	blocks, err := s.b.Blocks()
	if err != nil {
		return err
	}
	file := blocks[len(blocks)-1]
	raw, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	switch args[0] {
	case "truncate": // the newest half
		return os.Truncate(file, int64(len(raw)/2))
	case "lose": // every message, and how far the numbers went
		for _, name := range append(blocks, filepath.Join(filepath.Dir(file), "index.db")) {
			if err := os.Remove(name); err != nil {
				return err
			}
		}
		return nil
	case "flip": // one bit in each part of the newest half that is as long as a small message
		for i := len(raw) / 2; i < len(raw); i += 4096 {
			raw[i] ^= 0x10
		}
		return os.WriteFile(file, raw, 0o600)
	}
	return fmt.Errorf("the disk knows no %s", args[0])
}

// recorded waits until the published ledger has an entry of this kind and code that was not looked at before.
func (s *story) recorded(_ *testscript.TestScript, args []string) error {
	ctx, cancel := context.WithTimeout(s.ctx, patience)
	defer cancel()
	found, err := s.b.Ledger.Wait(ctx, args[0]+" "+args[1], s.read, func(e stage.Entry) bool {
		code := ""
		switch body := e.Body.(type) {
		case *entry.Alarm:
			code = body.Code
		case *entry.Received:
			code = body.Code
		case *entry.Refused:
			code = body.Code
		}
		return string(e.Body.Kind()) == args[0] && code == args[1]
	})
	if err == nil {
		s.read = found.Index + 1
	}
	return err
}
