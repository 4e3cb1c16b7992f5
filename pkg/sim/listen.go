package sim

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"syscall"
	"time"
)

// Listen opens the sockets of all miners that are up, so that they can be connected to when it returns; Run serves them.
// Without Listen, Run serves only connections made by DialContext.
func (f *Fleet) Listen(ctx context.Context) error {
	f.mu.Lock()
	f.tcp = true
	f.mu.Unlock()
	if err := raiseFileLimit(len(f.miners)); err != nil {
		return err
	}
	for _, m := range f.miners {
		if m.effectAt(f.now()).down {
			continue
		}
		if _, err := f.listening(ctx, m); err != nil {
			f.closeAll()
			return fmt.Errorf("simulated miner %s: %w; is the address on this machine, and no other program on the port?", m.address, err)
		}
	}
	return nil
}

// listening returns the miner's socket, opened if need be.
func (f *Fleet) listening(ctx context.Context, m *miner) (*net.TCPListener, error) {
	m.mu.Lock()
	l := m.listener
	m.mu.Unlock()
	if l != nil {
		return l, nil
	}
	var lc net.ListenConfig
	lc.SetMultipathTCP(false)
	any, err := lc.Listen(ctx, "tcp", m.address)
	if err != nil {
		return nil, err
	}
	l = any.(*net.TCPListener)
	if err := shortBacklog(l, backlog); err != nil {
		l.Close()
		return nil, err
	}
	m.mu.Lock()
	m.listener = l
	m.mu.Unlock()
	if f.halted() {
		f.stopListening(m)
	}
	return l, nil
}

func (f *Fleet) stopListening(m *miner) {
	m.mu.Lock()
	l := m.listener
	m.listener = nil
	m.mu.Unlock()
	if l != nil {
		l.Close()
	}
}

// closeAll closes every socket and every connection being served.
func (f *Fleet) closeAll() {
	for _, m := range f.miners {
		f.stopListening(m)
		m.mu.Lock()
		if m.active != nil {
			m.active.Close()
		}
		m.mu.Unlock()
	}
}

// reset ends a connection with a reset instead of an orderly close.
func reset(c net.Conn) {
	switch c := c.(type) {
	case *net.TCPConn:
		c.SetLinger(0)
	case *serverEnd:
		c.reset.Store(true)
	}
}

// DialContext connects to a miner in memory, with the signature of net.Dialer.DialContext. Refusals and resets are the
// errors a socket would give, and no host is where a miner has no power. Nothing on its path waits on anything but channels and timers, so it works in virtual time.
func (f *Fleet) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	fail := func(err error) (net.Conn, error) {
		return nil, &net.OpError{Op: "dial", Net: network, Addr: pipeAddr(addr), Err: err}
	}
	m, err := f.find(addr)
	if err != nil {
		return fail(fmt.Errorf("%w: %w", err, syscall.EHOSTUNREACH))
	}
	select {
	case <-f.up:
	case <-ctx.Done():
		return fail(ctx.Err())
	}
	switch e := m.effectAt(f.now()); {
	case e.off:
		return fail(syscall.EHOSTUNREACH)
	case e.down:
		return fail(syscall.ECONNREFUSED)
	}
	select { // a full backlog gives no answer at all
	case m.slots <- struct{}{}:
	case <-ctx.Done():
		return fail(ctx.Err())
	case <-f.stopped:
		return fail(syscall.ECONNREFUSED)
	}
	client, server := net.Pipe()
	s := &serverEnd{Conn: server, reset: new(atomic.Bool)}
	if !f.spawn(func() { f.servePipe(m, s) }) {
		<-m.slots
		client.Close()
		server.Close()
		return fail(syscall.ECONNREFUSED)
	}
	return &clientEnd{Conn: client, addr: pipeAddr(m.address), reset: s.reset}, nil
}

func (f *Fleet) servePipe(m *miner, c *serverEnd) {
	defer func() { <-m.slots }()
	select {
	case m.turn <- struct{}{}:
		f.serve(m, c)
		<-m.turn
	case <-f.stopped:
		c.Close()
	}
}

// serverEnd is the miner's end of a connection in memory.
type serverEnd struct {
	net.Conn
	reset *atomic.Bool // seen by the client instead of an orderly end
}

// clientEnd is the poller's end.
type clientEnd struct {
	net.Conn
	addr   pipeAddr
	reset  *atomic.Bool
	closed atomic.Bool
}

func (c *clientEnd) Close() error {
	c.closed.Store(true)
	return c.Conn.Close()
}

// A socket takes deadlines after the other end has closed; a pipe refuses them.

func (c *clientEnd) SetDeadline(t time.Time) error      { return c.own(c.Conn.SetDeadline(t)) }
func (c *clientEnd) SetReadDeadline(t time.Time) error  { return c.own(c.Conn.SetReadDeadline(t)) }
func (c *clientEnd) SetWriteDeadline(t time.Time) error { return c.own(c.Conn.SetWriteDeadline(t)) }

// own drops an error that only says that the miner has closed.
func (c *clientEnd) own(err error) error {
	if c.closed.Load() {
		return err
	}
	return nil
}

func (c *clientEnd) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	return n, c.translate("read", err)
}

func (c *clientEnd) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	return n, c.translate("write", err)
}

// translate turns what a pipe says when the other end has gone into what a socket says.
func (c *clientEnd) translate(op string, err error) error {
	if c.reset.Load() && (errors.Is(err, io.EOF) || errors.Is(err, io.ErrClosedPipe)) {
		return &net.OpError{Op: op, Net: "tcp", Addr: c.addr, Err: syscall.ECONNRESET}
	}
	return err
}

func (c *clientEnd) RemoteAddr() net.Addr { return c.addr }

// pipeAddr is the address of a miner reached in memory.
type pipeAddr string

func (a pipeAddr) Network() string { return "tcp" }
func (a pipeAddr) String() string  { return string(a) }
