package hubd

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/hashinsight/hashinsight/hub/internal/access"
	"github.com/hashinsight/hashinsight/hub/internal/api"
	"github.com/hashinsight/hashinsight/hub/internal/config"
	"github.com/hashinsight/hashinsight/hub/internal/webui"
	"github.com/hashinsight/hashinsight/pkg/diag"
)

// webSide builds what answers browsers and API clients; without those modules it still answers /health.
func (h *Hub) webSide(s *subjects) (*api.Server, error) {
	c := api.Config{
		Modules: h.c.Modules, APIOff: !h.runs(config.ModuleAPI), PageOff: !h.runs(config.ModulePage),
		Fleet: s.fleet, PKI: s.pki, Peers: s.peers, Series: s.series, Facts: s.facts, Customers: s.customers, Statements: s.statements, Enrol: s.enrol, Audit: s.audit, Ping: s.pools.Check, Ready: h.Ready,
		Tiles: h.tiles(s), Version: diag.ReadBuild().Version, TrustedProxies: h.c.TrustedProxies, Now: h.c.Now,
		Log: h.c.Log, AccessLog: h.c.AccessLog, Registerer: h.c.Registry,
	}
	var err error
	if !c.APIOff {
		if c.Transparency, err = h.published(s); err != nil {
			return nil, err
		}
		if s.access, err = access.New(access.Config{
			Pool: s.pools.API, Audit: s.audit, Env: h.c.Env, Secret: h.c.SessionSecret, Now: h.c.Now, Log: h.c.Log, Registerer: h.c.Registry,
		}); err != nil {
			return nil, err
		}
		if h.c.RateLimit > 0 {
			if s.limits, err = access.NewLimiter(access.LimiterConfig{
				Pool: s.pools.API, Audit: s.audit, PerMinute: h.c.RateLimit, Now: h.c.Now, Log: h.c.Log, Registerer: h.c.Registry,
			}); err != nil {
				return nil, err
			}
		}
		c.Access, c.Limiter = s.access, s.limits
	}
	if h.c.WebTLS.on() && h.serves() {
		if s.tls, err = h.webTLS(s); err != nil {
			return nil, err
		}
		c.TLS, c.ClientHeader, c.CertRequired = s.tls, h.c.WebTLS.ClientHeader, h.c.WebTLS.RequiredFor
	}
	if !c.PageOff {
		if c.Pages, err = webui.New(nil); err != nil {
			return nil, err
		}
	}
	return api.New(c)
}

// serveMetrics answers /metrics, and /health for processes that have no other listener for it.
func (h *Hub) serveMetrics(ctx context.Context, health http.Handler) error {
	mux := http.NewServeMux()
	mux.Handle("GET /health", health)
	mux.Handle("GET /health/detailed", health)
	mux.Handle("GET /metrics", diag.MetricsHandler(h.c.Registry))
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 15 * time.Second, WriteTimeout: 30 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 16 << 10}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(h.meter) }()
	select {
	case err := <-served:
		return fmt.Errorf("serve metrics: %w", err)
	case <-ctx.Done():
	}
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), 3*time.Second)
	defer cancel()
	err := srv.Shutdown(stop)
	if err != nil {
		err = errors.Join(err, srv.Close())
	}
	if e := <-served; !errors.Is(e, http.ErrServerClosed) {
		err = errors.Join(err, e)
	}
	return err
}
