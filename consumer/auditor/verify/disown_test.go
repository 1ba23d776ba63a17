package verify

import (
	"fmt"
	"testing"
	"time"

	"jmlbridge/internal/keys"
	"jmlbridge/internal/ledger/entry"
	"jmlbridge/schema"
)

// forked is a ledger on which a stream said two things after message 2: A was followed, and gave E3 an account; B came
// as a fork.
//
//	1 joiner E1 -- 2 heartbeat -- A3 mover E1 -- A4 joiner E3
//	                           \- B3 joiner E2 -- B4 mover E1 -- B5 heartbeat
type forked struct {
	*world
	a, b []*said
}

func newForked(t *testing.T) *forked {
	w := &forked{world: newWorld(t).begin()}
	w.joins("E1")
	w.hears("", &schema.Heartbeat{Cuts: []schema.CutNotice{}})
	seq, prev := w.seq, w.prev
	w.a = []*said{w.say("E1", w.mover(1, "lead")), w.say("E3", w.joiner(1, "analyst"))}
	for _, s := range w.a {
		w.take(s, entry.DispositionAdmitted, "")
	}
	w.does("E3", "active", 4, "create", "add-member")
	w.seq, w.prev, w.gen = seq, prev, 1
	w.now = w.now.Add(1)
	w.b = []*said{w.say("E2", w.joiner(1, "analyst")), w.say("E1", w.mover(1, "on-call")), w.say("", &schema.Heartbeat{Cuts: []schema.CutNotice{}})}
	for _, s := range w.b {
		w.take(s, entry.DispositionFork, "fork")
	}
	return w
}

// rules is an operator's word on the fork.
func (w *forked) rules(s *said) int64 {
	i := w.add(&entry.Trust{Action: entry.TrustBranch, Issuer: issuer, Stream: "hr", Generation: 1, AtSeq: s.set.Stream.Seq, Head: &s.digest, By: "op", Reason: "read out on the phone"})
	w.add(&entry.Operator{By: "op", Action: "rule-out", Issuer: issuer, Target: "hr#1.3", Digest: &w.a[0].digest})
	return i
}

func (w *forked) operator(action, subject string) int64 {
	return w.add(&entry.Operator{By: "op", Action: action, Issuer: issuer, Subject: subject, Engagement: 1, Target: "1"})
}

