package confine

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/landlock-lsm/go-landlock/landlock"
	llsys "github.com/landlock-lsm/go-landlock/landlock/syscall"
	"golang.org/x/sys/unix"
)

// maxOpen is how many files and connections the process may have open.
const maxOpen = 256

// Landlock's versions: of the first, and of the one that knows ports.
const (
	withFiles = 1
	withPorts = 4 // Linux 6.7
)

// To confines this process to what it is left, and to what every program that dials out must be able to read. It says
// what stands.
func To(left Left) (string, error) {
	err := errors.Join(
		llsys.AllThreadsPrctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0),
		unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}), // its memory holds a credential
		unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: maxOpen, Max: maxOpen}),
	)
	if err != nil {
		return "", fmt.Errorf("confine the process: %w", err)
	}
	version := landlockVersion()
	if version < withFiles {
		return always + "; " + noLandlock, nil
	}
	var dirs []string
	files := slices.DeleteFunc(slices.Clone(left.Files), func(name string) bool {
		info, err := os.Stat(name)
		if err == nil && info.IsDir() {
			dirs = append(dirs, name)
			return true
		}
		return false
	})
	rules := []landlock.Rule{landlock.ROFiles(files...).IgnoreIfMissing(),
		landlock.ROFiles(publicFiles...).IgnoreIfMissing(), landlock.RODirs(append(dirs, publicDirs...)...).IgnoreIfMissing()}
	for _, port := range append(slices.Clone(left.Ports), namePort) {
		rules = append(rules, landlock.ConnectTCP(uint16(port)))
	}
	if err := landlock.V6.BestEffort().Restrict(rules...); err != nil {
		return "", fmt.Errorf("confine the process: %w", err)
	}
	stands := []string{always, onlyFiles}
	if version >= withPorts {
		plain, err := plainSockets()
		if err != nil {
			return "", fmt.Errorf("confine the process: %w", err)
		}
		if plain {
			stands = append(stands, onlyPorts)
		}
	}
	return strings.Join(stands, ", "), nil
}

// Ports says whether [To] keeps a process here to its ports.
func Ports() bool { return landlockVersion() >= withPorts && canFilter() }

func landlockVersion() int {
	version, err := llsys.LandlockGetABIVersion()
	if err != nil {
		return 0
	}
	return version
}
