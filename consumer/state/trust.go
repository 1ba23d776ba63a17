package state

import (
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	jose "github.com/go-jose/go-jose/v4"

	"jmlbridge/consumer/admit"
	"jmlbridge/internal/keys"
	"jmlbridge/internal/ledger"
	"jmlbridge/internal/ledger/entry"
	"jmlbridge/internal/store"
	"jmlbridge/schema"
)

// Key is a signing key that an operator trusts.
type Key struct {
	KID       string
	Alg       keys.Alg
	Public    []byte // PKIX, DER
	AddedAt   time.Time
	admit.Key // what it may say
}

// Pin says where a stream is joined: at seq 1 of a generation, or after the message at Head whose payload
// has the digest Hash. The zero value is seq 1 of generation 1.
type Pin struct {
	Generation int
	Head       uint64
	Hash       schema.Digest
}

// By is who changed what is trusted, when and why.
type By struct {
	Login  string // of the operating system
	Reason string
	Now    time.Time
}

// TrustKey trusts k, opens its stream at pin where no key of that stream was trusted before, and puts both
// on the ledger. For a stream that is followed already pin must be zero. A key that is there already is
// an error: what a key may say is not widened silently.
func TrustKey(tx *store.Tx, k *Key, pin Pin, by By) error {
	if len(k.Kinds) == 0 {
		return errors.New("want at least one kind of event that the key may sign")
	}
	names := make([]string, 0, len(k.Kinds))
	for _, kind := range k.Kinds {
		if !slices.Contains(schema.Kinds, kind) {
			return fmt.Errorf("want kinds of event among %v, got %q", schema.Kinds, kind)
		}
		names = append(names, string(kind))
	}
	pub, err := x509.ParsePKIXPublicKey(k.Public)
	if err != nil {
		return fmt.Errorf("trust key: %w", err)
	}
	if k.KID, err = keys.ID(pub); err != nil {
		return fmt.Errorf("trust key: %w", err)
	}
	if k.Alg, err = keys.SigningAlg(pub); err != nil {
		return fmt.Errorf("trust key: %w", err)
	}
	if err := oneVoice(tx, k); err != nil {
		return err
	}
	if err := ownStream(tx, k); err != nil {
		return err
	}
	jwk, err := jose.JSONWebKey{Key: pub}.MarshalJSON()
	if err != nil {
		return fmt.Errorf("trust key: %w", err)
	}
	k.AddedAt = by.Now
	res, err := tx.Exec(`INSERT INTO trusted_key (kid, iss, stream, alg, public, kinds, not_before, not_after, state, added_at)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, 'active', ?) ON CONFLICT DO NOTHING`,
		k.KID, k.Issuer, k.Stream, string(k.Alg), k.Public, strings.Join(names, ","), ms(k.NotBefore), ms(k.NotAfter), ms(by.Now))
	if err != nil {
		return fmt.Errorf("trust key: %w", err)
	}
	if n, _ := res.RowsAffected(); n == 0 {
		return fmt.Errorf("key %s is there already; retire it and use a new one to change what it may say", k.KID)
	}
	t := entry.Trust{Action: entry.TrustAdd, Key: k.KID, Use: entry.UseSign, Issuer: k.Issuer, Stream: k.Stream, Alg: string(k.Alg), Events: names,
		JWK: string(jwk), By: by.Login, Reason: entry.Text(by.Reason)}
	if !k.NotBefore.IsZero() {
		t.NotBefore = entry.InstantAt(k.NotBefore)
	}
	if !k.NotAfter.IsZero() {
		t.NotAfter = entry.InstantAt(k.NotAfter)
	}
	latest, err := latestGeneration(tx, k.Issuer, k.Stream)
	switch {
	case err != nil:
		return err
	case latest == 0:
		if pin.Generation == 0 {
			pin.Generation = 1
		}
		if err := openGeneration(tx, k.Issuer, k.Stream, pin, by.Now); err != nil {
			return err
		}
		pinned(&t, pin)
	case pin != Pin{}:
		return fmt.Errorf("stream %s of %s is followed already, in generation %d; give no start with another key of it", k.Stream, k.Issuer, latest)
	}
	return record(tx, by.Now, &t)
}

// oneVoice refuses a second stream in which an issuer would speak of people: facts about one person are
// ordered by their place in one stream.
func oneVoice(r Reader, k *Key) error {
	if !k.speaksOfPeople() {
		return nil
	}
	list, err := Keys(r)
	if err != nil {
		return err
	}
	for _, o := range list {
		if o.Issuer == k.Issuer && o.Stream != k.Stream && o.speaksOfPeople() {
			return fmt.Errorf("stream %s of %s speaks of people already, by key %s; want one such stream of an issuer. Give this key other kinds (approval, heartbeat)", o.Stream, o.Issuer, o.KID)
		}
	}
	return nil
}

