package busqueue

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"github.com/Azure/go-amqp"

	"jmlbridge/internal/queue"
)

// panicError is a call of the client that panicked: on a property that any sender can set, for one.
type panicError struct {
	value any
	stack []byte
}

func (e *panicError) Error() string { return fmt.Sprintf("the client panicked: %v", e.value) }

// guarded is do's result, or a *panicError.
func guarded[T any](do func() (T, error)) (v T, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = &panicError{p, debug.Stack()}
		}
	}()
	return do()
}

// Conditions that the service refuses with; the library has no constant for the last.
const (
	condFull     = amqp.ErrCondResourceLimitExceeded
	condTooLarge = amqp.ErrCondMessageSizeExceeded
	condDisabled = amqp.ErrCond("com.microsoft:entity-disabled")
)

// Refusals that call for different things to be done.
var (
	errNoQueue  = fmt.Errorf("%w: there is no such queue", queue.ErrRefused)
	errDisabled = fmt.Errorf("%w: the queue is disabled", queue.ErrRefused)
	errDenied   = fmt.Errorf("%w our credential; has it the one right that this side needs (send or listen), and has it not been replaced?", queue.ErrRefused)
	errLogin    = fmt.Errorf("%w our credential at the login", queue.ErrRefused)
)

// explain gives an error of the client's the kind that callers decide on, in words for people. last is the
// dialler's, which says more than the client does of an attempt that failed.
func explain(err, last error) error {
	if err == nil {
		return nil
	}
	for _, known := range []error{queue.ErrClosed, queue.ErrRefused, queue.ErrUnreachable, queue.ErrFull, queue.ErrTooLarge} {
		if errors.Is(err, known) {
			return err
		}
	}
	var sb *azservicebus.Error
	if errors.As(err, &sb) {
		switch sb.Code {
		case azservicebus.CodeUnauthorizedAccess:
			return fmt.Errorf("%w (%v)", errDenied, err)
		case azservicebus.CodeNotFound:
			return fmt.Errorf("%w (%v)", errNoQueue, err)
		}
	}
	var cond *amqp.Error
	if errors.As(err, &cond) {
		switch cond.Condition {
		case condFull:
			return fmt.Errorf("%s: %w", cond.Description, queue.ErrFull)
		case condTooLarge:
			return fmt.Errorf("%s: %w", cond.Description, queue.ErrTooLarge)
		case amqp.ErrCondNotFound:
			return fmt.Errorf("%w (%s)", errNoQueue, cond.Description)
		case condDisabled:
			return fmt.Errorf("%w (%s)", errDisabled, cond.Description)
		case amqp.ErrCondUnauthorizedAccess:
			return fmt.Errorf("%w (%s)", errDenied, cond.Description)
		case amqp.ErrCondNotAllowed:
			return fmt.Errorf("%w (%s: %s)", queue.ErrRefused, cond.Condition, cond.Description)
		}
	}
	var failed interface{ NonRetriable() } // of azidentity: the login said no
	if errors.As(err, &failed) {
		return fmt.Errorf("%w: %v", errLogin, err)
	}
	if last != nil && (sb != nil || errors.Is(err, context.DeadlineExceeded)) {
		return last
	}
	return fmt.Errorf("%w (%v)", queue.ErrUnreachable, err)
}
