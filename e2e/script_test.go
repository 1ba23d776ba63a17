package e2e

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/transparency-dev/tessera/api/layout"

	"jmlbridge/e2e/sandbox/tenant"
	"jmlbridge/e2e/stage"
)

// TestScripts runs the stories of testdata/scripts. Besides testscript's own commands they know:
//
//	bridge [grace=1h] [lease=1s] ...   sets a bridge up and starts all of it; !: sets up, starts nothing
//	import FILE                        gives an HR export to the producer; !: it must fail
//	producer|consumer|auditor ARGS...  runs a command of the program; !: it must fail
//	code N...                          the last such command ended with this exit code, or one of these
//	begin|end|sigkill|ended NAME       a process: consumer, producer, midpoint; ended: waits until it ends by itself
//	line NAME REGEXP                   waits for a line of its log that was not looked at before
//	settled                            waits until all that was said is done in the tenant
//	published                          waits until all that was recorded is under the signed checkpoint
//	outage unavailable|refused|none    of the tenant
//	bus outage refused|silent|none     of a mid-point of Service Bus; what it holds stays
//	bus reset                          breaks its connections
//	bus fault FILE, bus mend           puts faults in force there, ends them
//	bus poison KIND...                 sends what is made to trip the receiver, with the producer's credential; see stage.Bus
//	bus dead                           waits until its queue holds nothing but dead letters
//	bus empty                          waits until it holds nothing at all
//	owner takes                        the mid-point's owner runs a NATS server in its place that keeps no promise
//	owner purge|anew|keep              deletes all messages; deletes the stream and makes it again; copies all messages
//	owner replay all|backwards|N       publishes what was kept again, with the producer's credential; N: the oldest ones
//	disk truncate|lose|flip            damages the messages in the store of a mid-point that does not run
//	recorded KIND CODE                 waits for a ledger entry that was not looked at before
//	sent                               waits until the mid-point has confirmed all that was said
//	child NAME                         kills the process by which the consumer or the producer speaks to the mid-point
//	fault YAML                         puts a fault in force in the tenant
//	tenant                             prints every account, as the tenant itself has it
//	deeds                              prints what the bridge changed in the tenant since the last time
//	fsck [DIR]                         tessera's fsck over the consumer's tiles, or a copy; !: it must fail
//	newer|older FILE                   makes a database claim the next or the previous version of its schema
//	append FILE TEXT, replace FILE OLD NEW    edits a file
//	capture NAME REGEXP                sets $NAME to what the group matches in the output of the last command
//	flip DIR                           copies the consumer's ledger to DIR and turns one bit of an entry
//
// Variables: $ENCLAVE, $COMMERCIAL and $AUDITOR are the folders of the three kinds of people.
func TestScripts(t *testing.T) {
	if _, err := programs(); err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	testscript.Run(t, testscript.Params{
		Dir:                 filepath.Join("testdata", "scripts"),
		RequireUniqueNames:  true,
		RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			env.Values[storyKey{}] = &story{ctx: ctx, dir: env.WorkDir, marks: map[string]int{}}
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"bridge": command((*story).bridge), "import": command((*story).imports),
			"producer": program("producer"), "consumer": program("consumer"), "auditor": program("auditor"),
			"code": command((*story).code), "begin": process((*stage.Process).Start), "end": process((*stage.Process).Stop),
			"sigkill": process(func(p *stage.Process, _ context.Context) error { return p.Kill() }),
			"ended":   process((*stage.Process).Wait),
			"line":    command((*story).line),
			"settled": command(func(s *story, _ *testscript.TestScript, _ []string) error { return s.b.settled(s.ctx) }),
			"published": command(func(s *story, _ *testscript.TestScript, _ []string) error {
				return s.b.published(s.ctx)
			}),
			"outage": command(func(s *story, _ *testscript.TestScript, args []string) error {
				return s.b.Tenant.Outage(s.ctx, tenant.Outage(args[0]))
			}),
			"fault": command((*story).fault),
			"bus":   command((*story).bus), "owner": command((*story).owner), "disk": command((*story).disk), "recorded": command((*story).recorded),
			"sent": command((*story).sent), "child": command((*story).child), "replaced": command((*story).replaced),
			"tenant": command((*story).tenant), "deeds": command((*story).deeds),
			"fsck": command((*story).fsck), "flip": command((*story).flip),
			"capture": command(func(_ *story, ts *testscript.TestScript, args []string) error {
				m := regexp.MustCompile(args[1]).FindStringSubmatch(ts.ReadFile("stdout"))
				if m == nil {
					return fmt.Errorf("the output has nothing like %s", args[1])
				}
				ts.Setenv(args[0], m[1])
				return nil
			}),
			"newer": aged(1), "older": aged(-1),
			"append": edit(2, func(text string, args []string) string { return text + args[0] + "\n" }),
			"replace": edit(3, func(text string, args []string) string {
				return strings.ReplaceAll(text, args[0], args[1])
			}),
		},
	})
}

