package broker

import (
	"strings"

	"jmlbridge/e2e/servicebus/amqp"
)

// Reset breaks every connection at once; the door stays open.
func (b *Broker) Reset() { b.do(b.resetAll) }

// Refuse resets every connection, and from then on each new one, or ends that. Unlike Stop it keeps the port, which
// somebody else on this machine could be given meanwhile.
func (b *Broker) Refuse(on bool) {
	b.do(func() {
		if b.refuses = on; on {
			b.resetAll()
		}
	})
}

// Silence makes the network silent or ends that: connections stay, and nothing
// is heard or said on them for good; new ones are taken and left without a word.
// Ending it breaks the silent ones.
func (b *Broker) Silence(on bool) {
	b.do(func() {
		b.silent = on
		for c := range b.live {
			if on {
				c.silent = true
			} else if c.silent {
				c.reset()
			}
		}
		if !on {
			for socket, mute := range b.sockets {
				if mute {
					socket.Close()
				}
			}
		}
	})
}

// DetachLinks detaches every link to an entity with a condition, and returns how
// many there were. A path with /$management means the links to that.
func (b *Broker) DetachLinks(path, condition string) (n int) {
	path, management := strings.CutSuffix(strings.ToLower(path), managementSuffix)
	b.do(func() {
		for c := range b.live {
			for _, s := range c.sessions {
				for _, l := range s.links {
					if l.node != nil && strings.ToLower(l.node.path) == path && management == (l.place == toManagement) {
						n++
						l.detach(&amqp.Error{Condition: amqp.Symbol(condition), Description: "injected"})
					}
				}
			}
		}
	})
	return n
}

// CloseConnections closes every connection in order, with a condition.
func (b *Broker) CloseConnections(condition string) {
	b.do(func() {
		for c := range b.live {
			c.end(&amqp.Error{Condition: amqp.Symbol(condition), Description: "injected"})
		}
	})
}

// ExpireLocks ends every lock on messages of an entity now.
func (b *Broker) ExpireLocks(path string) {
	b.do(func() {
		if n := b.nodes[strings.ToLower(path)]; n != nil && n.queue != nil {
			n.queue.ExpireLocks(b.now())
			b.touch(n)
		}
	})
}

// Disable makes an entity refuse everything, and detaches its links; or enables it.
func (b *Broker) Disable(path string, disabled bool) {
	b.do(func() {
		if n := b.nodes[strings.ToLower(path)]; n != nil {
			n.disabled = disabled
			b.touch(n)
		}
	})
	if disabled {
		b.DetachLinks(path, string(condDisabled))
	}
}
