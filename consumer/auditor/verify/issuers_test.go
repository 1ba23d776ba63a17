package verify

import (
	"slices"
	"strings"
	"testing"
	"time"

	"jmlbridge/internal/keys"
	"jmlbridge/internal/ledger/entry"
	"jmlbridge/schema"
)

// partner is another issuer, who has the same subject ids for other people.
const partner = "https://hr.partner.example/jml"

// partner gives the word to the other issuer, whom the enclave trusts from the first time on.
func (w *world) partner(say func()) {
	w.t.Helper()
	ours := *w
	if len(w.cards) == 0 {
		key, signer := newSigner(w.t, keys.ES256)
		w.cards, w.second = [][]byte{cardOf(w.t, partner, key)}, &voice{signer: signer}
		w.issuer = partner
		w.trusts(signer.KID(), 1)
	}
	w.issuer, w.signer, w.seq, w.prev = partner, w.second.signer, w.second.seq, w.second.prev
	say()
	w.second.seq, w.second.prev = w.seq, w.prev
	w.issuer, w.signer, w.seq, w.prev = ours.issuer, ours.signer, ours.seq, ours.prev
}

func TestTwoIssuersOfOneSubjectID(t *testing.T) {
	alarm := func(w *world, state, key, iss, sub string) {
		w.add(&entry.Alarm{Code: "cut-failing", Key: key, State: state, Issuer: iss, Subject: sub})
	}
	// later is when a cut that was not done is a finding.
	later := func(w *world) {
		w.wait(time.Hour)
		w.hears("E2", w.joiner(1))
	}
	for _, c := range []struct {
		name  string
		play  func(w *world)
		wants []string
	}{
		{"an alarm about the person", func(w *world) {
			w.hears("E1", w.leaver(1))
			alarm(w, entry.AlarmRaised, "E1@"+issuer, issuer, "E1")
			later(w)
		}, nil},
		{"an alarm about the other one", func(w *world) {
			w.hears("E1", w.leaver(1))
			alarm(w, entry.AlarmRaised, "E1@"+partner, partner, "E1")
			later(w)
		}, []string{"cut-missing"}},
		{"an alarm about the other one, keyed by the subject alone", func(w *world) {
			w.hears("E1", w.leaver(1))
			alarm(w, entry.AlarmRaised, "E1", partner, "E1")
			later(w)
		}, []string{"cut-missing"}},
		{"an alarm about nobody who is named", func(w *world) {
			w.hears("E1", w.leaver(1))
			alarm(w, entry.AlarmRaised, "E1", "", "")
			later(w)
		}, []string{"cut-missing"}},
		{"an alarm about each, of which the other's ends", func(w *world) {
			w.hears("E1", w.leaver(1))
			alarm(w, entry.AlarmRaised, "E1@"+issuer, issuer, "E1")
			alarm(w, entry.AlarmRaised, "E1@"+partner, partner, "E1")
			alarm(w, entry.AlarmCleared, "E1@"+partner, partner, "E1")
			later(w)
		}, nil},
		{"of one key, too", func(w *world) {
			w.hears("E1", w.leaver(1))
			alarm(w, entry.AlarmRaised, "E1", issuer, "E1")
			alarm(w, entry.AlarmRaised, "E1", partner, "E1")
			alarm(w, entry.AlarmCleared, "E1", partner, "E1")
			later(w)
		}, nil},
		{"an alarm that ended before the cut was done", func(w *world) {
			w.hears("E1", w.leaver(1))
			alarm(w, entry.AlarmRaised, "E1@"+issuer, issuer, "E1")
			alarm(w, entry.AlarmCleared, "E1@"+issuer, issuer, "E1")
			later(w)
		}, []string{"cut-missing"}},
		{"an alarm whose end does not say about whom it was", func(w *world) {
			w.hears("E1", w.leaver(1))
			alarm(w, entry.AlarmRaised, "E1", issuer, "E1")
			alarm(w, entry.AlarmCleared, "E1", "", "")
			later(w)
		}, []string{"cut-missing"}},
		{"a hold on the other one", func(w *world) {
			w.hears("E1", w.leaver(1))
			w.add(&entry.Held{Hold: "1", Code: "protected", Count: 1, Part: 1, Parts: 1, Subjects: []entry.Who{{Issuer: partner, Subject: "E1"}}})
			later(w)
		}, []string{"cut-missing"}},
		{"something taken by the other issuer's word", func(w *world) {
			seq := w.hears("E1", w.leaver(1))
			in := w.intends("E1", "left", seq, "disable", "revoke-sessions")
			w.entries[in].Body.(*entry.Intent).Cause.Position.Issuer = partner
			w.answers("E1", in, entry.ResultApplied)
		}, []string{"cause-mismatch"}},
		{"something given by the other issuer's roster", func(w *world) {
			w.leaves("E1")
			w.partner(func() {
				w.leaves("E1")
				w.take(w.rosters([]schema.LiveEngagement{w.lives("E1", 2)}, nil)[0], entry.DispositionAdmitted, "")
			})
			w.does("E1", "active", 2, "enable")
		}, []string{"give-after-cut"}},
		{"something given by the issuer's own roster", func(w *world) {
			w.leaves("E1")
			w.partner(func() {
				w.leaves("E1")
				r := w.rosters([]schema.LiveEngagement{w.lives("E1", 2)}, nil)[0]
				w.take(r, entry.DispositionAdmitted, "")
				w.does("E1", "active", 2, "enable")
				w.applies(r)
			})
		}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t).begin()
			w.joins("E1")
			w.partner(func() { w.joins("E1") })
			c.play(w)
			r := w.publish().verify(w.options())
			wants(t, r, c.wants...)
			for _, f := range r.Findings {
				if f.Issuer != issuer || f.Subject != "E1" {
					t.Errorf("found of the wrong person: %+v", f)
				}
			}
		})
	}
}

// A timeline is of one person, also where one entry names two with the same subject id.
func TestATimelineIsOfOnePerson(t *testing.T) {
	w := newWorld(t).begin()
	w.joins("E1")
	w.partner(func() { w.joins("E1") })
	hold := w.add(&entry.Held{Hold: "1", Code: "cut-limit", Count: 2, Part: 1, Parts: 1, Subjects: []entry.Who{{Issuer: issuer, Subject: "E1"}, {Issuer: partner, Subject: "E1"}}})
	w.publish()
	read := func(iss string) (of []string, holds int) {
		err := Timeline(t.Context(), w.dir, w.line, iss, "E1", func(e Event) error {
			if !slices.Contains(of, e.Issuer) {
				of = append(of, e.Issuer)
			}
			if e.Entry == hold {
				holds++
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return of, holds
	}
	for _, iss := range []string{issuer, partner} {
		if of, holds := read(iss); !slices.Equal(of, []string{iss}) || holds != 1 {
			t.Errorf("%s: entries of %q, the hold %d times", iss, of, holds)
		}
	}
	if of, holds := read(""); strings.Join(of, " ") != issuer+" "+partner || holds != 2 {
		t.Errorf("of anybody: entries of %q, the hold %d times", of, holds)
	}
}
