package intake

import (
	"context"
	"maps"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"jmlbridge/internal/envelope"
	"jmlbridge/schema"
)

// away is which decryption keys could not be asked. It is looked at once in a batch.
type away struct {
	mu   sync.Mutex // guards keys; never held across I/O
	keys map[string]unasked
}

// unasked is a key that could not be asked.
type unasked struct {
	why  *envelope.UnaskedError
	last time.Time // when that was
}

// openAll opens items. Those for which a key store could not be asked stay failed, for that says nothing about a message: they go
// into the line, past which others go on. Where no key of all can be asked there are no others, and it waits. It fails only where
// work ended, or fetching did, while it waited.
func (in *Intake) openAll(work context.Context, items []*item) error {
	for waiting := in.openOnce(items, in.asked()); len(waiting) > 0 && in.noneAnswers(); waiting = in.openOnce(waiting, in.Ring) {
		in.tell(waiting)
		// Whoever stops does not wait for a key store that is away: nothing of this is settled, and comes again.
		for _, ctx := range []context.Context{work, in.fetching} {
			if ctx.Err() != nil {
				return ctx.Err()
			}
		}
		pause(in.fetching, retryPause)
	}
	return nil
}

// openOnce opens items by ring, several at once, and returns those that it could not open. Of a key that cannot be asked it goes by
// the first message: to find that out for every one takes longer than to wait. What waited already is not begun once fetching ended.
func (in *Intake) openOnce(items []*item, ring *envelope.Ring) (waiting []*item) {
	version, keys := in.trust.at(), in.trust.keys() // in this order: what is opened by newer keys than it says is opened once too often, and no more
	openers, chunk := in.Openers, 1
	if openers <= 0 {
		openers, chunk = runtime.GOMAXPROCS(0), 16 // messages that an opener takes at a time
	}
	var before []string // keys for which messages waited
	next := make(chan []*item, (len(items)+chunk-1)/chunk)
	for from := 0; from < len(items); from += chunk {
		next <- items[from:min(from+chunk, len(items))]
	}
	close(next)
	for _, it := range items {
		if it.trust = version; it.failed != nil && !slices.Contains(before, it.failed.KID) {
			before = append(before, it.failed.KID)
		}
	}
	var by atomic.Pointer[envelope.Ring]
	by.Store(ring)
	var mu sync.Mutex // guards lost, and changes of by
	lost := map[string]*envelope.UnaskedError{}
	open := func() {
		for some := range next {
			for _, it := range some {
				if it.failed != nil && in.fetching.Err() != nil {
					continue
				}
				if it.open(by.Load(), keys); it.failed == nil {
					continue
				}
				mu.Lock()
				if lost[it.failed.KID] == nil {
					lost[it.failed.KID] = it.failed
					by.Store(by.Load().Without(it.failed))
				}
				mu.Unlock()
			}
		}
	}
	var wg sync.WaitGroup
	for range min(openers, cap(next)) - 1 {
		wg.Go(open)
	}
	open()
	wg.Wait()
	now, back, told := time.Now(), map[string]bool{}, 0
	for _, kid := range before {
		back[kid] = lost[kid] == nil
	}
	for _, it := range items {
		switch {
		case it.failed != nil:
			if it.since.IsZero() {
				it.since = now
			}
			waiting = append(waiting, it)
			if lost[it.failed.KID] == nil { // it was not begun
				back[it.failed.KID] = false
			}
		case it.told:
			it.told = false
			told++
		}
	}
	in.waits(-told)
	if len(lost)+len(before) > 0 {
		in.know(lost, back, len(waiting))
	}
	return waiting
}

// know takes up which keys a round lost, and which are back.
func (in *Intake) know(lost map[string]*envelope.UnaskedError, back map[string]bool, waiting int) {
	in.away.mu.Lock()
	defer in.away.mu.Unlock()
	for kid, why := range lost {
		if in.away.keys[kid].why == why {
			continue // it was not asked
		}
		if in.away.keys == nil {
			in.away.keys = map[string]unasked{}
		}
		in.away.keys[kid] = unasked{why, time.Now()}
		in.Log.Warn("could not ask for a decryption key; trying again", "messages", waiting, "err", why)
	}
	maps.DeleteFunc(in.away.keys, func(kid string, _ unasked) bool { return back[kid] })
}

