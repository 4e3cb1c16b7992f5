//go:build unix

package peers

import (
	"fmt"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/hashinsight/hashinsight/hub/internal/fleet"
	"github.com/hashinsight/hashinsight/pkg/bench"
	"github.com/hashinsight/hashinsight/pkg/ident"
)

func needBench(t *testing.T) {
	t.Helper()
	if os.Getenv(bench.FileVariable) == "" {
		t.Skip("a measurement of a minute: set " + bench.FileVariable + " to the file for its results")
	}
}

func measured(t *testing.T, r bench.Result) {
	t.Helper()
	if err := bench.Record(r); err != nil {
		t.Error(err)
	}
}

// The half of N2 that is this package's: an address, a key and a preshared key each, in transactions that run at once. Enrolment measures the whole.
func TestBenchParallelAdds(t *testing.T) {
	needBench(t)
	b := newBook(t, "10.8.0.0/16")
	const n = 200
	sites := make([]ident.SiteID, n)
	for i := range sites {
		sites[i] = b.site(fmt.Sprintf("site %d", i))
	}
	var wait sync.WaitGroup
	took := make([]float64, n)
	addresses := make([]string, n)
	slots := make(chan struct{}, 10) // connections; a wait for one is not the server's time
	for i := range n {
		wait.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			begun := time.Now()
			err := b.try(func(tx pgx.Tx) error {
				p, err := b.Add(t.Context(), tx, New{Site: sites[i], PublicKey: newKey(), By: "bench"})
				addresses[i] = p.Address.String()
				return err
			})
			took[i] = time.Since(begun).Seconds() * 1e3
			if err != nil {
				t.Error(err)
			}
		})
	}
	wait.Wait()
	slices.Sort(addresses)
	if different := len(slices.Compact(addresses)); different != n {
		t.Errorf("%d addresses for %d sites", different, n)
	}
	sorted := slices.Sorted(slices.Values(took))
	p95 := sorted[n*95/100]
	measured(t, bench.Result{
		ID: "N2a", What: "200 parallel Adds of peers over 10 connections, 0 duplicate addresses: p95 of a transaction", Value: p95, Floor: 50, Unit: "ms",
		Ratio: p95 / 50, Target: "≤ 50 ms", Met: p95 <= 50 && !t.Failed(), Samples: map[string][]float64{"transaction": took},
	})
}

// N3 through the rows: PostgreSQL, secrets and device together. pkg/wg measures the device alone.
func TestBenchTenThousandPeers(t *testing.T) {
	needBench(t)
	r := newRig(t)
	b := openBook(t, r.pool, "10.8.0.0/16")
	const n = 10_000
	for begin := 0; begin < n; begin += 500 {
		b.tx(func(tx pgx.Tx) error {
			for i := begin; i < begin+500; i++ {
				site, _, err := fleet.PlanSite(t.Context(), tx, fmt.Sprintf("site %d", i), time.Now())
				if err == nil {
					_, err = b.Add(t.Context(), tx, New{Site: site, PublicKey: newKey(), By: "bench"})
				}
				if err != nil {
					return err
				}
			}
			return nil
		})
	}
	h := r.hub(func(c *ManagerConfig) { c.Every = time.Hour })
	begun := time.Now()
	eventually(t, "the hub has the tunnel", time.Minute, h.Owner)
	for h.Sync(t.Context()) != nil && time.Since(begun) < time.Minute {
		t.Log("a sync is not answered in its time yet")
	}
	cold := time.Since(begun).Seconds()
	if d, err := h.snapshot(); err != nil || len(d.Peers) != n {
		t.Fatalf("the device has %d peers, %v", len(d.Peers), err)
	}
	live := h.join("live")
	c, err := live.dial(10 * time.Second)
	if err != nil {
		t.Fatal(err)
	}
	var noop, added []float64
	disturbed := 0
	for i := range 5 {
		h.doubt.Store(true) // as after a revocation: the next pass is a full one
		begun = time.Now()
		if err := h.Sync(t.Context()); err != nil {
			t.Fatal(err)
		}
		noop = append(noop, time.Since(begun).Seconds())
		if _, err := ask(c, time.Second); err != nil {
			disturbed++
		}
		site := h.site(fmt.Sprintf("more %d", i))
		h.add(site, newKey())
		begun = time.Now()
		if err := h.Sync(t.Context()); err != nil {
			t.Fatal(err)
		}
		added = append(added, time.Since(begun).Seconds()*1e3)
	}
	t.Logf("one more peer among %d, sync included: %.1f ms", n, bench.Median(added))
	measured(t, bench.Result{
		ID: "N3a", What: fmt.Sprintf("10,000 peers in PostgreSQL: a full pass that changes nothing, %d sessions disturbed", disturbed), Value: bench.Median(noop), Floor: 0.5, Unit: "s",
		Ratio: bench.Median(noop) / 0.5, Target: "≤ 0.5 s, 0 disturbed", Met: bench.Median(noop) <= 0.5 && disturbed == 0, Samples: map[string][]float64{"pass": noop},
	})
	measured(t, bench.Result{
		ID: "N3b", What: "10,000 peers in PostgreSQL: from the start of a hub process until its device has all", Value: cold, Floor: 5, Unit: "s",
		Ratio: cold / 5, Target: "≤ 5 s", Met: cold <= 5, Samples: map[string][]float64{"load": {cold}},
	})
}

// N1 through the rows: from the commit that adds a peer, the sync included, to the first answer through the tunnel.
func TestBenchFirstCall(t *testing.T) {
	needBench(t)
	h := newRig(t).hub(func(c *ManagerConfig) { c.Every = time.Hour })
	h.awaitOwner()
	var took []float64
	for i := range 40 {
		begun := time.Now()
		e := h.join(fmt.Sprintf("site %d", i))
		c, err := e.dial(10 * time.Second)
		if err == nil {
			_, err = ask(c, 10*time.Second)
		}
		if err != nil {
			t.Fatal(err)
		}
		took = append(took, time.Since(begun).Seconds()*1e3)
		_ = c.Close()
		_ = e.net.Close()
	}
	sorted := slices.Sorted(slices.Values(took))
	median, p99 := bench.Median(took), sorted[len(sorted)*99/100]
	measured(t, bench.Result{
		ID: "N1a", What: fmt.Sprintf("a site and its peer made, added and synced, its end opened, first answer through the tunnel: median (the slowest of 40: %.0f ms)", p99), Value: median, Floor: 50,
		Unit: "ms", Ratio: median / 50, Target: "median ≤ 50 ms, p99 ≤ 500 ms", Met: median <= 50 && p99 <= 500, Samples: map[string][]float64{"call": took},
	})
}
