package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"jmlbridge/consumer/admit"
	"jmlbridge/consumer/intake"
	"jmlbridge/consumer/ruling"
	"jmlbridge/consumer/state"
	"jmlbridge/internal/command"
	"jmlbridge/internal/keys"
	"jmlbridge/internal/ledger/entry"
	"jmlbridge/internal/program"
	"jmlbridge/internal/store"
	"jmlbridge/schema"
)

func (a *app) trustCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "trust",
		Short: "Whose word is taken: producers' keys, streams and generations",
		Long: `trust says whose messages are believed. A producer hands its card (a public file that "producer init"
leaves) to an operator of the enclave by a way that both trust; adding it follows the producer's stream
from its beginning, or from a head that both agree on. Every change is on the ledger with the login of
who made it, and takes effect while "run" is running.`,
		GroupID: "setup",
		Args:    command.NoArgs,
		RunE:    command.Help,
	}
	cmd.AddCommand(a.trustAdd(), a.trustList(), a.trustRetire(), a.trustRevoke(), a.trustGeneration())
	return cmd
}

// start is where a stream is joined, as flags.
type start struct {
	atSeq uint64
	hash  string
}

func (s *start) flags(cmd *cobra.Command) {
	cmd.Flags().Uint64Var(&s.atSeq, "at-seq", 1, "first `number` to follow; past 1 with --head-hash")
	cmd.Flags().StringVar(&s.hash, "head-hash", "", "`digest` of the payload of the message before --at-seq, as the producer's status shows it")
}

func (s *start) pin(generation int) (state.Pin, error) {
	p := state.Pin{Generation: generation}
	if s.atSeq < 1 || s.atSeq > schema.MaxSeq {
		return p, command.Usagef("--at-seq: want 1 to %d, got %d", uint64(schema.MaxSeq), s.atSeq)
	}
	p.Head = s.atSeq - 1
	if (p.Head == 0) != (s.hash == "") {
		return p, command.Usagef("want --head-hash with an --at-seq past 1, and only then: it names the message before it")
	}
	if s.hash != "" {
		if err := p.Hash.UnmarshalText([]byte(s.hash)); err != nil {
			return p, command.Usagef("--head-hash: %w", err)
		}
	}
	return p, nil
}

// by is who acts now, and why.
func (a *app) by(reason string) (state.By, error) {
	if len(reason) > entry.MaxText {
		return state.By{}, command.Usagef("--reason: want at most %d octets, which is what the ledger keeps of it, got %d", entry.MaxText, len(reason))
	}
	login, err := a.who()
	return state.By{Login: login, Reason: reason, Now: a.now()}, err
}

func (a *app) trustAdd() *cobra.Command {
	var s start
	var reason, expect string
	cmd := &cobra.Command{
		Use:   "add CARD",
		Short: "Trust the keys on a producer's card and follow its stream",
		Example: `  consumer trust add producer-card.json --expect 3bYcZ... --reason "handed over by J. Roe, key id read out, 12 May"
  consumer trust add producer-card.json --expect 3bYcZ... --at-seq 4711 --head-hash 9k2... --reason "joining late"`,
		Args: command.Exactly("CARD"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := readCard(args[0])
			if err != nil {
				return err
			}
			pin, err := s.pin(c.Generation)
			if err != nil {
				return err
			}
			return a.acting(cmd.Context(), reason, "say how the card came", func(db *state.DB, cfg *Config, by state.By) error {
				if err := c.fits(cfg, expect); err != nil {
					return err
				}
				var added []string
				err := db.Tx(cmd.Context(), func(tx *store.Tx) (err error) {
					if err := c.foretold(tx, expect); err != nil {
						return err
					}
					if added, err = addCard(tx, c, pin, by); err != nil {
						return err
					}
					return intake.Voices(tx, by.Now)
				})
				if err != nil {
					return err
				}
				a.tellTrusted(added, expect)
				_, err = fmt.Fprintf(a.out, "Stream %s of %s is followed, generation %d.\n", c.Stream, c.Issuer, c.Generation)
				return err
			})
		},
	}
	s.flags(cmd)
	cmd.Flags().StringVar(&reason, "reason", "", "`text` for the ledger: how the card came; required")
	cmd.Flags().StringVar(&expect, "expect", "", "`id` of the key that must be on the card, and the only new one on it, as it was told by another way")
	return cmd
}

