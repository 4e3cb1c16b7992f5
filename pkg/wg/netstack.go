package wg

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.zx2c4.com/wireguard/tun"
	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/link/channel"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/icmp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
)

// Netstack is a device with a TCP/IP stack of its own in this process: no privilege, no driver, and nothing of it visible to
// the machine. What wants through the tunnel dials and listens here.
type Netstack struct {
	*userspace
	link *link
}

// OpenNetstack starts a device. Close ends it and all connections.
func OpenNetstack(c Config) (*Netstack, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	l, err := newLink(c)
	if err != nil {
		return nil, fmt.Errorf("wireguard: network stack: %w", err)
	}
	u, err := start(c, l)
	if err != nil {
		return nil, err
	}
	return &Netstack{userspace: u, link: l}, nil
}

// DialContext connects to an address inside the tunnel: tcp or udp, an IP literal and a port. Names are not looked up.
func (n *Netstack) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	to, err := literal(network, address)
	if err != nil {
		return nil, &net.OpError{Op: "dial", Net: network, Err: err}
	}
	if !to.Addr().IsValid() || to.Addr().IsUnspecified() {
		return nil, &net.OpError{Op: "dial", Net: network, Err: fmt.Errorf("%q has no address", address)}
	}
	full, protocol := fullAddress(to)
	switch network {
	case "tcp", "tcp4", "tcp6":
		return asConn(gonet.DialContextTCP(ctx, n.link.stack, full, protocol))
	default:
		return asConn(gonet.DialUDP(n.link.stack, nil, &full, protocol))
	}
}

// Listen listens on a TCP address inside the tunnel; without host on every address of the device.
func (n *Netstack) Listen(_ context.Context, network, address string) (net.Listener, error) {
	at, err := literal(network, address)
	if err == nil && network[:3] != "tcp" {
		err = net.UnknownNetworkError(network)
	}
	if err != nil {
		return nil, &net.OpError{Op: "listen", Net: network, Err: err}
	}
	full, protocol := fullAddress(at)
	l, err := gonet.ListenTCP(n.link.stack, full, protocol)
	if err != nil {
		return nil, &net.OpError{Op: "listen", Net: network, Err: fmt.Errorf("%s: %w", address, err)}
	}
	return l, nil
}

func asConn[T net.Conn](c T, err error) (net.Conn, error) {
	if err != nil {
		return nil, err
	}
	return c, nil
}

func literal(network, address string) (netip.AddrPort, error) {
	switch network {
	case "tcp", "tcp4", "tcp6", "udp", "udp4", "udp6":
	default:
		return netip.AddrPort{}, net.UnknownNetworkError(network)
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return netip.AddrPort{}, err
	}
	if host == "" {
		host = "0.0.0.0"
		if network[3:] == "6" {
			host = "::"
		}
	}
	at, err := netip.ParseAddrPort(net.JoinHostPort(host, port))
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("%q is no IP address and port: names are not looked up inside the tunnel", address)
	}
	if family := network[3:]; family == "4" && !at.Addr().Is4() || family == "6" && at.Addr().Is4() {
		return netip.AddrPort{}, fmt.Errorf("%q is no address of %s", address, network)
	}
	return at, nil
}

const nic = 1

func fullAddress(a netip.AddrPort) (tcpip.FullAddress, tcpip.NetworkProtocolNumber) {
	protocol := ipv6.ProtocolNumber
	if a.Addr().Is4() {
		protocol = ipv4.ProtocolNumber
	}
	full := tcpip.FullAddress{NIC: nic, Port: a.Port()}
	if !a.Addr().IsUnspecified() {
		full.Addr = tcpip.AddrFromSlice(a.Addr().AsSlice())
	}
	return full, protocol
}

// link joins the stack to the device: packets of the one are those of the other. Unlike wireguard-go's own it moves many
// packets at once, and can be closed while the stack sends.
type link struct {
	stack  *stack.Stack
	ep     *channel.Endpoint
	mtu    int
	events chan tun.Event
	ctx    context.Context // ends reads; a tun.Device has no other way to be told
	cancel context.CancelFunc
	once   sync.Once
}

const (
	linkQueue = 4096 // packets that the stack may be ahead of encryption: more are lost, and TCP slows down
	linkBatch = 128  // packets moved at once: wireguard-go's ideal
)

