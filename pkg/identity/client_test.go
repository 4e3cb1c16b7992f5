package identity

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math/big"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/hashinsight/hashinsight/pkg/ident"
)

// party is a certificate with its key.
type party struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// newParty makes a CA when by is nil, else a certificate for name, valid from an hour before noon to an hour after.
func newParty(t *testing.T, by *party, name *url.URL) *party {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: noon.Add(-time.Hour), NotAfter: noon.Add(time.Hour)}
	signer := &party{tmpl, key}
	if by == nil {
		tmpl.IsCA, tmpl.BasicConstraintsValid, tmpl.KeyUsage, tmpl.NotAfter = true, true, x509.KeyUsageCertSign, noon.Add(24*time.Hour)
	} else {
		signer = by
		tmpl.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
		tmpl.Subject.CommonName = "hub" // never trusted
		tmpl.DNSNames = []string{"hub.example"}
		if name != nil {
			tmpl.URIs = []*url.URL{name}
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, signer.cert, key.Public(), signer.key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &party{cert, key}
}

func (p *party) tls() *tls.Certificate {
	return &tls.Certificate{Certificate: [][]byte{p.cert.Raw}, PrivateKey: p.key, Leaf: p.cert}
}

// serve answers TLS connections with one byte each until the test ends.
func serve(t *testing.T, hub *party, maxVersion uint16) string {
	t.Helper()
	// 127.0.0.1:0 rather than net.Pipe: session tickets come after the handshake, and a pipe would block on them.
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	cfg := &tls.Config{
		Certificates: []tls.Certificate{*hub.tls()}, ClientAuth: tls.RequireAnyClientCert, MaxVersion: maxVersion,
		Time: func() time.Time { return noon },
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				s := tls.Server(c, cfg)
				if _, err := s.Write([]byte{1}); err == nil {
					_, _ = io.Copy(io.Discard, s)
				}
			}()
		}
	}()
	return l.Addr().String()
}

func connect(t *testing.T, addr string, cfg *tls.Config) (resumed bool, err error) {
	t.Helper()
	c, err := tls.Dial("tcp", addr, cfg)
	if err != nil {
		return false, err
	}
	defer c.Close()
	if _, err := c.Read(make([]byte, 1)); err != nil {
		return false, err
	}
	return c.ConnectionState().DidResume, nil
}

func TestASiteKnowsItsHubByCAAndName(t *testing.T) {
	ca, other := newParty(t, nil, nil), newParty(t, nil, nil)
	site := newParty(t, ca, SiteURI(ident.NewSiteID()))
	for _, c := range []struct {
		name    string
		hub     *party
		now     time.Time
		version uint16
		want    error
		text    string
	}{
		{"the hub", newParty(t, ca, HubURI()), noon, 0, nil, ""},
		{"another CA", newParty(t, other, HubURI()), noon, 0, ErrHubWrongCA, ""},
		{"expired", newParty(t, ca, HubURI()), noon.Add(2 * time.Hour), 0, ErrHubExpired, ""},
		{"not valid yet", newParty(t, ca, HubURI()), noon.Add(-2 * time.Hour), 0, ErrHubExpired, ""},
		{"another site with a certificate of the same CA", newParty(t, ca, SiteURI(ident.NewSiteID())), noon, 0, ErrHubName, ""},
		{"only a common name and a DNS name", newParty(t, ca, nil), noon, 0, ErrHubName, ""},
		{"TLS 1.2", newParty(t, ca, HubURI()), noon, tls.VersionTLS12, nil, "protocol version"},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := Client{
				Certificate: func() (*tls.Certificate, error) { return site.tls(), nil },
				CA:          func() []*x509.Certificate { return []*x509.Certificate{ca.cert} },
				Now:         func() time.Time { return c.now },
			}.TLS()
			cfg.ServerName = "anything.example" // the name that is dialled means nothing
			_, err := connect(t, serve(t, c.hub, c.version), cfg)
			if c.text == "" && !errors.Is(err, c.want) || c.text != "" && (err == nil || !strings.Contains(err.Error(), c.text)) {
				t.Errorf("error is %v, want %v %q", err, c.want, c.text)
			}
		})
	}
}

// A resumed session skips the usual verification; a revocation that came in between must count all the same.
func TestResumedSessionsAreCheckedToo(t *testing.T) {
	ca := newParty(t, nil, nil)
	site := newParty(t, ca, SiteURI(ident.NewSiteID()))
	var revoked error
	asked := 0
	cfg := Client{
		Certificate: func() (*tls.Certificate, error) { return site.tls(), nil },
		CA:          func() []*x509.Certificate { return []*x509.Certificate{ca.cert} },
		Check:       func(*x509.Certificate) error { asked++; return revoked },
		Now:         func() time.Time { return noon },
	}.TLS()
	cfg.ServerName = "hub"
	cfg.ClientSessionCache = tls.NewLRUClientSessionCache(4)
	addr := serve(t, newParty(t, ca, HubURI()), 0)
	if _, err := connect(t, addr, cfg); err != nil {
		t.Fatal(err)
	}
	resumed, err := connect(t, addr, cfg)
	if err != nil || !resumed || asked != 2 {
		t.Fatalf("second connection: resumed %v, checked %d times, %v", resumed, asked, err)
	}
	revoked = errors.New("revoked")
	if _, err := connect(t, addr, cfg); !errors.Is(err, revoked) {
		t.Errorf("a resumed session with a revoked hub: %v", err)
	}
}
