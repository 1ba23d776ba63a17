package state

import (
	"encoding/json"
	"fmt"
	"time"

	"jmlbridge/internal/store"
)

// Unclaimed is an account that the tenant had when this database was made in place of a lost one.
type Unclaimed struct {
	Account string // object id
	Mark    string
	Enabled bool // when it was found
	// Groups are those of the policy in which it was then; nil where it was in none, or nobody looked.
	Groups  []string
	FoundAt time.Time
}

// AddUnclaimed keeps an account until somebody is found to be its person, or an operator closes the matter.
func AddUnclaimed(tx *store.Tx, u Unclaimed) error {
	list, err := json.Marshal(append([]string{}, u.Groups...))
	if err == nil {
		_, err = tx.Exec(`INSERT INTO unclaimed (account, mark, enabled, member, found_at) VALUES (?, ?, ?, ?, ?)`, u.Account, u.Mark, u.Enabled, string(list), ms(u.FoundAt))
	}
	if err != nil {
		return fmt.Errorf("account %s: %w", u.Account, err)
	}
	return nil
}

// AllUnclaimed lists them in the order of their marks.
func AllUnclaimed(r Reader) (list []Unclaimed, err error) {
	err = each(r, func(scan func(...any) error) error {
		var u Unclaimed
		var member []byte
		if err := scan(&u.Account, &u.Mark, &u.Enabled, &member, instant{&u.FoundAt}); err != nil {
			return err
		}
		if err := json.Unmarshal(member, &u.Groups); err != nil {
			return fmt.Errorf("account %s: %w", u.Account, err)
		}
		list = append(list, u)
		return nil
	}, `SELECT account, mark, enabled, member, found_at FROM unclaimed ORDER BY mark, account`)
	if err != nil {
		return nil, fmt.Errorf("read unclaimed accounts: %w", err)
	}
	return list, nil
}

// GroupsFound lists the groups in which the unclaimed accounts with this mark were found, of all of them where several
// bear it. nil: there is no such account, or it was in none.
func GroupsFound(r Reader, mark string) (ids []string, err error) {
	err = each(r, func(scan func(...any) error) error {
		var id string
		err := scan(&id)
		ids = append(ids, id)
		return err
	}, `SELECT DISTINCT m.value FROM unclaimed, json_each(member) m WHERE mark = ? ORDER BY 1`, mark)
	if err != nil {
		return nil, fmt.Errorf("read where an unclaimed account was a member: %w", err)
	}
	return ids, nil
}

// AllGroupsFound is [GroupsFound] of every mark.
func AllGroupsFound(r Reader) (map[string][]string, error) {
	m := map[string][]string{}
	err := each(r, func(scan func(...any) error) error {
		var mark, id string
		err := scan(&mark, &id)
		m[mark] = append(m[mark], id)
		return err
	}, `SELECT DISTINCT mark, m.value FROM unclaimed, json_each(member) m ORDER BY 1, 2`)
	if err != nil {
		return nil, fmt.Errorf("read where unclaimed accounts were members: %w", err)
	}
	return m, nil
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
