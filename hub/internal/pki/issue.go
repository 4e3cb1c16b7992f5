package pki

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/hashinsight/hashinsight/hub/internal/apperr"
	"github.com/hashinsight/hashinsight/pkg/ident"
	"github.com/hashinsight/hashinsight/pkg/identity"
)

// Lifetimes of what the CA issues.
const (
	// AgentValidity is of certificates that agents renew by themselves, at half of it.
	AgentValidity = 24 * time.Hour
	// DefaultSiteValidity is of certificates that a person carries to a site that does not renew by itself.
	DefaultSiteValidity = 90 * 24 * time.Hour
	// DefaultClientValidity is of API clients' certificates.
	DefaultClientValidity = 90 * 24 * time.Hour
	serverValidity        = 24 * time.Hour // of the hub's own certificate and OCSP responder, which are replaced at half of it
	maxValidity           = 400 * 24 * time.Hour
)

// ErrWeakKey means that a key is not one the CA certifies.
var ErrWeakKey = errors.New("key is too weak or of a kind that is not used here")

// template is a certificate to be issued and how it is recorded.
type template struct {
	x509.Certificate
	kind       string // of its row: site, hub, client; "" is not recorded
	profile    string // for the metric
	site       *ident.SiteID
	key        *uuid.UUID
	name       string
	supersedes bool
}

// siteTemplate is the profile of agents.
func siteTemplate(site ident.SiteID, profile string, supersedes bool) template {
	return template{
		Certificate: x509.Certificate{
			Subject:     pkix.Name{Organization: []string{"HashInsight"}},
			URIs:        []*url.URL{identity.SiteURI(site)},
			ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		},
		kind: "site", profile: profile, site: &site, supersedes: supersedes,
	}
}

// hubTemplate is the profile of the hub's own listener.
func (a *Authority) hubTemplate() template {
	t := template{
		Certificate: x509.Certificate{
			Subject:     pkix.Name{Organization: []string{"HashInsight"}},
			URIs:        []*url.URL{identity.HubURI()},
			ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		},
		kind: "hub", profile: "hub",
	}
	for _, n := range a.c.Names {
		if ip := net.ParseIP(n); ip != nil {
			t.IPAddresses = append(t.IPAddresses, ip)
		} else {
			t.DNSNames = append(t.DNSNames, n)
		}
	}
	return t
}

// ocspTemplate is the profile of the OCSP responder: clients need not ask whether it is revoked (RFC 6960, 4.2.2.2.1).
func ocspTemplate() template {
	return template{Certificate: x509.Certificate{
		Subject:         pkix.Name{Organization: []string{"HashInsight"}, CommonName: "HashInsight hub OCSP"},
		ExtKeyUsage:     []x509.ExtKeyUsage{x509.ExtKeyUsageOCSPSigning},
		ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 5}, Value: asn1.NullBytes}},
	}}
}

const (
	qAddCert = `
INSERT INTO certificate (serial, kind, site_id, der, not_before, not_after, issued_at, issuer, supersedes, name, key_id)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)`
	// What was never used and what nobody can dispute any more.
	qForget = `
DELETE FROM certificate WHERE serial IN (SELECT serial FROM certificate
WHERE not_after < $1 OR not_after < $2 AND first_used_at IS NULL AND supersedes OR not_after < $2 AND kind = 'hub' LIMIT 100)`
)

type execer interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
}

// issue makes a certificate under the active issuer and records it.
func (a *Authority) issue(ctx context.Context, tx execer, by *issuer, t template, pub crypto.PublicKey, validFor time.Duration) (*x509.Certificate, error) {
	number, err := newSerial()
	if err != nil {
		return nil, err
	}
	now := a.now().UTC()
	t.SerialNumber = number
	t.NotBefore, t.NotAfter = now.Add(-backdate), now.Add(validFor)
	if t.NotAfter.After(by.cert.NotAfter) {
		t.NotAfter = by.cert.NotAfter
	}
	t.KeyUsage = x509.KeyUsageDigitalSignature
	t.BasicConstraintsValid = true
	if a.c.URL != "" && t.kind != "" {
		base := strings.TrimSuffix(a.c.URL, "/") + pathPrefix
		t.CRLDistributionPoints = []string{base + by.id.String() + ".crl"}
		t.OCSPServer = []string{base + "ocsp"}
	}
	der, err := x509.CreateCertificate(rand.Reader, &t.Certificate, by.cert, pub, by.key)
	if err != nil {
		return nil, fmt.Errorf("issuing a certificate: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil || t.kind == "" {
		return cert, err
	}
	var issued []byte
	if !by.single() {
		issued = by.id[:]
	}
	var name *string
	if t.name != "" {
		name = &t.name
	}
	if _, err := tx.Exec(ctx, qAddCert, serialBytes(cert), t.kind, t.site, cert.Raw, cert.NotBefore, cert.NotAfter, now, issued, t.supersedes, name, t.key); err != nil {
		return nil, fmt.Errorf("recording a certificate: %w", err)
	}
	if _, err := tx.Exec(ctx, qForget, now.Add(-keepExpired), now.Add(-backdate)); err != nil {
		return nil, fmt.Errorf("forgetting old certificates: %w", err)
	}
	a.metrics.issued.WithLabelValues(t.profile).Inc()
	return cert, nil
}

// checkSiteKey refuses what is no site's TLS key.
func checkSiteKey(csr *x509.CertificateRequest) error {
	if csr == nil {
		return apperr.E(apperr.Invalid, "VALID_001", "there is no certificate request")
	}
	pub, ok := csr.PublicKey.(*ecdsa.PublicKey)
	if !ok || pub.Curve != elliptic.P256() {
		return apperr.E(apperr.Invalid, "VALID_001", "the request's TLS key is not an ECDSA key on P-256, which the agent makes by itself (hashinsight-agent keys init): %w", ErrWeakKey)
	}
	if err := csr.CheckSignature(); err != nil {
		return apperr.E(apperr.Invalid, "VALID_001", "the request is not signed by its own key: make it again")
	}
	return nil
}

// checkClientKey refuses keys that no API client should have.
func checkClientKey(pub crypto.PublicKey) error {
	switch k := pub.(type) {
	case *ecdsa.PublicKey:
		if k.Curve.Params().BitSize >= 256 {
			return nil
		}
	case ed25519.PublicKey:
		return nil
	case *rsa.PublicKey:
		if k.N.BitLen() >= 2048 && k.E > 2 {
			return nil
		}
	}
	return apperr.E(apperr.Invalid, "VALID_001", "the request's key is neither ECDSA on P-256 or larger, nor Ed25519, nor RSA of at least 2048 bits: %w", ErrWeakKey)
}

// serial is a certificate's number as it is stored: 16 bytes, big-endian.
type serial [16]byte

func serialOf(c *x509.Certificate) (s serial, ok bool) {
	if c.SerialNumber == nil || c.SerialNumber.Sign() < 0 || c.SerialNumber.BitLen() > 8*len(s) {
		return s, false
	}
	c.SerialNumber.FillBytes(s[:])
	return s, true
}

func serialBytes(c *x509.Certificate) []byte {
	s, _ := serialOf(c) // of our own making, or the zero number, which nobody has
	return s[:]
}