// ownStream refuses a key by which one person could say a fact and approve it: whoever approves signs nothing else, in
// a stream that has nothing else.
func ownStream(r Reader, k *Key) error {
	approves := k.May(schema.KindApproval)
	if approves && len(k.Kinds) > 1 {
		return fmt.Errorf("want a key that signs approvals to sign nothing else, got %v", k.Kinds)
	}
	list, err := Keys(r)
	if err != nil {
		return err
	}
	for _, o := range list {
		if o.Issuer == k.Issuer && o.Stream == k.Stream && o.May(schema.KindApproval) != approves {
			return fmt.Errorf("stream %s of %s has key %s, which signs %v: want approvals in a stream of their own", o.Stream, o.Issuer, o.KID, o.Kinds)
		}
	}
	return nil
}

func (k *Key) speaksOfPeople() bool {
	for _, kind := range []schema.Kind{schema.KindJoiner, schema.KindMover, schema.KindLeaver, schema.KindSuspend, schema.KindResume, schema.KindRoster} {
		if k.May(kind) {
			return true
		}
	}
	return false
}

// RetireKey makes a key good up to a point of its stream, and for nothing where the point is zero. It may
// be brought forward again to an earlier point, never to a later one.
func RetireKey(tx *store.Tx, kid string, last admit.Point, by By) error {
	k, err := KeyByID(tx, kid)
	if err != nil {
		return err
	}
	if r := k.Retired; r != nil && (last.Generation > r.Generation || last.Generation == r.Generation && last.Seq > r.Seq) {
		return fmt.Errorf("key %s was retired or revoked already, at generation %d, seq %d: no more than that of it is believed, so nothing is left to do. It cannot be made good for more again", kid, r.Generation, r.Seq)
	}
	_, err = k.end(tx, last, last, entry.TrustRetire, by)
	return err
}

// RevokeKey makes a key good up to a point of its stream, or less where it was retired before that, since from there
// on it was not its owner's. It returns the entry that says so.
func RevokeKey(tx *store.Tx, k *Key, last admit.Point, by By) (index int64, err error) {
	good := last
	if r := k.Retired; r != nil && (r.Generation < last.Generation || r.Generation == last.Generation && r.Seq < last.Seq) {
		good = *r
	}
	return k.end(tx, good, last, entry.TrustRevoke, by)
}

func (k *Key) end(tx *store.Tx, good, said admit.Point, action string, by By) (index int64, err error) {
	if _, err = tx.Exec(`UPDATE trusted_key SET state = 'retired', retired_generation = ?, retired_seq = ? WHERE kid = ?`, good.Generation, int64(good.Seq), k.KID); err != nil {
		return 0, fmt.Errorf("retire key: %w", err)
	}
	return ledger.Append(tx, entry.New(by.Now, &entry.Trust{Action: action, Key: k.KID, Use: entry.UseSign, Issuer: k.Issuer, Stream: k.Stream,
		Generation: said.Generation, AtSeq: said.Seq, By: by.Login, Reason: entry.Text(by.Reason)}))
}

// TrustGeneration follows a later generation of a stream, and puts that on the ledger. Earlier ones are
// closed: they may still cut, and give nothing more.
func TrustGeneration(tx *store.Tx, iss, stream string, pin Pin, by By) error {
	latest, err := latestGeneration(tx, iss, stream)
	if err != nil {
		return err
	}
	if latest == 0 {
		return fmt.Errorf("no key of stream %s of %s is trusted; add one first", stream, iss)
	}
	if pin.Generation <= latest {
		return fmt.Errorf("generation %d of stream %s is followed already; want a later one than %d", pin.Generation, stream, latest)
	}
	if err := openGeneration(tx, iss, stream, pin, by.Now); err != nil {
		return err
	}
	was := Stream{Issuer: iss, Name: stream}
	was.Generation = latest
	for _, code := range []admit.Code{admit.CodeGap, admit.CodeNewerVersion, admit.CodeFork} { // nothing of it is waited for any more
		if _, err := ClearAlarm(tx, string(code), was.AlarmKey(), by.Now); err != nil {
			return err
		}
	}
	t := entry.Trust{Action: entry.TrustGeneration, Issuer: iss, Stream: stream, By: by.Login, Reason: entry.Text(by.Reason)}
	pinned(&t, pin)
	return record(tx, by.Now, &t)
}

func pinned(t *entry.Trust, pin Pin) {
	t.Generation, t.AtSeq = pin.Generation, pin.Head+1
	if pin.Head > 0 {
		t.Head = &pin.Hash
	}
}

func record(tx *store.Tx, now time.Time, body entry.Body) error {
	_, err := ledger.Append(tx, entry.New(now, body))
	return err
}

// KeyByID returns one key. The error wraps ErrNotFound where there is none.
func KeyByID(r Reader, kid string) (*Key, error) {
	list, err := listKeys(r, ` WHERE kid = ?`, kid)
	if err == nil && len(list) == 0 {
		err = fmt.Errorf("key %s: %w", kid, ErrNotFound)
	}
	if err != nil {
		return nil, err
	}
	return list[0], nil
}

