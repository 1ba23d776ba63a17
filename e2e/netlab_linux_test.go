package e2e

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"jmlbridge/e2e/stage"
)

// The networks of docker-compose.yml, built from the kernel's own parts: each program in a network namespace of
// its own, each network a bridge that no machine stands on. Nobody forwards between them.
const (
	commercialNet = "10.79.1."
	midpointNet   = "10.79.2."
	enclaveNet    = "10.79.3."

	outsiderAt       = commercialNet + "66" // somebody else's machine on the commercial side
	producerOutside  = commercialNet + "10"
	producerInside   = midpointNet + "10"
	midpointAt       = midpointNet + "20"
	egressOutside    = midpointNet + "30"
	egressInside     = enclaveNet + "30"
	tenantAt         = enclaveNet + "40"
	consumerAt       = enclaveNet + "50"
	egressPort       = 3128
	enclaveOfMachine = enclaveNet + "0/24"
)

// standing is who stands where; the same as in docker-compose.yml, and an outsider.
var standing = map[string][]string{
	"outsider": {outsiderAt},
	"producer": {producerOutside, producerInside},
	"midpoint": {midpointAt},
	"egress":   {egressOutside, egressInside},
	"sandbox":  {tenantAt},
	"consumer": {consumerAt},
}

// lab is one set of namespaces, removed at the end of its test.
type lab struct {
	t    *testing.T
	hub  string // namespace with the three bridges
	mark string // makes names unique on this machine
}

// newLab makes the networks, or skips the test with the reason why it cannot.
func newLab(t *testing.T) *lab {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("network namespaces are made by root only; run the tests as root to see the proof by network")
	}
	if _, err := exec.LookPath("ip"); err != nil {
		t.Skip("there is no ip command here (Debian: apt-get install iproute2), so no network namespaces")
	}
	l := &lab{t: t, mark: fmt.Sprintf("jml%d-", os.Getpid())}
	l.hub = l.mark + "wires"
	if out, err := exec.Command("ip", "netns", "add", l.hub).CombinedOutput(); err != nil {
		t.Skipf("this machine lets nobody make network namespaces: %v, %s", err, out)
	}
	t.Cleanup(func() {
		for name := range standing {
			exec.Command("ip", "netns", "del", l.mark+name).Run() // what was not made is not there
		}
		l.ip("netns", "del", l.hub)
	})
	for _, bridge := range []string{"commercial", "midpoint", "enclave"} {
		l.ip("-n", l.hub, "link", "add", bridge, "type", "bridge")
		l.ip("-n", l.hub, "link", "set", bridge, "up")
	}
	for name, addresses := range standing {
		ns := l.mark + name
		l.ip("netns", "add", ns)
		l.ip("-n", ns, "link", "set", "lo", "up")
		l.sysctl(name, "net/ipv4/ip_forward", "0") // a new namespace takes the machine's, and Docker turns that on
		for _, a := range addresses {
			network := networkOf(a)
			plug := l.plug(name, network)
			l.ip("-n", l.hub, "link", "add", plug, "type", "veth", "peer", "name", network, "netns", ns)
			l.ip("-n", l.hub, "link", "set", plug, "master", network, "up")
			l.ip("-n", ns, "addr", "add", a+"/24", "dev", network)
			l.ip("-n", ns, "link", "set", network, "up")
		}
	}
	return l
}

func networkOf(address string) string {
	for prefix, name := range map[string]string{commercialNet: "commercial", midpointNet: "midpoint", enclaveNet: "enclave"} {
		if strings.HasPrefix(address, prefix) {
			return name
		}
	}
	panic("no network has " + address)
}

// plug is the end of a machine's cable at the bridge.
func (l *lab) plug(name, network string) string { return name[:4] + "-" + network[:4] }

func (l *lab) ip(args ...string) {
	l.t.Helper()
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		l.t.Fatalf("ip %s: %v, %s", strings.Join(args, " "), err, out)
	}
}

// cut pulls a machine's plug out of a network; join puts it back.
func (l *lab) cut(name, network string) {
	l.ip("-n", l.hub, "link", "set", l.plug(name, network), "down")
}
func (l *lab) join(name, network string) {
	l.ip("-n", l.hub, "link", "set", l.plug(name, network), "up")
}

func (l *lab) enter(name string) []string { return []string{"ip", "netns", "exec", l.mark + name} }

// sysctl sets one of a machine's own settings.
func (l *lab) sysctl(name, key, value string) {
	l.t.Helper()
	err := l.within(name, func() error { return os.WriteFile("/proc/sys/"+key, []byte(value), 0) })
	if err != nil {
		l.t.Fatal(err)
	}
}

