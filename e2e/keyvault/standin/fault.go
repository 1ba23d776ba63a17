package standin

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
)

// Kinds of faults.
const (
	Error            = "error"             // answers with Status and Code, does nothing
	Unheard          = "unheard"           // the request is lost: nothing is done, the connection breaks
	Lost             = "lost"              // it is done, and the answer is lost
	Delay            = "delay"             // the answer comes so much later
	WrongVersion     = "wrong-version"     // the answer bears another version of the key
	WrongValue       = "wrong-value"       // one bit of the signature or plaintext is wrong
	Garbage          = "garbage"           // 200 with something that is not JSON
	ForeignAuthority = "foreign-authority" // the challenge names another token endpoint
	ForeignResource  = "foreign-resource"  // the challenge asks for a token for something else
	BrokenChallenge  = "broken-challenge"  // the challenge names no tenant
)

// Fault is something that goes wrong with the requests that it strikes.
type Fault struct {
	Kind       string        `json:"kind"`
	Op         string        `json:"op,omitempty"`         // an operation as permissions are named; "" for each
	Key        string        `json:"key,omitempty"`        // name of a key; "" for each
	Count      int           `json:"count,omitempty"`      // strikes so often; 0: until it is removed
	Status     int           `json:"status,omitempty"`     // of an error
	Code       string        `json:"code,omitempty"`       // of an error
	RetryAfter string        `json:"retryAfter,omitempty"` // header of an error
	Delay      time.Duration `json:"delay,omitempty"`      // nanoseconds
}

type faults struct {
	mu   sync.Mutex // guards list
	list []*Fault
}

// AddFaults puts faults in force; of several that fit, the first strikes.
func (s *Server) AddFaults(list ...Fault) {
	s.faults.mu.Lock()
	defer s.faults.mu.Unlock()
	for _, f := range list {
		s.faults.list = append(s.faults.list, &f)
	}
}

// ClearFaults ends all faults.
func (s *Server) ClearFaults() {
	s.faults.mu.Lock()
	defer s.faults.mu.Unlock()
	s.faults.list = nil
}

func (f *Fault) check() error {
	switch f.Kind {
	case Unheard, Lost, Delay, WrongVersion, WrongValue, Garbage, ForeignAuthority, ForeignResource, BrokenChallenge:
		return nil
	case Error:
		if f.Status < 400 || f.Status > 599 {
			return fmt.Errorf("fault: want a status of 400 to 599 with an error, got %d", f.Status)
		}
		return nil
	}
	return fmt.Errorf("fault: unknown kind %q", f.Kind)
}

// challenges reports whether f is about what a request without a token is told; the others strike only what
// comes with one, as a client's first request comes without.
func (f *Fault) challenges() bool {
	return f.Kind == ForeignAuthority || f.Kind == ForeignResource || f.Kind == BrokenChallenge
}

func (fs *faults) strike(op, path string, token bool) *Fault {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	parts := append(strings.Split(strings.Trim(path, "/"), "/"), "")
	for i, f := range fs.list {
		if f.challenges() == token || f.Op != "" && f.Op != op || f.Key != "" && !strings.EqualFold(f.Key, parts[1]) {
			continue
		}
		if f.Count > 0 {
			if f.Count--; f.Count == 0 {
				fs.list = append(fs.list[:i:i], fs.list[i+1:]...)
			}
		}
		c := *f
		return &c
	}
	return nil
}

// Commands reads one fault in JSON a line and puts it in force; an empty line ends all faults. It returns at the
// end of r.
func (s *Server) Commands(r io.Reader, errs io.Writer) {
	in := bufio.NewScanner(r)
	for in.Scan() {
		if len(in.Bytes()) == 0 {
			s.ClearFaults()
			continue
		}
		var f Fault
		err := json.Unmarshal(in.Bytes(), &f)
		if err == nil {
			err = f.check()
		}
		if err != nil {
			fmt.Fprintf(errs, "keyvault: %v\n", err)
			continue
		}
		s.AddFaults(f)
	}
}
