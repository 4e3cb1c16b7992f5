package wg

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.zx2c4.com/wireguard/conn"
	"golang.zx2c4.com/wireguard/device"
	"golang.zx2c4.com/wireguard/tun"
	bare "golang.zx2c4.com/wireguard/tun/netstack"

	"github.com/hashinsight/hashinsight/pkg/bench"
)

func benchmark(t *testing.T) {
	t.Helper()
	if os.Getenv(bench.FileVariable) == "" {
		t.Skipf("a benchmark: set %s to the file that shall receive the result", bench.FileVariable)
	}
}

func record(t *testing.T, r bench.Result) {
	t.Helper()
	t.Logf("%s: %v", r.ID, r.Samples)
	if err := bench.Record(r); err != nil {
		t.Fatal(err)
	}
}

// N3: 10,000 peers, loaded cold and reconciled with nothing to do, beside a live session.
func TestBenchN3(t *testing.T) {
	benchmark(t)
	const peers, rounds = 10_000, 5
	cold := bench.Result{ID: "N3-cold", Unit: "s", Target: "≤ 5 s", Samples: map[string][]float64{}, What: fmt.Sprintf("cold load of %d peers, netstack; floor: the same configuration given to bare wireguard-go at once", peers)}
	noop := bench.Result{ID: "N3", Unit: "s", Target: "≤ 0.5 s, 0 sessions disturbed", Samples: map[string][]float64{}, What: fmt.Sprintf("snapshot and difference of %d peers with nothing to do, and an upsert of all of them; floor: reading the device", peers)}
	disturbed := 0
	for range rounds {
		b := netstackBed(t)
		p := b.pair(t)
		echo(t, p.hub, hubInside+":7000")
		c := mustDial(t, p.site, hubInside+":7000")
		mustSay(t, c)
		want := append(many(peers-1), p.sitePeer())
		handshake := peerState(t, p.hub, p.siteKey.Public()).LastHandshake
		worst := alive(t, c)

		other := device.NewDevice(&silent{events: make(chan tun.Event), closed: make(chan struct{})}, newAddressBind(loopback), device.NewLogger(device.LogLevelSilent, ""))
		var text strings.Builder
		for _, w := range want {
			fmt.Fprintf(&text, "public_key=%x\npreshared_key=%x\npersistent_keepalive_interval=0\nreplace_allowed_ips=true\nallowed_ip=%s\n", w.PublicKey[:], w.PSK[:], w.AllowedIPs[0])
		}
		if err := errors.Join(other.IpcSet(fmt.Sprintf("private_key=%x\n", [32]byte(NewPrivate()))), other.Up()); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		if err := other.IpcSet(text.String()); err != nil {
			t.Fatal(err)
		}
		cold.Samples["floor"] = append(cold.Samples["floor"], time.Since(start).Seconds())
		other.Close()

		start = time.Now()
		apply(t, p.hub, Diff(want, snapshot(t, p.hub)))
		cold.Samples["value"] = append(cold.Samples["value"], time.Since(start).Seconds())
		start = time.Now()
		if _, err := p.hub.(*Netstack).dev.IpcGet(); err != nil {
			t.Fatal(err)
		}
		noop.Samples["floor"] = append(noop.Samples["floor"], time.Since(start).Seconds())
		start = time.Now()
		changes := Diff(want, snapshot(t, p.hub))
		apply(t, p.hub, changes)
		noop.Samples["value"] = append(noop.Samples["value"], time.Since(start).Seconds())
		if !changes.Empty() {
			t.Errorf("not nothing to do: %d", len(changes.Upsert))
		}
		start = time.Now()
		apply(t, p.hub, Changes{Upsert: want})
		noop.Samples["upsert of all"] = append(noop.Samples["upsert of all"], time.Since(start).Seconds())
		slowest, err := worst()
		noop.Samples["slowest answer of the live session"] = append(noop.Samples["slowest answer of the live session"], slowest.Seconds())
		if at := peerState(t, p.hub, p.siteKey.Public()).LastHandshake; err != nil || !at.Equal(handshake) {
			t.Logf("disturbed: %v; handshake %s after the first", err, at.Sub(handshake))
			disturbed++
		}
		_ = p.hub.Close()
		_ = p.site.Close()
	}
	finish(&cold, 5)
	finish(&noop, 0.5)
	noop.Met = noop.Met && disturbed == 0
	noop.Samples["disturbed sessions"] = []float64{float64(disturbed)}
	record(t, cold)
	record(t, noop)
}

