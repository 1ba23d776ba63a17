//go:build !crashpoints

// Package crash names the durable steps at which a program may be killed in a test: just after
// something became durable, or just before. In a normal build a point costs nothing and does nothing.
// Built with -tags crashpoints, the process kills itself, without any clean-up, at the point and the
// visit that the environment variable JMLBRIDGE_CRASH names, like intent-durable:3.
package crash

// Point marks a step. Names are stable: tests list them.
func Point(string) {}
