// Package sim plays one schedule of the bridge against an adversary: the real outbox, the real intake and the
// real executor on real databases, between them a mid-point that does what it likes, behind them a tenant that
// throttles, lags and loses answers, and package model as the judge of every step.
//
// Everything happens on one goroutine and on a clock that the schedule moves, so that a seed says all of it.
// A crash ends the program wherever it calls out: at a look at the clock, a line of its log, a commit, a call
// to the tenant or the queue. What its database then holds is what was durable, and of the commit under way
// any part.
package sim

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"time"

	"jmlbridge/consumer/admit"
	"jmlbridge/consumer/policy"
	"jmlbridge/consumer/state"
	"jmlbridge/internal/envelope"
	"jmlbridge/internal/envelope/seal"
	"jmlbridge/internal/keys"
	"jmlbridge/internal/store"
	"jmlbridge/producer/outbox"
	"jmlbridge/schema"
)

const (
	stream  = "hr"
	enclave = "urn:jmlbridge:enclave:gov-1"
	other   = "urn:jmlbridge:enclave:gov-2"
)

// issuers are the producers' names. They speak of people by the same ids, who are not the same people.
var issuers = [...]string{"https://iam.mssp.example/jml", "https://hr.partner.example/jml"}

// lease is the policy's own default: how long access outlives the last word on a person.
const lease = 7 * 24 * time.Hour

var (
	epoch = time.Date(2026, 11, 23, 4, 0, 0, 0, time.UTC)

	soc  = "11111111-1111-4111-8111-111111111111"
	lead = "22222222-2222-4222-8222-222222222222"

	// roles is the policy in the model's words.
	roles = map[string][]string{"analyst": {soc}, "lead": {lead, soc}, "guest": nil}
)

// Lab is what all schedules share: keys, and databases as they are on their first day. One goroutine uses it
// at a time.
type Lab struct {
	dir      string
	signers  []*seal.Signer // two of each producer, one after the other; then a stranger's and an approver's
	public   [][]byte       // PKIX, DER
	kids     []string
	to       *seal.Recipient
	toOther  *seal.Recipient
	ring     *envelope.Ring
	consumer string   // database files: of an enclave that trusts the first producer,
	second   string   // of one that trusts the first producer and its second signer,
	blank    string   // of one that trusts nobody,
	producer []string // and of the producers

	signed map[string][]byte // payloads of this schedule, by their jti
	keyOf  map[string]int    // which key signed them
}

// witness is a key that notes what it signs.
type witness struct {
	ed25519.PrivateKey
	l *Lab
	n int
}

func (k witness) Sign(rand io.Reader, message []byte, opts crypto.SignerOpts) ([]byte, error) {
	if _, middle, ok := bytes.Cut(message, []byte(".")); ok && k.l.signed != nil {
		if payload, err := base64.RawURLEncoding.AppendDecode(nil, middle); err == nil {
			_, rest, _ := bytes.Cut(payload, []byte(`"jti":"`))
			id, _, _ := bytes.Cut(rest, []byte(`"`))
			k.l.signed[string(id)], k.l.keyOf[string(id)] = payload, k.n
		}
	}
	return k.PrivateKey.Sign(rand, message, opts)
}

// Keys of a producer.
const (
	firstKey, nextKey = 0, 1
	keysEach          = 2
	strangersKey      = keysEach * len(issuers)
	approversKey      = strangersKey + 1
)

// NewLab makes one whose databases lie under dir: best on a file system in memory, since every commit is
// synchronous.
func NewLab(dir string) (*Lab, error) {
	l := &Lab{}
	var err error
	if l.dir, err = os.MkdirTemp(dir, "adversary"); err != nil {
		return nil, err
	}
	if err := l.fill(); err != nil {
		return nil, fmt.Errorf("prepare the databases: %w", err)
	}
	return l, nil
}

// Close removes what the lab left on disk.
func (l *Lab) Close() error { return os.RemoveAll(l.dir) }

