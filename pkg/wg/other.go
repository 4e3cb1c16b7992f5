//go:build !linux

package wg

import (
	"context"
	"fmt"
	"net"
	"runtime"
)

// TUN is a device on a TUN interface of the machine.
type TUN struct{ *userspace }

// OpenTUN needs Linux.
func OpenTUN(Config) (*TUN, error) {
	return nil, fmt.Errorf("TUN backend on %s: %w; use netstack", runtime.GOOS, ErrUnsupported)
}

// DialContext dials from the machine.
func (t *TUN) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	return hostDial(ctx, network, address)
}

// Listen listens on the machine.
func (t *TUN) Listen(ctx context.Context, network, address string) (net.Listener, error) {
	return hostListen(ctx, network, address)
}

// Kernel is a device of the kernel.
type Kernel struct{ *userspace }

// OpenKernel needs Linux.
func OpenKernel(Config) (*Kernel, error) {
	return nil, fmt.Errorf("kernel backend on %s: %w; use netstack", runtime.GOOS, ErrUnsupported)
}

// DialContext dials from the machine.
func (k *Kernel) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	return hostDial(ctx, network, address)
}

// Listen listens on the machine.
func (k *Kernel) Listen(ctx context.Context, network, address string) (net.Listener, error) {
	return hostListen(ctx, network, address)
}

// hostDial and hostListen are the way into a tunnel that the machine itself knows.
func hostDial(ctx context.Context, network, address string) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, network, address)
}

func hostListen(ctx context.Context, network, address string) (net.Listener, error) {
	var c net.ListenConfig
	return c.Listen(ctx, network, address)
}
