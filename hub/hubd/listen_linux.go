package hubd

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

func reusePort(_, _ string, c syscall.RawConn) error {
	var serr error
	err := c.Control(func(fd uintptr) {
		serr = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
	})
	if err != nil {
		return err
	}
	return serr
}

// portOwner names the process that listens on an address's port. The kernel lists listening sockets by inode, and each
// process's open files name the inodes it holds; another user's files are only visible to root.
func portOwner(addr string) string {
	const unknown = "another process (root can see which: ss -ltnp)"
	_, text, err := net.SplitHostPort(addr)
	if err != nil {
		return unknown
	}
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return unknown
	}
	inodes := map[string]bool{}
	for _, table := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		listening(table, port, inodes)
	}
	fds, _ := filepath.Glob("/proc/[0-9]*/fd/[0-9]*") // the pattern is right
	for _, fd := range fds {
		target, err := os.Readlink(fd)
		if err != nil {
			continue // not ours to see, or gone
		}
		inode, ok := strings.CutPrefix(target, "socket:[")
		if !ok || !inodes[strings.TrimSuffix(inode, "]")] {
			continue
		}
		pid := strings.Split(fd, "/")[2]
		name, _ := os.ReadFile("/proc/" + pid + "/comm") // without it the id says enough
		return fmt.Sprintf("process %s (%s)", pid, strings.TrimSpace(string(name)))
	}
	return unknown
}

// listening adds the inodes of sockets that listen on port. Columns of the table: number, local address:port in
// hexadecimal, remote address, state (0A listens), …, inode as the tenth.
func listening(table string, port uint64, inodes map[string]bool) {
	f, err := os.Open(table)
	if err != nil {
		return
	}
	defer func() { _ = f.Close() }()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		col := strings.Fields(lines.Text())
		if len(col) < 10 || col[3] != "0A" {
			continue
		}
		_, hex, _ := strings.Cut(col[1], ":")
		if p, err := strconv.ParseUint(hex, 16, 16); err == nil && p == port {
			inodes[col[9]] = true
		}
	}
}
