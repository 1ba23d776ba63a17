package schema

// Limits on what crosses the wire. Both sides hold them: the producer refuses to write what the
// consumer would refuse to read.
const (
	MaxWire    = 192 << 10 // octets of one queue message (JWE compact); Service Bus Standard takes 256 KiB
	MaxPayload = 104 << 10 // octets of one JWS payload: twice base64url-coded and framed it stays under MaxWire

	// SizeClass is the payload size, in octets, to which every event and heartbeat is padded, so
	// that size does not tell a leaver from a joiner. An event that does not fit is refused by the
	// producer; only roster parts are larger.
	SizeClass = 2048

	MaxSubjectID = 64  // octets of sub_id.id and manager.value, printable ASCII without space
	MaxText      = 256 // octets of one person attribute
	MaxRoles     = 64  // role names in one event
	MaxRole      = 64  // octets of one role name
	MaxReason    = 64  // octets of a leaver's or suspend's reason
	MaxTxn       = 128 // octets
	MaxURI       = 255 // octets of iss and aud
	MaxStreamID  = 64  // octets of stream.id

	MaxCuts        = 1 << 24 // cuts that a heartbeat may count
	MaxRosterParts = 4096    // parts of one roster
	MaxEngagement  = 1 << 20 // a person's employments under one subject id; also stops a fast-forward
	MaxGeneration  = 1 << 20 // restores of one producer
	MaxSeq         = 1 << 53 // exact in every JSON reader

	maxInstant = 253402300799 // seconds: 9999-12-31T23:59:59Z, the last that RFC 3339 can write
)