// fits refuses a card that was made for somebody else, or is not the one that was announced.
func (c *card) fits(cfg *Config, expect string) error {
	if c.Enclave != "" && c.Enclave != cfg.Enclave.URI {
		return command.Misusef("the card was made for enclave %s; this one is %s", c.Enclave, cfg.Enclave.URI)
	}
	if expect == "" {
		return nil
	}
	var ids []string
	for _, k := range c.Keys {
		if k.ID == expect {
			return nil
		}
		ids = append(ids, k.ID)
	}
	return command.Misusef("key %s is not on the card, which has %s: do not trust it before you know why", expect, strings.Join(ids, ", "))
}

// foretold refuses a card by which a key would be trusted beside the one that was announced.
func (c *card) foretold(r state.Reader, expect string) error {
	for _, k := range c.Keys {
		if expect == "" || k.ID == expect {
			continue
		}
		if _, err := state.KeyByID(r, k.ID); errors.Is(err, state.ErrNotFound) {
			return command.Misusef("key %s is on the card beside the one of --expect, and is not known: do not trust it before you know why", k.ID)
		} else if err != nil {
			return err
		}
	}
	return nil
}

// tellTrusted says which keys are trusted from now on.
func (a *app) tellTrusted(added []string, expect string) {
	for _, kid := range added {
		fmt.Fprintf(a.out, "Trusted %s\n", kid)
	}
	if expect == "" && len(added) > 0 {
		fmt.Fprintln(a.err, "consumer: the card came without a key id to compare it with (--expect): read each id above out to the producer's people now, and `consumer trust revoke KEY --from-seq 1` what is not theirs")
	}
}

// addCard trusts the keys that are new, and opens the stream where it is not followed yet.
func addCard(tx *store.Tx, c *card, pin state.Pin, by state.By) (added []string, err error) {
	latest, err := latestGeneration(tx, c.Issuer, c.Stream)
	if err != nil {
		return nil, err
	}
	switch {
	case latest != 0 && c.Generation > latest:
		return nil, command.Misusef("stream %s of %s is followed in generation %d and the card is of %d: the producer began anew. If it says so itself, accept that with `consumer trust generation`", c.Stream, c.Issuer, latest, c.Generation)
	case latest != 0 && c.Generation < latest:
		return nil, command.Misusef("stream %s of %s is followed in generation %d and the card is of %d: it is an old card", c.Stream, c.Issuer, latest, c.Generation)
	case latest != 0 && pin.Head != 0:
		return nil, command.Misusef("stream %s of %s is followed already; --at-seq is only for its first key", c.Stream, c.Issuer)
	case latest != 0:
		pin = state.Pin{}
	}
	for _, k := range c.Keys {
		_, err := state.KeyByID(tx, k.ID)
		if err == nil {
			continue
		}
		if !errors.Is(err, state.ErrNotFound) {
			return nil, err
		}
		from, to := k.bounds()
		key := &state.Key{Public: k.der, Key: admit.Key{Issuer: c.Issuer, Stream: c.Stream, Kinds: k.Kinds, NotBefore: from, NotAfter: to}}
		if err := state.TrustKey(tx, key, pin, by); err != nil {
			return nil, err
		}
		added, pin = append(added, k.ID), state.Pin{}
	}
	if len(added) == 0 {
		return nil, command.Misusef("every key on the card is known already; `consumer trust list` shows them")
	}
	return added, nil
}

func latestGeneration(r state.Reader, iss, stream string) (latest int, err error) {
	all, err := state.Streams(r)
	for _, s := range all {
		if s.Issuer == iss && s.Name == stream {
			latest = max(latest, s.Generation)
		}
	}
	return latest, err
}

func (a *app) trustGeneration() *cobra.Command {
	var s start
	var reason, expect string
	cmd := &cobra.Command{
		Use:   "generation CARD",
		Short: "Follow the next generation of a producer's stream",
		Long: `generation accepts that a producer was restored from a backup and numbers anew ("producer recover" leaves
the card). The generation before it is closed: it may still take access away and gives nothing more.
Make sure with the producer's people that this is what happened: whoever stole its key would say so too.`,
		Example: `  consumer trust generation producer-card.json --expect 3bYcZ... --reason "restore of 3 June, ticket CHG-118"`,
		Args:    command.Exactly("CARD"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := readCard(args[0])
			if err != nil {
				return err
			}
			pin, err := s.pin(c.Generation)
			if err != nil {
				return err
			}
			return a.acting(cmd.Context(), reason, "say why this generation is accepted", func(db *state.DB, cfg *Config, by state.By) error {
				if err := c.fits(cfg, expect); err != nil {
					return err
				}
				var added []string
				err := db.Tx(cmd.Context(), func(tx *store.Tx) (err error) {
					if err := c.foretold(tx, expect); err != nil {
						return err
					}
					if err := state.TrustGeneration(tx, c.Issuer, c.Stream, pin, by); err != nil {
						return command.Misuse(err)
					}
					added, err = addCard(tx, c, state.Pin{}, by)
					if err != nil && !errors.As(err, new(*command.MisuseError)) { // else the keys stay the same: the usual case
						return err
					}
					return intake.Voices(tx, by.Now)
				})
				if err != nil {
					return err
				}
				a.tellTrusted(added, expect)
				_, err = fmt.Fprintf(a.out, "Stream %s of %s is followed in generation %d from number %d.\n", c.Stream, c.Issuer, c.Generation, s.atSeq)
				return err
			})
		},
	}
	s.flags(cmd)
	cmd.Flags().StringVar(&reason, "reason", "", "`text` for the ledger; required")
	cmd.Flags().StringVar(&expect, "expect", "", "`id` of the key that must be on the card; no other new one may be")
	return cmd
}

