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
	"os"
	"path/filepath"
	"sync"
	"time"
)

const (
	authorityLife = 10 * 365 * 24 * time.Hour
	serverLife    = 397 * 24 * time.Hour
	warnBefore    = 30 * 24 * time.Hour // before the server's certificate ends
	backdate      = time.Hour           // clocks across the boundary differ
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
	certPEM, keyPEM, err := issue(filepath.Join(dir, caDir), hosts, now)
	if err != nil {
		return err
	}
	return errors.Join(
		writeNew(filepath.Join(dir, serverDir, certFile), certPEM, 0o644),
		writeNew(filepath.Join(dir, serverDir, keyFile), keyPEM, 0o600))
}

// Renew replaces the server's certificate and key with new ones from the authority in the folder ca,
// for the same names. A running server takes them up by itself; clients notice nothing.
func Renew(cfg Config, ca string, now time.Time) error {
	pair, err := tls.LoadX509KeyPair(cfg.Cert, cfg.Key)
	if err != nil {
		return fmt.Errorf("the present certificate: %w", err)
	}
	var hosts []string
	for _, ip := range pair.Leaf.IPAddresses {
		hosts = append(hosts, ip.String())
	}
	hosts = append(hosts, pair.Leaf.DNSNames...)
	certPEM, keyPEM, err := issue(ca, hosts, now)
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

// issue signs a server certificate with the authority in the folder ca.
func issue(ca string, hosts []string, now time.Time) (certPEM, keyPEM []byte, err error) {
	signer, err := tls.LoadX509KeyPair(filepath.Join(ca, caFile), filepath.Join(ca, caKeyFile))
	if err != nil {
		return nil, nil, fmt.Errorf("the authority in %s: %w", ca, err)
	}
	if now.Add(serverLife).After(signer.Leaf.NotAfter) {
		return nil, nil, fmt.Errorf("the authority in %s ends on %s, too soon for another server certificate: make a new mid-point and carry its files to the clients",
			ca, signer.Leaf.NotAfter.Format(time.DateOnly))
	}
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
		return nil, errors.New("cert and key: expected both; the mid-point speaks TLS only")
	}
	c := &certificate{cert: cert, key: key, log: log}
	return c, c.load()
}

// load is called with mu held, or before c is shared.
func (c *certificate) load() error {
	st, err := os.Stat(c.cert)
	if err != nil {
		return fmt.Errorf("cert: %w", err)
	}
	if c.pair != nil && st.ModTime().Equal(c.seen) {
		return nil
	}
	if st, err := os.Stat(c.key); err != nil {
		return fmt.Errorf("key: %w", err)
	} else if mode := st.Mode().Perm(); mode&0o077 != 0 {
		return fmt.Errorf("key: %s can be used by others (mode %04o); chmod 600 it, and renew the certificate if others had access", c.key, mode)
	}
	pair, err := tls.LoadX509KeyPair(c.cert, c.key)
	if err != nil {
		return fmt.Errorf("cert and key: %w", err)
	}
	if left := time.Until(pair.Leaf.NotAfter); left <= 0 {
		return fmt.Errorf("cert: %s ended on %s; no client would connect: renew it", c.cert, pair.Leaf.NotAfter.Format(time.DateOnly))
	} else if left < warnBefore {
		c.log.Warn("the server's certificate ends soon, renew it", "ends", pair.Leaf.NotAfter)
	}
	c.pair, c.seen = &pair, st.ModTime()
	return nil
}

func (c *certificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.load(); err != nil {
		c.log.Error("the server's certificate cannot be read again, the old one stays", "err", err)
	}
	return c.pair, nil
}
