// Package hubd is the hub's composition root: it alone knows every subject, builds them in order, and stops them in
// reverse. It decides nothing about telemetry, keys or pages. The command line and the end-to-end tests start hubs through
// it, with listeners and a clock of their own where they need them.
package hubd

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"

	"github.com/hashinsight/hashinsight/hub/internal/access"
	"github.com/hashinsight/hashinsight/hub/internal/api"
	"github.com/hashinsight/hashinsight/hub/internal/archive"
	"github.com/hashinsight/hashinsight/hub/internal/audit"
	"github.com/hashinsight/hashinsight/hub/internal/config"
	"github.com/hashinsight/hashinsight/hub/internal/customer"
	"github.com/hashinsight/hashinsight/hub/internal/enrol"
	"github.com/hashinsight/hashinsight/hub/internal/facts"
	"github.com/hashinsight/hashinsight/hub/internal/fleet"
	"github.com/hashinsight/hashinsight/hub/internal/ingest"
	"github.com/hashinsight/hashinsight/hub/internal/peers"
	"github.com/hashinsight/hashinsight/hub/internal/pg"
	"github.com/hashinsight/hashinsight/hub/internal/pki"
	"github.com/hashinsight/hashinsight/hub/internal/proof"
	"github.com/hashinsight/hashinsight/hub/internal/series"
	"github.com/hashinsight/hashinsight/hub/internal/statement"
	"github.com/hashinsight/hashinsight/hub/internal/webtls"
	"github.com/hashinsight/hashinsight/hub/internal/webui"
	"github.com/hashinsight/hashinsight/pkg/backoff"
	"github.com/hashinsight/hashinsight/pkg/diag"
	"github.com/hashinsight/hashinsight/pkg/evidence"
	"github.com/hashinsight/hashinsight/pkg/ident"
	"github.com/hashinsight/hashinsight/pkg/lifecycle"
	enrolv1 "github.com/hashinsight/hashinsight/proto/enrol/v1"
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

