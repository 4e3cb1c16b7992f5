package audit

import "github.com/prometheus/client_golang/prometheus"

// metrics are the audit log's; one collector, so that they come and go together.
type metrics struct {
	entries    *prometheus.CounterVec
	chained    prometheus.Counter
	failed     prometheus.Counter
	fileFailed prometheus.Counter
	fileBroken prometheus.Gauge
	fileSeq    prometheus.Gauge
	headSeq    prometheus.Gauge
	conflicts  prometheus.Counter
}

func newMetrics() *metrics {
	return &metrics{
		entries: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "hashinsight_audit_entries_total", Help: "Audit entries this process added, by category and level; those whose transaction rolled back count too.",
		}, []string{"category", "level"}),
		chained: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "hashinsight_audit_chained_total", Help: "Audit entries this process gave their place in the chain.",
		}),
		failed: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "hashinsight_audit_chain_failures_total", Help: "Times entries could not be chained; they stay and are tried again.",
		}),
		fileFailed: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "hashinsight_audit_file_failures_total", Help: "Times the audit file could not be written; the entries stay in the database and are tried again.",
		}),
		fileBroken: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "hashinsight_audit_file_broken", Help: "1 while the audit file cannot be written, as on a full or read-only disk.",
		}),
		fileSeq: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "hashinsight_audit_file_seq", Help: "Number of the last entry in this host's audit file; 0 in processes that do not write it.",
		}),
		headSeq: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "hashinsight_audit_head_seq", Help: "Number of the chain's last entry, as this process last saw it.",
		}),
		conflicts: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "hashinsight_audit_file_conflicts_total", Help: "Times the chain in the database was not the one the file had followed: restored from a backup, or tampered with.",
		}),
	}
}

func (m *metrics) all() []prometheus.Collector {
	return []prometheus.Collector{m.entries, m.chained, m.failed, m.fileFailed, m.fileBroken, m.fileSeq, m.headSeq, m.conflicts}
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
