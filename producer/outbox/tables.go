package outbox

import (
	"jmlbridge/internal/ledger"
	"jmlbridge/internal/store"
)

// Schema is the producer's database. Its names are a format: older files are migrated, never misread.
var Schema = store.Schema{
	App:     0x4a4d4c50, // "JMLP"
	Name:    "the producer",
	Version: 5,
	DDL:     ledger.DDL + ddl + courier,
	Migrations: map[int]string{
		1: "ALTER TABLE outbox ADD COLUMN resent INTEGER NOT NULL DEFAULT 0",
		2: "ALTER TABLE producer ADD COLUMN kid TEXT NOT NULL DEFAULT ''",
		3: courier,
		4: "ALTER TABLE person ADD COLUMN barred INTEGER; ALTER TABLE chain ADD COLUMN restored INTEGER NOT NULL DEFAULT 0",
	},
}

const courier = `
CREATE TABLE courier ( -- the process that speaks to an enclave's mid-point, where it was replaced since the run began
	chain    INTEGER PRIMARY KEY REFERENCES chain,
	replaced INTEGER NOT NULL, -- how often
	last     INTEGER NOT NULL, -- milliseconds
	why      TEXT NOT NULL     -- the last time
) STRICT;
`

const ddl = `
CREATE TABLE producer ( -- one row: whose database this is
	one    INTEGER PRIMARY KEY CHECK (one = 1),
	issuer TEXT NOT NULL,
	stream TEXT NOT NULL,
	kid    TEXT NOT NULL DEFAULT '' -- of the signing key that was switched to; empty: the configured one from the beginning
) STRICT;
CREATE TABLE chain ( -- one for each enclave
	ref         INTEGER PRIMARY KEY,
	aud         TEXT NOT NULL UNIQUE,
	generation  INTEGER NOT NULL,
	seq         INTEGER NOT NULL,           -- of the last message; 0 before the first
	head        BLOB NOT NULL,              -- SHA-256 of its payload octets; zero before the first
	last_iat    INTEGER NOT NULL DEFAULT 0, -- seconds; iat never goes back
	cut_after   INTEGER NOT NULL DEFAULT 0, -- seq of the last cut that a heartbeat repeated
	heartbeat   INTEGER NOT NULL DEFAULT 0, -- iat of the last heartbeat, seconds
	roster      INTEGER NOT NULL DEFAULT 0, -- iat of the last roster, seconds
	roster_head INTEGER NOT NULL DEFAULT 0, -- seq at which it was taken
	roster_last INTEGER NOT NULL DEFAULT 0, -- seq of its last part
	restored    INTEGER NOT NULL DEFAULT 0  -- 1 from a recovery until a file that names everyone was imported
) STRICT;
CREATE TABLE person ( -- the register: what was last said
	chain   INTEGER NOT NULL REFERENCES chain,
	subject TEXT NOT NULL,
	status  TEXT NOT NULL,
	said    INTEGER NOT NULL, -- when doc was last changed, seconds: rosters repeat closings by it
	until   INTEGER,          -- announced end of a live engagement, seconds
	doc     TEXT NOT NULL,    -- register.State
	barred  INTEGER,          -- since or from when an operator has a live engagement suspended, seconds
	PRIMARY KEY (chain, subject)
) STRICT, WITHOUT ROWID;
CREATE INDEX person_until ON person (chain, until) WHERE until IS NOT NULL;
CREATE TABLE outbox (
	id         INTEGER PRIMARY KEY AUTOINCREMENT, -- in the order of commits
	chain      INTEGER NOT NULL REFERENCES chain,
	generation INTEGER NOT NULL,
	seq        INTEGER NOT NULL,
	jti        TEXT NOT NULL,
	event      TEXT NOT NULL,
	subject    TEXT NOT NULL,
	stored     INTEGER NOT NULL, -- milliseconds
	sent       INTEGER,          -- milliseconds; when the mid-point confirmed it
	resent     INTEGER NOT NULL DEFAULT 0, -- how often an operator had it published again
	UNIQUE (chain, generation, seq)
) STRICT;
CREATE INDEX outbox_unsent ON outbox (chain, id) WHERE sent IS NULL;
CREATE TABLE wire ( -- apart from outbox, so that marking a message does not write its octets again
	id   INTEGER PRIMARY KEY REFERENCES outbox ON DELETE CASCADE,
	body BLOB NOT NULL -- what is published, for ever the same
) STRICT;
CREATE TABLE cut ( -- leavers and suspensions of the live generation, repeated by heartbeats
	chain      INTEGER NOT NULL REFERENCES chain,
	seq        INTEGER NOT NULL,
	subject    TEXT NOT NULL,
	engagement INTEGER NOT NULL,
	kind       TEXT NOT NULL,
	effective  INTEGER NOT NULL, -- seconds
	stored     INTEGER NOT NULL, -- seconds
	PRIMARY KEY (chain, seq)
) STRICT, WITHOUT ROWID;
`
