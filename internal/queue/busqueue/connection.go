package busqueue

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
)

// connection is what a connection string says of its place. The rest of it is the client's.
type connection struct {
	endpoint string // host, with a port if one is given
	entity   string // empty: the whole namespace
	emulator bool
}

// parseConnection reads a connection string: pairs of key and value between semicolons. Its errors name keys and
// never values.
func parseConnection(text string) (c connection, err error) {
	switch {
	case strings.ContainsAny(text, "\r\n"):
		return c, errors.New("expected one line, the connection string and nothing else")
	case strings.HasPrefix(text, `"`):
		return c, errors.New("it stands in quotes, as az writes JSON; read it with --output tsv")
	}
	has := map[string]bool{}
	for pair := range strings.SplitSeq(text, ";") {
		if strings.TrimSpace(pair) == "" {
			continue
		}
		key, value, ok := strings.Cut(pair, "=")
		name := strings.ToLower(strings.TrimSpace(key))
		if !ok || value == "" {
			return c, errors.New("expected pairs key=value between semicolons, as the portal and az show a connection string")
		}
		if has[name] {
			return c, fmt.Errorf("%s stands in it twice", name)
		}
		has[name] = true
		switch name {
		case "endpoint":
			u, err := url.Parse(value)
			if err != nil || u.Scheme != "sb" || u.Host == "" || u.User != nil || strings.Trim(u.Path, "/") != "" {
				return c, errors.New("its Endpoint is not of the form sb://host/")
			}
			c.endpoint = u.Host
		case "entitypath":
			c.entity = value
		case "usedevelopmentemulator":
			switch strings.ToLower(value) {
			case "true", "1", "t":
				c.emulator = true
			case "false", "0", "f":
			default:
				return c, errors.New("UseDevelopmentEmulator is neither true nor false")
			}
		case "sharedaccesskeyname", "sharedaccesskey", "sharedaccesssignature":
		default:
			return c, fmt.Errorf("it has a key %.40q that no connection string has", name)
		}
	}
	if c.endpoint == "" || !has["sharedaccesssignature"] && !(has["sharedaccesskeyname"] && has["sharedaccesskey"]) {
		return c, errors.New("expected Endpoint, SharedAccessKeyName and SharedAccessKey in it")
	}
	return c, nil
}
