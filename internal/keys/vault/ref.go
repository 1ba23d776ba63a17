package vault

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"errors"
	"fmt"
	"math/big"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"

	"jmlbridge/internal/keys"
)

// Ref names one version of one key and pins what it must be.
type Ref struct {
	// Vault is the store's address, such as https://jml.vault.usgovcloudapi.net; of a Managed HSM likewise.
	Vault string `yaml:"vault"`
	// Key is the key's name.
	Key string `yaml:"key"`
	// Version is one version of it, 32 hexadecimal digits. There is no "newest": a rotation over there must not
	// change what we sign by.
	Version string `yaml:"version"`
	// KID is the RFC 7638 thumbprint of the public half. The "keys" command shows it.
	KID string `yaml:"kid"`
	// Public is the file with the public half, which init leaves: a start does not need the store for it.
	// Default: keys/KEY.pub.pem.
	Public string `yaml:"public"`
	// Software lets the key be one that is not in hardware. For development.
	Software bool `yaml:"software"`
}

func (r Ref) String() string {
	version := r.Version
	if len(version) > 8 {
		version = version[:8]
	}
	return fmt.Sprintf("%s/keys/%s/%s", strings.TrimRight(r.Vault, "/"), r.Key, version)
}

var (
	nameForm    = regexp.MustCompile(`^[0-9A-Za-z-]{1,127}$`)
	versionForm = regexp.MustCompile(`^[0-9a-f]{32}$`)
	kidForm     = regexp.MustCompile(`^[A-Za-z0-9_-]{43}$`)
)

// Check says what is wrong with r itself. Without a pin it is good for looking only.
func (r Ref) Check() error {
	switch {
	case !strings.HasPrefix(r.Vault, "https://"):
		return fmt.Errorf("vault: want an address like https://name.vault.usgovcloudapi.net, got %q", r.Vault)
	case !nameForm.MatchString(r.Key):
		return fmt.Errorf("key: want the key's name (letters, digits and -), got %q", r.Key)
	case !versionForm.MatchString(r.Version):
		return fmt.Errorf("version: want the key's version, 32 hexadecimal digits, got %q: the newest one is not followed", r.Version)
	case r.KID != "" && !kidForm.MatchString(r.KID):
		return fmt.Errorf("kid: want a thumbprint of 43 characters, got %q", r.KID)
	}
	return nil
}

// errUnpinned is for people who have not compared the key yet.
func (r Ref) errUnpinned(kid string) error {
	return fmt.Errorf("%s is not pinned; its thumbprint is %s. Compare it with what whoever made the key says, and put it here as kid", r, kid)
}

// Found is what a store says of a key.
type Found struct {
	Public     crypto.PublicKey
	KID        string // thumbprint
	Type       string // EC, EC-HSM, RSA, RSA-HSM
	Ops        []string
	Enabled    bool
	Exportable bool
	NotBefore  *time.Time
	Expires    *time.Time
}

// Hardware reports whether the store says that the private half is in an HSM.
func (f *Found) Hardware() bool { return strings.HasSuffix(f.Type, "-HSM") }

// Look asks the store for the key that r names. It compares nothing with a pin.
func (s *Stores) Look(ctx context.Context, r Ref) (*Found, error) {
	if err := r.Check(); err != nil {
		return nil, err
	}
	c, err := s.client(r.Vault)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, opTimeout)
	defer cancel()
	answer, err := c.GetKey(ctx, r.Key, r.Version, nil)
	if err != nil {
		return nil, fail("get", r, err)
	}
	f, err := found(&answer.KeyBundle, r)
	if err != nil {
		return nil, &Error{Op: "get", Ref: r, Status: 200, Err: err}
	}
	return f, nil
}

