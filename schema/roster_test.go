package schema

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// crowd returns n live engagements like real ones, and n/10 closed ones.
func crowd(n int) (live []LiveEngagement, closed []ClosedEngagement) {
	end := at("2027-10-01T00:00:00Z")
	for i := range n {
		sub := fmt.Sprintf("E%06d", i)
		live = append(live, LiveEngagement{Subject: sub, Engagement: 2, State: StateActive, Since: at("2026-01-01T00:00:00Z"), Start: at("2026-01-01T00:00:00Z"), End: &end,
			Roles: []string{"soc-analyst"}, Person: Person{Name: Name{FamilyName: "Fleeta", GivenName: "Talya"}, DisplayName: "Talya Fleeta", Department: "Security Operations", UsageLocation: "US"}})
		if i%10 == 0 {
			closed = append(closed, ClosedEngagement{sub, 1, at("2025-12-01T00:00:00Z")})
		}
	}
	return live, closed
}

// rosterSET puts p into the longest claims that are allowed.
func rosterSET(p *Roster) *SET {
	return &SET{Issuer: "https://" + strings.Repeat("i", MaxURI-8), Audience: "urn:" + strings.Repeat("a", MaxURI-4), ID: "01926f3a-5b7c-7d2e-8f10-a1b2c3d4e5f6",
		IssuedAt: Instant{maxInstant}, Version: 1, Event: p, Stream: Position{strings.Repeat("s", MaxStreamID), MaxGeneration, MaxSeq, DigestOf(nil)}}
}

func TestSplitRosterFillsParts(t *testing.T) {
	live, closed := crowd(100_000)
	parts, err := SplitRoster("01926f3a-6000-7abc-9def-0123456789ab", RosterHead{MaxGeneration, MaxSeq - MaxRosterParts, DigestOf([]byte("head"))}, live, closed)
	if err != nil {
		t.Fatal(err)
	}
	var c RosterCheck
	people := 0
	for i, p := range parts {
		payload, err := EncodePadded(rosterSET(p))
		if err != nil {
			t.Fatalf("part %d: %v", i+1, err)
		}
		if room := MaxPayload - len(payload); i < len(parts)-1 && room > rosterFrame {
			t.Errorf("part %d leaves %d octets unused", i+1, room)
		}
		s, err := Decode(payload)
		if err != nil {
			t.Fatal(err)
		}
		whole, err := c.Add(s.Event.(*Roster))
		if err != nil || whole != (i == len(parts)-1) {
			t.Fatalf("part %d of %d: whole %v, %v", i+1, len(parts), whole, err)
		}
		people += len(p.Live)
	}
	if people != len(live) {
		t.Errorf("want %d people, got %d", len(live), people)
	}
	if _, err := c.Add(parts[0]); err == nil {
		t.Error("a part after the last was taken")
	}
}

func TestSplitRosterOfNobody(t *testing.T) {
	parts, err := SplitRoster("01926f3a-6000-7abc-9def-0123456789ab", RosterHead{Generation: 1}, nil, nil)
	if err != nil || len(parts) != 1 {
		t.Fatalf("want one empty part, got %d, %v", len(parts), err)
	}
	var c RosterCheck
	if whole, err := c.Add(parts[0]); !whole || err != nil {
		t.Errorf("want a whole roster, got %v, %v", whole, err)
	}
}

func TestSplitRosterRefuses(t *testing.T) {
	live, closed := crowd(20)
	head := RosterHead{1, 7, DigestOf([]byte("head"))}
	swapped := slices.Clone(live)
	swapped[3], swapped[4] = swapped[4], swapped[3]
	both := append(slices.Clone(closed[:1]), ClosedEngagement{"E000003", 2, at("2026-01-01T00:00:00Z")}, closed[1])
	for _, c := range []struct {
		name   string
		id     string
		live   []LiveEngagement
		closed []ClosedEngagement
	}{
		{"live out of order", "01926f3a-6000-7abc-9def-0123456789ab", swapped, closed},
		{"live twice", "01926f3a-6000-7abc-9def-0123456789ab", append(live[:1:1], live...), closed},
		{"closed out of order", "01926f3a-6000-7abc-9def-0123456789ab", live, []ClosedEngagement{closed[1], closed[0]}},
		{"live and closed", "01926f3a-6000-7abc-9def-0123456789ab", live, both},
		{"bad id", "roster", live, closed},
	} {
		if _, err := SplitRoster(c.id, head, c.live, c.closed); err == nil {
			t.Errorf("%s: want a refusal", c.name)
		}
	}
}

