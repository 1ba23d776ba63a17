package main

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"time"

	"jmlbridge/e2e/sandbox/tenant"
	"jmlbridge/e2e/stage"
	"jmlbridge/internal/directory"
	"jmlbridge/internal/ledger/entry"
)

// cut is when somebody's access ended, by the tenant's own journal.
type cut struct{ disabled, revoked time.Time }

// readJournal takes up the tenant's new requests, and learns whose account is whose from the mark that an
// account got when it was created.
func (f *follower) readJournal(ctx context.Context) error {
	list, err := f.Tenant.Journal(ctx, f.journalAt)
	if err != nil {
		return err
	}
	for _, j := range list {
		f.journalAt = j.N
		if j.ClientRequestID != "" {
			f.journal[j.ClientRequestID] = append(f.journal[j.ClientRequestID], j)
		}
		for _, c := range j.Changes {
			if c.Op == "create" {
				for id := range f.people {
					if mentions(c.Set, directory.Mark(stage.Issuer, id)) {
						f.accounts[c.ID] = id
					}
				}
			}
			f.cutSeen(c, j.Time)
		}
	}
	return nil
}

// mentions says that a value is somewhere among properties.
func mentions(set map[string]any, value string) bool {
	for _, v := range set {
		switch v := v.(type) {
		case string:
			if v == value {
				return true
			}
		case map[string]any:
			if mentions(v, value) {
				return true
			}
		}
	}
	return false
}

func (f *follower) cutSeen(c tenant.Change, at time.Time) {
	id := f.accounts[c.ID]
	if id == "" {
		return
	}
	k := f.cuts[id]
	if k == nil {
		k = new(cut)
		f.cuts[id] = k
	}
	if enabled, ok := c.Set["accountEnabled"].(bool); ok && c.Op == "update" && !enabled && k.disabled.IsZero() {
		k.disabled = at
	}
	if c.Op == "revoke" && k.revoked.IsZero() {
		k.revoked = at
	}
}

func changeText(c tenant.Change) string {
	switch c.Op {
	case "create":
		name, _, _ := strings.Cut(c.Name, "@")
		return name + " created"
	case "add-member":
		return together("+ " + c.TargetName)
	case "remove-member":
		return together("- " + c.TargetName)
	case "set-manager":
		return "manager set"
	case "revoke":
		return "sessions revoked"
	case "update":
		if enabled, ok := c.Set["accountEnabled"].(bool); ok {
			if enabled {
				return "account enabled"
			}
			return "account disabled"
		}
		return "attributes updated"
	}
	return c.Op
}

// requests says what the journal has of a result's requests.
func (f *follower) requests(r entry.Result) string {
	var words []string
	for _, q := range r.Requests {
		for _, j := range f.journal[q.Client] {
			path, _, _ := strings.Cut(j.Path, "?")
			words = append(words, fmt.Sprintf("%s %s (answered %d)", j.Method, path, j.Status))
		}
	}
	return cmp.Or(strings.Join(words, " and "), "it has no such request, which")
}
