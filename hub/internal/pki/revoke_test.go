package pki_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"

	"github.com/hashinsight/hashinsight/hub/internal/pki"
	"github.com/hashinsight/hashinsight/pkg/ident"
	"github.com/hashinsight/hashinsight/pkg/identity"
)

// watch collects what an authority's Watch tells, until the test ends.
func watch(t *testing.T, a *pki.Authority) <-chan ident.SiteID {
	t.Helper()
	told := make(chan ident.SiteID, 100)
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- a.Watch(ctx, func(e pki.Ended) { told <- e.Site }) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Watch ended with %v", err)
		}
	})
	return told
}

func wantTold(t *testing.T, told <-chan ident.SiteID, want ident.SiteID) time.Duration {
	t.Helper()
	const within = 30 * time.Second // bounds a failure; how soon sites are told is measured in package hubd
	begin := time.Now()
	select {
	case got := <-told:
		if got != want {
			t.Fatalf("told of site %s, want %s", got, want)
		}
		return time.Since(begin)
	case <-time.After(within):
		t.Fatalf("not told of the revocation within %v", within)
		return 0
	}
}

// Two hub processes on one database: one revokes, the other is told. Both by notice and, with notices lost, by asking.
func TestRevocationReachesOtherHubs(t *testing.T) {
	for name, pollOnly := range map[string]bool{"by notice": false, "with the notice lost": true} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			config := pki.Config{DB: w.db, Password: password, PollOnly: pollOnly, Now: w.clock.now}
			if !pollOnly {
				config.Poll = time.Hour // only a notice can bring it
			}
			other, err := pki.Open(t.Context(), config)
			if err != nil {
				t.Fatal(err)
			}
			told := watch(t, other)
			// Once a first revocation has arrived, the other hub listens.
			first := w.join("first")
			w.revoke(first, "test")
			wantTold(t, told, first.id)
			e := w.join("north")
			w.want(e.chain)
			w.revoke(e, "stolen")
			took := wantTold(t, told, e.id)
			if why, revoked := other.Revoked(e.chain[0]); !revoked || why != "stolen" {
				t.Errorf("the other hub remembers %v %q", revoked, why)
			}
			t.Logf("told after %v", took)
			// Revoked by an earlier version of the hub, which gives no notice: refused at the next call all the same.
			old := w.join("old")
			if _, err := w.db.Exec(t.Context(), `UPDATE certificate SET revoked_at = $2, revoked_why = 'by hand' WHERE site_id = $1`, old.id, w.clock.now()); err != nil {
				t.Fatal(err)
			}
			_, err = other.Verify(t.Context(), old.chain)
			wantReason(t, err, identity.ReasonCertRevoked)
			w.clock.advance(11 * time.Minute) // all are read again, and its streams end
			if pollOnly {
				wantTold(t, told, old.id)
			}
		})
	}
}

