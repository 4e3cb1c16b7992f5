package diag

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// NewRegistry returns a registry with the Go runtime's and the process's collectors and hashinsight_build_info, whose labels
// name the program ("agent", "hub") and its build.
func NewRegistry(program string) *prometheus.Registry {
	reg := prometheus.NewRegistry()
	b := ReadBuild()
	info := prometheus.NewGauge(prometheus.GaugeOpts{
		Name:        "hashinsight_build_info",
		Help:        "Always 1; the labels say which program and build this is.",
		ConstLabels: prometheus.Labels{"program": program, "version": b.Version, "commit": b.Commit, "go": b.Go},
	})
	info.Set(1)
	reg.MustRegister(info, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return reg
}

// MetricsHandler serves a registry in the Prometheus text form, to at most four readers at once.
func MetricsHandler(reg *prometheus.Registry) http.Handler {
	return promhttp.HandlerFor(reg, promhttp.HandlerOpts{MaxRequestsInFlight: 4, Registry: reg})
}
