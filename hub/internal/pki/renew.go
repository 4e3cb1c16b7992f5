package pki

import (
	"context"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/hashinsight/hashinsight/hub/internal/apperr"
	"github.com/hashinsight/hashinsight/hub/internal/audit"
	"github.com/hashinsight/hashinsight/pkg/ident"
	"github.com/hashinsight/hashinsight/pkg/identity"
)

// Rules of renewal and recovery.
const (
	renewFrom      = 0.4                 // part of a certificate's life after which it may be renewed; agents do so at half ± 10 %
	renewPause     = time.Minute         // between two renewals with different keys
	handOver       = 5 * time.Minute     // in which the old certificate may still turn up by itself, on connections that were open
	recoverWithin  = 30 * 24 * time.Hour // in which recoveries are counted
	recoverAtMost  = 3
	recoverHistory = 10 // recoveries that are remembered
)

// Why a certificate is not issued. Package enrol tells agents by identity's reasons.
var (
	ErrTooEarly   = errors.New("certificate is not due for renewal")
	ErrTooOften   = errors.New("asked again too soon")
	ErrRevoked    = errors.New("site is revoked")
	ErrCounted    = errors.New("recovered too often")
	ErrNotKnown   = errors.New("site has no certificate that could be recovered")
	ErrNoSuchSite = errors.New("no such site")
)

const (
	qLockSite  = `SELECT true FROM site WHERE id = $1 FOR UPDATE`
	qReinstate = `
INSERT INTO site_certificate (site_id) VALUES ($1)
ON CONFLICT (site_id) DO UPDATE SET revoked_at = NULL, revoked_why = NULL, revoked_by = NULL`
	qSiteState = `
INSERT INTO site_certificate AS s (site_id) VALUES ($1)
ON CONFLICT (site_id) DO UPDATE SET site_id = s.site_id
RETURNING revoked_at IS NOT NULL, coalesce(revoked_why, ''), recovered_at, recover_extra`
	qCertDates = `SELECT seq, issued_at, not_after FROM certificate WHERE serial = $1 AND site_id = $2 AND revoked_at IS NULL AND superseded_at IS NULL`
	qPending   = `
SELECT serial, der, issued_at FROM certificate
WHERE site_id = $1 AND supersedes AND first_used_at IS NULL AND revoked_at IS NULL AND superseded_at IS NULL AND not_after > $2
ORDER BY seq DESC LIMIT 1`
	qFirstUse = `
UPDATE certificate SET first_used_at = $3
WHERE serial = $1 AND site_id = $2 AND first_used_at IS NULL AND revoked_at IS NULL AND superseded_at IS NULL RETURNING seq, supersedes`
	qSupersede   = `UPDATE certificate SET superseded_at = $3 WHERE site_id = $1 AND seq < $2 AND revoked_at IS NULL AND superseded_at IS NULL`
	qRecoverable = `SELECT EXISTS (SELECT FROM certificate WHERE site_id = $1 AND revoked_at IS NULL)`
	qRecovered   = `UPDATE site_certificate SET recovered_at = $2, recover_extra = $3 WHERE site_id = $1`
	qAllow       = `
INSERT INTO site_certificate AS s (site_id, recover_extra) VALUES ($1, 1)
ON CONFLICT (site_id) DO UPDATE SET recover_extra = 1`
)

// lockSite keeps issue, renewal and revocation of one site apart: what is revoked cannot be renewed at the same moment.
func lockSite(ctx context.Context, tx pgx.Tx, site ident.SiteID) error {
	var there bool
	err := tx.QueryRow(ctx, qLockSite, site).Scan(&there)
	if errors.Is(err, pgx.ErrNoRows) {
		return apperr.E(apperr.NotFound, "NOTFOUND_001", "site %s does not exist: %w", site, ErrNoSuchSite)
	}
	if err != nil {
		return fmt.Errorf("site %s: %w", site, err)
	}
	return nil
}

