package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"jmlbridge/consumer/admit"
	"jmlbridge/consumer/alarms"
	"jmlbridge/consumer/apply"
	"jmlbridge/consumer/intake"
	"jmlbridge/consumer/plan"
	"jmlbridge/consumer/state"
	"jmlbridge/internal/command"
	"jmlbridge/internal/disk"
	"jmlbridge/internal/keys"
	"jmlbridge/internal/ledger"
	"jmlbridge/internal/ledger/tiles"
	"jmlbridge/internal/program"
	"jmlbridge/internal/store"
	"jmlbridge/schema"
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
	Disk       diskStatus       `json:"disk"`
	Streams    []streamStatus   `json:"streams"`
	Messages   map[string]int64 `json:"messages"` // by disposition
	Parked     []parkedStatus   `json:"parked"`
	Backlog    map[string]int64 `json:"backlog"`       // persons by lane: due, held by a limit or tried again
	Planned    int64            `json:"planned"`       // persons with nothing to do before a date
	Holds      map[string]int   `json:"holds"`         // open ones by code
	Locked     []lockedStatus   `json:"cut_by_hand"`   // whom operators cut, by issuer and subject
	Leases     []leaseStatus    `json:"leases_ending"` // that end soon if nothing is heard
	Rosters    []rosterStatus   `json:"rosters"`       // the last of each stream, newest first
	Interrupts int              `json:"open_intents"`
	SetAside   intake.SetAside  `json:"set_aside"` // messages that came out of the mid-point's dead letters
	Alarms     []alarmStatus    `json:"alarms"`    // the worst first
}

type diskStatus struct {
	Level   string `json:"level"`           // ample, low, full
	Free    int64  `json:"free_bytes"`      // on the database's volume, beside the reserve
	Reserve int64  `json:"reserve_bytes"`   // laid by; 0: given up, not made yet, or none is configured
	Short   string `json:"short,omitempty"` // the folder whose volume is short
	Spent   bool   `json:"spent,omitempty"` // the reserve is used up too: nothing can be recorded, so nothing is done
	Error   string `json:"error,omitempty"`
	room    disk.State
}

type lockedStatus struct {
	Issuer  string     `json:"iss"`
	Subject string     `json:"sub"`
	By      string     `json:"by"` // OS login
	Since   time.Time  `json:"since"`
	None    bool       `json:"no_account,omitempty"`  // it was looked for, and there is none
	Cut     *time.Time `json:"account_cut,omitempty"` // absent: no account, or not seen to be cut
	Ends    string     `json:"ends"`                  // the command that takes it back
}

type leaseStatus struct {
	Issuer string    `json:"iss"`
	Count  int64     `json:"count"`
	First  time.Time `json:"first"`
}

