package customer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/hashinsight/hashinsight/hub/internal/access"
	"github.com/hashinsight/hashinsight/hub/internal/apperr"
	"github.com/hashinsight/hashinsight/hub/internal/sla"
	"github.com/hashinsight/hashinsight/pkg/ident"
	"github.com/hashinsight/hashinsight/pkg/proof"
)

// Excuse is a window in which miners may stand still, with what became of it.
type Excuse struct {
	sla.Excuse       // as it was recorded: Ends is zero
	EndedMS    int64 // to when it was shortened; 0: it was not
	SiteName   string
	RecordedBy string // as in the audit log
	Note       string // customers whose miners it concerns read it
	Judged     []Judged
}

// Why an excuse counts for a contract, or does not.
const (
	InTime      = "in_time"
	Late        = "late"         // curtailment that was recorded too long after its beginning
	ShortNotice = "short_notice" // maintenance that was recorded too shortly before its beginning
)

// Judged says whether an excuse was recorded in time for one version of one contract that it concerns. Caps on how much of a month may be excused are
// another matter: the month's slots decide.
type Judged struct {
	Contract     uuid.UUID
	Name         string
	Customer     uuid.UUID
	Version      int
	Why          string // InTime, Late or ShortNotice
	Term         string // of the terms, which decided
	TermS        int64  // its value, s
	RecordedByMS int64  // the last moment at which it would have been recorded in time
}

// Honoured reports whether it was recorded in time.
func (j *Judged) Honoured() bool { return j.Why == InTime }

// judge says whether terms honour an excuse, from when it was recorded.
func judge(t *sla.Terms, x *sla.Excuse) Judged {
	j := Judged{Contract: uuid.UUID(t.Contract), Customer: uuid.UUID(t.Customer), Version: t.Version, Why: InTime}
	late := Late
	switch x.Kind {
	case sla.Curtailment:
		j.Term, j.TermS = "curtail_late_s", t.CurtailLateS
		j.RecordedByMS = x.FromMS + 1000*t.CurtailLateS
	case sla.Maintenance:
		late = ShortNotice
		j.Term, j.TermS = "maintenance_notice_s", t.MaintenanceNoticeS
		j.RecordedByMS = x.FromMS - 1000*t.MaintenanceNoticeS
	}
	if x.RecordedMS > j.RecordedByMS {
		j.Why = late
	}
	return j
}

