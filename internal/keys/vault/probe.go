package vault

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"
)

// What an application may do with a key, by trying.
const (
	May     = "may"
	MayNot  = "may not"
	Unknown = "unknown" // the store said neither: the key is not made for it, or did not answer
)

// Tried is the outcome of trying one operation.
type Tried struct {
	Op     string
	Answer string // May, MayNot, Unknown
	Err    error  // of an operation that is needed
}

// Try tries the operation that the key is for, and the others that give its private half away or that no bridge
// needs. Nothing is changed by it: what is signed says that it is a trial, what is opened was encrypted here.
func (s *Stores) Try(ctx context.Context, r Ref, f *Found, need string) ([]Tried, error) {
	c, err := s.client(r.Vault)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, 3*opTimeout)
	defer cancel()
	tried := []Tried{judge(need, s.try(ctx, c, r, f, need))}
	if _, ok := f.Public.(*rsa.PublicKey); ok { // an EC key does nothing beside signing
		for _, op := range []string{"decrypt", "unwrapKey"} {
			if op != need {
				tried = append(tried, judge(op, s.try(ctx, c, r, f, op)))
			}
		}
	}
	if _, err = c.NewListKeyPropertiesPager(nil).NextPage(ctx); err != nil {
		err = fail("list", r, err)
	}
	return append(tried, judge("list", err)), nil
}

func judge(op string, err error) Tried {
	t := Tried{Op: op, Answer: May, Err: err}
	var e *Error
	switch {
	case err == nil:
	case errors.As(err, &e) && e.Status == http.StatusForbidden && !strings.Contains(e.Code, "/Key"):
		t.Answer = MayNot
	default:
		t.Answer = Unknown
	}
	return t
}

func (s *Stores) try(ctx context.Context, c *azkeys.Client, r Ref, f *Found, op string) error {
	switch pub := f.Public.(type) {
	case *ecdsa.PublicKey:
		return trySign(ctx, c, r, pub)
	case *rsa.PublicKey:
		return tryOpen(ctx, c, r, pub, op)
	}
	return fmt.Errorf("%s: nothing to try with a %T", r, f.Public)
}

func trySign(ctx context.Context, c *azkeys.Client, r Ref, pub *ecdsa.PublicKey) error {
	const text = "jmlbridge: a trial, which is no message and no checkpoint"
	alg, sum := azkeys.SignatureAlgorithmES256, sha256.Sum256([]byte(text))
	digest := sum[:]
	if pub.Curve == elliptic.P384() {
		wide := sha512.Sum384([]byte(text))
		alg, digest = azkeys.SignatureAlgorithmES384, wide[:]
	}
	answer, err := c.Sign(ctx, r.Key, r.Version, azkeys.SignParameters{Algorithm: &alg, Value: digest}, nil)
	if err != nil {
		return fail("sign", r, err)
	}
	sig := answer.Result
	if len(sig) == 0 || !ecdsa.Verify(pub, digest, new(big.Int).SetBytes(sig[:len(sig)/2]), new(big.Int).SetBytes(sig[len(sig)/2:])) {
		return &Error{Op: "sign", Ref: r, Status: 200, Err: errors.New("the signature does not verify")}
	}
	return nil
}

func tryOpen(ctx context.Context, c *azkeys.Client, r Ref, pub *rsa.PublicKey, op string) error {
	var probe [32]byte
	if _, err := rand.Read(probe[:]); err != nil {
		return err
	}
	secret, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, pub, probe[:], nil)
	if err != nil {
		return err
	}
	alg := azkeys.EncryptionAlgorithmRSAOAEP256
	in := azkeys.KeyOperationParameters{Algorithm: &alg, Value: secret}
	var out azkeys.KeyOperationResult
	if op == "unwrapKey" {
		var answer azkeys.UnwrapKeyResponse
		answer, err = c.UnwrapKey(ctx, r.Key, r.Version, in, nil)
		out = answer.KeyOperationResult
	} else {
		var answer azkeys.DecryptResponse
		answer, err = c.Decrypt(ctx, r.Key, r.Version, in, nil)
		out = answer.KeyOperationResult
	}
	switch {
	case err != nil:
		return fail(op, r, err)
	case !bytes.Equal(out.Result, probe[:]):
		return &Error{Op: op, Ref: r, Status: 200, Err: errors.New("it opened a message to something else")}
	}
	return nil
}
