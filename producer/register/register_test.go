package register

import (
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"jmlbridge/producer/source"
	"jmlbridge/schema"
)

var now = time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC)

func day(n int) *time.Time {
	t := now.AddDate(0, 0, n)
	return &t
}

func active(change ...func(*source.Record)) *source.Record {
	r := &source.Record{Subject: "1", Status: source.Active, Person: schema.Person{DisplayName: "A"}, Roles: []string{"analyst"}, Start: day(-100)}
	for _, c := range change {
		c(r)
	}
	return r
}

func inactive(r *source.Record)  { r.Status = source.Inactive }
func onLeave(r *source.Record)   { r.Leave = source.OnLeave }
func present(r *source.Record)   { r.Leave = source.Present }
func unstarted(r *source.Record) { r.Start = nil }
func roleless(r *source.Record)  { r.Roles = []string{} }
func titled(r *source.Record)    { r.Person.Title = "Lead" }
func endsIn(n int) func(*source.Record) {
	return func(r *source.Record) { r.End = day(n) }
}
func key(k string) func(*source.Record) { return func(r *source.Record) { r.Engagement = k } }
func epoch(r *source.Record)            { t := time.Unix(0, 0); r.End = &t }
func startsIn(n int) func(*source.Record) {
	return func(r *source.Record) { r.Start = day(n) }
}

// say applies records or operator's events one after another, a day apart from each other being
// immaterial, and returns the state.
func say(t *testing.T, steps ...any) State {
	t.Helper()
	var s State
	for _, step := range steps {
		switch v := step.(type) {
		case *source.Record:
			s = Diff(s, v, true, now).Next
		case State:
			s = v
		case schema.Event:
			v = copied(v)
			d, err := Emit(s, Said{Event: v}, now)
			if err != nil {
				t.Fatal(err)
			}
			s = d.Next
		}
	}
	return s
}

// sayOut is say, ended by a record of someone who is out of scope.
func sayOut(t *testing.T, first any, out *source.Record) State {
	t.Helper()
	return Diff(say(t, first), out, false, now).Next
}

func leaver() *schema.Leaver {
	return &schema.Leaver{Effective: schema.At(now), Reason: schema.ReasonOther}
}

