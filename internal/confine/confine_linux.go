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

// To confines this process to reading files and what is in folders among them, which may be missing, and what every program that dials out must be able
// to read. It says what stands.
func To(files ...string) (string, error) {
	err := errors.Join(
		llsys.AllThreadsPrctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0),
		unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}), // its memory holds a credential
		unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: maxOpen, Max: maxOpen}),
	)
	if err != nil {
		return "", fmt.Errorf("confine the process: %w", err)
	}
	version, err := llsys.LandlockGetABIVersion()
	if err != nil || version < 1 {
		return "no new privileges, no core dumps; this kernel has no Landlock", nil
	}
	var dirs []string
	files = slices.DeleteFunc(slices.Clone(files), func(name string) bool {
		info, err := os.Stat(name)
		if err == nil && info.IsDir() {
			dirs = append(dirs, name)
			return true
		}
		return false
	})
	err = landlock.V5.BestEffort().RestrictPaths(landlock.ROFiles(files...).IgnoreIfMissing(),
		landlock.ROFiles(publicFiles...).IgnoreIfMissing(), landlock.RODirs(append(dirs, publicDirs...)...).IgnoreIfMissing())
	if err != nil {
		return "", fmt.Errorf("confine the process: %w", err)
	}
	return "no new privileges, no core dumps, only its own files", nil
}
