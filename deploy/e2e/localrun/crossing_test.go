package localrun

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"
)

// crossing is what lies between a site and its hub: a NAT whose address changes, a link that goes down, a firewall that lets no UDP
// pass.
type crossing interface {
	where() *site
	roam() // the site's packets come from another address or port from now on
	dropUDP()
	passUDP()
	cut()
	mend()
}

// relays are a crossing on loopback, for any user: a NAT of UDP ports, and a TCP relay. Faults meet the site under test, which is the
// first that sends a packet.
type relays struct {
	t     *testing.T
	mu    sync.Mutex
	udp   net.PacketConn // towards the sites
	flows map[string]*flow
	first *flow
	hub   net.Addr
	tcp   net.Listener
	to    string
	open  map[net.Conn]struct{}
	noU   bool
	down  bool
	all   sync.WaitGroup
}

// flow is a site's packets.
type flow struct {
	site net.Addr
	out  net.PacketConn // towards the hub: another port is another address
}

// newRelays listens before the hub has addresses; aim tells them.
func newRelays(t *testing.T) *relays {
	t.Helper()
	var lc net.ListenConfig
	r := &relays{t: t, flows: map[string]*flow{}, open: map[net.Conn]struct{}{}}
	var err1, err2 error
	r.udp, err1 = lc.ListenPacket(t.Context(), "udp", "127.0.0.1:0")
	r.tcp, err2 = lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		r.mu.Lock()
		_, _ = r.udp.Close(), r.tcp.Close()
		for _, f := range r.flows {
			_ = f.out.Close()
		}
		for c := range r.open {
			_ = c.Close()
		}
		r.mu.Unlock()
		r.all.Wait()
	})
	r.all.Go(r.fromSite)
	r.all.Go(r.accept)
	return r
}

// aim says where the hub is.
func (r *relays) aim(p ports) {
	hub, err := net.ResolveUDPAddr("udp", p.WG)
	if err != nil {
		r.t.Fatal(err)
	}
	r.set(func() { r.hub, r.to = hub, p.GRPC })
}

func (r *relays) where() *site {
	return &site{grpc: r.tcp.Addr().String(), wg: r.udp.LocalAddr().String()}
}

func (r *relays) roam() {
	r.set(func() {
		_ = r.first.out.Close()
		r.listen(r.first)
	})
}

// listen gives a flow a port of its own. The caller holds mu.
func (r *relays) listen(f *flow) {
	var lc net.ListenConfig
	out, err := lc.ListenPacket(context.Background(), "udp", "127.0.0.1:0")
	if err != nil {
		r.t.Error(err)
		return
	}
	f.out = out
	r.all.Go(func() { r.fromHub(f, out) })
}

func (r *relays) fromSite() {
	b := make([]byte, 65536)
	for {
		n, from, err := r.udp.ReadFrom(b)
		if err != nil {
			return
		}
		r.set(func() {
			f := r.flows[from.String()]
			if f == nil {
				f = &flow{site: from}
				r.listen(f)
				r.flows[from.String()] = f
				if r.first == nil {
					r.first = f
				}
			}
			if r.passes(f) {
				_, _ = f.out.WriteTo(b[:n], r.hub) // packets get lost
			}
		})
	}
}

// passes reports whether packets of a flow do. The caller holds mu.
func (r *relays) passes(f *flow) bool { return f != r.first || !r.noU && !r.down }

func (r *relays) fromHub(f *flow, out net.PacketConn) {
	b := make([]byte, 65536)
	for {
		n, _, err := out.ReadFrom(b)
		if err != nil {
			return
		}
		r.set(func() {
			if r.passes(f) && f.out == out {
				_, _ = r.udp.WriteTo(b[:n], f.site) // as above
			}
		})
	}
}

func (r *relays) accept() {
	for {
		c, err := r.tcp.Accept()
		if err != nil {
			return
		}
		r.all.Go(func() { r.relay(c) })
	}
}

func (r *relays) relay(c net.Conn) {
	defer c.Close()
	r.mu.Lock()
	to, down := r.to, r.down
	r.mu.Unlock()
	if down {
		return
	}
	var d net.Dialer
	out, err := d.DialContext(context.Background(), "tcp", to)
	if err != nil {
		return
	}
	defer out.Close()
	r.mu.Lock()
	r.open[c], r.open[out] = struct{}{}, struct{}{}
	r.mu.Unlock()
	var back sync.WaitGroup
	back.Go(func() {
		_, _ = io.Copy(c, out)
		_, _ = c.Close(), out.Close()
	})
	_, _ = io.Copy(out, c)
	_, _ = c.Close(), out.Close()
	back.Wait()
	r.mu.Lock()
	delete(r.open, c)
	delete(r.open, out)
	r.mu.Unlock()
}

func (r *relays) set(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f()
}

func (r *relays) dropUDP() { r.set(func() { r.noU = true }) }
func (r *relays) passUDP() { r.set(func() { r.noU = false }) }
func (r *relays) mend()    { r.set(func() { r.down = false }) }
func (r *relays) cut() {
	r.set(func() {
		r.down = true
		for c := range r.open {
			_ = c.Close()
		}
	})
}