func TestDiff(t *testing.T) {
	suspend := &schema.Suspend{Effective: schema.At(now), Reason: schema.ReasonInvestigation}
	suspendLater := &schema.Suspend{Effective: schema.At(now.AddDate(0, 0, 3)), Reason: schema.ReasonInvestigation}
	coming := func(s State) State { return s.At(now.AddDate(0, 0, 3)) }
	later := &schema.Leaver{Effective: schema.At(now.AddDate(0, 0, 3)), Reason: schema.ReasonOther}
	for _, c := range []struct {
		name  string
		last  State
		rec   *source.Record
		out   bool
		cases []Case
	}{
		{"new", State{}, active(), false, []Case{Join}},
		{"new, starts later", State{}, active(startsIn(10)), false, []Case{Join}},
		{"new, ends later", State{}, active(endsIn(10)), false, []Case{Join}},
		{"new, inactive", State{}, active(inactive), false, []Case{Never}},
		{"new, out of scope", State{}, active(), true, []Case{OutOfScope}},
		{"new, over", State{}, active(endsIn(-1)), false, []Case{Over}},
		{"new, on leave", State{}, active(onLeave), false, []Case{Away}},
		{"new, nothing stated", State{}, &source.Record{}, false, []Case{Unchanged}},
		{"same", say(t, active()), active(), false, []Case{Unchanged}},
		{"first day unstated now", say(t, active()), active(unstarted), false, []Case{Unchanged}},
		{"moved", say(t, active()), active(titled), false, []Case{Move}},
		{"end stated", say(t, active()), active(endsIn(10)), false, []Case{Move}},
		{"end withdrawn", say(t, active(endsIn(10))), active(), false, []Case{Move}},
		{"left", say(t, active()), active(inactive), false, []Case{Leave}},
		{"last day past", say(t, active()), active(endsIn(-1)), false, []Case{Leave}},
		{"left the scope", say(t, active()), active(), true, []Case{Leave}},
		{"left the scope and the company", say(t, active()), active(inactive), true, []Case{Leave}},
		{"went on leave", say(t, active()), active(onLeave), false, []Case{Suspend}},
		{"moved and went on leave", say(t, active()), active(onLeave, titled), false, []Case{Suspend, Move}},
		{"still on leave", say(t, active(), active(onLeave)), active(onLeave), false, []Case{Unchanged}},
		{"moved while on leave", say(t, active(), active(onLeave)), active(onLeave, titled), false, []Case{Move}},
		{"back, and moved", say(t, active(), active(onLeave)), active(present, titled), false, []Case{Move, Resume}},
		{"the file says no more of leave", say(t, active(), active(onLeave)), active(), false, []Case{Unchanged}},
		{"left while on leave", say(t, active(), active(onLeave)), active(inactive), false, []Case{Leave}},
		{"still gone", say(t, active(), active(inactive)), active(inactive), false, []Case{Gone}},
		{"still out of scope", say(t, active(), active(inactive)), active(), true, []Case{OutOfScope}},
		{"hired again", say(t, active(), active(inactive)), active(startsIn(1)), false, []Case{Rehire}},
		{"hired again where the last day ends", say(t, active(), active(inactive, endsIn(-3))), active(startsIn(-3)), false, []Case{Rehire}},
		{"hired again, first day unstated", say(t, active(), active(inactive)), active(unstarted), false, []Case{Rehire}},
		{"hired again, on leave", say(t, active(), active(inactive)), active(onLeave, startsIn(1)), false, []Case{Away}},
		{"active as in an older file", say(t, active(), active(inactive)), active(), false, []Case{Contradict}},
		{"on leave as in an older file", say(t, active(), active(inactive)), active(onLeave), false, []Case{Contradict}},
		{"contract of an older file", say(t, active(key("b")), active(inactive)), active(key("a")), false, []Case{Contradict}},
		{"first day before the last", say(t, active(), active(inactive, endsIn(-3))), active(startsIn(-4)), false, []Case{Contradict}},
		{"back in scope", sayOut(t, active(), active()), active(), false, []Case{Rehire}},
		{"back in scope after HR stated a leaver", say(t, sayOut(t, active(), active()), active(inactive)), active(), false, []Case{Contradict}},
		{"absent, and there again", Absent(say(t, active()), now).Next, active(), false, []Case{Rehire}},
		{"another contract", say(t, active(key("a"))), active(key("b")), false, []Case{Rehire}},
		{"another contract, on leave", say(t, active(key("a"))), active(key("b"), onLeave), false, []Case{Leave, Away}},
		{"another contract, on leave, still", say(t, active(key("a")), active(key("b"), onLeave)), active(key("b"), onLeave), false, []Case{Away}},
		{"another contract, on leave, and back", say(t, active(key("a")), active(key("b"), onLeave)), active(key("b"), present), false, []Case{Rehire}},
		{"another contract, on leave, left", say(t, active(key("a")), active(key("b"), onLeave), active(key("b"), inactive)), active(key("b"), present), false, []Case{Contradict}},
		{"another contract, on leave, an older file", say(t, active(key("a")), active(key("b"), onLeave)), active(key("a")), false, []Case{Contradict}},
		{"contract named for the first time", say(t, active()), active(key("a")), false, []Case{Unchanged}},
		{"operator closed, file lags", say(t, active(), leaver()), active(), false, []Case{Overruled}},
		{"operator closed, file caught up", say(t, active(), leaver()), active(inactive), false, []Case{Gone}},
		{"operator closed, file caught up, hired again", say(t, active(), leaver(), active(inactive)), active(startsIn(1)), false, []Case{Rehire}},
		{"operator closed, file caught up, older file", say(t, active(), leaver(), active(inactive)), active(), false, []Case{Contradict}},
		{"operator closed, later first day", say(t, active(), leaver()), active(startsIn(1)), false, []Case{Rehire}},
		{"operator closed, same contract", say(t, active(key("a")), leaver()), active(key("a"), startsIn(1)), false, []Case{Overruled}},
		{"operator closed, another contract", say(t, active(key("a")), leaver()), active(key("b")), false, []Case{Rehire}},
		{"operator closed for later, file says now", say(t, active(), later), active(inactive), false, []Case{Leave}},
		{"operator closed for later, file lags", say(t, active(), later), active(), false, []Case{Unchanged}},
		{"operator closed at last, file lags", coming(say(t, active(), later)), active(), false, []Case{Overruled}},
		{"offer withdrawn, file lags", say(t, active(startsIn(10)), leaver()), active(startsIn(10)), false, []Case{Overruled}},
		{"offer withdrawn ahead of the day, file lags", coming(say(t, active(startsIn(10)), later)), active(startsIn(10)), false, []Case{Overruled}},
		{"offer withdrawn, another first day", say(t, active(startsIn(10)), leaver()), active(startsIn(40)), false, []Case{Rehire}},
		{"offer withdrawn by HR, older file", say(t, active(startsIn(10)), active(inactive)), active(startsIn(10)), false, []Case{Contradict}},
		{"first day moved forward, operator closed, file lags by both", say(t, active(startsIn(10)), active(startsIn(5)), leaver()), active(startsIn(10)), false, []Case{Overruled}},
		{"operator closed, file lags by a contract", say(t, active(key("a")), active(key("b")), leaver()), active(key("a")), false, []Case{Overruled}},
		{"operator closed, contract of before the first day", say(t, active(key("b")), leaver()), active(key("a"), startsIn(-200)), false, []Case{Overruled}},
		{"operator closed, out of the scope, back in it", sayOut(t, say(t, active(unstarted), leaver()), active(unstarted)), active(unstarted), false, []Case{Overruled}},
		{"operator closed, last day past, an older file", say(t, active(unstarted), leaver(), active(unstarted, endsIn(-1))), active(unstarted), false, []Case{Overruled}},
		{"operator closed for later, out of the scope, back in it", sayOut(t, say(t, active(unstarted), later), active(unstarted)), active(unstarted), false, []Case{Overruled}},
		{"operator closed, absent, there again", Absent(say(t, active(unstarted), leaver()), now).Next, active(unstarted), false, []Case{Overruled}},
		{"operator closed, HR said so and later that they are back", say(t, active(unstarted), leaver(), active(inactive)), active(unstarted), false, []Case{Rehire}},
		{"operator closes later, on leave before", say(t, active(), later), active(onLeave), false, []Case{Suspend}},
		{"operator closes later, on leave, back before", say(t, active(), later, active(onLeave)), active(present), false, []Case{Resume}},
		{"operator closes later, a role goes before", say(t, active(), later), active(roleless), false, []Case{Move}},
		{"operator closes later, another contract", say(t, active(key("a")), later), active(key("b")), false, []Case{Overruled}},
		{"operator closes later, out of the scope, another contract", sayOut(t, say(t, active(key("a"), unstarted), later), active()), active(key("b"), unstarted), false, []Case{Overruled}},
		{"operator closed at last, that contract", coming(say(t, active(key("a")), later, active(key("b")))), active(key("b")), false, []Case{Overruled}},
		{"operator suspends later, on leave before", say(t, active(), suspendLater), active(onLeave), false, []Case{Suspend}},
		{"operator suspends later, back from leave before", say(t, active(onLeave, present), active(onLeave), suspendLater), active(present), false, []Case{Resume, Kept}},
		{"operator suspended at last, file says present", coming(say(t, active(), suspendLater)), active(present), false, []Case{Overruled}},
		{"on leave, operator suspended, file says back", say(t, active(onLeave, present), active(onLeave), suspend), active(present), false, []Case{Overruled}},
		{"operator suspended, out of the scope, back in it", sayOut(t, say(t, active(), suspend), active()), active(), false, []Case{Kept, Rehire}},
		{"operator suspends later, out of the scope, back in it", sayOut(t, say(t, active(), suspendLater), active()), active(), false, []Case{Kept, Rehire}},
		{"operator suspended, another contract", say(t, active(key("a")), suspend), active(key("b")), false, []Case{Kept, Rehire}},
		{"operator suspended, HR said left, back", say(t, active(), suspend, active(inactive)), active(startsIn(1)), false, []Case{Kept, Rehire}},
		{"operator suspended, another contract, present", say(t, active(key("a")), suspend, active(key("b"))), active(key("b"), present), false, []Case{Overruled}},
		{"operator suspended, another contract, resumed", say(t, active(key("a")), suspend, active(key("b")), &schema.Resume{Effective: schema.At(now), Reason: "return"}), active(key("c")), false, []Case{Rehire}},
		{"operator suspended, file says present", say(t, active(), suspend), active(present), false, []Case{Overruled}},
		{"operator suspended, file says left", say(t, active(), suspend), active(inactive), false, []Case{Leave}},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := Diff(c.last, c.rec, !c.out, now)
			if !slices.Equal(d.Cases, c.cases) {
				t.Errorf("want %v, got %v", c.cases, d.Cases)
			}
		})
	}
}

