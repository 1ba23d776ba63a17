package schema

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

var (
	genSubject    = rapid.StringMatching(`[!-~]{1,64}`)
	genName       = rapid.StringMatching(`[a-z0-9][a-z0-9._-]{0,63}`)
	genEngagement = rapid.IntRange(1, MaxEngagement)
	genUUID       = rapid.StringMatching(`[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}`)
	genURI        = rapid.StringMatching(`[a-z][a-z0-9+.-]{0,9}:[A-Za-z0-9._~:/?#@!$&'()*+,;=%-]{1,200}`)
	genInstant    = rapid.Map(rapid.Int64Range(1, maxInstant), func(s int64) Instant { return Instant{s} })
	genDigest     = rapid.Map(rapid.SliceOfN(rapid.Byte(), 1, 32), func(b []byte) Digest { return DigestOf(b) })
	genText       = rapid.Map(rapid.StringN(0, 60, MaxText), func(s string) string {
		return strings.Map(func(c rune) rune {
			if checkCharacters("", string(c)) != nil {
				return -1
			}
			return c
		}, s)
	})
	genRoles = rapid.Map(rapid.SliceOfNDistinct(genName, 0, 8, rapid.ID), func(r []string) []string {
		slices.Sort(r)
		return append([]string{}, r...)
	})
)

func maybe[T any](t *rapid.T, g *rapid.Generator[T], label string) *T {
	if !rapid.Bool().Draw(t, label+"?") {
		return nil
	}
	v := g.Draw(t, label)
	return &v
}

func genPerson(t *rapid.T) Person {
	text := func(label string) string { return genText.Draw(t, label) }
	p := Person{Name: Name{text("formatted"), text("family"), text("given"), text("middle")}, DisplayName: "x" + rapid.StringMatching(`[a-zé<"\\>]{0,20}`).Draw(t, "display"),
		UserType: text("type"), Title: text("title"), Organization: text("organization"), Division: text("division"), Department: text("department"),
		CostCenter: text("cost"), PreferredAlias: text("alias"), UsageLocation: rapid.StringMatching(`([A-Z]{2})?`).Draw(t, "country")}
	if m := maybe(t, genSubject, "manager"); m != nil {
		p.Manager = &Manager{*m}
	}
	return p
}

func genSpan(t *rapid.T) (start Instant, end *Instant) {
	start = genInstant.Draw(t, "start")
	return start, maybe(t, rapid.Map(rapid.Int64Range(start.sec, maxInstant), func(s int64) Instant { return Instant{s} }), "end")
}

func genStatements(t *rapid.T, most int) (live []LiveEngagement, closed []ClosedEngagement) {
	live, closed = []LiveEngagement{}, []ClosedEngagement{}
	subjects := rapid.SliceOfNDistinct(genSubject, 0, most, rapid.ID).Draw(t, "subjects")
	slices.Sort(subjects)
	for _, sub := range subjects {
		n := rapid.IntRange(1, 5).Draw(t, "engagement")
		for i := 1; i < n; i++ {
			closed = append(closed, ClosedEngagement{sub, i, genInstant.Draw(t, "effective")})
		}
		if rapid.Bool().Draw(t, "live") {
			l := LiveEngagement{Subject: sub, Engagement: n, State: rapid.SampledFrom([]string{StateActive, StateSuspended}).Draw(t, "state"),
				Since: genInstant.Draw(t, "since"), Person: genPerson(t), Roles: genRoles.Draw(t, "roles")}
			l.Start, l.End = genSpan(t)
			live = append(live, l)
		}
	}
	return live, closed
}

