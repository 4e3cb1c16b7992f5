package pki_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/hashinsight/hashinsight/hub/internal/apperr"
	"github.com/hashinsight/hashinsight/hub/internal/pki"
	"github.com/hashinsight/hashinsight/hub/pgtest"
	"github.com/hashinsight/hashinsight/pkg/identity"
)

const password = "a password for tests, long enough to pass"

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

func newClock() *clock { return &clock{at: time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)} }

func authority(t *testing.T, db *pgxpool.Pool, c *clock) *pki.Authority {
	t.Helper()
	a, err := pki.Open(t.Context(), pki.Config{DB: db, Password: password, Names: []string{"127.0.0.1"}, Now: c.now})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// site is the agent's side: its keys.
type site struct {
	tls      *ecdsa.PrivateKey
	evidence ed25519.PrivateKey
}

func newSite(t *testing.T) site {
	t.Helper()
	k, err1 := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	_, e, err2 := ed25519.GenerateKey(rand.Reader)
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	return site{k, e}
}

func (s site) request(t *testing.T) identity.Request {
	t.Helper()
	file, err := identity.NewRequest(s.tls, s.evidence)
	if err != nil {
		t.Fatal(err)
	}
	r, err := identity.ParseRequest(file)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func (s site) register(t *testing.T, a *pki.Authority, name string) identity.Bundle {
	t.Helper()
	b, err := a.Register(t.Context(), pki.Registration{Name: name, Request: s.request(t), HubAddress: "127.0.0.1:5443"})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// serve runs a hub's gRPC listener and returns its address.
func serve(t *testing.T, a *pki.Authority) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer(grpc.Creds(credentials.NewTLS(a.ServerTLS())), grpc.UnaryInterceptor(func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
		p, _ := peer.FromContext(ctx)
		if _, err := a.Verify(ctx, p.AuthInfo.(credentials.TLSInfo).State.PeerCertificates); err != nil {
			return nil, err
		}
		return next(ctx, req)
	}))
	healthpb.RegisterHealthServer(s, health.NewServer())
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	t.Cleanup(func() { s.Stop(); <-done })
	return l.Addr().String()
}

func raw(chain []*x509.Certificate) (der [][]byte) {
	for _, c := range chain {
		der = append(der, c.Raw)
	}
	return der
}

// clientTLS is what an agent uses: its certificate, and the hub by CA and name.
func clientTLS(s site, b identity.Bundle, c *clock) *tls.Config {
	roots := x509.NewCertPool()
	roots.AddCert(b.CA[0])
	return &tls.Config{
		RootCAs: roots, Time: c.now, MinVersion: tls.VersionTLS13, NextProtos: []string{"h2"},
		Certificates:     []tls.Certificate{{Certificate: raw(b.Certificate), PrivateKey: s.tls}},
		VerifyConnection: func(cs tls.ConnectionState) error { return identity.CheckHub(cs.PeerCertificates[0]) },
	}
}

func call(t *testing.T, addr string, cfg *tls.Config) error {
	t.Helper()
	conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(credentials.NewTLS(cfg)))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	_, err = healthpb.NewHealthClient(conn).Check(ctx, &healthpb.HealthCheckRequest{})
	return err
}

func wantReason(t *testing.T, err error, reason string) {
	t.Helper()
	st := status.Convert(err)
	if st.Code() != codes.Unauthenticated {
		t.Fatalf("got %v, want Unauthenticated with %s", err, reason)
	}
	for _, d := range st.Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok && info.GetReason() == reason {
			return
		}
	}
	t.Fatalf("got %v with details %v, want reason %s", err, st.Details(), reason)
}

func TestARegisteredSiteIsLetIn(t *testing.T) {
	c := newClock()
	a := authority(t, pgtest.New(t), c)
	s := newSite(t)
	b := s.register(t, a, "north")
	if err := call(t, serve(t, a), clientTLS(s, b, c)); err != nil {
		t.Fatal(err)
	}
	if got, err := identity.SiteOf(b.Certificate[0]); err != nil || got != b.Site {
		t.Errorf("the certificate names %v, %v; want %v", got, err, b.Site)
	}
	// A day later the hub has replaced its own certificate, and a new connection finds it valid.
	addr := serve(t, a)
	for range 3 {
		c.advance(23 * time.Hour)
		if err := call(t, addr, clientTLS(s, b, c)); err != nil {
			t.Fatal(err)
		}
	}
	file, err := b.Encode()
	if err != nil {
		t.Fatal(err)
	}
	back, err := identity.ParseBundle(file)
	if err != nil || back.Site != b.Site || !back.HubEvidence[0].Equal(a.EvidencePublic()) {
		t.Errorf("the bundle's file gives %+v, %v", back, err)
	}
}

