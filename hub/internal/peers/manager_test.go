package peers

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/hashinsight/hashinsight/hub/internal/pg"
	"github.com/hashinsight/hashinsight/hub/pgtest"
	"github.com/hashinsight/hashinsight/pkg/ident"
	"github.com/hashinsight/hashinsight/pkg/wg"
)

// freePorts returns a UDP port on loopback that is free, and so is the one after it.
func freePorts(t testing.TB) int {
	t.Helper()
	for range 100 {
		a, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		port := a.LocalAddr().(*net.UDPAddr).Port
		b, err := net.ListenPacket("udp", fmt.Sprintf("127.0.0.1:%d", port+1))
		_ = a.Close()
		if err == nil {
			_ = b.Close()
			return port
		}
	}
	t.Fatal("no two free ports in a row")
	return 0
}

// hub is a hub process as far as the tunnel goes: its answer to every line is where the line came from.
type hub struct {
	*book
	*Manager
	reg  *prometheus.Registry
	stop func()
}

// rig is a database that hubs share.
type rig struct {
	t    testing.TB
	url  string
	pool *pgxpool.Pool
	port int
}

func newRig(t testing.TB) *rig {
	t.Helper()
	r := &rig{t: t, url: pgtest.URL(t), port: freePorts(t)}
	pc, err := pg.PoolConfig(r.url)
	if err != nil {
		t.Fatal(err)
	}
	if r.pool, err = pgxpool.NewWithConfig(context.WithoutCancel(t.Context()), pc); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.pool.Close)
	return r
}

// hub starts a hub process; change is made to its configuration.
func (r *rig) hub(change func(*ManagerConfig)) *hub {
	r.t.Helper()
	h := &hub{book: openBook(r.t, r.pool, "10.8.0.0/16"), reg: prometheus.NewRegistry()}
	h.Store.c.Listen, h.Store.c.Endpoint = fmt.Sprintf("127.0.0.1:%d", r.port), fmt.Sprintf("127.0.0.1:%d", r.port)
	h.port = r.port
	var serving sync.WaitGroup
	c := ManagerConfig{
		Store: h.Store, Direct: r.url, Backend: wg.KindNetstack, Every: 200 * time.Millisecond, Log: slog.New(slog.NewTextHandler(testWriter{r.t}, nil)), Registerer: h.reg,
		Attach: func(l net.Listener) { serving.Go(func() { echo(l) }) },
	}
	if change != nil {
		change(&c)
	}
	var err error
	if h.Manager, err = NewManager(c); err != nil {
		r.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(r.t.Context()))
	done := make(chan error, 1)
	go func() { done <- h.Run(ctx) }()
	h.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			r.t.Errorf("the manager ended with %v", err)
		}
		serving.Wait()
	})
	r.t.Cleanup(h.stop)
	return h
}

// testWriter is the log of a test.
type testWriter struct{ t testing.TB }

func (w testWriter) Write(b []byte) (int, error) {
	w.t.Log(strings.TrimSpace(string(b)))
	return len(b), nil
}

// echo answers each line of each connection with the address that it came from.
func echo(l net.Listener) {
	var conns sync.WaitGroup
	defer conns.Wait()
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		conns.Go(func() {
			defer func() { _ = c.Close() }()
			lines := bufio.NewScanner(c)
			for lines.Scan() {
				if _, err := fmt.Fprintln(c, c.RemoteAddr()); err != nil {
					return
				}
			}
		})
	}
}

// patience only bounds a failure.
const patience = 30 * time.Second

// eventually waits until something holds.
func eventually(t testing.TB, what string, within time.Duration, holds func() bool) {
	t.Helper()
	deadline := time.Now().Add(within)
	for !holds() {
		if time.Now().After(deadline) {
			t.Fatalf("after %v still not: %s", within, what)
		}
		time.Sleep(5 * time.Millisecond) // a poll of a condition
	}
}

func (h *hub) awaitOwner() {
	h.t.Helper()
	eventually(h.t, "the hub has the tunnel", patience, h.Owner)
}

// snapshot reads the hub's first device.
func (h *hub) snapshot() (wg.Device, error) {
	h.mu.Lock()
	devices := h.devices
	h.mu.Unlock()
	if len(devices) == 0 {
		return wg.Device{}, errors.New("no device")
	}
	return devices[0].tunnel.Snapshot(h.t.Context())
}

