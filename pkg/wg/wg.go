// Package wg runs one WireGuard device: embedded with a network stack of its own (netstack: no privilege, no driver), on a
// TUN device, or in the kernel. It applies peers as differences to a live device, says what the device knows of each peer,
// and starts new handshakes. It does not decide who may be a peer, stores nothing and hands out no addresses: the hub's peers
// and the agent's tunnel call it.
package wg

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"time"

	"golang.zx2c4.com/wireguard/conn"
)

// MaxPeers is what one device holds: wireguard-go's limit, which the kernel's table does not go below.
const MaxPeers = 65_536

const (
	chunk      = 256  // peers configured at once: a bad one is found in 8 halvings, and others wait for no more than this
	defaultMTU = 1420 // 1,500 less IPv6, UDP and WireGuard headers: wireguard's own default
)

// Peer is what a device shall know of the other side of a tunnel.
type Peer struct {
	PublicKey  Key
	PSK        Secret         // zero: none
	AllowedIPs []netip.Prefix // addresses inside the tunnel that are the peer's; of no other peer
	Endpoint   string         // host:port; "" = unknown, or keep what the device has learnt. A name is resolved by every Apply
	Keepalive  time.Duration  // whole seconds; 0: none
}

// PeerState is a peer as the device has it. Its Endpoint is where the peer was last heard, or where the device would send.
type PeerState struct {
	Peer
	Asked         string    // the endpoint that Apply last set through this backend, as it was given: perhaps a name
	LastHandshake time.Time // zero: never
	Received      uint64    // bytes with overhead, since the peer was added
	Sent          uint64
}

// Device is a device at one moment.
type Device struct {
	PublicKey Key
	Port      int // UDP
	Peers     []PeerState
}

// Changes leads from one set of peers to another; Diff computes it. A peer to upsert is added or changed in place: a live
// session goes on.
type Changes struct {
	Remove []Key
	Upsert []Peer
}

// Empty says that nothing is to be done.
func (c Changes) Empty() bool { return len(c.Remove) == 0 && len(c.Upsert) == 0 }

// Backend is a device, whatever drives it. Methods may be called concurrently.
type Backend interface {
	// Apply makes the changes: removals of peers whose addresses another gets, upserts, the other removals. A peer that
	// cannot be applied is left out and reported as *PeerError in the (joined) error; everything else is applied. Only another
	// kind of error, or the end of ctx, leaves changes undone.
	Apply(ctx context.Context, c Changes) error
	// Snapshot says what the device has.
	Snapshot(ctx context.Context) (Device, error)
	// Kick starts a new handshake with a peer now, where the protocol would wait up to 15 s: after the other side restarted.
	// It does not wait for the answer; what the other side drops because it came too soon after another is repeated once. A new
	// peer with an endpoint and a keepalive starts by itself and needs no kick.
	Kick(ctx context.Context, peer Key) error
	// Close ends the device and every connection through it.
	Close() error
}

// Tunnel is a Backend with the way into the tunnel. In netstack that is the only way; for the others it is the machine's own
// network.
type Tunnel interface {
	Backend
	// SetEndpoint moves a peer without forgetting which endpoint was asked for: its name resolved anew, for one.
	SetEndpoint(ctx context.Context, peer Key, to netip.AddrPort) error
	DialContext(ctx context.Context, network, address string) (net.Conn, error)
	Listen(ctx context.Context, network, address string) (net.Listener, error)
}

// Config is what a device starts with. Its key never changes: another key is another device on another port, because a
// change on a live device drops every session (with 10,000 peers for seconds).
type Config struct {
	Private    Secret
	Addresses  []netip.Prefix                                               // of this side, inside the tunnel
	Listen     netip.Addr                                                   // where UDP packets are received; zero: every address of the machine. Not in the kernel
	ListenPort int                                                          // UDP; 0: any free one
	MTU        int                                                          // 0: 1,420
	Interface  string                                                       // name of the TUN or kernel interface; "" = wg0
	UAPI       bool                                                         // TUN: serve /var/run/wireguard/{interface}.sock, so that `wg show` works; for the whole machine, whatever the network namespace
	Bind       conn.Bind                                                    // nil: UDP
	Resolve    func(ctx context.Context, host string) ([]netip.Addr, error) // nil: the machine's resolver
	Log        *slog.Logger                                                 // required
}

