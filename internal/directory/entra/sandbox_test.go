package entra

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	sandbox "jmlbridge/e2e/sandbox/tenant"
	"jmlbridge/internal/cloud"
	"jmlbridge/internal/directory"
	"jmlbridge/internal/outbound"
)

// rehearsal is a sandbox tenant and the two slots' way into it, each with its own certificate.
type rehearsal struct {
	*sandbox.Server
	cut, grant *Tenant
}

func rehearse(t *testing.T, cfg sandbox.Config) *rehearsal {
	t.Helper()
	s, err := sandbox.Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return &rehearsal{s, enter(t, s, "cut", cfg.Now), enter(t, s, "grant", cfg.Now)}
}

func enter(t *testing.T, s *sandbox.Server, app string, now func() time.Time) *Tenant {
	t.Helper()
	at := s.Endpoints()
	c, err := cloud.Config{Name: cloud.Custom, Authority: at.Authority, GraphRoot: at.GraphV1}.Cloud()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	ca, pem := filepath.Join(dir, "ca.pem"), filepath.Join(dir, "app.pem")
	write(t, ca, s.CAPEM())
	write(t, pem, s.App(app).Certificate)
	way, err := outbound.New(outbound.Config{CAFile: ca, Proxy: "none"})
	if err != nil {
		t.Fatal(err)
	}
	tr := way.Transport()
	t.Cleanup(tr.CloseIdleConnections)
	return open(t, Config{Cloud: c, Transport: tr, Now: now, Credential: cloud.CredentialConfig{
		Kind: cloud.ClientCertificate, Tenant: at.Tenant, Client: s.App(app).ID, CertificateFile: pem}})
}

var aGroup = sandbox.SeedGroup{ID: groupID, DisplayName: "SOC"}

func joiner() directory.NewAccount {
	n := newcomer
	n.UPN = "pat.doe@rehearsal.example"
	return n
}

// TestAccountsLife: from create to soft delete, what the tenant then holds, and every receipt in its journal.
func TestAccountsLife(t *testing.T) {
	r := rehearse(t, sandbox.Config{Seed: sandbox.Seed{Groups: []sandbox.SeedGroup{aGroup},
		Users: []sandbox.SeedUser{{ID: bossID, UserPrincipalName: "boss@rehearsal.example", DisplayName: "Boss"}}}})
	ctx := t.Context()
	var receipts []directory.Request
	ok := func(receipt directory.Receipt, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		receipts = append(receipts, receipt.Requests...)
	}
	fails := func(receipt directory.Receipt, err error, code string, kinds ...error) {
		t.Helper()
		wantKinds(t, code, err, code, kinds...)
		receipts = append(receipts, receipt.Requests...)
	}

	n := joiner()
	a, receipt, err := r.grant.Create(ctx, n)
	ok(receipt, err)
	_, receipt, err = r.grant.Create(ctx, n)
	fails(receipt, err, directory.CodeConflict, directory.ErrConflict)
	if e, _ := errors.AsType[*directory.Error](err); e.Target != "userPrincipalName" {
		t.Errorf("conflict on %q", e.Target)
	}

	got, receipt, err := r.cut.Get(ctx, a.ID)
	ok(receipt, err)
	if got.Mark != n.Mark || got.Attributes != n.Attributes || got.Enabled == nil || !*got.Enabled {
		t.Errorf("got %+v", got)
	}
	for name, find := range map[string]func() ([]directory.Account, directory.Receipt, error){
		"mark": func() ([]directory.Account, directory.Receipt, error) { return r.grant.FindByMark(ctx, n.Mark) },
		"employee id": func() ([]directory.Account, directory.Receipt, error) {
			return r.grant.FindByEmployeeID(ctx, n.Attributes.EmployeeID)
		},
	} {
		found, receipt, err := find()
		ok(receipt, err)
		if len(found) != 1 || found[0].ID != a.ID {
			t.Errorf("by %s: %+v", name, found)
		}
	}
	nobody, receipt, err := r.grant.FindByMark(ctx, strings.ToUpper(n.Mark))
	ok(receipt, err)
	if len(nobody) != 0 {
		t.Errorf("another mark finds %+v", nobody)
	}

	ok(r.grant.AddMember(ctx, groupID, a.ID))
	receipt, err = r.grant.AddMember(ctx, groupID, a.ID)
	fails(receipt, err, directory.CodeAlready, directory.ErrAlready)
	groups, receipt, err := r.grant.Groups(ctx, a.ID)
	ok(receipt, err)
	if !slices.Equal(groups, []string{groupID}) {
		t.Errorf("groups %v", groups)
	}
	group, receipt, err := r.grant.Group(ctx, groupID)
	ok(receipt, err)
	if group != (directory.Group{ID: groupID, Name: "SOC"}) {
		t.Errorf("group %+v", group)
	}

	ok(r.grant.SetManager(ctx, a.ID, bossID))
	ok(r.grant.ClearManager(ctx, a.ID))
	receipt, err = r.grant.ClearManager(ctx, a.ID)
	fails(receipt, err, directory.CodeNotFound, directory.ErrNotFound)

	moved := n.Attributes
	moved.JobTitle, moved.Department, moved.CostCenter = "Lead", "", ""
	ok(r.grant.Update(ctx, a.ID, n.Attributes, moved))
	got, receipt, err = r.grant.GetByUPN(ctx, n.UPN)
	ok(receipt, err)
	if got.Attributes != moved {
		t.Errorf("after the move: %+v", got.Attributes)
	}

	ok(r.cut.Disable(ctx, a.ID))
	ok(r.cut.Disable(ctx, a.ID))
	ok(r.cut.RevokeSessions(ctx, a.ID))
	ok(r.cut.RemoveMember(ctx, groupID, a.ID))
	receipt, err = r.cut.RemoveMember(ctx, groupID, a.ID)
	fails(receipt, err, directory.CodeNotFound, directory.ErrNotFound)
	if u := r.Snapshot().User(n.UPN); u == nil || u.Enabled || !u.SessionsRevoked || len(u.Groups) != 0 || u.Manager != "" {
		t.Errorf("the tenant holds %+v", u)
	}
	ok(r.grant.Enable(ctx, a.ID))
	if !r.Snapshot().User(n.UPN).Enabled {
		t.Error("not enabled")
	}
	ok(r.cut.Delete(ctx, a.ID))
	receipt, err = r.cut.Delete(ctx, a.ID)
	fails(receipt, err, directory.CodeNotFound, directory.ErrNotFound)

	// The slots differ: what cuts cannot create.
	other := joiner()
	other.UPN, other.Mark = "other@rehearsal.example", "m"
	_, receipt, err = r.cut.Create(ctx, other)
	fails(receipt, err, directory.CodeDenied, directory.ErrDenied)

	byID := map[string]sandbox.Entry{}
	graph := 0
	for _, e := range r.Journal() {
		if strings.HasPrefix(e.Path, "/v1.0/") {
			graph++
			byID[e.ClientRequestID] = e
		}
	}
	if graph != len(receipts) {
		t.Errorf("%d requests in the journal, %d receipts", graph, len(receipts))
	}
	for _, q := range receipts {
		if e, ok := byID[q.ClientRequestID]; !ok || e.RequestID != q.RequestID || e.Status != q.Status {
			t.Errorf("receipt %+v, journal %+v", q, e)
		}
	}
}

