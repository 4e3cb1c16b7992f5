package webtls

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"
)

// authority is a CA of the tests, or somebody whom it named.
type authority struct {
	t    testing.TB
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	up   *authority
}

// numbers gives serials, and file times that differ however coarse the file system's clock is.
var numbers atomic.Int64

type option func(*x509.Certificate)

func newRoot(t testing.TB, name string) *authority { return sign(t, nil, name, isCA) }

func isCA(c *x509.Certificate) {
	c.IsCA, c.BasicConstraintsValid, c.KeyUsage = true, true, x509.KeyUsageCertSign|x509.KeyUsageCRLSign
	c.ExtKeyUsage, c.NotBefore, c.NotAfter = nil, time.Now().Add(-365*24*time.Hour), time.Now().Add(10*365*24*time.Hour)
}

func sign(t testing.TB, by *authority, name string, options ...option) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(numbers.Add(1)), Subject: pkix.Name{CommonName: name, Organization: []string{"HashInsight"}, Country: []string{"US"}},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour), KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	for _, o := range options {
		o(c)
	}
	parent, signer := c, key
	if by != nil {
		parent, signer = by.cert, by.key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{t, cert, key, by}
}

// chain is the certificate and the intermediate CAs above it.
func (a *authority) chain() []*x509.Certificate {
	var all []*x509.Certificate
	for c := a; c.up != nil; c = c.up {
		all = append(all, c.cert)
	}
	return all
}

func (a *authority) tls() tls.Certificate {
	c := tls.Certificate{PrivateKey: crypto.Signer(a.key)}
	for _, x := range a.chain() {
		c.Certificate = append(c.Certificate, x.Raw)
	}
	return c
}

func pemOf(certs ...*x509.Certificate) []byte {
	var b bytes.Buffer
	for _, c := range certs {
		_ = pem.Encode(&b, &pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}) // a buffer takes everything
	}
	return b.Bytes()
}

