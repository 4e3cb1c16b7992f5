package api

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/hashinsight/hashinsight/hub/internal/access"
	"github.com/hashinsight/hashinsight/hub/internal/audit"
	"github.com/hashinsight/hashinsight/hub/internal/customer"
	"github.com/hashinsight/hashinsight/hub/internal/enrol"
	"github.com/hashinsight/hashinsight/hub/internal/facts"
	"github.com/hashinsight/hashinsight/hub/internal/fleet"
	"github.com/hashinsight/hashinsight/hub/internal/peers"
	"github.com/hashinsight/hashinsight/hub/internal/pg"
	"github.com/hashinsight/hashinsight/hub/internal/pki"
	"github.com/hashinsight/hashinsight/hub/internal/series"
	"github.com/hashinsight/hashinsight/hub/internal/statement"
	"github.com/hashinsight/hashinsight/hub/internal/webui"
	"github.com/hashinsight/hashinsight/hub/pgtest"
	"github.com/hashinsight/hashinsight/pkg/ident"
	"github.com/hashinsight/hashinsight/pkg/telemetry"
	"github.com/hashinsight/hashinsight/pkg/unit"
	"github.com/hashinsight/hashinsight/pkg/wire"
)

// clock is a clock that tests move.
type clock struct{ ns atomic.Int64 }

func (c *clock) now() time.Time          { return time.Unix(0, c.ns.Load()).UTC() }
func (c *clock) advance(d time.Duration) { c.ns.Add(int64(d)) }

// lockedBuffer takes a log that is written while a test reads it.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// world is a hub's web side on a real port, over a real database.
type world struct {
	t          testing.TB
	pool       *pgxpool.Pool
	clock      *clock
	server     *Server
	audit      *audit.Log
	limiter    *access.Limiter
	peers      *peers.Store
	pki        *pki.Authority
	facts      *facts.Store
	customers  *customer.Store
	statements *statement.Store
	url        string
	owner      string // key
	site       ident.SiteID
	latest     *fleet.Latest
	enc        *wire.Encoder
	dec        *wire.Decoder
	log        *lockedBuffer
	reg        *prometheus.Registry
	stop       func() error
}

func newWorld(t testing.TB) *world {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return newWorldOn(t, l)
}

