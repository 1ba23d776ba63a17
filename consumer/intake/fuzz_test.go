package intake

import (
	"bytes"
	"errors"
	"testing"

	"jmlbridge/internal/envelope"
	"jmlbridge/internal/store"
	"jmlbridge/schema"
)

// errUndo ends a transaction that was only to be looked at.
var errUndo = errors.New("undo")

// leavesATrace takes one message in, in a transaction that is undone, and wants an entry for it.
func leavesATrace(t *testing.T, w *world, it *item) {
	t.Helper()
	err := w.db.Update(t.Context(), func(tx *store.Tx) error {
		before, after := 0, 0
		if err := tx.QueryRow("SELECT COUNT(*) FROM ledger_entry").Scan(&before); err != nil {
			return err
		}
		if _, err := w.in.write(tx, []*item{it}); err != nil {
			return err
		}
		if err := tx.QueryRow("SELECT COUNT(*) FROM ledger_entry").Scan(&after); err != nil {
			return err
		}
		if after <= before {
			t.Error("want an entry on the ledger")
		}
		return errUndo
	})
	if !errors.Is(err, errUndo) {
		t.Errorf("want any message to be decided, got %v", err)
	}
}

// fuzzWorld has two messages admitted, 3 withheld and 4 waiting.
func fuzzWorld(f *testing.F) (w *world, p *producer, some []sealed) {
	w, p = setup(f)
	some = []sealed{p.joiner("1", 1, "a"), p.joiner("2", 1), p.leaver("1", 1), p.mover("2", 1, "b"), p.heartbeat()}
	w.give(some[0], some[1], some[3])
	return w, p, some
}

func FuzzWire(f *testing.F) {
	w, _, some := fuzzWorld(f)
	for _, m := range some {
		f.Add(m.wire)
		f.Add(m.wire[:len(m.wire)/2])
	}
	f.Add([]byte(nil))
	f.Add([]byte("a.b.c.d.e"))
	f.Fuzz(func(t *testing.T, wire []byte) {
		it := &item{body: wire}
		it.open(w.in.Ring, w.in.trust.keys())
		leavesATrace(t, w, it)
	})
}

// FuzzSigned lets a trusted key have signed any octets: what a mad producer or a stolen key could say.
func FuzzSigned(f *testing.F) {
	w, p, _ := fuzzWorld(f)
	payloads := [][]byte{}
	keep := func(b []byte) []byte { payloads = append(payloads, bytes.Clone(b)); return b }
	before := *p
	for _, say := range []func(){
		func() { p.joiner("3", 40, "a") },
		func() { p.mover("2", 1, "a") },
		func() { p.leaver("2", 1) },
		func() {
			p.say("2", &schema.Suspend{Engagement: 1, Effective: schema.At(t0), Reason: schema.ReasonLeave})
		},
		func() {
			p.heartbeat(schema.CutNotice{Subject: "2", Engagement: 1, Kind: schema.KindSuspend, Effective: schema.At(t0), Seq: 2})
		},
	} {
		for _, at := range []struct {
			seq  uint64
			prev schema.Digest
		}{{2, w.stream().HeadHash}, {3, before.prev}, {schema.MaxSeq - 2, before.prev}} {
			*p = before
			p.seq, p.prev, p.edit = at.seq, at.prev, keep
			say()
		}
	}
	for _, b := range payloads {
		f.Add(b)
		f.Add(bytes.Replace(b, []byte(`:v1"`), []byte(`:v9"`), 1))
		f.Add(bytes.Replace(b, []byte(`"generation":1`), []byte(`"generation":7`), 1))
	}
	kid := p.signer.KID()
	f.Fuzz(func(t *testing.T, payload []byte) {
		if len(payload) == 0 || len(payload) > schema.MaxPayload {
			t.Skip("package envelope opens no such thing")
		}
		d := schema.DigestOf(payload)
		it := &item{body: payload, wire: d, kid: kid, opened: &envelope.Opened{Payload: payload, JWS: payload, PayloadDigest: d, WireDigest: d}}
		it.read(payload)
		leavesATrace(t, w, it)
	})
}
