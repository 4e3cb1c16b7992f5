package uplink

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	reconnects *prometheus.CounterVec
	sent       *prometheus.CounterVec
	acked      prometheus.Counter
	badAcks    prometheus.Counter
	refused    *prometheus.CounterVec
	replay     *prometheus.CounterVec
	ackTime    prometheus.Histogram
	skew       prometheus.Gauge
}

func newMetrics(u *Uplink, r prometheus.Registerer) (*metrics, error) {
	const prefix = "hashinsight_agent_uplink_"
	counters := func(name, help, label string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: prefix + name, Help: help}, []string{label})
	}
	gauge := func(name, help string, read func(Status) float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: prefix + name, Help: help}, func() float64 { return read(u.Status()) })
	}
	m := &metrics{
		reconnects: counters("reconnects_total", "Sessions that ended, by reason: dial, lost, auth, protocol, timeout, cloned, moved.", "reason"),
		sent:       counters("sent_batches_total", "Batches sent, repetitions included, by lane: live, backlog.", "lane"),
		refused: counters("refused_batches_total",
			"Batches the hub did not take, by reason: unavailable, fork, not_authentic, quarantined, other.", "reason"),
		replay: counters("replay_batches_total",
			"Old batches that a restored hub asked for, by what became of the wish: again, pending (to be sent anyway), gone (no longer kept).", "outcome"),
		acked: prometheus.NewCounter(prometheus.CounterOpts{Name: prefix + "acknowledged_batches_total", Help: "Batches acknowledged by the hub."}),
		badAcks: prometheus.NewCounter(prometheus.CounterOpts{
			Name: prefix + "bad_acknowledgements_total", Help: "Acknowledgements that were not authentic or fitted no stored batch.",
		}),
		ackTime: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: prefix + "acknowledgement_seconds", Help: "Time from sending a batch to its acknowledgement.",
			Buckets: []float64{.01, .03, .1, .3, 1, 3, 10, 30, 100},
		}),
		skew: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: prefix + "clock_skew_seconds", Help: "Hub's clock minus the agent's when the stream was opened; beyond 30 s either way one of the two has to be set.",
		}),
	}
	if r == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{
		m.reconnects, m.sent, m.refused, m.replay, m.acked, m.badAcks, m.ackTime, m.skew,
		gauge("connected", "1 while a stream to the hub is open.", func(s Status) float64 {
			if s.Connected {
				return 1
			}
			return 0
		}),
		gauge("in_flight_batches", "Batches sent and not yet acknowledged.", func(s Status) float64 { return float64(s.InFlight) }),
		gauge("last_acknowledgement_timestamp_seconds", "When the hub last acknowledged a batch; 0 before the first.", func(s Status) float64 {
			if s.LastAck.IsZero() {
				return 0
			}
			return float64(s.LastAck.UnixMilli()) / 1000
		}),
	} {
		if err := r.Register(c); err != nil {
			return nil, fmt.Errorf("uplink metrics: %w", err)
		}
	}
	return m, nil
}
