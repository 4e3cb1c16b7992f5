package api

import (
	"context"
	"sync/atomic"
	"time"
)

const (
	fresh       = time.Second      // age up to which a held value is used as it is
	usable      = 5 * time.Second  // age up to which it is used while somebody else reads a newer one
	loadTimeout = 20 * time.Second // for reading one
)

// held keeps one value read from the database for all who ask, and reads it again only when somebody asks and it is older than
// fresh. One reads at a time, the others wait or use the value before: a thousand requests a second are one query a second. Nothing is read
// while nobody asks.
type held[T any] struct {
	now  func() time.Time
	load func(ctx context.Context, before T) (T, error) // before is the zero T the first time
	turn chan struct{}                                  // holds a token while somebody reads
	last atomic.Pointer[heldValue[T]]
}

type heldValue[T any] struct {
	value T
	at    time.Time // when reading it began
}

func newHeld[T any](now func() time.Time, load func(context.Context, T) (T, error)) *held[T] {
	return &held[T]{now: now, load: load, turn: make(chan struct{}, 1)}
}

// get returns a value at most maxAge old, or a little older while a newer one is being read.
func (h *held[T]) get(ctx context.Context, maxAge time.Duration) (T, error) {
	var zero T
	v := h.last.Load()
	age := h.age(v)
	if v != nil && age < maxAge {
		return v.value, nil
	}
	select {
	case h.turn <- struct{}{}:
	default:
		if v != nil && age < max(usable, maxAge) {
			return v.value, nil
		}
		select {
		case h.turn <- struct{}{}:
		case <-ctx.Done():
			return zero, ctx.Err()
		}
	}
	defer func() { <-h.turn }()
	if v = h.last.Load(); v != nil && h.age(v) < maxAge {
		return v.value, nil // read while this one waited
	}
	var before T
	if v != nil {
		before = v.value
	}
	// Reading does not end with the request that happens to pay for it: others wait for the value.
	loading, cancel := context.WithTimeout(context.WithoutCancel(ctx), loadTimeout)
	defer cancel()
	next := &heldValue[T]{at: h.now()}
	var err error
	if next.value, err = h.load(loading, before); err != nil {
		return zero, err
	}
	h.last.Store(next)
	return next.value, nil
}

func (h *held[T]) age(v *heldValue[T]) time.Duration {
	if v == nil {
		return 0
	}
	if age := h.now().Sub(v.at); age >= 0 {
		return age
	}
	return usable // the clock was set back: read again
}
