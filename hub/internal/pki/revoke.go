package pki

import (
	"context"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/hashinsight/hashinsight/hub/internal/apperr"
	"github.com/hashinsight/hashinsight/hub/internal/audit"
	"github.com/hashinsight/hashinsight/pkg/ident"
)

const qSiteRevoked = `
INSERT INTO site_certificate AS s (site_id, revoked_at, revoked_why, revoked_by) VALUES ($1, $2, $3, $4)
ON CONFLICT (site_id) DO UPDATE SET revoked_at = excluded.revoked_at, revoked_why = excluded.revoked_why, revoked_by = excluded.revoked_by,
	recover_extra = 0`

// revokeAll ends all certificates of a site, in the caller's transaction; every hub process is told at its commit.
func (a *Authority) revokeAll(ctx context.Context, tx pgx.Tx, site ident.SiteID, why, by string) error {
	if _, err := tx.Exec(ctx, qRevokeAll, site, a.now().UTC(), why, by); err != nil {
		return fmt.Errorf("revoking the certificates of site %s: %w", site, err)
	}
	if _, err := tx.Exec(ctx, qNotify, site.String()); err != nil {
		return fmt.Errorf("telling of the revocation of site %s: %w", site, err)
	}
	return nil
}

// RevokeSite ends a site and all its certificates, in the caller's transaction: from its commit on no call of the site is let in, nothing is renewed or
// recovered, and every hub process is told. The site's data and evidence keys stay; it comes back by a new enrolment under the same id.
func (a *Authority) RevokeSite(ctx context.Context, tx pgx.Tx, site ident.SiteID, why, by string) error {
	if why == "" {
		return apperr.E(apperr.Invalid, "VALID_001", "a revocation needs a reason: the site's agent shows it")
	}
	if len(why) > 500 {
		return apperr.E(apperr.Invalid, "VALID_001", "the reason of a revocation has at most 500 bytes, this one has %d", len(why))
	}
	if err := lockSite(ctx, tx, site); err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, qSiteRevoked, site, a.now().UTC(), why, by); err != nil {
		return fmt.Errorf("revoking site %s: %w", site, err)
	}
	if err := a.revokeAll(ctx, tx, site, why, by); err != nil {
		return err
	}
	return a.audit(ctx, tx, audit.Security, "site_revoked", by, map[string]any{"site_id": site.String(), "why": why})
}

// Revoke ends one certificate, of whatever kind: from now on calls with it are refused, at every hub on this database.
func (a *Authority) Revoke(ctx context.Context, cert *x509.Certificate, why, by string) error {
	return a.RevokeSerial(ctx, serialBytes(cert), why, by)
}

// RevokeSerial is Revoke by a certificate's number, 16 bytes.
func (a *Authority) RevokeSerial(ctx context.Context, number []byte, why, by string) error {
	return a.inTx(ctx, func(tx pgx.Tx) error {
		var kind string
		var site *[16]byte
		err := tx.QueryRow(ctx, qRevoke, number, a.now().UTC(), why, by).Scan(&kind, &site)
		if errors.Is(err, pgx.ErrNoRows) {
			return apperr.E(apperr.NotFound, "NOTFOUND_001", "there is no valid certificate with serial %x", number)
		}
		if err != nil {
			return fmt.Errorf("revoking a certificate: %w", err)
		}
		payload, details := "", map[string]any{"serial": hex.EncodeToString(number), "kind": kind, "why": why}
		if site != nil {
			payload = ident.SiteID(*site).String()
			details["site_id"] = payload
		}
		if _, err := tx.Exec(ctx, qNotify, payload); err != nil {
			return fmt.Errorf("telling of a revocation: %w", err)
		}
		return a.audit(ctx, tx, audit.Security, "certificate_revoked", by, details)
	})
}

// Revoked reports whether this process knows a certificate of this hub to be revoked, without asking the database: for checks at every handshake and
// request. It is as fresh as Watch keeps it.
func (a *Authority) Revoked(cert *x509.Certificate) (why string, revoked bool) {
	number, ok := serialOf(cert)
	if !ok {
		return "", false
	}
	r, ok := a.revoked.get(number)
	return r.why, ok
}
