package vault

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/big"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"
)

// provenFor is how long the key counts as working after it opened something.
const provenFor = 30 * time.Second

// Decrypter opens by an RSA key in a store, with RSA-OAEP-256. It is a crypto.Decrypter and safe for concurrent
// use.
type Decrypter struct {
	s      *Stores
	client *azkeys.Client
	ref    Ref
	public *rsa.PublicKey

	mu     sync.Mutex // guards proven; held while the key is proved, so that a flood of refusals proves it once
	proven time.Time  // when the key last opened something
}

// Decrypter makes a decrypter of the pinned key. It sends nothing: the public half is read from its file.
func (s *Stores) Decrypter(r Ref) (*Decrypter, error) {
	pub, err := r.known()
	if err != nil {
		return nil, err
	}
	d := &Decrypter{s: s, ref: r}
	var ok bool
	if d.public, ok = pub.(*rsa.PublicKey); !ok {
		return nil, fmt.Errorf("%s: want an RSA key for decryption, got a %T: the store has no ECDH", r, pub)
	}
	d.client, err = s.client(r.Vault)
	return d, err
}

// Public implements crypto.Decrypter.
func (d *Decrypter) Public() crypto.PublicKey { return d.public }

// Decrypt implements crypto.Decrypter for RSA-OAEP with SHA-256 and no label.
//
// rsa.ErrDecryption refuses the ciphertext for good, so it is returned only where that is certain: the number is
// out of the key's range, or the store refused it and opened another one with the same key within provenFor. Any
// other error says that the key could not be asked.
func (d *Decrypter) Decrypt(_ io.Reader, ciphertext []byte, opts crypto.DecrypterOpts) ([]byte, error) {
	o, ok := opts.(*rsa.OAEPOptions)
	if !ok || o.Hash != crypto.SHA256 || o.MGFHash != 0 && o.MGFHash != crypto.SHA256 || len(o.Label) > 0 {
		return nil, fmt.Errorf("%s decrypts by RSA-OAEP-256 without a label only", d.ref)
	}
	if len(ciphertext) != d.public.Size() || new(big.Int).SetBytes(ciphertext).Cmp(d.public.N) >= 0 {
		return nil, rsa.ErrDecryption
	}
	plain, err := d.ask(ciphertext)
	var refused *Error
	if errors.As(err, &refused) && refused.answered() {
		if perr := d.prove(); perr != nil {
			return nil, fmt.Errorf("the key store refuses a message, and the key does not work: %w", perr)
		}
		return nil, rsa.ErrDecryption
	}
	return plain, err
}

func (d *Decrypter) ask(ciphertext []byte) (plain []byte, err error) {
	err = d.s.within(func(ctx context.Context) error {
		alg := azkeys.EncryptionAlgorithmRSAOAEP256
		answer, err := d.client.Decrypt(ctx, d.ref.Key, d.ref.Version, azkeys.KeyOperationParameters{Algorithm: &alg, Value: ciphertext}, nil)
		switch {
		case err != nil:
			return fail("decrypt", d.ref, err)
		case answer.KID == nil || !sameVersion(answer.KID, d.ref):
			return &Error{Op: "decrypt", Ref: d.ref, Status: 200, Err: errors.New("it decrypted by another key or version")}
		}
		plain = answer.Result
		return nil
	})
	return plain, err
}

// prove has the key open what was encrypted here a moment ago, unless it did so lately.
func (d *Decrypter) prove() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.proven.IsZero() && time.Since(d.proven) < provenFor {
		return nil
	}
	var probe [32]byte
	if _, err := rand.Read(probe[:]); err != nil {
		return err
	}
	ciphertext, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, d.public, probe[:], nil)
	if err != nil {
		return err
	}
	got, err := d.ask(ciphertext)
	if err != nil {
		return err
	}
	if !bytes.Equal(got, probe[:]) {
		return &Error{Op: "decrypt", Ref: d.ref, Status: 200, Err: errors.New("it opened a message to something else")}
	}
	d.proven = time.Now()
	return nil
}
