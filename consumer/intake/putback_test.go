package intake

import (
	"crypto/ed25519"
	"slices"
	"testing"

	"jmlbridge/consumer/admit"
	"jmlbridge/consumer/auditor/verify"
	"jmlbridge/consumer/recall"
	"jmlbridge/consumer/ruling"
	"jmlbridge/consumer/state"
	"jmlbridge/internal/keys"
	"jmlbridge/internal/ledger"
	"jmlbridge/internal/ledger/entry"
	"jmlbridge/internal/ledger/tiles"
	"jmlbridge/internal/store"
	"jmlbridge/schema"
)

// covered is a stream in which one roster of a thief, taken far ahead, stands in for what the producer is still to say.
//
//	1 joiner ann, leaver dan .. 1000 (nothing) 1001 the thief's roster
type covered struct {
	*world
	p, thief, next *producer
	second         *producer // of another key; nil: there is none
	dir            string    // of the published ledger
}

// started begins the ledger as a run does, for the auditor.
func (w *world) started() {
	w.t.Helper()
	w.update(func(tx *store.Tx) error {
		_, err := ledger.Append(tx, entry.New(t0, &entry.Started{Program: entry.ProgramConsumer, Version: "v1.0.0", Go: "go1.26", Mode: "run", Ledger: "L1", Enclave: gov1, Instance: "i1"}))
		return err
	})
}

func newCovered(t *testing.T, waiting bool) *covered {
	t.Helper()
	w, p := setup(t)
	c := &covered{world: w, p: p, thief: p.branch(), next: p.branch(), dir: t.TempDir()}
	w.started()
	c.next.rekey()
	w.trust(c.next)
	w.give(p.joiner("ann", 1, "analyst"))
	c.thief.seq, c.thief.prev = 1000, schema.Digest{7}
	head := c.thief.branch()
	if waiting {
		head.seq, head.prev = 900, schema.Digest{8}
	}
	parts := head.roster([]schema.LiveEngagement{lives("ann", 1, "analyst"), lives("bob", 1, "lead")}, []schema.ClosedEngagement{gone("dan", 1)})
	if waiting { // of one that is taken further on, of which a part does not come
		head.seq, head.prev = 1000, schema.Digest{7}
		parts = append(parts, head.joiner("eve", 1, "lead"))
	}
	w.give(parts...)
	w.applyRosters()
	if s := w.stream(); s.Head < 900 || s.Covered < 900 || !w.view("bob").Access {
		t.Fatalf("want the thief's roster to stand in for all before it, got %+v", s)
	}
	c.follow()
	return c
}

// follow has the next key go on where the producer is.
func (c *covered) follow() { c.next.seq, c.next.prev = c.p.seq, c.p.prev }

func (c *covered) revoke(from uint64) (h *state.Hold) {
	c.t.Helper()
	c.update(func(tx *store.Tx) (err error) {
		h, err = ruling.Revoke(c.t.Context(), c.db, tx, c.p.kid(), admit.Point{Generation: 1, Seq: from}, c.by())
		return err
	})
	c.sweep()
	return h
}

// audited is what the auditor finds amiss, with the archive and without it.
func (c *covered) audited() {
	c.t.Helper()
	seed := ed25519.NewKeyFromSeed(make([]byte, 32))
	line, err := tiles.VerifierKey("jmlbridge.internal/test/ledger", seed.Public().(ed25519.PublicKey))
	if err != nil {
		c.t.Fatal(err)
	}
	signer, verifier, err := tiles.NewSigner("jmlbridge.internal/test/ledger", seed)
	if err != nil {
		c.t.Fatal(err)
	}
	pub, err := ledger.New(ledger.Config{DB: c.db.DB, Signer: signer, Verifier: verifier, Dir: c.dir, Archive: c.db})
	if err == nil {
		err = pub.Publish(c.t.Context())
	}
	if err != nil {
		c.t.Fatal(err)
	}
	producers := verify.Keys{}
	for _, p := range []*producer{c.p, c.next, c.second} {
		if p == nil {
			continue
		}
		text, err := keys.MarshalPublic(p.key.Public())
		if err == nil {
			err = producers.Add(text)
		}
		if err != nil {
			c.t.Fatal(err)
		}
	}
	for _, blind := range []bool{false, true} {
		r, err := verify.Run(c.t.Context(), verify.Options{Dir: c.dir, LedgerKey: line, Keys: producers, TilesOnly: blind})
		if err != nil {
			c.t.Fatal(err)
		}
		for _, f := range r.Findings {
			if f.Code != verify.StartMissing { // it began with a key
				c.t.Errorf("blind %v: the auditor finds %+v", blind, f)
			}
		}
	}
}

