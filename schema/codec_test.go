package schema

import (
	"bytes"
	"strings"
	"testing"
	"time"
)

func at(s string) Instant {
	t, err := time.Parse(instantLayout, s)
	if err != nil {
		panic(err)
	}
	return At(t)
}

// joiner is a full event of about the size that real ones have.
func joiner() *SET {
	occurred, end := at("2026-10-01T09:00:00Z"), at("2027-10-01T00:00:00Z")
	return &SET{
		Issuer: "https://iam.mssp.example/jml", Audience: "urn:jmlbridge:enclave:gov-1",
		ID: "01926f3a-5b7c-7d2e-8f10-a1b2c3d4e5f6", IssuedAt: at("2026-10-01T09:00:05Z"), Occurred: &occurred, Txn: "HR-4711", Subject: "1222",
		Stream: Position{"hr", 1, 42, DigestOf([]byte("before"))}, Version: 1,
		Event: &Joiner{Engagement: 1, Roles: []string{"soc-analyst", "soc-lead"}, Start: at("2026-10-05T05:00:00Z"), End: &end,
			Person: Person{Name: Name{"Dr. Zoë \"Zo\" Fleeta", "Fleeta", "Zoë", "Q"}, DisplayName: "Zoë Fleeta", UserType: "Employee", Title: "Analyst", Organization: "Woodgrove",
				Division: "Electronics", Department: "R&D <SOC>", CostCenter: `CC\3035`, Manager: &Manager{"1684"}, UsageLocation: "US", PreferredAlias: "zoe.fleeta"}},
	}
}

func TestEncodePaddedFillsTheSizeClass(t *testing.T) {
	s := joiner()
	payload, err := EncodePadded(s)
	if err != nil {
		t.Fatal(err)
	}
	if len(payload) != SizeClass {
		t.Errorf("want %d octets, got %d", SizeClass, len(payload))
	}
	if again, err := EncodePadded(s); err != nil || !bytes.Equal(again, payload) {
		t.Errorf("padding twice changed the payload: %v", err)
	}
	s.Event.(*Joiner).Person.Title = strings.Repeat("x", MaxText)
	s.Event.(*Joiner).Person.Department = strings.Repeat("x", MaxText)
	for i := range 20 {
		s.Event.(*Joiner).Roles = append(s.Event.(*Joiner).Roles, "team-"+string(rune('a'+i))+strings.Repeat("y", 50))
	}
	if _, err := EncodePadded(s); codeOf(err) != CodeTooLong {
		t.Errorf("an event past the size class: want %s, got %v", CodeTooLong, err)
	}
}

func TestBrokenFrameOfNewerVersionIsRefused(t *testing.T) {
	var v2 []byte
	for _, v := range vectors(t, "newer") {
		if v.name == "leaver-v2" {
			v2 = v.payload
		}
	}
	deep := func(n int) []byte {
		return bytes.Replace(v2, []byte(`"deep":`), []byte(`"deep":`+strings.Repeat("[", n)+strings.Repeat("]", n)+`,"flat":`), 1)
	}
	for _, c := range []struct {
		name    string
		payload []byte
		want    Code
	}{
		{"as it is", v2, CodeNewerVersion},
		{"trailing", append(bytes.Clone(v2), ' '), CodeTrailing},
		{"truncated", v2[:len(v2)-1], CodeMalformed},
		{"prev twice", bytes.Replace(v2, []byte(`"seq":42,`), []byte(`"seq":42,"seq":42,`), 1), CodeDuplicate},
		{"nested to the bound", deep(maxDepth - 5), CodeNewerVersion},
		{"nested past the bound", deep(maxDepth), CodeTooLong},
		{"nested without end", deep(MaxPayload / 3), CodeTooLong},
	} {
		if _, err := Decode(c.payload); codeOf(err) != c.want {
			t.Errorf("%s: want %s, got %v", c.name, c.want, err)
		}
	}
}

func TestDecodeEventForgivesOnlySpelling(t *testing.T) {
	for _, c := range []struct {
		kind Kind
		data string
		want Code
	}{
		{KindSuspend, "{ \"reason\": \"leave\",\n \"effective\": \"2026-10-08T17:30:00Z\", \"engagement\": 1 }\n", ""},
		{KindSuspend, `{"engagement":1,"effective":"2026-10-08T17:30:00Z","reason":"leave"}`, ""},
		{KindSuspend, `{"engagement":1,"engagement":2,"effective":"2026-10-08T17:30:00Z","reason":"leave"}`, CodeDuplicate},
		{KindSuspend, `{"engagement":1,"effective":"2026-10-08T17:30:00Z","reason":"leave","urgent":true}`, CodeUnknownMember},
		{KindSuspend, `{"engagement":1,"effective":"2026-10-08T17:30:00Z"}`, CodeMissing},
		{KindSuspend, `{"engagement":0,"effective":"2026-10-08T17:30:00Z","reason":"leave"}`, CodeBadValue},
		{KindSuspend, `{"engagement":4294967297,"effective":"2026-10-08T17:30:00Z","reason":"leave"}`, CodeBadValue},
		{KindSuspend, `{"engagement":1,"effective":"2026-10-08T17:30:00Z","reason":"leave"}{}`, CodeTrailing},
		{KindSuspend, strings.Repeat(" ", MaxPayload+1), CodeTooLong},
		{"rehire", `{}`, CodeUnknownEvent},
	} {
		e, err := DecodeEvent(c.kind, []byte(c.data))
		if codeOf(err) != c.want || (err == nil) != (e != nil) {
			t.Errorf("%.80s: want %q, got %v, %v", c.data, c.want, e, err)
		}
	}
}

// A refusal is written to ledgers and logs: it must name the place, never what stands there.
func TestRefusalsDoNotTellAttributes(t *testing.T) {
	for _, change := range []func(*Person){
		func(p *Person) { p.Title = "Secret\x00Name" },
		func(p *Person) { p.DisplayName = strings.Repeat("SecretName", 30) },
		func(p *Person) { p.UsageLocation = "SecretName" },
		func(p *Person) { p.Manager.Value = "Secret Name" },
	} {
		s := joiner()
		change(&s.Event.(*Joiner).Person)
		_, err := Encode(s)
		if codeOf(err) == "" || strings.Contains(err.Error(), "Secret") {
			t.Errorf("want a refusal without the value, got %v", err)
		}
	}
}

func codeOf(err error) Code {
	if re, ok := err.(*RefusedError); ok {
		return re.Code
	}
	return ""
}

func BenchmarkDecode(b *testing.B) {
	payload, err := EncodePadded(joiner())
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

func BenchmarkEncode(b *testing.B) {
	s := joiner()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := EncodePadded(s); err != nil {
			b.Fatal(err)
		}
	}
}
