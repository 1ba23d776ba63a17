package plan

import (
	"testing"
	"time"

	"jmlbridge/consumer/fence"
	"jmlbridge/consumer/policy"
)

// A role that wants a second signer is given with a good word and not before, taken on the date on which the word
// ends, and otherwise left alone.
func TestARoleThatWantsApproval(t *testing.T) {
	pol, err := policy.Parse("policy.yaml", []byte(`version: 1
upn: {template: "{alias}", domain: gov.example.us}
usage_location: US
groups: {soc: {id: `+socID+`}, lead: {id: `+leadID+`}}
roles: {analyst: {groups: [soc]}, lead: {groups: [soc, lead], approval: required}}
protected: [breakglass@gov.example.us]
limits: {give_per_hour: 100, cut_per_hour: 20}
`))
	if err != nil {
		t.Fatal(err)
	}
	approved := func(until time.Duration, roles ...string) fence.View {
		v := active("analyst", "lead")
		for i, r := range roles {
			v.Approvals = append(v.Approvals, fence.Approval{Stream: "approvals", Generation: 1, Seq: uint64(i + 1), Engagement: 1, Role: r, Expiry: now.Add(until)})
		}
		return v
	}
	for _, tc := range []struct {
		name string
		s    Situation
		want string
	}{
		{"nobody approved it", Situation{View: approved(0)}, "give:create give:add-member(soc) | unapproved(lead)"},
		{"another role was approved", Situation{View: approved(time.Hour, "other")}, "give:create give:add-member(soc) | unapproved(lead)"},
		{"approved", Situation{View: approved(time.Hour, "lead")}, "give:create give:add-member(soc) give:add-member(lead)"},
		{"approved, to somebody who is there", Situation{View: approved(time.Hour, "lead"), Account: account(true, socID)}, "give:add-member(lead)"},
		{"approved until now", Situation{View: approved(0, "lead"), Account: account(true, socID)}, " | unapproved(lead)"},
		{"the approval ended", Situation{View: approved(0, "lead"), Account: account(true, socID, leadID)}, "take:remove-member(lead) | unapproved(lead)"},
		{"one of two ended", Situation{View: func() fence.View {
			v := approved(0, "lead")
			v.Approvals = append(v.Approvals, fence.Approval{Stream: "others", Generation: 1, Seq: 1, Engagement: 1, Role: "lead", Expiry: now.Add(time.Hour)})
			return v
		}(), Account: account(true, socID, leadID)}, ""},
		{"found, and nobody knows by whose word", Situation{View: approved(0), Account: account(true, socID, leadID)}, " | unapproved(lead)"},
		{"given before the policy asked for it", Situation{View: approved(0), Known: Known{Engagement: 1, Unasked: map[string][]string{"lead": {socID, leadID}}}, Account: account(true, socID, leadID)}, " | unapproved(lead)"},
		{"the role stands for more by now", Situation{View: approved(0), Known: Known{Engagement: 1, Unasked: map[string][]string{"lead": {socID}}}, Account: account(true, socID, leadID)}, "take:remove-member(lead) | unapproved(lead)"},
		{"given by another role, not named any more", Situation{View: approved(0), Known: Known{Engagement: 1, Unasked: map[string][]string{"chief": {leadID}}}, Account: account(true, socID, leadID)}, "take:remove-member(lead) | unapproved(lead)"},
		{"given before, in an earlier engagement", Situation{View: func() fence.View { v := approved(0); v.Want.Engagement = 2; return v }(),
			Known: Known{Engagement: 1, Unasked: map[string][]string{"lead": {socID, leadID}}}, Account: account(true, socID, leadID)}, "take:remove-member(lead) | unapproved(lead)"},
		{"approved, and not named any more", Situation{View: func() fence.View {
			v := approved(time.Hour, "lead")
			v.Want.Roles = []string{"analyst"}
			return v
		}(), Account: account(true, socID, leadID)}, "take:remove-member(lead)"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tc.s.Issuer, tc.s.Subject, tc.s.Now = issuer, "1222", now
			p := For(tc.s, pol)
			if got := show(p); got != tc.want {
				t.Errorf("got  %q\nwant %q", got, tc.want)
			}
			for _, op := range p.Ops {
				rests := op.Group == leadID && len(tc.s.View.Approvals) > 0 && tc.name != "approved, and not named any more"
				if (len(op.Approvals) > 0) != rests {
					t.Errorf("%s %s: approvals %+v", op.Kind, op.Group, op.Approvals)
				}
			}
		})
	}
}
