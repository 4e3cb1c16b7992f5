package pki

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/hashinsight/hashinsight/hub/internal/apperr"
	"github.com/hashinsight/hashinsight/hub/internal/fleet"
	"github.com/hashinsight/hashinsight/hub/internal/pg"
	"github.com/hashinsight/hashinsight/pkg/ident"
	"github.com/hashinsight/hashinsight/pkg/identity"
)

// Registration is what an operator orders for a site.
type Registration struct {
	Name       string           // unique among the hub's sites
	Request    identity.Request // the site's own, already checked by identity.ParseRequest
	HubAddress string           // host:port that the site's agent dials
	ValidFor   time.Duration    // of the certificate; 0 means DefaultSiteValidity
	ReplaceKey bool             // the site's evidence key may change: the old key and all its certificates end
}

// keepExpired is how long a certificate stays listed after its end: as long as statements can be disputed.
const keepExpired = 400 * 24 * time.Hour

const (
	qSiteByName = `SELECT id FROM site WHERE name = $1 FOR UPDATE`
	qSiteKeys   = `SELECT site_id, key_id, revoked_at IS NOT NULL FROM site_key WHERE site_id = $1 OR public_key = $2 LIMIT 1000`
	qRevokeAll  = `
UPDATE certificate SET revoked_at = $2, revoked_why = $3, revoked_by = $4, revoked_xid = pg_current_xact_id()
WHERE site_id = $1 AND revoked_at IS NULL`
	qRevoke = `
UPDATE certificate SET revoked_at = $2, revoked_why = $3, revoked_by = $4, revoked_xid = pg_current_xact_id()
WHERE serial = $1 AND revoked_at IS NULL RETURNING kind, site_id`
	qSites = `
SELECT s.id, s.name, s.created_at,
	(SELECT array_agg(encode(k.key_id, 'hex') ORDER BY k.added_at) FROM site_key k WHERE k.site_id = s.id AND k.revoked_at IS NULL),
	(SELECT max(c.not_after) FROM certificate c WHERE c.site_id = s.id AND c.revoked_at IS NULL AND c.superseded_at IS NULL)
FROM site s ORDER BY s.name LIMIT 5000`
)

// Register makes a site known, or renews a known one, and returns what its agent needs. A site that asks again with the
// same evidence key gets a new certificate; older ones stay valid until they expire, so that the agent is not cut off
// before the new file has reached it.
func (a *Authority) Register(ctx context.Context, r Registration) (identity.Bundle, error) {
	if err := checkSiteKey(r.Request.CSR); err != nil {
		return identity.Bundle{}, err
	}
	name := strings.TrimSpace(r.Name)
	if r.ValidFor == 0 {
		r.ValidFor = DefaultSiteValidity
	}
	if r.ValidFor < 0 || r.ValidFor > maxValidity {
		return identity.Bundle{}, apperr.E(apperr.Invalid, "VALID_001", "a certificate cannot be valid for %v: the most is %v", r.ValidFor, maxValidity)
	}
	b := identity.Bundle{
		SiteName: name, HubAddress: r.HubAddress,
		CA:          a.Roots(),
		HubEvidence: []ed25519.PublicKey{a.EvidencePublic()},
	}
	err := pg.InTx(ctx, a.db, func(tx pgx.Tx) error {
		now := a.now().UTC()
		site, replaces, err := a.siteFor(ctx, tx, name, r, now)
		if err != nil {
			return err
		}
		if err := fleet.RegisterSite(ctx, tx, fleet.Registration{Site: site, Name: name, Key: r.Request.Evidence, At: now, Replaces: replaces, Note: a.c.Note}); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, qReinstate, site); err != nil {
			return fmt.Errorf("site %q: %w", name, err)
		}
		b.Site = site
		b.Certificate, err = a.issueSite(ctx, tx, site, siteTemplate(site, "by_hand", false), r.Request.CSR, r.ValidFor)
		return err
	})
	if err != nil {
		return identity.Bundle{}, err
	}
	a.log.InfoContext(ctx, "site registered", "site", b.Site, "name", name, "key", ident.KeyIDOf(r.Request.Evidence), "not_after", b.Certificate[0].NotAfter)
	return b, nil
}