const (
	excuseColumns = `e.id, e.kind, e.site_id, e.miners, e.from_ms, e.to_ms, e.recorded_at, e.ends`
	// Windows that overlap the time from $2 to $3 at sites $1, and what shortens them. $4 is the longest window, which bounds the scan.
	qExcuses = `WITH w AS (SELECT ` + excuseColumns + ` FROM excuse e WHERE e.site_id = ANY($1) AND e.ends IS NULL AND e.from_ms < $3 AND e.from_ms > $2::bigint - $4::bigint AND e.to_ms > $2)
		SELECT * FROM w UNION ALL SELECT ` + excuseColumns + ` FROM excuse e JOIN w ON e.ends = w.id ORDER BY recorded_at, id LIMIT $5`

	viewColumns = `SELECT ` + excuseColumns + `, s.name, e.recorded_by, e.note, coalesce((SELECT min(x.to_ms) FROM excuse x WHERE x.ends = e.id), 0) FROM excuse e JOIN site s ON s.id = e.site_id `
	// $5 is a customer: what concerns none of its miners is not there for it.
	qListExcuses = viewColumns + `WHERE e.ends IS NULL AND ($1::uuid IS NULL OR e.site_id = $1) AND e.from_ms < $3 AND e.from_ms > $2::bigint - $4::bigint AND e.to_ms > $2
		AND (e.from_ms, e.id) < ($6, $7) AND ($5::uuid IS NULL OR EXISTS (SELECT FROM ` + concerned + ` a JOIN contract c ON c.id = a.contract_id WHERE c.customer_id = $5))
		ORDER BY e.from_ms DESC, e.id DESC LIMIT $8`
	qExcuse = viewColumns + `WHERE e.ends IS NULL AND e.id = $1`

	// The assignments that an excuse e is about. In two halves, and the second one miner at a time (OFFSET 0 keeps it so), because each then finds its rows
	// by the index of site, miner and time, whatever the database believes of the tables.
	within    = `a.site_id = e.site_id AND a.from_ms < e.to_ms AND (a.to_ms IS NULL OR a.to_ms > e.from_ms AND a.to_ms > a.from_ms)`
	concerned = `(SELECT a.contract_id, a.miner_id FROM contract_miner a WHERE cardinality(e.miners) = 0 AND ` + within + `
		UNION ALL SELECT a.contract_id, a.miner_id FROM unnest(e.miners) m (id) CROSS JOIN LATERAL (SELECT a.contract_id, a.miner_id FROM contract_miner a WHERE a.miner_id = m.id AND ` + within + ` OFFSET 0) a)`
	// The versions in force within each excuse's window, of the contracts that it concerns.
	qJudging = `SELECT e.id, c.name, v.terms, v.hash FROM excuse e
		JOIN LATERAL (SELECT DISTINCT a.contract_id FROM ` + concerned + ` a) x ON true
		JOIN contract c ON c.id = x.contract_id JOIN contract_version v ON v.contract_id = c.id
		WHERE e.id = ANY($1) AND ($2::uuid IS NULL OR c.customer_id = $2) AND v.from_ms < e.to_ms
			AND NOT EXISTS (SELECT FROM contract_version n WHERE n.contract_id = v.contract_id AND n.from_ms > v.from_ms AND n.from_ms <= e.from_ms)
		ORDER BY c.name, c.id, v.version LIMIT $3`
	qOwnMiners = `SELECT e.id, a.miner_id FROM excuse e JOIN LATERAL ` + concerned + ` a ON true JOIN contract c ON c.id = a.contract_id
		WHERE e.id = ANY($1) AND c.customer_id = $2 AND cardinality(e.miners) > 0 GROUP BY e.id, a.miner_id ORDER BY e.id, a.miner_id LIMIT $3`
	qConcerned = `SELECT DISTINCT a.contract_id FROM excuse e JOIN LATERAL ` + concerned + ` a ON true WHERE e.id = $1 ORDER BY a.contract_id`

	qSiteThere    = `SELECT EXISTS (SELECT FROM site WHERE id = $1)`
	qSiteOf       = `SELECT EXISTS (SELECT FROM contract_miner a JOIN contract c ON c.id = a.contract_id WHERE a.site_id = $1 AND c.customer_id = $2)`
	qCountExcuses = `SELECT count(*) FROM excuse WHERE site_id = $1 AND ends IS NULL AND from_ms >= $2 AND from_ms < $3`
	qCountEnds    = `SELECT count(*) FROM excuse WHERE ends = $1`
	qExcuseTaken  = `SELECT EXISTS (SELECT FROM excuse WHERE id = $1)`
	qAddExcuse    = `INSERT INTO excuse (id, kind, site_id, miners, from_ms, to_ms, recorded_at, recorded_by, note, ends) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)`
)

func scanExcuse(row pgx.CollectableRow) (x sla.Excuse, err error) {
	err = scanInto(row, &x)
	return x, err
}

func scanInto(row pgx.CollectableRow, x *sla.Excuse, more ...any) error {
	var kind string
	var miners [][16]byte
	var recorded time.Time
	var ends *uuid.UUID
	if err := row.Scan(append([]any{(*[16]byte)(&x.ID), &kind, (*[16]byte)(&x.Site), &miners, &x.FromMS, &x.ToMS, &recorded, &ends}, more...)...); err != nil {
		return err
	}
	x.Kind, x.RecordedMS = sla.ExcuseKind(kind), recorded.UnixMilli()
	for _, m := range miners {
		x.Miners = append(x.Miners, m)
	}
	if ends != nil {
		x.Ends = ident.UUID(*ends)
	}
	return nil
}

// Excuses returns the windows at sites that overlap the time from one to another (0: open), and every record that shortens one of them, in order of
// their recording.
func (s *Store) Excuses(ctx context.Context, q Querier, sites []ident.SiteID, fromMS, toMS int64) ([]sla.Excuse, error) {
	rows, err := s.reader(q).Query(ctx, qExcuses, raw(sites), fromMS, openEnd(toMS), MaxExcuse.Milliseconds(), 1_000_000)
	if err != nil {
		return nil, fmt.Errorf("reading excuses: %w", err)
	}
	all, err := pgx.CollectRows(rows, scanExcuse)
	if err != nil {
		return nil, fmt.Errorf("reading excuses: %w", err)
	}
	return all, nil
}

// ExcusePlace is where a page of excuses ends; the zero place begins.
type ExcusePlace struct {
	FromMS int64
	ID     uuid.UUID
}

