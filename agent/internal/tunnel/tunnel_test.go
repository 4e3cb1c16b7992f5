package tunnel

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/hashinsight/hashinsight/pkg/wg"
)

const (
	hubInside  = "10.8.0.1"
	siteInside = "10.8.0.2"
	port       = "5443"
)

// hub is the other end: a device that answers inside the tunnel with "tunnel" and, outside, with "direct".
type hub struct {
	t       *testing.T
	private wg.Secret
	psk     wg.Secret
	udp     int
	device  *wg.Netstack
	serving sync.WaitGroup
}

func newHub(t *testing.T) *hub {
	h := &hub{t: t, private: wg.NewPrivate(), psk: wg.NewPSK()}
	t.Cleanup(h.stop)
	return h
}

// start brings the device up, on the port that it had before if there was one.
func (h *hub) start(peers ...wg.Peer) {
	h.t.Helper()
	var err error
	h.device, err = wg.OpenNetstack(wg.Config{
		Private: h.private, Addresses: []netip.Prefix{netip.MustParsePrefix(hubInside + "/16")}, Listen: netip.MustParseAddr("127.0.0.1"),
		ListenPort: h.udp, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		h.t.Fatal(err)
	}
	if err := h.device.Apply(h.t.Context(), wg.Changes{Upsert: peers}); err != nil {
		h.t.Fatal(err)
	}
	d, err := h.device.Snapshot(h.t.Context())
	if err != nil {
		h.t.Fatal(err)
	}
	h.udp = d.Port
	l, err := h.device.Listen(h.t.Context(), "tcp", hubInside+":"+port)
	if err != nil {
		h.t.Fatal(err)
	}
	h.serving.Go(func() { serve(l, "tunnel") })
}

func (h *hub) stop() {
	if h.device != nil {
		if err := h.device.Close(); err != nil {
			h.t.Error(err)
		}
		h.device = nil
		h.serving.Wait()
	}
}

// serve greets every connection and then echoes.
func serve(l net.Listener, greeting string) {
	var all sync.WaitGroup
	defer all.Wait()
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		all.Go(func() {
			defer c.Close()
			if _, err := io.WriteString(c, greeting); err == nil {
				_, _ = io.Copy(c, c)
			}
		})
	}
}

// site is the agent's side under test.
type site struct {
	*testing.T
	private  wg.Secret
	mu       sync.Mutex
	settings Settings
	tunnel   bool
	direct   []string
	link     *Link
}

// patience only bounds a failure.
const patience = 30 * time.Second

