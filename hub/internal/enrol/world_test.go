package enrol

import (
	"context"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/hashinsight/hashinsight/hub/internal/audit"
	"github.com/hashinsight/hashinsight/hub/internal/facts"
	"github.com/hashinsight/hashinsight/hub/internal/peers"
	"github.com/hashinsight/hashinsight/hub/internal/pki"
	"github.com/hashinsight/hashinsight/hub/pgtest"
	"github.com/hashinsight/hashinsight/pkg/identity"
	enrolv1 "github.com/hashinsight/hashinsight/proto/enrol/v1"
)

const testPassword = "a password of the tests, long enough"

var operator = Actor{Name: "operator", ID: "5b1f7c1e-0000-4000-8000-000000000001", IP: "192.0.2.9"}

// clock is a time that a test moves.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

// office is a hub's side of enrolment over a real database.
type office struct {
	t     testing.TB
	db    *pgxpool.Pool
	clock *clock
	ca    *pki.Authority
	peers *peers.Store
	facts *facts.Store
	store *Store
	*Server
}

func newOffice(t testing.TB) *office {
	t.Helper()
	return openOffice(t, pgtest.New(t), &clock{at: time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)}, "10.8.0.0/16")
}

// openOffice is one hub process on a database.
func openOffice(t testing.TB, db *pgxpool.Pool, c *clock, network string) *office {
	t.Helper()
	o := &office{t: t, db: db, clock: c}
	record, err := audit.New(audit.Config{Pool: db, Now: c.now})
	o.must(err)
	o.ca, err = pki.Open(t.Context(), pki.Config{DB: db, Password: testPassword, Audit: record, Now: c.now})
	o.must(err)
	o.peers, err = peers.NewStore(peers.Config{
		DB: db, Password: testPassword, Network: netip.MustParsePrefix(network), Listen: "0.0.0.0:51820", Endpoint: "hub.example:51820", Audit: record, Now: c.now,
	})
	o.must(err)
	o.facts, err = facts.New(facts.Config{Pool: db, Audit: record, Password: testPassword, Now: c.now})
	o.must(err)
	o.store, err = New(Config{DB: db, CA: o.ca, Audit: record, Peers: o.peers, Facts: o.facts, Env: "dev", HubAddress: "hub.example:5443", FallbackAddress: "hub.example:443", Now: c.now})
	o.must(err)
	o.Server, err = NewServer(ServerConfig{Store: o.store})
	o.must(err)
	return o
}

func (o *office) must(err error) {
	o.t.Helper()
	if err != nil {
		o.t.Fatal(err)
	}
}

func (o *office) token(n NewToken) identity.Token {
	o.t.Helper()
	if n.SiteName == "" {
		n.SiteName = "north"
	}
	t, _, err := o.store.CreateToken(o.t.Context(), n, operator)
	o.must(err)
	return t
}

// count counts rows.
func (o *office) count(sql string, args ...any) (n int) {
	o.t.Helper()
	o.must(o.db.QueryRow(o.t.Context(), sql, args...).Scan(&n))
	return n
}

func (o *office) audited(action string) int {
	o.t.Helper()
	return o.count(`SELECT count(*) FROM audit_pending WHERE action = $1`, action) // nobody chains them here
}

// machine is a site's computer: its keys, and what a hub gave it.
type machine struct {
	t        testing.TB
	tls      *ecdsa.PrivateKey
	evidence ed25519.PrivateKey
	wg       *ecdh.PrivateKey
	request  []byte
	from     string
	bundle   identity.Bundle
	psk      []byte
	gen      []byte
}

func newMachine(t testing.TB) *machine {
	t.Helper()
	m := &machine{t: t, from: "203.0.113.7:40000"}
	var err1, err2, err3 error
	m.tls, err1 = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	_, m.evidence, err2 = ed25519.GenerateKey(rand.Reader)
	m.wg, err3 = ecdh.X25519().GenerateKey(rand.Reader)
	if err := errors.Join(err1, err2, err3); err != nil {
		t.Fatal(err)
	}
	m.sign()
	return m
}

// sign makes the request for the present keys.
func (m *machine) sign() {
	m.t.Helper()
	var err error
	if m.request, err = identity.NewRequest(m.tls, m.evidence); err != nil {
		m.t.Fatal(err)
	}
}

func (m *machine) fingerprint() string {
	m.t.Helper()
	r, err := identity.ParseRequest(m.request)
	if err != nil {
		m.t.Fatal(err)
	}
	return r.Fingerprint(m.wg.PublicKey().Bytes())
}

// ctx is the context of a call from the machine, as gRPC makes it; chain is the certificate shown.
func (m *machine) ctx(chain ...*x509.Certificate) context.Context {
	m.t.Helper()
	addr, err := net.ResolveTCPAddr("tcp", m.from)
	if err != nil {
		m.t.Fatal(err)
	}
	return peer.NewContext(m.t.Context(), &peer.Peer{Addr: addr, AuthInfo: credentials.TLSInfo{State: tls.ConnectionState{PeerCertificates: chain}}})
}

func (m *machine) begin(v *Server) *enrolv1.BeginResponse {
	m.t.Helper()
	b, err := v.Begin(m.ctx(), &enrolv1.BeginRequest{Protocol: 1})
	if err != nil {
		m.t.Fatal(err)
	}
	return b
}

// prove is the proof for the WireGuard key.
func (m *machine) prove(b *enrolv1.BeginResponse, key *ecdh.PrivateKey, bound []byte) *enrolv1.WireGuardKey {
	m.t.Helper()
	hub, err := ecdh.X25519().NewPublicKey(b.GetHubKey())
	if err != nil {
		m.t.Fatal(err)
	}
	pub := key.PublicKey().Bytes()
	proof, err := identity.WireGuardProof(key, hub, pub, b.GetChallenge(), bound)
	if err != nil {
		m.t.Fatal(err)
	}
	return &enrolv1.WireGuardKey{PublicKey: pub, Challenge: b.GetChallenge(), Proof: proof}
}

func (m *machine) enrolRequest(v *Server, token identity.Token) *enrolv1.EnrolRequest {
	m.t.Helper()
	return &enrolv1.EnrolRequest{
		Protocol: 1, AgentVersion: "1.2.3", Token: token.Reveal(), Request: m.request, Wireguard: m.prove(m.begin(v), m.wg, m.request),
	}
}

// join asks once, and takes what it is given.
func (m *machine) join(v *Server, token identity.Token) (pending *enrolv1.Pending, err error) {
	m.t.Helper()
	r, err := v.Enrol(m.ctx(), m.enrolRequest(v, token))
	if err != nil {
		return nil, err
	}
	if r.GetPending() != nil {
		return r.GetPending(), nil
	}
	m.take(r.GetGrant())
	return nil, nil
}

func (m *machine) mustJoin(v *Server, token identity.Token) {
	m.t.Helper()
	if p, err := m.join(v, token); err != nil || p != nil {
		m.t.Fatalf("joining: %v, pending %v", err, p)
	}
}

func (m *machine) take(g *enrolv1.Grant) {
	m.t.Helper()
	var err error
	if m.bundle, err = identity.ParseBundle(g.GetBundle()); err != nil {
		m.t.Fatal(err)
	}
	m.psk, m.gen = g.GetPresharedKey(), g.GetGeneration()
}

func wantReason(t testing.TB, err error, reason string) {
	t.Helper()
	st, ok := status.FromError(err)
	if err == nil || !ok || reasonOf(st) != reason {
		t.Errorf("got %v, want the reason %s", err, reason)
	}
}
