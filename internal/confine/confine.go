// Package confine takes from a process what it will not need, for good: new privileges, core dumps, and on Linux every file
// and, of TCP, every port that is not named.
//
// It is for a process that speaks to whom we do not trust. What the kernel cannot do is left out: confinement is
// the second wall, and [To] says which parts of it stand.
package confine

import "strings"

// Left is what a process keeps. The zero value is nothing.
type Left struct {
	// Files it may read, and what is in folders among them. They may be missing.
	Files []string
	// Ports that it may dial by TCP, beside that of name servers. UDP is left to it: names of hosts are looked up by that.
	Ports []int
}

// Walls are those that stand around a process that was confined.
type Walls struct {
	Files bool // it reads its own files only, writes none and runs no program
	Calls bool // it has no Unix sockets, and changes nobody's mode, owner or times
	Ports bool // it dials its own ports only
}

// String says it for people.
func (w Walls) String() string {
	var text []string
	for _, wall := range []struct {
		stands bool
		what   string
	}{{w.Files, "its own files only"}, {w.Calls, "no Unix sockets, no change of modes and owners"}, {w.Ports, "of TCP its own ports only"}} {
		if wall.stands {
			text = append(text, wall.what)
		}
	}
	if len(text) == 0 {
		return "nothing keeps it from what its user may read and dial"
	}
	return strings.Join(text, ", ")
}

// namePort is that of name servers, for answers that are too long for UDP.
const namePort = 53

// Files that a program which dials out may have to read at any time: names of hosts, and roots that are trusted.
// They are public.
var (
	publicDirs = []string{
		"/etc/ssl", "/etc/pki", "/etc/ca-certificates", "/usr/share/ca-certificates", "/usr/local/share/certs",
		"/usr/local/share/ca-certificates", "/run/systemd/resolve", "/usr/share/zoneinfo",
	}
	publicFiles = []string{"/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf", "/etc/services", "/etc/localtime", "/dev/null", "/dev/urandom"}
)