// nat is a crossing of network namespaces: two sites behind a router that gives their packets its own address. Root only.
type nat struct {
	t              *testing.T
	subnet         string // between router and hub
	router, inside string // namespaces: the router, the site under test
	bystander      string // namespace of the second site
	hubEnd         string // interface at the hub
	outer          int    // last number of the router's address
}

func newNAT(t *testing.T) *nat {
	t.Helper()
	needs(t, os.Geteuid() == 0, "root, to make network namespaces")
	for tool, debian := range map[string]string{"ip": "iproute2", "nft": "nftables"} {
		_, err := exec.LookPath(tool)
		needs(t, err == nil, fmt.Sprintf("%s (Debian package %s)", tool, debian))
	}
	id := os.Getpid() % 10000
	n := &nat{
		t: t, subnet: fmt.Sprintf("10.%d.%d", 192+id%60, id/60), router: fmt.Sprintf("hsi-%d-r", id), inside: fmt.Sprintf("hsi-%d-a", id),
		bystander: fmt.Sprintf("hsi-%d-b", id), hubEnd: fmt.Sprintf("hsn%d", id), outer: 2,
	}
	t.Cleanup(func() {
		for _, ns := range []string{n.router, n.inside, n.bystander} {
			_ = exec.Command("ip", "netns", "del", ns).Run()
		}
		_ = exec.Command("ip", "link", "del", n.hubEnd).Run()
	})
	if out, err := exec.CommandContext(t.Context(), "ip", "netns", "add", n.inside).CombinedOutput(); err != nil {
		needs(t, false, fmt.Sprintf("a kernel that allows network namespaces (%s)", strings.TrimSpace(string(out))))
	}
	n.do("ip", "netns", "add", n.bystander)
	for _, ns := range []string{n.inside, n.bystander} {
		n.in(ns, "ip", "link", "set", "lo", "up")
	}
	n.boot()
	return n
}

func (n *nat) do(argv ...string) {
	n.t.Helper()
	if out, err := exec.CommandContext(n.t.Context(), argv[0], argv[1:]...).CombinedOutput(); err != nil {
		n.t.Fatalf("%s: %v: %s", strings.Join(argv, " "), err, out)
	}
}

func (n *nat) in(ns string, argv ...string) {
	n.t.Helper()
	n.do(append([]string{"ip", "netns", "exec", ns}, argv...)...)
}

// boot makes the router with its links. What it had learnt of connections before is gone, as after a restart of a real one.
func (n *nat) boot() {
	n.do("ip", "netns", "add", n.router)
	n.do("ip", "link", "add", n.hubEnd, "type", "veth", "peer", "name", "hub", "netns", n.router)
	n.do("ip", "addr", "add", n.subnet+".1/24", "dev", n.hubEnd)
	n.do("ip", "link", "set", n.hubEnd, "up")
	n.in(n.router, "ip", "addr", "add", fmt.Sprintf("%s.%d/24", n.subnet, n.outer), "dev", "hub")
	n.in(n.router, "ip", "link", "set", "hub", "up")
	for i, ns := range []string{n.inside, n.bystander} {
		end, lan := fmt.Sprintf("lan%d", i), fmt.Sprintf("192.168.%d", 70+i)
		n.in(n.router, "ip", "link", "add", end, "type", "veth", "peer", "name", "wan", "netns", ns)
		n.in(n.router, "ip", "addr", "add", lan+".1/24", "dev", end)
		n.in(n.router, "ip", "link", "set", end, "up")
		n.in(ns, "ip", "addr", "add", lan+".2/24", "dev", "wan")
		n.in(ns, "ip", "link", "set", "wan", "up")
		n.in(ns, "ip", "route", "add", "default", "via", lan+".1")
	}
	n.in(n.router, "sysctl", "-qw", "net.ipv4.ip_forward=1")
	n.in(n.router, "nft", "add table ip hsi; add chain ip hsi out { type nat hook postrouting priority 100; }; add rule ip hsi out oifname hub masquerade; "+
		"add chain ip hsi pass { type filter hook forward priority 0; }")
}

func (n *nat) where() *site { return &site{namespace: n.inside, hub: n.subnet + ".1"} }

// roam gives the router another address and lets it forget every connection.
func (n *nat) roam() {
	n.do("ip", "netns", "del", n.router)
	n.outer++
	// The namespace's interfaces go a moment after it; their names at this end must be free again.
	deadline := time.Now().Add(10 * time.Second)
	for exec.Command("ip", "link", "show", n.hubEnd).Run() == nil || exec.Command("ip", "netns", "exec", n.inside, "ip", "link", "show", "wan").Run() == nil ||
		exec.Command("ip", "netns", "exec", n.bystander, "ip", "link", "show", "wan").Run() == nil {
		if time.Now().After(deadline) {
			n.t.Fatal("the router's links are still there 10 s after it was removed")
		}
	}
	n.boot()
}

func (n *nat) dropUDP() {
	n.in(n.router, "nft", "add rule ip hsi pass iifname lan0 ip protocol udp drop")
}
func (n *nat) passUDP() { n.in(n.router, "nft", "flush chain ip hsi pass") }
func (n *nat) cut()     { n.in(n.router, "ip", "link", "set", "lan0", "down") }
func (n *nat) mend()    { n.in(n.router, "ip", "link", "set", "lan0", "up") }
