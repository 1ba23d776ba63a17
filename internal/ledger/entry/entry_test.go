package entry

import (
	"bytes"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"jmlbridge/schema"
)

var update = flag.Bool("new-vectors", false, "write vectors that do not exist yet; existing ones are never changed")

var (
	noon = time.Date(2026, 11, 23, 12, 0, 0, 125e6, time.UTC)
	pos  = Position{"https://iam.mssp.example/jml", "hr", 2, 4711}
	who  = Who{"https://iam.mssp.example/jml", "E0012345", 3}
	d1   = schema.DigestOf([]byte("one"))
	d2   = schema.DigestOf([]byte("two"))
	at   = schema.At(noon)
	kid  = "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"
	oid  = "6f1a2b3c-4d5e-4f60-8a7b-9c0d1e2f3a4b"
	cuts = 2
)

func message(event string) Message {
	return Message{Position: pos, Prev: d2, Event: event, Subject: who.Subject, Engagement: 3, ID: "0192f0c1-7a3b-7c4d-8e5f-000000000001", Txn: "HR-2026-118",
		Payload: d1, Wire: d2, Key: kid, Recipient: kid, IssuedAt: &at, Occurred: &at, Effective: &at}
}

// vectors has every kind with every member set at least once, and the small form of most.
var vectors = map[string]Body{
	"started-consumer": &Started{Program: ProgramConsumer, Version: "v0.1.0", Go: "go1.26.0", FIPS: FIPS{true, "v1.0.0"}, Mode: "run", Policy: &d1, Config: &d2,
		Ledger: "0123456789abcdef0123456789abcdef", Enclave: "urn:jmlbridge:enclave:gov-1", Instance: oid, Cloud: "AzureGovernment", Tenant: oid,
		Previous: &Previous{"fedcba9876543210fedcba9876543210", 4711, d2}},
	"started-producer":  &Started{Program: ProgramProducer, Version: "v0.1.0", Go: "go1.26.0", Mode: "init", Ledger: "0123456789abcdef0123456789abcdef", Instance: oid},
	"received-leaver":   &Received{Message: message("leaver:v1"), Disposition: DispositionAdmitted},
	"received-gap":      &Received{Message: message("suspend:v1"), Disposition: DispositionGap, Code: "gap", Stale: true},
	"received-cut-core": &Received{Message: message("leaver:v7"), Disposition: DispositionCutCore, Code: "newer-version"},
	"received-refused":  &Received{Message: Message{Position: pos, Prev: d2, Payload: d1, Wire: d2, Key: kid}, Disposition: DispositionRefused, Code: "unknown-member"},
	"received-heartbeat": &Received{Message: Message{Position: pos, Prev: d2, Event: "heartbeat:v1", ID: "0192f0c1-7a3b-7c4d-8e5f-000000000002",
		Payload: d1, Wire: d2, Key: kid, IssuedAt: &at, Cuts: &cuts}, Disposition: DispositionAdmitted},
	"received-roster": &Received{Message: Message{Position: pos, Prev: d2, Event: "roster:v1", ID: "0192f0c1-7a3b-7c4d-8e5f-000000000003", Payload: d1, Wire: d2, Key: kid, IssuedAt: &at,
		Roster: &Roster{ID: oid, Part: 1, Parts: 2, Digest: d1, Generation: 2, Seq: 4710, Hash: d2, Live: 40, Closed: 3}}, Disposition: DispositionAdmitted},
	"parked":              &Parked{Code: "unknown-key", Wire: d1, Size: 5120, Key: "someone's-key", Detail: "no key of this id is trusted; trust add it, or ask the producer"},
	"parked-dropped":      &Parked{Code: "key-window", Wire: d1, Size: 5120, Key: kid, Position: &pos, Dropped: true},
	"refused":             &Refused{Code: "forged", Wire: &d1, Size: 5120, Key: kid, Detail: "the signature does not verify"},
	"refused-authentic":   &Refused{Code: "wrong-enclave", Wire: &d1, Size: 5120, Key: kid, Position: &pos, Payload: &d2},
	"refused-summary":     &Refused{Code: "flood", Summary: &Summary{Count: 90210, First: At(noon), Last: At(noon.Add(time.Hour)), Size: 1 << 30}},
	"held":                &Held{Hold: oid, Code: "mass-cut", Digest: d1, Count: 2, Part: 1, Parts: 1, Subjects: []Who{who, {who.Issuer, "E0012346", 0}}, Cause: &Cause{CauseMessage, &pos, Index(17), "roster"}, Until: MomentAt(noon.Add(30 * time.Minute))},
	"held-gap":            &Held{Hold: oid, Code: "gap", Digest: d1, Part: 1, Parts: 1},
	"released":            &Released{Hold: oid, Action: ReleasedDiscard, By: []string{"alice", "bob"}, Reason: "load test <of> the HR system & friends", Digest: d1, Code: "mass-cut"},
	"released-expired":    &Released{Hold: oid, Action: ReleasedExpired, Digest: d1},
	"superseded":          &Superseded{Who: who, Fence: FenceDesired, Position: &pos, By: Cause{CauseMessage, &pos, Index(0), ""}, Code: "later"},
	"intent":              &Intent{Who: who, Account: oid, Ops: []Op{{1, "disable", ClassTake, "", []string{"accountEnabled"}}, {2, "revoke-sessions", ClassTake, "", nil}, {3, "remove-member", ClassTake, oid, nil}}, Cause: Cause{CauseMessage, &pos, Index(17), ""}, Policy: d1, Due: MomentAt(noon), Attempt: 2, Hold: oid, Urgent: true, Observe: true, Approvals: []Position{pos}},
	"intent-create":       &Intent{Who: who, Ops: []Op{{1, "create", ClassGive, "", []string{"displayName", "userPrincipalName"}}}, Cause: Cause{Type: CauseOperator, Entry: Index(3)}, Policy: d1},
	"outcome":             &Outcome{Intent: 18, Who: who, Account: oid, Results: []Result{{1, ResultApplied, "", MomentAt(noon), []Request{{oid, oid, 204, "", "PATCH", 0}}}, {2, ResultFound, "", nil, []Request{{Client: oid}, {oid, oid, 429, "throttled", "POST", 2}}}, {3, ResultFailed, "forbidden", nil, nil}}},
	"outcome-interrupted": &Outcome{Intent: 0, Who: who, Results: []Result{{1, ResultInterrupted, "", nil, nil}}},
	"observed-survey":     &Observed{Survey: &Survey{Digest: d1, Count: 9120, Counts: []Count{{"disabled", 20}, {"enabled", 9100}}, Started: At(noon), Finished: At(noon.Add(time.Minute))}},
	"observed-account":    &Observed{Account: &Account{Who: who, Account: oid, State: StateGone, Closed: true, Survey: &d1}},
	"observed-zombie":     &Observed{Account: &Account{Who: who, Account: oid, State: StateEnabled, Closed: true, Code: "zombie"}},
	"observed-source":     &Observed{Source: &Source{Name: "hr-export", Digest: d1, Count: 1000, Counts: []Count{{"held", 3}, {"refused", 1}}, Complete: true, By: "carol"}},
	"operator":            &Operator{By: "alice", Action: "cut", Issuer: who.Issuer, Subject: who.Subject, Engagement: 3, Target: oid, Reason: "security incident 42", Digest: &d1, Until: MomentAt(noon)},
	"observed-recall":     &Observed{Account: &Account{Who: who, Account: oid, State: StateDisabled, Code: "recall", Since: MomentAt(noon)}},
	"operator-first":      &Operator{By: "alice", Action: "cut", Issuer: who.Issuer, Subject: who.Subject, Reason: "security incident 42", First: &First{By: "bob", At: At(noon)}},
	"operator-recall":     &Operator{By: "alice", Action: "recall", Issuer: who.Issuer, Subject: who.Subject, Engagement: 3, Target: "leaver#2.4711", Effective: &at},
	"trust-add":           &Trust{Action: TrustAdd, Key: kid, Use: UseSign, Issuer: pos.Issuer, Stream: "hr", Generation: 1, Alg: "ES256", Events: []string{"joiner", "leaver"}, NotBefore: &at, NotAfter: &at, AtSeq: 1, Head: &d1, JWK: `{"crv":"P-256","kty":"EC","x":"...","y":"..."}`, By: "alice", Reason: "ceremony of 2026-11-23"},
	"trust-retire":        &Trust{Action: TrustRetire, Key: kid, AtSeq: 4711, By: "alice"},
	"policy":              &Policy{Digest: d1, Previous: &d2, By: "alice", Counts: []Count{{"disable", 2}}},
	"lease":               &Lease{Action: LeaseExtended, Issuer: who.Issuer, Subject: who.Subject, Engagement: 3, Role: "SOC analyst", Until: MomentAt(noon), Previous: MomentAt(noon), Cause: &Cause{Type: CauseOperator, Entry: Index(5)}, By: "alice", Reason: "bridge down"},
	"lease-roster":        &Lease{Action: LeaseRenewed, Issuer: who.Issuer, Until: MomentAt(noon), Cause: &Cause{Type: CauseMessage, Position: &pos}, Count: 9000, Digest: &d1},
	"clock":               &Clock{Action: ClockJumped, Against: AgainstMonotonic, Expected: MomentAt(noon), Found: MomentAt(noon.Add(-time.Hour)), Offset: -3600000},
	"clock-confirmed":     &Clock{Action: ClockConfirmed, Against: AgainstLedger, By: "alice", Reason: "battery replaced"},
	"alarm":               &Alarm{Code: "gap", Key: "hr/2/4711", State: AlarmRaised, Severity: "critical", Issuer: pos.Issuer, Stream: "hr", Subject: who.Subject, Entry: Index(9), Detail: "may hide a leaver"},
	"alarm-cleared":       &Alarm{Code: "gap", State: AlarmCleared},
	"sent":                &Sent{Message: message("joiner:v1"), Audience: "urn:jmlbridge:enclave:gov-1"},
}

