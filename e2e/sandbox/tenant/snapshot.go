package tenant

import (
	"cmp"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A Snapshot is the whole tenant at one moment, at the primary.
type Snapshot struct {
	Users  []UserState  `json:"users"`  // by user principal name
	Groups []GroupState `json:"groups"` // by display name
	Units  []GroupState `json:"administrativeUnits"`
}

// UserState is a user with everything that it has.
type UserState struct {
	ID                string            `json:"id,omitempty"`
	UserPrincipalName string            `json:"userPrincipalName"`
	Enabled           bool              `json:"accountEnabled"`
	Created           time.Time         `json:"createdDateTime,omitzero"`
	SessionsValidFrom time.Time         `json:"signInSessionsValidFromDateTime,omitzero"`
	SessionsRevoked   bool              `json:"sessionsRevoked"` // since creation
	Deleted           time.Time         `json:"deletedDateTime,omitzero"`
	SoftDeleted       bool              `json:"softDeleted"`
	Manager           string            `json:"manager,omitempty"` // user principal name
	Groups            []string          `json:"groups,omitempty"`  // display names of direct ones
	Units             []string          `json:"administrativeUnits,omitempty"`
	Properties        map[string]string `json:"properties,omitempty"` // the text ones that are set
}

// GroupState is a group or unit with its direct members' names.
type GroupState struct {
	ID          string   `json:"id,omitempty"`
	DisplayName string   `json:"displayName"`
	Members     []string `json:"members,omitempty"`
}

// User finds a user by name, without regard to case; a deleted one by the name
// it had. Nil when there is none.
func (s Snapshot) User(upn string) *UserState {
	for i := range s.Users {
		if strings.EqualFold(s.Users[i].UserPrincipalName, upn) {
			return &s.Users[i]
		}
	}
	return nil
}

// Comparable is the snapshot without what differs between two runs that ended
// alike: ids and times. Equal strings mean equal tenants.
func (s Snapshot) Comparable() string {
	users := slices.Clone(s.Users)
	for i := range users {
		u := &users[i]
		u.ID, u.Created, u.SessionsValidFrom, u.Deleted = "", time.Time{}, time.Time{}, time.Time{}
	}
	strip := func(list []GroupState) []GroupState {
		out := slices.Clone(list)
		for i := range out {
			out[i].ID = ""
		}
		return out
	}
	out, _ := json.MarshalIndent(Snapshot{users, strip(s.Groups), strip(s.Units)}, "", "  ") // plain values always encode
	return string(out)
}

// snapshot copies the state. The caller holds the lock for reading.
func (d *directory) snapshot() Snapshot {
	var s Snapshot
	for _, e := range d.order {
		if !e.gone {
			s.Users = append(s.Users, e.state())
		}
	}
	for _, c := range d.sorted {
		g := GroupState{ID: c.id, DisplayName: c.name}
		for _, m := range c.edges {
			if m.n != nil && m.on() && (m.n.entry == nil || m.n.entry.cur.live()) {
				g.Members = append(g.Members, m.n.name())
			}
		}
		slices.Sort(g.Members)
		if c.unit {
			s.Units = append(s.Units, g)
		} else {
			s.Groups = append(s.Groups, g)
		}
	}
	slices.SortFunc(s.Users, func(a, b UserState) int {
		return cmp.Or(cmp.Compare(a.UserPrincipalName, b.UserPrincipalName), a.Created.Compare(b.Created))
	})
	for _, list := range [][]GroupState{s.Groups, s.Units} {
		slices.SortFunc(list, func(a, b GroupState) int { return cmp.Compare(a.DisplayName, b.DisplayName) })
	}
	return s
}

func (e *entry) state() UserState {
	u := e.cur
	s := UserState{ID: e.id, UserPrincipalName: u.text[pUPN], Enabled: u.enabled, Created: u.created, SessionsValidFrom: u.sessionsFrom,
		SessionsRevoked: u.sessionsFrom.After(u.created), Deleted: u.deleted, SoftDeleted: !u.deleted.IsZero(), Properties: map[string]string{}}
	if s.SoftDeleted {
		s.UserPrincipalName = strings.TrimPrefix(s.UserPrincipalName, strings.ReplaceAll(e.id, "-", ""))
	}
	if u.manager != nil && u.manager.cur.live() {
		s.Manager = u.manager.cur.text[pUPN]
	}
	for p, v := range u.text {
		if v != "" && p != pUPN {
			s.Properties[texts[p].name] = v
		}
	}
	for k, v := range u.extensions {
		s.Properties[k] = v
	}
	for i, v := range u.phones {
		s.Properties["businessPhones/"+strconv.Itoa(i)] = v
	}
	for i, v := range u.otherMails {
		s.Properties["otherMails/"+strconv.Itoa(i)] = v
	}
	for _, c := range e.in {
		if !c.has(&e.node) {
			continue
		}
		if c.unit {
			s.Units = append(s.Units, c.name)
		} else {
			s.Groups = append(s.Groups, c.name)
		}
	}
	slices.Sort(s.Groups)
	slices.Sort(s.Units)
	return s
}
