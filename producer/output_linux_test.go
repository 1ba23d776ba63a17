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

	"jmlbridge/internal/command"
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
		a := &app{in: strings.NewReader(""), out: &bytes.Buffer{}, err: terminal, now: time.Now, login: command.Operator}
		args := append([]string{"-c", p.config, "emit", "joiner", string(rune('2' + i)), "--display-name", "A"}, c.args...)
		if code := a.main(context.Background(), args); code != exitDone {
			t.Fatalf("%v: %d %s", args, code, read())
		}
		if text := read(); strings.Contains(text, "announced") != c.lines || !strings.Contains(text, "nothing relays what waits here") {
			t.Errorf("%v: %s", c.args, text)
		}
	}
}

// A report that cannot be written is an error, and says what was done nevertheless.
func TestReportsThatCannotBeWritten(t *testing.T) {
	p := newPlace(t)
	p.must(t, "init")
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	export := p.write(t, "export.csv", crowd(2))
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"import", export, "--dry-run"}, "all that a dry run makes, could not be written"},
		{[]string{"import", export, "--dry-run", "-o", "json"}, "all that a dry run makes, could not be written"},
		{[]string{"import", export}, "what was announced is stored and will be sent; only its report could not be written"},
		{[]string{"emit", "joiner", "8", "--display-name", "A"}, "stored and numbered, and will be sent: 3 for urn:jmlbridge:enclave:gov-1; only its report"},
		{[]string{"emit", "leaver", "8", "-o", "json"}, "stored and numbered, and will be sent: 4 for urn:jmlbridge:enclave:gov-1; only its report"},
		{[]string{"roster"}, "the rosters are stored and will be sent; only its report"},
		{[]string{"resend", "--from", "1", "--reason", "x"}, "0 messages will be published again; only its report"},
	} {
		var errs bytes.Buffer
		a := &app{in: strings.NewReader(""), out: full, err: &errs, now: time.Now, login: command.Operator}
		if code := a.main(context.Background(), append([]string{"-c", p.config}, c.args...)); code != exitFailed || !strings.Contains(errs.String(), c.want) {
			t.Errorf("%v: want exit code 1 and %q, got %d %s", c.args, c.want, code, errs.String())
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

// Long work shows how far it is on a terminal, and not in a pipe.
func TestProgress(t *testing.T) {
	p := newPlace(t)
	p.must(t, "init")
	terminal, read := openTerminal(t)
	a := &app{in: strings.NewReader(""), out: &bytes.Buffer{}, err: terminal, now: time.Now, login: command.Operator}
	export := p.write(t, "export.csv", crowd(2500))
	if code := a.main(context.Background(), []string{"-c", p.config, "import", export}); code != exitDone {
		t.Fatalf("%d %s", code, read())
	}
	if text := read(); !strings.Contains(text, "announcing to") || !strings.Contains(text, "/2500") {
		t.Errorf("on a terminal: %q", text)
	}
	if _, _, errs := p.try("", "import", p.write(t, "more.csv", crowd(2600))); strings.Contains(errs, "announcing to") || strings.Contains(errs, "\r") {
		t.Errorf("in a pipe: %q", errs)
	}
}

// crowd is an export of so many people.
func crowd(n int) string {
	var b strings.Builder
	b.WriteString("id,name,dept,status\n")
	for i := range n {
		b.WriteString(strconv.Itoa(i) + ",A,sec,a\n")
	}
	return b.String()
}
