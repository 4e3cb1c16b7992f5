//go:build unix

package spool

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/hashinsight/hashinsight/pkg/bench"
	"github.com/hashinsight/hashinsight/pkg/evidence"
	"github.com/hashinsight/hashinsight/pkg/wire"
)

// BenchmarkCommit is P5: one Append (hash, signature, two syncs of bbolt) against append + fdatasync of the same bytes,
// alternating in one run; and Append in a spool that was drained of a long outage against one in a fresh spool.
func BenchmarkCommit(b *testing.B) {
	fresh := newSite(b, func(c *Config) { c.SegmentBytes, c.Now = 0, nil })
	drained := newSite(b, func(c *Config) { c.SegmentBytes, c.Now, c.Grace = 0, nil, -1 })
	const outage, batch = 96 << 20, 50_000
	for n := range uint64(outage / batch) {
		drained.append(n, batch)
	}
	for _, p := range drained.pending() {
		drained.ack(p.Header)
	}
	drained.tidy(true)
	if n := drained.Stats().Segments; n > 2 {
		b.Errorf("%d segments after draining and grace, want at most 2", n)
	}
	f, err := os.Create(filepath.Join(b.TempDir(), "floor"))
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	timed := func(fn func() error) float64 {
		start := time.Now()
		if err := fn(); err != nil {
			b.Fatal(err)
		}
		return float64(time.Since(start).Microseconds())
	}
	commit := func(s *site, payload []byte) func() error {
		return func() error {
			_, err := s.Append(context.Background(), evidence.KindSamples, payload, wire.Meta{})
			return err
		}
	}
	worst := bench.Result{}
	var before, after []float64
	for _, size := range []int{20_000, 50_000, 100_000} {
		var floor, spool []float64
		for n := range uint64(150) {
			payload := payloadOf(n, size)
			value := append(payload[:size:size], make([]byte, prefixSize)...)
			floor = append(floor, timed(func() error {
				if _, err := f.Write(value); err != nil {
					return err
				}
				return syscall.Fdatasync(int(f.Fd()))
			}))
			spool = append(spool, timed(commit(fresh, payload)))
			if size == batch {
				before, after = append(before, spool[n]), append(after, timed(commit(drained, payload)))
			}
		}
		r := bench.Result{
			ID: "P5", Unit: "µs", Target: "≤ 2.0 × floor", Floor: bench.Median(floor), Value: bench.Median(spool),
			What:    fmt.Sprintf("one spool commit of %d kB against append + fdatasync (worst of 20, 50, 100 kB)", size/1000),
			Samples: map[string][]float64{"floor": floor, "spool": spool},
		}
		r.Ratio = r.Value / r.Floor
		r.Met = r.Ratio <= 2
		b.ReportMetric(r.Ratio, fmt.Sprintf("x-floor-%dkB", size/1000))
		if r.Ratio > worst.Ratio {
			worst = r
		}
	}
	drainedRatio := bench.Median(after) / bench.Median(before)
	b.ReportMetric(drainedRatio, "x-fresh-after-outage")
	worst.Samples["fresh"], worst.Samples["drained"] = before, after
	if err := bench.Record(worst); err != nil {
		b.Fatal(err)
	}
	if drainedRatio > 1.2 {
		b.Logf("a commit after a drained outage costs %.2f times a fresh one, the target is 1.2", drainedRatio)
	}
}
