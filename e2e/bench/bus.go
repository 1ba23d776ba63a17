package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"

	"jmlbridge/e2e/servicebus/broker"
	"jmlbridge/internal/outbound"
	"jmlbridge/internal/queue"
	"jmlbridge/internal/queue/anyqueue"
	"jmlbridge/internal/queue/busqueue"
)

const (
	busIntakeGoal = 0.6
	webGoal       = 0.8

	asBus    = "JMLBRIDGE_BENCH_BUS"  // its value is the folder of a namespace that this process is to be
	busAway  = "JMLBRIDGE_BENCH_AWAY" // how long each of its answers is on its way
	busQueue = "jml-gov-1"
	rawQueue = "raw"

	rawBatch    = 500 // messages that the client alone is asked for
	rawSettlers = 128 // at the same time, as the adapter has them
)

// serveBus is this process as a Service Bus namespace, until its standard input ends.
func serveBus(dir string) int {
	q := func(name string) broker.Queue {
		return broker.Queue{Name: name, Lock: 5 * time.Minute, Duplicates: time.Hour}
	}
	b, err := broker.Start(broker.Config{Queues: []broker.Queue{q(busQueue), q(rawQueue)}})
	if err != nil {
		fmt.Fprintf(os.Stderr, "bench: service bus: %v\n", err)
		return 1
	}
	defer b.Close()
	away, err := time.ParseDuration(os.Getenv(busAway))
	if err == nil && away > 0 {
		_, err = b.AddFaults(broker.Fault{On: broker.OnSend, Kind: broker.Delay, Delay: away, Applied: true},
			broker.Fault{On: broker.OnSettle, Kind: broker.Delay, Delay: away, Applied: true},
			broker.Fault{On: broker.OnManage, Kind: broker.Delay, Delay: away, Applied: true})
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "bench: service bus: %v\n", err)
		return 1
	}
	for name, text := range map[string]string{"ca.pem": string(b.CA()), "sender.sas": b.ConnectionString("sender"), "listener.sas": b.ConnectionString("listener")} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			fmt.Fprintf(os.Stderr, "bench: service bus: %v\n", err)
			return 1
		}
	}
	if err := json.NewEncoder(os.Stdout).Encode(b.Host()); err != nil {
		return 1
	}
	_, _ = io.Copy(io.Discard, os.Stdin)
	return 0
}

// bus is a namespace that runs.
type bus struct {
	queueProcess
	dir, host string
}

// startBus starts one whose answers take so long on their way.
func startBus(dir string, away time.Duration) (_ *bus, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	b := &bus{queueProcess{cmd: exec.Command(self)}, dir, ""}
	b.cmd.Env, b.cmd.Stderr = append(os.Environ(), asBus+"="+dir, busAway+"="+away.String()), os.Stderr
	if b.stdin, err = b.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := b.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := b.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the namespace: %w", err)
	}
	if err := json.NewDecoder(bufio.NewReader(out)).Decode(&b.host); err != nil {
		return nil, errors.Join(fmt.Errorf("the namespace did not start: %w", err), b.stop())
	}
	return b, nil
}

func (b *bus) config(rule, transport string) anyqueue.Config {
	return anyqueue.Config{ServiceBus: &busqueue.Config{Namespace: b.host, Queue: busQueue, Transport: transport,
		CA: filepath.Join(b.dir, "ca.pem"), ConnectionFile: filepath.Join(b.dir, rule+".sas"), Proxy: outbound.None}}
}

var silent = anyqueue.Options{Log: slog.New(slog.DiscardHandler)}

// rawBus is the client as anyone would use it: batched sends, and what a receive brought completed in parallel.
type rawBus struct {
	clients  []*azservicebus.Client
	sender   *azservicebus.Sender
	receiver *azservicebus.Receiver
}

func (b *bus) raw() (_ *rawBus, err error) {
	way, err := outbound.New(outbound.Config{CAFile: filepath.Join(b.dir, "ca.pem"), Proxy: outbound.None})
	if err != nil {
		return nil, err
	}
	conf := way.TLS()
	conf.ServerName = "127.0.0.1" // the client would look for a name with the port in the certificate
	r := &rawBus{}
	for _, rule := range []string{"sender", "listener"} {
		text, err := os.ReadFile(filepath.Join(b.dir, rule+".sas"))
		if err != nil {
			return nil, err
		}
		c, err := azservicebus.NewClientFromConnectionString(string(text), &azservicebus.ClientOptions{TLSConfig: conf})
		if err != nil {
			return nil, err
		}
		r.clients = append(r.clients, c)
	}
	if r.sender, err = r.clients[0].NewSender(rawQueue, nil); err != nil {
		return nil, err
	}
	r.receiver, err = r.clients[1].NewReceiverForQueue(rawQueue, nil)
	return r, err
}

