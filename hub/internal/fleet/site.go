package fleet

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/hashinsight/hashinsight/pkg/ident"
	"github.com/hashinsight/hashinsight/pkg/telemetry"
	"github.com/hashinsight/hashinsight/pkg/unit"
)

// Site is a site with its totals.
type Site struct {
	ID           ident.SiteID
	Name         string
	CreatedAt    time.Time
	Connected    bool
	LastBatchAt  time.Time // hub's time of the newest committed batch; zero before the first
	LastSeenAt   time.Time // zero if its agent never connected
	AgentVersion string
	Skew         unit.Opt[time.Duration]
	PollInterval unit.Opt[time.Duration]
	PendingLinks int64 // batches whose link to the one before has not been checked, for want of that one
	BrokenLinks  int64 // batches that name another batch before them than the one stored
	Miners       StateCounts
	Hashrate     unit.Opt[unit.Hashrate] // sum of what is not stale
	Power        unit.Opt[unit.Watts]    // sum of what is not stale
	RevokedAt    time.Time               // zero unless the site is cut off
	RevokedWhy   string
}

// StateCounts counts miners by the state of their latest poll. Stale ones count in their state as well.
type StateCounts struct {
	Total, Stale int64
	ByState      [telemetry.StateStarting + 1]int64 // index: telemetry.State
}

// In returns the number of miners in a state.
func (c *StateCounts) In(s telemetry.State) int64 {
	if int(s) >= len(c.ByState) {
		return 0
	}
	return c.ByState[s]
}

const qSites = `
SELECT s.id, s.name, s.created_at, coalesce(a.connected AND a.lease_until > $1, false), t.last_received_at, a.last_seen_at,
	coalesce(a.version, ''), a.clock_skew_ms, a.poll_interval_ms,
	(SELECT count(*) FROM batch b WHERE b.site_id = s.id AND b.link_state = 0),
	(SELECT count(*) FROM batch b WHERE b.site_id = s.id AND b.link_state = 2),
	m.total, m.stale, m.unknown, m.hashing, m.degraded, m.sleeping, m.overheated, m.faulty, m.no_pool, m.starting, m.hashrate_mhs, m.power_dw,
	c.revoked_at, coalesce(c.revoked_why, '')
FROM site s
LEFT JOIN site_certificate c ON c.site_id = s.id AND c.revoked_at IS NOT NULL
LEFT JOIN agent a ON a.site_id = s.id
LEFT JOIN LATERAL (SELECT max(last_received_at) AS last_received_at FROM batch_total WHERE site_id = s.id) t ON true
CROSS JOIN LATERAL (
	SELECT count(*) AS total, count(*) FILTER (WHERE stale) AS stale,
		count(*) FILTER (WHERE state NOT BETWEEN 1 AND 7) AS unknown, count(*) FILTER (WHERE state = 1) AS hashing,
		count(*) FILTER (WHERE state = 2) AS degraded, count(*) FILTER (WHERE state = 3) AS sleeping,
		count(*) FILTER (WHERE state = 4) AS overheated, count(*) FILTER (WHERE state = 5) AS faulty,
		count(*) FILTER (WHERE state = 6) AS no_pool, count(*) FILTER (WHERE state = 7) AS starting,
		(sum(hashrate_mhs) FILTER (WHERE NOT stale))::float8 AS hashrate_mhs, (sum(power_dw) FILTER (WHERE NOT stale))::float8 AS power_dw
	FROM (
		SELECT l.state, l.hashrate_mhs, l.power_dw, ` + isStale + ` AS stale
		FROM miner_latest l WHERE l.site_id = s.id
	) x
) m
WHERE $2::uuid IS NULL OR s.id = $2
ORDER BY s.name
LIMIT $3`

// isStale is Stale for the latest poll l and its site's agent a, with the time now as $1.
const isStale = `l.at NOT BETWEEN $1::timestamptz - make_interval(secs => 2 * coalesce(a.poll_interval_ms, 60000) / 1000.0)
	AND $1::timestamptz + interval '2 minutes'`

// Sites lists all sites by name, with their totals.
func (s *Store) Sites(ctx context.Context) ([]Site, error) {
	return s.sites(ctx, pgtype.UUID{})
}

// Site returns one site with its totals, or ErrNotFound.
func (s *Store) Site(ctx context.Context, id ident.SiteID) (Site, error) {
	sites, err := s.sites(ctx, uuidOf(id))
	if err != nil {
		return Site{}, err
	}
	if len(sites) == 0 {
		return Site{}, fmt.Errorf("site %s: %w", id, ErrNotFound)
	}
	return sites[0], nil
}

func (s *Store) sites(ctx context.Context, one pgtype.UUID) ([]Site, error) {
	return collect(ctx, s.pool, "sites", qSites, []any{s.now(), one, maxSites}, func(r pgx.Rows) (Site, error) {
		var x Site
		var lastBatch, lastSeen, revoked *time.Time
		var skew *int64
		var interval *int32
		var hashrate, power *float64
		c := &x.Miners
		err := r.Scan((*[16]byte)(&x.ID), &x.Name, &x.CreatedAt, &x.Connected, &lastBatch, &lastSeen, &x.AgentVersion, &skew, &interval,
			&x.PendingLinks, &x.BrokenLinks, &c.Total, &c.Stale, &c.ByState[0], &c.ByState[1], &c.ByState[2], &c.ByState[3], &c.ByState[4],
			&c.ByState[5], &c.ByState[6], &c.ByState[7], &hashrate, &power, &revoked, &x.RevokedWhy)
		x.LastBatchAt, x.LastSeenAt, x.RevokedAt = deref(lastBatch), deref(lastSeen), deref(revoked)
		if skew != nil {
			x.Skew = unit.Some(time.Duration(*skew) * time.Millisecond)
		}
		if interval != nil {
			x.PollInterval = unit.Some(time.Duration(*interval) * time.Millisecond)
		}
		if hashrate != nil {
			x.Hashrate = unit.Some(unit.Hashrate(*hashrate) * unit.MegahashPerSecond)
		}
		if power != nil {
			x.Power = unit.Some(unit.Watts(*power) / 10)
		}
		return x, err
	})
}

// Counts are the numbers of the health page.
type Counts struct {
	Known, Connected int64 // sites
	Miners           int64
}

const qCounts = `
SELECT (SELECT count(*) FROM site), (SELECT count(*) FROM agent WHERE connected AND lease_until > $1), (SELECT count(*) FROM miner_latest)`

// Counts counts sites and miners.
func (s *Store) Counts(ctx context.Context) (Counts, error) {
	var c Counts
	if err := s.pool.QueryRow(ctx, qCounts, s.now()).Scan(&c.Known, &c.Connected, &c.Miners); err != nil {
		return Counts{}, fmt.Errorf("counting sites: %w", err)
	}
	return c, nil
}