func TestWhenALeaverIsEffective(t *testing.T) {
	live := say(t, active(startsIn(-50)))
	for _, c := range []struct {
		name      string
		rec       *source.Record
		effective *time.Time
		stated    bool
	}{
		{"no date", active(inactive), &now, false},
		{"last day past", active(inactive, endsIn(-3)), day(-3), true},
		{"last day to come, yet inactive", active(inactive, endsIn(3)), &now, false},
		{"last day of an earlier engagement", active(inactive, endsIn(-80)), &now, false},
		{"last day at the epoch, which stands for none", active(inactive, epoch), &now, false},
	} {
		d := Diff(live, c.rec, true, now)
		e := d.Events[0].Event.(*schema.Leaver)
		if e.Effective != schema.At(*c.effective) || (d.Events[0].Occurred != nil) != c.stated || d.Next.Since != e.Effective {
			t.Errorf("%s: %+v, occurred %v", c.name, e, d.Events[0].Occurred)
		}
	}
	lost := Diff(State{Open: 2, Restored: true}, active(inactive, epoch), true, now)
	if e := lost.Events[0]; e.Event.(*schema.Leaver).Effective != schema.At(now) || e.Occurred != nil { // no message can carry it
		t.Errorf("a last day at the epoch, of somebody who may be lost: %+v", e)
	}
	if e := Diff(live, active(), false, now).Events[0].Event.(*schema.Leaver); e.Reason != schema.ReasonTransfer {
		t.Errorf("leaving the scope is a transfer, got %s", e.Reason)
	}
}

func TestExpire(t *testing.T) {
	s := say(t, active(endsIn(5)))
	if d := Expire(s, now.AddDate(0, 0, 4)); d.Events != nil {
		t.Errorf("a day early: %v", d.Cases)
	}
	d := Expire(s, now.AddDate(0, 0, 5))
	if e := d.Events[0].Event.(*schema.Leaver); e.Reason != schema.ReasonEndOfContract || e.Effective != *s.End || d.Next.Status != Closed {
		t.Errorf("%+v", e)
	}
	if d := Expire(d.Next, now.AddDate(0, 0, 6)); d.Events != nil {
		t.Error("twice")
	}
	// The file extends the contract after all: as from an older file, unless a new first day is stated.
	if d := Diff(d.Next, active(endsIn(50)), true, now.AddDate(0, 0, 6)); !slices.Equal(d.Cases, []Case{Contradict}) || d.Events != nil {
		t.Errorf("extended: %v", d.Cases)
	}
	if d := Diff(d.Next, active(startsIn(5), endsIn(50)), true, now.AddDate(0, 0, 6)); !slices.Equal(d.Cases, []Case{Rehire}) {
		t.Errorf("extended by a new engagement: %v", d.Cases)
	}
}

