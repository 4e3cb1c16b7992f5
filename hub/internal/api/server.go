// Package api is the hub's HTTP side: the routes with their permissions, the OpenAPI document made from them, errors as
// problem+json, and the middleware around everything, the page included. Handlers decode, authorise, ask a subject and
// map the answer; they hold no SQL and no rule. hubd makes one Server and serves its Handler on the web port.
package api

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"github.com/klauspost/compress/gzhttp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/hashinsight/hashinsight/hub/internal/access"
	"github.com/hashinsight/hashinsight/hub/internal/apperr"
	"github.com/hashinsight/hashinsight/hub/internal/audit"
	"github.com/hashinsight/hashinsight/hub/internal/customer"
	"github.com/hashinsight/hashinsight/hub/internal/enrol"
	"github.com/hashinsight/hashinsight/hub/internal/facts"
	"github.com/hashinsight/hashinsight/hub/internal/fleet"
	"github.com/hashinsight/hashinsight/hub/internal/peers"
	"github.com/hashinsight/hashinsight/hub/internal/pki"
	"github.com/hashinsight/hashinsight/hub/internal/series"
	"github.com/hashinsight/hashinsight/hub/internal/statement"
	"github.com/hashinsight/hashinsight/hub/internal/webtls"
)

// Limits of a connection and a request.
const (
	requestDeadline   = 120 * time.Second // streams have none
	readHeaderTimeout = 10 * time.Second
	bodyTimeout       = 15 * time.Second // for a request's body to arrive
	idleTimeout       = 120 * time.Second
	maxHeaderBytes    = 32 << 10
	shutdownDeadline  = 30 * time.Second // for requests in flight
)

// documentVersion is the version of the API's description, not of the program: the committed document must not change
// with every build.
const documentVersion = "0.1.0"

// Config is what New needs.
type Config struct {
	Access         *access.Access // this and the next seven, Limiter aside: not required with APIOff
	Audit          *audit.Log
	Limiter        *access.Limiter // nil: no rate limit
	Fleet          *fleet.Store
	Peers          *peers.Store
	Series         *series.Store
	Customers      *customer.Store
	Facts          *facts.Store
	Statements     *statement.Store
	Transparency   Transparency
	Enrol          *enrol.Store                // nil: no site can join through this process
	Pages          http.Handler                // the page's files; nil answers 404
	PKI            *pki.Authority              // certificates; below /pki/ roots, revocation lists and OCSP, for anyone; nil answers that another process has them
	Tiles          http.Handler                // the transparency log as tlog-tiles, below /log/, for anyone; nil answers 404
	Modules        []string                    // that this process runs, for /health
	APIOff         bool                        // /api and its description answer that another process has them
	PageOff        bool                        // so does every other path
	Ping           func(context.Context) error // whether the database answers
	Ready          func() bool                 // while false everything but /health answers 503; nil means always ready
	Version        string                      // of the program
	TrustedProxies []netip.Prefix              // whose forwarding headers are believed
	TLS            *webtls.TLS                 // of the listener and of clients' certificates; nil: neither
	ClientHeader   string                      // in which trusted proxies forward a client's certificate; empty: none
	CertRequired   string                      // CertAdmin (also "") or CertAPI: for what a client certificate is needed where TLS verifies them
	Now            func() time.Time            // nil means time.Now
	Log            *slog.Logger                // nil means no log
	AccessLog      *slog.Logger                // one record a request; nil means Log
	Registerer     prometheus.Registerer       // nil means no metrics
}

// Server holds the routes and what they share.
type Server struct {
	api          huma.API
	mux          *http.ServeMux
	handler      http.Handler
	document     []byte
	access       *access.Access
	audit        *audit.Log
	limiter      *access.Limiter
	fleet        *fleet.Store
	peers        *peers.Store
	series       *series.Store
	customers    *customer.Store
	facts        *facts.Store
	statements   *statement.Store
	transparency Transparency
	bundles      sending
	enrol        *enrol.Store
	pages        http.Handler
	tiles        http.Handler
	pki          *pki.Authority
	pkiFiles     http.Handler // nil as pki is
	modules      []string
	apiOff       bool
	pageOff      bool
	ready        func() bool
	version      string
	trusted      []netip.Prefix
	tls          *webtls.TLS
	header       string
	certAPI      bool
	now          func() time.Time
	log          *slog.Logger
	accessLog    *slog.Logger
	metrics      *metrics
	database     databaseCheck
	miners       *held[*image]
	sites        *held[siteList]
	streams      streamSlots
	// eventTimeout is how long a client may take over one event; a field for the test that waits for it to pass.
	eventTimeout time.Duration
	stopping     chan struct{} // closed when streams must end
	stopOnce     sync.Once
}

