package intake

import (
	"context"
	"crypto/x509"
	"fmt"
	"strings"
	"sync"
	"time"

	"jmlbridge/consumer/admit"
	"jmlbridge/consumer/state"
	"jmlbridge/internal/envelope"
	"jmlbridge/internal/ledger/entry"
	"jmlbridge/internal/store"
)

// trust is the verification keys as the openers see them. Which of them may still say what is asked again
// in the transaction.
type trust struct {
	mu  sync.Mutex // guards set; never held across I/O
	set envelope.Trust
}

func (t *trust) keys() envelope.Trust {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.set
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
	due := func(last time.Time, every time.Duration) bool {
		return changed || last.IsZero() || now.Sub(last) >= every
	}
	if !due(in.swept, in.Limits.Interval) {
		return nil
	}
	if err := in.trust.load(in.DB.Read()); err != nil {
		return err
	}
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
	if err := in.DB.Update(ctx, in.endAlarms); err != nil {
		return fmt.Errorf("sweep: %w", err)
	}
	in.seen, in.swept = seen, now
	return nil
}

// fingerprint changes with what is trusted.
func fingerprint(r state.Reader) (string, error) {
	keys, err := state.Keys(r)
	if err != nil {
		return "", err
	}
	streams, err := state.Streams(r)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	for _, k := range keys {
		fmt.Fprintln(&b, k.KID, k.Retired)
	}
	for _, s := range streams {
		fmt.Fprintln(&b, s.Ref)
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

// retry opens the parked messages again, in the order in which they came.
func (in *Intake) retry(ctx context.Context) error {
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
			items[i] = &item{body: r.Body, parked: true}
		}
		if err := in.openAll(ctx, items); err != nil {
			return err
		}
		if err := in.commit(ctx, items); err != nil {
			return err
		}
	}
	return nil
}

// alarmFlood says that someone sends many messages of one kind that we do not take in.
const alarmFlood = "flood"

// noticeFor is how long an alarm stands that is about one past message.
const noticeFor = 24 * time.Hour

// endAlarms ends the alarms whose cause is gone without any message having said so.
func (in *Intake) endAlarms(tx *store.Tx) error {
	codes, err := state.ParkedCodes(tx)
	if err != nil {
		return err
	}
	standing, err := state.Alarms(tx)
	if err != nil {
		return err
	}
	for _, a := range standing {
		over := false
		switch a.Code {
		case string(admit.CodeGeneration), string(admit.CodeFuture), string(admit.CodeFastForward):
			over = codes[a.Code] == 0
		case alarmJump, alarmContent:
			over = in.Now().Sub(a.Last) > noticeFor
		case alarmFlood, codeFull:
			over = in.Now().Sub(a.Last) > 2*in.Limits.Interval
		}
		if over {
			if _, err := state.ClearAlarm(tx, a.Code, a.Key, in.Now()); err != nil {
				return err
			}
		}
	}
	return nil
}
