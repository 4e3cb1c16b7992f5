package statement

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/hashinsight/hashinsight/hub/internal/pg"
	"github.com/hashinsight/hashinsight/hub/internal/sla"
)

// Bounds of one step, so that a transaction stays short; what is left waits for the next.
const (
	notesStep  = 2000
	groupsStep = 5000
	expandStep = 200
)

// maxMonths bounds how far back a change reaches: a contract that was recorded late is computed for at most so many months.
const maxMonths = 120

const (
	qNote   = `INSERT INTO sla_dirty (contract_id, month) SELECT $1, m FROM generate_series($2::integer, $3::integer) m`
	qClosed = `SELECT EXISTS (SELECT FROM statement WHERE contract_id = $1 AND month >= $2 AND month <= $3)`
)

// Changed returns what package customer calls in the transaction that changes terms, miners or excuses of a contract for a span of time: the days are computed
// again. A span that ends with 0 is open. Days to come need no note.
func Changed(now func() time.Time) func(ctx context.Context, tx pgx.Tx, contract uuid.UUID, fromMS, toMS int64) error {
	return func(ctx context.Context, tx pgx.Tx, contract uuid.UUID, fromMS, toMS int64) error {
		last := sla.MonthOf(now().UnixMilli())
		if toMS > 0 {
			last = min(last, sla.MonthOf(max(fromMS, toMS-1)))
		}
		first := max(sla.MonthOf(fromMS), last-maxMonths)
		if _, err := tx.Exec(ctx, qNote, contract, int32(first), int32(last)); err != nil {
			return fmt.Errorf("noting that contract %s has changed: %w", contract, err)
		}
		return nil
	}
}

// Closed reports whether a statement was issued for a month that a span touches. A span that ends with 0 is open. The caller holds the contract's lock.
func Closed(ctx context.Context, tx pgx.Tx, contract uuid.UUID, fromMS, toMS int64) (closed bool, err error) {
	last := sla.MonthOf(sla.MaxMS)
	if toMS > 0 {
		last = sla.MonthOf(max(fromMS, toMS-1))
	}
	if err := tx.QueryRow(ctx, qClosed, contract, int32(sla.MonthOf(fromMS)), int32(last)).Scan(&closed); err != nil {
		return false, fmt.Errorf("looking for statements of contract %s: %w", contract, err)
	}
	return closed, nil
}

const (
	qUnexpanded = `
SELECT c.id FROM contract c LEFT JOIN sla_through t ON t.contract_id = c.id
WHERE t.day IS NULL OR t.day < $1 ORDER BY c.id LIMIT $2`
	qThroughMake = `INSERT INTO sla_through (contract_id, day) VALUES ($1, $2) ON CONFLICT DO NOTHING`
	qThroughLock = `SELECT day FROM sla_through WHERE contract_id = $1 FOR UPDATE SKIP LOCKED`
	qThroughSet  = `UPDATE sla_through SET day = $2 WHERE contract_id = $1`
	// Groups are locked in one order everywhere, contract, day, site: two hubs never wait for each other crosswise.
	qGroups = `
INSERT INTO sla_group (contract_id, site_id, day, dirty)
SELECT $1, u.site_id, u.day, true FROM unnest($2::uuid[], $3::integer[]) u (site_id, day) ORDER BY u.day, u.site_id
ON CONFLICT (contract_id, day, site_id) DO UPDATE SET dirty = true`
	qMonths    = `INSERT INTO sla_month (contract_id, month) SELECT $1, m FROM generate_series($2::integer, $3::integer) m ON CONFLICT DO NOTHING`
	qMarkMonth = `
UPDATE sla_group SET dirty = true FROM (
	SELECT contract_id, day, site_id FROM sla_group WHERE contract_id = $1 AND day >= $2 AND day < $3 ORDER BY day, site_id FOR UPDATE) g
WHERE sla_group.contract_id = g.contract_id AND sla_group.day = g.day AND sla_group.site_id = g.site_id`
	qTakeDirty = `
WITH gone AS (DELETE FROM sla_dirty WHERE ctid = ANY (ARRAY(SELECT ctid FROM sla_dirty LIMIT $1 FOR UPDATE SKIP LOCKED)) RETURNING contract_id, month)
SELECT DISTINCT contract_id, month FROM gone ORDER BY contract_id, month`
	qMarkSites = `
UPDATE sla_group SET dirty = true FROM (
	SELECT g.contract_id, g.day, g.site_id FROM sla_group g JOIN (SELECT DISTINCT * FROM unnest($1::uuid[], $2::integer[]) u (site_id, day)) d
		ON d.site_id = g.site_id AND d.day = g.day
	ORDER BY g.contract_id, g.day, g.site_id FOR UPDATE OF g) g
WHERE sla_group.contract_id = g.contract_id AND sla_group.day = g.day AND sla_group.site_id = g.site_id`
)

