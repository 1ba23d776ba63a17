package command

import (
	"fmt"
	"os"
	"os/user"
	"strconv"
	"strings"
)

// Operator is the login of whoever runs this process. On Linux it is the login that the kernel's audit
// system keeps from the session's beginning, where there is one: it survives sudo and su, so two people
// who share the service account are still two. An environment variable is never asked: it can be set.
func Operator() (string, error) {
	if text, err := os.ReadFile("/proc/self/loginuid"); err == nil {
		if who, ok := loginOf(string(text), user.LookupId); ok {
			return who, nil
		}
	}
	who, err := user.Current()
	if err != nil {
		return "", fmt.Errorf("find out who acts: %w", err)
	}
	return who.Username, nil
}

// loginOf reads /proc/self/loginuid; ok is false where no session was ever begun, as for a service.
func loginOf(text string, lookup func(string) (*user.User, error)) (who string, ok bool) {
	text = strings.TrimSpace(text)
	uid, err := strconv.ParseUint(text, 10, 32)
	if err != nil || uid == 1<<32-1 {
		return "", false
	}
	if u, err := lookup(text); err == nil {
		return u.Username, true
	}
	return "uid:" + text, true // a login that has no name any more is still that one
}
