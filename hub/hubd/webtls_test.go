package hubd_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hashinsight/hashinsight/hub/hubd"
	"github.com/hashinsight/hashinsight/hub/pgtest"
)

func writePEM(t *testing.T, path, kind string, der []byte) string {
	t.Helper()
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// Two hub processes serve TLS and trust the hub's own CA: a certificate that ca issue made has its key's permissions at both, and
// its revocation reaches both, on connections that are open and on sessions that are resumed.
func TestCertificatesOfTheHubsOwnCAOpenTheAPIUntilTheyAreRevoked(t *testing.T) {
	dir := t.TempDir()
	serverKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "hub"}, DNSNames: []string{"hub"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, serverKey.Public(), serverKey)
	if err != nil {
		t.Fatal(err)
	}
	server, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(serverKey)
	if err != nil {
		t.Fatal(err)
	}
	c := config(pgtest.URL(t))
	c.Modules = []string{"api"}
	c.RateLimit = 600
	c.WebTLS = hubd.WebTLS{
		Cert: writePEM(t, filepath.Join(dir, "crt"), "CERTIFICATE", der), Key: writePEM(t, filepath.Join(dir, "key"), "PRIVATE KEY", keyDER),
		VerifyClient: true, OwnCA: true, Patterns: "CN=*.example.net,O=Example", OCSP: "hard", RequiredFor: "admin",
	}
	one, two := start(t, c), start(t, c)
	awaitReady(t, one)
	awaitReady(t, two)

	_, info, err := hubd.CreateKey(t.Context(), c.Database, "dev", hubd.KeyOrder{Name: "ops", Permissions: []hubd.Permission{"ratelimits:write"}})
	if err != nil {
		t.Fatal(err)
	}
	issue := func(commonName string) (tls.Certificate, string) {
		t.Helper()
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		request, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
		if err != nil {
			t.Fatal(err)
		}
		chain, leaf, err := hubd.CAIssue(t.Context(), c.Database, hubd.ClientOrder{
			KeyID: info.ID.String(), Name: "ops", CommonName: commonName, Organization: "Example",
			Request: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: request}),
		})
		if err != nil {
			t.Fatal(err)
		}
		out := tls.Certificate{PrivateKey: key}
		for rest := []byte(chain); ; {
			var block *pem.Block
			if block, rest = pem.Decode(rest); block == nil {
				break
			}
			out.Certificate = append(out.Certificate, block.Bytes)
		}
		return out, fmt.Sprintf("%032x", leaf.SerialNumber)
	}
	roots := x509.NewCertPool()
	roots.AddCert(server)
	client := func(cert tls.Certificate) *http.Client {
		transport := &http.Transport{TLSClientConfig: &tls.Config{
			RootCAs: roots, ServerName: "hub", Certificates: []tls.Certificate{cert}, ClientSessionCache: tls.NewLRUClientSessionCache(4), MinVersion: tls.VersionTLS13,
		}}
		t.Cleanup(transport.CloseIdleConnections)
		return &http.Client{Transport: transport}
	}
	url := func(h *hubd.Hub, path string) string { return "https://" + h.WebAddr().String() + path }
	const admin = "/api/admin/rate-limit"

	cert, serial := issue("ops.example.net")
	ops := client(cert)
	for _, h := range []*hubd.Hub{one, two} {
		if status, _, body := get(t, ops, url(h, admin), ""); status != http.StatusOK {
			t.Errorf("with the certificate: %d %s", status, body)
		}
		if status, _, body := get(t, ops, url(h, "/api/sites"), ""); status != http.StatusForbidden || !strings.Contains(body, "AUTH_002") {
			t.Errorf("what its key may not do: %d %s", status, body)
		}
	}
	elsewhere, _ := issue("ops.elsewhere.net")
	if status, _, body := get(t, client(elsewhere), url(one, admin), ""); status != http.StatusForbidden || !strings.Contains(body, "AUTH_005") {
		t.Errorf("a subject that no pattern allows: %d %s", status, body)
	}
	if err := hubd.CARevoke(t.Context(), c.Database, serial, "", "laptop stolen"); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	for _, h := range []*hubd.Hub{one, two} {
		for {
			status, _, body := get(t, ops, url(h, admin), "")
			if status == http.StatusForbidden {
				var p struct{ Code, Detail string }
				if err := json.Unmarshal([]byte(body), &p); err != nil || p.Code != "AUTH_005" || !strings.Contains(p.Detail, "revoked") {
					t.Errorf("revoked: %v %s", err, body)
				}
				break
			}
			if time.Since(begin) > 15*time.Second {
				t.Fatalf("still let in: %d %s", status, body)
			}
			<-time.After(100 * time.Millisecond)
		}
	}
	t.Logf("refused by both processes %s after the revocation", time.Since(begin).Round(time.Millisecond))
	ops.CloseIdleConnections() // the next connection resumes a session
	if status, _, body := get(t, ops, url(two, admin), ""); status != http.StatusForbidden {
		t.Errorf("on a resumed session: %d %s", status, body)
	}
}

// A limit that two processes share, through their own front doors.
func TestTwoHubsShareTheRateLimit(t *testing.T) {
	c := config(pgtest.URL(t))
	c.Modules = []string{"api"}
	c.RateLimit = 100
	one, two := start(t, c), start(t, c)
	awaitReady(t, one)
	awaitReady(t, two)
	key, _, err := hubd.CreateKey(t.Context(), c.Database, "dev", hubd.KeyOrder{Name: "busy", Permissions: []hubd.Permission{"sites:read"}})
	if err != nil {
		t.Fatal(err)
	}
	counts := map[int]int{}
	for i := range 400 {
		h := []*hubd.Hub{one, two}[i%2]
		status, header, _ := get(t, http.DefaultClient, "http://"+h.WebAddr().String()+"/api/sites", key)
		counts[status]++
		if status == http.StatusTooManyRequests && header.Get("Retry-After") == "" {
			t.Error("no Retry-After")
		}
	}
	t.Logf("limit 100, 400 requests to two processes in turn: %v", counts)
	if n := counts[http.StatusOK]; n < 100 || n > 125 || counts[http.StatusTooManyRequests] != 400-n { // 120, and what a minute that begins now lets in
		t.Errorf("%v", counts)
	}
}
