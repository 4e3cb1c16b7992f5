// Package archive keeps payloads of batches, the evidence itself, outside of the database once their hour is over: unchanged, one object for each
// site and hour of first sample, further ones for late batches, in a directory or an object store. The database keeps headers, signatures and
// where each payload lies; Payload finds one wherever it is. It neither reads nor judges a payload beyond its hash. Background
// work calls Move; whoever needs evidence calls Payload.
package archive

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"gocloud.dev/blob"
	"gocloud.dev/blob/fileblob"

	"github.com/hashinsight/hashinsight/hub/internal/pg"
	"github.com/hashinsight/hashinsight/pkg/evidence"
	"github.com/hashinsight/hashinsight/pkg/ident"
)

// Config describes an Archive.
type Config struct {
	Pool       *pgxpool.Pool         // required
	URL        string                // file:///directory, which is made; other schemes need their driver linked into the program
	Delay      time.Duration         // how long after an hour's end its payloads are moved; 0 means 2 hours
	Log        *slog.Logger          // nil discards
	Registerer prometheus.Registerer // nil means no metrics
}

// Archive moves and finds payloads. It is safe for concurrent use, and by any number of hubs that share the place.
type Archive struct {
	c      Config
	bucket *blob.Bucket
	dir    string // of a directory's archive; else empty
	moved  *prometheus.CounterVec
}

// Open opens the place that c.URL names.
func Open(ctx context.Context, c Config) (*Archive, error) {
	if c.Pool == nil {
		return nil, errors.New("archive: a database pool is required")
	}
	if c.Delay == 0 {
		c.Delay = 2 * time.Hour
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	u, err := url.Parse(c.URL)
	if err != nil || u.Scheme == "" {
		return nil, errors.New("the archive's place is malformed: it looks like file:///var/lib/hashinsight/archive") // the URL may hold a secret
	}
	a := &Archive{c: c, moved: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "hashinsight_archive_moved_total", Help: "What was moved from the database into the archive.",
	}, []string{"what"})}
	if u.Scheme == "file" {
		a.dir = filepath.FromSlash(u.Path)
		// Written beside their place and renamed there: a half-written object never has its name.
		a.bucket, err = fileblob.OpenBucket(a.dir, &fileblob.Options{CreateDir: true, DirFileMode: 0o700, NoTempDir: true, Metadata: fileblob.MetadataDontWrite})
	} else {
		a.bucket, err = blob.OpenBucket(ctx, c.URL)
	}
	if err != nil {
		return nil, fmt.Errorf("opening the archive in %s: %w", u.Redacted(), err)
	}
	if c.Registerer != nil {
		if err := c.Registerer.Register(a.moved); err != nil {
			return nil, errors.Join(fmt.Errorf("metrics of archive: %w", err), a.bucket.Close())
		}
	}
	return a, nil
}

// Close closes the place.
func (a *Archive) Close() error { return a.bucket.Close() }

// Ref names a batch.
type Ref struct {
	Site  ident.SiteID
	Spool ident.SpoolID
	Seq   uint64
}

// Errors of Payload.
var (
	ErrNotFound = errors.New("this batch is not stored, or is in quarantine")
	ErrDamaged  = errors.New("the archive does not hold what was signed: restore the object from a backup")
)

const qPayload = `
SELECT b.header, b.payload, coalesce(o.key, ''), coalesce(b.archive_offset, 0) FROM batch b LEFT JOIN archive_object o ON o.id = b.archive_id
WHERE b.site_id = $1 AND b.spool_id = $2 AND b.seq = $3`

