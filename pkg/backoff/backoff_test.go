package backoff

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestCeilingDoublesUpToTheMaximum(t *testing.T) {
	b := Backoff{Rand: func() float64 { return 0.999999999 }}
	var got []time.Duration
	for range 9 {
		got = append(got, b.Next().Round(time.Second))
	}
	want := []float64{1, 2, 4, 8, 16, 32, 60, 60, 60} // seconds
	for i := range want {
		if got[i].Seconds() != want[i] {
			t.Fatalf("wait %d is %s, want %g s (all: %s)", i, got[i], want[i], got)
		}
	}
	b.Reset()
	if d := b.Next().Round(time.Second); d != time.Second {
		t.Errorf("after a success the first wait is %s, want 1s", d)
	}
}

func TestWaitsAreSpread(t *testing.T) {
	b := Backoff{}
	for range 10 {
		b.Next()
	}
	var sum time.Duration
	for range 1000 {
		d := b.Next()
		if d < time.Second || d > time.Minute {
			t.Fatalf("wait of %s, want 1s to 60s", d)
		}
		sum += d
	}
	if mean := sum / 1000; mean < 25*time.Second || mean > 35*time.Second {
		t.Errorf("mean wait is %s, want about half of the maximum", mean)
	}
}

func TestWaitEndsWithTheContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		b := Backoff{}
		start := time.Now()
		if err := b.Wait(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error is %v, want deadline exceeded", err)
		}
		if d := time.Since(start); d != 300*time.Millisecond {
			t.Errorf("waited %s, want 300ms", d)
		}
	})
}
