package facts

import (
	"context"
	"fmt"
	"time"
)

const (
	// qOldPages and qOldHours take hours away that are as old as blocks that go. What was in dispute stays known: hour_dispute keeps its rows.
	qOldPages = `
DELETE FROM leaf_page p USING (SELECT site_id, hour, spool_id FROM site_hour WHERE hour < $1 ORDER BY hour LIMIT $2) h
WHERE p.site_id = h.site_id AND p.hour = h.hour AND p.spool_id = h.spool_id`
	qOldHours = `
DELETE FROM site_hour WHERE (site_id, hour, spool_id) IN (SELECT site_id, hour, spool_id FROM site_hour h WHERE hour < $1
	AND NOT EXISTS (SELECT FROM leaf_page p WHERE p.site_id = h.site_id AND p.hour = h.hour AND p.spool_id = h.spool_id) ORDER BY hour LIMIT $2)`
)

// retainAtOnce is how many hours one statement takes away.
const retainAtOnce = 200

// Retain takes away hours and leaves that are older than they are to be kept. Any number of hubs may call it at once.
func (s *Store) Retain(ctx context.Context, now time.Time) error {
	before := now.Add(-s.c.Keep).Unix() / 3600
	for ctx.Err() == nil {
		if _, err := s.c.Jobs.Exec(ctx, qOldPages, before, retainAtOnce); err != nil {
			return fmt.Errorf("taking old leaves away: %w", err)
		}
		tag, err := s.c.Jobs.Exec(ctx, qOldHours, before, retainAtOnce)
		if err != nil {
			return fmt.Errorf("taking old hours away: %w", err)
		}
		if tag.RowsAffected() == 0 {
			return nil
		}
	}
	return ctx.Err()
}
