package ingest

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"math/big"
	"net"
	"net/url"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/test/bufconn"

	"github.com/hashinsight/hashinsight/hub/internal/audit"
	"github.com/hashinsight/hashinsight/hub/internal/facts"
	"github.com/hashinsight/hashinsight/hub/internal/fleet"
	"github.com/hashinsight/hashinsight/hub/internal/pg"
	"github.com/hashinsight/hashinsight/hub/internal/proof"
	"github.com/hashinsight/hashinsight/hub/internal/series"
	"github.com/hashinsight/hashinsight/hub/pgtest"
	"github.com/hashinsight/hashinsight/pkg/evidence"
	"github.com/hashinsight/hashinsight/pkg/ident"
	"github.com/hashinsight/hashinsight/pkg/identity"
	"github.com/hashinsight/hashinsight/pkg/telemetry"
	"github.com/hashinsight/hashinsight/pkg/unit"
	"github.com/hashinsight/hashinsight/pkg/wire"
	telemetryv1 "github.com/hashinsight/hashinsight/proto/telemetry/v1"
)

// hub is ingest with its own database behind an in-memory listener.
type hub struct {
	pool   *pgxpool.Pool
	fleet  *fleet.Store
	series *series.Store
	facts  *facts.Store
	server *Server
	public ed25519.PublicKey
	ca     *authority
	lis    *bufconn.Listener
	reg    *prometheus.Registry
	now    func() time.Time // nil means time.Now
	stop   func()
}

func newHub(t testing.TB, change func(*Config)) *hub {
	t.Helper()
	return newHubOn(t, pgtest.New(t), change)
}

func newHubOn(t testing.TB, pool *pgxpool.Pool, change func(*Config)) *hub {
	t.Helper()
	return newHubAt(t, pool, nil, change)
}

// newHubAt makes a hub with a clock of its own.
func newHubAt(t testing.TB, pool *pgxpool.Pool, now func() time.Time, change func(*Config)) *hub {
	t.Helper()
	h := &hub{pool: pool, ca: newAuthority(t), reg: prometheus.NewRegistry(), now: now}
	log := slog.New(slog.DiscardHandler)
	if os.Getenv("HSI_TEST_LOG") != "" {
		log = slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
	h.open(t, log, change)
	return h
}

// open starts a server on the hub's database, as a restart of the hub does.
func (h *hub) open(t testing.TB, log *slog.Logger, change func(*Config)) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	var err error
	h.fleet, err = fleet.New(fleet.Config{Pool: h.pool, Now: h.now})
	must(err)
	latest, err := fleet.NewLatest(fleet.LatestConfig{Now: h.now})
	must(err)
	h.series, err = series.New(series.Config{Pool: h.pool, Now: h.now, Log: log})
	must(err)
	entries, err := audit.New(audit.Config{Now: h.now})
	must(err)
	h.facts, err = facts.New(facts.Config{Pool: h.pool, Audit: entries, Password: "a password of this test", Note: proof.Note, Now: h.now, Log: log, Register: h.reg})
	must(err)
	public, private, err := ed25519.GenerateKey(rand.Reader)
	must(err)
	h.public = public
	c := Config{Pool: h.pool, Fleet: h.fleet, Latest: latest, Series: h.series, Facts: h.facts, Key: private, TLS: h.ca.serverTLS(t), Now: h.now, Log: log, Registerer: h.reg}
	if change != nil {
		change(&c)
	}
	h.server, err = NewServer(c)
	must(err)
	h.lis = bufconn.Listen(64 << 10) // for each direction of each connection, at once
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- h.server.Serve(ctx, h.lis) }()
	var once sync.Once
	h.stop = func() {
		once.Do(func() {
			cancel()
			if err := <-done; err != nil {
				t.Errorf("serve: %v", err)
			}
		})
	}
	t.Cleanup(h.stop)
}

