package wg

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	"golang.zx2c4.com/wireguard/wgctrl"
	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"
)

// control drives a device that another process or the kernel runs, through wgctrl. What wgctrl refuses it often explains with
// "broken pipe"; halving the chunk gets at the peer.
type control struct {
	client *wgctrl.Client
	name   string
	ledger *ledger
	kicker *kicker
}

func newControl(client *wgctrl.Client, c Config) *control {
	k := &control{client: client, name: c.Interface, ledger: newLedger(c)}
	k.kicker = newKicker(k.again, k.read)
	return k
}

// Apply is Backend's.
func (k *control) Apply(ctx context.Context, c Changes) error { return k.ledger.apply(ctx, c, k) }

func (k *control) configure(peers []change) error {
	out := make([]wgtypes.PeerConfig, len(peers))
	for i := range peers {
		p := &peers[i]
		psk := wgtypes.Key(p.PSK)
		out[i] = wgtypes.PeerConfig{
			PublicKey: wgtypes.Key(p.PublicKey), PresharedKey: &psk, PersistentKeepaliveInterval: &p.Keepalive,
		}
		if p.endpoint.IsValid() {
			out[i].Endpoint = net.UDPAddrFromAddrPort(p.endpoint)
		}
		if p.allowed {
			out[i].ReplaceAllowedIPs = true
			out[i].AllowedIPs = ipNets(p.AllowedIPs)
		}
	}
	return k.set(out...)
}

func (k *control) remove(keys []Key) error {
	out := make([]wgtypes.PeerConfig, len(keys))
	for i, key := range keys {
		out[i] = wgtypes.PeerConfig{PublicKey: wgtypes.Key(key), Remove: true}
	}
	return k.set(out...)
}

// set never replaces the peers of the device.
func (k *control) set(peers ...wgtypes.PeerConfig) error {
	if err := k.client.ConfigureDevice(k.name, wgtypes.Config{Peers: peers}); err != nil {
		return fmt.Errorf("configure %s: %w", k.name, err)
	}
	return nil
}

func ipNets(ps []netip.Prefix) []net.IPNet {
	out := make([]net.IPNet, len(ps))
	for i, p := range ps {
		out[i] = net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
	}
	return out
}

// Snapshot is Backend's.
func (k *control) Snapshot(ctx context.Context) (Device, error) {
	if err := ctx.Err(); err != nil {
		return Device{}, err
	}
	k.ledger.mu.Lock()
	defer k.ledger.mu.Unlock()
	d, err := k.read()
	if err != nil {
		return Device{}, err
	}
	k.ledger.observe(&d)
	return d, nil
}

func (k *control) read() (Device, error) {
	dev, err := k.client.Device(k.name)
	if err != nil {
		return Device{}, fmt.Errorf("wireguard: read %s: %w", k.name, err)
	}
	d := Device{PublicKey: Key(dev.PublicKey), Port: dev.ListenPort, Peers: make([]PeerState, len(dev.Peers))}
	for i := range dev.Peers {
		d.Peers[i] = state(&dev.Peers[i])
	}
	return d, nil
}

func state(p *wgtypes.Peer) PeerState {
	s := PeerState{
		Peer:     Peer{PublicKey: Key(p.PublicKey), PSK: Secret(p.PresharedKey), Keepalive: p.PersistentKeepaliveInterval},
		Received: uint64(p.ReceiveBytes), Sent: uint64(p.TransmitBytes),
	}
	if p.Endpoint != nil {
		a := p.Endpoint.AddrPort()
		s.Endpoint = netip.AddrPortFrom(a.Addr().Unmap(), a.Port()).String()
	}
	if !p.LastHandshakeTime.IsZero() && p.LastHandshakeTime.UnixNano() != 0 {
		s.LastHandshake = p.LastHandshakeTime.UTC()
	}
	for _, n := range p.AllowedIPs {
		if a, ok := netip.AddrFromSlice(n.IP); ok {
			bits, _ := n.Mask.Size()
			s.AllowedIPs = append(s.AllowedIPs, netip.PrefixFrom(a.Unmap(), bits))
		}
	}
	return s
}

// Kick is Backend's. The kernel cannot be told to expire keys: the peer is removed and added as it was, which sets its
// counters to zero, and a keepalive makes it start.
func (k *control) Kick(ctx context.Context, key Key) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return k.kicker.kick(key)
}

