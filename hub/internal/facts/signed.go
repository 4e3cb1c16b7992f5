package facts

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/hashinsight/hashinsight/pkg/evidence"
	"github.com/hashinsight/hashinsight/pkg/ident"
	"github.com/hashinsight/hashinsight/pkg/proof"
)

// Signed is an hour as a site signed it, and the batch that says so.
type Signed struct {
	Hour   evidence.Hour
	Spool  ident.SpoolID // the batch's chain
	Seq    uint64
	Header evidence.Hash
	Batch  proof.HourBody // the batch itself, for the log
}

// CheckHour reads the payload of a batch of kind hour and compares it with the batch's header. The text of an error completes "the batch is of no use: ".
func CheckHour(h *evidence.Header, payload []byte) (evidence.Hour, error) {
	hour, err := evidence.ParseHour(payload)
	if err != nil {
		return hour, err
	}
	begin := int64(hour.Hour) * evidence.HourMS
	switch {
	case h.Schema != evidence.SchemaFirst || h.Codec != evidence.CodecNone:
		return hour, fmt.Errorf("a signed hour of schema %d and codec %d, want %d and %d", h.Schema, h.Codec, evidence.SchemaFirst, evidence.CodecNone)
	case hour.Site != h.Site:
		return hour, fmt.Errorf("a signed hour of site %s in a batch of site %s", hour.Site, h.Site)
	case hour.Leaves == 0 || hour.Leaves > MaxLeaves:
		return hour, fmt.Errorf("a signed hour of %d leaves, want 1 to %d", hour.Leaves, MaxLeaves)
	case h.Miners != hour.Leaves || h.Samples != 0:
		return hour, fmt.Errorf("a signed hour of %d leaves, its header says %d miners and %d samples", hour.Leaves, h.Miners, h.Samples)
	case h.FirstMS != begin || h.LastMS != begin+evidence.HourMS-1:
		return hour, fmt.Errorf("a signed hour from %d ms, its header says %d to %d ms", begin, h.FirstMS, h.LastMS)
	case hour.FirstSeq == 0 || hour.FirstSeq > hour.LastSeq || hour.LastSeq >= 1<<63:
		return hour, fmt.Errorf("a signed hour of batches %d to %d", hour.FirstSeq, hour.LastSeq)
	case hour.Spool == h.Spool && hour.LastSeq >= h.Seq:
		return hour, fmt.Errorf("batch %d signs an hour of batches %d to %d, which are not before it", h.Seq, hour.FirstSeq, hour.LastSeq)
	}
	return hour, nil
}

const (
	qSigned = `
INSERT INTO site_hour (site_id, hour, spool_id, hour_spool, hour_seq, header_hash, root, leaves, first_seq, last_seq, state, reason, twice, skew_slots, received_at, look_at)
SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, 0, '', false, 0, $11::timestamptz, $11::timestamptz
WHERE (SELECT count(*) FROM site_hour WHERE site_id = $1 AND hour = $2) < $12
ON CONFLICT DO NOTHING`
	qHourLocked = `SELECT ` + hourColumns + ` FROM site_hour WHERE site_id = $1 AND hour = $2 AND spool_id = $3 FOR UPDATE`
	qTwice      = `
UPDATE site_hour SET twice = true, state = CASE state WHEN 1 THEN 2 ELSE state END, reason = CASE state WHEN 1 THEN $4 ELSE reason END
WHERE site_id = $1 AND hour = $2 AND spool_id = $3`
)

// Keep notes hours that sites have signed, in the transaction that stores their batches. What a site may not sign (hours far ahead or long gone, of more
// chains than there can be) stays in the ledger as evidence and is counted. It returns the disputes that it found; the caller gives them to
// Alarm when the transaction is committed.
func (s *Store) Keep(ctx context.Context, tx pgx.Tx, signed []Signed, at time.Time) (disputes []Dispute, err error) {
	var entries []proof.Entry
	for i := range signed {
		d, kept, err := s.keep(ctx, tx, &signed[i], at)
		if err != nil {
			return nil, fmt.Errorf("keeping a signed hour: %w", err)
		}
		if kept {
			entries = append(entries, signed[i].Batch.Entry(at.UnixMilli()))
		}
		if d != nil {
			disputes = append(disputes, *d)
		}
	}
	if s.c.Note == nil || len(entries) == 0 {
		return disputes, nil
	}
	return disputes, s.c.Note(ctx, tx, entries...)
}

// keep keeps one signed hour. kept tells that it says something new, which is the log's business too: the first root, or another one.
func (s *Store) keep(ctx context.Context, tx pgx.Tx, g *Signed, at time.Time) (found *Dispute, kept bool, err error) {
	h := &g.Hour
	k := Key{h.Site, h.Hour, h.Spool}
	switch {
	case k.At().After(at.Add(ahead)):
		s.metrics.bounds.WithLabelValues(boundAhead).Inc()
		return nil, false, nil
	case k.At().Before(at.Add(-s.c.Keep)):
		s.metrics.bounds.WithLabelValues(boundOld).Inc()
		return nil, false, nil
	}
	tag, err := tx.Exec(ctx, qSigned, k.Site, int32(k.Hour), k.Spool, g.Spool, int64(g.Seq), g.Header[:], h.Root[:], int32(h.Leaves), int64(h.FirstSeq), int64(h.LastSeq), at, maxChains)
	if err != nil || tag.RowsAffected() == 1 {
		return nil, err == nil, err
	}
	was, err := lockHour(ctx, tx, k)
	if errors.Is(err, pgx.ErrNoRows) {
		s.metrics.bounds.WithLabelValues(boundChains).Inc()
		return nil, false, nil
	}
	if err != nil || was.Root == h.Root && was.Leaves == h.Leaves && was.FirstSeq == h.FirstSeq && was.LastSeq == h.LastSeq {
		return nil, false, err // said again: nothing new
	}
	d := Dispute{
		Key: k, Kind: DisputeTwoRoots, FoundAt: at, InSpool: was.InSpool, InSeq: was.InSeq, Header: was.Header, Root: was.Root,
		OtherSpool: g.Spool, OtherSeq: g.Seq, OtherHeader: g.Header, OtherRoot: h.Root,
		Reason: fmt.Sprintf("the site signed two roots: in batch %d of spool %s, and in batch %d of spool %s", was.InSeq, was.InSpool, g.Seq, g.Spool),
	}
	if kept, err = s.dispute(ctx, tx, &d); err != nil || !kept {
		return nil, false, err
	}
	if _, err := tx.Exec(ctx, qTwice, k.Site, int32(k.Hour), k.Spool, d.Reason); err != nil {
		return nil, false, err
	}
	if was.State == Agreed {
		err = note(ctx, tx, k)
	}
	return &d, true, err
}

// lockHour reads a signed hour that the transaction is about to change.
func lockHour(ctx context.Context, tx pgx.Tx, k Key) (Hour, error) {
	rows, err := tx.Query(ctx, qHourLocked, k.Site, int32(k.Hour), k.Spool)
	if err != nil {
		return Hour{}, err
	}
	return pgx.CollectExactlyOneRow(rows, scanHour)
}

const qNote = `INSERT INTO facts_changed (site_id, hour) VALUES ($1, $2)`

// note says that the facts of an hour are others than before.
func note(ctx context.Context, tx pgx.Tx, k Key) error {
	_, err := tx.Exec(ctx, qNote, k.Site, int32(k.Hour))
	return err
}
