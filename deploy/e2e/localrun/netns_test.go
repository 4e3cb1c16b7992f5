package localrun

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// needs skips a test that lacks something, or fails it where HSI_TEST_NO_SKIP=1 says that everything has to be there.
func needs(t *testing.T, there bool, what string) {
	t.Helper()
	switch {
	case there:
	case os.Getenv("HSI_TEST_NO_SKIP") == "1":
		t.Fatalf("this test needs %s, and HSI_TEST_NO_SKIP=1 forbids to skip it", what)
	default:
		t.Skipf("this test needs %s", what)
	}
}

// testWriter passes what a run prints to the test's log.
type testWriter struct{ t *testing.T }

func (w testWriter) Write(b []byte) (int, error) {
	w.t.Log(strings.TrimSpace(string(b)))
	return len(b), nil
}

// network is a site behind a link of its own: a namespace and a pair of virtual Ethernet.
type network struct {
	t      *testing.T
	site   site
	hubEnd string // the link's interface at the hub
	end    string // the link's interface in the namespace
	peer   string // the site's address on the link
}

func newNetwork(t *testing.T) *network {
	t.Helper()
	needs(t, os.Geteuid() == 0, "root, to make network namespaces")
	for _, tool := range []string{"ip", "tc"} {
		_, err := exec.LookPath(tool)
		needs(t, err == nil, tool+" (Debian package iproute2)")
	}
	id := os.Getpid() % 10000
	subnet := fmt.Sprintf("10.%d.%d", 64+id%128, id/128)
	n := &network{
		t: t, hubEnd: fmt.Sprintf("hsi%dh", id), end: fmt.Sprintf("hsi%ds", id), peer: subnet + ".2",
		site: site{namespace: fmt.Sprintf("hsi-%d", id), hub: subnet + ".1"},
	}
	if out, err := exec.CommandContext(t.Context(), "ip", "netns", "add", n.site.namespace).CombinedOutput(); err != nil {
		needs(t, false, fmt.Sprintf("a kernel that allows network namespaces (%s)", strings.TrimSpace(string(out))))
	}
	t.Cleanup(func() {
		_ = exec.Command("ip", "link", "del", n.hubEnd).Run()
		_ = exec.Command("ip", "netns", "del", n.site.namespace).Run()
	})
	n.do("ip", "link", "add", n.hubEnd, "type", "veth", "peer", "name", n.end, "netns", n.site.namespace)
	n.do("ip", "addr", "add", n.site.hub+"/24", "dev", n.hubEnd)
	n.do("ip", "link", "set", n.hubEnd, "up")
	n.inside("ip", "addr", "add", n.peer+"/24", "dev", n.end)
	n.inside("ip", "link", "set", n.end, "up")
	n.inside("ip", "link", "set", "lo", "up")
	return n
}

func (n *network) do(argv ...string) {
	n.t.Helper()
	if out, err := exec.CommandContext(n.t.Context(), argv[0], argv[1:]...).CombinedOutput(); err != nil {
		n.t.Fatalf("%s: %v: %s", strings.Join(argv, " "), err, out)
	}
}

func (n *network) inside(argv ...string) {
	n.t.Helper()
	n.do(append([]string{"ip", "netns", "exec", n.site.namespace}, argv...)...)
}

// nobody is a hardware address that no interface has: what is sent to it, the other end passes over.
const nobody = "02:00:00:00:00:01"

// loseToSite cuts one direction only, from hub to site: the hub's packets go to nobody.
func (n *network) loseToSite() {
	n.do("ip", "neigh", "replace", n.peer, "lladdr", nobody, "dev", n.hubEnd, "nud", "permanent")
}

func (n *network) findSite() { n.do("ip", "neigh", "del", n.peer, "dev", n.hubEnd) }

// loseToHub cuts the other direction.
func (n *network) loseToHub() {
	n.inside("ip", "neigh", "replace", n.site.hub, "lladdr", nobody, "dev", n.end, "nud", "permanent")
}

func (n *network) findHub() { n.inside("ip", "neigh", "del", n.site.hub, "dev", n.end) }

