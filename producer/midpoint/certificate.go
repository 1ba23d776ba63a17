package midpoint

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"time"

	"jmlbridge/internal/secret"
)

const (
	authorityLife = 10 * 365 * 24 * time.Hour
	serverLife    = 397 * 24 * time.Hour
	warnBefore    = 30 * 24 * time.Hour // before the server's certificate ends
	backdate      = time.Hour           // clocks across the boundary differ
	maxKey        = 64 << 10            // octets of the server's key
)

// makeAuthority makes the authority and the first server certificate.
func makeAuthority(dir string, hosts []string, now time.Time) error {
	for _, d := range []string{caDir, serverDir} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o700); err != nil {
			return err
		}
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	ca := &x509.Certificate{
		Subject:   pkix.Name{CommonName: "jmlbridge mid-point authority"},
		NotBefore: now.Add(-backdate), NotAfter: now.Add(authorityLife),
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true,
		KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := sign(ca, ca, key, key)
	if err != nil {
		return err
	}
	keyPEM, err := pemKey(key)
	if err != nil {
		return err
	}
	err = errors.Join(
		writeNew(filepath.Join(dir, caDir, caFile), pemCert(der), 0o644),
		writeNew(filepath.Join(dir, caDir, caKeyFile), keyPEM, 0o600))
	if err != nil {
		return err
	}
	signer, err := readAuthority(filepath.Join(dir, caDir), now)
	if err != nil {
		return err
	}
	certPEM, keyPEM, err := issue(signer, hosts, now)
	if err != nil {
		return err
	}
	return errors.Join(
		writeNew(filepath.Join(dir, serverDir, certFile), certPEM, 0o644),
		writeNew(filepath.Join(dir, serverDir, keyFile), keyPEM, 0o600))
}

// Renew replaces the server's certificate and key with new ones from the authority in the folder ca,
// for the same names. A running server takes them up by itself; clients notice nothing. An authority other than
// the present certificate's is refused: clients believe that one alone, and would not come in any more.
func Renew(cfg Config, ca string, now time.Time) error {
	pair, err := readPair(cfg.Cert, cfg.Key)
	if err != nil {
		return err
	}
	signer, err := readAuthority(ca, now)
	if err != nil {
		return err
	}
	if err := pair.Leaf.CheckSignatureFrom(signer.Leaf); err != nil { // its dates do not matter: it may have ended
		return refusef("", "the authority in %s did not sign the present certificate, %s, and no client would believe a new one from it; want the folder %s that midpoint init made with this mid-point (its %s is the one that the clients have). Nothing was changed",
			ca, cfg.Cert, caDir, caFile)
	}
	var hosts []string
	for _, ip := range pair.Leaf.IPAddresses {
		hosts = append(hosts, ip.String())
	}
	hosts = append(hosts, pair.Leaf.DNSNames...)
	certPEM, keyPEM, err := issue(signer, hosts, now)
	if err != nil {
		return err
	}
	// Two files cannot change at once; a server that looks in between keeps the old pair, because the
	// new halves do not match.
	for _, f := range []struct {
		name string
		text []byte
		mode os.FileMode
	}{{cfg.Key, keyPEM, 0o600}, {cfg.Cert, certPEM, 0o644}} {
		tmp := f.name + ".new"
		if err := os.Remove(tmp); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		if err := writeNew(tmp, f.text, f.mode); err != nil {
			return err
		}
		if err := os.Rename(tmp, f.name); err != nil {
			return err
		}
	}
	return nil
}

// readAuthority reads the authority in the folder ca, and refuses one that ends before a certificate of now would.
func readAuthority(ca string, now time.Time) (tls.Certificate, error) {
	signer, err := tls.LoadX509KeyPair(filepath.Join(ca, caFile), filepath.Join(ca, caKeyFile))
	if err != nil {
		return tls.Certificate{}, refusef("", "the authority in %s: want the folder with %s and %s that init made: %v", ca, caFile, caKeyFile, err)
	}
	if now.Add(serverLife).After(signer.Leaf.NotAfter) {
		return tls.Certificate{}, refusef("", "the authority in %s ends on %s, too soon for another server certificate: make a new mid-point and carry its files to the clients",
			ca, signer.Leaf.NotAfter.Format(time.DateOnly))
	}
	return signer, nil
}

