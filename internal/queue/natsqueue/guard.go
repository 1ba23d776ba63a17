package natsqueue

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strconv"

	"jmlbridge/internal/outbound"
)

const (
	maxLine = 32 << 10 // octets of one line of the server's: it speaks in lines, and in messages that a line announces

	maxSaid = 500 // octets of the server's own words in an error, and so in a log

	// maxAnnounced is the most that a NATS server can be set to pass on as one message (max_payload). What is too large for a
	// message of ours is refused by whoever reads it, not here: one such message would keep all others away.
	maxAnnounced = 64 << 20
)

// errUnsound: what came is no NATS that a server would send.
var errUnsound = errors.New("what it sends is not NATS")

// dialer dials, and guards what it dialed. It does the work of TLS, so that the guard stands within: the client asks it to.
type dialer struct {
	way  *outbound.Way
	conf *tls.Config
}

// SkipTLSHandshake implements an optional method of nats.CustomDialer. The client still refuses a server that offers no TLS.
func (d dialer) SkipTLSHandshake() bool { return true }

// Dial implements nats.CustomDialer.
func (d dialer) Dial(network, address string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), dialTimeout)
	defer cancel()
	raw, err := d.way.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	conf := d.conf.Clone()
	if conf.ServerName, _, err = net.SplitHostPort(address); err != nil {
		raw.Close()
		return nil, err
	}
	return &guarded{Conn: tls.Client(raw, conf), raw: raw}, nil
}

// guarded is a connection that ends where the server says what the client does not survive: it makes room for a message of
// the size that is announced, and a size beyond all bounds ends the program (nats.go 1.55). So this follows the protocol as narrowly as
// a server speaks it, and passes nothing on that the client could read otherwise.
type guarded struct {
	*tls.Conn          // whose handshake comes with the first write
	raw       net.Conn // beneath it

	// Owned by who reads:
	greeted bool   // the first line came, the only one before TLS
	line    []byte // begun
	body    int    // octets of a message that are to come, with its end
}

// Read implements net.Conn.
func (g *guarded) Read(p []byte) (int, error) {
	if !g.greeted {
		return g.greeting(p)
	}
	n, err := g.Conn.Read(p)
	if bad := g.follow(p[:n]); bad != nil {
		return 0, fmt.Errorf("%w: %w", errUnsound, bad)
	}
	return n, err
}

// greeting reads the first line, octet by octet, since what follows it is TLS's.
func (g *guarded) greeting(p []byte) (int, error) {
	for n := range p {
		if _, err := g.raw.Read(p[n : n+1]); err != nil {
			return 0, err
		}
		if p[n] == '\n' {
			g.greeted = true
			return n + 1, nil
		}
	}
	return 0, fmt.Errorf("%w: a first line of more than %d octets", errUnsound, len(p))
}

// follow takes what came next.
func (g *guarded) follow(p []byte) error {
	for len(p) > 0 {
		if g.body > 2 {
			n := min(len(p), g.body-2)
			g.body, p = g.body-n, p[n:]
			continue
		}
		end := bytes.IndexByte(p, '\n') + 1
		whole := end > 0
		if !whole {
			end = len(p)
		}
		if len(g.line)+end > maxLine {
			return fmt.Errorf("a line of more than %d octets", maxLine)
		}
		g.line, p = append(g.line, p[:end]...), p[end:]
		if !whole {
			return nil
		}
		line, sound := bytes.CutSuffix(g.line, []byte("\r\n"))
		g.line = g.line[:0]
		switch {
		case !sound || bytes.IndexByte(line, '\r') >= 0:
			return errors.New("a line that does not end as one")
		case g.body > 0: // the end of a message
			if g.body = 0; len(line) > 0 {
				return errors.New("a message that does not end where it should")
			}
		case bytes.HasPrefix(line, []byte("MSG ")), bytes.HasPrefix(line, []byte("HMSG ")):
			size, err := strconv.ParseUint(string(line[bytes.LastIndexByte(line, ' ')+1:]), 10, 32)
			if err != nil || size > maxAnnounced || bytes.IndexByte(line, '\t') >= 0 {
				return fmt.Errorf("a message of a size that is none, or over %d octets", maxAnnounced)
			}
			g.body = int(size) + 2
		case bytes.HasPrefix(bytes.ToUpper(line), []byte("MSG")), bytes.HasPrefix(bytes.ToUpper(line), []byte("HMSG")):
			return errors.New("a message that is announced in another way")
		}
	}
	return nil
}
