package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"golang.org/x/term"
)

// Columns that everything fits in: a terminal's own number where it is between the two, else the wider.
const (
	narrow = 80
	wide   = 96
)

// noBreak is a space at which no line is broken.
const noBreak = "\u00a0"

// together keeps text in one line.
func together(text string) string { return strings.ReplaceAll(text, " ", noBreak) }

// screen writes for people. On a terminal it uses colours and box characters and shows that long work
// goes on; anywhere else it is plain ASCII apart from names.
type screen struct {
	mu     sync.Mutex
	w      io.Writer
	width  int
	tty    bool // box characters, and lines that are replaced
	colour bool
}

func newScreen(w io.Writer) *screen {
	s := &screen{w: w, width: wide}
	if f, ok := w.(*os.File); ok && term.IsTerminal(int(f.Fd())) && os.Getenv("TERM") != "dumb" {
		s.tty, s.colour = true, os.Getenv("NO_COLOR") == ""
		if columns, _, err := term.GetSize(int(f.Fd())); err == nil && columns > 0 {
			s.width = min(max(columns-1, narrow), wide)
		}
	}
	return s
}

// Colours, as ANSI codes.
const (
	bold   = "1"
	dim    = "2"
	red    = "31"
	green  = "32"
	yellow = "33"
	blue   = "34"
	violet = "35"
	cyan   = "36"
)

