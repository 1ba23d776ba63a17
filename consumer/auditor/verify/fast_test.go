package verify

import (
	"bytes"
	"reflect"
	"testing"

	"jmlbridge/internal/ledger/entry"
)

// The quick reader is taken for what it knows, and reads what the strict one reads.
func TestQuickReader(t *testing.T) {
	w := story(t)
	i := w.intends("E2", "active", 2, "update")
	in := w.entries[i].Body.(*entry.Intent)
	in.Ops[0].Attributes, in.Ops[0].Target, in.Account, in.Attempt = []string{"displayName", "surname"}, "g", "a", 2
	in.Due, in.Hold, in.Urgent, in.Cause.Entry = entry.MomentAt(noon), "7", true, entry.Index(3)
	o := w.answers("E2", i, entry.ResultFailed)
	w.entries[o].Body.(*entry.Outcome).Results[0].Requests = []entry.Request{{Client: "c", Server: "s", Status: 503, Code: "busy", Method: "PATCH", Retry: 2}, {Client: "d"}}
	quickly := map[entry.Kind]bool{}
	for n, e := range w.entries {
		data, err := entry.Encode(e)
		if err != nil {
			t.Fatal(err)
		}
		want, err := entry.Decode(data)
		if err != nil {
			t.Fatal(err)
		}
		got, err := decodeEntry(data)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("entry %d: want %+v, got %+v, %v", n, want, got, err)
		}
		kind := e.Body.Kind()
		if q, ok := quick(data); ok {
			quickly[kind] = true
			if !reflect.DeepEqual(q, want) {
				t.Errorf("entry %d: want %+v, got %+v", n, want, q)
			}
		} else if kind == entry.KindReceived || kind == entry.KindIntent || kind == entry.KindOutcome {
			t.Errorf("entry %d is not read quickly: %s", n, data)
		}
	}
	if len(quickly) != 3 {
		t.Errorf("want three kinds read quickly, got %v", quickly)
	}
}

// Reading quickly never accepts what the strict reader refuses.
func FuzzDecodeEntry(f *testing.F) {
	w := story(f)
	for _, e := range w.entries {
		data, err := entry.Encode(e)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
		f.Add(bytes.Replace(data, []byte(`"seq":1`), []byte(`"seq":01`), 1))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := decodeEntry(data)
		want, wantErr := entry.Decode(data)
		if (err == nil) != (wantErr == nil) || err == nil && !reflect.DeepEqual(got, want) {
			t.Errorf("want %+v, %v, got %+v, %v", want, wantErr, got, err)
		}
	})
}
