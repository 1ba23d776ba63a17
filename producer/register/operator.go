package register

import (
	"fmt"
	"time"

	"jmlbridge/schema"
)

// A NonsenseError says why an operator's event contradicts what was announced. Nothing was changed.
type NonsenseError struct{ Reason string }

func (e *NonsenseError) Error() string { return e.Reason }

func nonsense(format string, args ...any) error {
	return &NonsenseError{fmt.Sprintf(format, args...)}
}

// maxAhead is how far in the future an operator's cut may lie. Later than that it is a slip of the year, and would leave
// an account open of which everyone believes that it was closed.
const maxAhead = 2 * 365 * 24 * time.Hour

// Emit decides for an event that an operator states. An engagement of 0 is filled in: the one that is
// live, or the next for a joiner. The event is complete otherwise.
func Emit(last State, said Said, now time.Time) (Decision, error) {
	d, err := emit(last.At(now), said, now)
	if err != nil {
		return Decision{Next: last}, err
	}
	return d, nil
}

func emit(last State, said Said, now time.Time) (Decision, error) {
	d := Decision{Events: []Said{said}, Next: last}
	n := &d.Next
	current := func(engagement *int) error {
		if *engagement == 0 {
			*engagement = last.Engagement
		}
		switch {
		case last.Status == "":
			return nonsense("nothing was ever announced of this person; emit a joiner first")
		case *engagement != last.Engagement:
			return nonsense("engagement %d was announced last; got an event for %d", last.Engagement, *engagement)
		case last.Status == Closed && said.Event.Kind().Cuts():
			return nonsense("engagement %d was closed as of %s: there is no access of it left to take; an earlier leaver would count", last.Engagement, last.Since)
		case last.Status == Closed:
			return nonsense("engagement %d was closed as of %s; a change of mind is a new engagement: emit a joiner", last.Engagement, last.Since)
		}
		return nil
	}
	switch e := said.Event.(type) {
	case *schema.Joiner:
		if e.Engagement == 0 {
			e.Engagement = last.next()
			if last.Status.Live() {
				return d, nonsense("engagement %d is live; emit a mover, or name the engagement %d to end it and begin anew", last.Engagement, e.Engagement)
			}
		}
		if e.Engagement != last.next() {
			return d, nonsense("want engagement %d for a joiner, got %d", last.next(), e.Engagement)
		}
		if err := notOver(e.End, now); err != nil {
			return d, err
		}
		*n = State{Engagement: e.Engagement, Generation: last.Open, Open: last.Open, Restored: last.Restored, Status: Active, By: Operator, Since: schema.At(now), Person: e.Person, Roles: roles(e.Roles), Start: e.Start, End: e.End}
		n.follow(&last)
		n.SaidEnd, n.SaidBar = schema.At(now), schema.At(now)
		d.Cases = []Case{Join}
		if last.Engagement > 0 {
			d.Cases = []Case{Rehire}
		}
	case *schema.Mover:
		if err := current(&e.Engagement); err != nil {
			return d, err
		}
		if schema.At(now).Before(e.Effective) {
			return d, notYet(schema.KindMover, e.Effective)
		}
		if err := notOver(e.End, now); err != nil {
			return d, err
		}
		n.Person, n.Roles, n.Start, n.End = e.Person, roles(e.Roles), e.Start, e.End
		n.follow(&last)
		if sameDesired(&last, n) {
			return d, nonsense("nothing of it differs from what was announced last")
		}
		d.Cases = []Case{Move}
	case *schema.Leaver:
		switch {
		case e.Engagement == 0 && last.Status == "" && !last.Restored:
			// A leaver of someone unknown leaves a tombstone in the enclave; the operator must mean it.
			return d, nonsense("nothing was ever announced of this person; to close an engagement all the same, name it with --engagement: any number from the one that the enclave's operators see")
		case last.Status == "":
			// It may be the joiner that is lost: what is left to do after a restore.
			if e.Engagement == 0 {
				e.Engagement = last.next()
			}
			n.Generation = last.Open
		case e.Engagement == 0:
			e.Engagement = last.reach()
		case e.Engagement != last.Engagement && e.Engagement != last.reach():
			return d, nonsense("engagement %d was announced last; got a leaver for %d", last.Engagement, e.Engagement)
		}
		reaches := e.Engagement > last.Engagement && last.Status != "" // what a lost register may have announced
		ahead := last.Status.Live() && schema.At(now).Before(e.Effective)
		if ahead && last.Leaves != nil && !e.Effective.Before(*last.Leaves) && !e.Urgent {
			return d, nonsense("engagement %d is to be closed as of %s already; of several leavers the earliest counts", last.Engagement, *last.Leaves)
		}
		if last.Status == Closed && !e.Effective.Before(last.Since) && !e.Urgent && !reaches && !last.Inferred { // else it says for good what no row had said
			return d, nonsense("engagement %d was closed as of %s already; of several leavers the earliest counts", last.Engagement, last.Since)
		}
		if err := notTooFar(schema.KindLeaver, e.Effective, now); err != nil {
			return d, err
		}
		d.Cases, n.SaidEnd = []Case{Leave}, schema.At(now)
		if ahead { // until then the person is live
			if last.Leaves == nil || e.Effective.Before(*last.Leaves) {
				at := e.Effective
				n.Leaves = &at
			}
			break
		}
		n.Engagement, n.By, n.Leaves, n.Inferred = e.Engagement, Operator, nil, false
		if reaches {
			n.Generation = last.Open
		}
		if last.Status == Closed && !e.Effective.Before(last.Since) { // what begins before then is not news
			n.Latest = laterOf(last.latest(), e.Effective)
		}
		if last.Status != Closed || reaches || e.Effective.Before(last.Since) { // what it reaches may be live until then
			n.Since = e.Effective
		}
		n.Status = Closed
	case *schema.Suspend:
		if err := current(&e.Engagement); err != nil {
			return d, err
		}
		if last.Barred != nil && !e.Effective.Before(*last.Barred) {
			return d, nonsense("engagement %d is suspended as of %s already", last.Engagement, *last.Barred)
		}
		if err := notTooFar(schema.KindSuspend, e.Effective, now); err != nil {
			return d, err
		}
		at := e.Effective
		n.Barred, n.SaidBar = &at, schema.At(now)
		*n = n.At(now)
		d.Cases = []Case{Suspend}
	case *schema.Resume:
		if err := current(&e.Engagement); err != nil {
			return d, err
		}
		if last.Status != Suspended && last.Barred == nil {
			return d, nonsense("engagement %d is not suspended", last.Engagement)
		}
		if schema.At(now).Before(e.Effective) {
			return d, notYet(schema.KindResume, e.Effective)
		}
		n.Status, n.By, n.Since, n.Barred, n.SaidBar = Active, Operator, e.Effective, nil, schema.At(now)
		d.Cases = []Case{Resume}
	default:
		return d, nonsense("want a joiner, mover, leaver, suspend or resume; a %s is not an operator's to state here", said.Event.Kind())
	}
	return d, nil
}

