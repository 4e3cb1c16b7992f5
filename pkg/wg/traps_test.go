package wg

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.zx2c4.com/wireguard/conn"
	"golang.zx2c4.com/wireguard/device"
	"golang.zx2c4.com/wireguard/tun"
	"pgregory.net/rapid"
)

// Trap 1, the other half: what Apply never does ends sessions, where an upsert of the same set disturbs nothing
// (identicalSet).
func TestReplacingPeersWouldCutLiveSessions(t *testing.T) {
	b := netstackBed(t)
	p := b.pair(t)
	echo(t, p.hub, hubInside+":7000")
	c := mustDial(t, p.site, hubInside+":7000")
	mustSay(t, c)
	hub := p.hub.(*Netstack)
	config := func(first string) string {
		s := p.sitePeer()
		return fmt.Sprintf("%spublic_key=%x\npreshared_key=%x\nallowed_ip=%s\n", first, s.PublicKey[:], s.PSK[:], s.AllowedIPs[0])
	}
	if err := hub.dev.IpcSet(config("")); err != nil {
		t.Fatal(err)
	}
	if err := says(c, 5*time.Second); err != nil || peerState(t, hub, p.siteKey.Public()).LastHandshake.IsZero() {
		t.Fatalf("an upsert disturbed the session: %v", err)
	}
	if err := hub.dev.IpcSet(config("replace_peers=true\n")); err != nil {
		t.Fatal(err)
	}
	if !peerState(t, hub, p.siteKey.Public()).LastHandshake.IsZero() {
		t.Error("a session survived the replacement: the rule may be dropped")
	}
	if err := says(c, time.Second); err == nil {
		t.Error("traffic went on through a replacement: the rule may be dropped")
	}
}

