package api

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashinsight/hashinsight/pkg/ident"
	"github.com/hashinsight/hashinsight/pkg/telemetry"
)

// BenchmarkFleetOf10000 measures lists and the snapshot at 10,000 miners under 50 concurrent clients, over real connections, while 170 miners a
// second change, which is a poll a minute. It prints the median and the 95th percentile of a request.
func BenchmarkFleetOf10000(b *testing.B) {
	const miners, clients = 10_000, 50
	w := newWorld(b)
	ids := w.miners(miners)
	stop := make(chan struct{})
	changed := make(chan struct{})
	go func() {
		defer close(changed)
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for n := 0; ; n++ {
			select {
			case <-stop:
				return
			case <-tick.C:
			}
			var polls []telemetry.Observation
			for i := range 170 {
				polls = append(polls, w.poll(ids[(n*170+i)%miners], float64(50+n%50)*1e12))
			}
			w.observe(nil, polls...) // moves the clock by 2 s: the image is read anew
		}
	}()
	defer func() { close(stop); <-changed }()
	transport := &http.Transport{MaxIdleConnsPerHost: clients}
	defer transport.CloseIdleConnections()
	for _, c := range []struct{ name, path string }{
		{"list", "/api/miners"},
		{"list-filtered", "/api/miners?state=hashing&q=10.0.1&sort=-hashrate&limit=100"},
		{"miner", "/api/miners/" + ids[17].String()},
		{"snapshot", "/api/snapshot"},
	} {
		b.Run(c.name, func(b *testing.B) {
			var mu sync.Mutex
			var took []time.Duration
			var wg sync.WaitGroup
			work := make(chan struct{}, clients)
			for range clients {
				wg.Go(func() {
					for range work {
						begin := time.Now()
						if err := fetch(b.Context(), transport, w.url+c.path, w.owner); err != nil {
							b.Error(err)
						}
						mu.Lock()
						took = append(took, time.Since(begin))
						mu.Unlock()
					}
				})
			}
			for b.Loop() {
				work <- struct{}{}
			}
			close(work)
			wg.Wait()
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "p50-ms")
			b.ReportMetric(float64(took[len(took)*95/100].Microseconds())/1000, "p95-ms")
		})
	}
}

func fetch(ctx context.Context, transport *http.Transport, url, key string) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, strings.NewReader(""))
	if err != nil {
		return err
	}
	r.Header.Set("Authorization", "Bearer "+key)
	r.Header.Set("Accept-Encoding", "gzip")
	res, err := transport.RoundTrip(r)
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }()
	n, err := io.Copy(io.Discard, res.Body)
	if err != nil || res.StatusCode != http.StatusOK || n == 0 {
		return fmt.Errorf("%s: status %d, %d bytes: %w", url, res.StatusCode, n, err)
	}
	return nil
}

// BenchmarkImage measures what reading the fleet anew costs, and the step from one second to the next.
func BenchmarkImage(b *testing.B) {
	const miners = 10_000
	w := newWorld(b)
	ids := w.miners(miners)
	full, err := w.server.loadImage(b.Context(), nil)
	if err != nil {
		b.Fatal(err)
	}
	b.Run("full", func(b *testing.B) {
		for b.Loop() {
			if _, err := w.server.loadImage(b.Context(), nil); err != nil {
				b.Fatal(err)
			}
		}
	})
	var polls []telemetry.Observation
	for _, id := range append([]ident.MinerID{}, ids[:170]...) {
		polls = append(polls, w.poll(id, 1e12))
	}
	w.observe(nil, polls...)
	b.Run("170-changes", func(b *testing.B) {
		for b.Loop() {
			if _, err := w.server.loadImage(b.Context(), full); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("encode-snapshot", func(b *testing.B) {
		for b.Loop() {
			img := &image{at: full.at, rows: full.rows, sites: full.sites}
			plain, zipped := img.snapshot()
			b.ReportMetric(float64(len(plain)), "bytes")
			b.ReportMetric(float64(len(zipped)), "gzip-bytes")
		}
	})
}
