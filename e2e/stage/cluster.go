package stage

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"

	"jmlbridge/internal/porttest"
	natsfiles "jmlbridge/producer/nats"
)

// nodes are the servers of a mid-point that is a NATS cluster.
const nodes = 3

// oneAnswer is how long one answer of a cluster is waited for: without a leader there is none.
const oneAnswer = 2 * time.Second

// cluster is what its administrator has: the servers, and a way in with every right on the enclave's account.
type cluster struct {
	urls  []string
	admin nats.Option
	ca    string
}

// setUpCluster makes a mid-point out of stock servers and of the files that producer/nats hands to whoever runs some:
// one authority, a certificate for each server, the credentials, the stream and its consumer. The servers run
// since then, as somebody else's would.
func (s *Stage) setUpCluster(ctx context.Context) error {
	ca, err := newAuthority()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(s.MidPointDir, 0o700); err != nil {
		return err
	}
	s.cluster = &cluster{ca: filepath.Join(s.MidPointDir, "ca.pem")}
	if err := write(s.cluster.ca, ca.pem); err != nil {
		return err
	}
	public := map[string]string{}
	for _, who := range []string{"PRODUCER", "ENCLAVE", "ADMIN", "OPERATOR"} {
		pair, err := nkeys.CreateUser()
		if err != nil {
			return err
		}
		seed, _ := pair.Seed()
		if public[who], err = pair.PublicKey(); err != nil {
			return err
		}
		if err := write(filepath.Join(s.MidPointDir, strings.ToLower(who)+".nk"), string(seed)+"\n"); err != nil {
			return err
		}
	}
	if s.cluster.admin, err = nats.NkeyOptionFromSeed(filepath.Join(s.MidPointDir, "admin.nk")); err != nil {
		return err
	}
	var routes []string
	for range nodes {
		client, err := porttest.Free()
		if err != nil {
			return err
		}
		route, err := porttest.Free()
		if err != nil {
			return err
		}
		s.cluster.urls = append(s.cluster.urls, "tls://"+client.String())
		routes = append(routes, route.String())
	}
	for i := range nodes {
		if err := s.setUpNode(i, ca, routes, public); err != nil {
			return err
		}
	}
	for _, n := range s.Nodes { // none is ready before it has seen another
		if _, err := n.Launch(); err != nil {
			return err
		}
	}
	if err := s.setUpStream(ctx); err != nil {
		return err
	}
	for side, seed := range map[string]string{"producer": "producer.nk", "consumer": "enclave.nk"} {
		to := filepath.Join(s.MidPointDir, side, Enclave)
		if err := errors.Join(carry(s.cluster.ca, filepath.Join(to, "midpoint-ca.pem")), carry(filepath.Join(s.MidPointDir, seed), filepath.Join(to, "midpoint.nk")),
			write(filepath.Join(to, "queue.yaml"), s.clusterYAML(side))); err != nil {
			return err
		}
	}
	return nil
}

func (s *Stage) clusterYAML(side string) string {
	block := fmt.Sprintf("queue:\n  nats:\n    url: [%s]\n    ca: midpoint-ca.pem\n    nkey: midpoint.nk\n    stream: JML-%s\n", strings.Join(s.cluster.urls, ", "), Enclave)
	if side == "producer" {
		block += "    subject: jml." + Enclave + "\n"
	}
	if s.Pull != "dark" || side == "producer" {
		block += "    check_stream: true\n"
	}
	return block
}

// setUpNode makes the files of one server.
func (s *Stage) setUpNode(i int, ca *authority, routes []string, public map[string]string) error {
	dir := filepath.Join(s.MidPointDir, fmt.Sprintf("nats-%d", i+1))
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	cert, key, err := ca.issue()
	if err != nil {
		return err
	}
	changes := [][2]string{
		{"server_name: nats-1", fmt.Sprintf("server_name: nats-%d", i+1)},
		{"listen: 0.0.0.0:4222", fmt.Sprintf("listen: %q", strings.TrimPrefix(s.cluster.urls[i], "tls://"))},
		{"listen: 0.0.0.0:6222", fmt.Sprintf("listen: %q", routes[i])},
		{"/etc/nats/ca.pem", s.cluster.ca}, {"/etc/nats/", dir + "/"}, {"/var/lib/nats", filepath.Join(dir, "store")},
	}
	for n, at := range routes {
		changes = append(changes, [2]string{fmt.Sprintf("nats-%d.mssp.example:6222", n+1), at})
	}
	for who, nkey := range public {
		changes = append(changes, [2]string{"nkey: " + who, "nkey: " + nkey})
	}
	if s.Pull == "dark" {
		changes = append(changes, [2]string{`"$JS.API.CONSUMER.INFO.JML-GOV-1.enclave", "$JS.API.CONSUMER.MSG.NEXT.JML-GOV-1.enclave", "$JS.ACK.JML-GOV-1.enclave.>"
            "$JS.API.STREAM.INFO.JML-GOV-1"`, `"$JS.API.DIRECT.GET.JML-GOV-1"`})
	}
	conf, err := natsFile("server.conf", changes...)
	if err != nil {
		return err
	}
	file := filepath.Join(dir, "server.conf")
	if err := errors.Join(write(filepath.Join(dir, "server.pem"), cert), write(filepath.Join(dir, "server.key"), key), write(file, string(conf))); err != nil {
		return err
	}
	s.Nodes = append(s.Nodes, s.process(fmt.Sprintf("nats-%d", i+1), s.Programs.NATS, isNATSReady, "-c", file))
	return nil
}

