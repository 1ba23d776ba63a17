package state

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"jmlbridge/internal/store"
)

// Position returns the adapter's mark of a queue; nil at the start.
func Position(r Reader, queue string) (value []byte, err error) {
	_, err = found(r.QueryRow(`SELECT value FROM position WHERE queue = ?`, queue).Scan(&value))
	return value, err
}

// SetPosition keeps the mark together with what was read up to it.
func SetPosition(tx *store.Tx, queue string, value []byte) error {
	_, err := tx.Exec(`INSERT INTO position (queue, value) VALUES (?1, ?2) ON CONFLICT (queue) DO UPDATE SET value = ?2`, queue, value)
	return err
}

// NameReserve is how long a leaver's user name is given to nobody else (NIST SP 800-53 IA-4).
const NameReserve = 2 * 365 * 24 * time.Hour

// TakeName reserves a user name for a person. ok is false where it is another's, or was less than
// NameReserve ago.
func TakeName(tx *store.Tx, upn string, k SubjectKey, now time.Time) (ok bool, err error) {
	res, err := tx.Exec(`INSERT INTO upn (upn, iss, subject, taken_at) VALUES (?1, ?2, ?3, ?4)
		ON CONFLICT (upn) DO UPDATE SET iss = ?2, subject = ?3, taken_at = IIF(iss = ?2 AND subject = ?3, taken_at, ?4), freed_at = 0
		WHERE (iss = ?2 AND subject = ?3) OR (freed_at > 0 AND freed_at <= ?5)`,
		strings.ToLower(upn), k.Issuer, k.Subject, ms(now), ms(now.Add(-NameReserve)))
	if err != nil {
		return false, fmt.Errorf("reserve user name: %w", err)
	}
	n, err := res.RowsAffected()
	return n > 0, err
}

// FreeNames starts the reserve of every name that a person has in use, except keep.
func FreeNames(tx *store.Tx, k SubjectKey, keep string, now time.Time) error {
	_, err := tx.Exec(`UPDATE upn SET freed_at = ? WHERE iss = ? AND subject = ? AND upn <> ? AND freed_at = 0`, ms(now), k.Issuer, k.Subject, strings.ToLower(keep))
	return err
}

// NameOwner is whose name it is or was; ok is false where nobody has it.
func NameOwner(r Reader, upn string) (k SubjectKey, freed time.Time, ok bool, err error) {
	err = r.QueryRow(`SELECT iss, subject, freed_at FROM upn WHERE upn = ?`, strings.ToLower(upn)).Scan(&k.Issuer, &k.Subject, instant{&freed})
	ok, err = found(err)
	return k, freed, ok, err
}

// AddEffects counts n effects of a class against its limits.
func AddEffects(tx *store.Tx, class string, n int64, now time.Time) error {
	_, err := tx.Exec(`INSERT INTO effect (at, class, n) VALUES (?1, ?2, ?3) ON CONFLICT (at, class) DO UPDATE SET n = n + ?3`,
		ms(now.Truncate(time.Minute)), class, n)
	return err
}

// Effects sums what was counted of a class since a time, to the minute and rather too much than too little.
func Effects(r Reader, class string, since time.Time) (n int64, err error) {
	err = r.QueryRow(`SELECT COALESCE(SUM(n), 0) FROM effect WHERE class = ? AND at >= ?`, class, ms(since.Truncate(time.Minute))).Scan(&n)
	return n, err
}

// OpenAccounts counts the persons whose account the executor knows to be open.
func OpenAccounts(r Reader) (n int64, err error) {
	err = r.QueryRow(`SELECT COUNT(*) FROM subject WHERE account <> '' AND account ->> 'id' IS NOT NULL AND account ->> 'disabled_at' IS NULL AND account ->> 'deleted_at' IS NULL`).Scan(&n)
	return n, err
}

// DropEffects forgets what was counted before a time.
func DropEffects(tx *store.Tx, before time.Time) error {
	_, err := tx.Exec(`DELETE FROM effect WHERE at < ?`, ms(before))
	return err
}

// Intent is an intent on the ledger whose outcome is not there yet.
type Intent struct {
	Index int64 // on the ledger
	SubjectKey
	Ops json.RawMessage
	At  time.Time
}

// OpenIntent notes an intent, in the transaction that puts it on the ledger.
func OpenIntent(tx *store.Tx, i *Intent) error {
	_, err := tx.Exec(`INSERT INTO intent (idx, iss, subject, ops, at) VALUES (?, ?, ?, ?, ?)`, i.Index, i.Issuer, i.Subject, string(i.Ops), ms(i.At))
	if err != nil {
		return fmt.Errorf("note intent %d: %w", i.Index, err)
	}
	return nil
}

// CloseIntent removes it, in the transaction that puts its outcome on the ledger.
func CloseIntent(tx *store.Tx, index int64) error {
	res, err := tx.Exec(`DELETE FROM intent WHERE idx = ?`, index)
	if err != nil {
		return fmt.Errorf("close intent %d: %w", index, err)
	}
	if n, _ := res.RowsAffected(); n == 0 {
		return fmt.Errorf("close intent %d: %w", index, ErrNotFound)
	}
	return nil
}

// OpenIntents lists them, oldest first: after a crash, what may or may not have been done.
func OpenIntents(r Reader) (list []*Intent, err error) {
	err = each(r, func(scan func(...any) error) error {
		i := new(Intent)
		var ops []byte
		err := scan(&i.Index, &i.Issuer, &i.Subject, &ops, instant{&i.At})
		i.Ops = ops
		list = append(list, i)
		return err
	}, `SELECT idx, iss, subject, ops, at FROM intent ORDER BY idx`)
	if err != nil {
		return nil, fmt.Errorf("read open intents: %w", err)
	}
	return list, nil
}
