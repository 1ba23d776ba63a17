//go:build !linux

package disk

import "os"

// allocate gives f blocks for size octets.
func allocate(f *os.File, size int64) error { return fill(f, size) }
