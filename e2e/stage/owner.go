package stage

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"jmlbridge/internal/queue/natsqueue"
	"jmlbridge/producer/midpoint"
)

// Owner is somebody who owns a mid-point of NATS, whole, and keeps no promise: the stock server on the mid-point's own store, port,
// certificate and credentials, and beside those an account of the owner's with every right.
type Owner struct {
	nc     *nats.Conn
	js     jetstream.JetStream
	stream string
	kept   [][]byte // bodies, in the order in which they lay in the stream
}

// TakeOver ends the mid-point and puts its owner's server in its place. Whoever is connected comes back to that one.
func (s *Stage) TakeOver(ctx context.Context) (*Owner, error) {
	dir := filepath.Join(s.MidPointDir, "midpoint")
	var c midpoint.Config
	text, err := os.ReadFile(filepath.Join(dir, midpoint.ConfigFile))
	if err == nil {
		err = yaml.Unmarshal(text, &c)
	}
	if err != nil {
		return nil, err
	}
	c = c.In(dir)
	password := rand.Text()
	file := filepath.Join(dir, "owner.conf")
	if err := write(file, ownerConf(c, password)); err != nil {
		return nil, err
	}
	if err := s.MidPoint.Stop(ctx); err != nil {
		return nil, err
	}
	s.MidPoint = s.process("midpoint", s.Programs.NATS, isNATSReady, "-c", file)
	if err := s.MidPoint.Start(ctx); err != nil {
		return nil, err
	}
	nc, err := nats.Connect("tls://"+c.Listen, nats.RootCAs(filepath.Join(s.Commercial, "queue", "midpoint-ca.pem")), nats.UserInfo("owner", password), nats.MaxReconnects(-1))
	if err != nil {
		return nil, fmt.Errorf("the owner's connection: %w", err)
	}
	js, err := jetstream.New(nc)
	if err != nil {
		nc.Close()
		return nil, err
	}
	s.owner = &Owner{nc: nc, js: js, stream: c.Enclaves[0].Stream()}
	return s.owner, nil
}

func isNATSReady(l Line) bool { return strings.HasSuffix(l.Text, "Server is ready") }

func ownerConf(c midpoint.Config, password string) string {
	e := c.Enclaves[0]
	inbox := func(role string) string { return natsqueue.InboxOf(role, e.Stream()) + ".>" }
	at := e.Stream() + ".enclave"
	pulls := fmt.Sprintf("%q, %q, %q", "$JS.API.CONSUMER.INFO."+at, "$JS.API.CONSUMER.MSG.NEXT."+at, "$JS.ACK."+at+".>")
	if e.Pull == "dark" {
		pulls = fmt.Sprintf("%q", "$JS.API.DIRECT.GET."+e.Stream())
	}
	return fmt.Sprintf(`server_name: owner
listen: %q
tls { cert_file: %q, key_file: %q }
jetstream { store_dir: %q, sync_interval: always }
accounts { %q {
  jetstream: enabled
  users: [
    { user: owner, password: %q }
    { nkey: %s, permissions: { publish: %q, subscribe: %q } }
    { nkey: %s, permissions: { publish: [%s], subscribe: %q } }
  ]
} }
`, c.Listen, c.Cert, c.Key, c.Store, e.Name, password, e.Producer, e.Subject(), inbox(natsqueue.RoleProducer),
		e.Consumer, pulls, inbox(natsqueue.RoleConsumer))
}

func (o *Owner) close() { o.nc.Close() }

// Purge deletes every message that lies in the stream.
func (o *Owner) Purge(ctx context.Context) error {
	st, err := o.js.Stream(ctx, o.stream)
	if err != nil {
		return err
	}
	return st.Purge(ctx)
}

// Anew deletes the stream, with whoever reads it, and makes both again, empty.
func (o *Owner) Anew(ctx context.Context) error {
	st, err := o.js.Stream(ctx, o.stream)
	if err != nil {
		return err
	}
	readers := []jetstream.ConsumerConfig{}
	list := st.ListConsumers(ctx)
	for info := range list.Info() {
		readers = append(readers, info.Config)
	}
	if err := list.Err(); err != nil {
		return err
	}
	if err := o.js.DeleteStream(ctx, o.stream); err != nil {
		return err
	}
	if _, err := o.js.CreateStream(ctx, st.CachedInfo().Config); err != nil {
		return err
	}
	for _, c := range readers {
		if _, err := o.js.CreateConsumer(ctx, o.stream, c); err != nil {
			return err
		}
	}
	return nil
}

// Keep copies every message that lies in the stream. It returns how many.
func (o *Owner) Keep(ctx context.Context) (int, error) {
	st, err := o.js.Stream(ctx, o.stream)
	if err != nil {
		return 0, err
	}
	info := st.CachedInfo().State
	o.kept = nil
	for seq := info.FirstSeq; seq <= info.LastSeq; seq++ {
		m, err := st.GetMsg(ctx, seq)
		if err != nil {
			return 0, fmt.Errorf("message %d of %d to %d: %w", seq, info.FirstSeq, info.LastSeq, err)
		}
		o.kept = append(o.kept, m.Data)
	}
	return len(o.kept), nil
}

// Replay publishes what was kept once more, with the producer's own credential and under ids that the stream has not
// seen: all of it, or the first messages; in their order or the other way round.
func (s *Stage) Replay(ctx context.Context, o *Owner, first int, backwards bool) error {
	key, err := nats.NkeyOptionFromSeed(filepath.Join(s.Commercial, "queue", "midpoint.nk"))
	if err != nil {
		return err
	}
	nc, err := nats.Connect(o.nc.ConnectedUrl(), nats.RootCAs(filepath.Join(s.Commercial, "queue", "midpoint-ca.pem")), key,
		nats.CustomInboxPrefix(natsqueue.InboxOf(natsqueue.RoleProducer, o.stream)))
	if err != nil {
		return fmt.Errorf("the second publisher's connection: %w", err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	list := slices.Clone(o.kept)
	if first > 0 {
		list = list[:min(first, len(list))]
	}
	if len(list) == 0 {
		return errors.New("nothing was kept that could be published again")
	}
	if backwards {
		slices.Reverse(list)
	}
	for _, body := range list {
		if _, err := js.Publish(ctx, "jml."+Enclave, body, jetstream.WithMsgID(rand.Text())); err != nil {
			return err
		}
	}
	return nil
}

// Blocks are the files in which a mid-point of NATS keeps its messages, oldest first.
func (s *Stage) Blocks() ([]string, error) {
	list, err := filepath.Glob(filepath.Join(s.MidPointDir, "midpoint", "store", "jetstream", Enclave, "streams", "*", "msgs", "*.blk"))
	if err == nil && len(list) == 0 {
		err = errors.New("the mid-point's store holds no messages")
	}
	slices.SortFunc(list, func(a, b string) int { // 9.blk is older than 10.blk
		if len(a) != len(b) {
			return len(a) - len(b)
		}
		return strings.Compare(a, b)
	})
	return list, err
}
