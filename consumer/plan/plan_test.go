package plan

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"jmlbridge/consumer/fence"
	"jmlbridge/consumer/policy"
	"jmlbridge/internal/directory"
	"jmlbridge/schema"
)

const (
	issuer  = "https://iam.mssp.example/jml"
	socID   = "11111111-1111-4111-8111-111111111111"
	leadID  = "22222222-2222-4222-8222-222222222222"
	otherID = "99999999-9999-4999-8999-999999999999"
)

var now = time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC)

func testPolicy(t interface{ Fatal(...any) }) *policy.Policy {
	p, err := policy.Parse("policy.yaml", []byte(`version: 1
upn: {template: "{alias}", domain: gov.example.us}
usage_location: US
grace: 30d
groups: {soc: {id: `+socID+`}, lead: {id: `+leadID+`}}
roles: {analyst: {groups: [soc]}, lead: {groups: [soc, lead]}}
protected: [breakglass@gov.example.us]
limits: {give_per_hour: 100, cut_per_hour: 20}
`))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func yes(b bool) *bool { return &b }

func active(roles ...string) fence.View {
	return fence.View{Access: true, Why: fence.WhyActive, Want: fence.Want{Position: fence.Position{Engagement: 1}, Person: schema.Person{DisplayName: "Ana Ng"}, Roles: roles}}
}

func left() fence.View {
	return fence.View{Why: fence.WhyLeft, Closed: true, ClosedAt: now, Want: active("analyst").Want}
}

func account(enabled bool, groups ...string) *directory.Account {
	return &directory.Account{ID: "u1", Mark: directory.Mark(issuer, "1222"), UPN: "ana@gov.example.us", Enabled: yes(enabled),
		Attributes: directory.Attributes{DisplayName: "Ana Ng", EmployeeID: "1222", UsageLocation: "US"}, Groups: groups}
}

// Somebody whose access rests on a word that was disowned keeps what is there, loses what is to be lost, and is given
// nothing.
func TestAWordInDoubtGivesNothing(t *testing.T) {
	in := func(v fence.View) fence.View {
		v.Doubt = &fence.Doubt{Entry: 7}
		return v
	}
	for _, tc := range []struct {
		name string
		s    Situation
		want string
	}{
		{"nobody yet", Situation{View: in(active("analyst"))}, " | disowned(1222)"},
		{"a role to be given and one to be taken", Situation{View: in(active("analyst")), Account: account(true, leadID)}, "take:remove-member(lead) | disowned(1222)"},
		{"cut by us before", Situation{View: in(active("analyst")), Account: account(false), Known: Known{ID: "u1", DisabledAt: now.Add(-time.Hour), RevokedAt: now}}, " | disowned(1222)"},
		{"a leaver", Situation{View: in(left()), Account: account(true)}, "disable:disable revoke:revoke-sessions"},
	} {
		tc.s.Issuer, tc.s.Subject, tc.s.Now = issuer, "1222", now
		if got := show(For(tc.s, testPolicy(t))); got != tc.want {
			t.Errorf("%s: got  %q\nwant %q", tc.name, got, tc.want)
		}
	}
}

func TestFor(t *testing.T) {
	suspended := fence.View{Why: fence.WhySuspended, Want: active("analyst").Want}
	foreign := account(true, socID)
	foreign.Mark = directory.Mark(issuer, "9999")
	protected := account(true, socID)
	protected.UPN = "BREAKGLASS@gov.example.us"
	cutBefore := Known{ID: "u1", DisabledAt: now.Add(-time.Hour), RevokedAt: now.Add(-time.Hour)}
	stripped := cutBefore
	stripped.StrippedAt = stripped.DisabledAt
	strippedNow := stripped // long after the disable, which was for a suspension
	strippedNow.StrippedAt, strippedNow.StrippedUp = now.AddDate(0, 0, 29), 29*24*time.Hour

	for _, tc := range []struct {
		name string
		s    Situation
		want string // operations by lane, then holds
	}{
		{"joiner", Situation{View: active("analyst")}, "give:create give:add-member(soc)"},
		{"joiner with a role nobody knows here", Situation{View: active("analyst", "pilot")}, "give:create give:add-member(soc) | unknown-role(pilot)"},
		{"nothing to do", Situation{View: active("analyst"), Account: account(true, socID)}, ""},
		{"mover: what is lost goes first", Situation{View: active("lead"), Account: account(true)}, "give:add-member(soc) give:add-member(lead)"},
		{"mover loses a role", Situation{View: active("analyst"), Account: account(true, socID, leadID)}, "take:remove-member(lead)"},
		{"memberships off the list are not ours", Situation{View: active("analyst"), Account: account(true, socID, otherID)}, ""},
		{"leaver", Situation{View: left(), Account: account(true, socID, otherID)}, "disable:disable revoke:revoke-sessions strip:remove-member(soc) | foreign-group(other)!"},
		{"leaver, already cut by us", Situation{View: left(), Account: account(false), Known: cutBefore}, ""},
		{"leaver whom a replica still shows enabled just after", Situation{View: left(), Account: account(true), Known: Known{ID: "u1", DisabledAt: now.Add(-time.Second), RevokedAt: now}}, ""},
		{"membership that a replica does not show just after", Situation{View: active("analyst"), Account: account(true), Known: Known{ID: "u1", Groups: []string{socID}, GivenAt: now.Add(-time.Second)}}, ""},
		{"membership that a replica shows just after it was taken", Situation{View: active("analyst"), Account: account(true, socID), Known: Known{ID: "u1", Taken: []string{socID}, TakenAt: now.Add(-time.Second)}}, "give:add-member(soc)"},
		{"membership that somebody gave after it was taken", Situation{View: active("analyst"), Account: account(true, socID), Known: Known{ID: "u1", Taken: []string{socID}, TakenAt: now.Add(-Settling)}}, ""},
		{"membership in doubt, given just before", Situation{View: active(), Account: account(true), Known: Known{ID: "u1", Groups: []string{socID}, Doubted: []string{socID}, GivenAt: now.Add(-time.Second)}}, ""},
		{"membership in doubt that a read shows", Situation{View: active(), Account: account(true, socID), Known: Known{ID: "u1", Groups: []string{socID}, Doubted: []string{socID}, GivenAt: now.Add(-time.Second)}}, "take:remove-member(soc)"},
		{"membership in doubt, settled by now", Situation{View: active(), Account: account(true), Known: Known{ID: "u1", Groups: []string{socID}, Doubted: []string{socID}, GivenAt: now.Add(-Settling)}}, "take:remove-member(soc)"},
		{"membership in doubt and wanted again", Situation{View: active("analyst"), Account: account(true), Known: Known{ID: "u1", Groups: []string{socID}, Doubted: []string{socID}, GivenAt: now.Add(-time.Second)}}, "give:add-member(soc)"},
		{"leaver that somebody enabled again", Situation{View: left(), Account: account(true), Known: cutBefore}, "disable:disable revoke:revoke-sessions"},
		{"leaver after grace", Situation{View: left(), Account: account(false), Known: stripped, Now: now.AddDate(0, 0, 30), Uptime: 30 * 24 * time.Hour}, "delete:delete"},
		{"leaver who was suspended for long", Situation{View: left(), Account: account(false), Known: strippedNow, Now: now.AddDate(0, 0, 30), Uptime: 30 * 24 * time.Hour}, ""},
		{"leaver after grace, most of which nothing ran", Situation{View: left(), Account: account(false), Known: stripped, Now: now.AddDate(0, 0, 30), Uptime: time.Hour}, ""},
		{"leaver whose account is gone", Situation{View: left()}, ""},
		{"suspended keeps memberships", Situation{View: suspended, Account: account(true, socID)}, "disable:disable revoke:revoke-sessions"},
		{"resumed", Situation{View: active("analyst"), Account: account(false, socID), Known: cutBefore}, "give:enable"},
		{"leaver whose membership the read does not show yet", Situation{View: left(), Account: account(false), Known: Known{ID: "u1", DisabledAt: now, RevokedAt: now, Groups: []string{socID}}}, "strip:remove-member(soc)"},
		{"leaver that somebody else disabled", Situation{View: left(), Account: account(false)}, "disable:disable revoke:revoke-sessions"},
		{"disabled by somebody in the enclave", Situation{View: active("analyst"), Account: account(false)}, " | disabled-locally(u1)"},
		{"not ours: joiner", Situation{View: active("analyst"), Account: foreign}, " | not-owned(u1)"},
		{"not ours: leaver", Situation{View: left(), Account: foreign}, " | not-owned(u1)!"},
		{"protected, even from a leaver", Situation{View: left(), Account: protected}, " | protected(u1)!"},
		{"unanswered enabled is not false", Situation{View: left(), Account: &directory.Account{ID: "u1", Mark: directory.Mark(issuer, "1222")}, Known: cutBefore}, "disable:disable revoke:revoke-sessions"},
		{"manager", Situation{View: active(), Account: account(true), Manager: "m1"}, "give:set-manager"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tc.s.Issuer, tc.s.Subject = issuer, "1222"
			if tc.s.Now.IsZero() {
				tc.s.Now = now
			}
			if got := show(For(tc.s, testPolicy(t))); got != tc.want {
				t.Errorf("got  %q\nwant %q", got, tc.want)
			}
		})
	}
}