func TestEmitRefusesNonsense(t *testing.T) {
	at := schema.At(now)
	later := schema.At(now.Add(time.Hour))
	person := schema.Person{DisplayName: "A"}
	old, ended, far := schema.At(now.AddDate(-6, 0, 0)), schema.At(now.AddDate(-5, 0, 0)), schema.At(now.AddDate(973, 0, 0))
	live, closed := say(t, active()), say(t, active(), leaver())
	for want, c := range map[string]struct {
		last State
		e    schema.Event
	}{
		"nothing was ever announced of this person; emit a joiner": {State{}, &schema.Mover{Person: person, Start: at, Effective: at}},
		"name it with --engagement":                                {State{}, leaver()},
		"was closed as of":                                         {closed, &schema.Mover{Person: person, Start: at, Effective: at}},
		"closed as of 2026-03-02T12:00:00Z already":                {closed, leaver()},
		"engagement 1 is live":                                     {live, &schema.Joiner{Person: person, Start: at}},
		"want engagement 2":                                        {live, &schema.Joiner{Engagement: 3, Person: person, Start: at}},
		"got an event for 7":                                       {live, &schema.Suspend{Engagement: 7, Effective: at, Reason: "leave"}},
		"got a leaver for 7":                                       {live, &schema.Leaver{Engagement: 7, Effective: at, Reason: "other"}},
		"there is no access of it left to take":                    {closed, &schema.Suspend{Effective: at, Reason: "leave"}},
		"is to be closed as of 2026-03-05T12:00:00Z already":       {say(t, active(), &schema.Leaver{Effective: schema.At(*day(3)), Reason: "other"}), &schema.Leaver{Effective: schema.At(*day(4)), Reason: "other"}},
		"is suspended as of 2026-03-05T12:00:00Z already":          {say(t, active(), &schema.Suspend{Effective: schema.At(*day(3)), Reason: "other"}), &schema.Suspend{Effective: schema.At(*day(4)), Reason: "other"}},
		"is not suspended":                                         {live, &schema.Resume{Effective: at, Reason: "return"}},
		"for a mover, got":                                         {live, &schema.Mover{Person: person, Start: at, Effective: later}},
		"not an operator's":                                        {live, &schema.Heartbeat{}},
		"still to come, or none, got 2021":                         {State{}, &schema.Joiner{Person: person, Start: old, End: &ended}},
		"for someone who has left emit a leaver":                   {live, &schema.Mover{Person: person, Start: old, End: &at, Effective: at}},
		"nothing of it differs":                                    {live, &schema.Mover{Person: live.Person, Roles: live.Roles, Start: live.Start, Effective: at}},
		"(2028-03-01T12:00:00Z) for a leaver, got 2999":            {live, &schema.Leaver{Effective: far, Reason: "other"}},
		"two years ahead (2028-03-01T12:00:00Z) for a suspend":     {live, &schema.Suspend{Effective: far, Reason: "leave"}},
	} {
		d, err := Emit(c.last, Said{Event: c.e}, now)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q, got %v", want, err)
		}
		if !reflect.DeepEqual(d.Next, c.last) {
			t.Errorf("%s: the state changed", want)
		}
	}
	planned := schema.At(now.AddDate(0, 11, 0))
	if d, err := Emit(live, Said{Event: &schema.Leaver{Effective: planned, Reason: "resignation"}}, now); err != nil || d.Next.Status != Active || *d.Next.Leaves != planned {
		t.Errorf("a leaver that is planned: %v", err)
	}
	if _, err := Emit(live, Said{Event: &schema.Mover{Person: live.Person, Roles: live.Roles, Start: live.Start, End: &planned, Effective: at}}, now); err != nil {
		t.Errorf("a mover of the end alone: %v", err)
	}
	early := leaver()
	early.Effective = schema.At(now.Add(-time.Hour))
	if d, err := Emit(closed, Said{Event: early}, now); err != nil || d.Next.Since != early.Effective {
		t.Errorf("an earlier leaver counts: %v", err)
	}
	if d, err := Emit(State{}, Said{Event: &schema.Leaver{Engagement: 4, Effective: at, Reason: "other"}}, now); err != nil || d.Next.Engagement != 4 || d.Next.Status != Closed {
		t.Errorf("a leaver of someone unknown, by number: %v", err)
	}
}

// copied is an event of its own: Emit fills the engagement in.
func copied(e schema.Event) schema.Event {
	c := reflect.New(reflect.TypeOf(e).Elem())
	c.Elem().Set(reflect.ValueOf(e).Elem())
	return c.Interface().(schema.Event)
}

// What lies ahead swallows nothing, and what is in force keeps its date.
func TestDatesAhead(t *testing.T) {
	at := func(n int) schema.Instant { return schema.At(*day(n)) }
	suspended := say(t, active(), &schema.Suspend{Effective: at(-2), Reason: "other"})
	if d, err := Emit(suspended, Said{Event: &schema.Suspend{Effective: at(5), Reason: "other"}}, now); err == nil || d.Next.Since != at(-2) {
		t.Errorf("suspended already, and again later: %+v %v", d.Next, err)
	}
	away := Diff(say(t, active()), active(onLeave), true, now).Next
	d, err := Emit(away, Said{Event: &schema.Suspend{Effective: at(5), Reason: "other"}}, now)
	if l, _ := d.Next.Statement("1", now); err != nil || l.State != schema.StateSuspended || l.Since != schema.At(now) {
		t.Errorf("on leave, and suspended by an operator later: %+v %v", l, err)
	}
	if is := d.Next.At(*day(5)); is.Since != schema.At(now) || is.By != Operator {
		t.Errorf("the operator's date has come: %+v", is)
	}
	ahead := say(t, active(), &schema.Suspend{Effective: at(7), Reason: "other"})
	if l, _ := ahead.Statement("1", now); ahead.Status != Active || l.State != schema.StateSuspended || l.Since != at(7) {
		t.Errorf("suspended later: %+v", l)
	}
	if d, err := Emit(ahead, Said{Event: &schema.Suspend{Effective: at(0), Reason: "other"}}, now); err != nil || d.Next.Status != Suspended || d.Next.Since != at(0) {
		t.Errorf("and now: %+v %v", d.Next, err)
	}
	if d, err := Emit(ahead, Said{Event: &schema.Resume{Effective: at(0), Reason: "other"}}, now); err != nil || d.Next.At(*day(8)).Status != Active {
		t.Errorf("and not after all: %+v %v", d.Next, err)
	}
	leaving := say(t, active(endsIn(30)), &schema.Leaver{Effective: at(7), Reason: "other"})
	d, err = Emit(leaving, Said{Event: &schema.Suspend{Effective: at(0), Reason: "other"}}, now)
	if l, gone := d.Next.Statement("1", now); err != nil || gone != nil || l.State != schema.StateSuspended || *l.End != at(7) {
		t.Errorf("leaves later, suspended now: %+v %v", l, err)
	}
	if _, gone := d.Next.Statement("1", *day(7)); gone == nil || gone.Effective != at(7) {
		t.Errorf("the day has come: %+v", gone)
	}
	if d := Expire(leaving, *day(7)); d.Events != nil || d.Next.Status != Closed || d.Next.By != Operator {
		t.Errorf("the day has come: %+v", d)
	}
	never := say(t, active(startsIn(10)), &schema.Leaver{Effective: at(5), Reason: "other"})
	if _, gone := never.Statement("1", now); gone == nil || gone.Effective != at(5) {
		t.Errorf("leaves before the first day: %+v", gone)
	}
}

