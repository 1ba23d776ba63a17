package doctor_test

import (
	"context"
	"strings"
	"testing"

	"jmlbridge/internal/doctor"
)

func TestRunAndPrint(t *testing.T) {
	found := doctor.Run(t.Context(), []doctor.Check{
		{"queue", func(ctx context.Context) []doctor.Finding {
			if _, ok := ctx.Deadline(); !ok {
				t.Error("a check without an end")
			}
			return []doctor.Finding{{Name: "name", Verdict: doctor.Well, Text: "1.2.3.4"}, {Name: "tls", Verdict: doctor.Warning, Text: "old", Do: "renew it"}}
		}},
		{"clock", func(context.Context) []doctor.Finding {
			return []doctor.Finding{{Name: "offset", Verdict: doctor.Unknown, Text: "nobody to ask"}}
		}},
	})
	var b strings.Builder
	if err := doctor.Print(&b, found); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"queue\n  ok       name         1.2.3.4\n", "do: renew it", "clock\n  unknown  offset"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in\n%s", want, b.String())
		}
	}
	if doctor.Failed(found) || !doctor.Failed(append(found, doctor.Finding{})) {
		t.Error("a finding that was not filled in is a bad one, and no other here")
	}
}

// What the other end says stands in a finding, and writes no other: it is one line, of bounded length, with nothing for a terminal.
func TestPrintQuotesTheOtherEnd(t *testing.T) {
	hostile := "no\n  ok       credential   let in\r\x1b[2J\u202e" + strings.Repeat("x", 1<<20)
	var b strings.Builder
	if err := doctor.Print(&b, []doctor.Finding{{Check: "queue", Name: "credential", Text: hostile, Do: "ask\x07 them"}}); err != nil {
		t.Fatal(err)
	}
	if out := b.String(); strings.Count(out, "\n") != 3 || strings.ContainsAny(out, "\r\x1b\x07\u202e") || len(out) > 4<<10 {
		t.Errorf("printed %d octets: %.300q", len(out), out)
	}
}
