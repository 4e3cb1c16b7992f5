package access

import (
	"context"
	"errors"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/hashinsight/hashinsight/hub/internal/apperr"
	"github.com/hashinsight/hashinsight/hub/internal/pg"
	"github.com/hashinsight/hashinsight/hub/pgtest"
)

// testClock is a clock that tests move.
type testClock struct{ ns atomic.Int64 }

func newClock() *testClock {
	c := &testClock{}
	c.ns.Store(time.Date(2026, 5, 1, 12, 0, 30, 0, time.UTC).UnixNano())
	return c
}

func (c *testClock) now() time.Time          { return time.Unix(0, c.ns.Load()).UTC() }
func (c *testClock) advance(d time.Duration) { c.ns.Add(int64(d)) }

func poolOf(t testing.TB, url string) *pgxpool.Pool {
	t.Helper()
	c, err := pg.PoolConfig(url)
	if err != nil {
		t.Fatal(err)
	}
	c.MaxConns = 5
	pool, err := pgxpool.NewWithConfig(context.WithoutCancel(t.Context()), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return pool
}

func newLimiter(t testing.TB, pool *pgxpool.Pool, perMinute int, now func() time.Time) *Limiter {
	t.Helper()
	l, err := NewLimiter(LimiterConfig{Pool: pool, PerMinute: perMinute, Now: now})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// running runs a limiter until the test ends.
func running(t testing.TB, l *Limiter) {
	t.Helper()
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// admitted makes n requests from several callers at once and counts those that pass.
func admitted(t testing.TB, n int, ask func() error) int64 {
	t.Helper()
	var passed atomic.Int64
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range n / 8 {
				err := ask()
				var limited *RateError
				switch {
				case err == nil:
					passed.Add(1)
				case !errors.As(err, &limited) || apperr.Of(err).HTTP != 429 || apperr.Of(err).Code != "API_001":
					t.Errorf("refused with %v", err)
				}
			}
		})
	}
	wg.Wait()
	return passed.Load()
}

func TestOneProcessKeepsTheLimitExactlyAndSaysWhenToComeBack(t *testing.T) {
	clock := newClock()
	l := newLimiter(t, poolOf(t, pgtest.URL(t)), 600, clock.now)
	running(t, l)
	p := Principal{KeyID: uuid.New()}
	ask := func() error { return l.Principal(t.Context(), p) }
	if n := admitted(t, 2000, ask); n != 600 {
		t.Errorf("%d of 2000 at once pass, want 600", n)
	}
	if n := testutil.ToFloat64(l.refused.WithLabelValues("key")); n != 1400 {
		t.Errorf("%v counted as refused", n)
	}
	if n := testutil.ToFloat64(l.shared.WithLabelValues("ok")); n > 20 {
		t.Errorf("%v exchanges for 2000 requests", n)
	}
	for range 3 { // the window slides: each wait is enough, and a second less is not
		var limited *RateError
		if err := ask(); !errors.As(err, &limited) || limited.Wait > 2*time.Minute {
			t.Fatalf("%v", err)
		}
		clock.advance(limited.Wait - time.Millisecond)
		if ask() == nil {
			t.Error("passes before its time")
		}
		clock.advance(2 * time.Millisecond)
		if err := ask(); err != nil {
			t.Errorf("does not pass after the wait: %v", err)
		}
		for ask() == nil { // use up what is free again
		}
	}
	clock.advance(2 * time.Minute)
	if n := admitted(t, 800, ask); n != 600 {
		t.Errorf("%d pass two minutes later", n)
	}
}

func TestTwoProcessesShareALimitWithinTheBound(t *testing.T) {
	url, clock := pgtest.URL(t), newClock()
	a, b := newLimiter(t, poolOf(t, url), 600, clock.now), newLimiter(t, poolOf(t, url), 600, clock.now)
	running(t, a)
	running(t, b)
	p := Principal{KeyID: uuid.New()}
	var atA, atB int64
	var wg sync.WaitGroup
	wg.Go(func() { atA = admitted(t, 3000, func() error { return a.Principal(t.Context(), p) }) })
	wg.Go(func() { atB = admitted(t, 3000, func() error { return b.Principal(t.Context(), p) }) })
	wg.Wait()
	t.Logf("limit 600, two processes flooded at once: %d + %d pass", atA, atB)
	late := int64(testutil.ToFloat64(a.late) + testutil.ToFloat64(b.late)) // on a busy machine
	if n := atA + atB; n < 600 || n > 720+late {
		t.Errorf("%d + %d pass, want 600 to 720", atA, atB)
	}
	// One process after the other: what the first has shared counts at the second.
	q := Principal{KeyID: uuid.New()}
	if n := admitted(t, 1000, func() error { return a.Principal(t.Context(), q) }); n != 600 {
		t.Errorf("%d pass at the first", n)
	}
	a.share(t.Context())
	if n := admitted(t, 1000, func() error { return b.Principal(t.Context(), q) }); n > 120 {
		t.Errorf("%d more pass at the second", n)
	}
}

