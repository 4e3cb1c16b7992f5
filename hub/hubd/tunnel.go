package hubd

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/hashinsight/hashinsight/hub/internal/audit"
	"github.com/hashinsight/hashinsight/hub/internal/peers"
	"github.com/hashinsight/hashinsight/pkg/ident"
	"github.com/hashinsight/hashinsight/pkg/lifecycle"
)

// Tunnel says how sites reach the hub through WireGuard.
type Tunnel struct {
	Addr      string       // host:port of the device; empty or off: no tunnel
	Backend   string       // auto, kernel, tun or netstack; empty means auto
	Network   netip.Prefix // where sites' addresses come from; zero means 10.8.0.0/16
	Endpoint  string       // host:port that sites are told for Addr
	Interface string       // empty means wg0
	Fallback  string       // host:443 that sites are told for when UDP does not pass; empty: none

	FallbackListen string // where agents are taken besides GRPCAddr, which Fallback may lead to; empty: nowhere
}

func (t Tunnel) on() bool { return t.Addr != "" && t.Addr != "off" }

// grpcInTunnel is the port of the telemetry service on the hub's address inside the tunnel.
const grpcInTunnel = 5443

func (t Tunnel) store(db *pgxpool.Pool, c Database, log *audit.Log) (*peers.Store, error) {
	p := peers.Config{DB: db, Password: c.EncryptionPassword, Network: t.Network, Endpoint: t.Endpoint, GRPCPort: grpcInTunnel, Audit: log, Now: c.Now, Log: c.Log}
	if t.on() {
		p.Listen = t.Addr
	}
	return peers.NewStore(p)
}

// startTunnel starts what has the WireGuard device whenever no other hub process has, and lets agents take connections from inside it too.
func (h *Hub) startTunnel(stack *lifecycle.Stack, s subjects, agents *gate) (*peers.Manager, error) {
	m, err := peers.NewManager(peers.ManagerConfig{
		Store: s.peers, Direct: s.direct, Backend: h.c.Tunnel.Backend, Interface: h.c.Tunnel.Interface, Attach: agents.attach,
		HostServed: everywhere(h.grpc.Addr(), grpcInTunnel), Alone: h.alone, Log: h.c.Log, Registerer: h.c.Registry,
	})
	if err != nil {
		return nil, err
	}
	stack.Go("tunnel", stopTunnel, m.Run)
	return m, nil
}

// everywhere reports whether a listener takes connections to a port at every address of the machine.
func everywhere(a net.Addr, port int) bool {
	t, ok := a.(*net.TCPAddr)
	return ok && t.Port == port && (t.IP == nil || t.IP.IsUnspecified())
}

// cutOff takes a revoked site's peer away.
func (h *Hub) cutOff(ctx context.Context, m *peers.Manager, site ident.SiteID) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if err := m.RemoveSite(ctx, site); err != nil && ctx.Err() == nil {
		h.c.Log.ErrorContext(ctx, "a revoked site's peer could not be removed; it is tried again with the next pass", "site", site, "err", err)
	}
}

// gate is several listeners in one: the ordinary one, which lasts, the fall-back's, and those inside the tunnel, which come and go with its devices. A connection keeps
// the address that it came from, so that limits count a site in the tunnel by itself.
type gate struct {
	base  net.Listener
	conns chan net.Conn
	errs  chan error // of the ordinary one
	done  chan struct{}

	mu     sync.Mutex
	closed bool
	inside map[net.Listener]bool
	taking sync.WaitGroup
}

func newGate(base net.Listener) *gate {
	g := &gate{base: base, conns: make(chan net.Conn), errs: make(chan error), done: make(chan struct{}), inside: map[net.Listener]bool{}}
	g.taking.Go(func() {
		for {
			c, err := base.Accept()
			if err == nil {
				g.hand(c)
				continue
			}
			select {
			case g.errs <- err: // whoever accepts knows which errors pass
			case <-g.done:
				return
			}
			if errors.Is(err, net.ErrClosed) {
				return
			}
		}
	})
	return g
}

func (g *gate) hand(c net.Conn) {
	select {
	case g.conns <- c:
	case <-g.done:
		_ = c.Close() // nobody will
	}
}

// attach takes connections of l until l is closed, or the gate is.
func (g *gate) attach(l net.Listener) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		_ = l.Close() // it was never used
		return
	}
	g.inside[l] = true
	g.taking.Go(func() {
		defer func() {
			g.mu.Lock()
			defer g.mu.Unlock()
			delete(g.inside, l)
			_ = l.Close() // it ended by itself
		}()
		for {
			c, err := l.Accept()
			switch {
			case err == nil:
				g.hand(c)
			case !passes(err):
				return
			default:
				select {
				case <-time.After(acceptPause):
				case <-g.done:
					return
				}
			}
		}
	})
}

// acceptPause is how long a listener waits that could not take a connection for want of something.
const acceptPause = 50 * time.Millisecond

// passes reports whether an error of Accept says nothing about the listener: the fall-back's would else be gone for good once this process, or the machine,
// has had too many files open for a moment.
func passes(err error) bool {
	for _, e := range []error{syscall.EMFILE, syscall.ENFILE, syscall.ECONNABORTED, syscall.ENOBUFS, syscall.ENOMEM} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// Accept implements net.Listener.
func (g *gate) Accept() (net.Conn, error) {
	select {
	case c := <-g.conns:
		return c, nil
	case err := <-g.errs:
		return nil, err
	case <-g.done:
		return nil, net.ErrClosed
	}
}

// Addr implements net.Listener: the ordinary one's.
func (g *gate) Addr() net.Addr { return g.base.Addr() }

// Close implements net.Listener.
func (g *gate) Close() error {
	g.mu.Lock()
	if g.closed {
		g.mu.Unlock()
		return net.ErrClosed
	}
	g.closed = true
	close(g.done)
	errs := []error{g.base.Close()}
	for l := range g.inside {
		_ = l.Close() // its device may have closed it
	}
	g.mu.Unlock()
	g.taking.Wait()
	return errors.Join(errs...)
}