// recovered is the database that comes of the ledger.
func (c *covered) recovered() *state.Stream {
	c.t.Helper()
	m := recall.New()
	for e, err := range ledger.Entries(c.t.Context(), c.db.DB, 0) {
		if err == nil {
			err = m.Read(e.Entry)
		}
		if err != nil {
			c.t.Fatal(err)
		}
	}
	fresh := newWorld(c.t)
	fresh.update(func(tx *store.Tx) error { _, err := m.Restore(tx, c.by()); return err })
	return fresh.stream()
}

func (c *covered) gives(who ...string) {
	c.t.Helper()
	for _, id := range who {
		if v := c.view(id); !v.Access || v.Doubt != nil {
			c.t.Errorf("%s: want access, got %+v", id, v)
		}
	}
}

func (c *covered) at(head uint64, alarms ...string) {
	c.t.Helper()
	s := c.stream()
	if s.State != admit.Live || s.Head != head {
		c.t.Errorf("want the stream to go on after message %d, got %+v", head, s)
	}
	if got := slices.DeleteFunc(c.alarms(), func(code string) bool { return code == ruling.Code }); !slices.Equal(got, alarms) {
		c.t.Errorf("want the alarms %q, got %q", alarms, got)
	}
	if r := c.recovered(); r.Head != s.Head || r.HeadHash != s.HeadHash {
		c.t.Errorf("recovered: the stream goes on after %d, %s; want %d, %s", r.Head, r.HeadHash, s.Head, s.HeadHash)
	}
	c.audited()
}

// A thief's roster far ahead silences nobody once its key is revoked: what came meanwhile counts, in its place, and what is said next.
func TestARevokedRosterStandsInForNothing(t *testing.T) {
	for _, waiting := range []bool{false, true} {
		c := newCovered(t, waiting)
		c.give(c.next.joiner("cyd", 1, "analyst"), c.next.heartbeat())
		c.give(c.next.roster([]schema.LiveEngagement{lives("ann", 1, "lead"), lives("cyd", 1, "analyst")}, nil)...)
		c.give(c.next.leaver("fay", 1))
		if s := c.stream(); c.view("cyd").Access || !c.view("fay").Closed || !s.HeartbeatIAT.IsZero() {
			t.Fatalf("want all that is said to be late, got %+v", s)
		}
		n := len(c.entries())
		c.revoke(2)
		want := []string{"trust", "operator", "cleared gap-covered", "held", "raised disowned",
			"received joiner:v1 2 admitted", "received heartbeat:v1 3 admitted", "received roster:v1 4 admitted", "received leaver:v1 5 admitted"}
		if waiting {
			want = append(want, "cleared gap") // before which that part stood
		}
		c.want(n, want...)
		c.applyRosters()
		c.gives("cyd", "ann")
		if v := c.view("bob"); v.Doubt == nil || !v.Access {
			t.Errorf("bob: want what the thief gave in question, got %+v", v)
		}
		for _, id := range []string{"dan", "fay"} {
			if !c.view(id).Closed {
				t.Errorf("%s: want who was cut out still, got %+v", id, c.view(id))
			}
		}
		if !slices.Equal(c.view("ann").Want.Roles, []string{"lead"}) || !c.stream().HeartbeatIAT.Equal(t0) {
			t.Errorf("want roster and heartbeat to count, got %+v, %+v", c.view("ann"), c.stream())
		}
		c.at(5)
		c.give(c.next.joiner("gil", 1, "analyst"), c.next.joiner("fay", 2, "analyst"))
		c.give(c.next.say("", &schema.Heartbeat{Cuts: []schema.CutNotice{}}))
		c.gives("gil", "fay")

		// The same again changes nothing, nor does a start, nor what the thief sends still.
		n = len(c.entries())
		c.revoke(2)
		c.want(n, "trust")
		c.reopen()
		c.give(c.thief.joiner("hal", 1, "lead"))
		if c.view("hal").Access {
			t.Error("hal: want the thief to give nothing")
		}
		c.at(8, "key-retired")
		// The numbers that the thief used are the producer's.
		for c.next.seq < 1002 {
			c.give(c.next.heartbeat())
		}
		c.give(c.next.joiner("ida", 1, "analyst"))
		c.gives("ida")
	}
}

