package main

import (
	"bytes"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"jmlbridge/internal/command"
	"jmlbridge/internal/keys"
	"jmlbridge/schema"
)

// cardForm is the version of the file's form.
const cardForm = "jmlbridge-card/1"

// maxCard bounds a card file, in octets.
const maxCard = 64 << 10

// card is what `producer init` and `producer recover` leave for an enclave's operator: who the producer
// is and the public halves of its keys. It is carried by hand and says nothing until an operator trusts it.
type card struct {
	Card       string    `json:"card"` // cardForm
	Issuer     string    `json:"issuer"`
	Stream     string    `json:"stream"`
	Generation int       `json:"generation"`
	Enclave    string    `json:"enclave,omitempty"` // the audience that it was made for; empty: any
	Keys       []cardKey `json:"keys"`
}

type cardKey struct {
	ID        string        `json:"kid"`
	Alg       keys.Alg      `json:"alg"`
	Public    string        `json:"public"` // PKIX in PEM
	Kinds     []schema.Kind `json:"kinds"`
	NotBefore *time.Time    `json:"not_before,omitempty"`
	NotAfter  *time.Time    `json:"not_after,omitempty"`

	der []byte
}

func readCard(path string) (*card, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, command.Misusef("read card: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxCard+1))
	if err != nil {
		return nil, command.Misusef("read card %s: %w", path, err)
	}
	c, err := parseCard(text)
	if err != nil {
		return nil, command.Misusef("card %s: %w", path, err)
	}
	return c, nil
}

// parseCard reads a card strictly and checks that every key bears its own name.
func parseCard(text []byte) (*card, error) {
	if len(text) > maxCard {
		return nil, fmt.Errorf("larger than %d octets", maxCard)
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	c := new(card)
	if err := d.Decode(c); err != nil {
		return nil, fmt.Errorf("want the JSON that `producer init` leaves: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("something follows the card")
	}
	switch {
	case c.Card != cardForm:
		return nil, fmt.Errorf("want card %q, got %q", cardForm, c.Card)
	case c.Issuer == "" || len(c.Issuer) > schema.MaxURI || c.Stream == "":
		return nil, errors.New("want an issuer and a stream")
	case c.Generation < 1 || c.Generation > schema.MaxGeneration:
		return nil, fmt.Errorf("want a generation of 1 to %d, got %d", schema.MaxGeneration, c.Generation)
	case len(c.Keys) == 0:
		return nil, errors.New("want at least one key")
	}
	for i := range c.Keys {
		if err := c.Keys[i].check(); err != nil {
			return nil, fmt.Errorf("key %d: %w", i+1, err)
		}
	}
	return c, nil
}

func (k *cardKey) check() error {
	pub, err := keys.ParsePublic([]byte(k.Public))
	if err != nil {
		return err
	}
	id, err := keys.ID(pub)
	if err != nil {
		return err
	}
	if id != k.ID {
		return fmt.Errorf("it is called %s and is %s: the card was changed or put together by hand", k.ID, id)
	}
	alg, err := keys.SigningAlg(pub)
	if err != nil {
		return err
	}
	if alg != k.Alg {
		return fmt.Errorf("a key of this kind signs by %s, the card says %q", alg, k.Alg)
	}
	if len(k.Kinds) == 0 {
		return errors.New("want the kinds of event that it may sign, got none")
	}
	k.der, err = x509.MarshalPKIXPublicKey(pub)
	return err
}

// bounds are the window of the key; zero is unbounded.
func (k *cardKey) bounds() (from, to time.Time) {
	if k.NotBefore != nil {
		from = *k.NotBefore
	}
	if k.NotAfter != nil {
		to = *k.NotAfter
	}
	return from, to
}
