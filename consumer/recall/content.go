package recall

import (
	"encoding/base64"
	"slices"
	"strings"

	"jmlbridge/consumer/admit"
	"jmlbridge/consumer/fence"
	"jmlbridge/consumer/state"
	"jmlbridge/internal/ledger/entry"
	"jmlbridge/schema"
)

// roster is the statements of one, of the parts that are at hand, until the ledger says that it was applied.
type roster struct {
	id         string
	generation int    // that its parts are of
	last       uint64 // number of its last part
	words      []stated
	unread     *word // of a part that is not at hand, about nobody; nil: all are
}

type stated struct {
	subject string
	word    word
}

// keptRosters is how many of a stream are kept while the ledger does not say that they were applied.
const keptRosters = 3

// read takes from a heartbeat or a roster whom it speaks of. That it was signed is on the ledger, with the digest.
func (m *Memory) read(r *entry.Received, jws string) {
	switch e := content(r, jws).(type) {
	case *schema.Heartbeat:
		m.repeated(r, e)
	case *schema.Roster:
		m.collect(r, e)
	case nil:
		m.Unread++
		m.collect(r, nil)
	}
}

// content is what a message says; nil where it is not at hand, or of a version that this program does not speak any more.
func content(r *entry.Received, jws string) schema.Event {
	_, rest, _ := strings.Cut(jws, ".")
	middle, _, _ := strings.Cut(rest, ".")
	octets, err := base64.RawURLEncoding.DecodeString(middle)
	if err != nil || schema.DigestOf(octets) != r.Payload {
		return nil
	}
	set, err := schema.Decode(octets)
	if err != nil {
		return nil
	}
	return set.Event
}

// repeated keeps the cuts that a heartbeat repeats.
func (m *Memory) repeated(r *entry.Received, e *schema.Heartbeat) {
	k := m.keys[r.Key]
	for _, c := range e.Cuts {
		if !c.Kind.Cuts() || c.Seq >= r.Seq || k == nil || len(k.trust.Events) > 0 && !slices.Contains(k.trust.Events, string(c.Kind)) {
			continue
		}
		m.person(state.SubjectKey{Issuer: r.Issuer, Subject: c.Subject}).add(word{kind: c.Kind, effective: c.Effective.Time(), bounded: true,
			at:  fence.Position{Engagement: c.Engagement, Generation: r.Generation, Seq: c.Seq},
			key: r.Key, stream: r.Stream, from: admit.Point{Generation: r.Generation, Seq: r.Seq}})
	}
}

// collect keeps what a part of a roster states; e is nil where that is not at hand.
func (m *Memory) collect(r *entry.Received, e *schema.Roster) {
	s := m.streams[streamName{r.Issuer, r.Stream}]
	inPlace := r.Disposition == entry.DispositionAdmitted || r.Disposition == entry.DispositionFilled && r.Code != string(admit.CodeCovered)
	if s == nil || r.Roster == nil || s.generation != r.Generation || !inPlace && r.Disposition != entry.DispositionGap {
		return
	}
	i := slices.IndexFunc(s.rosters, func(x *roster) bool { return x.id == r.Roster.ID && x.generation == r.Generation })
	if i < 0 {
		s.rosters = append(s.rosters, &roster{id: r.Roster.ID, generation: r.Generation})
		if len(s.rosters) > keptRosters {
			s.rosters = s.rosters[1:]
		}
		i = len(s.rosters) - 1
	}
	x := s.rosters[i]
	x.last = max(x.last, r.Seq)
	w := word{sequenced: true, key: r.Key, stream: r.Stream, from: admit.Point{Generation: r.Generation, Seq: r.Seq}}
	if e == nil {
		w.kind, w.at = schema.KindRoster, fence.Position{Generation: r.Roster.Generation, Seq: r.Roster.Seq}
		x.unread = &w
		return
	}
	for _, l := range e.Live {
		w.kind, w.suspended, w.effective = schema.KindRoster, l.State == schema.StateSuspended, l.Since.Time()
		w.at = fence.Position{Engagement: l.Engagement, Generation: e.Head.Generation, Seq: e.Head.Seq}
		x.words = append(x.words, stated{l.Subject, w})
	}
	for _, c := range e.Closed {
		w.kind, w.suspended, w.effective = schema.KindLeaver, false, c.Effective.Time()
		w.at = fence.Position{Engagement: c.Engagement, Generation: e.Head.Generation, Seq: e.Head.Seq}
		x.words = append(x.words, stated{c.Subject, w})
	}
}

// applied is told that the roster whose last part is at a place was applied. A later generation may have been opened meanwhile.
func (m *Memory) applied(at *entry.Position) {
	s := m.streams[streamName{at.Issuer, at.Stream}]
	if s == nil {
		return
	}
	i := slices.IndexFunc(s.rosters, func(x *roster) bool { return x.generation == at.Generation && x.last == at.Seq })
	if i < 0 {
		return
	}
	for _, st := range s.rosters[i].words {
		m.person(state.SubjectKey{Issuer: at.Issuer, Subject: st.subject}).add(st.word)
	}
	if w := s.rosters[i].unread; w != nil {
		m.unread[at.Issuer] = append(m.unread[at.Issuer], *w)
	}
	s.rosters = s.rosters[i+1:]
}
