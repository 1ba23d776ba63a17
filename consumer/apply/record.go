package apply

import (
	"time"

	"jmlbridge/consumer/state"
	"jmlbridge/internal/ledger"
	"jmlbridge/internal/ledger/entry"
	"jmlbridge/internal/store"
)

func raise(tx *store.Tx, a state.Alarm) error {
	_, err := state.RaiseAlarm(tx, a)
	return err
}

func clear(tx *store.Tx, code, key string, now time.Time) error {
	_, err := state.ClearAlarm(tx, code, key, now)
	return err
}

func record(tx *store.Tx, now time.Time, b entry.Body) error {
	_, err := ledger.Append(tx, entry.New(now, b))
	return err
}
