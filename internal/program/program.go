// Package program is what every program of the module says of itself and how it prints for people and for
// scripts. It knows no domain beyond the ledger's form of a FIPS statement.
package program

import (
	"crypto/fips140"
	"fmt"
	"runtime"
	"runtime/debug"

	"jmlbridge/internal/ledger/entry"
)

// release is set by the linker in release builds: -X jmlbridge/internal/program.release=v1.2.3
var release = ""

// Version is what this program calls itself: the release, or the commit that it was built from.
func Version() string {
	if release != "" {
		return release
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "devel"
	}
	v := "devel"
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision" && len(s.Value) >= 12:
			v += "-" + s.Value[:12]
		case s.Key == "vcs.modified" && s.Value == "true":
			v += "-modified"
		}
	}
	return v
}

// Line is what this program says of itself on one line: its version, its Go, and which FIPS 140-3 module does its
// cryptography. A module called latest is that of the Go release, and has no certificate of its own.
func Line() string {
	module := "off"
	if f := FIPS(); f.Enabled {
		module = f.Version
	}
	return fmt.Sprintf("%s (%s, FIPS 140-3 module %s)", Version(), runtime.Version(), module)
}

// FIPS says whether the Go FIPS 140-3 module does the cryptography of this process.
func FIPS() entry.FIPS {
	f := entry.FIPS{Enabled: fips140.Enabled()}
	if f.Enabled {
		f.Version = fips140.Version()
	}
	return f
}
