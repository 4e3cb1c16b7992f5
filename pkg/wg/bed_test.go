package wg

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"sync"
	"testing"
	"time"
)

// bed is where devices are opened: a place for two sides that reach each other over UDP.
type bed struct {
	open func(t *testing.T, side int, c Config) Tunnel // 0: the hub, 1: a site; closed with the test
	host [2]netip.Addr                                 // of each side, outside the tunnel
	// whether Kick starts a session that a new device of the other side understands at once; false only where it cannot be told
	machine bool // DialContext uses the network of a machine, shared by every device of a side
}

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

// needs skips a test that lacks something, or fails it where HSI_TEST_NO_SKIP=1 says that everything has to be there.
func needs(t *testing.T, what string, has bool) {
	t.Helper()
	switch {
	case has:
	case os.Getenv("HSI_TEST_NO_SKIP") == "1":
		t.Fatalf("this test needs %s, and HSI_TEST_NO_SKIP=1 forbids to skip it", what)
	default:
		t.Skipf("this test needs %s", what)
	}
}

var loopback = netip.MustParseAddr("127.0.0.1")

func netstackBed(*testing.T) bed {
	return bed{
		host: [2]netip.Addr{loopback, loopback},
		open: func(t *testing.T, _ int, c Config) Tunnel {
			t.Helper()
			c.Listen, c.Log = loopback, discard()
			n, err := OpenNetstack(c)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = n.Close() })
			return n
		},
	}
}

func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }

func prefixes(s ...string) (out []netip.Prefix) {
	for _, p := range s {
		out = append(out, prefix(p))
	}
	return out
}

// pair is a hub and a site that know each other.
type pair struct {
	hub, site       Tunnel
	hubKey, siteKey Secret
	psk             Secret
	hubPort         int
}

const (
	hubInside  = "10.8.0.1"
	siteInside = "10.8.0.2"
)

func (b bed) pair(t *testing.T) *pair {
	t.Helper()
	p := &pair{hubKey: NewPrivate(), siteKey: NewPrivate(), psk: NewPSK()}
	p.hub = b.open(t, 0, Config{Private: p.hubKey, Addresses: prefixes(hubInside + "/16")})
	p.site = b.open(t, 1, Config{Private: p.siteKey, Addresses: prefixes(siteInside + "/32")})
	p.hubPort = snapshot(t, p.hub).Port
	apply(t, p.hub, Changes{Upsert: []Peer{p.sitePeer()}})
	apply(t, p.site, Changes{Upsert: []Peer{p.hubPeer(b)}})
	return p
}

// sitePeer is the site as the hub knows it.
func (p *pair) sitePeer() Peer {
	return Peer{PublicKey: p.siteKey.Public(), PSK: p.psk, AllowedIPs: prefixes(siteInside + "/32")}
}

func (p *pair) hubPeer(b bed) Peer {
	return Peer{PublicKey: p.hubKey.Public(), PSK: p.psk, AllowedIPs: prefixes(hubInside + "/32"), Keepalive: 25 * time.Second,
		Endpoint: netip.AddrPortFrom(b.host[0], uint16(p.hubPort)).String()}
}

func snapshot(t *testing.T, b Backend) Device {
	t.Helper()
	d, err := b.Snapshot(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func apply(t *testing.T, b Backend, c Changes) {
	t.Helper()
	if err := b.Apply(context.Background(), c); err != nil {
		t.Fatal(err)
	}
}

func peerState(t *testing.T, b Backend, key Key) PeerState {
	t.Helper()
	for _, p := range snapshot(t, b).Peers {
		if p.PublicKey == key {
			return p
		}
	}
	t.Fatalf("the device has no peer %s", key)
	return PeerState{}
}

// eventually waits for a condition; there is no sleep that would be long enough on every machine.
func eventually(t *testing.T, within time.Duration, what string, ok func() bool) {
	t.Helper()
	deadline := time.NewTimer(within)
	defer deadline.Stop()
	tick := time.NewTicker(within / 1000)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("not within %s: %s", within, what)
		}
	}
}

// echo serves what it reads, until the test ends.
func echo(t *testing.T, on Tunnel, address string) {
	t.Helper()
	l, err := on.Listen(context.Background(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	var wait sync.WaitGroup
	var mu sync.Mutex
	var conns []net.Conn
	wait.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			conns = append(conns, c)
			mu.Unlock()
			wait.Go(func() {
				defer func() { _ = c.Close() }()
				_, _ = io.Copy(c, c)
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		mu.Lock()
		for _, c := range conns {
			_ = c.Close()
		}
		mu.Unlock()
		wait.Wait()
	})
}

// dial connects within a limit.
func dial(from Tunnel, address string, within time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	return from.DialContext(ctx, "tcp", address)
}

// mustDial connects and closes with the test.
func mustDial(t *testing.T, from Tunnel, address string) net.Conn {
	t.Helper()
	c, err := dial(from, address, 40*time.Second) // what goes wrong with a handshake is over after 15 s, and TCP asks again at 31 s
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// says sends a word and wants it back.
func says(c net.Conn, within time.Duration) error {
	if err := c.SetDeadline(time.Now().Add(within)); err != nil {
		return err
	}
	if _, err := c.Write([]byte("hello")); err != nil {
		return err
	}
	var b [5]byte
	if _, err := io.ReadFull(c, b[:]); err != nil {
		return err
	}
	if string(b[:]) != "hello" {
		return fmt.Errorf("%q came back", b)
	}
	return nil
}

func mustSay(t *testing.T, c net.Conn) {
	t.Helper()
	if err := says(c, 20*time.Second); err != nil {
		t.Fatal(err)
	}
}

// refused wants an error for this peer with this reason.
func refused(t *testing.T, err error, key Key, why error) {
	t.Helper()
	peers, rest := PeerErrors(err)
	if rest != nil {
		t.Fatalf("beyond the peers: %v", rest)
	}
	for _, p := range peers {
		if p.Key == key {
			if !errors.Is(p, why) {
				t.Errorf("%s: refused for %q, want %q", key, p.Err, why)
			}
			return
		}
	}
	t.Errorf("%s was not refused (want %v); refused: %v", key, why, err)
}

// many makes n peers with one address each, from 10.9.0.0 on.
func many(n int) []Peer {
	out := make([]Peer, n)
	a := netip.MustParseAddr("10.9.0.0")
	for i := range out {
		out[i] = Peer{PublicKey: NewPrivate().Public(), PSK: NewPSK(), AllowedIPs: []netip.Prefix{netip.PrefixFrom(a, 32)}}
		a = a.Next()
	}
	return out
}
