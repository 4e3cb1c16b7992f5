package access

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/hashinsight/hashinsight/hub/internal/apperr"
	"github.com/hashinsight/hashinsight/hub/internal/audit"
	"github.com/hashinsight/hashinsight/hub/internal/pg"
)

// Bounds of the rate limit.
const (
	MaxRate       = 1_000_000              // requests a minute that can be set
	shareEvery    = time.Second            // how often counts are shared
	shareSpacing  = 20 * time.Millisecond  // least time between two exchanges that requests ask for
	shareWait     = 250 * time.Millisecond // longest that a request waits for one
	shareTimeout  = 2 * time.Second
	shareRows     = 1000             // subjects in one statement
	subjectsMax   = 50_000           // remembered by a process, about 200 bytes each
	settingsEvery = 2 * time.Second  // how often the limit set at run time is read
	lateCounts    = 15 * time.Second // between two looks for counts that have had their time
)

// RateError says that a key or an address has made too many requests.
type RateError struct {
	Limit int // requests a minute
	Wait  time.Duration
}

// Error implements error.
func (e *RateError) Error() string {
	return fmt.Sprintf("more than %d requests a minute, wait %s", e.Limit, max(time.Second, e.Wait.Round(time.Second)))
}

// LimiterConfig is what NewLimiter needs.
type LimiterConfig struct {
	Pool       *pgxpool.Pool
	Audit      *audit.Log // nil means one that hubs of the database read
	PerMinute  int        // RATE_LIMIT_REQUESTS_PER_MINUTE; 0 means no limit
	Now        func() time.Time
	Log        *slog.Logger
	Registerer prometheus.Registerer
}

// Limiter counts requests by key, or by address where there is no key, and refuses those above the limit. The minute slides: the
// count is that of the running minute and of the part of the last one that is still within 60 s, taken as evenly spread.
//
// Hub processes share their counts through PostgreSQL, in batches: every second, and for a subject at the latest when a fifth of its
// limit is not shared yet; that request waits for the exchange, at most 250 ms. A key with a limit of 600 so costs one statement in 120
// requests at most, together with all other keys. Error bound: with P processes a subject gets at most limit × (1 + (P−1)/5)
// requests in a minute. Requests for which 250 ms were not
// enough come on top, and are a metric. While the database is away each process counts alone: limit × P. Refused requests are not counted, and cost no statement.
type Limiter struct {
	pool  *pgxpool.Pool
	audit *audit.Log
	base  int
	now   func() time.Time
	log   *slog.Logger

	mu       sync.Mutex
	subjects map[string]*usage
	current  int           // everyone's limit as last read
	alone    bool          // the last exchange failed
	done     chan struct{} // closed when the exchange under way, or the next, has ended
	kick     chan struct{}

	refused *prometheus.CounterVec
	shared  *prometheus.CounterVec
	gauge   prometheus.GaugeFunc
	evicted prometheus.Counter
	late    prometheus.Counter
}

// usage is what this process knows of one subject.
type usage struct {
	minute  int64 // Unix time / 60
	last    int64 // requests of the minute before it, of all processes
	shared  int64 // requests of it, of all processes, as of the last exchange
	pending int64 // requests of it that this process has not shared yet
}

