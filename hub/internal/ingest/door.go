package ingest

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
)

// Times of a connection's beginning.
const (
	connectTimeout   = 20 * time.Second // for its whole beginning, the wait for a turn included
	handshakeTimeout = 10 * time.Second // for its handshake once it has its turn
	idleTimeout      = time.Minute      // of a connection without a stream
)

// door bounds what connections cost before they are agents: how many there are, from one address too, and how many shake hands at a time. A peer
// that opens connections and says nothing keeps its own address waiting and nobody else.
type door struct {
	maxConns, maxConnsAddr   int
	maxShaking, maxShakeAddr int
	refused                  func(bound string)

	mu      sync.Mutex
	conns   int
	shaking int
	addrs   map[string]*addrUse
	waiting []*turn // for a handshake, in order
}

// addrUse is what one address holds.
type addrUse struct{ conns, shaking int }

// turn is a connection that waits for its handshake.
type turn struct {
	addr  string
	ready chan struct{} // closed when its turn has come
}

func newDoor(c Config, refused func(bound string)) *door {
	return &door{
		maxConns: c.MaxConns, maxConnsAddr: c.MaxConnsPerAddress, maxShaking: c.Handshakes, maxShakeAddr: max(1, c.Handshakes/4), refused: refused,
		addrs: map[string]*addrUse{},
	}
}

// addressOf is what a peer counts for: its address without the port, and of IPv6 the /64, which is what one line is given: somebody there has as many
// addresses as they like.
func addressOf(a net.Addr) string {
	ap, err := netip.ParseAddrPort(a.String())
	if err != nil {
		return a.String()
	}
	addr := ap.Addr().Unmap().WithZone("")
	if p, err := addr.Prefix(64); err == nil && addr.Is6() {
		return p.String()
	}
	return addr.String()
}

func (d *door) use(addr string) *addrUse {
	u := d.addrs[addr]
	if u == nil {
		u = &addrUse{}
		d.addrs[addr] = u
	}
	return u
}

// enter counts a connection in, if there is room.
func (d *door) enter(addr string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch u := d.addrs[addr]; {
	case d.conns >= d.maxConns:
		d.refused("connections")
		return false
	case u != nil && u.conns >= d.maxConnsAddr:
		d.refused("connections_of_an_address")
		return false
	}
	d.use(addr).conns++
	d.conns++
	return true
}

func (d *door) leave(addr string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.conns--
	u := d.addrs[addr]
	if u.conns--; u.conns == 0 && u.shaking == 0 {
		delete(d.addrs, addr)
	}
}

// errNoTurn ends a connection that waited too long for its handshake.
var errNoTurn = errors.New("too many handshakes at a time")

// await waits until addr may shake hands; done gives its place back.
func (d *door) await(addr string, patience time.Duration) (done func(), err error) {
	t := &turn{addr, make(chan struct{})}
	d.mu.Lock()
	d.waiting = append(d.waiting, t)
	d.next()
	d.mu.Unlock()
	late := time.NewTimer(patience)
	defer late.Stop()
	select {
	case <-t.ready:
	default:
		d.refused("handshakes")
		select {
		case <-t.ready:
		case <-late.C:
			if d.giveUp(t) {
				return nil, errNoTurn
			}
		}
	}
	return func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.shaking--
		u := d.addrs[addr]
		if u.shaking--; u.conns == 0 && u.shaking == 0 {
			delete(d.addrs, addr)
		}
		d.next()
	}, nil
}

// next lets in whoever is first and has room. The caller holds mu.
func (d *door) next() {
	kept := d.waiting[:0]
	for _, t := range d.waiting {
		if u := d.use(t.addr); d.shaking < d.maxShaking && u.shaking < d.maxShakeAddr {
			d.shaking++
			u.shaking++
			close(t.ready)
			continue
		}
		kept = append(kept, t)
	}
	clear(d.waiting[len(kept):])
	d.waiting = kept
}

// giveUp takes t out of the line; false when its turn has come meanwhile.
func (d *door) giveUp(t *turn) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	for i, w := range d.waiting {
		if w == t {
			d.waiting = append(d.waiting[:i], d.waiting[i+1:]...)
			return true
		}
	}
	return false
}