func (s *screen) paint(code, text string) string {
	if !s.colour || text == "" || code == "" {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

func (s *screen) print(line string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fmt.Fprintln(s.w, strings.TrimRight(strings.ReplaceAll(line, noBreak, " "), " "))
}

// pick is a character for terminals, or what stands for it elsewhere.
func (s *screen) pick(fancy, plain string) string {
	if s.tty {
		return fancy
	}
	return plain
}

// section begins a part of the story.
func (s *screen) section(title string) {
	rule := s.pick("─", "-")
	head := strings.Repeat(rule, 2) + " "
	rest := " " + strings.Repeat(rule, max(0, s.width-utf8.RuneCountInString(head+title)-1))
	s.print("")
	s.print(s.paint(dim, head) + s.paint(bold, title) + s.paint(dim, rest))
}

// say prints a paragraph.
func (s *screen) say(text string) {
	for _, line := range wrap(text, s.width-2) {
		s.print("  " + s.paint(dim, line))
	}
}

// legend explains a stage.
func (s *screen) legend(stage, text string) {
	for i, line := range wrap(text, s.width-14) {
		if i > 0 {
			stage = ""
		}
		s.print("    " + s.paint(stageColour[stage], pad(stage, 9)) + " " + s.paint(dim, line))
	}
}

// item is one thing that was made or started.
func (s *screen) item(label, text string) {
	for i, line := range wrap(text, s.width-15) {
		if i > 0 {
			label = ""
		}
		s.print("  " + s.paint(cyan, pad(label, 12)) + " " + line)
	}
}

// step is one stage of one person's way.
func (s *screen) step(at time.Duration, who, stage, colour, text, ref string) {
	const (
		left  = 2 + 7 + 1 + 18 + 1 + 8 + 1
		right = 1 + 9
	)
	room := s.width - left
	if ref != "" {
		room -= right
		ref = padLeft(ref, right)
	}
	lines := wrap(text, room)
	for i, line := range lines {
		if i > 0 {
			s.print(strings.Repeat(" ", left) + line)
			continue
		}
		s.print("  " + s.paint(dim, pad(fmt.Sprintf("+%.2fs", at.Seconds()), 7)) + " " + pad(who, 18) + " " + s.paint(colour, pad(stage, 8)) + " " +
			pad(line, room) + s.paint(dim, ref))
	}
}

// check is a promise that was kept, or not.
func (s *screen) check(kept bool, text string) {
	mark, colour := s.pick("✓", "ok"), green
	if !kept {
		mark, colour = s.pick("✗", "NOT"), red
	}
	for i, line := range wrap(text, s.width-7) {
		if i > 0 {
			mark = ""
		}
		s.print("  " + s.paint(colour, pad(mark, 3)) + " " + line)
	}
}

// table prints rows under a heading; the first row is the heading.
func (s *screen) table(rows [][]string) {
	sizes := make([]int, len(rows[0]))
	for _, r := range rows {
		for i, c := range r {
			sizes[i] = max(sizes[i], utf8.RuneCountInString(c))
		}
	}
	for n, r := range rows {
		var b strings.Builder
		for i, c := range r {
			if i >= 2 { // numbers
				b.WriteString(padLeft(c, sizes[i]) + "   ")
			} else {
				b.WriteString(pad(c, sizes[i]) + "   ")
			}
		}
		line := b.String()
		if n == 0 {
			line = s.paint(bold, line)
		}
		s.print("    " + line)
	}
}

// box frames the end of the story.
func (s *screen) box(colour string, lines ...string) {
	inner := s.width - 4
	corner := func(fancy string) string { return s.pick(fancy, "+") }
	rule := strings.Repeat(s.pick("─", "-"), inner+2)
	side := s.paint(colour, s.pick("│", "|"))
	s.print("")
	s.print(s.paint(colour, corner("╭")+rule+corner("╮")))
	for i, l := range lines {
		for _, part := range wrap(l, inner) {
			text := pad(part, inner)
			if i == 0 {
				text = s.paint(bold, text)
			}
			s.print(side + " " + text + " " + side)
		}
	}
	s.print(s.paint(colour, corner("╰")+rule+corner("╯")))
}

// busy shows on a terminal that work goes on, until the returned function is called.
func (s *screen) busy(text string) (done func()) {
	if !s.tty {
		return func() {}
	}
	began, end, ended := time.Now(), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(200 * time.Millisecond)
		defer tick.Stop()
		for {
			s.mu.Lock()
			fmt.Fprintf(s.w, "\r  %s %s", s.paint(dim, text+" ..."), s.paint(dim, fmt.Sprintf("%.0fs", time.Since(began).Seconds())))
			s.mu.Unlock()
			select {
			case <-end:
				s.mu.Lock()
				fmt.Fprint(s.w, "\r\x1b[K")
				s.mu.Unlock()
				return
			case <-tick.C:
			}
		}
	}()
	return sync.OnceFunc(func() { close(end); <-ended })
}

func pad(s string, n int) string { return s + strings.Repeat(" ", max(0, n-utf8.RuneCountInString(s))) }

func padLeft(s string, n int) string {
	return strings.Repeat(" ", max(0, n-utf8.RuneCountInString(s))) + s
}

// wrap breaks text at spaces into lines of at most n characters; a longer word stays whole. Line breaks in
// the text stay, and what continues a line is indented like it.
func wrap(text string, n int) []string { return wrapHanging(text, n, 0) }

// wrapHanging is wrap with the continuing lines indented by hang more.
func wrapHanging(text string, n, hang int) []string {
	var lines []string
	for part := range strings.SplitSeq(text, "\n") {
		indent := len(part) - len(strings.TrimLeft(part, " "))
		for first := true; ; first = false {
			at := breakAt(part, n, indent)
			if at < 0 {
				lines = append(lines, part)
				break
			}
			lines = append(lines, strings.TrimRight(part[:at], " "))
			if first {
				indent += hang
			}
			part = strings.Repeat(" ", indent) + strings.TrimLeft(part[at:], " ")
		}
	}
	return lines
}

// breakAt is where a line of more than n characters ends: at the last space that lets it fit, else at the
// first one past its indent; -1 where it fits or has none.
func breakAt(line string, n, indent int) int {
	at, count := -1, 0
	for i, r := range line {
		if r == ' ' && i > indent && (count <= n || at < 0) {
			at = i
		}
		count++
	}
	if count <= n {
		return -1
	}
	return at
}