func TestCertificatesThatDoNotCount(t *testing.T) {
	c := newClock()
	a := authority(t, pgtest.New(t), c)
	other := authority(t, pgtest.New(t), c)
	addr := serve(t, a)
	s := newSite(t)
	b := s.register(t, a, "north")

	t.Run("of another hub", func(t *testing.T) {
		foreign := s.register(t, other, "north")
		cfg := clientTLS(s, b, c)
		cfg.Certificates[0].Certificate[0] = foreign.Certificate[0].Raw
		wantReason(t, call(t, addr, cfg), identity.ReasonCertUnknown)
	})
	t.Run("of no site", func(t *testing.T) {
		cfg := clientTLS(s, b, c)
		tmpl := &x509.Certificate{SerialNumber: b.CA[0].SerialNumber, NotAfter: c.now().Add(time.Hour)}
		der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, s.tls.Public(), s.tls)
		if err != nil {
			t.Fatal(err)
		}
		cfg.Certificates[0].Certificate[0] = der
		if err := call(t, addr, cfg); status.Code(err) != codes.Unavailable {
			t.Errorf("got %v, want a failed connection", err)
		}
	})
	t.Run("none", func(t *testing.T) {
		cfg := clientTLS(s, b, c)
		cfg.Certificates = nil
		wantReason(t, call(t, addr, cfg), identity.ReasonCertMissing)
	})
	t.Run("revoked, on a resumed session too", func(t *testing.T) {
		s := newSite(t)
		b := s.register(t, a, "south")
		cfg := clientTLS(s, b, c)
		cfg.ClientSessionCache = tls.NewLRUClientSessionCache(4)
		resumed := false
		verify := cfg.VerifyConnection
		cfg.VerifyConnection = func(cs tls.ConnectionState) error {
			resumed = resumed || cs.DidResume
			return verify(cs)
		}
		for range 2 {
			if err := call(t, addr, cfg); err != nil {
				t.Fatal(err)
			}
		}
		if !resumed {
			t.Error("the second connection did not resume the session: the test proves nothing")
		}
		if err := a.Revoke(t.Context(), b.Certificate[0], "stolen", "test"); err != nil {
			t.Fatal(err)
		}
		wantReason(t, call(t, addr, cfg), identity.ReasonCertRevoked)
	})
	t.Run("expired", func(t *testing.T) {
		c.advance(pki.DefaultSiteValidity + time.Second)
		wantReason(t, call(t, addr, clientTLS(s, b, c)), identity.ReasonCertExpired)
	})
}

func TestRegisteringAgain(t *testing.T) {
	c := newClock()
	a := authority(t, pgtest.New(t), c)
	s, thief := newSite(t), newSite(t)
	first := s.register(t, a, "north")
	c.advance(time.Hour)
	again := s.register(t, a, "north")
	if again.Site != first.Site || again.Certificate[0].Equal(first.Certificate[0]) {
		t.Errorf("the same site got id %v after %v", again.Site, first.Site)
	}
	if _, err := a.Verify(t.Context(), first.Certificate); err != nil {
		t.Errorf("the first certificate ended before the second reached the site: %v", err)
	}

	order := pki.Registration{Name: "north", Request: thief.request(t), HubAddress: "127.0.0.1:5443"}
	_, err := a.Register(t.Context(), order)
	var coded *apperr.Error
	if !errors.As(err, &coded) || coded.Code != "CONFLICT_001" || !strings.Contains(err.Error(), "--replace-key") {
		t.Fatalf("another key was answered with %v", err)
	}
	order.ReplaceKey = true
	replaced, err := a.Register(t.Context(), order)
	if err != nil || replaced.Site != first.Site {
		t.Fatalf("replacing the key: %v, site %v", err, replaced.Site)
	}
	_, err = a.Verify(t.Context(), again.Certificate)
	wantReason(t, err, identity.ReasonCertRevoked)
	order.Request = s.request(t)
	if _, err := a.Register(t.Context(), order); !errors.As(err, &coded) || coded.Code != "CONFLICT_001" {
		t.Errorf("a replaced key came back: %v", err)
	}
	order.Request, order.Name = thief.request(t), "south"
	if _, err := a.Register(t.Context(), order); !errors.As(err, &coded) || coded.Code != "CONFLICT_001" {
		t.Errorf("one key serves two sites: %v", err)
	}
	sites, err := a.Sites(t.Context())
	if err != nil || len(sites) != 1 || sites[0].Name != "north" || len(sites[0].Keys) != 1 {
		t.Errorf("the list of sites is %+v, %v", sites, err)
	}
}

