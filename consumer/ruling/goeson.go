package ruling

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"jmlbridge/consumer/admit"
	"jmlbridge/consumer/state"
	"jmlbridge/internal/store"
	"jmlbridge/schema"
)

// AlarmGoesOn says that a trusted key signs on where an operator ruled that the chain does not go: somebody else has the
// key, or the ruling was wrong. What comes there gives nothing and stops nothing, so nothing else would tell. It ends when
// nothing came for a day, when the key is good for nothing more there, or when a later generation is followed.
const AlarmGoesOn = "branch-goes-on"

// quiet is how long nothing came of a branch when it is taken to have ended.
const quiet = 24 * time.Hour

// Bounds on what a stolen key can make of a record.
const (
	maxVoices = 8    // kept
	maxShown  = 2    // in the alarm's text
	maxBack   = 1000 // messages through which a branch is looked for
)

// left is what rulings left of a generation of a stream, and what went on there since.
type left struct {
	At       time.Time `json:"at,omitzero"` // of the last ruling
	Branches []place   `json:"branches,omitempty"`
	Voices   []voice   `json:"voices,omitempty"`
}

type place struct {
	Seq  uint64        `json:"seq"`
	Hash schema.Digest `json:"hash"`
}

// voice is a key that goes on on a branch.
type voice struct {
	Key    string       `json:"kid"`
	Branch place        `json:"branch"` // its first message
	First  uint64       `json:"first"`  // that came after the ruling
	Last   place        `json:"last"`
	At     time.Time    `json:"at"`             // when the last of it came
	Good   *admit.Point `json:"good,omitempty"` // up to where the key was good then; nil: it was in use
}

func leftKey(ref int64) string { return "ruled-out:" + strconv.FormatInt(ref, 10) }

func readLeft(r state.Reader, ref int64) (l left, err error) {
	text, err := state.Meta(r, leftKey(ref))
	if err != nil || text == "" {
		return l, err
	}
	if err := json.Unmarshal([]byte(text), &l); err != nil {
		return l, fmt.Errorf("read what was ruled out of stream %d: %w", ref, err)
	}
	return l, nil
}

func (l *left) save(tx *store.Tx, ref int64) error {
	text, err := json.Marshal(l)
	if err != nil {
		return err
	}
	return state.SetMeta(tx, leftKey(ref), string(text))
}

// leave notes which branches a ruling left, for what may go on there.
func leave(tx *store.Tx, ref int64, out []Branch, now time.Time) error {
	l, err := readLeft(tx, ref)
	if err != nil {
		return err
	}
	l.At = now.UTC()
	for i := range out {
		l.Branches = append(l.Branches, place{out[i].Seq, out[i].Hash})
	}
	return l.save(tx, ref)
}

// GoesOn raises the alarm where a message that is taken in is on a branch that was ruled out. k is the key that signed
// it. here is since when it waited here; zero: it came now. What was here when the operator ruled is no news.
func GoesOn(tx *store.Tx, s *state.Stream, k *state.Key, m admit.Message, here, now time.Time) error {
	if s.State == admit.Closed {
		return nil
	}
	l, err := readLeft(tx, s.Ref)
	if err != nil || !here.IsZero() && !here.After(l.At) {
		return err
	}
	seq, hash, prev := m.Stream.Seq, m.Payload, m.Stream.Prev
	i := slices.IndexFunc(l.Voices, func(v voice) bool { return v.Key == k.KID && v.Last == place{seq - 1, prev} })
	if i < 0 {
		b, err := l.branch(tx, s.Ref, seq, prev)
		if err != nil {
			return err
		}
		i = slices.IndexFunc(l.Voices, func(v voice) bool { return v.Key == k.KID && v.Branch == b })
		if i < 0 && len(l.Voices) < maxVoices {
			i, l.Voices = len(l.Voices), append(l.Voices, voice{Key: k.KID, Branch: b, First: seq})
		}
	}
	if i >= 0 {
		v := &l.Voices[i]
		if seq >= v.Last.Seq {
			v.Last = place{seq, hash}
		}
		v.At, v.Good = now.UTC(), k.Retired
		if err := l.save(tx, s.Ref); err != nil {
			return err
		}
	}
	return l.raise(tx, s, now)
}