func TestRulingsAreReadAgain(t *testing.T) {
	for _, tc := range []struct {
		name string
		make func(w *forked)
		want []string
	}{
		{"the branch that was not followed goes on and gives", func(w *forked) {
			w.rules(w.b[0])
			w.does("E2", "active", 3, "create", "add-member")
			w.does("E1", "active", 4, "remove-member")
			w.does("E1", "active", 4, "add-member")
			w.hears("E4", w.joiner(1))
			w.does("E4", "active", 6, "create")
		}, nil},
		{"the branch that was followed goes on", func(w *forked) {
			w.rules(w.a[0])
			w.seq, w.prev = 4, w.a[1].digest
			w.hears("E4", w.joiner(1))
			w.does("E4", "active", 5, "create")
			w.does("E3", "active", 4, "add-member")
		}, nil},
		{"what goes on behind what was ruled out stops nothing", func(w *forked) {
			w.rules(w.b[0])
			seq, prev := w.seq, w.prev
			w.seq, w.prev = 4, w.a[1].digest
			w.take(w.say("E5", w.joiner(1)), entry.DispositionFork, "ruled-out")
			w.take(w.say("E2", w.leaver(1)), entry.DispositionFork, "ruled-out")
			w.seq, w.prev = seq, prev
			w.hears("E4", w.joiner(1))
			w.does("E4", "active", 6, "create")
		}, nil},
		{"what goes on there is an alarm, until a later generation is followed", func(w *forked) {
			w.rules(w.b[0])
			told := entry.Alarm{Code: "branch-goes-on", Key: "hr#1@" + issuer, State: entry.AlarmRaised, Severity: "critical", Issuer: issuer, Stream: "hr", Detail: "stream hr goes on where it was ruled out"}
			w.seq, w.prev = 4, w.a[1].digest
			w.take(w.say("E5", w.joiner(1)), entry.DispositionFork, "ruled-out")
			w.add(&told)
			w.take(w.say("", &schema.Heartbeat{Cuts: []schema.CutNotice{}}), entry.DispositionFork, "ruled-out")
			ended := told
			ended.State = entry.AlarmCleared
			w.add(&entry.Trust{Action: entry.TrustGeneration, Issuer: issuer, Stream: "hr", Generation: 2, AtSeq: 1, By: "op"})
			w.add(&ended)
			w.gen, w.seq, w.prev = 2, 0, schema.Digest{}
			w.hears("E4", w.joiner(1))
		}, nil},
		{"what was ruled out goes on after a later generation is followed", func(w *forked) {
			w.rules(w.b[0])
			w.add(&entry.Trust{Action: entry.TrustGeneration, Issuer: issuer, Stream: "hr", Generation: 2, AtSeq: 1, By: "op"})
			w.seq, w.prev = w.b[2].set.Stream.Seq, w.b[2].digest
			w.take(w.say("E5", w.joiner(1)), entry.DispositionGeneration, "old-generation")
			w.seq, w.prev = 4, w.a[1].digest
			w.take(w.say("E5", w.joiner(1)), entry.DispositionFork, "ruled-out")
			s := w.say("E2", w.leaver(1))
			w.take(s, entry.DispositionFork, "ruled-out")
			w.take(s, entry.DispositionDuplicate, "replay")
		}, nil},
		{"what was ruled out still cuts", func(w *forked) {
			w.rules(w.b[0])
			w.does("E2", "active", 3, "create", "add-member")
			w.seq, w.prev = 4, w.a[1].digest
			w.take(w.say("E2", w.leaver(1)), entry.DispositionFork, "ruled-out")
			w.does("E2", "left", 5, "disable")
			w.does("E2", "left", 5, "revoke-sessions")
		}, nil},
		{"a word that was ruled out gives more", func(w *forked) {
			w.rules(w.b[0])
			w.does("E3", "active", 4, "add-member")
		}, []string{"give-disowned"}},
		{"a word that was ruled out gives, though another counts", func(w *forked) {
			w.rules(w.b[0])
			w.does("E1", "active", 3, "add-member")
		}, []string{"give-disowned"}},
		{"an operator lets it stand", func(w *forked) {
			w.rules(w.b[0])
			w.operator("keep", "E3")
			w.does("E3", "active", 4, "add-member")
		}, nil},
		{"an operator takes it back", func(w *forked) {
			w.rules(w.b[0])
			i := w.operator("undo", "E3")
			for _, op := range []string{"disable", "revoke-sessions"} {
				in := w.add(&entry.Intent{Who: entry.Who{Issuer: issuer, Subject: "E3", Engagement: 1}, Policy: policyA, Cause: entry.Cause{Type: entry.CauseOperator, Code: "disowned", Entry: &i},
					Ops: []entry.Op{{N: 1, Op: op, Class: entry.ClassTake}}})
				w.answers("E3", in, entry.ResultApplied)
			}
		}, nil},
		{"a branch that never came", func(w *forked) {
			d := schema.DigestOf([]byte("no such message"))
			w.add(&entry.Trust{Action: entry.TrustBranch, Issuer: issuer, Stream: "hr", Generation: 1, AtSeq: 3, Head: &d, By: "op"})
		}, []string{"branch-unknown"}},
		{"a ruling where the stream says one thing", func(w *forked) {
			w.rules(w.b[0])
			w.rules(w.b[0])
		}, []string{"branch-unknown"}},
		{"the stream goes on as if nothing was ruled", func(w *forked) {
			w.rules(w.b[0])
			w.seq, w.prev = 4, w.a[1].digest
			w.hears("E4", w.joiner(1))
		}, []string{"chain-broken"}},
		{"a key was stolen", func(w *forked) {
			w.rules(w.a[0])
			w.add(&entry.Trust{Action: entry.TrustRevoke, Key: w.signer.KID(), Use: entry.UseSign, Issuer: issuer, Stream: "hr", Generation: 1, AtSeq: 3, By: "op"})
			w.does("E1", "active", 3, "add-member") // before the theft
		}, nil},
		{"a stolen key gives more", func(w *forked) {
			w.rules(w.a[0])
			w.add(&entry.Trust{Action: entry.TrustRevoke, Key: w.signer.KID(), Use: entry.UseSign, Issuer: issuer, Stream: "hr", Generation: 1, AtSeq: 3, By: "op"})
			w.does("E3", "active", 4, "add-member")
		}, []string{"give-disowned"}},
		{"a key that was only retired gives on", func(w *forked) {
			w.rules(w.a[0])
			w.add(&entry.Trust{Action: entry.TrustRetire, Key: w.signer.KID(), Use: entry.UseSign, Issuer: issuer, Stream: "hr", Generation: 1, AtSeq: 3, By: "op"})
			w.does("E3", "active", 4, "add-member")
		}, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := newForked(t)
			tc.make(w)
			w.publish()
			wants(t, w.verify(w.options()), tc.want...)
		})
	}
}

