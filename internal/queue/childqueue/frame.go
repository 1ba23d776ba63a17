package childqueue

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"unicode"
	"unicode/utf8"

	"jmlbridge/internal/doctor"
	"jmlbridge/internal/queue"
)

// Bounds of the pipe. Both ends hold to them, and neither believes that the other does.
const (
	maxConfig   = 64 << 10 // octets of the queue's block of a configuration
	maxPosition = 1 << 10  // octets of a position
	maxID       = 1 << 10  // octets of a message id
	maxText     = 2 << 10  // octets of an error's words
	maxPayload  = queue.MaxBody + 4<<10
	maxBatch    = 1 << 14  // messages of one publish, deliveries of one fetch, leases of one settle
	maxOctets   = 64 << 20 // of the bodies of one publish
	maxFetched  = 16 << 20 // octets of the deliveries of one fetch, beyond the first
	maxFindings = 64       // of one examination
	headerSize  = 1 + 8    // kind, call
)

// kind says what a frame is. The numbers are private to one build: both ends are the same binary.
type kind byte

const (
	kindOpen     kind = iota + 1 // parent: role, position, configuration
	kindMessage                  // parent: one message of a publish: id, body
	kindPublish                  // parent: publish what was said under this call
	kindFetch                    // parent: at most so many
	kindSettle                   // parent: leases
	kindExamine                  // parent: look at the way to the mid-point, of a publisher (0) or of a receiver (1)
	kindCancel                   // parent: end this call
	kindPing                     // parent
	kindDelivery                 // child: one delivery of a fetch: lease, flags, position, body
	kindFinding                  // child: one finding of an examination: verdict, name, text, what to do
	kindDone                     // child: the end of a call: count, error
	kindPong                     // child: empty results so far; whether what was set aside can be read, where that is known
)

// frame is one thing said over the pipe: four octets of length, one of kind, eight of call, the payload.
type frame struct {
	kind    kind
	call    uint64
	payload []byte
}

var errFrame = errors.New("what came over the pipe is not of this protocol")

func writeFrame(w *bufio.Writer, f frame) error {
	var head [4 + headerSize]byte
	binary.BigEndian.PutUint32(head[:], uint32(headerSize+len(f.payload)))
	head[4] = byte(f.kind)
	binary.BigEndian.PutUint64(head[5:], f.call)
	if _, err := w.Write(head[:]); err != nil {
		return err
	}
	_, err := w.Write(f.payload)
	return err
}