// Payload returns the payload of a batch as it was signed, from the database or the archive.
func (a *Archive) Payload(ctx context.Context, ref Ref) ([]byte, error) {
	var raw, payload []byte
	var key string
	var offset int64
	err := a.c.Pool.QueryRow(ctx, qPayload, ref.Site, ref.Spool, int64(ref.Seq)).Scan(&raw, &payload, &key, &offset)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, ErrNotFound
	}
	if err != nil {
		return nil, fmt.Errorf("finding a payload: %w", err)
	}
	header, err := evidence.ParseHeader(raw)
	if err != nil {
		return nil, fmt.Errorf("batch %d of spool %s: %w", ref.Seq, ref.Spool, err)
	}
	if payload == nil && key == "" {
		return nil, ErrNotFound
	}
	if payload == nil {
		if payload, err = a.read(ctx, key, offset, int64(header.PayloadLen)); err != nil {
			return nil, fmt.Errorf("batch %d of spool %s, object %s: %w", ref.Seq, ref.Spool, key, err)
		}
	}
	if sha256.Sum256(payload) != header.Payload {
		return nil, fmt.Errorf("batch %d of spool %s, object %s: %w", ref.Seq, ref.Spool, key, ErrDamaged)
	}
	return payload, nil
}

func (a *Archive) read(ctx context.Context, key string, offset, length int64) (payload []byte, err error) {
	r, err := a.bucket.NewRangeReader(ctx, key, offset, length, nil)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	return io.ReadAll(r)
}

// Bounds of one object and of one call of Move. What is more waits for the next.
const (
	maxObjectBatches = 20_000
	maxObjectBytes   = 256 << 20
	maxObjects       = 64
)

const (
	// qHours finds hours that are over and whose blocks are written, with payloads in the database.
	qHours = `
SELECT DISTINCT site_id, floor(extract(epoch FROM first_at) / 3600)::integer AS hour FROM batch b
WHERE payload IS NOT NULL AND first_at < $1 AND NOT EXISTS (SELECT FROM block_dirty d WHERE d.site_id = b.site_id
	AND d.hour = floor(extract(epoch FROM b.first_at) / 3600)::integer)
ORDER BY hour LIMIT $2`
	qLock    = `SELECT pg_try_advisory_xact_lock($1, hashtext($2))`
	qBatches = `
SELECT spool_id, seq, header_hash, length(payload) FROM batch
WHERE site_id = $1 AND payload IS NOT NULL AND first_at >= $2 AND first_at < $3 ORDER BY spool_id, seq LIMIT $4`
	qContent = `SELECT payload FROM batch WHERE site_id = $1 AND spool_id = $2 AND seq = $3`
	qObject  = `
INSERT INTO archive_object (site_id, hour, key, size, batches, written_at) VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (key) DO UPDATE SET written_at = excluded.written_at RETURNING id`
	qMoved = `
UPDATE batch b SET payload = NULL, archive_id = $2, archive_offset = u.at FROM unnest($3::uuid[], $4::bigint[], $5::bigint[]) u (spool_id, seq, at)
WHERE b.site_id = $1 AND b.spool_id = u.spool_id AND b.seq = u.seq`
	qTimeout = `SELECT set_config('statement_timeout', '600s', true)`
)

const lockArchive = 730_522_122 // the advisory locks of site hours; arbitrary but fixed

// Move moves payloads of hours that are over by the delay into the archive. It may be stopped at any line and called at any time by any number of hubs:
// an object is written and safe before one transaction says that its batches lie there, and that transaction removes them from the
// database. What a stopped call leaves is an object that nothing refers to, or that the next call writes again with the same bytes.
func (a *Archive) Move(ctx context.Context, now time.Time) error {
	before := now.Add(-a.c.Delay).UTC().Truncate(time.Hour)
	rows, err := a.c.Pool.Query(ctx, qHours, before, maxObjects)
	if err != nil {
		return fmt.Errorf("finding payloads to archive: %w", err)
	}
	type key struct {
		site ident.SiteID
		hour int64
	}
	var hours []key
	var k key
	if _, err := pgx.ForEachRow(rows, []any{(*[16]byte)(&k.site), &k.hour}, func() error { hours = append(hours, k); return nil }); err != nil {
		return fmt.Errorf("finding payloads to archive: %w", err)
	}
	var errs []error
	for _, k := range hours {
		if ctx.Err() != nil {
			break
		}
		if err := a.moveHour(ctx, k.site, k.hour, now); err != nil {
			errs = append(errs, fmt.Errorf("archiving site %s, %s: %w", k.site, time.Unix(k.hour*3600, 0).UTC().Format(hourForm), err))
		}
	}
	return errors.Join(append(errs, ctx.Err())...)
}