// A key was stolen, and the next one's roster says again what it had said: that somebody is back, and what the person is to have.
func TestWhatAGoodRosterSaysAgainIsNotDisowned(t *testing.T) {
	for _, tc := range []struct {
		name   string
		roster bool
		want   []string
	}{
		{"vouched for", true, nil},
		{"not vouched for", false, []string{"give-after-cut"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := newWorld(t).begin()
			w.joins("E1")
			w.joins("E2")
			seq := w.hears("E1", w.suspend(1))
			w.does("E1", "suspended", seq, "disable")
			w.does("E1", "suspended", seq, "revoke-sessions")
			w.wait(time.Hour)
			w.hears("E1", w.resume(1))
			stolen := w.signer.KID()
			key, next := newSigner(t, keys.ES256)
			w.trust, w.signer = cardOf(t, issuer, w.key, key), next
			w.trusts(next.KID(), 0)
			w.hears("E2", w.mover(1, "lead"))
			if tc.roster {
				w.lists("000a", "", w.lives("E1", 1, "analyst"))
			}
			w.add(&entry.Trust{Action: entry.TrustRevoke, Key: stolen, Use: entry.UseSign, Issuer: issuer, Stream: "hr", Generation: 1, AtSeq: 3, By: "op"})
			w.wait(time.Hour)
			w.does("E1", "active", 1, "enable")
			w.publish()
			wants(t, w.verify(w.options()), tc.want...)
		})
	}
}

// What a stolen key said past a gap waits still as the key is revoked. It does not go into sequence, and the next key's message does.
func TestWhatWaitedOfARevokedKey(t *testing.T) {
	for _, tc := range []struct {
		name string
		make func(w *world, revokes func())
		want []string
	}{
		{"it was revoked", func(w *world, revokes func()) { revokes() }, nil},
		{"it was not", func(w *world, _ func()) {}, []string{"chain-broken"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := newWorld(t).begin()
			w.joins("E1")
			key, next := newSigner(t, keys.ES256)
			w.trusts(next.KID(), 0)
			stolen := w.signer.KID()
			missing := w.say("E2", w.joiner(1))
			seq, prev := w.seq, w.prev
			forged := w.say("E3", w.joiner(1))
			w.take(forged, entry.DispositionGap, "gap")
			tc.make(w, func() {
				w.add(&entry.Trust{Action: entry.TrustRevoke, Key: stolen, Use: entry.UseSign, Issuer: issuer, Stream: "hr", Generation: 1, AtSeq: seq, By: "op"})
			})
			w.take(missing, entry.DispositionFilled, "")
			w.add(&entry.Received{Message: w.recorded(forged), Disposition: entry.DispositionHeld, Code: "key-retired"})
			w.trust, w.signer = cardOf(t, issuer, w.key, key), next
			w.seq, w.prev = seq, prev
			w.now = w.now.Add(time.Second)
			w.joins("E4")
			w.joins("E5")
			w.publish()
			wants(t, w.verify(w.options()), tc.want...)
		})
	}
}

// Two histories differ from their first message on; of the one that was chosen it comes last.
func TestABranchFromTheVeryBeginningIsReadAgain(t *testing.T) {
	w := newWorld(t).begin()
	w.joins("E1")
	w.hears("E3", w.joiner(1))
	w.seq, w.prev = 0, schema.Digest{}
	w.now = w.now.Add(1)
	first, second := w.say("E2", w.joiner(1, "analyst")), w.say("E4", w.joiner(1))
	w.take(second, entry.DispositionFork, "fork")
	w.add(&entry.Trust{Action: entry.TrustBranch, Issuer: issuer, Stream: "hr", Generation: 1, AtSeq: 2, Head: &second.digest, By: "op", Reason: "read out on the phone"})
	w.take(first, entry.DispositionAdmitted, "")
	w.does("E2", "active", 1, "create")
	w.does("E4", "active", 2, "create")
	w.publish()
	wants(t, w.verify(w.options()))
}

// Of a person of whom much was said, what a disowned word had overtaken is not forgotten.
func TestADisownedWordOvertakesNothing(t *testing.T) {
	p := &person{}
	p.add(fact{kind: joiner, sequenced: true, engagement: 1, generation: 1, seq: 1})
	p.add(fact{kind: mover, sequenced: true, engagement: 1, generation: 1, seq: 2, from: 2})
	p.add(fact{kind: mover, sequenced: true, engagement: 1, generation: 1, seq: 3, from: 2})
	p.facts[2].disowned = 9
	for seq := uint64(4); len(p.facts) < pruneAt; seq++ {
		p.add(fact{kind: resume, sequenced: true, engagement: 1, generation: 1, seq: seq, from: 3})
	}
	if w := p.at(10).want; w == nil || w.seq != 2 {
		t.Errorf("want message 2 to hold, got %+v", w)
	}
}

