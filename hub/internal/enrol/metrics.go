package enrol

import (
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	calls  *prometheus.CounterVec
	whole  *prometheus.HistogramVec
	work   *prometheus.HistogramVec
	joined prometheus.Counter
	// observe is told how long each call worked; nil but in the benchmark.
	observe func(time.Duration)
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	buckets := []float64{.002, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 10}
	m := &metrics{
		calls: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "hashinsight_enrol_calls_total", Help: "Calls of the enrolment service by call and outcome: ok, busy, error, or the reason of a refusal.",
		}, []string{"call", "outcome"}),
		whole: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "hashinsight_enrol_call_seconds", Help: "Time to answer a call of the enrolment service, waiting for a turn included.", Buckets: buckets,
		}, []string{"call"}),
		work: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "hashinsight_enrol_work_seconds", Help: "Time a call of the enrolment service took once it had its turn.", Buckets: buckets,
		}, []string{"call"}),
		joined: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "hashinsight_sites_joined_total", Help: "Sites that joined with a token.",
		}),
	}
	if reg == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.calls, m.whole, m.work, m.joined} {
		if err := reg.Register(c); err != nil {
			return nil, fmt.Errorf("enrol metrics: %w", err)
		}
	}
	return m, nil
}

func (m *metrics) took(call string, d time.Duration) {
	m.whole.WithLabelValues(call).Observe(d.Seconds())
}
func (m *metrics) worked(call string, d time.Duration) {
	m.work.WithLabelValues(call).Observe(d.Seconds())
	if m.observe != nil {
		m.observe(d)
	}
}