func genSET(t *rapid.T) *SET {
	s := &SET{Issuer: genURI.Draw(t, "iss"), Audience: genURI.Draw(t, "aud"), ID: genUUID.Draw(t, "jti"), IssuedAt: genInstant.Draw(t, "iat"), Version: 1,
		Stream: Position{ID: genName.Draw(t, "stream"), Generation: rapid.IntRange(1, MaxGeneration).Draw(t, "generation"), Seq: rapid.Uint64Range(1, MaxSeq).Draw(t, "seq")}}
	if s.Stream.Seq > 1 {
		s.Stream.Prev = genDigest.Draw(t, "prev")
	}
	kind := rapid.SampledFrom(Kinds).Draw(t, "kind")
	if kind != KindHeartbeat && kind != KindRoster {
		s.Subject, s.Occurred, s.Txn = genSubject.Draw(t, "sub"), maybe(t, genInstant, "toe"), genText.Draw(t, "txn")
		s.Txn = strings.ToValidUTF8(s.Txn[:min(len(s.Txn), MaxTxn)], "")
	}
	engagement, effective := genEngagement.Draw(t, "engagement"), genInstant.Draw(t, "effective")
	reason := func() string { return rapid.SampledFrom(Reasons(kind)).Draw(t, "reason") }
	switch kind {
	case KindJoiner:
		e := &Joiner{Engagement: engagement, Person: genPerson(t), Roles: genRoles.Draw(t, "roles")}
		e.Start, e.End = genSpan(t)
		s.Event = e
	case KindMover:
		e := &Mover{Engagement: engagement, Person: genPerson(t), Roles: genRoles.Draw(t, "roles"), Effective: effective}
		e.Start, e.End = genSpan(t)
		s.Event = e
	case KindLeaver:
		s.Event = &Leaver{engagement, effective, reason(), rapid.Bool().Draw(t, "urgent")}
	case KindSuspend:
		s.Event = &Suspend{engagement, effective, reason()}
	case KindResume:
		s.Event = &Resume{engagement, effective, reason()}
	case KindHeartbeat:
		e := &Heartbeat{Cuts: []CutNotice{}}
		seqs := rapid.SliceOfNDistinct(rapid.Uint64Range(1, max(1, s.Stream.Seq-1)), 0, int(min(6, s.Stream.Seq-1)), rapid.ID).Draw(t, "seqs")
		slices.Sort(seqs)
		for _, seq := range seqs {
			e.Cuts = append(e.Cuts, CutNotice{genSubject.Draw(t, "sub"), genEngagement.Draw(t, "e"), rapid.SampledFrom([]Kind{KindLeaver, KindSuspend}).Draw(t, "cut"), genInstant.Draw(t, "effective"), seq})
		}
		e.Total = rapid.IntRange(len(e.Cuts), MaxCuts).Draw(t, "total")
		s.Event = e
	case KindRoster:
		e := &Roster{ID: genUUID.Draw(t, "id"), Digest: genDigest.Draw(t, "digest"), Part: 1, Head: RosterHead{Generation: s.Stream.Generation, Seq: s.Stream.Seq - 1}}
		e.Parts = rapid.IntRange(1, MaxRosterParts).Draw(t, "parts")
		if e.Head.Seq > 0 {
			e.Head.Hash = genDigest.Draw(t, "hash")
		}
		e.Live, e.Closed = genStatements(t, 5)
		s.Event = e
	case KindApproval:
		s.Event = &Approval{engagement, genRoles.Draw(t, "roles"), effective}
	}
	return s
}

func TestEncodeDecodeIsIdentity(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := genSET(t)
		payload, err := EncodePadded(s)
		if codeOf(err) == CodeTooLong {
			t.Skip("larger than the size class")
		}
		if err != nil {
			t.Fatalf("%+v: %v", s, err)
		}
		if s.Event.Kind() != KindRoster && len(payload) != SizeClass {
			t.Fatalf("want %d octets, got %d", SizeClass, len(payload))
		}
		back, err := Decode(payload)
		if err != nil {
			t.Fatalf("%s: %v", payload, err)
		}
		if !reflect.DeepEqual(s, back) {
			t.Fatalf("want %+v, got %+v", s, back)
		}
		var std any
		if err := json.Unmarshal(payload, &std); err != nil {
			t.Fatalf("encoding/json does not read %s: %v", payload, err)
		}
		checkTags(t, s.Event)
	})
}