func TestRosterCheckRefusesMixtures(t *testing.T) {
	head := RosterHead{1, 7, DigestOf([]byte("head"))}
	live, closed := crowd(2000)
	split := func(id string, head RosterHead, live []LiveEngagement) []*Roster {
		parts, err := SplitRoster(id, head, live, closed)
		if err != nil || len(parts) < 3 {
			t.Fatalf("want at least 3 parts, got %d, %v", len(parts), err)
		}
		return parts
	}
	monday := split("01926f3a-6000-7abc-9def-0123456789ab", head, live)
	changed := slices.Clone(live)
	changed[1999].Roles = []string{"domain-admin"}
	forged := func(change func(*Roster)) []*Roster {
		parts := slices.Clone(monday)
		p := *parts[1]
		change(&p)
		parts[1] = &p
		return parts
	}
	last := len(monday) - 1
	for _, c := range []struct {
		name  string
		parts []*Roster
	}{
		{"part missing", slices.Delete(slices.Clone(monday), 1, 2)},
		{"part twice", slices.Insert(slices.Clone(monday), 1, monday[0])},
		{"parts swapped", append([]*Roster{monday[1], monday[0]}, monday[2:]...)},
		{"begins in the middle", monday[1:]},
		{"part of another roster", append(slices.Clone(monday[:1]), split("01926f3a-6000-7abc-9def-0123456789ac", head, live)[1:]...)},
		{"part of another head", append(slices.Clone(monday[:1]), split("01926f3a-6000-7abc-9def-0123456789ab", RosterHead{1, 8, DigestOf(nil)}, live)[1:]...)},
		{"part of another content", append(slices.Clone(monday[:last]), split("01926f3a-6000-7abc-9def-0123456789ab", head, changed)[last])},
		{"other number of parts", forged(func(p *Roster) { p.Parts++ })},
		{"statement changed under the digest", forged(func(p *Roster) { p.Live = slices.Clone(p.Live); p.Live[0].State = StateSuspended })},
		{"statement dropped", forged(func(p *Roster) { p.Live = p.Live[1:] })},
		{"live after closed", forged(func(p *Roster) { p.Closed = closed[:1] })},
	} {
		var check RosterCheck
		var err error
		for _, p := range c.parts {
			var whole bool
			if whole, err = check.Add(p); err != nil {
				if whole {
					t.Errorf("%s: whole in spite of %v", c.name, err)
				}
				break
			}
		}
		if err == nil {
			t.Errorf("%s: want an error", c.name)
		}
	}
}

// The digest is part of the wire: these octets must not change.
func TestRosterDigestIsLines(t *testing.T) {
	live, closed := crowd(1)
	live[0].Roles = nil
	var d RosterDigest
	if err := d.Live(&live[0]); err != nil {
		t.Fatal(err)
	}
	if err := d.Closed(&closed[0]); err != nil {
		t.Fatal(err)
	}
	want := DigestOf([]byte(`{"sub":"E000000","engagement":2,"state":"active","since":"2026-01-01T00:00:00Z","person":{"name":{"familyName":"Fleeta","givenName":"Talya"},"displayName":"Talya Fleeta","department":"Security Operations","usageLocation":"US"},"roles":[],"start":"2026-01-01T00:00:00Z","end":"2027-10-01T00:00:00Z"}
{"sub":"E000000","engagement":1,"effective":"2025-12-01T00:00:00Z"}
`))
	if d.Sum() != want {
		t.Errorf("want %s, got %s", want, d.Sum())
	}
	if d.Live(&live[0]) == nil {
		t.Error("a live statement was taken after a closed one")
	}
	var empty RosterDigest
	if empty.Sum() != DigestOf(nil) {
		t.Error("want the digest of nothing for no statements")
	}
}

