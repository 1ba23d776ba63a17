package broker

import (
	"errors"
	"fmt"

	"jmlbridge/e2e/servicebus/amqp"
	"jmlbridge/e2e/servicebus/entity"
)

// Error conditions, of AMQP and of Service Bus.
const (
	condUnauthorized    = amqp.Symbol("amqp:unauthorized-access")
	condNotFound        = amqp.Symbol("amqp:not-found")
	condNotAllowed      = amqp.Symbol("amqp:not-allowed")
	condNotImplemented  = amqp.Symbol("amqp:not-implemented")
	condInvalidField    = amqp.Symbol("amqp:invalid-field")
	condDecode          = amqp.Symbol("amqp:decode-error")
	condFull            = amqp.Symbol("amqp:resource-limit-exceeded")
	condFraming         = amqp.Symbol("amqp:connection:framing-error")
	condInternal        = amqp.Symbol("amqp:internal-error")
	condDetachForced    = amqp.Symbol("amqp:link:detach-forced")
	condForced          = amqp.Symbol("amqp:connection:forced")
	condHandleInUse     = amqp.Symbol("amqp:session:handle-in-use")
	condTooLarge        = amqp.Symbol("amqp:link:message-size-exceeded")
	condTransferLimit   = amqp.Symbol("amqp:link:transfer-limit-exceeded")
	condDisabled        = amqp.Symbol("com.microsoft:entity-disabled")
	condTimeout         = amqp.Symbol("com.microsoft:timeout")
	condBusy            = amqp.Symbol("com.microsoft:server-busy")
	condArgument        = amqp.Symbol("com.microsoft:argument-error")
	condLockLost        = amqp.Symbol("com.microsoft:message-lock-lost")
	condSessionLockLost = amqp.Symbol("com.microsoft:session-lock-lost")
	condSessionTaken    = amqp.Symbol("com.microsoft:session-cannot-be-locked")
	condMessageNotFound = amqp.Symbol("com.microsoft:message-not-found")
)

func failure(condition amqp.Symbol, format string, args ...any) *amqp.Error {
	return &amqp.Error{Condition: condition, Description: fmt.Sprintf(format, args...)}
}

func notImplemented(what string) *amqp.Error {
	return failure(condNotImplemented, "this rehearsal endpoint does not have %s", what)
}

// failed gives an entity's error its condition.
func failed(err error) *amqp.Error {
	if err == nil {
		return nil
	}
	condition := condArgument
	for _, x := range []struct {
		err       error
		condition amqp.Symbol
	}{
		{entity.ErrLockLost, condLockLost}, {entity.ErrFull, condFull}, {entity.ErrNoSession, condNotAllowed}, {entity.ErrNotFound, condMessageNotFound},
		{entity.ErrInSession, condNotAllowed}, {entity.ErrNoSessions, condNotAllowed}, {entity.ErrSessionTaken, condSessionTaken},
	} {
		if errors.Is(err, x.err) {
			condition = x.condition
		}
	}
	return &amqp.Error{Condition: condition, Description: err.Error()}
}

// status is the number that $cbs and $management say for a condition.
func status(e *amqp.Error) int32 {
	if e == nil {
		return 200
	}
	switch e.Condition {
	case condUnauthorized:
		return 401
	case condNotFound, condMessageNotFound:
		return 404
	case condLockLost, condSessionLockLost:
		return 410
	case condTimeout:
		return 408
	case condBusy:
		return 503
	case condNotImplemented:
		return 501
	case condFull, condDisabled:
		return 403
	case condArgument, condInvalidField, condDecode, condNotAllowed:
		return 400
	}
	return 500
}
