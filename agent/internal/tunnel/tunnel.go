// Package tunnel is the agent's way to its hub: through a WireGuard tunnel that needs no driver and no privilege, or, where
// UDP does not get through and the hub allows it, directly over TCP, and back as soon as the tunnel works again. What runs over
// it is mutual TLS either way, so the choice changes no trust. It makes no keys and talks to no hub by itself: package enrol keeps
// the settings, and the uplink dials through DialContext. The agent's composition root runs one Link.
package tunnel

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/hashinsight/hashinsight/pkg/backoff"
	"github.com/hashinsight/hashinsight/pkg/wg"
)

// Settings are what the hub has given this site for its tunnel, and the site's own key.
type Settings struct {
	Private wg.Secret    // made at this site
	Address netip.Prefix // of this site in the tunnel
	Hub     wg.Peer      // the hub's end; its endpoint is a name or an address with a port
	Inside  string       // host:port of the hub's listener for agents, in the tunnel
}

// Config describes a Link.
type Config struct {
	// Settings returns the latest settings; false means that this site has no tunnel. It is asked at every dial and every few
	// seconds in between, so that what the hub has changed counts without a restart.
	Settings func() (Settings, bool)
	// Direct returns the addresses that are dialled over TCP without the tunnel: the fall-back of a site with one, none where it is
	// not allowed, and the only way of a site without.
	Direct func() []string
	// Dial opens a connection outside of the tunnel; nil means TCP.
	Dial func(ctx context.Context, address string) (net.Conn, error)
	// Device opens the tunnel's end at this site; nil means wg.OpenNetstack.
	Device func(wg.Config) (wg.Tunnel, error)

	DialTimeout time.Duration // through the tunnel; 0 means 10 s
	ProbeEvery  time.Duration // of the tunnel, while the fall-back is used: at first, later up to ten times as long; 0 means 30 s

	Now        func() time.Time      // nil means time.Now
	Log        *slog.Logger          // nil means none
	Registerer prometheus.Registerer // nil means no metrics
}

// ErrMoved is what a connection says that was ended because another way, or another key, has taken its place: whoever used it
// can dial again at once.
var ErrMoved = errors.New("the way to the hub has changed")

// Defaults. A handshake that is not answered is sent again after 5 s, and a hub answers no more than 20 a second of one address, behind
// which there may be many sites: a dial takes its time.
const (
	dialTimeout = 10 * time.Second
	probeEvery  = 30 * time.Second
	lookEvery   = 2 * time.Second // at settings that may have changed, and at what comes back
	silence     = 4 * time.Second // after which a hub that answers nothing at all may have been restarted
	firstTry    = 250 * time.Millisecond
)

// Route is one of the two ways.
type Route string

// The ways to the hub.
const (
	RouteTunnel Route = "tunnel"
	RouteDirect Route = "direct"
)

// Link keeps the way to the hub.
type Link struct {
	c       Config
	log     *slog.Logger
	metrics *metrics

	dialing sync.Mutex // one change of the device at a time

	mu       sync.Mutex
	device   wg.Tunnel
	settings Settings // the device's
	fallback bool     // the tunnel did not work: the other way is used
	since    time.Time
	failed   error     // why the tunnel did not work the last time; nil when it did
	broken   bool      // a connection through the tunnel has ended: the hub's end may have been restarted
	heard    time.Time // when such a connection last brought something
	received uint64    // by the device from the hub, at the last look
	untried  bool      // no connection has been opened since the device was, or since the hub has another key
	conns    map[*conn]struct{}
	closed   bool
}

// New checks the configuration. Nothing is opened before the first dial.
func New(c Config) (*Link, error) {
	if c.Settings == nil || c.Direct == nil {
		return nil, errors.New("tunnel: Settings and Direct are required")
	}
	if c.Dial == nil {
		d := &net.Dialer{}
		c.Dial = func(ctx context.Context, address string) (net.Conn, error) { return d.DialContext(ctx, "tcp", address) }
	}
	if c.Device == nil {
		c.Device = func(w wg.Config) (wg.Tunnel, error) { return wg.OpenNetstack(w) }
	}
	c.DialTimeout, c.ProbeEvery = cmp.Or(c.DialTimeout, dialTimeout), cmp.Or(c.ProbeEvery, probeEvery)
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	l := &Link{c: c, log: c.Log, conns: map[*conn]struct{}{}}
	var err error
	l.metrics, err = newMetrics(l, c.Registerer)
	return l, err
}

