package state

import (
	"fmt"
	"net/url"
	"strings"
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
	Key      string // what it is about; ids only. Of a person: [SubjectKey.AlarmKey]
	Severity Severity
	Since    time.Time
	Last     time.Time // when the cause was last seen
	Text     string    // for people; ids only

	// For the ledger only, and not kept in the table: what it is about, and the entry that shows its cause.
	Issuer, Stream, Subject string
	Entry                   *int64
}

// AlarmOf begins an alarm about a person. What does not fit the ledger's form is left out there: it must not keep the
// alarm from standing.
func AlarmOf(code string, k SubjectKey) Alarm {
	a := Alarm{Code: code, Key: k.AlarmKey()}
	if k.Issuer == entry.ID(k.Issuer) && k.Subject == entry.ID(k.Subject) {
		a.Issuer, a.Subject = k.Issuer, k.Subject
	}
	return a
}

// inSubject keeps apart in an alarm's key what is of the subject and what comes behind it.
var inSubject = strings.NewReplacer("%", "%25", "@", "%40", "#", "%23")

// AlarmKey names the person in alarms, as no other person and no stream is named: the subject, in which %, @ and # are
// percent-encoded, an @, and the issuer.
func (k SubjectKey) AlarmKey() string { return inSubject.Replace(k.Subject) + "@" + k.Issuer }

// Alarmed is the person whom such a key names; ok is false where it is no such key, as that of a stream's generation.
// The code of the alarm must say whether it is about a person: names of streams look the same.
func Alarmed(key string) (k SubjectKey, ok bool) {
	subject, issuer, ok := strings.Cut(key, "@")
	if !ok {
		return k, false
	}
	if subject, err := url.PathUnescape(subject); err == nil {
		k = SubjectKey{Issuer: issuer, Subject: subject}
	}
	return k, k.AlarmKey() == key
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

// ClearAlarm ends an alarm, puts its end on the ledger and returns it; nil where it did not stand. One about a person
// is ended by [ClearAlarmOf].
func ClearAlarm(tx *store.Tx, code, key string, now time.Time) (*Alarm, error) {
	a := Alarm{Code: code, Key: key}
	return a.clear(tx, now)
}

// ClearAlarmOf is ClearAlarm of an alarm that [AlarmOf] began.
func ClearAlarmOf(tx *store.Tx, code string, k SubjectKey, now time.Time) (*Alarm, error) {
	a := AlarmOf(code, k)
	return a.clear(tx, now)
}

func (a *Alarm) clear(tx *store.Tx, now time.Time) (*Alarm, error) {
	// The usual answer is that there is none: a prepared statement.
	err := tx.QueryRow(`SELECT severity, since, last, text FROM alarm WHERE code = ? AND key = ?`, a.Code, a.Key).Scan(&a.Severity, instant{&a.Since}, instant{&a.Last}, &a.Text)
	if ok, err := found(err); !ok {
		return nil, err
	}
	if _, err := tx.Exec(`DELETE FROM alarm WHERE code = ? AND key = ?`, a.Code, a.Key); err != nil {
		return nil, fmt.Errorf("clear alarm %s: %w", a.Code, err)
	}
	return a, a.record(tx, entry.AlarmCleared, now)
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
