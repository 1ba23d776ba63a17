package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"jmlbridge/e2e/adversary/sim"
	"jmlbridge/e2e/seed"
)

// schedules is how many `go test` plays; -short plays fewer.
const schedules = 300

// thieves is how many more it plays that have a thief.
const thieves = 60

// found are schedules that told of a defect once, of the program's or of the schedules' own.
var found = []uint64{135, 2040, 3078, 6786, 9759, 10004, 10608, 11505, 20824, 23592, 29545, 33569, 39251, 43419, 46026, 59831, 60757, 70396, 80250, 80423, 80570, 90984, 92789,
	sim.Thieves + 8, sim.Thieves + 52, sim.Thieves + 152, sim.Thieves + 246, sim.Thieves + 349, sim.Thieves + 1187, sim.Thieves + 1208, sim.Thieves + 1872}

func lab(t *testing.T) *sim.Lab {
	l, err := sim.NewLab(inMemory(t.TempDir()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// No schedule of the adversary's breaks an invariant.
func TestAdversary(t *testing.T) {
	l := lab(t)
	if n := *seed.Flag; n >= 0 {
		if _, err := l.Run(uint64(n), os.Stdout); err != nil {
			t.Fatalf("schedule %d: %v", n, err)
		}
		return
	}
	n, stolen := schedules, thieves
	if testing.Short() {
		n, stolen = n/10, stolen/10
	}
	list := slices.Clone(found)
	for s := range uint64(n) {
		list = append(list, s)
	}
	for s := range uint64(stolen) {
		list = append(list, sim.Thieves+s)
	}
	var all sim.Counts
	for _, s := range list {
		count, err := l.Run(s, nil)
		all.Add(count)
		if err != nil {
			t.Errorf("schedule %d: %v\nreplay it with: go test ./e2e/... -run Adversary -seed %d", s, err, s)
		}
	}
	if all.Acknowledged < all.Messages/2 || all.Applied == 0 || all.Crashes == 0 {
		t.Errorf("the schedules are too tame to show anything: %+v", all)
	}
	t.Logf("\n%s", table(all))
}

// A seed says all of a schedule: played again it goes the same way.
func TestAdversaryReplays(t *testing.T) {
	l := lab(t)
	for _, s := range []uint64{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, sim.Thieves, sim.Thieves + 1, sim.Thieves + 2} {
		var first, second bytes.Buffer
		_, err1 := l.Run(s, &first)
		_, err2 := l.Run(s, &second)
		if fmt.Sprint(err1) != fmt.Sprint(err2) || !bytes.Equal(first.Bytes(), second.Bytes()) {
			t.Errorf("schedule %d went another way the second time: %v, then %v\n%s", s, err1, err2, difference(first.Bytes(), second.Bytes()))
		}
	}
}

// difference is where two traces part.
func difference(a, b []byte) string {
	x, y := bytes.Split(a, []byte("\n")), bytes.Split(b, []byte("\n"))
	for i := range min(len(x), len(y)) {
		if !bytes.Equal(x[i], y[i]) {
			return fmt.Sprintf("line %d:\n%s\n%s", i+1, x[i], y[i])
		}
	}
	return "one ends before the other"
}

func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == worker { // of a test of the program
		os.Exit(work(os.Stdin, os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

// Played by workers and in two runs, schedules come to what they come to here.
func TestPlayedByWorkers(t *testing.T) {
	const n = chunk + 10
	l := lab(t)
	var want sim.Counts
	for s := range uint64(n) {
		count, err := l.Run(s, nil)
		if err != nil {
			t.Fatalf("schedule %d: %v", s, err)
		}
		want.Add(count)
	}
	state := filepath.Join(t.TempDir(), "state.json")
	for _, args := range [][]string{{"-n", "5"}, {"-n", fmt.Sprint(n), "-workers", "2"}} {
		var out, errs bytes.Buffer
		if code := run(t.Context(), append(args, "-state", state), &out, &errs); code != 0 {
			t.Fatalf("%q ended with %d: %s%s", args, code, &out, &errs)
		}
	}
	var p progress
	if err := p.load(state, 0); err != nil {
		t.Fatal(err)
	}
	if p.Next != n || p.Counts != want || p.CPU <= 0 {
		t.Errorf("want %d schedules and %+v, got %d in %s and %+v", n, want, p.Next, p.CPU, p.Counts)
	}
}
