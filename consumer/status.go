package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"jmlbridge/consumer/admit"
	"jmlbridge/consumer/alarms"
	"jmlbridge/consumer/apply"
	"jmlbridge/consumer/plan"
	"jmlbridge/consumer/state"
	"jmlbridge/internal/keys"
	"jmlbridge/internal/ledger"
	"jmlbridge/internal/ledger/tiles"
	"jmlbridge/internal/program"
	"jmlbridge/internal/store"
)

// status is the whole screen, as scripts read it.
type status struct {
	Time       time.Time        `json:"time"`
	Enclave    string           `json:"enclave"`
	Database   string           `json:"database"`
	ID         string           `json:"id"`
	Runner     int              `json:"runner_pid"`              // 0: nobody runs
	Observes   bool             `json:"observes"`                // the runner writes nothing to the tenant
	Refused    string           `json:"start_refused,omitempty"` // why a start on this database would be
	Ledger     ledgerStatus     `json:"ledger"`
	Streams    []streamStatus   `json:"streams"`
	Messages   map[string]int64 `json:"messages"` // by disposition
	Parked     []parkedStatus   `json:"parked"`
	Backlog    map[string]int64 `json:"backlog"` // persons by lane: due, held or tried again
	Planned    int64            `json:"planned"` // persons with nothing to do before a date
	Holds      map[string]int   `json:"holds"`   // open ones by code
	Interrupts int              `json:"open_intents"`
	Alarms     []alarmStatus    `json:"alarms"` // the worst first
}

type ledgerStatus struct {
	ID        string     `json:"id"`
	Size      int64      `json:"size"`
	Published int64      `json:"published"`         // entries under the last checkpoint
	Time      *time.Time `json:"written,omitempty"` // when that checkpoint was written
	Error     string     `json:"error,omitempty"`
}

type streamStatus struct {
	Issuer     string            `json:"iss"`
	Stream     string            `json:"stream"`
	Generation int               `json:"generation"`
	State      admit.StreamState `json:"state"`
	Head       uint64            `json:"head"`
	HeadHash   string            `json:"head_hash"`
	Highest    uint64            `json:"highest"`
	Heartbeat  *time.Time        `json:"heartbeat,omitempty"` // as the producer dated the last valid one
	Age        *float64          `json:"heartbeat_age_seconds,omitempty"`
	Stale      bool              `json:"stale"`
	GapSince   *time.Time        `json:"gap_since,omitempty"`
	ForkSeq    uint64            `json:"fork_seq,omitempty"`
}

type parkedStatus struct {
	Code  string    `json:"code"`
	Key   string    `json:"kid,omitempty"`
	Count int       `json:"count"`
	Bytes int64     `json:"bytes"`
	Since time.Time `json:"since"`
}

type alarmStatus struct {
	Severity string    `json:"severity"`
	Code     string    `json:"code"`
	Key      string    `json:"key,omitempty"`
	Since    time.Time `json:"since"`
	Text     string    `json:"text"`
	Do       string    `json:"do"`
	rank     state.Severity
}