func TestRevocationListAndOpenSSL(t *testing.T) {
	w := newWorld(t)
	e, dead := w.join("north"), w.join("south")
	if err := w.a.Revoke(t.Context(), dead.chain[0], "stolen", "test"); err != nil {
		t.Fatal(err)
	}
	again := authority(t, w.db, w.clock)
	der, err := again.CRL(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	list, err := pki.ParseCRL(der, e.chain[1], w.clock.now())
	if err != nil || len(list.RevokedCertificateEntries) != 1 || list.RevokedCertificateEntries[0].SerialNumber.Cmp(dead.chain[0].SerialNumber) != 0 {
		t.Fatalf("the list has %+v, %v", list, err)
	}
	// Reading alone takes tampered bytes; the signature does not.
	tampered := bytes.Clone(der)
	i := bytes.Index(tampered, dead.chain[0].SerialNumber.Bytes())
	tampered[i+3] ^= 1
	if _, err := x509.ParseRevocationList(tampered); err != nil {
		t.Fatalf("the test proves nothing: %v", err)
	}
	if _, err := pki.ParseCRL(tampered, e.chain[1], w.clock.now()); err == nil {
		t.Error("a list that was tampered with is taken")
	}
	if _, err := pki.ParseCRL(der, e.chain[1], w.clock.now().Add(2*time.Hour)); err == nil {
		t.Error("a list that has ended is taken")
	}
	w.clock.advance(2 * time.Hour)
	if _, err := again.CRL(t.Context()); err == nil {
		t.Error("a hub that has not seen its database for two hours vouches for what is revoked")
	}
	w.clock.advance(-2 * time.Hour)

	openssl := opensslPath(t)
	dir := t.TempDir()
	file := func(name string, b []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	root := file("root.pem", []byte(identity.EncodeCertificates(w.a.Roots())))
	inter := file("inter.pem", []byte(identity.EncodeCertificates(e.chain[1:])))
	crl := file("crl.der", der)
	at := strconv.FormatInt(w.clock.now().Unix(), 10)
	if out, err := exec.Command(openssl, "crl", "-inform", "DER", "-in", crl, "-out", crl+".pem", "-CAfile", inter, "-verify").CombinedOutput(); err != nil || !strings.Contains(string(out), "verify OK") {
		t.Fatalf("openssl crl: %v %s", err, out)
	}
	for name, c := range map[string]struct {
		e    *enrolled
		want string
	}{"good": {e, ": OK"}, "revoked": {dead, "certificate revoked"}} {
		leaf := file(name+".pem", []byte(identity.EncodeCertificates(c.e.chain[:1])))
		out, _ := exec.Command(openssl, "verify", "-x509_strict", "-crl_check", "-attime", at, "-CAfile", root, "-untrusted", inter, "-CRLfile", crl+".pem", leaf).CombinedOutput()
		if !strings.Contains(string(out), c.want) {
			t.Errorf("%s: openssl verify says %s", name, out)
		}
	}

	// OCSP, asked by openssl over HTTP.
	srv := httptest.NewServer(again.Handler())
	defer srv.Close()
	for name, want := range map[string]string{"good": ": good", "revoked": ": revoked"} {
		out, err := exec.Command(openssl, "ocsp", "-issuer", inter, "-cert", filepath.Join(dir, name+".pem"), "-url", srv.URL+"/pki/ocsp", "-CAfile", root, "-verify_other", inter,
			"-no_nonce", "-validity_period", "100000000", "-attime", at).CombinedOutput()
		if err != nil || !strings.Contains(string(out), want) || !strings.Contains(string(out), "Response verify OK") {
			t.Errorf("%s: openssl ocsp says %v %s", name, err, out)
		}
	}
}

func opensslPath(t *testing.T) string {
	t.Helper()
	path, err := exec.LookPath("openssl")
	if err != nil {
		t.Skip("openssl is not installed")
	}
	return path
}

func TestOCSPAnswers(t *testing.T) {
	w := newWorld(t)
	e, dead := w.join("north"), w.join("south")
	if err := w.a.Revoke(t.Context(), dead.chain[0], "stolen", "test"); err != nil {
		t.Fatal(err)
	}
	h := w.a.Handler()
	ask := func(t *testing.T, method string, request []byte) *httptest.ResponseRecorder {
		t.Helper()
		r := httptest.NewRequestWithContext(t.Context(), method, "/pki/ocsp", bytes.NewReader(request))
		if method == http.MethodGet {
			r = httptest.NewRequestWithContext(t.Context(), method, "/pki/ocsp/"+url.PathEscape(base64.StdEncoding.EncodeToString(request)), nil)
		}
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, r)
		return rec
	}
	request := func(c *x509.Certificate) []byte {
		der, err := ocsp.CreateRequest(c, e.chain[1], nil)
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	foreign := *e.chain[0]
	foreign.SerialNumber = big.NewInt(4711)
	for name, c := range map[string]struct {
		cert   *x509.Certificate
		status int
	}{"good": {e.chain[0], ocsp.Good}, "revoked": {dead.chain[0], ocsp.Revoked}, "never issued": {&foreign, ocsp.Unknown}} {
		for _, method := range []string{http.MethodGet, http.MethodPost} {
			for range 2 { // the second is a kept one
				rec := ask(t, method, request(c.cert))
				res, err := ocsp.ParseResponseForCert(rec.Body.Bytes(), c.cert, e.chain[1])
				if err != nil || res.Status != c.status {
					t.Errorf("%s by %s: %+v, %v", name, method, res, err)
				}
				if !strings.HasPrefix(rec.Header().Get("Cache-Control"), "public, max-age=") {
					t.Errorf("caches are told %q", rec.Header().Get("Cache-Control"))
				}
			}
		}
	}
	other := newWorld(t).join("elsewhere")
	elsewhere, err := ocsp.CreateRequest(other.chain[0], other.chain[1], nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string][2][]byte{
		"malformed":        {[]byte("hello"), ocsp.MalformedRequestErrorResponse},
		"empty":            {nil, ocsp.MalformedRequestErrorResponse},
		"of another's CA":  {elsewhere, ocsp.UnauthorizedErrorResponse},
		"with a long tail": {append(request(e.chain[0]), 1, 2, 3), ocsp.MalformedRequestErrorResponse},
	} {
		if rec := ask(t, http.MethodPost, c[0]); !bytes.Equal(rec.Body.Bytes(), c[1]) || rec.Header().Get("Cache-Control") != "no-store" {
			t.Errorf("%s: %x %v", name, rec.Body.Bytes(), rec.Header())
		}
	}
	if rec := ask(t, http.MethodPost, make([]byte, 5000)); rec.Code != http.StatusRequestEntityTooLarge {
		t.Errorf("a long request: %d", rec.Code)
	}
	for path, want := range map[string]int{"/pki/roots.pem": 200, "/pki/ca.crl": 200, "/pki/nobody.crl": 404, "/pki/": 404, "/pki/../ca.crl": 404, "/other": 404, "/pki/ocsp": 405} {
		rec := httptest.NewRecorder()
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "http://hub/", nil)
		r.URL.Path = path
		h.ServeHTTP(rec, r)
		if rec.Code != want {
			t.Errorf("%s: %d", path, rec.Code)
		}
		if tag := rec.Header().Get("ETag"); want == 200 {
			r.Header.Set("If-None-Match", tag)
			rec = httptest.NewRecorder()
			if h.ServeHTTP(rec, r); rec.Code != http.StatusNotModified {
				t.Errorf("%s asked again: %d", path, rec.Code)
			}
		}
	}
}

// The hub's own certificate comes with the proof that it is not revoked, and with the chain up to the root for those who know only its fingerprint.
func TestTheHubShowsChainAndStaple(t *testing.T) {
	w := newWorld(t)
	e := w.join("north")
	addr := serve(t, w.a)
	cfg := clientTLS(e.site, identity.Bundle{Certificate: e.chain, CA: w.a.Roots()}, w.clock)
	var shown []*x509.Certificate
	var staple []byte
	check := cfg.VerifyConnection
	cfg.VerifyConnection = func(cs tls.ConnectionState) error {
		shown, staple = cs.PeerCertificates, cs.OCSPResponse
		return check(cs)
	}
	if err := call(t, addr, cfg); err != nil {
		t.Fatal(err)
	}
	if len(shown) != 3 || sha256.Sum256(shown[2].Raw) != w.a.RootFingerprint() {
		t.Fatalf("the hub shows %d certificates", len(shown))
	}
	res, err := ocsp.ParseResponseForCert(staple, shown[0], shown[1])
	if err != nil || res.Status != ocsp.Good {
		t.Errorf("the staple says %+v, %v", res, err)
	}
	// The hub's certificate itself can be revoked: the process makes another for the next connection.
	if err := w.a.Revoke(t.Context(), shown[0], "process was dumped", "test"); err != nil {
		t.Fatal(err)
	}
	told := watch(t, w.a)
	w.revoke(e, "test")
	wantTold(t, told, e.id)
	old := shown[0]
	err = call(t, addr, cfg)
	wantReason(t, err, identity.ReasonCertRevoked)
	if shown[0].Equal(old) {
		t.Error("the hub goes on with a revoked certificate")
	}
}

func TestTenThousandRevoked(t *testing.T) {
	w := newWorld(t)
	e := w.join("north")
	const n = 10_000
	if _, err := w.db.Exec(t.Context(), `
INSERT INTO certificate (serial, kind, site_id, der, not_before, not_after, issued_at, issuer, revoked_at, revoked_why, revoked_xid)
SELECT decode('44' || lpad(to_hex(i), 30, '0'), 'hex'), 'site', site_id, der, not_before, not_after, issued_at, issuer, issued_at, 'many', pg_current_xact_id()
FROM certificate, generate_series(1, $1) i WHERE site_id = $2`, n, e.id); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	a := authority(t, w.db, w.clock)
	opened := time.Since(begin)
	begin = time.Now()
	der, err := a.CRL(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	made := time.Since(begin)
	begin = time.Now()
	list, err := pki.ParseCRL(der, e.chain[1], w.clock.now())
	if err != nil || len(list.RevokedCertificateEntries) != n {
		t.Fatalf("%d entries, %v", len(list.RevokedCertificateEntries), err)
	}
	t.Logf("%d entries: hub opened in %v, list of %d bytes made in %v, read in %v", n, opened, len(der), made, time.Since(begin))
	rec := httptest.NewRecorder()
	a.Handler().ServeHTTP(rec, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/pki/ca.crl", nil))
	if got, _ := io.ReadAll(rec.Body); !bytes.Equal(got, der) {
		t.Error("the list is made anew for each request")
	}
	if err := w.verify(e.chain); err != nil {
		t.Error(err)
	}
}

// Certificates say where their revocation list and the OCSP responder are, if the hub was told.
func TestCertificatesNameTheirRevocationList(t *testing.T) {
	w := newWorld(t)
	if e := w.join("north"); len(e.chain[0].CRLDistributionPoints) > 0 || len(e.chain[0].OCSPServer) > 0 {
		t.Errorf("an address nobody gave: %v", e.chain[0].CRLDistributionPoints)
	}
	srv := httptest.NewUnstartedServer(nil)
	var err error
	if w.a, err = pki.Open(t.Context(), pki.Config{DB: w.db, Password: password, URL: "http://" + srv.Listener.Addr().String() + "/", Now: w.clock.now}); err != nil {
		t.Fatal(err)
	}
	srv.Config.Handler = w.a.Handler()
	srv.Start()
	defer srv.Close()
	e := w.join("south")
	res, err := http.Get(e.chain[0].CRLDistributionPoints[0])
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	der, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := pki.ParseCRL(der, e.chain[1], w.clock.now()); err != nil {
		t.Errorf("%s: %v", e.chain[0].CRLDistributionPoints[0], err)
	}
	if want := srv.URL + "/pki/ocsp"; e.chain[0].OCSPServer[0] != want {
		t.Errorf("OCSP at %v", e.chain[0].OCSPServer)
	}
}
