package state

import (
	"fmt"
	"time"

	"jmlbridge/internal/ledger/entry"
	"jmlbridge/internal/store"
)

// Severity orders alarms. Its values stand in the database.
type Severity int

// Severities.
const (
	Notice   Severity = 1 // someone should know
	Warning  Severity = 2 // someone should look today
	Critical Severity = 3 // someone must act now
)

func (s Severity) String() string {
	switch s {
	case Notice:
		return "notice"
	case Warning:
		return "warning"
	case Critical:
		return "critical"
	}
	return "unknown"
}

// Alarm is something that stands until its cause is gone.
type Alarm struct {
	Code     string
	Key      string // what it is about; ids only
	Severity Severity
	Since    time.Time
	Last     time.Time // when the cause was last seen
	Text     string    // for people; ids only

	// For the ledger only, and not kept in the table: what it is about, and the entry that shows its cause.
	Issuer, Stream, Subject string
	Entry                   *int64
}

// RaiseAlarm makes the alarm stand, as of a.Last. Where it did not stand before, or says something else now,
// it goes on the ledger and raised is true. Since is kept from the first time.
func RaiseAlarm(tx *store.Tx, a Alarm) (raised bool, err error) {
	var severity Severity
	var text string
	a.Text = entry.Text(a.Text)
	err = tx.QueryRow(`SELECT severity, text FROM alarm WHERE code = ? AND key = ?`, a.Code, a.Key).Scan(&severity, &text)
	there, err := found(err)
	if err != nil {
		return false, fmt.Errorf("alarm %s: %w", a.Code, err)
	}
	_, err = tx.Exec(`INSERT INTO alarm (code, key, severity, since, last, text) VALUES (?1, ?2, ?3, ?4, ?4, ?5)
		ON CONFLICT (code, key) DO UPDATE SET severity = ?3, last = ?4, text = ?5`,
		a.Code, a.Key, int64(a.Severity), ms(a.Last), a.Text)
	if err != nil {
		return false, fmt.Errorf("alarm %s: %w", a.Code, err)
	}
	if there && severity == a.Severity && text == a.Text {
		return false, nil
	}
	return true, a.record(tx, entry.AlarmRaised, a.Last)
}

func (a *Alarm) record(tx *store.Tx, to string, now time.Time) error {
	return record(tx, now, &entry.Alarm{Code: a.Code, Key: entry.ID(a.Key), State: to, Severity: a.Severity.String(),
		Issuer: a.Issuer, Stream: a.Stream, Subject: a.Subject, Entry: a.Entry, Detail: a.Text})
}

// ClearAlarm ends an alarm, puts its end on the ledger and returns it; nil where it did not stand.
func ClearAlarm(tx *store.Tx, code, key string, now time.Time) (*Alarm, error) {
	a := Alarm{Code: code, Key: key}
	// The usual answer is that there is none: a prepared statement.
	err := tx.QueryRow(`SELECT severity, since, last, text FROM alarm WHERE code = ? AND key = ?`, code, key).Scan(&a.Severity, instant{&a.Since}, instant{&a.Last}, &a.Text)
	if ok, err := found(err); !ok {
		return nil, err
	}
	if _, err := tx.Exec(`DELETE FROM alarm WHERE code = ? AND key = ?`, code, key); err != nil {
		return nil, fmt.Errorf("clear alarm %s: %w", code, err)
	}
	return &a, a.record(tx, entry.AlarmCleared, now)
}

// Alarms lists those that stand, the worst first.
func Alarms(r Reader) ([]Alarm, error) {
	return listAlarms(r, ` ORDER BY severity DESC, since, code, key`)
}

func listAlarms(r Reader, where string, args ...any) (list []Alarm, err error) {
	err = each(r, func(scan func(...any) error) error {
		var a Alarm
		err := scan(&a.Code, &a.Key, &a.Severity, instant{&a.Since}, instant{&a.Last}, &a.Text)
		list = append(list, a)
		return err
	}, `SELECT code, key, severity, since, last, text FROM alarm`+where, args...)
	if err != nil {
		return nil, fmt.Errorf("read alarms: %w", err)
	}
	return list, nil
}