func TestLimitsOfKeysAndChangesAtRunTime(t *testing.T) {
	url, clock := pgtest.URL(t), newClock()
	a, b := newLimiter(t, poolOf(t, url), 50, clock.now), newLimiter(t, poolOf(t, url), 50, clock.now)
	running(t, a)
	exempt, own := 0, 80
	if n := admitted(t, 400, func() error { return a.Principal(t.Context(), Principal{KeyID: [16]byte{1}, RateLimit: &exempt}) }); n != 400 {
		t.Errorf("%d of an exempt key pass", n)
	}
	if n := admitted(t, 400, func() error { return a.Principal(t.Context(), Principal{KeyID: [16]byte{2}, RateLimit: &own}) }); n != 80 {
		t.Errorf("%d of a key with 80 pass", n)
	}
	from := func(addr string) func() error {
		return func() error { return a.Address(t.Context(), netip.MustParseAddr(addr)) }
	}
	if n := admitted(t, 400, from("203.0.113.7")); n != 50 {
		t.Errorf("%d of an address pass", n)
	}
	if n := admitted(t, 400, from("2001:db8::1")); n != 50 {
		t.Errorf("%d of an IPv6 address pass", n)
	}
	if from("2001:db8::2")() == nil || from("2001:db8:0:1::1")() != nil {
		t.Error("IPv6 addresses do not count by /64")
	}
	ten := 10
	if err := a.SetLimit(t.Context(), CommandLine(), &ten); err != nil {
		t.Fatal(err)
	}
	if err := b.ReadLimit(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, l := range []*Limiter{a, b} {
		if now, configured := l.Limits(); now != 10 || configured != 50 {
			t.Errorf("after the change: %d of %d", now, configured)
		}
	}
	if n := admitted(t, 80, from("203.0.113.8")); n != 10 {
		t.Errorf("%d pass under attack", n)
	}
	if err := a.SetLimit(t.Context(), CommandLine(), nil); err != nil {
		t.Fatal(err)
	}
	if now, _ := a.Limits(); now != 50 {
		t.Errorf("back at %d", now)
	}
	bad := MaxRate + 1
	if err := a.SetLimit(t.Context(), CommandLine(), &bad); apperr.Of(err).HTTP != 422 {
		t.Errorf("%v", err)
	}
	var n int
	if err := a.pool.QueryRow(t.Context(), `SELECT count(*) FROM audit_pending WHERE action = 'rate_limit'`).Scan(&n); err != nil || n != 2 {
		t.Errorf("%d audit entries %v", n, err)
	}
}

// Without the database each process counts alone, and nobody waits for it.
func TestLimitHoldsPerProcessWhileTheDatabaseIsAway(t *testing.T) {
	pool, err := pgxpool.New(t.Context(), "postgres://nobody@127.0.0.1:1/none")
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	l := newLimiter(t, pool, 600, newClock().now)
	running(t, l)
	begin := time.Now()
	if n := admitted(t, 2000, func() error { return l.Address(t.Context(), netip.MustParseAddr("203.0.113.7")) }); n < 600 || n > 640 {
		t.Errorf("%d pass", n)
	}
	if took := time.Since(begin); took > 20*time.Second {
		t.Errorf("2000 requests took %s", took)
	}
	if testutil.ToFloat64(l.shared.WithLabelValues("failed")) == 0 {
		t.Error("no failure is counted")
	}
}

func TestCountsAreForgottenAndBounded(t *testing.T) {
	clock := newClock()
	l := newLimiter(t, poolOf(t, pgtest.URL(t)), 600, clock.now)
	for i := range subjectsMax + 1000 {
		if err := l.Address(t.Context(), netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(l.subjects); n != subjectsMax {
		t.Errorf("%d subjects", n)
	}
	if n := testutil.ToFloat64(l.evicted); n != 1000 {
		t.Errorf("%v evicted", n)
	}
	begin := time.Now()
	l.share(t.Context())
	t.Logf("%d subjects shared in %s", subjectsMax, time.Since(begin))
	clock.advance(3 * time.Minute)
	l.drop(t.Context())
	var rows int
	if err := l.pool.QueryRow(t.Context(), `SELECT count(*) FROM rate_count`).Scan(&rows); err != nil || rows != 0 || len(l.subjects) != 0 {
		t.Errorf("%d rows, %d subjects left %v", rows, len(l.subjects), err)
	}
}

// What counting costs a request that the limit lets through.
func BenchmarkLimiterPrincipal(b *testing.B) {
	l := newLimiter(b, poolOf(b, pgtest.URL(b)), MaxRate, time.Now)
	running(b, l)
	b.RunParallel(func(pb *testing.PB) {
		for n := 0; pb.Next(); n++ {
			if err := l.Principal(b.Context(), Principal{KeyID: [16]byte{byte(n), byte(n >> 8)}}); err != nil {
				b.Error(err)
				return
			}
		}
	})
}
