package wg

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
	"golang.zx2c4.com/wireguard/wgctrl"
	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"
)

// netns is a network namespace with a thread that lives in it.
type netns struct {
	calls chan func()
	tid   int
}

// newNetns makes one; it ends with the test.
func newNetns(t *testing.T) *netns {
	t.Helper()
	n := &netns{calls: make(chan func())}
	ready, done := make(chan error), make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // never unlocked: the thread ends with this goroutine
		err := unix.Unshare(unix.CLONE_NEWNET)
		n.tid = unix.Gettid()
		ready <- err
		for f := range n.calls {
			f()
		}
	}()
	if err := <-ready; err != nil {
		t.Fatalf("make a network namespace: %v", err)
	}
	t.Cleanup(func() {
		close(n.calls)
		<-done
	})
	n.ip(t, "link", "set", "lo", "up")
	return n
}

// do runs f in the namespace and waits for it. f must not end the test.
func (n *netns) do(f func()) {
	done := make(chan struct{})
	n.calls <- func() {
		defer close(done)
		f()
	}
	<-done
}

func (n *netns) ip(t *testing.T, args ...string) {
	t.Helper()
	var out []byte
	var err error
	n.do(func() { out, err = exec.Command("ip", args...).CombinedOutput() })
	if err != nil {
		t.Fatalf("ip %v: %v: %s", args, err, out)
	}
}

// inside is a tunnel whose ways in lie in a namespace.
type inside struct {
	Tunnel
	ns *netns
}

func (i inside) DialContext(ctx context.Context, network, address string) (c net.Conn, err error) {
	i.ns.do(func() { c, err = i.Tunnel.DialContext(ctx, network, address) })
	return c, err
}

func (i inside) Listen(ctx context.Context, network, address string) (l net.Listener, err error) {
	i.ns.do(func() { l, err = i.Tunnel.Listen(ctx, network, address) })
	return l, err
}

func hasTUN() bool {
	f, err := os.OpenFile("/dev/net/tun", os.O_RDWR, 0)
	if err != nil {
		return false
	}
	_ = f.Close()
	return true
}

func hasKernel(t *testing.T) bool {
	t.Helper()
	n, has := newNetns(t), false
	n.do(func() { has = exec.Command("ip", "link", "add", "wgtry", "type", "wireguard").Run() == nil })
	return has
}

func needsNetns(t *testing.T) {
	t.Helper()
	_, err := exec.LookPath("ip")
	needs(t, "root and ip(8) of iproute2, for network namespaces", os.Geteuid() == 0 && err == nil)
}

// machines makes two network namespaces on one wire.
func machines(t *testing.T) (ns [2]*netns, host [2]netip.Addr) {
	t.Helper()
	needsNetns(t)
	ns = [2]*netns{newNetns(t), newNetns(t)}
	ns[0].ip(t, "link", "add", "wire", "type", "veth", "peer", "name", "wire", "netns", strconv.Itoa(ns[1].tid))
	for i := range ns {
		host[i] = netip.AddrFrom4([4]byte{192, 0, 2, byte(i + 1)})
		ns[i].ip(t, "address", "add", host[i].String()+"/24", "dev", "wire")
		ns[i].ip(t, "link", "set", "wire", "up")
	}
	return ns, host
}

func machineBed(t *testing.T, open func(Config) (Tunnel, error)) bed {
	t.Helper()
	ns, host := machines(t)
	return bed{host: host, machine: true, open: func(t *testing.T, side int, c Config) Tunnel {
		t.Helper()
		c.Log = discard()
		var tun Tunnel
		var err error
		ns[side].do(func() { tun, err = open(c) })
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = tun.Close() })
		return inside{tun, ns[side]}
	}}
}

func openTUN(c Config) (Tunnel, error)          { return asTunnel(OpenTUN(c)) }
func openKernelTunnel(c Config) (Tunnel, error) { return asTunnel(OpenKernel(c)) }

func TestTUNConforms(t *testing.T) {
	needsNetns(t)
	needs(t, "/dev/net/tun: TUN backend not tested here", hasTUN())
	conform(t, func(t *testing.T) bed { return machineBed(t, openTUN) })
}