func found(b *azkeys.KeyBundle, r Ref) (*Found, error) {
	if b.Key == nil || b.Key.Kty == nil || b.Key.KID == nil {
		return nil, errors.New("it names no key")
	}
	if !sameVersion(b.Key.KID, r) {
		return nil, fmt.Errorf("it is about %.200s", string(*b.Key.KID))
	}
	f := &Found{Type: string(*b.Key.Kty)}
	for _, op := range b.Key.KeyOps {
		if op != nil {
			f.Ops = append(f.Ops, string(*op))
		}
	}
	slices.Sort(f.Ops)
	if a := b.Attributes; a != nil {
		f.Enabled = a.Enabled != nil && *a.Enabled
		f.Exportable = a.Exportable != nil && *a.Exportable
		f.NotBefore, f.Expires = a.NotBefore, a.Expires
	}
	var err error
	if f.Public, err = public(b.Key); err != nil {
		return nil, err
	}
	f.KID, err = keys.ID(f.Public)
	return f, err
}

func sameVersion(id *azkeys.ID, r Ref) bool {
	return strings.EqualFold(id.Name(), r.Key) && id.Version() == r.Version
}

func public(k *azkeys.JSONWebKey) (crypto.PublicKey, error) {
	switch strings.TrimSuffix(string(*k.Kty), "-HSM") {
	case "EC":
		curve := map[azkeys.CurveName]elliptic.Curve{azkeys.CurveNameP256: elliptic.P256(), azkeys.CurveNameP384: elliptic.P384()}
		if k.Crv == nil || curve[*k.Crv] == nil {
			return nil, errors.New("want an EC key on P-256 or P-384")
		}
		c := curve[*k.Crv]
		size := (c.Params().BitSize + 7) / 8
		if len(k.X) > size || len(k.Y) > size {
			return nil, errors.New("the EC key's point is too long")
		}
		point := make([]byte, 1+2*size)
		point[0] = 4
		copy(point[1+size-len(k.X):], k.X)
		copy(point[1+2*size-len(k.Y):], k.Y)
		return ecdsa.ParseUncompressedPublicKey(c, point)
	case "RSA":
		e := new(big.Int).SetBytes(k.E)
		if !e.IsInt64() || e.Int64() > 1<<31-1 || len(k.N) == 0 {
			return nil, errors.New("the RSA key is incomplete")
		}
		return &rsa.PublicKey{N: new(big.Int).SetBytes(k.N), E: int(e.Int64())}, nil
	}
	return nil, fmt.Errorf("want an EC or RSA key, got %.32q", string(*k.Kty))
}

// Pinned asks the store for the key and refuses another than the pinned one, one that is not in hardware, that
// may leave it, or that is not good for every op. It is for init: afterwards the public half lies in a file.
func (s *Stores) Pinned(ctx context.Context, r Ref, ops ...string) (*Found, error) {
	f, err := s.Look(ctx, r)
	if err != nil {
		return nil, err
	}
	switch {
	case r.KID == "":
		return nil, r.errUnpinned(f.KID)
	case f.KID != r.KID:
		return nil, fmt.Errorf("%s has the thumbprint %s, and %s is pinned: it is another key", r, f.KID, r.KID)
	case !f.Enabled:
		return nil, fmt.Errorf("%s is disabled", r)
	case f.Exportable:
		return nil, fmt.Errorf("%s may be exported from its store; make one that may not", r)
	case !f.Hardware() && !r.Software:
		return nil, fmt.Errorf("%s is a key of type %s, which is not kept in hardware; make one of type %s-HSM (for development: software: true)", r, f.Type, f.Type)
	}
	for _, op := range ops {
		if !slices.Contains(f.Ops, op) {
			return nil, fmt.Errorf("%s may not %s; its operations are %s", r, op, strings.Join(f.Ops, ", "))
		}
	}
	return f, nil
}

// known reads the public half from the file that init left, and holds it against the pin.
func (r Ref) known() (crypto.PublicKey, error) {
	if err := r.Check(); err != nil {
		return nil, err
	}
	pub, err := keys.ReadPublic(r.Public)
	if err != nil {
		return nil, fmt.Errorf("public half of %s, which init leaves: %w", r, err)
	}
	kid, err := keys.ID(pub)
	switch {
	case err != nil:
		return nil, err
	case r.KID == "":
		return nil, r.errUnpinned(kid)
	case kid != r.KID:
		return nil, fmt.Errorf("%s holds the key %s, and %s is pinned", r.Public, kid, r.KID)
	}
	return pub, nil
}