// Route returns the way that the next connection takes.
func (l *Link) Route() Route {
	if _, ok := l.c.Settings(); !ok {
		return RouteDirect
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.fallback {
		return RouteDirect
	}
	return RouteTunnel
}

// Addresses returns where the hub can be reached on the present way; none means that there is no way at all.
func (l *Link) Addresses() []string {
	if s, ok := l.c.Settings(); ok && l.Route() == RouteTunnel {
		return []string{s.Inside}
	}
	return l.c.Direct()
}

// DialContext opens a connection to one of Addresses.
func (l *Link) DialContext(ctx context.Context, address string) (net.Conn, error) {
	s, ok := l.c.Settings()
	if !ok || address != s.Inside {
		c, err := l.c.Dial(ctx, address)
		if err != nil {
			return nil, err
		}
		return l.track(c, RouteDirect)
	}
	c, err := l.dialInside(ctx, s)
	l.note(ctx, err)
	if err != nil {
		return nil, err
	}
	return l.track(c, RouteTunnel)
}

// dialInside connects to the hub through the tunnel.
func (l *Link) dialInside(ctx context.Context, s Settings) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, l.c.DialTimeout)
	defer cancel()
	d, fresh, err := l.ensure(ctx, s)
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	untried := l.untried
	failed, broken, heard := l.failed, l.broken && !l.alive(time.Now()), l.heard
	l.mu.Unlock()
	kick := !fresh && (failed != nil || broken && !untried && !shaken(ctx, d, s.Hub.PublicKey, heard))
	if kick {
		// A hub that was restarted does not know the session any more, and WireGuard alone would find out after 15 s.
		if err := l.refresh(ctx, d, s); err != nil {
			return nil, err
		}
	}
	c, err := connect(ctx, d, s.Inside, untried)
	if err != nil {
		return nil, fmt.Errorf("through the tunnel to %s: %w: check that UDP gets out to that address", s.Hub.Endpoint, err)
	}
	l.mu.Lock()
	if l.device == d {
		l.broken, l.untried = false, false
	}
	l.mu.Unlock()
	return c, nil
}

// alive reports whether a connection through the tunnel has brought something of late: then the session is known to both ends, and
// another, which the stream would wait for, is needed by nobody. It is called with mu held.
func (l *Link) alive(now time.Time) bool {
	for c := range l.conns {
		if at := c.heard.Load(); c.route == RouteTunnel && at != 0 && now.Sub(time.Unix(0, at)) < silence {
			return true
		}
	}
	return false
}

// shaken reports whether there was a handshake with the hub since a time. A restarted hub calls its sites: whoever has been called needs
// no other session, and a thousand of them would have it shake two thousand hands.
func shaken(ctx context.Context, d wg.Tunnel, hub wg.Key, since time.Time) bool {
	now, err := d.Snapshot(ctx)
	if err != nil || since.IsZero() {
		return false
	}
	for i := range now.Peers {
		if p := &now.Peers[i]; p.PublicKey == hub {
			return p.LastHandshake.After(since)
		}
	}
	return false
}

// connect opens a connection to the hub. The hub drops what comes with a new key until it has seen its handshake and changed over, a
// fifth of a second later, and TCP asks again only after a second: so the first connection with new keys is tried anew soon, each time
// with more patience.
func connect(ctx context.Context, d wg.Tunnel, address string, untried bool) (net.Conn, error) {
	for patience := firstTry; untried && patience < time.Second; patience *= 2 {
		try, cancel := context.WithTimeout(ctx, patience)
		c, err := d.DialContext(try, "tcp", address)
		cancel()
		if err == nil || ctx.Err() != nil {
			return c, err
		}
	}
	return d.DialContext(ctx, "tcp", address)
}

