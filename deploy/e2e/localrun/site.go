package localrun

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// dial connects from within the site's namespace. A socket belongs for life to the namespace of the thread that made it.
func (s *site) dial(ctx context.Context, network, address string) (conn net.Conn, err error) {
	runtime.LockOSThread()
	home, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		runtime.UnlockOSThread()
		return nil, fmt.Errorf("network namespace of this program: %w", err)
	}
	defer func() { _ = home.Close() }() // only read
	there, err := os.Open("/run/netns/" + s.namespace)
	if err != nil {
		runtime.UnlockOSThread()
		return nil, fmt.Errorf("network namespace: %w", err)
	}
	defer func() { _ = there.Close() }() // only read
	if err := unix.Setns(int(there.Fd()), unix.CLONE_NEWNET); err != nil {
		runtime.UnlockOSThread()
		return nil, fmt.Errorf("enter network namespace %s: %w", s.namespace, err)
	}
	defer func() {
		if back := unix.Setns(int(home.Fd()), unix.CLONE_NEWNET); back != nil {
			err = errors.Join(err, fmt.Errorf("leave network namespace %s: %w", s.namespace, back)) // the thread stays locked, and ends
			return
		}
		runtime.UnlockOSThread()
	}()
	var d net.Dialer
	return d.DialContext(ctx, network, address)
}
