package natsqueue

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"jmlbridge/internal/queue"
)

// epoch identifies the connection that stands now.
func (l *link) epoch() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.changed
}

func (l *link) forgetDenied() {
	select {
	case <-l.denied:
	default:
	}
}

// ask makes one request of JetStream's API. A server does not answer what it does not permit, it only
// complains beside; ask listens to both.
func ask[T any](l *link, live context.Context, request func(context.Context) (T, error)) (T, error) {
	ctx, cancel := context.WithTimeout(live, answerWait)
	defer cancel()
	type answer struct {
		v   T
		err error
	}
	got := make(chan answer, 1)
	go func() {
		v, err := request(ctx)
		got <- answer{v, err}
	}()
	var zero T
	select {
	case a := <-got:
		var api *jetstream.APIError
		switch {
		case a.err == nil, errors.As(a.err, &api):
			return a.v, a.err
		case live.Err() != nil:
			return zero, context.Cause(live)
		}
		if errors.Is(a.err, jetstream.ErrNotPullConsumer) {
			return zero, a.err
		}
		return zero, explain(noticed(live, a.err))
	case what := <-l.denied:
		return zero, fmt.Errorf("%w our credential (%s)", queue.ErrRefused, what)
	}
}

// checkStream refuses, if the configuration asks for it, a stream that could lose what it confirmed.
func (p *Publisher) checkStream(live context.Context) error {
	epoch := p.epoch()
	if !p.cfg.CheckStream || p.checked == epoch {
		return nil
	}
	if err := checkStream(p.link, live, p.cfg.Stream); err != nil {
		return err
	}
	p.checked = epoch
	return nil
}

func (r *Receiver) checkStream(live context.Context) error {
	if !r.cfg.CheckStream {
		return nil
	}
	return checkStream(r.link, live, r.cfg.Stream)
}

func checkStream(l *link, live context.Context, name string) error {
	l.forgetDenied()
	s, err := ask(l, live, func(ctx context.Context) (jetstream.Stream, error) { return l.js.Stream(ctx, name) })
	switch {
	case errors.Is(err, jetstream.ErrStreamNotFound):
		return fmt.Errorf("%w: there is no stream %s", queue.ErrRefused, name)
	case err != nil:
		return fmt.Errorf("read the settings of stream %s: %w", name, explain(err))
	}
	if fault := streamFault(s.CachedInfo().Config); fault != "" {
		return fmt.Errorf("%w: stream %s %s", queue.ErrRefused, name, fault)
	}
	return nil
}

// streamFault says what about c breaks the promises of package queue; "" if nothing does.
func streamFault(c jetstream.StreamConfig) string {
	switch {
	case c.Storage != jetstream.FileStorage:
		return "is kept in memory (storage); expected file"
	case c.PersistMode == jetstream.AsyncPersistMode:
		return "confirms before it has written (persist_mode async); expected default"
	case c.Discard != jetstream.DiscardNew:
		return "drops its oldest messages when full (discard old); expected new"
	case c.MaxMsgsPerSubject > 0 && !c.DiscardNewPerSubject:
		return fmt.Sprintf("keeps the last %d messages of a subject and drops those before (max_msgs_per_subject); expected -1", c.MaxMsgsPerSubject)
	case c.MaxAge > 0 && c.Retention == jetstream.WorkQueuePolicy: // limits: it may be pulled dark, and goes by age
		return fmt.Sprintf("drops what was not settled within %s (max_age); expected 0", c.MaxAge)
	case c.Retention == jetstream.InterestPolicy:
		return "drops what is published while it has no consumer (retention interest); expected workqueue or limits"
	case c.NoAck:
		return "does not confirm (no_ack)"
	case c.Duplicates > 0 && c.Duplicates < time.Second:
		return fmt.Sprintf("remembers message ids for %s only (duplicate_window)", c.Duplicates)
	}
	return ""
}

// isCertificate tells whether err is about the server's certificate.
func isCertificate(err error) bool {
	var verify *tls.CertificateVerificationError
	var unknown x509.UnknownAuthorityError
	var host x509.HostnameError
	var invalid x509.CertificateInvalidError
	return errors.As(err, &verify) || errors.As(err, &unknown) || errors.As(err, &host) || errors.As(err, &invalid)
}
