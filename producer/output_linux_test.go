package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A log that a program reads, or in JSON, names every message; on a terminal the report does.
func TestAnnouncedLines(t *testing.T) {
	p := newPlace(t)
	p.must(t, "init")
	if _, _, errs := p.try("1", "emit", "joiner", "1", "--display-name", "A"); !strings.Contains(errs, "msg=announced") {
		t.Errorf("not a terminal: %s", errs)
	}
	for i, c := range []struct {
		args  []string
		lines bool
	}{{nil, false}, {[]string{"--log", "json"}, true}, {[]string{"--log-level", "debug"}, true}} {
		terminal, read := openTerminal(t)
		a := &app{in: strings.NewReader(""), out: &bytes.Buffer{}, err: terminal, now: time.Now, login: login}
		args := append([]string{"-c", p.config, "emit", "joiner", string(rune('2' + i)), "--display-name", "A"}, c.args...)
		if code := a.main(context.Background(), args); code != exitDone {
			t.Fatalf("%v: %d %s", args, code, read())
		}
		if text := read(); strings.Contains(text, "announced") != c.lines || !strings.Contains(text, "relays it now") {
			t.Errorf("%v: %s", c.args, text)
		}
	}
}

// openTerminal makes a terminal of its own; read closes it and returns what was written.
func openTerminal(t *testing.T) (terminal *os.File, read func() string) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if errors.Is(err, os.ErrNotExist) {
		t.Skip("this system has no /dev/ptmx")
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = master.Close() })
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	if terminal, err = os.OpenFile("/dev/pts/"+strconv.Itoa(n), os.O_RDWR|unix.O_NOCTTY, 0); err != nil {
		t.Fatal(err)
	}
	all := make(chan string, 1)
	go func() {
		var b bytes.Buffer
		_, _ = b.ReadFrom(master) // ends with an error when the terminal is closed
		all <- b.String()
	}()
	return terminal, func() string {
		_ = terminal.Close()
		return <-all
	}
}
