package tunnel

import (
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// conn is a connection that the link can end when the way changes.
type conn struct {
	net.Conn
	link  *Link
	route Route
	moved atomic.Bool
	heard atomic.Int64 // Unix nanoseconds of the system's clock, as the device's handshakes; 0: nothing yet
	asked atomic.Int64 // likewise, of what was first written since then; 0: nothing
	once  sync.Once
}

// track keeps a connection in mind until it is closed.
func (l *Link) track(c net.Conn, r Route) (net.Conn, error) {
	t := &conn{Conn: c, link: l, route: r}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		_ = c.Close() // nothing was sent over it
		return nil, net.ErrClosed
	}
	l.conns[t] = struct{}{}
	return t, nil
}

// end ends the connections of one way.
func (l *Link) end(r Route) {
	l.mu.Lock()
	var all []*conn
	for c := range l.conns {
		if c.route == r {
			all = append(all, c)
		}
	}
	l.mu.Unlock()
	for _, c := range all {
		c.moved.Store(true)
		_ = c.Close() // its user learns of it by ErrMoved
	}
}

// Read implements net.Conn.
func (c *conn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if n > 0 {
		c.heard.Store(time.Now().UnixNano())
		c.asked.Store(0)
	}
	if err != nil && c.moved.Load() {
		err = ErrMoved
	}
	return n, err
}

// Write implements net.Conn.
func (c *conn) Write(b []byte) (int, error) {
	c.asked.CompareAndSwap(0, time.Now().UnixNano())
	return c.Conn.Write(b)
}

// Close implements net.Conn.
func (c *conn) Close() error {
	c.once.Do(func() {
		c.link.mu.Lock()
		defer c.link.mu.Unlock()
		delete(c.link.conns, c)
		if c.route == RouteTunnel {
			c.link.broken, c.link.heard = true, time.Time{}
			if at := c.heard.Load(); at != 0 {
				c.link.heard = time.Unix(0, at)
			}
		}
	})
	return c.Conn.Close()
}
