package sim

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"path/filepath"
	"slices"
	"time"

	"jmlbridge/consumer/admit"
	"jmlbridge/e2e/adversary/model"
	"jmlbridge/internal/envelope/seal"
	"jmlbridge/internal/ledger/entry"
	"jmlbridge/internal/store"
	"jmlbridge/producer/outbox"
	"jmlbridge/producer/register"
	"jmlbridge/schema"
)

// closedFor is how long rosters repeat closed engagements.
const closedFor = 14 * 24 * time.Hour

// producer is the real outbox on its database, and what the enclave's people hold of it.
type producer struct {
	mortal
	n      int // its place among the producers
	issuer string
	db     *store.DB
	box    *outbox.Box

	key        int // that signs
	generation int
	highest    int           // generation that was ever opened: the folders that recover sets aside tell
	last       uint64        // number of the last message
	head       schema.Digest // its payload
	said       []spoken      // everything that HR ever stated, in order
	relaying   bool          // a goroutine of the relay is under way: no seam and no trace
	backup     *backup
	newer      map[schema.Digest]*schema.SET // what was said in a newer version, by payload

	// Of the enclave:
	second    *approver   // who has to agree; nil: nobody
	opened    int         // the latest generation that is followed; 0: its key is not trusted
	retired   bool        // the first key is
	retiredAt admit.Point // up to where it is good
	locked    []string
	unheard   []*message // durably the enclave's, and read by nobody while the key is not trusted
	model     *model.Model
}

// spoken is one statement.
type spoken struct {
	subject string
	event   schema.Event
}

type backup struct {
	path string
	log  int64
	said int
}

func newProducer(w *world, n int) *producer {
	p := &producer{mortal: mortal{w: w, name: fmt.Sprintf("producer-%d", n)}, n: n, issuer: issuers[n],
		generation: 1, newer: map[schema.Digest]*schema.SET{}, model: model.New(roles, lease)}
	p.lay(w.lab.producer[n], 0)
	p.start()
	return p
}

func (p *producer) signer() *seal.Signer { return p.w.lab.signers[p.n*keysEach+p.key] }

func (p *producer) start() {
	var err error
	if p.db, err = store.Open(p.path, outbox.Schema); err == nil {
		p.box, err = outbox.New(p.db, outbox.Config{Issuer: p.issuer, Stream: stream, Signer: p.signer(), Sealers: 1,
			Recipients: map[string]*seal.Recipient{enclave: p.w.lab.to}, ClosedFor: closedFor, Now: p.now, Log: slog.New(producerLog{p})})
	}
	if err != nil {
		p.w.broken("start the producer: %v", err)
	}
}

func (p *producer) stop() {
	if p.db != nil {
		_ = p.db.Close()
		p.db = nil
	}
}

func (p *producer) now() time.Time {
	if !p.relaying {
		p.seam("clock")
	}
	return p.w.clock.now()
}

// producerLog is where it writes its log: a seam, too.
type producerLog struct{ p *producer }

func (h producerLog) Enabled(context.Context, slog.Level) bool { return true }
func (h producerLog) WithAttrs([]slog.Attr) slog.Handler       { return h }
func (h producerLog) WithGroup(string) slog.Handler            { return h }
func (h producerLog) Handle(context.Context, slog.Record) error {
	if !h.p.relaying {
		h.p.seam("log")
	}
	return nil
}

// at is where the chain stands.
func (p *producer) at() admit.Point { return admit.Point{Generation: p.generation, Seq: p.last} }

func behind(a, b admit.Point) bool {
	return a.Generation < b.Generation || a.Generation == b.Generation && a.Seq < b.Seq
}

// does has the box do something, in which the program may die, and tells whether anything was said.
func (p *producer) does(what string, f func() ([]outbox.Sent, error)) bool {
	before := p.at()
	dead := p.lives(what, p.w.mood.producerCrash, func() {
		_, err := f()
		if nonsense := (*register.NonsenseError)(nil); err != nil && !errors.As(err, &nonsense) {
			p.w.broken("the producer: %s: %v", what, err)
		}
	})
	if dead {
		p.resurrect(before)
	}
	p.look()
	return behind(before, p.at())
}

