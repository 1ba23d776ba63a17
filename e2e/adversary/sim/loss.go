package sim

import (
	"context"
	"errors"
	"math"
	"slices"

	"jmlbridge/consumer/recall"
	"jmlbridge/consumer/state"
	"jmlbridge/e2e/adversary/model"
	"jmlbridge/internal/directory"
	"jmlbridge/internal/ledger"
	"jmlbridge/internal/store"
	"jmlbridge/schema"
)

// lose is a lost database, and `consumer recover`, soon or late: a new one begins with what the ledger tells, and, unless the
// operator leaves it out, with what the tenant shows. All of the ledger and of its archive had left the machine.
func (c *consumer) lose() {
	w := c.w
	w.tracef("the database is lost")
	if c.room.most > 0 { // nobody recovers where there is no room
		c.fill(100 * reserve)
	}
	if w.chance(50) {
		w.pass()
	}
	known := recall.New()
	known.Content = c.archived()
	for e, err := range ledger.Entries(context.Background(), c.db.DB, 0) {
		if err == nil {
			err = known.Read(e.Entry)
		}
		if err != nil {
			w.broken("read the ledger of the lost database: %v", err)
		}
	}
	bury(c.path, c.stop)
	look := c.look()
	c.lay(w.lab.blank, 0)
	db, err := state.Open(c.path)
	if err == nil {
		err = db.Update(context.Background(), func(tx *store.Tx) error {
			made, err := known.Restore(tx, by(c.clock()))
			if err != nil || look == nil {
				return err
			}
			return recall.Find(tx, *look, &made, by(c.clock()))
		})
		err = errors.Join(err, db.Close())
	}
	if err != nil {
		w.broken("begin a new database: %v", err)
	}
	w.watch.begin()
	c.start()
	for _, p := range w.producers {
		p.unheard, p.model = nil, model.Lost(p.model)
	}
	for _, x := range w.mid.stored {
		x.gone = x.gone || w.watch.delivered[x]
		delete(w.watch.delivered, x)
	}
	c.pins()
	c.sweep()
}

// look is what a look through the tenant shows of the accounts that bear the bridge's mark, and in which groups of the policy
// they are, late as every read may be; nil: the operator leaves it out. One that fails is begun again.
func (c *consumer) look() *recall.Look {
	w := c.w
	if w.chance(30) {
		w.tracef("the tenant is not looked through")
		return nil
	}
	for {
		look := &recall.Look{Started: c.clock()}
		var err error
		look.Accounts, _, err = w.tenant.list("marked", func(_ *account, v *version) bool { return v.mark != "" })
		for i := range look.Accounts {
			a := &look.Accounts[i]
			if err == nil {
				a.Groups, _, err = w.tenant.Groups(context.Background(), a.ID)
			}
			if errors.Is(err, directory.ErrNotFound) { // deleted since: no group has it as a member
				err = nil
			}
			a.Groups = slices.DeleteFunc(a.Groups, func(g string) bool { return !c.policy.Listed(g) })
		}
		look.Finished = c.clock()
		if err == nil {
			w.tracef("a look through the tenant shows %d accounts", len(look.Accounts))
			return look
		}
	}
}

// archived is the archive beside the ledger, which holds what the database does.
func (c *consumer) archived() func(schema.Digest) (string, bool) {
	rows, err := c.db.Unarchived(context.Background(), 0, math.MaxInt)
	if err != nil {
		c.w.broken("read the archive: %v", err)
	}
	list := map[schema.Digest]string{}
	for _, r := range rows {
		list[r.Payload] = r.JWS
	}
	return func(d schema.Digest) (jws string, ok bool) { jws, ok = list[d]; return jws, ok }
}

// pins tells the models where the new database follows each stream from. It must be a place at which the old one was.
func (c *consumer) pins() {
	w := c.w
	list, err := state.Streams(c.db.Read())
	if err != nil {
		w.broken("read the streams: %v", err)
	}
	for _, s := range list {
		p := w.of(s.Issuer)
		w.tracef("follows stream %s of %d from %d/%d", s.Name, p.n, s.Generation, s.Head)
		if !p.model.Before().Stood(s.Name == approvals, s.Generation, s.Head, s.HeadHash) {
			w.failf("wrong head", "after the loss stream %s of %d is followed from %d/%d, where it was not", s.Name, p.n, s.Generation, s.Head)
		}
		if s.Name == approvals {
			p.model.JoinSecond(s.Head, s.HeadHash)
			continue
		}
		p.model.Join(s.Generation, s.Head, s.HeadHash)
	}
	for _, p := range w.producers {
		if p.opened > 0 && !p.model.Follows() {
			w.failf("forgotten", "after the loss the stream of %d is not followed", p.n)
		}
	}
}