// What the key said before it was stolen is its owner's, though it came behind the thief's roster; what it said after is refused, and
// the next roster stands in for that.
func TestWhatTheOwnerSaidBehindAThiefsRoster(t *testing.T) {
	c := newCovered(t, false)
	owner := []sealed{c.p.joiner("cyd", 1, "analyst"), c.p.leaver("ann", 1), c.p.joiner("eve", 1, "analyst"), c.p.leaver("eve", 1)}
	c.give(owner...)
	c.follow()
	c.give(c.next.joiner("fay", 1, "analyst"))
	c.revoke(4)
	c.gives("cyd")
	for _, id := range []string{"ann", "eve"} {
		if !c.view(id).Closed {
			t.Errorf("%s: want who was cut out still, got %+v", id, c.view(id))
		}
	}
	if c.view("fay").Access {
		t.Error("fay: want what is behind the gap to wait")
	}
	c.at(3, "gap")
	c.give(owner[2:]...) // as a resend would
	c.at(3, "gap", "key-retired")
	c.give(c.next.roster([]schema.LiveEngagement{lives("cyd", 1, "analyst"), lives("fay", 1, "analyst")}, []schema.ClosedEngagement{gone("ann", 1), gone("eve", 1)})...)
	c.applyRosters()
	c.gives("cyd", "fay")
	if v := c.view("ann"); v.Access {
		t.Errorf("ann: %+v", v)
	}
	c.give(c.next.heartbeat())
	c.at(8, "gap-covered")
}

// A message of a key that is good behind the roster says that the producer is there: nothing goes back. With that key gone too, it
// does.
func TestWhatAGoodKeySaysBehindARosterVouchesForIt(t *testing.T) {
	c := newCovered(t, false)
	good := c.thief.branch()
	good.seq, good.prev = c.stream().Head, c.stream().HeadHash
	good.key, good.signer, good.public = c.next.key, c.next.signer, c.next.public
	c.give(good.joiner("cyd", 1, "analyst"))
	c.revoke(2)
	c.gives("cyd")
	c.at(1002, "gap-covered")
	c.update(func(tx *store.Tx) error {
		_, err := ruling.Revoke(t.Context(), c.db, tx, c.next.kid(), admit.Point{Generation: 1, Seq: 2}, c.by())
		return err
	})
	c.sweep()
	c.at(1, "no-key")
}

