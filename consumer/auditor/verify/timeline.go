package verify

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/mod/sumdb/note"

	"jmlbridge/internal/ledger/entry"
	"jmlbridge/internal/ledger/tiles"
)

// Event is one line of a person's timeline: an entry that names the person.
type Event struct {
	Entry  int64        `json:"entry"`
	Time   entry.Moment `json:"time"`
	Kind   entry.Kind   `json:"kind"`
	Issuer string       `json:"iss,omitempty"`
	Text   string       `json:"text"`
	Body   entry.Body   `json:"body"`
}

// Timeline passes every entry about a subject to each, in order. Every one is proved to be under the
// signed root; a *ProofError says that one is not. issuer may be empty: any. An entry that names the persons of
// several issuers who have the subject id is passed once for each.
func Timeline(ctx context.Context, dir, ledgerKey, issuer, subject string, each func(Event) error) error {
	verifier, err := note.NewVerifier(ledgerKey)
	if err != nil {
		return fmt.Errorf("want a ledger key like name+hash+key on one line: %w", err)
	}
	dir = filepath.Join(dir, tilesFolder)
	raw, err := os.ReadFile(filepath.Join(dir, tiles.CheckpointFile))
	if err != nil {
		return fmt.Errorf("read the ledger's checkpoint: %w", err)
	}
	reader, err := tiles.OpenReaderAt(dir, raw, verifier)
	if err != nil {
		return &ProofError{err}
	}
	p := newPipe(ctx, func(emit func([]tiles.Leaf) bool) error { return batches(reader.Entries(ctx, 0), emit) }, decode)
	defer p.close()
	intents := map[int64]*entry.Intent{} // of the person: an outcome is told in their words
	for {
		batch, ok, err := p.next(ctx)
		if err != nil && ctx.Err() == nil {
			return &ProofError{err}
		}
		if err != nil || !ok {
			return err
		}
		for i := range batch {
			d := &batch[i]
			if d.err != nil {
				return &ProofError{fmt.Errorf("entry %d: %w", d.index, d.err)}
			}
			list := about(d.entry.Body, subject)
			if in, ok := d.entry.Body.(*entry.Intent); ok && len(list) > 0 {
				intents[d.index] = in
			}
			for _, iss := range list {
				if issuer != "" && iss != "" && iss != issuer {
					continue
				}
				e := Event{Entry: d.index, Time: entry.At(d.entry.Time), Kind: d.entry.Body.Kind(), Issuer: iss, Text: tell(d.entry.Body, intents), Body: d.entry.Body}
				if err := each(e); err != nil {
					return err
				}
			}
		}
	}
}

// ProofError says that the ledger does not verify.
type ProofError struct{ err error }

func (e *ProofError) Error() string { return "the ledger does not verify: " + e.err.Error() }
func (e *ProofError) Unwrap() error { return e.err }

// about is of which issuers an entry names the subject; an empty one where it does not say.
func about(b entry.Body, subject string) (issuers []string) {
	named := func(issuer, s string) {
		if s == subject {
			issuers = append(issuers, issuer)
		}
	}
	switch b := b.(type) {
	case *entry.Received:
		named(b.Issuer, b.Subject)
	case *entry.Sent:
		named(b.Issuer, b.Subject)
	case *entry.Superseded:
		named(b.Issuer, b.Subject)
	case *entry.Intent:
		named(b.Issuer, b.Subject)
	case *entry.Outcome:
		named(b.Issuer, b.Subject)
	case *entry.Operator:
		named(b.Issuer, b.Subject)
	case *entry.Lease:
		named(b.Issuer, b.Subject)
	case *entry.Alarm:
		named(b.Issuer, b.Subject)
	case *entry.Observed:
		if b.Account != nil {
			named(b.Account.Issuer, b.Account.Subject)
		}
	case *entry.Held:
		for _, w := range b.Subjects {
			named(w.Issuer, w.Subject)
		}
	}
	return issuers
}

func tell(b entry.Body, intents map[int64]*entry.Intent) string {
	var s []string
	add := func(format string, args ...any) { s = append(s, fmt.Sprintf(format, args...)) }
	switch b := b.(type) {
	case *entry.Received:
		add("%s %s, engagement %d, message %d.%d of %s", b.Disposition, b.Event, b.Engagement, b.Generation, b.Seq, b.Stream)
		tellTimes(add, &b.Message)
		if b.Code != "" {
			add("code %s", b.Code)
		}
	case *entry.Sent:
		add("%s, engagement %d, message %d.%d of %s to %s", b.Event, b.Engagement, b.Generation, b.Seq, b.Stream, b.Audience)
		tellTimes(add, &b.Message)
	case *entry.Superseded:
		add("what was said of the %s fence was void before it came", b.Fence)
	case *entry.Intent:
		var ops []string
		for _, o := range b.Ops {
			op := o.Op
			if o.Target != "" {
				op += " " + o.Target
			}
			ops = append(ops, op)
		}
		verb := "to do: "
		if b.Observe {
			verb = "would do: "
		}
		add("%s%s", verb, strings.Join(ops, ", "))
		cause := "because of " + b.Cause.Type
		if p := b.Cause.Position; p != nil {
			cause += fmt.Sprintf(" %d.%d", p.Generation, p.Seq)
		}
		add("%s%s", cause, prefixed(", ", b.Cause.Code))
		if b.Attempt > 1 {
			add("attempt %d", b.Attempt)
		}
	case *entry.Outcome:
		in := intents[b.Intent]
		for i, r := range b.Results {
			op := fmt.Sprintf("operation %d", r.N)
			if in != nil && i < len(in.Ops) {
				op = in.Ops[i].Op
			}
			ids := ""
			for _, q := range r.Requests {
				if q.Server != "" {
					ids = ", request-id " + q.Server
				}
			}
			add("%s %s%s%s", op, r.Result, prefixed(" ", r.Code), ids)
		}
		if b.Account != "" {
			add("account %s", b.Account)
		}
	case *entry.Operator:
		if f := b.First; f != nil {
			add("%s by %s at %s%s, on an earlier ledger", b.Action, f.By, f.At, prefixed(": ", b.Reason))
			add("recovered by %s", b.By)
			break
		}
		add("%s by %s%s%s", b.Action, b.By, prefixed(" of ", b.Target), prefixed(": ", b.Reason))
		if b.Effective != nil {
			add("effective %s", b.Effective)
		}
	case *entry.Lease:
		add("lease %s", b.Action)
	case *entry.Alarm:
		add("alarm %s %s%s", b.Code, b.State, prefixed(": ", b.Detail))
	case *entry.Observed:
		add("account%s is %s%s", prefixed(" ", b.Account.Account), b.Account.State, prefixed(", ", b.Account.Code))
		if b.Account.Since != nil {
			add("since %s, on an earlier ledger", b.Account.Since)
		}
	case *entry.Held:
		add("held: %s, hold %s", b.Code, b.Hold)
	}
	return strings.Join(s, "; ")
}

func tellTimes(add func(string, ...any), m *entry.Message) {
	if m.Occurred != nil {
		add("true since %s", m.Occurred)
	}
	if m.Effective != nil {
		add("effective %s", m.Effective)
	}
}