// The kernel's WireGuard is nothing that can be installed for a test: where it is missing this test skips whatever
// HSI_TEST_NO_SKIP says, and CI does not claim to have run it. What it would not share with the next test is
// TestControlConforms'.
func TestKernelConforms(t *testing.T) {
	if os.Geteuid() != 0 || !hasKernel(t) {
		t.Skip("kernel backend not tested here: this kernel has no WireGuard, or this is not root")
	}
	conform(t, func(t *testing.T) bed { return machineBed(t, openKernelTunnel) })
}

// controlled is a userspace device driven as the kernel's is: by wgctrl, through its socket.
type controlled struct {
	*control
	under *Netstack
	uapi  *uapi
}

func (c *controlled) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	return c.under.DialContext(ctx, network, address)
}

func (c *controlled) Listen(ctx context.Context, network, address string) (net.Listener, error) {
	return c.under.Listen(ctx, network, address)
}

func (c *controlled) Close() error {
	return errors.Join(c.uapi.close(), c.client.Close(), c.under.Close())
}

var devices atomic.Int32 // names of sockets are of the whole machine

func openControlled(c Config) (*controlled, error) {
	c.Listen, c.Log = loopback, discard()
	n, err := OpenNetstack(c)
	if err != nil {
		return nil, err
	}
	c.Listen, c.Interface = netip.Addr{}, fmt.Sprintf("hsit%d-%d", os.Getpid()%100_000, devices.Add(1))
	c.Resolve = systemResolve
	u, err := serveUAPI(c.Interface, n.dev, c.Log)
	if err != nil {
		return nil, errors.Join(err, n.Close())
	}
	client, err := wgctrl.New()
	if err != nil {
		return nil, errors.Join(err, u.close(), n.Close())
	}
	return &controlled{control: newControl(client, c), under: n, uapi: u}, nil
}

func controlBed(*testing.T) bed {
	return bed{host: [2]netip.Addr{loopback, loopback}, open: func(t *testing.T, _ int, c Config) Tunnel {
		t.Helper()
		out, err := openControlled(c)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = out.Close() })
		return out
	}}
}

// wgctrl for real: what drives the kernel's device, here through the socket of a userspace device.
func TestControlConforms(t *testing.T) {
	needs(t, "root, for /var/run/wireguard", os.Geteuid() == 0)
	conform(t, controlBed)
}

// Trap 7: what wgctrl says about a large configuration with a fault is that the pipe broke, or the connection was reset; the
// backend finds the peer.
func TestControlFindsTheFaultBehindABrokenPipe(t *testing.T) {
	needs(t, "root, for /var/run/wireguard", os.Geteuid() == 0)
	private := NewPrivate()
	c, err := openControlled(Config{Private: private, Addresses: prefixes(hubInside + "/16")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	ps := many(3000)
	ps[1].Endpoint, ps[2000].Endpoint = "[2001:db8::1]:51820", "[2001:db8::2]:51820" // the device has no IPv6: it refuses them
	var large wgtypes.Config
	for _, p := range ps {
		pc := wgtypes.PeerConfig{PublicKey: wgtypes.Key(p.PublicKey), AllowedIPs: ipNets(p.AllowedIPs)}
		if p.Endpoint != "" {
			pc.Endpoint = net.UDPAddrFromAddrPort(netip.MustParseAddrPort(p.Endpoint))
		}
		large.Peers = append(large.Peers, pc)
	}
	err = c.client.ConfigureDevice(c.name, large)
	t.Logf("wgctrl alone: %v", err)
	if !errors.Is(err, syscall.EPIPE) && !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("wgctrl says %v; if it now gives the reason, halving may go", err)
	}
	err = c.Apply(context.Background(), Changes{Upsert: ps})
	peers, rest := PeerErrors(err)
	if len(peers) != 2 || rest != nil || peers[0].Key != ps[1].PublicKey || peers[1].Key != ps[2000].PublicKey {
		t.Fatalf("refused: %v", err)
	}
	if d := snapshot(t, c); len(d.Peers) != len(ps)-2 {
		t.Errorf("%d peers on the device, want %d", len(d.Peers), len(ps)-2)
	}
}

// Trap 7: the socket knows no network namespace, and only its owner opens it.
func TestControlSocketIsOfTheWholeMachine(t *testing.T) {
	needsNetns(t)
	needs(t, "/dev/net/tun", hasTUN())
	name := fmt.Sprintf("hsit%d-%d", os.Getpid()%100_000, devices.Add(1))
	there, here := newNetns(t), newNetns(t)
	c := Config{Private: NewPrivate(), Addresses: prefixes(hubInside + "/16"), Interface: name, UAPI: true, Log: discard()}
	var tun *TUN
	var err error
	there.do(func() { tun, err = OpenTUN(c) })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tun.Close() })
	socket := "/var/run/wireguard/" + name + ".sock"
	if info, err := os.Stat(socket); err != nil || info.Mode().Perm()&0o077 != 0 {
		t.Errorf("%s: %v, mode %v, want the owner's only", socket, err, info.Mode())
	}
	here.do(func() {
		client, err := wgctrl.New()
		if err != nil {
			t.Error(err)
			return
		}
		defer func() { _ = client.Close() }()
		dev, err := client.Device(name)
		if err != nil || Key(dev.PublicKey) != c.Private.Public() {
			t.Errorf("wgctrl in another namespace: %v", err)
		}
		// Which is why the kernel backend asks for the link itself.
		c := c
		c.UAPI = false
		if k, err := OpenKernel(c); err == nil {
			if k.client == nil || k.index == 0 {
				t.Error("took a device of another namespace for its own")
			}
			_ = k.Close()
		}
	})
	// A second device of the name cannot be served.
	second := newNetns(t)
	second.do(func() {
		if other, err := OpenTUN(c); err == nil {
			t.Error("two devices of one name are served")
			_ = other.Close()
		}
	})
	if err := tun.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(socket); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s is left: %v", socket, err)
	}
}