// A good roster stands in for what it stood in for; what a thief's covered behind it is taken back to there, and where it is
// the first of all to where the stream was joined.
func TestAThiefsRosterBehindAnotherRoster(t *testing.T) {
	w := newWorld(t)
	p := newProducer(t, "hr", w.to)
	p.seq, p.prev = 50, schema.Digest{5}
	pin := state.Pin{Generation: 1, Head: 50, Hash: p.prev}
	w.update(func(tx *store.Tx) error {
		return state.TrustKey(tx, &state.Key{Public: p.public, Key: admit.Key{Issuer: iss, Stream: "hr", Kinds: schema.ProducerKinds}}, pin, w.by())
	})
	next := p.branch()
	next.rekey()
	w.trust(next)
	thief := p.branch()
	thief.seq, thief.prev = 1000, schema.Digest{7}
	w.give(thief.roster([]schema.LiveEngagement{lives("bob", 1, "lead")}, nil)...)
	w.applyRosters()
	d := &covered{world: w, p: p, next: next, dir: t.TempDir()}
	d.revoke(51)
	if s := d.stream(); s.Head != 50 || s.HeadHash != pin.Hash || !s.Unrostered {
		t.Fatalf("want the stream where it was joined, got %+v", s)
	}
	d.audited()
	d.give(next.joiner("ann", 1, "analyst"))
	if v := d.view("ann"); v.Access {
		t.Errorf("ann: want nothing given before a roster that counts, got %+v", v)
	}
	// The next key's roster stands in for what is missing, and a second thief's, of another key, for more.
	next.heartbeat()
	next.heartbeat()
	d.give(next.roster([]schema.LiveEngagement{lives("ann", 1, "analyst")}, nil)...)
	d.applyRosters()
	d.gives("ann")
	second := next.branch()
	second.rekey()
	d.second = second
	d.trust(second)
	d.sweep()
	good := d.stream()
	second.seq, second.prev = 2000, schema.Digest{9}
	d.give(second.roster([]schema.LiveEngagement{lives("eve", 1, "lead")}, nil)...)
	d.applyRosters()
	d.update(func(tx *store.Tx) error {
		_, err := ruling.Revoke(t.Context(), d.db, tx, second.kid(), admit.Point{Generation: 1, Seq: good.Head + 1}, d.by())
		return err
	})
	d.sweep()
	if s := d.stream(); s.Head != good.Head || s.HeadHash != good.HeadHash || s.Unrostered {
		t.Errorf("want the stream where the good roster had it, got %+v", s)
	}
	d.give(next.joiner("fay", 1, "analyst"))
	d.gives("fay")
	d.audited()
}

// A thief's roster is taken near enough that what the producer says contradicts it: the operator names the branch, before the key
// is revoked or after, and it goes on where it was.
func TestAForkWithAThiefsRoster(t *testing.T) {
	for _, first := range []bool{false, true} {
		c := newCovered(t, false)
		list := []sealed{c.next.joiner("cyd", 1, "analyst")}
		for c.next.seq < 999 {
			list = append(list, c.next.heartbeat())
		}
		c.give(list...)
		list = c.next.roster([]schema.LiveEngagement{lives("ann", 1, "lead"), lives("cyd", 1, "analyst")}, nil)
		c.give(append(list, c.next.joiner("eve", 1, "analyst"))...)
		if s := c.stream(); s.State != admit.ForkedAway {
			t.Fatalf("want a fork, got %+v", s)
		}
		if first {
			c.revoke(2)
		}
		c.update(func(tx *store.Tx) error {
			forks, err := ruling.Forks(tx)
			if err == nil {
				_, err = forks[0].Choose(t.Context(), c.db, tx, c.next.prev, c.by())
			}
			return err
		})
		if !first {
			c.revoke(2)
		}
		c.sweep()
		c.applyRosters()
		c.gives("cyd", "ann", "eve")
		if !slices.Equal(c.view("ann").Want.Roles, []string{"lead"}) {
			t.Errorf("want the roster to count, got %+v", c.view("ann"))
		}
		var alarms []string
		if !first { // then the branch says where it is, and the good roster stands in for what the other one did
			alarms = []string{"gap-covered"}
		}
		c.at(1001, alarms...)
		c.give(c.next.joiner("fay", 1, "analyst"))
		c.gives("fay")
		c.at(1002, alarms...)
	}
}

