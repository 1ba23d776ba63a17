package main

import (
	"fmt"
	"strconv"

	"jmlbridge/consumer/plan"
	"jmlbridge/internal/disk"
	"jmlbridge/internal/program"
)

func firstLine(text []byte) string {
	for i, b := range text {
		if b == '\n' {
			return string(text[:i])
		}
	}
	return string(text)
}

// reserve says what is laid by for cuts.
func (d diskStatus) reserve() string {
	if d.Reserve == 0 {
		return "no reserve for cuts is laid by now: `consumer run` makes it"
	}
	return fmt.Sprintf("a reserve of %d MiB is kept for cuts", d.Reserve>>20)
}

func (a *app) screen(s *status) error {
	w := a.out
	runner := "NOBODY RUNS"
	if s.Runner != 0 {
		runner = "running, pid " + strconv.Itoa(s.Runner)
	}
	if s.Observes {
		runner += ", ONLY OBSERVES: nothing is written to the tenant, nobody is cut"
	}
	if s.Refused != "" {
		runner += ", A START WOULD BE REFUSED"
	}
	fmt.Fprintf(w, "%s  %s  (%s)\n", s.Enclave, runner, stamp(s.Time))
	published := s.Ledger.Error
	if s.Ledger.Time != nil {
		published = fmt.Sprintf("%d published, last checkpoint %s ago", s.Ledger.Published, age(s.Time, *s.Ledger.Time))
	}
	fmt.Fprintf(w, "ledger    %d entries, %s\n", s.Ledger.Size, published)
	switch d := s.Disk; {
	case d.Error != "":
		fmt.Fprintf(w, "disk      %s\n", d.Error)
	case d.Spent:
		fmt.Fprintf(w, "disk      FULL, AND THE RESERVE IS USED UP: nothing is taken in, nobody is cut; %d KiB are left  %s\n", d.Free>>10, d.Short)
	case d.room.Level == disk.Full:
		fmt.Fprintf(w, "disk      FULL: the reserve is in use, only cuts go on; %d MiB are left  %s\n", d.Free>>20, d.Short)
	case d.room.Level == disk.Low:
		fmt.Fprintf(w, "disk      LOW: what gives waits; %s  %s\n", d.reserve(), d.Short)
	case d.Free > 0:
		fmt.Fprintf(w, "disk      %d MiB free; %s\n", d.Free>>20, d.reserve())
	}
	fmt.Fprintf(w, "backlog  ")
	for lane := plan.Disable; lane <= plan.Delete; lane++ {
		fmt.Fprintf(w, " %s %d", lane, s.Backlog[lane.String()])
	}
	fmt.Fprintf(w, "; for a later date %d", s.Planned)
	fmt.Fprintf(w, "\nheld     ")
	if len(s.Holds) == 0 {
		fmt.Fprint(w, " nothing")
	}
	for _, code := range sortedKeys(s.Holds) {
		fmt.Fprintf(w, " %s %d", code, s.Holds[code])
	}
	fmt.Fprintln(w)
	if s.Interrupts > 0 {
		fmt.Fprintf(w, "open      %d intents have no outcome yet\n", s.Interrupts)
	}
	if a := s.SetAside; a.Count > 0 {
		fmt.Fprintf(w, "set aside %d messages by the mid-point, %d of them leavers or suspends; all fetched and judged, the last %s ago\n", a.Count, a.Cuts, age(s.Time, a.Last))
	}
	fmt.Fprintln(w)
	var rows [][]string
	for _, st := range s.Streams {
		heartbeat := "never"
		if st.Heartbeat != nil {
			heartbeat = age(s.Time, *st.Heartbeat)
		}
		what := string(st.State)
		if st.Stale {
			what += ", STALE"
		}
		if st.NoKey {
			what += ", NO KEY IS TRUSTED: what comes is refused"
			switch {
			case st.GivesUntil != nil && st.GivesUntil.After(s.Time):
				what += ", what gives waits after " + stamp(*st.GivesUntil)
			case st.Stale:
				what += ", what gives waits"
			}
		}
		if st.GapSince != nil {
			what += fmt.Sprintf(", GAP after %d since %s (%d missing in %s)", st.Head, stamp(*st.GapSince), st.Missing, count(st.Gaps, "place"))
		}
		if st.NoRoster {
			what += ", NO ROSTER YET: all that gives waits for it"
		}
		if st.ForkSeq != 0 {
			what += fmt.Sprintf(", FORK at %d", st.ForkSeq)
		}
		rows = append(rows, []string{st.Stream, strconv.Itoa(st.Generation), strconv.FormatUint(st.Head, 10), strconv.FormatUint(st.Highest, 10), heartbeat, what, st.Issuer})
	}
	if len(rows) == 0 {
		fmt.Fprintln(w, "No producer is trusted yet: consumer trust add CARD --expect KEYID --reason TEXT")
	} else if err := program.Table(w, []string{"STREAM", "GEN", "HEAD", "SEEN", "HEARTBEAT", "STATE", "ISSUER"}, rows); err != nil {
		return err
	}
	for _, x := range s.Rosters {
		fmt.Fprintf(w, "roster    of %s at %d: %s, %s parts, %d named, %d changed, %d not named, %s ago\n", x.Stream, x.Head, x.State, x.Done, x.Named, x.Changed, x.Unnamed, age(s.Time, x.Since))
	}
	for i, l := range s.Locked {
		if i == lockedShown {
			fmt.Fprintf(w, "cut       %d more by hand: consumer status -o json\n", len(s.Locked)-lockedShown)
			break
		}
		account := "its account NOT SEEN TO BE CUT"
		switch {
		case l.Cut != nil:
			account = "its account since " + stamp(*l.Cut)
		case l.None:
			account = "who has no account"
		}
		fmt.Fprintf(w, "cut       %s by %s since %s, %s; until %s  %s\n", l.Subject, l.By, stamp(l.Since), account, l.Ends, l.Issuer)
	}
	for _, l := range s.Leases {
		fmt.Fprintf(w, "leases    %d end if nothing is heard, the first at %s  %s\n", l.Count, stamp(l.First), l.Issuer)
	}
	if len(s.Parked) > 0 {
		fmt.Fprintln(w)
		rows = nil
		for _, p := range s.Parked {
			rows = append(rows, []string{p.Code, strconv.Itoa(p.Count), strconv.FormatInt(p.Bytes, 10), stamp(p.Since), p.Key})
		}
		if err := program.Table(w, []string{"PARKED", "COUNT", "BYTES", "SINCE", "KEY"}, rows); err != nil {
			return err
		}
	}
	fmt.Fprintln(w)
	if len(s.Alarms) == 0 {
		text := "No alarms."
		if n := s.Holds[string(plan.HoldUnknownRole)]; n > 0 {
			text = fmt.Sprintf("No alarms; holds of roles that the policy does not know: %d (consumer holds list).", n)
		}
		_, err := fmt.Fprintln(w, text)
		return err
	}
	for _, al := range s.Alarms {
		fmt.Fprintf(w, "%s  %s %s  since %s\n    %s\n    do: %s\n", al.Severity, al.Code, al.Key, stamp(al.Since), al.Text, al.Do)
	}
	return nil
}
