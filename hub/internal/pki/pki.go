// Package pki is the hub's certificate authority and the keeper of its keys: it issues certificates to sites and to the
// hub's own gRPC listener, decides on every call whether a site's certificate counts, and holds the Ed25519 key that
// signs acknowledgements. Names are SAN URIs (hsi://site/<uuid>, hsi://hub); common names are never trusted. It does not
// run listeners and does not read batches. hubd opens it; the command line registers sites through it.
package pki

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"net/url"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/hashinsight/hashinsight/pkg/ident"
	"github.com/hashinsight/hashinsight/pkg/identity"
)

const (
	caValidity     = 10 * 365 * 24 * time.Hour
	serverValidity = 24 * time.Hour  // of the hub's own certificate, which is replaced at half of it
	backdate       = 5 * time.Minute // certificates begin earlier than now, for clocks that are behind
)

// DefaultSiteValidity is how long a site's certificate is valid. It would be a day, but a site cannot renew by itself
// yet, and an operator should not have to carry files more often than each quarter.
const DefaultSiteValidity = 90 * 24 * time.Hour

// Config describes an Authority.
type Config struct {
	DB         *pgxpool.Pool
	Password   string                // ENCRYPTION_PASSWORD, seals the private keys
	Names      []string              // DNS names and IP addresses for the hub's own certificate
	Now        func() time.Time      // nil means time.Now
	Log        *slog.Logger          // nil means no log
	Registerer prometheus.Registerer // nil means no metrics
}

// Authority is the hub's certificate authority.
type Authority struct {
	db       *pgxpool.Pool
	names    []string
	now      func() time.Time
	log      *slog.Logger
	refused  *prometheus.CounterVec
	caKey    *ecdsa.PrivateKey
	ca       *x509.Certificate
	evidence ed25519.PrivateKey

	mu     sync.Mutex
	server *serverCert
}

// Open reads the hub's keys from the database, making them at first use.
func Open(ctx context.Context, c Config) (*Authority, error) {
	a := &Authority{db: c.DB, names: c.Names, now: c.Now, log: c.Log}
	if a.now == nil {
		a.now = time.Now
	}
	if a.log == nil {
		a.log = slog.New(slog.DiscardHandler)
	}
	a.refused = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "hashinsight_site_certificates_refused_total",
		Help: "Calls of sites that were refused because of their certificate, by reason.",
	}, []string{"reason"})
	if c.Registerer != nil {
		if err := c.Registerer.Register(a.refused); err != nil {
			return nil, fmt.Errorf("pki metrics: %w", err)
		}
	}
	if err := a.loadCA(ctx, c.Password); err != nil {
		return nil, err
	}
	if err := a.loadEvidence(ctx, c.Password); err != nil {
		return nil, err
	}
	return a, nil
}

func (a *Authority) loadCA(ctx context.Context, password string) error {
	plain, der, err := secret(ctx, a.db, password, "ca", a.now(), a.newCA)
	if err != nil {
		return err
	}
	key, err := x509.ParsePKCS8PrivateKey(plain)
	if err != nil {
		return fmt.Errorf("certificate authority's key: %w", err)
	}
	ec, ok := key.(*ecdsa.PrivateKey)
	if !ok {
		return fmt.Errorf("certificate authority's key is a %T, want ECDSA", key)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return fmt.Errorf("certificate authority's certificate: %w", err)
	}
	// The public column is not sealed: whoever can write the table must not be able to exchange it.
	if pub, ok := cert.PublicKey.(*ecdsa.PublicKey); !ok || !pub.Equal(ec.Public()) || cert.CheckSignatureFrom(cert) != nil {
		return errors.New("certificate authority's certificate does not belong to its key: hub_secret was tampered with or mixed from two databases")
	}
	a.caKey, a.ca = ec, cert
	return nil
}

