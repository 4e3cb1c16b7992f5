package pki

import (
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are those of certificates.
type metrics struct {
	refused  *prometheus.CounterVec
	issued   *prometheus.CounterVec
	revoked  prometheus.Counter
	copied   prometheus.Counter
	recovery *prometheus.CounterVec
	served   *prometheus.CounterVec
	watch    *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer, a *Authority) (*metrics, error) {
	m := &metrics{
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "hashinsight_site_certificates_refused_total",
			Help: "Calls of sites that were refused because of their certificate, by reason.",
		}, []string{"reason"}),
		issued: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "hashinsight_certificates_issued_total",
			Help: "Certificates issued by this process, by what for: enrolment, by_hand, renewal, recovery, hub, client.",
		}, []string{"profile"}),
		revoked: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "hashinsight_certificates_revoked_seen_total",
			Help: "Revocations that this process has learnt of since it started.",
		}),
		copied: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "hashinsight_certificate_keys_copied_total",
			Help: "Certificates that came back after their successor had been used: somebody has a copy of the key. Alarm.",
		}),
		recovery: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "hashinsight_certificate_recoveries_total",
			Help: "Recoveries of sites whose certificate had run out, by outcome: issued, counted, revoked, unknown.",
		}, []string{"outcome"}),
		served: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "hashinsight_pki_requests_total",
			Help: "Requests for revocation lists, OCSP answers and roots, by kind and outcome.",
		}, []string{"kind", "outcome"}),
		watch: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "hashinsight_pki_watch_total",
			Help: "How this process learnt of revocations: notice, poll, reload; failed when the database did not answer.",
		}, []string{"by"}),
	}
	if reg == nil {
		return m, nil
	}
	gauges := []prometheus.Collector{
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "hashinsight_certificates_revoked", Help: "Revoked certificates that have not expired.",
		}, func() float64 { return float64(a.revoked.len()) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "hashinsight_ca_expiry_timestamp_seconds", Help: "When the intermediate that issues certificates ends, in seconds since 1970; 0 before the hub is ready.",
		}, func() float64 {
			if s := a.set.Load(); s != nil {
				return float64(s.active().cert.NotAfter.Unix())
			}
			return 0
		}),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "hashinsight_pki_watch_age_seconds", Help: "Time since this process last compared its revocations with the database; beyond 10 s revoked sites may go on.",
		}, func() float64 { return a.revoked.age(a.now()).Round(time.Millisecond).Seconds() }),
	}
	for _, c := range append(gauges, m.refused, m.issued, m.revoked, m.copied, m.recovery, m.served, m.watch) {
		if err := reg.Register(c); err != nil {
			return nil, fmt.Errorf("pki metrics: %w", err)
		}
	}
	return m, nil
}