// checkIssued refuses what no client would believe: an authority in dir that did not sign the server's certificate, whose
// file they are to get, and a URL of a host that the certificate does not name.
func checkIssued(dir string, cfg Config, at string) error {
	pair, err := readPair(cfg.Cert, cfg.Key)
	if err != nil {
		return err
	}
	name := filepath.Join(dir, caDir, caFile)
	text, err := os.ReadFile(name)
	if err != nil {
		return fmt.Errorf("the authority's certificate: %w; want the folder that midpoint init made", err)
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return fmt.Errorf("%s holds no certificate; want it as midpoint init made it", name)
	}
	ca, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if err := pair.Leaf.CheckSignatureFrom(ca); err != nil { // its dates do not matter: it may have ended
		return fmt.Errorf("the authority in %s did not sign %s, and clients who have its certificate would not believe this server: want the folder that midpoint init made with it. Nothing was changed", name, cfg.Cert)
	}
	u, err := url.Parse(at)
	if err != nil {
		return err
	}
	if err := pair.Leaf.VerifyHostname(u.Hostname()); err != nil {
		return fmt.Errorf("the URL for the clients, %s: %w, so that none would connect; name a host that stands in %s. Nothing was changed", at, err, cfg.Cert)
	}
	return nil
}

// issue signs a server certificate with the authority.
func issue(signer tls.Certificate, hosts []string, now time.Time) (certPEM, keyPEM []byte, err error) {
	cert := &x509.Certificate{
		Subject:   pkix.Name{CommonName: "jmlbridge mid-point"},
		NotBefore: now.Add(-backdate), NotAfter: now.Add(serverLife),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
	}
	for _, h := range hosts {
		if ip := net.ParseIP(h); ip != nil {
			cert.IPAddresses = append(cert.IPAddresses, ip)
		} else {
			cert.DNSNames = append(cert.DNSNames, h)
		}
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	der, err := sign(cert, signer.Leaf, key, signer.PrivateKey)
	if err != nil {
		return nil, nil, err
	}
	keyPEM, err = pemKey(key)
	return pemCert(der), keyPEM, err
}

func sign(cert, parent *x509.Certificate, key *ecdsa.PrivateKey, by any) ([]byte, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, err
	}
	cert.SerialNumber = serial
	return x509.CreateCertificate(rand.Reader, cert, parent, key.Public(), by)
}

func pemCert(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func pemKey(key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// certificate is the server's, read again when its file has changed.
type certificate struct {
	cert, key string
	log       *slog.Logger

	mu   sync.Mutex // guards the fields below
	pair *tls.Certificate
	seen time.Time // modification time of the certificate's file
}

func newCertificate(cert, key string, log *slog.Logger) (*certificate, error) {
	if cert == "" || key == "" {
		return nil, refusef("cert", "not set, or no key beside it; expected both: the mid-point speaks TLS only")
	}
	c := &certificate{cert: cert, key: key, log: log}
	return c, c.load()
}

// load is called with mu held, or before c is shared.
func (c *certificate) load() error {
	st, err := os.Stat(c.cert)
	if err != nil {
		return refusef("cert", "%v", err)
	}
	if c.pair != nil && st.ModTime().Equal(c.seen) {
		return nil
	}
	pair, err := readPair(c.cert, c.key)
	if err != nil {
		return err
	}
	if left := time.Until(pair.Leaf.NotAfter); left <= 0 {
		return refusef("cert", "%s ended on %s; no client would connect: renew it", c.cert, pair.Leaf.NotAfter.Format(time.DateOnly))
	} else if left < warnBefore {
		c.log.Warn("the server's certificate ends soon, renew it", "ends", pair.Leaf.NotAfter)
	}
	c.pair, c.seen = &pair, st.ModTime()
	return nil
}

// readPair reads the server's certificate and its key, and tells which of the two is wrong.
func readPair(cert, key string) (tls.Certificate, error) {
	certPEM, err := os.ReadFile(cert)
	if err != nil {
		return tls.Certificate{}, refusef("cert", "%v", err)
	}
	block, _ := pem.Decode(certPEM)
	if block == nil || block.Type != "CERTIFICATE" {
		return tls.Certificate{}, refusef("cert", "%s holds no certificate; expected one in PEM, as init made it", cert)
	}
	if _, err := x509.ParseCertificate(block.Bytes); err != nil {
		return tls.Certificate{}, refusef("cert", "%s: %v", cert, err)
	}
	keyPEM, err := secret.Read(key, maxKey)
	if err != nil {
		return tls.Certificate{}, refusef("key", "%v", err)
	}
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		return tls.Certificate{}, refusef("key", "%s: expected the private key of %s, in PEM: %v", key, cert, err)
	}
	return pair, nil
}

func (c *certificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.load(); err != nil {
		c.log.Error("the server's certificate cannot be read again, the old one stays", "err", err)
	}
	return c.pair, nil
}