func TestTUNRoutesSiteNetworks(t *testing.T) {
	needsNetns(t)
	needs(t, "/dev/net/tun", hasTUN())
	b := machineBed(t, openTUN)
	p := b.pair(t)
	hub := p.hub.(inside)
	routes := func() []string {
		var out []byte
		hub.ns.do(func() { out, _ = exec.Command("ip", "-o", "route", "show", "dev", "wg0").Output() })
		var to []string
		for line := range strings.Lines(string(out)) {
			if words := strings.Fields(line); len(words) > 0 {
				to = append(to, words[0])
			}
		}
		slices.Sort(to)
		return to
	}
	site := p.sitePeer()
	site.AllowedIPs = prefixes(siteInside+"/32", "172.20.1.0/24", "0.0.0.0/0")
	apply(t, p.hub, Changes{Upsert: []Peer{site}})
	if got, want := routes(), []string{"10.8.0.0/16", "172.20.1.0/24"}; !slices.Equal(got, want) {
		t.Errorf("routes %v, want %v: the site's network, and not everything", got, want)
	}
	apply(t, p.hub, Changes{Remove: []Key{site.PublicKey}})
	if got, want := routes(), []string{"10.8.0.0/16"}; !slices.Equal(got, want) {
		t.Errorf("routes %v after the site was removed, want %v", got, want)
	}
}

func TestAutoSaysWhyNotTheFaster(t *testing.T) {
	needsNetns(t)
	needs(t, "/dev/net/tun", hasTUN())
	n := newNetns(t)
	c := Config{Private: NewPrivate(), Addresses: prefixes(hubInside + "/16"), Listen: loopback, Log: discard()}
	var tun Tunnel
	var chosen, why string
	var err error
	open := func() { tun, chosen, why, err = Open(KindAuto, c) }
	n.do(open)
	if err != nil || chosen != KindTUN || why == "" { // one address: nothing for the kernel
		t.Fatalf("chose %q because %q: %v", chosen, why, err)
	}
	t.Logf("chose %s: %s", chosen, why)
	first := tun
	t.Cleanup(func() { _ = first.Close() })
	n.do(open) // the name is taken
	if err != nil || chosen != KindNetstack {
		t.Fatalf("chose %q because %q: %v", chosen, why, err)
	}
	t.Logf("chose %s: %s", chosen, why)
	_ = tun.Close()
	if _, _, _, err := Open("fast", c); err == nil {
		t.Error("an unknown kind is opened")
	}
}