func (r *rawBus) close() {
	ctx, cancel := context.WithTimeout(context.Background(), processTime)
	defer cancel()
	for _, c := range r.clients {
		_ = c.Close(ctx)
	}
}

func (r *rawBus) publish(ctx context.Context, run string, msgs []queue.Message) error {
	for n := 0; n < len(msgs); {
		batch, err := r.sender.NewMessageBatch(ctx, nil)
		if err != nil {
			return err
		}
		from := n
		for ; n < len(msgs); n++ {
			id := fmt.Sprintf("%s-%d", run, n)
			err := batch.AddMessage(&azservicebus.Message{Body: msgs[n].Body, MessageID: &id}, nil)
			if errors.Is(err, azservicebus.ErrMessageTooLarge) && n > from {
				break
			}
			if err != nil {
				return err
			}
		}
		if err := r.sender.SendMessageBatch(ctx, batch, nil); err != nil {
			return err
		}
	}
	return nil
}

func (r *rawBus) takeIn(ctx context.Context, n int) error {
	for n > 0 {
		list, err := r.receiver.ReceiveMessages(ctx, min(n, rawBatch), nil)
		if err != nil {
			return err
		}
		n -= len(list)
		next := make(chan *azservicebus.ReceivedMessage, len(list))
		for _, m := range list {
			next <- m
		}
		close(next)
		errs := make([]error, rawSettlers)
		var wg sync.WaitGroup
		for i := range rawSettlers {
			wg.Go(func() {
				for m := range next {
					errs[i] = errors.Join(errs[i], r.receiver.CompleteMessage(ctx, m, nil))
				}
			})
		}
		wg.Wait()
		if err := errors.Join(errs...); err != nil {
			return err
		}
	}
	return nil
}

// busNear is an endpoint in memory on the same cores. What is compared then is processor time alone, ours with everything that it
// takes to be durable, to verify and to decrypt, and the client's with nothing.
func busNear(ctx context.Context, o *options) ([]*row, error) { return busRows(ctx, o, "", 0) }

// busFar is an endpoint whose answers are on their way as long as a real one's.
func busFar(ctx context.Context, o *options) ([]*row, error) { return busRows(ctx, o, "-away", o.away) }

// busRows measures both ways of the same messages through a Service Bus endpoint in a process of its own: the relay beside the
// client's own batched sends, and the intake beside the client that only receives and completes. The adapter runs in its child
// process, as the programs run it.
func busRows(ctx context.Context, o *options, suffix string, away time.Duration) (_ []*row, err error) {
	b, err := startBus(filepath.Join(o.dir, "bus"+suffix), away)
	if err != nil {
		return nil, err
	}
	g, err := b.rig(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, g.close()) }()
	if err := g.enclave(ctx); err != nil {
		return nil, err
	}
	raw, err := b.raw()
	if err != nil {
		return nil, err
	}
	defer raw.close()
	from, to, t := g.from, g.to, g.tap

	n := o.messages / o.rounds
	var sent, sentRaw, taken, takenRaw []spent
	for round := 0; round <= o.rounds; round++ { // round 0 warms up
		o.progress("bus: round %d of %d", round, o.rounds)
		if err := from.say(ctx, n); err != nil {
			return nil, err
		}
		var s [4]spent
		t.take()
		steps := []func() error{
			func() (err error) {
				s[0], err = meter(g.queue, func() error { return from.relay(ctx, t) })
				return err
			},
			func() (err error) {
				s[1], err = meter(g.queue, func() error { return raw.publish(ctx, fmt.Sprintf("raw-%d", round), t.msgs) })
				return err
			},
			func() (err error) {
				s[2], err = meter(g.queue, func() error { return to.takeIn(ctx, g.rec, n) })
				return err
			},
			func() (err error) {
				s[3], err = meter(g.queue, func() error { return raw.takeIn(ctx, n) })
				return err
			},
		}
		if round%2 == 1 {
			steps[2], steps[3] = steps[3], steps[2]
		}
		for _, step := range steps {
			if err := step(); err != nil {
				return nil, err
			}
		}
		if round > 0 {
			sent, sentRaw, taken, takenRaw = append(sent, s[0]), append(sentRaw, s[1]), append(taken, s[2]), append(takenRaw, s[3])
		}
	}
	publish := &row{Name: "bus-publish" + suffix, What: "outbox → Service Bus → marked as sent, beside azservicebus alone", Goal: fmt.Sprintf("≥ %.1f", publishGoal)}
	publish.Ours, publish.Limit, publish.Ratio = rates(n, sent, sentRaw)
	publish.Met = publish.Ratio >= publishGoal
	intake := &row{Name: "bus-intake" + suffix, What: "Service Bus → intake → settled, beside azservicebus that receives and completes", Goal: fmt.Sprintf("≥ %.1f", busIntakeGoal)}
	intake.Ours, intake.Limit, intake.Ratio = rates(n, taken, takenRaw)
	intake.Met = intake.Ratio >= busIntakeGoal
	for _, x := range []struct {
		*row
		ours, limit []spent
	}{{publish, sent, sentRaw}, {intake, taken, takenRaw}} {
		x.note("%d rounds of %s messages in turns, through an endpoint in memory on the same cores, its answers %s on their way; ours in a child process", o.rounds, thousands(int64(n)), away)
		x.spread(x.ours, x.limit)
		x.processors(n, x.ours, x.limit)
	}
	return []*row{publish, intake}, nil
}