// A register that was restored skips what may have been lost, inside what an enclave takes at once, and says whom it may
// have forgotten.
func TestAfterARestore(t *testing.T) {
	closed := say(t, active(), active(inactive))
	for open, want := range map[int]int{0: 2, 1: 2, 2: 7, 3: 12, 4: 17, 9: 17} {
		closed.Open = open
		joined := Diff(closed, active(startsIn(1)), true, now).Next
		if joined.Engagement != want {
			t.Errorf("generation %d: want engagement %d, got %d", open, want, joined.Engagement)
		}
		if again := Diff(Diff(joined, active(inactive), true, now).Next, active(startsIn(9)), true, now).Next; again.Engagement != want+1 {
			t.Errorf("generation %d: want %d after what is known, got %d", open, want+1, again.Engagement)
		}
		if d, err := Emit(closed, Said{Event: &schema.Joiner{Start: schema.At(now)}}, now); err != nil || d.Next.Engagement != want {
			t.Errorf("generation %d: an operator's joiner: %+v %v", open, d.Next, err)
		}
	}
	nobody := State{Open: 2, Restored: true}
	for _, c := range []struct {
		name  string
		rec   *source.Record
		out   bool
		cases []Case
	}{
		{"inactive", active(inactive), false, []Case{Lost}},
		{"last day past", active(endsIn(-1)), false, []Case{Lost}},
		{"inactive, out of scope", active(inactive), true, []Case{Never}},
		{"out of scope", active(), true, []Case{OutOfScope}},
		{"active", active(), false, []Case{Join}},
	} {
		d := Diff(nobody, c.rec, !c.out, now)
		if !slices.Equal(d.Cases, c.cases) {
			t.Errorf("%s: want %v, got %v", c.name, c.cases, d.Cases)
		}
		if again := Diff(d.Next, c.rec, !c.out, now); len(again.Events) > 0 {
			t.Errorf("%s: said again", c.name)
		}
	}
	if d := Absent(nobody, now); len(d.Events) > 0 {
		t.Errorf("absent: %v", d.Cases)
	}
	d, err := Emit(nobody, Said{Event: leaver()}, now)
	if err != nil || d.Next.Engagement != 6 || d.Next.Status != Closed {
		t.Errorf("an operator's leaver: %+v %v", d.Next, err)
	}
	if back, err := Emit(d.Next, Said{Event: &schema.Joiner{Start: schema.At(now)}}, now); err != nil || back.Next.Engagement != 7 {
		t.Errorf("a joiner after it: %+v %v", back.Next, err)
	}
}

// took is what operators took of one person and have not given back, as a reader of the rules would keep it: by their
// words and HR's rows alone, not by what the register remembers.
type took struct {
	suspends *schema.Instant // from when; nil: nobody is suspended by an operator
	left     *schema.Instant // from when; nil: no engagement was closed by an operator, or HR has said so too since
	first    schema.Instant  // the latest first day that was ever stated
	seen     map[string]bool // names of engagements that were stated before
}

// back reports whether rec states an engagement that is new to whoever heard all before.
func (k *took) back(rec *source.Record) bool {
	if rec.Engagement != "" && !k.seen[rec.Engagement] && (rec.Start == nil || !schema.At(*rec.Start).Before(k.first)) {
		return true
	}
	return k.begins(rec)
}

// begins reports whether rec states a first day after all before it, and after the leaver.
func (k *took) begins(rec *source.Record) bool {
	return rec.Start != nil && k.first.Before(schema.At(*rec.Start)) && k.left.Before(schema.At(*rec.Start))
}

// note keeps what is no news any more.
func (k *took) note(rec *source.Record, next *State) {
	k.first = laterOf(k.first, next.Start)
	if next.Key != "" {
		k.seen[next.Key] = true
	}
	if next.Status.Live() && rec.Engagement != "" {
		k.seen[rec.Engagement] = true
	}
}