// metric returns the value of a counter or gauge with one label value, or none.
func (h *hub) metric(t testing.TB, name, label string) float64 {
	t.Helper()
	families, err := h.reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			if len(m.GetLabel()) == 0 || m.GetLabel()[0].GetValue() == label {
				return m.GetGauge().GetValue() + m.GetCounter().GetValue() // one of the two is there
			}
		}
	}
	return 0
}

// count runs a query that returns one number.
func (h *hub) count(t testing.TB, sql string, args ...any) int64 {
	t.Helper()
	var n int64
	if err := h.pool.QueryRow(context.WithoutCancel(t.Context()), sql, args...).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// site is an agent's keys and its spool: it makes batches in a chain.
type site struct {
	id      ident.SiteID
	spool   ident.SpoolID
	key     ed25519.PrivateKey
	cert    tls.Certificate
	enc     *wire.Encoder
	seq     uint64
	prev    evidence.Hash
	miners  []ident.MinerID
	counter int64

	oldestPending, newest uint64 // said in its Hello
}

func (h *hub) newSite(t testing.TB, name string, miners int) *site {
	t.Helper()
	enc, err := wire.NewEncoder()
	if err != nil {
		t.Fatal(err)
	}
	return h.newSiteWith(t, name, miners, enc)
}

func (h *hub) newSiteWith(t testing.TB, name string, miners int, enc *wire.Encoder) *site {
	t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s := &site{id: ident.NewSiteID(), spool: ident.NewSpoolID(), key: private, enc: enc}
	s.cert = h.ca.issue(t, identity.SiteURI(s.id), false)
	for range miners {
		s.miners = append(s.miners, ident.NewMinerID())
	}
	h.register(t, s, name, public)
	return s
}

func (h *hub) register(t testing.TB, s *site, name string, public ed25519.PublicKey) {
	t.Helper()
	err := pg.InTx(t.Context(), h.pool, func(tx pgx.Tx) error {
		return fleet.RegisterSite(t.Context(), tx, fleet.Registration{Site: s.id, Name: name, Key: public, At: time.Now()})
	})
	if err != nil {
		t.Fatal(err)
	}
}

// polls makes one observation of each miner at a time; best_share is a serial number over all of them.
func (s *site) polls(at time.Time) []telemetry.Observation {
	var out []telemetry.Observation
	for _, m := range s.miners {
		s.counter++
		out = append(out, telemetry.Observation{
			Miner: m, At: at, Took: 40 * time.Millisecond, Outcome: telemetry.OutcomeOK, State: telemetry.StateHashing,
			Hashrate: unit.Some(100 * unit.TerahashPerSecond), HashrateWindow: unit.Some(5 * time.Second), TempBoard: unit.Some(unit.Celsius(61.5)),
			Power: unit.Some(unit.Watts(3250.5)), Uptime: unit.Some(time.Hour), Accepted: unit.Some(s.counter), BestShare: unit.Some(s.counter),
			Fans:   []unit.Opt[unit.RPM]{unit.Some(unit.RPM(5880)), {}, unit.Some(unit.RPM(6000))},
			Boards: []telemetry.Board{{Index: 0, Chips: unit.Some(int32(110)), Temps: []unit.Celsius{61.5}}},
			Pools:  []telemetry.Pool{{URL: "pool.example:3333", Worker: "farm.001", Active: unit.Some(true)}},
		})
	}
	return out
}

// sign makes the next batch of the chain from any payload.
func (s *site) sign(kind evidence.Kind, codec evidence.Codec, payload []byte, meta wire.Meta) *telemetryv1.Batch {
	return s.signSchema(evidence.Schema, kind, codec, payload, meta)
}

func (s *site) signSchema(schema uint8, kind evidence.Kind, codec evidence.Codec, payload []byte, meta wire.Meta) *telemetryv1.Batch {
	s.seq++
	h := evidence.Header{
		Kind: kind, Schema: schema, Codec: codec, Site: s.id, Key: ident.KeyIDOf(s.key.Public().(ed25519.PublicKey)), Spool: s.spool,
		Seq: s.seq, Prev: s.prev, PayloadLen: uint32(len(payload)), Payload: sha256.Sum256(payload),
		Miners: meta.Miners, Samples: meta.Samples, FirstMS: meta.FirstMS, LastMS: meta.LastMS,
	}
	s.prev = h.Hash()
	return &telemetryv1.Batch{Header: h.Bytes(), Signature: evidence.SignHeader(s.key, h.Bytes()), Payload: payload}
}

// light makes the next batch of the chain, of the kind that costs the hub least; at tells it from others.
func (s *site) light(at int64) *telemetryv1.Batch {
	k := evidence.Key{Site: s.id, Public: s.key.Public().(ed25519.PublicKey)}
	return s.sign(evidence.KindKey, evidence.CodecNone, k.Bytes(), wire.Meta{FirstMS: at, LastMS: at})
}

// batch makes the next batch of the chain with one poll of every miner.
func (s *site) batch(t testing.TB, at time.Time) *telemetryv1.Batch {
	t.Helper()
	return s.batchOf(t, s.polls(at), nil)
}

func (s *site) batchOf(t testing.TB, obs []telemetry.Observation, infos []telemetry.MinerInfo) *telemetryv1.Batch {
	t.Helper()
	payload, meta, err := s.enc.Samples(obs, infos)
	if err != nil {
		t.Fatal(err)
	}
	return s.sign(evidence.KindSamples, evidence.CodecZstd, payload, meta)
}

// link is an open stream of a site.
type link struct {
	t       testing.TB
	hub     *hub
	site    *site
	welcome *telemetryv1.Welcome
	stream  grpc.BidiStreamingClient[telemetryv1.StreamRequest, telemetryv1.StreamResponse]
	conn    *grpc.ClientConn
	cancel  context.CancelFunc
}

// client is a connection with a site's certificate, closed with the test.
func (h *hub) client(t testing.TB, s *site) *grpc.ClientConn {
	t.Helper()
	lis := h.lis
	conn, err := grpc.NewClient("passthrough:///hub",
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return lis.DialContext(ctx) }),
		grpc.WithTransportCredentials(credentials.NewTLS(h.ca.clientTLS(s.cert))))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() }) // nothing is left to lose
	return conn
}