func TestCutNeedsNoLook(t *testing.T) {
	pol := testPolicy(t)
	s := Situation{Issuer: issuer, Subject: "1222", View: left(), Known: Known{ID: "u1", UPN: "ana@gov.example.us"}, Now: now}
	if got := show(Cut(s, pol)); got != "disable:disable revoke:revoke-sessions" {
		t.Errorf("got %q", got)
	}
	s.Known.UPN = "breakglass@gov.example.us"
	if got := show(Cut(s, pol)); got != " | protected(u1)!" {
		t.Errorf("protected: got %q", got)
	}
	s.View = active("analyst")
	if got := show(Cut(s, pol)); got != "" {
		t.Errorf("with access: got %q", got)
	}
	s.Known.UPN, s.View = "ana@gov.example.us", fence.View{Why: fence.WhyUnknown}
	if got := show(Cut(s, pol)); got != "" {
		t.Errorf("of whom nothing is known: got %q", got)
	}
}

// Whatever is planned, doing it leads to a state in which nothing more is planned, and nothing on the
// way is what the bridge must never do.
func TestPlansConverge(t *testing.T) {
	pol := testPolicy(t)
	rapid.Check(t, func(t *rapid.T) {
		v := rapid.SampledFrom([]fence.View{active(), active("analyst"), active("lead"), active("pilot"), left(),
			{Why: fence.WhySuspended}, {Why: fence.WhyNotStarted, Want: active("lead").Want}, {Why: fence.WhyUnknown}}).Draw(t, "view")
		s := Situation{Issuer: issuer, Subject: "1222", View: v, Now: now}
		if rapid.Bool().Draw(t, "exists") {
			s.Account = account(rapid.Bool().Draw(t, "enabled"), rapid.SliceOfDistinct(rapid.SampledFrom([]string{socID, leadID, otherID}), rapid.ID[string]).Draw(t, "groups")...)
			s.Account.Attributes.JobTitle = rapid.SampledFrom([]string{"", "Analyst"}).Draw(t, "title")
			s.Known.ID = "u1"
			if rapid.Bool().Draw(t, "cut before") {
				s.Known.DisabledAt, s.Known.RevokedAt = now, now
			}
		}
		p := For(s, pol)
		if !slices.IsSortedFunc(p.Ops, func(a, b Op) int { return int(a.Lane - b.Lane) }) {
			t.Fatalf("out of order: %s", show(p))
		}
		if len(p.Ops) > 0 && v.Why == fence.WhyUnknown {
			t.Fatalf("does %s to one of whom nothing is known", show(p))
		}
		for _, op := range p.Ops {
			if op.Kind.Gives() && !v.Access {
				t.Fatalf("gives %s to one without access", op.Kind)
			}
			if op.Group != "" && !pol.Listed(op.Group) {
				t.Fatalf("touches group %s, which is not on the list", op.Group)
			}
			s = apply(s, op)
		}
		if again := For(s, pol); len(again.Ops) != 0 {
			t.Fatalf("after %s there is more: %s", show(p), show(again))
		}
	})
}

