package plan

import (
	"testing"

	"jmlbridge/consumer/fence"
)

func TestBetween(t *testing.T) {
	active := func(roles ...string) fence.View {
		return fence.View{Access: true, Why: fence.WhyActive, Want: fence.Want{Roles: roles}}
	}
	out := func(why fence.Why) fence.View {
		return fence.View{Why: why, Closed: why == fence.WhyLeft || why == fence.WhyEnded}
	}
	capped := active("a", "b")
	capped.Caps = [][]string{{"b"}}
	const unknown = fence.WhyUnknown
	for _, tc := range []struct {
		name          string
		before, after fence.View
		owed          bool
		want          Lane
	}{
		{"a joiner", out(unknown), active("a"), false, Give},
		{"a role more", active("a"), active("a", "b"), true, Give},
		{"a role less", active("a", "b"), active("a"), true, Take},
		{"a role less by a word out of sequence", active("a", "b"), capped, true, Take},
		{"a leaver", active("a"), out(fence.WhyLeft), true, Disable},
		{"a suspension", active("a"), out(fence.WhySuspended), true, Disable},
		{"a start that is ahead", active("a"), out(fence.WhyNotStarted), true, Disable},
		{"an end that has passed", active("a"), out(fence.WhyEnded), true, Disable},
		{"a lease", active("a"), out(fence.WhyLease), true, Disable},
		{"all access, before the account is known", active("a"), out(fence.WhyNotStarted), false, Disable},
		{"a leaver of nobody", out(unknown), out(fence.WhyLeft), false, Disable},
		{"a suspension of nobody", out(unknown), out(fence.WhySuspended), false, Disable},
		{"a joiner ahead of a start", out(unknown), out(fence.WhyNotStarted), false, Strip},
		{"a start that is put off", out(fence.WhyNotStarted), out(fence.WhyNotStarted), false, Idle},
		{"a leaver who comes back, and is cut", out(fence.WhyLeft), out(fence.WhyNotStarted), false, Strip},
		{"a leaver who comes back, and is not cut yet", out(fence.WhyLeft), out(fence.WhyNotStarted), true, Disable},
		{"a suspension that repeats what is owed", out(fence.WhySuspended), out(fence.WhySuspended), true, Disable},
		{"a suspension that repeats what is done", out(fence.WhySuspended), out(fence.WhySuspended), false, Idle},
		{"a leaver who was suspended", out(fence.WhySuspended), out(fence.WhyLeft), false, Disable},
		{"a leaver whose time was over", out(fence.WhyEnded), out(fence.WhyLeft), false, Disable},
		{"a resume", out(fence.WhySuspended), active("a"), true, Give},
		{"nothing that is known", out(unknown), out(unknown), true, Idle},
	} {
		if got := Between(tc.before, tc.after, tc.owed); got != tc.want {
			t.Errorf("%s: lane %s, want %s", tc.name, got, tc.want)
		}
	}
}
