package broker

import (
	"crypto/rand"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"jmlbridge/e2e/servicebus/amqp"
	"jmlbridge/e2e/servicebus/entity"
)

// A Broker is one namespace.
type Broker struct {
	cfg   Config
	ca    *authority
	hosts []string // names and addresses that mean this namespace, in lower case
	addr  net.Addr // stays the same across Stop and Start

	conns sync.WaitGroup // goroutines of connections and listeners

	mu       sync.Mutex // guards all below, and everything of connections; never held across I/O
	nodes    map[string]*node
	live     map[*conn]bool
	sockets  map[net.Conn]bool // accepted and not closed; true: left without a word
	accepted uint64
	open     bool         // the door
	listener net.Listener // nil while it is shut, and for PipeOnly
	http     *http.Server
	refuses  bool // see Refuse
	silent   bool
	closed   bool
	dirty    []*node
	faults   faults
	changed  chan struct{} // closed and replaced when something happened; nil while nobody waits
	tokens   [8]byte       // first half of every lock token
	token    uint64
	scratch  []byte
	journal  journal
}

// A node is an entity with the links that receive from it.
type node struct {
	path      string        // as configured
	queue     *entity.Queue // nil for a topic
	dead      *node         // its dead-letter queue
	topic     []*node       // subscriptions, when it is a topic
	isTopic   bool
	receivers []*link
	turn      int
	accepting []*accept // that wait for a session
	disabled  bool
	marked    bool // dirty
	armed     time.Time
	disarm    func() bool
}

// Start makes a broker and opens its door.
func Start(cfg Config) (*Broker, error) {
	if err := cfg.complete(); err != nil {
		return nil, err
	}
	b := &Broker{cfg: cfg, nodes: map[string]*node{}, live: map[*conn]bool{}, sockets: map[net.Conn]bool{}}
	b.journal.out = cfg.Journal
	rand.Read(b.tokens[:])
	b.faults.seed(cfg.FaultSeed)
	for _, h := range append(slices.Clone(cfg.Hosts), "127.0.0.1", "localhost", "::1") {
		if h = strings.ToLower(h); !slices.Contains(b.hosts, h) {
			b.hosts = append(b.hosts, h)
		}
	}
	for _, q := range cfg.Queues {
		if _, err := b.addQueue(q.Name, q); err != nil {
			return nil, err
		}
	}
	for _, t := range cfg.Topics {
		if err := b.addTopic(t); err != nil {
			return nil, err
		}
	}
	var err error
	if b.ca, err = newAuthority(b.hosts); err != nil {
		return nil, err
	}
	return b, b.Start()
}

func (b *Broker) addQueue(path string, q Queue) (*node, error) {
	if err := q.complete(); err != nil {
		return nil, err
	}
	s := entity.Settings{LockDuration: q.Lock, MaxDeliveries: q.MaxDeliveries, DefaultTTL: q.TTL, DeadLetterExpired: q.DeadLetterExpired,
		DuplicateWindow: q.Duplicates, Sessions: q.Sessions, MaxBytes: q.MaxBytes}
	n := &node{path: path, queue: entity.New(path, s, b.newToken)}
	n.dead = &node{path: n.queue.Dead.Name, queue: n.queue.Dead}
	for _, x := range []*node{n, n.dead} {
		if err := b.addNode(x); err != nil {
			return nil, err
		}
	}
	return n, nil
}

func (b *Broker) addTopic(t Topic) error {
	if err := checkName(t.Name); err != nil {
		return err
	}
	n := &node{path: t.Name, isTopic: true}
	if err := b.addNode(n); err != nil {
		return err
	}
	for _, s := range t.Subscriptions {
		sub, err := b.addQueue(t.Name+"/Subscriptions/"+s.Name, s)
		if err != nil {
			return err
		}
		n.topic = append(n.topic, sub)
	}
	return nil
}

func (b *Broker) addNode(n *node) error {
	key := strings.ToLower(n.path)
	if b.nodes[key] != nil {
		return wrong("entity %q is there twice", n.path)
	}
	b.nodes[key] = n
	return nil
}

// newToken makes a lock token. Callers hold mu.
func (b *Broker) newToken() amqp.UUID {
	b.token++
	var u amqp.UUID
	copy(u[:], b.tokens[:])
	binary.BigEndian.PutUint64(u[8:], b.token)
	u[6], u[8] = u[6]&0x0f|0x40, u[8]&0x3f|0x80
	return u
}

// Start opens the door again after Stop, at the same address. It is nothing
// when the door is open.
func (b *Broker) Start() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return errClosed
	}
	if b.open {
		return nil
	}
	if b.cfg.Listen == PipeOnly {
		b.open = true
		return nil
	}
	var l net.Listener
	var err error
	if b.addr == nil {
		l, err = net.Listen("tcp", b.cfg.Listen)
	} else {
		l, err = listenAgain(b.addr)
	}
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	b.open, b.listener, b.addr = true, l, l.Addr()
	upgrades := newUpgrades(l.Addr())
	b.http = &http.Server{Handler: http.HandlerFunc(b.upgrade), ReadHeaderTimeout: handshakeTime, ConnContext: below}
	server := b.http
	b.conns.Go(func() { server.Serve(upgrades) }) // ends with Stop
	b.conns.Go(func() { b.accept(l, upgrades) })
	return nil
}

// listenAgain takes the address back that Stop has left. A program that this process is just starting holds the closed listener,
// and the address with it, until it runs.
func listenAgain(addr net.Addr) (net.Listener, error) {
	for end := time.Now().Add(againTime); ; time.Sleep(time.Millisecond) {
		l, err := net.Listen("tcp", addr.String())
		if err == nil || time.Now().After(end) {
			return l, err
		}
	}
}

