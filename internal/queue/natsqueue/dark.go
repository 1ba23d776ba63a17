package natsqueue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"jmlbridge/internal/queue"
)

const (
	// lookEvery is how often a dark receiver looks for news: a look leaves nothing at the server that would
	// tell it of some.
	lookEvery = 500 * time.Millisecond

	// lastEvery is how often, while there are no news, it asks how far the stream goes: one that was made anew
	// begins its numbers again, and nothing would ever come after ours.
	lastEvery = time.Minute

	maxLook = 8 << 20 // octets of bodies that one look asks for
)

// Dark reads a stream and leaves nothing behind: no consumer, no acknowledgement. It asks for the messages after a
// number, by the stream's direct reads, and needs the right to nothing else. The number is its position. What the
// stream's own limits have dropped by then is not there and is seen by whoever follows the chain inside.
type Dark struct {
	*link
	stream string

	turn sync.Mutex // one Fetch at a time; guards what follows
	seq  uint64     // of the last message that was fetched
	news time.Time  // when a look last brought any, or asked how far the stream goes; zero: not yet
}

// darkPosition begins the position of a dark receiver. That of another kind says nothing about what was skipped.
const darkPosition = "dark "

// OpenDark checks the configuration and begins to connect. It begins behind from, or with the oldest message where
// from is not the position of a dark receiver.
func OpenDark(cfg Config, from queue.Position) (*Dark, error) {
	l, err := connect(cfg, RoleConsumer)
	if err != nil {
		return nil, err
	}
	d := &Dark{link: l, stream: cfg.Stream}
	if text, ok := strings.CutPrefix(string(from), darkPosition); ok {
		d.seq, _ = strconv.ParseUint(text, 10, 64) // not a number: the oldest
	}
	return d, nil
}

// Leased implements queue.Receiver: nothing is ever leased.
func (d *Dark) Leased() time.Duration { return 0 }

// Settle implements queue.Receiver by doing nothing: the server is not told.
func (d *Dark) Settle(_ context.Context, batch []queue.Delivery) error {
	for _, m := range batch {
		if m.Lease != any(d) {
			return fmt.Errorf("settle: a delivery that this queue did not make (%T)", m.Lease)
		}
	}
	return d.ended(nil)
}

// Fetch implements queue.Receiver.
func (d *Dark) Fetch(ctx context.Context, max int) ([]queue.Delivery, error) {
	if max < 1 {
		return nil, fmt.Errorf("fetch of %d messages: ask for at least one", max)
	}
	d.turn.Lock()
	defer d.turn.Unlock()
	began := time.Now()
	for {
		batch, err := d.look(ctx, min(max, maxFetch))
		if len(batch) > 0 {
			return batch, nil // an error that is still there comes again
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if err = d.ended(err); err != nil && !fell(err) && !d.again(ctx, began, err) { // else wait for the next connection
			return nil, err
		}
		if err == nil {
			pause := time.NewTimer(lookEvery)
			select {
			case <-pause.C:
			case <-ctx.Done():
			case <-d.epoch(): // the connection fell, or was closed
			}
			pause.Stop()
		}
	}
}

// directRequest is the body of a direct read (NATS ADR-31).
type directRequest struct {
	Seq      uint64 `json:"seq,omitempty"`
	Next     string `json:"next_by_subj,omitempty"`
	Last     string `json:"last_by_subj,omitempty"`
	Batch    int    `json:"batch,omitempty"`
	MaxBytes int    `json:"max_bytes,omitempty"`
}

// look asks once for what follows.
func (d *Dark) look(ctx context.Context, max int) ([]queue.Delivery, error) {
	live, cancel, err := d.await(ctx)
	if err != nil {
		return nil, err
	}
	defer cancel(nil)
	if d.seq > 0 && time.Since(d.news) > lastEvery {
		last, err := d.read(live, directRequest{Last: ">"})
		if err != nil {
			return nil, err
		}
		if d.news = time.Now(); len(last) == 1 && last[0].seq < d.seq {
			d.seq = 0 // the stream is not the one that we read: begin anew, what is known is recognised
		}
	}
	got, err := d.read(live, directRequest{Seq: d.seq + 1, Next: ">", Batch: max, MaxBytes: maxLook})
	var batch []queue.Delivery
	for _, m := range got {
		if m.seq <= d.seq {
			continue // a server that does not keep to what was asked
		}
		d.seq, d.news = m.seq, time.Now()
		batch = append(batch, queue.Delivery{Body: m.body, Position: strconv.AppendUint([]byte(darkPosition), m.seq, 10), Lease: d})
	}
	return batch, err
}

// stored is one message of the stream.
type stored struct {
	seq  uint64
	body []byte
}

// read makes one direct read and returns what it brought, in the order in which it came, also where it ended badly.
func (d *Dark) read(live context.Context, req directRequest) (got []stored, err error) {
	d.forgetDenied()
	body, err := json.Marshal(req)
	if err != nil {
		return nil, err
	}
	inbox := d.nc.NewInbox()
	most := max(1, req.Batch)
	msgs := make(chan *nats.Msg, most+pullSpare)
	sub, err := d.nc.ChanSubscribe(inbox, msgs)
	if err != nil {
		return nil, explain(noticed(live, err))
	}
	defer func() { _ = sub.Unsubscribe() }()
	if err := d.nc.PublishRequest("$JS.API.DIRECT.GET."+d.stream, inbox, body); err != nil {
		return nil, explain(noticed(live, err))
	}
	idle := time.NewTimer(answerWait)
	defer idle.Stop()
	for len(got) < most {
		select {
		case m := <-msgs:
			idle.Reset(answerWait)
			seq, end, err := d.answer(m)
			if end || err != nil {
				return got, err
			}
			got = append(got, stored{seq, bounded(m.Data)})
		case what := <-d.denied:
			return got, fmt.Errorf("%w our credential (%s)", queue.ErrRefused, what)
		case <-live.Done():
			return got, context.Cause(live)
		case <-idle.C:
			return got, fmt.Errorf("%w: no answer to a read within %s", queue.ErrUnreachable, answerWait)
		}
	}
	return got, nil
}

// answer reads one message of an answer: its number in the stream, or that the answer has ended.
func (d *Dark) answer(m *nats.Msg) (seq uint64, end bool, err error) {
	const number = "Nats-Sequence"
	numbers := m.Header[number]
	if len(numbers) > 0 { // a message, whatever headers its publisher put on it: the server writes its own behind them
		if seq, err = strconv.ParseUint(numbers[len(numbers)-1], 10, 64); err == nil && seq > 0 {
			return seq, false, nil
		}
	}
	switch code := m.Header.Get("Status"); {
	case code == "" || len(numbers) > 0:
		return 0, true, errors.Join(queue.ErrRefused, fmt.Errorf("stream %s: want a message with its number, got %q", d.stream, said(strings.Join(numbers, " "))))
	case code == "204", code == "404": // all of it, or nothing there
		return 0, true, nil
	case code == "503":
		return 0, true, fmt.Errorf("%w: there is no stream %s that may be read directly; is this enclave set up for a dark pull at the mid-point?", queue.ErrRefused, d.stream)
	default:
		return 0, true, fmt.Errorf("%w: stream %s: %s %q", queue.ErrRefused, d.stream, said(code), said(m.Header.Get("Description")))
	}
}
