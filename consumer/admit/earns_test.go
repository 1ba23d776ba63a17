package admit

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"jmlbridge/schema"
)

// attack is a message that one check is there for. harm says what comes of it; empty: nothing.
type attack struct {
	check string
	name  string
	build func(c *Case)
	harm  func(v Verdict) string
}

// acts is the harm of a message that may do more than it should.
func acts(most Acts, what string) func(Verdict) string {
	return func(v Verdict) string {
		if v.Acts > most {
			return what
		}
		return ""
	}
}

var attacks = []attack{
	{"audience", "another enclave's message is fed to us",
		func(c *Case) { c.Message.Audience = "urn:other" },
		acts(Nothing, "somebody is let in who is to work elsewhere")},
	{"issuer and stream are those of the key", "one producer signs in another's name",
		func(c *Case) { c.Message.Issuer = "https://other" },
		acts(Nothing, "any producer speaks of anybody's people")},
	{"issuer and stream are those of the key", "a key signs in a stream that is not its own",
		func(c *Case) { c.Message.Stream.ID = "approvals" },
		acts(Nothing, "the key of one stream speaks in all")},
	{"not recorded before", "what was admitted is delivered again",
		func(c *Case) { c.Message = message(1, "", "A"); c.Message.Stream.Prev = schema.Digest{} },
		func(v Verdict) string {
			if v.Stream.State != Live {
				return "a repetition stops the stream as if it said two things"
			}
			return ""
		}},
	{"key in use at this place", "a key that was retired signs on",
		func(c *Case) { c.Key.Retired = &Point{1, 2} },
		acts(Nothing, "whoever finds the old key lets in whom they like")},
	{"key in its window", "a key that is over signs on",
		func(c *Case) { c.Key.NotAfter = t0.Add(-time.Second) },
		acts(Nothing, "a key is good for ever")},
	{"generation opened", "a restored producer goes on in a generation of its own making",
		func(c *Case) { c.Stream, c.Message.Stream.Generation = nil, 2 },
		acts(Cuts, "a generation that no operator knows of gives")},
	{"not issued in the future", "a message is dated ahead",
		func(c *Case) { c.Message.Issued = t0.Add(time.Hour) },
		acts(Cuts, "a heartbeat of tomorrow hides a freeze of today")},
	{"no jump out of reach", "a stolen key jumps to the last number there is",
		func(c *Case) { c.Message = message(schema.MaxSeq-1, "x", "Z") },
		func(v Verdict) string {
			if v.At.Seq > 4+MaxJump || v.Stream.Highest > 4+MaxJump {
				return "nothing that the producer says after it counts any more"
			}
			return ""
		}},
	{"not of a branch that was ruled out", "the branch that an operator ruled out goes on",
		func(c *Case) {
			c.Stream.RuledOut, c.Message = 2, message(3, "B2", "C2")
			recorded := c.Recorded
			c.Recorded = func(at uint64) []Recorded {
				if at == 2 {
					return append(recorded(at), Recorded{Payload: hash("B2"), Prev: hash("A"), RuledOut: true})
				}
				return recorded(at)
			}
		},
		func(v Verdict) string {
			if v.Stream.State != Live || v.Acts > Cuts {
				return "whoever writes it stops the stream again as often as they like"
			}
			return ""
		}},
	{"stream says one thing", "a stream that said two things goes on",
		func(c *Case) { c.Stream.State = ForkedAway },
		acts(Cuts, "the branch that came first wins, whoever wrote it")},
	{"stream says one thing", "a generation that is over goes on",
		func(c *Case) { c.Stream.State = Closed },
		acts(Cuts, "what the producer lost in its restore gives")},
	{"neighbours in the chain agree", "the next number continues another history",
		func(c *Case) { c.Message = message(3, "B2", "C") },
		func(v Verdict) string {
			if v.Stream.State == Live || v.Acts > Cuts {
				return "two histories are spliced, and nobody is told"
			}
			return ""
		}},
	{"neighbours in the chain agree", "another message comes at a number that waits already",
		func(c *Case) { c.Message = message(4, "C", "D2") },
		func(v Verdict) string {
			if v.Stream.State == Live {
				return "the stream says two things, and nobody is told"
			}
			return ""
		}},
	{"not before the start", "something from before we joined is brought up again",
		func(c *Case) { c.Stream.Joined = 2; c.Message = message(1, "", "A"); forget(c, 1) },
		func(v Verdict) string {
			if v.Code != CodeRollback {
				return "a rollback is not told from a gap"
			}
			return ""
		}},
	{"not stood in for by a roster", "what was withheld comes after a roster has stood in for it",
		func(c *Case) { c.Stream.Covered = 2; c.Message = message(1, "", "A"); forget(c, 1) },
		func(v Verdict) string {
			if v.Disposition != Late {
				return "it passes for something that is missing before it"
			}
			return ""
		}},
	{"nothing missing before", "what stands before a joiner is withheld",
		func(c *Case) { c.Message = message(5, "D", "E") },
		acts(Cuts, "access is given past a leaver that was withheld")},
	{"content", "a kind of event comes that the key may not sign",
		func(c *Case) { c.Key.Kinds = []schema.Kind{schema.KindHeartbeat} },
		func(v Verdict) string {
			if v.Disposition != ContentRefused || v.Stream.Head != 3 {
				return "nothing takes its place in the chain any more"
			}
			return ""
		}},
}

