package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"jmlbridge/consumer/fence"
	"jmlbridge/consumer/plan"
	"jmlbridge/consumer/state"
	"jmlbridge/internal/command"
	"jmlbridge/internal/directory"
	"jmlbridge/internal/ledger"
	"jmlbridge/internal/ledger/entry"
	"jmlbridge/internal/store"
)

func (a *app) cutCommand() *cobra.Command {
	cmd := a.lockCommand("cut SUBJECT", "Take a person's access away now, whatever any message says",
		`cut locks a person: the account is disabled and its sessions are revoked at once, ahead of everything else,
by the "run" that is running. No message undoes it; only "consumer unlock" does. The subject is the id
that HR uses, as on the ledger. It is an act of the enclave's own and goes on the ledger with your login.`,
		`  consumer cut 100042 --reason "INC-91, account misused"
  consumer cut 100042 --reason "INC-91" --issuer https://iam.mssp.example/jml --wait 0`, "cut")
	return cmd
}

func (a *app) unlockCommand() *cobra.Command {
	return a.lockCommand("unlock SUBJECT", "Take back an earlier cut",
		`unlock takes an operator's lock off a person. What the facts then say is brought about again, inside the
limits; it gives nothing by itself to somebody who has left.`,
		`  consumer unlock 100042 --reason "INC-91 closed, cleared by security"`, "unlock")
}

type lockFlags struct {
	issuer, reason string
	unknown        bool
	to             string // what is to be done, for the answer where there is nobody
	wait           time.Duration
}

func (a *app) lockCommand(use, short, long, example, action string) *cobra.Command {
	fl := lockFlags{to: action}
	cmd := &cobra.Command{Use: use, Short: short, Long: long, Example: example, GroupID: "ops", Args: command.Exactly("SUBJECT"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if strings.TrimSpace(fl.reason) == "" {
				return command.Usagef("--reason: say why; it goes on the ledger")
			}
			if fl.wait < 0 {
				return command.Usagef("--wait: want a time like 30s, or 0 for not at all, got %v", fl.wait)
			}
			return a.lock(cmd.Context(), action, args[0], fl)
		}}
	cmd.Flags().StringVar(&fl.reason, "reason", "", "`text` for the ledger; required")
	cmd.Flags().StringVar(&fl.issuer, "issuer", "", "`URI` of the producer; needed where several know the subject")
	if action == "cut" {
		cmd.Flags().BoolVar(&fl.unknown, "unknown", false, "lock somebody of whom nothing was ever said, so that a later joiner gives nothing")
		cmd.Flags().DurationVar(&fl.wait, "wait", 30*time.Second, "`time` to watch for the account being cut; 0 for not at all")
	}
	return cmd
}

func (a *app) lock(ctx context.Context, action, subject string, fl lockFlags) error {
	by, err := a.by(fl.reason)
	if err != nil {
		return err
	}
	db, cfg, err := a.open(ctx)
	if err != nil && action == "cut" {
		return fmt.Errorf("nothing was cut: disable the account by hand now: %w", err)
	}
	if err != nil {
		return err
	}
	defer db.Close()
	var key state.SubjectKey
	err = db.Tx(ctx, func(tx *store.Tx) (err error) {
		if key, err = whose(tx, subject, fl); err != nil {
			return err
		}
		lane, lock := plan.Disable, &fence.Lock{By: by.Login, Reason: fl.reason, At: by.Now.UTC()}
		if action != "cut" {
			lane, lock = plan.Give, nil
			s, err := state.LoadSubject(tx, key)
			if err != nil {
				return err
			}
			if s == nil || s.Doc.Lock == nil {
				return command.Misusef("subject %s is not locked; nothing to take back", subject)
			}
		}
		if err := state.Lock(tx, key, lock, lane, by.Now); err != nil {
			return err
		}
		_, err = ledger.Append(tx, entry.New(by.Now, &entry.Operator{By: by.Login, Action: action, Issuer: key.Issuer, Subject: key.Subject, Reason: entry.Text(fl.reason)}))
		return err
	})
	if err != nil {
		return err
	}
	if action != "cut" {
		_, err = fmt.Fprintf(a.out, "Subject %s is unlocked.\n", subject)
		return err
	}
	fmt.Fprintf(a.out, "Subject %s is locked; the cut is on the ledger.\n", subject)
	pid, err := store.Holder(cfg.Database)
	if err != nil {
		return err
	}
	if pid == 0 && fl.wait > 0 {
		return fmt.Errorf("subject %s is locked, but nobody is running on this database, so its account is not cut: start `consumer run`, or disable it by hand now", key.Subject)
	}
	if pid == 0 {
		fmt.Fprintln(a.err, "consumer: nobody is running on this database: start `consumer run`, or disable the account by hand")
		return nil
	}
	only, err := observes(db.Read(), pid)
	switch {
	case err != nil:
		return err
	case only && fl.wait > 0:
		return fmt.Errorf("subject %s is locked, but the consumer that runs only observes (run --observe), so its account is not cut: disable it by hand now", key.Subject)
	case only:
		fmt.Fprintln(a.err, "consumer: the consumer that runs only observes (run --observe) and cuts nobody: disable the account by hand")
		return nil
	case fl.wait <= 0:
		return nil
	}
	return a.watchCut(ctx, db, key, fl.wait)
}