// A roster of a stolen key stood in for what was still to come. With the key revoked the stream goes on where it was: what came
// meanwhile is in its place, and nothing else may be put back.
func TestAStreamIsPutBackWhereARosterIsNotBelieved(t *testing.T) {
	type scene struct {
		*world
		thief  string
		list   *said // the roster
		before schema.Digest
		late   []*said
	}
	back := func(w *scene, seq uint64, hash *schema.Digest) {
		w.add(&entry.Operator{By: "op", Action: "put-back", Issuer: issuer, Target: fmt.Sprintf("hr#1.%d", seq), Digest: hash})
	}
	revokes := func(w *scene) {
		w.add(&entry.Trust{Action: entry.TrustRevoke, Key: w.thief, Use: entry.UseSign, Issuer: issuer, Stream: "hr", Generation: 1, AtSeq: 1, By: "op"})
	}
	again := func(w *scene, s *said) {
		w.add(&entry.Received{Message: w.recorded(s), Disposition: entry.DispositionAdmitted})
	}
	for _, tc := range []struct {
		name string
		make func(w *scene)
		want []string
	}{
		{"it goes on", func(w *scene) {
			revokes(w)
			back(w, 1, &w.before)
			again(w, w.late[0])
			w.does("E2", "active", 2, "create", "add-member")
			w.does("E3", "left", w.seq, "disable")
			again(w, w.late[1])
			w.joins("E4")
			for w.seq < 12 { // the thief's place is the producer's
				w.hears("", &schema.Heartbeat{Cuts: []schema.CutNotice{}})
			}
		}, nil},
		{"what waits again gives before its place", func(w *scene) {
			revokes(w)
			back(w, 1, &w.before)
			w.does("E2", "active", 2, "create")
		}, []string{"give-without-fact"}},
		{"an older ledger, on which it was not", func(w *scene) {
			revokes(w)
			w.seq, w.prev = w.list.set.Stream.Seq, w.list.digest
			w.joins("E4")
		}, nil},
		{"nobody was disowned", func(w *scene) { back(w, 1, &w.before) }, []string{"chain-claim"}},
		{"to another message", func(w *scene) {
			revokes(w)
			back(w, 1, &w.list.digest)
		}, []string{"chain-claim"}},
		{"to the beginning, past a message that was in its place", func(w *scene) {
			revokes(w)
			back(w, 0, nil)
		}, []string{"chain-claim"}},
		{"of a stream that is not there", func(w *scene) {
			w.add(&entry.Operator{By: "op", Action: "put-back", Issuer: issuer, Target: "other#1.1", Digest: &w.before})
		}, []string{"chain-claim"}},
		{"nowhere", func(w *scene) {
			w.add(&entry.Operator{By: "op", Action: "put-back", Issuer: issuer, Target: "1"})
		}, []string{"entry-form"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := &scene{world: newWorld(t).begin()}
			w.joins("E1")
			w.thief, w.before = w.signer.KID(), w.prev
			w.seq, w.prev = 9, schema.Digest{9}
			w.list = w.rosters([]schema.LiveEngagement{w.lives("E1", 1, "analyst"), w.lives("E3", 1, "analyst")}, nil)[0]
			w.take(w.list, entry.DispositionGap, "gap")
			w.applies(w.list)
			w.does("E3", "active", 9, "create")
			key, next := newSigner(t, keys.ES256)
			w.trust, w.signer = cardOf(t, issuer, w.key, key), next
			w.trusts(next.KID(), 0)
			w.seq, w.prev = 1, w.before
			w.late = []*said{w.say("E2", w.joiner(1, "analyst")), w.say("E3", w.leaver(1))}
			for _, s := range w.late {
				w.take(s, entry.DispositionFilled, "covered")
			}
			tc.make(w)
			w.publish()
			wants(t, w.verify(w.options()), tc.want...)
		})
	}
}

