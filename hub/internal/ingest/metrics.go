package ingest

import (
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are ingest's own. Labels come from closed lists.
type metrics struct {
	batches   *prometheus.CounterVec // by result
	samples   prometheus.Counter
	bytes     prometheus.Counter
	groupRows prometheus.Histogram
	commit    prometheus.Histogram
	failures  *prometheus.CounterVec // of transactions, by kind
	forks     prometheus.Counter
	broken    prometheus.Counter
	cloned    prometheus.Counter
	bounds    *prometheus.CounterVec // by bound
	streams   *prometheus.CounterVec // by how they were answered
	replay    *prometheus.CounterVec // batches by what became of them
}

func newMetrics(r prometheus.Registerer, s *Server) (*metrics, error) {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "hashinsight_ingest_" + name, Help: help})
	}
	vec := func(name, help, label string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "hashinsight_ingest_" + name, Help: help}, []string{label})
	}
	m := &metrics{
		batches: vec("batches_total", "Batches answered.", "result"),
		samples: counter("samples_total", "Hot samples written."),
		bytes:   counter("payload_bytes_total", "Payload bytes of batches stored for the first time."),
		groupRows: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "hashinsight_ingest_group_rows", Help: "Hot samples in one transaction.", Buckets: []float64{10, 100, 1000, 5000, 10000, 20000, 50000, 100000},
		}),
		commit: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "hashinsight_ingest_transaction_seconds", Help: "From the first statement of a transaction to its commit.",
			Buckets: []float64{.001, .005, .01, .025, .05, .1, .25, .5, 1, 5, 30},
		}),
		failures: vec("transaction_failures_total", "Transactions that failed, by what was done about it.", "kind"),
		forks:    counter("forks_total", "Batches that a site signed twice with different content. Any of them is an alarm: look at batch_fork."),
		broken:   counter("broken_links_total", "Batches that name another batch before them than the one stored."),
		cloned:   counter("cloned_agents_total", "Second agents refused because another one with the site's identity is connected. Any of them is an alarm: a machine was copied."),
		bounds:   vec("bounds_total", "Times a bound made an agent wait or be refused.", "bound"),
		replay:   vec("replay_batches_total", "Batches that this hub had lost: asked of agents, arrived again, still missing after waiting.", "event"),
		streams:  vec("streams_total", "Streams opened, by how they were answered.", "result"),
	}
	if r == nil {
		return m, nil
	}
	open := prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "hashinsight_ingest_streams", Help: "Agents connected to this hub process."}, func() float64 {
		s.mu.Lock()
		defer s.mu.Unlock()
		return float64(len(s.sessions))
	})
	waiting := prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "hashinsight_ingest_queue_batches", Help: "Batches waiting for a writer."}, func() float64 {
		return float64(len(s.queue))
	})
	held := prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "hashinsight_ingest_held_bytes", Help: "Memory taken for batches on their way to the database."}, func() float64 {
		return float64(s.held.Load())
	})
	incoming := prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "hashinsight_ingest_incoming_bytes", Help: "Memory taken for messages on their way in."}, func() float64 {
		return float64(s.incoming.Load())
	})
	slowed := prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "hashinsight_ingest_slowed_sites", Help: "Sites that send more than their rate and are slowed down."}, func() float64 {
		return float64(s.rates.owing(time.Now()))
	})
	for _, c := range []prometheus.Collector{m.batches, m.samples, m.bytes, m.groupRows, m.commit, m.failures, m.forks, m.broken, m.cloned, m.bounds, m.streams, m.replay, open, waiting, held, incoming, slowed} {
		if err := r.Register(c); err != nil {
			return nil, fmt.Errorf("metrics of ingest: %w", err)
		}
	}
	return m, nil
}