func TestVectors(t *testing.T) {
	kinds := map[Kind]bool{}
	members := map[reflect.Type]map[string]bool{}
	for name, body := range vectors {
		kinds[body.Kind()] = true
		seen(members, reflect.ValueOf(body))
		got, err := Encode(New(noon, body))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		path := filepath.Join("testdata", "vectors", name+".json")
		want, err := os.ReadFile(path)
		if os.IsNotExist(err) && *update {
			want, err = got, os.WriteFile(path, got, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s: want\n%s\ngot\n%s", name, want, got)
		}
		e, err := Decode(want)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		} else if again, err := Encode(e); err != nil || !bytes.Equal(again, want) {
			t.Errorf("%s: reads back as\n%s, %v", name, again, err)
		}
	}
	for _, k := range Kinds {
		if !kinds[k] || newBody(k) == nil || newBody(k).Kind() != k {
			t.Errorf("kind %s has no vector or no body", k)
		}
	}
	for typ, set := range members {
		for i := range typ.NumField() {
			if f := typ.Field(i); f.IsExported() && !set[f.Name] {
				t.Errorf("no vector sets %s.%s", typ.Name(), f.Name)
			}
		}
	}
	files, err := filepath.Glob(filepath.Join("testdata", "vectors", "*.json"))
	if err != nil || len(files) != len(vectors) {
		t.Errorf("want one file for each of %d vectors, got %d, %v", len(vectors), len(files), err)
	}
}

