package customer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/hashinsight/hashinsight/hub/internal/access"
	"github.com/hashinsight/hashinsight/hub/internal/apperr"
	"github.com/hashinsight/hashinsight/hub/internal/sla"
	"github.com/hashinsight/hashinsight/pkg/ident"
)

// Assignment is a miner's time in a contract, as it was recorded.
type Assignment struct {
	sla.Assignment
	SiteName   string
	Address    string // of the miner, as it was last heard of
	RecordedAt time.Time
	RecordedBy string    // as in the audit log
	EndedAt    time.Time // when its present end was recorded; zero: it was ordered with that end, or has none
}

const (
	assignmentColumns = `SELECT a.id, a.contract_id, a.site_id, a.miner_id, a.from_ms, coalesce(a.to_ms, 0), a.rate_mhs FROM contract_miner a `
	// What overlaps the time from $2 to $3. What was called off holds at no time.
	qAssignments = assignmentColumns + `WHERE a.contract_id = $1 AND a.from_ms < $3 AND (a.to_ms IS NULL OR a.to_ms > $2 AND a.to_ms > a.from_ms)
		ORDER BY a.site_id, a.miner_id, a.from_ms LIMIT $4`
	qByMiner = assignmentColumns + `WHERE a.site_id = $1 AND a.from_ms < $3 AND (a.to_ms IS NULL OR a.to_ms > $2 AND a.to_ms > a.from_ms)
		ORDER BY a.miner_id, a.from_ms LIMIT $4`

	// Names are looked up row by row. Joined, before the database has counted the rows of a new table, every miner of a site was compared with every row.
	recordedColumns = `SELECT a.id, a.contract_id, a.site_id, a.miner_id, a.from_ms, coalesce(a.to_ms, 0), a.rate_mhs, (SELECT s.name FROM site s WHERE s.id = a.site_id),
		(SELECT m.address FROM miner m WHERE m.site_id = a.site_id AND m.id = a.miner_id), a.recorded_at, a.recorded_by, a.ended_at FROM contract_miner a `
	qListAssignments = recordedColumns + `WHERE a.contract_id = $1 AND (a.site_id, a.miner_id, a.from_ms, a.id) > ($2, $3, $4, $5)
		AND ($6::bigint IS NULL OR a.from_ms <= $6 AND (a.to_ms IS NULL OR a.to_ms > $6)) ORDER BY a.site_id, a.miner_id, a.from_ms, a.id LIMIT $7`
	// By the ids' own index: for a list in the condition the database compares each row of the contract with each id.
	qTheseAssignments = recordedColumns + `JOIN unnest($2::uuid[]) w (id) ON w.id = a.id WHERE a.contract_id = $1 ORDER BY a.site_id, a.miner_id, a.from_ms, a.id`

	wantedRows  = `unnest($1::uuid[], $2::uuid[], $3::bigint[], $4::bigint[]) w (site_id, miner_id, from_ms, to_ms) `
	qUnknown    = `SELECT w.site_id, w.miner_id FROM unnest($1::uuid[], $2::uuid[]) w (site_id, miner_id) WHERE NOT EXISTS (SELECT FROM miner m WHERE m.site_id = w.site_id AND m.id = w.miner_id) LIMIT 3`
	qHaveBefore = `SELECT w.ord - 1, a.id FROM unnest($1::uuid[], $2::uuid[], $3::bigint[], $4::bigint[], $5::bigint[]) WITH ORDINALITY w (site_id, miner_id, from_ms, to_ms, rate_mhs, ord)
		JOIN contract_miner a ON a.contract_id = $6 AND a.site_id = w.site_id AND a.miner_id = w.miner_id AND a.from_ms = w.from_ms AND coalesce(a.to_ms, 0) = w.to_ms AND a.rate_mhs = w.rate_mhs
		WHERE a.to_ms IS NULL OR a.to_ms > a.from_ms`
	// $5 are assignments that do not count: they are being changed, or are what is ordered once more.
	qOverlaps = `SELECT w.miner_id, w.from_ms, w.to_ms, a.id, a.from_ms, coalesce(a.to_ms, 0), c.id, c.name, u.name FROM ` + wantedRows + `
		JOIN contract_miner a ON a.site_id = w.site_id AND a.miner_id = w.miner_id AND int8range(a.from_ms, a.to_ms) && int8range(w.from_ms, nullif(w.to_ms, 0))
		JOIN contract c ON c.id = a.contract_id JOIN customer u ON u.id = c.customer_id
		WHERE a.id <> ALL($5::uuid[]) ORDER BY w.miner_id, a.from_ms LIMIT 4`
	qFirstVersion     = `SELECT from_ms FROM contract_version WHERE contract_id = $1 ORDER BY version LIMIT 1`
	qCountAssignments = `SELECT count(*) FROM contract_miner WHERE contract_id = $1`
	qAssign           = `INSERT INTO contract_miner (id, contract_id, site_id, miner_id, from_ms, to_ms, rate_mhs, recorded_at, recorded_by)
		SELECT w.id, $6, w.site_id, w.miner_id, w.from_ms, nullif(w.to_ms, 0), w.rate_mhs, $8, $9
		FROM unnest($1::uuid[], $2::uuid[], $3::bigint[], $4::bigint[], $5::uuid[], $7::bigint[]) w (site_id, miner_id, from_ms, to_ms, id, rate_mhs)`
	qEndAssignments = `UPDATE contract_miner SET to_ms = $2, ended_at = $3 WHERE id = ANY($1)`

	// Times between two of a miner's assignments, and after its last one that has ended, in which it has none. With a customer ($2) only that one's
	// assignments are looked at, and only times between them: when another customer got the miner is none of its business.
	qGaps = `SELECT site_id, miner_id, to_ms, coalesce(next_ms, 0) FROM (
			SELECT a.site_id, a.miner_id, a.to_ms, lead(a.from_ms) OVER (PARTITION BY a.site_id, a.miner_id ORDER BY a.from_ms) AS next_ms
			FROM contract_miner a JOIN contract c ON c.id = a.contract_id
			WHERE (a.site_id, a.miner_id) IN (SELECT m.site_id, m.miner_id FROM contract_miner m WHERE m.contract_id = $1 AND (m.to_ms IS NULL OR m.to_ms > m.from_ms))
				AND (a.to_ms IS NULL OR a.to_ms > a.from_ms) AND ($2::uuid IS NULL OR c.customer_id = $2)) g
		WHERE next_ms > to_ms OR next_ms IS NULL AND to_ms <= $3 AND $2::uuid IS NULL ORDER BY to_ms DESC, site_id, miner_id LIMIT $4`
)

