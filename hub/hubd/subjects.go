package hubd

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/hashinsight/hashinsight/hub/internal/access"
	"github.com/hashinsight/hashinsight/hub/internal/archive"
	"github.com/hashinsight/hashinsight/hub/internal/audit"
	"github.com/hashinsight/hashinsight/hub/internal/config"
	"github.com/hashinsight/hashinsight/hub/internal/customer"
	"github.com/hashinsight/hashinsight/hub/internal/enrol"
	"github.com/hashinsight/hashinsight/hub/internal/facts"
	"github.com/hashinsight/hashinsight/hub/internal/fleet"
	"github.com/hashinsight/hashinsight/hub/internal/peers"
	"github.com/hashinsight/hashinsight/hub/internal/pg"
	"github.com/hashinsight/hashinsight/hub/internal/pki"
	"github.com/hashinsight/hashinsight/hub/internal/proof"
	"github.com/hashinsight/hashinsight/hub/internal/series"
	"github.com/hashinsight/hashinsight/hub/internal/statement"
	"github.com/hashinsight/hashinsight/hub/internal/webtls"
	"github.com/hashinsight/hashinsight/pkg/lifecycle"
)

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