// New builds the routes. It does not touch the database.
func New(c Config) (*Server, error) {
	if c.Ping == nil || !c.APIOff && (c.Access == nil || c.Audit == nil || c.Fleet == nil || c.Peers == nil || c.Series == nil || c.Facts == nil || c.Customers == nil || c.Statements == nil) {
		return nil, errors.New("api: Access, Audit, Fleet, Peers, Series, Facts, Customers, Statements and Ping are required")
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.AccessLog == nil {
		c.AccessLog = c.Log
	}
	if c.Ready == nil {
		c.Ready = func() bool { return true }
	}
	if c.Pages == nil {
		c.Pages = http.NotFoundHandler()
	}
	m, err := newMetrics(c.Version, c.Now, c.Registerer)
	if err != nil {
		return nil, fmt.Errorf("api metrics: %w", err)
	}
	s := &Server{
		mux: http.NewServeMux(), access: c.Access, audit: c.Audit, limiter: c.Limiter, fleet: c.Fleet, peers: c.Peers, series: c.Series, facts: c.Facts, customers: c.Customers, statements: c.Statements, transparency: c.Transparency, enrol: c.Enrol, pages: c.Pages, tiles: c.Tiles, pki: c.PKI,
		modules: append([]string{}, c.Modules...), apiOff: c.APIOff, pageOff: c.PageOff, ready: c.Ready, version: c.Version,
		trusted: c.TrustedProxies, tls: c.TLS, header: c.ClientHeader, certAPI: c.CertRequired == CertAPI, now: c.Now, log: c.Log, accessLog: c.AccessLog, metrics: m,
		database: databaseCheck{ping: c.Ping, now: c.Now}, stopping: make(chan struct{}), eventTimeout: eventTimeout,
	}
	s.miners = newHeld(c.Now, s.loadImage)
	s.sites = newHeld(c.Now, s.loadSites)
	humaErrors()
	if c.PKI != nil {
		s.pkiFiles = c.PKI.Handler()
	}
	s.api = humago.New(s.mux, s.description())
	s.healthRoutes()
	s.sessionRoutes()
	s.siteRoutes()
	s.certificateRoutes()
	s.agentRoutes()
	s.peerRoutes()
	s.minerRoutes()
	s.seriesRoutes()
	s.partSeriesRoutes()
	s.siteSeriesRoutes()
	s.disputeRoutes()
	s.siteHourRoutes()
	s.snapshotRoutes()
	s.eventRoutes()
	s.auditRoutes()
	s.apiKeyRoutes()
	s.rateLimitRoutes()
	s.enrolRoutes()
	s.customerRoutes()
	s.contractRoutes()
	s.excuseRoutes()
	s.slaRoutes()
	s.statementRoutes()
	s.logRoutes()
	s.anchorRoutes()
	s.proofRoutes()
	if s.document, err = json.MarshalIndent(s.api.OpenAPI(), "", "  "); err != nil {
		return nil, fmt.Errorf("api description: %w", err)
	}
	s.document = append(s.document, '\n')
	s.mux.HandleFunc("GET /openapi.json", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-cache")
		_, _ = w.Write(s.document) // the client is gone
	})
	zip, err := gzhttp.NewWrapper(gzhttp.MinSize(1024), gzhttp.CompressionLevel(1))
	if err != nil {
		return nil, fmt.Errorf("compression: %w", err)
	}
	routes := http.HandlerFunc(s.route)
	zipped := zip(routes)
	s.handler = s.outermost(s.guard(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if isStream(r) || r.URL.Path == snapshotPath { // one must not be held back, the other comes compressed
			routes.ServeHTTP(w, r)
			return
		}
		zipped.ServeHTTP(w, r)
	})))
	return s, nil
}

// description is the part of the OpenAPI document that no operation brings along. huma's own routes for documents and
// schemas stay off: its pages load scripts from another host.
func (s *Server) description() huma.Config {
	c := huma.DefaultConfig("HashInsight hub", documentVersion)
	c.OpenAPIPath, c.DocsPath, c.SchemasPath, c.CreateHooks = "", "", "", nil
	c.RejectUnknownQueryParameters = true
	c.Info.Description = "Times are RFC 3339 in UTC. Units stand in the names of members. A member that is absent is unknown: never zero. " +
		"Errors are application/problem+json; branch on their code."
	c.Components.SecuritySchemes = map[string]*huma.SecurityScheme{
		"key":     {Type: "http", Scheme: "bearer", Description: "An API key"},
		"session": {Type: "apiKey", In: "cookie", Name: sessionCookie, Description: "The page's session, from POST /api/session"},
	}
	return c
}

// Handler returns the whole web side.
func (s *Server) Handler() http.Handler { return s.handler }

// Document returns the OpenAPI document as it is served.
func (s *Server) Document() []byte { return s.document }

// guard refuses what no operation should see: requests before the hub is ready, and requests that another site's page makes
// in a signed-in browser.
func (s *Server) guard(next http.Handler) http.Handler {
	origins := http.NewCrossOriginProtection()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !s.ready() && r.URL.Path != "/health" {
			p := newProblem(r.Context(), http.StatusServiceUnavailable, "API_003", "the hub is starting")
			p.retryAfter = 5 * time.Second
			writeProblem(w, p)
			return
		}
		if isAPI(r.URL.Path) {
			if err := s.checkCertificate(r); err != nil {
				writeProblem(w, problemOf(r.Context(), err))
				return
			}
		}
		if err := origins.Check(r); err != nil {
			writeProblem(w, newProblem(r.Context(), http.StatusForbidden, "AUTH_002", "a page of another origin must not make this request"))
			return
		}
		next.ServeHTTP(w, r)
	})
}

