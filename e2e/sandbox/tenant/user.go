package tenant

import (
	"slices"
	"time"
)

// A user is one version of a user object. It never changes once it is
// published: a change makes a copy, so that a lagging replica and an encoder
// outside the lock can go on reading the old one.
type user struct {
	at           int64 // unix nanoseconds since when this version is true; 0 is always
	enabled      bool
	deleted      time.Time // of the soft delete; zero means live
	created      time.Time
	sessionsFrom time.Time // signInSessionsValidFromDateTime
	text         [nText]string
	extensions   map[string]string // directory extensions; replaced, never written in place
	phones       []string          // businessPhones
	otherMails   []string
	manager      *entry
}

// A node is what can be a member: a user or a group. Ids are unique over both.
type node struct {
	id    string
	in    []*container // those that have, or lately had, an edge to this node
	entry *entry       // set when the node is a user
	group *container   // set when the node is a group
}

// An entry is a user object over its life.
type entry struct {
	node
	seq  uint64 // of creation; the order of lists
	born int64  // unix nanoseconds of creation; 0 for the seed
	cur  *user
	old  []*user // superseded versions that a lagging replica may still show, oldest first
	gone bool    // purged

	roles []string // directory roles held
}

// seen is e as a replica shows it that is current up to t (unix nanoseconds);
// nil when it does not know e yet.
func (e *entry) seen(t int64) *user {
	if e.cur.at <= t {
		return e.cur
	}
	for _, v := range slices.Backward(e.old) {
		if v.at <= t {
			return v
		}
	}
	return nil
}

// copyOf is a new version to be changed and then published.
func (u *user) copyOf() *user {
	next := *u
	return &next
}

// setExtension changes one directory extension of an unpublished version.
func (u *user) setExtension(name, value string) {
	next := make(map[string]string, len(u.extensions)+1)
	for k, v := range u.extensions {
		next[k] = v
	}
	if value == "" {
		delete(next, name)
	} else {
		next[name] = value
	}
	u.extensions = next
}

// live reports whether u exists and is not soft-deleted.
func (u *user) live() bool { return u != nil && u.deleted.IsZero() }