// NewLimiter returns a Limiter. It does not touch the database.
func NewLimiter(c LimiterConfig) (*Limiter, error) {
	if c.Pool == nil || c.PerMinute < 0 || c.PerMinute > MaxRate {
		return nil, fmt.Errorf("rate limit: want a database pool and 0 to %d requests a minute", MaxRate)
	}
	l := &Limiter{
		pool: c.Pool, audit: c.Audit, base: c.PerMinute, current: c.PerMinute, now: c.Now, log: c.Log,
		subjects: make(map[string]*usage), done: make(chan struct{}), kick: make(chan struct{}, 1),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "hashinsight_rate_limited_total", Help: "Requests refused by the rate limit, by what they were counted for.",
		}, []string{"by"}),
		shared: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "hashinsight_rate_limit_exchanges_total", Help: "Times this process shared its counts of requests, by outcome.",
		}, []string{"outcome"}),
		evicted: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "hashinsight_rate_limit_evicted_total", Help: "Counts forgotten because too many keys and addresses were seen.",
		}),
	}
	l.late = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "hashinsight_rate_limit_late_total", Help: "Requests let through because the exchange of counts took too long: they are beyond the error bound.",
	})
	l.gauge = prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "hashinsight_rate_limit_subjects", Help: "Keys and addresses whose requests this process remembers.",
	}, func() float64 { l.mu.Lock(); defer l.mu.Unlock(); return float64(len(l.subjects)) })
	if l.now == nil {
		l.now = time.Now
	}
	if l.log == nil {
		l.log = slog.New(slog.DiscardHandler)
	}
	if l.audit == nil {
		var err error
		if l.audit, err = audit.New(audit.Config{Pool: c.Pool, Now: l.now}); err != nil {
			return nil, err
		}
	}
	if c.Registerer != nil {
		for _, m := range []prometheus.Collector{l.refused, l.shared, l.gauge, l.evicted, l.late} {
			if err := c.Registerer.Register(m); err != nil {
				return nil, fmt.Errorf("register metrics: %w", err)
			}
		}
	}
	return l, nil
}

// Principal counts a request of a key, its own limit before everyone's.
func (l *Limiter) Principal(ctx context.Context, p Principal) error {
	if p.RateLimit != nil && *p.RateLimit == 0 {
		return nil
	}
	return l.count(ctx, "key", "key:"+uuid.UUID(p.KeyID).String(), p.RateLimit)
}

// Address counts a request without a key. IPv6 addresses count by /64.
func (l *Limiter) Address(ctx context.Context, from netip.Addr) error {
	return l.count(ctx, "address", "addr:"+network(from).String(), nil)
}

func (l *Limiter) count(ctx context.Context, by, subject string, own *int) error {
	var deadline <-chan time.Time
	for {
		now := l.now()
		l.mu.Lock()
		limit := l.current
		if own != nil {
			limit = *own
		}
		if limit == 0 {
			l.mu.Unlock()
			return nil
		}
		u := l.usage(subject, now)
		if wait := u.over(now, int64(limit)); wait > 0 {
			l.mu.Unlock()
			l.refused.WithLabelValues(by).Inc()
			return apperr.E(apperr.TooMany, "API_001", "%w", &RateError{Limit: limit, Wait: wait})
		}
		slack := max(1, int64(limit)/5)
		if u.pending < slack || l.alone {
			u.pending++
			l.mu.Unlock()
			return nil
		}
		done := l.done
		l.mu.Unlock()
		select {
		case l.kick <- struct{}{}:
		default:
		}
		if deadline == nil {
			t := time.NewTimer(shareWait)
			defer t.Stop()
			deadline = t.C
		}
		select {
		case <-done:
			continue
		case <-ctx.Done():
		case <-deadline:
		}
		// The database is slow: this process counts on by itself.
		l.late.Inc()
		l.mu.Lock()
		u = l.usage(subject, now)
		u.pending++
		l.mu.Unlock()
		return nil
	}
}

// usage returns a subject's counts, moved to the running minute. The caller holds the lock.
func (l *Limiter) usage(subject string, now time.Time) *usage {
	u, ok := l.subjects[subject]
	if !ok {
		if len(l.subjects) >= subjectsMax {
			for other := range l.subjects { // any: the order of a map is random
				delete(l.subjects, other)
				break
			}
			l.evicted.Inc()
		}
		u = &usage{minute: now.Unix() / 60}
		l.subjects[subject] = u
	}
	u.advance(now.Unix() / 60)
	return u
}

// advance moves the counts to a later minute. What was not shared by then counts where it came from, here only.
func (u *usage) advance(minute int64) {
	switch {
	case minute <= u.minute:
		return
	case minute == u.minute+1:
		u.last = u.shared + u.pending
	default:
		u.last = 0
	}
	u.minute, u.shared, u.pending = minute, 0, 0
}