// branch finds the branch on which a message goes on, by its first message. Where none is found, it is the message before.
func (l *left) branch(r state.Reader, ref int64, seq uint64, prev schema.Digest) (place, error) {
	before := place{seq - 1, prev}
	if len(l.Branches) == 1 {
		return l.Branches[0], nil
	}
	for at, n := before, 0; n < maxBack; n++ {
		if slices.Contains(l.Branches, at) {
			return at, nil
		}
		next, ok, err := state.RuledOutBefore(r, ref, at.Seq, at.Hash)
		if err != nil {
			return before, err
		}
		if !ok {
			break
		}
		at = place{at.Seq - 1, next}
	}
	return before, nil
}

// raise makes the alarm say what goes on. Its text is the same for every further message, so that who holds a stolen key
// cannot fill the ledger with it.
func (l *left) raise(tx *store.Tx, s *state.Stream, now time.Time) error {
	var list []string
	for _, v := range l.Voices[:min(len(l.Voices), maxShown)] {
		list = append(list, fmt.Sprintf("key %s signed message %d, and maybe more, on the branch of message %d, %s", v.Key, v.First, v.Branch.Seq, v.Branch.Hash))
	}
	text := fmt.Sprintf("stream %s goes on where it was ruled out, and gives nothing there: %s", s.Name, strings.Join(list, "; "))
	if more := len(l.Voices) - maxShown; more > 0 {
		text += fmt.Sprintf("; and %d more", more)
	}
	_, err := state.RaiseAlarm(tx, state.Alarm{Code: AlarmGoesOn, Key: s.AlarmKey(), Severity: state.Critical, Last: now, Issuer: s.Issuer, Stream: s.Name, Text: text})
	return err
}

// EndGoesOn ends the alarms of branches that go on no more, and lets those that stand say who is left.
func EndGoesOn(tx *store.Tx, now time.Time) error {
	standing, err := state.Alarms(tx)
	if err != nil || !slices.ContainsFunc(standing, func(a state.Alarm) bool { return a.Code == AlarmGoesOn }) {
		return err
	}
	streams, err := state.Streams(tx)
	if err != nil {
		return err
	}
	keys, err := state.Keys(tx)
	if err != nil {
		return err
	}
	for _, s := range streams {
		i := slices.IndexFunc(standing, func(a state.Alarm) bool { return a.Code == AlarmGoesOn && a.Key == s.AlarmKey() })
		if i < 0 {
			continue
		}
		l, err := readLeft(tx, s.Ref)
		if err != nil {
			return err
		}
		was := len(l.Voices)
		l.Voices = slices.DeleteFunc(l.Voices, func(v voice) bool {
			return s.State == admit.Closed || now.Sub(v.At) > quiet || v.over(s.Generation, keys)
		})
		if len(l.Voices) == was {
			continue
		}
		if err := l.save(tx, s.Ref); err != nil {
			return err
		}
		if len(l.Voices) > 0 {
			err = l.raise(tx, s, standing[i].Last)
		} else {
			_, err = state.ClearAlarm(tx, AlarmGoesOn, s.AlarmKey(), now)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// over tells whether the key was ended since it said the last, and can say nothing after that.
func (v *voice) over(generation int, keys []*state.Key) bool {
	i := slices.IndexFunc(keys, func(k *state.Key) bool { return k.KID == v.Key })
	if i < 0 || keys[i].Retired == nil {
		return i < 0
	}
	r := *keys[i].Retired
	return (v.Good == nil || *v.Good != r) && (r.Generation < generation || r.Generation == generation && r.Seq <= v.Last.Seq)
}
