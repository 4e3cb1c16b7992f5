package hubd_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	"github.com/hashinsight/hashinsight/hub/hubd"
	"github.com/hashinsight/hashinsight/hub/internal/pg"
	"github.com/hashinsight/hashinsight/hub/internal/pki"
	"github.com/hashinsight/hashinsight/hub/pgtest"
	"github.com/hashinsight/hashinsight/pkg/bench"
	"github.com/hashinsight/hashinsight/pkg/ident"
	"github.com/hashinsight/hashinsight/pkg/identity"
	telemetryv1 "github.com/hashinsight/hashinsight/proto/telemetry/v1"
)

// live is an open stream of a site.
type live struct {
	site   ident.SiteID
	tls    *tls.Config
	spool  ident.SpoolID
	stream grpc.BidiStreamingClient[telemetryv1.StreamRequest, telemetryv1.StreamResponse]
	conn   *grpc.ClientConn
}

// open begins a stream at a hub and waits for its Welcome.
func open(ctx context.Context, cfg *tls.Config, spool ident.SpoolID, addr string) (*live, error) {
	conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(credentials.NewTLS(cfg)))
	if err != nil {
		return nil, err
	}
	l := &live{tls: cfg, spool: spool, conn: conn}
	if l.stream, err = telemetryv1.NewTelemetryServiceClient(conn).Stream(ctx); err == nil {
		err = l.stream.Send(&telemetryv1.StreamRequest{Message: &telemetryv1.StreamRequest_Hello{Hello: &telemetryv1.Hello{
			Protocol: 1, SpoolId: spool[:], AgentVersion: "test", AgentTimeMs: time.Now().UnixMilli(), PollIntervalMs: 10_000,
		}}})
	}
	if err == nil || err.Error() == "EOF" { // a refused stream tells why at its first read
		_, err = l.stream.Recv()
	}
	if err != nil {
		_ = conn.Close() // the first error is the one to tell
		return nil, err
	}
	return l, nil
}

// end waits for the stream's end and returns its status.
func (l *live) end() error {
	for {
		if _, err := l.stream.Recv(); err != nil {
			_ = l.conn.Close() // it has ended
			return err
		}
	}
}

func reasonOf(err error) string {
	for _, d := range status.Convert(err).Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok {
			return info.GetReason()
		}
	}
	return ""
}

// authorityOf opens the certificate authority of a hub's database, as another process would.
func authorityOf(t *testing.T, c hubd.Config) (*pki.Authority, *pgxpool.Pool) {
	t.Helper()
	pc, err := pg.PoolConfig(c.DatabaseURL)
	if err != nil {
		t.Fatal(err)
	}
	pool, err := pgxpool.NewWithConfig(t.Context(), pc)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	a, err := pki.Open(t.Context(), pki.Config{DB: pool, Password: c.EncryptionPassword})
	if err != nil {
		t.Fatal(err)
	}
	return a, pool
}

