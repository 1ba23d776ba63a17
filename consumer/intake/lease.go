package intake

import (
	"time"

	"jmlbridge/consumer/fence"
	"jmlbridge/consumer/plan"
)

// renew lets leases count from when a good word on a person was issued, and ends one that ran out before it. A queue
// that delays everything must not make access last longer, so it is not the time at which the word came.
func (b *batch) renew(s *subject, issued time.Time) {
	if issued = until(issued, b.now); !issued.After(s.SaidAt) {
		return
	}
	s.SaidAt = issued
	if l := s.Doc.Lapse; l != nil && l.Why == fence.WhyLease {
		s.Doc.Lapse = l.Before
		s.changed, s.FactAt = true, b.now
		s.Raise(plan.Give, b.now, false)
	}
}
