package pki

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/hashinsight/hashinsight/pkg/ident"
)

// Filter chooses certificates for a list.
type Filter struct {
	Kind   string        // site, hub or client; "" is all
	Site   *ident.SiteID // nil is all
	Before int64         // Seq of the last one of the page before; 0 begins with the newest
	Limit  int           // 1 to 500
}

// Certificate is one line of a list.
type Certificate struct {
	Seq          int64 // order of issue
	Serial       string
	Kind         string
	Site         *[16]byte // of kind site
	SiteName     string
	Name         string     // of kind client
	Key          *uuid.UUID // of kind client: the API key it stands for
	IssuedAt     time.Time
	NotAfter     time.Time
	FirstUsedAt  *time.Time
	SupersededAt *time.Time
	RevokedAt    *time.Time
	RevokedWhy   string
}

const qList = `
SELECT c.seq, encode(c.serial, 'hex'), c.kind, c.site_id, coalesce(s.name, ''), coalesce(c.name, ''), c.key_id, c.issued_at, c.not_after,
	c.first_used_at, c.superseded_at, c.revoked_at, coalesce(c.revoked_why, '')
FROM certificate c LEFT JOIN site s ON s.id = c.site_id
WHERE ($1::uuid IS NULL OR c.site_id = $1) AND ($2 = '' OR c.kind = $2) AND c.seq < $3 ORDER BY c.seq DESC LIMIT $4`

// List returns certificates, the newest first.
func (a *Authority) List(ctx context.Context, f Filter) ([]Certificate, error) {
	if f.Before == 0 {
		f.Before = math.MaxInt64
	}
	rows, err := a.db.Query(ctx, qList, f.Site, f.Kind, f.Before, min(max(f.Limit, 1), 500))
	if err != nil {
		return nil, fmt.Errorf("listing certificates: %w", err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Certificate])
	if err != nil {
		return nil, fmt.Errorf("listing certificates: %w", err)
	}
	return list, nil
}