// Nobody knows since when the key was stolen, and its owner's roster had once stood in for what was lost: the next key's one does
// so for all of it.
func TestAnOwnersRosterThatIsDisownedToo(t *testing.T) {
	w, p := setup(t)
	next := p.branch()
	next.rekey()
	w.trust(next)
	w.give(p.joiner("ann", 1, "analyst"))
	p.heartbeat()
	p.heartbeat()
	w.give(p.roster([]schema.LiveEngagement{lives("ann", 1, "analyst")}, nil)...)
	w.applyRosters()
	w.give(p.joiner("bob", 1, "analyst"), p.leaver("bob", 1))
	c := &covered{world: w, p: p, next: next, dir: t.TempDir()}
	c.revoke(1)
	c.at(1)
	c.follow()
	c.give(next.joiner("cyd", 1, "analyst"), next.leaver("dan", 1))
	if c.view("cyd").Access || !c.view("dan").Closed {
		t.Errorf("want a gap that gives nothing and takes, got %+v, %+v", c.view("cyd"), c.view("dan"))
	}
	c.give(next.roster([]schema.LiveEngagement{lives("ann", 1, "analyst"), lives("cyd", 1, "analyst")}, []schema.ClosedEngagement{gone("bob", 1), gone("dan", 1)})...)
	c.applyRosters()
	c.give(next.joiner("eve", 1, "analyst"))
	c.gives("ann", "cyd", "eve")
	if !c.view("bob").Closed {
		t.Errorf("bob: %+v", c.view("bob"))
	}
	c.at(10, "gap-covered")
}

// The thief said two things behind its roster: with the key revoked one is left, and the operator names it.
func TestAThiefWhoContradictsItself(t *testing.T) {
	c := newCovered(t, false)
	other := c.thief.branch()
	c.give(other.heartbeat())
	if s := c.stream(); s.State != admit.ForkedAway {
		t.Fatalf("want a fork, got %+v", s)
	}
	c.give(c.next.joiner("cyd", 1, "analyst"))
	c.revoke(2)
	c.update(func(tx *store.Tx) error {
		forks, err := ruling.Forks(tx)
		if err == nil && len(forks[0].Branches) == 0 {
			t.Fatal("want a branch")
		}
		if err == nil {
			_, err = forks[0].Choose(t.Context(), c.db, tx, c.next.prev, c.by())
		}
		return err
	})
	c.sweep()
	c.gives("cyd")
	c.at(2)
	for c.next.seq < 1001 {
		c.give(c.next.heartbeat())
	}
	c.at(1001)
}

// What a thief put ahead of the stream contradicts nobody once its key is revoked, and nothing is missing before it.
func TestWhatWaitsOfARevokedKey(t *testing.T) {
	w, p := setup(t)
	c := &covered{world: w, p: p, thief: p.branch(), next: p.branch(), dir: t.TempDir()}
	w.started()
	c.next.rekey()
	w.trust(c.next)
	w.give(p.joiner("ann", 1, "analyst"))
	c.follow()
	c.thief.seq, c.thief.prev = 3, schema.Digest{7}
	w.give(c.thief.joiner("bob", 1, "lead"), c.thief.leaver("dan", 1))
	c.thief.seq, c.thief.prev = 900, schema.Digest{8}
	w.give(c.thief.joiner("eve", 1, "lead"))
	c.at(1, "gap")
	c.revoke(2)
	c.at(1, "key-retired")
	for range 6 {
		c.give(c.next.heartbeat())
	}
	c.give(c.next.joiner("cyd", 1, "analyst"))
	c.at(8)
	c.gives("ann", "cyd")
	if s := c.stream(); s.Highest != 8 || !s.GapSince.IsZero() {
		t.Errorf("want nothing waited for, got %+v", s)
	}
	if c.view("bob").Access || c.view("eve").Access || !c.view("dan").Closed {
		t.Error("want what the thief gave to count for nothing, and his cuts to stay")
	}
	// A message that is missing there is told as ever.
	c.next.heartbeat()
	c.give(c.next.joiner("fay", 1, "analyst"))
	c.at(8, "gap")
}