func (a *app) trustRetire() *cobra.Command {
	var seq uint64
	var generation int
	var reason string
	var force bool
	cmd := &cobra.Command{
		Use:   "retire KEY",
		Short: "Make a key good up to a number of its stream, or for nothing more",
		Long: `retire ends a key. With --at-seq N what it signed up to number N of its stream is believed whenever it
arrives, and nothing after it. With --at-seq 0 nothing is believed any more that is not here already. It can be
brought forward again, never put off. For a key that was stolen take "revoke". An id that begins with '-'
comes last, after "--".

It wants --force where the key signed later messages that are admitted already (they stay in force), or
where nobody would be left to sign some kind of message of a stream that is followed: whatever comes
then is refused, leavers too.`,
		Example: `  consumer trust retire 3bYcZ... --at-seq 5120 --reason "yearly change of keys"
  consumer trust retire 3bYcZ... --at-seq 0 --force --reason "the stream is given up"`,
		Args: command.Exactly("KEY"),

		ValidArgsFunction: a.completeKeys,
		RunE: func(cmd *cobra.Command, args []string) error {
			if !cmd.Flags().Changed("at-seq") {
				return command.Usagef("--at-seq: say up to which number the key is good; 0 for none")
			}
			return a.acting(cmd.Context(), reason, "say why", func(db *state.DB, _ *Config, by state.By) error {
				err := db.Tx(cmd.Context(), func(tx *store.Tx) error {
					k, err := state.KeyByID(tx, args[0])
					if err != nil {
						return command.Misusef("%w; `consumer trust list` shows the keys", err)
					}
					last := admit.Point{}
					if seq > 0 {
						if last = (admit.Point{Generation: generation, Seq: seq}); generation == 0 {
							if last.Generation, err = latestGeneration(tx, k.Issuer, k.Stream); err != nil {
								return err
							}
						}
					}
					if !force {
						if err := mayRetire(tx, k, last, by.Now); err != nil {
							return err
						}
					}
					if err := state.RetireKey(tx, args[0], last, by); err != nil {
						return command.Misuse(err)
					}
					return intake.Voices(tx, by.Now)
				})
				if err != nil {
					return err
				}
				if seq == 0 {
					_, err = fmt.Fprintf(a.out, "Key %s is good for nothing more.\n", args[0])
				} else {
					_, err = fmt.Fprintf(a.out, "Key %s is good up to number %d.\n", args[0], seq)
				}
				return err
			})
		},
	}
	cmd.Flags().Uint64Var(&seq, "at-seq", 0, "last `number` at which the key is good; required, 0 for none")
	cmd.Flags().IntVar(&generation, "generation", 0, "`generation` of --at-seq; default: the latest that is followed")
	cmd.Flags().StringVar(&reason, "reason", "", "`text` for the ledger; required")
	cmd.Flags().BoolVar(&force, "force", false, "also where messages past it are admitted already, or nobody is left to sign")
	return cmd
}

