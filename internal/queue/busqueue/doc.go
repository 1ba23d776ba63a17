// Package busqueue is the queue on Azure Service Bus, by the azservicebus client.
//
// Trusted: nothing that the service says, beyond having confirmed what it confirmed; see package queue. TLS
// keeps the credential and the traffic's shape from the network between, not from whoever runs the service.
// The one invariant: Publish counts a message only after the service accepted the batch that it is in, and
// Settle succeeds only after every message was completed or its lock was lost. Nothing but the id goes into a
// message beside its body: no application property, no subject.
//
// The client library has habits that this package works around, each seen: results of nothing, also without
// end (a wedged link spins), panics on what any sender can set, settlements that hang and reset a healthy
// connection, deliveries that it hands back while nobody asks. So each receiver has a connection of its own and
// always a receive pending; every call runs guarded and with a deadline; a link that looks wedged is
// given up together with its connection. A reply that kills the process cannot be worked around here: programs run this
// package in a child process (package childqueue).
//
// Order. Our chain needs none from the queue, but a message that overtakes another one looks like a gap for a
// moment. What the client alone does with an endpoint 15 ms away (BenchmarkOrder, messages a second, and those in a
// thousand that came after a later one):
//
//	                          sent   received and completed   overtaken
//	plain, 500 at a time      4,100  5,200                    0 to 6
//	with a partition key      4,200  4,900                    1 to 7
//	in a session              4,100  5,300                    0 to 4
//	in a session, 10          3,400    560                    0
//	in a session, one         3,200     59                    0
//
// None of the first three is faster than runs of one differ, and each is disordered by the client itself, which hands
// back what comes between two calls. Only a session asked for few messages at a time is in order, at a tenth of the
// speed and less. It would cost more than that: its lock ends with its link, so that what was under way can be settled no more
// and all of it comes again, and one receiver has to keep the lock alive. A partition key costs nothing and orders only what a partitioned
// queue disorders; in one it would stop us while that one partition is away, where without it we go on by another. The
// endpoint has no partitions, so this is the documented behaviour and was not seen. So the queue is a plain one, what comes is
// put in order of its sequence number (which decides nothing else), and a hole is waited for a moment.
//
// Dead letters. What the service sets aside, because it waited too long or was delivered too often, is fetched
// as well and marked: a leaver that was set aside must not be a silent one.
//
// Dark pull. A dark receiver peeks, which needs the right to listen all the same (Service Bus has none that
// only looks), and settles nothing: the service does not see how far we are. The cursor is its sequence number. It
// looks at the dead letters too, at least every second while the queue always has something new. Where what came makes the client
// panic, its answer is read from the connection, past the client: whoever may send could else stop us by one message, whose number
// the panic does not tell.
package busqueue
