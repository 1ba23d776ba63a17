package amqp

import (
	"encoding/binary"
	"fmt"
	"io"
)

// Protocol headers: what each side says first, for each layer.
var (
	HeaderSASL = [8]byte{'A', 'M', 'Q', 'P', 3, 1, 0, 0}
	HeaderAMQP = [8]byte{'A', 'M', 'Q', 'P', 0, 1, 0, 0}
)

// Kinds of frames.
const (
	TypeAMQP byte = 0
	TypeSASL byte = 1
)

// ReadFrame reads one frame of at most limit bytes. The body may lie in buf and
// is good until buf is used again; an empty one is a heartbeat.
func ReadFrame(r io.Reader, buf []byte, limit uint32) (kind byte, channel uint16, body []byte, err error) {
	var head [headerSize]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, 0, nil, err
	}
	size, offset := binary.BigEndian.Uint32(head[:]), 4*uint32(head[4])
	kind, channel = head[5], binary.BigEndian.Uint16(head[6:])
	switch {
	case size < headerSize || size > limit:
		return 0, 0, nil, fmt.Errorf("amqp: frame of %d bytes, expected %d to %d", size, headerSize, limit)
	case offset < headerSize || offset > size:
		return 0, 0, nil, fmt.Errorf("amqp: frame of %d bytes whose body begins at %d", size, offset)
	case kind != TypeAMQP && kind != TypeSASL:
		return 0, 0, nil, fmt.Errorf("amqp: frame of kind %d", kind)
	}
	n := int(size - headerSize)
	if n > cap(buf) {
		buf = make([]byte, n)
	}
	buf = buf[:n]
	if _, err := io.ReadFull(r, buf); err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return 0, 0, nil, err
	}
	return kind, channel, buf[offset-headerSize:], nil
}

// AppendFrame encodes a frame; p is nil for a heartbeat, payload follows a
// transfer.
func AppendFrame(dst []byte, kind byte, channel uint16, p Performative, payload []byte) []byte {
	at := len(dst)
	dst = append(dst, 0, 0, 0, 0, headerSize/4, kind, byte(channel>>8), byte(channel))
	if p != nil {
		dst = appendComposite(dst, p)
	}
	dst = append(dst, payload...)
	binary.BigEndian.PutUint32(dst[at:], uint32(len(dst)-at))
	return dst
}
