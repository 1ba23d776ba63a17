// Package schema is the contract between producer and enclave: the events, their strict codec, their
// limits and their JSON Schemas. event.md specifies it; comments cite its sections as event.md §n.
//
// It trusts nothing in a payload, but it is not the place where a payload becomes believable: callers
// verify the signature over the octets as received first (package envelope) and decode them then.
//
// Invariants: a payload that Decode accepts encodes to the same octets, so that "same message" can be
// judged by octets; Encode writes nothing that Decode refuses; the cut core of a leaver or suspend
// (DecodeCutCore) is readable in every version to come. Everything here is pure: no clock, network, disk
// or log.
package schema
