package archive

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/hashinsight/hashinsight/pkg/evidence"
	"github.com/hashinsight/hashinsight/pkg/ident"
)

// Errors of Find and Export.
var (
	ErrNotFound  = errors.New("this batch is not stored")
	ErrDropped   = errors.New("its payload was dropped from quarantine, only what was signed about it is left")
	ErrDamaged   = errors.New("this is not what was signed: restore the object, or the database, from a backup")
	ErrNoArchive = errors.New("its payload lies in the archive, which this process does not know: set EVIDENCE_URL here too")
	ErrNoObject  = errors.New("the archive does not have the object: if EVIDENCE_URL was changed, copy the objects to the new place under the same names, else restore it from a backup")
)

// Where says where a batch's payload lies.
type Where string

// The places of a payload.
const (
	InDatabase   Where = "database"
	InArchive    Where = "archive"
	InQuarantine Where = "quarantine" // authentic, but of no use so far
	Dropped      Where = "dropped"    // it was in quarantine, and is gone
)

// Batch is a batch with the bytes that were signed.
type Batch struct {
	Ref
	Where      Where
	Object     string // in the archive; else empty
	ReceivedAt time.Time
	Skewed     bool // it came from an agent whose clock was wrong at that moment
	Header     evidence.Header
	// As they were signed.
	RawHeader, Signature, Payload []byte
}

const batchColumns = `b.seq, b.header, b.signature, b.received_at, coalesce(b.skewed, false), coalesce(b.payload, d.payload), b.disposition, coalesce(o.key, ''),
	coalesce(o.size, 0), coalesce(b.archive_offset, 0)
FROM batch b LEFT JOIN archive_object o ON o.id = b.archive_id LEFT JOIN dead_letter d ON d.site_id = b.site_id AND d.spool_id = b.spool_id AND d.seq = b.seq`

const qFind = `SELECT ` + batchColumns + ` WHERE b.site_id = $1 AND b.spool_id = $2 AND b.seq = $3`

const quarantined = 2 // batch.disposition

// Find returns a batch as it was signed, wherever its payload lies. The payload is compared with the header; the header's signature is not checked, because keys
// are not this package's.
func (a *Archive) Find(ctx context.Context, ref Ref) (_ Batch, err error) {
	o := &objects{a: a}
	defer func() { err = errors.Join(err, o.Close()) }()
	return a.find(ctx, ref, o)
}

func (a *Archive) find(ctx context.Context, ref Ref, from *objects) (Batch, error) {
	b := Batch{Ref: ref}
	p, err := b.scan(a.c.Pool.QueryRow(ctx, qFind, ref.Site, ref.Spool, int64(min(ref.Seq, 1<<63-1))))
	if errors.Is(err, pgx.ErrNoRows) {
		return b, b.error(ErrNotFound)
	}
	if err != nil {
		return b, fmt.Errorf("finding a batch: %w", err)
	}
	b.Seq = ref.Seq
	return b, b.fill(ctx, p, from)
}

// payloadPlace is where a row says that its payload lies.
type payloadPlace struct {
	disposition  int16
	size, offset int64 // of the object, and in it
}

// scan reads a row of batchColumns.
func (b *Batch) scan(row pgx.Row) (p payloadPlace, err error) {
	var seq int64
	err = row.Scan(&seq, &b.RawHeader, &b.Signature, &b.ReceivedAt, &b.Skewed, &b.Payload, &p.disposition, &b.Object, &p.size, &p.offset)
	b.Seq = uint64(seq)
	return p, err
}