// Voiceless lists the streams that are followed and of which no key may say anything more, or nothing of leavers where one
// could: whatever comes of such a stream is refused.
func Voiceless(r Reader, now time.Time) (list []*Stream, err error) {
	keys, err := Keys(r)
	if err != nil {
		return nil, err
	}
	streams, err := Streams(r)
	if err != nil {
		return nil, err
	}
	for _, s := range streams {
		var good, ofLeavers, goodForLeavers bool
		for _, k := range keys {
			if k.Issuer != s.Issuer || k.Stream != s.Name {
				continue
			}
			may := k.believedAfter(s, now)
			good, ofLeavers = good || may, ofLeavers || k.May(schema.KindLeaver)
			goodForLeavers = goodForLeavers || may && k.May(schema.KindLeaver)
		}
		if s.State != admit.Closed && (!good || ofLeavers && !goodForLeavers) {
			list = append(list, s)
		}
	}
	return list, nil
}

// givenUpAfter is for how long nothing is heard of a stream that is given up.
const givenUpAfter = 24 * time.Hour

// Missed lists those of [Voiceless] of which somebody has to hear: not one that is given up, since it was silent for a day and
// nobody of its issuer has access, who could leave; nor one of approvals where another stream of the issuer has them now.
func Missed(r Reader, now time.Time) (list []*Stream, err error) {
	silent, err := Voiceless(r, now)
	if err != nil || len(silent) == 0 {
		return nil, err
	}
	keys, err := Keys(r)
	if err != nil {
		return nil, err
	}
	streams, err := Streams(r)
	if err != nil {
		return nil, err
	}
	for _, s := range silent {
		approves := func(s *Stream, good bool) bool {
			return slices.ContainsFunc(keys, func(k *Key) bool {
				return k.Issuer == s.Issuer && k.Stream == s.Name && k.May(schema.KindApproval) && (!good || k.believedAfter(s, now))
			})
		}
		if approves(s, false) && slices.ContainsFunc(streams, func(o *Stream) bool {
			return o.Issuer == s.Issuer && o.Name != s.Name && o.State != admit.Closed && approves(o, true)
		}) {
			continue
		}
		heard := s.OpenedAt
		for _, at := range []time.Time{s.HeartbeatAt, s.ReceivedAt} {
			if at.After(heard) {
				heard = at
			}
		}
		if now.Sub(heard) >= givenUpAfter {
			if inside, err := anybodyInside(r, s.Issuer, now); err != nil {
				return nil, err
			} else if !inside {
				continue
			}
		}
		list = append(list, s)
	}
	return list, nil
}

// anybodyInside reports whether anybody of an issuer has access, or an account that may be open.
func anybodyInside(r Reader, iss string, now time.Time) (yes bool, err error) {
	err = EachSubject(r, func(s *Subject) error {
		if s.Issuer != iss {
			return nil
		}
		known, err := s.Known()
		if yes = err != nil || s.Doc.At(now).Access || known.MayBeOpen(); yes {
			return errEnough
		}
		return nil
	})
	if err == errEnough {
		err = nil
	}
	return yes, err
}

// believedAfter reports whether a message past the head of its stream may bear k.
func (k *Key) believedAfter(s *Stream, now time.Time) bool {
	if r := k.Retired; r != nil && (r.Generation < s.Generation || r.Generation == s.Generation && r.Seq <= s.Head) {
		return false
	}
	return k.NotAfter.IsZero() || !now.After(k.NotAfter)
}

// Keys lists every key, retired ones too.
func Keys(r Reader) ([]*Key, error) { return listKeys(r, ` ORDER BY iss, stream, added_at, kid`) }

func listKeys(r Reader, where string, args ...any) (list []*Key, err error) {
	err = each(r, func(scan func(...any) error) error {
		k := new(Key)
		var alg, kinds, state string
		var p admit.Point
		if err := scan(&k.KID, &k.Issuer, &k.Stream, &alg, &k.Public, &kinds, instant{&k.NotBefore}, instant{&k.NotAfter}, &state, &p.Generation, &p.Seq, instant{&k.AddedAt}); err != nil {
			return err
		}
		k.Alg = keys.Alg(alg)
		for name := range strings.SplitSeq(kinds, ",") {
			k.Kinds = append(k.Kinds, schema.Kind(name))
		}
		if state != "active" {
			k.Retired = &p
		}
		list = append(list, k)
		return nil
	}, `SELECT kid, iss, stream, alg, public, kinds, not_before, not_after, state, retired_generation, retired_seq, added_at FROM trusted_key`+where, args...)
	if err != nil {
		return nil, fmt.Errorf("read trusted keys: %w", err)
	}
	return list, nil
}
