// Package verify is the auditor's own reading of a published ledger: a second opinion on what the bridge
// says that it did.
//
// It is given a folder and public keys, and believes nothing but the keys. From the signed checkpoint it
// derives the tree anew; from the archived messages, whose signatures it checks itself, it derives the
// chain of every stream, what each person was entitled to at every moment, and from that whether every
// operation on the tenant was allowed, explained and answered, and how long every cut took.
//
// Its worth is that it shares no judgement with the program that it checks. Of the bridge's code it uses
// the forms (schema, internal/ledger/entry) and the reader of tiles (internal/ledger/tiles, itself held
// to the tree computed here). Signatures, keys, the archive, chains, fences and the rules on intents are
// written again, from schema/*.md. It reaches no network, no database and no code of admission, fences,
// planning or execution; tests on imports hold that.
//
// Memory grows with the number of persons and of cuts, not with that of entries.
package verify