func scanAssignment(row pgx.CollectableRow) (a sla.Assignment, err error) {
	err = row.Scan((*[16]byte)(&a.ID), (*[16]byte)(&a.Contract), (*[16]byte)(&a.Site), (*[16]byte)(&a.Miner), &a.FromMS, &a.ToMS, &a.RateMHs)
	return a, err
}

func scanRecorded(row pgx.CollectableRow) (a Assignment, err error) {
	var ended *time.Time
	err = row.Scan((*[16]byte)(&a.ID), (*[16]byte)(&a.Contract), (*[16]byte)(&a.Site), (*[16]byte)(&a.Miner), &a.FromMS, &a.ToMS, &a.RateMHs, &a.SiteName, &a.Address, &a.RecordedAt, &a.RecordedBy, &ended)
	a.RecordedAt = a.RecordedAt.UTC()
	if ended != nil {
		a.EndedAt = ended.UTC()
	}
	return a, err
}

// Assignments returns what a contract has of miners at some time from one to another (0: open), in order of site, miner and time.
func (s *Store) Assignments(ctx context.Context, q Querier, contract uuid.UUID, fromMS, toMS int64) ([]sla.Assignment, error) {
	return s.assignments(ctx, q, qAssignments, contract, fromMS, toMS)
}

// ByMiner returns what any contract has of a site's miners at some time from one to another (0: open), in order of miner and time.
func (s *Store) ByMiner(ctx context.Context, q Querier, site ident.SiteID, fromMS, toMS int64) ([]sla.Assignment, error) {
	return s.assignments(ctx, q, qByMiner, uuid.UUID(site), fromMS, toMS)
}

func (s *Store) assignments(ctx context.Context, q Querier, sql string, of uuid.UUID, fromMS, toMS int64) ([]sla.Assignment, error) {
	rows, err := s.reader(q).Query(ctx, sql, of, fromMS, openEnd(toMS), 10*MaxAssignments)
	if err != nil {
		return nil, fmt.Errorf("reading assignments: %w", err)
	}
	all, err := pgx.CollectRows(rows, scanAssignment)
	if err != nil {
		return nil, fmt.Errorf("reading assignments: %w", err)
	}
	return all, nil
}