// newWorldOn serves on l, with a configuration that options change.
func newWorldOn(t testing.TB, l net.Listener, options ...func(*Config)) *world {
	t.Helper()
	w := &world{t: t, pool: pgtest.New(t), clock: &clock{}, site: ident.NewSiteID(), log: &lockedBuffer{}, reg: prometheus.NewRegistry()}
	w.clock.ns.Store(time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC).UnixNano())
	ctx := t.Context()
	var err error
	must := func() {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	w.audit, err = audit.New(audit.Config{Pool: w.pool, Now: w.clock.now})
	must()
	w.limiter, err = access.NewLimiter(access.LimiterConfig{Pool: w.pool, Audit: w.audit, PerMinute: access.MaxRate, Now: w.clock.now, Registerer: w.reg})
	must()
	a, err := access.New(access.Config{Pool: w.pool, Audit: w.audit, Env: "dev", Secret: testSecret, Now: w.clock.now, Registerer: w.reg})
	must()
	f, err := fleet.New(fleet.Config{Pool: w.pool, Now: w.clock.now})
	must()
	w.peers, err = peers.NewStore(peers.Config{DB: w.pool, Password: testSecret, Listen: "127.0.0.1:51820", Endpoint: "hub.example.com:51820", Audit: w.audit, Now: w.clock.now})
	must()
	w.pki, err = pki.Open(ctx, pki.Config{DB: w.pool, Password: testSecret, Audit: w.audit, Now: w.clock.now})
	must()
	sr, err := series.New(series.Config{Pool: w.pool, Now: w.clock.now})
	must()
	w.facts, err = facts.New(facts.Config{Pool: w.pool, Audit: w.audit, Password: testSecret, Now: w.clock.now})
	must()
	w.latest, err = fleet.NewLatest(fleet.LatestConfig{Every: time.Nanosecond, Now: w.clock.now})
	must()
	w.enc, err = wire.NewEncoder()
	must()
	w.dec, err = wire.NewDecoder()
	must()
	t.Cleanup(w.dec.Close)
	pages, err := webui.New(nil)
	must()
	joining, err := enrol.New(enrol.Config{DB: w.pool, CA: w.pki, Audit: w.audit, Env: "dev", HubAddress: "hub.example:5443", Now: w.clock.now})
	must()
	w.customers, err = customer.New(customer.Config{DB: w.pool, Audit: w.audit, Changed: statement.Changed(w.clock.now), Closed: statement.Closed, Now: w.clock.now})
	must()
	w.statements, err = statement.New(statement.Config{Pool: w.pool, Customers: w.customers, Facts: w.facts, Audit: w.audit, Key: w.pki.EvidenceKey, Now: w.clock.now})
	must()
	c := Config{
		Access: a, Audit: w.audit, Limiter: w.limiter, Fleet: f, Peers: w.peers, PKI: w.pki, Series: sr, Facts: w.facts, Customers: w.customers, Statements: w.statements, Enrol: joining, Pages: pages, Modules: []string{"api", "page"}, Ping: w.pool.Ping, Version: "1.2.3", Now: w.clock.now, Registerer: w.reg,
		Log: slog.New(slog.NewJSONHandler(w.log, nil)), TrustedProxies: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")},
	}
	for _, o := range options {
		o(&c)
	}
	w.server, err = New(c)
	must()
	w.owner, err = access.Bootstrap(ctx, access.BootstrapConfig{Pool: w.pool, Env: "dev", Now: w.clock.now})
	must()
	key, _, err := ed25519.GenerateKey(nil)
	must()
	err = pg.InTx(ctx, w.pool, func(tx pgx.Tx) error {
		return fleet.RegisterSite(ctx, tx, fleet.Registration{Site: w.site, Name: "North", Key: key, At: w.clock.now()})
	})
	must()
	w.url = "http://" + l.Addr().String()
	serving, cancel := context.WithCancel(context.WithoutCancel(ctx))
	served := make(chan error, 1)
	go func() { served <- w.server.Serve(serving, l) }()
	w.stop = sync.OnceValue(func() error { cancel(); return <-served })
	t.Cleanup(func() {
		if err := w.stop(); err != nil {
			t.Errorf("the server did not stop cleanly: %v", err)
		}
	})
	return w
}

// key makes a key with permissions, which the hub will have commands for later.
func (w *world) key(permissions ...string) string {
	w.t.Helper()
	id := uuid.New()
	key := "hsi_dev_key_" + strings.Repeat("0", 11) + strings.ReplaceAll(id.String(), "-", "")
	hash := sha256.Sum256([]byte(key))
	_, err := w.pool.Exec(w.t.Context(), `INSERT INTO api_key (id, name, hash, permissions, created_at) VALUES ($1, 'test', $2, $3, $4)`,
		id, hash[:], permissions, w.clock.now())
	if err != nil {
		w.t.Fatal(err)
	}
	return key
}

// keyID is the id of a key.
func (w *world) keyID(key string) string {
	w.t.Helper()
	hash := sha256.Sum256([]byte(key))
	var id uuid.UUID
	if err := w.pool.QueryRow(w.t.Context(), `SELECT id FROM api_key WHERE hash = $1`, hash[:]).Scan(&id); err != nil {
		w.t.Fatal(err)
	}
	return id.String()
}

// observe stores polls as ingest does, and moves the clock so that the hub looks again.
func (w *world) observe(infos []telemetry.MinerInfo, observations ...telemetry.Observation) {
	w.t.Helper()
	payload, _, err := w.enc.Samples(observations, infos)
	if err != nil {
		w.t.Fatal(err)
	}
	samples, err := w.dec.Samples(payload)
	if err != nil {
		w.t.Fatal(err)
	}
	u := w.latest.Collect([]fleet.SiteSamples{{Site: w.site, Samples: samples}}, w.clock.now().Add(time.Hour))
	err = pg.InTx(w.t.Context(), w.pool, func(tx pgx.Tx) error { return u.Write(w.t.Context(), tx) })
	if err != nil {
		w.t.Fatal(err)
	}
	w.latest.Committed(u)
	w.clock.advance(2 * time.Second)
}

