package intake

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"jmlbridge/consumer/admit"
	"jmlbridge/consumer/ruling"
	"jmlbridge/consumer/state"
	"jmlbridge/internal/envelope"
	"jmlbridge/internal/ledger/entry"
	"jmlbridge/internal/store"
)

// trust is the verification keys as the openers see them. Which of them may still say what is asked again
// in the transaction.
type trust struct {
	mu      sync.Mutex // guards what follows; never held across I/O
	set     envelope.Trust
	version int // counts the sets: another one may open what this one refused
}

func (t *trust) keys() envelope.Trust {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.set
}

func (t *trust) at() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.version
}

func (t *trust) load(r state.Reader) error {
	list, err := state.Keys(r)
	if err != nil {
		return err
	}
	set := make(envelope.Trust, len(list))
	for _, k := range list {
		pub, err := x509.ParsePKIXPublicKey(k.Public)
		if err != nil {
			return fmt.Errorf("trusted key %s: %w", k.KID, err)
		}
		key, err := envelope.NewTrustedKey(pub)
		if err != nil {
			return fmt.Errorf("trusted key %s: %w", k.KID, err)
		}
		set[key.KID] = key
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if !maps.EqualFunc(t.set, set, func(_, _ *envelope.TrustedKey) bool { return true }) { // the name of a key is made of it
		t.version++
	}
	t.set = set
	return nil
}

// Sweep does what no message asks for: it takes up changed trust, tries parked messages again when trust
// has changed, at the start and from time to time, and ends the intervals of refusals. It must not run
// beside itself or commit.
func (in *Intake) Sweep(ctx context.Context) error {
	now := in.Now()
	seen, err := fingerprint(in.DB.Read())
	if err != nil {
		return err
	}
	changed := seen != in.seen || now.Before(in.swept)
	if !in.gapDue.IsZero() && !now.Before(in.gapDue) {
		changed, in.gapDue = true, time.Time{}
	}
	due := func(last time.Time, every time.Duration) bool {
		return changed || last.IsZero() || now.Sub(last) >= every
	}
	if !due(in.swept, in.Limits.Interval) {
		return nil
	}
	if err := in.trust.load(in.DB.Read()); err != nil {
		return err
	}
	in.refresh(in.line)
	if err := in.DB.Update(ctx, in.endInterval); err != nil {
		return fmt.Errorf("sweep: %w", err)
	}
	// A program that knows a newer version may let a waiting message in; a crash may have come between.
	if err := in.drainAll(ctx); err != nil {
		return err
	}
	if due(in.retried, in.Limits.RetryAfter) {
		if err := in.retry(ctx); err != nil {
			return err
		}
		in.retried = now
	}
	if err := in.DB.Update(ctx, func(tx *store.Tx) error {
		return errors.Join(in.endAlarms(tx), Voices(tx, in.Now()), ruling.End(tx, in.Now()))
	}); err != nil {
		return fmt.Errorf("sweep: %w", err)
	}
	in.seen, in.swept = seen, now
	return nil
}

// refresh opens again what the keys of then refused: it would be parked for a key that is trusted by now, and the sweep that takes
// up parked messages for that key is over.
func (in *Intake) refresh(items []*item) {
	version := in.trust.at()
	in.openOnce(slices.DeleteFunc(slices.Clone(items), func(it *item) bool { return it.refusal == nil || it.trust == version }), in.asked())
}

// takeUp sweeps where what is trusted has changed: what waited for that comes before what comes now, which would
// seem to stand behind a gap else.
func (in *Intake) takeUp(ctx context.Context) error {
	seen, err := fingerprint(in.DB.Read())
	if err != nil || seen == in.seen {
		return err
	}
	return in.Sweep(ctx)
}

// fingerprint changes with what is trusted, the clock included: an operator's word on it may let messages in that seemed to be
// of the future.
func fingerprint(r state.Reader) (string, error) {
	high, err := state.ClockHigh(r)
	if err != nil {
		return "", err
	}
	keys, err := state.Keys(r)
	if err != nil {
		return "", err
	}
	streams, err := state.Streams(r)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	fmt.Fprintln(&b, high)
	for _, k := range keys {
		fmt.Fprintln(&b, k.KID, k.Retired)
	}
	for _, s := range streams {
		fmt.Fprintln(&b, s.Ref, s.State, s.RuledOut) // an operator may have ruled on a fork
	}
	return b.String(), nil
}

// endInterval writes the summaries.
func (in *Intake) endInterval(tx *store.Tx) error {
	b, err := in.begin(tx)
	if err != nil {
		return err
	}
	ended, err := state.EndRefusals(tx, b.now.Add(-in.Limits.Interval))
	if err != nil {
		return err
	}
	for _, f := range ended {
		_, err := b.record(&entry.Refused{Code: f.Code, Detail: "chain of wire digests " + f.Chain.String(),
			Summary: &entry.Summary{Count: f.Counted, First: entry.At(f.Since), Last: entry.At(b.now), Size: f.Octets}})
		if err != nil {
			return err
		}
		a := state.Alarm{Code: alarmFlood, Key: f.Code, Severity: state.Warning, Last: b.now,
			Text: "more messages came under the code " + f.Code + " than are recorded one by one; the ledger has their number"}
		if f.Code == string(admit.CodeReplay) {
			a.Severity = state.Notice // every crash brings some again
		}
		if _, err := state.RaiseAlarm(tx, a); err != nil {
			return err
		}
	}
	return nil
}

// retry opens the parked messages again, in the order in which they came. One whose key is away stays parked.
func (in *Intake) retry(ctx context.Context) error {
	left := map[string]*item{}
	for after := int64(0); ; {
		rows, err := state.ParkedAfter(in.DB.Read(), after, in.Limits.Batch)
		if err != nil {
			return err
		}
		if len(rows) == 0 {
			break
		}
		after = rows[len(rows)-1].ID
		items := make([]*item, len(rows))
		for i, r := range rows {
			items[i] = &item{body: r.Body, parked: true, came: r.ReceivedAt}
		}
		for _, it := range in.openOnce(items, in.asked()) {
			if left[it.failed.KID] == nil {
				left[it.failed.KID] = it
			}
		}
		if items = slices.DeleteFunc(items, func(it *item) bool { return it.failed != nil }); len(items) == 0 {
			continue
		}
		if err := in.commit(ctx, items); err != nil {
			return err
		}
	}
	in.leave(left)
	return nil
}

// alarmFlood says that someone sends many messages of one kind that we do not take in.
const alarmFlood = "flood"

// noticeFor is how long an alarm stands that is about one past message.
const noticeFor = 24 * time.Hour

// parkedOver reports whether an alarm is about parked messages of which none is left.
func parkedOver(a state.Alarm, left map[string]int64) bool {
	switch a.Code {
	case string(admit.CodeGeneration), string(admit.CodeFuture), string(admit.CodeFastForward):
		return left[a.Code] == 0
	}
	return a.Code == alarmParked && left[a.Key] == 0
}

// EndParked ends the alarms about parked messages of which none is left, when an operator gave them up.
func EndParked(tx *store.Tx, now time.Time) error {
	return endThose(tx, now, parkedOver)
}

// endAlarms ends the alarms whose cause is gone without any message having said so.
func (in *Intake) endAlarms(tx *store.Tx) error {
	now := in.Now()
	streams, err := state.Streams(tx)
	if err != nil {
		return err
	}
	return endThose(tx, now, func(a state.Alarm, parked map[string]int64) bool {
		switch a.Code {
		case alarmJump, alarmContent, alarmSetAside, ruling.AlarmCovered:
			return now.Sub(a.Last) > noticeFor
		case alarmFlood, codeFull:
			return now.Sub(a.Last) > 2*in.Limits.Interval
		case alarmRoster: // none of a generation that is over replaces it
			return slices.ContainsFunc(streams, func(s *state.Stream) bool { return s.State == admit.Closed && s.AlarmKey() == a.Key })
		case alarmForgotten:
			k, _ := state.Alarmed(a.Key)
			s, err := state.LoadSubject(tx, k)
			return err == nil && s != nil && (s.SaidAt.After(a.Last) || !s.Doc.At(now).Access)
		}
		return parkedOver(a, parked)
	})
}

// aboutWhom is the person whom an alarm of ours is about; ok is false where it is about a stream, or about messages.
func aboutWhom(a state.Alarm) (k state.SubjectKey, ok bool) {
	switch a.Code {
	case alarmJump, alarmContent, alarmForgotten:
		return state.Alarmed(a.Key)
	}
	return k, false
}

// AlarmNoKey says that no key is trusted for a stream that is followed.
const AlarmNoKey = "no-key"

// NoKeyText is what AlarmNoKey says of a stream.
func NoKeyText(stream string) string {
	return "no key is trusted any more for stream " + stream + ": whatever comes of it is refused, leavers too. What was said before stands; nothing more is given on it once its last heartbeat is older than stale_after"
}

// Voices keeps that alarm, and ends those of branches on which nobody goes on any more. What ends a key is an operator, a
// message or a date. Whoever changes what is trusted calls it, so that nobody is told what was true before.
func Voices(tx *store.Tx, now time.Time) error {
	silent, err := state.Missed(tx, now)
	if err != nil {
		return err
	}
	standing, err := state.Alarms(tx)
	if err != nil {
		return err
	}
	stand := map[string]bool{}
	for _, s := range silent {
		key := streamName{s.Issuer, s.Name}.key()
		stand[key] = true
		if _, err := state.RaiseAlarm(tx, state.Alarm{Code: AlarmNoKey, Key: key, Severity: state.Critical, Text: NoKeyText(s.Name), Last: now, Issuer: s.Issuer, Stream: s.Name}); err != nil {
			return err
		}
	}
	for _, a := range standing {
		if a.Code != AlarmNoKey || stand[a.Key] {
			continue
		}
		if _, err := state.ClearAlarm(tx, AlarmNoKey, a.Key, now); err != nil {
			return err
		}
	}
	return ruling.EndGoesOn(tx, now)
}

// endThose ends the standing alarms that are over, given how many messages are parked by code.
func endThose(tx *store.Tx, now time.Time, over func(a state.Alarm, parked map[string]int64) bool) error {
	parked, err := state.ParkedCodes(tx)
	if err != nil {
		return err
	}
	standing, err := state.Alarms(tx)
	if err != nil {
		return err
	}
	for _, a := range standing {
		if !over(a, parked) {
			continue
		}
		if k, ok := aboutWhom(a); ok {
			_, err = state.ClearAlarmOf(tx, a.Code, k, now)
		} else {
			_, err = state.ClearAlarm(tx, a.Code, a.Key, now)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
