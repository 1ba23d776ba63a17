package tenant

import (
	"bytes"
	"encoding/json"
	"slices"
	"sync"
)

// maxPasswords is how many received passwords are remembered; later ones are not.
const maxPasswords = 10_000

// passwords are those that clients sent, whatever became of the request. They stay in memory and are told over the
// control API alone: a test can only look for what it knows, to see that nobody else kept one.
type passwords struct {
	mu   sync.Mutex // guards list
	list []string
}

func (p *passwords) note(body []byte) {
	if !bytes.Contains(body, []byte("passwordProfile")) {
		return
	}
	var sent struct {
		Profile struct {
			Password string `json:"password"`
		} `json:"passwordProfile"`
	}
	if json.Unmarshal(body, &sent) != nil || sent.Profile.Password == "" {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.list) < maxPasswords {
		p.list = append(p.list, sent.Profile.Password)
	}
}

func (p *passwords) all() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.list)
}
