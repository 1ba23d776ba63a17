package e2e

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"jmlbridge/consumer/fence"
	"jmlbridge/producer/register"
	"jmlbridge/producer/source"
	"jmlbridge/schema"
)

// The two ends of the bridge must mean the same: whatever HR's file and the operators say of one person,
// in any order, whoever the producer's register holds to be active has access by the consumer's fences,
// and nobody else has.
func TestRegisterAndFencesAgree(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		now := time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC)
		var said register.State
		var believed fence.Subject
		var seq uint64
		hear := func(f fence.Fact) { believed, _ = fence.Accept(believed, f) }
		carry := func(d register.Decision) {
			for _, s := range d.Events {
				seq++
				hear(factOf(s.Event, seq))
			}
			said = d.Next
		}
		for step := range rapid.IntRange(1, 25).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(1, 72).Draw(t, "hours")) * time.Hour)
			if rapid.Bool().Draw(t, "dates are looked at") {
				carry(register.Expire(said, now))
			}
			if rapid.IntRange(0, 5).Draw(t, "who speaks") == 0 {
				d, err := register.Emit(said, register.Said{Event: operatorsWord(t, now)}, now)
				if err != nil {
					continue // nonsense at this point, and refused
				}
				carry(d)
			} else {
				carry(register.Diff(said, row(t), rapid.IntRange(0, 5).Draw(t, "scope") > 0, now))
			}
			if rapid.IntRange(0, 4).Draw(t, "roster") == 0 {
				live, gone := said.Statement("1", now)
				at := fence.Position{Generation: 1, Seq: seq}
				switch {
				case live != nil:
					at.Engagement = live.Engagement
					f := fence.Fact{Position: at, Kind: schema.KindRoster, Sequenced: true, Suspended: live.State == schema.StateSuspended, Effective: live.Since.Time(), Roles: live.Roles, Start: live.Start.Time()}
					if live.End != nil {
						f.End = live.End.Time()
					}
					hear(f)
				case gone != nil:
					at.Engagement = gone.Engagement
					hear(fence.Fact{Position: at, Kind: schema.KindLeaver, Sequenced: true, Effective: gone.Effective.Time()})
				}
			}
			instant, is := schema.At(now), said.At(now)
			if is.Status == register.Closed && instant.Before(is.Since) {
				t.Fatalf("step %d: closed ahead of its date: %+v", step, is)
			}
			active := is.Status == register.Active && !instant.Before(is.Start) && (is.End == nil || instant.Before(*is.End))
			if v := believed.At(now.Truncate(time.Second)); v.Access != active {
				t.Fatalf("step %d at %s: the register says active %v (%+v), the fences access %v (%s)", step, instant, active, said, v.Access, v.Why)
			}
		}
	})
}

func operatorsWord(t *rapid.T, now time.Time) schema.Event {
	at := schema.At(now)
	switch rapid.IntRange(0, 3).Draw(t, "word") {
	case 0:
		return &schema.Joiner{Person: schema.Person{DisplayName: "A"}, Start: at}
	case 1:
		return &schema.Leaver{Effective: schema.At(now.Add(time.Duration(rapid.IntRange(-50, 50).Draw(t, "effective")) * time.Hour)), Reason: schema.ReasonOther}
	case 2:
		return &schema.Suspend{Effective: schema.At(now.Add(time.Duration(rapid.IntRange(-50, 100).Draw(t, "effective")) * time.Hour)), Reason: schema.ReasonLeave}
	}
	return &schema.Resume{Effective: at, Reason: schema.ReasonReturn}
}

func row(t *rapid.T) *source.Record {
	day := func(from, to int, name string) *time.Time {
		d := time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC).AddDate(0, 0, rapid.IntRange(from, to).Draw(t, name))
		return &d
	}
	r := &source.Record{Subject: "1", Person: schema.Person{DisplayName: "A"}, Roles: []string{"analyst"},
		Status:     rapid.SampledFrom([]source.Status{source.Active, source.Active, source.Active, source.Inactive}).Draw(t, "status"),
		Leave:      rapid.SampledFrom([]source.Leave{source.LeaveUnstated, source.Present, source.OnLeave}).Draw(t, "leave"),
		Engagement: rapid.SampledFrom([]string{"", "a", "b"}).Draw(t, "engagement")}
	if rapid.Bool().Draw(t, "ends") {
		r.End = day(-20, 60, "end")
	}
	if rapid.Bool().Draw(t, "starts") {
		r.Start = day(-60, -21, "start")
	}
	return r
}

func factOf(e schema.Event, seq uint64) fence.Fact {
	f := fence.Fact{Position: fence.Position{Generation: 1, Seq: seq}, Kind: e.Kind(), Sequenced: true}
	end := func(i *schema.Instant) {
		if i != nil {
			f.End = i.Time()
		}
	}
	switch e := e.(type) {
	case *schema.Joiner:
		f.Engagement, f.Start = e.Engagement, e.Start.Time()
		end(e.End)
	case *schema.Mover:
		f.Engagement, f.Start, f.Effective = e.Engagement, e.Start.Time(), e.Effective.Time()
		end(e.End)
	case *schema.Leaver:
		f.Engagement, f.Effective = e.Engagement, e.Effective.Time()
	case *schema.Suspend:
		f.Engagement, f.Effective = e.Engagement, e.Effective.Time()
	case *schema.Resume:
		f.Engagement, f.Effective = e.Engagement, e.Effective.Time()
	}
	return f
}