// within runs f on a thread that stands on a machine: what f dials is dialled from there. A socket that f
// makes stays there.
func (l *lab) within(name string, f func() error) error {
	ns, err := os.Open("/run/netns/" + l.mark + name)
	if err != nil {
		return err
	}
	defer ns.Close()
	result := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with this function, wherever it stood
		err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET)
		if err == nil {
			err = f()
		}
		result <- err
	}()
	return <-result
}

// network is the lab as the stage knows it.
func (l *lab) network() *stage.Network {
	n := &stage.Network{MidPoint: midpointAt, Tenant: tenantAt, Proxy: fmt.Sprintf("%s:%d", egressInside, egressPort), Enter: map[string][]string{}}
	for _, name := range []string{"producer", "midpoint", "egress", "sandbox", "consumer"} {
		n.Enter[name] = l.enter(name)
	}
	return n
}

// wiretap reads every frame on the enclave's network and keeps what must not be there.
type wiretap struct {
	fd     int
	done   chan struct{}
	inside map[[6]byte]bool // hardware addresses of the machines in the enclave
	bridge [6]byte          // of these, that of the wire itself

	mu     sync.Mutex // guards what follows
	frames int
	odd    map[string]int // what must not be there, and how often
}

// tap begins to listen on the wire of the enclave's network.
func (l *lab) tap() *wiretap {
	l.t.Helper()
	w := &wiretap{done: make(chan struct{}), inside: map[[6]byte]bool{}, odd: map[string]int{}}
	for _, name := range []string{"egress", "sandbox", "consumer"} {
		err := l.within(name, func() error {
			i, err := net.InterfaceByName("enclave")
			if err == nil {
				w.inside[[6]byte(i.HardwareAddr)] = true
			}
			return err
		})
		if err != nil {
			l.t.Fatal(err)
		}
	}
	err := l.within("wires", func() (err error) {
		i, err := net.InterfaceByName("enclave")
		if err != nil {
			return err
		}
		w.bridge = [6]byte(i.HardwareAddr)
		w.inside[w.bridge] = true
		all := uint16(unix.ETH_P_ALL>>8 | unix.ETH_P_ALL<<8)
		if w.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, int(all)); err != nil {
			return err
		}
		return errors.Join(
			unix.SetsockoptInt(w.fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 64<<20),
			unix.SetsockoptTimeval(w.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 100_000}),
			unix.Bind(w.fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: i.Index}),
			unix.SetsockoptPacketMreq(w.fd, unix.SOL_PACKET, unix.PACKET_ADD_MEMBERSHIP, &unix.PacketMreq{Ifindex: int32(i.Index), Type: unix.PACKET_MR_PROMISC}))
	})
	if err != nil {
		l.t.Fatalf("listen on the enclave's wire: %v", err)
	}
	stop := make(chan struct{})
	go func() {
		defer close(w.done)
		frame := make([]byte, 128) // the head says it all
		for {
			n, _, err := unix.Recvfrom(w.fd, frame, 0)
			switch {
			case err == nil:
				w.see(frame[:n])
			case errors.Is(err, unix.EAGAIN):
				select {
				case <-stop:
					return
				default:
				}
			case errors.Is(err, unix.EINTR), errors.Is(err, unix.ENETDOWN):
			default:
				w.note(fmt.Sprintf("the tap failed: %v", err))
				return
			}
		}
	}()
	l.t.Cleanup(func() {
		close(stop)
		<-w.done
		unix.Close(w.fd)
	})
	return w
}

func (w *wiretap) note(what string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.odd[what]++
}

// see judges one frame: on this wire only the enclave's own machines speak, with addresses of the enclave's
// own network, and only two things are ever dialled: the way out, and the tenant.
func (w *wiretap) see(f []byte) {
	w.mu.Lock()
	w.frames++
	w.mu.Unlock()
	if len(f) < 14 {
		return
	}
	if !w.inside[[6]byte(f[6:12])] {
		w.note(fmt.Sprintf("a frame from %x, which is no machine of the enclave", f[6:12]))
	}
	const ipv4 = 0x0800
	p := f[14:]
	if int(f[12])<<8|int(f[13]) != ipv4 || len(p) < 20 {
		return
	}
	if p[9] == unix.IPPROTO_IGMP && [6]byte(f[6:12]) == w.bridge {
		return // the bridge's own voice: of which groups it is, said without an address and some time after it was made
	}
	from, to := netip.AddrFrom4([4]byte(p[12:16])), netip.AddrFrom4([4]byte(p[16:20]))
	if !netip.MustParsePrefix(enclaveOfMachine).Contains(from) {
		w.note(fmt.Sprintf("a packet from %s to %s", from, to))
	}
	head := int(p[0]&0x0f) * 4
	switch {
	case p[9] == unix.IPPROTO_TCP && len(p) >= head+14:
		const syn, ack = 0x02, 0x10
		t := p[head:]
		port := int(t[2])<<8 | int(t[3])
		allowed := to.String() == egressInside && port == egressPort || to.String() == tenantAt && port == stage.TenantPort
		if t[13]&(syn|ack) == syn && (!allowed || from.String() != consumerAt) {
			w.note(fmt.Sprintf("%s dialled %s:%d", from, to, port))
		}
	case p[9] == unix.IPPROTO_UDP:
		w.note(fmt.Sprintf("a datagram from %s to %s", from, to))
	}
}

