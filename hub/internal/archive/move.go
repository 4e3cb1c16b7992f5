package archive

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/hashinsight/hashinsight/hub/internal/pg"
	"github.com/hashinsight/hashinsight/pkg/ident"
)

// Bounds of one object, of what is read at once and of one call of Move. What is more waits for the next.
const (
	maxObjectBatches = 20_000
	maxObjectBytes   = 256 << 20
	maxReadBatches   = 500
	maxReadBytes     = 4 << 20
	maxHours         = 64               // found at once
	maxObjects       = 4096             // written in one call
	maxStoreFailures = 3                // in a row: the store is away, the other hours would only wait for it too
	leaveBefore      = 30 * time.Second // the call's deadline: an hour begun then would be cut short, and its object written twice
)

const (
	// qHours finds hours that are over and whose blocks are written, with payloads in the database: first the oldest of each site, then
	// their next ones, of a range of first samples. Each costs one look at an index, however many payloads wait, and none is looked for beyond the limit.
	qHours = `
WITH RECURSIVE waiting (site_id, hour) AS (
	SELECT s.id, b.hour FROM site s, LATERAL (SELECT floor(extract(epoch FROM first_at) / 3600)::integer AS hour FROM batch
		WHERE site_id = s.id AND payload IS NOT NULL AND first_at >= $1 AND first_at < $2 ORDER BY first_at LIMIT 1) b
	UNION ALL
	SELECT w.site_id, b.hour FROM waiting w, LATERAL (SELECT floor(extract(epoch FROM first_at) / 3600)::integer AS hour FROM batch
		WHERE site_id = w.site_id AND payload IS NOT NULL AND first_at < $2 AND first_at >= to_timestamp((w.hour + 1) * 3600.0) ORDER BY first_at LIMIT 1) b
)
SELECT site_id, hour FROM waiting w WHERE NOT EXISTS (SELECT FROM block_dirty d WHERE d.site_id = w.site_id AND d.hour = w.hour) LIMIT $3`
	qLock    = `SELECT pg_try_advisory_xact_lock($1, hashtext($2))`
	qBatches = `
SELECT spool_id, seq, header_hash, length(payload) FROM batch
WHERE site_id = $1 AND payload IS NOT NULL AND first_at >= $2 AND first_at < $3 ORDER BY spool_id, seq LIMIT $4`
	qContent = `
SELECT b.payload FROM unnest($2::uuid[], $3::bigint[]) WITH ORDINALITY u (spool_id, seq, place)
JOIN batch b ON b.site_id = $1 AND b.spool_id = u.spool_id AND b.seq = u.seq ORDER BY u.place`
	qObject = `
INSERT INTO archive_object (site_id, hour, key, size, batches, written_at) VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (key) DO UPDATE SET written_at = excluded.written_at RETURNING id`
	qMoved = `
UPDATE batch b SET payload = NULL, archive_id = $2, archive_offset = u.at FROM unnest($3::uuid[], $4::bigint[], $5::bigint[]) u (spool_id, seq, at)
WHERE b.site_id = $1 AND b.spool_id = u.spool_id AND b.seq = u.seq`
	qTimeout = `SELECT set_config('statement_timeout', '600s', true)`
)

// tooFarAhead is beyond what package series takes of a clock that is ahead: such samples become no rows, and their hours no blocks.
const tooFarAhead = 48 * time.Hour

const lockArchive = 730_522_122 // the advisory locks of site hours; arbitrary but fixed

const hourForm = "2006-01-02T15"

// siteHour is the unit of work.
type siteHour struct {
	site ident.SiteID
	hour int64 // since 1970 UTC
}

func (h siteHour) String() string {
	return fmt.Sprintf("site %s, %s", h.site, time.Unix(h.hour*3600, 0).UTC().Format(hourForm))
}

// key names an object.
func (h siteHour) key(name string) string {
	return fmt.Sprintf("%s/%s-%s", h.site, time.Unix(h.hour*3600, 0).UTC().Format(hourForm), name)
}

// Move moves payloads of hours that are over by the delay into the archive. It may be stopped at any line and called at any time by any number of hubs:
// an object is written and safe before one transaction says that its batches lie there, and that transaction removes them from the
// database. What a stopped call leaves is an object that nothing refers to, or that the next call writes again with the same bytes. While the place is
// away it gives up after a few tries and leaves everything in the database; who calls it calls again.
func (a *Archive) Move(ctx context.Context, now time.Time) error {
	var errs []error
	failed := map[siteHour]bool{}
	for objects, inARow := 0, 0; objects < maxObjects; {
		hours, err := a.waiting(ctx, now)
		if err != nil {
			return errors.Join(append(errs, err)...)
		}
		before := objects
		for _, h := range hours {
			if deadline, ok := ctx.Deadline(); ctx.Err() != nil || ok && time.Until(deadline) < leaveBefore {
				return errors.Join(append(errs, ctx.Err())...)
			}
			if failed[h] {
				continue
			}
			moved, err := a.moveHour(ctx, h, now)
			if moved {
				objects, inARow = objects+1, 0
			}
			if err == nil {
				continue
			}
			failed[h] = true
			errs = append(errs, fmt.Errorf("archiving %s: %w", h, err))
			var away *storeError
			if !errors.As(err, &away) {
				a.metrics.failed.WithLabelValues(atDatabase).Inc()
				continue
			}
			a.metrics.failed.WithLabelValues(atStore).Inc()
			if inARow++; inARow == maxStoreFailures {
				return errors.Join(append(errs, fmt.Errorf("%s is away or refuses: the other hours stay in the database until the next try", a.place))...)
			}
		}
		if objects == before { // none is left, or other hubs are at them, or they failed
			break
		}
	}
	return errors.Join(append(errs, ctx.Err())...)
}

