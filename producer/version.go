package main

import (
	"crypto/fips140"
	"runtime/debug"

	"jmlbridge/internal/ledger/entry"
)

// release is set by the linker in release builds.
var release = ""

// version is what this program calls itself: the release, or the commit that it was built from.
func version() string {
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

// fips says whether the Go FIPS 140-3 module does the cryptography of this process.
func fips() entry.FIPS {
	f := entry.FIPS{Enabled: fips140.Enabled()}
	if f.Enabled {
		f.Version = fips140.Version()
	}
	return f
}
