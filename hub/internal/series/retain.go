package series

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/hashinsight/hashinsight/hub/internal/pg"
)

const (
	// qUnwritten asks whether any hour of a day lacks something in its blocks, or was written so lately that more of the same may be coming.
	qUnwritten = `SELECT EXISTS (SELECT FROM block_dirty WHERE hour >= $1 AND hour < $1 + 24)
	OR EXISTS (SELECT FROM telemetry_hour WHERE hour >= $1 AND hour < $1 + 24 AND (sealed_at IS NULL OR written_at > $2 AND written_at <= $3))`
	// qUnnoted finds hours of a day with more hot rows than their blocks hold, which a hub of an earlier version has written without a note.
	qUnnoted = `
WITH hours AS (SELECT site_id, floor(extract(epoch FROM ts) / 3600)::integer AS hour, count(*) AS n FROM telemetry_hot
	WHERE ts >= $1 AND ts < $2 GROUP BY 1, 2)
INSERT INTO block_dirty (site_id, hour, from_ms)
SELECT site_id, hour, 0 FROM hours LEFT JOIN telemetry_hour t USING (site_id, hour) WHERE t.samples IS NULL OR t.samples < hours.n`
	qMarkDropped = `INSERT INTO hot_dropped (day, dropped_at) VALUES ($1, $2) ON CONFLICT DO NOTHING`
	qOldSlots    = `DELETE FROM site_5m WHERE slot < $1`
	qOldDays     = `DELETE FROM miner_day WHERE day < $1`
	qOldHours    = `DELETE FROM telemetry_hour WHERE hour < $1`
	qOldDropped  = `DELETE FROM hot_dropped WHERE day < $1`
	qBlockParts  = `SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = 'telemetry_block'::regclass ORDER BY c.relname`
)

// quietBeforeDrop is how long no late data of a day may have come before its hot rows are dropped.
const quietBeforeDrop = time.Hour

// Retain drops what is older than it is to be kept: hot partitions whose hours all stand in blocks, and months of blocks with their sums. It gives up at
// once on what a long query holds, so that nobody queues behind it; a later call tries again. Any number of hub processes may call it at once.
func (s *Store) Retain(ctx context.Context, now time.Time) error {
	var days []int64
	err := pg.InTx(ctx, s.c.Jobs, func(tx pgx.Tx) (err error) {
		days, err = partitions(ctx, tx)
		return err
	})
	if err != nil {
		return err
	}
	s.live.Set(float64(len(days)))
	var errs []error
	for _, d := range days {
		if d >= dayOf(now.Add(-s.c.Retention).UnixMilli()) {
			continue
		}
		if err := s.dropHot(ctx, d, now); err != nil {
			errs = append(errs, fmt.Errorf("dropping partition %s: %w", partitionName(d), err))
		}
	}
	if err := pg.InTx(ctx, s.c.Jobs, func(tx pgx.Tx) error { return s.dropBlocks(ctx, tx, now) }); err != nil {
		errs = append(errs, fmt.Errorf("dropping blocks: %w", err))
	}
	return errors.Join(errs...)
}

