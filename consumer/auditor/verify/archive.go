package verify

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"

	"jmlbridge/internal/ledger/entry"
	"jmlbridge/schema"
)

const (
	chunkSize = 128 << 10 // octets of archive that a worker takes at a time
	maxLine   = 256 << 10 // octets of one line: the largest JWS and its frame

	// lookahead is how many archived messages may be read before the entry that names them: the order of
	// the two parts is the same unless the clock went back over midnight.
	lookahead = 1 << 20
)

// message is what one line of the archive came to. The JWS itself is not kept.
type message struct {
	claimed schema.Digest // what the line says its payload hashes to: entries go by that
	file    string
	line    int
	number  int64 // of the line among all, from 1
	fault   Code  // empty: a given key signed exactly this
	detail  string

	key      *Key
	frame    schema.Frame
	refusal  schema.Code // why the content is not read; empty: it was read
	occurred *schema.Instant
	fact     fact               // where it states one about a subject
	cuts     []schema.CutNotice // of a heartbeat
	roster   *schema.Roster
	approval *schema.Approval
	received *entry.Received // of one that is kept: what its entry says
}

// chunk is some whole lines of a day's file, or why there are no more of it.
type chunk struct {
	file  string
	first int // number of the first line
	lines []byte
	err   error
}

var dayFile = regexp.MustCompile(`^[0-9]{4}-[0-9]{2}-[0-9]{2}\.jsonl\.gz$`)

// shelf reads the signed messages of the archive in the order in which they were received, checks them on all
// processors, and hands them out by payload digest.
type shelf struct {
	p     *pipe[chunk, []message]
	batch []message
	ahead map[schema.Digest]message // read, and not yet asked for
	over  bool

	read    int64    // lines so far
	matched int64    // the number, from 1, of the furthest line that an entry named
	missing error    // there is no archive; only an entry that needs one makes that an error
	torn    []string // files that end in the middle of a write
	broken  []message
}

func openArchive(ctx context.Context, dir string, keys Keys) (*shelf, error) {
	a := &shelf{ahead: map[schema.Digest]message{}}
	if _, err := os.ReadDir(dir); err != nil {
		err = fmt.Errorf("read the archive of signed messages: %w (to verify the tiles without the signed messages, ask for tiles only)", err)
		if !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		// A ledger that has just begun names no message, and has no archive yet.
		a.missing, a.over = err, true
		return a, nil
	}
	a.p = newPipe(ctx, func(emit func(chunk) bool) error { return chunks(dir, emit) },
		func(c chunk) ([]message, error) { return keys.messages(c), nil })
	return a, nil
}

func (a *shelf) close() {
	if a.p != nil {
		a.p.close()
	}
}

// find returns the message with this payload digest. It is found once.
func (a *shelf) find(ctx context.Context, d schema.Digest) (m message, ok bool, err error) {
	if a.missing != nil {
		return message{}, false, a.missing
	}
	if m, ok = a.ahead[d]; ok {
		delete(a.ahead, d)
		a.matched = max(a.matched, m.number)
		return m, true, nil
	}
	for len(a.ahead) < lookahead {
		m, err := a.next(ctx)
		if err != nil || a.over {
			return message{}, false, err
		}
		if m.claimed == d {
			a.matched = m.number
			return m, true, nil
		}
		a.ahead[m.claimed] = m
	}
	return message{}, false, nil
}

// rest reads to the end what no entry asked for. Before the last line that an entry named nothing may be
// left over; what is behind it is newer than the checkpoint.
func (a *shelf) rest(ctx context.Context) (unlisted []message, newer int64, err error) {
	for _, m := range a.ahead {
		if m.number < a.matched {
			unlisted = append(unlisted, m)
		} else {
			newer++
		}
	}
	slices.SortFunc(unlisted, func(x, y message) int { return int(x.number - y.number) })
	clear(a.ahead)
	for {
		m, err := a.next(ctx)
		if err != nil {
			return nil, 0, err
		}
		if a.over {
			return unlisted, newer, nil
		}
		if newer++; m.fault != "" && m.fault != KeyNotGiven && len(a.broken) < maxListed {
			a.broken = append(a.broken, m)
		}
	}
}

