package broker

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
)

// Config says what a broker has. The zero value listens on a free port of
// loopback, has no queue, and the rules of DefaultRules.
type Config struct {
	Listen string   // address; "" is a free port on loopback, PipeOnly none at all
	Hosts  []string // names and addresses by which clients reach it, for its certificate, connection strings (the first one) and audiences; loopback is always among them

	Queues []Queue
	Topics []Topic
	Rules  []Rule        // shared access rules; nil means DefaultRules
	Tokens TokenVerifier // judges JSON Web Tokens; nil refuses them all

	MaxMessageBytes uint64 // of a message and of a batch; 0 means 256 KiB, as Standard has it
	MaxBatchBytes   uint64 // told to senders in a link property when not 0, as Premium does

	Clock     Clock     // nil means real time
	Journal   io.Writer // gets a line of JSON for each operation; nil means none
	FaultSeed uint64    // of the faults' randomness
}

// PipeOnly as the address leaves Pipe as the only way in. Nothing then waits for
// a network, as time in a bubble of testing/synctest demands.
const PipeOnly = "pipe"

// Queue is a queue or, in a topic, a subscription.
type Queue struct {
	Name              string        `json:"name" yaml:"name"`
	Lock              time.Duration `json:"lock,omitempty" yaml:"lock"`                           // 0 means one minute
	MaxDeliveries     uint32        `json:"maxDeliveries,omitempty" yaml:"maxDeliveries"`         // then a message is dead-lettered; 0 means 10
	TTL               time.Duration `json:"ttl,omitempty" yaml:"ttl"`                             // longest life of a message; 0 means for ever
	DeadLetterExpired bool          `json:"deadLetterExpired,omitempty" yaml:"deadLetterExpired"` // instead of dropping what expired
	Duplicates        time.Duration `json:"duplicates,omitempty" yaml:"duplicates"`               // window of duplicate detection; 0 means none
	Sessions          bool          `json:"sessions,omitempty" yaml:"sessions"`                   // required
	MaxBytes          int64         `json:"maxBytes,omitempty" yaml:"maxBytes"`                   // quota; 0 means none
}

// Topic copies each message to each of its subscriptions; there are no filters.
type Topic struct {
	Name          string  `json:"name" yaml:"name"`
	Subscriptions []Queue `json:"subscriptions" yaml:"subscriptions"`
}

// Rights of a rule or token.
type Rights uint8

// The rights. Manage implies the others.
const (
	Send Rights = 1 << iota
	Listen
	Manage
)

// A Rule is a shared access policy.
type Rule struct {
	Name   string `json:"name" yaml:"name"`
	Key    string `json:"key,omitempty" yaml:"key"` // "" gets a random one
	Rights Rights `json:"rights" yaml:"rights"`
	Entity string `json:"entity,omitempty" yaml:"entity"` // path that it is for, with everything below; "" is the namespace
}

// DefaultRules are one rule for each side, and one that may do everything.
func DefaultRules() []Rule {
	return []Rule{{Name: "sender", Rights: Send}, {Name: "listener", Rights: Listen}, {Name: "manager", Rights: Send | Listen | Manage}}
}

// A ConfigError says what is wrong in a Config.
type ConfigError struct{ Text string }

func (e *ConfigError) Error() string { return e.Text }

func wrong(format string, args ...any) error { return &ConfigError{fmt.Sprintf(format, args...)} }

// complete fills in the defaults and checks the rest.
func (c *Config) complete() error {
	if c.Listen == "" {
		c.Listen = "127.0.0.1:0"
	}
	if c.MaxMessageBytes == 0 {
		c.MaxMessageBytes = defaultMaxMessage
	}
	if c.Clock == nil {
		c.Clock = realClock{}
	}
	if c.Rules == nil {
		c.Rules = DefaultRules()
	} else {
		c.Rules = append([]Rule(nil), c.Rules...)
	}
	names := map[string]bool{}
	for i := range c.Rules {
		r := &c.Rules[i]
		if r.Name == "" || names[r.Name] {
			return wrong("rule %q: every rule needs a name of its own", r.Name)
		}
		if r.Rights == 0 {
			return wrong("rule %q has no rights", r.Name)
		}
		names[r.Name] = true
		if r.Rights&Manage != 0 {
			r.Rights |= Send | Listen
		}
		if r.Key == "" {
			var raw [32]byte
			rand.Read(raw[:])
			r.Key = base64.StdEncoding.EncodeToString(raw[:])
		}
	}
	return nil
}

func checkName(name string) error {
	if name == "" || strings.Trim(name, "/") != name || strings.ContainsAny(name, "$\\?#@* \t\r\n") {
		return wrong("entity name %q: expected letters, digits and . - _ / inside", name)
	}
	return nil
}

func (q *Queue) complete() error {
	if q.Lock == 0 {
		q.Lock = defaultLock
	}
	if q.MaxDeliveries == 0 {
		q.MaxDeliveries = defaultMaxDelivery
	}
	if q.Lock < 0 || q.TTL < 0 || q.Duplicates < 0 || q.MaxBytes < 0 {
		return wrong("queue %q: times and sizes are not negative", q.Name)
	}
	return checkName(q.Name)
}

var errClosed = errors.New("the broker is closed")
