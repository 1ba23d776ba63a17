package schema

import (
	"cmp"
	"slices"
)

// FillHeartbeat makes s a heartbeat that repeats as many of cuts as fit the size class, beginning with
// the first whose Seq is greater than after and going around. It returns the Seq of the last one taken,
// to be passed as after the next time, so that in turn every cut is repeated. cuts are those of the
// window in s's generation, sorted by Seq; the claims of s but for Event, Version and Pad must be set.
func FillHeartbeat(s *SET, cuts []CutNotice, after uint64) (last uint64, err error) {
	s.Event, s.Version, s.Pad = &Heartbeat{Cuts: []CutNotice{}, Total: len(cuts)}, 1, ""
	bare, err := Encode(s)
	if err != nil {
		return after, err
	}
	room := SizeClass - len(bare) - len(`,"pad":"0"`)
	begin, _ := slices.BinarySearchFunc(cuts, after, func(c CutNotice, seq uint64) int {
		if c.Seq <= seq {
			return -1
		}
		return 1
	})
	taken := make([]CutNotice, 0, 16)
	last = after
	var line []byte
	for i := range cuts {
		c := &cuts[(begin+i)%len(cuts)]
		line = append(c.append(line[:0]), ',')
		if room -= len(line); room < 0 {
			break
		}
		taken = append(taken, *c)
		last = c.Seq
	}
	slices.SortFunc(taken, func(a, b CutNotice) int { return cmp.Compare(a.Seq, b.Seq) })
	s.Event = &Heartbeat{Cuts: taken, Total: len(cuts)}
	return last, s.check()
}