// AssignmentPlace is where a page of a contract's assignments ends; the zero place begins.
type AssignmentPlace struct {
	Site   ident.SiteID
	Miner  ident.MinerID
	FromMS int64
	ID     uuid.UUID
}

// ListAssignments lists a contract's assignments, those that ended too, in order of site, miner and time, after a place. AtMS, unless 0, picks those that
// hold at a time.
func (s *Store) ListAssignments(ctx context.Context, contract uuid.UUID, atMS int64, after AssignmentPlace, limit int) ([]Assignment, error) {
	var at *int64
	if atMS != 0 {
		at = &atMS
	}
	rows, err := s.c.DB.Query(ctx, qListAssignments, contract, after.Site, after.Miner, after.FromMS, after.ID, at, page(limit))
	if err != nil {
		return nil, fmt.Errorf("listing assignments of contract %s: %w", contract, err)
	}
	all, err := pgx.CollectRows(rows, scanRecorded)
	if err != nil {
		return nil, fmt.Errorf("listing assignments of contract %s: %w", contract, err)
	}
	return all, nil
}

// these returns the assignments of a contract with these ids, in order of site, miner and time.
func (s *Store) these(ctx context.Context, tx pgx.Tx, contract uuid.UUID, ids []uuid.UUID) ([]Assignment, error) {
	rows, err := tx.Query(ctx, qTheseAssignments, contract, raw(ids))
	if err != nil {
		return nil, fmt.Errorf("reading assignments of contract %s: %w", contract, err)
	}
	all, err := pgx.CollectRows(rows, scanRecorded)
	if err != nil {
		return nil, fmt.Errorf("reading assignments of contract %s: %w", contract, err)
	}
	return all, nil
}

// raw gives ids a form that arrays of the database take.
func raw[T ~[16]byte](ids []T) [][16]byte {
	out := make([][16]byte, len(ids))
	for i, id := range ids {
		out[i] = id
	}
	return out
}

// NewAssignment orders a miner for a contract.
type NewAssignment struct {
	Site    ident.SiteID
	Miner   ident.MinerID
	FromMS  int64
	ToMS    int64 // 0: open
	RateMHs int64 // 0: the terms'
}

// Assign gives miners to a contract: all of them or none. A miner that has a contract at one of these times is refused, and both named. An order that
// is repeated finds its assignments made.
func (s *Store) Assign(ctx context.Context, by access.Actor, contract uuid.UUID, list []NewAssignment) (made []Assignment, err error) {
	if len(list) == 0 || len(list) > MaxBatch {
		return nil, invalid("%d miners: want 1 to %d in one order", len(list), MaxBatch)
	}
	list = slices.Clone(list)
	slices.SortFunc(list, func(a, b NewAssignment) int {
		return cmp.Or(slices.Compare(a.Site[:], b.Site[:]), a.Miner.Compare(b.Miner), cmp.Compare(a.FromMS, b.FromMS))
	})
	err = s.change(ctx, by, func(tx pgx.Tx, now time.Time) error {
		if err := checkOrder(list, now); err != nil {
			return err
		}
		if err := Lock(ctx, tx, contract); err != nil {
			return err
		}
		return s.assign(ctx, tx, by, contract, list, now, &made)
	})
	var pe *pgconn.PgError
	if errors.As(err, &pe) && pe.ConstraintName == "contract_miner_once" { // by something that did not wait for the lock
		err = conflict("one of these miners has been given to another contract just now: order again, and the answer names it")
	}
	return made, err
}

// checkOrder refuses what is wrong with an order by itself. The list is sorted.
func checkOrder(list []NewAssignment, now time.Time) error {
	for i := range list {
		n := &list[i]
		what := fmt.Sprintf("miner %s of site %s: from", n.Miner, n.Site)
		if err := begins(what, n.FromMS, now); err != nil {
			return err
		}
		if n.ToMS != 0 {
			if err := inRange(fmt.Sprintf("miner %s of site %s: to", n.Miner, n.Site), n.ToMS); err != nil {
				return err
			}
			if n.ToMS <= n.FromMS {
				return invalid("miner %s of site %s: to (%s) must be after from (%s)", n.Miner, n.Site, text(n.ToMS), text(n.FromMS))
			}
		}
		if n.RateMHs < 0 || n.RateMHs > sla.MaxRateMHs {
			return invalid("miner %s of site %s: rate_mhs is %d: want 0 (the terms' rate) to %d", n.Miner, n.Site, n.RateMHs, int64(sla.MaxRateMHs))
		}
		if i > 0 && list[i-1].Site == n.Site && list[i-1].Miner == n.Miner && openEnd(list[i-1].ToMS) > n.FromMS {
			return invalid("miner %s of site %s is ordered twice at one time: from %s to %s and from %s to %s", n.Miner, n.Site,
				text(list[i-1].FromMS), text(list[i-1].ToMS), text(n.FromMS), text(n.ToMS))
		}
	}
	return nil
}

