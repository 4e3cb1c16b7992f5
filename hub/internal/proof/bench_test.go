package proof

import (
	"testing"
	"time"
)

// BenchmarkLog gives a day of signed hours of a thousand sites their places: 24,000 entries, from rows to a signed checkpoint, and what the hour's thousand entries of all sites
// wait for when they come at once.
func BenchmarkLog(b *testing.B) {
	w := newWorld(b)
	var day, hour time.Duration
	n := 0
	for b.Loop() {
		w.note(24_000)
		begin := time.Now()
		w.run()
		day += time.Since(begin)
		w.note(1000)
		begin = time.Now()
		w.run()
		hour += time.Since(begin)
		n++
	}
	b.ReportMetric(float64(n*24_000)/day.Seconds(), "entries/s")
	b.ReportMetric(float64(hour.Milliseconds())/float64(n), "ms/1000_entries")
}

// BenchmarkInclusion proves entries of a large log, as a bundle of a month does.
func BenchmarkInclusion(b *testing.B) {
	w := newWorld(b)
	w.note(50_000)
	w.run()
	c := w.checkpoint()
	p, err := w.store.Prover(b.Context(), c.Size)
	if err != nil {
		b.Fatal(err)
	}
	e, err := w.store.Entry(b.Context(), 12_345)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := p.Inclusion(b.Context(), &e); err != nil {
			b.Fatal(err)
		}
	}
}
