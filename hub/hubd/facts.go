package hubd

import (
	"context"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/hashinsight/hashinsight/hub/internal/audit"
	"github.com/hashinsight/hashinsight/hub/internal/facts"
	"github.com/hashinsight/hashinsight/hub/internal/proof"
	"github.com/hashinsight/hashinsight/pkg/ident"
)

// Dispute is a signed hour that does not agree with its batches or with another one.
type Dispute = facts.Dispute

// SignedHour is an hour that a site has signed, and what became of it.
type SignedHour = facts.Hour

// facts opens the signed hours for a command.
func (c Database) facts(pool *pgxpool.Pool) (*facts.Store, error) {
	l, err := audit.New(audit.Config{Now: c.Now, Log: c.Log})
	if err != nil {
		return nil, err
	}
	return facts.New(facts.Config{Pool: pool, Audit: l, Password: c.EncryptionPassword, Note: proof.Note, Now: c.Now, Log: c.Log})
}

// Disputes lists disputes, the latest found first; more tells that there are further ones.
func Disputes(ctx context.Context, c Database, limit int) (list []Dispute, more bool, err error) {
	limit = min(max(limit, 1), 999)
	err = c.do(ctx, true, func(ctx context.Context, pool *pgxpool.Pool, _ string) error {
		s, err := c.facts(pool)
		if err != nil {
			return err
		}
		list, err = s.Disputes(ctx, 0, limit+1)
		return err
	})
	if len(list) > limit {
		return list[:limit], true, err
	}
	return list, false, err
}

// DisputeOf returns one dispute.
func DisputeOf(ctx context.Context, c Database, id int64) (d Dispute, err error) {
	err = c.do(ctx, true, func(ctx context.Context, pool *pgxpool.Pool, _ string) error {
		s, err := c.facts(pool)
		if err != nil {
			return err
		}
		d, err = s.DisputeOf(ctx, id)
		return err
	})
	return d, err
}

// SignedHours lists a site's signed hours from <= hour < to, since 1970 UTC.
func SignedHours(ctx context.Context, c Database, site ident.SiteID, from, to uint32) (hours []SignedHour, err error) {
	err = c.do(ctx, true, func(ctx context.Context, pool *pgxpool.Pool, _ string) error {
		if _, err := fleetWith(ctx, pool, site); err != nil {
			return err
		}
		s, err := c.facts(pool)
		if err != nil {
			return err
		}
		hours, err = s.SiteHours(ctx, site, from, to)
		return err
	})
	return hours, err
}