func TestRevokedAtTheTenant(t *testing.T) {
	r := rehearse(t, sandbox.Config{Seed: sandbox.Seed{Users: []sandbox.SeedUser{{ID: userID, UserPrincipalName: "u@rehearsal.example", DisplayName: "U"}}}})
	if _, err := r.cut.Disable(t.Context(), userID); err != nil {
		t.Fatal(err)
	}
	if err := r.RevokeTokens("cut"); err != nil {
		t.Fatal(err)
	}
	_, err := r.cut.Disable(t.Context(), userID)
	wantKinds(t, "revoked", err, directory.CodeToken, directory.ErrDenied)
	if _, err := r.cut.Disable(t.Context(), userID); err != nil {
		t.Errorf("with a new token: %v", err)
	}
}

func TestReplication(t *testing.T) {
	c := &clock{at: time.Now()}
	r := rehearse(t, sandbox.Config{Now: c.now, Replication: sandbox.Replication{Lag: time.Minute, IndexLag: 2 * time.Minute, WriteLag: time.Minute},
		Seed: sandbox.Seed{Groups: []sandbox.SeedGroup{aGroup}}})
	ctx := t.Context()
	n := joiner()
	a, _, err := r.grant.Create(ctx, n)
	if err != nil {
		t.Fatal(err)
	}
	_, _, err = r.grant.Get(ctx, a.ID)
	wantKinds(t, "get", err, directory.CodeNotFound, directory.ErrNotFound)
	found, _, err := r.grant.FindByMark(ctx, n.Mark)
	if err != nil || len(found) != 0 {
		t.Errorf("found %v, %v", found, err)
	}
	if _, err := r.grant.AddMember(ctx, groupID, a.ID); !errors.Is(err, directory.ErrNotFound) {
		t.Errorf("a new account into an old group: %v", err)
	}
	late, err := r.CreateGroup(sandbox.SeedGroup{DisplayName: "new"})
	if err != nil {
		t.Fatal(err)
	}
	_, err = r.grant.AddMember(ctx, late, a.ID)
	wantKinds(t, "a new group", err, directory.CodeNotReplicated, directory.ErrNotReplicated, directory.ErrNotFound)
	c.pass(90 * time.Second)
	if _, err = r.grant.AddMember(ctx, late, a.ID); err != nil {
		t.Errorf("after a while: %v", err)
	}
	if _, _, err := r.grant.Get(ctx, a.ID); err != nil {
		t.Errorf("after a while: %v", err)
	}
	c.pass(time.Minute)
	if found, _, err := r.grant.FindByMark(ctx, n.Mark); err != nil || len(found) != 1 {
		t.Errorf("found %v, %v", found, err)
	}
}

