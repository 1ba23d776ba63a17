package schema

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"time"
)

// A SET is one Security Event Token (RFC 8417): one fact, its place in the producer's stream, and
// nothing that is a command. Its canonical encoding is what is signed; see event.md.
type SET struct {
	Issuer   string   // iss: the producer, a URI
	Audience string   // aud: exactly one enclave, a URI
	ID       string   // jti: UUIDv7, lower case
	IssuedAt Instant  // iat: when the producer wrote it
	Occurred *Instant // toe: when it became true; nil where the source states no instant
	Txn      string   // txn: the source's own ticket; optional
	Subject  string   // sub_id.id (RFC 9493, opaque): the HR id; empty for heartbeat and roster
	Stream   Position // where this message stands in the chain
	Event    Event    // exactly one
	Version  int      // of Event's schema; 1
	Pad      string   // zero or more '0', ignored; see SizeClass
}

// Position is a message's place in its producer's chain.
type Position struct {
	ID         string // of the stream, unique within the issuer
	Generation int    // starts at 1; a producer restored from backup opens the next
	Seq        uint64 // starts at 1 in every generation, without holes
	Prev       Digest // SHA-256 of the previous message's payload octets; all zero at seq 1
}

// Digest is a SHA-256 value; base64url without padding on the wire.
type Digest [sha256.Size]byte

var digestEncoding = base64.RawURLEncoding.Strict()

// DigestOf is the SHA-256 of b.
func DigestOf(b []byte) Digest { return sha256.Sum256(b) }

func (d Digest) String() string { return base64.RawURLEncoding.EncodeToString(d[:]) }

// IsZero reports whether d is the value that stands before the first message of a generation.
func (d Digest) IsZero() bool { return d == Digest{} }

// MarshalText implements encoding.TextMarshaler.
func (d Digest) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// AppendText implements encoding.TextAppender.
func (d Digest) AppendText(b []byte) ([]byte, error) {
	return base64.RawURLEncoding.AppendEncode(b, d[:]), nil
}

// UnmarshalText implements encoding.TextUnmarshaler. Only the canonical spelling is taken.
func (d *Digest) UnmarshalText(text []byte) error {
	// 43 characters decode to 32 octets, and strictly: the decoder would skip line breaks, hence the length.
	raw, err := digestEncoding.AppendDecode(make([]byte, 0, sha256.Size), text)
	if err != nil || len(raw) != len(d) || len(text) != 43 {
		return fmt.Errorf("want a SHA-256 digest as 43 characters of base64url, %s", digestFault(text))
	}
	copy(d[:], raw)
	return nil
}

// digestFault says what is wrong with a digest that was refused.
func digestFault(text []byte) string {
	if len(text) != 43 {
		return fmt.Sprintf("got %d characters", len(text))
	}
	for i, c := range text {
		if c != '-' && c != '_' && (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') {
			return fmt.Sprintf("got %q as character %d, which is none of A-Z a-z 0-9 - _", c, i+1)
		}
	}
	return fmt.Sprintf("got one that ends in %q, in which none ends: it is mistyped", text[len(text)-1]) // 43 characters have room for two more bits
}

// Instant is a point in time in UTC, to the second: all that HR systems state and Graph keeps.
// In claims (iat, toe) it is a NumericDate, elsewhere RFC 3339 with the zone Z.
type Instant struct{ sec int64 }

const instantLayout = "2006-01-02T15:04:05Z"

// At cuts t to the second.
func At(t time.Time) Instant { return Instant{t.Unix()} }

// Time returns i in UTC.
func (i Instant) Time() time.Time { return time.Unix(i.sec, 0).UTC() }

// Unix returns seconds since the epoch.
func (i Instant) Unix() int64 { return i.sec }

// IsZero reports whether i was never set. (The epoch itself is refused on the wire.)
func (i Instant) IsZero() bool { return i.sec == 0 }

// Before reports whether i is earlier than o.
func (i Instant) Before(o Instant) bool { return i.sec < o.sec }

func (i Instant) String() string { return i.Time().Format(instantLayout) }

// MarshalText implements encoding.TextMarshaler.
func (i Instant) MarshalText() ([]byte, error) { return []byte(i.String()), nil }

// AppendText implements encoding.TextAppender.
func (i Instant) AppendText(b []byte) ([]byte, error) {
	return i.Time().AppendFormat(b, instantLayout), nil
}

// UnmarshalText implements encoding.TextUnmarshaler. Only the form 2006-01-02T15:04:05Z is taken.
func (i *Instant) UnmarshalText(text []byte) error {
	t, err := time.Parse(instantLayout, string(text))
	if err != nil || t.Unix() <= 0 || t.Format(instantLayout) != string(text) {
		return fmt.Errorf("want an instant like 2006-01-02T15:04:05Z, got %q", text)
	}
	i.sec = t.Unix()
	return nil
}
