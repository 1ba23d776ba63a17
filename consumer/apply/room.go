package apply

import (
	"context"
	"time"

	"jmlbridge/consumer/plan"
	"jmlbridge/internal/disk"
)

// Room tells how much the disk can still take.
type Room interface {
	Level() disk.Level

	// Full reports whether err says that the disk is full, and gives what was laid by for that.
	Full(err error) bool
}

// endless is the room of whoever does not watch it.
type endless struct{}

func (endless) Level() disk.Level { return disk.Ample }
func (endless) Full(error) bool   { return false }

// lacksRoom reports whether the work of lane waits for room on the disk.
func (e *Engine) lacksRoom(lane plan.Lane) bool {
	return (lane == plan.Give || lane == plan.Delete) && e.Room.Level() != disk.Ample
}

// roomPause is how long a write that found the disk full waits.
const roomPause = time.Second

// outlast waits out a full disk; any other error it gives back. What could not be recorded meanwhile is answered for
// as after a crash, so everything that is under way has to end first.
func (e *Engine) outlast(ctx context.Context, err error, fatal <-chan error) error {
	for {
		if !e.Room.Full(err) {
			return err
		}
		e.Log.Error("the disk is full: what is done cannot be recorded; trying again", "err", safe(err))
		e.worker.Wait()
		select {
		case <-ctx.Done():
			return nil
		case <-e.After(roomPause):
		}
		select {
		case err = <-fatal:
			continue
		default:
		}
		if err = e.recover(context.WithoutCancel(ctx)); err == nil {
			return nil
		}
	}
}
