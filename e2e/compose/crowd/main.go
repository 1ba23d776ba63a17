// Crowd sends people in waves across the bridge of docker-compose.yml, from a container that sees the files of both sides and has
// no network. Somebody else kills the others meanwhile. Each wave is an HR export in which some move, leave, take leave, come
// back or are hired again; the next one follows when the tenant is as the last one says.
//
// In the end it holds the two ledgers against each other, for every message that went out must have come in, lets the auditor
// verify the enclave's, and prints the whole tenant without ids and times, and how many accounts were ever made in it: two runs that
// print the same came to the same.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"jmlbridge/e2e/stage"
	"jmlbridge/internal/ledger/entry"
	"jmlbridge/schema"
)

const (
	// waveTime bounds one wave: a container that was killed is away for some seconds, and the machine may be slow.
	waveTime = 6 * time.Minute
	// lookEvery is how often the programs are asked, which takes a process each time.
	lookEvery = 500 * time.Millisecond
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx)
	stop()
	if err != nil {
		fmt.Fprintf(os.Stderr, "crowd: %v\n", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	dir := flag.String("dir", "/bridge", "`folder` with the volumes")
	bin := flag.String("bin", "/bin", "`folder` with the programs")
	waves := flag.Int("waves", 10, "how many exports")
	people := flag.Int("people", 40, "how many people")
	flag.Parse()
	s, err := stage.Attach(ctx, stage.Config{Dir: *dir, Programs: stage.In(*bin), Network: &stage.Network{MidPoint: "midpoint", Tenant: "tenant", Proxy: "egress:3128"}})
	if err != nil {
		return err
	}
	for wave := range *waves {
		fmt.Fprintf(os.Stderr, "wave %d\n", wave+1)
		if err := send(ctx, s, wave, *people); err != nil {
			return fmt.Errorf("wave %d: %w", wave+1, err)
		}
	}
	if err := crossed(ctx, s); err != nil {
		return err
	}
	return tell(ctx, s)
}

// crossed waits until both ledgers are published as far as the last message, and holds one against the other.
func crossed(ctx context.Context, s *stage.Stage) error {
	ctx, cancel := context.WithTimeout(ctx, waveTime)
	defer cancel()
	last, _, err := said(ctx, s)
	if err != nil {
		return err
	}
	return until(ctx, fmt.Sprintf("%d messages on both ledgers", last), func() (bool, error) {
		out, err := s.Sent.Entries(ctx, 0)
		if err != nil {
			return false, err
		}
		in, err := s.Ledger.Entries(ctx, 0)
		if err != nil {
			return false, err
		}
		came := make(map[schema.Digest]bool)
		for _, e := range in {
			if r, ok := e.Body.(*entry.Received); ok {
				switch r.Disposition {
				case entry.DispositionAdmitted, entry.DispositionGap, entry.DispositionFilled:
					came[r.Payload] = true
				}
			}
		}
		sent := uint64(0)
		for _, e := range out {
			m, ok := e.Body.(*entry.Sent)
			if !ok || m.Seq > last {
				continue
			}
			sent++
			if !came[m.Payload] {
				return false, nil // not yet
			}
		}
		if sent == last {
			fmt.Fprintf(os.Stderr, "%d messages went out, and each came in\n", sent)
		}
		return sent == last, nil
	})
}

// send imports the export of one wave and waits until all of it is done.
func send(ctx context.Context, s *stage.Stage, wave, people int) error {
	ctx, cancel := context.WithTimeout(ctx, waveTime)
	defer cancel()
	file := filepath.Join(s.Commercial, fmt.Sprintf("crowd-%d.csv", wave+1))
	if err := os.WriteFile(file, []byte(export(wave, people)), 0o600); err != nil {
		return err
	}
	if _, err := s.ProducerDo(ctx, "import", file); err != nil {
		return err
	}
	seq, _, err := said(ctx, s)
	if err != nil {
		return err
	}
	return until(ctx, "the consumer to have done all that was said", func() (bool, error) {
		_, waiting, err := said(ctx, s)
		if err != nil || waiting > 0 {
			return false, err
		}
		return done(ctx, s, seq)
	})
}

// until looks at a condition again and again until it holds.
func until(ctx context.Context, what string, holds func() (bool, error)) error {
	var next time.Time
	return stage.Until(ctx, what, func() (bool, error) {
		if time.Now().Before(next) {
			return false, nil
		}
		ok, err := holds()
		next = time.Now().Add(lookEvery)
		return ok, err
	})
}

// export is the HR file of a wave: what becomes of each person follows from the two numbers alone.
func export(wave, people int) string {
	roles := []string{"soc-analyst", "soc-lead", "on-call", "engineer", "soc-analyst;on-call"}
	rows := make([]stage.Row, people)
	for i := range rows {
		r := stage.Row{ID: fmt.Sprint(1000 + i), Given: "Worker", Family: fmt.Sprintf("N%d", i), Department: "SOC", Roles: roles[(i+wave/2)%len(roles)]}
		switch (i + wave) % 7 {
		case 4:
			r.Leave = "Yes"
		case 5, 6: // gone for two waves, then hired again
			r.Status, r.Reason = "Inactive", "Resigned"
		}
		rows[i] = r
	}
	return stage.Export(rows...)
}

// said is the last message of the producer's, and how many the mid-point has not confirmed.
func said(ctx context.Context, s *stage.Stage) (seq uint64, waiting int, err error) {
	r, err := s.ProducerDo(ctx, "status", "-o", "json")
	if err != nil {
		return 0, 0, err
	}
	var status struct {
		Enclaves []struct {
			Seq     uint64 `json:"seq"`
			Waiting int    `json:"waiting"`
		} `json:"enclaves"`
	}
	if err := json.Unmarshal([]byte(r.Stdout), &status); err != nil || len(status.Enclaves) != 1 {
		return 0, 0, fmt.Errorf("want the producer's status of one enclave, got %s: %w", r.Stdout, err)
	}
	return status.Enclaves[0].Seq, status.Enclaves[0].Waiting, nil
}

// done says whether the consumer has everything up to seq, and nothing left to do.
func done(ctx context.Context, s *stage.Stage, seq uint64) (bool, error) {
	r, err := s.ConsumerDo(ctx, "status", "-o", "json")
	if err != nil {
		return false, err
	}
	var status struct {
		Streams []struct {
			Head uint64 `json:"head"`
		} `json:"streams"`
		Backlog map[string]int64 `json:"backlog"`
		Open    int              `json:"open_intents"`
		Rosters []struct {
			State string `json:"state"`
		} `json:"rosters"`
	}
	if err := json.Unmarshal([]byte(r.Stdout), &status); err != nil {
		return false, fmt.Errorf("read the consumer's status: %w", err)
	}
	left := status.Open
	for _, n := range status.Backlog {
		left += int(n)
	}
	for _, x := range status.Rosters {
		if x.State == "verified" { // it is being applied
			left++
		}
	}
	return len(status.Streams) == 1 && status.Streams[0].Head >= seq && left == 0, nil
}

// tell prints what it came to.
func tell(ctx context.Context, s *stage.Stage) error {
	r, err := s.Verify(ctx)
	if err != nil {
		return errors.Join(fmt.Errorf("the auditor: %w", err), errors.New(r.Stdout))
	}
	text, err := s.Tenant.Comparable(ctx)
	if err != nil {
		return err
	}
	journal, err := s.Tenant.Journal(ctx, 0)
	if err != nil {
		return err
	}
	if len(journal) > 0 && journal[0].N > 1 {
		return fmt.Errorf("the tenant remembers its last %d requests only, and all are needed: give it a larger -journal-keep (CROWD_JOURNAL)", len(journal))
	}
	made := 0
	for _, e := range journal {
		for _, c := range e.Changes {
			if e.Applied && e.App != "" && c.Op == "create" {
				made++
			}
		}
	}
	fmt.Printf("%s\n%d accounts were made\n", text, made)
	return nil
}
