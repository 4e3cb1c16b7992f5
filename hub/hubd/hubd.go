// Package hubd is the hub's composition root: it alone knows every subject, builds them in order, and stops them in
// reverse. It decides nothing about telemetry, keys or pages. The command line and the end-to-end tests start hubs through
// it, with listeners and a clock of their own where they need them.
package hubd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/hashinsight/hashinsight/hub/internal/anchor"
	"github.com/hashinsight/hashinsight/hub/internal/config"
	"github.com/hashinsight/hashinsight/hub/internal/pg"
	"github.com/hashinsight/hashinsight/pkg/diag"
	"github.com/hashinsight/hashinsight/pkg/evidence"
	"github.com/hashinsight/hashinsight/pkg/lifecycle"
)

// Config describes a hub. Its values have been checked: package config does that for the command line.
type Config struct {
	Database

	Modules       []string // that this process runs: ingest, api, page, jobs; empty means all
	Env           string   // prod or dev
	Evidence      Evidence // where the module jobs moves evidence, and all find it; without URL it stays in the database
	Transparency  Transparency
	Chain         Chain  // where the log is anchored; zero: nowhere
	AuditPath     string // file of JSON lines that follows the audit log; empty: none on this host
	WebTLS        WebTLS // of the page and the API
	RateLimit     int    // requests a minute to the API per key or address; 0: no limit
	SessionSecret string // one value, or new and old separated by a comma; for the module api

	BindAddr       string         // page and API
	GRPCAddr       string         // agents
	Tunnel         Tunnel         // for the module ingest
	HubAddress     string         // host:port told to sites that join, or several separated by commas; empty: where GRPC_ADDR listens
	MetricsAddr    string         // /metrics and /health; empty with no MetricsListener: none
	ReusePort      bool           // let another hub process share BindAddr
	ServerNames    []string       // DNS names and addresses in the hub's own certificate
	TrustedProxies []netip.Prefix // whose forwarding headers are believed

	// FastStartup listens before the database is ready; until then everything but /health answers 503.
	FastStartup bool
	// SkipDatabaseHealthCheck leaves the check of the database until after listening. With both false everything is
	// ready before the first connection is taken.
	SkipDatabaseHealthCheck bool

	// Listeners replace listening on the addresses above. The hub closes them. A hub without the module of an address does
	// not listen there.
	WebListener     net.Listener
	GRPCListener    net.Listener
	MetricsListener net.Listener

	Beacon    func() evidence.Beacon // replaces asking the chain for the block that agents are told of
	AccessLog *slog.Logger           // one record a request; nil means Log
	Registry  *prometheus.Registry   // nil means a new one with the build's and process's metrics
}

// Deadlines for stopping, each for one part.
const (
	stopWeb      = 35 * time.Second // requests in flight have 30 s
	stopAudit    = 10 * time.Second // the last entries get their place
	stopJobs     = 15 * time.Second // running jobs have 10 s
	stopTunnel   = 10 * time.Second // after ingest: streams end through it
	stopIngest   = 30 * time.Second // streams end, what they brought is committed
	stopDatabase = 60 * time.Second // the embedded server writes everything out
)

// Hub is a hub that is ready to run. It listens already, unless its configuration says that the database comes first.
type Hub struct {
	c     Config
	alone bool // the clock is the caller's: nothing goes by the database's
	web   net.Listener
	grpc  net.Listener
	also  net.Listener // agents too: Tunnel.FallbackListen; nil without it
	meter net.Listener
	ready atomic.Bool
	chain *anchor.Chain // of a process that anchors: there before its jobs start, nil otherwise
}

// New opens the listeners, so that a port in use is found before anything else happens.
func New(ctx context.Context, c Config) (*Hub, error) {
	alone := c.Now != nil
	if !alone {
		c.Now = time.Now
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.AccessLog == nil {
		c.AccessLog = c.Log
	}
	if c.Registry == nil {
		c.Registry = diag.NewRegistry("hub")
	}
	h := &Hub{c: c, alone: alone, web: c.WebListener, grpc: c.GRPCListener, meter: c.MetricsListener}
	var err error
	if h.c.Modules, err = config.CheckModules(c.Modules); err != nil {
		return nil, errors.Join(fmt.Errorf("MODULES %w", err), h.Close())
	}
	var errs []error
	open := func(l *net.Listener, name, addr string, share bool) {
		if *l != nil || addr == "" {
			return
		}
		var err error
		if *l, err = listen(ctx, addr, share); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", name, err))
		}
	}
	require := func(l *net.Listener, name, addr string, share bool) {
		open(l, name, addr, share)
		if *l == nil && len(errs) == 0 {
			errs = append(errs, fmt.Errorf("%s: no address", name))
		}
	}
	if h.serves() {
		require(&h.web, "page and API (BIND_ADDR)", c.BindAddr, c.ReusePort)
	}
	if h.runs(config.ModuleIngest) {
		require(&h.grpc, "agents (GRPC_ADDR)", c.GRPCAddr, false)
		open(&h.also, "agents' fall-back (FALLBACK_LISTEN)", c.Tunnel.FallbackListen, false)
	}
	open(&h.meter, "metrics (PROMETHEUS_PORT)", c.MetricsAddr, false)
	if err := errors.Join(errs...); err != nil {
		return nil, errors.Join(err, h.Close())
	}
	return h, nil
}

