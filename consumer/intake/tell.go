package intake

import (
	"context"
	"log/slog"

	"jmlbridge/internal/ledger/entry"
)

// tell puts what was recorded into the log, once it is durable: ids, never people. Its lines and their
// keys are read by programs; they stay as they are.
func (b *batch) tell(body entry.Body, index int64) {
	level, args := slog.LevelInfo, []any{}
	var message string
	switch e := body.(type) {
	case *entry.Received:
		message = "received"
		args = append(args, "event", e.Event, "subject", e.Subject, "issuer", e.Issuer, "stream", e.Stream, "generation", e.Generation, "seq", e.Seq,
			"disposition", e.Disposition, "code", e.Code)
		if e.Disposition != entry.DispositionAdmitted && e.Disposition != entry.DispositionDuplicate {
			level = slog.LevelWarn
		}
	case *entry.Parked:
		level, message = slog.LevelWarn, "parked"
		args = append(args, "code", e.Code, "key", e.Key, "size", e.Size)
	case *entry.Refused:
		level, message = slog.LevelWarn, "refused"
		args = append(args, "code", e.Code, "key", e.Key, "size", e.Size)
		if e.Summary != nil {
			args = append(args, "messages", e.Summary.Count)
		}
	default:
		return
	}
	ctx := context.Background()
	if !b.Log.Enabled(ctx, level) {
		return
	}
	args = append(args, "entry", index)
	b.tx.After(func() { b.Log.Log(ctx, level, message, args...) })
}
