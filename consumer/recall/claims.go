package recall

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"jmlbridge/consumer/fence"
	"jmlbridge/consumer/plan"
	"jmlbridge/consumer/state"
	"jmlbridge/internal/directory"
	"jmlbridge/internal/ledger"
	"jmlbridge/internal/ledger/entry"
	"jmlbridge/internal/store"
	"jmlbridge/schema"
)

// Standing is how an account of before the loss stands to what was said since.
type Standing string

// Standings. The zero Standing is none of them.
const (
	Waiting Standing = "waiting" // for the producer's first roster since, or for the executor to come to the person, which a discarded hold puts off
	Unknown Standing = "unknown" // a roster came, and nobody has spoken of the person
	Second  Standing = "second"  // the person has another account
	Foreign Standing = "foreign" // its mark is of an issuer that is not trusted
	Claimed Standing = "claimed" // it is the account of a person who is known
)

// Claim is one such account; the key is that of its person, with no Issuer where the mark is Foreign.
type Claim struct {
	state.Unclaimed
	state.SubjectKey
	Standing Standing
}

// Claims judges every account that was found in the tenant and is not claimed yet.
func Claims(r state.Reader) ([]Claim, error) {
	found, err := state.AllUnclaimed(r)
	if err != nil || len(found) == 0 {
		return nil, err
	}
	issuers, err := state.Issuers(r)
	if err != nil {
		return nil, err
	}
	applied := map[string]bool{}
	for _, iss := range issuers {
		if applied[iss], err = state.RosterDone(r, iss); err != nil {
			return nil, err
		}
	}
	list := make([]Claim, len(found))
	for i, u := range found {
		c := &list[i]
		c.Unclaimed, c.Standing = u, Foreign
		k, ok := owner(issuers, u.Mark)
		if !ok {
			continue
		}
		c.SubjectKey = k
		s, known, err := load(r, k)
		if err != nil {
			return nil, err
		}
		if s != nil && bare(s.Doc) {
			s = nil // all that is known is what we did to the account
		}
		switch {
		case s != nil && known.ID == u.Account:
			c.Standing = Claimed
		case s != nil && known.ID != "":
			c.Standing = Second
		case s != nil && (s.Lane != plan.Idle || s.Discarded()), !applied[k.Issuer]:
			c.Standing = Waiting
		default:
			c.Standing = Unknown
		}
	}
	return list, nil
}

// bare reports whether a person is known by nothing but what is over.
func bare(doc fence.Subject) bool {
	doc.StateFence, doc.Resumed = fence.Position{}, fence.Resumption{}
	return reflect.DeepEqual(doc, fence.Subject{})
}

// owner is whose mark it is.
func owner(issuers []string, mark string) (k state.SubjectKey, ok bool) {
	for _, iss := range issuers {
		if subject, ok := directory.MarkedSubject(iss, mark); ok {
			return state.SubjectKey{Issuer: iss, Subject: subject}, true
		}
	}
	return k, false
}

// load reads a person and what the executor knows of the account; s is nil where nothing was said.
func load(r state.Reader, k state.SubjectKey) (s *state.Subject, known plan.Known, err error) {
	if s, err = state.LoadSubject(r, k); err != nil || s == nil || len(s.Account) == 0 {
		return s, known, err
	}
	if err := json.Unmarshal(s.Account, &known); err != nil {
		return nil, known, fmt.Errorf("subject %s: read its account: %w", k.Subject, err)
	}
	return s, known, nil
}

// Look is what was seen of the tenant: every account that bears the bridge's mark, and in which groups of the policy it is.
type Look struct {
	Accounts          []directory.Account
	Started, Finished time.Time
}

