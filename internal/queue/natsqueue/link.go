package natsqueue

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"jmlbridge/internal/queue"
)

// link is one connection that comes and goes. Its own idea of being up, not nats.go's, decides what
// callers see, so that "went down" is never missed between two looks.
type link struct {
	nc       *nats.Conn
	js       jetstream.JetStream
	patience time.Duration

	mu      sync.Mutex // guards the fields below
	up      bool
	closed  bool
	changed chan struct{} // closed and replaced whenever up or closed changes
	cause   error         // why it is down, as nats.go last said
	denied  chan string   // permission violations, newest kept
}

func connect(c Config, role string) (*link, error) {
	opts, err := c.options(role)
	if err != nil {
		return nil, fmt.Errorf("mid-point: %w", err)
	}
	l := &link{patience: c.Patience, changed: make(chan struct{}), denied: make(chan string, 1)}
	if l.patience <= 0 {
		l.patience = patience
	}
	opts = append(opts,
		nats.CustomReconnectDelay(func(attempts int) time.Duration {
			l.note()
			return backoff(attempts)
		}),
		nats.ConnectHandler(func(*nats.Conn) { l.set(true, nil) }),
		nats.ReconnectHandler(func(*nats.Conn) { l.set(true, nil) }),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) { l.set(false, err) }),
		nats.ReconnectErrHandler(func(_ *nats.Conn, err error) { l.failed(err) }),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { l.failed(err) }),
	)
	nc, err := nats.Connect(strings.Join(c.URL, ","), opts...)
	if err != nil {
		return nil, fmt.Errorf("mid-point: %w", explain(err))
	}
	l.mu.Lock()
	l.nc = nc // note runs already
	l.mu.Unlock()
	l.js, err = jetstream.New(l.nc,
		// A message that is never answered is forgotten in the end; until then it must not keep others out.
		jetstream.WithPublishAsyncTimeout(2*answerWait), jetstream.WithPublishAsyncMaxPending(64*maxInFlight))
	if err != nil {
		l.nc.Close()
		return nil, fmt.Errorf("mid-point: %w", err)
	}
	return l, nil
}

// backoff grows from minBackoff to maxBackoff, a third of it by chance so that clients of a server
// that comes back do not come in step.
func backoff(attempts int) time.Duration {
	d := maxBackoff
	if attempts < 10 {
		d = min(maxBackoff, minBackoff<<max(0, attempts-1))
	}
	return d - time.Duration(rand.Int64N(int64(d)/3))
}

func (l *link) set(up bool, cause error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return
	}
	if cause != nil || up {
		l.cause = cause
	}
	if l.up != up {
		l.up = up
		close(l.changed)
		l.changed = make(chan struct{})
	}
}

// note keeps what ended the last attempt to connect. nats.go tells its handlers of most failures, but
// not of a TLS handshake that failed.
func (l *link) note() {
	l.mu.Lock()
	nc := l.nc
	l.mu.Unlock()
	if nc == nil {
		return
	}
	if err := nc.LastError(); err != nil {
		l.failed(err)
	}
}

