package peers

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/hashinsight/hashinsight/pkg/ident"
)

const qOrdered = `
SELECT site_id FROM peer WHERE rotate_wanted_at IS NOT NULL AND next_key IS NULL AND removed_at IS NULL ORDER BY rotate_wanted_at LIMIT $1`

// Ordered returns the sites that are asked for a new key and have not made one yet, the longest waiting first.
func (s *Store) Ordered(ctx context.Context, limit int) ([]ident.SiteID, error) {
	rows, err := s.c.DB.Query(ctx, qOrdered, limit)
	if err != nil {
		return nil, fmt.Errorf("reading orders: %w", err)
	}
	sites, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (id ident.SiteID, err error) {
		return id, row.Scan((*[16]byte)(&id))
	})
	if err != nil {
		return nil, fmt.Errorf("reading orders: %w", err)
	}
	return sites, nil
}