// resurrect starts the program on what its disk holds. What it had accepted, let alone published, it must know.
func (p *producer) resurrect(before admit.Point) {
	p.relaying = false
	p.reborn(p.stop)
	p.start()
	p.look()
	if behind(p.at(), before) {
		p.w.failf("forgotten", "the producer had accepted message %d of generation %d, after a crash it stands at %d of %d", before.Seq, before.Generation, p.last, p.generation)
	}
}

// look reads where the chain stands.
func (p *producer) look() {
	var head []byte
	if err := p.db.Read().QueryRow("SELECT generation, seq, head FROM chain WHERE aud = ?", enclave).Scan(&p.generation, &p.last, &head); err != nil {
		p.w.broken("read the producer's chain: %v", err)
	}
	p.head = schema.Digest(head)
	p.highest = max(p.highest, p.generation)
}

// say states something of a person, again where the program died before it was durable.
func (p *producer) say(s spoken) bool {
	for try := 0; ; try++ {
		crashes := p.w.count.Crashes
		said := p.does("say", func() ([]outbox.Sent, error) {
			return p.box.Update(context.Background(), enclave, []string{s.subject}, func(_ string, last register.State) (register.Decision, error) {
				return register.Emit(last, register.Said{Event: copied(s.event)}, p.w.clock.now())
			})
		})
		if said {
			p.w.tracef("%d said %s of %s, %d/%d", p.n, s.event.Kind(), s.subject, p.generation, p.last)
			p.updated(s)
			return true
		}
		if p.w.count.Crashes == crashes || try == 10 {
			return false
		}
	}
}

// updated lets the message just said be of a version that the enclave's program does not know, as if the producer
// were the newer program. It is not published yet.
func (p *producer) updated(s spoken) {
	w := p.w
	if w.calm || !w.chance(w.mood.newer) {
		return
	}
	var id int64
	var body []byte
	err := p.db.Read().QueryRow("SELECT id, body FROM outbox JOIN wire USING (id) WHERE generation = ? AND seq = ? AND sent IS NULL", p.generation, p.last).Scan(&id, &body)
	if err != nil {
		w.broken("read the message just said: %v", err)
	}
	said, err := w.read(body)
	if err != nil {
		w.broken("open the message just said: %v", err)
	}
	set, err := schema.Decode(said)
	if err != nil {
		w.broken("decode the message just said: %v", err)
	}
	kind := string(s.event.Kind())
	payload := bytes.Replace(said, []byte(":"+kind+":v1\":{"), []byte(":"+kind+":v2\":{\"whatever\":[true],"), 1)
	sealed, err := seal.Seal(payload, p.signer(), w.lab.to)
	if err != nil {
		w.broken("seal a newer message: %v", err)
	}
	p.head = schema.DigestOf(payload)
	err = p.db.Tx(context.Background(), func(tx *store.Tx) error {
		if _, err := tx.Exec("UPDATE wire SET body = ? WHERE id = ?", sealed.Wire, id); err != nil {
			return err
		}
		_, err := tx.Exec("UPDATE chain SET head = ? WHERE aud = ?", p.head[:], enclave)
		return err
	})
	if err != nil {
		w.broken("store a newer message: %v", err)
	}
	p.newer[p.head] = set
	w.tracef("in a newer version")
}

// copied is an event whose engagement is to be filled in.
func copied(e schema.Event) schema.Event {
	switch e := e.(type) {
	case *schema.Joiner:
		c := *e
		return &c
	case *schema.Mover:
		c := *e
		return &c
	case *schema.Leaver:
		c := *e
		return &c
	case *schema.Suspend:
		c := *e
		return &c
	case *schema.Resume:
		c := *e
		return &c
	}
	return e
}