// route sends a request to its operation, or to the page.
func (s *Server) route(w http.ResponseWriter, r *http.Request) {
	if m := s.missing(r.URL.Path); m != "" {
		writeProblem(w, newProblem(r.Context(), http.StatusServiceUnavailable, "API_004",
			"this hub process does not run the module "+m+"; it runs "+strings.Join(s.modules, ", ")))
		return
	}
	if isPKI(r.URL.Path) { // past the mux, which would clean up the base64 of an OCSP request
		r.Pattern = pkiPrefix
		s.pkiFiles.ServeHTTP(w, r)
		return
	}
	if s.tiles != nil && isTile(r.URL.Path) {
		if err := s.limitAddress(r.Context()); err != nil {
			writeProblem(w, problemOf(r.Context(), err))
			return
		}
		r.Pattern = "/log/"
		s.tiles.ServeHTTP(w, r)
		return
	}
	if _, pattern := s.mux.Handler(r); pattern != "" {
		s.mux.ServeHTTP(w, r)
		return
	}
	if isAPI(r.URL.Path) {
		if err := s.limitAddress(r.Context()); err != nil {
			writeProblem(w, problemOf(r.Context(), err))
			return
		}
	}
	// No operation has this path and method. The mux knows whether another method would do.
	var answer statusOnly
	s.mux.ServeHTTP(&answer, r)
	switch {
	case answer.status == http.StatusMethodNotAllowed:
		w.Header().Set("Allow", answer.Header().Get("Allow"))
		writeProblem(w, newProblem(r.Context(), http.StatusMethodNotAllowed, "VALID_001",
			"this path does not take "+r.Method+"; it takes "+answer.Header().Get("Allow")))
	case isAPI(r.URL.Path) || strings.HasPrefix(r.URL.Path, "/health/"):
		writeProblem(w, newProblem(r.Context(), http.StatusNotFound, "NOTFOUND_001", "the API has no such path; /openapi.json lists those it has"))
	default:
		r.Pattern = "/"
		s.pages.ServeHTTP(w, r)
	}
}

// missing names the module that would answer a path, if this process does not run it.
func (s *Server) missing(path string) string {
	switch {
	case path == "/health" || strings.HasPrefix(path, "/health/"):
		return ""
	case isAPI(path):
		if s.apiOff {
			return "api"
		}
	case isPKI(path):
		if s.pki == nil {
			return "ingest"
		}
	case isTile(path) && s.tiles != nil:
		if s.apiOff {
			return "api"
		}
	case s.pageOff:
		return "page"
	}
	return ""
}

// pkiPrefix is where what others need to check certificates lies: public, without a key.
const pkiPrefix = "/pki/"

// isTile reports whether a path is the transparency log's, as tlog-tiles has it.
func isTile(path string) bool {
	return path == "/log/checkpoint" || strings.HasPrefix(path, "/log/tile/")
}

func isPKI(path string) bool { return strings.HasPrefix(path, pkiPrefix) }

func isAPI(path string) bool {
	return path == "/api" || strings.HasPrefix(path, "/api/") || path == "/openapi.json"
}

// statusOnly takes an answer and keeps its status.
type statusOnly struct {
	header http.Header
	status int
}

func (w *statusOnly) Header() http.Header {
	if w.header == nil {
		w.header = make(http.Header)
	}
	return w.header
}
func (w *statusOnly) WriteHeader(status int)      { w.status = status }
func (w *statusOnly) Write(b []byte) (int, error) { return len(b), nil }

// Serve answers requests on l until ctx ends. Then it ends the streams, finishes what is in flight and returns nil; what is
// still running after 30 s is cut off and reported.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	srv := &http.Server{
		Handler: s.handler, ReadHeaderTimeout: readHeaderTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeaderBytes,
		WriteTimeout: requestDeadline + 5*time.Second, // streams move theirs with every event
		ErrorLog:     slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
	served := make(chan error, 1)
	var secure *tls.Config
	if s.tls != nil {
		secure = s.tls.Server()
	}
	go func() {
		if secure == nil {
			served <- srv.Serve(l)
			return
		}
		srv.TLSConfig = secure
		served <- srv.ServeTLS(l, "", "")
	}()
	select {
	case err := <-served:
		return fmt.Errorf("serve the API: %w", err)
	case <-ctx.Done():
	}
	s.stopOnce.Do(func() { close(s.stopping) })
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownDeadline)
	defer cancel()
	err := srv.Shutdown(stop)
	if err != nil {
		err = fmt.Errorf("requests still running after %s were cut off: %w", shutdownDeadline, errors.Join(err, srv.Close()))
	}
	<-served //nolint:errcheck // says that the server is closed, as it is
	return err
}

// notFound turns a subject's "not found" into a coded error.
func notFound(err error, what, id string) error {
	if errors.Is(err, fleet.ErrNotFound) {
		return apperr.E(apperr.NotFound, "NOTFOUND_001", "%s %s does not exist", what, id)
	}
	return err
}