func TestTheHubsKeys(t *testing.T) {
	c := newClock()
	db := pgtest.New(t)
	// Several hubs that start on an empty database end up with the same keys.
	as := make([]*pki.Authority, 4)
	var wg sync.WaitGroup
	for i := range as {
		wg.Go(func() {
			a, err := pki.Open(t.Context(), pki.Config{DB: db, Password: password, Now: c.now})
			if err != nil {
				t.Error(err)
				return
			}
			as[i] = a
		})
	}
	wg.Wait()
	for _, a := range as {
		if a == nil || !a.EvidenceKey().Equal(as[0].EvidenceKey()) || !a.Roots()[0].Equal(as[0].Roots()[0]) {
			t.Fatal("two hubs on one database have different keys")
		}
	}
	var sealed []byte
	if err := db.QueryRow(t.Context(), `SELECT sealed FROM hub_secret WHERE name = 'evidence'`).Scan(&sealed); err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(sealed, as[0].EvidenceKey().Seed()) {
		t.Error("the database holds the private key in clear")
	}
	var coded *apperr.Error
	_, err := pki.Open(t.Context(), pki.Config{DB: db, Password: password + "!", Now: c.now})
	if !errors.As(err, &coded) || coded.Code != "ENCRYPTION_001" || strings.Contains(err.Error(), password) {
		t.Errorf("a wrong password was answered with %v", err)
	}
	// A row put in another's place does not open.
	if _, err := db.Exec(t.Context(), `UPDATE hub_secret SET sealed = (SELECT sealed FROM hub_secret WHERE name = 'authorities') WHERE name = 'evidence'`); err != nil {
		t.Fatal(err)
	}
	if _, err := pki.Open(t.Context(), pki.Config{DB: db, Password: password, Now: c.now}); err == nil {
		t.Error("the hub took one secret for another")
	}
}

// A second implementation reads the certificates as we do.
func TestOpenSSLAgrees(t *testing.T) {
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		t.Skip("openssl is not installed")
	}
	c := newClock()
	a := authority(t, pgtest.New(t), c)
	b := newSite(t).register(t, a, "north")
	dir := t.TempDir()
	ca, leaf := filepath.Join(dir, "ca.pem"), filepath.Join(dir, "site.pem")
	err = errors.Join(
		os.WriteFile(ca, []byte(identity.EncodeCertificates(b.CA)), 0o600),
		os.WriteFile(leaf, []byte(identity.EncodeCertificates(b.Certificate)), 0o600),
	)
	if err != nil {
		t.Fatal(err)
	}
	at := []string{"-attime", "1795442400"} // 2026-11-23 14:00 UTC
	out, err := exec.Command(openssl, append([]string{"verify", "-x509_strict", "-purpose", "sslclient", "-CAfile", ca, "-untrusted", leaf}, append(at, leaf)...)...).CombinedOutput()
	if err != nil {
		t.Errorf("openssl refuses the site's certificate: %s", out)
	}
	out, err = exec.Command(openssl, append([]string{"verify", "-x509_strict", "-purpose", "sslserver", "-CAfile", ca, "-untrusted", leaf}, append(at, leaf)...)...).CombinedOutput()
	if err == nil {
		t.Errorf("openssl takes the site's certificate for a server's: %s", out)
	}
	out, err = exec.Command(openssl, "x509", "-noout", "-text", "-in", leaf).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "URI:hsi://site/"+b.Site.String()) {
		t.Errorf("openssl does not see the name: %v %s", err, out)
	}
}
