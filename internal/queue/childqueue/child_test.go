package childqueue

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"jmlbridge/internal/doctor"
	"jmlbridge/internal/queue"
	"jmlbridge/internal/queue/memqueue"
)

// The test's binary is every kind of child; the kind is its argument behind this word.
const childWord = "test-child"

func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == childWord {
		if err := children[os.Args[2]](); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// filled opens a queue in the child's memory that holds a, b and c.
func filled() (Adapters, *memqueue.Queue) {
	q := memqueue.New(memqueue.Options{Lease: time.Minute, Patience: 50 * time.Millisecond})
	p := q.Publisher()
	_, _ = p.Publish(context.Background(), []queue.Message{{ID: "a", Body: []byte("a")}, {ID: "b", Body: []byte("b")}, {ID: "c", Body: []byte("c")}})
	return Adapters{
		Publisher: func([]byte) (queue.Publisher, error) { return q.Publisher(), nil },
		Receiver:  func([]byte, queue.Position) (queue.Receiver, error) { return q.Receiver(), nil },
		Examiner: func([]byte) (Examiner, error) {
			return func(_ context.Context, receives bool, tell func(doctor.Finding)) {
				tell(doctor.Finding{Name: "side", Text: fmt.Sprint(receives)})
			}, nil
		},
	}, q
}

// opened answers the opening by hand and hands back the pipe.
func opened() (*bufio.Reader, func(frame)) {
	r, w := bufio.NewReader(os.Stdin), bufio.NewWriter(os.Stdout)
	f, err := readFrame(r)
	if err != nil {
		os.Exit(3)
	}
	say := func(f frame) {
		_ = writeFrame(w, f)
		_ = w.Flush()
	}
	say(frame{kindDone, f.call, result{}.encode()})
	return r, say
}

// empty counts empty results by the thousand.
type empty struct {
	queue.Receiver
	n uint64
}

func (e *empty) Empty() uint64 { e.n += 1000; return e.n }

// asides reads what was set aside at every second look, beginning with one that does not know.
type asides struct {
	queue.Receiver
	n int
}

func (a *asides) AsideRead() (read, known bool) { a.n++; return a.n%4 < 2, a.n > 1 }

var children = map[string]func() error{
	"asides": func() error {
		_, q := filled()
		return Serve(os.Stdin, os.Stdout, Adapters{Receiver: func([]byte, queue.Position) (queue.Receiver, error) { return &asides{Receiver: q.Receiver()}, nil }})
	},
	"wavers": func() error { // says unasked that it can read what was set aside, that it cannot, and so on
		r, say := opened()
		for {
			f, err := readFrame(r)
			if err != nil {
				return err
			}
			switch f.kind {
			case kindPing:
				say(frame{kindPong, 0, encodeNumber(0)})
			case kindFetch:
				for i := range 1000 {
					say(frame{kindPong, 0, append(encodeNumber(0), encodeNumber(asideSaid(i%2 == 0))...)})
				}
				say(frame{kindDone, f.call, result{err: queue.ErrUnreachable}.encode()})
			}
		}
	},
	"good": func() error { a, _ := filled(); return Serve(os.Stdin, os.Stdout, a) },
	"noisy": func() error {
		fmt.Fprintln(os.Stderr, "line one \x1b[31mred")
		fmt.Fprintln(os.Stderr, strings.Repeat("x", 3*maxLogLine))
		a, _ := filled()
		return Serve(os.Stdin, os.Stdout, a)
	},
	"shouts": func() error { // far more than anybody reads
		for i := range 10 * maxLogLines {
			fmt.Fprintln(os.Stderr, "line", i)
		}
		panic("at last")
	},
	"refuses": func() error {
		return Serve(os.Stdin, os.Stdout, Adapters{Receiver: func([]byte, queue.Position) (queue.Receiver, error) {
			return nil, errors.New("subject: what is this")
		}, Examiner: func([]byte) (Examiner, error) { return nil, errors.New("no such examination") }})
	},
	"secret": func() error { // reads a file that only its owner may read
		a, _ := filled()
		good := a.Receiver
		a.Receiver = func(config []byte, from queue.Position) (queue.Receiver, error) {
			info, err := os.Stat(string(config))
			if err == nil && info.Mode().Perm()&0o077 != 0 {
				err = fmt.Errorf("%s can be used by others (mode %04o)", config, info.Mode().Perm())
			}
			if err != nil {
				return nil, err
			}
			return good(config, from)
		}
		return Serve(os.Stdin, os.Stdout, a)
	},
	"begets": func() error { // ends, and leaves one behind that has its pipes
		opened()
		heir := exec.Command(os.Args[0], childWord, "lingers")
		heir.Stdin, heir.Stdout, heir.Stderr = os.Stdin, os.Stdout, os.Stderr
		if err := heir.Start(); err != nil {
			return err
		}
		os.Exit(7)
		return nil
	},
	"wedges": func() error { // does nothing more, whatever becomes of its pipes, with the file of its configuration open
		f, err := readFrame(bufio.NewReader(os.Stdin))
		if err != nil {
			return err
		}
		o, err := decodeOpening(f.payload)
		if err != nil {
			return err
		}
		w := bufio.NewWriter(os.Stdout)
		_ = writeFrame(w, frame{kindDone, f.call, result{}.encode()})
		_ = w.Flush()
		held, err := os.OpenFile(string(o.config), os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		_, err = held.WriteString("here")
		<-time.After(time.Hour)
		return errors.Join(err, held.Close())
	},
	"parent": func() error { // of one that wedges
		var h heard
		c := command("wedges", &h)
		c.Config, c.Limits.Silence = []byte(os.Args[3]), time.Hour
		_, err := OpenReceiver(c, nil)
		_, _ = io.Copy(io.Discard, os.Stdin)
		return err
	},
	"lingers": func() error { _, err := io.Copy(io.Discard, os.Stdin); return err },
	"dies":    func() error { os.Exit(7); return nil },
	"silent":  func() error { opened(); _, err := io.Copy(io.Discard, os.Stdin); return err },
	"grows": func() error {
		r, say := opened()
		held := make([]byte, 96<<20)
		for i := 0; i < len(held); i += 512 {
			held[i] = 1
		}
		for {
			f, err := readFrame(r)
			if err != nil {
				return fmt.Errorf("%w (%d)", err, held[0])
			}
			if f.kind == kindPing {
				say(frame{kindPong, 0, encodeNumber(0)})
			}
		}
	},
	"empties": func() error {
		_, q := filled()
		e := &empty{Receiver: q.Receiver()}
		return Serve(os.Stdin, os.Stdout, Adapters{Receiver: func([]byte, queue.Position) (queue.Receiver, error) { return e, nil }})
	},
	"babbles": func() error {
		opened()
		_, err := os.Stdout.WriteString("HTTP/1.1 400 Bad Request\r\n\r\n")
		_, _ = io.Copy(io.Discard, os.Stdin)
		return err
	},
	"lies": func() error { // ends a fetch without the deliveries that it counts
		r, say := opened()
		for {
			f, err := readFrame(r)
			if err != nil {
				return err
			}
			switch f.kind {
			case kindPing:
				say(frame{kindPong, 0, encodeNumber(0)})
			case kindFetch, kindPublish:
				say(frame{kindDone, f.call, result{n: 1 << 40}.encode()})
			}
		}
	},
	"floods": func() error { return pour(nil) },
	"swells": func() error { return pour(make([]byte, queue.MaxBody)) },
	"heavy": func() error { // holds more than it can say at once
		q := memqueue.New(memqueue.Options{Lease: time.Minute, Patience: 50 * time.Millisecond})
		p := q.Publisher()
		for i := range fetched {
			if _, err := p.Publish(context.Background(), []queue.Message{{ID: fmt.Sprint(i), Body: heavy(i)}}); err != nil {
				return err
			}
		}
		return Serve(os.Stdin, os.Stdout, Adapters{Receiver: func([]byte, queue.Position) (queue.Receiver, error) { return q.Receiver(), nil }})
	},
	"hangs": func() error { // answers pings and nothing else
		r, say := opened()
		for {
			f, err := readFrame(r)
			if err != nil {
				return err
			}
			switch f.kind {
			case kindPing:
				say(frame{kindPong, 0, encodeNumber(0)})
			case kindFetch:
				fmt.Fprintln(os.Stderr, "asked")
			}
		}
	},
	"away": func() error { return answering(result{err: queue.ErrUnreachable}) }, // as one does whose mid-point is
	"finds": func() error { // and tells it for as long as it lives
		return Serve(os.Stdin, os.Stdout, Adapters{Examiner: func(config []byte) (Examiner, error) {
			return func(_ context.Context, receives bool, tell func(doctor.Finding)) {
				tell(doctor.Finding{Name: "name", Verdict: doctor.Well, Text: "\x1b[31m1.2.3.4", Do: strings.Repeat("x", 2*maxText)})
				tell(doctor.Finding{Name: "side", Verdict: doctor.Warning, Text: fmt.Sprint(receives)})
				if string(config) == "die" {
					go panic("a malformed reply")
					select {}
				}
			}, nil
		}})
	},
	"guesses": func() error {
		r, say := opened()
		f, err := readFrame(r)
		say(frame{kindFinding, f.call, encodeFinding(doctor.Finding{Verdict: "splendid"})})
		_, _ = io.Copy(io.Discard, r)
		return err
	},
	"finds more": func() error {
		r, say := opened()
		f, err := readFrame(r)
		for range maxFindings + 1 {
			say(frame{kindFinding, f.call, encodeFinding(doctor.Finding{Verdict: doctor.Well})})
		}
		_, _ = io.Copy(io.Discard, r)
		return err
	},
	"spins":            func() error { spin(); return answering(result{err: queue.ErrUnreachable}) },
	"spins and brings": func() error { spin(); return answering(result{n: 1}) },
}

// spin takes whatever the machine gives.
func spin() {
	const threads = 16 // so that it gets something of a busy machine as well
	runtime.GOMAXPROCS(threads + 1)
	for range threads {
		go func() {
			var n atomic.Int64
			for {
				n.Add(1)
			}
		}()
	}
}

func heavy(i int) []byte { return bytes.Repeat([]byte{byte(i)}, queue.MaxBody) }

// pour answers a fetch with deliveries of body and no end.
func pour(body []byte) error {
	r, say := opened()
	for {
		f, err := readFrame(r)
		if err != nil {
			return err
		}
		for f.kind == kindFetch {
			say(frame{kindDelivery, f.call, delivered{1, queue.Delivery{Body: body}}.encode()})
		}
	}
}

// answering answers by hand whoever fetches with res and as many deliveries as that counts, once each time that it is looked at.
func answering(res result) error {
	r, say := opened()
	var asked []uint64
	for {
		f, err := readFrame(r)
		if err != nil {
			return err
		}
		switch f.kind {
		case kindPing:
			say(frame{kindPong, 0, encodeNumber(0)})
			for _, id := range asked {
				for range res.n {
					say(frame{kindDelivery, id, delivered{1, queue.Delivery{Body: []byte("junk")}}.encode()})
				}
				say(frame{kindDone, id, res.encode()})
			}
			asked = nil
		case kindFetch:
			asked = append(asked, f.call)
		}
	}
}

// heard collects why children were replaced and what they said.
type heard struct {
	mu    sync.Mutex // guards both
	text  strings.Builder
	why   chan error
	asked chan struct{} // a child says so
}

func (h *heard) Write(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if strings.Contains(string(p), "asked") {
		select {
		case h.asked <- struct{}{}:
		default:
		}
	}
	return h.text.Write(p)
}

func (h *heard) String() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.text.String()
}

const fetched = 100 // deliveries that are asked for at a time

func command(kind string, h *heard) Command {
	h.why, h.asked = make(chan error, 100), make(chan struct{}, 1)
	return Command{
		Path: os.Args[0], Args: []string{childWord, kind}, Patience: 5 * time.Second,
		Log: slog.New(slog.NewTextHandler(h, nil)), Replaced: func(err error) {
			select {
			case h.why <- err:
			default:
			}
		},
		Limits: Limits{Look: 20 * time.Millisecond},
	}
}

func open(t *testing.T, c Command) *Receiver {
	t.Helper()
	r, err := OpenReceiver(c, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

func within(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// What a child found comes as it was told and plain, also from one that ends before it is done; and it is said how it ended.
func TestExamine(t *testing.T) {
	for _, c := range []struct {
		kind, config string
		found        int
		want         string
	}{
		{"finds", "live", 2, ""},
		{"finds", "die", 2, "its last words were: panic: a malformed reply"},
		{"guesses", "", 0, "not of this protocol"},
		{"finds more", "", maxFindings, "not of this protocol"},
		{"refuses", "", 0, "no such examination"},
		{"dies", "", 0, "exit status 7"},
		{"silent", "", 0, "not answered"},
	} {
		t.Run(c.kind+" "+c.config, func(t *testing.T) {
			t.Parallel()
			var h heard
			cmd := command(c.kind, &h)
			cmd.Config = []byte(c.config)
			if c.kind == "silent" {
				cmd.Limits.Silence = 200 * time.Millisecond
			}
			found, err := Examine(within(t), cmd, true)
			if len(found) != c.found || (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Fatalf("%d findings, %v; expected %d and %q\n%s", len(found), err, c.found, c.want, h.String())
			}
			if c.kind == "finds" && (found[0].Text != " [31m1.2.3.4" || len(found[0].Do) != maxText || found[1] != doctor.Finding{Name: "side", Verdict: doctor.Warning, Text: "true"}) {
				t.Errorf("it found %+v", found)
			}
		})
	}
}

// A child that does wrong in any way is replaced, and it is said why.
func TestReplaced(t *testing.T) {
	for _, c := range []struct {
		kind  string
		limit func(*Limits)
		fetch bool
		want  string
	}{
		{"silent", func(l *Limits) { l.Silence = 200 * time.Millisecond }, false, "not answered"},
		{"grows", func(l *Limits) { l.Resident = 64 << 20 }, false, "memory"},
		{"empties", func(*Limits) {}, false, "empty results"},
		{"babbles", func(*Limits) {}, false, "not of this protocol"},
		{"begets", func(*Limits) {}, false, "exit status 7"},
		{"lies", func(*Limits) {}, true, "not of this protocol"},
		{"spins", func(l *Limits) { l.Burning = 50 * time.Millisecond }, true, "of a processor's time"},
		{"spins and brings", func(l *Limits) { l.Burning, l.Look = 500*time.Millisecond, 200*time.Millisecond }, true, "of a processor's time"},
		{"floods", func(*Limits) {}, true, "more deliveries than the 100"},
		{"swells", func(*Limits) {}, true, "octets at once"},
	} {
		t.Run(c.kind, func(t *testing.T) {
			t.Parallel()
			var h heard
			cmd := command(c.kind, &h)
			c.limit(&cmd.Limits)
			r := open(t, cmd)
			if c.fetch {
				go keepFetching(within(t), r)
			}
			for range 2 { // and the next one as well
				select {
				case why := <-h.why:
					if !strings.Contains(why.Error(), c.want) {
						t.Fatalf("replaced because %v; expected %q", why, c.want)
					}
				case <-within(t).Done():
					t.Fatalf("it was never replaced\n%s", h.String())
				}
			}
		})
	}
}

// keepFetching does so until r is closed or ctx ends, whatever comes.
func keepFetching(ctx context.Context, r *Receiver) {
	for ctx.Err() == nil {
		if _, err := r.Fetch(ctx, fetched); errors.Is(err, queue.ErrClosed) {
			return
		}
	}
}

// A child that can only fail and takes nothing for it is an honest one whose mid-point is away. It makes room for
// one that reads files and names anew, later, and that is nobody's fault.
func TestAway(t *testing.T) {
	t.Parallel()
	var h heard
	cmd := command("away", &h)
	cmd.Limits.Burning, cmd.Limits.Idle = 2*time.Second, time.Second
	r := open(t, cmd)
	s := current(t, r.keeper)
	go keepFetching(within(t), r)
	select {
	case <-s.ended:
	case <-within(t).Done():
		t.Fatalf("it was never replaced\n%s", h.String())
	}
	if !errors.Is(s.why, errIdle) {
		t.Fatalf("replaced because %v; expected %v", s.why, errIdle)
	}
	if current(t, r.keeper); len(h.why) > 0 {
		t.Fatalf("somebody was told of it: %v", <-h.why)
	}
}

// What a child says of its queue's dead letters is told when it changes.
func TestAside(t *testing.T) {
	t.Parallel()
	var h heard
	cmd := command("asides", &h)
	cmd.Limits.Aside = time.Nanosecond
	told := make(chan bool, 100)
	cmd.Aside = func(read bool) {
		select {
		case told <- read:
		default:
		}
	}
	open(t, cmd)
	for i := range 5 { // of each two looks that find the same, the first
		select {
		case read := <-told:
			if want := i%2 == 1; read != want {
				t.Fatalf("told %t as number %d, expected %t", read, i, want)
			}
		case <-within(t).Done():
			t.Fatalf("told %d times\n%s", i, h.String())
		}
	}
}

// A child that changes its word on what was set aside all the while is told of once: each change is an alarm, and an entry on the ledger.
func TestAsideWavers(t *testing.T) {
	var h heard
	var told atomic.Int32
	cmd := command("wavers", &h)
	cmd.Aside = func(bool) { told.Add(1) }
	r := open(t, cmd)
	if _, err := r.Fetch(within(t), 1); !errors.Is(err, queue.ErrUnreachable) {
		t.Fatal(err)
	}
	if n := told.Load(); n != 1 {
		t.Errorf("told %d times", n)
	}
}

// A child that is killed under a fetch is replaced, and the fetch goes on with the next one.
func TestKilledUnderFetch(t *testing.T) {
	var h heard
	r := open(t, command("good", &h))
	if got, err := r.Fetch(within(t), 10); err != nil || len(got) != 3 {
		t.Fatalf("%d, %v", len(got), err)
	} else {
		_ = got
	}
	came := make(chan int, 1)
	go func() {
		got, err := r.Fetch(within(t), 10) // the queue is empty, until the next child makes one of its own
		if err != nil {
			t.Error(err)
		}
		came <- len(got)
	}()
	s := current(t, r.keeper)
	_ = s.cmd.Process.Kill()
	if n := <-came; n != 3 {
		t.Fatalf("%d messages after the kill", n)
	}
	if d := r.Leased(); d <= 0 || d > leasedFor {
		t.Errorf("want what the killed one had fetched leased to it for up to %s, got %s", leasedFor, d)
	}
	<-h.why
}

func current(t *testing.T, k *keeper) *session {
	t.Helper()
	s, err := k.await(within(t))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// What a dead child fetched cannot be settled, and that is said; what was settled stays so.
func TestSettleOfADeadChild(t *testing.T) {
	var h heard
	r := open(t, command("good", &h))
	got, err := r.Fetch(within(t), 3)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Settle(within(t), got[:1]); err != nil {
		t.Fatal(err)
	}
	_ = current(t, r.keeper).cmd.Process.Kill()
	<-h.why
	if err := r.Settle(within(t), got[1:]); !errors.Is(err, queue.ErrUnreachable) {
		t.Fatalf("settle: %v", err)
	}
	if err := r.Settle(within(t), []queue.Delivery{{Lease: lease{}}}); err == nil {
		t.Fatal("settled what nobody delivered")
	}
}

// A fetch that ends with its context ends in the child too; a child that does not end it is replaced.
func TestCancel(t *testing.T) {
	var h heard
	r := open(t, command("hangs", &h))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { _, err := r.Fetch(ctx, 1); done <- err }()
	<-h.asked
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Fatalf("fetch: %v", err)
	}
	if why := <-h.why; !strings.Contains(why.Error(), "does not end") {
		t.Fatalf("replaced because %v", why)
	}
}

// What is wrong with the configuration is said when opening, and a child that does not live as well.
func TestOpen(t *testing.T) {
	for kind, want := range map[string]string{"refuses": "subject: what is this", "dies": "exit status 7"} {
		var h heard
		if r, err := OpenReceiver(command(kind, &h), nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, %v; expected %q", kind, r, err, want)
		}
	}
	if _, err := OpenReceiver(Command{Config: make([]byte, maxConfig+1)}, nil); err == nil {
		t.Error("a huge configuration")
	}
}

// A file that is spoilt while a child lives meets the next one. Nobody says then that the mid-point does not answer, but which file it
// is and why, and once that is mended it goes on.
func TestSpoiltFile(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("there are no such modes on Windows")
	}
	file := filepath.Join(t.TempDir(), "midpoint.sas")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	var h heard
	cmd := command("secret", &h)
	cmd.Config, cmd.Patience = []byte(file), time.Second
	r := open(t, cmd)
	s := current(t, r.keeper)
	if err := os.Chmod(file, 0o644); err != nil {
		t.Fatal(err)
	}
	_ = s.cmd.Process.Kill()
	<-h.why
	for { // until a child has met it: how long one takes to start nobody knows
		_, err := r.Fetch(within(t), 1)
		if !errors.Is(err, queue.ErrRefused) {
			if !errors.Is(err, queue.ErrUnreachable) {
				t.Fatalf("fetch: %v", err)
			}
			continue
		}
		if want := file + " can be used by others (mode 0644)"; err.Error() != want || errors.Is(err, queue.ErrUnreachable) {
			t.Errorf("fetch: %q; expected %q", err, want)
		}
		break
	}
	if err := os.Chmod(file, 0o600); err != nil {
		t.Fatal(err)
	}
	for {
		switch got, err := r.Fetch(within(t), 1); {
		case len(got) == 1:
			return
		case !errors.Is(err, queue.ErrRefused) && !errors.Is(err, queue.ErrUnreachable):
			t.Fatalf("fetch with the file mended: %v", err)
		}
	}
}

// Close ends everything at once, also while there is no child.
func TestClose(t *testing.T) {
	var h heard
	c := command("good", &h)
	r := open(t, c)
	if _, err := r.Fetch(within(t), 3); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { _, err := r.Fetch(within(t), 1); done <- err }()
	s := current(t, r.keeper)
	for range 2 {
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if err := <-done; !errors.Is(err, queue.ErrClosed) {
		t.Fatalf("fetch: %v", err)
	}
	if !s.gone() {
		t.Error("the child lives on")
	}
	if err := r.Settle(within(t), nil); !errors.Is(err, queue.ErrClosed) {
		t.Errorf("settle: %v", err)
	}
}

// What children write in our log is bounded however much they say, what was left out is counted, and a next child begins
// with what the last one left.
func TestLogIsBounded(t *testing.T) {
	var h heard
	cmd := command("shouts", &h)
	if err := cmd.check(); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if _, err := begin(within(t), &cmd, opening{role: roleReceiver}); err == nil || !strings.HasSuffix(err.Error(), "panic: at last") {
			t.Fatalf("it ended with: %v", err)
		}
	}
	if n := strings.Count(h.String(), "\n"); n != maxLogLines {
		t.Errorf("%d lines, expected %d", n, maxLogLines)
	}
	cmd.ration.mu.Lock()
	out, until := cmd.ration.out, cmd.ration.until
	cmd.ration.mu.Unlock()
	if least := uint64(3*10-1) * maxLogLines; out < least {
		t.Errorf("%d lines are counted as left out, expected at least %d", out, least)
	}
	if say, told := cmd.ration.take(until); !say || told != out {
		t.Errorf("in the next interval a line is said %t, and %d are told, expected %d", say, told, out)
	}
	if say, told := cmd.ration.take(until); !say || told != 0 {
		t.Errorf("the next line is said %t, and %d are told again", say, told)
	}
}

// A child cannot make whoever fetches spin by failing at once.
func TestFailuresTakeTime(t *testing.T) {
	var h heard
	cmd := command("away", &h)
	cmd.Patience = 200 * time.Millisecond
	r := open(t, cmd)
	for range 3 {
		began := time.Now()
		if _, err := r.Fetch(within(t), 1); !errors.Is(err, queue.ErrUnreachable) || time.Since(began) < cmd.Patience {
			t.Fatalf("after %s: %v", time.Since(began), err)
		}
	}
}

// What a child says on standard error is a bounded, plain line of our log.
func TestLog(t *testing.T) {
	var h heard
	r := open(t, command("noisy", &h))
	if _, err := r.Fetch(within(t), 1); err != nil {
		t.Fatal(err)
	}
	r.Close()
	text := h.String()
	if !strings.Contains(text, "line one") || strings.Contains(text, "\x1b") || len(text) > 3*maxLogLine {
		t.Errorf("%d octets of log: %.200q", len(text), text)
	}
}

// What is too much for one answer comes in several, in order, and can be settled.
func TestFetchMuch(t *testing.T) {
	var h heard
	r := open(t, command("heavy", &h))
	answers := 0
	for n := 0; n < fetched; answers++ {
		got, err := r.Fetch(within(t), fetched-n)
		if err != nil {
			t.Fatalf("after %d: %v", n, err)
		}
		for _, d := range got {
			if !bytes.Equal(d.Body, heavy(n)) {
				t.Fatalf("delivery %d begins with %d", n, d.Body[0])
			}
			n++
		}
		if err := r.Settle(within(t), got); err != nil {
			t.Fatal(err)
		}
	}
	if answers != 2 {
		t.Errorf("%d answers; expected two for %d octets", answers, fetched*queue.MaxBody)
	}
}

// A publish that is too large for one exchange goes in several.
func TestPublishMuch(t *testing.T) {
	var h heard
	p, err := OpenPublisher(command("good", &h))
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	msgs := make([]queue.Message, 400)
	for i := range msgs {
		msgs[i] = queue.Message{ID: fmt.Sprint(i), Body: make([]byte, queue.MaxBody)}
	}
	if n, err := p.Publish(within(t), msgs); n != len(msgs) || err != nil {
		t.Fatalf("%d, %v", n, err)
	}
}

// The limits that stand beside the fields are in force by default.
func TestLimits(t *testing.T) {
	var l Limits
	l.fill()
	now := time.Now()
	calm := look{sample: sample{at: now}, heard: now}
	if err := l.exceeded(calm, calm, time.Time{}); err != nil {
		t.Errorf("a calm child: %v", err)
	}
	for name, c := range map[string]struct {
		now     look
		failing time.Time
	}{
		"silence":  {look{sample: sample{at: now}, heard: now.Add(-16 * time.Second)}, time.Time{}},
		"memory":   {look{sample: sample{at: now}, heard: now, resident: 600 << 20}, time.Time{}},
		"burning":  {look{sample: sample{at: now, cpu: 17 * time.Second}, heard: now, since: sample{cpu: time.Second}}, time.Time{}},
		"empty":    {look{sample: sample{at: now}, heard: now, empty: 201}, time.Time{}},
		"failures": {calm, now.Add(-6 * time.Minute)},
	} {
		if l.exceeded(calm, c.now, c.failing) == nil {
			t.Errorf("%s is not seen", name)
		}
	}
}

// How long a child has been silent does not go by the wall clock: one that is set forward would cost a good child its life, and one
// that is set back would spare a bad one.
func TestSilenceIsNotByTheWallClock(t *testing.T) {
	var h heard
	r := open(t, command("good", &h))
	defer r.Close()
	if seen := r.session.look().heard; seen == seen.Round(0) { // which is without the other clock's reading
		t.Errorf("it was heard at %s by the wall clock alone", seen)
	}
}