// Two hub processes with a stream each; a third process revokes one site. Its stream ends with a reason at whichever hub it is, on no hub is it let in
// again, not on a resumed session either, and the other site's stream lives.
func TestRevocationEndsALiveStreamAndKeepsTheSiteOut(t *testing.T) {
	c := config(pgtest.URL(t))
	a, b := start(t, c), start(t, c)
	awaitReady(t, a)
	awaitReady(t, b)
	addrs := []string{a.GRPCAddr().String(), b.GRPCAddr().String()}
	var streams []*live
	for i, name := range []string{"north", "south", "west"} {
		cfg, bundle := site(t, c, name, addrs[0])
		cfg.ClientSessionCache = tls.NewLRUClientSessionCache(8)
		spool := ident.NewSpoolID()
		for range 2 { // the second connection resumes the session of the first
			l, err := open(t.Context(), cfg, spool, addrs[i%2])
			if err != nil {
				t.Fatal(err)
			}
			l.site = bundle.Site
			if len(streams) > i {
				streams[i] = l // which has taken over
			} else {
				streams = append(streams, l)
			}
		}
	}
	for i, l := range streams[:2] {
		begin := time.Now()
		if err := hubd.CARevoke(t.Context(), c.Database, "", l.site.String(), "sold"); err != nil {
			t.Fatal(err)
		}
		err := l.end()
		if status.Code(err) != codes.PermissionDenied || reasonOf(err) != identity.ReasonSiteRevoked || !strings.Contains(err.Error(), "sold") {
			t.Errorf("the stream ended with %v (%s)", err, reasonOf(err))
		}
		t.Logf("stream %d ended %v after the command began", i, time.Since(begin))
		resumed := false
		check := l.tls.VerifyConnection
		l.tls.VerifyConnection = func(cs tls.ConnectionState) error {
			resumed = resumed || cs.DidResume
			return check(cs)
		}
		for n := range addrs { // its own hub first, which gave it the session
			addr := addrs[(i+n)%len(addrs)]
			if _, err := open(t.Context(), l.tls, l.spool, addr); reasonOf(err) != identity.ReasonCertRevoked {
				t.Errorf("coming back the site is answered %v", err)
			}
		}
		if !resumed {
			t.Error("no session was resumed: the test proves less than it says")
		}
	}
	if err := streams[2].stream.Context().Err(); err != nil {
		t.Errorf("another site's stream ended: %v", err)
	}
	// Without a certificate: the handshake succeeds, the call is refused with a reason.
	cfg := streams[2].tls.Clone()
	cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &tls.Certificate{}, nil }
	cfg.ClientSessionCache = nil
	if _, err := open(t.Context(), cfg, ident.NewSpoolID(), addrs[0]); reasonOf(err) != identity.ReasonCertMissing {
		t.Errorf("a caller without certificate is answered %v", err)
	}

	// What others need to see it is served without a key.
	for path, content := range map[string]string{"/pki/roots.pem": "application/x-pem-file", "/pki/ca.crl": "application/pkix-crl"} {
		code, header, body := get(t, http.DefaultClient, "http://"+b.WebAddr().String()+path, "")
		if code != 200 || header.Get("Content-Type") != content {
			t.Errorf("%s: %d %s", path, code, header.Get("Content-Type"))
		}
		if path == "/pki/ca.crl" {
			list, err := x509.ParseRevocationList([]byte(body))
			if err != nil || len(list.RevokedCertificateEntries) != 2 {
				t.Errorf("the list: %+v %v", list, err)
			}
		}
	}
	if code, _, _ := get(t, http.DefaultClient, "http://"+b.WebAddr().String()+"/pki/ocsp/AA==", ""); code != 200 {
		t.Errorf("OCSP answers %d", code)
	}
}

// One certificate of a site is revoked: only a stream that uses it ends.
func TestARevokedCertificateThatIsNotInUseEndsNothing(t *testing.T) {
	c := config(pgtest.URL(t))
	h := start(t, c)
	awaitReady(t, h)
	a, _ := authorityOf(t, c)
	addr := h.GRPCAddr().String()
	cfg, bundle := site(t, c, "north", addr)
	l, err := open(t.Context(), cfg, ident.NewSpoolID(), addr)
	if err != nil {
		t.Fatal(err)
	}
	other, unused := site(t, c, "south", addr)
	idle, err := open(t.Context(), other, ident.NewSpoolID(), addr)
	if err != nil {
		t.Fatal(err)
	}
	// Another certificate of the same site, as the command makes it when asked again.
	again := bundle.Certificate[0]
	revokeSecond(t, c, bundle.Site, again)
	if err := a.Revoke(t.Context(), unused.Certificate[0], "test", "test"); err != nil {
		t.Fatal(err)
	}
	if err := idle.end(); reasonOf(err) != identity.ReasonCertRevoked { // and so the one before was passed on too
		t.Errorf("the stream with the revoked certificate ended with %v", err)
	}
	if err := l.stream.Context().Err(); err != nil {
		t.Errorf("the stream with the other certificate ended: %v", err)
	}
}

