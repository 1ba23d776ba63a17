package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
)

// report is what `producer import -o json` says.
type report struct {
	Rows, Accepted int
	Refused        []struct {
		Line                    int
		Column, Subject, Reason string
	}
	Held []struct {
		Subject string
		Lines   []int
		Reason  string
	}
	Enclaves []struct {
		Changes []struct {
			Subject    string
			Lines      []int
			Events     []string
			Engagement int
		}
	}
}

// announce hands an export to the producer and shows what it made of it.
func (f *follower) announce(ctx context.Context, file string, people []*person) error {
	f.people, f.announced, f.did = map[string]*person{}, map[uint64]string{}, map[string]map[string]bool{}
	for _, p := range people {
		f.people[p.id] = p
		f.did[p.id] = map[string]bool{}
	}
	f.logMark = f.Producer.Mark()
	f.began = time.Now()
	res, err := f.ProducerDo(ctx, "import", file, "-o", "json")
	if err != nil {
		return err
	}
	var r report
	if err := json.Unmarshal([]byte(res.Stdout), &r); err != nil || len(r.Enclaves) != 1 {
		return fmt.Errorf("read the import's report: %w", cmp.Or(err, errors.New("want one enclave in it")))
	}
	done := time.Now()
	for _, x := range r.Refused {
		f.show(step{at: done, subject: x.Subject, stage: "refused", text: fmt.Sprintf("line %d, %s: %s", x.Line, x.Column, x.Reason)})
	}
	for _, x := range r.Held {
		f.show(step{at: done, subject: x.Subject, stage: "held", text: fmt.Sprintf("lines %s: %s", join(x.Lines, " and "), x.Reason)})
	}
	for _, l := range res.Lines() {
		if l.Msg() == "announced" {
			seq := uint64(l.Int("seq"))
			f.announced[seq] = l.String("subject")
		}
	}
	for _, c := range r.Enclaves[0].Changes {
		f.show(step{at: done, subject: c.Subject, stage: sFact, text: f.fact(c.Subject, strings.Join(c.Events, " + ")), ref: "line " + join(c.Lines, "+")})
	}
	return nil
}

func join(list []int, sep string) string {
	var b strings.Builder
	for i, n := range list {
		if i > 0 {
			b.WriteString(sep)
		}
		fmt.Fprint(&b, n)
	}
	return b.String()
}

// fact says in words what HR's row says.
func (f *follower) fact(subject, kind string) string {
	p := f.people[subject]
	if p == nil {
		return kind
	}
	switch p.fate {
	case joins:
		return kind + ": " + p.role
	case moves:
		return kind + ": " + p.roleWas + " -> " + p.role
	case leaves:
		return kind + ": " + strings.ToLower(p.row.Reason)
	case suspended:
		return kind + ": on leave"
	}
	return kind
}
