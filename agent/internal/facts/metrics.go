package facts

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	signed   prometheus.Counter
	skipped  prometheus.Counter
	recovery prometheus.Gauge
}

func newMetrics(s *Signer, reg prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		signed: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "hashinsight_agent_hours_signed_total", Help: "Hours whose facts were signed.",
		}),
		skipped: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "hashinsight_agent_hours_skipped_total", Help: "Hours that cannot be signed because something of them is gone, or that the clock was in by mistake.",
		}),
		recovery: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "hashinsight_agent_hours_recovery_seconds", Help: "Time that computing the facts of unsigned hours from the spool took after the start; 0 while it goes on.",
		}),
	}
	waiting := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "hashinsight_agent_hours_waiting", Help: "Hours that are over and not signed.",
	}, func() float64 { return float64(s.Status().Waiting) })
	untold := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "hashinsight_agent_salt_keys_untold", Help: "Salt keys that the hub does not have: it cannot check hours of these miners.",
	}, func() float64 { return float64(s.Status().Untold) })
	if reg == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.signed, m.skipped, m.recovery, waiting, untold} {
		if err := reg.Register(c); err != nil {
			return nil, fmt.Errorf("facts metrics: %w", err)
		}
	}
	return m, nil
}
