package statement

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	issued   *prometheus.CounterVec
	waiting  prometheus.Gauge
	behind   prometheus.Gauge
	computed prometheus.Counter
	added    prometheus.Counter
	failed   prometheus.Counter
}

// Kinds of statements.
const (
	kindFirst       = "first"
	kindRestatement = "restatement"
)

func newMetrics() *metrics {
	m := &metrics{
		issued: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "hashinsight_statements_issued_total", Help: "Statements that this process issued, by kind.",
		}, []string{"kind"}),
		waiting: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "hashinsight_statements_waiting", Help: "Months that are due and have no statement, as this process last saw it: hashinsight-hub statement list says what they wait for.",
		}),
		behind: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "hashinsight_sla_days_behind", Help: "Days of a contract and site that wait to be computed again, as this process last saw it.",
		}),
		computed: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "hashinsight_sla_miner_days_total", Help: "Days of a miner that this process computed.",
		}),
		added: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "hashinsight_sla_months_added_total", Help: "Months of a contract that this process added up for readers; it keeps them until something changes.",
		}),
		failed: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "hashinsight_sla_failures_total", Help: "Days of a contract and site, and statements, that could not be computed and wait for the next try.",
		}),
	}
	for _, k := range []string{kindFirst, kindRestatement} {
		m.issued.WithLabelValues(k)
	}
	return m
}

func (m *metrics) all() []prometheus.Collector {
	return []prometheus.Collector{m.issued, m.waiting, m.behind, m.computed, m.added, m.failed}
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