// processors says what both sides took of the processors, which other programs disturb less than the clock.
func (r *row) processors(n int, ours, limit []spent) {
	var a, b spent
	for i := range ours {
		a.add(ours[i])
		b.add(limit[i])
	}
	us := func(c cpu) float64 { return float64(c.all().Nanoseconds()) / 1e3 / float64(n*len(ours)) }
	r.note("processor time a message: ours %.0f µs, its child %.0f µs, the endpoint %.0f µs; the client alone %.0f µs, the endpoint %.0f µs",
		us(a.own), us(a.child), us(a.midpoint), us(b.own), us(b.midpoint))
	own, all := a.own.plus(a.child), a.own.plus(a.child).plus(a.midpoint)
	if own.all() > 0 {
		r.note("ratio of processor time: %.2f of both processes' alone, %.2f with the endpoint's on the same cores", float64(b.own.all())/float64(own.all()), float64(b.own.plus(b.midpoint).all())/float64(all.all()))
		r.note("processors busy: %.2f of %d with ours, %.2f with the client alone", all.all().Seconds()/a.wall.Seconds(), runtime.NumCPU(), b.own.plus(b.midpoint).all().Seconds()/b.wall.Seconds())
	}
}

func (s *spent) add(t spent) {
	s.wall += t.wall
	s.own, s.child, s.midpoint = s.own.plus(t.own), s.child.plus(t.child), s.midpoint.plus(t.midpoint)
}

// webRow carries messages through the endpoint over WebSockets and over plain TLS: published, fetched and settled.
func webRow(ctx context.Context, o *options) (_ []*row, err error) {
	b, err := startBus(filepath.Join(o.dir, "web"), 0)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, b.stop()) }()
	n := o.messages / o.rounds
	run := 0
	carry := func(transport string) (s spent, err error) {
		run++
		pub, err := anyqueue.OpenPublisher(b.config("sender", transport), silent)
		if err != nil {
			return s, err
		}
		defer func() { err = errors.Join(err, pub.Close()) }()
		rec, err := anyqueue.OpenReceiver(b.config("listener", transport), nil, silent)
		if err != nil {
			return s, err
		}
		defer func() { err = errors.Join(err, rec.Close()) }()
		return meter(&b.queueProcess, func() error {
			ctx, cancel := context.WithTimeout(ctx, roundTime)
			defer cancel()
			for i := 0; i < n; {
				var msgs []queue.Message
				for ; i < n && len(msgs) < rawBatch; i++ {
					msgs = append(msgs, queue.Message{ID: fmt.Sprintf("%d-%d", run, i), Body: make([]byte, 8<<10)})
				}
				if _, err := pub.Publish(ctx, msgs); err != nil {
					return err
				}
			}
			for left := n; left > 0; {
				got, err := rec.Fetch(ctx, rawBatch)
				if err != nil {
					return err
				}
				left -= len(got)
				if err := rec.Settle(ctx, got); err != nil {
					return err
				}
			}
			return nil
		})
	}
	var web, plain []spent
	for round := 0; round <= o.rounds; round++ {
		o.progress("websocket: round %d of %d", round, o.rounds)
		order := []string{busqueue.WebSocket, busqueue.AMQP}
		if round%2 == 1 {
			order[0], order[1] = order[1], order[0]
		}
		for _, transport := range order {
			s, err := carry(transport)
			switch {
			case err != nil:
				return nil, err
			case round == 0:
			case transport == busqueue.WebSocket:
				web = append(web, s)
			default:
				plain = append(plain, s)
			}
		}
	}
	r := &row{Name: "bus-websocket", What: "published, fetched and settled over WebSockets, beside plain TLS", Goal: fmt.Sprintf("≥ %.1f", webGoal)}
	r.Ours, r.Limit, r.Ratio = rates(n, web, plain)
	r.Met = r.Ratio >= webGoal
	r.note("%d rounds of %s messages of 8 KiB in turns", o.rounds, thousands(int64(n)))
	r.spread(web, plain)
	return []*row{r}, nil
}
