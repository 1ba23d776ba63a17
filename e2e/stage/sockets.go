package stage

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// ErrNoProc says that this system has no /proc to look at.
var ErrNoProc = errors.New("no /proc with the sockets of processes here")

// Sockets are the internet and Unix sockets of one process at one moment.
type Sockets struct {
	Listening []string // protocol and local address; must be empty for a consumer
	Outbound  []string // protocol and remote address
}

// States in /proc/net/tcp and flags in /proc/net/unix.
const (
	tcpEstablished = "01"
	tcpListen      = "0A"
	unixAccepting  = 1 << 16 // __SO_ACCEPTCON
)

// SocketsOf reads the sockets of a process as the kernel has them.
func SocketsOf(pid int) (s Sockets, err error) {
	root := filepath.Join("/proc", strconv.Itoa(pid))
	if _, err := os.Stat("/proc/net/tcp"); err != nil {
		return s, ErrNoProc
	}
	own, err := socketInodes(filepath.Join(root, "fd"))
	if err != nil {
		return s, err
	}
	for _, proto := range []string{"tcp", "tcp6", "udp", "udp6"} {
		err := eachLine(filepath.Join(root, "net", proto), func(f []string) {
			if len(f) < 10 || !own[f[9]] {
				return
			}
			local, remote := address(f[1]), address(f[2])
			switch {
			case f[3] == tcpListen, strings.HasPrefix(proto, "udp") && strings.HasSuffix(remote, ":0"):
				s.Listening = append(s.Listening, proto+" "+local)
			case f[3] == tcpEstablished:
				s.Outbound = append(s.Outbound, proto+" "+remote)
			}
		})
		if err != nil {
			return s, err
		}
	}
	err = eachLine(filepath.Join(root, "net", "unix"), func(f []string) {
		if len(f) < 7 || !own[f[6]] {
			return
		}
		if flags, err := strconv.ParseUint(f[3], 16, 64); err == nil && flags&unixAccepting != 0 {
			s.Listening = append(s.Listening, "unix "+strings.Join(f[7:], " "))
		}
	})
	return s, err
}

// Family is a process and its children, as they are now.
func Family(pid int) []int {
	list := []int{pid}
	all, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return list
	}
	for _, name := range all {
		text, err := os.ReadFile(name)
		if err != nil {
			continue // it has ended
		}
		// The fields begin behind the name, which may hold anything: state, then the parent.
		if f := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:])); len(f) > 1 && f[1] == strconv.Itoa(pid) {
			if child, err := strconv.Atoi(filepath.Base(filepath.Dir(name))); err == nil {
				list = append(list, child)
			}
		}
	}
	return list
}

func socketInodes(dir string) (map[string]bool, error) {
	fds, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	own := map[string]bool{}
	for _, fd := range fds {
		target, err := os.Readlink(filepath.Join(dir, fd.Name()))
		if err != nil {
			continue // closed meanwhile
		}
		if inode, ok := strings.CutPrefix(target, "socket:["); ok {
			own[strings.TrimSuffix(inode, "]")] = true
		}
	}
	return own, nil
}

// eachLine reads a table of the kernel past its heading. One that is not there (no IPv6) is empty.
func eachLine(path string, each func(fields []string)) error {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for i, line := range strings.Split(string(text), "\n") {
		if i > 0 {
			each(strings.Fields(line))
		}
	}
	return nil
}

// address reads the kernel's hexadecimal form: IPv4 in host order, IPv6 as four such words.
func address(hex string) string {
	ip, port, ok := strings.Cut(hex, ":")
	n, err := strconv.ParseUint(port, 16, 16)
	if !ok || err != nil {
		return hex
	}
	if len(ip) == 8 {
		v, err := strconv.ParseUint(ip, 16, 32)
		if err != nil {
			return hex
		}
		return fmt.Sprintf("%d.%d.%d.%d:%d", byte(v), byte(v>>8), byte(v>>16), byte(v>>24), n)
	}
	return fmt.Sprintf("[%s]:%d", strings.ToLower(ip), n)
}
