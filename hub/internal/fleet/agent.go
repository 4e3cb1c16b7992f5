package fleet

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/hashinsight/hashinsight/pkg/ident"
	"github.com/hashinsight/hashinsight/pkg/unit"
)

// Lease is how long an agent counts as connected after its hub process last said so: a hub that died holds no site for longer. Renewed
// three times as often.
const Lease = 45 * time.Second

// leaseHorizon is the latest end of a lease that hubs whose clocks differ a little give. One beyond it was given by a clock that has been set back
// since, and holds nothing.
const leaseHorizon = 10 * Lease

// Stream is one connection of an agent.
type Stream struct {
	ID               [16]byte // random
	Site             ident.SiteID
	Spool            ident.SpoolID
	Version          string // of the agent's program
	Remote           string // address
	Skew             time.Duration
	PollInterval     time.Duration
	OldestPending    uint64
	Newest           uint64
	CertificateUntil time.Time // zero without TLS
}

const qOpenStream = `
INSERT INTO agent AS a (site_id, stream_id, connected, lease_until, spool_id, version, remote_address, connected_at, last_seen_at,
	clock_skew_ms, poll_interval_ms, oldest_pending_seq, newest_seq, certificate_not_after)
VALUES ($1, $2, true, $3, $4, $5, $6, $7, $7, $8, $9, $10, $11, $12)
ON CONFLICT (site_id) DO UPDATE SET stream_id = excluded.stream_id, connected = true, lease_until = excluded.lease_until,
	spool_id = excluded.spool_id, version = excluded.version, remote_address = excluded.remote_address,
	connected_at = excluded.connected_at, last_seen_at = excluded.last_seen_at, clock_skew_ms = excluded.clock_skew_ms,
	poll_interval_ms = excluded.poll_interval_ms, oldest_pending_seq = excluded.oldest_pending_seq,
	newest_seq = excluded.newest_seq, certificate_not_after = excluded.certificate_not_after
WHERE a.spool_id = excluded.spool_id OR NOT a.connected OR a.lease_until <= $7 OR a.lease_until > $13`

// OpenStream makes st the site's one stream. An older stream of the same spool is replaced: its next renewal fails. While a stream of
// another spool holds the lease it returns ErrCloned; of a site that is not registered, ErrNotFound.
func (s *Store) OpenStream(ctx context.Context, st Stream) error {
	now := s.now()
	var notAfter *time.Time
	if !st.CertificateUntil.IsZero() {
		notAfter = &st.CertificateUntil
	}
	tag, err := s.pool.Exec(ctx, qOpenStream, uuidOf(st.Site), uuidOf(st.ID), now.Add(Lease), uuidOf(st.Spool), st.Version, st.Remote, now,
		st.Skew.Milliseconds(), max(1, int32(min(st.PollInterval, 24*time.Hour)/time.Millisecond)), clampInt64(st.OldestPending), clampInt64(st.Newest), notAfter, now.Add(leaseHorizon))
	if pe := (*pgconn.PgError)(nil); errors.As(err, &pe) && pe.Code == foreignKeyViolation {
		return fmt.Errorf("site %s is not registered: %w", st.Site, ErrNotFound)
	}
	if err != nil {
		return fmt.Errorf("recording the agent of site %s: %w", st.Site, err)
	}
	if tag.RowsAffected() == 0 {
		return fmt.Errorf("site %s: %w", st.Site, ErrCloned)
	}
	return nil
}

const foreignKeyViolation = "23503" // SQLSTATE

// StreamKey names a stream that is to be renewed.
type StreamKey struct {
	Site ident.SiteID
	ID   [16]byte
}

const qRenew = `
UPDATE agent a SET lease_until = $3, last_seen_at = $4
FROM (SELECT unnest($1::uuid[]) AS site_id, unnest($2::uuid[]) AS stream_id) r
WHERE a.site_id = r.site_id AND a.stream_id = r.stream_id AND a.connected
RETURNING a.site_id`

