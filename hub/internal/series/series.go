// Package series keeps samples: those of the last days as hot rows, one per poll in daily partitions, all of them as blocks, one row per miner
// and hour, and their sums by site and 5 minutes and by miner and day. It encodes hot rows for COPY, writes the blocks and sums of hours that
// have changed, makes and drops partitions, and answers series. It owns these tables. It decides nothing about evidence: ingest calls Copy inside
// its own transaction, background work calls Seal and Retain, and the API asks.
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
	Jobs       *pgxpool.Pool         // for Seal, Retain and MakePartitions, so that pages do not wait for them; nil means Pool
	Retention  time.Duration         // how long hot samples are kept, in whole days after it; 0 means 3 days
	Late       time.Duration         // how late samples may come and still be part of a series; 0 means 14 days, at least Retention
	Keep       time.Duration         // how long blocks and sums are kept, in whole months after it; 0 means 400 days: 13 months
	Now        func() time.Time      // nil means time.Now
	Log        *slog.Logger          // nil discards
	Registerer prometheus.Registerer // nil means no metrics
}

// Store writes and reads hot samples. It is safe for concurrent use.
type Store struct {
	c       Config
	mu      sync.Mutex
	days    map[int64]bool // days since 1970 UTC that are known to have a partition
	months  map[int64]bool // first hours of months that are known to have a partition of blocks
	codecs  sync.Pool      // of *codec
	written prometheus.Counter
	damaged prometheus.Counter
	due     prometheus.Gauge
	outside *prometheus.CounterVec
	live    prometheus.Gauge
}

// New returns a Store.
func New(c Config) (*Store, error) {
	if c.Pool == nil {
		return nil, errors.New("series: a database pool is required")
	}
	if c.Jobs == nil {
		c.Jobs = c.Pool
	}
	if c.Retention == 0 {
		c.Retention = 3 * day
	}
	if c.Retention < day {
		return nil, fmt.Errorf("series: hot samples are kept for at least a day, not %s", c.Retention)
	}
	if c.Late == 0 {
		c.Late = max(14*day, c.Retention)
	}
	if c.Keep == 0 {
		c.Keep = 400 * day
	}
	if c.Late < c.Retention || c.Keep < c.Late {
		return nil, fmt.Errorf("series: samples may come %s late, which must lie between the retention of hot samples, %s, and that of blocks, %s", c.Late, c.Retention, c.Keep)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	s := &Store{
		c: c, days: map[int64]bool{}, months: map[int64]bool{},
		written: prometheus.NewCounter(prometheus.CounterOpts{Name: "hashinsight_blocks_written_total", Help: "Blocks packed, unchanged ones too."}),
		damaged: prometheus.NewCounter(prometheus.CounterOpts{Name: "hashinsight_blocks_damaged_total", Help: "Blocks whose checksum or content was found wrong."}),
		due: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "hashinsight_block_hours_due", Help: "Hours of sites whose blocks waited to be written, at the last look; it looks no further than 256.",
		}),
		outside: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "hashinsight_samples_outside_total",
			Help: "Samples kept as evidence only, because their time lies outside of what hot samples cover.",
		}, []string{"side"}),
		live: prometheus.NewGauge(prometheus.GaugeOpts{Name: "hashinsight_hot_partitions", Help: "Daily partitions of hot samples."}),
	}
	if c.Registerer != nil {
		for _, m := range []prometheus.Collector{s.outside, s.live, s.written, s.damaged, s.due} {
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

// Hot is the range of times of samples that are taken as hot rows now: whole days back to what may come late, and one day ahead. Rows of days
// behind the retention stay only until their blocks are written.
func (s *Store) Hot() Span {
	now := s.c.Now()
	return Span{dayOf(now.Add(-s.c.Late).UnixMilli()) * dayMS, now.Add(ahead).UnixMilli()}
}

// dayOf is the number of days since 1970 UTC; times are never before it.
func dayOf(ms int64) int64 { return ms / dayMS }
