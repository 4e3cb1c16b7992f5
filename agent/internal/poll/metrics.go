package poll

import (
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/hashinsight/hashinsight/pkg/telemetry"
)

// metrics are what an operator sees of polling. No label grows with the number of miners.
type metrics struct {
	polls        map[telemetry.Outcome]prometheus.Counter
	pollsOther   prometheus.Counter
	probes       *prometheus.CounterVec
	repairs      *prometheus.CounterVec
	delay        prometheus.Histogram
	took         prometheus.Histogram
	skipped      prometheus.Counter
	addresses    [classes]prometheus.Gauge
	inFlight     [classes]prometheus.Gauge
	ready        [classes]prometheus.Gauge
	clockSteps   prometheus.Counter
	batches      prometheus.Counter
	samples      prometheus.Counter
	appendErrors prometheus.Counter
	dropped      prometheus.Counter
	pending      prometheus.Gauge
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Namespace: "hashinsight", Subsystem: "agent", Name: name, Help: help})
	}
	counters := func(name, help, label string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "hashinsight", Subsystem: "agent", Name: name, Help: help}, []string{label})
	}
	gauges := func(name, help string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: "hashinsight", Subsystem: "agent", Name: name, Help: help}, []string{"class"})
	}
	histogram := func(name, help string, buckets []float64) prometheus.Histogram {
		return prometheus.NewHistogram(prometheus.HistogramOpts{Namespace: "hashinsight", Subsystem: "agent", Name: name, Help: help, Buckets: buckets})
	}
	polls := counters("polls_total", "Attempted polls of miners by outcome.", "outcome")
	addresses := gauges("addresses", "Addresses by what is known of them: answering, silent (a miner that does not answer), scanned (nothing has answered there).")
	inFlight := gauges("polls_in_flight", "Reads going on now.")
	ready := gauges("polls_ready", "Polls that are due and wait for a slot.")
	m := &metrics{
		polls:        map[telemetry.Outcome]prometheus.Counter{},
		pollsOther:   polls.WithLabelValues("other"),
		probes:       counters("scan_probes_total", "Probes of addresses in ranges where nothing had answered before.", "result"),
		repairs:      counters("reply_repairs_total", "Replies that the tolerant decoder had to mend, by fault.", "repair"),
		delay:        histogram("poll_start_delay_seconds", "How late polls of answering miners start.", []float64{.001, .005, .02, .1, .25, .5, 1, 2.5, 5, 10, 30}),
		took:         histogram("poll_duration_seconds", "How long answered polls take.", []float64{.01, .05, .1, .2, .35, .5, 1, 2, 5, 8, 10, 20, 60}),
		skipped:      counter("poll_cycles_skipped_total", "Polls left out because the one before had not ended or no slot was free."),
		clockSteps:   counter("clock_steps_total", "Steps of this computer's clock by more than 2 s."),
		batches:      counter("batches_total", "Batches stored in the spool."),
		samples:      counter("samples_total", "Observations stored in the spool."),
		appendErrors: counter("batch_append_errors_total", "Failed attempts to store a batch; each is tried again."),
		dropped:      counter("samples_dropped_total", "Observations lost because they could not be stored and memory for them was full, or at the end of the program."),
		pending: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "hashinsight_agent_batch_pending_bytes", Help: "Payloads in memory that wait to be stored.",
		}),
	}
	for o := telemetry.OutcomeOK; o <= telemetry.OutcomeTooLarge; o++ {
		m.polls[o] = polls.WithLabelValues(o.String())
	}
	for c := range classes {
		m.addresses[c], m.inFlight[c], m.ready[c] = addresses.WithLabelValues(c.String()), inFlight.WithLabelValues(c.String()), ready.WithLabelValues(c.String())
	}
	if reg == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{
		polls, addresses, inFlight, ready, m.probes, m.repairs, m.delay, m.took, m.skipped, m.clockSteps,
		m.batches, m.samples, m.appendErrors, m.dropped, m.pending,
	} {
		if err := reg.Register(c); err != nil {
			return nil, fmt.Errorf("poll metrics: %w", err)
		}
	}
	return m, nil
}

func (m *metrics) started(t *target, now time.Time) {
	if t.class == answering {
		m.delay.Observe(now.Sub(t.due).Seconds())
	}
}

func (m *metrics) finished(r *result, known bool) {
	if r.t.class == scanned {
		result := "silent"
		if known {
			result = "found"
		}
		m.probes.WithLabelValues(result).Inc()
	}
	if !known {
		return
	}
	if c := m.polls[r.obs.Outcome]; c != nil {
		c.Inc()
	} else {
		m.pollsOther.Inc()
	}
	if r.obs.Outcome.Answered() {
		m.took.Observe(r.obs.Took.Seconds())
	}
	if r.obs.Repairs != 0 {
		for _, n := range r.obs.Repairs.Names() {
			m.repairs.WithLabelValues(n).Inc()
		}
	}
}

func (m *metrics) schedule(s *schedule) {
	for c := range classes {
		m.addresses[c].Set(float64(s.inClass[c]))
		m.inFlight[c].Set(float64(s.flying[c]))
		m.ready[c].Set(float64(len(s.ready[c].items) - s.ready[c].head))
	}
	if s.skipped > 0 {
		m.skipped.Add(float64(s.skipped))
		s.skipped = 0
	}
}