// take turns notes into groups that must be computed, and makes the groups of days that have begun.
func (s *Store) take(ctx context.Context, now time.Time) error {
	today := sla.DayOf(now.UnixMilli())
	rows, err := s.jobs.Query(ctx, qUnexpanded, today, expandStep)
	if err != nil {
		return fmt.Errorf("finding contracts whose day has begun: %w", err)
	}
	fresh, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
	if err != nil {
		return fmt.Errorf("finding contracts whose day has begun: %w", err)
	}
	for _, contract := range fresh {
		if err := s.expand(ctx, contract, today); err != nil {
			return fmt.Errorf("days of contract %s: %w", contract, err)
		}
	}
	for more := true; more; {
		if more, err = s.takeContracts(ctx, today); err != nil {
			return fmt.Errorf("taking notes of changed contracts: %w", err)
		}
	}
	for more := true; more; {
		if more, err = s.takeFacts(ctx); err != nil {
			return fmt.Errorf("taking notes of changed facts: %w", err)
		}
	}
	return nil
}

// expand makes the groups of the days that have begun since the last time. Days before are made by notes.
func (s *Store) expand(ctx context.Context, contract uuid.UUID, today int) error {
	return pg.InTx(ctx, s.jobs, func(tx pgx.Tx) error {
		first := sla.MonthOf(int64(today) * sla.DayMS).FirstDay()
		if _, err := tx.Exec(ctx, qThroughMake, contract, first-1); err != nil {
			return err
		}
		var through int
		if err := tx.QueryRow(ctx, qThroughLock, contract).Scan(&through); err != nil {
			if errors.Is(err, pgx.ErrNoRows) { // another hub is at it
				return nil
			}
			return err
		}
		if through >= today {
			return nil
		}
		if err := s.makeGroups(ctx, tx, contract, through+1, today+1); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, qThroughSet, contract, today)
		return err
	})
}

// takeContracts takes some notes of contracts; more tells that there may be further ones.
func (s *Store) takeContracts(ctx context.Context, today int) (more bool, err error) {
	err = pg.InTx(ctx, s.jobs, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, qTakeDirty, notesStep)
		if err != nil {
			return err
		}
		type note struct {
			Contract uuid.UUID
			Month    int32
		}
		notes, err := pgx.CollectRows(rows, pgx.RowToStructByPos[note])
		if err != nil {
			return err
		}
		more = len(notes) > 0
		// What changed is seen from here on: the transactions that left these notes have ended.
		for _, n := range notes {
			m := sla.CalendarMonth(n.Month)
			if _, err := tx.Exec(ctx, qMarkMonth, n.Contract, m.FirstDay(), (m + 1).FirstDay()); err != nil { // also those that no miner belongs to any more
				return err
			}
			if err := s.makeGroups(ctx, tx, n.Contract, m.FirstDay(), min((m+1).FirstDay(), today+1)); err != nil {
				return err
			}
		}
		return nil
	})
	return more, err
}

// takeFacts takes some notes of hours whose facts have changed.
func (s *Store) takeFacts(ctx context.Context) (more bool, err error) {
	err = pg.InTx(ctx, s.jobs, func(tx pgx.Tx) error {
		notes, err := s.c.Facts.TakeChanged(ctx, tx, notesStep)
		if err != nil || len(notes) == 0 {
			return err
		}
		more = true
		sites, days := make([][16]byte, len(notes)), make([]int32, len(notes))
		for i, n := range notes {
			sites[i], days[i] = n.Site, int32(n.Hour/24)
		}
		_, err = tx.Exec(ctx, qMarkSites, sites, days)
		return err
	})
	return more, err
}

// makeGroups makes the groups of a contract's sites for days from one until before another, to be computed.
func (s *Store) makeGroups(ctx context.Context, tx pgx.Tx, contract uuid.UUID, from, to int) error {
	if from >= to {
		return nil
	}
	assigned, err := s.c.Customers.Assignments(ctx, tx, contract, int64(from)*sla.DayMS, int64(to)*sla.DayMS)
	if err != nil {
		return err
	}
	type key struct {
		site [16]byte
		day  int
	}
	seen := make(map[key]struct{})
	var sites [][16]byte
	var days []int32
	for i := range assigned {
		a := &assigned[i]
		first, last := max(from, sla.DayOf(a.FromMS)), to-1
		if a.ToMS != 0 {
			last = min(last, sla.DayOf(a.ToMS-1))
		}
		for d := first; d <= last; d++ {
			k := key{a.Site, d}
			if _, ok := seen[k]; !ok {
				seen[k] = struct{}{}
				sites, days = append(sites, k.site), append(days, int32(d))
			}
		}
	}
	if len(days) > 0 {
		if _, err := tx.Exec(ctx, qMonths, contract, int32(sla.MonthOf(int64(slices.Min(days))*sla.DayMS)), int32(sla.MonthOf(int64(slices.Max(days))*sla.DayMS))); err != nil {
			return err
		}
	}
	for len(sites) > 0 {
		n := min(len(sites), groupsStep)
		if _, err := tx.Exec(ctx, qGroups, contract, sites[:n], days[:n]); err != nil {
			return err
		}
		sites, days = sites[n:], days[n:]
	}
	return nil
}