func (l *Lab) fill() error {
	for i := range approversKey + 1 {
		bits := sha256.Sum256(fmt.Appendf(nil, "signing key %d", i)) // the same in every run
		key := ed25519.NewKeyFromSeed(bits[:])
		signer, err := seal.NewSigner(witness{key, l, i})
		if err != nil {
			return err
		}
		der, err := x509.MarshalPKIXPublicKey(key.Public())
		if err != nil {
			return err
		}
		l.signers, l.public, l.kids = append(l.signers, signer), append(l.public, der), append(l.kids, signer.KID())
	}
	ours, err := keys.GenerateDecryption(keys.P256)
	if err != nil {
		return err
	}
	theirs, err := keys.GenerateDecryption(keys.P256)
	if err != nil {
		return err
	}
	if l.ring, err = envelope.NewRing(ours); err != nil {
		return err
	}
	if l.to, err = seal.NewRecipient(ours.Public()); err != nil {
		return err
	}
	if l.toOther, err = seal.NewRecipient(theirs.Public()); err != nil {
		return err
	}
	l.blank, l.consumer, l.second = filepath.Join(l.dir, "blank.db"), filepath.Join(l.dir, "trusting.db"), filepath.Join(l.dir, "second.db")
	if err := state.Create(l.blank, enclave, epoch); err != nil {
		return err
	}
	first := l.key(0, firstKey)
	approver := &state.Key{Public: l.public[approversKey], Key: admit.Key{Issuer: issuers[0], Stream: approvals, Kinds: []schema.Kind{schema.KindApproval}}}
	for path, list := range map[string][]*state.Key{l.consumer: {first}, l.second: {first, approver}} {
		if err := copyFile(path, l.blank, math.MaxInt64); err != nil {
			return err
		}
		if err := firstDay(path, list); err != nil {
			return err
		}
	}
	for i, issuer := range issuers {
		l.producer = append(l.producer, filepath.Join(l.dir, fmt.Sprintf("producer-%d.db", i)))
		if err := producersFirstDay(l.producer[i], issuer); err != nil {
			return err
		}
	}
	return nil
}

// firstDay trusts keys.
func firstDay(path string, list []*state.Key) error {
	db, err := state.Open(path)
	if err != nil {
		return err
	}
	err = db.Update(context.Background(), func(tx *store.Tx) error {
		for _, k := range list {
			if err := state.TrustKey(tx, k, state.Pin{}, by(epoch)); err != nil {
				return err
			}
		}
		return nil
	})
	return errors.Join(err, db.Close())
}

// key is one of a producer's keys.
func (l *Lab) key(producer, i int) *state.Key {
	return &state.Key{Public: l.public[producer*keysEach+i], Key: admit.Key{Issuer: issuers[producer], Stream: stream, Kinds: schema.ProducerKinds}}
}

func by(now time.Time) state.By { return state.By{Login: "operator", Reason: "the schedule", Now: now} }

func producersFirstDay(path, issuer string) error {
	if err := store.Create(path, outbox.Schema); err != nil {
		return err
	}
	db, err := store.Open(path, outbox.Schema)
	if err != nil {
		return err
	}
	err = outbox.Init(context.Background(), db, issuer, stream, []string{enclave}, epoch)
	return errors.Join(err, db.Close())
}

// newPolicy is the enclave's policy with these limits on effects in an hour, and this time until a leaver's account
// is deleted. Of two signers, who leads takes both.
func newPolicy(give, cut int, grace time.Duration, second bool) (*policy.Policy, error) {
	approval := ""
	if second {
		approval = ", approval: required"
	}
	return policy.Parse("policy.yaml", fmt.Appendf(nil, `version: 1
upn: {template: "{alias}", domain: rehearsal.example}
usage_location: US
grace: %s
groups: {soc: {id: %s}, lead: {id: %s}}
roles: {analyst: {groups: [soc]}, lead: {groups: [soc, lead]%s}, guest: {groups: []}}
protected: [breakglass@rehearsal.example]
limits: {give_per_hour: %d, cut_per_hour: %d, take_per_hour: %d, urgent_per_hour: 1, cut_hold: 30m}
`, grace, soc, lead, approval, give, cut, cut))
}