// failed notes an error that came outside any call.
func (l *link) failed(err error) {
	if errors.Is(err, nats.ErrPermissionViolation) {
		for {
			select {
			case l.denied <- err.Error():
				return
			default:
			}
			select { // full: drop the oldest
			case <-l.denied:
			default:
			}
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		l.cause = err
	}
}

// await returns once the connection stands, with a context that ends when it falls, is closed, or
// ctx ends. The context's cause says which.
func (l *link) await(ctx context.Context) (context.Context, context.CancelCauseFunc, error) {
	patience := time.NewTimer(l.patience)
	defer patience.Stop()
	for {
		if err := ctx.Err(); err != nil {
			return nil, nil, err
		}
		l.mu.Lock()
		up, closed, changed := l.up, l.closed, l.changed
		l.mu.Unlock()
		if closed {
			return nil, nil, queue.ErrClosed
		}
		if up {
			live, cancel := context.WithCancelCause(ctx)
			go func() {
				select {
				case <-changed:
					why := l.why()
					if !errors.Is(why, errUnsound) { // the next connection would be no better: say so
						why = &fellError{why}
					}
					cancel(why)
				case <-live.Done():
				}
			}()
			return live, cancel, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
		case <-patience.C:
			return nil, nil, fmt.Errorf("waited %s: %w", l.patience, l.why())
		}
	}
}

// again tells whether err, which came since began, came too soon to be told as an outage: callers do not pause after one, since it takes
// this link's patience. It is for one try more, after a pause.
func (l *link) again(ctx context.Context, began time.Time, err error) bool {
	if !errors.Is(err, queue.ErrUnreachable) || time.Since(began)+againAfter > l.patience {
		return false
	}
	pause := time.NewTimer(againAfter)
	defer pause.Stop()
	select {
	case <-pause.C:
	case <-ctx.Done():
	case <-l.epoch(): // the connection fell, or was closed
	}
	return true
}

// fellError ends the context of a connection that stood and fell.
type fellError struct{ error }

func (e *fellError) Unwrap() error { return e.error }

// fell tells whether err means only that the connection fell, so that nothing speaks against waiting
// for the next one.
func fell(err error) bool {
	var f *fellError
	return errors.As(err, &f)
}

// noticed turns an error of nats.go's into a fellError if it says that the connection is down, which
// the library knows a moment before its handlers have told us. It waits for that moment, so that the
// next await does not take the old connection for standing.
func noticed(live context.Context, err error) error {
	if !errors.Is(err, nats.ErrReconnectBufExceeded) && !errors.Is(err, nats.ErrConnectionClosed) && !errors.Is(err, nats.ErrDisconnected) {
		return err
	}
	late := time.NewTimer(time.Second)
	defer late.Stop()
	select {
	case <-live.Done():
		return context.Cause(live)
	case <-late.C:
		return err
	}
}

// why says why there is no connection.
func (l *link) why() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return queue.ErrClosed
	}
	return explain(l.cause)
}

// ended is err, or ErrClosed where the caller's own Close is what ended the call: nats.go may say so first,
// in words of its own.
func (l *link) ended(err error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil && l.closed {
		return queue.ErrClosed
	}
	return err
}

// Close ends the connection and every call under way.
func (l *link) Close() error {
	l.mu.Lock()
	was := l.closed
	l.closed, l.up = true, false
	if !was {
		close(l.changed)
		l.changed = make(chan struct{})
	}
	l.mu.Unlock()
	l.nc.Close()
	return nil
}

// explain gives an error of nats.go the kind that callers decide on, in words for people.
func explain(err error) error {
	var api *jetstream.APIError
	switch {
	case err == nil:
		return queue.ErrUnreachable
	case errors.Is(err, queue.ErrClosed), errors.Is(err, queue.ErrRefused), errors.Is(err, queue.ErrUnreachable):
		return err
	case errors.Is(err, nats.ErrAuthorization), errors.Is(err, nats.ErrAuthExpired), errors.Is(err, nats.ErrAuthRevoked):
		return fmt.Errorf("%w our credential; is its public half in the mid-point's configuration? (%v)", queue.ErrRefused, err)
	case isCertificate(err):
		return fmt.Errorf("%w: its certificate is not one that we trust; check ca and the host name in url (%v)", queue.ErrRefused, err)
	case errors.Is(err, nats.ErrSecureConnWanted):
		return fmt.Errorf("%w: it offers no TLS (%v)", queue.ErrRefused, err)
	case errors.Is(err, errUnsound):
		return fmt.Errorf("%w to speak as a server does: %w", queue.ErrRefused, err)
	case errors.As(err, &api) && api.ErrorCode == codeNoLeader:
		return fmt.Errorf("%w: %s (code %d)", queue.ErrUnreachable, said(api.Description), api.ErrorCode)
	case errors.As(err, &api):
		return fmt.Errorf("%w: %s (code %d)", queue.ErrRefused, said(api.Description), api.ErrorCode)
	default:
		return fmt.Errorf("%w (%v)", queue.ErrUnreachable, err)
	}
}

// said is what the server says, as far as it goes into an error.
func said(text string) string {
	if len(text) > maxSaid {
		return strings.ToValidUTF8(text[:maxSaid], "") + "..."
	}
	return text
}
