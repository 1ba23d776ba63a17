// Package broker is a Service Bus namespace to rehearse against: the far end of
// the socket for unmodified clients, over AMQP 1.0 on TLS and on TLS WebSocket.
// Everything is in memory; [Broker.Stop] and [Broker.Start] keep it.
//
//	b, err := broker.Start(broker.Config{Queues: []broker.Queue{{Name: "jml"}}})
//	client, err := azservicebus.NewClientFromConnectionString(b.ConnectionString("listener"),
//		&azservicebus.ClientOptions{TLSConfig: b.TLSConfig()})
//
// It really does: SASL ANONYMOUS; tokens at $cbs, shared access signatures and
// Entra's, judged by signature, audience, end and rights; peek-lock and
// receive-and-delete with every outcome; locks that run out; delivery counts;
// time to live; the dead-letter queue; deferred and scheduled messages; sessions;
// topics that copy to subscriptions; duplicate detection; batches and bodies of
// many frames; credit and windows; quota and size limits; and of $management what
// the clients call: renew-lock, renew-session-lock, update-disposition,
// peek-message, receive-by-sequence-number, schedule-message,
// cancel-scheduled-message, get- and set-session-state, get-message-sessions.
//
// It has no: transactions, transfer queues and forwarding, filters and rules of
// subscriptions, partitions, administration (entities come from the Config),
// scheduling on topics over $management, geo-recovery, other SASL mechanisms. Who
// asks for one of these gets the condition amqp:not-implemented where AMQP lets it
// be asked. It remembers nothing beyond its process, and links never idle out.
//
// # Faults
//
// It can fail and misbehave in each way that clients must bear, at run time: a
// [Fault] strikes one kind of operation ([Point]) in one way ([Kind]), so often
// and on so much as it says; verbs of the Broker break what is open at once.
// Several faults are known to trip azservicebus v1.11.0 itself; the tests of this
// package show how.
//
// # Time
//
// Locks, lives and tokens follow Config.Clock, so a test turns a [ManualClock]
// and never sleeps. In a bubble of testing/synctest real time is virtual already:
// take [PipeOnly] and [Broker.Pipe].
package broker