// found is what must not be there so far, and how many frames were seen in all.
func (w *wiretap) found() (odd []string, frames int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for what, n := range w.odd {
		odd = append(odd, fmt.Sprintf("%s (%d times)", what, n))
	}
	return odd, w.frames
}

// lost is how many frames the kernel had no room for: what was not seen proves nothing.
func (w *wiretap) lost() (uint32, error) {
	s, err := unix.GetsockoptTpacketStats(w.fd, unix.SOL_PACKET, unix.PACKET_STATISTICS)
	if err != nil {
		return 0, err
	}
	return s.Drops, nil
}

// scan tries to reach TCP ports of an address from a machine. It says which were open, and which answered at
// all, be it by a refusal.
func (l *lab) scan(from, address string, ports []int, wait time.Duration) (open, answered []int) {
	l.t.Helper()
	var mu sync.Mutex
	var dials errgroup.Group
	next := make(chan int)
	for range min(len(ports), 128) {
		dials.Go(func() error {
			return l.within(from, func() error {
				for port := range next {
					err := dial(address, port, wait)
					mu.Lock()
					switch {
					case err == nil:
						open, answered = append(open, port), append(answered, port)
					case errors.Is(err, unix.ECONNREFUSED), errors.Is(err, unix.ECONNRESET):
						answered = append(answered, port)
					}
					mu.Unlock()
				}
				return nil
			})
		})
	}
	for _, port := range ports {
		next <- port
	}
	close(next)
	if err := dials.Wait(); err != nil {
		l.t.Fatalf("scan from %s: %v", from, err)
	}
	return open, answered
}

// dial is a connection made and dropped by the bare calls: a scan of all ports makes very many.
func dial(address string, port int, wait time.Duration) error {
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(s)
	patience := unix.NsecToTimeval(wait.Nanoseconds())
	if err := unix.SetsockoptTimeval(s, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &patience); err != nil {
		return err
	}
	return unix.Connect(s, &unix.SockaddrInet4{Port: port, Addr: netip.MustParseAddr(address).As4()})
}

// throw sends to an address from a machine what asks for no answer: datagrams, echo requests, and the first
// packet of a connection under a sender's address that is the enclave's own.
func (l *lab) throw(from, address string, ports []int) error {
	return l.within(from, func() error {
		for _, port := range ports {
			c, err := net.Dial("udp", net.JoinHostPort(address, strconv.Itoa(port)))
			if err != nil {
				return err
			}
			c.Write([]byte("knock")) // a refusal of the one before is reported here, and no matter
			c.Close()
		}
		to := &unix.SockaddrInet4{Addr: netip.MustParseAddr(address).As4()}
		echo, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_ICMP)
		if err != nil {
			return err
		}
		defer unix.Close(echo)
		if err := unix.Sendto(echo, []byte{8, 0, 0xf7, 0xff, 0, 0, 0, 0}, 0, to); err != nil { // echo request with its checksum
			return err
		}
		forged, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_RAW)
		if err != nil {
			return err
		}
		defer unix.Close(forged)
		packet := make([]byte, 40) // the kernel fills in length and checksum of the IP header; no receiver gets as far as TCP's
		packet[0], packet[8], packet[9] = 0x45, 64, unix.IPPROTO_TCP
		sender := netip.MustParseAddr(tenantAt).As4()
		copy(packet[12:], sender[:])
		copy(packet[16:], to.Addr[:])
		packet[32], packet[33] = 0x50, 0x02 // five words, SYN
		return unix.Sendto(forged, packet, 0, to)
	})
}

// egress is the proxy as a process of its own that can be killed and started again.
func (l *lab) egress(b *bridge) *stage.Process {
	n, port := b.Network, stage.MidPointPort
	if b.Queue == stage.ServiceBus {
		port = stage.ServiceBusPort
	}
	return b.Other("egress", func(line stage.Line) bool { return line.Msg() == "egress ready" }, b.Programs.Egress,
		"-listen", n.Proxy, "-allow", net.JoinHostPort(n.MidPoint, strconv.Itoa(port)))
}