type rosterStatus struct {
	ID      string            `json:"id"`
	Stream  string            `json:"stream"`
	State   state.RosterState `json:"state"`
	Head    uint64            `json:"head"` // the message at which it was taken
	Named   int               `json:"named"`
	Changed int               `json:"changed"`
	Unnamed int               `json:"unnamed"`
	Done    string            `json:"done"` // of a verified one: parts applied
	Since   time.Time         `json:"since"`
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
	NoRoster   bool              `json:"waits_for_roster"`  // joined in its middle: nothing of it is given before the producer's roster
	Missing    uint64            `json:"missing,omitempty"` // messages up to the highest that are not recorded
	Gaps       int               `json:"gaps,omitempty"`    // runs of them
	ForkSeq    uint64            `json:"fork_seq,omitempty"`
	missed     bool              // somebody is to be told of NoKey
	NoKey      bool              `json:"no_trusted_key"`             // whatever comes of it is refused, leavers too
	GivesUntil *time.Time        `json:"gives_wait_after,omitempty"` // of one with no key: when what gives waits, or since when it does
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
its exit code is the worst of what stands: 3 notice, 4 warning, 5 critical, 0 where there is nothing of
--severity or above. That a producer is silent, that nobody runs, and that a start would be refused since
the database is an old copy, are critical. With --severity notice open holds of roles that the policy does
not know count as well. 1 and 2 mean that it could not look.`,
		Example: `  consumer status
  consumer status -o json
  consumer status --check --severity critical >/dev/null || page-someone
  consumer status --check >/dev/null; case $? in 0) ;; 3|4) mail-someone ;; *) page-someone ;; esac`,
		GroupID: "ops",
		Args:    command.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			inJSON, err := command.AsJSON(format)
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
			return s.check(limit)
		},
	}
	command.OutputFlag(cmd, &format)
	cmd.Flags().BoolVar(&check, "check", false, "exit by the worst that stands and needs a person: 3 notice, 4 warning, 5 critical")
	cmd.Flags().StringVar(&least, "severity", state.Warning.String(), "least `severity` for --check: notice, warning or critical")
	_ = cmd.RegisterFlagCompletionFunc("severity", cobra.FixedCompletions([]string{"notice", "warning", "critical"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// check tells of what needs a person, from limit on; nil where nothing does.
func (s *status) check(limit state.Severity) error {
	found := &severityError{}
	if limit == state.Notice { // somebody waits for a line in the policy; no alarm says so
		found.n, found.worst = s.Holds[string(plan.HoldUnknownRole)], state.Notice
	}
	for _, al := range s.Alarms {
		if al.rank >= limit {
			found.n, found.worst = found.n+1, max(found.worst, al.rank)
		}
	}
	if found.n == 0 {
		return nil
	}
	return found
}

func severity(name string) (state.Severity, error) {
	for _, s := range []state.Severity{state.Notice, state.Warning, state.Critical} {
		if s.String() == name {
			return s, nil
		}
	}
	return 0, command.Usagef("--severity: want notice, warning or critical, got %q", name)
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
	s.Disk = diskOf(cfg)
	if err := s.count(r); err != nil {
		return nil, err
	}
	if err := s.rosters(r, now); err != nil {
		return nil, err
	}
	if s.Locked, err = lockedOf(r); err != nil {
		return nil, err
	}
	standing, err := state.Alarms(r)
	if err != nil {
		return nil, err
	}
	stale := map[string]bool{}
	for _, al := range standing {
		stale[al.Key] = stale[al.Key] || al.Code == apply.AlarmStale
		if al.Code == alarmDiskFull && s.Disk.Spent { // what stands was written while something could be
			al.Text = spentText
		}
		s.alarm(al.Severity, al.Code, al.Key, al.Since, al.Text)
	}
	// A full disk may have kept its own alarm off the table.
	if al := roomAlarm(s.Disk.room, cfg.roomConfig().Size, now); al.Code == alarmDiskFull && !slices.ContainsFunc(standing, func(a state.Alarm) bool { return a.Code == al.Code }) {
		s.alarm(al.Severity, al.Code, "", now, al.Text)
	}
	if err := startable(ctx, db, cfg); err != nil {
		s.Refused = err.Error()
		text := "a start would be refused: " + s.Refused
		if s.Runner == 0 {
			text += "; nobody runs on this database: no leaver is cut"
		}
		s.alarm(state.Critical, alarmOldCopy, "", now, text)
	}
	if s.Runner == 0 && s.Refused == "" { // to start what would be refused is no advice
		s.alarm(state.Critical, "not-running", "", now, "nobody runs on this database: no leaver is cut")
	}
	if s.Observes {
		if n := s.Backlog[plan.Disable.String()]; n > 0 {
			s.alarm(state.Critical, "only-observes", "", now, "the consumer that runs only observes: "+count64(n, "person is", "people are")+" to be cut and will not be")
		} else {
			s.alarm(state.Warning, "only-observes", "", now, "the consumer that runs only observes: nobody who leaves now will be cut")
		}
	}
	if text := cfg.unwrittenAlarms(); text != "" && !slices.ContainsFunc(standing, func(a state.Alarm) bool { return a.Code == alarmUnwritten }) {
		s.alarm(state.Warning, alarmUnwritten, "", now, text)
	}
	for _, st := range s.Streams {
		if st.Stale && !stale[st.Issuer] { // nobody was there to raise it
			text := "no valid heartbeat of stream " + st.Stream + " for more than " + cfg.StaleAfter.String()
			since, err := state.OpenedAt(r, st.Issuer)
			if err != nil {
				return nil, err
			}
			if st.Heartbeat == nil {
				text = "no valid heartbeat of stream " + st.Stream + " came yet: nothing is given until one does"
			} else {
				since = st.Heartbeat.Add(cfg.StaleAfter.D())
			}
			s.alarm(state.Critical, apply.AlarmStale, st.Issuer, since, text)
			stale[st.Issuer] = true
		}
		key := st.Stream + "@" + st.Issuer
		if st.missed && !slices.ContainsFunc(standing, func(a state.Alarm) bool { return a.Code == intake.AlarmNoKey && a.Key == key }) { // nobody came to raise it
			s.alarm(state.Critical, intake.AlarmNoKey, key, now, intake.NoKeyText(st.Stream))
		}
	}
	slices.SortStableFunc(s.Alarms, func(a, b alarmStatus) int { return int(b.rank - a.rank) })
	return s, nil
}

// diskOf measures the room, and changes nothing. That it cannot is part of the answer.
func diskOf(cfg *Config) diskStatus {
	s, err := disk.New(cfg.roomConfig()).See()
	d := diskStatus{Level: s.Level.String(), Free: s.Free, Reserve: s.Reserve, Short: s.Short, Spent: s.Spent, room: s}
	if err != nil {
		d.Error = err.Error()
	}
	return d
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
	parked, err := state.ParkedSets(r)
	if err != nil {
		return err
	}
	for _, p := range parked {
		s.Parked = append(s.Parked, parkedStatus{Code: p.Code, Key: p.KID, Count: p.Count, Bytes: p.Bytes, Since: p.Since})
	}
	backlog, planned, err := state.Backlog(r, s.Time)
	if err != nil {
		return err
	}
	for lane := plan.Disable; lane <= plan.Delete; lane++ {
		s.Backlog[lane.String()] = backlog[lane]
		s.Planned += planned[lane]
	}
	open, err := apply.Standing(r)
	if err != nil {
		return err
	}
	for _, h := range open {
		s.Holds[h.Code]++
	}
	intents, err := state.OpenIntents(r)
	if err != nil {
		return err
	}
	s.Interrupts = len(intents)
	s.SetAside, err = intake.ReadSetAside(r)
	return err
}

// rosters gathers the leases that end soon, and the last roster of each stream, which renews them.
func (s *status) rosters(r state.Reader, now time.Time) error {
	s.Leases, s.Rosters = []leaseStatus{}, []rosterStatus{}
	ending, err := state.LeasesEnding(r, now)
	if err != nil {
		return err
	}
	for _, e := range ending {
		s.Leases = append(s.Leases, leaseStatus{e.Issuer, e.Count, e.First.UTC()})
	}
	last, err := state.Rosters(r, rostersShown)
	if err != nil {
		return err
	}
	seen := map[int64]bool{}
	for _, x := range last {
		if seen[x.StreamRef] {
			continue
		}
		seen[x.StreamRef] = true
		st, err := state.StreamByRef(r, x.StreamRef)
		if err != nil {
			return err
		}
		s.Rosters = append(s.Rosters, rosterStatus{ID: x.ID, Stream: st.Name, State: x.State, Head: x.Head.Seq, Named: x.Named, Changed: x.Changed, Unnamed: x.Unnamed,
			Done: fmt.Sprintf("%d of %d", max(x.Done, min(x.Seen, x.Parts)), x.Parts), Since: x.Since})
	}
	return nil
}

// lockedOf lists who is cut by hand.
func lockedOf(r state.Reader) ([]lockedStatus, error) {
	locked, err := state.Locked(r)
	if err != nil {
		return nil, err
	}
	list := []lockedStatus{}
	for _, s := range locked {
		known, err := knownOf(s)
		if err != nil {
			return nil, err
		}
		var flags []string
		switch _, err := whose(r, s.Subject, lockFlags{}); {
		case command.Misused(err): // the subject alone does not say who, as where another producer has it as well
			flags = append(flags, "--issuer", command.Quote(s.Issuer))
		case err != nil:
			return nil, err
		}
		l := lockedStatus{Issuer: s.Issuer, Subject: s.Subject, By: s.Doc.Lock.By, Since: s.Doc.Lock.At, Ends: command.Line("consumer unlock", s.Subject, append(flags, "--reason", "TEXT")...)}
		looked := s.Lane != plan.Disable && s.Lane != plan.Revoke
		if known.IsCut() && looked {
			l.Cut = &known.DisabledAt
		}
		l.None = looked && known.ID == ""
		list = append(list, l)
	}
	return list, nil
}

// lockedShown is how many persons the screen names who are cut by hand.
const lockedShown = 10

// rostersShown is how many of the latest rosters are looked at for the last of each stream.
const rostersShown = 20

func streamsOf(r state.Reader, cfg *Config, now time.Time) ([]streamStatus, error) {
	list := []streamStatus{}
	all, err := state.Streams(r)
	if err != nil {
		return nil, err
	}
	waits, err := waiting(r)
	if err != nil {
		return nil, err
	}
	trusted, err := state.Keys(r)
	if err != nil {
		return nil, err
	}
	voiceless, err := state.Voiceless(r, now)
	if err != nil {
		return nil, err
	}
	missed, err := state.Missed(r, now)
	if err != nil {
		return nil, err
	}
	for _, s := range all {
		st := streamStatus{NoRoster: waits[s.Issuer] == waitsRoster && bears(trusted, s, schema.KindRoster) && s.Unrostered && s.State != admit.Closed, Issuer: s.Issuer, Stream: s.Name, Generation: s.Generation, State: s.State, Head: s.Head, HeadHash: s.HeadHash.String(), Highest: s.Highest,
			Heartbeat: optional(s.HeartbeatIAT), GapSince: optional(s.GapSince), ForkSeq: s.ForkSeq}
		st.NoKey = slices.ContainsFunc(voiceless, func(v *state.Stream) bool { return v.Ref == s.Ref })
		st.missed = slices.ContainsFunc(missed, func(v *state.Stream) bool { return v.Ref == s.Ref })
		if !s.HeartbeatIAT.IsZero() {
			seconds := now.Sub(s.HeartbeatIAT).Seconds()
			st.Age = &seconds
		}
		if st.GapSince != nil {
			err := state.Missing(r, s.Ref, s.Head, s.Highest, func(first, last uint64) {
				st.Missing += last - first + 1
				st.Gaps++
			})
			if err != nil {
				return nil, err
			}
		}
		if s.State != admit.Closed && bears(trusted, s, schema.KindHeartbeat) { // there are none of approvals
			since, ok, err := state.FreshSince(r, s.Issuer)
			if err != nil {
				return nil, err
			}
			st.Stale = ok && now.Sub(since) > cfg.StaleAfter.D()
			if waits := since.Add(cfg.StaleAfter.D()); st.NoKey && !since.IsZero() {
				st.GivesUntil = &waits
			}
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
	line, err := os.ReadFile(cfg.verifierFile())
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
		was, err := ledger.PublishedAt(context.Background(), db.DB)
		if err != nil {
			return l, err
		}
		if was != "" {
			return fail(fmt.Errorf("no checkpoint at %s; this database published to %s", path, was))
		}
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
