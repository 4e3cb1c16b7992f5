package localrun

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// A site's life at two places of the network: it joins with a token, streams through the tunnel, gets another address, loses the link,
// falls back to TCP when no UDP passes and returns, is cut off by its hub, joins again, and has lost and doubled nothing. Another
// site beside it notices nothing of that.
func TestSiteLivesBehindNAT(t *testing.T) {
	n := newNAT(t)
	live(t, n, func(ports) {}, &site{namespace: n.bystander, hub: n.subnet + ".1"})
}

func TestSiteLivesBehindRelays(t *testing.T) {
	r := newRelays(t)
	live(t, r, r.aim, nil)
}

// Bounds of a site's life. Of the fall-back's, 16 s are for finding that nothing comes any more.
const (
	revokedWithin  = 5 * time.Second  // N4, were its notice lost
	fallbackWithin = 45 * time.Second // N8
	returnWithin   = 90 * time.Second // the tunnel is tried again after 30 s
)

const ackedMetric = "hashinsight_agent_uplink_acknowledged_batches_total"

func live(t *testing.T, x crossing, aim func(ports), beside *site) {
	s := newStack(t, Config{Fleet: 20, Interval: time.Second, BatchInterval: time.Second, Timeout: 2 * time.Second, Seed: 5}, x.where())
	aim(s.ports)
	if err := s.start(t.Context()); err != nil {
		t.Fatal(err)
	}
	other := s.bystander(t, beside)
	wantFresh(t, s, startTimeout, "at the start")
	s.wantWay(t, "tunnel", 10*time.Second)
	if a := s.stream(t, "local").Remote; !strings.HasPrefix(a, "10.8.") {
		t.Errorf("the hub sees the site at %q, which is not inside the tunnel", a)
	}

	x.roam()
	took := s.awaitNews(t, time.Minute)
	t.Logf("another address: 3 batches were stored within %.1f s of the change", took.Seconds())
	wantFresh(t, s, time.Minute, "behind another address")

	x.cut()
	awaitMetric(t, s, pendingMetric, time.Minute, func(v float64) bool { return v >= 8 })
	x.mend()
	wantFresh(t, s, time.Minute, "after the link was down")
	s.wantWay(t, "tunnel", returnWithin) // it may have tried the other one meanwhile

	x.dropUDP()
	began := time.Now()
	s.wantWay(t, "direct", fallbackWithin)
	awaitMetric(t, s, connectedMetric, fallbackWithin-time.Since(began), func(v float64) bool { return v == 1 })
	t.Logf("no UDP: streaming over TCP after %.1f s", time.Since(began).Seconds())
	wantFresh(t, s, time.Minute, "over TCP")
	x.passUDP()
	began = time.Now()
	s.wantWay(t, "tunnel", returnWithin)
	t.Logf("UDP again: back in the tunnel after %.1f s", time.Since(began).Seconds())
	wantFresh(t, s, time.Minute, "back in the tunnel")

	before := s.stream(t, "beside")
	began = time.Now()
	if err := runOnce(t.Context(), s.hubEnv(), s.program("hub"), "site", "revoke", "local", "--why", "sold", "--yes"); err != nil {
		t.Fatal(err)
	}
	awaitMetric(t, s, connectedMetric, revokedWithin, func(v float64) bool { return v == 0 })
	t.Logf("revoked: the stream had ended %.2f s after the command began", time.Since(began).Seconds())
	awaitMetric(t, s, pendingMetric, time.Minute, func(v float64) bool { return v >= 5 }) // it goes on gathering
	s.wantHealth(t, "that it was revoked", func(h siteHealth) bool { return strings.Contains(strings.Join(h.Reasons, " "), "revoked") })
	if v, err := s.metric(t.Context(), s.ports.Agent, connectedMetric); err != nil || v != 0 {
		t.Errorf("a revoked site is connected again: %v %v", v, err)
	}

	if err := s.join(t.Context(), "local", s.identity(), s.c.site); err != nil {
		t.Fatal(err)
	}
	wantFresh(t, s, 2*time.Minute, "after it joined again")
	awaitMetric(t, s, pendingMetric, time.Minute, func(v float64) bool { return v <= 2 })
	if after := s.stream(t, "beside"); after != before {
		t.Errorf("the site beside lost its stream when the other was revoked: %+v, before %+v", after, before)
	}
	other.stop(t)
	if err := s.judge(); err != nil {
		t.Error(err)
	}
}

// newStack is a system under test with something between site and hub.
func newStack(t *testing.T, c Config, at *site) *stack {
	t.Helper()
	bin := os.Getenv("HSI_TEST_BIN")
	needs(t, bin != "", "HSI_TEST_BIN, the folder of the built programs")
	c.BinDir, c.StateDir, c.RunDir, c.Web, c.Out, c.site = bin, t.TempDir(), t.TempDir(), "127.0.0.1:0", testWriter{t}, at
	if err := os.Chmod(filepath.Dir(c.StateDir), 0o711); err != nil { // PostgreSQL's account passes through
		t.Fatal(err)
	}
	s, err := openStack(t.Context(), c.withDefaults())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			for _, c := range []*child{s.agent, s.hub} {
				if c != nil {
					t.Logf("%s: %s", c.name, c.lastLines())
				}
			}
		}
		if err := s.close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// siteHealth is what these tests read of an agent's /health.