// fill checks what the row says and brings the payload.
func (b *Batch) fill(ctx context.Context, p payloadPlace, from *objects) (err error) {
	if b.Header, err = evidence.ParseHeader(b.RawHeader); err != nil {
		return b.error(fmt.Errorf("%w: %w", ErrDamaged, err))
	}
	if h := &b.Header; h.Site != b.Site || h.Spool != b.Spool || h.Seq != b.Seq {
		return b.error(fmt.Errorf("its header is of batch %d of spool %s of site %s: %w", h.Seq, h.Spool, h.Site, ErrDamaged))
	}
	switch {
	case b.Payload != nil && p.disposition == quarantined:
		b.Where = InQuarantine
	case b.Payload != nil:
		b.Where = InDatabase
	case b.Object != "":
		b.Where = InArchive
		if from.a == nil {
			return b.error(ErrNoArchive)
		}
		length := int64(b.Header.PayloadLen)
		if p.offset+length > p.size {
			return b.error(fmt.Errorf("it would end after its object: %w", ErrDamaged))
		}
		if b.Payload, err = from.read(ctx, b.Object, p.offset, length); err != nil {
			return b.error(err)
		}
	case p.disposition == quarantined:
		b.Where = Dropped
		return b.error(ErrDropped)
	default:
		return b.error(fmt.Errorf("neither the database nor the archive has its payload: %w", ErrDamaged))
	}
	if err := b.Header.CheckPayload(b.Payload); err != nil {
		return b.error(fmt.Errorf("%w: %w", ErrDamaged, err))
	}
	return nil
}

func (b *Batch) error(err error) error {
	if b.Object != "" {
		return fmt.Errorf("batch %d of spool %s, object %s: %w", b.Seq, b.Spool, b.Object, err)
	}
	return fmt.Errorf("batch %d of spool %s: %w", b.Seq, b.Spool, err)
}

// Hour names the batches of one site whose first sample lies in one hour.
type Hour struct {
	Site ident.SiteID
	From time.Time // a full hour
}

// Line is a batch in a list.
type Line struct {
	Spool           ident.SpoolID
	Seq             uint64
	Kind            evidence.Kind
	Miners, Samples int
	FirstAt, LastAt time.Time
	ReceivedAt      time.Time
	Bytes           int64 // of its payload
	Where           Where
	Object          string
}

// maxLines bounds a list.
const maxLines = 100_000

const qList = `
SELECT b.spool_id, b.seq, b.first_at, b.last_at, b.received_at, b.header, coalesce(o.key, ''), CASE
	WHEN b.payload IS NOT NULL THEN 'database' WHEN o.id IS NOT NULL THEN 'archive' WHEN d.seq IS NOT NULL THEN 'quarantine' ELSE 'dropped' END
FROM batch b LEFT JOIN archive_object o ON o.id = b.archive_id LEFT JOIN dead_letter d ON d.site_id = b.site_id AND d.spool_id = b.spool_id AND d.seq = b.seq
WHERE b.site_id = $1 AND b.first_at < $2 AND (b.first_at, b.spool_id, b.seq) > ($3, $4, $5)
ORDER BY b.first_at, b.spool_id, b.seq LIMIT $6`

// List lists the batches of a site's hour by the time of their first sample; more tells that there are further ones.
func List(ctx context.Context, pool *pgxpool.Pool, h Hour, limit int) (lines []Line, more bool, err error) {
	limit = min(max(limit, 1), maxLines)
	if lines, err = list(ctx, pool, h, nil, limit+1); err != nil {
		return nil, false, err
	}
	if len(lines) > limit {
		return lines[:limit], true, nil
	}
	return lines, false, nil
}

// list goes on after a line; nil is the beginning.
func list(ctx context.Context, pool *pgxpool.Pool, h Hour, after *Line, limit int) ([]Line, error) {
	if after == nil {
		after = &Line{FirstAt: h.From}
	}
	rows, err := pool.Query(ctx, qList, h.Site, h.From.Add(time.Hour), after.FirstAt, after.Spool, int64(after.Seq), limit)
	if err != nil {
		return nil, fmt.Errorf("listing evidence: %w", err)
	}
	lines, err := pgx.CollectRows(rows, func(r pgx.CollectableRow) (l Line, err error) {
		var seq int64
		var raw []byte
		if err := r.Scan((*[16]byte)(&l.Spool), &seq, &l.FirstAt, &l.LastAt, &l.ReceivedAt, &raw, &l.Object, &l.Where); err != nil {
			return l, err
		}
		l.Seq = uint64(seq)
		header, err := evidence.ParseHeader(raw)
		if err != nil {
			return l, fmt.Errorf("batch %d of spool %s: %w: %w", l.Seq, l.Spool, ErrDamaged, err)
		}
		l.Kind, l.Miners, l.Samples, l.Bytes = header.Kind, int(header.Miners), int(header.Samples), int64(header.PayloadLen)
		return l, nil
	})
	if err != nil {
		return nil, fmt.Errorf("listing evidence: %w", err)
	}
	return lines, nil
}
