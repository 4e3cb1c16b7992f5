package series

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/hashinsight/hashinsight/hub/internal/pg"
)

// lockPartitions is held while partitions are made or dropped. The number is arbitrary but fixed: every hub process of a database uses
// the same.
const lockPartitions = 7_305_221_201

const (
	qLock      = `SELECT pg_advisory_xact_lock($1)`
	qLockWait  = `SELECT set_config('lock_timeout', $1, true)`
	qPartition = `SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = 'telemetry_hot'::regclass ORDER BY c.relname`
)

const partitionPrefix = "telemetry_hot_"

func partitionName(d int64) string {
	return partitionPrefix + time.Unix(d*86400, 0).UTC().Format("20060102")
}

// partitionDay is the inverse of partitionName.
func partitionDay(name string) (int64, bool) {
	text, ok := strings.CutPrefix(name, partitionPrefix)
	if !ok {
		return 0, false
	}
	t, err := time.Parse("20060102", text)
	return t.Unix() / 86400, err == nil
}

// Prepare makes the partitions that the rows of batches need and returns the range that Copy may write.
func (s *Store) Prepare(ctx context.Context, batches []Batch) (Span, error) {
	span := s.Hot()
	var missing []int64
	s.mu.Lock()
	for _, b := range batches {
		need := func(ms int64) {
			if d := dayOf(ms); ms >= span.FirstMS && ms < span.EndMS && !s.days[d] && !slices.Contains(missing, d) {
				missing = append(missing, d)
			}
		}
		if first, last := b.Samples.Meta.FirstMS, b.Samples.Meta.LastMS; dayOf(first) == dayOf(last) {
			need(first)
			need(last)
			continue
		}
		for _, ms := range b.Samples.TimeMS {
			need(ms)
		}
	}
	s.mu.Unlock()
	if len(missing) == 0 {
		return span, nil
	}
	return span, pg.InTx(ctx, s.c.Pool, func(tx pgx.Tx) error { return s.ensure(ctx, tx, missing) })
}

// PartitionGone reports whether err says that a partition was dropped since Prepare. The caller may then begin again with Prepare.
func (s *Store) PartitionGone(err error) bool {
	var pe *pgconn.PgError
	if !errors.As(err, &pe) || pe.Code != "23514" || pe.ConstraintName != "" {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.days)
	return true
}

// ensure makes the missing ones of the partitions of days. A partition is made apart and attached, which does not keep readers and
// writers of the others waiting.
func (s *Store) ensure(ctx context.Context, tx pgx.Tx, days []int64) error {
	if _, err := tx.Exec(ctx, qLock, lockPartitions); err != nil {
		return fmt.Errorf("making partitions: %w", err)
	}
	have, err := partitions(ctx, tx)
	if err != nil {
		return err
	}
	for _, d := range days {
		if slices.Contains(have, d) {
			continue
		}
		name, from, to := partitionName(d), time.Unix(d*86400, 0).UTC(), time.Unix((d+1)*86400, 0).UTC()
		for _, sql := range []string{
			"CREATE TABLE " + name + " (LIKE telemetry_hot INCLUDING DEFAULTS INCLUDING CONSTRAINTS)",
			"ALTER TABLE telemetry_hot ATTACH PARTITION " + name +
				" FOR VALUES FROM ('" + from.Format(time.RFC3339) + "') TO ('" + to.Format(time.RFC3339) + "')",
		} {
			if _, err := tx.Exec(ctx, sql); err != nil {
				return fmt.Errorf("making partition %s: %w", name, err)
			}
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, d := range days {
		s.days[d] = true // should the transaction fail after all, PartitionGone repairs it
	}
	return nil
}

func partitions(ctx context.Context, tx pgx.Tx) ([]int64, error) {
	rows, err := tx.Query(ctx, qPartition)
	if err != nil {
		return nil, fmt.Errorf("listing partitions: %w", err)
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, fmt.Errorf("listing partitions: %w", err)
	}
	var days []int64
	for _, n := range names {
		if d, ok := partitionDay(n); ok {
			days = append(days, d)
		}
	}
	return days, nil
}

// MakePartitions makes the partitions of today and the next two days. Any number of hub processes may call it at once.
func (s *Store) MakePartitions(ctx context.Context) error {
	today := dayOf(s.c.Now().UnixMilli())
	return pg.InTx(ctx, s.c.Jobs, func(tx pgx.Tx) error { return s.ensure(ctx, tx, []int64{today, today + 1, today + 2}) })
}