// checkTags holds that the struct tags and the hand-written encoder say the same, for whoever marshals an
// event by encoding/json.
func checkTags(t *rapid.T, e Event) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(e); err != nil {
		t.Fatal(err)
	}
	if want, got := strings.TrimSuffix(b.String(), "\n"), string(e.append(nil)); want != got {
		t.Fatalf("encoding/json writes\n%s\nwe write\n%s", want, got)
	}
	back, err := DecodeEvent(e.Kind(), b.Bytes())
	if err != nil || !reflect.DeepEqual(back, e) {
		t.Fatalf("want %+v, got %+v, %v", e, back, err)
	}
}

// Every single-octet change of a payload is refused or is another payload in canonical form.
func TestChangedOctetIsNeverTheSameEvent(t *testing.T) {
	for _, v := range vectors(t, "accepted") {
		if len(v.payload) > 1200 {
			continue
		}
		want, err := Decode(v.payload)
		if err != nil {
			t.Fatal(err)
		}
		for i := range v.payload {
			for _, flip := range []byte{1, 0x20, 0x80} {
				b := bytes.Clone(v.payload)
				b[i] ^= flip
				if got, err := Decode(b); err == nil && reflect.DeepEqual(got, want) {
					t.Fatalf("%s: changing octet %d by %#x leaves the same event", v.name, i, flip)
				}
			}
		}
	}
}

func TestSplitAndCheckRoster(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		live, closed := genStatements(t, 40)
		head := RosterHead{3, 700, DigestOf([]byte("head"))}
		id := genUUID.Draw(t, "id")
		parts, err := SplitRoster(id, head, live, closed)
		if err != nil {
			t.Fatal(err)
		}
		var c RosterCheck
		var gotLive []LiveEngagement
		var gotClosed []ClosedEngagement
		for i, p := range parts {
			whole, err := c.Add(p)
			if err != nil || whole != (i == len(parts)-1) {
				t.Fatalf("part %d of %d: %v, %v", i+1, len(parts), whole, err)
			}
			gotLive, gotClosed = append(gotLive, p.Live...), append(gotClosed, p.Closed...)
		}
		if fmt.Sprint(gotLive) != fmt.Sprint(live) || fmt.Sprint(gotClosed) != fmt.Sprint(closed) {
			t.Fatal("the parts do not add up to what was split")
		}
	})
}

func FuzzDecode(f *testing.F) {
	for _, dir := range []string{"accepted", "refused", "newer"} {
		for _, v := range vectors(f, dir) {
			if len(v.payload) < 4096 {
				f.Add(v.payload)
			}
		}
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		frame, ferr := DecodeFrame(payload)
		s, err := Decode(payload)
		if err != nil {
			if codeOf(err) == "" {
				t.Fatalf("want a *RefusedError, got %v", err)
			}
			return
		}
		again, err := Encode(s)
		if err != nil || !bytes.Equal(again, payload) {
			t.Fatalf("accepted, but encodes to %s, %v", again, err)
		}
		if ferr != nil || frame.Stream != s.Stream || frame.ID != s.ID || frame.Subject != s.Subject || frame.Kind != s.Event.Kind() {
			t.Fatalf("accepted, but the frame is %+v, %v", frame, ferr)
		}
		var std any
		if err := json.Unmarshal(payload, &std); err != nil {
			t.Fatalf("accepted, but encoding/json says %v", err)
		}
	})
}

func FuzzCutCore(f *testing.F) {
	for _, dir := range []string{"accepted", "newer"} {
		for _, v := range vectors(f, dir) {
			f.Add(v.payload)
		}
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		c, err := DecodeCutCore(payload)
		if err != nil {
			if codeOf(err) == "" {
				t.Fatalf("want a *RefusedError, got %v", err)
			}
			return
		}
		if !c.Kind.Cuts() || c.Version < 1 || c.Subject == "" || c.Engagement < 1 || c.Engagement > MaxEngagement || c.Effective.IsZero() || c.Stream.Seq < 1 {
			t.Fatalf("a cut core that breaks its rules: %+v", c)
		}
		if frame, err := DecodeFrame(payload); err != nil || frame != c.Frame {
			t.Fatalf("want the frame %+v, got %+v, %v", c.Frame, frame, err)
		}
		if !json.Valid(payload) {
			t.Fatal("accepted, but it is no JSON")
		}
	})
}
