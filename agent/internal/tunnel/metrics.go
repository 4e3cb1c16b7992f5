package tunnel

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	fallbacks prometheus.Counter
}

func newMetrics(l *Link, r prometheus.Registerer) (*metrics, error) {
	const prefix = "hashinsight_agent_tunnel_"
	m := &metrics{fallbacks: prometheus.NewCounter(prometheus.CounterOpts{
		Name: prefix + "fallbacks_total", Help: "Times the tunnel did not work and the stream went directly over TCP.",
	})}
	if r == nil {
		return m, nil
	}
	gauge := func(name, help string, read func(Status) float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: prefix + name, Help: help}, func() float64 { return read(l.Status()) })
	}
	for _, c := range []prometheus.Collector{
		m.fallbacks,
		gauge("used", "1 while the hub is dialled through the tunnel, 0 while directly over TCP.", func(s Status) float64 {
			if s.Route == RouteTunnel {
				return 1
			}
			return 0
		}),
		gauge("last_handshake_timestamp_seconds", "When the hub last answered a handshake of the tunnel; 0 before the first.", func(s Status) float64 {
			if s.LastHandshake.IsZero() {
				return 0
			}
			return float64(s.LastHandshake.UnixMilli()) / 1000
		}),
	} {
		if err := r.Register(c); err != nil {
			return nil, fmt.Errorf("tunnel metrics: %w", err)
		}
	}
	return m, nil
}