// Where only the thief's messages waited behind his roster, nothing is missing once his key is revoked.
func TestARevokedRosterLeavesNoGap(t *testing.T) {
	c := newCovered(t, false)
	c.thief.seq, c.thief.prev = 1010, schema.Digest{9}
	c.give(c.thief.joiner("eve", 1, "lead"))
	c.revoke(2)
	c.at(1)
	c.give(c.next.joiner("cyd", 1, "analyst"))
	c.gives("cyd")
	c.at(2)
}

// Of a stream that was joined after a message which did not come, another message in its place is a fork, also to the auditor:
// by what the operator named, and by what the first message there names.
func TestAForkWhereAStreamWasJoined(t *testing.T) {
	for _, before := range []bool{true, false} {
		w := newWorld(t)
		p := newProducer(t, "hr", w.to)
		c := &covered{world: w, p: p, next: p, dir: t.TempDir()}
		w.started()
		early := []sealed{p.joiner("ann", 1, "analyst"), p.heartbeat(), p.heartbeat()}
		other := p.branch()
		p.joiner("bob", 1, "analyst")
		k := &state.Key{Public: p.public, Key: admit.Key{Issuer: iss, Stream: "hr", Kinds: schema.ProducerKinds}}
		w.update(func(tx *store.Tx) error {
			return state.TrustKey(tx, k, state.Pin{Generation: 1, Head: p.seq, Hash: p.prev}, w.by())
		})
		w.reopen()
		head, hash := p.seq, p.prev
		if !before {
			w.give(p.heartbeat())
			head, hash = p.seq, p.prev
		}
		w.give(early[0], early[2], other.joiner("eve", 1, "lead"))
		if s := w.stream(); s.State != admit.ForkedAway {
			t.Fatalf("want a fork, got %+v", s)
		}
		c.audited()
		c.choose(hash)
		w.give(early[1])
		c.at(head)
		c.give(p.roster([]schema.LiveEngagement{lives("ann", 1, "analyst"), lives("bob", 1, "analyst")}, nil)...)
		c.at(p.seq)
	}
}

// Where a branch was chosen that begins in a hole, what comes into that and does not name the message before it is a fork, also
// to the auditor.
func TestAForkBeforeABranchWithAHole(t *testing.T) {
	w, p := setup(t)
	c := &covered{world: w, p: p, next: p, dir: t.TempDir()}
	w.started()
	w.give(p.joiner("ann", 1, "analyst"))
	other := p.branch()
	w.give(p.joiner("bob", 1, "analyst"), p.joiner("cyd", 1, "analyst"))
	other.prev = schema.Digest{9} // it left the chain further back than that
	missing, next := other.joiner("dan", 1, "analyst"), other.joiner("eve", 1, "analyst")
	w.give(next)
	c.choose(next.payload)
	w.give(missing)
	if s := w.stream(); s.State != admit.ForkedAway {
		t.Fatalf("want a fork, got %+v", s)
	}
	c.audited()
}

// A branch that leaves the chain at a message which did not come, and which a roster stood in for, begins behind it, also to the auditor:
// what was followed names the same.
func TestABranchFromAMessageThatDidNotCome(t *testing.T) {
	w, p := setup(t)
	c := &covered{world: w, p: p, next: p, dir: t.TempDir()}
	w.started()
	w.give(p.joiner("ann", 1, "analyst"))
	p.heartbeat()
	other := p.branch()
	w.give(p.joiner("bob", 1, "analyst"))
	w.give(p.roster([]schema.LiveEngagement{lives("ann", 1, "analyst"), lives("bob", 1, "analyst")}, nil)...)
	w.applyRosters()
	if s := w.stream(); s.Head != 4 {
		t.Fatalf("want the roster to stand in for what is missing, got %+v", s)
	}
	chosen := other.joiner("cyd", 1, "analyst")
	w.give(chosen)
	c.choose(chosen.payload)
	w.give(other.joiner("dan", 1, "analyst"))
	if s := w.stream(); s.Head != 4 || s.State != admit.Live {
		t.Fatalf("want the stream to go on with the branch, got %+v", s)
	}
	c.audited()
}
