package facts

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	judged   *prometheus.CounterVec
	disputes *prometheus.CounterVec
	bounds   *prometheus.CounterVec
	failed   prometheus.Counter
	pending  prometheus.Gauge
	oldest   prometheus.Gauge
	disputed prometheus.Gauge
}

// Where a bound was hit.
const (
	boundAhead  = "hours_ahead"
	boundOld    = "hours_old"
	boundChains = "hours_chains"
	boundTwice  = "hours_second_roots"
	boundMiners = "miners"
	boundRange  = "batches_of_an_hour"
	boundSalts  = "salts"
)

func newMetrics() *metrics {
	m := &metrics{
		judged: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "hashinsight_facts_hours_judged_total", Help: "Signed hours of sites that this process has judged, by their new state.",
		}, []string{"state"}),
		disputes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "hashinsight_facts_disputes_total", Help: "Signed hours that do not agree with their batches (root) or with each other (two_roots), found by this process.",
		}, []string{"kind"}),
		bounds: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "hashinsight_facts_bounds_total", Help: "What sites signed or sent and this process did not take, because it was more, older or farther ahead than is kept.",
		}, []string{"bound"}),
		failed: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "hashinsight_facts_failures_total", Help: "Signed hours that could not be judged for want of the database or the archive, and wait for the next try.",
		}),
		pending: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "hashinsight_facts_hours_pending", Help: "Signed hours of all sites that wait for batches or salt keys, at the last look.",
		}),
		oldest: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "hashinsight_facts_oldest_pending_seconds", Help: "Time since the end of the oldest signed hour that waits; 0 when none does.",
		}),
		disputed: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "hashinsight_facts_disputes", Help: "Disputes that are kept, of all sites.",
		}),
	}
	for _, s := range []State{Agreed, Disputed, Incomplete} { // shown from the start: a counter that appears with its first event rises unseen
		m.judged.WithLabelValues(s.String())
	}
	for _, k := range []DisputeKind{DisputeRoot, DisputeTwoRoots} {
		m.disputes.WithLabelValues(k.String())
	}
	for _, b := range []string{boundAhead, boundOld, boundChains, boundTwice, boundMiners, boundRange, boundSalts} {
		m.bounds.WithLabelValues(b)
	}
	return m
}

func (m *metrics) register(r prometheus.Registerer) error {
	var errs []error
	for _, c := range []prometheus.Collector{m.judged, m.disputes, m.bounds, m.failed, m.pending, m.oldest, m.disputed} {
		errs = append(errs, r.Register(c))
	}
	return errors.Join(errs...)
}
