package peers

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are sums over all sites: which site it is, API and command line say.
type metrics struct {
	owner       prometheus.GaugeFunc
	devices     *prometheus.GaugeVec
	peers       *prometheus.GaugeVec
	passes      *prometheus.HistogramVec
	failures    prometheus.Counter
	changes     *prometheus.CounterVec
	quarantined prometheus.Counter
	unresolved  prometheus.Counter
	rotated     prometheus.Counter
	roamed      prometheus.Counter
	bytes       *prometheus.CounterVec

	now time.Time // of the look at the devices
}

func newMetrics(m *Manager) *metrics {
	x := &metrics{
		owner: prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "hashinsight_tunnel_owner", Help: "1 in the hub process that has the tunnel's device."}, func() float64 {
			if m.Owner() {
				return 1
			}
			return 0
		}),
		devices: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "hashinsight_tunnel_devices", Help: "WireGuard devices of this process, by backend."}, []string{"backend"}),
		peers:   prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "hashinsight_tunnel_peers", Help: "Peers by state: connected (a handshake in the last 3 minutes), silent, never_seen, quarantined."}, []string{"state"}),
		passes: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "hashinsight_tunnel_reconcile_seconds", Help: "Duration of passes that make the device agree with the database.", Buckets: []float64{.001, .005, .02, .1, .5, 2, 10, 60},
		}, []string{"pass", "outcome"}),
		failures:    prometheus.NewCounter(prometheus.CounterOpts{Name: "hashinsight_tunnel_failures_total", Help: "Failures to get, run or reconcile the tunnel's device."}),
		changes:     prometheus.NewCounterVec(prometheus.CounterOpts{Name: "hashinsight_tunnel_peer_changes_total", Help: "Peers set and removed on the device."}, []string{"change"}),
		quarantined: prometheus.NewCounter(prometheus.CounterOpts{Name: "hashinsight_tunnel_peers_quarantined_total", Help: "Peers that were set aside because the device refused them."}),
		unresolved:  prometheus.NewCounter(prometheus.CounterOpts{Name: "hashinsight_tunnel_endpoints_unresolved_total", Help: "Endpoints of sites whose name could not be resolved."}),
		rotated:     prometheus.NewCounter(prometheus.CounterOpts{Name: "hashinsight_tunnel_keys_rotated_total", Help: "Sites that changed over to a new key."}),
		roamed:      prometheus.NewCounter(prometheus.CounterOpts{Name: "hashinsight_tunnel_peers_roamed_total", Help: "Peers that were found at another address than before."}),
		bytes:       prometheus.NewCounterVec(prometheus.CounterOpts{Name: "hashinsight_tunnel_bytes_total", Help: "Bytes through the tunnel, WireGuard's own included."}, []string{"direction"}),
	}
	for _, state := range []string{StateConnected, StateSilent, StateNever, StateQuarantined} {
		x.peers.WithLabelValues(state)
	}
	return x
}

func (x *metrics) all() []prometheus.Collector {
	return []prometheus.Collector{x.owner, x.devices, x.peers, x.passes, x.failures, x.changes, x.quarantined, x.unresolved, x.rotated, x.roamed, x.bytes}
}

// Describe implements prometheus.Collector.
func (x *metrics) Describe(ch chan<- *prometheus.Desc) {
	for _, c := range x.all() {
		c.Describe(ch)
	}
}

// Collect implements prometheus.Collector.
func (x *metrics) Collect(ch chan<- prometheus.Metric) {
	for _, c := range x.all() {
		c.Collect(ch)
	}
}

func (x *metrics) passed(whole bool, took time.Duration, err error) {
	pass, outcome := "changes", "ok"
	if whole {
		pass = "full"
	}
	if err != nil {
		outcome = "failed"
	}
	x.passes.WithLabelValues(pass, outcome).Observe(took.Seconds())
}

func (x *metrics) changed(set, removed int) {
	x.changes.WithLabelValues("set").Add(float64(max(0, set)))
	x.changes.WithLabelValues("removed").Add(float64(removed))
}

func (x *metrics) traffic(received, sent uint64) {
	x.bytes.WithLabelValues("received").Add(float64(received))
	x.bytes.WithLabelValues("sent").Add(float64(sent))
}

// ran says which devices run.
func (x *metrics) ran(devices []*device) {
	x.devices.Reset()
	for _, d := range devices {
		x.devices.WithLabelValues(d.kind).Inc()
	}
}

// clear begins a new count of peers.
func (x *metrics) clear(now func() time.Time) {
	x.now = now()
	for _, state := range []string{StateConnected, StateSilent, StateNever, StateQuarantined} {
		x.peers.WithLabelValues(state).Set(0)
	}
}

// count counts a peer.
func (x *metrics) count(a *applied, handshake time.Time) {
	if handshake.IsZero() {
		handshake = a.noted.Handshake
	}
	state := StateSilent
	switch {
	case !a.QuarantinedAt.IsZero():
		state = StateQuarantined
	case handshake.IsZero():
		state = StateNever
	case x.now.Sub(handshake) < ConnectedFor:
		state = StateConnected
	}
	x.peers.WithLabelValues(state).Inc()
}
