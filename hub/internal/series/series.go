// Package series keeps the samples of the last days in telemetry_hot, one row per poll in daily partitions: it encodes them for
// COPY, makes partitions ahead of time and drops them behind, and answers one miner's series. It owns that table. It decides nothing
// about evidence: ingest calls Copy inside its own transaction, and the API calls Miner.
package series

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/hashinsight/hashinsight/pkg/ident"
	"github.com/hashinsight/hashinsight/pkg/wire"
)

// Config describes a Store.
type Config struct {
	Pool       *pgxpool.Pool         // required
	Retention  time.Duration         // how long hot samples are kept, in whole days after it; 0 means 3 days
	Now        func() time.Time      // nil means time.Now
	Log        *slog.Logger          // nil discards
	Registerer prometheus.Registerer // nil means no metrics
}

// Store writes and reads hot samples. It is safe for concurrent use.
type Store struct {
	c       Config
	mu      sync.Mutex
	days    map[int64]bool // days since 1970 UTC that are known to have a partition
	outside *prometheus.CounterVec
	live    prometheus.Gauge
}

// New returns a Store.
func New(c Config) (*Store, error) {
	if c.Pool == nil {
		return nil, errors.New("series: a database pool is required")
	}
	if c.Retention == 0 {
		c.Retention = 3 * day
	}
	if c.Retention < day {
		return nil, fmt.Errorf("series: hot samples are kept for at least a day, not %s", c.Retention)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	s := &Store{
		c: c, days: map[int64]bool{},
		outside: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "hashinsight_samples_outside_total",
			Help: "Samples kept as evidence only, because their time lies outside of what hot samples cover.",
		}, []string{"side"}),
		live: prometheus.NewGauge(prometheus.GaugeOpts{Name: "hashinsight_hot_partitions", Help: "Daily partitions of hot samples."}),
	}
	if c.Registerer != nil {
		for _, m := range []prometheus.Collector{s.outside, s.live} {
			if err := c.Registerer.Register(m); err != nil {
				return nil, fmt.Errorf("metrics of series: %w", err)
			}
		}
	}
	return s, nil
}

const (
	day   = 24 * time.Hour
	dayMS = int64(day / time.Millisecond)
	// hourMS is an hour: the span of a block.
	hourMS = int64(time.Hour / time.Millisecond)
	// ahead is how far a site's clock may be before the hub's for its samples to become hot rows.
	ahead = day
)

// Batch is unpacked samples and the site that signed them.
type Batch struct {
	Site    ident.SiteID
	Samples *wire.Samples
}

// Span is a range of sample times, ms since 1970 UTC.
type Span struct{ FirstMS, EndMS int64 } // FirstMS <= t < EndMS

// Hot is the range of times that hot samples cover now: whole days back to the retention, and one day ahead.
func (s *Store) Hot() Span {
	now := s.c.Now()
	return Span{dayOf(now.Add(-s.c.Retention).UnixMilli()) * dayMS, now.Add(ahead).UnixMilli()}
}

// dayOf is the number of days since 1970 UTC; times are never before it.
func dayOf(ms int64) int64 { return ms / dayMS }