// Find keeps the accounts that bear the bridge's mark, and holds who has no access against them: an open account of
// such a person is cut at once, whatever the old ledger had of it, and where none is open there is nothing to cut. That is
// looked at in its time, and does not count as a cut. What was seen goes on the ledger, so that an auditor knows whose account is to
// be gone. It comes after Restore, and puts right what that made.
func Find(tx *store.Tx, look Look, made *Made, by state.By) error {
	issuers, err := state.Issuers(tx)
	if err != nil {
		return err
	}
	found := map[state.SubjectKey][]state.Unclaimed{}
	for _, a := range look.Accounts {
		u := state.Unclaimed{Account: a.ID, Mark: a.Mark, Enabled: a.Enabled == nil || *a.Enabled, Groups: a.Groups, FoundAt: by.Now} // not answered is not "disabled"
		if err := state.AddUnclaimed(tx, u); err != nil {
			return err
		}
		if k, ok := owner(issuers, a.Mark); ok {
			found[k] = append(found[k], u)
		}
	}
	seen := survey{Survey: entry.Survey{Started: entry.At(look.Started), Finished: entry.At(look.Finished)}}
	seen.add(look.Accounts, found)
	var people []state.SubjectKey
	err = state.EachSubject(tx, func(s *state.Subject) error {
		people = append(people, s.SubjectKey)
		return nil
	})
	if err != nil {
		return err
	}
	for _, k := range people {
		s, known, err := load(tx, k)
		if err != nil {
			return err
		}
		if err := join(tx, k, known, found[k]); err != nil {
			return err
		}
		if bare(s.Doc) {
			continue // nobody said that they are to be cut
		}
		open := slices.ContainsFunc(found[k], func(u state.Unclaimed) bool { return u.Enabled })
		if len(found[k]) == 0 && known.ID == "" {
			seen.none(k)
		}
		there := known.ID == "" || slices.ContainsFunc(found[k], func(u state.Unclaimed) bool { return u.Account == known.ID })
		why := s.Doc.At(by.Now).Why
		switch {
		case open && why == fence.WhyUnknown:
			delete(seen.accounts, k) // for a later engagement
			continue
		case open && s.Lane == plan.Strip, open && known.ID == "", open && !known.DeletedAt.IsZero():
			if s.Lane != plan.Idle {
				made.Open++
			}
			s.Raise(plan.Disable, by.Now, false)
			if !known.DeletedAt.IsZero() { // it is back: what was done to it is history
				if err := state.SetAccount(tx, k, []byte("{}")); err != nil {
					return err
				}
			}
		case !open && there && s.Lane == plan.Disable:
			if known.ID != "" {
				made.Open--
			}
			s.Lane = plan.Strip
		case open && s.Lane == plan.Idle && why == fence.WhyLeft:
			delete(seen.accounts, k) // perhaps for a later engagement: the roster says so, and nothing is due before it
			continue
		default:
			continue
		}
		if err := state.SaveFacts(tx, s); err != nil {
			return err
		}
	}
	return seen.record(tx, by)
}

// join keeps, of a person whose account the old ledger named, in which groups it was found: nobody else looks there
// before a word on the person takes some of them.
func join(tx *store.Tx, k state.SubjectKey, known plan.Known, found []state.Unclaimed) error {
	i := slices.IndexFunc(found, func(u state.Unclaimed) bool { return u.Account == known.ID })
	if i < 0 || len(found[i].Groups) == 0 {
		return nil
	}
	known.Groups = found[i].Groups
	text, err := json.Marshal(known)
	if err != nil {
		return err
	}
	return state.SetAccount(tx, k, text)
}

// survey is what goes on the ledger of a Look.
type survey struct {
	entry.Survey
	accounts map[state.SubjectKey]*entry.Account
}

// add takes in whose accounts were seen. Of several accounts of a person the open one counts.
func (v *survey) add(all []directory.Account, found map[state.SubjectKey][]state.Unclaimed) {
	v.accounts = map[state.SubjectKey]*entry.Account{}
	named := 0
	for k, list := range found {
		if k.Subject != entry.ID(k.Subject) {
			continue // no such person can be on a ledger
		}
		named += len(list)
		a := &entry.Account{Who: entry.Who{Issuer: k.Issuer, Subject: k.Subject}, State: entry.StateDisabled, Code: entry.CodeSeen}
		for _, u := range list {
			if u.Enabled || a.Account == "" {
				a.Account = entry.ID(u.Account)
			}
			if u.Enabled {
				a.State = entry.StateEnabled
			}
		}
		v.accounts[k] = a
	}
	v.Count = int64(len(all))
	if n := len(all) - named; n > 0 {
		v.Counts = []entry.Count{{Name: entry.SurveyForeign, Count: int64(n)}}
	}
	lines := make([]string, len(all))
	for i, a := range all {
		state := entry.StateEnabled
		if a.Enabled != nil && !*a.Enabled {
			state = entry.StateDisabled
		}
		lines[i] = a.Mark + "\n" + a.ID + "\n" + state + "\n"
	}
	slices.Sort(lines)
	v.Digest = schema.DigestOf([]byte(strings.Join(lines, "")))
}

func byName(a, b state.SubjectKey) int {
	return cmp.Or(strings.Compare(a.Issuer, b.Issuer), strings.Compare(a.Subject, b.Subject))
}

// none notes that a person who is out has no account.
func (v *survey) none(k state.SubjectKey) {
	v.accounts[k] = &entry.Account{Who: entry.Who{Issuer: k.Issuer, Subject: k.Subject}, State: entry.StateGone, Code: entry.CodeSeen}
}

func (v *survey) record(tx *store.Tx, by state.By) error {
	if _, err := ledger.Append(tx, entry.New(by.Now, &entry.Observed{Survey: &v.Survey})); err != nil {
		return err
	}
	for _, k := range slices.SortedFunc(maps.Keys(v.accounts), byName) {
		a := v.accounts[k]
		a.Survey = &v.Digest
		if _, err := ledger.Append(tx, entry.New(by.Now, &entry.Observed{Account: a})); err != nil {
			return err
		}
	}
	return nil
}
