package state

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"jmlbridge/internal/ledger/entry"
	"jmlbridge/internal/store"
	"jmlbridge/schema"
)

// HoldState says how a hold ended.
type HoldState string

// States of a hold; they stand in the database.
const (
	HoldOpen      HoldState = "open"
	HoldReleased  HoldState = "released"  // by an operator: do it
	HoldDiscarded HoldState = "discarded" // by an operator: do not
	HoldEnded     HoldState = "ended"     // the rule's own end
)

// Hold is something that waits for a rule's end or an operator.
type Hold struct {
	ID int64
	SubjectKey
	Code    string
	Digest  schema.Digest   // of Shown
	Shown   json.RawMessage // exactly what an operator sees and releases
	Created time.Time
	Expires time.Time // zero: only by an operator
	Lapses  time.Time // of discarded cuts: when they come back; zero: they do not, or did
	State   HoldState
	Leaning HoldState // what the operators in By want, while too few of them have spoken
	Leaned  time.Time // when the last of them said so
	Ended   time.Time
	By      []string // OS logins
	Reason  string

	// For the ledger only, and not kept in the table: whom it concerns where that is not SubjectKey alone,
	// and what caused it.
	Subjects []entry.Who
	Cause    *entry.Cause
}

// Name is the hold's id as people and the ledger write it.
func (h *Hold) Name() string { return strconv.FormatInt(h.ID, 10) }

// ShowOne is what is shown of a hold of one person.
func ShowOne(k SubjectKey, engagement int, code string, targets []string) json.RawMessage {
	b, err := json.Marshal(map[string]any{"iss": k.Issuer, "sub": k.Subject, "engagement": engagement, "code": code, "targets": targets})
	if err != nil {
		panic("strings and a number: " + err.Error())
	}
	return b
}

// ErrChanged says that a hold, or what is parked, is not what the operator was shown.
var ErrChanged = errors.New("it is not what was shown")

// OpenHold holds what h.Shown describes, as of h.Created, and puts that on the ledger. Where the same is held
// for the same person and reason already, that hold stands, h becomes it and created is false; where
// something else is, that one ends: what a release lets through is what was shown, never more.
func OpenHold(tx *store.Tx, h *Hold) (created bool, err error) {
	h.Digest, h.State = schema.DigestOf(h.Shown), HoldOpen
	open, err := listHolds(tx, ` WHERE state = 'open' AND iss = ? AND subject = ? AND code = ?`, h.Issuer, h.Subject, h.Code)
	if err != nil {
		return false, err
	}
	for _, o := range open {
		if o.Digest == h.Digest {
			*h = *o
			return false, nil
		}
		if err := o.end(tx, HoldEnded, entry.ReleasedResolved, "superseded", h.Created); err != nil {
			return false, err
		}
	}
	res, err := tx.Exec(`INSERT INTO hold (code, iss, subject, digest, shown, created, expires, state) VALUES (?, ?, ?, ?, ?, ?, ?, 'open')`,
		h.Code, h.Issuer, h.Subject, h.Digest[:], string(h.Shown), ms(h.Created), ms(h.Expires))
	if err != nil {
		return false, fmt.Errorf("open hold: %w", err)
	}
	if h.ID, err = res.LastInsertId(); err != nil {
		return false, err
	}
	held := entry.Held{Hold: h.Name(), Code: h.Code, Digest: h.Digest, Subjects: h.Subjects, Cause: h.Cause}
	if len(held.Subjects) == 0 && h.Issuer != "" && h.Subject != "" {
		held.Subjects = []entry.Who{{Issuer: h.Issuer, Subject: h.Subject}}
	}
	if !h.Expires.IsZero() {
		held.Until = entry.MomentAt(h.Expires)
	}
	for _, part := range entry.SplitHeld(held) {
		if err := record(tx, h.Created, part); err != nil {
			return false, err
		}
	}
	return true, nil
}

// endedError says that a hold is over: it wraps ErrChanged, of which the text would be beside the point.
type endedError struct{ hold *Hold }

func (e *endedError) Error() string {
	return fmt.Sprintf("hold %s was %s at %s; nothing more was done", e.hold.Name(), e.hold.State, e.hold.Ended.UTC().Format(time.RFC3339))
}

func (*endedError) Unwrap() error { return ErrChanged }

// DecideHold is an operator's word on an open hold. The digest names what the operator was shown; the
// error wraps ErrChanged where the hold is another or not open any more, ErrNotFound where there is none.
// It takes the words of need different operators to end it; done says whether it did. Each word is on the ledger, also one that
// is not enough. The same operator twice counts once; a word for the other end starts over.
func DecideHold(tx *store.Tx, id int64, shown schema.Digest, to HoldState, by, reason string, need int, now time.Time) (h *Hold, done bool, err error) {
	action := entry.ReleasedRelease
	switch to {
	case HoldReleased:
	case HoldDiscarded:
		action = entry.ReleasedDiscard
	default:
		return nil, false, fmt.Errorf("want %s or %s, got %q", HoldReleased, HoldDiscarded, to)
	}
	if by == "" || strings.Contains(by, ",") {
		return nil, false, fmt.Errorf("want the login of an operator, got %q", by)
	}
	if h, err = HoldByID(tx, id); err != nil {
		return nil, false, err
	}
	if h.State != HoldOpen {
		return nil, false, &endedError{h}
	}
	if h.Digest != shown {
		return nil, false, fmt.Errorf("hold %s has digest %s now: %w; look at it again", h.Name(), h.Digest, ErrChanged)
	}
	if h.Leaning != to {
		h.By, h.Leaning = nil, to
	}
	if !slices.Contains(h.By, by) {
		h.By = append(h.By, by)
	}
	h.Reason = reason
	if len(h.By) < need {
		h.Leaned = now
		_, err := tx.Exec(`UPDATE hold SET leaning = ?, leaned = ?, by = ?, reason = ? WHERE id = ?`, string(to), ms(now), strings.Join(h.By, ","), reason, id)
		if err != nil {
			return nil, false, err
		}
		return h, false, record(tx, now, &entry.Operator{By: by, Action: "hold-" + action, Target: h.Name(), Digest: &h.Digest, Reason: entry.Text(reason)})
	}
	return h, true, h.end(tx, to, action, "", now)
}