// Whatever files and operators say in whatever order: repeating a record says nothing, leavers come only from records
// that say so and only to the live, nothing but a joiner, or a suspension said ahead of it, follows one, and what an
// operator took comes back by an operator's word, or by a row of an engagement that is new.
func TestInvariants(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var s State
		at := now
		k := took{seen: map[string]bool{}}
		for i := range rapid.IntRange(1, 25).Draw(t, "steps") {
			at = at.Add(time.Duration(rapid.IntRange(0, 72).Draw(t, "hours")) * time.Hour)
			var d Decision
			var mayLeave, again = false, func(State) []Said { return nil }
			if rapid.IntRange(0, 3).Draw(t, "who") == 0 {
				ahead := schema.At(at.Add(time.Duration(rapid.SampledFrom([]int{-30, 0, 0, 1, 50, 200}).Draw(t, "ahead")) * time.Hour))
				e := copied(rapid.SampledFrom([]schema.Event{
					&schema.Joiner{Person: schema.Person{DisplayName: "O"}, Start: schema.At(at)}, &schema.Leaver{Effective: ahead, Reason: "other"},
					&schema.Suspend{Effective: ahead, Reason: "leave"}, &schema.Resume{Effective: schema.At(at), Reason: "return"},
				}).Draw(t, "event"))
				var err error
				if d, err = Emit(s, Said{Event: e}, at); err != nil {
					continue
				}
				mayLeave = true
				switch e := e.(type) {
				case *schema.Joiner:
					k.left, k.suspends, k.first = nil, nil, laterOf(k.first, e.Start)
				case *schema.Leaver:
					if k.left == nil || e.Effective.Before(*k.left) {
						k.left = &e.Effective
					}
				case *schema.Suspend:
					if k.suspends == nil || e.Effective.Before(*k.suspends) {
						k.suspends = &e.Effective
					}
				case *schema.Resume:
					k.suspends = nil
				}
			} else {
				rec := active()
				rec.Status = rapid.SampledFrom([]source.Status{source.Active, source.Active, source.Inactive, source.Unstated}).Draw(t, "status")
				rec.Leave = rapid.SampledFrom([]source.Leave{source.LeaveUnstated, source.Present, source.OnLeave}).Draw(t, "leave")
				rec.Person.Title = rapid.SampledFrom([]string{"", "x"}).Draw(t, "title")
				rec.Engagement = rapid.SampledFrom([]string{"", "a", "b"}).Draw(t, "key")
				if rapid.Bool().Draw(t, "ends") {
					rec.End = day(rapid.IntRange(-20, 60).Draw(t, "end"))
				}
				// Package source refuses a last day before the first.
				rec.Roles = rapid.SampledFrom([][]string{{}, {"analyst"}}).Draw(t, "roles")
				if start := day(rapid.SampledFrom([]int{-30, -10, 0, 3, 30}).Draw(t, "start")); rapid.IntRange(0, 2).Draw(t, "starts") > 0 && (rec.End == nil || !rec.End.Before(*start)) {
					rec.Start = start
				} else {
					rec.Start = nil
				}
				in := rapid.IntRange(0, 4).Draw(t, "scope") > 0
				d = Diff(s, rec, in, at)
				was := s.At(at)
				over := rec.End != nil && !rec.End.After(at)
				if was.Status.Live() && rec.Status == source.Active && in && !over {
					if was.Status == Active && rec.Leave == source.OnLeave && d.Next.Status == Active {
						t.Fatalf("step %d: on leave, and has access: %v", i, d.Cases)
					}
					if d.Next.Engagement == was.Engagement && d.Next.Status.Live() && !slices.Equal(d.Next.Roles, rec.Roles) {
						t.Fatalf("step %d: roles %v of a row with %v", i, d.Next.Roles, rec.Roles)
					}
				}
				if k.left != nil && !schema.At(at).Before(*k.left) && d.Next.At(at).Status.Live() && !k.back(rec) {
					t.Fatalf("step %d: a file has back who left by an operator's word: %v", i, d.Cases)
				}
				switch {
				case rec.Status == source.Inactive && was.Engagement > 0: // it has caught up: whoever it has back came back
					k.left = nil
				case d.Next.Engagement > was.Engagement && k.left != nil && (!schema.At(at).Before(*k.left) || k.begins(rec)):
					k.left = nil
				}
				if rec.Status == source.Active && (d.Next.Status.Live() || k.left != nil) { // else nobody remembers who was never announced
					k.note(rec, &d.Next)
				}
				changed := rec.Engagement != s.Key
				mayLeave = rec.Status != source.Unstated && (rec.Status == source.Inactive || !in || over || changed)
				again = func(next State) []Said { return Diff(next, rec, in, at).Events }
			}
			if len(d.Cases) == 0 {
				t.Fatal("a decision without a name")
			}
			status, engagement := s.Status, s.Engagement
			for _, said := range d.Events {
				switch e := said.Event.(type) {
				case *schema.Joiner:
					if e.Engagement != engagement+1 {
						t.Fatalf("step %d: joiner %d after %d", i, e.Engagement, engagement)
					}
					status, engagement = Active, e.Engagement
				case *schema.Leaver:
					if !mayLeave {
						t.Fatalf("step %d: a leaver that nobody stated", i)
					}
					status = Closed
				case *schema.Suspend:
					if !status.Live() && e.Engagement != engagement+1 || e.Engagement > engagement+1 {
						t.Fatalf("step %d: suspend of %d after %d", i, e.Engagement, engagement)
					}
				default:
					if !status.Live() {
						t.Fatalf("step %d: %s for someone who is %q", i, said.Event.Kind(), status)
					}
				}
			}
			if k.suspends != nil && !schema.At(at).Before(*k.suspends) && d.Next.At(at).Status == Active {
				t.Fatalf("step %d: active, though an operator suspended them: %v", i, d.Cases)
			}
			if more := again(d.Next); len(more) > 0 {
				t.Fatalf("step %d: the same record again says %s", i, more[0].Event.Kind())
			}
			stored, err := json.Marshal(d.Next)
			var back State
			if err == nil {
				err = json.Unmarshal(stored, &back)
			}
			if err != nil || !sameDesired(&back, &d.Next) || back.Status != d.Next.Status || back.Since != d.Next.Since {
				t.Fatalf("step %d: the state does not survive storage: %v", i, err)
			}
			if live, gone := d.Next.Statement("1", at); (live != nil || gone != nil) != (d.Next.Status != "") || live != nil && !d.Next.Status.Live() || live != nil && gone != nil {
				t.Fatalf("step %d: the roster says otherwise", i)
			}
			s = d.Next
		}
	})
}

// After a restore a leaver ends every engagement that the lost register may have given, and nothing else bears a number that
// was not given here: who is live may have left by a leaver that is lost, which a higher number would undo.
func TestALeaverAfterARestoreReachesWhatIsLost(t *testing.T) {
	now := time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		generation, open, want int
	}{{0, 1, 3}, {1, 1, 3}, {1, 2, 8}, {2, 2, 3}, {2, 4, 13}, {1, 9, 18}} {
		live := State{Engagement: 3, Generation: c.generation, Open: c.open, Status: Active, By: File, Since: schema.At(now.Add(-time.Hour)), Start: schema.At(now.Add(-time.Hour)), Roles: []string{}}
		closed := live
		closed.Status = Closed
		said := func(what string, d Decision, err error, want int) {
			t.Helper()
			if err != nil || len(d.Events) != 1 {
				t.Fatalf("%+v, %s: %v, %v", c, what, d, err)
			}
			e, ok := d.Events[0].Event.(*schema.Leaver)
			if !ok || e.Engagement != want || d.Next.Engagement != want || want > 3 && d.Next.Generation != c.open {
				t.Errorf("%+v, %s: want a leaver of engagement %d, got %+v and %+v", c, what, want, d.Events[0].Event, d.Next)
			}
			if got := d.Next.next(); got != want+1 {
				t.Errorf("%+v, %s: want %d next, got %d", c, what, want+1, got)
			}
		}
		said("the file's", Diff(live, &source.Record{Status: source.Inactive}, true, now), nil, c.want)
		said("absence", Absent(live, now), nil, c.want)
		d, err := Emit(live, Said{Event: &schema.Leaver{Effective: schema.At(now), Reason: schema.ReasonTermination}}, now)
		said("an operator's", d, err, c.want)
		d, err = Emit(closed, Said{Event: &schema.Leaver{Effective: schema.At(now), Reason: schema.ReasonTermination}}, now)
		if c.want == 3 {
			if err == nil {
				t.Errorf("%+v: a leaver of who has left is taken", c)
			}
		} else if said("an operator's of who has left", d, err, c.want); err == nil {
			if _, err := Emit(d.Next, Said{Event: &schema.Leaver{Effective: schema.At(now), Reason: schema.ReasonTermination}}, now); err == nil {
				t.Errorf("%+v: it is taken twice", c)
			}
		}
		if l, _ := live.Statement("1", now); l == nil || l.Engagement != 3 {
			t.Errorf("%+v: a roster states %+v", c, l)
		}
		d, err = Emit(live, Said{Event: &schema.Suspend{Effective: schema.At(now), Reason: schema.ReasonOther}}, now)
		if err != nil || d.Events[0].Event.(*schema.Suspend).Engagement != 3 {
			t.Errorf("%+v: %+v, %v", c, d, err)
		}
	}
}