// readFrame reads one frame. Its payload is the caller's to keep. The error is io.EOF only between frames.
func readFrame(r *bufio.Reader) (frame, error) {
	var head [4 + headerSize]byte
	if _, err := io.ReadFull(r, head[:4]); err != nil {
		return frame{}, err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n < headerSize || n > headerSize+maxPayload {
		return frame{}, fmt.Errorf("%w: a frame of %d octets", errFrame, n)
	}
	if _, err := io.ReadFull(r, head[4:]); err != nil {
		return frame{}, cut(err)
	}
	f := frame{kind: kind(head[4]), call: binary.BigEndian.Uint64(head[5:]), payload: make([]byte, n-headerSize)}
	if f.kind < kindOpen || f.kind > kindPong {
		return frame{}, fmt.Errorf("%w: a frame of kind %d", errFrame, f.kind)
	}
	_, err := io.ReadFull(r, f.payload)
	return f, cut(err)
}

func cut(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// payload is read from its front. The first fault stays, and everything after it reads as nothing.
type payload struct {
	rest []byte
	bad  bool
}

func (p *payload) fail() { p.rest, p.bad = nil, true }

func (p *payload) number() uint64 {
	if len(p.rest) < 8 {
		p.fail()
		return 0
	}
	n := binary.BigEndian.Uint64(p.rest)
	p.rest = p.rest[8:]
	return n
}

// octets reads a field of at most most octets. It shares memory with the payload.
func (p *payload) octets(most int) []byte {
	if len(p.rest) < 4 {
		p.fail()
		return nil
	}
	n := binary.BigEndian.Uint32(p.rest)
	if p.rest = p.rest[4:]; uint64(n) > uint64(min(most, len(p.rest))) {
		p.fail()
		return nil
	}
	field := p.rest[:n:n]
	p.rest = p.rest[n:]
	return field
}

// end says whether all of the payload was as it should be.
func (p *payload) end() error {
	if p.bad || len(p.rest) > 0 {
		return fmt.Errorf("%w: a payload that is too short or too long", errFrame)
	}
	return nil
}

func putOctets(to, field []byte) []byte {
	to = binary.BigEndian.AppendUint32(to, uint32(len(field)))
	return append(to, field...)
}

// opening is what a child is told first.
type opening struct {
	role   role
	from   queue.Position
	config []byte
}

// role is what a child is for.
type role byte

const (
	rolePublisher role = iota + 1
	roleReceiver
	roleExaminer
)

func (o opening) encode() []byte {
	to := []byte{byte(o.role)}
	to = putOctets(to, o.from)
	return putOctets(to, o.config)
}

func decodeOpening(raw []byte) (o opening, err error) {
	if len(raw) == 0 {
		return o, fmt.Errorf("%w: an empty opening", errFrame)
	}
	o.role = role(raw[0])
	p := payload{rest: raw[1:]}
	o.from, o.config = p.octets(maxPosition), p.octets(maxConfig)
	if o.role < rolePublisher || o.role > roleExaminer {
		p.fail()
	}
	return o, p.end()
}

func encodeMessage(m queue.Message) []byte {
	to := make([]byte, 0, 8+len(m.ID)+len(m.Body))
	return putOctets(putOctets(to, []byte(m.ID)), m.Body)
}

func decodeMessage(raw []byte) (m queue.Message, err error) {
	p := payload{rest: raw}
	m.ID, m.Body = string(p.octets(maxID)), p.octets(queue.MaxBody)
	return m, p.end()
}

// Whether what was set aside can be read.
const (
	asideRead uint64 = iota + 1
	asideUnread
)

func asideSaid(read bool) uint64 {
	if read {
		return asideRead
	}
	return asideUnread
}

const flagDeadLettered = 1

// delivered is a delivery on its way; the lease stays in the child, under a number.
type delivered struct {
	lease uint64
	queue.Delivery
}

// size is that of its payload, in octets.
func (d delivered) size() int { return 8 + 1 + 4 + len(d.Position) + 4 + len(d.Body) }

func (d delivered) encode() []byte {
	to := make([]byte, 0, d.size())
	to = binary.BigEndian.AppendUint64(to, d.lease)
	var flags byte
	if d.DeadLettered {
		flags = flagDeadLettered
	}
	to = append(to, flags)
	return putOctets(putOctets(to, d.Position), d.Body)
}

func decodeDelivered(raw []byte) (d delivered, err error) {
	p := payload{rest: raw}
	d.lease = p.number()
	if len(p.rest) == 0 || p.rest[0] > flagDeadLettered {
		p.fail()
	} else {
		d.DeadLettered = p.rest[0] == flagDeadLettered
		p.rest = p.rest[1:]
	}
	d.Position, d.Body = p.octets(maxPosition), p.octets(queue.MaxBody)
	return d, p.end()
}

func encodeLeases(list []uint64) []byte {
	to := make([]byte, 0, 8*len(list))
	for _, l := range list {
		to = binary.BigEndian.AppendUint64(to, l)
	}
	return to
}

func decodeLeases(raw []byte) (list []uint64, err error) {
	if len(raw)%8 != 0 || len(raw) > 8*maxBatch {
		return nil, fmt.Errorf("%w: a list of leases of %d octets", errFrame, len(raw))
	}
	p := payload{rest: raw}
	for len(p.rest) > 0 {
		list = append(list, p.number())
	}
	return list, p.end()
}

func encodeFinding(f doctor.Finding) []byte {
	var to []byte
	for _, text := range []string{string(f.Verdict), f.Name, f.Text, f.Do} {
		to = putOctets(to, []byte(text[:min(len(text), maxText)]))
	}
	return to
}

func decodeFinding(raw []byte) (doctor.Finding, error) {
	p := payload{rest: raw}
	verdict, name, text, do := p.octets(maxText), p.octets(maxText), p.octets(maxText), p.octets(maxText)
	f := doctor.Finding{Verdict: doctor.Verdict(verdict), Name: plain(name), Text: plain(text), Do: plain(do)}
	switch f.Verdict {
	case doctor.Bad, doctor.Warning, doctor.Unknown, doctor.Well:
	default:
		p.fail()
	}
	return f, p.end()
}

// result is how a call ended.
type result struct {
	n   uint64 // messages published or deliveries sent
	err error
}

// causes are the errors that callers decide on; a code is the place in the list, from 1. Code 0 is none,
// the last one any other.
var causes = []error{queue.ErrFull, queue.ErrUnreachable, queue.ErrRefused, queue.ErrTooLarge, queue.ErrClosed}

func (r result) encode() []byte {
	to := binary.BigEndian.AppendUint64(nil, r.n)
	if r.err == nil {
		return putOctets(append(to, 0), nil)
	}
	code := len(causes) + 1
	for i, c := range causes {
		if errors.Is(r.err, c) {
			code = i + 1
			break
		}
	}
	text := r.err.Error()
	return putOctets(append(to, byte(code)), []byte(text[:min(len(text), maxText)]))
}

func decodeResult(raw []byte) (r result, err error) {
	p := payload{rest: raw}
	r.n = p.number()
	code := 0
	if len(p.rest) == 0 {
		p.fail()
	} else {
		code, p.rest = int(p.rest[0]), p.rest[1:]
	}
	text := plain(p.octets(maxText))
	if err := p.end(); err != nil {
		return result{}, err
	}
	switch {
	case code == 0 && text == "":
	case code >= 1 && code <= len(causes):
		r.err = &saidError{causes[code-1], text}
	case code == len(causes)+1:
		r.err = &saidError{nil, text}
	default:
		return result{}, fmt.Errorf("%w: a result with code %d", errFrame, code)
	}
	return r, nil
}

// saidError is an error that the child met, in its words.
type saidError struct {
	cause error
	text  string
}

func (e *saidError) Error() string { return e.text }
func (e *saidError) Unwrap() error { return e.cause }

// plain makes words of another process fit for a log: printable, one line.
func plain(raw []byte) string {
	out := make([]rune, 0, len(raw))
	for _, r := range string(raw) {
		if !unicode.IsPrint(r) || r == utf8.RuneError {
			r = ' '
		}
		out = append(out, r)
	}
	return string(out)
}
