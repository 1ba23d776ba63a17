package main

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// stages say to what a sample of the intake's processor time belongs: the first whose function is
// anywhere on the sample's stack.
var stages = []struct {
	name  string
	funcs []string
}{
	{"garbage collection", []string{"runtime.gcBgMarkWorker", "runtime.gcAssistAlloc", "runtime.bgsweep", "runtime.bgscavenge"}},
	{"open", []string{"jmlbridge/internal/envelope.Open"}},
	{"decode", []string{"jmlbridge/consumer/intake.(*item).open"}},
	{"ledger", []string{"jmlbridge/internal/ledger.Append"}},
	{"commit", []string{"jmlbridge/internal/store.(*writer).exec"}}, // BEGIN and COMMIT only
	{"archive and people", []string{"jmlbridge/consumer/state."}},
	{"admit and fold", []string{"jmlbridge/consumer/intake.(*batch)", "jmlbridge/consumer/intake.(*Intake).write"}},
	{"fetch and settle", []string{"github.com/nats-io/nats%2ego", "jmlbridge/internal/queue/natsqueue"}}, // as the linker spells it
}

const elsewhere = "runtime and the rest"

// profile is a CPU profile's samples by stage.
type profile struct {
	total int64
	by    map[string]int64
}

type share struct {
	name  string
	share float64
}

// shares come largest first.
func (p *profile) shares() (list []share) {
	for name, n := range p.by {
		list = append(list, share{name, float64(n) / float64(p.total)})
	}
	slices.SortFunc(list, func(a, b share) int {
		return cmp.Or(cmp.Compare(b.share, a.share), strings.Compare(a.name, b.name))
	})
	return list
}

// stageOf names the stage of a stack of function names.
func stageOf(stack []string) string {
	for _, s := range stages {
		for _, f := range stack {
			if slices.ContainsFunc(s.funcs, func(prefix string) bool { return strings.HasPrefix(f, prefix) }) {
				return s.name
			}
		}
	}
	return elsewhere
}

// parseProfile reads what runtime/pprof writes: a gzipped protocol buffer, profile.proto of
// github.com/google/pprof. It reads the few fields that it needs and trusts the rest.
func parseProfile(data []byte) (*profile, error) {
	z, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("read profile: %w", err)
	}
	if data, err = io.ReadAll(z); err != nil {
		return nil, fmt.Errorf("read profile: %w", err)
	}
	var samples [][]byte
	var strs []string
	locations := map[uint64][]uint64{} // to functions, the inlined ones too
	functions := map[uint64]uint64{}   // to names
	err = eachField(data, func(field int, v uint64, b []byte) error {
		switch field {
		case 2:
			samples = append(samples, b)
		case 4:
			var id uint64
			var funcs []uint64
			err := eachField(b, func(field int, v uint64, b []byte) error {
				switch field {
				case 1:
					id = v
				case 4:
					return eachField(b, func(field int, v uint64, _ []byte) error {
						if field == 1 {
							funcs = append(funcs, v)
						}
						return nil
					})
				}
				return nil
			})
			locations[id] = funcs
			return err
		case 5:
			var id, name uint64
			err := eachField(b, func(field int, v uint64, _ []byte) error {
				switch field {
				case 1:
					id = v
				case 2:
					name = v
				}
				return nil
			})
			functions[id] = name
			return err
		case 6:
			strs = append(strs, string(b))
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	p := &profile{by: map[string]int64{}}
	for _, s := range samples {
		var at, values []uint64
		err := eachField(s, func(field int, v uint64, b []byte) error {
			switch field {
			case 1:
				return numbers(&at, v, b)
			case 2:
				return numbers(&values, v, b)
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
		if len(values) == 0 {
			return nil, errors.New("read profile: a sample without values")
		}
		var stack []string
		for _, l := range at {
			for _, f := range locations[l] {
				if n := functions[f]; n < uint64(len(strs)) {
					stack = append(stack, strs[n])
				}
			}
		}
		p.by[stageOf(stack)] += int64(values[0]) // of a CPU profile: the number of samples
		p.total += int64(values[0])
	}
	return p, nil
}

var errProfile = errors.New("read profile: it is cut short")

// eachField walks the fields of a protocol buffer message; b is nil for numbers.
func eachField(data []byte, f func(field int, v uint64, b []byte) error) error {
	for len(data) > 0 {
		tag, n := binary.Uvarint(data)
		if n <= 0 {
			return errProfile
		}
		data = data[n:]
		v, n := binary.Uvarint(data)
		if n <= 0 {
			return errProfile
		}
		data = data[n:]
		var b []byte
		switch tag & 7 {
		case 0:
		case 2:
			if v > uint64(len(data)) {
				return errProfile
			}
			b, data = data[:v:v], data[v:]
		default:
			return fmt.Errorf("read profile: a field of type %d, which profiles have not", tag&7)
		}
		if err := f(int(tag>>3), v, b); err != nil {
			return err
		}
	}
	return nil
}

// numbers appends a repeated number, which is packed or not.
func numbers(list *[]uint64, v uint64, packed []byte) error {
	if packed == nil {
		*list = append(*list, v)
		return nil
	}
	for len(packed) > 0 {
		x, n := binary.Uvarint(packed)
		if n <= 0 {
			return errProfile
		}
		*list, packed = append(*list, x), packed[n:]
	}
	return nil
}