func keyPEM(t testing.TB, a *authority) []byte {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(a.key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

// put writes a file so that it is seen to have changed.
func put(t testing.TB, path string, b []byte) string {
	t.Helper()
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	at := time.Now().Add(time.Duration(numbers.Add(1)) * time.Second)
	if err := os.Chtimes(path, at, at); err != nil {
		t.Fatal(err)
	}
	return path
}

// crl makes a revocation list; a higher number is a later one.
func (a *authority) crl(number int64, nextUpdate time.Time, revoked ...*authority) []byte {
	a.t.Helper()
	list := &x509.RevocationList{Number: big.NewInt(number), ThisUpdate: time.Now().Truncate(time.Hour).Add(time.Duration(number) * time.Second), NextUpdate: nextUpdate}
	for _, r := range revoked {
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: r.cert.SerialNumber, RevocationTime: time.Now()})
	}
	der, err := x509.CreateRevocationList(rand.Reader, list, a.cert, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	return der
}

func verifier(t testing.TB, c Config) *TLS {
	t.Helper()
	c.VerifyClient = true
	w, err := New(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// reason is why a chain is refused; empty when it counts.
func reason(t testing.TB, w *TLS, chain []*x509.Certificate) string {
	t.Helper()
	_, err := w.Verify(t.Context(), chain)
	var refused *Error
	if err != nil && !errors.As(err, &refused) {
		t.Fatal(err)
	}
	if err == nil {
		return ""
	}
	return refused.Reason
}

func usage(u x509.ExtKeyUsage) option {
	return func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{u} }
}

func until(d time.Duration) option {
	return func(c *x509.Certificate) { c.NotAfter = time.Now().Add(d) }
}

func TestWhoseCertificateCounts(t *testing.T) {
	const ops = "ops.hashinsight.net"
	root, stranger := newRoot(t, "Root"), newRoot(t, "Root")
	middle := sign(t, root, "Middle", isCA)
	patterns, err := ParsePatterns(`CN=*.hashinsight.net,O=HashInsight,C=US; CN=robot`)
	if err != nil {
		t.Fatal(err)
	}
	ca := put(t, filepath.Join(t.TempDir(), "ca.crt"), pemOf(root.cert))
	w := verifier(t, Config{CAs: []string{ca}, Patterns: patterns})
	for name, c := range map[string]struct {
		chain []*x509.Certificate
		want  string
	}{
		"ours":                      {sign(t, root, ops).chain(), ""},
		"through an intermediate":   {sign(t, middle, ops).chain(), ""},
		"without its intermediate":  {sign(t, middle, ops).chain()[:1], ReasonUntrusted},
		"another CA, the same name": {sign(t, stranger, ops).chain(), ReasonUntrusted},
		"for servers only":          {sign(t, root, ops, usage(x509.ExtKeyUsageServerAuth)).chain(), ReasonUntrusted},
		"expired":                   {sign(t, root, ops, until(-time.Minute)).chain(), ReasonTime},
		"not yet valid":             {sign(t, root, ops, func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Hour) }).chain(), ReasonTime},
		"expired, of another CA":    {sign(t, stranger, ops, until(-time.Minute)).chain(), ReasonUntrusted},
		"another name":              {sign(t, root, "ops.example.net").chain(), ReasonSubject},
		"another organisation":      {sign(t, root, ops, func(c *x509.Certificate) { c.Subject.Organization = []string{"Evil"} }).chain(), ReasonSubject},
		"two names, one allowed": {sign(t, root, "", func(c *x509.Certificate) {
			c.Subject.CommonName = ""
			for _, s := range []string{ops, "evil"} {
				c.Subject.ExtraNames = append(c.Subject.ExtraNames, pkix.AttributeTypeAndValue{Type: []int{2, 5, 4, 3}, Value: s})
			}
		}).chain(), ReasonSubject},
		"the second pattern":                  {sign(t, root, "Robot", func(c *x509.Certificate) { c.Subject.Organization = nil }).chain(), ""},
		"signed by somebody who is no CA":     {sign(t, sign(t, root, ops), ops).chain(), ReasonUntrusted},
		"nothing":                             {nil, ReasonUntrusted},
		"a chain longer than anybody's chain": {append(sign(t, root, ops).chain(), root.cert, root.cert, root.cert, root.cert, root.cert), ReasonUntrusted},
	} {
		t.Run(name, func(t *testing.T) {
			if got := reason(t, w, c.chain); got != c.want {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
	named := func(c *x509.Certificate) { c.URIs = []*url.URL{{Scheme: "spiffe", Host: "example", Path: "/ops"}} }
	who, err := w.Verify(t.Context(), sign(t, root, ops, named).chain())
	if err != nil || who.Name != "uri:spiffe://example/ops" {
		t.Errorf("%+v %v", who, err)
	}
	if who, err = w.Verify(t.Context(), sign(t, root, ops).chain()); err != nil || who.Name != "dn:CN=ops.hashinsight.net,O=HashInsight,C=US" {
		t.Errorf("%+v %v", who, err)
	}
}

func TestPatterns(t *testing.T) {
	subject := pkix.Name{Names: []pkix.AttributeTypeAndValue{
		{Type: []int{2, 5, 4, 3}, Value: "a.b.example.net"}, {Type: []int{2, 5, 4, 11}, Value: "Ops"}, {Type: []int{2, 5, 4, 11}, Value: "Night, shift*"},
	}}
	for pattern, want := range map[string]bool{
		"CN=a.b.example.net": true, "CN=*.example.net": true, "cn=A.B.EXAMPLE.NET": true, "CN=*": true, "CN=a*b*net": true, "CN=*.example.net*": true,
		"CN=example.net": false, "CN=*.example.org": false, "CN=a.*.c.example.net": false, "CN=*,O=*": false, "CN=*,OU=Ops": false,
		`CN=*,OU=Ops,OU=Night\, shift\*`: true, `OU=Ops,OU=Night*`: true, `OU=*`: true, `OU=Ops,OU=Night\, shift?`: false, "CN=b.*": false, "O=x;CN=*.net": true,
	} {
		p, err := ParsePatterns(pattern)
		if err != nil {
			t.Errorf("%s: %v", pattern, err)
			continue
		}
		if got := allowed(p, &x509.Certificate{Subject: subject}); got != want {
			t.Errorf("%s: %t", pattern, got)
		}
	}
	for _, bad := range []string{"CN", "CN=", "X=1", "CN=a,,O=b", ";", "=a"} {
		if p, err := ParsePatterns(bad); err == nil {
			t.Errorf("%q is read as %v", bad, p)
		}
	}
}

func TestRevocationListsAreCheckedAndFailClosed(t *testing.T) {
	dir := t.TempDir()
	root := newRoot(t, "Root")
	middle := sign(t, root, "Middle", isCA)
	good, lost, below := sign(t, root, "good"), sign(t, root, "lost"), sign(t, middle, "below")
	day := time.Now().Add(24 * time.Hour)
	ca := put(t, filepath.Join(dir, "ca.crt"), pemOf(root.cert, middle.cert))
	path := put(t, filepath.Join(dir, "ca.crl"), root.crl(1, day))
	clock := time.Now()
	w := verifier(t, Config{CAs: []string{ca}, CRLs: []string{path}, Now: func() time.Time { return clock }})
	next := func(b []byte) {
		t.Helper()
		put(t, path, b)
		w.Reload(t.Context())
	}
	expect := func(what, g, l, b string) {
		t.Helper()
		if rg, rl, rb := reason(t, w, good.chain()), reason(t, w, lost.chain()), reason(t, w, below.chain()); rg != g || rl != l || rb != b {
			t.Errorf("%s: %q %q %q, want %q %q %q", what, rg, rl, rb, g, l, b)
		}
	}
	expect("nothing revoked", "", "", "")
	next(root.crl(2, day, lost))
	expect("one revoked", "", ReasonRevoked, "")
	tampered := root.crl(3, day)
	tampered[len(tampered)-1] ^= 1
	next(tampered)
	expect("tampered: the one before holds", "", ReasonRevoked, "")
	next(newRoot(t, "Root").crl(3, day))
	expect("of another CA: the one before holds", "", ReasonRevoked, "")
	next(root.crl(1, day))
	expect("an older one played again", "", ReasonRevoked, "")
	next(pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: root.crl(4, day, lost, middle)}))
	expect("PEM, the intermediate revoked", "", ReasonRevoked, ReasonRevoked)
	next(root.crl(5, time.Now().Add(time.Minute)))
	expect("nothing revoked any more", "", "", "")
	clock = clock.Add(2 * time.Minute)
	expect("run out", ReasonUnknown, ReasonUnknown, ReasonUnknown)
	next(root.crl(6, day))
	expect("renewed", "", "", "")

	missing := verifier(t, Config{CAs: []string{ca}, CRLs: []string{filepath.Join(dir, "none.crl")}})
	if got := reason(t, missing, good.chain()); got != ReasonUnknown {
		t.Errorf("without its list: %q", got)
	}
	var body atomic.Value
	body.Store(root.crl(1, day, lost))
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		b, _ := body.Load().([]byte)
		_, _ = w.Write(b)
	}))
	defer web.Close()
	remote := verifier(t, Config{CAs: []string{ca}, CRLs: []string{web.URL + "/ca.crl"}, Now: func() time.Time { return clock }})
	if reason(t, remote, good.chain()) != "" || reason(t, remote, lost.chain()) != ReasonRevoked {
		t.Error("a list behind a URL is not used")
	}
	body.Store(root.crl(2, day, good))
	clock = clock.Add(listEvery)
	remote.Reload(t.Context())
	if reason(t, remote, good.chain()) != ReasonRevoked {
		t.Error("the list is not read again")
	}
}

