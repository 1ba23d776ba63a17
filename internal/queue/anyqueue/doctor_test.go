package anyqueue

import (
	"slices"
	"strings"
	"testing"

	"jmlbridge/e2e/servicebus/broker"
	"jmlbridge/internal/doctor"
)

// An answer that ends the process which speaks to the mid-point is one finding behind those before it, which say what they
// would have said anyhow.
func TestExamineSurvives(t *testing.T) {
	s := newBus(t, broker.Queue{})
	names := func(list []doctor.Finding) (names []string) {
		for _, f := range list {
			names = append(names, f.Name)
		}
		return names
	}
	for rule, on := range map[string]broker.Point{"sender": broker.OnToken, "listener": broker.OnManage} {
		t.Run(rule, func(t *testing.T) {
			receives := rule == "listener"
			well := Examine(t.Context(), s.config(rule), receives)
			if doctor.Failed(well) || !slices.Contains(names(well), "credential") {
				t.Fatalf("before anything is wrong: %+v", well)
			}
			if _, err := s.AddFaults(broker.Fault{On: on, Kind: broker.Malformed}); err != nil {
				t.Fatal(err)
			}
			defer s.RemoveFault("")
			found := Examine(t.Context(), s.config(rule), receives)
			if want := []string{"settings", "way out", "name", "connection", "tls", "process"}; !slices.Equal(names(found), want) {
				t.Fatalf("it found %+v, expected %q", found, want)
			}
			last := found[len(found)-1]
			for _, word := range []string{"behind tls", "exit status 2", "panic: runtime error"} {
				if last.Verdict != doctor.Bad || !strings.Contains(last.Text, word) {
					t.Errorf("the last finding is %+v, expected %q in it", last, word)
				}
			}
		})
	}
}