func (a *app) trustRevoke() *cobra.Command {
	var seq uint64
	var generation int
	var reason string
	cmd := &cobra.Command{
		Use:   "revoke KEY",
		Short: "A key was stolen: take back its word from a number on",
		Long: `revoke says that from number N of its stream on a key was not its owner's. What comes of it from there on is
refused, leavers too: trust the producer's next key at once. What is here in its place keeps that, so that the stream
goes on with the next key; what waits behind a gap is refused; the cuts of both stay. Where a roster of it stood in for what had not come, and nobody else's message
stands behind that, the stream goes back to before it. What it gave is listed as a hold (` + ruling.Code + `): nothing more is given on
it, and it stays until a good word comes or you decide ("consumer holds show"). It cannot be taken back.

From number 1 on it is all that the key ever signed, in every generation of the stream. From a later number on it is what
comes after it in the latest generation, or after it in --generation and all of every later one; then it says in which
earlier generations the key signed too, and with which command that is taken back.`,
		Example: `  consumer trust revoke 3bYcZ... --from-seq 5121 --reason "laptop stolen, INC-77; 5120 is the last they vouch for"
  consumer trust revoke 3bYcZ... --from-seq 1 --reason "stolen, nobody knows since when, INC-77"`,
		Args: command.Exactly("KEY"),

		ValidArgsFunction: a.completeKeys,
		RunE: func(cmd *cobra.Command, args []string) error {
			if seq < 1 || seq > schema.MaxSeq {
				return command.Usagef("--from-seq: say from which number on the key was not its owner's, 1 for all that it ever signed")
			}
			return a.acting(cmd.Context(), reason, "say why", func(db *state.DB, _ *Config, by state.By) error {
				var hold *state.Hold
				var earlier []state.Signed
				var back []*state.Stream
				silent, whole := false, seq == 1 && !cmd.Flags().Changed("generation")
				err := db.Tx(cmd.Context(), func(tx *store.Tx) error {
					k, err := state.KeyByID(tx, args[0])
					if err != nil {
						return command.Misusef("%w; `consumer trust list` shows the keys", err)
					}
					from := admit.Point{Generation: generation, Seq: seq}
					if generation == 0 {
						if from.Generation, err = latestGeneration(tx, k.Issuer, k.Stream); err != nil {
							return err
						}
					}
					if earlier, err = state.SignedBefore(tx, k.Issuer, k.Stream, k.KID, from.Generation); err != nil {
						return err
					}
					if whole { // whoever has the key can sign in any of them
						from.Generation, earlier = min(from.Generation, 1), nil
					}
					before, err := state.Streams(tx)
					if err != nil {
						return err
					}
					if hold, err = ruling.Revoke(cmd.Context(), db, tx, k.KID, from, by); err != nil {
						return err
					}
					after, err := state.Streams(tx)
					if err != nil {
						return err
					}
					for i, s := range after {
						if s.Head < before[i].Head {
							back = append(back, s)
						}
					}
					kinds, err := voiceless(tx, k, by.Now)
					silent = len(kinds) > 0
					if err != nil {
						return err
					}
					return intake.Voices(tx, by.Now)
				})
				if err != nil {
					return err
				}
				if whole {
					fmt.Fprintf(a.out, "Key %s is good for nothing, in whatever generation.\n", args[0])
				} else {
					fmt.Fprintf(a.out, "Key %s is good for nothing from number %d on.\n", args[0], seq)
				}
				for _, s := range back {
					fmt.Fprintf(a.out, "Stream %s goes on after number %d again: a roster that is not believed any more had stood in for what comes there.\n", s.Name, s.Head)
				}
				lost, err := state.Recovered(db.Read())
				if err != nil {
					return err
				}
				a.tellEarlier(args[0], earlier, !lost.IsZero())
				if silent {
					fmt.Fprintln(a.err, "consumer: nobody else may sign what it signed: what comes is refused, leavers too, until the producer's next key is trusted (`consumer trust add CARD --expect KEYID --reason TEXT`)")
				}
				return a.tellQuestion(hold)
			})
		},
	}
	cmd.Flags().Uint64Var(&seq, "from-seq", 0, "first `number` that is not its owner's word, 1 for all that it ever signed; required")
	cmd.Flags().IntVar(&generation, "generation", 0, "`generation` of --from-seq; default: the latest that is followed")
	cmd.Flags().StringVar(&reason, "reason", "", "`text` for the ledger; required")
	return cmd
}

// tellEarlier says where a key that was revoked is believed still, and how that is ended.
func (a *app) tellEarlier(kid string, earlier []state.Signed, lost bool) {
	if len(earlier) == 0 {
		return
	}
	fmt.Fprintf(a.err, "consumer: key %s signed in earlier generations of the stream too, and is believed in these still. If it was stolen by then, one of\n", kid)
	line := func(flags, what string) {
		fmt.Fprintf(a.err, "  %s\n      %s\n", command.Line("consumer trust revoke", kid, flags, "--reason TEXT"), what)
	}
	for _, s := range earlier {
		line(fmt.Sprintf("--generation %d --from-seq N", s.Generation), fmt.Sprintf("from number N of generation %d on, where it signed %d messages, of the numbers %d to %d, and all of every later generation", s.Generation, s.Count, s.First, s.Last))
	}
	line("--from-seq 1", "all that it ever signed")
	if lost {
		fmt.Fprintln(a.err, "  What it signed before the database was lost is on the ledger before this one alone, and not counted here: its first number may be lower.")
	}
}