// over returns how long to wait until another request fits; 0 means that it fits now.
func (u *usage) over(now time.Time, limit int64) time.Duration {
	into := time.Duration(now.UnixNano() - u.minute*60*int64(time.Second))
	into = min(max(into, 0), time.Minute)
	this := u.shared + u.pending
	weight := float64(u.last) * float64(time.Minute-into) / float64(time.Minute)
	if float64(this)+weight+1 <= float64(limit) {
		return 0
	}
	if room := limit - 1 - this; room >= 0 && u.last > 0 { // later in this minute, when less of the last one counts
		at := time.Duration(float64(time.Minute) * (1 - float64(room)/float64(u.last)))
		return max(at-into, time.Millisecond)
	}
	// In the next minute, when enough of this one has slid out.
	at := time.Minute + time.Duration(float64(time.Minute)*(1-float64(limit-1)/float64(max(this, 1))))
	return max(at-into, time.Millisecond)
}

const (
	// Rows come in the order of their key, so that two processes cannot wait for each other.
	qShare = `INSERT INTO rate_count AS c (minute, subject, requests)
		SELECT $1, s, n FROM unnest($2::text[], $3::bigint[]) AS u (s, n) ORDER BY s
		ON CONFLICT (minute, subject) DO UPDATE SET requests = c.requests + excluded.requests
		RETURNING subject, requests, coalesce((SELECT b.requests FROM rate_count b WHERE b.minute = c.minute - 1 AND b.subject = c.subject), 0)`
	qDropCounts = `DELETE FROM rate_count WHERE minute < $1`
	qReadLimit  = `SELECT value FROM hub_setting WHERE name = 'rate_limit_requests_per_minute'`
	qSetLimit   = `INSERT INTO hub_setting (name, value, changed_at, changed_by) VALUES ('rate_limit_requests_per_minute', $1, $2, $3)
		ON CONFLICT (name) DO UPDATE SET value = excluded.value, changed_at = excluded.changed_at, changed_by = excluded.changed_by`
	qUnsetLimit = `DELETE FROM hub_setting WHERE name = 'rate_limit_requests_per_minute'`
)

// Run shares counts and reads the limit that was set at run time, until ctx ends.
func (l *Limiter) Run(ctx context.Context) error {
	var settingsDue, dropDue time.Time
	tick := time.NewTicker(shareEvery)
	defer tick.Stop()
	for {
		if now := time.Now(); !now.Before(settingsDue) {
			settingsDue = now.Add(settingsEvery)
			if err := l.ReadLimit(ctx); err != nil && ctx.Err() == nil {
				l.log.DebugContext(ctx, "the rate limit set at run time was not read, the last one stays", "err", err)
			}
		}
		l.share(ctx)
		if now := time.Now(); !now.Before(dropDue) {
			dropDue = now.Add(lateCounts)
			l.drop(ctx)
		}
		asked := l.kick
		if l.isAlone() {
			asked = nil // no request waits; the next try is a second away
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		case <-asked:
			select { // those that come together share one exchange
			case <-ctx.Done():
				return nil
			case <-time.After(shareSpacing):
			}
		}
	}
}

func (l *Limiter) isAlone() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.alone
}

// share exchanges counts with the other processes.
func (l *Limiter) share(ctx context.Context) {
	minute := l.now().Unix() / 60
	l.mu.Lock()
	done := l.done
	l.done = make(chan struct{}) // who waits from now on waits for the next exchange, which sees their counts
	pending := make(map[string]int64)
	for s, u := range l.subjects {
		u.advance(minute)
		if u.pending > 0 {
			pending[s] = u.pending
		}
	}
	l.mu.Unlock()
	defer close(done)
	if len(pending) == 0 {
		if l.isAlone() {
			l.setAlone(ctx, l.ping(ctx))
		}
		return
	}
	names := make([]string, 0, len(pending))
	for s := range pending {
		names = append(names, s)
	}
	slices.Sort(names)
	var failed error
	for chunk := range slices.Chunk(names, shareRows) {
		if failed = l.shareChunk(ctx, minute, chunk, pending); failed != nil {
			break
		}
	}
	if ctx.Err() == nil {
		l.setAlone(ctx, failed)
	}
}

func (l *Limiter) ping(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, shareTimeout)
	defer cancel()
	return l.pool.Ping(ctx)
}