// seen notes which members of which of our structs are set somewhere.
func seen(all map[reflect.Type]map[string]bool, v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			seen(all, v.Elem())
		}
	case reflect.Slice:
		for i := range v.Len() {
			seen(all, v.Index(i))
		}
	case reflect.Struct:
		if v.Type().PkgPath() != reflect.TypeOf(Entry{}).PkgPath() || v.Type() == reflect.TypeOf(Moment{}) {
			return
		}
		if all[v.Type()] == nil {
			all[v.Type()] = map[string]bool{}
		}
		for i := range v.NumField() {
			if !v.Field(i).IsZero() {
				all[v.Type()][v.Type().Field(i).Name] = true
				seen(all, v.Field(i))
			}
		}
	}
}

// One fault each; the text is what the error must say.
func TestDecodeRefuses(t *testing.T) {
	const good = `{"v":1,"time":"2026-11-23T12:00:00.125Z","kind":"alarm","alarm":{"code":"gap","state":"cleared"}}`
	if _, err := Decode([]byte(good)); err != nil {
		t.Fatal(err)
	}
	change := func(old, new string) string {
		s := strings.Replace(good, old, new, 1)
		if s == good {
			t.Fatalf("%q does not change the entry", old)
		}
		return s
	}
	for name, c := range map[string]struct{ data, want string }{
		"empty":                {"", "version 1"},
		"other version":        {change(`"v":1`, `"v":2`), "version 1"},
		"space":                {change(`"v":1`, `"v": 1`), "version 1"},
		"time without ms":      {change(`.125Z`, `Z`), "want a time"},
		"time with zone":       {change(`.125Z`, `.12+1`), "want a time"},
		"time not there":       {change(`11-23`, `02-30`), "want a time"},
		"time before our era":  {change(`2026`, `1926`), "want a time"},
		"unknown kind":         {strings.ReplaceAll(good, "alarm", "alert"), "has not"},
		"body of another kind": {change(`"alarm":{`, `"policy":{`), "exactly the member"},
		"two bodies":           {change(`}}`, `},"policy":{}}`), ""},
		"unknown member":       {change(`"state"`, `"colour":"red","state"`), "unknown field"},
		"member twice":         {change(`"state"`, `"code":"gap","state"`), "canonical"},
		"member in capitals":   {change(`"code"`, `"Code"`), "canonical"},
		"members swapped":      {change(`"code":"gap","state":"cleared"`, `"state":"cleared","code":"gap"`), "canonical"},
		"empty optional":       {change(`"gap",`, `"gap","key":"",`), "canonical"},
		"null":                 {change(`"gap",`, `"gap","key":null,`), "canonical"},
		"escaped letter":       {change(`"gap"`, `"g\u0061p"`), "canonical"},
		"trailing octet":       {good + "\n", "exactly the member"},
		"trailing value":       {good + "{}", ""},
		"truncated":            {good[:len(good)-2], ""},
		"missing member":       {change(`"code":"gap",`, ``), "missing"},
		"bad code":             {change(`"gap"`, `"Gap"`), "lower-case"},
		"bad state":            {change(`cleared`, `perhaps`), "want one of"},
		"number as text":       {change(`"gap",`, `"gap","entry":"9",`), "cannot unmarshal"},
		"negative index":       {change(`"cleared"`, `"cleared","entry":-1`), "index"},
		"exponent":             {change(`"cleared"`, `"cleared","entry":1e0`), ""},
		"control character":    {change(`"cleared"`, `"cleared","detail":"a\u0007b"`), "printable"},
		"huge":                 {change(`"gap"`, `"`+strings.Repeat("g", MaxSize)+`"`), "at most"},
		"long id":              {change(`"cleared"`, `"cleared","iss":"`+strings.Repeat("i", MaxID+1)+`"`), "at most"},
		"invalid UTF-8":        {change(`"cleared"`, "\"cleared\",\"detail\":\"a\xffb\""), ""},
	} {
		e, err := Decode([]byte(c.data))
		if err == nil {
			t.Errorf("%s: taken as %+v", name, e)
		} else if !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: want %q in the error, got %q", name, c.want, err)
		}
	}
}