func (k *control) again(key Key) error {
	k.ledger.mu.Lock()
	defer k.ledger.mu.Unlock()
	dev, err := k.client.Device(k.name)
	if err != nil {
		return fmt.Errorf("read %s: %w", k.name, err)
	}
	for i := range dev.Peers {
		p := &dev.Peers[i]
		if Key(p.PublicKey) != key {
			continue
		}
		keepalive := max(p.PersistentKeepaliveInterval, time.Second)
		again := wgtypes.PeerConfig{
			PublicKey: p.PublicKey, PresharedKey: &p.PresharedKey, Endpoint: p.Endpoint,
			PersistentKeepaliveInterval: &keepalive, ReplaceAllowedIPs: true, AllowedIPs: p.AllowedIPs,
		}
		if err := k.set(wgtypes.PeerConfig{PublicKey: p.PublicKey, Remove: true}, again); err != nil {
			return err
		}
		if keepalive == p.PersistentKeepaliveInterval {
			return nil
		}
		return k.set(wgtypes.PeerConfig{PublicKey: p.PublicKey, UpdateOnly: true, PersistentKeepaliveInterval: &p.PersistentKeepaliveInterval})
	}
	return ErrUnknownPeer
}

// SetEndpoint is Tunnel's.
func (k *control) SetEndpoint(_ context.Context, key Key, to netip.AddrPort) error {
	k.ledger.mu.Lock()
	defer k.ledger.mu.Unlock()
	if _, known := k.ledger.peers[key]; !known {
		return fmt.Errorf("set endpoint of %s: %w", key, ErrUnknownPeer)
	}
	return k.set(wgtypes.PeerConfig{PublicKey: wgtypes.Key(key), UpdateOnly: true, Endpoint: net.UDPAddrFromAddrPort(to)})
}

// Kernel is a device of the kernel: the fastest, and needs CAP_NET_ADMIN. If the process dies the interface stays, with its
// sessions; the next one with the same key takes it over.
type Kernel struct {
	*control
	*host
	close func() error // once
}

const kernelKind = "wireguard"

// OpenKernel makes the interface, or takes over one that has the same key.
func OpenKernel(c Config) (*Kernel, error) {
	given := c.Bind
	if err := c.check(); err != nil {
		return nil, err
	}
	if given != nil || c.Listen.IsValid() && !c.Listen.IsUnspecified() {
		return nil, errors.New("wireguard: the kernel receives on every address of the machine, not on one: use tun or netstack")
	}
	nl, err := openRtnl()
	if err != nil {
		return nil, err
	}
	k, err := openKernel(nl, c)
	if err != nil {
		nl.close()
		return nil, err
	}
	return k, nil
}

func openKernel(nl *rtnl, c Config) (*Kernel, error) {
	err := nl.addLink(c.Interface, kernelKind)
	made := err == nil
	if err != nil && !errors.Is(err, unix.EEXIST) {
		return nil, fmt.Errorf("wireguard: make kernel interface %s: %w%s", c.Interface, err, hint(err))
	}
	// Asked here, not of wgctrl: that would also show a userspace device of the same name in any network namespace.
	index, kind, err := nl.link(c.Interface)
	if err != nil {
		return nil, err
	}
	if kind != kernelKind {
		return nil, fmt.Errorf("wireguard: interface %s exists and is no WireGuard interface of the kernel: choose another name", c.Interface)
	}
	client, err := wgctrl.New()
	if err != nil {
		return nil, fmt.Errorf("wireguard: %w", err)
	}
	k := &Kernel{control: newControl(client, c)}
	err = k.adopt(c)
	if err == nil {
		k.host, err = newHost(nl, index, c)
	}
	if err != nil {
		err = errors.Join(err, client.Close())
		if made {
			err = errors.Join(err, nl.deleteLink(index))
		}
		return nil, err
	}
	k.close = sync.OnceValue(func() error {
		k.kicker.close()
		err := errors.Join(nl.deleteLink(index), client.Close())
		nl.close()
		return err
	})
	return k, nil
}

// adopt gives the interface its key, unless it has it: setting it again would end every session.
func (k *Kernel) adopt(c Config) error {
	dev, err := k.client.Device(c.Interface)
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("wireguard: the kernel made interface %s but does not answer for it: is the wireguard module complete?", c.Interface)
	}
	if err != nil {
		return fmt.Errorf("wireguard: read %s: %w", c.Interface, err)
	}
	set := wgtypes.Config{}
	switch has := Secret(dev.PrivateKey); {
	case has == c.Private:
	case has.IsZero():
		private := wgtypes.Key(c.Private)
		set.PrivateKey = &private
	default:
		return fmt.Errorf("wireguard: interface %s exists with another key (%s) and is left alone: choose another name, or remove it with `ip link delete %s`", c.Interface, Key(dev.PublicKey), c.Interface)
	}
	if c.ListenPort != 0 && dev.ListenPort != c.ListenPort {
		set.ListenPort = &c.ListenPort
	}
	if set.PrivateKey == nil && set.ListenPort == nil {
		return nil
	}
	if err := k.client.ConfigureDevice(c.Interface, set); err != nil {
		return fmt.Errorf("wireguard: set up %s on UDP port %d: %w", c.Interface, c.ListenPort, err)
	}
	return nil
}

// Apply is Backend's.
func (k *Kernel) Apply(ctx context.Context, c Changes) error {
	err := k.control.Apply(ctx, c)
	return errors.Join(err, k.follow(k.ledger))
}

// Close removes the interface.
func (k *Kernel) Close() error { return k.close() }
