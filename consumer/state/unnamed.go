package state

import (
	"encoding/json"
	"fmt"

	"jmlbridge/internal/store"
)

// Unnamed is what the alarm on people with access whom a roster does not name speaks of. It stands beside the alarm, under
// the alarm's key.
type Unnamed struct {
	Count  int    `json:"count"` // who have access still
	Roster string `json:"roster"`
	Stream string `json:"stream"`
}

// Text is what the alarm says.
func (u Unnamed) Text() string {
	return fmt.Sprintf("%d with access are not named by roster %s of stream %s: nothing was taken from them, and nothing more is given to them. Ask the producer's people who they are (`consumer holds list`); cut by hand whoever left", u.Count, u.Roster, u.Stream)
}

const metaUnnamed = "unnamed:" // with the alarm's key

// SetUnnamed keeps what the alarm with this key speaks of.
func SetUnnamed(tx *store.Tx, key string, u Unnamed) error {
	text, err := json.Marshal(u)
	if err != nil {
		return err
	}
	return SetMeta(tx, metaUnnamed+key, string(text))
}

// UnnamedOf is what SetUnnamed kept; ok is false where it kept nothing.
func UnnamedOf(r Reader, key string) (u Unnamed, ok bool, err error) {
	text, err := Meta(r, metaUnnamed+key)
	if err != nil || text == "" {
		return u, false, err
	}
	if err := json.Unmarshal([]byte(text), &u); err != nil {
		return u, false, fmt.Errorf("read whom a roster does not name: %w", err)
	}
	return u, true, nil
}