// revokeSecond records a second certificate of a site and revokes it.
func revokeSecond(t *testing.T, c hubd.Config, site ident.SiteID, like *x509.Certificate) {
	t.Helper()
	_, pool := authorityOf(t, c)
	_, err1 := pool.Exec(t.Context(), `
INSERT INTO certificate (serial, site_id, der, not_before, not_after, issued_at, issuer) SELECT substr(sha256(serial), 1, 16), site_id, der, not_before, not_after, issued_at, issuer
FROM certificate WHERE site_id = $1`, site)
	tag, err2 := pool.Exec(t.Context(), `UPDATE certificate SET revoked_at = not_before, revoked_why = 'unused', revoked_xid = pg_current_xact_id() WHERE serial = substr(sha256($1), 1, 16)`,
		like.SerialNumber.FillBytes(make([]byte, 16)))
	if err := errors.Join(err1, err2); err != nil || tag.RowsAffected() != 1 {
		t.Fatal(err, tag)
	}
}

// N4: from the order to revoke a site to the end of its stream at the hub, with the database's notice and without.
func TestBenchRevocation(t *testing.T) {
	path := os.Getenv(bench.FileVariable)
	if path == "" {
		t.Skip("only with " + bench.FileVariable)
	}
	const sites = 200
	measure := func(lost bool, n int) (took []float64, accepted int) {
		c := config(pgtest.URL(t))
		c.PoolSize, c.PoolOverflow = 2, 18
		if lost {
			c.Now = func() time.Time { return time.Now() } // a hub with a clock of the caller's asks instead of listening
		}
		h := start(t, c)
		awaitReady(t, h)
		addr := h.GRPCAddr().String()
		a, pool := authorityOf(t, c)
		var streams []*live
		for i := range n {
			cfg, bundle := site(t, c, fmt.Sprintf("site %d", i), addr)
			l, err := open(t.Context(), cfg, ident.NewSpoolID(), addr)
			if err != nil {
				t.Fatal(err)
			}
			l.site = bundle.Site
			streams = append(streams, l)
		}
		took = make([]float64, n)
		var mu sync.Mutex
		var all sync.WaitGroup
		for i, l := range streams {
			begin := make(chan time.Time, 1)
			all.Go(func() {
				_ = l.end()
				at := time.Now()
				mu.Lock()
				took[i] = float64(at.Sub(<-begin).Microseconds()) / 1000
				mu.Unlock()
				if again, err := open(t.Context(), l.tls, l.spool, addr); err == nil {
					_ = again.conn.Close() // counted as what must not be
					mu.Lock()
					accepted++
					mu.Unlock()
				}
			})
			begin <- time.Now()
			if err := pg.InTx(t.Context(), pool, func(tx pgx.Tx) error { return a.RevokeSite(t.Context(), tx, l.site, "bench", "bench") }); err != nil {
				t.Fatal(err)
			}
			<-time.After(time.Duration(i*7%13) * 10 * time.Millisecond) // at any moment between two polls
		}
		all.Wait()
		return took, accepted
	}
	notice, a1 := measure(false, sites)
	polled, a2 := measure(true, sites/2)
	p99 := func(v []float64) float64 {
		s := slices.Sorted(slices.Values(v))
		return s[(len(s)*99+99)/100-1]
	}
	for _, r := range []bench.Result{
		{ID: "N4", What: fmt.Sprintf("revoke → stream ended, p99 of %d sites one after another, %d reconnects accepted", sites, a1), Floor: 1000, Value: p99(notice), Target: "≤ 1 s p99, 0 reconnects accepted", Samples: map[string][]float64{"ms": notice}, Met: p99(notice) <= 1000 && a1 == 0},
		{ID: "N4b", What: fmt.Sprintf("the same with every NOTIFY lost, longest of %d sites, %d reconnects accepted", sites/2, a2), Floor: 5000, Value: slices.Max(polled), Target: "≤ 5 s, 0 reconnects accepted", Samples: map[string][]float64{"ms": polled}, Met: slices.Max(polled) <= 5000 && a2 == 0},
	} {
		r.Unit, r.Ratio = "ms", r.Value/r.Floor
		if err := bench.Record(r); err != nil {
			t.Error(err)
		}
	}
}