func TestEncodeRefusesWhatBreaksARule(t *testing.T) {
	long := strings.Repeat("x", MaxText+1)
	for name, body := range map[string]Body{
		"no position":              &Received{Message: Message{Payload: d1, Wire: d1, Key: kid}, Disposition: DispositionRefused},
		"admitted without event":   &Received{Message: Message{Position: pos, Payload: d1, Wire: d1, Key: kid}, Disposition: DispositionAdmitted},
		"unknown disposition":      &Received{Message: message("leaver:v1"), Disposition: "lost"},
		"refused and summary":      &Refused{Code: "flood", Wire: &d1, Summary: &Summary{Count: 1, First: At(noon), Last: At(noon)}},
		"refused nothing":          &Refused{Code: "flood"},
		"released by nobody":       &Released{Hold: oid, Action: ReleasedRelease, Digest: d1},
		"intent of nothing":        &Intent{Who: who, Cause: Cause{Type: CausePolicy}, Policy: d1},
		"operations out of order":  &Intent{Who: who, Ops: []Op{{2, "disable", ClassTake, "", nil}}, Cause: Cause{Type: CausePolicy}, Policy: d1},
		"operation without class":  &Intent{Who: who, Ops: []Op{{1, "disable", "", "", nil}}, Cause: Cause{Type: CausePolicy}, Policy: d1},
		"message without position": &Intent{Who: who, Ops: []Op{{1, "disable", ClassTake, "", nil}}, Cause: Cause{Type: CauseMessage}, Policy: d1},
		"outcome of nothing":       &Outcome{Intent: 1, Who: who},
		"observed two things":      &Observed{Account: &Account{Who: who, State: StateGone}, Source: &Source{Name: "x"}},
		"observed nothing":         &Observed{},
		"counts unsorted":          &Policy{Digest: d1, Counts: []Count{{"b", 1}, {"a", 1}}},
		"text too long":            &Clock{Action: ClockConfirmed, Against: AgainstLedger, Reason: long},
		"text of two lines":        &Clock{Action: ClockConfirmed, Against: AgainstLedger, Reason: "a\nb"},
		"text not UTF-8":           &Clock{Action: ClockConfirmed, Against: AgainstLedger, Reason: "a\xff"},
		"id with a space":          &Operator{By: "alice smith", Action: "cut"},
		"part beyond parts":        &Held{Hold: oid, Code: "gap", Part: 2, Parts: 1},
		"unset moment":             &Held{Hold: oid, Code: "gap", Part: 1, Parts: 1, Until: &Moment{}},
		"too large":                &Held{Hold: oid, Code: "gap", Part: 1, Parts: 1, Count: MaxSubjects + 1, Subjects: make([]Who, MaxSubjects+1)},
	} {
		if data, err := Encode(New(noon, body)); err == nil {
			t.Errorf("%s: encoded as %s", name, data)
		}
	}
	if _, err := Encode(Entry{Time: noon}); err == nil {
		t.Error("an entry without body was encoded")
	}
	if _, err := Encode(Entry{Body: &Alarm{Code: "gap", State: AlarmRaised}}); err == nil {
		t.Error("an entry without time was encoded")
	}
}

