package verify

import (
	"testing"

	"jmlbridge/internal/ledger/entry"
)

// What a new ledger says of the one before it is told with its first date and by whom it was done there.
func TestTellOfAnEarlierLedger(t *testing.T) {
	then := entry.MomentAt(noon)
	for want, body := range map[string]entry.Body{
		"cut by bob at " + then.String() + ": INC-1, on an earlier ledger; recovered by ann": &entry.Operator{By: "ann", Action: "cut", Reason: "INC-1", First: &entry.First{By: "bob", At: *then}},
		"cut by bob: INC-1": &entry.Operator{By: "bob", Action: "cut", Reason: "INC-1"},
		"recall by ann of leaver#1.7; effective " + entry.InstantAt(noon).String():            &entry.Operator{By: "ann", Action: "recall", Target: "leaver#1.7", Effective: entry.InstantAt(noon)},
		"account id-1 is disabled, recall; since " + then.String() + ", on an earlier ledger": &entry.Observed{Account: &entry.Account{Account: "id-1", State: entry.StateDisabled, Code: "recall", Since: then}},
	} {
		if got := tell(body, nil); got != want {
			t.Errorf("told %q, want %q", got, want)
		}
	}
}
