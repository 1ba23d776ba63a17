package confine

import (
	"errors"
	"fmt"
	"os"
	"slices"

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

// To confines this process to what it is left, and to what every program that dials out must be able to read: without new
// privileges or core dumps, everywhere, and by the walls that the kernel has.
func To(left Left) (Walls, error) {
	err := errors.Join(
		llsys.AllThreadsPrctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0),
		unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}), // its memory holds a credential
		unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: maxOpen, Max: maxOpen}),
	)
	walls := Able()
	if err == nil && walls.Files {
		err = restrict(left)
	}
	if err == nil && walls.Calls {
		err = filterCalls()
	}
	if err != nil {
		return Walls{}, fmt.Errorf("confine the process: %w", err)
	}
	return walls, nil
}

// restrict has Landlock leave files and ports.
func restrict(left Left) error {
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
	return landlock.V6.BestEffort().Restrict(rules...)
}

// Able says which walls [To] can build here.
func Able() Walls {
	version, calls := landlockVersion(), canFilter()
	return Walls{Files: version >= withFiles, Calls: calls, Ports: calls && version >= withPorts}
}

func landlockVersion() int {
	version, err := llsys.LandlockGetABIVersion()
	if err != nil {
		return 0
	}
	return version
}