// What is written by hand is what encoding/json writes, whatever stands in it and whatever is left out.
func TestAppendIsEncodingJSON(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	texts := []string{"", "", "plain", `"quoted" \back`, "<&>", "ümläut", "\u2028\x00\x7f", "\xff", "a\tb"}
	var fill func(v reflect.Value)
	fill = func(v reflect.Value) {
		switch v.Interface().(type) {
		case schema.Digest:
			v.Set(reflect.ValueOf([]schema.Digest{{}, d1, d2}[r.IntN(3)]))
			return
		case schema.Instant:
			v.Set(reflect.ValueOf(at))
			return
		case Moment:
			v.Set(reflect.ValueOf(At(noon.Add(time.Duration(r.IntN(1e9))).In(time.FixedZone("", 3600*r.IntN(3))))))
			return
		}
		switch v.Kind() {
		case reflect.String:
			v.SetString(texts[r.IntN(len(texts))])
		case reflect.Int, reflect.Int64:
			v.SetInt(int64(r.IntN(3)) * 7)
		case reflect.Uint64:
			v.SetUint(r.Uint64() >> r.IntN(64))
		case reflect.Bool:
			v.SetBool(r.IntN(2) == 0)
		case reflect.Struct:
			for i := range v.NumField() {
				fill(v.Field(i))
			}
		case reflect.Pointer:
			if v.SetZero(); r.IntN(2) == 0 {
				v.Set(reflect.New(v.Type().Elem()))
				fill(v.Elem())
			}
		case reflect.Slice:
			if v.SetZero(); r.IntN(3) > 0 {
				v.Set(reflect.MakeSlice(v.Type(), r.IntN(3), 3))
				for i := range v.Len() {
					fill(v.Index(i))
				}
			}
		default:
			t.Fatalf("append knows nothing of a member of type %s", v.Type())
		}
	}
	for range 2000 {
		for _, body := range []appender{new(Received), new(Sent), new(Intent), new(Outcome)} {
			fill(reflect.ValueOf(body).Elem())
			want, err := appendJSON(nil, body)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := body.append(nil); err != nil || !bytes.Equal(got, want) {
				t.Fatalf("want %s\ngot  %s, %v", want, got, err)
			}
		}
	}
}

