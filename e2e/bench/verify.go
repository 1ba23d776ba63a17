package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"jmlbridge/e2e/stage"
	"jmlbridge/internal/ledger/archive"
)

const (
	verifyGoal  = 1.5 // times the hashes and signatures alone
	verifyShare = 5   // one in so many of -people is hired and cut for it
)

// verifyRow lets the auditor verify the ledger of an enclave in which everybody was hired and cut. The limit is SHA-256 of
// the same octets, as they lie in the published folder, and the check of the signatures, on the same cores. Both are
// processor time: the auditor's is that of the whole process.
func verifyRow(ctx context.Context, o *options) (_ []*row, err error) {
	n := max(o.people/verifyShare, 1)
	ctx, cancel := context.WithTimeout(ctx, 3*stepTime)
	defer cancel()
	c, err := newCrowd(ctx, o, "verify", n, stage.Config{Writes: 1000}, "-latency", "0")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	if err := c.join(ctx); err != nil {
		return nil, err
	}
	if err := c.leave(ctx); err != nil {
		return nil, err
	}
	o.progress("verify: all of them cut")
	if err := c.counted(ctx, "everyone cut", `SELECT COUNT(*) FROM subject WHERE account ->> 'stripped_at' IS NOT NULL`); err != nil {
		return nil, err
	}
	if err := c.Stop(ctx); err != nil {
		return nil, err
	}
	l, err := readLedger(c.Ledger.Dir, c.Card)
	if err != nil {
		return nil, err
	}
	size, err := c.Ledger.Size()
	if err != nil {
		return nil, err
	}
	var ours, limit []spent
	for round := 0; round <= o.rounds; round++ { // round 0 warms up
		o.progress("verify: round %d of %d", round, o.rounds)
		var a, b spent
		if round%2 == 0 {
			if a, err = audit(ctx, c.Stage); err == nil {
				b, err = l.floor()
			}
		} else if b, err = l.floor(); err == nil {
			a, err = audit(ctx, c.Stage)
		}
		if err != nil {
			return nil, err
		}
		if round > 0 {
			ours, limit = append(ours, a), append(limit, b)
		}
	}
	cpu := func(s spent) time.Duration { return s.own.all() }
	wall := func(s spent) time.Duration { return s.wall }
	r := &row{Name: "verify", What: fmt.Sprintf("processor time of auditor verify over %s entries and %s messages, beside the hashes and signatures alone", thousands(size), thousands(int64(len(l.signed)))),
		Ours: seconds(middle(ours, cpu)), Limit: seconds(middle(limit, cpu)), Goal: fmt.Sprintf("≤ %.1f", verifyGoal)}
	r.Ratio = r.Ours.Value / r.Limit.Value
	r.Met = r.Ratio <= verifyGoal
	r.note("%s people hired and cut; %s octets published; %d rounds in turns", thousands(int64(n)), thousands(l.octets), o.rounds)
	r.note("on the clock %s beside %s on %d cores; the auditor's start is in both of its figures", short(middle(ours, wall)), short(middle(limit, wall)), runtime.GOMAXPROCS(0))
	return []*row{r}, nil
}

// middle is the median of one figure.
func middle(list []spent, of func(spent) time.Duration) time.Duration {
	var all []time.Duration
	for _, s := range list {
		all = append(all, of(s))
	}
	return median(all)
}

// audit runs the auditor over the whole ledger, which must verify.
func audit(ctx context.Context, s *stage.Stage) (spent, error) {
	cmd := exec.CommandContext(ctx, s.Programs.Auditor, "verify", s.Ledger.Dir, "--ledger-key", filepath.Join(s.AuditorDir, "ledger.vkey"), "--trust", s.Card,
		"--copy", filepath.Join(s.AuditorDir, stage.CheckpointCopy))
	begun := time.Now()
	if out, err := cmd.CombinedOutput(); err != nil {
		return spent{}, fmt.Errorf("auditor verify: %w\n%s", err, out)
	}
	return spent{wall: time.Since(begun), own: cpu{cmd.ProcessState.UserTime(), cmd.ProcessState.SystemTime()}}, nil
}

// evidence is a ledger in memory, with the key of its messages.
type evidence struct {
	files  [][]byte
	octets int64
	key    *ecdsa.PublicKey
	signed []signedOctets
}

type signedOctets struct {
	input []byte
	r, s  *big.Int
}

func readLedger(dir, card string) (*evidence, error) {
	l := new(evidence)
	text, err := os.ReadFile(card)
	if err != nil {
		return nil, err
	}
	var of struct{ Keys []struct{ Public string } }
	if err := json.Unmarshal(text, &of); err != nil || len(of.Keys) != 1 {
		return nil, fmt.Errorf("want a card with one key, got %q, %w", text, err)
	}
	block, _ := pem.Decode([]byte(of.Keys[0].Public))
	if block == nil {
		return nil, errors.New("want the card's key in PEM")
	}
	public, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	var ok bool
	if l.key, ok = public.(*ecdsa.PublicKey); !ok {
		return nil, fmt.Errorf("want an ECDSA key on the card, got %T", public)
	}
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		l.files, l.octets = append(l.files, data), l.octets+int64(len(data))
		return err
	})
	if err != nil {
		return nil, err
	}
	for line, err := range archive.Read(filepath.Join(dir, "archive")) {
		if err != nil {
			return nil, err
		}
		jws := []byte(line.JWS)
		dot := bytes.LastIndexByte(jws, '.')
		sig, err := base64.RawURLEncoding.DecodeString(line.JWS[dot+1:])
		if err != nil {
			return nil, err
		}
		half := len(sig) / 2
		l.signed = append(l.signed, signedOctets{jws[:dot], new(big.Int).SetBytes(sig[:half]), new(big.Int).SetBytes(sig[half:])})
	}
	if len(l.signed) == 0 {
		return nil, errors.New("the ledger's archive has no messages")
	}
	return l, nil
}

// floor hashes every octet and checks every signature, on all cores.
func (l *evidence) floor() (spent, error) {
	runtime.GC() // what an earlier round left is not this one's
	before, err := ownCPU()
	if err != nil {
		return spent{}, err
	}
	begun := time.Now()
	var bad atomic.Int64
	var wg sync.WaitGroup
	cores := runtime.GOMAXPROCS(0)
	for core := range cores {
		wg.Go(func() {
			for i := core; i < len(l.files); i += cores {
				sha256.Sum256(l.files[i])
			}
			for i := core; i < len(l.signed); i += cores {
				m := &l.signed[i]
				if digest := sha256.Sum256(m.input); !ecdsa.Verify(l.key, digest[:], m.r, m.s) {
					bad.Add(1)
				}
			}
		})
	}
	wg.Wait()
	s := spent{wall: time.Since(begun)}
	after, err := ownCPU()
	if s.own = after.minus(before); err == nil && bad.Load() > 0 {
		err = fmt.Errorf("%d of %d signatures do not verify", bad.Load(), len(l.signed))
	}
	return s, err
}
