package jobs

import (
	"context"
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Outcomes of a run.
const (
	outcomeOK       = "ok"
	outcomeFailed   = "failed"
	outcomeTimeout  = "timeout"
	outcomeCanceled = "cancelled" // the hub stopped
)

type metrics struct {
	runs     *prometheus.CounterVec
	seconds  *prometheus.CounterVec
	last     *prometheus.GaugeVec
	waiting  prometheus.Gauge
	oldest   prometheus.Gauge
	givenUp  prometheus.Gauge
	leader   prometheus.Gauge
	lookedAt prometheus.Counter
}

func newMetrics(tasks []Task) *metrics {
	m := &metrics{
		runs: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "hashinsight_job_runs_total", Help: "Runs of jobs in this process, by kind and outcome.",
		}, []string{"kind", "outcome"}),
		seconds: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "hashinsight_job_run_seconds_total", Help: "Time spent in jobs by this process.",
		}, []string{"kind"}),
		last: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "hashinsight_job_last_success_timestamp_seconds", Help: "When a job of the kind last succeeded in this process; 0 means never.",
		}, []string{"kind"}),
		waiting: prometheus.NewGauge(prometheus.GaugeOpts{Name: "hashinsight_jobs_waiting", Help: "Jobs of all processes that are due or run."}),
		oldest: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "hashinsight_jobs_oldest_age_seconds", Help: "Age of the oldest job that is due or runs; 0 when there is none.",
		}),
		givenUp: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "hashinsight_jobs_given_up", Help: "Jobs of the last 7 days that failed at every attempt.",
		}),
		leader:   prometheus.NewGauge(prometheus.GaugeOpts{Name: "hashinsight_jobs_leader", Help: "1 in the process that makes the jobs."}),
		lookedAt: prometheus.NewCounter(prometheus.CounterOpts{Name: "hashinsight_jobs_look_failures_total", Help: "Looks at the queue, for these metrics, that failed."}),
	}
	for _, t := range tasks { // so that "never" can be told from "not asked"
		m.runs.WithLabelValues(t.Kind, outcomeOK)
		m.runs.WithLabelValues(t.Kind, outcomeFailed)
		m.last.WithLabelValues(t.Kind)
	}
	return m
}

func (m *metrics) all() []prometheus.Collector {
	return []prometheus.Collector{m.runs, m.seconds, m.last, m.waiting, m.oldest, m.givenUp, m.leader, m.lookedAt}
}

// Describe implements prometheus.Collector.
func (m *metrics) Describe(ch chan<- *prometheus.Desc) {
	for _, c := range m.all() {
		c.Describe(ch)
	}
}

// Collect implements prometheus.Collector.
func (m *metrics) Collect(ch chan<- prometheus.Metric) {
	for _, c := range m.all() {
		c.Collect(ch)
	}
}

func (m *metrics) ran(ctx context.Context, kind string, took time.Duration, err error) {
	outcome := outcomeOK
	switch {
	case err == nil:
		m.last.WithLabelValues(kind).SetToCurrentTime()
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		outcome = outcomeTimeout
	case ctx.Err() != nil:
		outcome = outcomeCanceled
	default:
		outcome = outcomeFailed
	}
	m.runs.WithLabelValues(kind, outcome).Inc()
	m.seconds.WithLabelValues(kind).Add(took.Seconds())
}