// issueSite makes a site's certificate, records and audits it. The caller holds the site's row.
func (a *Authority) issueSite(ctx context.Context, tx pgx.Tx, site ident.SiteID, t template, csr *x509.CertificateRequest, validFor time.Duration) ([]*x509.Certificate, error) {
	by := a.set.Load().active()
	cert, err := a.issue(ctx, tx, by, t, csr.PublicKey, validFor)
	if err != nil {
		return nil, err
	}
	err = a.audit(ctx, tx, audit.Info, "certificate_issued", "", map[string]any{
		"site_id": site.String(), "serial": hex.EncodeToString(serialBytes(cert)), "profile": t.profile, "not_after": cert.NotAfter,
	})
	return by.chain(cert), err
}

// IssueSite makes a certificate for a site's agent, in the caller's transaction: the leaf first, then the intermediate. The request's names are ignored,
// weak keys are refused. A site that was revoked counts again from now on; who may order that is the caller's to know. The site's earlier
// certificates end when this one is first used.
func (a *Authority) IssueSite(ctx context.Context, tx pgx.Tx, site ident.SiteID, csr *x509.CertificateRequest, validFor time.Duration) ([]*x509.Certificate, error) {
	if validFor == 0 {
		validFor = AgentValidity
	}
	if validFor < 0 || validFor > maxValidity {
		return nil, apperr.E(apperr.Invalid, "VALID_001", "a certificate cannot be valid for %v: the most is %v", validFor, maxValidity)
	}
	if err := checkSiteKey(csr); err != nil {
		return nil, err
	}
	if err := lockSite(ctx, tx, site); err != nil {
		return nil, err
	}
	if _, err := tx.Exec(ctx, qReinstate, site); err != nil {
		return nil, fmt.Errorf("site %s: %w", site, err)
	}
	return a.issueSite(ctx, tx, site, siteTemplate(site, "enrolment", true), csr, validFor)
}

// Renew makes the next certificate of a site that shows its present one. Asked again with the same key, because the answer was lost, it gives the
// same certificate; with another key, the one that was never used ends. From 0.4 of its life on a certificate may be renewed, and at any time when the
// hub's roots have changed since it was issued. An error is a gRPC status where the present certificate does not count.
func (a *Authority) Renew(ctx context.Context, peer *x509.Certificate, csr *x509.CertificateRequest) (chain []*x509.Certificate, err error) {
	who, err := a.Verify(ctx, []*x509.Certificate{peer})
	if err != nil {
		return nil, err
	}
	if err := checkSiteKey(csr); err != nil {
		return nil, err
	}
	err = a.inTx(ctx, func(tx pgx.Tx) error {
		if err := lockSite(ctx, tx, who.Site); err != nil {
			return err
		}
		var seq int64
		var issuedAt, notAfter time.Time
		err := tx.QueryRow(ctx, qCertDates, serialBytes(peer), who.Site).Scan(&seq, &issuedAt, &notAfter)
		if errors.Is(err, pgx.ErrNoRows) { // since Verify, a moment ago
			return a.refuse(identity.ReasonCertRevoked, fmt.Sprintf("the certificate of site %s has just ended", who.Site))
		}
		if err != nil {
			return fmt.Errorf("renewing the certificate of site %s: %w", who.Site, err)
		}
		if err := a.due(peer, issuedAt, notAfter); err != nil {
			return err
		}
		if chain, err = a.pending(ctx, tx, who.Site, csr); err != nil || chain != nil {
			return err
		}
		chain, err = a.issueSite(ctx, tx, who.Site, siteTemplate(who.Site, "renewal", true), csr, AgentValidity)
		return err
	})
	if err != nil {
		return nil, err
	}
	return chain, nil
}

