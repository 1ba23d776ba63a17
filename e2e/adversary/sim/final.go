package sim

import (
	"database/sql"
	"fmt"
	"slices"
	"time"

	"jmlbridge/e2e/adversary/model"
	"jmlbridge/internal/directory"
)

// wrote is a write in the tenant.
func (w *world) wrote(op, mark, target string) { w.watch.wrote(op, mark, target) }

// final holds the tenant and the archive against the model once nothing is under way.
func (w *world) final() {
	c := w.consumer
	now := c.clock()
	for i := range w.mood.people * len(w.producers) {
		p := w.producers[i%len(w.producers)]
		subject := fmt.Sprintf("P-%d", i/len(w.producers)+1)
		mark := directory.Mark(p.issuer, subject)
		var list []*version
		for _, a := range w.tenant.accounts {
			if v := a.now(); v.mark == mark && !v.deleted {
				list = append(list, v)
			}
		}
		if len(list) > 1 {
			w.count.Duplicated++
			w.failf("duplicated", "%s of %d has %d accounts", subject, p.n, len(list))
		}
		var wrong *Failure
		for _, v := range p.model.Views() {
			if v.Pending { // all is taken in
				continue
			}
			if wrong = w.differs(p, subject, list, p.model.At(subject, now, v)); wrong == nil {
				break
			}
		}
		if wrong != nil {
			w.failf(wrong.Invariant, "%s", wrong.Text)
		}
	}
	for _, x := range w.mid.stored {
		if !x.settled || x.gone || x.from.model.Disowned(*x.truth) { // what is parked when its key is revoked is refused then
			continue
		}
		if !c.present(x) {
			w.count.Lost++
			w.failf("lost", "%s was acknowledged and is not in the archive", x)
		}
	}
	if w.thief != nil {
		w.thief.final()
	}
	if len(w.watch.open) > 0 {
		w.failf("intent without outcome", "%d intents", len(w.watch.open))
	}
}

// differs says how the accounts of a person differ from what they should be; nil: they do not.
func (w *world) differs(p *producer, subject string, list []*version, want model.Access) *Failure {
	fail := func(invariant, format string, args ...any) *Failure {
		return &Failure{invariant, fmt.Sprintf("of %d: ", p.n) + fmt.Sprintf(format, args...)}
	}
	switch {
	case p.model.Questioned(subject) && (len(list) == 0 || !list[0].enabled): // an operator took back what there was
	case want.Open && !p.model.Named(subject): // held until somebody says who that is
	case len(list) == 0 && want.Open:
		return fail("missing", "%s is to have an account with %v", subject, want.Groups)
	case len(list) == 0:
	case want.Open && !list[0].enabled && w.blocked(p, subject): // until somebody says that this was us
	case want.Open && !list[0].enabled:
		return fail("missing", "the account of %s is disabled, who is %s", subject, want.Why)
	case want.Open && !slices.Equal(without(list[0].groups, want.Spare, want.Groups), want.Groups):
		return fail("other groups", "%s has %v and is to have %v", subject, list[0].groups, want.Groups)
	case want.Why == "unknown" && p.model.Before() != nil: // of a database that was lost; nobody is cut for that
	case !want.Open && list[0].enabled:
		return fail("still there", "the account of %s is enabled, who is %s", subject, want.Why)
	case want.Closed && len(list[0].groups) > 0:
		return fail("not stripped", "the account of %s is in %v, who is %s", subject, list[0].groups, want.Why)
	case want.Closed && !w.outlived.Before(want.ClosedAt):
		return fail("not deleted", "the account of %s is there long after grace, who is %s", subject, want.Why)
	}
	return nil
}

// blocked tells whether an account is held as disabled by the tenant's own people. Of two losses the second forgets that
// the bridge disabled it before the first.
func (w *world) blocked(p *producer, subject string) (held bool) {
	if past := p.model.Before(); past == nil || past.Before() == nil {
		return false
	}
	err := w.consumer.db.Read().QueryRow("SELECT EXISTS (SELECT 1 FROM subject WHERE iss = ? AND subject = ? AND note = 'disabled-locally')", p.issuer, subject).Scan(&held)
	if err != nil {
		w.broken("look for a hold: %v", err)
	}
	return held
}

// without is groups without those of spare that are not of wanted.
func without(groups, spare, wanted []string) []string {
	return slices.DeleteFunc(slices.Clone(groups), func(g string) bool { return slices.Contains(spare, g) && !slices.Contains(wanted, g) })
}

// dumpStreams writes where the streams stand.
func (w *world) dumpStreams() {
	_ = w.consumer.db.Read().Each("SELECT iss, generation, state, joined_seq, head_seq, highest_seq, fork_seq FROM stream", nil, func(scan func(...any) error) error {
		var g, j, h, hi, f int64
		var iss, st string
		err := scan(&iss, &g, &st, &j, &h, &hi, &f)
		w.tracef("stream of %d %d %s joined %d head %d highest %d fork %d", w.of(iss).n, g, st, j, h, hi, f)
		return err
	})
	_ = w.consumer.db.Read().Each("SELECT stream_ref, seq, event, subject, disposition, code, substr(hex(payload), 1, 6), substr(hex(prev), 1, 6), substr(kid, 1, 4) FROM message ORDER BY stream_ref, seq, id", nil, func(scan func(...any) error) error {
		var ref, seq, d int64
		var event, subject, code, hash, prev, kid string
		err := scan(&ref, &seq, &event, &subject, &d, &code, &hash, &prev, &kid)
		w.tracef("message %d %d %s %s disposition %d %s, %s after %s by %s", ref, seq, event, subject, d, code, hash, prev, kid)
		return err
	})
	_ = w.consumer.db.Read().Each("SELECT code, count(*) FROM parked GROUP BY code", nil, func(scan func(...any) error) error {
		var n int64
		var st string
		err := scan(&st, &n)
		w.tracef("parked %s: %d", st, n)
		return err
	})
	_ = w.consumer.db.Read().Each("SELECT id, state, head_generation, head_seq FROM roster", nil, func(scan func(...any) error) error {
		var id, st string
		var g, q int64
		err := scan(&id, &st, &g, &q)
		w.tracef("roster %s %s head %d/%d", id, st, g, q)
		return err
	})
}

// dump writes what the database has of everyone, for whoever reads a failing schedule.
func (w *world) dump() {
	w.dumpStreams()
	rows, err := w.consumer.db.Read().Query("SELECT iss, subject, lane, due, urgent, attempts, note, rev, counted, account, doc FROM subject ORDER BY iss, subject")
	if err != nil {
		return
	}
	defer rows.Close()
	for rows.Next() {
		var iss, subject, note, doc string
		var account sql.NullString
		var lane, due, urgent, attempts, rev, counted int64
		if rows.Scan(&iss, &subject, &lane, &due, &urgent, &attempts, &note, &rev, &counted, &account, &doc) == nil {
			w.tracef("row %d %s lane %d due %s urgent %d attempts %d note %q rev %d counted %d account %s doc %s", w.of(iss).n, subject, lane, time.UnixMilli(due).UTC().Format("02 15:04:05"), urgent, attempts, note, rev, counted, account.String, doc)
		}
	}
}