// ListedExcuses says which excuses to list: those whose window overlaps the time from one to another (0: open), at one site or, with the zero site, all.
// With a customer they are those that concern miners it has then, and show no other's.
type ListedExcuses struct {
	Site         ident.SiteID
	Customer     uuid.UUID
	FromMS, ToMS int64
	After        ExcusePlace
	Limit        int
}

// ListExcuses lists excuses with how contracts take them, the latest beginning first.
func (s *Store) ListExcuses(ctx context.Context, l ListedExcuses) ([]Excuse, error) {
	var there bool
	var err error
	switch {
	case l.Site == (ident.SiteID{}):
		there = true
	case l.Customer != uuid.Nil:
		err = s.c.DB.QueryRow(ctx, qSiteOf, l.Site, l.Customer).Scan(&there)
	default:
		err = s.c.DB.QueryRow(ctx, qSiteThere, l.Site).Scan(&there)
	}
	if err == nil && !there {
		err = noSite(l.Site)
	}
	if err != nil {
		return nil, fmt.Errorf("listing excuses: %w", err)
	}
	after := l.After
	if after == (ExcusePlace{}) {
		after.FromMS = openEnd(0)
	}
	rows, err := s.c.DB.Query(ctx, qListExcuses, orNull(uuid.UUID(l.Site)), l.FromMS, openEnd(l.ToMS), MaxExcuse.Milliseconds(), orNull(l.Customer), after.FromMS, after.ID, page(l.Limit))
	if err != nil {
		return nil, fmt.Errorf("listing excuses: %w", err)
	}
	list, err := pgx.CollectRows(rows, scanView)
	if err != nil {
		return nil, fmt.Errorf("listing excuses: %w", err)
	}
	return list, s.judgeAll(ctx, s.c.DB, list, l.Customer)
}

func noSite(site ident.SiteID) error {
	return apperr.E(apperr.NotFound, "NOTFOUND_001", "site %s does not exist", site)
}

func scanView(row pgx.CollectableRow) (x Excuse, err error) {
	err = scanInto(row, &x.Excuse, &x.SiteName, &x.RecordedBy, &x.Note, &x.EndedMS)
	return x, err
}

// judgeAll fills in how contracts take excuses, and leaves a customer only what is its own of them.
func (s *Store) judgeAll(ctx context.Context, q Querier, list []Excuse, customer uuid.UUID) error {
	at := make(map[uuid.UUID]*Excuse, len(list))
	ids := make([]uuid.UUID, len(list))
	for i := range list {
		ids[i] = uuid.UUID(list[i].ID)
		at[ids[i]] = &list[i]
	}
	rows, err := q.Query(ctx, qJudging, raw(ids), orNull(customer), 100_000)
	if err != nil {
		return fmt.Errorf("judging excuses: %w", err)
	}
	var id uuid.UUID
	var name string
	var terms, hash []byte
	if _, err := pgx.ForEachRow(rows, []any{&id, &name, &terms, &hash}, func() error {
		t, err := sla.ParseTerms(terms)
		if err != nil {
			return err
		}
		j := judge(&t, &at[id].Excuse)
		j.Name = name
		at[id].Judged = append(at[id].Judged, j)
		return nil
	}); err != nil {
		return fmt.Errorf("judging excuses: %w", err)
	}
	if customer == uuid.Nil {
		return nil
	}
	for i := range list {
		list[i].RecordedBy, list[i].Miners = "", nil
	}
	if rows, err = q.Query(ctx, qOwnMiners, raw(ids), customer, 1_000_000); err != nil {
		return fmt.Errorf("looking for a customer's miners: %w", err)
	}
	var miner ident.MinerID
	if _, err := pgx.ForEachRow(rows, []any{&id, (*[16]byte)(&miner)}, func() error {
		at[id].Miners = append(at[id].Miners, miner)
		return nil
	}); err != nil {
		return fmt.Errorf("looking for a customer's miners: %w", err)
	}
	return nil
}

// NewExcuse orders an excuse to be recorded.
type NewExcuse struct {
	ID           uuid.UUID // the caller's choice, so that the order can be repeated; zero: a new one
	Kind         sla.ExcuseKind
	Site         ident.SiteID
	Miners       []ident.MinerID // none: all of the site
	FromMS, ToMS int64
	Note         string
}