// due reports whether a certificate may be renewed now.
func (a *Authority) due(c *x509.Certificate, issuedAt, notAfter time.Time) error {
	s, now := a.set.Load(), a.now()
	for _, i := range s.trusted() {
		if i.createdAt.After(issuedAt) || i.activatedAt.After(issuedAt) {
			return nil
		}
	}
	from := issuedAt.Add(time.Duration(renewFrom * float64(notAfter.Sub(issuedAt))))
	if now.Before(from) {
		return apperr.E(apperr.Conflict, "CONFLICT_001", "the certificate is good until %s and can be renewed from %s on: %w",
			c.NotAfter.UTC().Format(time.RFC3339), from.UTC().Format(time.RFC3339), ErrTooEarly)
	}
	return nil
}

// pending returns the certificate that waits for its first use if it is for the same key, and else ends it.
func (a *Authority) pending(ctx context.Context, tx pgx.Tx, site ident.SiteID, csr *x509.CertificateRequest) ([]*x509.Certificate, error) {
	now := a.now().UTC()
	var number, der []byte
	var issuedAt time.Time
	err := tx.QueryRow(ctx, qPending, site, now).Scan(&number, &der, &issuedAt)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("looking for the pending certificate of site %s: %w", site, err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("pending certificate of site %s: %w", site, err)
	}
	if by := a.set.Load().active(); equalKeys(cert.PublicKey, csr.PublicKey) && cert.CheckSignatureFrom(by.cert) == nil && now.Before(issuedAt.Add(cert.NotAfter.Sub(issuedAt)/2)) {
		return by.chain(cert), nil
	}
	if now.Sub(issuedAt) < renewPause && now.Sub(issuedAt) >= 0 {
		return nil, apperr.E(apperr.TooMany, "API_001", "another key asked for this site's certificate less than %v ago: %w", renewPause, ErrTooOften)
	}
	if _, err := tx.Exec(ctx, qRevoke, number, now, "replaced before it was used", nil); err != nil {
		return nil, fmt.Errorf("ending the pending certificate of site %s: %w", site, err)
	}
	return nil, nil
}

// firstUse notes that a certificate is in use, and so ends those that it replaces.
func (a *Authority) firstUse(ctx context.Context, number serial, site ident.SiteID) error {
	return a.inTx(ctx, func(tx pgx.Tx) error {
		now := a.now().UTC()
		var seq int64
		var supersedes bool
		err := tx.QueryRow(ctx, qFirstUse, number[:], site, now).Scan(&seq, &supersedes)
		if errors.Is(err, pgx.ErrNoRows) || err == nil && !supersedes {
			return nil // another process was faster, or there is nothing to end
		}
		if err == nil {
			_, err = tx.Exec(ctx, qSupersede, site, seq, now)
		}
		if err != nil {
			return fmt.Errorf("first use of a certificate of site %s: %w", site, err)
		}
		return nil
	})
}

// cameBack looks at a certificate that was shown after it had been superseded: later than connections of before can last, it is a copy.
func (a *Authority) cameBack(ctx context.Context, number serial, site ident.SiteID, superseded time.Time) {
	if a.now().Sub(superseded) <= handOver {
		return
	}
	if err := a.copied(ctx, number, site); err != nil {
		a.log.WarnContext(ctx, "a copied key cannot be recorded", "site", site, "err", err)
	}
}

// copied ends a certificate that came back after its successor had been used, and raises the alarm: its key is in two places.
func (a *Authority) copied(ctx context.Context, number serial, site ident.SiteID) error {
	first := false
	err := a.inTx(ctx, func(tx pgx.Tx) error {
		var kind string
		var of *[16]byte
		err := tx.QueryRow(ctx, qRevoke, number[:], a.now().UTC(), "came back after its successor had been used: its key was copied", nil).Scan(&kind, &of)
		if errors.Is(err, pgx.ErrNoRows) {
			return nil // known already
		}
		if err != nil {
			return err
		}
		first = true
		return a.audit(ctx, tx, audit.Security, "certificate_key_copied", "", map[string]any{"site_id": site.String(), "serial": fmt.Sprintf("%x", number)})
	})
	if err == nil && first {
		a.metrics.copied.Inc()
		a.log.ErrorContext(ctx, "a replaced certificate came back: two machines have one key; find out which is the site's, revoke the site and enrol it anew",
			"site", site, "serial", fmt.Sprintf("%x", number))
	}
	return err
}

