// Package confine takes from a process what it will not need, for good: new privileges, core dumps, and on Linux, by Landlock, every file that is not named. Sockets are left to it: Landlock
// knows the ports of plain TCP only, and a rule that Multipath TCP walks around would be a claim, not a wall.
//
// It is for a process that speaks to whom we do not trust. What the kernel cannot do is left out: confinement is
// the second wall, and [To] says which parts of it stand.
package confine

// Files that a program which dials out may have to read at any time: names of hosts, and roots that are trusted.
// They are public.
var (
	publicDirs = []string{
		"/etc/ssl", "/etc/pki", "/etc/ca-certificates", "/usr/share/ca-certificates", "/usr/local/share/certs",
		"/usr/local/share/ca-certificates", "/run/systemd/resolve", "/usr/share/zoneinfo",
	}
	publicFiles = []string{"/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf", "/etc/services", "/etc/localtime", "/dev/null", "/dev/urandom"}
)
