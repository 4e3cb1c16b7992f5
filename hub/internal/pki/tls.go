package pki

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/hashinsight/hashinsight/hub/internal/apperr"
	"github.com/hashinsight/hashinsight/pkg/ident"
	"github.com/hashinsight/hashinsight/pkg/identity"
)

// Peer is the site at the other end of a call, after its certificate has been checked.
type Peer struct {
	Site     ident.SiteID
	NotAfter time.Time // of its certificate
}

// serverCert is the hub's own certificate with its key, which never leaves this process.
type serverCert struct {
	tls      *tls.Certificate
	serial   serial
	issuer   issuerID
	renewAt  time.Time
	stapleAt time.Time // when the staple is to be made anew
	retryAt  time.Time // not before this after a renewal that failed
}

// ServerTLS returns the settings of the hub's gRPC listener. A caller without a certificate is let in: it may only join. One that shows a certificate
// must name a site by it, on resumed sessions too. Whether the certificate counts is decided on each call, by Verify: a TLS 1.3 client learns nothing
// from a refused handshake, while a refused call tells it why. The chain shown goes up to the root, so that a site that holds nothing but the root's
// fingerprint can check it.
func (a *Authority) ServerTLS() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		ClientAuth: tls.RequestClientCert,
		NextProtos: []string{"h2"},
		Time:       a.now,
		GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			return a.serverCertificate(hello.Context())
		},
		VerifyConnection: func(cs tls.ConnectionState) error {
			if len(cs.PeerCertificates) == 0 {
				return nil
			}
			_, err := identity.SiteOf(cs.PeerCertificates[0])
			return err
		},
	}
}

// Times of the hub's own certificate.
const (
	recordTimeout = 3 * time.Second // for the database to take it
	renewRetry    = time.Minute     // after a renewal that failed while the old one is good
)

// serverCertificate returns the hub's own certificate, a new one when half of its life is over, when it was revoked, and when another root issues.
func (a *Authority) serverCertificate(ctx context.Context) (*tls.Certificate, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	now, by := a.now(), a.set.Load().active()
	if c := a.server; c == nil || c.issuer != by.id || !now.Before(c.renewAt) || a.revoked.has(c.serial) {
		if err := a.renewServer(ctx, by, now); err != nil {
			if c == nil || now.After(c.tls.Leaf.NotAfter) {
				return nil, err
			}
			a.log.WarnContext(ctx, "the hub's certificate is not renewed: the old one is shown", "err", err, "not_after", c.tls.Leaf.NotAfter)
		}
	}
	if !now.Before(a.server.stapleAt) {
		a.staple(ctx, by, now)
	}
	return a.server.tls, nil
}

// renewServer makes the hub's certificate. The caller holds mu.
func (a *Authority) renewServer(ctx context.Context, by *issuer, now time.Time) error {
	if a.server != nil && now.Before(a.server.retryAt) {
		return errors.New("tried a moment ago")
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordTimeout) // others wait for it too
	defer cancel()
	cert, err := a.issue(ctx, a.db, by, a.hubTemplate(), key.Public(), serverValidity)
	if err != nil {
		if a.server != nil {
			a.server.retryAt = now.Add(renewRetry)
		}
		return err
	}
	t := &tls.Certificate{PrivateKey: key, Leaf: cert}
	for _, c := range by.chain(cert) {
		t.Certificate = append(t.Certificate, c.Raw)
	}
	if !by.single() {
		t.Certificate = append(t.Certificate, by.root.Raw)
	}
	for _, c := range by.cross {
		t.Certificate = append(t.Certificate, c.Raw)
	}
	number, _ := serialOf(cert)
	a.server = &serverCert{tls: t, serial: number, issuer: by.id, renewAt: now.Add(serverValidity / 2)}
	return nil
}

const qCert = `
SELECT der, revoked_at IS NOT NULL, coalesce(revoked_why, ''), first_used_at IS NULL, superseded_at
FROM certificate WHERE serial = $1 AND site_id = $2`

// certRow is what the database says of a site's certificate.
type certRow struct {
	der        []byte
	revoked    bool
	why        string
	unused     bool
	superseded *time.Time
}