// alive asks a connection again and again, until the function it returns is called: that says how long the slowest answer
// took.
func alive(t *testing.T, c net.Conn) func() (time.Duration, error) {
	t.Helper()
	stop := make(chan struct{})
	var slowest time.Duration
	var err error
	var wait sync.WaitGroup
	wait.Go(func() {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for err == nil {
			select {
			case <-stop:
				return
			case <-tick.C:
			}
			start := time.Now()
			err = says(c, 10*time.Second) // a session cut off needs 15 s
			slowest = max(slowest, time.Since(start))
		}
	})
	return func() (time.Duration, error) {
		close(stop)
		wait.Wait()
		return slowest, err
	}
}

// finish compares the median with a target in the result's unit.
func finish(r *bench.Result, target float64) {
	r.Value, r.Floor = bench.Median(r.Samples["value"]), bench.Median(r.Samples["floor"])
	r.Ratio = r.Value / target
	r.Met = r.Ratio <= 1
}

// N10: what a peer costs that never said a word.
func TestBenchN10(t *testing.T) {
	benchmark(t)
	const peers = 10_000
	r := bench.Result{ID: "N10", Unit: "kB", Target: "≤ 48 kB", Samples: map[string][]float64{}, What: fmt.Sprintf("memory per idle peer of %d, heap and stacks; floor: bare wireguard-go", peers)}
	for range 3 {
		ps := many(peers)
		dev := device.NewDevice(&silent{events: make(chan tun.Event), closed: make(chan struct{})}, newAddressBind(loopback), device.NewLogger(device.LogLevelSilent, ""))
		if err := errors.Join(dev.IpcSet(fmt.Sprintf("private_key=%x\n", [32]byte(NewPrivate()))), dev.Up()); err != nil {
			t.Fatal(err)
		}
		before := inUse()
		for _, p := range ps {
			if err := dev.IpcSet(fmt.Sprintf("public_key=%x\npreshared_key=%x\nallowed_ip=%s\n", p.PublicKey[:], p.PSK[:], p.AllowedIPs[0])); err != nil {
				t.Fatal(err)
			}
		}
		r.Samples["floor"] = append(r.Samples["floor"], (inUse()-before)/peers/1000)
		dev.Close()
		n := netstackBed(t).open(t, 0, Config{Private: NewPrivate(), Addresses: prefixes(hubInside + "/16")})
		before = inUse()
		apply(t, n, Changes{Upsert: ps})
		r.Samples["value"] = append(r.Samples["value"], (inUse()-before)/peers/1000)
		_ = n.Close()
		runtime.KeepAlive(ps)
	}
	finish(&r, 48)
	record(t, r)
}

func inUse() float64 {
	for range 3 { // queues of closed devices have finalizers: they go in a later round
		debug.FreeOSMemory()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapInuse + m.StackInuse)
}