// check makes an order complete, or says what is wrong with it.
func (n *NewExcuse) check(now time.Time) error {
	if n.Kind != sla.Curtailment && n.Kind != sla.Maintenance {
		return invalid("kind is %.20q: want %s or %s", string(n.Kind), sla.Curtailment, sla.Maintenance)
	}
	if err := errors.Join(begins("from", n.FromMS, now), inRange("to", n.ToMS)); err != nil {
		return err
	}
	if d := time.Duration(n.ToMS-n.FromMS) * time.Millisecond; d <= 0 || d > MaxExcuse {
		return invalid("from %s to %s: an excuse has a length, of at most %d days: record several for more", text(n.FromMS), text(n.ToMS), MaxExcuse/(24*time.Hour))
	}
	if len(n.Note) > maxNote || !plain(n.Note) {
		return invalid("note: want at most %d bytes of text without control characters", maxNote)
	}
	n.Miners = slices.Clone(n.Miners)
	slices.SortFunc(n.Miners, ident.MinerID.Compare)
	n.Miners = slices.Compact(n.Miners)
	if len(n.Miners) > MaxExcused {
		return invalid("%d miners: an excuse names at most %d; name none for all of the site, or record several", len(n.Miners), MaxExcused)
	}
	return nil
}

// Excuse records an excuse, as of now by the hub's clock, and says how the contracts that it concerns take it: one that comes too late is recorded and not
// honoured. An order with the id of an excuse that says the same finds it recorded.
func (s *Store) Excuse(ctx context.Context, by access.Actor, n NewExcuse) (x Excuse, err error) {
	err = s.change(ctx, by, func(tx pgx.Tx, now time.Time) error {
		if n.ID != uuid.Nil { // first of all: what is repeated may be out of date by now
			if x, err = s.repeated(ctx, tx, &n); err != nil || x.ID != (ident.UUID{}) {
				return err
			}
		}
		if err := n.check(now); err != nil {
			return err
		}
		if err := s.roomFor(ctx, tx, &n); err != nil {
			return err
		}
		if n.ID == uuid.Nil {
			n.ID = uuid.New()
		}
		if err := s.put(ctx, tx, by, &sla.Excuse{ID: ident.UUID(n.ID), Kind: n.Kind, Site: n.Site, Miners: n.Miners, FromMS: n.FromMS, ToMS: n.ToMS}, n.Note, now); err != nil {
			return err
		}
		if err := s.changedBy(ctx, tx, n.ID, n.FromMS, n.ToMS); err != nil {
			return err
		}
		if x, err = s.excuse(ctx, tx, n.ID); err != nil {
			return err
		}
		return s.record(ctx, tx, by, "excuse_recorded", map[string]any{
			"excuse_id": n.ID.String(), "kind": string(n.Kind), "site_id": n.Site.String(), "from": text(n.FromMS), "to": text(n.ToMS), "note": n.Note,
			"miners": len(n.Miners), "hash": fmt.Sprintf("%x", x.Hash()),
		})
	})
	return x, err
}

// repeated returns the excuse that an order names by its id, if there is one that says the same.
func (s *Store) repeated(ctx context.Context, tx pgx.Tx, n *NewExcuse) (x Excuse, err error) {
	var taken bool
	if err := tx.QueryRow(ctx, qExcuseTaken, n.ID).Scan(&taken); err != nil || !taken {
		return x, err
	}
	x, err = s.excuse(ctx, tx, n.ID)
	if err != nil && apperr.Of(err).HTTP != 404 {
		return x, err
	}
	miners := slices.Clone(n.Miners)
	slices.SortFunc(miners, ident.MinerID.Compare)
	if err != nil || x.Kind != n.Kind || x.Site != n.Site || !slices.Equal(x.Miners, slices.Compact(miners)) || x.FromMS != n.FromMS || x.ToMS != n.ToMS || x.Note != n.Note {
		return Excuse{}, conflict("there is a record with the id %s that says something else: choose another id, or none", n.ID)
	}
	return x, nil
}

// roomFor refuses an excuse for what the hub does not know, and one too many.
func (s *Store) roomFor(ctx context.Context, tx pgx.Tx, n *NewExcuse) error {
	var there bool
	if err := tx.QueryRow(ctx, qSiteThere, n.Site).Scan(&there); err != nil {
		return fmt.Errorf("looking for site %s: %w", n.Site, err)
	}
	if !there {
		return noSite(n.Site)
	}
	sites := make([][16]byte, len(n.Miners))
	for i := range sites {
		sites[i] = n.Site
	}
	if err := known(ctx, tx, sites, raw(n.Miners)); err != nil {
		return err
	}
	begin, end := month(n.FromMS)
	var count int
	if err := tx.QueryRow(ctx, qCountExcuses, n.Site, begin, end).Scan(&count); err != nil {
		return fmt.Errorf("counting excuses of site %s: %w", n.Site, err)
	}
	if count >= MaxExcuses {
		return conflict("site %s has %d excuses that begin in the month of %s, which is all that one may have: name several miners in one", n.Site, count, text(n.FromMS))
	}
	return nil
}