// apply is a tenant in the smallest form: what each operation does to one account.
func apply(s Situation, op Op) Situation {
	if op.Kind == CreateAccount {
		s.Account = &directory.Account{ID: "u1", Mark: op.Create.Mark, Enabled: yes(op.Create.Enabled), Attributes: op.Create.Attributes}
		s.Known.ID = "u1"
		return s
	}
	a := *s.Account
	switch op.Kind {
	case DisableAccount:
		a.Enabled, s.Known.DisabledAt = yes(false), s.Now
	case RevokeSessions:
		s.Known.RevokedAt = s.Now
	case EnableAccount:
		a.Enabled, s.Known.DisabledAt, s.Known.RevokedAt = yes(true), time.Time{}, time.Time{}
	case UpdateAccount:
		a.Attributes = op.To
	case AddMember:
		a.Groups = append(slices.Clone(a.Groups), op.Group)
		s.Known.Groups = append(slices.Clone(s.Known.Groups), op.Group)
	case RemoveMember:
		gone := func(g string) bool { return g == op.Group }
		a.Groups = slices.DeleteFunc(slices.Clone(a.Groups), gone)
		s.Known.Groups = slices.DeleteFunc(slices.Clone(s.Known.Groups), gone)
	}
	s.Account = &a
	return s
}

func TestAttributesFitGraph(t *testing.T) {
	long := strings.Repeat("é", 300)
	a := Attributes("a-subject-id-of-more-than-sixteen", schema.Person{DisplayName: long, Title: long, Department: strings.Repeat("𝕏", 100)}, testPolicy(t))
	if a.EmployeeID != "" {
		t.Error("a subject id of more than 16 characters lives in the mark alone")
	}
	if a.DisplayName != strings.Repeat("é", 256) || a.JobTitle != strings.Repeat("é", 128) || a.Department != strings.Repeat("𝕏", 32) {
		t.Errorf("lengths %d, %d, %d", len(a.DisplayName), len(a.JobTitle), len(a.Department))
	}
}

func show(p Plan) string {
	names := map[string]string{socID: "soc", leadID: "lead", otherID: "other"}
	name := func(s string) string {
		if n, ok := names[s]; ok {
			return n
		}
		return s
	}
	var ops, holds []string
	for _, op := range p.Ops {
		s := fmt.Sprintf("%s:%s", op.Lane, op.Kind)
		if op.Group != "" {
			s += "(" + name(op.Group) + ")"
		}
		ops = append(ops, s)
	}
	for _, h := range p.Holds {
		s := fmt.Sprintf("%s(%s)", h.Code, name(h.Target))
		if h.Takes {
			s += "!"
		}
		holds = append(holds, s)
	}
	if len(holds) > 0 {
		return strings.Join(ops, " ") + " | " + strings.Join(holds, " ")
	}
	return strings.Join(ops, " ")
}
