package apply

import (
	"context"
	"path/filepath"
	"sync/atomic"
	"testing"

	"jmlbridge/consumer/fence"
	"jmlbridge/consumer/plan"
	"jmlbridge/e2e/sandbox/tenant"
	"jmlbridge/internal/directory"
	"jmlbridge/internal/disk"
	"jmlbridge/schema"
)

// volume is a room whose free space the test decides.
type volume struct {
	*disk.Room
	free atomic.Int64
}

func (v *volume) Full(error) bool { return false }

func newVolume(t *testing.T, free int64) *volume {
	v := &volume{}
	v.free.Store(free)
	v.Room = disk.New(disk.Config{Path: filepath.Join(t.TempDir(), "reserve"), Size: 80 << 10, Free: func(string) (int64, error) { return v.free.Load(), nil }})
	v.look(t)
	return v
}

func (v *volume) look(t *testing.T) {
	t.Helper()
	if _, err := v.Look(); err != nil {
		t.Fatal(err)
	}
}

// filling runs the disk low while the tenant is asked for an account.
type filling struct {
	Granter
	v *volume
	t *testing.T
}

func (f filling) FindByMark(ctx context.Context, mark string) ([]directory.Account, directory.Receipt, error) {
	f.v.free.Store(0)
	f.v.look(f.t)
	return f.Granter.FindByMark(ctx, mark)
}

// A disk that runs low between the look at an account and the record of what is to be given has nothing for that: what is
// laid by is for cuts.
func TestADiskThatRunsLowDuringALook(t *testing.T) {
	v := newVolume(t, 1<<30)
	b := setup(t, func(_ *tenant.Config, c *Config) { c.Room = v })
	grant := b.config.Grant
	b.config.Grant = filling{grant, v, t}
	b.join("eve", "Eve", "analyst")
	e, err := New(b.config)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.Step(t.Context()); err != nil {
		t.Fatal(err)
	}
	if intents, _ := b.explained(); v.Level() == disk.Ample || intents > 0 || b.row("eve").Lane != plan.Give {
		t.Errorf("on a disk that is %s there are %d intents; eve waits in lane %s", v.Level(), intents, b.row("eve").Lane)
	}
	b.config.Grant = grant
	v.free.Store(1 << 30)
	v.look(t)
	b.settle()
	if !b.user("eve.ng").Enabled {
		t.Error("with room again eve has no account")
	}
}

// A disk that is low, or full, lets cuts and what movers lose through; what gives waits, and is given when there is
// room again.
func TestOnALowDiskOnlyWhatTakesIsDone(t *testing.T) {
	for _, level := range []struct {
		name string
		free int64
	}{{"low", 60 << 10}, {"full", 0}} {
		t.Run(level.name, func(t *testing.T) {
			v := newVolume(t, 1<<30)
			b := setup(t, func(_ *tenant.Config, c *Config) { c.Room = v })
			b.join("ann", "Ann", "analyst")
			b.join("bob", "Bob", "lead")
			b.settle()
			v.free.Store(level.free)
			v.look(t)
			if got := v.Level().String(); got != level.name {
				t.Fatalf("the disk is %s", got)
			}
			b.say("ann", fence.Fact{Kind: schema.KindLeaver})
			b.say("bob", fence.Fact{Kind: schema.KindMover, Roles: []string{"analyst"}, Person: person("Bob")})
			b.join("eve", "Eve", "analyst")
			b.work(func() bool {
				return !b.enabled("ann") && b.row("bob").Lane != plan.Take && len(b.user("ann.ng").Groups) == 0
			})
			if got := b.user("bob.ng").Groups; len(got) != 1 {
				t.Errorf("the mover is in %q", got)
			}
			if n := b.writes("create"); n != 2 || b.row("eve").Lane != plan.Give {
				t.Errorf("%d accounts were made; eve waits in lane %v", n, b.row("eve").Lane)
			}
			v.free.Store(1 << 30)
			v.look(t)
			b.settle()
			if !b.user("eve.ng").Enabled {
				t.Error("with room again eve has no account")
			}
		})
	}
}