func (a *Authority) newCA() (plain, public []byte, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	serial, err := newSerial()
	if err != nil {
		return nil, nil, err
	}
	now := a.now().UTC()
	tmpl := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{Organization: []string{"HashInsight"}, CommonName: "HashInsight hub CA"},
		NotBefore:    now.Add(-backdate), NotAfter: now.Add(caValidity),
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	if public, err = x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key); err != nil {
		return nil, nil, fmt.Errorf("making the certificate authority: %w", err)
	}
	plain, err = x509.MarshalPKCS8PrivateKey(key)
	return plain, public, err
}

func (a *Authority) loadEvidence(ctx context.Context, password string) error {
	seed, pub, err := secret(ctx, a.db, password, "evidence", a.now(), func() ([]byte, []byte, error) {
		pub, key, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			return nil, nil, err
		}
		return key.Seed(), pub, nil
	})
	if err != nil {
		return err
	}
	if len(seed) != ed25519.SeedSize {
		return fmt.Errorf("hub's evidence key has %d bytes, want %d", len(seed), ed25519.SeedSize)
	}
	a.evidence = ed25519.NewKeyFromSeed(seed)
	if !a.evidence.Public().(ed25519.PublicKey).Equal(ed25519.PublicKey(pub)) { //nolint:forcetypeassert // ed25519 has no other
		return errors.New("hub's evidence public key does not belong to its private key: hub_secret was tampered with or mixed from two databases")
	}
	return nil
}

// EvidenceKey returns the key that signs the hub's acknowledgements.
func (a *Authority) EvidenceKey() ed25519.PrivateKey { return a.evidence }

// EvidencePublic returns the public part of EvidenceKey.
func (a *Authority) EvidencePublic() ed25519.PublicKey {
	return a.evidence.Public().(ed25519.PublicKey) //nolint:forcetypeassert // ed25519 has no other
}

// CA returns the root that signs sites' and the hub's certificates.
func (a *Authority) CA() *x509.Certificate { return a.ca }

// issueSite makes a certificate for a site's public key.
func (a *Authority) issueSite(site ident.SiteID, pub any, validFor time.Duration) (*x509.Certificate, error) {
	if validFor <= 0 {
		validFor = DefaultSiteValidity
	}
	return a.issue(&x509.Certificate{
		URIs:        []*url.URL{identity.SiteURI(site)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}, pub, validFor)
}

// issueServer makes the certificate of the hub's own listener.
func (a *Authority) issueServer(pub any) (*x509.Certificate, error) {
	tmpl := &x509.Certificate{
		URIs:        []*url.URL{identity.HubURI()},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	for _, n := range a.names {
		if ip := net.ParseIP(n); ip != nil {
			tmpl.IPAddresses = append(tmpl.IPAddresses, ip)
		} else {
			tmpl.DNSNames = append(tmpl.DNSNames, n)
		}
	}
	return a.issue(tmpl, pub, serverValidity)
}

func (a *Authority) issue(tmpl *x509.Certificate, pub any, validFor time.Duration) (*x509.Certificate, error) {
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	now := a.now().UTC()
	tmpl.SerialNumber = serial
	tmpl.Subject = pkix.Name{Organization: []string{"HashInsight"}} // names are in the URIs
	tmpl.NotBefore, tmpl.NotAfter = now.Add(-backdate), now.Add(validFor)
	if tmpl.NotAfter.After(a.ca.NotAfter) {
		tmpl.NotAfter = a.ca.NotAfter
	}
	tmpl.KeyUsage = x509.KeyUsageDigitalSignature
	tmpl.BasicConstraintsValid = true
	der, err := x509.CreateCertificate(rand.Reader, tmpl, a.ca, pub, a.caKey)
	if err != nil {
		return nil, fmt.Errorf("issuing a certificate: %w", err)
	}
	return x509.ParseCertificate(der)
}

// newSerial returns 127 random bits.
func newSerial() (*big.Int, error) {
	return rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
}

func serialBytes(c *x509.Certificate) []byte { return c.SerialNumber.FillBytes(make([]byte, 16)) }