// forget takes what is recorded at seq out of the archive.
func forget(c *Case, seq uint64) {
	recorded := c.Recorded
	c.Recorded = func(at uint64) []Recorded {
		if at == seq {
			return nil
		}
		return recorded(at)
	}
}

// come is what an attack does to admission composed of these checks.
func (a *attack) come(list []check) (harm string) {
	stream := Stream{State: Live, Generation: 1, Joined: 1, Head: 2, HeadHash: hash("B"), Highest: 4, GapSince: t0}
	recorded := map[uint64][]Recorded{1: {{Payload: hash("A"), Prev: schema.Digest{}}}, 2: {{Payload: hash("B"), Prev: hash("A")}}, 4: {{Payload: hash("D"), Prev: hash("C")}}}
	c := &Case{Enclave: enclave, Key: key(), Stream: &stream, Latest: stream, Message: message(3, "B", "C"), Now: t0, Recorded: func(seq uint64) []Recorded { return recorded[seq] }}
	a.build(c)
	defer func() {
		if p := recover(); p != nil {
			harm = fmt.Sprintf("the program stops (%v)", p)
		}
	}()
	return a.harm(judge(list, c))
}

// Admission without any one of its checks lets some attack do harm, and with all of them none.
func TestEachCheckEarnsItsPlace(t *testing.T) {
	var table strings.Builder
	for i := range attacks {
		a := &attacks[i]
		if harm := a.come(checks); harm != "" {
			t.Errorf("with every check: %s: %s", a.name, harm)
		}
		if !slices.ContainsFunc(checks, func(c check) bool { return c.name == a.check }) {
			t.Errorf("%s: there is no check %q", a.name, a.check)
		}
	}
	for _, left := range checks {
		without := slices.DeleteFunc(slices.Clone(checks), func(c check) bool { return c.name == left.name })
		met := false
		for i := range attacks {
			a := &attacks[i]
			if a.check != left.name {
				continue
			}
			harm := a.come(without)
			if harm == "" {
				t.Errorf("without %q: want harm when %s, got none", left.name, a.name)
				continue
			}
			met = true
			fmt.Fprintf(&table, "  without %-40q %-62s %s\n", left.name, a.name+":", harm)
		}
		if !met {
			t.Errorf("nothing fails without the check %q: does it earn its place?", left.name)
		}
	}
	t.Logf("what each check is there for:\n%s", table.String())
}