// EndHolds ends every open hold of a person with one of these codes, and puts it on the ledger: the rule
// does not hold any more or, where expired, its time is over. It returns those that it ended.
func EndHolds(tx *store.Tx, k SubjectKey, expired bool, now time.Time, codes ...string) (ended []*Hold, err error) {
	action := entry.ReleasedResolved
	if expired {
		action = entry.ReleasedExpired
	}
	for _, code := range codes {
		open, err := listHolds(tx, ` WHERE state = 'open' AND iss = ? AND subject = ? AND code = ?`, k.Issuer, k.Subject, code)
		if err != nil {
			return nil, err
		}
		for _, h := range open {
			if err := h.end(tx, HoldEnded, action, "", now); err != nil {
				return nil, err
			}
			ended = append(ended, h)
		}
	}
	return ended, nil
}

func (h *Hold) end(tx *store.Tx, to HoldState, action, code string, now time.Time) error {
	h.State, h.Ended = to, now
	_, err := tx.Exec(`UPDATE hold SET state = ?, leaning = '', by = ?, reason = ?, ended = ? WHERE id = ?`, string(to), strings.Join(h.By, ","), h.Reason, ms(now), h.ID)
	if err != nil {
		return fmt.Errorf("end hold %s: %w", h.Name(), err)
	}
	r := &entry.Released{Hold: h.Name(), Action: action, Digest: h.Digest, Code: code}
	if action == entry.ReleasedRelease || action == entry.ReleasedDiscard { // else whoever spoke before did not do this
		r.By, r.Reason = h.By, entry.Text(h.Reason)
	}
	return record(tx, now, r)
}

// HoldByID returns one hold. The error wraps ErrNotFound.
func HoldByID(r Reader, id int64) (*Hold, error) {
	list, err := listHolds(r, ` WHERE id = ?`, id)
	if err == nil && len(list) == 0 {
		err = fmt.Errorf("hold %d: %w", id, ErrNotFound)
	}
	if err != nil {
		return nil, err
	}
	return list[0], nil
}

// Holds lists the open ones, oldest first.
func Holds(r Reader) ([]*Hold, error) { return listHolds(r, ` WHERE state = 'open' ORDER BY id`) }

// Over lists the open holds whose time is over, oldest first.
func Over(r Reader, now time.Time) ([]*Hold, error) {
	return listHolds(r, ` WHERE state = 'open' AND expires > 0 AND expires <= ? ORDER BY id`, ms(now))
}

// HeldAs lists the codes of the open holds of a person.
func HeldAs(r Reader, k SubjectKey) (codes []string, err error) {
	err = each(r, func(scan func(...any) error) error {
		var code string
		err := scan(&code)
		codes = append(codes, code)
		return err
	}, `SELECT DISTINCT code FROM hold WHERE state = 'open' AND iss = ? AND subject = ?`, k.Issuer, k.Subject)
	if err != nil {
		return nil, fmt.Errorf("read holds: %w", err)
	}
	return codes, nil
}

// HoldsOf lists every hold that a person ever had, oldest first.
func HoldsOf(r Reader, k SubjectKey) ([]*Hold, error) {
	return listHolds(r, ` WHERE iss = ? AND subject = ? ORDER BY id`, k.Issuer, k.Subject)
}

// Decided tells whether an operator has released or discarded exactly this before, and how: what was
// let through once is not held again. The state is empty where nobody decided.
func Decided(r Reader, k SubjectKey, code string, shown schema.Digest) (state HoldState, err error) {
	err = r.QueryRow(`SELECT state FROM hold WHERE iss = ? AND subject = ? AND code = ? AND digest = ? AND state IN ('released', 'discarded') ORDER BY id DESC LIMIT 1`,
		k.Issuer, k.Subject, code, shown[:]).Scan(&state)
	_, err = found(err)
	return state, err
}

func listHolds(r Reader, where string, args ...any) (list []*Hold, err error) {
	err = each(r, func(scan func(...any) error) error {
		h := new(Hold)
		var shown []byte
		var by string
		err := scan(&h.ID, &h.Code, &h.Issuer, &h.Subject, digest{&h.Digest}, &shown, instant{&h.Created}, instant{&h.Expires}, instant{&h.Lapses}, &h.State, &h.Leaning, instant{&h.Leaned}, instant{&h.Ended}, &by, &h.Reason)
		h.Shown = shown
		if by != "" {
			h.By = strings.Split(by, ",")
		}
		list = append(list, h)
		return err
	}, `SELECT id, code, iss, subject, digest, shown, created, expires, lapses, state, leaning, leaned, ended, by, reason FROM hold`+where, args...)
	if err != nil {
		return nil, fmt.Errorf("read holds: %w", err)
	}
	return list, nil
}
