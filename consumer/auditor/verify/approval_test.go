package verify

import (
	"encoding/json"
	"testing"
	"time"

	"jmlbridge/internal/envelope/seal"
	"jmlbridge/internal/keys"
	"jmlbridge/internal/ledger/entry"
	"jmlbridge/schema"
)

// second is a second signer's stream beside the producer's.
type second struct {
	*world
	signer *seal.Signer
	seq    uint64
	prev   schema.Digest
	card   []byte
}

func newSecond(t *testing.T) *second {
	s := &second{world: newWorld(t).begin()}
	key, signer := newSigner(t, keys.ES256)
	s.signer = signer
	var c map[string]any
	if err := json.Unmarshal(cardOf(t, issuer, key), &c); err != nil {
		t.Fatal(err)
	}
	c["stream"] = "approvals"
	c["keys"].([]any)[0].(map[string]any)["kinds"] = []string{"approval"}
	var err error
	if s.card, err = json.Marshal(c); err != nil {
		t.Fatal(err)
	}
	s.add(&entry.Trust{Action: entry.TrustAdd, Key: signer.KID(), Use: entry.UseSign, Issuer: issuer, Stream: "approvals", Generation: 1, AtSeq: 1, Alg: "ES256", Events: []string{"approval"}, By: "op"})
	return s
}

// approves is an approval that was admitted; it returns its place.
func (s *second) approves(subject string, engagement int, until time.Duration, roles ...string) entry.Position {
	w := s.world
	seq, prev, signer := w.seq, w.prev, w.signer
	w.seq, w.prev, w.signer = s.seq, s.prev, s.signer
	defer func() { s.seq, s.prev, w.seq, w.prev, w.signer = w.seq, w.prev, seq, prev, signer }()
	w.stream = "approvals"
	defer func() { w.stream = "hr" }()
	m := w.say(subject, &schema.Approval{Engagement: engagement, Roles: sorted(roles), Expiry: schema.At(w.now.Add(until))})
	w.take(m, entry.DispositionAdmitted, "")
	return entry.Position{Issuer: issuer, Stream: "approvals", Generation: 1, Seq: m.set.Stream.Seq}
}

func (s *second) gives(subject string, seq uint64, approvals ...entry.Position) {
	i := s.intends(subject, "active", seq, "add-member")
	s.entries[i].Body.(*entry.Intent).Approvals = approvals
	s.answers(subject, i, entry.ResultApplied)
}

func TestApprovalsAreReadAgain(t *testing.T) {
	takes := func(s *second, at entry.Position, ops ...string) {
		in := &entry.Intent{Who: entry.Who{Issuer: issuer, Subject: "E1", Engagement: 1}, Policy: policyA, Cause: entry.Cause{Type: entry.CauseSchedule, Code: "approval-ended", Position: &at}}
		for n, op := range ops {
			in.Ops = append(in.Ops, entry.Op{N: n + 1, Op: op, Class: entry.ClassTake})
		}
		s.answers("E1", s.add(in), entry.ResultApplied)
	}
	for _, tc := range []struct {
		name string
		make func(s *second)
		want []string
	}{
		{"given with it, taken when it ends", func(s *second) {
			seq := s.joins("E1")
			at := s.approves("E1", 1, time.Minute, "admin")
			s.gives("E1", seq, at)
			s.wait(2 * time.Minute)
			takes(s, at, "remove-member")
		}, nil},
		{"in a stream that was joined in its middle", func(s *second) {
			head := schema.Digest{1}
			s.seq, s.prev = 1, head
			pin := s.entries[len(s.entries)-1].Body.(*entry.Trust)
			pin.AtSeq, pin.Head = 2, &head
			seq := s.joins("E1")
			s.gives("E1", seq, s.approves("E1", 1, time.Minute, "admin"))
		}, nil},
		{"on one that never came", func(s *second) {
			s.gives("E1", s.joins("E1"), entry.Position{Issuer: issuer, Stream: "approvals", Generation: 1, Seq: 1})
		}, []string{"approval-missing"}},
		{"on another person's", func(s *second) {
			seq := s.joins("E1")
			s.gives("E1", seq, s.approves("E2", 1, time.Hour, "admin"))
		}, []string{"approval-missing"}},
		{"on one of another engagement", func(s *second) {
			seq := s.joins("E1")
			s.gives("E1", seq, s.approves("E1", 2, time.Hour, "admin"))
		}, []string{"approval-missing"}},
		{"on one that a later one took back", func(s *second) {
			seq := s.joins("E1")
			at := s.approves("E1", 1, time.Hour, "admin")
			s.approves("E1", 1, -time.Hour, "admin")
			s.gives("E1", seq, at)
		}, []string{"approval-missing"}},
		{"on one of which a later one took one role back", func(s *second) {
			seq := s.joins("E1")
			at := s.approves("E1", 1, time.Hour, "admin", "lead")
			s.approves("E1", 1, -time.Hour, "admin")
			s.approves("E1", 2, -time.Hour, "lead")
			s.gives("E1", seq, at)
		}, nil},
		{"while it ends", func(s *second) {
			seq := s.joins("E1")
			at := s.approves("E1", 1, time.Minute, "admin")
			s.wait(61 * time.Second)
			s.gives("E1", seq, at)
		}, nil},
		{"after it ended", func(s *second) {
			seq := s.joins("E1")
			at := s.approves("E1", 1, time.Minute, "admin")
			s.wait(4 * time.Minute)
			s.gives("E1", seq, at)
		}, []string{"approval-missing"}},
		{"on one by a key that was stolen", func(s *second) {
			seq := s.joins("E1")
			at := s.approves("E1", 1, time.Hour, "admin")
			s.add(&entry.Trust{Action: entry.TrustRevoke, Key: s.signer.KID(), Use: entry.UseSign, Issuer: issuer, Stream: "approvals", Generation: 1, By: "op"})
			s.gives("E1", seq, at)
		}, []string{"give-disowned"}},
		{"taken before it ends", func(s *second) {
			s.joins("E1")
			takes(s, s.approves("E1", 1, time.Hour, "admin"), "remove-member")
		}, []string{"cause-mismatch"}},
		{"more than memberships taken when it ends", func(s *second) {
			s.joins("E1")
			at := s.approves("E1", 1, time.Minute, "admin")
			s.wait(2 * time.Minute)
			takes(s, at, "disable")
		}, []string{"cause-mismatch"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newSecond(t)
			tc.make(s)
			s.publish()
			o := s.options()
			if err := o.Keys.Add(s.card); err != nil {
				t.Fatal(err)
			}
			wants(t, s.verify(o), tc.want...)
		})
	}
}
