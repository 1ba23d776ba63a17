package entra

import "time"

// Limits.
const (
	defaultTimeout = 45 * time.Second // of an operation; above cloud.TokenTimeout, so that its reason is heard
	maxAnswer      = 8 << 20          // octets of an answer; a page of 999 memberships takes 200 KiB
	maxErrorAnswer = 64 << 10         // octets of an error answer that are looked at
	maxPages       = 100              // of one list; 999 memberships or 100 accounts each
	pageSize       = 999              // memberships; Graph's own maximum
	maxRetryAfter  = 24 * time.Hour   // a wait asked for beyond this is not believed
	dropInterval   = 10 * time.Second // between two renewals of a refused credential, so that refusals cannot flood the authority
)
