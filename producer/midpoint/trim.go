package midpoint

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"jmlbridge/internal/liveness"
)

const (
	trimLook  = time.Second      // how often a stream is looked at
	trimAfter = 10 * time.Second // how long settled messages may stay in a stream with room
	trimAtOne = 16384            // settled messages that are worth trimming at once: the block at the edge is written anew
)

// trim removes settled messages until ctx ends. It removes exactly those up to the consumer's
// acknowledgement floor: below it the enclave has settled every single one. A look that the server answers is
// its sign of life.
func (a *admin) trim(ctx context.Context, pulse *liveness.Pulse, log *slog.Logger) {
	tick := time.NewTicker(trimLook)
	defer tick.Stop()
	var stream jetstream.Stream // made at the first look
	last := time.Now()
	failing := false
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			var err error
			if stream == nil {
				stream, err = a.js.Stream(ctx, a.enclave.Stream())
			}
			if err == nil {
				var trimmed bool
				if trimmed, err = a.trimOnce(ctx, stream, now.Sub(last) >= trimAfter); trimmed {
					last = now
				}
			}
			if ctx.Err() != nil {
				return
			}
			if err != nil && !failing { // once, not every second
				log.Error("settled messages cannot be trimmed; the stream will fill up", "enclave", a.enclave.Name, "err", err)
			}
			failing = err != nil
			if err == nil {
				if err := pulse.Tell(); err != nil {
					log.Error("could not write the liveness file", "err", err)
				}
			}
		}
	}
}

// trimOnce looks at the stream and trims it if that is worth a write: when many messages are settled,
// when less than half of the room is left, or when some have been there long enough.
func (a *admin) trimOnce(ctx context.Context, stream jetstream.Stream, due bool) (bool, error) {
	if a.enclave.dark() { // nobody settles: what is there goes by its age
		_, err := stream.Info(ctx)
		return false, err
	}
	consumer, err := stream.Consumer(ctx, durable)
	if err != nil {
		return false, err
	}
	info, err := stream.Info(ctx)
	if err != nil {
		return false, err
	}
	floor, state := consumer.CachedInfo().AckFloor.Stream, info.State
	if state.Msgs == 0 || floor < state.FirstSeq {
		return false, nil
	}
	settled := min(floor, state.LastSeq) - state.FirstSeq + 1
	if !due && settled < trimAtOne && state.Bytes < uint64(a.enclave.MaxMiB<<20)/2 {
		return false, nil
	}
	// The first message that stays is the one after the floor.
	err = stream.Purge(ctx, jetstream.WithPurgeSequence(min(floor, state.LastSeq)+1))
	if errors.Is(err, context.Canceled) {
		return false, nil
	}
	return err == nil, err
}