// Verify decides whether a site's certificate counts now. A refusal is a gRPC status with one of the reasons that package identity lists; a database
// that is away is Unavailable, never a pass. The first use of a renewed certificate ends those before it.
func (a *Authority) Verify(ctx context.Context, chain []*x509.Certificate) (Peer, error) {
	if len(chain) == 0 || chain[0] == nil {
		return Peer{}, a.refuse(identity.ReasonCertMissing, "this call needs a site's certificate, and none was shown")
	}
	leaf := chain[0]
	site, err := identity.SiteOf(leaf)
	if err != nil {
		return Peer{}, a.refuse(identity.ReasonCertUnknown, err.Error())
	}
	number, ok := serialOf(leaf)
	s := a.set.Load()
	if _, err := leaf.Verify(x509.VerifyOptions{
		Roots: s.rootPool, Intermediates: s.intermediates, CurrentTime: a.now(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}); err != nil || !ok {
		var invalid x509.CertificateInvalidError
		if errors.As(err, &invalid) && invalid.Reason == x509.Expired && s.issuerOf(leaf) != nil {
			return Peer{}, a.refuse(identity.ReasonCertExpired, fmt.Sprintf("the certificate of site %s is valid from %s to %s, and it is %s here", site,
				leaf.NotBefore.UTC().Format(time.RFC3339), leaf.NotAfter.UTC().Format(time.RFC3339), a.now().UTC().Format(time.RFC3339)))
		}
		return Peer{}, a.refuse(identity.ReasonCertUnknown, fmt.Sprintf("the certificate of site %s was not issued by this hub", site))
	}
	if r, ok := a.revoked.get(number); ok {
		return Peer{}, a.refuseRevoked(site, r.why)
	}
	row, err := a.certRow(ctx, number, site)
	for range 3 { // more often only if somebody changes it all the time
		if err != nil || row.revoked || row.superseded != nil || !row.unused || !bytes.Equal(row.der, leaf.Raw) {
			break
		}
		if err = a.firstUse(ctx, number, site); err == nil {
			row, err = a.certRow(ctx, number, site)
		}
	}
	switch {
	case errors.Is(err, pgx.ErrNoRows), err == nil && !bytes.Equal(row.der, leaf.Raw):
		return Peer{}, a.refuse(identity.ReasonCertUnknown, fmt.Sprintf("the certificate of site %s is not in this hub's database", site))
	case err != nil:
		a.log.WarnContext(ctx, "a site's certificate cannot be checked", "site", site, "err", err)
		return Peer{}, status.Error(codes.Unavailable, "DB_001: the hub cannot check certificates now: try again")
	case row.revoked:
		return Peer{}, a.refuseRevoked(site, row.why)
	case row.superseded != nil:
		a.cameBack(ctx, number, site, *row.superseded)
		return Peer{}, a.refuse(identity.ReasonCertSuperseded, fmt.Sprintf("a newer certificate of site %s has been used since %s: connect with that one; if this machine has none, "+
			"another one uses a copy of its key", site, row.superseded.UTC().Format(time.RFC3339)))
	}
	return Peer{Site: site, NotAfter: leaf.NotAfter}, nil
}

func (a *Authority) certRow(ctx context.Context, number serial, site ident.SiteID) (r certRow, err error) {
	err = a.db.QueryRow(ctx, qCert, number[:], site).Scan(&r.der, &r.revoked, &r.why, &r.unused, &r.superseded)
	return r, err
}

func (a *Authority) refuseRevoked(site ident.SiteID, why string) error {
	return a.refuse(identity.ReasonCertRevoked, fmt.Sprintf("the certificate of site %s was revoked: %s", site, why))
}

// RevokedStatus is the typed status with which a live call of a revoked site ends.
func RevokedStatus(why string) error {
	return refusal(identity.ReasonCertRevoked, "this site's certificate was revoked: "+why)
}

func (a *Authority) refuse(reason, text string) error {
	a.metrics.refused.WithLabelValues(reason).Inc()
	return refusal(reason, text)
}

func refusal(reason, text string) error {
	p := apperr.Of(apperr.E(apperr.Unauthenticated, "AUTH_004", "%s", text))
	st := status.Newf(p.GRPC, "%s: %s. %s", p.Code, p.Text, p.Help)
	detailed, err := st.WithDetails(&errdetails.ErrorInfo{Reason: reason, Domain: identity.ErrorDomain})
	if err != nil {
		return st.Err() // the text says it too
	}
	return detailed.Err()
}
