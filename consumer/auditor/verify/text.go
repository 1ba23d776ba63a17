package verify

import (
	"bufio"
	"encoding/base64"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"jmlbridge/internal/ledger/entry"
)

// WriteText writes the report for people: the verdict first.
func (r *Report) WriteText(w io.Writer) error {
	b := bufio.NewWriter(w)
	p := func(format string, args ...any) { fmt.Fprintf(b, format+"\n", args...) }
	l := &r.Ledger
	n := int64(0)
	for _, c := range r.Counts.Findings {
		n += c
	}
	switch {
	case !r.Verifies:
		p("DOES NOT VERIFY  %s: %d findings", l.Origin, n)
	case r.TilesOnly:
		p("VERIFIES  %s, %d entries (tiles only: no signature of a message was checked)", l.Origin, l.Size)
	default:
		p("VERIFIES  %s, %d entries", l.Origin, l.Size)
	}
	p("")
	p("ledger      %s", l.Origin)
	p("  size      %d entries, root %s", l.Size, l.Root)
	if l.Second {
		p("  signed    by the ledger's key and by its second key")
	}
	if l.Program != "" {
		p("  kept by   %s, ledger %s%s", l.Program, l.ID, prefixed(", enclave ", l.Enclave))
	}
	if !l.Last.IsZero() {
		p("  from      %s to %s", l.First, l.Last)
	}
	if b := l.Previous; b != nil {
		p("  follows   %s, whose database was lost, at %d entries, root %s: hold its own checkpoint against these", b.Ledger, b.Size, base64.StdEncoding.EncodeToString(b.Root[:])) // as on the checkpoint
	}
	c := &r.Checked
	p("  checked   %d entries, %d messages, %d signatures, %d intents, %d outcomes, %d gives, %d takes, %d checkpoint copies",
		c.Entries, c.Messages, c.Signatures, c.Intents, c.Outcomes, c.Gives, c.Takes, c.Copies)
	if c.ByPrevious > 0 {
		p("            %d takes name a message of the ledger before this one", c.ByPrevious)
	}
	if c.ByParked > 0 {
		p("            %d takes name a parked message, which the archive does not have", c.ByParked)
	}
	rulings := ""
	if n := len(r.Rulings); n > 0 {
		rulings = fmt.Sprintf(" (%d of them ended holds)", n)
	}
	p("  starts    %d, policies %d, operators' acts %d%s and changes of trust %d", len(r.Starts), len(r.Policies), r.Acts, rulings, r.Counts.Entries[string(entry.KindTrust)])
	counts(p, "  entries  ", r.Counts.Entries)
	counts(p, "  messages ", r.Counts.Dispositions)
	counts(p, "  refused  ", r.Counts.Refused)
	counts(p, "  parked   ", r.Counts.Parked)
	counts(p, "  held     ", r.Counts.Held)
	counts(p, "  alarms   ", r.Counts.Alarms)
	counts(p, "  results  ", r.Counts.Results)
	for i, s := range r.Streams {
		if i == 0 {
			p("")
			p("streams")
		}
		state := "whole"
		switch {
		case s.Forked:
			state = "FORKED"
		case s.Missing > 0:
			state = fmt.Sprintf("%d MISSING up to %d", s.Missing, s.Highest)
		case s.Closed:
			state = "closed"
		}
		span := fmt.Sprintf("%d to %d", s.First, s.Head)
		if s.Head < s.First { // followed from a place on at which nothing came
			span = fmt.Sprintf("none from %d on", s.First)
		}
		p("  %s of %s, generation %d%s: %s, %s; %d messages, %d repeats, %d ahead of a gap, head %s",
			s.Stream, s.Issuer, s.Generation, prefixed(" to ", s.Audience), span, state, s.Messages, s.Repeats, s.Gaps, s.Hash)
	}
	r.writeCuts(p)
	r.writeOpen(p)
	for i, u := range r.Rulings {
		if i == 0 {
			p("")
			p("holds ended by operators")
		}
		p("  entry %d  %s  hold %s (%s, %d persons) %s by %s%s", u.Entry, u.Time, u.Hold, u.Code, u.Subjects, u.Action, strings.Join(u.By, " and "), prefixed(": ", u.Reason))
	}
	r.writeFindings(p, n)
	return b.Flush()
}