// siteFor finds the site of that name or gives a new id, and refuses a key that belongs elsewhere or replaces another
// without order. It also returns the key whose place the new one takes, if it does.
func (a *Authority) siteFor(ctx context.Context, tx pgx.Tx, name string, r Registration, now time.Time) (site ident.SiteID, replaces ed25519.PublicKey, err error) {
	err = tx.QueryRow(ctx, qSiteByName, name).Scan((*[16]byte)(&site))
	known := err == nil
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		site = ident.NewSiteID()
	case err != nil:
		return site, replaces, fmt.Errorf("looking for site %q: %w", name, err)
	}
	rows, err := tx.Query(ctx, qSiteKeys, site, []byte(r.Request.Evidence))
	if err != nil {
		return site, replaces, fmt.Errorf("reading the keys of site %q: %w", name, err)
	}
	type key struct {
		site    ident.SiteID
		id      ident.KeyID
		revoked bool
	}
	keys, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (key, error) {
		var k key
		var id []byte
		if err := row.Scan((*[16]byte)(&k.site), &id, &k.revoked); err != nil {
			return k, err
		}
		copy(k.id[:], id)
		return k, nil
	})
	if err != nil {
		return site, replaces, fmt.Errorf("reading the keys of site %q: %w", name, err)
	}
	wanted := ident.KeyIDOf(r.Request.Evidence)
	var others []ident.KeyID
	for _, k := range keys {
		switch {
		case k.site != site:
			return site, replaces, apperr.E(apperr.Conflict, "CONFLICT_001", "evidence key %s belongs to site %s already: each site needs keys of its own (hashinsight-agent keys init)", wanted, k.site)
		case k.id == wanted && k.revoked:
			return site, replaces, apperr.E(apperr.Conflict, "CONFLICT_001", "evidence key %s of site %q was revoked and cannot come back: make a new one (hashinsight-agent keys init)", wanted, name)
		case k.id != wanted && !k.revoked:
			others = append(others, k.id)
		}
	}
	if !known || len(others) == 0 {
		return site, replaces, nil
	}
	if !r.ReplaceKey {
		return site, replaces, apperr.E(apperr.Conflict, "CONFLICT_001",
			"site %q has another evidence key (%s): register the new one with --replace-key if the old one is lost, or choose another name for another site", name, others[0])
	}
	for _, id := range others {
		if replaces, err = fleet.RevokeKey(ctx, tx, site, id, now, a.c.Note); err != nil {
			return site, replaces, err
		}
	}
	if err := a.revokeAll(ctx, tx, site, "evidence key replaced", ""); err != nil {
		return site, replaces, err
	}
	a.log.WarnContext(ctx, "site's evidence key replaced", "site", site, "name", name, "old_keys", len(others), "key", wanted)
	return site, replaces, nil
}

// Site is one line of the list of sites.
type Site struct {
	ID        ident.SiteID `json:"id"`
	Name      string       `json:"name"`
	CreatedAt time.Time    `json:"created_at"`
	Keys      []string     `json:"evidence_keys"`                   // ids of the valid ones
	NotAfter  *time.Time   `json:"certificate_not_after,omitempty"` // of the certificate that lasts longest; absent without any
}

// Sites lists the registered sites by name, at most 5,000.
func (a *Authority) Sites(ctx context.Context) ([]Site, error) {
	rows, err := a.db.Query(ctx, qSites)
	if err != nil {
		return nil, fmt.Errorf("listing sites: %w", err)
	}
	sites, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (Site, error) {
		var s Site
		err := row.Scan((*[16]byte)(&s.ID), &s.Name, &s.CreatedAt, &s.Keys, &s.NotAfter)
		return s, err
	})
	if err != nil {
		return nil, fmt.Errorf("listing sites: %w", err)
	}
	return sites, nil
}