const hourForm = "2006-01-02T15"

// piece is a payload's place in an object.
type piece struct {
	spool  ident.SpoolID
	seq    int64
	length int64
}

func (a *Archive) moveHour(ctx context.Context, site ident.SiteID, hour int64, now time.Time) error {
	return pg.InTx(ctx, a.c.Pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, qTimeout); err != nil {
			return err
		}
		var mine bool
		if err := tx.QueryRow(ctx, qLock, lockArchive, fmt.Sprintf("%s/%d", site, hour)).Scan(&mine); err != nil || !mine {
			return err // another hub is at it
		}
		pieces, name, err := a.pieces(ctx, tx, site, hour)
		if err != nil || len(pieces) == 0 {
			return err
		}
		key := fmt.Sprintf("%s/%s-%s", site, time.Unix(hour*3600, 0).UTC().Format(hourForm), name)
		size, err := a.write(ctx, tx, site, key, pieces)
		if err != nil {
			return err
		}
		var id int64
		if err := tx.QueryRow(ctx, qObject, site, hour, key, size, len(pieces), now).Scan(&id); err != nil {
			return err
		}
		var spools []ident.SpoolID
		var seqs, offsets []int64
		at := int64(0)
		for _, p := range pieces {
			spools, seqs, offsets = append(spools, p.spool), append(seqs, p.seq), append(offsets, at)
			at += p.length
		}
		if _, err := tx.Exec(ctx, qMoved, site, id, spools, seqs, offsets); err != nil {
			return err
		}
		a.moved.WithLabelValues("objects").Inc()
		a.moved.WithLabelValues("batches").Add(float64(len(pieces)))
		a.moved.WithLabelValues("bytes").Add(float64(size))
		return nil
	})
}

// pieces lists the batches of a site's hour that one object takes, and a name for it that only these batches give.
func (a *Archive) pieces(ctx context.Context, tx pgx.Tx, site ident.SiteID, hour int64) (out []piece, name string, err error) {
	from := time.Unix(hour*3600, 0)
	rows, err := tx.Query(ctx, qBatches, site, from, from.Add(time.Hour), maxObjectBatches)
	if err != nil {
		return nil, "", err
	}
	var p piece
	var hash []byte
	var size int64
	sum := sha256.New()
	_, err = pgx.ForEachRow(rows, []any{(*[16]byte)(&p.spool), &p.seq, &hash, &p.length}, func() error {
		if size += p.length; size <= maxObjectBytes || len(out) == 0 {
			out = append(out, p)
			_, _ = sum.Write(hash) // a hash takes everything
		} else {
			size = maxObjectBytes + 1 // and no smaller one after it
		}
		return nil
	})
	return out, hex.EncodeToString(sum.Sum(nil)[:8]), err
}

// write writes an object and returns when it is safe.
func (a *Archive) write(ctx context.Context, tx pgx.Tx, site ident.SiteID, key string, pieces []piece) (size int64, err error) {
	writing, cancel := context.WithCancel(ctx)
	defer cancel() // before a Close, this keeps an unfinished object from getting its name
	w, err := a.bucket.NewWriter(writing, key, &blob.WriterOptions{ContentType: "application/octet-stream", DisableContentTypeDetection: true})
	if err != nil {
		return 0, err
	}
	for _, p := range pieces {
		var payload []byte
		if err = tx.QueryRow(ctx, qContent, site, p.spool, p.seq).Scan(&payload); err == nil {
			_, err = w.Write(payload)
		}
		if err != nil {
			cancel()
			_ = w.Close() // it fails, as it must
			return 0, err
		}
		size += int64(len(payload))
	}
	if err := w.Close(); err != nil {
		return 0, err
	}
	if a.dir == "" {
		return size, nil // an object store answers when it is safe
	}
	for path := filepath.Join(a.dir, filepath.FromSlash(key)); ; path = filepath.Dir(path) {
		if err := syncPath(path); err != nil {
			return 0, err
		}
		if path == filepath.Clean(a.dir) {
			return size, nil
		}
	}
}

func syncPath(path string) (err error) {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return f.Sync()
}
