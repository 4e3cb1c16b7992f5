package proof

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are this process's: of several hubs, those that write the log are right about it.
type metrics struct {
	now         func() time.Time
	sequenced   prometheus.Counter
	readBack    prometheus.Counter
	caughtUp    prometheus.Counter
	checkpoints prometheus.Counter
	runs        prometheus.Histogram
	pending     prometheus.Gauge
	size        prometheus.Gauge
	behind      prometheus.Gauge
	halt        prometheus.Gauge
	blocked     prometheus.Gauge

	age  *prometheus.Desc
	mu   sync.Mutex
	last time.Time // of the newest checkpoint
}

func newMetrics(now func() time.Time) *metrics {
	return &metrics{
		now: now,
		sequenced: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "hashinsight_log_entries_total", Help: "Entries of the transparency log that this process has given their places.",
		}),
		readBack: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "hashinsight_log_read_back_total", Help: "Entries that this process has read back from the tiles for a database that was restored to an earlier moment.",
		}),
		caughtUp: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "hashinsight_log_caught_up_total", Help: "Rows from before there was a log that this process has looked at, to note what was missing.",
		}),
		checkpoints: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "hashinsight_log_checkpoints_total", Help: "Checkpoints of the transparency log that this process has signed.",
		}),
		runs: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "hashinsight_log_run_seconds", Help: "Time that a look at the transparency log took, with whatever was due.", Buckets: prometheus.ExponentialBuckets(0.001, 4, 9),
		}),
		pending: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "hashinsight_log_pending", Help: "Entries that had no place in the transparency log at this process's last look, at most 100,000.",
		}),
		size: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "hashinsight_log_checkpoint_size", Help: "Entries under the newest checkpoint that this process knows of.",
		}),
		behind: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "hashinsight_log_behind", Help: "Entries that the log's tiles have and the database does not: it was restored to an earlier moment. Alarm above 0.",
		}),
		halt: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "hashinsight_log_halted", Help: "1: rows, tiles and checkpoints contradict each other, and nothing is added to the log until a person has looked. Alarm.",
		}),
		blocked: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "hashinsight_log_blocked", Help: "1: the log's tiles cannot be written or read, for example because their disk is full; the log goes on by itself when they can. Alarm.",
		}),
		age: prometheus.NewDesc("hashinsight_log_checkpoint_age_seconds", "Time since the newest checkpoint that this process knows of; absent without one.", nil, nil),
	}
}

func (m *metrics) all() []prometheus.Collector {
	return []prometheus.Collector{m.sequenced, m.readBack, m.caughtUp, m.checkpoints, m.runs, m.pending, m.size, m.behind, m.halt, m.blocked}
}

// Describe implements prometheus.Collector.
func (m *metrics) Describe(ch chan<- *prometheus.Desc) {
	for _, c := range m.all() {
		c.Describe(ch)
	}
	ch <- m.age
}

// Collect implements prometheus.Collector.
func (m *metrics) Collect(ch chan<- prometheus.Metric) {
	for _, c := range m.all() {
		c.Collect(ch)
	}
	m.mu.Lock()
	last := m.last
	m.mu.Unlock()
	if !last.IsZero() {
		ch <- prometheus.MustNewConstMetric(m.age, prometheus.GaugeValue, m.now().Sub(last).Seconds())
	}
}

// look notes how the log is.
func (m *metrics) look(c *Checkpoint, pending int64) {
	m.pending.Set(float64(pending))
	m.size.Set(float64(c.Size))
	m.mu.Lock()
	defer m.mu.Unlock()
	m.last = c.PublishedAt
}

// stands notes whether something keeps the log from growing.
func (m *metrics) stands(halted, blocked bool) {
	set := func(g prometheus.Gauge, is bool) {
		g.Set(0)
		if is {
			g.Set(1)
		}
	}
	set(m.halt, halted)
	set(m.blocked, blocked)
}