// Close closes the listeners of a hub that will not run.
func (h *Hub) Close() error {
	var errs []error
	for _, l := range []net.Listener{h.web, h.grpc, h.also, h.meter} {
		if l != nil {
			if err := l.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
				errs = append(errs, err)
			}
		}
	}
	return errors.Join(errs...)
}

// runs reports whether this process runs a module.
func (h *Hub) runs(module string) bool { return slices.Contains(h.c.Modules, module) }

// serves reports whether this process has anything for browsers and API clients.
func (h *Hub) serves() bool { return h.runs(config.ModuleAPI) || h.runs(config.ModulePage) }

// WebAddr is where the page and the API listen; nil without either module.
func (h *Hub) WebAddr() net.Addr { return addrOf(h.web) }

// GRPCAddr is where agents connect; nil without the module ingest.
func (h *Hub) GRPCAddr() net.Addr { return addrOf(h.grpc) }

// MetricsAddr is where /metrics listens; nil without metrics.
func (h *Hub) MetricsAddr() net.Addr { return addrOf(h.meter) }

func addrOf(l net.Listener) net.Addr {
	if l == nil {
		return nil
	}
	return l.Addr()
}

// Ready reports whether the hub has migrated its database and serves everything.
func (h *Hub) Ready() bool { return h.ready.Load() }

// Run runs the hub until ctx ends, then stops everything in reverse order and returns nil. A part that fails ends the hub
// with its error.
func Run(ctx context.Context, c Config) error {
	h, err := New(ctx, c)
	if err != nil {
		return err
	}
	return h.Run(ctx)
}

// Run runs the hub; see the function Run.
func (h *Hub) Run(ctx context.Context) error {
	stack := lifecycle.New(ctx, h.c.Log)
	stack.OnStop("listeners", 0, func(context.Context) error { return h.Close() })
	if err := h.start(ctx, stack); err != nil {
		if ctx.Err() != nil { // asked to stop while starting
			err = nil
		}
		return errors.Join(err, stack.Stop())
	}
	return stack.Run(ctx)
}

func (h *Hub) start(ctx context.Context, stack *lifecycle.Stack) error {
	begin := time.Now()
	db, err := h.c.prepare(h.c.Registry)
	if err != nil {
		return err
	}
	// Registered before the web side starts and so stopped after it, though the server itself may start later.
	stack.OnStop("database server", stopDatabase, db.stop)
	pools, err := pg.Open(ctx, db.pools)
	if err != nil {
		return err
	}
	stack.OnStop("database pools", 0, func(context.Context) error { pools.Close(); return nil })

	s, err := h.subjects(ctx, stack, pools)
	if err != nil {
		return err
	}
	s.direct = db.direct()
	web, err := h.webSide(&s)
	if err != nil {
		return err
	}
	serveWeb := func() {
		if h.serves() {
			stack.Go("page and API", stopWeb, func(ctx context.Context) error { return web.Serve(ctx, h.web) })
		}
		h.c.Log.InfoContext(ctx, "listening", h.listening(time.Since(begin))...)
	}
	if h.meter != nil {
		stack.Go("metrics", 0, func(ctx context.Context) error { return h.serveMetrics(ctx, web.Handler()) })
	}
	if h.c.FastStartup && h.c.SkipDatabaseHealthCheck {
		serveWeb()
	}
	if err := db.start(ctx); err != nil {
		return err
	}
	if db.ended() != nil {
		stack.Go("database server's watch", 0, func(ctx context.Context) error {
			select {
			case <-db.ended():
				return errors.New("the embedded PostgreSQL has ended by itself: its last lines are in the log; start the hub again")
			case <-ctx.Done():
				return nil
			}
		})
	}
	if h.c.FastStartup && !h.c.SkipDatabaseHealthCheck {
		serveWeb() // the database has been checked; migrations follow
	}
	if _, err := pg.Migrate(ctx, db.direct(), h.c.Log); err != nil {
		return err
	}
	if err := h.startBackground(ctx, stack, s); err != nil {
		return err
	}
	if !h.c.FastStartup {
		serveWeb()
	}
	h.ready.Store(true)
	h.c.Log.InfoContext(ctx, "hub is ready", "version", diag.ReadBuild().Version, "database", db.describe(), "after_ms", time.Since(begin).Milliseconds())
	return nil
}

// listening says where, for the log.
func (h *Hub) listening(after time.Duration) []any {
	fields := []any{"modules", strings.Join(h.c.Modules, ","), "after_ms", after.Milliseconds()}
	for name, l := range map[string]net.Listener{"page": h.web, "agents": h.grpc, "agents_fallback": h.also} {
		if l != nil {
			fields = append(fields, name, l.Addr().String())
		}
	}
	return fields
}