// natsFile is one of the files for whoever runs servers, with the changes that it tells to make.
func natsFile(name string, changes ...[2]string) ([]byte, error) {
	raw, err := natsfiles.Files.ReadFile(name)
	if err != nil {
		return nil, err
	}
	text := string(raw)
	for _, c := range changes {
		if !strings.Contains(text, c[0]) {
			return nil, fmt.Errorf("producer/nats/%s has nothing like %q", name, c[0])
		}
		text = strings.ReplaceAll(text, c[0], c[1])
	}
	return []byte(text), nil
}

// setUpStream does what the page does with `nats stream add` and `nats consumer add`.
func (s *Stage) setUpStream(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	return s.Administer(func(js jetstream.JetStream) error {
		name := "stream.json"
		if s.Pull == "dark" {
			name = "stream-dark.json"
		}
		var stream jetstream.StreamConfig
		var consumer jetstream.ConsumerConfig
		for file, into := range map[string]any{name: &stream, "consumer.json": &consumer} {
			raw, err := natsFile(file)
			if err == nil {
				err = json.Unmarshal(raw, into)
			}
			if err != nil {
				return fmt.Errorf("producer/nats/%s: %w", file, err)
			}
		}
		if s.Lease != 0 {
			consumer.AckWait = s.Lease
		}
		var last error
		err := Until(ctx, "the cluster to take its stream", func() (bool, error) { // it has no leader at first
			one, cancel := context.WithTimeout(ctx, oneAnswer)
			defer cancel()
			_, last = js.CreateStream(one, stream)
			if last == nil && s.Pull != "dark" {
				_, last = js.CreateConsumer(one, stream.Name, consumer)
			}
			return last == nil, nil
		})
		if err != nil {
			return fmt.Errorf("%w\n%w\n%s", err, last, s.Nodes[0].Last(10))
		}
		return nil
	})
}

// Administer does something with the administrator's right on the enclave's account of a cluster.
func (s *Stage) Administer(do func(jetstream.JetStream) error) error {
	nc, err := nats.Connect(strings.Join(s.cluster.urls, ","), nats.RootCAs(s.cluster.ca), s.cluster.admin, nats.RetryOnFailedConnect(true), nats.MaxReconnects(-1),
		nats.ReconnectWait(100*time.Millisecond))
	if err != nil {
		return fmt.Errorf("the administrator's connection: %w", err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	return do(js)
}

// Leader is the server that leads the enclave's stream, once all three have all of it.
func (s *Stage) Leader(ctx context.Context) (leader *Process, err error) {
	return leader, s.Administer(func(js jetstream.JetStream) error {
		return Until(ctx, "every server to have the whole stream", func() (bool, error) {
			one, cancel := context.WithTimeout(ctx, oneAnswer)
			defer cancel()
			st, err := js.Stream(one, "JML-"+Enclave)
			if err != nil || st.CachedInfo().Cluster == nil {
				return false, nil // no leader at the moment
			}
			c := st.CachedInfo().Cluster
			whole := len(c.Replicas) == nodes-1
			for _, p := range c.Replicas {
				whole = whole && p.Current && !p.Offline
			}
			leader = nil
			for _, n := range s.Nodes {
				if n.Name == c.Leader {
					leader = n
				}
			}
			return whole && leader != nil, nil
		})
	})
}

// authority signs the certificates of a cluster.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  string
}

func newAuthority() (*authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "cluster authority"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	return &authority{cert, key, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))}, err
}

// issue makes a certificate for a server on this machine, which is a client of the other servers too.
func (a *authority) issue() (certPEM, keyPEM string, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return "", "", err
	}
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		return "", "", err
	}
	tmpl := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "nats"}, NotBefore: a.cert.NotBefore, NotAfter: a.cert.NotAfter,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, a.cert, key.Public(), a.key)
	if err != nil {
		return "", "", err
	}
	raw, err := x509.MarshalPKCS8PrivateKey(key)
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw})), err
}