// dial opens a stream; err is that of the Hello.
func (h *hub) dial(t testing.TB, s *site) (*link, error) {
	t.Helper()
	return h.dialWith(t, s, &telemetryv1.StreamRequest{Message: &telemetryv1.StreamRequest_Hello{Hello: &telemetryv1.Hello{
		Protocol: 1, SpoolId: s.spool[:], AgentVersion: "test", AgentTimeMs: time.Now().UnixMilli(), PollIntervalMs: 10_000,
		OldestPendingSeq: s.oldestPending, NewestSeq: s.newest,
	}}})
}

// dialWith opens a stream with a Hello of any kind.
func (h *hub) dialWith(t testing.TB, s *site, hello *telemetryv1.StreamRequest) (*link, error) {
	t.Helper()
	conn := h.client(t, s)
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	l := &link{t: t, hub: h, site: s, conn: conn, cancel: cancel}
	t.Cleanup(l.close)
	var err error
	if l.stream, err = telemetryv1.NewTelemetryServiceClient(conn).Stream(ctx); err != nil {
		return l, err
	}
	if err = l.stream.Send(hello); err != nil {
		return l, err
	}
	r, err := l.stream.Recv()
	if err == nil && r.GetWelcome() == nil {
		t.Fatalf("first message is %v, want a Welcome", r)
	}
	l.welcome = r.GetWelcome()
	return l, err
}