// Trap 8: many sites behind one address start at once; the hub answers 20 a second of one address once it is busy, and
// everybody gets through who is patient.
func TestManySitesBehindOneAddress(t *testing.T) {
	const sites = 150
	b := netstackBed(t)
	key := NewPrivate()
	hub := b.open(t, 0, Config{Private: key, Addresses: prefixes(hubInside + "/16")})
	port := snapshot(t, hub).Port
	ps := many(sites)
	devs := make([]*device.Device, sites)
	for i := range ps {
		private := NewPrivate()
		ps[i].PublicKey = private.Public()
		devs[i] = lightSite(t, private)
	}
	apply(t, hub, Changes{Upsert: ps})
	start := time.Now()
	var all sync.WaitGroup
	for i, d := range devs {
		all.Go(func() {
			err := d.IpcSet(fmt.Sprintf("public_key=%x\npreshared_key=%x\npersistent_keepalive_interval=25\nendpoint=127.0.0.1:%d\nallowed_ip=10.8.0.1/32\n", hexKey(key), ps[i].PSK[:], port))
			if err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	connected := func() (n int) {
		for _, p := range snapshot(t, hub).Peers {
			if !p.LastHandshake.IsZero() {
				n++
			}
		}
		return n
	}
	eventually(t, 80*time.Second, "every site has a session", func() bool { return connected() == sites })
	t.Logf("%d sites behind one address had sessions after %s", sites, time.Since(start).Round(time.Millisecond))
}

func hexKey(private Secret) []byte {
	k := private.Public()
	return k[:]
}

// lightSite is a device with its own socket and no network stack, to have many.
func lightSite(t *testing.T, private Secret) *device.Device {
	t.Helper()
	d := device.NewDevice(&silent{events: make(chan tun.Event), closed: make(chan struct{})}, newAddressBind(loopback), &device.Logger{Verbosef: device.DiscardLogf, Errorf: device.DiscardLogf})
	t.Cleanup(d.Close)
	if err := d.IpcSet(fmt.Sprintf("private_key=%x\nlisten_port=0\n", [32]byte(private))); err != nil {
		t.Fatal(err)
	}
	if err := d.Up(); err != nil {
		t.Fatal(err)
	}
	return d
}

// silent is a network from which nothing comes.
type silent struct {
	events chan tun.Event
	closed chan struct{}
	once   sync.Once
}

func (s *silent) File() *os.File { return nil }
func (s *silent) Read([][]byte, []int, int) (int, error) {
	<-s.closed
	return 0, os.ErrClosed
}
func (s *silent) Write(b [][]byte, _ int) (int, error) { return len(b), nil }
func (s *silent) MTU() (int, error)                    { return defaultMTU, nil }
func (s *silent) Name() (string, error)                { return "silent", nil }
func (s *silent) Events() <-chan tun.Event             { return s.events }
func (s *silent) BatchSize() int                       { return 1 }
func (s *silent) Close() error {
	s.once.Do(func() { close(s.closed); close(s.events) })
	return nil
}

// What the ledger does not know to be wrong, the device refuses; the peer is found by halving, and nothing of it stays.
func TestPeersThatTheDeviceRefusesAreFound(t *testing.T) {
	n, err := OpenNetstack(Config{Private: NewPrivate(), Addresses: prefixes(hubInside + "/16"), Bind: newAddressBind(loopback), Log: discard()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = n.Close() })
	ps := many(1000)
	for _, i := range []int{0, 255, 256, 999} {
		ps[i].Endpoint = "[2001:db8::1]:51820" // the socket is an IPv4 one
	}
	err = n.Apply(t.Context(), Changes{Upsert: ps})
	peers, rest := PeerErrors(err)
	if len(peers) != 4 || rest != nil {
		t.Fatalf("refused: %v", err)
	}
	if d := snapshot(t, n); len(d.Peers) != 996 {
		t.Errorf("%d peers on the device, want 996", len(d.Peers))
	}
	for i := range ps {
		ps[i].Endpoint = ""
	}
	apply(t, n, Diff(ps, snapshot(t, n)))
	if d := snapshot(t, n); len(d.Peers) != 1000 {
		t.Errorf("%d peers on the device, want all", len(d.Peers))
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := n.Apply(ctx, Changes{Remove: []Key{ps[0].PublicKey}}); !errors.Is(err, context.Canceled) {
		t.Errorf("after the end of the context: %v", err)
	}
}

// One whose name has no address yet is left out and comes with a later pass; one that has several is moved on to the next.
func TestNamesOfEndpoints(t *testing.T) {
	known := map[string][]netip.Addr{}
	n, err := OpenNetstack(Config{
		Private: NewPrivate(), Addresses: prefixes(hubInside + "/16"), Listen: loopback, Log: discard(),
		Resolve: func(_ context.Context, host string) ([]netip.Addr, error) {
			if a := known[host]; a != nil {
				return a, nil
			}
			return nil, errors.New("no such host")
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = n.Close() })
	p := many(1)[0]
	p.Endpoint = "hub.example:51820"
	refused(t, n.Apply(t.Context(), Changes{Upsert: []Peer{p}}), p.PublicKey, ErrEndpoint)
	known["hub.example"] = []netip.Addr{netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("127.0.0.2"), netip.MustParseAddr("::ffff:127.0.0.3")}
	apply(t, n, Changes{Upsert: []Peer{p}})
	if got := peerState(t, n, p.PublicKey); got.Endpoint != "127.0.0.2:51820" || got.Asked != p.Endpoint {
		t.Fatalf("sends to %q for %q", got.Endpoint, got.Asked)
	}
	// Asked for again, the name is looked up again; if that fails nothing is lost.
	known["hub.example"] = []netip.Addr{netip.MustParseAddr("127.0.0.4")}
	apply(t, n, Changes{Upsert: []Peer{p}})
	delete(known, "hub.example")
	apply(t, n, Changes{Upsert: []Peer{p}})
	if got := peerState(t, n, p.PublicKey); got.Endpoint != "127.0.0.4:51820" {
		t.Fatalf("sends to %q, want where the name went", got.Endpoint)
	}
	r := &Resolver{Tunnel: n, Peer: p.PublicKey, Endpoint: p.Endpoint, Log: discard(), Resolve: func(context.Context, string) ([]netip.Addr, error) {
		return []netip.Addr{netip.MustParseAddr("127.0.0.2"), netip.MustParseAddr("127.0.0.3")}, nil
	}}
	for _, want := range []string{"127.0.0.2:51820", "127.0.0.3:51820", "127.0.0.2:51820"} { // never a handshake: each look tries the next
		if to, err := r.Step(t.Context()); err != nil || to.String() != want {
			t.Fatalf("moved to %s, want %s: %v", to, want, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	r.Every = time.Millisecond
	looked := make(chan struct{}, 1)
	r.Resolve = func(context.Context, string) ([]netip.Addr, error) {
		select {
		case looked <- struct{}{}:
		default:
		}
		return nil, errors.New("resolver is down")
	}
	ended := make(chan error)
	go func() { ended <- r.Run(ctx) }()
	<-looked
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("Run ended with %v", err)
	}
}

func TestMorePeersThanADeviceHoldsAreRefused(t *testing.T) {
	l := newLedger(Config{Private: NewPrivate()})
	for range MaxPeers - 1 {
		l.peers[Key(NewPSK())] = entry{}
	}
	changes, errs := l.plan(many(3), nil)
	if len(changes) != 1 || len(errs) != 2 || !errors.Is(errs[0], ErrTooMany) {
		t.Errorf("%d planned, refused: %v", len(changes), errs)
	}
}

func TestSecretsDoNotShow(t *testing.T) {
	s := NewPrivate()
	var log strings.Builder
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "secret", s, "peer", Peer{PSK: s})
	marshalled, err := json.Marshal(Peer{PSK: s})
	if err != nil {
		t.Fatal(err)
	}
	shown := fmt.Sprint(s) + fmt.Sprintf("%v %+v %#v %x %X %s %q %d %v", s, s, s, s, s, s, s, s, &s) + fmt.Sprintf("%v %+v %#v", Peer{PSK: s}, Config{Private: s}, []Secret{s}) + log.String() + string(marshalled)
	for _, form := range []string{s.Reveal(), hex.EncodeToString(s[:]), fmt.Sprintf("%X", s[:]), fmt.Sprint([32]byte(s)), strings.Trim(fmt.Sprint([3]byte(s[:3])), "[]")} {
		if strings.Contains(shown, form) {
			t.Errorf("%q shows in %q", form, shown)
		}
	}
	if _, err := ParseSecret(s.Reveal()[:43] + "!"); err == nil || strings.Contains(err.Error(), s.Reveal()[:8]) {
		t.Errorf("an unreadable secret: %v", err)
	}
	if back, err := ParseSecret(s.Reveal()); err != nil || back != s {
		t.Errorf("does not read back: %v", err)
	}
}

func TestKeysReadBack(t *testing.T) {
	// RFC 7748, section 6.1: Alice.
	a, err := ParseSecret("dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo=")
	if err != nil || a.Public().String() != "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=" {
		t.Errorf("public key %s: %v", a.Public(), err)
	}
	k := NewPrivate().Public()
	if back, err := ParseKey(k.String()); err != nil || back != k {
		t.Errorf("%s does not read back: %v", k, err)
	}
	for _, bad := range []string{"", "AAAA", k.String() + "=", strings.Repeat("A", 44), strings.Repeat("!", 43) + "=", k.String()[:42] + "B="} {
		if got, err := ParseKey(bad); err == nil && got.String() != bad {
			t.Errorf("%q is read as %s", bad, got)
		}
	}
}

// The table agrees with looking at every pair.
func TestTableFindsEveryOverlap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		table, model := newTable(), map[netip.Prefix]Key{}
		keys := []Key{{1}, {2}, {3}}
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			var b [4]byte
			b[0], b[3] = 10, rapid.SampledFrom([]byte{0, 1, 128, 255}).Draw(t, "byte")
			b[1] = rapid.SampledFrom([]byte{0, 1}).Draw(t, "network")
			p, err := netip.AddrFrom4(b).Prefix(rapid.SampledFrom([]int{0, 8, 15, 16, 24, 31, 32}).Draw(t, "bits"))
			if err != nil {
				t.Fatal(err)
			}
			if rapid.Bool().Draw(t, "v6") {
				var long [16]byte
				copy(long[:], b[:])
				p = netip.PrefixFrom(netip.AddrFrom16(long), p.Bits()).Masked()
			}
			key := rapid.SampledFrom(keys).Draw(t, "key")
			if rapid.IntRange(0, 2).Draw(t, "what") == 0 {
				table.remove(p, key)
				if model[p] == key {
					delete(model, p)
				}
			} else {
				table.add(p, key)
				model[p] = key
			}
			q := netip.PrefixFrom(p.Addr(), rapid.IntRange(0, p.Addr().BitLen()).Draw(t, "query")).Masked()
			owners := map[Key]bool{}
			for other, o := range model {
				if other.Overlaps(q) {
					owners[o] = true
				}
			}
			got, hit := table.overlap(q)
			if hit != (len(owners) > 0) || hit && !owners[got] {
				t.Fatalf("%s overlaps %v (%t), want one of %v", q, got, hit, owners)
			}
		}
		for p, key := range model {
			table.remove(p, key)
		}
		if used := len(table.nodes) - len(table.free); used != 2 {
			t.Fatalf("%d nodes are in use of an empty table", used)
		}
	})
}

// Applying the difference always leads to the desired peers, whatever was there.
func TestDiffLeadsToTheDesired(t *testing.T) {
	keys := make([]Key, 6)
	for i := range keys {
		keys[i] = NewPrivate().Public()
	}
	draw := func(t *rapid.T, name string) []Peer {
		var out []Peer
		free := rapid.Permutation([]string{"10.9.0.1/32", "10.9.0.2/32", "10.9.0.3/32", "10.10.0.0/24", "10.11.0.0/16", "fd00::/64"}).Draw(t, name+" addresses")
		for _, k := range keys {
			if !rapid.Bool().Draw(t, name+" has") {
				continue
			}
			p := Peer{PublicKey: k, Keepalive: time.Duration(rapid.IntRange(0, 2).Draw(t, name+" keepalive")) * time.Second}
			n := min(rapid.IntRange(0, 2).Draw(t, name+" count"), len(free))
			p.AllowedIPs, free = prefixes(free[:n]...), free[n:]
			out = append(out, p)
		}
		return out
	}
	n, err := OpenNetstack(Config{Private: NewPrivate(), Addresses: prefixes(hubInside + "/16"), Listen: loopback, Log: discard()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = n.Close() })
	rapid.Check(t, func(rt *rapid.T) {
		want := draw(rt, "desired")
		now := snapshot(t, n)
		c := Diff(want, now)
		if err := n.Apply(context.Background(), c); err != nil {
			rt.Fatalf("%+v on %+v: %v", c, now, err)
		}
		if rest := Diff(want, snapshot(t, n)); !rest.Empty() {
			rt.Fatalf("%+v remains", rest)
		}
	})
}

// Closing a device while its stack sends must not panic: an agent that rotates its key does that.
func TestCloseUnderLoad(t *testing.T) {
	for range 5 {
		b := netstackBed(t)
		p := b.pair(t)
		echo(t, p.hub, hubInside+":7000")
		var load sync.WaitGroup
		var started sync.WaitGroup
		started.Add(4)
		for range 4 {
			c := mustDial(t, p.site, hubInside+":7000")
			load.Go(func() {
				buf := make([]byte, 64<<10)
				for first := true; ; first = false {
					_, err := c.Write(buf)
					if first {
						started.Done()
					}
					if err != nil {
						return
					}
				}
			})
			load.Go(func() {
				buf := make([]byte, 64<<10)
				for {
					if _, err := c.Read(buf); err != nil {
						return
					}
				}
			})
		}
		started.Wait()
		if err := p.site.Close(); err != nil {
			t.Fatal(err)
		}
		load.Wait()
	}
}

func TestConfigurationsThatAreRefused(t *testing.T) {
	good := Config{Private: NewPrivate(), Addresses: prefixes(hubInside + "/16"), Listen: loopback, Log: discard()}
	for name, spoil := range map[string]func(*Config){
		"no key":            func(c *Config) { c.Private = Secret{} },
		"no log":            func(c *Config) { c.Log = nil },
		"no address":        func(c *Config) { c.Addresses = nil },
		"a zero address":    func(c *Config) { c.Addresses = []netip.Prefix{{}} },
		"a negative port":   func(c *Config) { c.ListenPort = -1 },
		"a small MTU":       func(c *Config) { c.MTU = 100 },
		"two ways to bind":  func(c *Config) { c.Bind = conn.NewStdNetBind() },
		"a foreign address": func(c *Config) { c.Listen = netip.MustParseAddr("192.0.2.77") },
	} {
		c := good
		spoil(&c)
		if n, err := OpenNetstack(c); err == nil {
			t.Errorf("%s: opened", name)
			_ = n.Close()
		}
	}
}

// What is done where the system sends and receives one packet at a time, and with IPv6.
func TestSocketOnOneAddress(t *testing.T) {
	for _, one := range []bool{false, true} {
		for _, at := range []string{"127.0.0.1", "::1"} {
			t.Run(fmt.Sprintf("%s, one at a time: %t", at, one), func(t *testing.T) {
				host := netip.MustParseAddr(at)
				b := bed{host: [2]netip.Addr{host, host}, open: func(t *testing.T, _ int, c Config) Tunnel {
					t.Helper()
					bind := newAddressBind(host)
					bind.one = one
					c.Bind, c.Log = bind, discard()
					n, err := OpenNetstack(c)
					if err != nil {
						t.Fatal(err)
					}
					t.Cleanup(func() { _ = n.Close() })
					return n
				}}
				p := b.pair(t)
				echo(t, p.hub, hubInside+":7000")
				mustSay(t, mustDial(t, p.site, hubInside+":7000"))
			})
		}
	}
}