// N1, the tunnel's half: from the moment the hub adds a peer to the first connection through the tunnel, among 1,000 others.
func TestBenchN1Tunnel(t *testing.T) {
	benchmark(t)
	const sites = 200
	r := bench.Result{ID: "N1-tunnel", Unit: "ms", Target: "median ≤ 50 ms, p99 ≤ 500 ms", Samples: map[string][]float64{}, What: fmt.Sprintf("peer added on hub and site → first TCP connection through the tunnel, %d sites one by one, 1,000 peers before; value: median, floor: adding to the hub", sites)}
	b := netstackBed(t)
	key := NewPrivate()
	hub := b.open(t, 0, Config{Private: key, Addresses: prefixes(hubInside + "/16")})
	port := snapshot(t, hub).Port
	apply(t, hub, Changes{Upsert: many(1000)})
	echo(t, hub, hubInside+":7000")
	a := netip.MustParseAddr("10.8.1.0")
	for range sites {
		private := NewPrivate()
		inside := netip.PrefixFrom(a, 32)
		a = a.Next()
		site := b.open(t, 1, Config{Private: private, Addresses: []netip.Prefix{inside}})
		start := time.Now()
		apply(t, hub, Changes{Upsert: []Peer{{PublicKey: private.Public(), AllowedIPs: []netip.Prefix{inside}}}})
		r.Samples["floor"] = append(r.Samples["floor"], time.Since(start).Seconds()*1000)
		apply(t, site, Changes{Upsert: []Peer{{PublicKey: key.Public(), AllowedIPs: prefixes(hubInside + "/32"), Endpoint: netip.AddrPortFrom(loopback, uint16(port)).String(), Keepalive: 25 * time.Second}}})
		c, err := dial(site, hubInside+":7000", 30*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		r.Samples["value"] = append(r.Samples["value"], time.Since(start).Seconds()*1000)
		_ = c.Close()
		_ = site.Close()
	}
	finish(&r, 50)
	sorted := slices.Sorted(slices.Values(r.Samples["value"]))
	p99 := sorted[len(sorted)*99/100]
	r.Samples["p99"] = []float64{p99}
	r.Met = r.Met && p99 <= 500
	record(t, r)
}

const bulk = 3 * time.Second

// throughput sends through one connection, site to hub, and returns MB/s received.
func throughput(t *testing.T, dialSite func() (net.Conn, error), listenHub func() (net.Listener, error)) float64 {
	t.Helper()
	l, err := listenHub()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	got := make(chan float64, 1)
	var wait sync.WaitGroup
	wait.Go(func() {
		c, err := l.Accept()
		if err != nil {
			got <- 0
			return
		}
		defer func() { _ = c.Close() }()
		buf := make([]byte, 256<<10)
		var total int64
		var start time.Time
		for {
			n, err := c.Read(buf)
			if start.IsZero() {
				start = time.Now()
			}
			total += int64(n)
			if err != nil || time.Since(start) > bulk {
				got <- float64(total) / time.Since(start).Seconds() / 1e6
				return
			}
		}
	})
	c, err := dialSite()
	if err != nil {
		t.Fatal(err)
	}
	wait.Go(func() {
		buf := make([]byte, 256<<10)
		for {
			if _, err := c.Write(buf); err != nil {
				return
			}
		}
	})
	mbps := <-got
	_ = c.Close()
	wait.Wait()
	return mbps
}

// ways are the four pairs of devices that are compared.
func netstackOurs(t *testing.T) float64 {
	b := bed{host: [2]netip.Addr{loopback, loopback}, open: func(t *testing.T, _ int, c Config) Tunnel {
		c.Log = discard() // every address of the machine: wireguard-go's own socket, as the bare one has
		n, err := OpenNetstack(c)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}}
	p := b.pair(t)
	defer func() { _ = p.site.Close(); _ = p.hub.Close() }()
	return through(t, p)
}

func through(t *testing.T, p *pair) float64 {
	t.Helper()
	return throughput(t,
		func() (net.Conn, error) { return dial(p.site, hubInside+":7000", 10*time.Second) },
		func() (net.Listener, error) { return p.hub.Listen(context.Background(), "tcp", hubInside+":7000") })
}

func tunOurs(t *testing.T) float64 {
	b := machineBed(t, openTUN)
	p := b.pair(t)
	defer func() { _ = p.site.Close(); _ = p.hub.Close() }()
	return through(t, p)
}

// bareConfig is the configuration of one side of a bare pair.
func bareConfig(own Secret, port int, peer Key, allowed, endpoint string) string {
	s := fmt.Sprintf("private_key=%x\nlisten_port=%d\npublic_key=%x\nallowed_ip=%s\n", [32]byte(own), port, peer[:], allowed)
	if endpoint != "" {
		s += "endpoint=" + endpoint + "\n"
	}
	return s
}

func bareDevice(t tun.Device, config string) (*device.Device, error) {
	d := device.NewDevice(t, conn.NewDefaultBind(), device.NewLogger(device.LogLevelSilent, ""))
	return d, errors.Join(d.IpcSet(config), d.Up())
}

func netstackBare(t *testing.T) float64 {
	hub, site := NewPrivate(), NewPrivate()
	ht, hn, err := bare.CreateNetTUN([]netip.Addr{netip.MustParseAddr(hubInside)}, nil, defaultMTU)
	if err != nil {
		t.Fatal(err)
	}
	st, sn, err := bare.CreateNetTUN([]netip.Addr{netip.MustParseAddr(siteInside)}, nil, defaultMTU)
	if err != nil {
		t.Fatal(err)
	}
	hd, err := bareDevice(ht, bareConfig(hub, 0, site.Public(), siteInside+"/32", ""))
	if err != nil {
		t.Fatal(err)
	}
	text, err := hd.IpcGet()
	if err != nil {
		t.Fatal(err)
	}
	state, err := parseDevice(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	sd, err := bareDevice(st, bareConfig(site, 0, hub.Public(), hubInside+"/32", fmt.Sprintf("127.0.0.1:%d", state.Port)))
	if err != nil {
		t.Fatal(err)
	}
	_ = sd // not closed, like hd: that panics while the stack sends. They end with the process, idle
	to := netip.AddrPortFrom(netip.MustParseAddr(hubInside), 7000)
	return throughput(t,
		func() (net.Conn, error) { return asConn(sn.DialContextTCPAddrPort(context.Background(), to)) },
		func() (net.Listener, error) {
			l, err := hn.ListenTCPAddrPort(to)
			if err != nil {
				return nil, err
			}
			return l, nil
		})
}

func tunBare(t *testing.T) float64 {
	ns, host := machines(t)
	keys := [2]Secret{NewPrivate(), NewPrivate()}
	inner := [2]string{hubInside, siteInside}
	const port = 45_872
	for i := range ns {
		endpoint := ""
		if i == 1 {
			endpoint = netip.AddrPortFrom(host[0], port).String()
		}
		var d *device.Device
		var err error
		ns[i].do(func() {
			var tt tun.Device
			if tt, err = tun.CreateTUN("wg0", defaultMTU); err == nil {
				d, err = bareDevice(tt, bareConfig(keys[i], port, keys[1-i].Public(), inner[1-i]+"/32", endpoint))
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		ns[i].ip(t, "address", "add", inner[i]+"/16", "dev", "wg0")
		ns[i].ip(t, "link", "set", "wg0", "up")
	}
	return throughput(t,
		func() (c net.Conn, err error) {
			ns[1].do(func() { c, err = net.DialTimeout("tcp", hubInside+":7000", 10*time.Second) })
			return c, err
		},
		func() (l net.Listener, err error) {
			ns[0].do(func() { l, err = net.Listen("tcp", hubInside+":7000") })
			return l, err
		})
}

// N9: one connection, in both ways, beside bare wireguard-go with the same kind of network.
func TestBenchN9(t *testing.T) {
	benchmark(t)
	needsNetns(t)
	needs(t, "/dev/net/tun", hasTUN())
	samples := map[string][]float64{}
	for range 3 {
		for _, way := range []struct {
			name string
			run  func(*testing.T) float64
		}{{"netstack", netstackOurs}, {"netstack bare", netstackBare}, {"TUN", tunOurs}, {"TUN bare", tunBare}} {
			samples[way.name] = append(samples[way.name], way.run(t))
		}
	}
	compare := func(id, what, value, floor, target string, least float64) {
		r := bench.Result{ID: id, Unit: "MB/s", Target: target, What: what, Samples: map[string][]float64{value: samples[value], floor: samples[floor]}}
		r.Value, r.Floor = bench.Median(samples[value]), bench.Median(samples[floor])
		r.Ratio = r.Value / r.Floor
		r.Met = r.Ratio >= least
		record(t, r)
	}
	compare("N9-netstack", "one TCP connection through netstack, both ends on this machine; floor: bare wireguard-go with its own netstack", "netstack", "netstack bare", "≥ 0.9 × bare", 0.9)
	compare("N9-tun", "one TCP connection through TUN, both ends on this machine; floor: bare wireguard-go on TUN", "TUN", "TUN bare", "≥ 0.9 × bare", 0.9)
	compare("N9", "one TCP connection through netstack; floor: through TUN", "netstack", "TUN", "≥ 0.5 × TUN", 0.5)
}
