package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"jmlbridge/internal/envelope"
	"jmlbridge/internal/keys"
	"jmlbridge/internal/queue/anyqueue"
)

// The test's binary is also the process that speaks to a mid-point.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == anyqueue.ChildCommand {
		main()
		return
	}
	os.Exit(m.Run())
}

// place is one producer on disk, with the enclave's key.
type place struct {
	dir    string
	config string
	ring   *envelope.Ring
}

const template = `
issuer: https://iam.mssp.example/jml
stream: hr
database: data/producer.db
ledger: {dir: data/ledger, checkpoint_copy: copy/checkpoint, key: keys/ledger.pem, origin: iam.mssp.example/producer}
signing: {key: keys/signing.pem}
heartbeat: 1s
enclaves:
  - name: GOV-1
    audience: urn:jmlbridge:enclave:gov-1
    encryption_key: enclave.pub.pem
    queue: {nats: {url: ["tls://127.0.0.1:1"], nkey: none.nk, stream: JML-GOV-1, subject: jml.GOV-1}}
    scope:
      in:
        - when: [{column: dept, equals: sec}]
source:
  subject: id
  status: {column: status, active: [a], inactive: [i]}
  person: {displayName: name, department: dept}
`

func newPlace(t *testing.T) *place {
	t.Helper()
	p := &place{dir: t.TempDir()}
	p.config = filepath.Join(p.dir, "producer.yaml")
	p.write(t, "producer.yaml", template)
	if err := os.Mkdir(filepath.Join(p.dir, "copy"), 0o700); err != nil {
		t.Fatal(err)
	}
	key, err := keys.GenerateDecryption(keys.P256)
	if err != nil {
		t.Fatal(err)
	}
	if err := keys.WritePublic(filepath.Join(p.dir, "enclave.pub.pem"), key.Public()); err != nil {
		t.Fatal(err)
	}
	if p.ring, err = envelope.NewRing(key); err != nil {
		t.Fatal(err)
	}
	return p
}

func (p *place) write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(p.dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// try runs the program and returns its exit code and what it wrote.
func (p *place) try(in string, args ...string) (code int, out, errs string) {
	var o, e bytes.Buffer
	code = run(context.Background(), append([]string{"-c", p.config}, args...), strings.NewReader(in), &o, &e)
	return code, o.String(), e.String()
}

func (p *place) must(t *testing.T, args ...string) string {
	t.Helper()
	code, out, errs := p.try("", args...)
	if code != exitDone {
		t.Fatalf("%v: exit code %d\n%s%s", args, code, out, errs)
	}
	return out
}

// files lists what is in the folder, with sizes: two listings are equal when nothing was done.
func (p *place) files(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(p.dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() && !strings.HasSuffix(path, "-shm") && !strings.HasSuffix(path, "-wal") {
			fmt.Fprintln(&b, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

const people = "id,name,dept,status\n1,A,sec,a\n2,B,sec,a\n3,C,sales,a\n"

// withSecond is a configuration with a second enclave, GOV-2, of this scope.
func withSecond(config, scope string) string {
	return strings.Replace(config, "source:\n", `  - name: GOV-2
    audience: urn:jmlbridge:enclave:gov-2
    encryption_key: enclave.pub.pem
    queue: {nats: {url: ["tls://127.0.0.1:1"], nkey: none.nk, stream: JML-GOV-2, subject: jml.GOV-2}}
    scope: `+scope+"\nsource:\n", 1)
}