// mayRetire refuses what an operator hardly meant: an end before what the key was believed already, and
// one that leaves a stream that is followed without a voice.
func mayRetire(r state.Reader, k *state.Key, last admit.Point, now time.Time) error {
	far, past, err := state.SignedAfter(r, k.Issuer, k.Stream, k.KID, last)
	if err != nil {
		return err
	}
	if past {
		return command.Misusef("key %s signed message %d of generation %d, which is admitted already: retiring it earlier undoes nothing of that, it only refuses what is still on its way. Say --at-seq %d, or --force where the key was stolen",
			k.KID, far.Seq, far.Generation, far.Seq)
	}
	if k.Retired != nil {
		return nil // brought forward: nobody signs less for it
	}
	followed, err := latestGeneration(r, k.Issuer, k.Stream)
	if err != nil || followed == 0 {
		return err
	}
	silent, err := voiceless(r, k, now)
	if err != nil {
		return err
	}
	if len(silent) > 0 {
		return command.Misusef("after key %s nobody may sign %s in stream %s of %s: such messages would be refused, leavers too. Trust the producer's next key first (`consumer trust add CARD --expect KEYID --reason TEXT`), or say --force where the key was stolen",
			k.KID, strings.Join(silent, ", "), k.Stream, k.Issuer)
	}
	return nil
}

// voiceless lists the kinds of message that nobody in the stream may sign but k.
func voiceless(r state.Reader, k *state.Key, now time.Time) (silent []string, err error) {
	all, err := state.Keys(r)
	if err != nil {
		return nil, err
	}
	for _, kind := range k.Kinds {
		if !slices.ContainsFunc(all, func(o *state.Key) bool {
			return o.KID != k.KID && o.Issuer == k.Issuer && o.Stream == k.Stream && o.Retired == nil && o.May(kind) && (o.NotAfter.IsZero() || now.Before(o.NotAfter))
		}) {
			silent = append(silent, string(kind))
		}
	}
	return silent, nil
}

// shownKey is one key as scripts read it.
type shownKey struct {
	ID        string        `json:"kid"`
	Issuer    string        `json:"iss"`
	Stream    string        `json:"stream"`
	Alg       keys.Alg      `json:"alg"`
	Kinds     []schema.Kind `json:"kinds"`
	NotBefore *time.Time    `json:"not_before,omitempty"`
	NotAfter  *time.Time    `json:"not_after,omitempty"`
	Retired   *retiredAt    `json:"retired,omitempty"`
	Added     time.Time     `json:"added"`
}

type retiredAt struct {
	Generation int    `json:"generation"`
	Seq        uint64 `json:"seq"`
}

func (a *app) trustList() *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use:   "list",
		Short: "Show every key that is or was trusted",
		Example: `  consumer trust list
  consumer trust list -o json`,
		Args: command.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			return a.reading(format, func(db *state.DB, inJSON bool) error {
				all, err := state.Keys(db.Read())
				if err != nil {
					return err
				}
				shown := []shownKey{}
				var rows [][]string
				for _, k := range all {
					s := shownKey{ID: k.KID, Issuer: k.Issuer, Stream: k.Stream, Alg: k.Alg, Kinds: k.Kinds, NotBefore: optional(k.NotBefore), NotAfter: optional(k.NotAfter), Added: k.AddedAt}
					good := "yes"
					if k.Retired != nil {
						s.Retired = &retiredAt{k.Retired.Generation, k.Retired.Seq}
						if good = fmt.Sprintf("up to %d.%d", k.Retired.Generation, k.Retired.Seq); k.Retired.Seq == 0 {
							good = "no"
						}
					}
					shown = append(shown, s)
					var kinds []string
					for _, kind := range k.Kinds {
						kinds = append(kinds, string(kind))
					}
					rows = append(rows, []string{k.KID, k.Issuer, k.Stream, string(k.Alg), good, stamp(k.NotAfter), strings.Join(kinds, ",")})
				}
				if inJSON {
					return program.PrintJSON(a.out, shown)
				}
				return program.Table(a.out, []string{"KEY", "ISSUER", "STREAM", "ALG", "GOOD", "UNTIL", "MAY SIGN"}, rows)
			})
		},
	}
	command.OutputFlag(cmd, &format)
	return cmd
}

// optional is t where it is set.
func optional(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}