// countedListener closes connections for which there is no room: before the handshake nothing better can be said.
type countedListener struct {
	net.Listener
	door *door
}

// Accept implements net.Listener.
func (l countedListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		addr := addressOf(c.RemoteAddr())
		if l.door.enter(addr) {
			return &countedConn{Conn: c, leave: sync.OnceFunc(func() { l.door.leave(addr) })}, nil
		}
		_ = c.Close() // it was given nothing
	}
}

type countedConn struct {
	net.Conn
	leave func()
}

// Close implements net.Conn.
func (c *countedConn) Close() error {
	c.leave()
	return c.Conn.Close()
}

// queuedCreds lets a bounded number of peers shake hands at a time.
type queuedCreds struct {
	credentials.TransportCredentials
	door  *door
	enrol *handedListener // nil without the enrolment service
}

// ServerHandshake implements credentials.TransportCredentials.
func (q queuedCreds) ServerHandshake(raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	begin := time.Now()
	done, err := q.door.await(addressOf(raw.RemoteAddr()), connectTimeout)
	if err != nil {
		return nil, nil, err
	}
	defer done()
	if err := raw.SetDeadline(time.Now().Add(handshakeTimeout)); err != nil {
		return nil, nil, err
	}
	conn, info, err := q.TransportCredentials.ServerHandshake(raw)
	if err != nil {
		return nil, nil, err
	}
	tlsInfo, ok := info.(credentials.TLSInfo)
	if !ok {
		return nil, nil, errors.New("a handshake without TLS")
	}
	if peer := (peerInfo{tlsInfo, raw, nil}); q.enrol != nil && peer.enrols() {
		if err := raw.SetDeadline(time.Time{}); err != nil {
			return nil, nil, err
		}
		if !q.enrol.hand(handedConn{conn, peer}) {
			return nil, nil, errStopping()
		}
		return nil, nil, credentials.ErrConnDispatched
	}
	in := newIntake()
	return watchedConn{conn, in}, peerInfo{tlsInfo, raw, in}, raw.SetDeadline(begin.Add(connectTimeout)) // gRPC's own, for what follows
}

// peerInfo is what the handshake found out about a peer, and its connection: a stream whose agent reads nothing can be ended only with that.
type peerInfo struct {
	credentials.TLSInfo
	conn   net.Conn
	intake *intake
}

// TLSState is what the handshake found out, for services beside this package's.
func (p peerInfo) TLSState() tls.ConnectionState { return p.State }

// Clone implements credentials.TransportCredentials.
func (q queuedCreds) Clone() credentials.TransportCredentials {
	return queuedCreds{q.TransportCredentials.Clone(), q.door, q.enrol}
}

// busyRetry is asked of an agent that came when too many did.
const busyRetry = 5 * time.Second

// errBusy refuses a stream for now. Agents wait for at least the time it names.
func errBusy(text string, retry time.Duration) error {
	st, err := status.New(codes.ResourceExhausted, text).WithDetails(&errdetails.RetryInfo{RetryDelay: durationpb.New(retry)})
	if err != nil { // only for a message that cannot be packed
		return status.Error(codes.ResourceExhausted, text)
	}
	return st.Err()
}

// turnToOpen waits for one of the few turns to open a stream, which costs the database; done gives it back. Beyond the bound of those who
// wait it refuses at once.
func (s *Server) turnToOpen(ctx context.Context) (done func(), err error) {
	if s.openings.Add(1) > int64(s.c.Openings+s.c.MaxWaiting) {
		s.openings.Add(-1)
		s.metrics.bounds.WithLabelValues("openings").Inc()
		return nil, errBusy("too many agents connect to this hub process at this moment: connect again", busyRetry)
	}
	select {
	case s.opening <- struct{}{}:
		return func() { <-s.opening; s.openings.Add(-1) }, nil
	case <-ctx.Done():
		s.openings.Add(-1)
		return nil, status.FromContextError(ctx.Err()).Err()
	case <-s.stopping:
		s.openings.Add(-1)
		return nil, errStopping()
	}
}
