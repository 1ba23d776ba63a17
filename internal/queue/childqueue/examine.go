package childqueue

import (
	"context"
	"time"

	"jmlbridge/internal/doctor"
)

// Examine has a child of its own look at the way to the mid-point, as that of a receiver or of a publisher. A child that ends before it is done has told what it
// had found until then: that is returned beside the error, which says how it ended.
func Examine(ctx context.Context, c Command, receives bool) ([]doctor.Finding, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	starting, cancel := context.WithTimeout(ctx, openTime)
	defer cancel()
	s, err := begin(starting, &c, opening{role: roleExaminer, config: c.Config})
	if err != nil {
		return nil, err
	}
	defer s.close()
	go s.watch(c.Limits, func() time.Time { return time.Time{} })
	var side uint64
	if receives {
		side = 1
	}
	call := s.note(&call{finds: maxFindings})
	if err := s.say(frame{kindExamine, call.id, encodeNumber(side)}); err != nil {
		s.kill(err)
	}
	res, err := s.await(ctx, call)
	if err == nil {
		err = inTime(ctx, res.err)
	}
	return call.found, err
}
