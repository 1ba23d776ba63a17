// Package e2e tests the bridge from outside: the real programs, each a process of its own, against a real
// queue server and a tenant that speaks Graph.
//
// The stories are scripts in testdata/scripts, to be read as such; what is clumsy in a script (hundreds of
// kills, a proxy, a race between two people) is a Go test here. Nothing waits for a time that should be
// enough: every wait is for a line, a condition or an end, with a deadline far above what it takes.
package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"jmlbridge/consumer/plan"
	"jmlbridge/consumer/state"
	"jmlbridge/e2e/stage"
	"jmlbridge/internal/ledger"
	"jmlbridge/internal/store"
	"jmlbridge/producer/outbox"
)

const patience = 3 * time.Minute // for anything that is waited for; nothing takes a tenth of it

// programs are built as they are shipped; armed are the same with the named points at which an environment
// variable kills them (package crash).
var (
	binaries string // folder
	programs = sync.OnceValues(func() (stage.Programs, error) {
		return stage.Build(context.Background(), filepath.Join(binaries, "shipped"))
	})
	armed = sync.OnceValues(func() (stage.Programs, error) {
		return stage.Build(context.Background(), filepath.Join(binaries, "armed"), "-tags=crashpoints")
	})
)

func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "e2e-bin-")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		binaries = dir
		return m.Run()
	}())
}

// bridge is a stage with what the stories need on top of it.
type bridge struct {
	*stage.Stage
	exports int
	watched []*watch
}

// raise sets a bridge up below dir. Nothing runs but the tenant.
func raise(ctx context.Context, dir string, build func() (stage.Programs, error), c stage.Config) (*bridge, error) {
	p, err := build()
	if err != nil {
		return nil, err
	}
	c.Dir, c.Programs = filepath.Join(dir, "bridge"), p
	s, err := stage.New(ctx, c)
	if err != nil {
		return nil, err
	}
	return &bridge{Stage: s}, nil
}

// up is raise for a Go test, with a deadline for all of it.
func up(t *testing.T, build func() (stage.Programs, error), c stage.Config) (context.Context, *bridge) {
	t.Helper()
	b, err := raise(t.Context(), t.TempDir(), build, c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.close(); err != nil {
			t.Error(err)
		}
	})
	return t.Context(), b
}

// close ends everything and says whether the consumer ever listened.
func (b *bridge) close() error {
	var errs []error
	for _, w := range b.watched {
		errs = append(errs, w.end())
	}
	return errors.Join(append(errs, b.Close())...)
}

// begin starts all programs, and watches the consumer's sockets from then on.
func (b *bridge) begin(ctx context.Context) error {
	b.watch(b.Consumer)
	return b.Start(ctx)
}

// say imports an HR export.
func (b *bridge) say(ctx context.Context, rows ...stage.Row) (*stage.Result, error) {
	return b.importText(ctx, stage.Export(rows...))
}

func (b *bridge) importText(ctx context.Context, text string) (*stage.Result, error) {
	b.exports++
	file := filepath.Join(b.Dir, fmt.Sprintf("export-%d.csv", b.exports))
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return nil, err
	}
	return b.ProducerDo(ctx, "import", file)
}

// announced is the number of the last message that the producer stored, and how many the mid-point has not
// confirmed.
func (b *bridge) announced(ctx context.Context) (seq uint64, waiting int, err error) {
	db, err := store.OpenRead(filepath.Join(b.Commercial, "producer.db"), outbox.Schema)
	if err != nil {
		return 0, 0, err
	}
	defer db.Close()
	all, err := outbox.StatusOf(ctx, db, time.Now())
	if err != nil || len(all) != 1 {
		return 0, 0, fmt.Errorf("want the status of one enclave, got %d: %w", len(all), err)
	}
	return all[0].Seq, all[0].Waiting, nil
}

// quiet says whether the consumer has all messages up to seq and has finished what they ask for.
func (b *bridge) quiet(seq uint64) (bool, error) {
	db, err := state.OpenRead(filepath.Join(b.EnclaveDir, "consumer.db"))
	if err != nil {
		return false, err
	}
	defer db.Close()
	streams, err := state.Streams(db.Read())
	followed := slices.IndexFunc(streams, func(s *state.Stream) bool { return s.Name == stage.Stream }) // the latest generation comes first
	if err != nil || followed < 0 || streams[followed].Head < seq {
		return false, err
	}
	if roster, err := state.RosterToApply(db.Read()); err != nil || roster != nil {
		return false, err
	}
	open, err := state.OpenIntents(db.Read())
	if err != nil || len(open) > 0 {
		return false, err
	}
	// What waits for a date is done for now: a grace period, a second look at a cut. What is tried again is not.
	now, left := time.Now(), 0
	err = state.EachSubject(db.Read(), func(p *state.Subject) error {
		if p.Lane != plan.Idle && (p.Attempts > 0 || !p.Due.After(now)) {
			left++
		}
		return nil
	})
	return left == 0, err
}

// done says whether everything that was said so far is.
func (b *bridge) done(ctx context.Context) (bool, error) {
	seq, waiting, err := b.announced(ctx)
	if err != nil || waiting > 0 {
		return false, err
	}
	return b.quiet(seq)
}

