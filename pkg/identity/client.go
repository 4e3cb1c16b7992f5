package identity

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"time"
)

// Why a hub's certificate does not count, as seen by a site.
var (
	ErrHubWrongCA = errors.New("certificate is not signed by the CA that this site trusts")
	ErrHubExpired = errors.New("certificate is not valid at this time")
	ErrHubName    = errors.New("certificate does not name a hub")
)

// Client says how a site proves itself to its hub, and whom it takes for its hub.
type Client struct {
	// Certificate returns the site's own; it is asked at every handshake, so that a renewed one is used at once.
	Certificate func() (*tls.Certificate, error)
	// CA returns the roots that sign the hub's certificate; it is asked at every handshake too.
	CA func() []*x509.Certificate
	// Check is asked last, with the verified certificate, on resumed sessions too; nil means no further check.
	Check func(hub *x509.Certificate) error
	// Unproven is told when the hub shows no good OCSP answer for its certificate, at every handshake; the connection goes on all the same, for a hub
	// whose responder is out of order must still be reached. nil means that nobody is told. With a proven revocation it does not go on.
	Unproven func(why error)
	// RequireStaple refuses the hub where Unproven would be told.
	RequireStaple bool
	Now           func() time.Time // nil means time.Now
}

// TLS returns the settings of a site's connection to its hub: TLS 1.3 only, the hub known by its URI name and never by the
// host it was dialled at. All checks are made in VerifyConnection, which, unlike the usual verification, also runs when a
// session is resumed.
func (c Client) TLS() *tls.Config {
	now := c.Now
	if now == nil {
		now = time.Now
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		NextProtos: []string{"h2"},
		Time:       now,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return c.Certificate()
		},
		InsecureSkipVerify: true, //nolint:gosec // verification by host name is replaced by the one below
		VerifyConnection: func(cs tls.ConnectionState) error {
			return c.verifyHub(cs, now())
		},
	}
}

func (c Client) verifyHub(cs tls.ConnectionState, now time.Time) error {
	if len(cs.PeerCertificates) == 0 {
		return fmt.Errorf("hub: %w: none was shown", ErrHubWrongCA)
	}
	leaf := cs.PeerCertificates[0]
	opts := x509.VerifyOptions{
		Roots: x509.NewCertPool(), Intermediates: x509.NewCertPool(), CurrentTime: now,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	for _, ca := range c.CA() {
		opts.Roots.AddCert(ca)
	}
	for _, cert := range cs.PeerCertificates[1:] {
		opts.Intermediates.AddCert(cert)
	}
	chains, err := leaf.Verify(opts)
	var invalid x509.CertificateInvalidError
	switch {
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return fmt.Errorf("hub: %w: %w", ErrHubExpired, err)
	case err != nil:
		return fmt.Errorf("hub: %w: %w", ErrHubWrongCA, err)
	}
	if err := CheckHub(leaf); err != nil {
		return fmt.Errorf("hub: %w: %w", ErrHubName, err)
	}
	if err := c.checkRevocation(cs, chains, now); err != nil {
		return err
	}
	if c.Check != nil {
		return c.Check(leaf)
	}
	return nil
}

// checkRevocation looks at the OCSP answer that came with the handshake; a resumed session has that of the handshake before.
func (c Client) checkRevocation(cs tls.ConnectionState, chains [][]*x509.Certificate, now time.Time) error {
	var why error
	for _, chain := range chains {
		if len(chain) < 2 {
			continue
		}
		revoked, err := checkStaple(cs.OCSPResponse, chain[0], chain[1], now)
		if revoked {
			return fmt.Errorf("hub: %w", ErrHubRevoked)
		}
		if err == nil {
			return nil
		}
		why = err
	}
	if why != nil && c.RequireStaple {
		return fmt.Errorf("hub: %w", why)
	}
	if why != nil && c.Unproven != nil {
		c.Unproven(why)
	}
	return nil
}
