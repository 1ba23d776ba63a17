package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"jmlbridge/consumer/recall"
	"jmlbridge/consumer/state"
	"jmlbridge/internal/store"
)

// alarmUnclaimed is on accounts that a lost database knew and the new one does not.
const alarmUnclaimed = "unclaimed"

const (
	claimsEvery = time.Second // least time between two looks at what is claimed
	claimsShare = 20          // and in looks: how many times as long as the last one took
	claimsNamed = 10          // accounts in the alarm's text
)

// claims looks after the accounts that a lost database knew, while there are any.
func (w *watch) claims(ctx context.Context) error {
	if time.Now().Before(w.claimed) {
		return nil
	}
	began := time.Now()
	defer func() { w.claimed = began.Add(max(claimsEvery, claimsShare*time.Since(began))) }()
	list, err := recall.Claims(w.db.Read())
	if err != nil {
		return err
	}
	claimed := slices.DeleteFunc(slices.Clone(list), func(c recall.Claim) bool { return c.Standing != recall.Claimed })
	a := unclaimedAlarm(list, w.now())
	if len(claimed) == 0 && w.told != nil && w.told.Severity == a.Severity && w.told.Text == a.Text {
		return nil
	}
	err = w.db.Tx(ctx, func(tx *store.Tx) error {
		for _, c := range claimed {
			if err := state.Claim(tx, c.Account); err != nil && !errors.Is(err, state.ErrNotFound) {
				return err
			}
		}
		if a.Code == "" {
			_, err := state.ClearAlarm(tx, alarmUnclaimed, "", w.now())
			return err
		}
		_, err := state.RaiseAlarm(tx, a)
		return err
	})
	if err == nil {
		w.told = &a
	}
	return err
}

// unclaimedAlarm is the zero Alarm where every account is claimed.
func unclaimedAlarm(list []recall.Claim, now time.Time) state.Alarm {
	waiting, standing, open := 0, 0, 0
	var ids []string
	for _, c := range list {
		switch c.Standing {
		case recall.Claimed:
			continue
		case recall.Waiting:
			waiting++
			continue
		}
		if standing++; c.Enabled {
			open++
		}
		if len(ids) < claimsNamed {
			ids = append(ids, c.Account)
		}
	}
	a := state.Alarm{Code: alarmUnclaimed, Last: now}
	switch {
	case standing > 0:
		a.Severity = state.Warning
		if open > 0 {
			a.Severity = state.Critical
		}
		a.Text = fmt.Sprintf("%s in the tenant that the lost database knew, %d of them enabled when they were found, and nobody has spoken for them since: %s",
			count(standing, "account"), open, strings.Join(ids, ", "))
		if standing > len(ids) {
			a.Text += ", ..."
		}
	case waiting > 0:
		a.Severity = state.Notice
		a.Text = fmt.Sprintf("%s in the tenant that the lost database knew, whose people the producer's next roster is to name, or wait for their turn (a discarded hold of theirs is one: `consumer holds restore`)", count(waiting, "account"))
	default:
		return state.Alarm{}
	}
	return a
}