func (r *Report) writeCuts(p func(string, ...any)) {
	if len(r.Cuts) == 0 {
		return
	}
	p("")
	states := map[string]int64{}
	for s, n := range r.CutStates {
		states[s] = int64(n)
	}
	counts(p, "cuts       ", states)
	n := states[string(CutUnknown)]
	byRoster := int64(0)
	for _, c := range r.Cuts {
		if c.State == CutUnknown && c.Roster != nil {
			byRoster++
		}
	}
	if byRoster > 0 {
		p("  %d unknown: a roster that came since may say that they are over, and what it states is in archive/, which was not read. Verify with it, or look at these accounts in the tenant", byRoster)
	}
	if n -= byRoster; n > 0 && r.Ledger.Previous != nil {
		p("  %d unknown: there may be an account of before this ledger, of which it says nothing. Verify %s too, by its own line, and look in the tenant", n, r.Ledger.Previous.Ledger)
	}
	for _, t := range []struct {
		name string
		Spread
	}{
		{"true to received", r.CutTimes.TrueToReceived}, {"due to disabled", r.CutTimes.DueToDisabled},
		{"true to disabled", r.CutTimes.TrueToDisabled}, {"disabled to revoked", r.CutTimes.DisabledToRevoked},
	} {
		if t.Count > 0 {
			p("  %-20s min %s, median %s, p99 %s, max %s", t.name, ms(t.Min), ms(t.Median), ms(t.P99), ms(t.Max))
		}
	}
	shown := 0
	for _, c := range r.Cuts {
		if c.State == CutDone || c.State == CutAlready || c.State == CutNone || c.State == CutGone || c.State == CutOvertaken {
			continue
		}
		if shown++; shown > 20 {
			p("  ... more in -o json")
			return
		}
		p("  %-10s %s of %s, %s at entry %d, due %s", c.State, c.Subject, c.Issuer, c.Kind, c.Entry, c.Due)
	}
}

func (r *Report) writeOpen(p func(string, ...any)) {
	o := &r.Open
	if o.Intents+o.Unarchived+o.Newer+int64(o.Rosters+o.Holds+o.Alarms+len(o.Torn)) == 0 {
		return
	}
	p("")
	p("open at the end (no findings)")
	for _, x := range []struct {
		n    int64
		text string
	}{
		{o.Intents, "intents under way"}, {int64(o.Rosters), "rosters to apply"}, {int64(o.Holds), "holds"}, {int64(o.Alarms), "alarms"},
		{o.Unarchived, "messages that the archive does not have yet"}, {o.Newer, "archived messages newer than the checkpoint"},
	} {
		if x.n > 0 {
			p("  %d %s", x.n, x.text)
		}
	}
	for _, t := range o.Torn {
		p("  %s ends in the middle of a write", t)
	}
}

func (r *Report) writeFindings(p func(string, ...any), n int64) {
	if n == 0 {
		return
	}
	p("")
	all := map[string]int64{}
	for c, k := range r.Counts.Findings {
		all[string(c)] = k
	}
	counts(p, "findings   ", all)
	for _, f := range r.Findings {
		var where []string
		if f.Entry != nil {
			where = append(where, fmt.Sprintf("entry %d", *f.Entry))
		}
		if f.Subject != "" {
			where = append(where, fmt.Sprintf("subject %s of %s", f.Subject, f.Issuer))
		}
		if f.Seq != 0 {
			where = append(where, fmt.Sprintf("message %d.%d%s", f.Gen, f.Seq, prefixed(" of ", f.Stream)))
		}
		if f.Where != "" {
			where = append(where, f.Where)
		}
		p("  %-20s %s: %s", f.Code, strings.Join(where, ", "), f.Detail)
	}
	if int64(len(r.Findings)) < n {
		p("  ... and %d more", n-int64(len(r.Findings)))
	}
}

func ms(n int64) string { return (time.Duration(n) * time.Millisecond).String() }

func prefixed(prefix, s string) string {
	if s == "" {
		return ""
	}
	return prefix + s
}

func counts(p func(string, ...any), name string, m map[string]int64) {
	if len(m) == 0 {
		return
	}
	var parts []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		parts = append(parts, fmt.Sprintf("%s %d", k, m[k]))
	}
	p("%s %s", name, strings.Join(parts, ", "))
}