func (l *Limiter) setAlone(ctx context.Context, err error) {
	l.mu.Lock()
	was := l.alone
	l.alone = err != nil
	l.mu.Unlock()
	if err != nil {
		l.shared.WithLabelValues("failed").Inc()
	} else {
		l.shared.WithLabelValues("ok").Inc()
	}
	switch {
	case err != nil && !was:
		l.log.WarnContext(ctx, "requests are counted by this process alone until the database answers", "err", err)
	case err == nil && was:
		l.log.InfoContext(ctx, "requests are counted with the other processes again")
	}
}

func (l *Limiter) shareChunk(ctx context.Context, minute int64, names []string, pending map[string]int64) error {
	ctx, cancel := context.WithTimeout(ctx, shareTimeout)
	defer cancel()
	counts := make([]int64, len(names))
	for i, s := range names {
		counts[i] = pending[s]
	}
	rows, err := l.pool.Query(ctx, qShare, minute, names, counts)
	if err != nil {
		return err
	}
	var subject string
	var this, last int64
	_, err = pgx.ForEachRow(rows, []any{&subject, &this, &last}, func() error {
		l.mu.Lock()
		defer l.mu.Unlock()
		u, ok := l.subjects[subject]
		if !ok {
			return nil
		}
		switch u.minute {
		case minute:
			u.shared, u.last = this, max(last, u.last)
			u.pending -= pending[subject]
		case minute + 1: // the minute ended meanwhile
			u.last = max(this, u.last)
		}
		return nil
	})
	return err
}

// drop forgets what no longer counts, here and in the database.
func (l *Limiter) drop(ctx context.Context) {
	oldest := l.now().Unix()/60 - 1
	l.mu.Lock()
	for s, u := range l.subjects {
		if u.minute < oldest {
			delete(l.subjects, s)
		}
	}
	l.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, shareTimeout)
	defer cancel()
	if _, err := l.pool.Exec(ctx, qDropCounts, oldest); err != nil && ctx.Err() == nil {
		l.log.DebugContext(ctx, "old counts of requests not dropped, tried again", "err", err)
	}
}

// ReadLimit reads the limit that was set at run time. Run does so by itself.
func (l *Limiter) ReadLimit(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, shareTimeout)
	defer cancel()
	limit := l.base
	var text string
	switch err := l.pool.QueryRow(ctx, qReadLimit).Scan(&text); {
	case errors.Is(err, pgx.ErrNoRows):
	case err != nil:
		return err
	default:
		n, err := strconv.Atoi(strings.TrimSpace(text))
		if err != nil || n < 0 || n > MaxRate {
			return fmt.Errorf("hub_setting holds %.40q for the rate limit", text)
		}
		limit = n
	}
	l.mu.Lock()
	changed := l.current != limit
	l.current = limit
	l.mu.Unlock()
	if changed {
		l.log.InfoContext(ctx, "rate limit changed", "requests_per_minute", limit)
	}
	return nil
}

// Limits returns everyone's limit now, and the one from the settings.
func (l *Limiter) Limits() (current, configured int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.current, l.base
}

// SetLimit changes everyone's limit at run time, here at once and in other processes within settingsEvery; nil goes back to the settings'.
// 0 means no limit.
func (l *Limiter) SetLimit(ctx context.Context, by Actor, limit *int) error {
	if limit != nil && (*limit < 0 || *limit > MaxRate) {
		return apperr.E(apperr.Unprocessable, "VALID_001", "the rate limit is 0 (none) to %d requests a minute", MaxRate)
	}
	before, _ := l.Limits()
	err := pg.InTx(ctx, l.pool, func(tx pgx.Tx) (err error) {
		if limit == nil {
			_, err = tx.Exec(ctx, qUnsetLimit)
		} else {
			_, err = tx.Exec(ctx, qSetLimit, strconv.Itoa(*limit), l.now().UTC(), by.ID)
		}
		if err != nil {
			return err
		}
		return l.audit.Add(ctx, tx, by.Entry(audit.Entry{
			Level: audit.Security, Category: audit.Configuration, Action: "rate_limit", Details: map[string]any{"requests_per_minute": limit, "before": before},
		}))
	})
	if err != nil {
		return fmt.Errorf("set the rate limit: %w", err)
	}
	return l.ReadLimit(ctx)
}
