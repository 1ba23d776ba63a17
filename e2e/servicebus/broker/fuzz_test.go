package broker

import (
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// A token that nobody signed gives nothing, whatever it looks like.
func FuzzToken(f *testing.F) {
	b, err := Start(Config{Listen: PipeOnly, Rules: []Rule{{Name: "r", Key: "not guessed", Rights: Manage}}})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { b.Close() })
	for _, text := range []string{"SharedAccessSignature sr=amqps%3a%2f%2f127.0.0.1%2fq&sig=YQ%3D%3D&se=9999999999&skn=r", "SharedAccessSignature sr=%zz&&se=-1=&skn=", "e30.e30.YQ", ""} {
		f.Add(text, "amqps://127.0.0.1/q")
	}
	entra := &EntraTokens{Keys: jose.JSONWebKeySet{}, Audiences: []string{""}, Assignments: []Assignment{{Rights: Manage}}}
	f.Fuzz(func(t *testing.T, text, uri string) {
		path, _ := b.audience(uri)
		if rights, _, e := b.checkSAS(text, path, time.Unix(0, 0)); e == nil || rights != 0 {
			t.Fatalf("%q gives %s", text, rights)
		}
		if rights, _, err := entra.Verify(text, path, time.Unix(0, 0)); err == nil || rights != 0 {
			t.Fatalf("%q gives %s", text, rights)
		}
	})
}

// What is read as faults can be checked, and put in force if it is sound.
func FuzzFaults(f *testing.F) {
	b, err := Start(Config{Listen: PipeOnly})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { b.Close() })
	for _, text := range []string{"{on: send, kind: reset, applied: true}", "- {on: deliver, kind: poison, poison: lies}\n- {on: send, kind: delay, delay: 2s}", "[]", "{on: send, kind: error, count: -1}"} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		list, err := ParseFaults(raw)
		if err != nil {
			return
		}
		if names, err := b.AddFaults(list...); err == nil && len(names) != len(list) {
			t.Fatalf("%d faults, %d in force", len(list), len(names))
		}
		b.RemoveFault("")
	})
}