// dropHot drops the hot partition of a day, unless something in it is not yet in blocks.
func (s *Store) dropHot(ctx context.Context, d int64, now time.Time) error {
	unwritten := func(tx pgx.Tx) (is bool, err error) {
		err = tx.QueryRow(ctx, qUnwritten, d*24, now.Add(-quietBeforeDrop), now).Scan(&is)
		return is, err
	}
	wait := false
	err := pg.InTx(ctx, s.c.Jobs, func(tx pgx.Tx) (err error) {
		if wait, err = unwritten(tx); err != nil || wait {
			return err
		}
		if _, err := tx.Exec(ctx, qTimeout, blockTimeout); err != nil {
			return err
		}
		noted, err := tx.Exec(ctx, qUnnoted, time.Unix(d*86400, 0), time.Unix((d+1)*86400, 0))
		wait = noted.RowsAffected() > 0
		return err
	})
	if err != nil || wait {
		return err
	}
	return pg.InTx(ctx, s.c.Jobs, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, qLockWait, "2s"); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, qLock, lockPartitions); err != nil {
			return err
		}
		have, err := partitions(ctx, tx)
		if err != nil || !slices.Contains(have, d) {
			return err
		}
		// The parent first, as everyone else does, or two would wait for each other.
		if _, err := tx.Exec(ctx, "LOCK TABLE ONLY telemetry_hot, ONLY "+partitionName(d)+" IN ACCESS EXCLUSIVE MODE"); err != nil {
			return err
		}
		// What was written into it until now is committed, and so are its notes.
		if wait, err := unwritten(tx); err != nil || wait {
			return err
		}
		if _, err := tx.Exec(ctx, qMarkDropped, d, now); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, "DROP TABLE "+partitionName(d)); err != nil {
			return err
		}
		s.mu.Lock()
		delete(s.days, d)
		s.mu.Unlock()
		s.c.Log.InfoContext(ctx, "partition dropped", "partition", partitionName(d))
		return nil
	})
}

// dropBlocks drops the months of blocks that end before the time they are kept, and the sums of that time.
func (s *Store) dropBlocks(ctx context.Context, tx pgx.Tx, now time.Time) error {
	if _, err := tx.Exec(ctx, qLockWait, "2s"); err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, qLock, lockPartitions); err != nil {
		return err
	}
	first := monthOf(dayOf(now.Add(-s.c.Keep).UnixMilli()) * 24) // of the first month that is kept
	rows, err := tx.Query(ctx, qBlockParts)
	if err != nil {
		return err
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return err
	}
	dropped := false
	for _, n := range names {
		t, err := time.Parse("200601", strings.TrimPrefix(n, blockPrefix))
		if err != nil || t.Unix()/3600 >= first {
			continue
		}
		if _, err := tx.Exec(ctx, "DROP TABLE "+n); err != nil {
			return err
		}
		dropped = true
		s.c.Log.InfoContext(ctx, "partition dropped", "partition", n)
	}
	if !dropped {
		return nil
	}
	for sql, before := range map[string]int64{qOldSlots: first * slotsPerHour, qOldDays: first / 24, qOldHours: first, qOldDropped: first / 24} {
		if _, err := tx.Exec(ctx, sql, before); err != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.months)
	return nil
}

const blockPrefix = "telemetry_block_"

// monthOf is the first hour of an hour's month.
func monthOf(hour int64) int64 {
	t := time.Unix(hour*3600, 0).UTC()
	return time.Date(t.Year(), t.Month(), 1, 0, 0, 0, 0, time.UTC).Unix() / 3600
}

// ensureBlocks makes the partition that an hour's blocks need.
func (s *Store) ensureBlocks(ctx context.Context, hour int64) error {
	month := monthOf(hour)
	s.mu.Lock()
	known := s.months[month]
	s.mu.Unlock()
	if known {
		return nil
	}
	from := time.Unix(month*3600, 0).UTC()
	name := blockPrefix + from.Format("200601")
	err := pg.InTx(ctx, s.c.Jobs, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, qLock, lockPartitions); err != nil {
			return err
		}
		rows, err := tx.Query(ctx, qBlockParts)
		if err != nil {
			return err
		}
		names, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			return err
		}
		if slices.Contains(names, name) {
			return nil
		}
		if _, err := tx.Exec(ctx, "CREATE TABLE "+name+" (LIKE telemetry_block INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING STORAGE)"); err != nil {
			return err
		}
		_, err = tx.Exec(ctx, fmt.Sprintf("ALTER TABLE telemetry_block ATTACH PARTITION %s FOR VALUES FROM (%d) TO (%d)", name, month, from.AddDate(0, 1, 0).Unix()/3600))
		return err
	})
	if err != nil {
		return fmt.Errorf("making partition %s: %w", name, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.months[month] = true
	return nil
}