func TestOCSPIsAskedAndFailsAsToldTo(t *testing.T) {
	root := newRoot(t, "Root")
	helper := sign(t, root, "Responder", usage(x509.ExtKeyUsageOCSPSigning))
	impostor := sign(t, newRoot(t, "Root"), "Responder", usage(x509.ExtKeyUsageOCSPSigning))
	neighbour := sign(t, root, "another client of the same CA")
	expired := sign(t, root, "Responder", usage(x509.ExtKeyUsageOCSPSigning), func(c *x509.Certificate) {
		c.NotBefore, c.NotAfter = time.Now().Add(-72*time.Hour), time.Now().Add(-48*time.Hour)
	})
	var mode atomic.Value
	var asked atomic.Int64
	responder := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		b, _ := io.ReadAll(r.Body) // what is missing does not parse
		q, err := ocsp.ParseRequest(b)
		if err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		res := ocsp.Response{
			SerialNumber: q.SerialNumber, Status: ocsp.Good, ThisUpdate: time.Now().Add(-time.Minute), NextUpdate: time.Now().Add(time.Hour), Certificate: helper.cert,
		}
		by := helper
		switch mode.Load() {
		case "revoked":
			res.Status, res.RevokedAt = ocsp.Revoked, time.Now()
		case "old":
			res.ThisUpdate, res.NextUpdate = time.Now().Add(-48*time.Hour), time.Now().Add(-24*time.Hour)
		case "unknown":
			res.Status = ocsp.Unknown
		case "impostor":
			by, res.Certificate = impostor, impostor.cert
		case "neighbour":
			by, res.Certificate = neighbour, neighbour.cert
		case "expired":
			by, res.Certificate = expired, expired.cert
		case "away":
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		case "redirect":
			http.Redirect(w, r, "/elsewhere", http.StatusFound)
			return
		}
		der, err := ocsp.CreateResponse(root.cert, by.cert, res, by.key)
		if err != nil {
			t.Error(err)
		}
		_, _ = w.Write(der)
	}))
	defer responder.Close()
	ca := put(t, filepath.Join(t.TempDir(), "ca.crt"), pemOf(root.cert))
	client := sign(t, root, "client", func(c *x509.Certificate) { c.OCSPServer = []string{responder.URL} })
	plain := sign(t, root, "names no responder")
	for m, want := range map[string][2]string{ // soft, hard
		"good": {"", ""}, "revoked": {ReasonRevoked, ReasonRevoked}, "old": {"", ReasonUnknown}, "unknown": {"", ReasonUnknown},
		"impostor": {"", ReasonUnknown}, "neighbour": {"", ReasonUnknown}, "expired": {"", ReasonUnknown}, "away": {"", ReasonUnknown}, "redirect": {"", ReasonUnknown},
	} {
		mode.Store(m)
		for i, how := range []string{OCSPSoft, OCSPHard} {
			asked.Store(0)
			clock := time.Now()
			w := verifier(t, Config{CAs: []string{ca}, OCSP: how, Now: func() time.Time { return clock }})
			for range 3 { // past the time that a pass is believed, within that of the answer
				if got := reason(t, w, client.chain()); got != want[i] {
					t.Errorf("%s, %s: %q, want %q", m, how, got, want[i])
				}
				clock = clock.Add(passFor)
			}
			if n := asked.Load(); n != 1 {
				t.Errorf("%s, %s: asked %d times", m, how, n)
			}
			if got := reason(t, w, plain.chain()); got != "" {
				t.Errorf("without a responder: %q", got)
			}
		}
	}
	mode.Store("revoked")
	if got := reason(t, verifier(t, Config{CAs: []string{ca}, OCSP: OCSPOff}), client.chain()); got != "" {
		t.Errorf("switched off: %q", got)
	}
}

