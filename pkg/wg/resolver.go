package wg

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"time"
)

// StaleAfter is when a session is dead for certain: keys are renewed after 120 s wherever anything is sent, and attempts go
// on for less than the rest.
const StaleAfter = 150 * time.Second

// Resolver looks a peer's name up again when its last handshake is older than StaleAfter: a device resolves a name once, and
// a hub that moved would stay lost for ever. The agent's tunnel runs one for its hub.
type Resolver struct {
	Tunnel   Tunnel
	Peer     Key
	Endpoint string                                                       // host:port, as given to Apply
	Every    time.Duration                                                // between looks at the handshake; 0: 15 s
	Resolve  func(ctx context.Context, host string) ([]netip.Addr, error) // nil: the machine's resolver
	Now      func() time.Time                                             // nil: time.Now
	Log      *slog.Logger                                                 // required
}

// Run looks until ctx ends, and returns nil.
func (r *Resolver) Run(ctx context.Context) error {
	every := r.Every
	if every == 0 {
		every = 15 * time.Second
	}
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	failing := false
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		to, err := r.Step(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil && !failing:
			r.Log.WarnContext(ctx, "tunnel is silent and its endpoint cannot be resolved", "endpoint", r.Endpoint, "err", err)
		case to.IsValid():
			r.Log.InfoContext(ctx, "tunnel endpoint resolved anew", "endpoint", r.Endpoint, "address", to.String())
		}
		failing = err != nil
	}
}

// Step looks once: where the handshake is old it resolves the name, moves the peer to the address after the one that does not
// answer, and kicks it. It returns where the peer was moved to; nowhere if that was not needed.
func (r *Resolver) Step(ctx context.Context) (netip.AddrPort, error) {
	now := time.Now
	if r.Now != nil {
		now = r.Now
	}
	d, err := r.Tunnel.Snapshot(ctx)
	if err != nil {
		return netip.AddrPort{}, err
	}
	at := slices.IndexFunc(d.Peers, func(p PeerState) bool { return p.PublicKey == r.Peer })
	if at < 0 {
		return netip.AddrPort{}, fmt.Errorf("peer %s: %w", r.Peer, ErrUnknownPeer)
	}
	if now().Sub(d.Peers[at].LastHandshake) <= StaleAfter { // never is long ago
		return netip.AddrPort{}, nil
	}
	addrs, err := r.look(ctx)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("%w: %w", ErrEndpoint, err)
	}
	to := addrs[0]
	if i := slices.IndexFunc(addrs, func(a netip.AddrPort) bool { return a.String() == d.Peers[at].Endpoint }); i >= 0 {
		to = addrs[(i+1)%len(addrs)]
	}
	moved := netip.AddrPort{}
	if to.String() != d.Peers[at].Endpoint {
		if err := r.Tunnel.SetEndpoint(ctx, r.Peer, to); err != nil {
			return netip.AddrPort{}, err
		}
		moved = to
	}
	return moved, r.Tunnel.Kick(ctx, r.Peer) // also where nothing moved: the device gives up after 90 s
}

// look returns at least one address.
func (r *Resolver) look(ctx context.Context) ([]netip.AddrPort, error) {
	host, port, err := net.SplitHostPort(r.Endpoint)
	if err != nil {
		return nil, err
	}
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return nil, fmt.Errorf("%q has no port", r.Endpoint)
	}
	var found []netip.Addr
	if literal, err := netip.ParseAddr(host); err == nil {
		found = []netip.Addr{literal}
	} else {
		ctx, cancel := context.WithTimeout(ctx, lookUpTimeout)
		defer cancel()
		resolve := r.Resolve
		if resolve == nil {
			resolve = systemResolve
		}
		if found, err = resolve(ctx, host); err != nil {
			return nil, err
		}
	}
	out := make([]netip.AddrPort, 0, len(found))
	for _, a := range found {
		if a = a.Unmap(); !a.IsUnspecified() && !a.IsMulticast() {
			out = append(out, netip.AddrPortFrom(a, uint16(number)))
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("%s has no usable address", host)
	}
	return out, nil
}

func systemResolve(ctx context.Context, host string) ([]netip.Addr, error) {
	return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
}
