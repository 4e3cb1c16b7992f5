package e2e

import (
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashinsight/hashinsight/hub/pgtest"
	"github.com/hashinsight/hashinsight/pkg/sim"
)

// gate holds back what passes in one direction. The zero value is open.
type gate struct{ shut chan struct{} } // nil when open, else closed at opening

// wait waits until the gate is open or closed is.
func (l *link) wait(g *gate, closed <-chan struct{}) error {
	l.mu.Lock()
	shut := g.shut
	l.mu.Unlock()
	if shut == nil {
		return nil
	}
	select {
	case <-shut:
		return nil
	case <-closed:
		return net.ErrClosed
	}
}

// set shuts or opens one direction of the link, for connections that exist and for later ones.
func (l *link) gate(g *gate, shut bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case shut && g.shut == nil:
		g.shut = make(chan struct{})
	case !shut && g.shut != nil:
		close(g.shut)
		g.shut = nil
	}
}

// gatedConn is the agent's end of a connection. What was under way in a shut direction arrives when it opens, unless
// the connection was given up before, as with TCP.
type gatedConn struct {
	net.Conn
	link   *link
	once   sync.Once
	closed chan struct{}
}

func (c *gatedConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if gateErr := c.link.wait(&c.link.down, c.closed); gateErr != nil {
		return 0, gateErr
	}
	return n, err
}

func (c *gatedConn) Write(b []byte) (int, error) {
	if err := c.link.wait(&c.link.up, c.closed); err != nil {
		return 0, err
	}
	return c.Conn.Write(b)
}

func (c *gatedConn) Close() error {
	c.once.Do(func() { close(c.closed) })
	return c.Conn.Close()
}

func TestOneWayPartitionLosesAndDoublesNothing(t *testing.T) {
	t.Parallel()
	for name, direction := range map[string]func(*link) *gate{
		"acknowledgements do not arrive": func(l *link) *gate { return &l.down },
		"batches do not arrive":          func(l *link) *gate { return &l.up },
	} {
		t.Run(name, func(t *testing.T) {
			url := pgtest.URL(t)
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, url, sim.Config{Miners: 10, Seed: 3})
				g := direction(w.link)
				begin := time.Now()
				time.Sleep(time.Hour)
				for range 6 {
					w.link.gate(g, true)
					time.Sleep(25 * time.Minute)
					w.link.gate(g, false)
					time.Sleep(10 * time.Minute)
					if late := w.count(`SELECT count(*) FROM miner_latest WHERE at < (SELECT max(at) FROM miner_latest) - interval '6 minutes'`); late != 0 {
						t.Errorf("%d miners are still shown with an old value ten minutes after the partition", late)
					}
				}
				end := time.Now()
				w.stop()
				w.wantEverySlotOnce(begin, end)
				w.wantNoTrouble()
				again := w.counter("hashinsight_ingest_batches_total", "duplicate")
				t.Logf("%.0f batches came twice", again)
				if g == &w.link.down && again == 0 {
					t.Error("no batch came twice: the test has not cut acknowledgements")
				}
			})
		})
	}
}
