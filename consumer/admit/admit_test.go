package admit

import (
	"testing"
	"time"

	"jmlbridge/schema"
)

const (
	enclave = "urn:jmlbridge:enclave:gov-1"
	iss     = "https://iam.mssp.example/jml"
)

var t0 = time.Date(2026, 11, 23, 4, 0, 0, 0, time.UTC)

// hash names a payload.
func hash(name string) schema.Digest { return schema.DigestOf([]byte(name)) }

// message is a joiner with this payload at seq, after one with the payload prev.
func message(seq uint64, prev, payload string) Message {
	return Message{Issuer: iss, Audience: enclave, Stream: schema.Position{ID: "hr", Generation: 1, Seq: seq, Prev: hash(prev)}, Payload: hash(payload), Issued: t0, Kind: schema.KindJoiner}
}

func key() *Key { return &Key{Issuer: iss, Stream: "hr", Kinds: schema.Kinds} }

// Every check and every code: what is done, and what it may do.
func TestJudge(t *testing.T) {
	// A -> B (head) ... D (ahead, after a C that did not come)
	recorded := map[uint64][]Recorded{1: {{Payload: hash("A"), Prev: schema.Digest{}}}, 2: {{Payload: hash("B"), Prev: hash("A")}}, 4: {{Payload: hash("D"), Prev: hash("C")}}}
	stream := Stream{State: Live, Generation: 1, Joined: 1, Head: 2, HeadHash: hash("B"), Highest: 4, GapSince: t0}

	lose := func(c *Case, seq uint64) {
		c.Recorded = func(at uint64) []Recorded {
			if at == seq {
				return nil
			}
			return recorded[at]
		}
	}
	// out makes B2 in the place of B a message that an operator ruled out.
	out := func(c *Case) {
		c.Stream.RuledOut = 2
		c.Recorded = func(at uint64) []Recorded {
			if at == 2 {
				return []Recorded{{Payload: hash("B2"), Prev: hash("A"), RuledOut: true}, recorded[2][0]}
			}
			return recorded[at]
		}
	}
	for _, c := range []struct {
		name   string
		change func(c *Case)
		m      Message
		want   Disposition
		code   Code
		acts   Acts
		head   uint64
	}{
		{"the one that is missing", nil, message(3, "B", "C"), Admitted, "", Fully, 3},
		{"another enclave's", func(c *Case) { c.Message.Audience = "urn:other" }, message(3, "B", "C"), Refused, CodeWrongEnclave, Nothing, 2},
		{"another issuer's", func(c *Case) { c.Message.Issuer = "https://other" }, message(3, "B", "C"), Refused, CodeForged, Nothing, 2},
		{"of a stream that is not the key's", func(c *Case) { c.Message.Stream.ID = "x" }, message(3, "B", "C"), Refused, CodeForged, Nothing, 2},
		{"without a key", func(c *Case) { c.Key = nil }, message(3, "B", "C"), Refused, CodeForged, Nothing, 2},
		{"of a key that may say nothing", func(c *Case) { c.Key = new(Key) }, message(3, "B", "C"), Refused, CodeForged, Nothing, 2},
		{"admitted before", nil, message(1, "", "A"), Duplicate, CodeReplay, Nothing, 2},
		{"waiting already", nil, message(4, "C", "D"), Duplicate, CodeReplay, Nothing, 2},
		{"a repetition when the key is over", func(c *Case) { c.Key.NotAfter = t0.Add(-time.Hour) }, message(1, "", "A"), Duplicate, CodeReplay, Nothing, 2},
		{"retired before", func(c *Case) { c.Key.Retired = &Point{1, 2} }, message(3, "B", "C"), Refused, CodeKeyRetired, Nothing, 2},
		{"retired after", func(c *Case) { c.Key.Retired = &Point{1, 3} }, message(3, "B", "C"), Admitted, "", Fully, 3},
		{"retired in a later generation", func(c *Case) { c.Key.Retired = &Point{2, 1} }, message(3, "B", "C"), Admitted, "", Fully, 3},
		{"revoked", func(c *Case) { c.Key.Retired = &Point{} }, message(3, "B", "C"), Refused, CodeKeyRetired, Nothing, 2},
		{"before the key", func(c *Case) { c.Key.NotBefore = t0.Add(time.Second) }, message(3, "B", "C"), Parked, CodeKeyWindow, Nothing, 2},
		{"after the key", func(c *Case) { c.Key.NotAfter = t0.Add(-time.Second) }, message(3, "B", "C"), Parked, CodeKeyWindow, Nothing, 2},
		{"after the key, judged again", func(c *Case) { c.Key.NotAfter = t0.Add(-time.Second); c.Again = true }, message(3, "B", "C"), Admitted, "", Fully, 3},
		{"a generation that nobody opened", func(c *Case) { c.Stream = nil; c.Message.Stream.Generation = 2 }, message(3, "B", "C"), Parked, CodeGeneration, Cuts, 0},
		{"a generation that is over", func(c *Case) { c.Stream.State = Closed }, message(3, "B", "C"), Behind, CodeOldGeneration, Cuts, 2},
		{"of the future", func(c *Case) { c.Message.Issued = t0.Add(MaxSkew + time.Second) }, message(3, "B", "C"), Parked, CodeFuture, Cuts, 2},
		{"of the future within the skew", func(c *Case) { c.Message.Issued = t0.Add(MaxSkew) }, message(3, "B", "C"), Admitted, "", Fully, 3},
		{"furthest jump", nil, message(4+MaxJump, "x", "Z"), Ahead, CodeGap, Cuts, 2},
		{"too far", nil, message(5+MaxJump, "x", "Z"), Parked, CodeFastForward, Cuts, 2},
		{"the largest number", nil, message(schema.MaxSeq-1, "x", "Z"), Parked, CodeFastForward, Cuts, 2},
		{"of a forked stream", func(c *Case) { c.Stream.State = ForkedAway }, message(3, "B", "C"), Forked, CodeFork, Cuts, 2},
		{"of a stream in an unknown state", func(c *Case) { c.Stream.State = "?" }, message(3, "B", "C"), Forked, CodeFork, Cuts, 2},
		{"another at an admitted place", nil, message(1, "", "A2"), Forked, CodeFork, Cuts, 2},
		{"another at the head", nil, message(2, "A", "B2"), Forked, CodeFork, Cuts, 2},
		{"after another head", nil, message(3, "B2", "C"), Forked, CodeFork, Cuts, 2},
		{"another at a waiting place", nil, message(4, "C", "D2"), Forked, CodeFork, Cuts, 2},
		{"before a waiting one that names another", nil, message(3, "B", "C2"), Forked, CodeFork, Cuts, 2},
		{"after a waiting one of another hash", nil, message(5, "D2", "E"), Forked, CodeFork, Cuts, 2},
		{"after a waiting one", nil, message(5, "D", "E"), Ahead, CodeGap, Cuts, 2},
		{"after one that was ruled out", out, message(3, "B2", "C2"), RuledOut, CodeRuledOut, Cuts, 2},
		{"the same when the stream is forked again", func(c *Case) { out(c); c.Stream.State = ForkedAway }, message(3, "B2", "C2"), RuledOut, CodeRuledOut, Cuts, 2},
		{"what was ruled out, again", out, message(2, "A", "B2"), Duplicate, CodeReplay, Nothing, 2},
		{"the chain beside what was ruled out", out, message(3, "B", "C"), Admitted, "", Fully, 3},
		{"a third branch", out, message(2, "A", "B3"), Forked, CodeFork, Cuts, 2},
		{"from before the start", func(c *Case) { c.Stream.Joined = 2; lose(c, 1) }, message(1, "", "A"), Behind, CodeRollback, Cuts, 2},
		{"missing when a roster stood in for it", func(c *Case) { c.Stream.Covered = 2; lose(c, 1) }, message(1, "", "A"), Late, CodeCovered, Cuts, 2},
		{"the same, at the head of the roster", func(c *Case) { c.Stream.Covered = 2; lose(c, 2) }, message(2, "A", "B"), Late, CodeCovered, Cuts, 2},
		{"another at the head of the roster", func(c *Case) { c.Stream.Covered = 2; lose(c, 2) }, message(2, "A", "B2"), Forked, CodeFork, Cuts, 2},
		{"another than the one after it names", func(c *Case) { c.Stream.Covered = 2; lose(c, 1) }, message(1, "", "A2"), Forked, CodeFork, Cuts, 2},
		{"another where the roster had something", func(c *Case) { c.Stream.Covered = 2 }, message(1, "", "A2"), Forked, CodeFork, Cuts, 2},
		{"before any roster of a stream joined late", func(c *Case) { c.Stream.Unrostered = true }, message(3, "B", "C"), Admitted, CodeNoRoster, Cuts, 3},
		{"an approval in such a stream", func(c *Case) {
			c.Stream.Unrostered, c.Message.Kind, c.Key.Kinds = true, schema.KindApproval, []schema.Kind{schema.KindApproval}
		}, message(3, "B", "C"), Admitted, "", Fully, 3},
		{"of a newer version", func(c *Case) { c.Message.Content = CodeNewerVersion }, message(3, "B", "C"), Parked, CodeNewerVersion, Cuts, 2},
		{"of refused content", func(c *Case) { c.Message.Content = "unknown-member" }, message(3, "B", "C"), ContentRefused, "unknown-member", Nothing, 3},
		{"of refused content ahead", func(c *Case) { c.Message.Content = "unknown-member" }, message(5, "D", "E"), Ahead, CodeGap, Nothing, 2},
		{"of a kind that the key may not say", func(c *Case) { c.Key.Kinds = []schema.Kind{schema.KindHeartbeat} }, message(3, "B", "C"), ContentRefused, CodeKind, Nothing, 3},
		{"of such a kind ahead", func(c *Case) { c.Key.Kinds = []schema.Kind{schema.KindHeartbeat} }, message(5, "D", "E"), Ahead, CodeGap, Nothing, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := stream
			x := &Case{Enclave: enclave, Key: key(), Stream: &s, Latest: stream, Message: c.m, Now: t0, Recorded: func(seq uint64) []Recorded { return recorded[seq] }}
			if c.change != nil {
				c.change(x)
			}
			v := Judge(x)
			if v.Disposition != c.want || v.Code != c.code || v.Acts != c.acts || v.Stream.Head != c.head {
				t.Errorf("want %s %q, acts %d, head %d; got %s %q, acts %d, head %d", c.want, c.code, c.acts, c.head, v.Disposition, v.Code, v.Acts, v.Stream.Head)
			}
			if v.At.Seq > 4+MaxJump {
				t.Errorf("want a place within reach, got %+v", v.At)
			}
		})
	}
}

