// Package config reads the programs' YAML files strictly: a key that the program does not know is a
// mistake that must be heard, since a misspelt limit would otherwise not limit. Every error names
// file, line and column, what was expected and what to do.
//
// It trusts whoever may write the file, and therefore refuses one that everyone may write. It knows no
// domain: the caller brings the struct, applies defaults and judges values, and uses [File.Errorf] to
// point at the place.
package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

const maxFile = 1 << 20 // octets of a configuration or policy file

// An Error is a mistake in a file, for the person who wrote it. Programs answer it with exit code 2.
type Error struct {
	File   string
	Line   int // from 1; 0 when the file as a whole is meant
	Column int
	Reason string
}

func (e *Error) Error() string {
	if e.Line == 0 {
		return fmt.Sprintf("%s: %s", e.File, e.Reason)
	}
	return fmt.Sprintf("%s:%d:%d: %s", e.File, e.Line, e.Column, e.Reason)
}

// File is a file that was read, kept so that later checks can point into it.
type File struct {
	name string
	data []byte
	tree *ast.File
}

// Load reads the YAML file name into the struct that into points to. Fields that the file does not
// name keep their values, so defaults are set before. Every error about the content is an *Error.
func Load(name string, into any) (*File, error) {
	data, err := read(name)
	if err != nil {
		return nil, err
	}
	return Parse(name, data, into)
}

// Parse is Load for content that was read already; name is for messages and relative paths.
func Parse(name string, data []byte, into any) (_ *File, err error) {
	f := &File{name: name, data: data}
	defer func() { // the YAML library panics on some malformed text, such as "! {0}" where a list is wanted
		if recover() != nil {
			err = f.whole("this is no YAML that can be read; compare it with the annotated example")
		}
	}()
	switch {
	case len(data) > maxFile:
		return nil, f.whole("more than %d octets; this is no configuration file", maxFile)
	case !utf8.Valid(data):
		return nil, f.whole("want UTF-8; save the file in that encoding")
	case bytes.HasPrefix(data, []byte("\xef\xbb\xbf")):
		return nil, f.whole("it begins with a byte order mark; save it as UTF-8 without one")
	}
	tree, err := parser.ParseBytes(data, 0)
	if err != nil {
		return nil, f.explain(err)
	}
	bodies := slices.DeleteFunc(slices.Clone(tree.Docs), func(d *ast.DocumentNode) bool { return d.Body == nil })
	switch {
	case len(bodies) == 0:
		return nil, f.whole("the file is empty; see the annotated example for what it must hold")
	case len(bodies) > 1:
		return nil, f.at(bodies[1].Body.GetToken(), "a second YAML document begins here; want one a file")
	}
	f.tree = tree
	if err := yaml.NewDecoder(bytes.NewReader(data), yaml.Strict(), yaml.CustomUnmarshaler(whole[int]), yaml.CustomUnmarshaler(whole[int64])).Decode(into); err != nil && !errors.Is(err, io.EOF) {
		return nil, f.explain(err)
	}
	return f, nil
}

// whole reads a whole number as it stands: the library would cut off what follows a decimal point.
func whole[T int | int64](into *T, text []byte) error {
	n, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, strconv.IntSize)
	if err != nil {
		return &numberError{strings.TrimSpace(string(text))}
	}
	*into = T(n)
	return nil
}

// numberError is a text where a whole number is wanted; the library does not say where it stands.
type numberError struct{ text string }

func (e *numberError) Error() string {
	if _, err := strconv.ParseFloat(e.text, 64); err != nil {
		return "want a whole number, got text"
	}
	return "want a whole number, got " + e.text
}

// only is the token of the one value in the file that has this text; nil where there are none or several.
func (f *File) only(text string) (found *token.Token) {
	n := 0
	for _, node := range ast.FilterFile(ast.MappingValueType, f.tree) {
		v, ok := node.(*ast.MappingValueNode)
		if !ok {
			continue
		}
		t := v.Value.GetToken()
		word := t.Value
		switch t.Type {
		case token.DoubleQuoteType:
			word = `"` + word + `"`
		case token.SingleQuoteType:
			word = "'" + word + "'"
		}
		if word == text {
			found = t
			n++
		}
	}
	if n != 1 {
		return nil
	}
	return found
}

