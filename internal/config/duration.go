package config

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"
)

// Duration is a time span as people write it: 90s, 5m, 24h, 14d, or several of them (1d12h). A number
// without a unit is refused. The zero value is no time at all.
type Duration time.Duration

// D returns d as the standard type.
func (d Duration) D() time.Duration { return time.Duration(d) }

func (d Duration) String() string { return time.Duration(d).String() }

// ParseDuration reads a Duration. A day is 24 hours.
func ParseDuration(s string) (Duration, error) {
	var total time.Duration
	rest := s
	if days, after, ok := strings.Cut(s, "d"); ok {
		n, err := strconv.ParseUint(days, 10, 16)
		if err != nil {
			return 0, badDuration(s)
		}
		total, rest = time.Duration(n)*24*time.Hour, after
	}
	if rest != "" {
		d, err := time.ParseDuration(rest)
		if err != nil || d < 0 {
			return 0, badDuration(s)
		}
		total += d
	} else if s == "" {
		return 0, badDuration(s)
	}
	return Duration(total), nil
}

func badDuration(s string) error {
	return fmt.Errorf("want a duration like 90s, 5m, 24h or 14d, got %q", s)
}

// UnmarshalYAML reads a scalar.
func (d *Duration) UnmarshalYAML(n ast.Node) error {
	text, ok := scalar(n)
	if !ok {
		return &valueError{n.GetToken(), "want a duration like 90s, 5m, 24h or 14d"}
	}
	v, err := ParseDuration(text)
	if err != nil {
		return &valueError{n.GetToken(), err.Error()}
	}
	*d = v
	return nil
}

// Text is a scalar taken as it is spelt: True, 007 and 1.0 stay what was written, where YAML would
// make a boolean and numbers of them. It is for values that are compared with those of another system.
type Text string

// UnmarshalYAML reads a scalar.
func (t *Text) UnmarshalYAML(n ast.Node) error {
	text, ok := scalar(n)
	if !ok {
		return &valueError{n.GetToken(), "want one value, not a list or a mapping"}
	}
	*t = Text(text)
	return nil
}

func scalar(n ast.Node) (string, bool) {
	switch n := n.(type) {
	case *ast.StringNode:
		return n.Value, true
	case *ast.LiteralNode:
		return n.Value.Value, true
	case *ast.NullNode:
		return "", false
	}
	if _, ok := n.(ast.ScalarNode); ok {
		return n.GetToken().Value, true
	}
	return "", false
}

// valueError is a value that a type of this package refuses, on its way through the YAML library.
type valueError struct {
	token  *token.Token
	reason string
}

func (e *valueError) Error() string { return e.reason }

// PathOr is a file, written as its path alone, or a T, written as a mapping.
type PathOr[T any] struct {
	Path  string // empty if Other is set
	Other *T
}

// UnmarshalYAML reads a scalar or a mapping.
func (p *PathOr[T]) UnmarshalYAML(n ast.Node) error {
	if text, ok := scalar(n); ok {
		*p = PathOr[T]{Path: text}
		return nil
	}
	other := new(T)
	if err := yaml.NodeToValue(n, other, yaml.Strict()); err != nil {
		return err
	}
	*p = PathOr[T]{Other: other}
	return nil
}