// subjects are what start builds.
type subjects struct {
	pools     *pg.Pools
	audit     *audit.Log
	access    *access.Access  // nil without the module api
	tls       *webtls.TLS     // nil without TLS and client certificates
	limits    *access.Limiter // nil without a limit or the module api
	fleet     *fleet.Store
	series    *series.Store
	customers *customer.Store
	facts     *facts.Store
	// Where payloads of closed hours lie; nil where EVIDENCE_URL is not set.
	archive    *archive.Archive
	peers      *peers.Store // nil as pki is
	statements *statement.Store
	log        *proof.Store
	anchors    anchors
	enrol      *enrol.Store   // nil as pki is, and without an environment
	direct     string         // URL of the database past a pooler
	pki        *pki.Authority // nil in a process that does not know what opens the hub's keys; loaded once the database is there
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

// subjects builds what needs a database only when it is asked something.
func (h *Hub) subjects(ctx context.Context, stack *lifecycle.Stack, pools *pg.Pools) (s subjects, err error) {
	s.pools = pools
	poll := time.Second
	if h.alone {
		poll = time.Minute // virtual days have many seconds
	}
	if s.audit, err = audit.New(audit.Config{Pool: pools.Jobs, Path: h.c.AuditPath, Poll: poll, Now: h.c.Now, Log: h.c.Log, Registerer: h.c.Registry}); err != nil {
		return s, err
	}
	if s.fleet, err = fleet.New(fleet.Config{Pool: pools.API, Now: h.c.Now, Log: h.c.Log}); err != nil {
		return s, err
	}
	if s.series, err = series.New(series.Config{Pool: pools.API, Jobs: pools.Jobs, Now: h.c.Now, Log: h.c.Log, Registerer: h.c.Registry}); err != nil {
		return s, err
	}
	if h.c.Evidence.URL != "" && (h.runs(config.ModuleJobs) || h.runs(config.ModuleAPI)) { // jobs move and judge, the API shows polls
		if s.archive, err = h.c.Evidence.open(ctx, archive.Config{Pool: pools.Jobs, Log: h.c.Log, Registerer: h.c.Registry}); err != nil {
			return s, err
		}
		stack.OnStop("archive", 0, func(context.Context) error { return s.archive.Close() })
	}
	if s.facts, err = facts.New(facts.Config{
		Pool: pools.API, Agents: pools.Ingest, Jobs: pools.Jobs, Audit: s.audit, Archive: s.archive, Password: h.c.EncryptionPassword, Keys: keysOf(s.fleet), Note: proof.Note, Now: h.c.Now, Log: h.c.Log, Register: h.c.Registry,
	}); err != nil {
		return s, err
	}
	if s.customers, err = customers(pools.API, s.audit, h.c.Now); err != nil {
		return s, err
	}
	db := pools.API
	if h.runs(config.ModuleIngest) { // all that agents wait for is on their own pool: pages cannot starve it
		db = pools.Ingest
	}
	if s.peers, err = h.c.Tunnel.store(db, h.c.Database, s.audit); err != nil {
		return s, err
	}
	if err := h.keys(&s, db); err != nil {
		return s, err
	}
	sc := statement.Config{
		Pool: pools.API, Jobs: pools.Jobs, Customers: s.customers, Facts: s.facts, Audit: s.audit, Archive: s.archive, SiteKey: keysOf(s.fleet), Note: proof.Note, Now: h.c.Now, Log: h.c.Log, Registerer: h.c.Registry,
	}
	if s.pki != nil {
		sc.Key = s.pki.EvidenceKey
	}
	if s.statements, err = statement.New(sc); err != nil {
		return s, err
	}
	if s.log, err = h.transparency(&s); err != nil {
		return s, err
	}
	s.anchors = anchorsOf(&h.c.Chain, problemWith(&h.c.Chain, h.runs(config.ModuleJobs)), pools.API, s.log, h.c.Now)
	return s, nil
}

// keys opens the hub's keys, and what lets sites join by them, in processes that need them: ingest and the API, and the jobs, which issue statements.
func (h *Hub) keys(s *subjects, db *pgxpool.Pool) error {
	if h.c.EncryptionPassword == "" || !h.runs(config.ModuleIngest) && !h.runs(config.ModuleAPI) && !h.runs(config.ModuleJobs) {
		return nil
	}
	poll := time.Duration(0) // its default
	if h.alone {
		poll = 4 * time.Second // without notices it is all there is
	}
	var err error
	s.pki, err = pki.New(pki.Config{
		DB: db, Password: h.c.EncryptionPassword, Names: h.c.ServerNames, URL: h.c.PKIURL, Audit: s.audit, Note: proof.Note, Poll: poll, PollOnly: h.alone, Now: h.c.Now, Log: h.c.Log, Registerer: h.c.Registry,
	})
	if err != nil || h.c.Env == "" {
		return err
	}
	address := h.c.HubAddress
	if address == "" && h.grpc != nil {
		address = h.grpc.Addr().String()
	}
	s.enrol, err = enrol.New(enrol.Config{
		DB: db, CA: s.pki, Audit: s.audit, Peers: s.peers, Facts: s.facts, Note: proof.Note, Env: h.c.Env, HubAddress: address, FallbackAddress: h.c.Tunnel.Fallback, Now: h.c.Now, Log: h.c.Log,
	})
	return err
}

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

// startBackground starts what needs the migrated database.
func (h *Hub) startBackground(ctx context.Context, stack *lifecycle.Stack, s subjects) error {
	stack.Go("audit log", stopAudit, s.audit.Run)
	if s.access != nil {
		stack.Go("API keys", 0, s.access.Run)
	}
	if s.tls != nil {
		stack.Go("web certificates", 0, s.tls.Run)
	}
	if s.limits != nil {
		stack.Go("rate limits", 0, s.limits.Run)
	}
	if s.pki != nil {
		if err := s.pki.Load(ctx); err != nil {
			return err
		}
	}
	if h.runs(config.ModuleJobs) { // after the keys: statements are signed
		if err := h.startJobs(ctx, stack, s); err != nil {
			return err
		}
	}
	revoked := func(pki.Ended) {}
	if h.runs(config.ModuleIngest) {
		if s.pki == nil {
			return errors.New("ENCRYPTION_PASSWORD is required by the module ingest: it opens the hub's keys")
		}
		agents := newGate(h.grpc)
		if h.also != nil {
			agents.attach(h.also)
		}
		var tunnel *peers.Manager
		if h.c.Tunnel.on() {
			var err error
			if tunnel, err = h.startTunnel(stack, s, agents); err != nil {
				return err
			}
		}
		var sync func(context.Context) error
		if tunnel != nil {
			sync = tunnel.Sync
		}
		server, err := h.startIngest(stack, s, agents, sync)
		if err != nil {
			return err
		}
		type goodbye struct {
			site ident.SiteID
			due  time.Time
		}
		ended := make(chan goodbye, 10_000) // revoked sites whose peer goes too
		if tunnel != nil {
			stack.Go("peers of revoked sites", 0, func(ctx context.Context) error {
				for {
					select {
					case e := <-ended:
						if backoff.Sleep(ctx, time.Until(e.due)) == nil {
							h.cutOff(ctx, tunnel, e.site)
						}
					case <-ctx.Done():
						return nil
					}
				}
			})
		}
		revoked = func(e pki.Ended) {
			if !e.Whole {
				server.Recheck(ctx, e.Site)
				return
			}
			server.Disconnect(e.Site, "this site was revoked: "+e.Why) // first: without its peer it would not hear why
			select {
			case ended <- goodbye{e.Site, time.Now().Add(peers.LastWords)}: // not here: a device that is slow must not keep other revocations waiting
			default: // the row has ended already, and the loop's next pass removes the peer
			}
		}
	}
	if s.pki != nil {
		// Stopped before ingest: a hub that stops ends its streams anyway.
		stack.Go("revocations", 0, func(ctx context.Context) error { return s.pki.Watch(ctx, revoked) })
	}
	return nil
}

// startIngest starts what takes telemetry and lets sites join: the agents' listener. syncPeers makes the tunnel's device take a new site; nil without one.
func (h *Hub) startIngest(stack *lifecycle.Stack, s subjects, agents net.Listener, syncPeers func(context.Context) error) (*ingest.Server, error) {
	sites, err := fleet.New(fleet.Config{Pool: s.pools.Ingest, Now: h.c.Now, Log: h.c.Log})
	if err != nil {
		return nil, err
	}
	latest, err := fleet.NewLatest(fleet.LatestConfig{Now: h.c.Now, Registerer: h.c.Registry})
	if err != nil {
		return nil, err
	}
	var joining *enrol.Server
	var register func(grpc.ServiceRegistrar)
	if s.enrol != nil {
		if joining, err = enrol.NewServer(enrol.ServerConfig{Store: s.enrol, SyncPeers: syncPeers, Registerer: h.c.Registry}); err != nil {
			return nil, err
		}
		register = func(r grpc.ServiceRegistrar) { enrolv1.RegisterEnrolServiceServer(r, joining) }
	}
	server, err := ingest.NewServer(ingest.Config{
		Pool: s.pools.Ingest, Fleet: sites, Latest: latest, Series: s.series, Facts: s.facts,
		Key: s.pki.EvidenceKey(), TLS: s.pki.ServerTLS(),
		CheckPeer: func(ctx context.Context, cert *x509.Certificate) error {
			_, err := s.pki.Verify(ctx, []*x509.Certificate{cert})
			return err
		},
		Enrol: register,
		Cloned: func(ctx context.Context, site ident.SiteID, remote string) {
			if err := s.audit.Record(ctx, audit.Entry{
				Level: audit.Security, Category: audit.Suspicious, Action: "agent_cloned", Status: audit.Denied, UserID: site.String(), IP: remote,
				Details: map[string]any{"site_id": site.String(), "remote": remote},
			}); err != nil {
				h.c.Log.ErrorContext(ctx, "a second agent with one identity is not in the audit log", "site", site, "err", err)
			}
		},
		Beacon: h.beacon(stack), Now: h.c.Now, Log: h.c.Log, Registerer: h.c.Registry,
	})
	if err != nil {
		return nil, err
	}
	stack.Go("ingest", stopIngest, func(ctx context.Context) error { return server.Serve(ctx, agents) })
	if joining != nil {
		every := 15 * time.Second
		if h.alone {
			every = time.Minute // virtual days have many seconds
		}
		stack.Go("notices to agents", 0, func(ctx context.Context) error { return joining.Watch(ctx, every, server.Notify) })
	}
	return server, nil
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
