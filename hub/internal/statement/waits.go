package statement

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/hashinsight/hashinsight/hub/internal/sla"
	"github.com/hashinsight/hashinsight/pkg/evidence"
	"github.com/hashinsight/hashinsight/pkg/ident"
)

const (
	// closeAfter is the least time from a month's end to its statement, whatever the terms' backfill deadline.
	closeAfter = 72 * time.Hour
	// giveUpAfter is how long after that a statement waits for evidence that does not come: a hole that never fills must not keep a customer from statement
	// and credit for ever. Then it is issued with what is there, the hours concerned count as unknown, and a restatement takes what comes later.
	giveUpAfter = 30 * 24 * time.Hour
	// named is how many hours or batches are named in a text that says what a statement waits for.
	named = 3
)

const (
	// Hours of a site from a first until before a last one that cannot be judged yet.
	qPendingHours = `
SELECT h.site_id, h.hour, h.spool_id, count(*) OVER () FROM site_hour h JOIN unnest($1::uuid[], $2::integer[], $3::integer[]) w (site_id, first, last)
	ON h.site_id = w.site_id AND h.hour >= w.first AND h.hour < w.last
WHERE h.state = 0 ORDER BY h.hour, h.site_id, h.spool_id LIMIT $4`
	// Batches before the one that they follow, of those hours or the hour before, from which work may reach into them.
	qPendingLinks = `
SELECT b.site_id, b.spool_id, b.seq, count(*) OVER () FROM batch b JOIN unnest($1::uuid[], $2::integer[], $3::integer[]) w (site_id, first, last)
	ON b.site_id = w.site_id AND b.last_at >= to_timestamp((w.first - 1) * 3600.0) AND b.first_at < to_timestamp(w.last * 3600.0)
WHERE b.link_state = 0 ORDER BY b.site_id, b.spool_id, b.seq LIMIT $4`
	qUncomputed = `
SELECT count(*) FROM sla_group WHERE contract_id = $1 AND day >= $2 AND day < $3 AND (dirty OR due_at <= $4)`
	qUnexpandedOf = `SELECT NOT EXISTS (SELECT FROM sla_through WHERE contract_id = $1 AND day >= $2)`
	// Notes that no hub has taken.
	qNoted = `
SELECT EXISTS (SELECT FROM sla_dirty WHERE contract_id = $1 AND month = $2)
	OR EXISTS (SELECT FROM facts_changed f JOIN unnest($3::uuid[], $4::integer[], $5::integer[]) w (site_id, first, last)
		ON f.site_id = w.site_id AND f.hour >= w.first AND f.hour < w.last)`
)

// window is the hours of a site that a contract's month covers.
type window struct {
	site        ident.SiteID
	first, last uint32 // last is not included
}

// windows returns the hours that a month covers, by site in order.
func windows(assigned []sla.Assignment, m sla.CalendarMonth) []window {
	bySite := map[ident.SiteID]*window{}
	for i := range assigned {
		a := assigned[i].Within(m)
		from, to := max(a.FromMS, m.FromMS()), a.ToMS
		if from >= to {
			continue
		}
		first, last := uint32(from/evidence.HourMS), uint32((to+evidence.HourMS-1)/evidence.HourMS)
		w := bySite[a.Site]
		if w == nil {
			w = &window{a.Site, first, last}
			bySite[a.Site] = w
		}
		w.first, w.last = min(w.first, first), max(w.last, last)
	}
	list := make([]window, 0, len(bySite))
	for _, w := range bySite {
		list = append(list, *w)
	}
	slices.SortFunc(list, func(a, b window) int { return slices.Compare(a.site[:], b.site[:]) })
	return list
}

// columns are windows as parameters of queries.
func columns(list []window) (sites [][16]byte, first, last []int32) {
	sites = make([][16]byte, len(list))
	for i, w := range list {
		sites[i], first, last = w.site, append(first, int32(w.first)), append(last, int32(w.last))
	}
	return sites, first, last
}

// dueMS is when a month's statement may be issued at the earliest.
func dueMS(rules *sla.Rules, m sla.CalendarMonth) int64 {
	at := m.ToMS() + closeAfter.Milliseconds()
	if rules != nil {
		at = max(at, rules.ClosesMS())
	}
	return at
}

func text(ms int64) string { return time.UnixMilli(ms).UTC().Format(time.RFC3339) }

