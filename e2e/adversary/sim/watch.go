package sim

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"jmlbridge/consumer/ruling"
	"jmlbridge/consumer/state"
	"jmlbridge/e2e/adversary/model"
	"jmlbridge/internal/directory"
	"jmlbridge/internal/disk"
	"jmlbridge/internal/ledger"
	"jmlbridge/internal/ledger/entry"
	"jmlbridge/schema"
)

// watch holds what the consumer does against the model: every intent when it is durable, every write in the
// tenant when it happens, every alarm when a batch is in.
type watch struct {
	w         *world
	delivered map[*message]bool
	read1     int64                 // entries of the ledger that were read
	open      map[int64]*openIntent // intents without an outcome
}

type openIntent struct {
	mark string
	ops  []entry.Op
}

// had tells whether a message, or another copy of it, was the enclave's already.
func (a *watch) had(x *message) bool {
	for o, yes := range a.delivered {
		if yes && (o == x || o.truth != nil && o.truth.Hash == x.truth.Hash) {
			return true
		}
	}
	return false
}

func digest(b []byte) []byte { d := schema.DigestOf(b); return d[:] }

// begin follows a new ledger from its first entry.
func (a *watch) begin() { a.read1, a.open = 0, map[int64]*openIntent{} }

// reopen follows a start of the program: what its disk lost was read by nobody.
func (a *watch) reopen() {
	size, err := ledger.Size(a.w.consumer.db.DB)
	if err != nil {
		a.w.broken("read the ledger's size: %v", err)
	}
	if size < a.read1 {
		a.w.failf("ledger shrank", "%d entries were durable, after a crash there are %d", a.read1, size)
	}
}

// read judges what was added to the ledger.
func (a *watch) read() {
	w := a.w
	for e, err := range ledger.Entries(context.Background(), w.consumer.db.DB, a.read1) {
		if err != nil {
			w.broken("read the ledger: %v", err)
		}
		a.read1 = e.Index + 1
		switch body := e.Body.(type) {
		case *entry.Intent:
			a.open[e.Index] = &openIntent{directory.Mark(body.Issuer, body.Subject), body.Ops}
			a.judge(body)
		case *entry.Outcome:
			if a.open[body.Intent] == nil {
				w.failf("outcome without intent", "entry %d answers %d", e.Index, body.Intent)
			}
			delete(a.open, body.Intent)
			for _, r := range body.Results {
				if r.Result == entry.ResultApplied || r.Result == entry.ResultFound {
					w.count.Applied++
				}
			}
		case *entry.Lease:
			if body.Action == entry.LeaseExpired && w.consumer.doubt {
				w.failf("lease by a doubtful clock", "the lease of %s ran out", body.Subject)
			}
		}
	}
}

// judge holds an intent against what the model allows at this moment, or allowed when the step began: what
// lies between is the tenant's answer to a look.
func (a *watch) judge(in *entry.Intent) {
	w := a.w
	now := w.consumer.clock()
	m := w.of(in.Issuer).model
	// Now and when the step began, by each view that is good.
	var views []model.Access
	instants := []time.Time{now, w.consumer.from}
	if w.consumer.doubt { // what was so by the clock before it went back stands until somebody has looked at it
		instants = append(instants, w.consumer.latest)
	}
	for _, at := range instants {
		for _, v := range m.Views() {
			views = append(views, m.At(in.Subject, at, v))
		}
	}
	is := views[0]
	cuts := slices.Clone(views) // what was known once may be a reason to take, and none to give
	for _, at := range instants {
		for _, v := range m.Views() {
			v.Disowned = true
			cuts = append(cuts, m.At(in.Subject, at, v))
		}
	}
	for past := m.Before(); past != nil; past = past.Before() {
		for _, at := range instants {
			for _, v := range m.Views() {
				cuts = append(cuts, past.At(in.Subject, at, v))
			}
		}
	}
	some := func(f func(model.Access) bool) bool { return slices.ContainsFunc(views, f) }
	// What had taken access before the clock went back is not undone by that.
	stands := func(group string) bool {
		return w.consumer.doubt && w.consumer.latest.After(now) && !slices.ContainsFunc(m.Views(), func(v model.View) bool {
			was := m.At(in.Subject, w.consumer.latest, v)
			if was.Open {
				return group == "" || slices.Contains(was.Groups, group) || slices.Contains(was.Spare, group)
			}
			return was.Why != "left" && was.Why != "suspended" && was.Why != "ended"
		})
	}
	for _, op := range in.Ops {
		w.tracef("intends %s %s of %d %s", op.Op, short(op.Target), w.of(in.Issuer).n, in.Subject)
		gives := false
		ok := true
		switch op.Op {
		case "create", "enable", "update", "set-manager", "clear-manager":
			gives, ok = true, some(func(a model.Access) bool { return a.Open })
		case "add-member":
			gives, ok = true, some(func(a model.Access) bool { return a.Open && slices.Contains(a.Groups, op.Target) })
		case "disable", "revoke-sessions":
			// Nobody is cut for being unknown.
			ok = slices.ContainsFunc(cuts, func(a model.Access) bool { return !a.Open && a.Why != "unknown" })
		case "remove-member":
			ok = slices.ContainsFunc(cuts[:2*len(views)], func(a model.Access) bool {
				return !slices.Contains(a.Groups, op.Target)
			})
		case "delete":
			ok = is.Closed && !now.Before(is.ClosedAt.Add(w.consumer.policy.Grace.D())) && !w.consumer.doubt
		default:
			w.failf("unknown operation", "%s", op.Op)
		}
		group := ""
		if op.Op == "add-member" {
			group = op.Target
		}
		ok = ok && !(gives && stands(group))
		switch {
		case ok:
		case gives && is.Closed:
			w.count.Resurrected++
			w.failf("resurrected", "%s of %s is intended, who is %s", op.Op, in.Subject, is.Why)
		case gives:
			w.failf("unfounded grant", "%s %s of %s is intended, who is %s and may have %v", op.Op, op.Target, in.Subject, is.Why, is.Groups)
		default:
			w.failf("unfounded cut", "%s %s of %s is intended, who is %s and may have %v", op.Op, op.Target, in.Subject, is.Why, is.Groups)
		}
		if (gives || op.Op == "delete") && w.consumer.room.Level() != disk.Ample {
			w.failf("no room", "%s of %s is intended, and the room on the disk is %s", op.Op, in.Subject, w.consumer.room.Level())
		}
		if gives && w.consumer.from.Sub(m.Beat()) > staleAfter+time.Second && now.Sub(m.Beat()) > staleAfter+time.Second {
			w.failf("grant of a stale stream", "%s of %s, last heartbeat %s", op.Op, in.Subject, m.Beat())
		}
	}
}

