package main

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"

	"jmlbridge/consumer/state"
	"jmlbridge/e2e/sandbox/tenant"
	"jmlbridge/e2e/stage"
	"jmlbridge/internal/directory"
)

// crowd is people on a stage of their own, who join and leave as a whole.
type crowd struct {
	*stage.Stage
	o      *options
	name   string
	people []stage.Row
	said   int64 // size of the producer's ledger before they left
}

// newCrowd sets the stage up for n people, with what c says, and starts it.
func newCrowd(ctx context.Context, o *options, name string, n int, c stage.Config, sandbox ...string) (_ *crowd, err error) {
	g := &crowd{o: o, name: name}
	for i := range n {
		g.people = append(g.people, someone("leaver", i))
	}
	if g.Stage, err = newStageWith(ctx, o, c, name, sandbox...); err != nil {
		return nil, err
	}
	if err := g.Start(ctx); err != nil {
		return nil, errors.Join(err, g.Close())
	}
	return g, nil
}

// plant gives everybody the account that the bridge would make, with its mark: making them takes the tenant's quota.
func (g *crowd) plant(ctx context.Context) error {
	var seed tenant.Seed
	for i, p := range g.people {
		seed.Users = append(seed.Users, tenant.SeedUser{UserPrincipalName: upn(p), DisplayName: p.Given + " " + p.Family, Groups: []string{stage.Groups()[0].Display},
			Properties: map[string]any{"givenName": p.Given, "surname": p.Family, "employeeId": p.ID, "jobTitle": p.Title, "department": p.Department, "usageLocation": "US",
				"onPremisesExtensionAttributes": map[string]any{"extensionAttribute15": directory.Mark(stage.Issuer, p.ID)}}})
		if len(seed.Users) < planted && i < len(g.people)-1 {
			continue
		}
		text, err := json.Marshal(seed)
		if err != nil {
			return err
		}
		if err := g.Tenant.Plant(ctx, string(text)); err != nil {
			return err
		}
		seed.Users = nil
	}
	return nil
}

// planted is how many accounts the tenant is given at once.
const planted = 1000

// join hires everybody, and waits until nothing more is to be given.
func (g *crowd) join(ctx context.Context) error {
	g.o.progress("%s: %s people join", g.name, thousands(int64(len(g.people))))
	if err := g.tell(ctx, "joined.csv", g.people); err != nil {
		return err
	}
	return g.counted(ctx, "everyone to have an account", `SELECT COUNT(*) FROM subject WHERE lane = 0 AND account <> ''`)
}

// leave imports an export in which everybody has left.
func (g *crowd) leave(ctx context.Context) (err error) {
	g.o.progress("%s: all of them leave", g.name)
	if g.said, err = g.Sent.Size(); err != nil {
		return err
	}
	gone := make([]stage.Row, len(g.people))
	for i, p := range g.people {
		p.Status, p.Reason = "Inactive", "Dismissed"
		gone[i] = p
	}
	return g.tell(ctx, "gone.csv", gone)
}

func (g *crowd) tell(ctx context.Context, name string, rows []stage.Row) error {
	file := filepath.Join(g.Dir, name)
	if err := os.WriteFile(file, []byte(stage.Export(rows...)), 0o600); err != nil {
		return err
	}
	_, err := g.ProducerDo(ctx, "import", file)
	return err
}

// counted waits until a query of the consumer's database counts everybody.
func (g *crowd) counted(ctx context.Context, what, query string) error {
	db, err := state.OpenRead(filepath.Join(g.EnclaveDir, "consumer.db"))
	if err != nil {
		return err
	}
	defer db.Close()
	return stage.Until(ctx, what, func() (bool, error) {
		var got int
		err := db.Read().QueryRowContext(ctx, query).Scan(&got)
		return got >= len(g.people), err
	})
}
