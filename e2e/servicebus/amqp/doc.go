// Package amqp is the part of AMQP 1.0 that the far end of a connection needs:
// the type system, the frames with their performatives, and the sections of a
// message. It reads and writes bytes and knows no connection.
//
// Everything that comes in is bounded by limits.go and by the bytes that are
// there: a count or a size never makes it allocate more than it was given. What
// is not valid AMQP is an error, never a guess.
package amqp