// settled waits until everything that was said so far is done.
func (b *bridge) settled(ctx context.Context) error { return b.settledIn(ctx, patience) }

func (b *bridge) settledIn(ctx context.Context, d time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	seq, _, err := b.announced(ctx)
	if err != nil {
		return err
	}
	err = stage.Until(ctx, "the consumer to have done all that was said", func() (bool, error) { return b.quiet(seq) })
	if err != nil {
		nodes := ""
		for _, n := range b.Nodes {
			nodes += fmt.Sprintf("\n%s:\n%s", n.Name, n.Last(15))
		}
		return fmt.Errorf("%w\n%s\nconsumer:\n%s\nproducer:\n%s%s", err, b.undone(seq), b.Consumer.Last(12), b.Producer.Last(3), nodes)
	}
	return nil
}

// published waits until all that the consumer recorded so far is under its published checkpoint.
func (b *bridge) published(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	size, err := b.recorded()
	if err != nil {
		return err
	}
	return stage.Until(ctx, "the ledger to be published", func() (bool, error) {
		n, err := b.Ledger.Size()
		return n >= size, err
	})
}

// deeds is every change that the bridge made in the tenant so far, in order.
func (b *bridge) deeds(ctx context.Context) ([]string, error) {
	journal, err := b.Tenant.Journal(ctx, 0)
	return deeds(journal), err
}

// watch samples the sockets of a process from the kernel's tables for as long as the test lives.
type watch struct {
	name     string
	stop     context.CancelFunc
	done     chan struct{}
	samples  atomic.Int64
	children atomic.Int64 // samples of its children
	may      []string     // listeners that are as they should be
	found    []string     // owned by the goroutine until done
}

const sampleEvery = 200 * time.Millisecond // reading the tables costs some milliseconds

// watch looks at a process and its children from now on. What it may listen on is given as Sockets says it; a consumer may on
// nothing.
func (b *bridge) watch(p *stage.Process, may ...string) {
	ctx, stop := context.WithCancel(context.Background())
	w := &watch{stop: stop, done: make(chan struct{}), name: p.Name, may: may}
	b.watched = append(b.watched, w)
	go func() {
		defer close(w.done)
		tick := time.NewTicker(sampleEvery)
		defer tick.Stop()
		for {
			if pid := p.PID(); pid != 0 {
				family := stage.Family(pid) // a child may speak to the mid-point
				for _, one := range family {
					s, err := stage.SocketsOf(one)
					switch {
					case errors.Is(err, stage.ErrNoProc):
						return
					case err == nil: // else it has just ended
						w.found = append(w.found, s.Listening...)
						if one == pid {
							w.samples.Add(1)
						} else {
							w.children.Add(1)
						}
					}
				}
			}
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
		}
	}()
}

// end stops watching; an error says where the process listened.
func (w *watch) end() error {
	w.stop()
	<-w.done
	slices.Sort(w.found)
	found := slices.DeleteFunc(slices.Compact(w.found), func(at string) bool { return slices.Contains(w.may, at) })
	if len(found) > 0 {
		return fmt.Errorf("%s must never listen but on %q; it did on %q", w.name, w.may, found)
	}
	return nil
}

// recorded is how many entries the consumer's ledger has in its database.
func (b *bridge) recorded() (int64, error) {
	db, err := state.OpenRead(filepath.Join(b.EnclaveDir, "consumer.db"))
	if err != nil {
		return 0, err
	}
	defer db.Close()
	return ledger.Size(db.DB)
}

// alarms are those that stand, by code and, where there is one, key.
func (b *bridge) alarms() (codes []string, err error) {
	db, err := state.OpenRead(filepath.Join(b.EnclaveDir, "consumer.db"))
	if err != nil {
		return nil, err
	}
	defer db.Close()
	list, err := state.Alarms(db.Read())
	for _, a := range list {
		codes = append(codes, strings.TrimSpace(a.Code+" "+a.Key))
	}
	return codes, err
}

// undone says what quiet waits for, for people.
func (b *bridge) undone(seq uint64) string {
	db, err := state.OpenRead(filepath.Join(b.EnclaveDir, "consumer.db"))
	if err != nil {
		return err.Error()
	}
	defer db.Close()
	var out strings.Builder
	if streams, err := state.Streams(db.Read()); err == nil && len(streams) > 0 {
		fmt.Fprintf(&out, "stream at %d (seen %d) of %d\n", streams[0].Head, streams[0].Highest, seq)
	}
	if open, err := state.OpenIntents(db.Read()); err == nil {
		for _, o := range open {
			fmt.Fprintf(&out, "intent %d of subject %s has no outcome\n", o.Index, o.Subject)
		}
	}
	err = state.EachSubject(db.Read(), func(p *state.Subject) error {
		if p.Lane != plan.Idle {
			fmt.Fprintf(&out, "subject %s: lane %s, due %v, attempts %d, note %q\n", p.Subject, p.Lane, p.Due, p.Attempts, p.Note)
		}
		return nil
	})
	if err != nil {
		fmt.Fprintln(&out, err)
	}
	return out.String()
}