// miners stores n miners with one poll each.
func (w *world) miners(n int) []ident.MinerID {
	w.t.Helper()
	ids := make([]ident.MinerID, n)
	infos := make([]telemetry.MinerInfo, n)
	observations := make([]telemetry.Observation, n)
	for i := range ids {
		ids[i] = ident.NewMinerID()
		infos[i] = telemetry.MinerInfo{
			Miner: ids[i], Address: fmt.Sprintf("10.0.%d.%d:4028", i/250, i%250+1), MAC: fmt.Sprintf("02:00:00:00:%02X:%02X", i>>8, i&255),
			Maker: "Bitmain", Model: "Antminer S19", Firmware: "stock", FirmwareVersion: "49.0.1.3",
		}
		observations[i] = w.poll(ids[i], float64(90+i%20)*1e12)
	}
	for begin := 0; begin < n; begin += 1000 {
		end := min(n, begin+1000)
		w.observe(infos[begin:end], observations[begin:end]...)
	}
	return ids
}

func (w *world) poll(id ident.MinerID, rate float64) telemetry.Observation {
	return telemetry.Observation{
		Miner: id, At: w.clock.now().Truncate(time.Millisecond), Outcome: telemetry.OutcomeOK, State: telemetry.StateHashing,
		Hashrate: unit.Some(unit.Hashrate(rate)), HashrateWindow: unit.Some(5 * time.Second), HashrateAvg: unit.Some(unit.Hashrate(rate)),
		IdealHashrate: unit.Some(unit.Hashrate(110e12)), TempBoard: unit.Some(unit.Celsius(61.5)), TempChip: unit.Some(unit.Celsius(72)),
		Power: unit.Some(unit.Watts(3250)), Uptime: unit.Some(3600 * time.Second), Accepted: unit.Some(int64(1234)), Rejected: unit.Some(int64(2)),
		HardwareErrors: unit.Some(int64(0)), BestShare: unit.Some(int64(7)),
		Fans:   []unit.Opt[unit.RPM]{unit.Some(unit.RPM(5880)), {}, unit.Some(unit.RPM(5910))},
		Boards: []telemetry.Board{{Index: 1, Chips: unit.Some(int32(76)), Temps: []unit.Celsius{61.5}}},
		Pools:  []telemetry.Pool{{URL: "pool.example:3333", Worker: "acct.w1", Active: unit.Some(true), Alive: unit.Some(true)}},
	}
}

// request makes one; headers come in pairs.
func (w *world) request(method, path string, body string, headers ...string) (*http.Response, []byte) {
	w.t.Helper()
	r, err := http.NewRequestWithContext(w.t.Context(), method, w.url+path, strings.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	res, err := http.DefaultTransport.RoundTrip(r) // follows no redirect, keeps no cookie
	if err != nil {
		w.t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return res, b
}

func (w *world) get(path string) (*http.Response, []byte) {
	w.t.Helper()
	return w.request("GET", path, "", "Authorization", "Bearer "+w.owner)
}

// want decodes an answer that must have status 200.
func want[T any](t testing.TB, res *http.Response, body []byte) T {
	t.Helper()
	var v T
	if res.StatusCode != http.StatusOK {
		t.Fatalf("status %d: %s", res.StatusCode, body)
	}
	if err := json.Unmarshal(body, &v); err != nil {
		t.Fatalf("%v in %s", err, body)
	}
	return v
}

// wantProblem checks a refusal and its form.
func wantProblem(t testing.TB, res *http.Response, body []byte, status int, code string) Problem {
	t.Helper()
	var p Problem
	if err := json.Unmarshal(body, &p); err != nil {
		t.Fatalf("status %d, no problem: %v in %s", res.StatusCode, err, body)
	}
	if res.StatusCode != status || p.Status != status || p.Code != code {
		t.Fatalf("got %d %s, want %d %s: %s", res.StatusCode, p.Code, status, code, body)
	}
	if got := res.Header.Get("Content-Type"); got != "application/problem+json" {
		t.Errorf("content type %q", got)
	}
	if p.RequestID == "" || p.RequestID != res.Header.Get("X-Request-Id") || p.Help == "" || p.Detail == "" || p.Title == "" || p.Type != "about:blank" {
		t.Errorf("incomplete problem: %s", body)
	}
	return p
}
