// Package tenant is a directory tenant to rehearse against: Entra's token
// endpoint and the part of Microsoft Graph v1.0 that a lifecycle bridge uses,
// over TLS on loopback, in memory.
//
// It answers as Microsoft documents it: status codes, error bodies, quotas,
// replication delay and the known traps. Where a text or code is not
// documented, the nearest documented shape is used and a comment says so. On
// top of that, a control surface that is not part of Graph injects faults
// (answers lost before or after the write took effect, 5xx, broken bodies,
// revoked tokens, outages), tells what happened (the journal) and what is
// (the snapshot).
//
// Trust: nothing here protects anything. Secrets are random for each start,
// the listeners refuse any address that is not loopback unless the tenant is
// given a name on a private network, and the journal holds whatever callers
// sent, except passwords, client secrets and tokens. Passwords are told by the
// control API alone, from memory.
//
// The package shares no code with the Graph adapter that is tested against it:
// a misreading of Graph there must not be repeated here.
//
// Invariant: state changes only inside apply, under the tenant's lock, and
// each request that changed something is in the journal before its answer
// leaves.
package tenant
