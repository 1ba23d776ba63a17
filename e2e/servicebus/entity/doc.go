// Package entity is what a Service Bus queue or subscription does with
// messages, as rules without wires or clocks: sequence numbers, peek-lock and
// settlement, lock expiry, delivery counts, time to live, the dead-letter queue,
// scheduled and deferred messages, sessions, duplicate detection and quota.
//
// The time is an argument of everything that depends on it. A Queue is not safe
// for concurrent use; whoever owns it holds a lock.
//
// What the public documentation leaves open is decided here and said where it
// is: a dead-lettered message keeps its sequence number and enqueued time; a
// message whose time to live runs out while it is locked is judged when the lock
// ends.
package entity