// commandTime is how long a command of a program may take.
const commandTime = 20 * time.Second

// story is one script that runs.
type story struct {
	ctx   context.Context
	dir   string
	b     *bridge
	last  int            // exit code of the last command
	marks map[string]int // by process: the last line looked at
	told  int            // deeds that were printed
	read  int64          // ledger entries that were looked at
	thief *stage.Owner   // of the mid-point
}

type storyKey struct{}

// command makes one of testscript's out of one that fails by an error; after ! it must fail.
func command(do func(*story, *testscript.TestScript, []string) error) func(*testscript.TestScript, bool, []string) {
	return func(ts *testscript.TestScript, neg bool, args []string) {
		s := ts.Value(storyKey{}).(*story)
		err := do(s, ts, args)
		switch {
		case err != nil && !neg:
			ts.Fatalf("%v", err)
		case err == nil && neg:
			ts.Fatalf("it was to fail and did not")
		}
	}
}

func (s *story) bridge(ts *testscript.TestScript, args []string) error {
	c := stage.Config{}
	begin := true
	for _, a := range args {
		key, value, _ := strings.Cut(a, "=")
		switch key {
		case "down":
			begin = false
		case "grace":
			c.Grace = value
		case "lease":
			d, err := time.ParseDuration(value)
			if err != nil {
				return err
			}
			c.Lease = d
		case "queue":
			c.Queue = value
		case "transport":
			c.Transport = value
		case "identities":
			c.Identities = true
		case "pull":
			c.Pull = value
		case "ttl":
			d, err := time.ParseDuration(value)
			if err != nil {
				return err
			}
			c.TTL = d
		case "sandbox":
			c.Sandbox = append(c.Sandbox, "-"+value)
		case "cut_per_hour", "give_per_hour":
			n, err := strconv.Atoi(value)
			if err != nil {
				return err
			}
			if key == "cut_per_hour" {
				c.CutPerHour = n
			} else {
				c.GivePerHour = n
			}
		default:
			return fmt.Errorf("bridge knows no %s", key)
		}
	}
	b, err := raise(s.ctx, s.dir, programs, c)
	if err != nil {
		return err
	}
	s.b = b
	ts.Defer(func() {
		if err := b.close(); err != nil {
			ts.Fatalf("%v", err)
		}
	})
	ts.Setenv("ENCLAVE", b.EnclaveDir)
	ts.Setenv("COMMERCIAL", b.Commercial)
	ts.Setenv("AUDITOR", b.AuditorDir)
	if !begin {
		return nil
	}
	return b.begin(s.ctx)
}

func (s *story) imports(ts *testscript.TestScript, args []string) error {
	r, err := s.b.importText(s.ctx, ts.ReadFile(args[0]))
	return s.ran(ts, r, err)
}

// ran keeps what a command left for stdout, stderr and code.
func (s *story) ran(ts *testscript.TestScript, r *stage.Result, err error) error {
	if r != nil {
		s.last = r.Code
		fmt.Fprint(ts.Stdout(), r.Stdout)
		fmt.Fprint(ts.Stderr(), r.Stderr)
	}
	return err
}

func program(name string) func(*testscript.TestScript, bool, []string) {
	return command(func(s *story, ts *testscript.TestScript, args []string) error {
		do := map[string]func(context.Context, ...string) (*stage.Result, error){"producer": s.b.ProducerDo, "consumer": s.b.ConsumerDo, "auditor": s.b.AuditorDo}[name]
		ctx, cancel := context.WithTimeout(s.ctx, commandTime)
		defer cancel()
		r, err := do(ctx, args...)
		if ctx.Err() != nil { // a run that was to be refused goes on
			ts.Fatalf("%s does not end within %v:\n%s", name, commandTime, r.Stderr)
		}
		return s.ran(ts, r, err)
	})
}

func (s *story) code(_ *testscript.TestScript, args []string) error {
	if got := strconv.Itoa(s.last); !slices.Contains(args, got) {
		return fmt.Errorf("want exit code %s, got %s", strings.Join(args, " or "), got)
	}
	return nil
}

func (s *story) process(name string) (*stage.Process, error) {
	p := map[string]*stage.Process{"consumer": s.b.Consumer, "producer": s.b.Producer, "midpoint": s.b.MidPoint}[name]
	if p == nil {
		return nil, fmt.Errorf("there is no process %q", name)
	}
	return p, nil
}

