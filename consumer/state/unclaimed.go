package state

import (
	"fmt"
	"time"

	"jmlbridge/internal/store"
)

// Unclaimed is an account that the tenant had when this database was made in place of a lost one.
type Unclaimed struct {
	Account string // object id
	Mark    string
	Enabled bool // when it was found
	FoundAt time.Time
}

// AddUnclaimed keeps an account until somebody is found to be its person, or an operator closes the matter.
func AddUnclaimed(tx *store.Tx, u Unclaimed) error {
	_, err := tx.Exec(`INSERT INTO unclaimed (account, mark, enabled, found_at) VALUES (?, ?, ?, ?)`, u.Account, u.Mark, u.Enabled, ms(u.FoundAt))
	if err != nil {
		return fmt.Errorf("account %s: %w", u.Account, err)
	}
	return nil
}

// AllUnclaimed lists them in the order of their marks.
func AllUnclaimed(r Reader) (list []Unclaimed, err error) {
	err = each(r, func(scan func(...any) error) error {
		var u Unclaimed
		err := scan(&u.Account, &u.Mark, &u.Enabled, instant{&u.FoundAt})
		list = append(list, u)
		return err
	}, `SELECT account, mark, enabled, found_at FROM unclaimed ORDER BY mark, account`)
	if err != nil {
		return nil, fmt.Errorf("read unclaimed accounts: %w", err)
	}
	return list, nil
}

// Bears tells whether an account with this mark is unclaimed.
func Bears(r Reader, mark string) (yes bool, err error) {
	err = r.QueryRow(`SELECT EXISTS (SELECT 1 FROM unclaimed WHERE mark = ?)`, mark).Scan(&yes)
	return yes, err
}

// Claim ends it for an account. The error wraps ErrNotFound where it is not among them.
func Claim(tx *store.Tx, account string) error {
	res, err := tx.Exec(`DELETE FROM unclaimed WHERE account = ?`, account)
	if err != nil {
		return fmt.Errorf("account %s: %w", account, err)
	}
	if n, _ := res.RowsAffected(); n == 0 {
		return fmt.Errorf("account %s: %w", account, ErrNotFound)
	}
	return nil
}
