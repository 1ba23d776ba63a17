package plan

import (
	"testing"
	"time"
)

// What a clock that was ahead has noted is brought to now, in its order.
func TestPullBack(t *testing.T) {
	before, day := now.Add(-time.Hour), 24*time.Hour
	k := Known{TriedAt: before, EnablingAt: now.Add(day), DisabledAt: now.Add(2 * day), RevokedAt: now.Add(3 * day), GivenAt: now.Add(day)}
	if !k.PullBack(now) {
		t.Fatal("want something to pull back")
	}
	if !k.IsCut() || !k.TriedAt.Equal(before) || !k.GivenAt.Equal(k.EnablingAt) || k.RevokedAt.After(now) || !k.DisabledAt.Before(k.RevokedAt) || now.Sub(k.EnablingAt) > time.Second {
		t.Errorf("got %+v", k)
	}
	if k.PullBack(now) {
		t.Error("a second time changes something")
	}
}
