package fence

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"jmlbridge/schema"
)

// Of each stream and role the last word counts, in whatever order and how often the words come.
func TestTheLastApprovalOfAStreamCounts(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var said []Approval
		last := map[string]Approval{}
		for i := range rapid.IntRange(1, 12).Draw(t, "approvals") {
			a := Approval{Stream: rapid.SampledFrom([]string{"a", "b"}).Draw(t, "stream"), Generation: 1, Seq: uint64(i + 1), Engagement: rapid.IntRange(1, 2).Draw(t, "engagement"),
				Role: rapid.SampledFrom([]string{"x", "y"}).Draw(t, "role"), Expiry: day(rapid.IntRange(0, 20).Draw(t, "expiry"))}
			said = append(said, a)
			last[fmt.Sprint(a.Stream, a.Role, a.Engagement)] = a
		}
		var s Subject
		for _, i := range rapid.SliceOfN(rapid.IntRange(0, len(said)-1), 0, 30).Draw(t, "some again") {
			s, _ = Approve(s, said[i])
		}
		for _, a := range rapid.Permutation(said).Draw(t, "arrival") {
			s, _ = Approve(s, a)
			s = reload(t, s)
		}
		if len(s.Approvals) != len(last) {
			t.Fatalf("want %d, got %+v", len(last), s.Approvals)
		}
		for _, a := range s.Approvals {
			if w := last[fmt.Sprint(a.Stream, a.Role, a.Engagement)]; a.Seq != w.Seq || !a.Expiry.Equal(w.Expiry) {
				t.Fatalf("want %+v, got %+v", w, a)
			}
		}
	})
}

// A role that was taken back with its approval is given by a good one of whatever stream, though other roles wait for theirs.
func TestAGoodApprovalGivesBackItsRole(t *testing.T) {
	s, _ := Accept(Subject{}, Fact{Position: at(1, 1), Kind: schema.KindJoiner, Sequenced: true, Roles: []string{"x", "y"}})
	for i, role := range s.Wants[0].Roles {
		s, _ = Approve(s, Approval{Stream: "a", Generation: 1, Seq: uint64(i + 1), Engagement: 1, Role: role, Expiry: day(20)})
	}
	s, roles := DisownApprovals(s, 9, func(Approval) bool { return true })
	s = Deny(s, 10, day(1), roles)
	for _, stream := range []string{"a", "b"} {
		good, _ := Approve(s, Approval{Stream: stream, Generation: 1, Seq: 7, Engagement: 1, Role: "x", Expiry: day(20)})
		good.Compact(day(1), day(2))
		if v := good.At(day(3)); !slices.Equal(v.Want.Roles, []string{"x"}) || len(v.Approvals) != 1 {
			t.Errorf("stream %s: roles %v, approvals %+v; want the one that is approved anew", stream, v.Want.Roles, v.Approvals)
		}
		good, _ = Approve(good, Approval{Stream: stream, Generation: 1, Seq: 8, Engagement: 1, Role: "y", Expiry: day(20)})
		if v := good.At(day(3)); !slices.Equal(v.Want.Roles, []string{"x", "y"}) || good.Lapse != nil {
			t.Errorf("stream %s: roles %v; want both", stream, v.Want.Roles)
		}
	}
	whole := Deny(s, 10, day(1), nil)
	if whole, _ = Approve(whole, Approval{Stream: "b", Generation: 1, Seq: 7, Engagement: 1, Role: "x", Expiry: day(20)}); whole.At(day(3)).Access {
		t.Error("an approval gave back all access")
	}
	if v := s.At(day(3)); len(v.Want.Roles) != 0 {
		t.Errorf("the record of before was changed: %+v", v)
	}
}

func TestApprovalsOfAPerson(t *testing.T) {
	s, _ := Accept(Subject{}, Fact{Position: at(2, 1), Kind: schema.KindJoiner, Sequenced: true, Roles: []string{"x"}})
	for e := 1; e <= 2; e++ {
		s, _ = Approve(s, Approval{Stream: "a", Generation: 1, Seq: uint64(e), Engagement: e, Role: "x", Expiry: day(5)})
	}
	if v := s.At(day(1)); len(v.Approvals) != 1 || v.Approvals[0].Engagement != 2 || !v.Next.Equal(day(5)) {
		t.Errorf("want that of the engagement, and its end as a date, got %+v", v)
	}
	bad, roles := DisownApprovals(s, 9, func(a Approval) bool { return a.Seq == 2 })
	if v := bad.At(day(1)); len(v.Approvals) != 0 || v.Doubt != nil || !slices.Equal(roles, []string{"x"}) || bad.Question(day(1)).Entry != 9 {
		t.Errorf("want it as if it had not come, and in question, got %+v", bad)
	}
	if v := Trust(bad); len(v.approved(2)) != 1 || v.Question(day(1)) != nil {
		t.Errorf("want it back, got %+v", v)
	}
	if s.Compact(day(6), day(7)); len(s.Approvals) != 1 {
		t.Errorf("want the one of an engagement that is over dropped, got %+v", s.Approvals)
	}
	for i := range 2 * maxApprovals {
		s, _ = Approve(s, Approval{Stream: "a", Generation: 1, Seq: 9, Engagement: 2, Role: fmt.Sprint("r", i), Expiry: day(10 + i)})
	}
	if len(s.Approvals) != maxApprovals || len(s.approved(2)) == 0 || s.Approvals[0].Expiry.Before(day(10)) {
		t.Errorf("want %d, those that last, got %d", maxApprovals, len(s.Approvals))
	}
}