// Who had left before the backup may have been hired again since: what HR says of them now is said once more, past all that
// may have been given.
func TestWhoHadLeftBeforeABackupIsSaidOnceMore(t *testing.T) {
	s := say(t, active(), active(inactive))
	s.Open, s.Restored = 2, true
	d := Diff(s, active(inactive), true, now)
	if len(d.Events) != 1 || !slices.Equal(d.Cases, []Case{Lost}) {
		t.Fatalf("%+v", d)
	}
	if e, ok := d.Events[0].Event.(*schema.Leaver); !ok || e.Engagement != s.Engagement+1+lostStep {
		t.Errorf("%+v", d.Events[0].Event)
	}
	again := d.Next
	again.Open, again.Restored = 2, true
	if d := Diff(again, active(inactive), true, now); len(d.Events) > 0 || !slices.Equal(d.Cases, []Case{Gone}) {
		t.Errorf("said twice: %+v", d)
	}
	if d := Diff(s, active(inactive), false, now); len(d.Events) > 0 && d.Cases[0] == Lost {
		t.Errorf("out of scope: %+v", d)
	}
	if d := Absent(s, now); len(d.Events) > 0 {
		t.Errorf("absence: %+v", d)
	}
}

// An operator's leaver of somebody who is out of scope is taken, and stands when a file has them in scope again.
func TestALeaverOfWhoIsOutOfScopeStands(t *testing.T) {
	s := Diff(say(t, active()), active(), false, now).Next
	if s.Status != Closed || !s.Inferred {
		t.Fatalf("%+v", s)
	}
	leaver := Said{Event: &schema.Leaver{Effective: schema.At(now), Reason: schema.ReasonTermination}}
	d, err := Emit(s, leaver, now)
	if err != nil || len(d.Events) != 1 {
		t.Fatalf("%+v, %v", d, err)
	}
	if _, err := Emit(d.Next, leaver, now); err == nil {
		t.Error("taken twice")
	}
	if d := Diff(d.Next, active(), true, now); len(d.Events) > 0 || !slices.Equal(d.Cases, []Case{Overruled}) {
		t.Errorf("a file brings them back: %+v", d)
	}
}

// An operator's leaver of somebody who is out of scope stands as of its own date, which may be later than when they left it.
func TestALeaverOfWhoIsOutOfScopeStandsAsOfItsDate(t *testing.T) {
	s := Diff(say(t, active(key("a"))), active(key("a")), false, now).Next
	ahead, err := Emit(s, Said{Event: &schema.Leaver{Effective: schema.At(*day(5)), Reason: schema.ReasonTermination}}, now)
	if err != nil {
		t.Fatal(err)
	}
	behind, err := Emit(s, Said{Event: &schema.Leaver{Effective: schema.At(*day(5)), Reason: schema.ReasonTermination}}, *day(6))
	if err != nil {
		t.Fatal(err)
	}
	for name, d := range map[string]Decision{
		"another contract before the date":    Diff(ahead.Next, active(key("b"), unstarted), true, *day(1)),
		"and after it":                        Diff(Diff(ahead.Next, active(key("b"), unstarted), true, *day(1)).Next, active(key("b"), unstarted), true, *day(6)),
		"a first day before the date":         Diff(ahead.Next, active(startsIn(4)), true, *day(4)),
		"a first day before a date gone by":   Diff(behind.Next, active(startsIn(4)), true, *day(6)),
		"a contract from before that date on": Diff(behind.Next, active(key("b"), startsIn(4)), true, *day(6)),
	} {
		if !slices.Equal(d.Cases, []Case{Overruled}) {
			t.Errorf("%s: %v", name, d.Cases)
		}
	}
	for name, rec := range map[string]*source.Record{"first day": active(startsIn(6)), "contract": active(key("b"), unstarted)} {
		if d := Diff(behind.Next, rec, true, *day(6)); !slices.Equal(d.Cases, []Case{Rehire}) {
			t.Errorf("a %s after it: %v", name, d.Cases)
		}
	}
}

// A contract that was named out of the scope, before an operator's leaver ahead has come, is no news after it: not there, and not in the
// scope of another enclave into which the file moves the person.
func TestAContractOutOfScopeBeforeAPlannedLeaver(t *testing.T) {
	planned := say(t, active(key("a"), unstarted), &schema.Leaver{Effective: schema.At(*day(5)), Reason: schema.ReasonOther})
	row := active(key("b"), unstarted)
	out := Diff(planned, row, false, *day(1)).Next
	if again := Diff(out, row, false, *day(2)); !reflect.DeepEqual(again.Next, out) {
		t.Errorf("the row again: %+v, want %+v", again.Next, out)
	}
	for name, s := range map[string]State{"there": out, "elsewhere": {Elsewhere: []Elsewhere{{"two", out}}}} {
		for _, n := range []int{1, 6} {
			if d := Diff(s, row, true, *day(n)); !slices.Equal(d.Cases, []Case{Overruled}) {
				t.Errorf("%s, day %d: %v", name, n, d.Cases)
			}
		}
		if d := Diff(s, active(key("c"), unstarted), true, *day(6)); len(d.Events) != 1 {
			t.Errorf("%s, a contract after it: %v", name, d.Cases)
		}
	}
}