// ensure returns the device with the present settings; fresh says that it was opened just now.
func (l *Link) ensure(ctx context.Context, s Settings) (d wg.Tunnel, fresh bool, err error) {
	l.dialing.Lock()
	defer l.dialing.Unlock()
	l.mu.Lock()
	d, old, closed := l.device, l.settings, l.closed
	l.mu.Unlock()
	switch {
	case closed:
		return nil, false, net.ErrClosed
	case d == nil, old.Private != s.Private, old.Address != s.Address:
		old := d
		if d, err = l.open(ctx, s); err != nil {
			return nil, false, err
		}
		fresh = true
		if old != nil {
			l.log.InfoContext(ctx, "the tunnel is opened anew: this site's key or address has changed")
			l.end(RouteTunnel)
			defer func() { err = errors.Join(err, old.Close()) }()
		}
	case !equal(old.Hub, s.Hub):
		if old.Hub.PublicKey == s.Hub.PublicKey {
			err = l.refresh(ctx, d, s)
		} else { // a new peer shakes hands by itself
			err = inHub(d.Apply(ctx, wg.Changes{Remove: []wg.Key{old.Hub.PublicKey}, Upsert: []wg.Peer{s.Hub}}))
		}
		if err != nil {
			return nil, false, err
		}
		l.log.InfoContext(ctx, "the hub's end of the tunnel has changed", "endpoint", s.Hub.Endpoint)
		if old.Hub.PublicKey != s.Hub.PublicKey {
			l.end(RouteTunnel) // another device answers now, which knows nothing of them
		}
	default:
		return d, false, nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, false, errors.Join(net.ErrClosed, d.Close())
	}
	l.device, l.settings, l.untried = d, s, l.untried || fresh || old.Hub.PublicKey != s.Hub.PublicKey
	return d, fresh, nil
}

func (l *Link) open(ctx context.Context, s Settings) (wg.Tunnel, error) {
	d, err := l.c.Device(wg.Config{Private: s.Private, Addresses: []netip.Prefix{s.Address}, Log: l.log})
	if err != nil {
		return nil, fmt.Errorf("this site's end of the tunnel: %w", err)
	}
	if err := d.Apply(ctx, wg.Changes{Upsert: []wg.Peer{s.Hub}}); err != nil {
		return nil, errors.Join(inHub(err), d.Close())
	}
	return d, nil
}

func equal(a, b wg.Peer) bool {
	return a.PublicKey == b.PublicKey && a.PSK == b.PSK && a.Endpoint == b.Endpoint && a.Keepalive == b.Keepalive && slices.Equal(a.AllowedIPs, b.AllowedIPs)
}

// refresh starts a new session with the hub, at the address that its name has now.
func (l *Link) refresh(ctx context.Context, d wg.Tunnel, s Settings) error {
	err := d.Apply(ctx, wg.Changes{Upsert: []wg.Peer{s.Hub}})
	if err == nil {
		err = d.Kick(ctx, s.Hub.PublicKey)
	}
	return inHub(err)
}

// inHub says where an error lies.
func inHub(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("the hub's end of the tunnel: %w", err)
}

// note records whether the tunnel worked, and chooses the way of the next dial by it.
func (l *Link) note(ctx context.Context, err error) {
	direct := len(l.c.Direct()) > 0
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil && ctx.Err() != nil && !errors.Is(context.Cause(ctx), context.DeadlineExceeded) {
		return // called off: that says nothing about the tunnel
	}
	l.failed = err
	if err == nil || !direct || l.fallback {
		return
	}
	l.fallback, l.since = true, l.c.Now()
	l.metrics.fallbacks.Inc()
	l.log.WarnContext(ctx, "the tunnel to the hub does not work: the same encrypted stream goes directly over TCP until it does", "err", err)
}

