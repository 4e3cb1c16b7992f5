package facts

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/hashinsight/hashinsight/hub/internal/apperr"
	"github.com/hashinsight/hashinsight/hub/internal/audit"
	"github.com/hashinsight/hashinsight/pkg/evidence"
	"github.com/hashinsight/hashinsight/pkg/ident"
)

// DisputeKind says what does not agree.
type DisputeKind int16

// Kinds of disputes. The numbers are stored.
const (
	DisputeRoot     DisputeKind = 1 // the batches give another root than the site signed
	DisputeTwoRoots DisputeKind = 2 // the site signed two
)

// String returns the documented name.
func (k DisputeKind) String() string {
	switch k {
	case DisputeRoot:
		return "root"
	case DisputeTwoRoots:
		return "two_roots"
	default:
		return fmt.Sprintf("kind_%d", int16(k))
	}
}

// Dispute is a signed hour that does not agree with its batches or with another one. It stays.
type Dispute struct {
	ID int64 // ascending in the order in which they were found
	Key
	SiteName string
	Kind     DisputeKind
	Reason   string
	FoundAt  time.Time
	// The batch that signs the hour.
	InSpool ident.SpoolID
	InSeq   uint64
	Header  evidence.Hash
	Root    evidence.Hash
	// The other root: computed, or signed in another batch.
	OtherRoot   evidence.Hash
	OtherSpool  ident.SpoolID // zero when it was computed, as the next two
	OtherSeq    uint64
	OtherHeader evidence.Hash
}

// maxDisputes is how many disputes of one signed hour are kept. Further ones say nothing new.
const maxDisputes = 8

const (
	qDispute = `
INSERT INTO hour_dispute (site_id, hour, spool_id, kind, reason, found_at, hour_spool, hour_seq, header_hash, root, other_spool, other_seq, other_header, other_root)
SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14
WHERE (SELECT count(*) FROM hour_dispute WHERE site_id = $1 AND hour = $2 AND spool_id = $3) < $15
ON CONFLICT DO NOTHING RETURNING id`
	disputeColumns = `d.id, d.site_id, coalesce(s.name, ''), d.hour, d.spool_id, d.kind, d.reason, d.found_at, d.hour_spool, d.hour_seq, d.header_hash, d.root,
	d.other_spool, coalesce(d.other_seq, 0), d.other_header, d.other_root
FROM hour_dispute d LEFT JOIN site s ON s.id = d.site_id`
	qDisputes = `SELECT ` + disputeColumns + ` WHERE d.id < $1 ORDER BY d.id DESC LIMIT $2`
	qOne      = `SELECT ` + disputeColumns + ` WHERE d.id = $1`
	qCount    = `SELECT count(*) FROM (SELECT FROM hour_dispute LIMIT $1) d`
)

// dispute keeps a dispute with its audit entry; false when it is kept already, or so many are that this one says nothing new.
func (s *Store) dispute(ctx context.Context, tx pgx.Tx, d *Dispute) (kept bool, err error) {
	other, header := &d.OtherSpool, d.OtherHeader[:]
	if d.OtherSeq == 0 {
		other, header = nil, []byte{}
	}
	err = tx.QueryRow(ctx, qDispute, d.Site, int32(d.Hour), d.Spool, int16(d.Kind), d.Reason, d.FoundAt, d.InSpool, int64(d.InSeq), d.Header[:], d.Root[:],
		other, int64(d.OtherSeq), header, d.OtherRoot[:], maxDisputes).Scan(&d.ID)
	if errors.Is(err, pgx.ErrNoRows) {
		s.metrics.bounds.WithLabelValues(boundTwice).Inc()
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("keeping a dispute: %w", err)
	}
	return true, s.c.Audit.Add(ctx, tx, audit.Entry{
		Level: audit.Security, Category: audit.Suspicious, Action: "hour_disputed", Status: audit.Failure, UserID: d.Site.String(),
		Details: map[string]any{
			"dispute": d.ID, "site_id": d.Site.String(), "hour": d.At().Format(time.RFC3339), "spool": d.Spool.String(), "kind": d.Kind.String(), "reason": d.Reason,
			"root": fmt.Sprintf("%x", d.Root), "other_root": fmt.Sprintf("%x", d.OtherRoot),
		},
	})
}

// Alarm counts and logs disputes that are committed: a person must look at them.
func (s *Store) Alarm(ctx context.Context, disputes []Dispute) {
	for i := range disputes {
		d := &disputes[i]
		s.metrics.disputes.WithLabelValues(d.Kind.String()).Inc()
		s.c.Log.ErrorContext(ctx, "disputed hour: what a site signed is not what its batches say, or not all it signed", "site", d.Site, "hour", d.At().Format(time.RFC3339),
			"spool", d.Spool, "kind", d.Kind.String(), "reason", d.Reason, "dispute", d.ID)
	}
}

// Disputes lists disputes, the latest found first: those found before the one named; 0 begins.
func (s *Store) Disputes(ctx context.Context, before int64, limit int) ([]Dispute, error) {
	if before <= 0 {
		before = 1<<63 - 1
	}
	return s.disputes(ctx, qDisputes, before, min(max(limit, 1), 1000))
}

// DisputeOf returns one dispute.
func (s *Store) DisputeOf(ctx context.Context, id int64) (Dispute, error) {
	list, err := s.disputes(ctx, qOne, id)
	if err == nil && len(list) == 0 {
		err = apperr.E(apperr.NotFound, "NOTFOUND_001", "there is no dispute %d: hashinsight-hub disputes list shows those there are", id)
	}
	if err != nil {
		return Dispute{}, err
	}
	return list[0], nil
}

func (s *Store) disputes(ctx context.Context, sql string, args ...any) ([]Dispute, error) {
	rows, err := s.c.Pool.Query(ctx, sql, args...)
	if err != nil {
		return nil, fmt.Errorf("listing disputes: %w", err)
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (d Dispute, err error) {
		var hour int32
		var seq, otherSeq int64
		var other *[16]byte
		var header, root, otherHeader, otherRoot []byte
		err = row.Scan(&d.ID, (*[16]byte)(&d.Site), &d.SiteName, &hour, (*[16]byte)(&d.Spool), (*int16)(&d.Kind), &d.Reason, &d.FoundAt, (*[16]byte)(&d.InSpool), &seq, &header, &root,
			&other, &otherSeq, &otherHeader, &otherRoot)
		copy(d.Header[:], header)
		copy(d.Root[:], root)
		copy(d.OtherHeader[:], otherHeader)
		copy(d.OtherRoot[:], otherRoot)
		if other != nil {
			d.OtherSpool = *other
		}
		d.Hour, d.InSeq, d.OtherSeq, d.FoundAt = uint32(hour), uint64(seq), uint64(otherSeq), d.FoundAt.UTC()
		return d, err
	})
	if err != nil {
		return nil, fmt.Errorf("listing disputes: %w", err)
	}
	return list, nil
}