func TestOutages(t *testing.T) {
	r := rehearse(t, sandbox.Config{Seed: sandbox.Seed{Users: []sandbox.SeedUser{{ID: userID, UserPrincipalName: "u@rehearsal.example", DisplayName: "U"}}}})
	if _, err := r.cut.Disable(t.Context(), userID); err != nil {
		t.Fatal(err)
	}
	if err := r.SetOutage(sandbox.Unavailable); err != nil {
		t.Fatal(err)
	}
	_, err := r.cut.Disable(t.Context(), userID)
	wantKinds(t, "unavailable", err, directory.CodeUnavailable, directory.ErrAmbiguous)
	if err := r.SetOutage(sandbox.Refused); err != nil {
		t.Fatal(err)
	}
	// The first may meet the connection that was cut; then there is none to be had.
	_, err = r.cut.Disable(t.Context(), userID)
	if !errors.Is(err, directory.ErrAmbiguous) {
		t.Error(err)
	}
	_, err = r.cut.Disable(t.Context(), userID)
	wantKinds(t, "refused", err, directory.CodeNoConnection, directory.ErrAmbiguous, directory.ErrUnsent)
	if err := r.SetOutage(sandbox.NoOutage); err != nil {
		t.Fatal(err)
	}
	if _, err := r.cut.Disable(t.Context(), userID); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

func TestGroupsOfEveryKind(t *testing.T) {
	r := rehearse(t, sandbox.Config{Seed: sandbox.Seed{Groups: []sandbox.SeedGroup{
		{ID: "g-dynamic", DisplayName: "D", Dynamic: true}, {ID: "g-role", DisplayName: "R", RoleAssignable: true}, {ID: "g-mail", DisplayName: "M", MailEnabled: true}}}})
	for id, want := range map[string]directory.Group{
		"g-dynamic": {ID: "g-dynamic", Name: "D", Dynamic: true},
		"g-role":    {ID: "g-role", Name: "R", RoleAssignable: true},
		"g-mail":    {ID: "g-mail", Name: "M", Foreign: true},
	} {
		if got, _, err := r.grant.Group(t.Context(), id); err != nil || got != want {
			t.Errorf("%+v, %v", got, err)
		}
	}
	_, _, err := r.grant.Group(t.Context(), groupID)
	wantKinds(t, "none", err, directory.CodeNotFound, directory.ErrNotFound)
}

// TestManyGroups: every page is read.
func TestManyGroups(t *testing.T) {
	const n = 1100
	var seed sandbox.Seed
	u := sandbox.SeedUser{ID: userID, UserPrincipalName: "u@rehearsal.example", DisplayName: "U"}
	for i := range n {
		name := fmt.Sprintf("group %04d", i)
		seed.Groups = append(seed.Groups, sandbox.SeedGroup{DisplayName: name})
		u.Groups = append(u.Groups, name)
	}
	seed.Users = append(seed.Users, u)
	r := rehearse(t, sandbox.Config{Seed: seed})
	groups, receipt, err := r.cut.Groups(t.Context(), userID)
	if err != nil || len(groups) != n || len(receipt.Requests) != 2 {
		t.Errorf("%d groups in %d requests, %v", len(groups), len(receipt.Requests), err)
	}
}

// Who is in a group is read with the right that taking them out of it needs, over several pages; a group that is not there is
// not found.
func TestMembersOfAGroup(t *testing.T) {
	const people = 1200 // more than a page
	seed := sandbox.Seed{Groups: []sandbox.SeedGroup{aGroup}}
	for i := range people {
		seed.Users = append(seed.Users, sandbox.SeedUser{UserPrincipalName: fmt.Sprintf("p%d@rehearsal.example", i), DisplayName: "P", Groups: []string{aGroup.DisplayName}})
	}
	r := rehearse(t, sandbox.Config{Seed: seed})
	all, pages := map[string]bool{}, 0
	for link := ""; pages == 0 || link != ""; pages++ {
		ids, next, receipt, err := r.cut.Members(t.Context(), groupID, link)
		if err != nil || len(receipt.Requests) != 1 {
			t.Fatalf("page %d: %v, %d requests", pages+1, err, len(receipt.Requests))
		}
		for _, id := range ids {
			all[id] = true
		}
		link = next
	}
	if len(all) != people || pages != 2 {
		t.Errorf("%d members on %d pages", len(all), pages)
	}
	_, _, _, err := r.cut.Members(t.Context(), bossID, "")
	wantKinds(t, "no such group", err, directory.CodeNotFound, directory.ErrNotFound)
}
