package wg

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"

	"golang.zx2c4.com/wireguard/device"
	"golang.zx2c4.com/wireguard/ipc"
)

// uapi serves a device to `wg` and wgctrl on a socket that only its owner may open. The path is fixed and knows no network
// namespace: two devices of one name cannot both be served on a machine.
type uapi struct {
	l    net.Listener
	wait sync.WaitGroup

	mu     sync.Mutex
	conns  map[net.Conn]bool
	closed bool
}

const uapiCallers = 16 // at once: each is a process of the owner of this one

func serveUAPI(name string, dev *device.Device, log *slog.Logger) (*uapi, error) {
	file, err := ipc.UAPIOpen(name)
	if err != nil {
		return nil, fmt.Errorf("wireguard: serve /var/run/wireguard/%s.sock: %w", name, err)
	}
	l, err := net.FileListener(file)
	_ = file.Close() // the listener has its own copy
	if err != nil {
		return nil, fmt.Errorf("wireguard: serve /var/run/wireguard/%s.sock: %w", name, err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(true)
	u := &uapi{l: l, conns: map[net.Conn]bool{}}
	u.wait.Go(func() {
		for {
			c, err := l.Accept()
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err != nil {
				log.Warn("wireguard control socket failed", "interface", name, "err", err)
				return
			}
			if !u.admit(c) {
				_ = c.Close()
				continue
			}
			u.wait.Go(func() {
				dev.IpcHandle(c) // closes c
				u.mu.Lock()
				defer u.mu.Unlock()
				delete(u.conns, c)
			})
		}
	})
	return u, nil
}

func (u *uapi) admit(c net.Conn) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.closed || len(u.conns) >= uapiCallers {
		return false
	}
	u.conns[c] = true
	return true
}

func (u *uapi) close() error {
	err := u.l.Close()
	u.mu.Lock()
	u.closed = true
	for c := range u.conns {
		_ = c.Close() // its reader ends
	}
	u.mu.Unlock()
	u.wait.Wait()
	if errors.Is(err, net.ErrClosed) {
		return nil // closed before
	}
	return err
}