// Stop refuses new connections and resets those that are open. Messages, their
// locks and everything else stay.
func (b *Broker) Stop() {
	b.mu.Lock()
	l, server := b.listener, b.http
	b.open, b.listener, b.http = false, nil, nil
	b.resetAll()
	b.settle()
	b.mu.Unlock()
	if l != nil {
		l.Close()
		server.Close()
	}
}

// Close ends the broker for good.
func (b *Broker) Close() error {
	b.mu.Lock()
	b.closed = true
	for _, n := range b.nodes {
		if n.disarm != nil {
			n.disarm()
		}
	}
	b.mu.Unlock()
	b.Stop()
	b.conns.Wait()
	return b.flush()
}

// Addr is where it listens, host and port; "" for PipeOnly.
func (b *Broker) Addr() string {
	if b.addr == nil {
		return ""
	}
	return b.addr.String()
}

// Host is the name or address in connection strings, with the port.
func (b *Broker) Host() string {
	if b.addr == nil {
		return b.hosts[0]
	}
	_, port, _ := net.SplitHostPort(b.addr.String())
	return net.JoinHostPort(b.hosts[0], port)
}

// CA is the certificate authority, as PEM.
func (b *Broker) CA() []byte { return slices.Clone(b.ca.pem) }

// TLSConfig is what a client needs. It names the server, for the Go SDK would
// look for a name with the port in the certificate.
func (b *Broker) TLSConfig() *tls.Config {
	return &tls.Config{RootCAs: b.ca.pool, ServerName: b.hosts[0], MinVersion: tls.VersionTLS12}
}

// ConnectionString is that of a rule; "" when there is none of this name.
func (b *Broker) ConnectionString(rule string) string {
	for _, r := range b.cfg.Rules {
		if r.Name == rule {
			s := fmt.Sprintf("Endpoint=sb://%s/;SharedAccessKeyName=%s;SharedAccessKey=%s", b.Host(), r.Name, r.Key)
			if r.Entity != "" {
				s += ";EntityPath=" + r.Entity
			}
			return s
		}
	}
	return ""
}

// do runs f under the lock and then everything that follows from it.
func (b *Broker) do(f func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	f()
	b.settle()
}

// settle delivers what can be delivered now, sets the timers, and tells waiters.
func (b *Broker) settle() {
	for len(b.dirty) > 0 {
		n := b.dirty[0]
		b.dirty = b.dirty[1:]
		n.marked = false
		b.pump(n)
		b.arm(n)
	}
	if b.changed != nil {
		close(b.changed)
		b.changed = nil
	}
}

// touch marks a node whose messages or links changed.
func (b *Broker) touch(n *node) {
	for ; n != nil; n = n.dead { // what was dead-lettered can be received
		if !n.marked {
			n.marked = true
			b.dirty = append(b.dirty, n)
		}
	}
}

// arm sets the timer of a node to its next expiry.
func (b *Broker) arm(n *node) {
	if n.queue == nil || b.closed {
		return
	}
	next := n.queue.Next()
	if next.IsZero() || !n.armed.IsZero() && !n.armed.After(next) {
		return
	}
	if n.disarm != nil {
		n.disarm()
	}
	n.armed = next
	n.disarm = b.cfg.Clock.AfterFunc(next.Sub(b.cfg.Clock.Now()), func() {
		b.do(func() {
			n.armed, n.disarm = time.Time{}, nil
			b.expire(n)
			b.touch(n)
		})
	})
}

// expire ends what ended in a node by now.
func (b *Broker) expire(n *node) {
	if n.queue == nil {
		return
	}
	now := b.cfg.Clock.Now()
	if next := n.queue.Next(); next.IsZero() || next.After(now) {
		return
	}
	for _, s := range n.queue.Expire(now) {
		for _, l := range slices.Clone(n.receivers) {
			if l.group == s {
				l.group = nil
				l.detach(&amqp.Error{Condition: condSessionLockLost, Description: "The lock on the session " + s.ID + " has expired."})
			}
		}
	}
	b.touch(n)
}

// Entities are the paths of all queues, topics and subscriptions with their
// dead-letter queues, by name.
func (b *Broker) Entities() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var list []string
	for _, n := range b.nodes {
		list = append(list, n.path)
	}
	slices.Sort(list)
	return list
}

// Rules are the shared access rules, with their keys.
func (b *Broker) Rules() []Rule { return slices.Clone(b.cfg.Rules) }

// WebSocket is the address for AMQP over WebSocket.
func (b *Broker) WebSocket() string { return "wss://" + b.Host() + webSocketPath }

// Connections is how many are open.
func (b *Broker) Connections() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.live)
}

// Pipe is a connection in memory, without TLS: what a client's WebSocket hook
// may return, and the way into a bubble of testing/synctest.
func (b *Broker) Pipe() (net.Conn, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.open {
		return nil, &net.OpError{Op: "dial", Net: "pipe", Err: errors.New("connection refused")}
	}
	here, there := net.Pipe()
	b.sockets[here] = false
	b.conns.Go(func() { b.take(here) })
	return there, nil
}

// take serves a connection in memory, unless a fault is on the way in.
func (b *Broker) take(c net.Conn) {
	switch b.strikeDial() {
	case dialReset:
		b.part(c)
	case dialSilence:
		b.hold(c)
	default:
		b.serve(c, c)
		b.part(c)
	}
}