func (a *app) statusCommand() *cobra.Command {
	var format, least string
	var check bool
	cmd := &cobra.Command{
		Use:   "status",
		Short: "One screen: streams, freshness, holds, alarms, backlog, ledger",
		Long: `status reads the database and the published ledger, beside a running consumer or without one. With --check
it exits 3 when an alarm of the severity or above stands, when a producer is silent, when nobody runs, or
when a start would be refused because the database is an old copy. With --severity notice open holds of
roles that the policy does not know count as well.`,
		Example: `  consumer status
  consumer status -o json
  consumer status --check --severity critical >/dev/null || page-someone`,
		GroupID: "ops",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			inJSON, err := asJSON(format)
			if err != nil {
				return err
			}
			limit, err := severity(least)
			if err != nil {
				return err
			}
			db, cfg, err := a.openRead()
			if err != nil {
				return err
			}
			defer db.Close()
			s, err := a.gather(cmd.Context(), db, cfg)
			if err != nil {
				return err
			}
			if inJSON {
				err = program.PrintJSON(a.out, s)
			} else {
				err = a.screen(s)
			}
			if err != nil || !check {
				return err
			}
			if n := s.standing(limit); n > 0 {
				return &severityError{n}
			}
			return nil
		},
	}
	outputFlag(cmd, &format)
	cmd.Flags().BoolVar(&check, "check", false, "exit 3 when something stands that needs a person")
	cmd.Flags().StringVar(&least, "severity", state.Warning.String(), "least `severity` for --check: notice, warning or critical")
	_ = cmd.RegisterFlagCompletionFunc("severity", cobra.FixedCompletions([]string{"notice", "warning", "critical"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// standing counts what needs a person, from limit on.
func (s *status) standing(limit state.Severity) (n int) {
	if limit == state.Notice { // somebody waits for a line in the policy; no alarm says so
		n = s.Holds[string(plan.HoldUnknownRole)]
	}
	for _, al := range s.Alarms {
		if al.rank >= limit {
			n++
		}
	}
	return n
}

func severity(name string) (state.Severity, error) {
	for _, s := range []state.Severity{state.Notice, state.Warning, state.Critical} {
		if s.String() == name {
			return s, nil
		}
	}
	return 0, usagef("--severity: want notice, warning or critical, got %q", name)
}

func (a *app) gather(ctx context.Context, db *state.DB, cfg *Config) (*status, error) {
	now, r := a.now(), db.Read()
	s := &status{Time: now.UTC(), Enclave: db.Enclave(), Database: cfg.Database, ID: db.ID(), Streams: []streamStatus{}, Parked: []parkedStatus{},
		Messages: map[string]int64{}, Backlog: map[string]int64{}, Holds: map[string]int{}, Alarms: []alarmStatus{}}
	var err error
	if s.Runner, err = store.Holder(cfg.Database); err != nil {
		return nil, err
	}
	if s.Observes, err = observes(r, s.Runner); err != nil {
		return nil, err
	}
	if s.Ledger, err = ledgerOf(db, cfg); err != nil {
		return nil, err
	}
	if s.Streams, err = streamsOf(r, cfg, now); err != nil {
		return nil, err
	}
	if err := s.count(r); err != nil {
		return nil, err
	}
	standing, err := state.Alarms(r)
	if err != nil {
		return nil, err
	}
	stale := map[string]bool{}
	for _, al := range standing {
		stale[al.Key] = stale[al.Key] || al.Code == apply.AlarmStale
		s.alarm(al.Severity, al.Code, al.Key, al.Since, al.Text)
	}
	if err := startable(ctx, db, cfg); err != nil {
		s.Refused = err.Error()
		s.alarm(state.Critical, alarmOldCopy, "", now, "a start would be refused: "+s.Refused)
	}
	if s.Runner == 0 {
		s.alarm(state.Critical, "not-running", "", now, "nobody runs on this database: no leaver is cut")
	}
	for _, st := range s.Streams {
		if st.Stale && !stale[st.Issuer] { // nobody was there to raise it
			s.alarm(state.Critical, apply.AlarmStale, st.Issuer, now, "no valid heartbeat of stream "+st.Stream+" for more than "+cfg.StaleAfter.String())
			stale[st.Issuer] = true
		}
	}
	slices.SortStableFunc(s.Alarms, func(a, b alarmStatus) int { return int(b.rank - a.rank) })
	return s, nil
}

// startable tells what keeps a run from beginning on this database: that it is an old copy, or that
// nothing shows that it is not.
func startable(ctx context.Context, db *state.DB, cfg *Config) error {
	v, err := cfg.verifier()
	if err != nil {
		return err
	}
	return notBehind(ctx, db, cfg, v)
}

func (s *status) alarm(rank state.Severity, code, key string, since time.Time, text string) {
	s.Alarms = append(s.Alarms, alarmStatus{rank.String(), code, key, since.UTC(), text, alarms.Advice(code), rank})
}

func (s *status) count(r state.Reader) error {
	messages, err := state.CountMessages(r)
	if err != nil {
		return err
	}
	for d, n := range messages {
		s.Messages[d.String()] = n
	}
	parked, err := state.ListParked(r)
	if err != nil {
		return err
	}
	at := map[[2]string]int{}
	for _, p := range parked {
		k := [2]string{p.Code, p.KID}
		i, ok := at[k]
		if !ok {
			i = len(s.Parked)
			at[k] = i
			s.Parked = append(s.Parked, parkedStatus{Code: p.Code, Key: p.KID, Since: p.ReceivedAt})
		}
		s.Parked[i].Count++
		s.Parked[i].Bytes += p.Size
	}
	backlog, planned, err := state.Backlog(r, s.Time)
	if err != nil {
		return err
	}
	for lane := plan.Disable; lane <= plan.Delete; lane++ {
		s.Backlog[lane.String()] = backlog[lane]
		s.Planned += planned[lane]
	}
	open, err := state.Holds(r)
	if err != nil {
		return err
	}
	for _, h := range open {
		s.Holds[h.Code]++
	}
	intents, err := state.OpenIntents(r)
	s.Interrupts = len(intents)
	return err
}

func streamsOf(r state.Reader, cfg *Config, now time.Time) ([]streamStatus, error) {
	list := []streamStatus{}
	all, err := state.Streams(r)
	if err != nil {
		return nil, err
	}
	for _, s := range all {
		st := streamStatus{Issuer: s.Issuer, Stream: s.Name, Generation: s.Generation, State: s.State, Head: s.Head, HeadHash: s.HeadHash.String(), Highest: s.Highest,
			Heartbeat: optional(s.HeartbeatIAT), GapSince: optional(s.GapSince), ForkSeq: s.ForkSeq}
		if !s.HeartbeatIAT.IsZero() {
			seconds := now.Sub(s.HeartbeatIAT).Seconds()
			st.Age = &seconds
		}
		if s.State != admit.Closed {
			since, ok, err := state.FreshSince(r, s.Issuer)
			if err != nil {
				return nil, err
			}
			st.Stale = ok && now.Sub(since) > cfg.StaleAfter.D()
		}
		list = append(list, st)
	}
	return list, nil
}

// ledgerOf compares the database with what is published. That a checkpoint cannot be read is part of
// the answer, not an error.
func ledgerOf(db *state.DB, cfg *Config) (l ledgerStatus, err error) {
	if l.ID, err = ledger.ID(db.DB); err != nil {
		return l, err
	}
	if l.Size, err = ledger.Size(db.DB); err != nil {
		return l, err
	}
	fail := func(err error) (ledgerStatus, error) {
		l.Error = err.Error()
		return l, nil
	}
	line, err := os.ReadFile(verifierName(cfg.Ledger.Key))
	if err != nil {
		return fail(err)
	}
	v, err := keys.LedgerVerifier(firstLine(line))
	if err != nil {
		return fail(err)
	}
	path := filepath.Join(cfg.Ledger.Dir, ledger.TilesFolder, tiles.CheckpointFile)
	raw, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return fail(fmt.Errorf("no checkpoint at %s: the first one is written by `consumer run`", path))
	}
	if err != nil {
		return fail(err)
	}
	c, err := tiles.OpenCheckpoint(raw, v)
	if err != nil {
		return fail(err)
	}
	l.Published = c.Size
	if info, err := os.Stat(path); err == nil {
		l.Time = optional(info.ModTime().UTC())
	}
	return l, nil
}

func firstLine(text []byte) string {
	for i, b := range text {
		if b == '\n' {
			return string(text[:i])
		}
	}
	return string(text)
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
		if st.GapSince != nil {
			what += fmt.Sprintf(", GAP after %d since %s", st.Head, stamp(*st.GapSince))
		}
		if st.ForkSeq != 0 {
			what += fmt.Sprintf(", FORK at %d", st.ForkSeq)
		}
		rows = append(rows, []string{st.Stream, strconv.Itoa(st.Generation), strconv.FormatUint(st.Head, 10), strconv.FormatUint(st.Highest, 10), heartbeat, what, st.Issuer})
	}
	if len(rows) == 0 {
		fmt.Fprintln(w, "No producer is trusted yet: consumer trust add CARD --reason TEXT")
	} else if err := program.Table(w, []string{"STREAM", "GEN", "HEAD", "SEEN", "HEARTBEAT", "STATE", "ISSUER"}, rows); err != nil {
		return err
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
		_, err := fmt.Fprintln(w, "No alarms.")
		return err
	}
	for _, al := range s.Alarms {
		fmt.Fprintf(w, "%s  %s %s  since %s\n    %s\n    do: %s\n", al.Severity, al.Code, al.Key, stamp(al.Since), al.Text, al.Do)
	}
	return nil
}