// Recover makes a certificate for a known site whose own has run out, in the caller's transaction; the caller has checked the proofs by the site's
// registered keys. Three in 30 days are given, then a person must allow another. Asked again with the same key before it was used, it gives the same
// certificate and does not count.
func (a *Authority) Recover(ctx context.Context, tx pgx.Tx, site ident.SiteID, csr *x509.CertificateRequest) ([]*x509.Certificate, error) {
	if err := checkSiteKey(csr); err != nil {
		return nil, err
	}
	if err := lockSite(ctx, tx, site); err != nil {
		return nil, err
	}
	var revoked, known bool
	var why string
	var times []time.Time
	var extra int
	if err := tx.QueryRow(ctx, qSiteState, site).Scan(&revoked, &why, &times, &extra); err != nil {
		return nil, fmt.Errorf("recovering site %s: %w", site, err)
	}
	if err := tx.QueryRow(ctx, qRecoverable, site).Scan(&known); err != nil {
		return nil, fmt.Errorf("recovering site %s: %w", site, err)
	}
	refuse := func(outcome string, err error) error {
		a.metrics.recovery.WithLabelValues(outcome).Inc()
		a.log.WarnContext(ctx, "recovery refused", "site", site, "err", err)
		return err
	}
	switch {
	case revoked:
		return nil, refuse("revoked", apperr.E(apperr.Unauthenticated, "AUTH_004", "site %s was revoked (%s): it can only be enrolled anew: %w", site, why, ErrRevoked))
	case !known:
		return nil, refuse("unknown", apperr.E(apperr.Unauthenticated, "AUTH_004", "site %s has no certificate that was not revoked: it can only be enrolled anew: %w", site, ErrNotKnown))
	}
	if chain, err := a.pending(ctx, tx, site, csr); err != nil || chain != nil {
		return chain, err
	}
	now := a.now().UTC()
	count := 0
	for _, t := range times {
		if now.Sub(t) < recoverWithin {
			count++
		}
	}
	if count >= recoverAtMost {
		if extra <= 0 {
			return nil, refuse("counted", apperr.E(apperr.TooMany, "API_001",
				"site %s has recovered %d times in 30 days: find out why its certificate runs out, then allow one more with hashinsight-hub ca allow-recovery %s: %w", site, count, site, ErrCounted))
		}
		extra--
	}
	times = append(times, now)
	times = times[max(0, len(times)-recoverHistory):]
	if _, err := tx.Exec(ctx, qRecovered, site, times, extra); err != nil {
		return nil, fmt.Errorf("recovering site %s: %w", site, err)
	}
	if err := a.audit(ctx, tx, audit.Warning, "certificate_recovered", "", map[string]any{"site_id": site.String(), "count": count + 1}); err != nil {
		return nil, err
	}
	chain, err := a.issueSite(ctx, tx, site, siteTemplate(site, "recovery", true), csr, AgentValidity)
	if err == nil {
		a.metrics.recovery.WithLabelValues("issued").Inc()
	}
	return chain, err
}

// AllowRecovery lets a site recover once beyond the count.
func (a *Authority) AllowRecovery(ctx context.Context, site ident.SiteID, by string) error {
	return a.inTx(ctx, func(tx pgx.Tx) error {
		if err := lockSite(ctx, tx, site); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, qAllow, site); err != nil {
			return fmt.Errorf("allowing site %s a recovery: %w", site, err)
		}
		return a.audit(ctx, tx, audit.Security, "recovery_allowed", by, map[string]any{"site_id": site.String()})
	})
}
