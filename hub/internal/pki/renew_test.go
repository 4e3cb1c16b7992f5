package pki_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/hashinsight/hashinsight/hub/internal/fleet"
	"github.com/hashinsight/hashinsight/hub/internal/pg"
	"github.com/hashinsight/hashinsight/hub/internal/pki"
	"github.com/hashinsight/hashinsight/hub/pgtest"
	"github.com/hashinsight/hashinsight/pkg/ident"
	"github.com/hashinsight/hashinsight/pkg/identity"
)

// world is a certificate authority with its database and clock.
type world struct {
	t     *testing.T
	db    *pgxpool.Pool
	clock *clock
	a     *pki.Authority
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, db: pgtest.New(t), clock: newClock()}
	w.a = authority(t, w.db, w.clock)
	return w
}

// enrolled is a site that has joined.
type enrolled struct {
	site
	id    ident.SiteID
	chain []*x509.Certificate
}

func csrOf(t *testing.T, key *ecdsa.PrivateKey) *x509.CertificateRequest {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "hub"}, DNSNames: []string{"hub.example"}}, key)
	if err != nil {
		t.Fatal(err)
	}
	csr, err := x509.ParseCertificateRequest(der)
	if err != nil {
		t.Fatal(err)
	}
	return csr
}

// join records a site and gives it its first certificate, as package enrol does.
func (w *world) join(name string) *enrolled {
	w.t.Helper()
	e := &enrolled{site: newSite(w.t), id: ident.NewSiteID()}
	err := w.tx(func(tx pgx.Tx) (err error) {
		err = fleet.RegisterSite(w.t.Context(), tx, fleet.Registration{Site: e.id, Name: name, Key: e.request(w.t).Evidence, At: w.clock.now()})
		if err != nil {
			return err
		}
		e.chain, err = w.a.IssueSite(w.t.Context(), tx, e.id, csrOf(w.t, e.tls), 0)
		return err
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return e
}

func (w *world) tx(f func(tx pgx.Tx) error) error { return pg.InTx(w.t.Context(), w.db, f) }

func (w *world) verify(chain []*x509.Certificate) error {
	_, err := w.a.Verify(w.t.Context(), chain)
	return err
}

func (w *world) want(chain []*x509.Certificate) {
	w.t.Helper()
	if err := w.verify(chain); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) recover(e *enrolled) (chain []*x509.Certificate, err error) {
	err = w.tx(func(tx pgx.Tx) error {
		chain, err = w.a.Recover(w.t.Context(), tx, e.id, csrOf(w.t, e.tls))
		return err
	})
	return chain, err
}

func (w *world) revoke(e *enrolled, why string) {
	w.t.Helper()
	if err := w.tx(func(tx pgx.Tx) error { return w.a.RevokeSite(w.t.Context(), tx, e.id, why, "test") }); err != nil {
		w.t.Fatal(err)
	}
}

func TestASiteCertificateIsMadeByTheHubAlone(t *testing.T) {
	w := newWorld(t)
	e := w.join("north")
	leaf := e.chain[0]
	if len(e.chain) != 2 || leaf.NotAfter.Sub(w.clock.now()) != pki.AgentValidity {
		t.Fatalf("a chain of %d, until %v", len(e.chain), leaf.NotAfter)
	}
	if leaf.Subject.CommonName != "" || len(leaf.DNSNames) > 0 {
		t.Errorf("names of the request are in the certificate: %v %v", leaf.Subject, leaf.DNSNames)
	}
	if got, err := identity.SiteOf(leaf); err != nil || got != e.id {
		t.Errorf("the certificate names %v, %v", got, err)
	}
	w.want(e.chain)

	weak := func(key any) *x509.CertificateRequest {
		der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
		if err != nil {
			t.Fatal(err)
		}
		csr, err := x509.ParseCertificateRequest(der)
		if err != nil {
			t.Fatal(err)
		}
		return csr
	}
	p224, err1 := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	r1024, err2 := rsa.GenerateKey(rand.Reader, 1024)
	if err := errors.Join(err1, err2); err != nil {
		t.Skip("weak keys cannot even be made here:", err)
	}
	for name, csr := range map[string]*x509.CertificateRequest{"P-224": weak(p224), "RSA 1024": weak(r1024)} {
		err := w.tx(func(tx pgx.Tx) error { _, err := w.a.IssueSite(t.Context(), tx, e.id, csr, 0); return err })
		if !errors.Is(err, pki.ErrWeakKey) {
			t.Errorf("%s: %v", name, err)
		}
	}
	tampered := csrOf(t, e.tls)
	tampered.Signature[len(tampered.Signature)-1] ^= 1
	if err := w.tx(func(tx pgx.Tx) error { _, err := w.a.IssueSite(t.Context(), tx, e.id, tampered, 0); return err }); err == nil {
		t.Error("a request that its key did not sign is taken")
	}
	if err := w.tx(func(tx pgx.Tx) error {
		_, err := w.a.IssueSite(t.Context(), tx, ident.NewSiteID(), csrOf(t, e.tls), 0)
		return err
	}); !errors.Is(err, pki.ErrNoSuchSite) {
		t.Errorf("an unknown site: %v", err)
	}
}

func TestRenewalHandsOver(t *testing.T) {
	w := newWorld(t)
	e := w.join("north")
	w.want(e.chain)
	if _, err := w.a.Renew(t.Context(), e.chain[0], csrOf(t, e.tls)); !errors.Is(err, pki.ErrTooEarly) {
		t.Fatalf("renewal of a fresh certificate: %v", err)
	}
	w.clock.advance(11 * time.Hour)
	next, err := w.a.Renew(t.Context(), e.chain[0], csrOf(t, e.tls))
	if err != nil {
		t.Fatal(err)
	}
	// The answer may have been lost: asking again gives the same, not another.
	again, err := w.a.Renew(t.Context(), e.chain[0], csrOf(t, e.tls))
	if err != nil || !again[0].Equal(next[0]) {
		t.Fatalf("asked again the hub gave another certificate, %v", err)
	}
	w.want(e.chain) // until the next one is used, the present one counts
	w.want(next)
	err = w.verify(e.chain)
	wantReason(t, err, identity.ReasonCertSuperseded)
	w.want(next)
	if n := w.count(`SELECT count(*) FROM certificate WHERE revoked_at IS NOT NULL`); n != 0 {
		t.Errorf("a connection that was still open with the old certificate was taken for a copied key")
	}
	// Long after the hand-over nobody honest has it any more.
	w.clock.advance(6 * time.Minute)
	wantReason(t, w.verify(e.chain), identity.ReasonCertSuperseded)
	wantReason(t, w.verify(e.chain), identity.ReasonCertRevoked)
	if n := w.count(`SELECT count(*) FROM certificate WHERE revoked_why LIKE '%copied%'`); n != 1 {
		t.Errorf("%d certificates are marked as copied", n)
	}
	w.want(next)
}

func (w *world) count(sql string) (n int) {
	w.t.Helper()
	if err := w.db.QueryRow(w.t.Context(), sql).Scan(&n); err != nil {
		w.t.Fatal(err)
	}
	return n
}

// A thief who renews first takes the place of the site, until the site comes back: then both are known to have one key.
func TestAThiefWhoRenewsFirstIsFound(t *testing.T) {
	w := newWorld(t)
	e := w.join("north")
	w.want(e.chain)
	w.clock.advance(12 * time.Hour)
	thief, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	stolen, err := w.a.Renew(t.Context(), e.chain[0], csrOf(t, thief))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.a.Renew(t.Context(), e.chain[0], csrOf(t, e.tls)); !errors.Is(err, pki.ErrTooOften) {
		t.Errorf("two keys took turns: %v", err)
	}
	w.want(stolen)
	w.clock.advance(time.Hour)
	if _, err := w.a.Renew(t.Context(), e.chain[0], csrOf(t, e.tls)); err == nil {
		t.Fatal("a superseded certificate was renewed")
	}
	if n := w.count(`SELECT count(*) FROM certificate WHERE revoked_why LIKE '%copied%'`); n != 1 {
		t.Errorf("%d certificates are marked as copied", n)
	}
	// The site proves itself by its registered keys; the thief's certificate ends at the first use.
	back, err := w.recover(e)
	if err != nil {
		t.Fatal(err)
	}
	w.want(back)
	wantReason(t, w.verify(stolen), identity.ReasonCertSuperseded)
}

func TestAnUnusedCertificateGivesWayToAnotherKey(t *testing.T) {
	w := newWorld(t)
	e := w.join("north")
	w.want(e.chain)
	w.clock.advance(12 * time.Hour)
	first, err := w.a.Renew(t.Context(), e.chain[0], csrOf(t, e.tls))
	if err != nil {
		t.Fatal(err)
	}
	w.clock.advance(2 * time.Minute)
	second, err := w.a.Renew(t.Context(), e.chain[0], csrOf(t, newSite(t).tls))
	if err != nil {
		t.Fatal(err)
	}
	wantReason(t, w.verify(first), identity.ReasonCertRevoked)
	w.want(second)
}

func TestRecoveryIsCounted(t *testing.T) {
	w := newWorld(t)
	e := w.join("north")
	w.want(e.chain)
	dark := func() error {
		t.Helper()
		w.clock.advance(26 * time.Hour)
		wantReason(t, w.verify(e.chain), identity.ReasonCertExpired)
		chain, err := w.recover(e)
		if err != nil {
			return err
		}
		again, err := w.recover(e)
		if err != nil || !again[0].Equal(chain[0]) {
			t.Fatalf("asked again before it was used: %v", err)
		}
		e.chain = chain
		w.want(e.chain)
		return nil
	}
	for range 3 {
		if err := dark(); err != nil {
			t.Fatal(err)
		}
	}
	if err := dark(); !errors.Is(err, pki.ErrCounted) || !strings.Contains(err.Error(), "ca allow-recovery "+e.id.String()) {
		t.Fatalf("the fourth recovery within a month: %v", err)
	}
	if err := w.a.AllowRecovery(t.Context(), e.id, "test"); err != nil {
		t.Fatal(err)
	}
	if err := dark(); err != nil {
		t.Fatal(err)
	}
	if err := dark(); !errors.Is(err, pki.ErrCounted) {
		t.Fatalf("one allowance was used twice: %v", err)
	}
	w.clock.advance(30 * 24 * time.Hour)
	if err := dark(); err != nil {
		t.Errorf("a month later: %v", err)
	}
}

func TestARevokedSiteComesBackByEnrolmentOnly(t *testing.T) {
	w := newWorld(t)
	e := w.join("north")
	w.want(e.chain)
	w.clock.advance(12 * time.Hour)
	pending, err := w.a.Renew(t.Context(), e.chain[0], csrOf(t, e.tls))
	if err != nil {
		t.Fatal(err)
	}
	w.revoke(e, "sold")
	for _, chain := range [][]*x509.Certificate{e.chain, pending} {
		err := w.verify(chain)
		wantReason(t, err, identity.ReasonCertRevoked)
		if !strings.Contains(err.Error(), "sold") {
			t.Errorf("the agent is not told why: %v", err)
		}
		if _, err := w.a.Renew(t.Context(), chain[0], csrOf(t, e.tls)); err == nil {
			t.Error("a revoked site renewed")
		}
	}
	if _, err := w.recover(e); !errors.Is(err, pki.ErrRevoked) {
		t.Fatalf("a revoked site recovered: %v", err)
	}
	if err := w.tx(func(tx pgx.Tx) (err error) {
		e.chain, err = w.a.IssueSite(t.Context(), tx, e.id, csrOf(t, e.tls), 0)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	w.want(e.chain)
	wantReason(t, w.verify(pending), identity.ReasonCertRevoked)
	w.clock.advance(48 * time.Hour)
	if _, err := w.recover(e); err != nil {
		t.Errorf("a site that was enrolled anew cannot recover: %v", err)
	}
}

// Renewal and revocation at the same moment: whatever the order, nothing that counts is left.
func TestRevocationLeavesNoGap(t *testing.T) {
	w := newWorld(t)
	for range 10 {
		e := w.join("site " + ident.NewSiteID().String())
		w.want(e.chain)
		w.clock.advance(12 * time.Hour)
		var got []*x509.Certificate
		var both sync.WaitGroup
		both.Go(func() { got, _ = w.a.Renew(t.Context(), e.chain[0], csrOf(t, e.tls)) }) // refused when it came second
		both.Go(func() { w.revoke(e, "sold") })
		both.Wait()
		if got != nil {
			wantReason(t, w.verify(got), identity.ReasonCertRevoked)
		}
		wantReason(t, w.verify(e.chain), identity.ReasonCertRevoked)
	}
}

func TestCertificatesWithForeignNames(t *testing.T) {
	w := newWorld(t)
	e, other := w.join("north"), w.join("south")
	for name, uris := range map[string][]*url.URL{
		"none": nil, "two": {identity.SiteURI(e.id), identity.SiteURI(other.id)}, "the hub's": {identity.HubURI()}, "malformed": {{Scheme: "hsi", Host: "site", Path: "/x"}},
	} {
		leaf := *e.chain[0]
		leaf.URIs = uris
		err := w.verify([]*x509.Certificate{&leaf})
		wantReason(t, err, identity.ReasonCertUnknown)
		t.Log(name, err)
	}
	// A serial number that is stored for one site does not help another.
	if _, err := w.db.Exec(t.Context(), `UPDATE certificate SET site_id = $1 WHERE serial = $2`, other.id, e.chain[0].SerialNumber.FillBytes(make([]byte, 16))); err != nil {
		t.Fatal(err)
	}
	wantReason(t, w.verify(e.chain), identity.ReasonCertUnknown)
	// Not valid yet: the hub's clock is far behind.
	w.clock.advance(-time.Hour)
	wantReason(t, w.verify(other.chain), identity.ReasonCertExpired)
}