func newSite(t *testing.T, h *hub, udp int) *site {
	s := &site{T: t, private: wg.NewPrivate(), tunnel: true}
	s.settings = Settings{
		Private: s.private, Address: netip.MustParsePrefix(siteInside + "/32"), Inside: hubInside + ":" + port,
		Hub: wg.Peer{
			PublicKey: h.private.Public(), PSK: h.psk, AllowedIPs: []netip.Prefix{netip.MustParsePrefix(hubInside + "/32")},
			Endpoint: netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(udp)).String(), Keepalive: 25 * time.Second,
		},
	}
	var err error
	s.link, err = New(Config{
		Settings: func() (Settings, bool) { s.mu.Lock(); defer s.mu.Unlock(); return s.settings, s.tunnel },
		Direct:   func() []string { s.mu.Lock(); defer s.mu.Unlock(); return s.direct },
		// Much shorter than an agent's, so that a test of the fall-back takes seconds; and enough for a handshake on a busy machine.
		DialTimeout: 3 * time.Second, ProbeEvery: 200 * time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { _ = s.link.Run(ctx) })
	t.Cleanup(func() {
		cancel()
		running.Wait()
		if err := s.link.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// peer is the site as the hub has it.
func (s *site) peer(h *hub) wg.Peer {
	return wg.Peer{PublicKey: s.private.Public(), PSK: h.psk, AllowedIPs: []netip.Prefix{s.settings.Address}}
}

// change sets other settings, as a sync with the hub does.
func (s *site) change(f func(*site)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f(s)
}

// dial opens a connection on the way that the link has now, and returns who answered.
func (s *site) dial() (net.Conn, string, error) {
	addresses := s.link.Addresses()
	if len(addresses) == 0 {
		return nil, "", errors.New("no way")
	}
	c, err := s.link.DialContext(s.Context(), addresses[0])
	if err != nil {
		return nil, "", err
	}
	b := make([]byte, 6)
	_ = c.SetReadDeadline(time.Now().Add(patience))
	if _, err := io.ReadFull(c, b); err != nil {
		return nil, "", errors.Join(err, c.Close())
	}
	_ = c.SetReadDeadline(time.Time{})
	return c, string(b), nil
}

func (s *site) mustDial(want string) net.Conn {
	s.Helper()
	c, got, err := s.dial()
	if err != nil || got != want {
		s.Fatalf("answered by %q, %v; want %q", got, err, want)
	}
	s.Cleanup(func() { _ = c.Close() })
	return c
}

// wantMoved reads until the connection says why it ended.
func (s *site) wantMoved(c net.Conn) {
	s.Helper()
	_ = c.SetReadDeadline(time.Now().Add(patience))
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, ErrMoved) {
		s.Fatalf("the old connection ended with %v, want ErrMoved", err)
	}
}

func TestHubIsReachedThroughTheTunnel(t *testing.T) {
	h := newHub(t)
	h.start()
	s := newSite(t, h, h.udp)
	if err := h.device.Apply(t.Context(), wg.Changes{Upsert: []wg.Peer{s.peer(h)}}); err != nil {
		t.Fatal(err)
	}
	s.mustDial("tunnel")
	st := s.link.Status()
	if st.Route != RouteTunnel || st.Err != nil || st.LastHandshake.IsZero() || st.Endpoint != s.settings.Hub.Endpoint {
		t.Errorf("status %+v", st)
	}
}

// A restarted hub has forgotten the session. WireGuard alone finds out after 15 s; the agent starts a new one at its next dial.
func TestRestartedHubIsReachedAtTheNextDial(t *testing.T) {
	h := newHub(t)
	h.start()
	s := newSite(t, h, h.udp)
	h.stop()
	h.start(s.peer(h))
	c := s.mustDial("tunnel")
	h.stop()
	h.start(s.peer(h))
	if err := c.Close(); err != nil { // as the uplink does when nothing comes any more
		t.Fatal(err)
	}
	began := time.Now()
	s.mustDial("tunnel")
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("reached after %v", took)
	}
}

// A hub that was restarted calls its sites: one that was called has a session, and does not ask for another.
func TestSiteThatWasCalledShakesHandsOnce(t *testing.T) {
	h := newHub(t)
	h.start()
	s := newSite(t, h, h.udp)
	if err := h.device.Apply(t.Context(), wg.Changes{Upsert: []wg.Peer{s.peer(h)}}); err != nil {
		t.Fatal(err)
	}
	c := s.mustDial("tunnel")
	seen, err := h.device.Snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	before := s.link.Status().LastHandshake
	h.stop()
	called := s.peer(h)
	called.Endpoint = seen.Peers[0].Endpoint
	h.start(called)
	if err := h.device.Kick(t.Context(), called.PublicKey); err != nil {
		t.Fatal(err)
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); !s.link.Status().LastHandshake.After(before); <-tick.C {
		if time.Now().After(end) {
			t.Fatal("the hub's call does not come")
		}
	}
	before = s.link.Status().LastHandshake
	_ = c.Close() // the hub does not know it any more
	s.mustDial("tunnel")
	if after := s.link.Status().LastHandshake; !after.Equal(before) {
		t.Errorf("a second handshake %s after the hub's call", after.Sub(before))
	}
}

// Every question of the agent about its certificate is a connection of its own: none of them may disturb the stream.
func TestConnectionBesideALiveOneStartsNoSession(t *testing.T) {
	h := newHub(t)
	h.start()
	s := newSite(t, h, h.udp)
	if err := h.device.Apply(t.Context(), wg.Changes{Upsert: []wg.Peer{s.peer(h)}}); err != nil {
		t.Fatal(err)
	}
	stream := s.mustDial("tunnel")
	before := s.link.Status().LastHandshake
	for range 5 {
		if _, err := stream.Write([]byte("still there?")); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(stream, make([]byte, 12)); err != nil {
			t.Fatal(err)
		}
		question := s.mustDial("tunnel")
		if err := question.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if after := s.link.Status().LastHandshake; !after.Equal(before) {
		t.Errorf("another handshake %s after the first", after.Sub(before))
	}
}

// Nobody calls the site, and it does not dial: it finds out by itself that the hub it streams to has been restarted.
func TestSilentHubIsFoundToHaveBeenRestarted(t *testing.T) {
	h := newHub(t)
	h.start()
	s := newSite(t, h, h.udp)
	if err := h.device.Apply(t.Context(), wg.Changes{Upsert: []wg.Peer{s.peer(h)}}); err != nil {
		t.Fatal(err)
	}
	c := s.mustDial("tunnel")
	h.stop()
	h.start(s.peer(h))
	began := time.Now()
	if _, err := c.Write([]byte("is anybody there?")); err != nil {
		t.Fatal(err)
	}
	_ = c.SetReadDeadline(time.Now().Add(14 * time.Second))
	_, err := c.Read(make([]byte, 1))
	if took := time.Since(began); errors.Is(err, os.ErrDeadlineExceeded) || took > 12*time.Second {
		t.Errorf("after %s: %v", took, err)
	} else {
		t.Logf("found after %s: %v", took, err)
	}
}

func TestWithoutUDPTheStreamGoesDirectlyAndComesBack(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var direct sync.WaitGroup
	direct.Go(func() { serve(l, "direct") })
	t.Cleanup(func() { _ = l.Close(); direct.Wait() })

	h := newHub(t)
	h.start() // finds a port
	h.stop()
	s := newSite(t, h, h.udp)
	if _, _, err := s.dial(); err == nil {
		t.Fatal("reached a hub that is not there")
	}
	if s.link.Route() != RouteTunnel {
		t.Fatal("a site whose hub allows no fall-back left the tunnel")
	}
	s.change(func(s *site) { s.direct = []string{l.Addr().String()} })
	if _, _, err := s.dial(); err == nil {
		t.Fatal("reached a hub that is not there")
	}
	c := s.mustDial("direct")
	if st := s.link.Status(); st.Route != RouteDirect || st.Err == nil || st.Since.IsZero() {
		t.Errorf("status %+v", st)
	}
	h.start(s.peer(h)) // UDP gets through again
	s.wantMoved(c)
	s.mustDial("tunnel")
}

func TestChangedSettingsCountWithoutARestart(t *testing.T) {
	h := newHub(t)
	h.start()
	s := newSite(t, h, h.udp)
	if err := h.device.Apply(t.Context(), wg.Changes{Upsert: []wg.Peer{s.peer(h)}}); err != nil {
		t.Fatal(err)
	}
	c := s.mustDial("tunnel")

	t.Run("a new preshared key keeps the connection", func(t *testing.T) {
		h.psk = wg.NewPSK()
		if err := h.device.Apply(t.Context(), wg.Changes{Upsert: []wg.Peer{s.peer(h)}}); err != nil {
			t.Fatal(err)
		}
		s.change(func(s *site) { s.settings.Hub.PSK = h.psk })
		s.mustDial("tunnel") // makes the new session
		if _, err := c.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		_ = c.SetReadDeadline(time.Now().Add(patience))
		if _, err := c.Read(make([]byte, 1)); err != nil {
			t.Errorf("the old connection: %v", err)
		}
	})
	t.Run("a new key of the site", func(t *testing.T) {
		old := s.private.Public()
		s.private = wg.NewPrivate()
		if err := h.device.Apply(t.Context(), wg.Changes{Remove: []wg.Key{old}, Upsert: []wg.Peer{s.peer(h)}}); err != nil {
			t.Fatal(err)
		}
		s.change(func(s *site) { s.settings.Private = s.private })
		s.mustDial("tunnel")
		s.wantMoved(c)
	})
	t.Run("a new key of the hub", func(t *testing.T) {
		c := s.mustDial("tunnel")
		h.stop() // the device with the new key has not seen the connection
		h.private = wg.NewPrivate()
		h.start(s.peer(h))
		s.change(func(s *site) { s.settings.Hub.PublicKey = h.private.Public() })
		s.mustDial("tunnel")
		s.wantMoved(c)
	})
	t.Run("no tunnel any more", func(t *testing.T) {
		c := s.mustDial("tunnel")
		s.change(func(s *site) { s.tunnel = false })
		s.wantMoved(c)
	})
}

func TestClosedLinkOpensNothing(t *testing.T) {
	h := newHub(t)
	h.start()
	s := newSite(t, h, h.udp)
	if err := s.link.Close(); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.dial(); err == nil {
		t.Error("dialled after Close")
	}
}
