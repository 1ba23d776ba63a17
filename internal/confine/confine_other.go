//go:build !linux

package confine

// To does nothing here, and says so.
func To(Left) (string, error) { return "not confined: this system is not Linux", nil }

// Ports says whether [To] keeps a process here to its ports.
func Ports() bool { return false }
