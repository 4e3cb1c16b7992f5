//go:build linux || darwin

package sim

import (
	"fmt"
	"net"
	"syscall"
)

// shortBacklog sets how many connections the kernel queues behind the one being served.
func shortBacklog(l *net.TCPListener, n int) error {
	raw, err := l.SyscallConn()
	if err != nil {
		return err
	}
	var set error
	if err := raw.Control(func(fd uintptr) { set = syscall.Listen(int(fd), n) }); err != nil {
		return err
	}
	return set
}

// gone reports whether the client had closed a TCP connection before the reply came. On the loopback its reset is there as
// soon as the write returns, and reads EPIPE because the client's orderly end came first; a client that leaves after
// reading gives nothing, or ECONNRESET if it left bytes behind the reply unread. In memory the write itself fails.
func gone(c net.Conn) bool {
	t, ok := c.(*net.TCPConn)
	if !ok {
		return false
	}
	raw, err := t.SyscallConn()
	if err != nil {
		return false // closed by the end of the fleet, after the reply
	}
	var code int
	err = raw.Control(func(fd uintptr) { code, _ = syscall.GetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_ERROR) })
	return err == nil && syscall.Errno(code) == syscall.EPIPE
}

// raiseFileLimit makes room for the sockets of n miners: one to listen and, all at once, one connection each. Room for one
// connection per eight miners is enough to go on with.
func raiseFileLimit(n int) error {
	const others = 256 // record, state, control endpoint and its clients
	least, most := uint64(n+n/8+others), uint64(2*n+others)
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		return fmt.Errorf("read the limit of open files: %w", err)
	}
	if l.Cur >= most {
		return nil
	}
	if want := (syscall.Rlimit{Cur: most, Max: max(most, l.Max)}); syscall.Setrlimit(syscall.RLIMIT_NOFILE, &want) == nil {
		return nil // beyond the hard limit only with the privilege for it
	}
	soft := syscall.Rlimit{Cur: l.Max, Max: l.Max}
	if syscall.Setrlimit(syscall.RLIMIT_NOFILE, &soft) == nil {
		l = soft
	}
	if l.Cur < least {
		return fmt.Errorf("%d miners need %d open files and %d are allowed: run \"ulimit -n %d\" first, as root if it refuses, or start fewer miners", n, least, l.Cur, least)
	}
	return nil
}