func read(name string) ([]byte, error) {
	r, err := os.Open(name)
	if err != nil {
		reason := err.Error()
		if errors.Is(err, os.ErrNotExist) {
			reason = "no such file; name the configuration with -c FILE"
		}
		return nil, &Error{File: name, Reason: reason}
	}
	defer r.Close()
	info, err := r.Stat()
	switch {
	case err != nil:
		return nil, &Error{File: name, Reason: err.Error()}
	case !info.Mode().IsRegular():
		return nil, &Error{File: name, Reason: "want a regular file, got " + info.Mode().Type().String()}
	case info.Mode().Perm()&0o002 != 0 && runtime.GOOS != "windows":
		return nil, &Error{File: name, Reason: fmt.Sprintf("mode %04o lets everyone change it; chmod o-w %s", info.Mode().Perm(), name)}
	}
	data, err := io.ReadAll(io.LimitReader(r, maxFile+1))
	if err != nil {
		return nil, &Error{File: name, Reason: err.Error()}
	}
	return data, nil
}

// Name is the file's name as it was given.
func (f *File) Name() string { return f.name }

// Bytes is the file's content; callers record its digest and must not change it.
func (f *File) Bytes() []byte { return f.data }

// Path resolves a path that stands in the file: a relative one starts at the file's own folder. The
// empty path stays empty.
func (f *File) Path(p string) string {
	if p == "" || filepath.IsAbs(p) {
		return p
	}
	return filepath.Join(filepath.Dir(f.name), p)
}

// Resolve replaces each of paths by [File.Path] of it.
func (f *File) Resolve(paths ...*string) {
	for _, p := range paths {
		*p = f.Path(*p)
	}
}

// Errorf is an *Error at the place of a YAML path like "$.enclaves[0].scope", or of the nearest part
// of it that the file has.
func (f *File) Errorf(path, format string, args ...any) error {
	reason := fmt.Sprintf(format, args...)
	if key := strings.TrimPrefix(strings.TrimPrefix(path, "$"), "."); key != "" {
		reason = key + ": " + reason
	}
	for p := path; p != "" && p != "$"; p = parent(p) {
		if n := f.node(p); n != nil {
			return f.at(n.GetToken(), "%s", reason)
		}
	}
	return f.whole("%s", reason)
}

// Has reports whether the file names path at all: a zero that was written is not a default.
func (f *File) Has(path string) bool { return f.node(path) != nil }

func (f *File) node(path string) ast.Node {
	p, err := yaml.PathString(path)
	if err != nil {
		return nil
	}
	n, err := p.FilterFile(f.tree)
	if err != nil {
		return nil
	}
	return n
}

func parent(path string) string {
	if i := strings.LastIndexAny(path, ".["); i > 0 {
		return path[:i]
	}
	return ""
}

func (f *File) whole(format string, args ...any) error {
	return &Error{File: f.name, Reason: fmt.Sprintf(format, args...)}
}

func (f *File) at(t *token.Token, format string, args ...any) error {
	e := &Error{File: f.name, Reason: fmt.Sprintf(format, args...)}
	if t != nil && t.Position != nil {
		e.Line, e.Column = t.Position.Line, t.Position.Column
	}
	return e
}

// explain turns the YAML library's errors into ours.
func (f *File) explain(err error) error {
	var bad *valueError
	if errors.As(err, &bad) {
		return f.at(bad.token, "%s", bad.reason)
	}
	var number *numberError
	if errors.As(err, &number) {
		t := f.only(number.text)
		return f.at(t, "%s%v", keyOf(t), number)
	}
	var unknown *yaml.UnknownFieldError
	if errors.As(err, &unknown) {
		key := "this key"
		if unknown.Token != nil {
			key = fmt.Sprintf("key %q", unknown.Token.Value)
		}
		return f.at(unknown.Token, "unknown %s; check its spelling and its indentation against the annotated example", key)
	}
	var mismatch *yaml.TypeError
	if errors.As(err, &mismatch) {
		return f.at(mismatch.Token, "%swant %s, got %s", keyOf(mismatch.Token), word(mismatch.DstType.String()), word(mismatch.SrcType.String()))
	}
	var other yaml.Error
	if errors.As(err, &other) {
		return f.at(other.GetToken(), "%s", other.GetMessage())
	}
	return f.whole("%v", err)
}

// keyOf names the key whose value a token is; nothing where it is not a plain one.
func keyOf(value *token.Token) string {
	if value == nil || value.Prev == nil || value.Prev.Type != token.MappingValueType || value.Prev.Prev == nil {
		return ""
	}
	return value.Prev.Prev.Value + ": "
}

func word(goType string) string {
	switch {
	case strings.HasPrefix(goType, "[]"):
		return "a list"
	case strings.HasPrefix(goType, "map["), strings.Contains(goType, "."):
		return "a mapping"
	case strings.HasPrefix(goType, "int"), strings.HasPrefix(goType, "uint"):
		return "a whole number"
	case strings.HasPrefix(goType, "float"):
		return "a number"
	case goType == "string":
		return "text"
	case goType == "bool":
		return "true or false"
	}
	return goType
}