func TestTheZeroVerdictDoesNothing(t *testing.T) {
	var v Verdict
	if v.Disposition != Parked || v.Acts != Nothing || v.Stream.State == Live {
		t.Errorf("want the zero verdict to keep and to do nothing, got %+v", v)
	}
	if v := Judge(&Case{}); v.Acts != Nothing {
		t.Errorf("want an empty case to do nothing, got %+v", v)
	}
	if v := Judge(&Case{Enclave: enclave, Key: key(), Message: message(1, "", "A"), Now: t0}); v.Disposition != Parked || v.Acts != Cuts {
		t.Errorf("want a stream that nobody opened parked, got %+v", v)
	}
}

func TestEveryCheckIsAsked(t *testing.T) {
	want := []string{"audience", "issuer and stream are those of the key", "not recorded before", "key in use at this place", "key in its window", "generation opened",
		"not issued in the future", "no jump out of reach", "not of a branch that was ruled out", "stream says one thing", "neighbours in the chain agree", "not before the start", "not stood in for by a roster", "nothing missing before", "content"}
	if len(checks) != len(want) {
		t.Fatalf("want %d checks, got %d", len(want), len(checks))
	}
	for i, c := range checks {
		if c.name != want[i] {
			t.Errorf("check %d: want %q, got %q", i, want[i], c.name)
		}
	}
}

func TestHole(t *testing.T) {
	s := Stream{Head: 2, HeadHash: hash("B"), GapSince: t0}
	if _, ok := Hole(s, 3, hash("B")); ok {
		t.Error("want no hole before the next")
	}
	if g, ok := Hole(s, 7, hash("F")); !ok || g != (Gap{3, 6, hash("B"), hash("F"), t0}) {
		t.Errorf("want 3 to 6 missing between B and F, got %+v", g)
	}
}
