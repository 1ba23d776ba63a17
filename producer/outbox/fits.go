package outbox

import (
	"cmp"
	"strings"
	"time"

	"jmlbridge/schema"
)

// Fits reports, as a *schema.RefusedError, why no event could carry j: it is encoded as the longest that
// may ever be sent of it.
func (b *Box) Fits(subject string, j *schema.Joiner) error {
	return Fits(b.c.Issuer, b.c.Stream, b.longest())(subject, j)
}

func (b *Box) longest() (audience string) {
	for a := range b.c.Recipients {
		if len(a) > len(audience) {
			audience = a
		}
	}
	return audience
}

// Fits makes the check of [Box.Fits] for an audience.
func Fits(issuer, stream, audience string) func(subject string, j *schema.Joiner) error {
	now := schema.At(time.Date(9000, 1, 1, 0, 0, 0, 0, time.UTC))
	txn := strings.Repeat("t", schema.MaxTxn)
	return func(subject string, j *schema.Joiner) error {
		_, err := schema.EncodePadded(&schema.SET{
			Issuer: issuer, Audience: audience, ID: "01890a5d-ac96-774b-bcce-b302099a8057", IssuedAt: now, Occurred: &now, Txn: txn,
			Subject: subject, Version: 1, Stream: schema.Position{ID: stream, Generation: schema.MaxGeneration, Seq: schema.MaxSeq, Prev: schema.DigestOf(nil)},
			Event: &schema.Mover{
				Engagement: cmp.Or(j.Engagement, schema.MaxEngagement), Person: j.Person, Roles: j.Roles, Start: j.Start, End: j.End, Effective: now,
			},
		})
		return err
	}
}
