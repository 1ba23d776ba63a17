package childqueue

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"log/slog"
	"strings"
	"sync"
	"time"
)

// What children may say in our log. One that ends with a trace has about fifty lines of it.
const (
	maxLogLine  = 4 << 10 // octets of a line; what is longer is cut
	maxLogLines = 200     // of all children of one keeper, in each interval
	logInterval = time.Minute
	maxWords    = 300 // octets of a line that tells why a child ended
)

// ration bounds what children write in our log: whoever takes one over must not fill our disk, nor drown what we say
// ourselves. What was left out is counted, and said once in an interval.
type ration struct {
	mu    sync.Mutex // guards what follows
	until time.Time  // when the interval ends
	left  int        // lines that may still be said in it
	out   uint64     // lines that were left out since that was last said
}

// take says whether a line may be said, and how many were left out before it that nobody was told of.
func (r *ration) take(now time.Time) (say bool, out uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !now.Before(r.until) {
		r.until, r.left = now.Add(logInterval), maxLogLines
		out, r.out = r.out, 0
	}
	if r.left == 0 {
		r.out++
		return false, out
	}
	r.left--
	return true, out
}

// words are what a process said last, or why its runtime ended it, behind which many lines of it may come.
type words struct {
	text string
	last bool // nothing counts behind them
}

func (w *words) note(line string) {
	if !w.last {
		w.text = line[:min(len(line), maxWords)]
		w.last = strings.HasPrefix(line, "panic: ") || strings.HasPrefix(line, "fatal error: ")
	}
}

// relay passes on what a child says on standard error, one bounded line at a time.
func (r *ration) relay(errs io.Reader, log *slog.Logger, heard func(line string)) {
	lines := bufio.NewReaderSize(errs, maxLogLine)
	for {
		line, err := lines.ReadSlice('\n')
		if text := plain(bytes.TrimSpace(line)); text != "" {
			heard(text)
			say, out := r.take(time.Now())
			if out > 0 {
				log.Warn("the process that speaks to the mid-point said more than is kept of it", "lines_left_out", out)
			}
			if say {
				log.Warn("the process that speaks to the mid-point says", "line", text)
			}
		}
		for errors.Is(err, bufio.ErrBufferFull) { // the rest of a line that is too long
			_, err = lines.ReadSlice('\n')
		}
		if err != nil {
			return
		}
	}
}