type siteHealth struct {
	Status  string   `json:"status"`
	Reasons []string `json:"reasons"`
	Link    struct {
		State string `json:"state"`
		Way   string `json:"way"`
	} `json:"link"`
}

// wantHealth waits until the agent says something of itself.
func (s *stack) wantHealth(t *testing.T, what string, ok func(siteHealth) bool) {
	t.Helper()
	var h siteHealth
	if !s.eventually(t, 30*time.Second, func() (err error, done bool) {
		h = siteHealth{}
		err = getJSON(t.Context(), s.inside, "http://"+s.ports.Agent+"/health", "", &h)
		return err, ok(h)
	}) {
		t.Fatalf("the agent does not say %s: %+v", what, h)
	}
}

// wantWay waits until the agent reaches its hub on a way.
func (s *stack) wantWay(t *testing.T, way string, within time.Duration) {
	t.Helper()
	var h siteHealth
	if !s.eventually(t, within, func() (err error, done bool) {
		err = getJSON(t.Context(), s.inside, "http://"+s.ports.Agent+"/health", "", &h)
		return err, h.Link.Way == way
	}) {
		t.Fatalf("the agent's way to the hub is still %q after %s, want %q", h.Link.Way, within, way)
	}
}

// eventually looks until it is so.
func (s *stack) eventually(t *testing.T, within time.Duration, look func() (err error, done bool)) bool {
	t.Helper()
	began := time.Now()
	for tick := time.NewTicker(100 * time.Millisecond); ; <-tick.C {
		err, done := look()
		if err != nil {
			t.Fatal(err)
		}
		if done {
			return true
		}
		if time.Since(began) > within {
			return false
		}
	}
}

// siteStream is a site's stream as the hub sees it.
type siteStream struct {
	SiteName    string `json:"site_name"`
	Connected   bool   `json:"connected"`
	Remote      string `json:"remote_address"`
	ConnectedAt string `json:"connected_at"`
}

func (s *stack) stream(t *testing.T, name string) siteStream {
	t.Helper()
	var list struct {
		Items []siteStream `json:"items"`
	}
	if err := s.get(t.Context(), "/api/agents", &list); err != nil {
		t.Fatal(err)
	}
	for _, a := range list.Items {
		if a.SiteName == name {
			return a
		}
	}
	return siteStream{}
}

// neighbour is a second site of the hub.
type neighbour struct {
	s          *stack
	sim, agent *child
	at         *site
}

// bystander lets a second site join and stream.
func (s *stack) bystander(t *testing.T, at *site) *neighbour {
	t.Helper()
	const miners, base = 3, "127.13.0"
	dir := filepath.Join(s.dir, "beside")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	listen, err := freeAddress(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	control, err := freeAddress(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	n := &neighbour{s: s, at: at}
	var targets strings.Builder
	for i := range miners {
		fmt.Fprintf(&targets, "      - %s.%d:4028\n", base, i+1)
	}
	config := filepath.Join(dir, "agent.yaml")
	text := fmt.Sprintf("data_dir: %q\nlisten: %s\ntargets:\n  - addresses:\n%spoll:\n  interval: 1s\n  timeout: 2s\n  connect_timeout: 1s\nbatch:\n  interval: 1s\n", dir, listen, targets.String())
	if err := writeFile(config, []byte(text)); err != nil {
		t.Fatal(err)
	}
	n.sim = n.child("beside-sim", s.program("sim"), "--miners", strconv.Itoa(miners), "--base", base+".1", "--port", "4028", "--control", control, "--seed", "9", "--record", filepath.Join(dir, "record.jsonl"), "--state", filepath.Join(dir, "state"))
	if err := s.join(t.Context(), "beside", filepath.Join(dir, "identity"), at); err != nil {
		t.Fatal(err)
	}
	n.agent = n.child("beside-agent", s.program("agent"), "run", "--config", config)
	for _, c := range []*child{n.sim, n.agent} {
		if err := c.run(); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { n.stop(t) })
	if !s.eventually(t, 30*time.Second, func() (error, bool) { return nil, s.stream(t, "beside").Connected }) {
		t.Fatal("the second site does not stream")
	}
	return n
}

func (n *neighbour) child(name string, argv ...string) *child {
	return &child{
		name: name, argv: n.at.exec(argv), logPath: filepath.Join(n.s.c.RunDir, name+".log"),
		started: func(int) {}, ended: func(time.Time) {}, broken: func(error) {},
	}
}

func (n *neighbour) stop(t *testing.T) {
	for _, c := range []*child{n.agent, n.sim} {
		if err := c.stop(); err != nil {
			t.Error(err)
		}
	}
}
