package tenant

import "time"

// Every bound of the tenant, with its unit. Those marked (documented) are
// Graph's own; the others keep the rehearsal small.
const (
	maxBodyBytes  = 4 << 20 // bytes of one request body, after decompression
	maxFilter     = 4096    // bytes of one $filter
	maxFilterDeep = 32      // nesting of one $filter
	maxFilterIn   = 15      // values in one "in (…)" (documented)

	defaultPage = 100 // objects a page (documented)
	maxPage     = 999 // $top at most (documented)

	maxCheckGroups = 20 // group ids in one checkMemberGroups (documented)
	maxOtherMails  = 250
	maxExtension   = 256 // characters in a directory extension (documented)

	deletedKept = 30 * 24 * time.Hour // soft-deleted users can be restored so long (documented)

	assertionSkew = 5 * time.Minute // clock difference forgiven in a client assertion

	defaultTokenLife = time.Hour      // of an ordinary access token
	defaultCAELife   = 24 * time.Hour // of a token under continuous access evaluation (documented: up to 28 h)
	defaultKeep      = 50_000         // journal entries kept in memory
	certificateLife  = 10 * 365 * 24 * time.Hour

	againTime = 10 * time.Second // real time, for our own address to be free again
)