func TestFillHeartbeatRepeatsEveryCutInTurn(t *testing.T) {
	var cuts []CutNotice
	for i := range 500 {
		cuts = append(cuts, CutNotice{fmt.Sprintf("E%06d", i), 1 + i, KindLeaver, at("2026-10-08T17:30:00Z"), uint64(10 + 3*i)})
	}
	told := map[uint64]int{}
	after, beats := uint64(0), 0
	for len(told) < len(cuts) {
		if beats++; beats > 100 {
			t.Fatalf("after %d heartbeats only %d of %d cuts were told", beats, len(told), len(cuts))
		}
		s := joiner()
		s.Subject, s.Occurred, s.Txn, s.Stream.Seq = "", nil, "", 1<<20+uint64(beats)
		var err error
		if after, err = FillHeartbeat(s, cuts, after); err != nil {
			t.Fatal(err)
		}
		payload, err := EncodePadded(s)
		if err != nil || len(payload) != SizeClass {
			t.Fatalf("want %d octets, got %d, %v", SizeClass, len(payload), err)
		}
		h := s.Event.(*Heartbeat)
		if h.Total != len(cuts) || len(s.Pad) > 120 {
			t.Errorf("want the heartbeat filled, got %d of %d cuts and %d octets of padding", len(h.Cuts), h.Total, len(s.Pad))
		}
		for _, c := range h.Cuts {
			told[c.Seq]++
		}
		if beats == 3 { // new cuts may arrive and old ones leave the window between two heartbeats
			cuts = append(cuts[10:], CutNotice{"new", 1, KindSuspend, at("2026-10-08T17:30:00Z"), 5000})
			for seq := range told {
				if seq < cuts[0].Seq {
					delete(told, seq)
				}
			}
		}
	}
	for _, n := range told {
		if n > 2 {
			t.Errorf("a cut was told %d times before all were told once", n)
		}
	}
}

func TestFillHeartbeatWithFewCuts(t *testing.T) {
	cuts := []CutNotice{{"a", 1, KindLeaver, at("2026-10-08T17:30:00Z"), 3}, {"b", 1, KindSuspend, at("2026-10-08T17:30:00Z"), 9}}
	for _, after := range []uint64{0, 3, 5, 9, 100} {
		s := joiner()
		s.Subject, s.Occurred, s.Txn = "", nil, ""
		if _, err := FillHeartbeat(s, cuts, after); err != nil {
			t.Fatal(err)
		}
		if h := s.Event.(*Heartbeat); !slices.Equal(h.Cuts, cuts) {
			t.Errorf("after %d: want both cuts in order, got %v", after, h.Cuts)
		}
	}
	s := joiner()
	s.Subject, s.Occurred, s.Txn = "", nil, ""
	if after, err := FillHeartbeat(s, nil, 7); err != nil || after != 7 {
		t.Errorf("no cuts: want 7, got %d, %v", after, err)
	}
	s.Stream.Seq = 9
	if _, err := FillHeartbeat(s, cuts, 0); codeOf(err) != CodeBadValue {
		t.Errorf("a cut with the heartbeat's own number: want %s, got %v", CodeBadValue, err)
	}
}

func BenchmarkDecodeRosterPart(b *testing.B) {
	live, closed := crowd(2000)
	parts, err := SplitRoster("01926f3a-6000-7abc-9def-0123456789ab", RosterHead{1, 7, DigestOf([]byte("head"))}, live, closed)
	if err != nil {
		b.Fatal(err)
	}
	payload, err := Encode(rosterSET(parts[0]))
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(payload)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Decode(payload); err != nil {
			b.Fatal(err)
		}
	}
}
