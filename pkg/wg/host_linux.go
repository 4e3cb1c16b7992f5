package wg

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"

	"golang.org/x/sys/unix"
)

// host is the machine's side of an interface: its addresses, and routes to allowed addresses that lie outside of them.
type host struct {
	nl        *rtnl
	index     int
	addresses []netip.Prefix

	mu     sync.Mutex
	routes map[netip.Prefix]bool
}

func newHost(nl *rtnl, index int, c Config) (*host, error) {
	h := &host{nl: nl, index: index, addresses: c.Addresses, routes: map[netip.Prefix]bool{}}
	for _, a := range c.Addresses {
		if err := nl.addAddress(index, a); err != nil {
			return nil, fmt.Errorf("wireguard: give %s the address %s: %w", c.Interface, a, err)
		}
	}
	if err := nl.up(index, c.MTU); err != nil {
		return nil, fmt.Errorf("wireguard: set %s up with MTU %d: %w", c.Interface, c.MTU, err)
	}
	return h, nil
}

// follow makes the routes those that the ledger's addresses need. It never takes over the default route.
func (h *host) follow(l *ledger) error {
	wanted := l.outside(h.addresses)
	h.mu.Lock()
	defer h.mu.Unlock()
	var errs []error
	for to := range h.routes {
		if !wanted[to] {
			if err := h.nl.route(h.index, to, false); err != nil && !errors.Is(err, unix.ESRCH) {
				errs = append(errs, fmt.Errorf("wireguard: remove route to %s: %w", to, err))
				continue
			}
			delete(h.routes, to)
		}
	}
	for to := range wanted {
		if !h.routes[to] {
			if err := h.nl.route(h.index, to, true); err != nil {
				errs = append(errs, fmt.Errorf("wireguard: add route to %s: %w", to, err))
				continue
			}
			h.routes[to] = true
		}
	}
	return errors.Join(errs...)
}

// DialContext dials from the machine.
func (h *host) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, network, address)
}

// Listen listens on the machine.
func (h *host) Listen(ctx context.Context, network, address string) (net.Listener, error) {
	var c net.ListenConfig
	return c.Listen(ctx, network, address)
}
