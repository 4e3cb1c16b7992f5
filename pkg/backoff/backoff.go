// Package backoff spreads retries over time: full jitter between zero and a ceiling that doubles from a minimum to a
// maximum, so that a thousand agents that lost one hub do not come back in one instant. It decides only how long to wait;
// what to retry, and whether an attempt counted as a success, is the caller's business. The agent's uplink uses it.
package backoff

import (
	"context"
	"math/rand/v2"
	"time"
)

// Backoff waits longer after each failure. It is not safe for use by several goroutines.
type Backoff struct {
	Min time.Duration // ceiling of the first wait and floor of every wait; 0 means 1 s
	Max time.Duration // ceiling of every wait; 0 means 60 s
	// Rand returns a number in [0, 1); nil means math/rand.
	Rand func() float64

	failures int
}

// Next returns the next wait, at least Min and at most Max, and counts a failure.
func (b *Backoff) Next() time.Duration {
	low, high := b.Min, b.Max
	if low <= 0 {
		low = time.Second
	}
	if high <= 0 {
		high = time.Minute
	}
	ceiling := low
	for i := 0; i < b.failures && ceiling < high; i++ {
		ceiling *= 2
	}
	ceiling = min(ceiling, high)
	if ceiling < high {
		b.failures++
	}
	r := rand.Float64
	if b.Rand != nil {
		r = b.Rand
	}
	// Jitter over the whole ceiling, then the floor: a wait of nearly nothing would let a refused client spin.
	return min(high, max(low, time.Duration(r()*float64(ceiling))))
}

// Reset forgets past failures. Call it once an attempt has succeeded.
func (b *Backoff) Reset() { b.failures = 0 }

// Wait sleeps for Next, or until ctx is done, whose error it returns.
func (b *Backoff) Wait(ctx context.Context) error { return Sleep(ctx, b.Next()) }

// Sleep waits for d, or until ctx is done, whose error it returns.
func Sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