// Renew prolongs the leases of the streams a hub process holds and returns those that it has lost: another stream of the same
// agent has replaced them, here or at another hub.
func (s *Store) Renew(ctx context.Context, streams []StreamKey) (lost []StreamKey, err error) {
	if len(streams) == 0 {
		return nil, nil
	}
	sites, ids := make([]pgtype.UUID, len(streams)), make([]pgtype.UUID, len(streams))
	for i, k := range streams {
		sites[i], ids[i] = uuidOf(k.Site), uuidOf(k.ID)
	}
	now := s.now()
	kept, err := collect(ctx, s.pool, "leases", qRenew, []any{sites, ids, now.Add(Lease), now}, func(r pgx.Rows) (ident.SiteID, error) {
		var id ident.SiteID
		return id, r.Scan((*[16]byte)(&id))
	})
	if err != nil {
		return nil, err
	}
	held := make(map[ident.SiteID]bool, len(kept))
	for _, id := range kept {
		held[id] = true
	}
	for _, k := range streams {
		if !held[k.Site] {
			lost = append(lost, k)
		}
	}
	return lost, nil
}

const qCloseStream = `UPDATE agent SET connected = false, last_seen_at = $3 WHERE site_id = $1 AND stream_id = $2 AND connected`

// CloseStream gives the lease back, unless another stream has it already.
func (s *Store) CloseStream(ctx context.Context, k StreamKey) error {
	if _, err := s.pool.Exec(ctx, qCloseStream, uuidOf(k.Site), uuidOf(k.ID), s.now()); err != nil {
		return fmt.Errorf("recording that the agent of site %s left: %w", k.Site, err)
	}
	return nil
}

// Agent is a site's agent as the API shows it. Absent members: the site has never connected.
type Agent struct {
	Site             ident.SiteID
	SiteName         string
	Connected        bool
	Remote           string
	Version          string
	ConnectedAt      time.Time
	LastSeenAt       time.Time
	Spool            unit.Opt[ident.SpoolID]
	NewestSeq        int64 // newest the agent had at its hello, or newest stored if that is more
	CommittedBatches int64 // of all its spools
	CertificateUntil time.Time
	Skew             unit.Opt[time.Duration]
}

const qAgents = `
SELECT s.id, s.name, coalesce(a.connected AND a.lease_until > $1 AND a.lease_until <= $3, false), coalesce(a.remote_address, ''), coalesce(a.version, ''),
	a.connected_at, a.last_seen_at, a.spool_id, greatest(a.newest_seq, t.newest_seq), coalesce(t.batches, 0),
	a.certificate_not_after, a.clock_skew_ms
FROM site s
LEFT JOIN agent a ON a.site_id = s.id
LEFT JOIN LATERAL (
	SELECT sum(b.batches)::bigint AS batches, max(b.newest_seq) FILTER (WHERE b.spool_id = a.spool_id) AS newest_seq
	FROM batch_total b WHERE b.site_id = s.id
) t ON true
ORDER BY s.name
LIMIT $2`

// maxSites bounds lists of sites and agents.
const maxSites = 5000

// Agents lists the agents of all sites by the site's name.
func (s *Store) Agents(ctx context.Context) ([]Agent, error) {
	now := s.now()
	return collect(ctx, s.pool, "agents", qAgents, []any{now, maxSites, now.Add(leaseHorizon)}, func(r pgx.Rows) (Agent, error) {
		var a Agent
		var connectedAt, lastSeen, notAfter *time.Time
		var spool pgtype.UUID
		var newest, skew *int64
		err := r.Scan((*[16]byte)(&a.Site), &a.SiteName, &a.Connected, &a.Remote, &a.Version, &connectedAt, &lastSeen, &spool, &newest,
			&a.CommittedBatches, &notAfter, &skew)
		a.ConnectedAt, a.LastSeenAt, a.CertificateUntil = deref(connectedAt), deref(lastSeen), deref(notAfter)
		a.NewestSeq = deref(newest)
		if spool.Valid {
			a.Spool = unit.Some(ident.SpoolID(spool.Bytes))
		}
		if skew != nil {
			a.Skew = unit.Some(time.Duration(*skew) * time.Millisecond)
		}
		return a, err
	})
}

func deref[T any](p *T) T {
	if p == nil {
		var zero T
		return zero
	}
	return *p
}

func clampInt64(u uint64) int64 { return int64(min(u, 1<<63-1)) }