// spoken finds the one person with this id of whom something was said. Of the owner of an account that is only unclaimed
// nothing is known by which they could be planned for or extended.
func spoken(r state.Reader, subject, issuer, to string) (state.SubjectKey, *state.Subject, error) {
	k, err := whose(r, subject, lockFlags{issuer: issuer, to: to})
	if err != nil {
		return k, nil, err
	}
	s, err := state.LoadSubject(r, k)
	if err != nil || s != nil {
		return k, s, err
	}
	came, err := state.RosterDone(r, k.Issuer)
	if err != nil {
		return k, nil, err
	}
	next := "the next roster speaks of them"
	if came {
		next = "no roster since has named them, so ask HR whether they left"
	}
	return k, nil, command.Misusef("nothing was said of subject %s since the database was made in place of a lost one, so there is nothing to %s: %s (their account is on `consumer unclaimed list`). To take their access now: `%s`", subject, to, next, command.Line("consumer cut", subject))
}

// whose finds the one person with this id.
func whose(r state.Reader, subject string, fl lockFlags) (state.SubjectKey, error) {
	if fl.issuer != "" {
		k := state.SubjectKey{Issuer: fl.issuer, Subject: subject}
		known, err := isKnown(r, k)
		if err != nil || known {
			return k, err
		}
		issuers, err := state.Issuers(r)
		switch { // a lock on somebody of a producer who does not exist would keep nobody out
		case err != nil:
			return k, err
		case len(issuers) > 0 && !slices.Contains(issuers, fl.issuer):
			return k, command.Misusef("nothing was done about subject %s: no stream of %s is followed; --issuer is one of %s", subject, fl.issuer, strings.Join(issuers, ", "))
		case !fl.unknown:
			return k, unknownSubject(subject, fl.to)
		}
		return k, nil
	}
	issuers, err := state.Issuers(r)
	if err != nil {
		return state.SubjectKey{}, err
	}
	var known []state.SubjectKey
	for _, iss := range issuers {
		k := state.SubjectKey{Issuer: iss, Subject: subject}
		yes, err := isKnown(r, k)
		if err != nil {
			return k, err
		}
		if yes {
			known = append(known, k)
		}
	}
	switch {
	case len(known) == 1:
		return known[0], nil
	case len(known) > 1:
		from := make([]string, len(known))
		for i, k := range known {
			from[i] = k.Issuer
		}
		return state.SubjectKey{}, command.Misusef("subject %s is known from %d producers, and is a person of each; say which with --issuer: %s", subject, len(known), strings.Join(from, ", "))
	case !fl.unknown:
		return state.SubjectKey{}, unknownSubject(subject, fl.to)
	case len(issuers) == 1:
		return state.SubjectKey{Issuer: issuers[0], Subject: subject}, nil
	}
	return state.SubjectKey{}, command.Usagef("--issuer: say which producer would speak of the subject")
}

// isKnown tells whether anything was ever said of a person, or an account of theirs was found when the database was
// made in place of a lost one.
func isKnown(r state.Reader, k state.SubjectKey) (bool, error) {
	s, err := state.LoadSubject(r, k)
	if err != nil || s != nil {
		return s != nil, err
	}
	return state.Bears(r, directory.Mark(k.Issuer, k.Subject))
}

func unknownSubject(subject, to string) error {
	if to == "cut" {
		return command.Misusef("nothing was ever said of subject %s, so nothing was cut: check the id (it is HR's, not a user name). To keep a later joiner out say --unknown", subject)
	}
	return command.Misusef("nothing was ever said of subject %s, so there is nothing to %s: check the id (it is HR's, not a user name)", subject, to)
}

// watchPoll is how often watchCut looks.
const watchPoll = 200 * time.Millisecond

// watchCut tells when the account is cut, or that it was not within the time.
func (a *app) watchCut(ctx context.Context, db *state.DB, key state.SubjectKey, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	tick := time.NewTicker(watchPoll)
	defer tick.Stop()
	for {
		s, err := state.LoadSubject(db.Read(), key)
		if err != nil {
			return err
		}
		known, err := knownOf(s)
		if err != nil {
			return err
		}
		if s != nil && (s.Lane == plan.Disable || s.Lane == plan.Revoke) {
			known = plan.Known{} // not looked at yet: what is known is of an earlier cut
		}
		switch {
		case known.IsCut():
			_, err := fmt.Fprintf(a.out, "Account %s: disabled at %s, sessions revoked at %s.\n", known.ID, stamp(known.DisabledAt), stamp(known.RevokedAt))
			return err
		case s != nil && known.ID == "" && s.Lane == plan.Idle:
			_, err := fmt.Fprintln(a.out, "There is no account of this person; none will be made.")
			return err
		case s != nil && s.Lane == plan.Idle && s.Note != "":
			return fmt.Errorf("the account of subject %s is held (%s): see `consumer holds list`, and disable it by hand now", key.Subject, s.Note)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.Canceled) {
				return ctx.Err()
			}
			return fmt.Errorf("subject %s is locked, but after %v its account is not known to be cut: see `consumer status`, and disable it by hand if it must be now", key.Subject, limit)
		}
	}
}

// knownOf is what the executor knows of a person's account; nothing where there is nobody.
func knownOf(s *state.Subject) (known plan.Known, err error) {
	if s == nil || len(s.Account) == 0 {
		return known, nil
	}
	if err := json.Unmarshal(s.Account, &known); err != nil {
		return known, fmt.Errorf("subject %s: read what is known of its account: %w", s.Subject, err)
	}
	return known, nil
}
