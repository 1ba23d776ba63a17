package broker

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/goccy/go-yaml"
)

// Namespace is the form of a file that says what a broker has.
type Namespace struct {
	Queues []Queue `json:"queues" yaml:"queues"`
	Topics []Topic `json:"topics" yaml:"topics"`
	Rules  []Rule  `json:"rules" yaml:"rules"` // none means DefaultRules
	Tokens *struct {
		JWKS        string       `json:"jwks" yaml:"jwks"` // file with the issuer's keys
		Issuer      string       `json:"issuer" yaml:"issuer"`
		Audiences   []string     `json:"audiences" yaml:"audiences"`
		Assignments []Assignment `json:"assignments" yaml:"assignments"`
	} `json:"tokens" yaml:"tokens"`
}

// ReadNamespace reads such a file into a Config; unknown keys are refused.
func ReadNamespace(path string, c *Config) error {
	raw, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("read namespace: %w", err)
	}
	var n Namespace
	if err := decodeYAML(raw, &n); err != nil {
		return wrong("namespace %s: %v", path, err)
	}
	c.Queues, c.Topics = append(c.Queues, n.Queues...), append(c.Topics, n.Topics...)
	if n.Rules != nil {
		c.Rules = n.Rules
	}
	if n.Tokens == nil {
		return nil
	}
	tokens := &EntraTokens{Issuer: n.Tokens.Issuer, Audiences: n.Tokens.Audiences, Assignments: n.Tokens.Assignments}
	if raw, err = os.ReadFile(n.Tokens.JWKS); err != nil {
		return fmt.Errorf("read keys of the token issuer: %w", err)
	}
	if err := json.Unmarshal(raw, &tokens.Keys); err != nil || len(tokens.Keys.Keys) == 0 {
		return wrong("keys of the token issuer in %s: no JSON Web Key Set (%v)", n.Tokens.JWKS, err)
	}
	if tokens.Audiences == nil {
		tokens.Audiences = []string{"https://servicebus.azure.net"}
	}
	c.Tokens = tokens
	return nil
}

// ParseFaults reads a YAML or JSON list of faults, or a single one. Unknown
// keys are refused; durations are written like 2s.
func ParseFaults(raw []byte) ([]Fault, error) {
	var list []Fault
	if trimmed := bytes.TrimSpace(raw); len(trimmed) > 0 && trimmed[0] == '{' {
		var one Fault
		if err := decodeYAML(raw, &one); err != nil {
			return nil, wrong("fault: %v", err)
		}
		return append(list, one), nil
	}
	if err := decodeYAML(raw, &list); err != nil {
		return nil, wrong("faults: %v", err)
	}
	return list, nil
}

// decodeYAML reads one YAML document strictly; nothing at all leaves v as it
// is. The library panics on some malformed text: that too is an error here.
func decodeYAML(raw []byte, v any) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("not readable as YAML: %v", p)
		}
	}()
	err = yaml.NewDecoder(bytes.NewReader(raw), yaml.Strict()).Decode(v)
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// UnmarshalText reads rights as "send", "listen", "manage", or several with commas.
func (r *Rights) UnmarshalText(text []byte) error {
	*r = 0
	for name := range strings.SplitSeq(string(text), ",") {
		switch strings.ToLower(strings.TrimSpace(name)) {
		case "send":
			*r |= Send
		case "listen":
			*r |= Listen
		case "manage":
			*r |= Manage
		default:
			return fmt.Errorf("right %q: expected send, listen or manage", name)
		}
	}
	return nil
}

// String writes them so.
func (r Rights) String() string {
	var names []string
	for _, x := range []struct {
		right Rights
		name  string
	}{{Send, "send"}, {Listen, "listen"}, {Manage, "manage"}} {
		if r&x.right != 0 {
			names = append(names, x.name)
		}
	}
	return strings.Join(names, ",")
}
