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

// gone reports whether the client had closed a TCP connection when the reply came: on the loopback its reset is
// there as soon as the write returns. In memory the write itself fails.
func gone(c net.Conn) bool {
	t, ok := c.(*net.TCPConn)
	if !ok {
		return false
	}
	raw, err := t.SyscallConn()
	if err != nil {
		return true
	}
	var code int
	err = raw.Control(func(fd uintptr) { code, _ = syscall.GetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_ERROR) })
	return err != nil || code != 0
}

// raiseFileLimit makes room for need open files.
func raiseFileLimit(need uint64) error {
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		return fmt.Errorf("read the limit of open files: %w", err)
	}
	if l.Cur >= need {
		return nil
	}
	want := l
	want.Cur = want.Max
	if want.Max < need { // only root may
		want.Cur, want.Max = need, need
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &want); err != nil {
		return fmt.Errorf("%d open files are needed and %d allowed: run \"ulimit -n %d\" first, as root if it refuses, or start fewer miners", need, l.Cur, need)
	}
	return nil
}