// hire, move and so on: something that HR could state of a person now.
func (p *producer) hr() {
	w := p.w
	subject := w.anyone()
	last, err := p.box.State(context.Background(), enclave, subject)
	if err != nil {
		w.broken("read the register: %v", err)
	}
	now := schema.At(w.clock.now())
	var e schema.Event
	switch n := w.rng.IntN(10); {
	case !last.Status.Live():
		j := &schema.Joiner{Person: person(subject), Roles: w.anyRoles(), Start: schema.At(w.clock.now().Add(-time.Hour))}
		if w.chance(15) {
			j.Start = schema.At(w.clock.now().Add(w.upTo(2 * time.Hour)))
		}
		if w.chance(15) {
			end := schema.At(j.Start.Time().Add(time.Hour + w.upTo(30*time.Hour)))
			j.End = &end
		}
		e = j
	case last.Status == register.Suspended && n < 4:
		e = &schema.Resume{Effective: now, Reason: schema.ReasonReturn}
	case n < 5:
		l := &schema.Leaver{Effective: now, Reason: schema.ReasonTermination, Urgent: w.chance(20)}
		if w.chance(20) {
			l.Effective = schema.At(w.clock.now().Add(w.upTo(2 * time.Hour)))
		}
		e = l
	case n < 7 && last.Status == register.Active:
		e = &schema.Suspend{Effective: now, Reason: schema.ReasonLeave}
	default:
		e = &schema.Mover{Person: person(subject), Roles: w.anyRoles(), Start: last.Start, End: last.End, Effective: now}
	}
	if s := (spoken{subject, e}); p.say(s) {
		p.said = append(p.said, s)
	}
}

func (p *producer) beat() {
	ctx := context.Background()
	if p.does("expire", func() ([]outbox.Sent, error) { return p.box.Expire(ctx, enclave) }) {
		p.w.tracef("%d said that some ended, %d/%d", p.n, p.generation, p.last)
	}
	if p.does("heartbeat", func() ([]outbox.Sent, error) { return p.box.Heartbeat(ctx, enclave, time.Minute) }) {
		p.w.tracef("%d heartbeat %d/%d", p.n, p.generation, p.last)
	}
}

func (p *producer) roster() {
	if p.does("roster", func() ([]outbox.Sent, error) { return p.box.Roster(context.Background(), enclave, 0) }) {
		p.w.tracef("%d roster %d/%d", p.n, p.generation, p.last)
	}
}

// relay publishes one batch of what waits.
func (p *producer) relay() bool {
	var waits bool
	if err := p.db.Read().QueryRow("SELECT EXISTS (SELECT 1 FROM outbox WHERE sent IS NULL)").Scan(&waits); err != nil {
		p.w.broken("read the outbox: %v", err)
	}
	if !waits {
		return false
	}
	ctx, stop := context.WithCancel(context.Background())
	before := p.at()
	dead := p.lives("relay", p.w.mood.producerCrash, func() {
		p.relaying = true
		if err := p.box.Relay(ctx, enclave, &publisher{p, stop}); !errors.Is(err, context.Canceled) {
			p.w.broken("the relay ended with %v", err)
		}
		p.relaying = false
	})
	stop()
	if dead {
		p.resurrect(before)
	}
	return true
}

func (p *producer) keep() {
	if p.backup != nil {
		remove(p.backup.path)
	}
	p.life++
	b := &backup{filepath.Join(p.w.dir, fmt.Sprintf("%s-%d-backup.db", p.name, p.life)), p.walSize(), len(p.said)}
	err := copyFile(b.path, p.path, math.MaxInt64)
	if err == nil && b.log > 0 {
		err = copyFile(b.path+"-wal", p.path+"-wal", b.log)
	}
	if err != nil {
		p.w.broken("back the producer up: %v", err)
	}
	p.backup = b
	p.w.tracef("producer %d backed up at %d/%d", p.n, p.generation, p.last)
}

// restore is a lost disk: the producer goes on from its backup. Where its people forget to say recover, it
// gives numbers a second time.
func (p *producer) restore(forgets bool) {
	b := p.backup
	p.w.tracef("producer %d restored, recover forgotten: %v", p.n, forgets)
	bury(p.path, p.stop)
	p.lay(b.path, b.log)
	lost := slices.Clone(p.said[b.said:])
	p.start()
	p.look()
	for next := p.highest + 1; !forgets && p.generation < next; {
		p.does("recover", func() ([]outbox.Sent, error) {
			_, sent, err := p.box.Recover(context.Background(), next, func(int) []entry.Body { return nil })
			return sent, err
		})
		p.w.tracef("producer %d recovered, generation %d", p.n, p.generation)
	}
	for _, s := range lost { // what operators had said since the backup is said again
		p.say(s)
	}
}

func person(subject string) schema.Person {
	return schema.Person{DisplayName: "Person " + subject, Name: schema.Name{GivenName: "Person", FamilyName: subject}}
}