// asked returns the keys that can be asked.
func (in *Intake) asked() *envelope.Ring {
	in.away.mu.Lock()
	defer in.away.mu.Unlock()
	ring := in.Ring
	for _, k := range in.away.keys {
		ring = ring.Without(k.why)
	}
	return ring
}

// noneAnswers reports whether no key can be asked.
func (in *Intake) noneAnswers() bool {
	in.away.mu.Lock()
	defer in.away.mu.Unlock()
	return !slices.ContainsFunc(in.Ring.KIDs(), func(kid string) bool { return in.away.keys[kid].why == nil })
}

// unasked picks what is to be opened again, and copies it: the first that waits for a key that is away, where that was not asked for a
// while, and as many as a batch has of those whose key is there again.
func (in *Intake) unasked() (list []*item) {
	in.away.mu.Lock()
	defer in.away.mu.Unlock()
	n, octets, done := 0, 0, map[string]bool{}
	pick := func(it *item) {
		if it.failed == nil {
			return
		}
		kid := it.failed.KID
		switch k, gone := in.away.keys[kid]; {
		case !gone && n < in.Limits.Batch && octets < batchOctets:
			n, octets = n+1, octets+len(it.body)
		case !gone, done[kid], time.Since(k.last) < retryPause:
			return
		}
		done[kid] = true
		list = append(list, &item{delivery: it.delivery, body: it.body, wire: it.wire, failed: it.failed, since: it.since})
	}
	for _, it := range in.line {
		pick(it)
	}
	for _, it := range in.left {
		pick(it)
	}
	return list
}

// fill gives what waits in the line what opening it again gave. What is not there any more came again meanwhile, and was opened then.
func (in *Intake) fill(items []*item) {
	opened, told := map[schema.Digest]*item{}, 0
	for _, it := range items {
		if it.failed == nil {
			opened[it.wire] = it
		}
	}
	for _, known := range in.line {
		if it := opened[known.wire]; it != nil && known.failed != nil {
			told += known.become(it)
		}
	}
	for kid, known := range in.left {
		if opened[known.wire] != nil {
			told += known.counted()
			delete(in.left, kid)
			in.swept, in.retried = time.Time{}, time.Time{} // all are tried again with the next look
		}
	}
	in.waits(-told)
}

// become makes what waited what was opened. Its lease may be newer, its place is its own.
func (it *item) become(opened *item) (told int) {
	told = it.counted()
	delivery := it.delivery
	*it = *opened
	it.delivery = delivery
	return told
}

// counted is 1 where somebody was told that the item waits.
func (it *item) counted() int {
	if it.told {
		return 1
	}
	return 0
}

// leave keeps one parked message for each key that was away, by which it is asked again.
func (in *Intake) leave(left map[string]*item) {
	told := 0
	for kid, it := range in.left {
		if left[kid] == nil {
			told += it.counted()
		} else {
			left[kid] = it
		}
	}
	in.left = left
	in.waits(-told)
}

// tell counts those of items that have waited long enough for somebody to know.
func (in *Intake) tell(items []*item) {
	n := 0
	for _, it := range items {
		if it.failed != nil && !it.told && time.Since(it.since) >= unopenedAfter {
			it.told = true
			n++
		}
	}
	in.waits(n)
}

// waits counts the messages of which somebody was told. One that is given up at the end of a run stays.
func (in *Intake) waits(n int) {
	if n == 0 {
		return
	}
	in.unopened.Lock()
	defer in.unopened.Unlock()
	before := in.unopened.told > 0
	in.unopened.told += n
	if now := in.unopened.told > 0; now != before {
		in.Unopened(now)
	}
}