func (a *Archive) waiting(ctx context.Context, now time.Time) (hours []siteHour, err error) {
	before := now.Add(-a.c.Delay).UTC().Truncate(time.Hour)
	// What a wrong clock puts days ahead does not wait for its hour: nothing else would ever move it.
	end := time.Date(10_000, 1, 1, 0, 0, 0, 0, time.UTC) // package wire takes no later time
	for _, r := range [][2]time.Time{{{}, before}, {now.Add(tooFarAhead), end}} {
		rows, err := a.c.Pool.Query(ctx, qHours, r[0], r[1], maxHours-len(hours))
		if err == nil {
			var h siteHour
			_, err = pgx.ForEachRow(rows, []any{(*[16]byte)(&h.site), &h.hour}, func() error { hours = append(hours, h); return nil })
		}
		if err != nil {
			a.metrics.failed.WithLabelValues(atDatabase).Inc()
			return nil, fmt.Errorf("finding payloads to archive: %w", err)
		}
	}
	return hours, nil
}

// piece is a payload's place in an object.
type piece struct {
	spool  ident.SpoolID
	seq    int64
	length int64
}

func (a *Archive) moveHour(ctx context.Context, h siteHour, now time.Time) (moved bool, err error) {
	var size int64
	var pieces []piece
	err = pg.InTx(ctx, a.c.Pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, qTimeout); err != nil {
			return err
		}
		var mine bool
		if err := tx.QueryRow(ctx, qLock, lockArchive, fmt.Sprintf("%s/%d", h.site, h.hour)).Scan(&mine); err != nil || !mine {
			return err // another hub is at it
		}
		if err := a.sweep(h); err != nil {
			return err
		}
		var name string
		if pieces, size, name, err = a.pieces(ctx, tx, h); err != nil || len(pieces) == 0 {
			return err
		}
		key := h.key(name)
		if err := a.put(ctx, key, size, func(w io.Writer) error { return copyPayloads(ctx, tx, h.site, pieces, w) }); err != nil {
			return fmt.Errorf("object %s in %s: %w", key, a.place, err)
		}
		var id int64
		if err := tx.QueryRow(ctx, qObject, h.site, h.hour, key, size, len(pieces), now).Scan(&id); err != nil {
			return err
		}
		spools, seqs, offsets := make([]ident.SpoolID, len(pieces)), make([]int64, len(pieces)), make([]int64, len(pieces))
		at := int64(0)
		for i, p := range pieces {
			spools[i], seqs[i], offsets[i] = p.spool, p.seq, at
			at += p.length
		}
		_, err := tx.Exec(ctx, qMoved, h.site, id, spools, seqs, offsets)
		return err
	})
	if err != nil || len(pieces) == 0 {
		return false, err
	}
	a.metrics.moved.WithLabelValues("objects").Inc()
	a.metrics.moved.WithLabelValues("batches").Add(float64(len(pieces)))
	a.metrics.moved.WithLabelValues("bytes").Add(float64(size))
	return true, nil
}

// pieces lists the batches of a site's hour that one object takes, their bytes, and a name for the object that only these batches give.
func (a *Archive) pieces(ctx context.Context, tx pgx.Tx, h siteHour) (out []piece, size int64, name string, err error) {
	from := time.Unix(h.hour*3600, 0)
	rows, err := tx.Query(ctx, qBatches, h.site, from, from.Add(time.Hour), maxObjectBatches)
	if err != nil {
		return nil, 0, "", err
	}
	var p piece
	var hash []byte
	full := false
	sum := sha256.New()
	_, err = pgx.ForEachRow(rows, []any{(*[16]byte)(&p.spool), &p.seq, &hash, &p.length}, func() error {
		if full = full || size+p.length > maxObjectBytes && len(out) > 0; full {
			return nil
		}
		size += p.length
		out = append(out, p)
		_, _ = sum.Write(hash) // a hash takes everything
		return nil
	})
	return out, size, hex.EncodeToString(sum.Sum(nil)[:8]), err
}

// copyPayloads writes payloads in the order of pieces, a bounded number of them in memory.
func copyPayloads(ctx context.Context, tx pgx.Tx, site ident.SiteID, pieces []piece, w io.Writer) error {
	for len(pieces) > 0 {
		var spools []ident.SpoolID
		var seqs []int64
		size := int64(0)
		for _, p := range pieces {
			if size += p.length; len(seqs) == maxReadBatches || size > maxReadBytes && len(seqs) > 0 {
				break
			}
			spools, seqs = append(spools, p.spool), append(seqs, p.seq)
		}
		rows, err := tx.Query(ctx, qContent, site, spools, seqs)
		if err != nil {
			return err
		}
		var payload pgtype.DriverBytes // valid until the next row: written at once
		n := 0
		if _, err := pgx.ForEachRow(rows, []any{&payload}, func() error {
			if n == len(seqs) || int64(len(payload)) != pieces[n].length {
				return fmt.Errorf("the payload of batch %d of spool %s changed: the archive job writes it alone", pieces[min(n, len(pieces)-1)].seq, pieces[min(n, len(pieces)-1)].spool)
			}
			n++
			_, err := w.Write(payload)
			return err
		}); err != nil {
			return err
		}
		if n != len(seqs) {
			return fmt.Errorf("%d payloads found of %d", n, len(seqs))
		}
		pieces = pieces[n:]
	}
	return nil
}