func TestTextAndIDAlwaysFit(t *testing.T) {
	for _, s := range []string{"", "plain", "two\nlines\t\x00", "bad \xff\xfe utf-8", strings.Repeat("ß", MaxText), strings.Repeat("\xff", 3*MaxID), "\u202eright to left"} {
		body := &Parked{Code: "unknown-key", Wire: d1, Key: ID(s), Detail: Text(s)}
		if _, err := Encode(New(noon, body)); err != nil {
			t.Errorf("%q: %v", s, err)
		}
		if !utf8.ValidString(Text(s)) {
			t.Errorf("%q became %q", s, Text(s))
		}
	}
	if got := Text("as it is: ünï"); got != "as it is: ünï" {
		t.Errorf("good text was changed to %q", got)
	}
}

func TestSplitHeld(t *testing.T) {
	for _, n := range []int{0, 1, MaxSubjects, MaxSubjects + 1, 5*MaxSubjects - 1} {
		h := Held{Hold: oid, Code: "mass-cut", Digest: d1}
		for i := range n {
			h.Subjects = append(h.Subjects, Who{strings.Repeat("i", MaxID), fmt.Sprintf("%0*d", MaxID, i), 1})
		}
		var got []Who
		parts := SplitHeld(h)
		for i, b := range parts {
			p := b.(*Held)
			if p.Part != i+1 || p.Parts != len(parts) || p.Count != n {
				t.Errorf("%d: part %d says %d of %d, count %d", n, i+1, p.Part, p.Parts, p.Count)
			}
			if _, err := Encode(New(noon, b)); err != nil {
				t.Errorf("%d: %v", n, err)
			}
			got = append(got, p.Subjects...)
		}
		if !reflect.DeepEqual(got, h.Subjects) {
			t.Errorf("%d: the parts are not the whole", n)
		}
	}
}

func FuzzDecode(f *testing.F) {
	for _, body := range vectors {
		data, err := Encode(New(noon, body))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		e, err := Decode(data)
		if err != nil {
			return
		}
		again, err := Encode(e)
		if err != nil || !bytes.Equal(again, data) {
			t.Errorf("accepted\n%s\nwhich reads back as\n%s, %v", data, again, err)
		}
	})
}

func BenchmarkEncode(b *testing.B) {
	e := New(noon, vectors["received-leaver"])
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Encode(e); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDecode(b *testing.B) {
	data, err := Encode(New(noon, vectors["received-leaver"]))
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Decode(data); err != nil {
			b.Fatal(err)
		}
	}
}