func (s *Store) put(ctx context.Context, tx pgx.Tx, by access.Actor, x *sla.Excuse, note string, now time.Time) error {
	x.RecordedMS = now.UnixMilli()
	if _, err := tx.Exec(ctx, qAddExcuse, x.ID, string(x.Kind), x.Site, raw(x.Miners), x.FromMS, x.ToMS, now, by.ID, note, orNull(uuid.UUID(x.Ends))); err != nil {
		return fmt.Errorf("recording an excuse: %w", err)
	}
	entry := proof.ExcuseBody{ID: x.ID, Hash: x.Hash()}
	return s.c.Note(ctx, tx, entry.Entry(x.RecordedMS))
}

// changedBy locks the contracts that an excuse concerns and tells that their slots changed.
func (s *Store) changedBy(ctx context.Context, tx pgx.Tx, excuse uuid.UUID, fromMS, toMS int64) error {
	rows, err := tx.Query(ctx, qConcerned, excuse)
	if err != nil {
		return fmt.Errorf("looking for the contracts of excuse %s: %w", excuse, err)
	}
	contracts, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
	if err != nil {
		return fmt.Errorf("looking for the contracts of excuse %s: %w", excuse, err)
	}
	for _, c := range contracts { // ascending, as everybody locks them
		if err := Lock(ctx, tx, c); err != nil {
			return err
		}
		if err := s.c.Changed(ctx, tx, c, fromMS, toMS); err != nil {
			return err
		}
	}
	return nil
}

// excuse returns one excuse as the operator sees it.
func (s *Store) excuse(ctx context.Context, q Querier, id uuid.UUID) (Excuse, error) {
	rows, err := q.Query(ctx, qExcuse, id)
	if err != nil {
		return Excuse{}, fmt.Errorf("reading excuse %s: %w", id, err)
	}
	list, err := pgx.CollectRows(rows, scanView)
	if err == nil && len(list) == 0 {
		return Excuse{}, apperr.E(apperr.NotFound, "NOTFOUND_001", "excuse %s does not exist", id)
	}
	if err != nil {
		return Excuse{}, fmt.Errorf("reading excuse %s: %w", id, err)
	}
	return list[0], s.judgeAll(ctx, q, list, uuid.Nil)
}

// EndExcuse shortens an excuse: it ends at a time, which before now is now, for what was excused until then stays so. At its beginning it is called off. An
// excuse that has ended by then stays as it is.
func (s *Store) EndExcuse(ctx context.Context, by access.Actor, id uuid.UUID, atMS int64) (x Excuse, err error) {
	if err := inRange("at", atMS); err != nil {
		return x, err
	}
	err = s.change(ctx, by, func(tx pgx.Tx, now time.Time) error {
		if x, err = s.excuse(ctx, tx, id); err != nil {
			return err
		}
		present := x.ToMS
		if x.EndedMS != 0 {
			present = x.EndedMS
		}
		end := max(atMS, now.UnixMilli())
		switch {
		case atMS < x.FromMS && end < x.FromMS:
			return invalid("excuse %s begins at %s: end it then, which calls it off, or later", id, text(x.FromMS))
		case atMS > present:
			return conflict("excuse %s ends at %s already: it can be shortened and not lengthened; record another one", id, text(present))
		case end >= present:
			return nil
		}
		var n int
		if err := tx.QueryRow(ctx, qCountEnds, id).Scan(&n); err != nil {
			return fmt.Errorf("counting what shortens excuse %s: %w", id, err)
		}
		if n >= MaxShortenings {
			return conflict("excuse %s was shortened %d times, which is all that one may be", id, n)
		}
		record := x.Excuse
		record.ID, record.Ends, record.ToMS = ident.NewUUID(), ident.UUID(id), end
		if err := s.put(ctx, tx, by, &record, "", now); err != nil {
			return err
		}
		if err := s.changedBy(ctx, tx, id, end, present); err != nil {
			return err
		}
		x.EndedMS = end
		return s.record(ctx, tx, by, "excuse_ended", map[string]any{
			"excuse_id": id.String(), "record_id": record.ID.String(), "kind": string(x.Kind), "site_id": x.Site.String(), "at": text(end), "ended_before": text(present),
		})
	})
	return x, err
}