// What a file took while the clock was ahead is taken now, by the roster that begins a generation with the clock put right.
func TestARosterAfterTheClockWasAhead(t *testing.T) {
	ahead := *day(365)
	live := say(t, active())
	for name, s := range map[string]State{"inactive": Diff(live, active(inactive), true, ahead).Next, "absent": Absent(live, ahead).Next} {
		if _, gone := s.Statement("1", now); gone == nil || gone.Effective != schema.At(now) {
			t.Errorf("%s: %+v", name, gone)
		}
	}
	away := Diff(live, active(onLeave), true, ahead).Next
	if l, _ := away.Statement("1", now); l == nil || l.State != schema.StateSuspended || l.Since != schema.At(now) {
		t.Errorf("on leave: %+v", l)
	}
	for name, e := range map[string]schema.Event{
		"suspension": &schema.Suspend{Effective: schema.At(ahead), Reason: schema.ReasonOther}, "leaver": &schema.Leaver{Effective: schema.At(ahead), Reason: schema.ReasonOther},
	} { // an operator's date ahead may be meant
		s := say(t, active(), e)
		if l, gone := s.Statement("1", now); gone != nil || l.Since != schema.At(ahead) && *l.End != schema.At(ahead) {
			t.Errorf("an operator's %s ahead: %+v %+v", name, l, gone)
		}
	}
}

// After a restore an operator's leaver ahead reaches a rehire that is lost: whoever left by HR's word before that date is cut then.
func TestAPlannedLeaverAfterARestoreWaitsForNoDate(t *testing.T) {
	s := say(t, active(key("a")), active(key("a"), inactive))
	s.Open, s.Restored = 2, true
	planned, err := Emit(s, Said{Event: &schema.Leaver{Effective: schema.At(*day(90)), Reason: schema.ReasonOther}}, *day(1))
	if err != nil || planned.Next.Engagement != 1+lostStep {
		t.Fatalf("%+v, %v", planned, err)
	}
	d := Diff(planned.Next, active(key("a"), inactive), true, *day(2))
	if !slices.Equal(d.Cases, []Case{Leave}) {
		t.Fatalf("%v", d.Cases)
	}
	if e := d.Events[0].Event.(*schema.Leaver); e.Engagement != 1+lostStep || e.Effective != schema.At(*day(2)) {
		t.Errorf("%+v", e)
	}
	if d := Diff(planned.Next, active(startsIn(30)), true, *day(30)); !slices.Equal(d.Cases, []Case{Overruled}) {
		t.Errorf("a first day before it: %v", d.Cases)
	}
	if d := Diff(planned.Next, active(key("b"), unstarted), true, *day(30)); !slices.Equal(d.Cases, []Case{Overruled}) {
		t.Errorf("another contract before it: %v", d.Cases)
	}
}

// A leaver ahead that an older program stored, as closed from then on, is not passed over by what begins before it.
func TestAPlannedLeaverOfAnOlderProgram(t *testing.T) {
	old := say(t, active(key("a")), leaver())
	old.Since = schema.At(*day(10))
	for at, start := range map[int]func(*source.Record){1: unstarted, 3: startsIn(2)} {
		d := Diff(old, active(key("b"), start), true, *day(at))
		if !slices.Equal(d.Cases, []Case{Overruled}) {
			t.Errorf("another contract on day %d: %v", at, d.Cases)
		}
		if d := Diff(d.Next, active(key("b"), start), true, *day(11)); !slices.Equal(d.Cases, []Case{Overruled}) {
			t.Errorf("and when the day has come: %v", d.Cases)
		}
	}
	if d := Diff(old, active(key("b"), startsIn(12)), true, *day(12)); !slices.Equal(d.Cases, []Case{Rehire}) {
		t.Errorf("after it: %v", d.Cases)
	}
}

// A suspension by an operator that an older program stored holds as one of today does.
func TestASuspensionOfAnOlderProgram(t *testing.T) {
	old := say(t, active(key("a")), &schema.Suspend{Effective: schema.At(now), Reason: schema.ReasonInvestigation})
	old.Barred, old.SaidBar = nil, schema.Instant{}
	closed := Diff(old, active(key("a")), false, now).Next
	moved := State{Elsewhere: []Elsewhere{{Audience: "other", State: old}}}
	for name, d := range map[string]Decision{
		"another contract":               Diff(old, active(key("b")), true, *day(1)),
		"out of the scope, back in it":   Diff(closed, active(key("a")), true, *day(1)),
		"into another enclave's scope":   Diff(moved, active(key("a")), true, *day(1)),
		"out of one, and into the other": Diff(State{Elsewhere: []Elsewhere{{Audience: "other", State: closed}}}, active(key("a")), true, *day(1)),
	} {
		if d.Cases[0] != Kept || d.Next.Status != Suspended || d.Next.By != Operator {
			t.Errorf("%s: %v %+v", name, d.Cases, d.Next)
		}
	}
	if _, err := Emit(old, Said{Event: &schema.Suspend{Effective: schema.At(*day(1)), Reason: schema.ReasonOther}}, *day(1)); err == nil {
		t.Error("suspended twice")
	}
	d, err := Emit(old, Said{Event: &schema.Resume{Effective: schema.At(*day(1)), Reason: "return"}}, *day(1))
	if err != nil || d.Next.Status != Active || d.Next.At(*day(2)).Barred != nil {
		t.Errorf("resumed: %+v, %v", d.Next, err)
	}
	if d := Diff(old, active(key("a"), present), true, *day(1)); !slices.Equal(d.Cases, []Case{Overruled}) {
		t.Errorf("present by the file: %v", d.Cases)
	}
}
