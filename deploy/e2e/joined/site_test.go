package joined

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/hashinsight/hashinsight/agent/agentd"
	"github.com/hashinsight/hashinsight/pkg/ident"
	"github.com/hashinsight/hashinsight/pkg/identity"
	"github.com/hashinsight/hashinsight/pkg/sim"
)

// fleet is simulated miners and what they have answered.
type fleet struct {
	*sim.Fleet
	mu      sync.Mutex
	answers []sim.Answer
}

func newFleet(t *testing.T, miners int) *fleet {
	t.Helper()
	f := &fleet{}
	var err error
	f.Fleet, err = sim.New(sim.Config{Miners: miners, Seed: 3, OnAnswer: func(a sim.Answer) {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.answers = append(f.answers, a)
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(run(t, f.Run))
	return f
}

// run runs a part until stop is called, or the test ends.
func run(t *testing.T, part func(context.Context) error) (stop func()) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- part(ctx) }()
	return sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// site is a site that has joined.
type site struct {
	t        *testing.T
	id       ident.SiteID
	config   agentd.Config
	registry *prometheus.Registry // of the agent that runs now
	agent    *agentd.Agent
	stop     func()
}

// join makes a token and a site that joins with it.
func (h *hub) join(name string) (*site, error) {
	s := &site{t: h.t}
	dir := h.t.TempDir()
	text, err := h.token(name)
	if err != nil {
		return nil, err
	}
	token, err := identity.ParseToken(text)
	if err != nil {
		return nil, err
	}
	j, err := agentd.Join(h.t.Context(), agentd.JoinConfig{Dir: dir + "/identity", Token: token, Addresses: []string{h.Agents}})
	if err != nil {
		return nil, fmt.Errorf("site %s: %w", name, err)
	}
	s.id = j.Bundle.Site
	s.config = agentd.Config{
		Dir: dir, IdentityDir: dir + "/identity", BatchInterval: 200 * time.Millisecond,
		Log: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError})).With("site", name),
	}
	return s, nil
}

// poll gives the site miners of the fleet.
func (s *site) poll(f *fleet, from, n int, every time.Duration) {
	s.config.MinerDial = f.DialContext
	for _, m := range f.Miners()[from : from+n] {
		s.config.Miners = append(s.config.Miners, agentd.Miner{Address: m.Address, Interval: every})
	}
}

// start starts the site's agent. When the test ends it is stopped, if it was not before.
func (s *site) start() {
	s.t.Helper()
	s.registry = prometheus.NewRegistry()
	s.config.Registry = s.registry
	var err error
	if s.agent, err = agentd.New(s.config); err != nil {
		s.t.Fatal(err)
	}
	s.stop = run(s.t, s.agent.Run)
	s.t.Cleanup(s.stop)
}

// metric sums the agent's series with this name whose labels have these values.
func (s *site) metric(name string, labels ...string) (sum float64) {
	s.t.Helper()
	families, err := s.registry.Gather()
	if err != nil {
		s.t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
	series:
		for _, m := range f.GetMetric() {
			for _, want := range labels {
				if !strings.Contains(" "+m.String(), want) {
					continue series
				}
			}
			sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	return sum
}

// storedAt returns when the hub stored the site's batches, in order.
func (h *hub) storedAt(id ident.SiteID) (at []time.Time) {
	h.t.Helper()
	var one time.Time
	h.query(`SELECT received_at FROM batch WHERE site_id = $1 ORDER BY received_at`, []any{id[:]}, []any{&one}, func() { at = append(at, one) })
	return at
}

// inTunnel reports whether the hub sees the site's stream come from inside the tunnel.
func (h *hub) inTunnel(id ident.SiteID) bool {
	h.t.Helper()
	var remote string
	h.query(`SELECT remote_address FROM agent WHERE site_id = $1`, []any{id[:]}, []any{&remote}, func() {})
	if a, err := netip.ParseAddrPort(remote); err == nil {
		remote = a.Addr().String()
	}
	a, err := netip.ParseAddr(remote)
	return err == nil && netip.MustParsePrefix("10.8.0.0/16").Contains(a)
}

// wantEachAnswerOnce compares what the miners answered with what the hub stored; the agents have ended.
func (h *hub) wantEachAnswerOnce(f *fleet) {
	h.t.Helper()
	type answer struct {
		address string
		serial  int64
	}
	stored := map[answer]int{}
	var k answer
	h.query(`SELECT m.address, coalesce(s.best_share, 0) FROM telemetry_hot s JOIN miner m ON m.id = s.miner_id AND m.site_id = s.site_id`, nil,
		[]any{&k.address, &k.serial}, func() { stored[k]++ })
	f.mu.Lock()
	defer f.mu.Unlock()
	lost, doubled := 0, 0
	for _, a := range f.answers {
		switch n := stored[answer{a.Miner, int64(a.Serial)}]; {
		case !a.Complete || n == 1:
		case n == 0:
			lost++
		default:
			doubled++
		}
	}
	if lost > 0 || doubled > 0 {
		h.t.Errorf("of %d answers %d are not stored and %d are more than once", len(f.answers), lost, doubled)
	}
	for _, table := range []string{"dead_letter", "batch_fork", "batch_gap"} {
		if n := h.count(`SELECT count(*) FROM ` + table); n != 0 {
			h.t.Errorf("%d rows in %s, want none", n, table)
		}
	}
}