// next returns the next line that has a digest to go by.
func (a *shelf) next(ctx context.Context) (message, error) {
	for !a.over {
		if len(a.batch) == 0 {
			batch, ok, err := a.p.next(ctx)
			if err != nil {
				return message{}, err
			}
			a.batch, a.over = batch, !ok
			continue
		}
		m := a.batch[0]
		a.batch = a.batch[1:]
		switch {
		case m.fault == ArchiveBroken && m.detail == "":
			a.torn = append(a.torn, m.file)
			continue
		case m.fault == ArchiveBroken || m.fault == ArchiveForm:
			a.broken = append(a.broken, m)
			continue
		}
		a.read++
		m.number = a.read
		return m, nil
	}
	return message{}, nil
}

// chunks reads the day files, oldest first. A file that cannot be read further does not end it.
func chunks(dir string, emit func(chunk) bool) error {
	files, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("read the archive of signed messages: %w", err)
	}
	for _, f := range files { // sorted by name, which is by day
		if !dayFile.MatchString(f.Name()) {
			continue
		}
		more, err := readDay(filepath.Join(dir, f.Name()), f.Name(), emit)
		if errors.Is(err, fs.ErrPermission) {
			return err
		}
		if err != nil {
			more = emit(chunk{file: f.Name(), err: err})
		}
		if !more {
			return nil
		}
	}
	return nil
}

// errTorn says that a file ends inside a member: a write was under way.
var errTorn = errors.New("the file ends in the middle of a write")

func readDay(path, name string, emit func(chunk) bool) (more bool, err error) {
	f, err := os.Open(path)
	if err != nil {
		return false, err
	}
	defer f.Close()
	z, err := gzip.NewReader(bufio.NewReaderSize(f, 64<<10))
	switch {
	case errors.Is(err, io.EOF):
		return true, nil // created, and nothing recorded yet
	case errors.Is(err, io.ErrUnexpectedEOF):
		return true, errTorn
	case err != nil:
		return true, err
	}
	line := 1
	var rest []byte // the beginning of a line
	for {
		buf := make([]byte, len(rest), max(chunkSize, len(rest)+chunkSize/2))
		copy(buf, rest)
		n, err := io.ReadFull(z, buf[len(rest):cap(buf)])
		buf = buf[:len(rest)+n]
		if cut := bytes.LastIndexByte(buf, '\n') + 1; cut > 0 {
			if !emit(chunk{file: name, first: line, lines: buf[:cut]}) {
				return false, nil
			}
			line += bytes.Count(buf[:cut], []byte("\n"))
			buf = buf[cut:]
		}
		rest = buf
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			// io.ReadFull says the same of an end between members and of one inside; the reader knows.
			if _, err := z.Read(make([]byte, 1)); !errors.Is(err, io.EOF) || len(rest) > 0 {
				return true, errTorn
			}
			return true, nil
		}
		if err != nil {
			return true, fmt.Errorf("after line %d: %w", line-1, err)
		}
		if len(rest) > maxLine {
			return true, fmt.Errorf("line %d: want at most %d octets", line, maxLine)
		}
	}
}

const (
	linePayload = `{"payload":"`
	lineJWS     = `","jws":"`
	lineEnd     = `"}`
	digestLen   = 43
)

// messages judges the lines of a chunk.
func (ks Keys) messages(c chunk) []message {
	if c.err != nil {
		m := message{file: c.file, fault: ArchiveBroken}
		if !errors.Is(c.err, errTorn) {
			m.detail = c.err.Error()
		}
		return []message{m}
	}
	list := make([]message, 0, len(c.lines)/2048+1)
	for data, n := c.lines, c.first; len(data) > 0; n++ {
		i := bytes.IndexByte(data, '\n')
		m := ks.message(data[:i])
		m.file, m.line = c.file, n
		list = append(list, m)
		data = data[i+1:]
	}
	return list
}