// nothingDue is said of a month that will have no statement.
var nothingDue = []string{"nothing is contracted in this month: there will be no statement"} //nolint:gochecknoglobals // a constant that Go has no form for

// waits tells what keeps a month's statement from being issued; nothing: it can be issued.
func (s *Store) waits(ctx context.Context, q querier, contract uuid.UUID, m sla.CalendarMonth, rules *sla.Rules, now time.Time) ([]string, error) {
	if rules == nil {
		return nothingDue, nil
	}
	due := dueMS(rules, m)
	if now.UnixMilli() <= due {
		return []string{"until " + text(due) + " facts of the month may still come and count"}, nil
	}
	list := []string{}
	sites, first, last := columns(windows(rules.Assignments(), m))
	if giveUp := due + giveUpAfter.Milliseconds(); now.UnixMilli() <= giveUp {
		hours, err := pending(ctx, q, qPendingHours, sites, first, last, func(site ident.SiteID, spool ident.SpoolID, n int64) string {
			return fmt.Sprintf("%s of site %s (chain %s)", time.Unix(n*3600, 0).UTC().Format("2006-01-02T15"), site, spool)
		})
		if err != nil {
			return nil, err
		}
		if hours != "" {
			list = append(list, "signed hours that cannot be judged yet, at most until "+text(giveUp)+": "+hours)
		}
		links, err := pending(ctx, q, qPendingLinks, sites, first, last, func(site ident.SiteID, spool ident.SpoolID, n int64) string {
			return fmt.Sprintf("batch %d of chain %s of site %s", n, spool, site)
		})
		if err != nil {
			return nil, err
		}
		if links != "" {
			list = append(list, "batches whose predecessor has not come, at most until "+text(giveUp)+": "+links)
		}
	}
	ready, err := s.computed(ctx, q, contract, m, rules, now)
	if err != nil {
		return nil, err
	}
	if !ready {
		list = append(list, "days that are being computed again")
	}
	if s.key() == nil {
		list = append(list, "a hub process that has the hub's evidence key and runs the module jobs")
	}
	return list, nil
}

// pending names some of what a query finds, and says how many there are; empty when there is nothing.
func pending(ctx context.Context, q querier, sql string, sites [][16]byte, first, last []int32, name func(ident.SiteID, ident.SpoolID, int64) string) (string, error) {
	var args []any
	var site ident.SiteID
	var spool ident.SpoolID
	var n, all int64
	columns := []any{(*[16]byte)(&site), &n, (*[16]byte)(&spool), &all}
	if sql == qPendingLinks {
		columns[1], columns[2] = columns[2], columns[1]
	}
	args = append(args, sites, first, last, named)
	rows, err := q.Query(ctx, sql, args...)
	if err != nil {
		return "", fmt.Errorf("looking for evidence that is on its way: %w", err)
	}
	var names []string
	if _, err := pgx.ForEachRow(rows, columns, func() error { names = append(names, name(site, spool, n)); return nil }); err != nil {
		return "", fmt.Errorf("looking for evidence that is on its way: %w", err)
	}
	list := strings.Join(names, ", ")
	if more := all - int64(len(names)); more > 0 {
		list += fmt.Sprintf(" and %d more", more)
	}
	return list, nil
}

// computed reports whether the kept days of a month are those of the present facts, terms, assignments and excuses.
func (s *Store) computed(ctx context.Context, q querier, contract uuid.UUID, m sla.CalendarMonth, rules *sla.Rules, now time.Time) (bool, error) {
	var n int64
	if err := q.QueryRow(ctx, qUncomputed, contract, m.FirstDay(), (m + 1).FirstDay(), now).Scan(&n); err != nil {
		return false, fmt.Errorf("looking for days to compute: %w", err)
	}
	var missing, noted bool
	if err := q.QueryRow(ctx, qUnexpandedOf, contract, (m+1).FirstDay()-1).Scan(&missing); err != nil {
		return false, fmt.Errorf("looking for days to compute: %w", err)
	}
	sites, first, end := columns(windows(rules.Assignments(), m))
	if err := q.QueryRow(ctx, qNoted, contract, int32(m), sites, first, end).Scan(&noted); err != nil {
		return false, fmt.Errorf("looking for changes that were not taken: %w", err)
	}
	return n == 0 && !missing && !noted, nil
}