// serve listens with the settings under test, and answers who asks.
func serve(t *testing.T, w *TLS) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{TLSConfig: w.Server(), ReadHeaderTimeout: 5 * time.Second, Handler: http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if len(r.TLS.PeerCertificates) == 0 {
			_, _ = io.WriteString(rw, "nobody")
			return
		}
		who, err := w.Verify(r.Context(), r.TLS.PeerCertificates)
		if err != nil {
			_, _ = io.WriteString(rw, "refused: "+err.Error())
			return
		}
		if r.TLS.DidResume {
			_, _ = io.WriteString(rw, "resumed ")
		}
		_, _ = io.WriteString(rw, who.Name)
	})}
	done := make(chan error, 1)
	go func() { done <- srv.ServeTLS(l, "", "") }()
	t.Cleanup(func() { _ = srv.Close(); <-done })
	return l.Addr().String()
}

// ask makes a new connection, and resumes a session where cache holds one.
func ask(t *testing.T, addr string, trust, client *authority, cache tls.ClientSessionCache) (answer, server string) {
	t.Helper()
	roots := x509.NewCertPool()
	roots.AddCert(trust.cert)
	c := &tls.Config{RootCAs: roots, ServerName: "hub", ClientSessionCache: cache, MinVersion: tls.VersionTLS13}
	if client != nil {
		c.Certificates = []tls.Certificate{client.tls()}
	}
	transport := &http.Transport{TLSClientConfig: c}
	defer transport.CloseIdleConnections()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+addr, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	res, err := transport.RoundTrip(r)
	if err != nil {
		return "error: " + err.Error(), ""
	}
	defer func() { _ = res.Body.Close() }()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		return "error: " + err.Error(), ""
	}
	return string(b), res.TLS.PeerCertificates[0].Subject.CommonName
}

func forServer(c *x509.Certificate) {
	c.DNSNames, c.ExtKeyUsage = []string{"hub"}, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
}

