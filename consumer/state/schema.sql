-- The consumer's tables. Names, types and values stand in files for years: change them only by a new
-- version with a migration. Times are milliseconds since the epoch, UTC; digests are 32 octets;
-- issuers, streams and subjects are the text of the messages. The ledger's tables stand beside these.

-- Facts about the file itself: enclave (its URI, pinned at init), id (random, tells two databases apart),
-- created; and single facts for which a table would be too much, such as unnamed:KEY, whom a roster left out.
CREATE TABLE meta (
  key   TEXT PRIMARY KEY,
  value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- Signing keys that an operator trusts, each for one stream of one issuer and some kinds of event.
-- A retired key is good up to (retired_generation, retired_seq) and stays here for ever.
CREATE TABLE trusted_key (
  kid                TEXT PRIMARY KEY,          -- RFC 7638 thumbprint
  iss                TEXT NOT NULL,
  stream             TEXT NOT NULL,
  alg                TEXT NOT NULL,
  public             BLOB NOT NULL,             -- PKIX, DER
  kinds              TEXT NOT NULL,             -- names of event kinds, joined by commas
  not_before         INTEGER NOT NULL,          -- 0: unbounded
  not_after          INTEGER NOT NULL,          -- 0: unbounded
  state              TEXT NOT NULL CHECK (state IN ('active', 'retired')),
  retired_generation INTEGER NOT NULL DEFAULT 0,
  retired_seq        INTEGER NOT NULL DEFAULT 0,
  added_at           INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- One generation of a producer's stream as far as it was followed. A generation without a row is not
-- accepted: an operator opens it.
CREATE TABLE stream (
  ref          INTEGER PRIMARY KEY,
  iss          TEXT NOT NULL,
  stream       TEXT NOT NULL,
  generation   INTEGER NOT NULL,
  state        TEXT NOT NULL CHECK (state IN ('live', 'forked', 'closed')), -- closed: a later generation was opened
  joined_seq   INTEGER NOT NULL,                -- the first seq that was expected here
  head_seq     INTEGER NOT NULL,                -- everything from joined_seq up to it is known
  head_hash    BLOB NOT NULL,                   -- SHA-256 of that message's payload; zeros before seq 1
  highest_seq  INTEGER NOT NULL,                -- the furthest ever seen, past gaps
  gap_since    INTEGER NOT NULL DEFAULT 0,      -- 0: no gap now
  fork_seq     INTEGER NOT NULL DEFAULT 0,      -- where a fork was first seen; 0: nowhere
  covered_seq  INTEGER NOT NULL DEFAULT 0,      -- head of the last roster that stood in for missing messages; 0: none did
  unrostered   INTEGER NOT NULL DEFAULT 0,      -- 1: joined in its middle, and no roster came yet: gives nothing
  ruled_out_seq INTEGER NOT NULL DEFAULT 0,     -- the furthest of branches that an operator ruled out; 0: there were none
  issued_at    INTEGER NOT NULL DEFAULT 0,      -- iat of the head
  heartbeat_iat INTEGER NOT NULL DEFAULT 0,     -- the latest iat of a valid heartbeat, never in our future
  heartbeat_at INTEGER NOT NULL DEFAULT 0,      -- when that one came
  received_at  INTEGER NOT NULL DEFAULT 0,      -- when the last verified message came
  opened_at    INTEGER NOT NULL,
  UNIQUE (iss, stream, generation)
) STRICT;

-- Every message that a trusted key signed for a known generation: the archive, and the waiting room of
-- those that come after a gap or are of a version that this program does not know.
CREATE TABLE message (
  id          INTEGER PRIMARY KEY,              -- order of arrival
  stream_ref  INTEGER NOT NULL REFERENCES stream (ref),
  seq         INTEGER NOT NULL,
  payload     BLOB NOT NULL,                    -- digest of the JWS payload: "same message" is judged by it
  prev        BLOB NOT NULL,                    -- digest that the message itself states for seq - 1
  wire        BLOB NOT NULL,                    -- digest of the bytes as they came
  jti         TEXT NOT NULL,
  kid         TEXT NOT NULL,
  event       TEXT NOT NULL,                    -- kind, also of refused content where it could be read
  subject     TEXT NOT NULL,                    -- empty for heartbeat and roster
  disposition INTEGER NOT NULL,                 -- admit.Disposition
  code        TEXT NOT NULL,                    -- why, unless it was admitted
  received_at INTEGER NOT NULL,
  decided_at  INTEGER NOT NULL,                 -- when it got the disposition that it has
  jws         BLOB NOT NULL,                    -- compact form, packed: pack.go
  UNIQUE (stream_ref, seq, payload)
) STRICT;

-- Messages that may become valid when trust, keys or the clock change, as they came. Not opened, or
-- opened and not believed.
CREATE TABLE parked (
  id          INTEGER PRIMARY KEY,              -- order of arrival
  wire        BLOB NOT NULL UNIQUE,             -- digest of body
  code        TEXT NOT NULL,
  kid         TEXT NOT NULL,                    -- the key that it names; unbelieved
  size        INTEGER NOT NULL,                 -- octets of body; the quota counts them
  body        BLOB NOT NULL,
  received_at INTEGER NOT NULL,
  tried_at    INTEGER NOT NULL
) STRICT;
CREATE INDEX parked_kid ON parked (kid, size);

-- Refusals and repetitions of the interval under way, by code. What is over the rate is only counted
-- here and becomes one ledger entry when the interval ends.
CREATE TABLE refused (
  code    TEXT PRIMARY KEY,
  since   INTEGER NOT NULL,                     -- start of the interval
  listed  INTEGER NOT NULL,                     -- recorded one by one
  counted INTEGER NOT NULL,                     -- recorded by the summary only
  octets  INTEGER NOT NULL,                     -- of the counted ones
  chain   BLOB NOT NULL                         -- SHA-256 over (chain before, wire digest) of the counted ones
) STRICT, WITHOUT ROWID;

-- Rosters of a stream: while their parts come in, while a whole one is applied, and what became of them. The
-- statements are in the messages that roster_part names.
CREATE TABLE roster (
  stream_ref      INTEGER NOT NULL REFERENCES stream (ref),
  id              TEXT NOT NULL,
  parts           INTEGER NOT NULL,
  digest          BLOB NOT NULL,                -- that every part states for the whole
  head_generation INTEGER NOT NULL,
  head_seq        INTEGER NOT NULL,
  head_hash       BLOB NOT NULL,
  issued_at       INTEGER NOT NULL,             -- iat, from which leases are renewed
  seen            INTEGER NOT NULL,             -- parts that are here, in any order
  live            INTEGER NOT NULL,             -- statements in them
  closed          INTEGER NOT NULL,
  state           TEXT NOT NULL CHECK (state IN ('collecting', 'verified', 'applied', 'broken')),
  overtaken       INTEGER NOT NULL DEFAULT 0,   -- of a verified one: up to which seq what waited is put aside
  done            INTEGER NOT NULL DEFAULT 0,   -- and how many parts are applied
  cursor          TEXT NOT NULL DEFAULT '',     -- and up to which subject those whom it does not name were looked for
  named           INTEGER NOT NULL DEFAULT 0,   -- persons of whom it said what was known, or what is so now
  changed         INTEGER NOT NULL DEFAULT 0,   -- persons of whom it said anything new
  against         INTEGER NOT NULL DEFAULT 0,   -- live by its word, and ended by a leaver's
  against_ids     TEXT NOT NULL DEFAULT '[]',   -- the first of these, JSON
  unnamed         INTEGER NOT NULL DEFAULT 0,   -- persons with access whom it does not name
  since           INTEGER NOT NULL,
  done_at         INTEGER NOT NULL DEFAULT 0,
  PRIMARY KEY (stream_ref, id)
) STRICT, WITHOUT ROWID;

CREATE TABLE roster_part (
  stream_ref INTEGER NOT NULL,
  id         TEXT NOT NULL,
  part       INTEGER NOT NULL,
  seq        INTEGER NOT NULL,                  -- of the message that carries it
  live       INTEGER NOT NULL DEFAULT 0,        -- of a verified roster's part that states nobody as closed: how many it states,
  first      TEXT NOT NULL DEFAULT '',          -- from this person
  last       TEXT NOT NULL DEFAULT '',          -- to this one,
  statements BLOB NOT NULL DEFAULT x'',         -- and the digest over the digests of the statements
  PRIMARY KEY (stream_ref, id, part)
) STRICT, WITHOUT ROWID;

-- Everyone of whom anything was ever said. Intake writes doc and raises the lane; the executor writes
-- account and settles the lane. rev counts intake's writes and the dates that came, so that the executor
-- notices that it worked on an older state.
CREATE TABLE subject (
  iss      TEXT NOT NULL,
  subject  TEXT NOT NULL,
  doc      TEXT NOT NULL,                       -- fence.Subject, JSON
  rev      INTEGER NOT NULL,
  lane     INTEGER NOT NULL,                    -- plan.Lane
  due      INTEGER NOT NULL,
  urgent   INTEGER NOT NULL,                    -- 1: an urgent leaver
  attempts INTEGER NOT NULL DEFAULT 0,          -- failures in a row
  note     TEXT NOT NULL DEFAULT '',            -- code of what it waits for, for operators
  fact_at  INTEGER NOT NULL,                    -- when the last fact came
  next_at  INTEGER NOT NULL DEFAULT 0,          -- when what was said takes effect by its date, whatever waits in lane; 0: never
  counted  INTEGER NOT NULL DEFAULT 0,          -- the rev whose effect is among the limits' effects
  taken    INTEGER NOT NULL DEFAULT 0,          -- the same of roles that were taken: one fact may take and give
  lacking  INTEGER NOT NULL DEFAULT 0,          -- the rev for which a look showed that something is to be given, or cut
  sifted   INTEGER NOT NULL DEFAULT 0,          -- the rev that was judged for whether what is due to give takes something too
  said_at  INTEGER NOT NULL DEFAULT 0,          -- iat of the last event or roster that named the person: leases count from it
  lease_at INTEGER NOT NULL DEFAULT 0,          -- when a lease of the person is to be looked at again; 0: at any time
  lease_end INTEGER NOT NULL DEFAULT 0,         -- lease_at, where a lease ends then; else something that is not due is looked at
  extended INTEGER NOT NULL DEFAULT 0,          -- an operator let leases last at least until then
  stated_generation INTEGER NOT NULL DEFAULT 0, -- with the next one the head of the last roster that named the person
  stated_seq        INTEGER NOT NULL DEFAULT 0,
  unnamed  INTEGER NOT NULL DEFAULT 0,          -- 1: has access and the last roster does not name the person: nothing more is given
  locked   INTEGER NOT NULL DEFAULT 0,          -- 1: cut by an operator, as doc says
  word     BLOB NOT NULL DEFAULT x'',           -- digest of a roster's statement that says what doc does; empty: none is known to
  cut_by   INTEGER NOT NULL DEFAULT 0,          -- when a cut that holds by limits kept waiting happens at the latest, whatever else is said of the person; 0: none does
  take_by  INTEGER NOT NULL DEFAULT 0,          -- the same of roles that are to be taken
  account  TEXT NOT NULL DEFAULT '',            -- what the executor knows of the account, JSON
  PRIMARY KEY (iss, subject)
) STRICT, WITHOUT ROWID;
CREATE INDEX subject_work ON subject (lane, urgent, due) WHERE lane > 0;
CREATE INDEX subject_unsifted ON subject (due) WHERE lane = 4 AND sifted <> rev;
CREATE INDEX subject_next ON subject (next_at) WHERE next_at > 0;
CREATE INDEX subject_locked ON subject (iss, subject) WHERE locked = 1;
CREATE INDEX subject_said ON subject (said_at, lease_at);

-- What waits for a rule's end or an operator. digest is SHA-256 of shown: a release names it, so it
-- releases exactly what was shown.
CREATE TABLE hold (
  id      INTEGER PRIMARY KEY AUTOINCREMENT,
  code    TEXT NOT NULL,
  iss     TEXT NOT NULL,                        -- empty where many subjects are held together
  subject TEXT NOT NULL,
  digest  BLOB NOT NULL,
  shown   TEXT NOT NULL,                        -- JSON
  created INTEGER NOT NULL,
  expires INTEGER NOT NULL,                     -- when the rule ends by itself; 0: only by an operator
  state   TEXT NOT NULL CHECK (state IN ('open', 'released', 'discarded', 'ended')),
  lapses  INTEGER NOT NULL DEFAULT 0,           -- of discarded cuts: when they come back; 0: they do not, or did
  leaning TEXT NOT NULL DEFAULT '',             -- what the operators in by want, while one more must agree
  leaned  INTEGER NOT NULL DEFAULT 0,           -- when the last of them said so
  ended   INTEGER NOT NULL DEFAULT 0,
  by      TEXT NOT NULL DEFAULT '',             -- OS logins, joined by commas
  reason  TEXT NOT NULL DEFAULT ''
) STRICT;
CREATE INDEX hold_open ON hold (iss, subject, code) WHERE state = 'open';
CREATE INDEX hold_expires ON hold (expires) WHERE state = 'open' AND expires > 0;

-- Alarms that stand. Raised and cleared together with their cause; each transition is on the ledger.
CREATE TABLE alarm (
  code     TEXT NOT NULL,
  key      TEXT NOT NULL,                       -- what it is about, such as a stream, or a person as subject@iss; ids only
  severity INTEGER NOT NULL,
  since    INTEGER NOT NULL,
  last     INTEGER NOT NULL,
  text     TEXT NOT NULL,
  PRIMARY KEY (code, key)
) STRICT, WITHOUT ROWID;

-- How far each queue was read: the adapter's own mark.
CREATE TABLE position (
  queue TEXT PRIMARY KEY,
  value BLOB NOT NULL
) STRICT, WITHOUT ROWID;

-- User names in use and those that a leaver had: kept from everyone else for two years after.
CREATE TABLE upn (
  upn      TEXT PRIMARY KEY,                    -- lower case
  iss      TEXT NOT NULL,
  subject  TEXT NOT NULL,
  taken_at INTEGER NOT NULL,
  freed_at INTEGER NOT NULL DEFAULT 0           -- 0: in use
) STRICT, WITHOUT ROWID;

-- Effects counted against limits, by minute and class (give, cut, ...).
CREATE TABLE effect (
  at    INTEGER NOT NULL,                       -- start of the minute
  class TEXT NOT NULL,
  n     INTEGER NOT NULL,
  PRIMARY KEY (at, class)
) STRICT, WITHOUT ROWID;

-- Intents on the ledger without an outcome: what a crash leaves behind to be looked at.
CREATE TABLE intent (
  idx     INTEGER PRIMARY KEY,                  -- ledger index
  iss     TEXT NOT NULL,
  subject TEXT NOT NULL,
  ops     TEXT NOT NULL,                        -- JSON
  at      INTEGER NOT NULL
) STRICT;
CREATE INDEX intent_subject ON intent (iss, subject);

-- Who waits for whose account, to be given that person as manager.
CREATE TABLE awaits_manager (
  iss     TEXT NOT NULL,
  manager TEXT NOT NULL,                        -- subject id
  subject TEXT NOT NULL,
  PRIMARY KEY (iss, manager, subject)
) STRICT, WITHOUT ROWID;

-- Accounts that bore the bridge's mark when this database was made in place of a lost one, and whose person nobody
-- has spoken for yet.
CREATE TABLE unclaimed (
  account  TEXT PRIMARY KEY,                    -- object id
  mark     TEXT NOT NULL,
  enabled  INTEGER NOT NULL,                    -- when it was found
  member   TEXT NOT NULL DEFAULT '[]',          -- object ids of the policy's groups in which it was then, JSON
  found_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX unclaimed_mark ON unclaimed (mark);
