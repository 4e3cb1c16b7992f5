package anchor

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Events that are counted.
const (
	eventSent      = "sent"
	eventResent    = "resent"
	eventReplaced  = "replaced"
	eventMined     = "mined"
	eventFinalized = "finalized"
	eventOrphaned  = "orphaned"
	eventVanished  = "vanished"
	eventFailed    = "failed"
	eventAdopted   = "adopted"
)

type metrics struct {
	events   *prometheus.CounterVec
	gas      prometheus.Counter
	trouble  *prometheus.GaugeVec
	checked  prometheus.Gauge
	answered prometheus.Gauge
	last     prometheus.Gauge
	waits    prometheus.Gauge
	overdue  prometheus.Gauge
	seq      prometheus.Gauge
	behind   prometheus.Gauge
}

func newMetrics() *metrics {
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help})
	}
	m := &metrics{
		events: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "hashinsight_anchor_events_total", Help: "What this process did or saw on the way of anchors to the chain. Any vanished is an alarm: a final anchor was gone.",
		}, []string{"event"}),
		gas: prometheus.NewCounter(prometheus.CounterOpts{Name: "hashinsight_anchor_gas_total", Help: "Gas that anchors used which this process saw in a block."}),
		trouble: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "hashinsight_anchor_trouble", Help: "1 for what keeps the log from being anchored, as this process last saw it: hashinsight-hub anchor status says what to do.",
		}, []string{"code"}),
		checked:  gauge("hashinsight_anchor_checked_timestamp_seconds", "When some process last did the task; 0 means never."),
		answered: gauge("hashinsight_anchor_chain_answered_timestamp_seconds", "When the chain last answered; 0 means never."),
		last:     gauge("hashinsight_anchor_last_timestamp_seconds", "Time of the newest block with an anchor; 0 means none."),
		waits:    gauge("hashinsight_anchor_due_seconds", "For how long an anchor is due that is in no block; 0 when none is."),
		overdue:  gauge("hashinsight_anchor_overdue", "1 when nothing has come into a block for 6 hours although the log grew."),
		seq:      gauge("hashinsight_anchor_seq", "Number of the newest anchor, in whatever state."),
		behind:   gauge("hashinsight_anchor_uncovered_entries", "Entries of the log's newest checkpoint that no anchor in a block covers."),
	}
	for _, e := range []string{eventSent, eventResent, eventReplaced, eventMined, eventFinalized, eventOrphaned, eventVanished, eventFailed, eventAdopted} {
		m.events.WithLabelValues(e) // shown from the start: a counter that appears with its first event rises unseen
	}
	for _, t := range troubles {
		m.trouble.WithLabelValues(string(t))
	}
	return m
}

func (m *metrics) all() []prometheus.Collector {
	return []prometheus.Collector{m.events, m.gas, m.trouble, m.checked, m.answered, m.last, m.waits, m.overdue, m.seq, m.behind}
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

func (m *metrics) event(name string) { m.events.WithLabelValues(name).Inc() }

func (m *metrics) mined(r *Receipt) {
	m.event(eventMined)
	m.gas.Add(float64(r.GasUsed))
}

// stand shows how anchoring stands; last is the newest anchor in a block, widest the oldest that covers as much, both nil when there is none.
func (m *metrics) stand(r *round, last, widest *Anchor) {
	for _, t := range troubles {
		m.trouble.WithLabelValues(string(t)).Set(truth(t == r.st.code))
	}
	m.checked.Set(stamp(r.st.checkedAt))
	m.answered.Set(stamp(r.st.answeredAt))
	m.seq.Set(float64(r.newest.Seq))
	m.overdue.Set(truth(r.st.overdue(r.now, widest)))
	var at time.Time
	var size uint64
	if last != nil {
		at, size = last.BlockTime, last.Size
	}
	m.last.Set(stamp(at))
	m.behind.Set(float64(r.st.logSize - min(size, r.st.logSize)))
	m.waits.Set(0)
	if r.due {
		m.waits.Set(max(0, r.now.Sub(r.dueAt).Seconds()))
	}
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

func stamp(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return float64(t.UnixMilli()) / 1000
}
