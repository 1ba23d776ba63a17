package intake

import (
	"fmt"

	"jmlbridge/consumer/admit"
	"jmlbridge/consumer/state"
	"jmlbridge/internal/disk"
	"jmlbridge/internal/ledger/entry"
)

// codeFull marks messages that may become valid and were not kept, since the quota was full. It is the code of
// an alarm, too.
const codeFull = "parked-full"

// alarmParked says that messages wait which nobody vouches for yet, by the code that is its key. Anybody who can write
// to the mid-point can raise it, so it is a warning, and its text is always the same.
const alarmParked = "parked"

// park keeps a message that may become valid and that nobody vouches for yet.
func (b *batch) park(it *item, code, kid, detail string) error {
	if err := b.keep(it, code, kid, &entry.Parked{Detail: entry.Text(detail)}); err != nil {
		return err
	}
	_, err := state.RaiseAlarm(b.tx, state.Alarm{Code: alarmParked, Key: code, Severity: state.Warning, Last: b.now,
		Text: "messages wait that cannot be opened or believed yet (" + code + "); a leaver may be among them"})
	return err
}

// parkVerified keeps a message that a trusted key signed, and that trust or the clock keeps out for now.
// Its cuts act at once, and again with their own place when it is let in.
func (b *batch) parkVerified(it *item, v admit.Verdict) error {
	if err := b.keep(it, string(v.Code), it.kid, &entry.Parked{Position: place(it)}); err != nil {
		return err
	}
	if _, _, err := b.fold(it, v); err != nil {
		return err
	}
	switch v.Code {
	case admit.CodeGeneration, admit.CodeFastForward, admit.CodeFuture:
		// No generation is named: the text of two would take turns, and the ledger has each change.
		return b.alarm(string(v.Code), fmt.Sprintf("%s@%s", it.frame.Stream.ID, it.frame.Issuer), fmt.Sprintf(
			"a trusted key signs messages of stream %s that are not let in (%s). Cuts act, each from its own date by our clock; ask the producer of which generation they are, then trust the generation or correct the clock",
			it.frame.Stream.ID, v.Code), nil)
	}
	return nil
}

// keep stores the bytes and records that.
func (b *batch) keep(it *item, code, kid string, p *entry.Parked) error {
	row := &state.Parked{Wire: it.wire, Code: code, KID: entry.ID(kid), Body: it.body, ReceivedAt: b.now, TriedAt: b.now}
	quota := state.Quota{Total: b.Limits.Parked, PerKey: b.Limits.ParkedKey}
	if b.Room.Level() == disk.Full {
		quota = state.Quota{} // what is left is not for what may never be let in
	}
	kept, was, err := state.Park(b.tx, row, quota)
	if err != nil {
		return err
	}
	if was == code {
		if it.parked {
			return nil // tried again, and nothing has changed
		}
		return b.count(it, string(admit.CodeReplay), nil)
	}
	p.Code, p.Wire, p.Size, p.Key, p.Dropped = code, it.wire, int64(len(it.body)), row.KID, !kept
	if kept {
		return b.count(it, code, p)
	}
	if err := b.alarm(codeFull, "", "messages that could become valid are not kept any more, since what is parked fills its quota; trust their key or have the sender stopped, then ask the producer for what is missing", nil); err != nil {
		return err
	}
	return b.count(it, codeFull, p)
}

// unpark removes a message from the parked ones when it was decided.
func (b *batch) unpark(it *item) error {
	if !it.parked {
		return nil
	}
	return state.Unpark(b.tx, it.wire)
}

// refuse records a message that can never become valid: its digest and the code.
func (b *batch) refuse(it *item, code, kid, detail string) error {
	if err := b.unpark(it); err != nil {
		return err
	}
	r := &entry.Refused{Code: code, Wire: &it.wire, Size: int64(len(it.body)), Key: entry.ID(kid), Detail: entry.Text(detail)}
	if it.opened != nil {
		r.Payload = &it.opened.PayloadDigest
		if it.placed {
			r.Position = place(it)
		}
	}
	return b.count(it, code, r)
}

// repeated records a message that is in the archive already.
func (b *batch) repeated(it *item) error {
	r := &entry.Received{Disposition: entry.DispositionDuplicate, Code: string(admit.CodeReplay), Message: entry.Message{
		Position: *place(it), Prev: it.frame.Stream.Prev, Payload: it.opened.PayloadDigest, Wire: it.wire, Key: it.kid}}
	return b.count(it, string(admit.CodeReplay), r)
}

// count records body while the rate of its code is not exceeded; beyond it the message is in the summary
// that ends the interval. A nil body goes into the summary at once.
func (b *batch) count(it *item, code string, body entry.Body) error {
	rate := b.Limits.Rate
	if body == nil {
		rate = 0
	}
	listed, err := state.CountRefusal(b.tx, code, it.wire, len(it.body), rate, b.now)
	if err != nil || !listed {
		return err
	}
	_, err = b.record(body)
	return err
}