// notYet refuses what gives access later: a roster states the present, and would give it at once.
func notYet(k schema.Kind, effective schema.Instant) error {
	return nonsense("want an effective instant that has come for a %s, got %s; emit it then", k, effective)
}

// notTooFar refuses a cut of a time that nobody plans for.
func notTooFar(k schema.Kind, effective schema.Instant, now time.Time) error {
	if last := schema.At(now.Add(maxAhead)); last.Before(effective) {
		return nonsense("want an effective instant at most two years ahead (%s) for a %s, got %s", last, k, effective)
	}
	return nil
}

// notOver refuses an engagement that has ended: it would open an account only to close it.
func notOver(end *schema.Instant, now time.Time) error {
	if end != nil && !schema.At(now).Before(*end) {
		return nonsense("want an end that is still to come, or none, got %s; for someone who has left emit a leaver", *end)
	}
	return nil
}

// Statement returns what a roster says of the person at an instant: one of the two, or neither for someone never
// announced. Whoever leaves at a date to come is live until then and states it as the end, so that it stands beside
// what was said of roles and suspensions; a suspension to come is stated with its date.
func (s *State) Statement(subject string, now time.Time) (*schema.LiveEngagement, *schema.ClosedEngagement) {
	is := s.At(now)
	if is.Status == Suspended || is.Status == Closed && is.By == File { // a file takes nothing ahead: the clock was
		is.Since = earlierOf(is.Since, schema.At(now))
	}
	switch {
	case is.Status.Live() && is.Leaves != nil && is.Leaves.Before(is.Start):
		return nil, &schema.ClosedEngagement{Subject: subject, Engagement: is.Engagement, Effective: *is.Leaves} // it never begins
	case is.Status.Live():
		l := &schema.LiveEngagement{
			Subject: subject, Engagement: is.Engagement, State: schema.StateActive, Since: is.Since,
			Person: is.Person, Roles: is.Roles, Start: is.Start, End: is.End,
		}
		if is.Leaves != nil && (is.End == nil || is.Leaves.Before(*is.End)) {
			l.End = is.Leaves
		}
		switch {
		case is.Status == Suspended:
			l.State = schema.StateSuspended
		case is.Barred != nil:
			l.State, l.Since = schema.StateSuspended, *is.Barred
		}
		return l, nil
	case is.Status == Closed:
		return nil, &schema.ClosedEngagement{Subject: subject, Engagement: is.Engagement, Effective: is.Since}
	}
	return nil, nil
}
