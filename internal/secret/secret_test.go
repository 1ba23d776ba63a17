package secret

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

func TestRead(t *testing.T) {
	const most = 8
	dir := t.TempDir()
	file := func(name, text string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil { // whatever the umask left
			t.Fatal(err)
		}
		return path
	}
	link := filepath.Join(dir, "link")
	if err := os.Symlink(file("behind", "x", 0o640), link); err != nil {
		t.Fatal(err)
	}
	for _, good := range []string{file("full", "12345678", 0o600), file("empty", "", 0o400)} {
		if text, err := Read(good, most); err != nil || len(text) > most {
			t.Errorf("%s: %q, %v", good, text, err)
		}
	}
	for path, says := range map[string]string{
		filepath.Join(dir, "none"):       "no such file",
		dir:                              "not a regular file",
		file("long", "123456789", 0o600): "more than 8 octets",
		file("group", "secret", 0o640):   "mode 0640",
		file("write", "secret", 0o602):   "chmod 600",
		link:                             "mode 0640",
	} {
		if runtime.GOOS == "windows" && (strings.Contains(says, "mode") || strings.Contains(says, "chmod")) {
			continue // there are no such modes
		}
		if text, err := Read(path, most); err == nil || text != nil || !strings.Contains(err.Error(), says) || strings.Contains(err.Error(), "secret ") {
			t.Errorf("%s: %q, %v; expected it to say %q", path, text, err, says)
		}
	}
}
