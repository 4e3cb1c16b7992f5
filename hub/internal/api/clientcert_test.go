package api

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hashinsight/hashinsight/hub/internal/access"
	"github.com/hashinsight/hashinsight/hub/internal/webtls"
)

// testCA names servers and clients, valid around the tests' virtual time.
type testCA struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	file string
}

func newTestCA(t *testing.T) *testCA {
	t.Helper()
	ca := &testCA{t: t}
	c := ca.sign("Test CA")
	ca.cert, ca.key = c.Leaf, c.PrivateKey.(*ecdsa.PrivateKey) //nolint:forcetypeassert // made so below
	ca.file = filepath.Join(t.TempDir(), "ca.crt")
	ca.write(ca.file, "CERTIFICATE", c.Leaf.Raw)
	return ca
}

func (ca *testCA) write(path, kind string, der []byte) string {
	ca.t.Helper()
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		ca.t.Fatal(err)
	}
	return path
}

// sign makes a certificate; the first one is the CA's own.
func (ca *testCA) sign(name string) tls.Certificate {
	ca.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		ca.t.Fatal(err)
	}
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		ca.t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name, Organization: []string{"Example"}}, DNSNames: []string{name},
		NotBefore: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), NotAfter: time.Date(2046, 1, 1, 0, 0, 0, 0, time.UTC),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}, KeyUsage: x509.KeyUsageDigitalSignature,
	}
	parent, signer := ca.cert, ca.key
	if parent == nil {
		c.IsCA, c.BasicConstraintsValid, c.KeyUsage, c.ExtKeyUsage, c.DNSNames = true, true, x509.KeyUsageCertSign, nil, nil
		parent, signer = c, key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, key.Public(), signer)
	if err != nil {
		ca.t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		ca.t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

func (ca *testCA) webTLS(own bool) *webtls.TLS {
	ca.t.Helper()
	patterns, err := webtls.ParsePatterns("CN=*.example.net,O=Example")
	if err != nil {
		ca.t.Fatal(err)
	}
	c := webtls.Config{VerifyClient: true, CAs: []string{ca.file}, Patterns: patterns}
	if own {
		server, dir := ca.sign("hub"), ca.t.TempDir()
		key, err := x509.MarshalPKCS8PrivateKey(server.PrivateKey)
		if err != nil {
			ca.t.Fatal(err)
		}
		c.Cert, c.Key = ca.write(filepath.Join(dir, "crt"), "CERTIFICATE", server.Leaf.Raw), ca.write(filepath.Join(dir, "key"), "PRIVATE KEY", key)
	}
	s, err := webtls.New(ca.t.Context(), c)
	if err != nil {
		ca.t.Fatal(err)
	}
	return s
}

// asked is a request over a connection of its own, with a client certificate or none.
func (w *world) asked(ca *testCA, client *tls.Certificate, method, path, key, body string) (*http.Response, []byte, error) {
	w.t.Helper()
	roots := x509.NewCertPool()
	roots.AddCert(ca.cert)
	c := &tls.Config{RootCAs: roots, ServerName: "hub", MinVersion: tls.VersionTLS13, Time: w.clock.now}
	if client != nil {
		c.Certificates = []tls.Certificate{*client}
	}
	transport := &http.Transport{TLSClientConfig: c, ForceAttemptHTTP2: true}
	defer transport.CloseIdleConnections()
	r, err := http.NewRequestWithContext(w.t.Context(), method, strings.Replace(w.url, "http:", "https:", 1)+path, strings.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	if key != "" {
		r.Header.Set("Authorization", "Bearer "+key)
	}
	res, err := transport.RoundTrip(r)
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = res.Body.Close() }()
	b, err := io.ReadAll(res.Body)
	return res, b, err
}

func newListener(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestClientCertificatesOpenAdministrationAndStandForKeys(t *testing.T) {
	ca, other := newTestCA(t), newTestCA(t)
	w := newWorldOn(t, newListener(t), func(c *Config) { c.TLS = ca.webTLS(true) })
	ops, wrong, stranger := ca.sign("ops.example.net"), ca.sign("ops.elsewhere.net"), other.sign("ops.example.net")
	get := func(client *tls.Certificate, path, key string) (*http.Response, []byte) {
		t.Helper()
		res, body, err := w.asked(ca, client, "GET", path, key, "")
		if err != nil {
			t.Fatal(err)
		}
		return res, body
	}
	const admin = "/api/admin/rate-limit"
	res, body := get(nil, "/api/sites", w.owner)
	want[SiteList](t, res, body)
	if res.ProtoMajor != 2 || res.Header.Get("Strict-Transport-Security") == "" {
		t.Errorf("HTTP/%d, %v", res.ProtoMajor, res.Header)
	}
	res, body = get(nil, admin, w.owner)
	wantProblem(t, res, body, http.StatusForbidden, "AUTH_005")
	res, body = get(&ops, admin, "")
	wantProblem(t, res, body, http.StatusUnauthorized, "AUTH_001")
	res, body = get(&ops, admin, w.key("sites:read"))
	wantProblem(t, res, body, http.StatusForbidden, "AUTH_002")
	res, body = get(&ops, admin, w.owner)
	want[RateLimit](t, res, body)
	for _, path := range []string{"/api/sites", admin, "/api/nothing"} {
		res, body = get(&wrong, path, w.owner)
		wantProblem(t, res, body, http.StatusForbidden, "AUTH_005")
	}
	res, body = get(&wrong, "/health", "")
	want[Health](t, res, body)
	if _, _, err := w.asked(ca, &stranger, "GET", "/health", "", ""); err == nil {
		t.Error("a certificate of another CA makes a connection")
	}

	res, body, err := w.asked(ca, nil, "POST", "/api/apikeys", w.owner, `{"name":"ops","permissions":["sites:read","ratelimits:write"],"certificate":"dn:CN=ops.example.net,O=Example"}`)
	var made NewAPIKey
	if err != nil || res.StatusCode != http.StatusCreated || json.Unmarshal(body, &made) != nil || made.Key != "" {
		t.Fatalf("%v %s", err, body)
	}
	res, body, err = w.asked(ca, nil, "POST", "/api/apikeys", w.owner, `{"name":"twice","permissions":["sites:read"],"certificate":"dn:CN=ops.example.net,O=Example"}`)
	if err != nil {
		t.Fatal(err)
	}
	wantProblem(t, res, body, http.StatusConflict, "CONFLICT_001")
	res, body = get(&ops, "/api/session", "")
	if info := want[SessionInfo](t, res, body); info.KeyID != made.ID {
		t.Errorf("%s", body)
	}
	res, body = get(&ops, admin, "")
	want[RateLimit](t, res, body)
	res, body = get(&ops, "/api/audit", "")
	wantProblem(t, res, body, http.StatusForbidden, "AUTH_002")
	if _, err := w.server.access.RevokeKey(t.Context(), access.CommandLine(), uuidOf(t, made.ID), ""); err != nil {
		t.Fatal(err)
	}
	res, body = get(&ops, "/api/sites", "")
	wantProblem(t, res, body, http.StatusUnauthorized, "AUTH_001")
}

func TestAllOfTheAPICanRequireACertificate(t *testing.T) {
	ca := newTestCA(t)
	w := newWorldOn(t, newListener(t), func(c *Config) { c.TLS, c.CertRequired = ca.webTLS(true), CertAPI })
	ops := ca.sign("ops.example.net")
	res, body, err := w.asked(ca, nil, "GET", "/api/sites", w.owner, "")
	if err != nil {
		t.Fatal(err)
	}
	wantProblem(t, res, body, http.StatusForbidden, "AUTH_005")
	if res, body, err = w.asked(ca, &ops, "GET", "/api/sites", w.owner, ""); err != nil {
		t.Fatal(err)
	}
	want[SiteList](t, res, body)
	if res, body, err = w.asked(ca, nil, "GET", "/health", "", ""); err != nil {
		t.Fatal(err)
	}
	want[Health](t, res, body)
}

// A certificate in a header counts from a trusted proxy only, whatever its form, and is verified like any other.
func TestForwardedCertificatesCountFromTrustedProxiesOnly(t *testing.T) {
	ca, other := newTestCA(t), newTestCA(t)
	rfc := func(c tls.Certificate) string { return ":" + base64.StdEncoding.EncodeToString(c.Leaf.Raw) + ":" }
	nginx := func(c tls.Certificate) string {
		return url.PathEscape(string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Leaf.Raw})))
	}
	ops := ca.sign("ops.example.net")
	const admin = "/api/admin/rate-limit"
	for _, header := range []string{"Client-Cert", "X-SSL-Client-Cert"} {
		trusted := newWorldOn(t, newListener(t), func(c *Config) { c.TLS, c.ClientHeader = ca.webTLS(false), header })
		direct := newWorldOn(t, newListener(t), func(c *Config) { c.TLS, c.ClientHeader, c.TrustedProxies = ca.webTLS(false), header, nil })
		for _, form := range []func(tls.Certificate) string{rfc, nginx} {
			res, body := trusted.request("GET", admin, "", "Authorization", "Bearer "+trusted.owner, header, form(ops))
			want[RateLimit](t, res, body)
			for _, bad := range []string{form(other.sign("ops.example.net")), form(ca.sign("evil")), form(ops)[:200], "x"} {
				res, body = trusted.request("GET", "/api/sites", "", "Authorization", "Bearer "+trusted.owner, header, bad)
				wantProblem(t, res, body, http.StatusForbidden, "AUTH_005")
			}
			res, body = direct.request("GET", admin, "", "Authorization", "Bearer "+direct.owner, header, form(ops))
			wantProblem(t, res, body, http.StatusForbidden, "AUTH_005")
			res, body = direct.request("GET", "/api/sites", "", "Authorization", "Bearer "+direct.owner, header, "nonsense from anybody")
			want[SiteList](t, res, body)
		}
		res, body := trusted.request("GET", admin, "", "Authorization", "Bearer "+trusted.owner)
		wantProblem(t, res, body, http.StatusForbidden, "AUTH_005")
		res, body = trusted.request("GET", admin, "", "Authorization", "Bearer "+trusted.owner, "X-Other-Cert", rfc(ops))
		wantProblem(t, res, body, http.StatusForbidden, "AUTH_005")
	}
}