func process(do func(*stage.Process, context.Context) error) func(*testscript.TestScript, bool, []string) {
	return command(func(s *story, ts *testscript.TestScript, args []string) error {
		p, err := s.process(args[0])
		if err != nil {
			ts.Fatalf("%v", err)
		}
		ctx, cancel := context.WithTimeout(s.ctx, patience)
		defer cancel()
		err = do(p, ctx)
		var exit *stage.ExitError
		if errors.As(err, &exit) {
			s.last = exit.Code
			fmt.Fprintln(ts.Stderr(), exit.Last)
		}
		return err
	})
}

func (s *story) line(_ *testscript.TestScript, args []string) error {
	p, err := s.process(args[0])
	if err != nil {
		return err
	}
	re, err := regexp.Compile(args[1])
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(s.ctx, patience)
	defer cancel()
	l, err := p.WaitFor(ctx, "a line like "+args[1], s.marks[p.Name], func(l stage.Line) bool { return re.MatchString(l.Text) })
	if err == nil {
		s.marks[p.Name] = l.N
	}
	return err
}

func (s *story) fault(ts *testscript.TestScript, args []string) error {
	list, err := tenant.ParseFaults([]byte(ts.ReadFile(args[0])))
	if err != nil {
		return err
	}
	return s.b.Tenant.AddFaults(s.ctx, list...)
}

// tenant prints a line for each account but the one for emergencies: name without domain, whether it is enabled, whether sessions were
// ever revoked, manager and groups.
func (s *story) tenant(ts *testscript.TestScript, _ []string) error {
	state, err := s.b.Tenant.State(s.ctx)
	if err != nil {
		return err
	}
	for _, u := range state.Users {
		if u.UserPrincipalName == stage.BreakGlass {
			continue // nobody's business; its deeds would show
		}
		words := []string{strings.TrimSuffix(u.UserPrincipalName, "@"+stage.Domain), map[bool]string{true: "enabled", false: "disabled"}[u.Enabled]}
		if u.SessionsRevoked {
			words = append(words, "revoked")
		}
		if u.SoftDeleted {
			words = append(words, "deleted")
		}
		if u.Manager != "" {
			words = append(words, "manager="+strings.TrimSuffix(u.Manager, "@"+stage.Domain))
		}
		for _, g := range u.Groups {
			words = append(words, "["+g+"]")
		}
		fmt.Fprintln(ts.Stdout(), strings.Join(words, " "))
	}
	return nil
}

func (s *story) deeds(ts *testscript.TestScript, _ []string) error {
	list, err := s.b.deeds(s.ctx)
	if err != nil {
		return err
	}
	fmt.Fprint(ts.Stdout()) // also where there are none
	for _, d := range list[s.told:] {
		fmt.Fprintln(ts.Stdout(), strings.ReplaceAll(d, "@"+stage.Domain, ""))
	}
	s.told = len(list)
	return nil
}

func (s *story) fsck(ts *testscript.TestScript, args []string) error {
	dir := s.b.Ledger.Dir
	if len(args) > 0 {
		dir = ts.MkAbs(args[0])
	}
	return runFsck(s.ctx, filepath.Join(dir, "tiles"), s.b.Ledger.Key)
}

func (s *story) flip(ts *testscript.TestScript, args []string) error {
	size, err := s.b.Ledger.Size()
	if err != nil {
		return err
	}
	// The bundle with entry 0, as the checkpoint has it: folders also hold shorter ones of earlier checkpoints.
	bundle := layout.EntriesPath(0, layout.PartialTileSize(0, 0, uint64(size)))
	return flipped(s.b.Ledger.Dir, ts.MkAbs(args[0]), path.Join("tiles", bundle), 100, 3)
}

// aged makes a database say that another version of the program wrote it.
func aged(by int) func(*testscript.TestScript, bool, []string) {
	return command(func(_ *story, ts *testscript.TestScript, args []string) error {
		db, err := sql.Open("sqlite", ts.MkAbs(args[0]))
		if err != nil {
			return err
		}
		defer db.Close()
		var version int
		if err := db.QueryRow("PRAGMA user_version").Scan(&version); err != nil {
			return err
		}
		_, err = db.Exec(fmt.Sprintf("PRAGMA user_version = %d", version+by))
		return err
	})
}

// edit changes the text of a file; where it would not change, the story is about something else.
func edit(args int, change func(text string, args []string) string) func(*testscript.TestScript, bool, []string) {
	return command(func(_ *story, ts *testscript.TestScript, a []string) error {
		if len(a) != args {
			return fmt.Errorf("want %d arguments, got %q", args, a)
		}
		text := ts.ReadFile(a[0])
		with := change(text, a[1:])
		if with == text {
			return fmt.Errorf("%s has nothing like %q", a[0], a[1])
		}
		return os.WriteFile(ts.MkAbs(a[0]), []byte(with), 0o600)
	})
}