// columns are an order's rows as arrays.
type columns struct {
	sites, miners   [][16]byte
	from, to, rates []int64
}

func columnsOf(list []NewAssignment) (c columns) {
	for i := range list {
		n := &list[i]
		c.sites, c.miners = append(c.sites, n.Site), append(c.miners, n.Miner)
		c.from, c.to, c.rates = append(c.from, n.FromMS), append(c.to, n.ToMS), append(c.rates, n.RateMHs)
	}
	return c
}

func (s *Store) assign(ctx context.Context, tx pgx.Tx, by access.Actor, contract uuid.UUID, list []NewAssignment, now time.Time, made *[]Assignment) error {
	ids, err := s.haveBefore(ctx, tx, contract, list)
	if err != nil {
		return err
	}
	have := make([]uuid.UUID, 0, len(ids))
	left := list[:0:0]
	for i := range list {
		if id, ok := ids[i]; ok {
			have = append(have, id)
			continue
		}
		left = append(left, list[i])
	}
	if len(left) > 0 {
		added, err := s.add(ctx, tx, by, contract, left, have, now)
		if err != nil {
			return err
		}
		have = append(have, added...)
	}
	*made, err = s.these(ctx, tx, contract, have)
	return err
}

// haveBefore finds which of an order's rows the contract has already, to the letter.
func (s *Store) haveBefore(ctx context.Context, tx pgx.Tx, contract uuid.UUID, list []NewAssignment) (map[int]uuid.UUID, error) {
	c := columnsOf(list)
	rows, err := tx.Query(ctx, qHaveBefore, c.sites, c.miners, c.from, c.to, c.rates, contract)
	if err != nil {
		return nil, fmt.Errorf("looking for assignments: %w", err)
	}
	ids := map[int]uuid.UUID{}
	var i int
	var id uuid.UUID
	if _, err := pgx.ForEachRow(rows, []any{&i, &id}, func() error { ids[i] = id; return nil }); err != nil {
		return nil, fmt.Errorf("looking for assignments: %w", err)
	}
	return ids, nil
}

// add stores new rows and returns their ids. Except are those that are ordered once more, which are no overlap.
func (s *Store) add(ctx context.Context, tx pgx.Tx, by access.Actor, contract uuid.UUID, list []NewAssignment, except []uuid.UUID, now time.Time) ([]uuid.UUID, error) {
	var n int
	var first int64
	err := tx.QueryRow(ctx, qCountAssignments, contract).Scan(&n)
	if err == nil {
		err = tx.QueryRow(ctx, qFirstVersion, contract).Scan(&first)
	}
	if err != nil {
		return nil, fmt.Errorf("looking at contract %s: %w", contract, err)
	}
	if n+len(list) > MaxAssignments {
		return nil, conflict("contract %s has %d assignments, those that ended too, and may have %d: make a new contract", contract, n, MaxAssignments)
	}
	from, to := list[0].FromMS, int64(0)
	for i := range list {
		from, to = min(from, list[i].FromMS), max(to, openEnd(list[i].ToMS))
	}
	if from < first {
		return nil, invalid("contract %s has terms from %s on: no miner can belong to it at %s", contract, text(first), text(from))
	}
	if err := s.open(ctx, tx, contract, from, endOf(to), now); err != nil {
		return nil, err
	}
	if err := s.ahead(ctx, tx, contract, "from", from, now); err != nil {
		return nil, err
	}
	c := columnsOf(list)
	if err := known(ctx, tx, c.sites, c.miners); err != nil {
		return nil, err
	}
	if err := overlaps(ctx, tx, c, except); err != nil {
		return nil, err
	}
	ids := make([]uuid.UUID, len(list))
	for i := range ids {
		ids[i] = uuid.New()
	}
	if _, err := tx.Exec(ctx, qAssign, c.sites, c.miners, c.from, c.to, raw(ids), contract, c.rates, now, by.ID); err != nil {
		return nil, fmt.Errorf("adding miners to contract %s: %w", contract, err)
	}
	if err := s.c.Changed(ctx, tx, contract, from, endOf(to)); err != nil {
		return nil, err
	}
	lines := make([]string, len(list))
	for i := range list {
		n := &list[i]
		lines[i] = fmt.Sprintf("%s %s/%s %s %s %d", ids[i], n.Site, n.Miner, text(n.FromMS), text(n.ToMS), n.RateMHs)
	}
	return ids, s.recordLines(ctx, tx, by, "contract_miners_added", contract, map[string]any{hindsight: over(from, now)}, lines)
}