// What stood before the branch that was chosen may be a fork of what a message that was ruled out names: the auditor does not
// have that one's prev.
func TestAForkBehindABranchThatBeganInAHole(t *testing.T) {
	w := newWorld(t).begin()
	w.hears("", &schema.Heartbeat{Cuts: []schema.CutNotice{}})
	seq, prev := w.seq, w.prev
	w.say("E1", w.joiner(1))
	third := w.say("E2", w.joiner(1))
	w.say("E3", w.joiner(1))
	parts := w.rosters([]schema.LiveEngagement{w.lives("E1", 1)}, nil)
	w.take(parts[0], entry.DispositionGap, "gap")
	w.applies(parts[0])
	w.take(third, entry.DispositionFilled, "covered")
	w.seq, w.prev = seq, prev
	w.say("E4", w.joiner(1))
	other, chosen := w.say("E5", w.joiner(1)), w.say("E6", w.joiner(1))
	w.take(chosen, entry.DispositionFork, "fork")
	w.add(&entry.Trust{Action: entry.TrustBranch, Issuer: issuer, Stream: "hr", Generation: 1, AtSeq: 4, Head: &chosen.digest, By: "op"})
	w.take(other, entry.DispositionFork, "fork")
	wants(t, w.publish().verify(w.options()))
}

// A stream that was joined in its middle says two things before that place: what the operator named there is one of them.
func TestAForkBeforeTheStart(t *testing.T) {
	for _, tc := range []struct {
		name string
		make func(w *world, one, other []*said)
	}{
		{"the message before the start is another one", func(w *world, one, other []*said) {
			w.take(one[0], entry.DispositionHeld, "rollback")
			w.take(other[2], entry.DispositionFork, "fork")
		}},
		{"the branch on which it was joined is chosen by an earlier message", func(w *world, one, other []*said) {
			w.take(other[1], entry.DispositionHeld, "rollback")
			for _, s := range one {
				w.take(s, map[bool]string{true: entry.DispositionHeld, false: entry.DispositionFork}[s == one[0]], map[bool]string{true: "rollback", false: "fork"}[s == one[0]])
			}
			w.add(&entry.Trust{Action: entry.TrustBranch, Issuer: issuer, Stream: "hr", Generation: 1, AtSeq: 2, Head: &one[1].digest, By: "op"})
			w.take(w.say("E4", w.joiner(1)), entry.DispositionAdmitted, "no-roster")
		}},
		{"both branches go on from the place before the start", func(w *world, one, other []*said) {
			w.take(one[2], entry.DispositionHeld, "rollback")
			w.take(w.say("E4", w.joiner(1)), entry.DispositionAdmitted, "no-roster")
			w.seq, w.prev = 3, one[2].digest
			s := w.say("E5", w.joiner(1))
			w.take(s, entry.DispositionFork, "fork")
			w.add(&entry.Trust{Action: entry.TrustBranch, Issuer: issuer, Stream: "hr", Generation: 1, AtSeq: 4, Head: &s.digest, By: "op"})
			w.take(w.say("E6", w.joiner(1)), entry.DispositionAdmitted, "no-roster")
		}},
		{"what is chosen is the place alone, of which no message came", func(w *world, one, other []*said) {
			s := w.say("E4", w.joiner(1))
			w.seq, w.prev = 3, other[2].digest
			w.say("E5", w.joiner(1))
			fifth := w.say("E5", w.joiner(1))
			w.take(fifth, entry.DispositionGap, "gap")
			w.take(s, entry.DispositionFork, "fork")
			w.add(&entry.Trust{Action: entry.TrustBranch, Issuer: issuer, Stream: "hr", Generation: 1, AtSeq: 3, Head: &one[2].digest, By: "op"})
			w.take(w.say("E6", w.joiner(1)), entry.DispositionGap, "gap")
		}},
		{"and by the place itself", func(w *world, one, other []*said) {
			w.take(other[2], entry.DispositionFork, "fork")
			w.add(&entry.Trust{Action: entry.TrustBranch, Issuer: issuer, Stream: "hr", Generation: 1, AtSeq: 3, Head: &one[2].digest, By: "op"})
			w.take(w.say("E4", w.joiner(1)), entry.DispositionAdmitted, "no-roster")
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := newWorld(t)
			first := w.say("", &schema.Heartbeat{Cuts: []schema.CutNotice{}})
			prev := w.prev
			other := []*said{first, w.say("E1", w.joiner(1)), w.say("E2", w.joiner(1))}
			w.seq, w.prev = 1, prev
			one := []*said{first, w.say("E3", w.joiner(1)), w.say("E4", w.mover(1))}
			w.begin()
			pin := w.entries[1].Body.(*entry.Trust)
			pin.AtSeq, pin.Head = 4, &one[2].digest
			tc.make(w, one, other)
			wants(t, w.publish().verify(w.options()))
		})
	}
}