func TestFilesAreReadAgainAndResumedSessionsAreChecked(t *testing.T) {
	dir := t.TempDir()
	root, clients, others := newRoot(t, "Servers"), newRoot(t, "Clients"), newRoot(t, "Others")
	first, second := sign(t, root, "first", forServer), sign(t, root, "second", forServer)
	day := time.Now().Add(24 * time.Hour)
	c := Config{
		Cert: put(t, filepath.Join(dir, "server.crt"), pemOf(first.cert)), Key: put(t, filepath.Join(dir, "server.key"), keyPEM(t, first)),
		CAs: []string{put(t, filepath.Join(dir, "ca.crt"), pemOf(clients.cert))}, CRLs: []string{put(t, filepath.Join(dir, "ca.crl"), clients.crl(1, day))},
	}
	w := verifier(t, c)
	addr := serve(t, w)
	ops, stranger := sign(t, clients, "ops"), sign(t, others, "ops")
	cache := tls.NewLRUClientSessionCache(8)
	const name = "dn:CN=ops,O=HashInsight,C=US"
	if got, _ := ask(t, addr, root, nil, nil); got != "nobody" {
		t.Errorf("without a certificate: %s", got)
	}
	if got, _ := ask(t, addr, root, ops, cache); got != name {
		t.Errorf("ours: %s", got)
	}
	if got, _ := ask(t, addr, root, ops, cache); got != "resumed "+name {
		t.Errorf("again: %s", got)
	}
	if got, _ := ask(t, addr, root, stranger, nil); !strings.HasPrefix(got, "error") {
		t.Errorf("of another CA: %s", got)
	}
	put(t, c.CRLs[0], clients.crl(2, day, ops))
	w.Reload(t.Context())
	if got, _ := ask(t, addr, root, ops, cache); !strings.HasPrefix(got, "refused: ") || !strings.Contains(got, "revoked") {
		t.Errorf("revoked, on a resumed session: %s", got)
	}
	put(t, c.CAs[0], pemOf(others.cert))
	put(t, c.CRLs[0], others.crl(3, day))
	put(t, c.Cert, pemOf(second.cert)) // its key does not fit yet
	w.Reload(t.Context())
	if got, server := ask(t, addr, root, nil, nil); got != "nobody" || server != "first" {
		t.Errorf("files that do not fit: %s from %s", got, server)
	}
	put(t, c.Key, keyPEM(t, second))
	w.Reload(t.Context())
	if got, server := ask(t, addr, root, nil, nil); got != "nobody" || server != "second" {
		t.Errorf("the new server certificate: %s from %s", got, server)
	}
	if got, _ := ask(t, addr, root, stranger, nil); got != name {
		t.Errorf("of the new CA: %s", got)
	}
	if got, _ := ask(t, addr, root, ops, cache); !strings.HasPrefix(got, "error") {
		t.Errorf("of the old CA, on a resumed session: %s", got)
	}
	if _, err := New(t.Context(), Config{Cert: filepath.Join(dir, "none"), Key: c.Key}); err == nil || !strings.Contains(err.Error(), "MTLS_SERVER_CERT_PATH") {
		t.Errorf("a missing file: %v", err)
	}
}

func TestForwardedCertificatesInBothForms(t *testing.T) {
	root := newRoot(t, "Root")
	leaf := sign(t, sign(t, root, "Middle", isCA), "ops")
	form := func(c *x509.Certificate) string { return ":" + base64.StdEncoding.EncodeToString(c.Raw) + ":" }
	escaped := url.PathEscape(string(pemOf(leaf.cert)))
	const own, nginx = "Client-Cert", "X-Ssl-Cert"
	for name, c := range map[string]struct {
		header string
		values []string
		chain  string
		want   int // certificates; -1: an error
	}{
		"none":                              {own, nil, "", 0},
		"empty, as nginx sends without one": {nginx, []string{""}, "", 0},
		"RFC 9440":                          {own, []string{form(leaf.cert)}, "", 1},
		"with its chain":                    {own, []string{form(leaf.cert)}, form(leaf.up.cert) + ", " + form(root.cert), 3},
		"nginx":                             {nginx, []string{escaped}, "", 1},
		"two":                               {own, []string{form(leaf.cert), form(root.cert)}, "", -1},
		"two in one":                        {nginx, []string{escaped + escaped}, "", -1},
		"no certificate":                    {own, []string{":AAAA:"}, "", -1},
		"cut off":                           {own, []string{form(leaf.cert)[:100]}, "", -1},
		"text":                              {own, []string{"CN=ops"}, "", -1},
		"a key":                             {nginx, []string{url.PathEscape(string(keyPEM(t, leaf)))}, "", -1},
		"too long a chain":                  {own, []string{form(leaf.cert)}, strings.Repeat(form(root.cert)+",", 5) + form(root.cert), -1},
	} {
		h := http.Header{c.header: c.values}
		if c.chain != "" {
			h.Set(ChainHeader, c.chain)
		}
		got, err := Forwarded(h, c.header)
		if (err != nil) != (c.want < 0) || c.want >= 0 && len(got) != c.want || c.want > 0 && !got[0].Equal(leaf.cert) {
			t.Errorf("%s: %d certificates, %v", name, len(got), err)
		}
	}
}
