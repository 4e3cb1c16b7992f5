package pki

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/hashinsight/hashinsight/pkg/ident"
	"github.com/hashinsight/hashinsight/pkg/identity"
)

// What package enrol asks beside issuing.

const qIsRevoked = `SELECT coalesce(revoked_why, '') FROM site_certificate WHERE site_id = $1 AND revoked_at IS NOT NULL`

// SiteRevoked reports whether a site is cut off, and why, in the caller's transaction.
func (a *Authority) SiteRevoked(ctx context.Context, tx pgx.Tx, site ident.SiteID) (why string, revoked bool, err error) {
	err = tx.QueryRow(ctx, qIsRevoked, site).Scan(&why)
	if errors.Is(err, pgx.ErrNoRows) {
		return "", false, nil
	}
	if err != nil {
		return "", false, fmt.Errorf("reading the state of site %s: %w", site, err)
	}
	return why, true, nil
}

const qNewest = `
SELECT der, issued_at FROM certificate
WHERE site_id = $1 AND kind = 'site' AND revoked_at IS NULL AND superseded_at IS NULL AND not_after > $2 ORDER BY seq DESC LIMIT 1`

// IssueAgain answers a site whose first answer may have been lost, in the caller's transaction: with the certificate that it was given, or a new one for
// the same key when half of that one's life is over. However often it is asked, it makes next to none. It returns none if the site's newest certificate
// is for another key, or has ended: since then the site was revoked, or somebody else joined as the site, and whoever asks is not its agent any more.
func (a *Authority) IssueAgain(ctx context.Context, tx pgx.Tx, site ident.SiteID, csr *x509.CertificateRequest) (chain []*x509.Certificate, err error) {
	if err := checkSiteKey(csr); err != nil {
		return nil, err
	}
	if err := lockSite(ctx, tx, site); err != nil {
		return nil, err
	}
	now := a.now().UTC()
	var der []byte
	var issuedAt time.Time
	err = tx.QueryRow(ctx, qNewest, site, now).Scan(&der, &issuedAt)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the newest certificate of site %s: %w", site, err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("newest certificate of site %s: %w", site, err)
	}
	if !equalKeys(cert.PublicKey, csr.PublicKey) {
		return nil, nil
	}
	if by := a.set.Load().active(); cert.CheckSignatureFrom(by.cert) == nil && now.Before(issuedAt.Add(cert.NotAfter.Sub(issuedAt)/2)) {
		return by.chain(cert), nil
	}
	return a.issueSite(ctx, tx, site, siteTemplate(site, "enrolment", true), csr, AgentValidity)
}

// Stands reports whether a caller has shown a certificate that this hub gave to a site, that is within its dates, and of which this process knows no
// revocation. It asks no database: what it is good for is to tell the hub's sites from strangers before anything is done for them. Whether the certificate
// counts is for Verify to say.
func (a *Authority) Stands(chain []*x509.Certificate) bool {
	if len(chain) == 0 || chain[0] == nil {
		return false
	}
	s, leaf := a.set.Load(), chain[0]
	if s == nil {
		return false
	}
	_, err := identity.SiteOf(leaf)
	number, ok := serialOf(leaf)
	if err != nil || !ok || a.revoked.has(number) {
		return false
	}
	_, err = leaf.Verify(x509.VerifyOptions{
		Roots: s.rootPool, Intermediates: s.intermediates, CurrentTime: a.now(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	return err == nil
}

// VerifyExpired decides whether a certificate that may have run out is one that this hub gave its site, neither revoked nor replaced since. It proves
// nothing about who shows it: the caller has checked a signature by its key, so that one which was replaced means a copy, as with Verify. A refusal is a gRPC status, as Verify's is.
func (a *Authority) VerifyExpired(ctx context.Context, leaf *x509.Certificate) (ident.SiteID, error) {
	site, err := identity.SiteOf(leaf)
	if err != nil {
		return site, a.refuse(identity.ReasonCertUnknown, err.Error())
	}
	number, ok := serialOf(leaf)
	if !ok || a.set.Load().issuerOf(leaf) == nil {
		return site, a.refuse(identity.ReasonCertUnknown, fmt.Sprintf("the certificate of site %s was not issued by this hub", site))
	}
	if r, ok := a.revoked.get(number); ok {
		return site, a.refuseRevoked(site, r.why)
	}
	row, err := a.certRow(ctx, number, site)
	switch {
	case errors.Is(err, pgx.ErrNoRows), err == nil && !bytes.Equal(row.der, leaf.Raw):
		return site, a.refuse(identity.ReasonCertUnknown, fmt.Sprintf("the certificate of site %s is not in this hub's database", site))
	case err != nil:
		a.log.WarnContext(ctx, "a site's certificate cannot be checked", "site", site, "err", err)
		return site, status.Error(codes.Unavailable, "DB_001: the hub cannot check certificates now: try again")
	case row.revoked:
		return site, a.refuseRevoked(site, row.why)
	case row.superseded != nil:
		a.cameBack(ctx, number, site, *row.superseded)
		return site, a.refuse(identity.ReasonCertSuperseded, fmt.Sprintf("a newer certificate of site %s has been used since %s: recover with that one; if this machine has none, "+
			"another one uses a copy of its key", site, row.superseded.UTC().Format(time.RFC3339)))
	}
	return site, nil
}

// Outdated reports whether a certificate was issued under a root that has been replaced: its site shall renew it now.
func (a *Authority) Outdated(leaf *x509.Certificate) bool {
	s := a.set.Load()
	by := s.issuerOf(leaf)
	return by != nil && by.id != s.active().id
}