// Run looks at settings that change, and for the way back while the fall-back is used, until ctx ends.
func (l *Link) Run(ctx context.Context) error {
	probe := &backoff.Backoff{Min: l.c.ProbeEvery, Max: 10 * l.c.ProbeEvery}
	next := l.c.Now().Add(l.c.ProbeEvery)
	for backoff.Sleep(ctx, min(lookEvery, l.c.ProbeEvery)) == nil {
		s, ok := l.c.Settings()
		l.mu.Lock()
		fallback, open := l.fallback, l.device != nil
		l.mu.Unlock()
		switch {
		case !ok:
			if open {
				err := l.drop()
				l.log.InfoContext(ctx, "this site has no tunnel any more", "err", err)
			}
		case fallback:
			if l.c.Now().Before(next) {
				continue
			}
			if err := l.tryTunnel(ctx, s); err != nil {
				l.log.DebugContext(ctx, "the tunnel still does not work", "err", err)
				next = l.c.Now().Add(probe.Next())
				continue
			}
			probe.Reset()
		case open:
			d, _, err := l.ensure(ctx, s)
			if err == nil {
				err = l.wake(ctx, d, s)
			}
			if err != nil && ctx.Err() == nil {
				l.log.WarnContext(ctx, "the tunnel cannot be set up as the hub wants it", "err", err)
			}
		}
		next = l.c.Now().Add(l.c.ProbeEvery)
	}
	return nil
}

// wake starts a new session when nothing at all has come back for a while: a hub that was restarted does not know the old one, and may
// not know where to call. WireGuard would ask after 15 s; what runs in the tunnel would take the hub for dead by then.
func (l *Link) wake(ctx context.Context, d wg.Tunnel, s Settings) error {
	now := time.Now() // as the connections
	l.mu.Lock()
	silent := false
	for c := range l.conns {
		asked := c.asked.Load()
		silent = silent || c.route == RouteTunnel && asked != 0 && now.Sub(time.Unix(0, asked)) >= silence
	}
	l.mu.Unlock()
	if !silent {
		return nil
	}
	state, err := d.Snapshot(ctx)
	if err != nil {
		return err
	}
	for i := range state.Peers {
		p := &state.Peers[i]
		if p.PublicKey != s.Hub.PublicKey {
			continue
		}
		l.mu.Lock()
		quiet := l.received == p.Received
		l.received = p.Received
		l.mu.Unlock()
		if quiet && now.Sub(p.LastHandshake) >= silence { // else a hub that is only slow
			return l.refresh(ctx, d, s)
		}
	}
	return nil
}

// tryTunnel goes back to the tunnel if a connection through it can be opened.
func (l *Link) tryTunnel(ctx context.Context, s Settings) error {
	c, err := l.dialInside(ctx, s)
	if err != nil {
		l.mu.Lock()
		l.failed = err
		l.mu.Unlock()
		return err
	}
	if err := c.Close(); err != nil {
		return err
	}
	l.mu.Lock()
	l.fallback, l.failed, l.since = false, nil, l.c.Now()
	l.mu.Unlock()
	l.log.InfoContext(ctx, "the tunnel to the hub works again and is used")
	l.end(RouteDirect)
	return nil
}

// Close ends the tunnel and every connection.
func (l *Link) Close() error {
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	l.end(RouteDirect)
	return l.drop()
}

// drop closes the device.
func (l *Link) drop() error {
	l.end(RouteTunnel)
	l.mu.Lock()
	d := l.device
	l.device = nil
	l.mu.Unlock()
	if d == nil {
		return nil
	}
	return d.Close()
}

// Status is a link at one moment.
type Status struct {
	Route         Route
	Since         time.Time // of the latest change between the ways; zero without any
	Endpoint      string    // of the hub's end of the tunnel; "" without a tunnel
	LastHandshake time.Time // zero before the first
	Err           error     // why the tunnel did not work the last time; nil when it did
}

// Status describes the link now.
func (l *Link) Status() Status {
	s, ok := l.c.Settings()
	if !ok {
		return Status{Route: RouteDirect}
	}
	st := Status{Route: l.Route()}
	l.mu.Lock()
	d := l.device
	st.Since, st.Err = l.since, l.failed
	l.mu.Unlock()
	st.Endpoint = s.Hub.Endpoint
	if d == nil {
		return st
	}
	if now, err := d.Snapshot(context.Background()); err == nil { // the device's own memory: it does not wait for anybody
		for i := range now.Peers {
			if p := &now.Peers[i]; p.PublicKey == s.Hub.PublicKey {
				st.Endpoint, st.LastHandshake = p.Endpoint, p.LastHandshake
			}
		}
	}
	return st
}