// perEntry is how many assignments one entry of the audit log names: its details are bounded, and none shall be dropped.
const perEntry = 80

func (s *Store) recordLines(ctx context.Context, tx pgx.Tx, by access.Actor, action string, contract uuid.UUID, details map[string]any, lines []string) error {
	all := len(lines)
	for chunk := range slices.Chunk(lines, perEntry) {
		d := map[string]any{"contract_id": contract.String(), "miners": all, "assignments": chunk}
		for k, v := range details {
			d[k] = v
		}
		if err := s.record(ctx, tx, by, action, d); err != nil {
			return err
		}
	}
	return nil
}

// known refuses miners that the hub has never heard of: most likely one of the ids belongs to something else.
func known(ctx context.Context, tx pgx.Tx, sites, miners [][16]byte) error {
	rows, err := tx.Query(ctx, qUnknown, sites, miners)
	if err != nil {
		return fmt.Errorf("looking for miners: %w", err)
	}
	var names []string
	var site ident.SiteID
	var miner ident.MinerID
	if _, err := pgx.ForEachRow(rows, []any{(*[16]byte)(&site), (*[16]byte)(&miner)}, func() error {
		names = append(names, fmt.Sprintf("site %s has no miner %s", site, miner))
		return nil
	}); err != nil {
		return fmt.Errorf("looking for miners: %w", err)
	}
	if len(names) > 0 {
		return invalid("%s: the hub knows a miner from its first reading on; check both ids", strings.Join(names, ", "))
	}
	return nil
}

// overlaps refuses times at which the miners have a contract already, and names both sides.
func overlaps(ctx context.Context, tx pgx.Tx, c columns, except []uuid.UUID) error {
	rows, err := tx.Query(ctx, qOverlaps, c.sites, c.miners, c.from, c.to, raw(except))
	if err != nil {
		return fmt.Errorf("looking for overlaps: %w", err)
	}
	var names []string
	var miner ident.MinerID
	var from, to, otherFrom, otherTo int64
	var id, other uuid.UUID
	var contract, owner string
	if _, err := pgx.ForEachRow(rows, []any{(*[16]byte)(&miner), &from, &to, &id, &otherFrom, &otherTo, &other, &contract, &owner}, func() error {
		if len(names) == 3 {
			names = append(names, "and others")
			return nil
		}
		names = append(names, fmt.Sprintf("miner %s from %s to %s overlaps its assignment %s to contract %q (%s) of customer %q from %s to %s",
			miner, text(from), text(to), id, contract, other, owner, text(otherFrom), text(otherTo)))
		return nil
	}); err != nil {
		return fmt.Errorf("looking for overlaps: %w", err)
	}
	if len(names) > 0 {
		return conflict("a miner has one contract at a time: %s; end that first, or choose another time", strings.Join(names, "; "))
	}
	return nil
}