// end is a site's end of the tunnel.
type end struct {
	t       testing.TB
	site    ident.SiteID
	private wg.Secret
	net     *wg.Netstack
	hubKey  wg.Key
}

// join gives a site a peer and opens its end.
func (h *hub) join(name string) *end {
	h.t.Helper()
	e := &end{t: h.t, site: h.site(name), private: wg.NewPrivate()}
	p := h.add(e.site, e.private.Public())
	if err := h.Sync(h.t.Context()); err != nil {
		h.t.Fatal(err)
	}
	keys, err := h.KeysOf(h.t.Context(), h.pool, e.site)
	if err != nil {
		h.t.Fatal(err)
	}
	e.open(h, p.Address, e.private, keys.PSK)
	return e
}

// open opens the site's end with a key, towards the hub's present device.
func (e *end) open(h *hub, address netip.Addr, private wg.Secret, psk wg.Secret) {
	e.t.Helper()
	s, err := h.Settings(e.t.Context())
	if err != nil {
		e.t.Fatal(err)
	}
	n, err := wg.OpenNetstack(wg.Config{Private: private, Addresses: []netip.Prefix{netip.PrefixFrom(address, 32)}, Listen: netip.MustParseAddr("127.0.0.1"), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		e.t.Fatal(err)
	}
	e.t.Cleanup(func() { _ = n.Close() })
	e.net, e.hubKey = n, s.HubKeys[0]
	err = n.Apply(e.t.Context(), wg.Changes{Upsert: []wg.Peer{{PublicKey: e.hubKey, PSK: psk, AllowedIPs: []netip.Prefix{s.Network}, Endpoint: s.Endpoint, Keepalive: time.Second}}})
	if err != nil {
		e.t.Fatal(err)
	}
}

// dial connects to the service inside the tunnel.
func (e *end) dial(within time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(e.t.Context(), within)
	defer cancel()
	return e.net.DialContext(ctx, "tcp", "10.8.0.1:5443")
}

// ask sends a line and returns the answer.
func ask(c net.Conn, within time.Duration) (string, error) {
	if err := c.SetDeadline(time.Now().Add(within)); err != nil {
		return "", err
	}
	if _, err := io.WriteString(c, "who am I\n"); err != nil {
		return "", err
	}
	line, err := bufio.NewReader(c).ReadString('\n')
	return strings.TrimSpace(line), err
}

// seen returns what the hub says it is called from.
func (e *end) seen() string {
	e.t.Helper()
	c, err := e.dial(patience)
	if err != nil {
		e.t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	answer, err := ask(c, patience)
	if err != nil {
		e.t.Fatal(err)
	}
	return answer
}

func TestASiteCallsThroughTheTunnelAsSoonAsItIsAdded(t *testing.T) {
	h := newRig(t).hub(nil)
	h.awaitOwner()
	north, south := h.join("North"), h.join("South")
	if got := north.seen(); !strings.HasPrefix(got, "10.8.0.2:") {
		t.Errorf("the hub sees %s", got)
	}
	if got := south.seen(); !strings.HasPrefix(got, "10.8.0.3:") {
		t.Errorf("the hub sees %s", got)
	}
	eventually(t, "the hub has noted what it sees", patience, func() bool {
		p, err := h.Get(t.Context(), north.site)
		return err == nil && p.Connected(time.Now()) && strings.HasPrefix(p.Observed.Endpoint, "127.0.0.1:") && p.Observed.Received > 0 && p.Observed.Sent > 0
	})
	eventually(t, "it shows in the metrics", patience, func() bool {
		return testutil.ToFloat64(h.metrics.peers.WithLabelValues(StateConnected)) == 2
	})
	o, err := h.Store.Owner(t.Context())
	if err != nil || o.Backend != wg.KindNetstack || o.Host == "" || o.Problem != "" {
		t.Errorf("who has the tunnel: %+v, %v", o, err)
	}
}

// A live session is not disturbed by other sites coming and going, nor by full passes.
func TestOthersComeAndGoUnnoticed(t *testing.T) {
	h := newRig(t).hub(nil)
	h.awaitOwner()
	north := h.join("North")
	c, err := north.dial(patience)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 10 {
		other := h.site(fmt.Sprintf("other %d", i))
		h.add(other, newKey())
		if err := h.Sync(t.Context()); err != nil {
			t.Fatal(err)
		}
		h.tx(func(tx pgx.Tx) error { return h.Remove(t.Context(), tx, other, "test") })
		begun := time.Now()
		if _, err := ask(c, patience); err != nil {
			t.Fatalf("after change %d: %v", i, err)
		}
		if took := time.Since(begun); took > 4*time.Second { // a session that was lost is made anew after 5 s
			t.Errorf("an answer took %v", took)
		}
	}
	passes := testutil.CollectAndCount(h.metrics.passes)
	if passes == 0 {
		t.Error("no pass was made")
	}
}

func TestARemovedSiteIsCutOff(t *testing.T) {
	h := newRig(t).hub(nil)
	h.awaitOwner()
	north, south := h.join("North"), h.join("South")
	c, err := north.dial(patience)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ask(c, patience); err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	if err := h.RemoveSite(t.Context(), north.site); err != nil {
		t.Fatal(err)
	}
	took := time.Since(begun)
	if _, err := ask(c, 300*time.Millisecond); err == nil {
		t.Error("a site whose peer was removed still gets answers")
	}
	t.Logf("removed in %v", took)
	south.seen() // others are not
	// The row is younger than a late message of its revocation: it stays, and the next pass puts the peer back.
	eventually(t, "the pass has put a live row back", patience, func() bool {
		d, err := h.snapshot()
		return err == nil && len(d.Peers) == 2
	})

	h.tx(func(tx pgx.Tx) error { return h.Remove(t.Context(), tx, south.site, "test") })
	if err := h.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	if c, err := south.dial(500 * time.Millisecond); err == nil {
		t.Error("a site without a row still connects")
		_ = c.Close()
	}
}

func TestABadPeerIsSetAsideAndTheOthersWork(t *testing.T) {
	h := newRig(t).hub(nil)
	h.awaitOwner()
	north := h.join("North")
	bad := h.site("Bad")
	h.add(bad, newKey())
	s, err := h.Settings(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	// No caller can do this; a database restored by hand can.
	if _, err := h.pool.Exec(t.Context(), `UPDATE peer SET public_key = $2, version = pg_current_xact_id() WHERE site_id = $1`, bad, s.HubKeys[0][:]); err != nil {
		t.Fatal(err)
	}
	south := h.join("South")
	north.seen()
	south.seen()
	eventually(t, "the bad peer is in quarantine", patience, func() bool {
		p, err := h.Get(t.Context(), bad)
		return err == nil && !p.QuarantinedAt.IsZero() && strings.Contains(p.QuarantineReason, "own")
	})
	if n := testutil.ToFloat64(h.metrics.quarantined); n != 1 {
		t.Errorf("%v peers were quarantined", n)
	}
	if n := h.entries("peer_quarantined"); n != 1 {
		t.Errorf("%d audit entries", n)
	}
	// Changed, it is tried again.
	key := newKey()
	if _, err := h.tryAdd(New{Site: bad, PublicKey: key, Replace: true}); err != nil {
		t.Fatal(err)
	}
	if err := h.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	if p, err := h.Get(t.Context(), bad); err != nil || !p.QuarantinedAt.IsZero() {
		t.Errorf("after the change: %+v, %v", p, err)
	}
}

// An endpoint whose name cannot be resolved keeps nobody out.
func TestAnUnresolvableEndpointKeepsNobodyOut(t *testing.T) {
	h := newRig(t).hub(func(c *ManagerConfig) {
		c.Open = func(kind string, w wg.Config) (wg.Tunnel, string, string, error) {
			w.Resolve = func(context.Context, string) ([]netip.Addr, error) { return nil, errors.New("no such host") }
			return wg.Open(kind, w)
		}
	})
	h.awaitOwner()
	north := h.join("North")
	endpoint := "site.invalid:51820"
	h.tx(func(tx pgx.Tx) error {
		_, err := h.Change(t.Context(), tx, north.site, Change{Endpoint: &endpoint}, "test")
		return err
	})
	eventually(t, "the hub has tried", patience, func() bool { return testutil.ToFloat64(h.metrics.unresolved) > 0 })
	north.seen()
	if p, err := h.Get(t.Context(), north.site); err != nil || !p.QuarantinedAt.IsZero() {
		t.Errorf("quarantined for a name: %+v, %v", p, err)
	}
}

func TestASiteTakesItsNextKeyIntoUse(t *testing.T) {
	h := newRig(t).hub(nil)
	h.awaitOwner()
	north := h.join("North")
	north.seen()
	next := wg.NewPrivate()
	var p Peer
	h.tx(func(tx pgx.Tx) (err error) {
		p, err = h.StageKey(t.Context(), tx, north.site, next.Public(), "site")
		return err
	})
	if err := h.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	north.seen() // the present key counts until the next one is used
	keys, err := h.KeysOf(t.Context(), h.pool, north.site)
	if err != nil {
		t.Fatal(err)
	}
	_ = north.net.Close()
	begun := time.Now()
	north.open(h, p.Address, next, keys.NextPSK)
	if got := north.seen(); !strings.HasPrefix(got, "10.8.0.2:") {
		t.Errorf("the hub sees %s", got)
	}
	gap := time.Since(begun)
	t.Logf("from the new key to the first answer: %v", gap)
	if gap > 3*time.Second {
		t.Errorf("it took %v", gap)
	}
	got, err := h.Get(t.Context(), north.site)
	if err != nil || got.PublicKey != next.Public() || got.NextKey != (wg.Key{}) {
		t.Errorf("the row is %+v, %v", got, err)
	}
	d, err := h.snapshot()
	if err != nil || len(d.Peers) != 1 {
		t.Errorf("the device has %d peers, %v", len(d.Peers), err)
	}
}

func TestOneHubProcessHasTheTunnelAndAnotherTakesOver(t *testing.T) {
	r := newRig(t)
	first := r.hub(nil)
	first.awaitOwner()
	second := r.hub(nil)
	north := first.join("North")
	north.seen()
	if second.Owner() {
		t.Fatal("two processes have the tunnel")
	}
	// What the second one adds is on the device when its Sync returns.
	south := &end{t: t, site: second.site("South"), private: wg.NewPrivate()}
	p := second.add(south.site, south.private.Public())
	begun := time.Now()
	if err := second.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Logf("a sync through the other process took %v", time.Since(begun))
	d, err := first.snapshot()
	if err != nil || len(d.Peers) != 2 {
		t.Errorf("after it the device has %d peers, %v", len(d.Peers), err)
	}
	keys, err := second.KeysOf(t.Context(), r.pool, south.site)
	if err != nil {
		t.Fatal(err)
	}
	south.open(second, p.Address, south.private, keys.PSK)
	south.seen()
	first.stop()
	second.awaitOwner()
	// The sites' ends hold sessions of the first process: the second one calls them, so that none waits 15 s to find out.
	begun = time.Now()
	north.seen()
	south.seen()
	took := time.Since(begun)
	t.Logf("both sites are back %v after the second process has the tunnel", took)
	if took > 8*time.Second {
		t.Errorf("it took %v", took)
	}
}

// A database that goes away, or loses the session that holds the tunnel, cuts no site off.
func TestTheTunnelOutlivesItsDatabaseSession(t *testing.T) {
	h := newRig(t).hub(nil)
	h.awaitOwner()
	north := h.join("North")
	c, err := north.dial(patience)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.pool.Exec(t.Context(), `
SELECT pg_terminate_backend(l.pid) FROM pg_locks l WHERE l.locktype = 'advisory' AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())`); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the session's end is noticed", patience, func() bool { return !h.Owner() })
	if _, err := ask(c, patience); err != nil {
		t.Errorf("a connection through the tunnel was cut: %v", err)
	}
	h.awaitOwner()
	if _, err := ask(c, patience); err != nil {
		t.Errorf("a connection through the tunnel was cut when the session came back: %v", err)
	}
	h.join("South").seen()
}

func TestAChangeWhoseNoticeWasLostIsFound(t *testing.T) {
	h := newRig(t).hub(func(c *ManagerConfig) { c.Alone, c.Every = true, time.Hour })
	h.awaitOwner()
	site, key := h.site("North"), newKey()
	h.add(site, key) // and nobody is told
	eventually(t, "the device has the peer", patience, func() bool {
		d, err := h.snapshot()
		return err == nil && len(d.Peers) == 1 && d.Peers[0].PublicKey == key
	})
}

// A device that somebody else has set up is left as it is.
func TestADeviceThatIsNotOursIsLeftAlone(t *testing.T) {
	other := wg.NewPrivate()
	theirs := newKey()
	var device wg.Tunnel
	h := newRig(t).hub(func(c *ManagerConfig) {
		c.Open = func(kind string, w wg.Config) (wg.Tunnel, string, string, error) {
			w.Private = other
			tunnel, chosen, why, err := wg.Open(kind, w)
			if err == nil {
				device = tunnel
				err = tunnel.Apply(t.Context(), wg.Changes{Upsert: []wg.Peer{{PublicKey: theirs, AllowedIPs: []netip.Prefix{netip.MustParsePrefix("10.8.0.9/32")}}}})
			}
			return tunnel, chosen, why, err
		}
	})
	h.awaitOwner()
	h.add(h.site("North"), newKey())
	if err := h.Sync(t.Context()); err == nil || !strings.Contains(err.Error(), "somebody else's") {
		t.Errorf("a sync says %v", err)
	}
	d, err := device.Snapshot(t.Context())
	if err != nil || len(d.Peers) != 1 || d.Peers[0].PublicKey != theirs {
		t.Errorf("the device has %+v, %v", d.Peers, err)
	}
	eventually(t, "operators see it", patience, func() bool {
		o, err := h.Store.Owner(t.Context())
		return err == nil && strings.Contains(o.Problem, "WG_INTERFACE")
	})
}

func TestTheHubsKeyIsChangedWithASecondDevice(t *testing.T) {
	h := newRig(t).hub(nil)
	h.awaitOwner()
	north, south := h.join("North"), h.join("South")
	c, err := north.dial(patience)
	if err != nil {
		t.Fatal(err)
	}
	old := north.hubKey
	if _, err := h.BeginHubRotation(t.Context(), "test"); err != nil {
		t.Fatal(err)
	}
	if err := h.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := ask(c, patience); err != nil {
		t.Errorf("the session with the old key was cut: %v", err)
	}
	p, err := h.Get(t.Context(), south.site)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := h.KeysOf(t.Context(), h.pool, south.site)
	if err != nil {
		t.Fatal(err)
	}
	_ = south.net.Close()
	begun := time.Now()
	south.open(h, p.Address, south.private, keys.PSK)
	if south.hubKey == old {
		t.Fatal("settings still name the old key")
	}
	south.seen()
	t.Logf("a site is over at the new key in %v", time.Since(begun))
	if _, err := ask(c, patience); err != nil {
		t.Errorf("the session with the old key was cut: %v", err)
	}
	if _, err := h.EndHubRotation(t.Context(), "test"); err != nil {
		t.Fatal(err)
	}
	if err := h.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := ask(c, 500*time.Millisecond); err == nil {
		t.Error("the old device still answers")
	}
	south.seen()
}

// A site behind a NAT turns up at another port; the hub answers there, and says where.
func TestARoamingSiteIsFollowed(t *testing.T) {
	h := newRig(t).hub(nil)
	h.awaitOwner()
	north := h.join("North")
	north.seen()
	var before string
	eventually(t, "the endpoint is noted", patience, func() bool {
		p, err := h.Get(t.Context(), north.site)
		before = p.Observed.Endpoint
		return err == nil && before != ""
	})
	p, err := h.Get(t.Context(), north.site)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := h.KeysOf(t.Context(), h.pool, north.site)
	if err != nil {
		t.Fatal(err)
	}
	_ = north.net.Close()
	north.open(h, p.Address, north.private, keys.PSK)
	north.seen()
	eventually(t, "the new endpoint is noted, and traffic is summed up", patience, func() bool {
		q, err := h.Get(t.Context(), north.site)
		return err == nil && q.Observed.Endpoint != before && q.Observed.Received > p.Observed.Received
	})
}
