package apply

import (
	"context"
	"fmt"
	"slices"
	"time"

	"jmlbridge/consumer/state"
	"jmlbridge/internal/store"
)

// stale lists the issuers that have been silent for too long, and keeps their alarms.
func (e *Engine) stale(ctx context.Context, now time.Time) ([]string, error) {
	opened, err := state.LastOpened(e.DB.Read())
	if err != nil {
		return nil, err
	}
	// Of what was opened since the last look nothing is known: an issuer may have been silent before it was trusted.
	if now.Sub(e.staleChecked) < guardEvery && !now.Before(e.staleChecked) && opened == e.staleOpened {
		return e.staleIssuers, nil
	}
	issuers, err := state.Issuers(e.DB.Read())
	if err != nil {
		return nil, err
	}
	var silent, alarming []string
	for _, iss := range issuers {
		since, ok, err := state.FreshSince(e.DB.Read(), iss)
		if err != nil {
			return nil, err
		}
		if ok && now.Sub(since) > e.StaleAfter {
			silent = append(silent, iss)
			// Nothing could be heard while nobody listened: the alarm waits as long as a silence would.
			listening := e.started
			if since.IsZero() { // of a stream or a generation that was only now let be followed
				if listening, err = state.OpenedAt(e.DB.Read(), iss); err != nil {
					return nil, err
				}
				if e.started.After(listening) || listening.After(now) { // the clock may have been ahead
					listening = e.started
				}
			}
			if now.Sub(listening) > e.StaleAfter {
				alarming = append(alarming, iss)
			}
		}
	}
	// Also where nobody alarms any more or less: of who was silent at a start the alarm of before stands until they are heard.
	if !slices.Equal(alarming, e.staleAlarms) || !slices.Equal(silent, e.staleIssuers) || !e.staleKnown {
		err := e.DB.Tx(ctx, func(tx *store.Tx) error {
			for _, iss := range issuers {
				var err error
				if slices.Contains(alarming, iss) {
					err = raise(tx, state.Alarm{Code: AlarmStale, Key: iss, Severity: state.Critical, Last: now, Issuer: iss,
						Text: fmt.Sprintf("no valid heartbeat of this issuer for more than %v: what it would give waits, what it would cut may be withheld; look at the mid-point and the producer", e.StaleAfter)})
				} else if !slices.Contains(silent, iss) {
					err = clear(tx, AlarmStale, iss, now)
				}
				if err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
		e.Committed()
	}
	e.staleIssuers, e.staleAlarms, e.staleChecked, e.staleOpened, e.staleKnown = silent, alarming, now, opened, true
	return silent, nil
}