// message judges one line: its spelling, its digest, its signature and its content, in that order.
func (ks Keys) message(line []byte) (m message) {
	rest, ok := bytes.CutPrefix(line, []byte(linePayload))
	if !ok || len(rest) < digestLen || m.claimed.UnmarshalText(rest[:digestLen]) != nil {
		return m.bad(ArchiveForm, "want a line {\"payload\":DIGEST,\"jws\":...}")
	}
	jws, ok := bytes.CutPrefix(rest[digestLen:], []byte(lineJWS))
	jws, ok2 := bytes.CutSuffix(jws, []byte(lineEnd))
	if !ok || !ok2 {
		return m.bad(ArchiveForm, "want a line {\"payload\":DIGEST,\"jws\":...}")
	}
	payload, err := payloadOf(jws)
	if err != nil {
		return m.bad(MessageAltered, err.Error())
	}
	if schema.DigestOf(payload) != m.claimed {
		return m.bad(MessageAltered, "its payload does not hash to the digest beside it")
	}
	m.key, err = ks.signed(jws)
	switch {
	case errors.Is(err, errUnknown):
		return m.bad(KeyNotGiven, err.Error())
	case err != nil:
		return m.bad(SignatureBad, err.Error())
	}
	m.read(payload)
	return m
}

func (m *message) bad(code Code, detail string) message {
	m.fault, m.detail = code, detail
	return *m
}

// read takes from a verified payload what the rules here need.
func (m *message) read(payload []byte) {
	set, err := schema.Decode(payload)
	if err != nil {
		var refused *schema.RefusedError
		if errors.As(err, &refused) {
			m.refusal = refused.Code
		}
		if m.frame, err = schema.DecodeFrame(payload); err != nil {
			m.bad(MessageForm, "it has no readable place in a chain: "+err.Error())
			return
		}
		if m.refusal == schema.CodeNewerVersion && m.frame.Kind.Cuts() {
			if core, err := schema.DecodeCutCore(payload); err == nil {
				m.fact = fact{kind: kindOf(core.Kind), engagement: core.Engagement, from: core.Effective.Unix()}
			}
		}
		return
	}
	kind := set.Event.Kind()
	m.frame = schema.Frame{Issuer: set.Issuer, Audience: set.Audience, Stream: set.Stream, ID: set.ID, IssuedAt: set.IssuedAt,
		Subject: set.Subject, Kind: kind, Version: set.Version}
	m.occurred = set.Occurred
	switch e := set.Event.(type) {
	case *schema.Joiner:
		m.fact = fact{kind: joiner, engagement: e.Engagement, start: e.Start.Unix(), end: unix(e.End), content: contentOf(&e.Person, e.Roles, e.Start, e.End)}
	case *schema.Mover:
		m.fact = fact{kind: mover, engagement: e.Engagement, start: e.Start.Unix(), end: unix(e.End), from: e.Effective.Unix(), content: contentOf(&e.Person, e.Roles, e.Start, e.End)}
	case *schema.Leaver:
		m.fact = fact{kind: leaver, engagement: e.Engagement, from: e.Effective.Unix()}
	case *schema.Suspend:
		m.fact = fact{kind: suspend, engagement: e.Engagement, from: e.Effective.Unix()}
	case *schema.Resume:
		m.fact = fact{kind: resume, engagement: e.Engagement, from: e.Effective.Unix()}
	case *schema.Heartbeat:
		m.cuts = slices.Clone(e.Cuts)
	case *schema.Roster:
		m.roster = e
	case *schema.Approval:
		m.approval = e
	}
}

func unix(i *schema.Instant) int64 {
	if i == nil {
		return 0
	}
	return i.Unix()
}

func kindOf(k schema.Kind) factKind {
	switch k {
	case schema.KindJoiner:
		return joiner
	case schema.KindMover:
		return mover
	case schema.KindLeaver:
		return leaver
	case schema.KindSuspend:
		return suspend
	case schema.KindResume:
		return resume
	}
	return noFact
}
