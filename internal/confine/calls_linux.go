package confine

import (
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// The machines whose calls the filter knows, by their number in struct seccomp_data. All of them have the low half of
// an argument first.
var machines = map[string]uint32{"amd64": unix.AUDIT_ARCH_X86_64, "arm64": unix.AUDIT_ARCH_AARCH64}

// foreignCalls is the lowest number of the calls of x32 on amd64, which do the same under other numbers.
const foreignCalls = 0x40000000

// Offsets in struct seccomp_data (seccomp(2)).
const (
	atCall    = 0
	atMachine = 4
	atArgs    = 16 // six of 8 octets each
)

// arg loads the low half of an argument: the kernel takes those that matter here as an int.
func arg(n int) bpf.Instruction { return bpf.LoadAbsolute{Off: uint32(atArgs + 8*n), Size: 4} }

var allow = bpf.RetConstant{Val: unix.SECCOMP_RET_ALLOW}

func refuse(why unix.Errno) bpf.Instruction {
	return bpf.RetConstant{Val: unix.SECCOMP_RET_ERRNO | uint32(why)}
}

// oneOf lets go on whose value is among those, and answers any other with why.
func oneOf(why unix.Errno, among ...uint32) (list []bpf.Instruction) {
	for i, v := range among {
		list = append(list, bpf.JumpIf{Cond: bpf.JumpEqual, Val: v, SkipTrue: uint8(len(among) - i)})
	}
	return append(list, refuse(why))
}

// on is what is done for one call; its body ends in an answer.
func on(call uint32, body ...bpf.Instruction) []bpf.Instruction {
	return append([]bpf.Instruction{bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: call, SkipTrue: uint8(len(body))}}, body...)
}

// filter leaves of sockets those whose every connection Landlock is asked about. Others reach the same hosts past it: Multipath
// TCP, SCTP and SMC by a protocol of their own, TCP Fast Open by a message that opens the connection, and io_uring by making sockets
// without a call that is seen here. Unix sockets lead to services that trust whoever runs under this user, those of a pair as well,
// from which a datagram goes to any. Of files it refuses what Landlock knows nothing of: a key whose mode was changed is a key that a start refuses, or that others read.
func filter(machine uint32) []bpf.Instruction {
	sockets := []bpf.Instruction{arg(0)}
	sockets = append(sockets, oneOf(unix.EAFNOSUPPORT, unix.AF_NETLINK, unix.AF_INET, unix.AF_INET6)...)
	sockets = append(sockets, // of AF_NETLINK, by which a resolver sees its interfaces, nothing more is asked
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.AF_INET, SkipTrue: 2},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.AF_INET6, SkipTrue: 1},
		allow,
		arg(1), bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: 0xf}) // the flags of the type lie above
	sockets = append(sockets, oneOf(unix.ESOCKTNOSUPPORT, unix.SOCK_STREAM, unix.SOCK_DGRAM)...)
	sockets = append(sockets, arg(2))
	sockets = append(sockets, oneOf(unix.EPROTONOSUPPORT, unix.IPPROTO_IP, unix.IPPROTO_TCP, unix.IPPROTO_UDP)...)
	sockets = append(sockets, allow)

	send := func(flags int) []bpf.Instruction {
		return []bpf.Instruction{arg(flags), bpf.JumpIf{Cond: bpf.JumpBitsSet, Val: unix.MSG_FASTOPEN, SkipFalse: 1}, refuse(unix.EPERM), allow}
	}
	list := []bpf.Instruction{
		bpf.LoadAbsolute{Off: atMachine, Size: 4}, bpf.JumpIf{Cond: bpf.JumpEqual, Val: machine, SkipTrue: 1}, refuse(unix.EPERM),
		bpf.LoadAbsolute{Off: atCall, Size: 4}, bpf.JumpIf{Cond: bpf.JumpLessThan, Val: foreignCalls, SkipTrue: 1}, refuse(unix.EPERM),
	}
	for _, calls := range [][]bpf.Instruction{
		on(unix.SYS_SOCKET, sockets...),
		on(unix.SYS_SOCKETPAIR, refuse(unix.EAFNOSUPPORT)),
		on(unix.SYS_SENDTO, send(3)...),
		on(unix.SYS_SENDMSG, send(2)...),
		on(unix.SYS_SENDMMSG, send(3)...),
		on(unix.SYS_IO_URING_SETUP, refuse(unix.EPERM)),
	} {
		list = append(list, calls...)
	}
	for _, call := range attributes {
		list = append(list, on(call, refuse(unix.EPERM))...)
	}
	return append(list, allow)
}

// canFilter says whether the kernel and this program can put a filter up.
func canFilter() bool {
	action := uint32(unix.SECCOMP_RET_ERRNO)
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_GET_ACTION_AVAIL, 0, uintptr(unsafe.Pointer(&action)))
	return machines[runtime.GOARCH] != 0 && errno == 0
}

// filterCalls puts the filter up, in every thread and for good.
func filterCalls() error {
	raw, err := bpf.Assemble(filter(machines[runtime.GOARCH]))
	if err != nil {
		return fmt.Errorf("assemble the filter of calls: %w", err)
	}
	code := make([]unix.SockFilter, len(raw))
	for i, r := range raw {
		code[i] = unix.SockFilter{Code: r.Op, Jt: r.Jt, Jf: r.Jf, K: r.K}
	}
	prog := unix.SockFprog{Len: uint16(len(code)), Filter: &code[0]}
	thread, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&prog)))
	switch {
	case errno != 0:
		return fmt.Errorf("filter the calls: %w", errno)
	case thread != 0:
		return fmt.Errorf("filter the calls: thread %d has a filter of its own", thread)
	}
	return nil
}
