package stage

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// busQueue is the queue of the enclave in the namespace.
const busQueue = "jml-gov-1"

// setUpServiceBus starts the mid-point, whose credentials exist only then, and makes for each side the folder that
// its operators are handed.
func (s *Stage) setUpServiceBus(ctx context.Context) error {
	lock := s.Lease
	or(&lock, time.Minute)
	dir := s.namespaceDir()
	s.MidPoint = s.process("midpoint", s.Programs.ServiceBus, func(l Line) bool { return l.Stdout && l.String("host") != "" },
		"-dir", dir, "-queue", busQueue, "-lock", lock.String(), "-duplicates", "10m", "-ttl", s.TTL.String(), "-dead-letter-expired")
	for _, folder := range []string{s.MidPointDir, dir} {
		if err := os.MkdirAll(folder, 0o700); err != nil {
			return err
		}
	}
	if n := s.Network; n != nil { // its own control is out of reach there
		s.MidPoint.args = append(s.MidPoint.args, "-host", n.MidPoint, "-listen", net.JoinHostPort(n.MidPoint, strconv.Itoa(ServiceBusPort)), "-control", "")
	}
	if s.Identities {
		file, err := s.identities(ctx)
		if err != nil {
			return err
		}
		s.MidPoint.args = append(s.MidPoint.args, "-namespace", file)
	}
	if err := s.MidPoint.Start(ctx); err != nil {
		return err
	}
	made, err := s.handNamespace()
	if err != nil {
		return err
	}
	if s.Network != nil {
		return nil
	}
	s.Bus, err = newBus(made)
	return err
}

// namespace is what a Service Bus namespace tells of itself when it is ready.
type namespace struct {
	Host         string `json:"host"`
	CA           string `json:"ca"`
	Control      string `json:"control"`
	ControlToken string `json:"controlTokenFile"`
	Rules        map[string]struct {
		File string `json:"file"`
	} `json:"rules"`
}

// namespaceDir is the folder that the namespace writes to. Where it is somebody else's process it began before us,
// beside what we make.
func (s *Stage) namespaceDir() string {
	if s.Network != nil {
		return filepath.Join(s.Dir, "midpoint", "namespace")
	}
	return filepath.Join(s.MidPointDir, "namespace")
}

func (s *Stage) namespaceFile() string { return filepath.Join(s.namespaceDir(), "endpoints.json") }

// handNamespace makes for each side what its operators are handed: a certificate, a connection string with the one right
// that the side needs, and the block for its configuration.
func (s *Stage) handNamespace() (made namespace, err error) {
	text, err := os.ReadFile(s.namespaceFile())
	if err != nil {
		return made, err
	}
	if err := json.Unmarshal(text, &made); err != nil {
		return made, fmt.Errorf("read the namespace's endpoints: %w", err)
	}
	if s.Identities {
		return made, s.handIdentities(made)
	}
	for side, rule := range map[string]string{"producer": "sender", "consumer": "listener"} {
		to := filepath.Join(s.MidPointDir, side, Enclave)
		for name, from := range map[string]string{"midpoint-ca.pem": made.CA, "midpoint.sas": made.Rules[rule].File} {
			if err := carry(from, filepath.Join(to, name)); err != nil {
				return made, err
			}
		}
		block := fmt.Sprintf("queue:\n  servicebus:\n    namespace: %q\n    queue: %s\n    ca: midpoint-ca.pem\n    connection_file: midpoint.sas\n    proxy: none\n", made.Host, busQueue)
		if s.Transport != "" {
			block += "    transport: " + s.Transport + "\n"
		}
		if err := write(filepath.Join(to, "queue.yaml"), block); err != nil {
			return made, err
		}
	}
	return made, nil
}

// setUpServiceBusApart takes what the namespace of somebody else's process has left.
func (s *Stage) setUpServiceBusApart(context.Context) error {
	_, err := s.handNamespace()
	return err
}
