package natsqueue

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"jmlbridge/internal/queue"
)

const (
	// pullFor is how long one request for messages stands at the server. A server that forgot it
	// is noticed after two missed heartbeats.
	pullFor       = 30 * time.Second
	pullHeartbeat = 5 * time.Second

	pullSpare = 64 // room for heartbeats and statuses beside the messages of one request
)

// pullRequest is the body of a request for messages (NATS ADR-37). Times are in nanoseconds.
type pullRequest struct {
	Batch     int           `json:"batch"`
	NoWait    bool          `json:"no_wait,omitempty"`
	Expires   time.Duration `json:"expires,omitempty"`
	Heartbeat time.Duration `json:"idle_heartbeat,omitempty"`
}

// pull makes one request. wait says whether it may stand at the server while there is nothing.
//
// This is not jetstream's own Fetch, because that one gives a request up when the server pauses for
// a second, as a disk that syncs can: what was still on its way would then stay leased to nobody and
// leave a gap until the lease runs out.
func (r *Receiver) pull(live context.Context, max int, wait bool) (out []queue.Delivery, err error) {
	req, idle := pullRequest{Batch: max, NoWait: true}, answerWait
	if wait {
		req = pullRequest{Batch: max, Expires: pullFor, Heartbeat: pullHeartbeat}
		idle = 2*pullHeartbeat + time.Second
	}
	body, err := json.Marshal(req)
	if err != nil {
		return nil, err
	}
	inbox := r.nc.NewInbox()
	msgs := make(chan *nats.Msg, max+pullSpare)
	sub, err := r.nc.ChanSubscribe(inbox, msgs)
	if err != nil {
		return nil, explain(noticed(live, err))
	}
	defer func() {
		// Withdraw the request and take what came before: it is leased to us. What crosses with the
		// withdrawal comes again after its lease.
		_ = sub.Unsubscribe()
		for len(msgs) > 0 {
			if d, ok := delivery(<-msgs); ok {
				out = append(out, d)
			}
		}
	}()
	subject := "$JS.API.CONSUMER.MSG.NEXT." + r.cfg.Stream + "." + r.cfg.Durable
	if err := r.nc.PublishRequest(subject, inbox, body); err != nil {
		return nil, explain(noticed(live, err))
	}
	timer := time.NewTimer(idle)
	defer timer.Stop()
	for len(out) < max {
		select {
		case m := <-msgs:
			timer.Reset(idle)
			if d, ok := delivery(m); ok {
				out = append(out, d)
			} else if end, err := r.status(m); end || err != nil {
				return out, err
			}
		case what := <-r.denied:
			return out, fmt.Errorf("%w our credential (%s)", queue.ErrRefused, what)
		case <-live.Done():
			return out, context.Cause(live)
		case <-timer.C:
			r.checked = nil // look the consumer up again, which says what is wrong
			return out, nil
		}
	}
	return out, nil
}

// status reads what the server says beside messages: whether the request has ended, and whether
// that is an error.
func (r *Receiver) status(m *nats.Msg) (end bool, err error) {
	code, text := m.Header.Get("Status"), m.Header.Get("Description")
	switch {
	case code == "100": // heartbeat
		return false, nil
	case code == "404", code == "408": // nothing there, or time is up
		return true, nil
	case code == "503", strings.Contains(text, "Shutdown"), strings.Contains(text, "Leadership"):
		r.checked = nil
		return true, nil
	default:
		r.checked = nil
		return true, fmt.Errorf("%w: stream %s, consumer %s: %s %q", queue.ErrRefused, r.cfg.Stream, r.cfg.Durable, said(code), said(text))
	}
}

// delivery reads a message. What does not come with an acknowledgement subject is a status.
func delivery(m *nats.Msg) (queue.Delivery, bool) {
	if !strings.HasPrefix(m.Reply, ackPrefix) {
		return queue.Delivery{}, false
	}
	meta, err := m.Metadata()
	if err != nil {
		return queue.Delivery{}, false
	}
	return queue.Delivery{
		Body:     bounded(m.Data),
		Position: strconv.AppendUint(nil, meta.Sequence.Stream, 10),
		Lease:    lease{reply: m.Reply, seq: meta.Sequence.Stream},
	}, true
}

// bounded is body, or of one that nobody signed, being too large, as much as may be handed out: it is refused and recorded.
func bounded(body []byte) []byte {
	if len(body) > queue.MaxBody {
		return slices.Clone(body[:queue.MaxBody])
	}
	return body
}
