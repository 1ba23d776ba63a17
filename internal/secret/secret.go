// Package secret reads the files that hold keys, passwords, connection strings and certificates with their
// keys. Only the owner may use such a file, and what is judged is the open file, so that it cannot be exchanged
// in between.
package secret

import (
	"fmt"
	"io"
	"os"
	"runtime"
)

const others os.FileMode = 0o077 // whoever is not the owner

// Read returns what the regular file path holds, most octets at the most. Its errors name the file and say what
// to do; none of them holds anything of the secret.
func Read(path string, most int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", path)
	}
	if mode := info.Mode().Perm(); mode&others != 0 && runtime.GOOS != "windows" {
		return nil, fmt.Errorf("%s can be used by others (mode %04o); chmod 600 %s, and replace what it holds if others had access", path, mode, path)
	}
	text, err := io.ReadAll(io.LimitReader(f, most+1))
	if err != nil {
		return nil, err
	}
	if int64(len(text)) > most {
		return nil, fmt.Errorf("%s has more than %d octets; a key, a password or a certificate has fewer", path, most)
	}
	return text, nil
}
