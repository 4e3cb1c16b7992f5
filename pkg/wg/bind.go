package wg

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"syscall"

	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
	"golang.zx2c4.com/wireguard/conn"
)

// addressBind receives on one address of the machine; wireguard-go's own binds know only all of them.
type addressBind struct {
	at       netip.Addr
	mu       sync.RWMutex
	pc       *net.UDPConn
	batch         // nil: closed, or one packet at a time
	one      bool // not on Linux: golang.org/x/net has no batches there, and on Windows not even messages
	messages sync.Pool
}

// batch is what ipv4.PacketConn and ipv6.PacketConn have in common: many packets for one system call, on Linux.
type batch interface {
	ReadBatch(ms []ipv4.Message, flags int) (int, error)
	WriteBatch(ms []ipv4.Message, flags int) (int, error)
}

const (
	bindBatch  = 128
	bindBuffer = 4 << 20 // bytes of socket buffers asked for; the system may give less
)

func newAddressBind(at netip.Addr) *addressBind {
	return &addressBind{at: at, one: runtime.GOOS != "linux", messages: sync.Pool{New: func() any {
		ms := make([]ipv4.Message, bindBatch)
		for i := range ms {
			ms[i].Buffers = make([][]byte, 1)
		}
		return &ms
	}}}
}

// Open is conn.Bind's.
func (b *addressBind) Open(port uint16) ([]conn.ReceiveFunc, uint16, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.pc != nil {
		return nil, 0, conn.ErrBindAlreadyOpen
	}
	pc, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(b.at, port)))
	if err != nil {
		return nil, 0, err
	}
	_ = pc.SetReadBuffer(bindBuffer) // best effort, as wireguard-go does
	_ = pc.SetWriteBuffer(bindBuffer)
	b.pc = pc
	port = uint16(pc.LocalAddr().(*net.UDPAddr).Port)
	if b.one {
		return []conn.ReceiveFunc{func(bufs [][]byte, sizes []int, eps []conn.Endpoint) (int, error) {
			n, from, err := pc.ReadFromUDPAddrPort(bufs[0])
			if err != nil {
				return 0, err
			}
			sizes[0], eps[0] = n, &conn.StdNetEndpoint{AddrPort: netip.AddrPortFrom(from.Addr().Unmap(), from.Port())}
			return 1, nil
		}}, port, nil
	}
	if b.at.Is4() {
		b.batch = ipv4.NewPacketConn(pc)
	} else {
		b.batch = ipv6.NewPacketConn(pc)
	}
	in := b.batch
	receive := func(bufs [][]byte, sizes []int, eps []conn.Endpoint) (int, error) {
		ms := b.messages.Get().(*[]ipv4.Message)
		defer b.messages.Put(ms)
		use := (*ms)[:min(len(bufs), len(*ms))]
		for i := range use {
			use[i].Buffers[0] = bufs[i]
		}
		n, err := in.ReadBatch(use, 0)
		if err != nil {
			return 0, err
		}
		for i := range n {
			sizes[i] = use[i].N
			from := use[i].Addr.(*net.UDPAddr).AddrPort()
			eps[i] = &conn.StdNetEndpoint{AddrPort: netip.AddrPortFrom(from.Addr().Unmap(), from.Port())}
		}
		return n, nil
	}
	return []conn.ReceiveFunc{receive}, port, nil
}

// Close is conn.Bind's.
func (b *addressBind) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.pc == nil {
		return nil
	}
	err := b.pc.Close()
	b.pc, b.batch = nil, nil
	return err
}

// Send is conn.Bind's.
func (b *addressBind) Send(bufs [][]byte, to conn.Endpoint) error {
	b.mu.RLock()
	out, pc := b.batch, b.pc
	b.mu.RUnlock()
	if pc == nil {
		return net.ErrClosed
	}
	e, ok := to.(*conn.StdNetEndpoint)
	if !ok {
		return conn.ErrWrongEndpointType
	}
	if e.Addr().Is4() != b.at.Is4() {
		return syscall.EAFNOSUPPORT
	}
	if b.one {
		for _, p := range bufs {
			if _, err := pc.WriteToUDPAddrPort(p, e.AddrPort); err != nil {
				return err
			}
		}
		return nil
	}
	ms := b.messages.Get().(*[]ipv4.Message)
	defer b.messages.Put(ms)
	addr := net.UDPAddrFromAddrPort(e.AddrPort)
	for len(bufs) > 0 {
		use := (*ms)[:min(len(bufs), len(*ms))]
		for i := range use {
			use[i].Buffers[0], use[i].Addr = bufs[i], addr
		}
		n, err := out.WriteBatch(use, 0)
		if err != nil {
			return err
		}
		if n == 0 {
			return errors.New("no packet was sent")
		}
		bufs = bufs[n:]
	}
	return nil
}

// ParseEndpoint is conn.Bind's.
func (b *addressBind) ParseEndpoint(s string) (conn.Endpoint, error) {
	a, err := netip.ParseAddrPort(s)
	if err != nil {
		return nil, err
	}
	if a.Addr().Is4() != b.at.Is4() {
		return nil, fmt.Errorf("%s cannot be reached from %s: %w", a, b.at, syscall.EAFNOSUPPORT)
	}
	return &conn.StdNetEndpoint{AddrPort: a}, nil
}

// SetMark is conn.Bind's; nothing here sets one.
func (b *addressBind) SetMark(uint32) error { return nil }

// BatchSize is conn.Bind's.
func (b *addressBind) BatchSize() int { return bindBatch }