// run is a system under test whose site lies behind n.
func (n *network) run(c Config) *stack {
	t := n.t
	t.Helper()
	s := newStack(t, c, &n.site)
	if err := s.start(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s
}

// wantFresh waits until every healthy miner is fresh.
func wantFresh(t *testing.T, s *stack, within time.Duration, when string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	if _, err := s.waitFresh(ctx); err != nil {
		t.Fatalf("%s, after %s: %v", when, within, err)
	}
}

// awaitMetric waits until a metric of the agent passes want.
func awaitMetric(t *testing.T, s *stack, name string, within time.Duration, want func(float64) bool) time.Duration {
	t.Helper()
	began := time.Now()
	for tick := time.NewTicker(100 * time.Millisecond); ; <-tick.C {
		v, err := s.metric(t.Context(), s.ports.Agent, name)
		if err != nil {
			t.Fatal(err)
		}
		if want(v) {
			return time.Since(began)
		}
		if time.Since(began) > within {
			t.Fatalf("%s is still %g after %s", name, v, within)
		}
	}
}

const (
	connectedMetric = "hashinsight_agent_uplink_connected"
	pendingMetric   = "hashinsight_agent_spool_pending_batches"
	keepalive       = 30 * time.Second // within which a dead peer has to be found
)

// Agent and hub as processes on two sides of a link that loses one direction, then the other, then goes down and comes back narrow.
func TestLinkFaultsLoseAndDoubleNothing(t *testing.T) {
	n := newNetwork(t)
	s := n.run(Config{Fleet: 40, Interval: time.Second, BatchInterval: time.Second, Timeout: 2 * time.Second, Seed: 3})
	wantFresh(t, s, startTimeout, "at the start")

	for _, way := range []struct {
		name      string
		cut, mend func()
	}{{"nothing comes from the hub", n.loseToSite, n.findSite}, {"nothing reaches the hub", n.loseToHub, n.findHub}} {
		way.cut()
		found := awaitMetric(t, s, connectedMetric, keepalive, func(v float64) bool { return v == 0 })
		pending := awaitMetric(t, s, pendingMetric, keepalive, func(v float64) bool { return v >= 5 })
		way.mend()
		wantFresh(t, s, time.Minute, "after "+way.name)
		drained := awaitMetric(t, s, pendingMetric, time.Minute, func(v float64) bool { return v <= 2 })
		t.Logf("%s: found after %.1f s, 5 batches pending %.1f s later, drained %.1f s after it was mended and fresh", way.name,
			found.Seconds(), pending.Seconds(), drained.Seconds())
	}

	n.do("ip", "link", "set", n.hubEnd, "down")
	awaitMetric(t, s, pendingMetric, 2*time.Minute, func(v float64) bool { return v >= 60 })
	// A few times what live data needs, so that the backlog takes a while.
	n.inside("tc", "qdisc", "add", "dev", n.end, "root", "tbf", "rate", "256kbit", "burst", "4kb", "latency", "400ms")
	mended := time.Now()
	n.do("ip", "link", "set", n.hubEnd, "up")
	wantFresh(t, s, 45*time.Second, "behind a narrow link")
	looks, oldest := 0, time.Duration(0)
	for tick := time.NewTicker(500 * time.Millisecond); ; <-tick.C {
		v, err := s.metric(t.Context(), s.ports.Agent, pendingMetric)
		if err != nil {
			t.Fatal(err)
		}
		f, err := s.look(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		looks, oldest = looks+1, max(oldest, f.Oldest)
		if v <= 2 {
			break
		}
		if time.Since(mended) > 3*time.Minute {
			t.Fatalf("%g batches are still pending 3 min after the link came back", v)
		}
	}
	// A backlog in the way would make it as old as the backlog takes.
	if oldest > 15*time.Second {
		t.Errorf("live data was up to %.1f s old while the backlog drained", oldest.Seconds())
	}
	t.Logf("narrow link: backlog drained after %.1f s, live data at most %.1f s old at %d looks", time.Since(mended).Seconds(), oldest.Seconds(), looks)
	n.inside("tc", "qdisc", "del", "dev", n.end, "root")
	if err := s.judge(); err != nil {
		t.Error(err)
	}
}