func newLink(c Config) (*link, error) {
	l := &link{
		stack: stack.New(stack.Options{
			NetworkProtocols:   []stack.NetworkProtocolFactory{ipv4.NewProtocol, ipv6.NewProtocol},
			TransportProtocols: []stack.TransportProtocolFactory{tcp.NewProtocol, udp.NewProtocol, icmp.NewProtocol4, icmp.NewProtocol6},
			HandleLocal:        true,
		}),
		ep:     channel.New(linkQueue, uint32(c.MTU), ""),
		mtu:    c.MTU,
		events: make(chan tun.Event, 1),
	}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	if err := l.configure(c); err != nil {
		_ = l.Close()
		return nil, err
	}
	l.events <- tun.EventUp
	return l, nil
}

func (l *link) configure(c Config) error {
	sack := tcpip.TCPSACKEnabled(true) // off by default
	if err := l.stack.SetTransportProtocolOption(tcp.ProtocolNumber, &sack); err != nil {
		return errors.New(err.String())
	}
	// A tunnel that was dead for a while must not stay silent for as long again once it works: what waits is sent again every 2 s.
	patience := tcpip.TCPMaxRTOOption(2 * time.Second)
	if err := l.stack.SetTransportProtocolOption(tcp.ProtocolNumber, &patience); err != nil {
		return errors.New(err.String())
	}
	if err := l.stack.CreateNIC(nic, l.ep); err != nil {
		return errors.New(err.String())
	}
	for _, a := range c.Addresses {
		protocol, all := ipv6.ProtocolNumber, header.IPv6EmptySubnet
		if a.Addr().Is4() {
			protocol, all = ipv4.ProtocolNumber, header.IPv4EmptySubnet
		}
		address := tcpip.ProtocolAddress{Protocol: protocol, AddressWithPrefix: tcpip.AddrFromSlice(a.Addr().AsSlice()).WithPrefix()}
		if err := l.stack.AddProtocolAddress(nic, address, stack.AddressProperties{}); err != nil {
			return fmt.Errorf("address %s: %s", a, err)
		}
		l.stack.AddRoute(tcpip.Route{Destination: all, NIC: nic}) // which peer gets it, its AllowedIPs say
	}
	return nil
}

// Read gives the device what the stack sends.
func (l *link) Read(bufs [][]byte, sizes []int, offset int) (int, error) {
	p := l.ep.ReadContext(l.ctx)
	if p == nil {
		return 0, os.ErrClosed
	}
	n := 0
	for {
		sizes[n] = copyPacket(bufs[n][offset:], p)
		p.DecRef()
		n++
		if n == len(bufs) {
			return n, nil
		}
		if p = l.ep.Read(); p == nil {
			return n, nil
		}
	}
}

func copyPacket(to []byte, p *stack.PacketBuffer) int {
	n := 0
	for _, s := range p.AsSlices() {
		n += copy(to[n:], s)
	}
	return n
}

// Write gives the stack what a peer sent.
func (l *link) Write(bufs [][]byte, offset int) (int, error) {
	for _, b := range bufs {
		packet := b[offset:]
		if len(packet) == 0 {
			continue
		}
		var protocol tcpip.NetworkProtocolNumber
		switch packet[0] >> 4 {
		case 4:
			protocol = header.IPv4ProtocolNumber
		case 6:
			protocol = header.IPv6ProtocolNumber
		default:
			return 0, syscall.EAFNOSUPPORT
		}
		p := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithData(packet)})
		l.ep.InjectInbound(protocol, p)
		p.DecRef()
	}
	return len(bufs), nil
}

// Close ends the stack with all connections.
func (l *link) Close() error {
	l.once.Do(func() {
		l.cancel()
		l.stack.RemoveNIC(nic)
		l.stack.Close()
		l.ep.Close()
		close(l.events)
	})
	return nil
}

func (l *link) File() *os.File           { return nil }
func (l *link) MTU() (int, error)        { return l.mtu, nil }
func (l *link) Name() (string, error)    { return "netstack", nil }
func (l *link) Events() <-chan tun.Event { return l.events }
func (l *link) BatchSize() int           { return linkBatch }