func (h *hub) connect(t testing.TB, s *site) *link {
	t.Helper()
	l, err := h.dial(t, s)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func (l *link) close() {
	l.cancel()
	_ = l.conn.Close() // nothing is left to lose
}

func (l *link) send(batches ...*telemetryv1.Batch) {
	l.t.Helper()
	if err := l.stream.Send(&telemetryv1.StreamRequest{Message: &telemetryv1.StreamRequest_Batches{Batches: &telemetryv1.BatchGroup{Batches: batches}}}); err != nil {
		l.t.Fatal(err)
	}
}

// recv returns the next answer to a batch, its acknowledgement verified.
func (l *link) recv() *telemetryv1.StreamResponse {
	l.t.Helper()
	for {
		r, err := l.stream.Recv()
		if err != nil {
			l.t.Fatal(err)
		}
		if r.GetCredit() != nil {
			continue
		}
		if a := r.GetAck(); a != nil {
			ack := evidence.Ack{Site: l.site.id, Spool: ident.SpoolID(a.GetSpoolId()), Seq: a.GetSeq(), HeaderHash: evidence.Hash(a.GetHeaderHash()), HubMS: a.GetHubTimeMs()}
			if err := ack.Verify(l.hub.public, a.GetSignature()); err != nil {
				l.t.Fatalf("acknowledgement of %d: %v", a.GetSeq(), err)
			}
		}
		return r
	}
}

// wantAcks receives acknowledgements of exactly these batches, in any order.
func (l *link) wantAcks(disposition telemetryv1.Disposition, batches ...*telemetryv1.Batch) {
	l.t.Helper()
	want := map[evidence.Hash]uint64{}
	for _, b := range batches {
		h, err := evidence.ParseHeader(b.GetHeader())
		if err != nil {
			l.t.Fatal(err)
		}
		want[h.Hash()] = h.Seq
	}
	for len(want) > 0 {
		a := l.recv()
		hash := evidence.Hash(a.GetAck().GetHeaderHash())
		if a.GetAck() == nil || want[hash] != a.GetAck().GetSeq() || a.GetAck().GetDisposition() != disposition {
			l.t.Fatalf("answer %v, want an acknowledgement (%s) of one of %d batches", a, disposition, len(want))
		}
		delete(want, hash)
	}
}

func (l *link) wantRefusal(reason telemetryv1.RefusalReason) *telemetryv1.Refusal {
	l.t.Helper()
	r := l.recv()
	if r.GetRefusal().GetReason() != reason {
		l.t.Fatalf("answer %v, want the refusal %s", r, reason)
	}
	return r.GetRefusal()
}

const (
	stored      = telemetryv1.Disposition_DISPOSITION_STORED
	quarantined = telemetryv1.Disposition_DISPOSITION_QUARANTINED
)

// authority is a CA for one test.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pool *x509.CertPool
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(1000 * time.Hour), IsCA: true,
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	a := &authority{cert: cert, key: key, pool: x509.NewCertPool()}
	a.pool.AddCert(cert)
	return a
}

func (a *authority) issue(t testing.TB, name *url.URL, server bool) tls.Certificate {
	t.Helper()
	return a.issueLasting(t, name, server, time.Hour)
}

func (a *authority) issueLasting(t testing.TB, name *url.URL, server bool, life time.Duration) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	usage := x509.ExtKeyUsageClientAuth
	if server {
		usage = x509.ExtKeyUsageServerAuth
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(life),
		URIs: []*url.URL{name}, DNSNames: []string{"hub"}, ExtKeyUsage: []x509.ExtKeyUsage{usage}, KeyUsage: x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func (a *authority) serverTLS(t testing.TB) *tls.Config {
	return &tls.Config{
		Certificates: []tls.Certificate{a.issue(t, identity.HubURI(), true)}, ClientCAs: a.pool, ClientAuth: tls.RequireAndVerifyClientCert,
		MinVersion: tls.VersionTLS13,
	}
}

func (a *authority) clientTLS(cert tls.Certificate) *tls.Config {
	return &tls.Config{Certificates: []tls.Certificate{cert}, RootCAs: a.pool, ServerName: "hub", MinVersion: tls.VersionTLS13}
}
