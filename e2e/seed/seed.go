// Package seed gives every test binary under e2e the flag -seed, so that what the adversary prints of a failing
// schedule can be typed as it stands:
//
//	go test ./e2e/... -run Adversary -seed N
//
// hands the flag to all of them, and one that does not know a flag refuses to run. Only the adversary reads it.
package seed

import "flag"

// Flag is the schedule to play alone; -1: those that the test plays by itself.
var Flag = flag.Int64("seed", -1, "play the adversary's schedule of this `number` alone, and tell all of it")
