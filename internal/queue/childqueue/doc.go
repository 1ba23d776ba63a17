// Package childqueue runs a queue's adapter in a child process: [Publisher] and [Receiver] are the
// parent's ends, [Serve] is the child's whole life.
//
// The mid-point is not trusted, and neither is a client library in its hands: malformed replies have been
// seen to panic, to spin a core, to hang and to end the process. So what speaks to it holds nothing but the
// credential for it. The child is the same binary under a hidden command. It gets the queue's block of the
// configuration over the pipe, of the environment what its caller chose, and no open file but its three pipes (on
// Linux also none that whoever started us had left open); it sees sealed bodies alone, and no key of ours is in its
// memory.
//
// The child is NOT trusted either. Every frame that it says is bounded and checked; one that is not of the
// protocol ends it. The worst that it can do is what a mid-point can do anyway: be late, repeat, withhold.
//
// A child that has ended, does not answer, burns more than its results can cost, grows too large or gets only empty
// results is replaced, after a pause that grows, and whoever asked is told why. Nothing is lost by that: what was
// not settled comes again after its lease, what was not confirmed is published again under the same ids.
package childqueue
