package main

import (
	"strings"
	"testing"
	"time"
)

// Steps are shown by time, but nobody's message is verified before it is queued.
func TestArrange(t *testing.T) {
	at := func(ms int) time.Time { return time.UnixMilli(int64(ms)) }
	for _, c := range []struct {
		name  string
		steps []step
		want  string
	}{
		{"by time", []step{{at: at(2), subject: "b", stage: "queued"}, {at: at(1), subject: "a", stage: "queued"}}, "a queued, b queued"},
		{"same time stays", []step{{at: at(1), subject: "a", stage: "applied"}, {at: at(1), subject: "a", stage: "ledger"}}, "a applied, a ledger"},
		{
			"queued logged late",
			[]step{
				{at: at(1), subject: "a", stage: "verified"}, {at: at(2), subject: "b", stage: "verified"}, {at: at(3), subject: "a", stage: "planned"},
				{at: at(4), subject: "a", stage: "queued"}, {at: at(4), subject: "b", stage: "queued"},
			},
			"a queued, b queued, a verified, a planned, b verified",
		},
	} {
		arrange(c.steps)
		var got []string
		for _, s := range c.steps {
			got = append(got, s.subject+" "+s.stage)
		}
		if text := strings.Join(got, ", "); text != c.want {
			t.Errorf("%s: want %s, got %s", c.name, c.want, text)
		}
	}
}