func (c *Config) check() error {
	switch {
	case c.Private == Secret{}:
		return errors.New("wireguard: no private key")
	case c.Log == nil:
		return errors.New("wireguard: Config.Log is required")
	case len(c.Addresses) == 0:
		return errors.New("wireguard: no address inside the tunnel")
	case c.ListenPort < 0 || c.ListenPort > 65_535:
		return fmt.Errorf("wireguard: port %d is not between 0 and 65535", c.ListenPort)
	case c.MTU != 0 && (c.MTU < 576 || c.MTU > 65_000):
		return fmt.Errorf("wireguard: MTU %d is not between 576 and 65000", c.MTU)
	case c.Listen.IsValid() && c.Bind != nil:
		return errors.New("wireguard: Config.Listen and Config.Bind exclude each other")
	}
	for _, a := range c.Addresses {
		if !a.IsValid() || a.Addr().Is4In6() {
			return fmt.Errorf("wireguard: %s is not an address with a prefix length", a)
		}
	}
	if c.MTU == 0 {
		c.MTU = defaultMTU
	}
	if c.Interface == "" {
		c.Interface = "wg0"
	}
	if c.Resolve == nil {
		c.Resolve = systemResolve
	}
	if c.Bind == nil {
		if c.Listen.IsValid() && !c.Listen.IsUnspecified() {
			c.Bind = newAddressBind(c.Listen)
		} else {
			c.Bind = conn.NewDefaultBind()
		}
	}
	return nil
}

// What a peer may be refused for. ErrUnsupported means that the backend does not exist on this system.
var (
	ErrOwnKey      = errors.New("the peer's public key is the device's own")
	ErrNoKey       = errors.New("the peer has no public key")
	ErrTwice       = errors.New("the peer is named twice")
	ErrOverlap     = errors.New("an allowed address belongs to another peer")
	ErrEndpoint    = errors.New("the endpoint is no host:port that can be reached")
	ErrKeepalive   = errors.New("the keepalive is not between 0 and 65535 whole seconds")
	ErrTooMany     = fmt.Errorf("the device holds %d peers and no more", MaxPeers)
	ErrUnknownPeer = errors.New("the device has no such peer")
	ErrUnsupported = errors.New("not on this system")
)

// PeerError is one peer that could not be applied. The others were.
type PeerError struct {
	Key Key
	Err error
}

func (e *PeerError) Error() string { return fmt.Sprintf("peer %s: %v", e.Key, e.Err) }
func (e *PeerError) Unwrap() error { return e.Err }

// PeerErrors returns every *PeerError in err, and what else is in it: nil if nothing. Apply's caller quarantines the first
// and treats the rest as a failure of the device.
func PeerErrors(err error) (peers []*PeerError, rest error) {
	switch e := err.(type) { //nolint:errorlint // takes apart what errors.Join put together, level by level
	case nil:
		return nil, nil
	case *PeerError:
		return []*PeerError{e}, nil
	case interface{ Unwrap() []error }:
		var others []error
		for _, one := range e.Unwrap() {
			p, r := PeerErrors(one)
			peers = append(peers, p...)
			others = append(others, r)
		}
		return peers, errors.Join(others...)
	default:
		return nil, err
	}
}

// Kinds of backends for Open.
const (
	KindAuto     = "auto"
	KindKernel   = "kernel"
	KindTUN      = "tun"
	KindNetstack = "netstack"
)

// Open opens a device of a kind. Auto takes the fastest that this machine and this user can have: kernel, TUN, netstack; why
// says what kept it from the faster ones.
func Open(kind string, c Config) (t Tunnel, chosen, why string, err error) {
	switch kind {
	case KindKernel:
		t, err = asTunnel(OpenKernel(c))
	case KindTUN:
		t, err = asTunnel(OpenTUN(c))
	case KindNetstack:
		t, err = asTunnel(OpenNetstack(c))
	case KindAuto, "":
		k, kerr := OpenKernel(c)
		if kerr == nil {
			return k, KindKernel, "the kernel has WireGuard", nil
		}
		u, uerr := OpenTUN(c)
		if uerr == nil {
			return u, KindTUN, fmt.Sprintf("no kernel device (%v)", kerr), nil
		}
		why = fmt.Sprintf("no kernel device (%v), no TUN device (%v)", kerr, uerr)
		t, err = asTunnel(OpenNetstack(c))
		if err != nil {
			return nil, "", "", errors.Join(kerr, uerr, err)
		}
		return t, KindNetstack, why, nil
	default:
		return nil, "", "", fmt.Errorf("wireguard: unknown backend %q: auto, kernel, tun or netstack", kind)
	}
	if err != nil {
		return nil, "", "", err
	}
	return t, kind, "as configured", nil
}

// asTunnel keeps a nil pointer from becoming an interface that is not nil.
func asTunnel[T Tunnel](t T, err error) (Tunnel, error) {
	if err != nil {
		return nil, err
	}
	return t, nil
}
