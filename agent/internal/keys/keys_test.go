package keys

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hashinsight/hashinsight/pkg/ident"
	"github.com/hashinsight/hashinsight/pkg/identity"
)

// office is a hub's CA, as far as a site sees it.
type office struct {
	t        *testing.T
	key      *ecdsa.PrivateKey
	ca       *x509.Certificate
	evidence ed25519.PublicKey
	now      time.Time
}

func newOffice(t *testing.T) *office {
	t.Helper()
	o := &office{t: t, now: time.Now()}
	var err error
	if o.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	if o.evidence, _, err = ed25519.GenerateKey(rand.Reader); err != nil {
		t.Fatal(err)
	}
	o.ca = o.sign(&x509.Certificate{
		Subject: pkix.Name{CommonName: "hub"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}, nil, &o.key.PublicKey)
	return o
}

func (o *office) sign(template, parent *x509.Certificate, pub any) *x509.Certificate {
	o.t.Helper()
	template.SerialNumber = big.NewInt(1)
	template.NotBefore, template.NotAfter = o.now.Add(-time.Minute), o.now.Add(time.Hour)
	if parent == nil {
		parent = template
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, pub, o.key)
	if err != nil {
		o.t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		o.t.Fatal(err)
	}
	return c
}

// answer is the hub's bundle for a request.
func (o *office) answer(request []byte, site ident.SiteID, change func(*identity.Bundle)) []byte {
	o.t.Helper()
	r, err := identity.ParseRequest(request)
	if err != nil {
		o.t.Fatal(err)
	}
	b := identity.Bundle{
		Site: site, SiteName: "north", HubAddress: "hub.example.com:8443", CA: []*x509.Certificate{o.ca}, HubEvidence: []ed25519.PublicKey{o.evidence},
		Certificate: []*x509.Certificate{o.sign(&x509.Certificate{
			URIs: []*url.URL{identity.SiteURI(site)}, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		}, o.ca, r.CSR.PublicKey)},
	}
	if change != nil {
		change(&b)
	}
	out, err := b.Encode()
	if err != nil {
		o.t.Fatal(err)
	}
	return out
}

func TestASiteGetsItsIdentity(t *testing.T) {
	dir, hub, site := filepath.Join(t.TempDir(), "identity"), newOffice(t), ident.NewSiteID()
	if _, err := Load(dir); !errors.Is(err, ErrNotInstalled) || !strings.Contains(err.Error(), "keys init") {
		t.Errorf("without keys: %v", err)
	}
	request, err := Init(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Load(dir); !errors.Is(err, ErrNotInstalled) || !strings.Contains(err.Error(), "keys install") {
		t.Errorf("without certificate: %v", err)
	}
	if _, err := Install(dir, hub.answer(request, site, nil), time.Now()); err != nil {
		t.Fatal(err)
	}
	id, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	if id.Site != site || id.Hub != "hub.example.com:8443" || id.HubKey(ident.KeyIDOf(hub.evidence)) == nil || id.HubKey(ident.KeyID{}) != nil {
		t.Errorf("identity %+v", id)
	}
	c, err := id.TLS(nil).GetClientCertificate(nil)
	if err != nil || len(c.Certificate) != 1 {
		t.Errorf("certificate %v, %v", c, err)
	}
	for _, name := range []string{tlsKeyFile, evidenceKeyFile} {
		fi, err := os.Stat(filepath.Join(dir, name))
		if err != nil || fi.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, mode %v, want 0600", name, err, fi.Mode())
		}
	}
}

func TestInitKeepsWhatIsThere(t *testing.T) {
	dir := t.TempDir()
	var before []byte
	for range 2 {
		if _, err := Init(dir); err != nil {
			t.Fatal(err)
		}
		a, err1 := os.ReadFile(filepath.Join(dir, tlsKeyFile))
		b, err2 := os.ReadFile(filepath.Join(dir, evidenceKeyFile))
		if err := errors.Join(err1, err2); err != nil {
			t.Fatal(err)
		}
		now := append(a, b...)
		if before != nil && !bytes.Equal(before, now) {
			t.Error("a second init made other keys")
		}
		before = now
	}
}

func TestABundleThatIsNotForThisSiteIsRefused(t *testing.T) {
	dir, hub, other, site := t.TempDir(), newOffice(t), newOffice(t), ident.NewSiteID()
	request, err := Init(dir)
	if err != nil {
		t.Fatal(err)
	}
	foreign, err := Init(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Install(dir, hub.answer(request, site, nil), time.Now()); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		bundle []byte
		now    time.Time
		want   string
	}{
		"another site's key":  {hub.answer(foreign, site, nil), hub.now, "is not for this site's key"},
		"another site":        {hub.answer(request, ident.NewSiteID(), nil), hub.now, "an agent serves one site"},
		"another CA":          {hub.answer(request, site, func(b *identity.Bundle) { b.CA = []*x509.Certificate{other.ca} }), hub.now, "not signed by the CA in it"},
		"another name":        {hub.answer(request, site, func(b *identity.Bundle) { b.Site = ident.NewSiteID() }), hub.now, "the certificate names site"},
		"expired":             {hub.answer(request, site, nil), hub.now.Add(2 * time.Hour), "check this computer's clock"},
		"not valid yet":       {hub.answer(request, site, nil), hub.now.Add(-time.Hour), "check this computer's clock"},
		"not a bundle at all": {request, hub.now, "site bundle"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := Install(dir, c.bundle, c.now); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v does not say %q", err, c.want)
			}
		})
	}
	if id, err := Load(dir); err != nil || id.Site != site {
		t.Errorf("a refused bundle changed the identity: %v", err)
	}
}

func TestAKeyThatOthersCanReadIsRefused(t *testing.T) {
	dir := t.TempDir()
	if _, err := Init(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(dir, evidenceKeyFile), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Init(dir); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("error %v does not say what to do", err)
	}
}