// rosters tells the model which ones the consumer has taken in.
func (a *watch) rosters() {
	w := a.w
	err := w.consumer.db.Read().Each("SELECT id FROM roster WHERE state = 'applied'", nil, func(scan func(...any) error) error {
		var id string
		err := scan(&id)
		for _, p := range w.producers {
			p.model.Applied(id)
		}
		return err
	})
	if err != nil {
		w.broken("read the rosters: %v", err)
	}
}

func short(id string) string { return id[:min(8, len(id))] }

// wrote is a write in the tenant: it must be among those of an intent that is on the ledger.
func (a *watch) wrote(op, mark, target string) {
	for _, in := range a.open {
		if in.mark == mark && slices.ContainsFunc(in.ops, func(o entry.Op) bool { return o.Op == op && (o.Target == target || target == "") }) {
			return
		}
	}
	a.w.failf("write without intent", "%s %s on the account marked %s", op, target, mark)
}

// deliver tells the model what is durably the consumer's.
func (a *watch) deliver(batch []*message) {
	for _, x := range batch {
		if x.truth == nil {
			continue
		}
		dropped := a.w.consumer.dropped[x]
		if x.from.opened == 0 && dropped { // nothing of it is known
			continue
		}
		a.delivered[x] = !dropped // its cuts act
		if x.from.opened == 0 {
			x.from.unheard = append(x.from.unheard, x) // parked, until its key is trusted
			continue
		}
		was := x.from.model.RuledOut(x.truth.Hash)
		x.from.model.Deliver(*x.truth)
		if !was && !dropped && x.from.model.RuledOut(x.truth.Hash) {
			a.wentOn(x)
		}
	}
	a.alarms()
}

// wentOn holds what came now on a branch that an operator ruled out against the alarm on that. The model knows of no clock
// and no end of a key, for which a message is parked or refused.
func (a *watch) wentOn(x *message) {
	w := a.w
	var taken int
	if err := w.consumer.db.Read().QueryRow("SELECT COUNT(*) FROM message WHERE payload = ? AND disposition = 9", x.truth.Hash[:]).Scan(&taken); err != nil {
		w.broken("read what was ruled out: %v", err)
	}
	if taken == 0 {
		return
	}
	list, err := state.Alarms(w.consumer.db.Read())
	if err != nil {
		w.broken("read the alarms: %v", err)
	}
	if !slices.ContainsFunc(list, func(s state.Alarm) bool { return goesOn(s, x.from) }) {
		w.count.Unreported++
		w.failf("unreported "+ruling.AlarmGoesOn, "of %d, by message %d", x.from.n, x.truth.Stream.Seq)
	}
}

// goesOn tells whether an alarm says that a branch of the generation goes on that is followed of a producer.
func goesOn(s state.Alarm, p *producer) bool {
	return s.Code == ruling.AlarmGoesOn && s.Key == fmt.Sprintf("%s#%d@%s", stream, p.opened, p.issuer)
}

// heard is when the key of a producer is trusted: what waited for that is read now.
func (a *watch) heard(p *producer) {
	for _, x := range p.unheard {
		p.model.Deliver(*x.truth)
	}
	p.unheard = nil
}

// alarms holds what the consumer reports against what there is to report.
func (a *watch) alarms() {
	w := a.w
	list, err := state.Alarms(w.consumer.db.Read())
	if err != nil {
		w.broken("read the alarms: %v", err)
	}
	for _, s := range list {
		if s.Code == ruling.AlarmGoesOn && !slices.ContainsFunc(w.producers, func(p *producer) bool { return goesOn(s, p) && p.model.AnyRuledOut() }) {
			w.failf("false alarm", "%s %s stands, and nothing was ruled out there", s.Code, s.Key)
		}
	}
	for _, p := range w.producers {
		if w.consumer.owed(p) {
			continue
		}
		for _, x := range []struct {
			code, stream string
			want         bool
		}{{"gap", stream, p.model.Gap()}, {"fork", stream, p.model.Forked()}, {"newer-version", stream, p.model.Newer()}, {"gap", approvals, p.model.SecondGap()}, {"fork", approvals, false}} {
			has := slices.ContainsFunc(list, func(a state.Alarm) bool {
				return a.Code == x.code && strings.HasPrefix(a.Key, x.stream+"#") && strings.HasSuffix(a.Key, "@"+p.issuer)
			})
			switch {
			case x.want && !has:
				w.count.Unreported++
				var codes []string
				for _, s := range list {
					codes = append(codes, s.Code)
				}
				w.failf("unreported "+x.code, "of %d; alarms that stand: %s", p.n, strings.Join(codes, ", "))
			case has && !x.want:
				w.failf("false alarm", "%s of %d stands, and there is none", x.code, p.n)
			}
		}
	}
}