// EndAssignments ends assignments of a contract at a time, 0 being now: all of them or none. One that has an end gets another one. Slots that are over stay as
// they are: an assignment ends no earlier, and one that has ended stays so. At its own beginning an assignment is called off; one that has begun only soon
// after it was recorded.
func (s *Store) EndAssignments(ctx context.Context, by access.Actor, contract uuid.UUID, ids []uuid.UUID, atMS int64) (ended []Assignment, err error) {
	if len(ids) == 0 || len(ids) > MaxBatch {
		return nil, invalid("%d assignments: want 1 to %d in one order", len(ids), MaxBatch)
	}
	if atMS != 0 {
		if err := inRange("at", atMS); err != nil {
			return nil, err
		}
	}
	err = s.change(ctx, by, func(tx pgx.Tx, now time.Time) error {
		if err := Lock(ctx, tx, contract); err != nil {
			return err
		}
		list, err := s.these(ctx, tx, contract, ids)
		if err != nil {
			return err
		}
		if err := allThere(contract, ids, list); err != nil {
			return err
		}
		at := cmp.Or(atMS, now.UnixMilli())
		var todo []NewAssignment
		var changed []uuid.UUID
		var lines []string
		from, to := openEnd(0), int64(0)
		for i := range list {
			a := &list[i]
			if atMS == 0 && a.ToMS != 0 && a.ToMS <= at { // ordered once more
				continue
			}
			if stays, err := ends(a, at, now); err != nil {
				return err
			} else if stays {
				continue
			}
			from, to = min(from, at, openEnd(a.ToMS)), max(to, at, openEnd(a.ToMS))
			todo = append(todo, NewAssignment{Site: a.Site, Miner: a.Miner, FromMS: a.FromMS, ToMS: at})
			changed = append(changed, uuid.UUID(a.ID))
			lines = append(lines, fmt.Sprintf("%s %s/%s %s %s", a.ID, a.Site, a.Miner, text(a.FromMS), text(a.ToMS)))
		}
		if len(todo) > 0 {
			if err := s.open(ctx, tx, contract, from, endOf(to), now); err != nil {
				return err
			}
			if err := overlaps(ctx, tx, columnsOf(todo), changed); err != nil { // a later end than before
				return err
			}
			if _, err := tx.Exec(ctx, qEndAssignments, raw(changed), at, now); err != nil {
				return fmt.Errorf("ending assignments of contract %s: %w", contract, err)
			}
			if err := s.c.Changed(ctx, tx, contract, from, endOf(to)); err != nil {
				return err
			}
			if err := s.recordLines(ctx, tx, by, "contract_miners_ended", contract, map[string]any{"at": text(at), hindsight: over(from, now)}, lines); err != nil {
				return err
			}
		}
		ended, err = s.these(ctx, tx, contract, ids)
		return err
	})
	return ended, err
}

// ends refuses an end that an assignment cannot get; stays tells that it has that end.
func ends(a *Assignment, atMS int64, now time.Time) (stays bool, err error) {
	switch {
	case a.ToMS == atMS:
		return true, nil
	case atMS < a.FromMS:
		return false, invalid("assignment %s begins at %s: it can end then, which calls it off, or later, and not at %s", a.ID, text(a.FromMS), text(atMS))
	case atMS == a.FromMS && now.Sub(a.RecordedAt) <= slip: // called off
		return false, nil
	case a.ToMS != 0 && over(a.ToMS, now):
		return false, conflict("assignment %s has ended at %s, and stays so: to have the miner in the contract again, add it from now on", a.ID, text(a.ToMS))
	case over(atMS, now):
		return false, conflict("assignment %s was in force until now (%s): what its miner owed stays owed, and it cannot end at %s; name a time from now on, or none to end it now",
			a.ID, text(now.UnixMilli()), text(atMS))
	}
	return false, nil
}

// allThere refuses ids that are no assignments of the contract.
func allThere(contract uuid.UUID, ids []uuid.UUID, list []Assignment) error {
	have := make(map[uuid.UUID]bool, len(list))
	for i := range list {
		have[uuid.UUID(list[i].ID)] = true
	}
	for _, id := range ids {
		if !have[id] {
			return apperr.E(apperr.NotFound, "NOTFOUND_001", "contract %s has no assignment %s: list its miners to see them", contract, id)
		}
	}
	return nil
}

// Gap is a time in which a miner that had a contract has none.
type Gap struct {
	Site   ident.SiteID
	Miner  ident.MinerID
	FromMS int64
	ToMS   int64 // 0: it has none since
}

// Gaps returns the gaps of a contract's miners, the newest first, at most MaxGaps; more tells that there are others. With a customer they are what that
// customer may know: times between its own assignments.
func (s *Store) Gaps(ctx context.Context, contract, customer uuid.UUID) (gaps []Gap, more bool, err error) {
	rows, err := s.c.DB.Query(ctx, qGaps, contract, orNull(customer), s.c.Now().UnixMilli(), MaxGaps+1)
	if err != nil {
		return nil, false, fmt.Errorf("looking for gaps of contract %s: %w", contract, err)
	}
	gaps, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (g Gap, err error) {
		err = row.Scan((*[16]byte)(&g.Site), (*[16]byte)(&g.Miner), &g.FromMS, &g.ToMS)
		return g, err
	})
	if err != nil {
		return nil, false, fmt.Errorf("looking for gaps of contract %s: %w", contract, err)
	}
	if len(gaps) > MaxGaps {
		return gaps[:MaxGaps], true, nil
	}
	return gaps, false, nil
}
