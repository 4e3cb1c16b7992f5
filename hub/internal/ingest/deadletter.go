package ingest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/hashinsight/hashinsight/hub/internal/facts"
	"github.com/hashinsight/hashinsight/hub/internal/fleet"
	"github.com/hashinsight/hashinsight/hub/internal/pg"
	"github.com/hashinsight/hashinsight/hub/internal/series"
	"github.com/hashinsight/hashinsight/pkg/evidence"
	"github.com/hashinsight/hashinsight/pkg/ident"
	"github.com/hashinsight/hashinsight/pkg/wire"
)

// ErrNoLetter means that no batch of that name lies in quarantine.
var ErrNoLetter = errors.New("no such batch in quarantine")

// BatchName names a batch.
type BatchName struct {
	Site  ident.SiteID
	Spool ident.SpoolID
	Seq   uint64
}

// Letter is a batch in quarantine: authentic, and of no use to this hub so far.
type Letter struct {
	BatchName
	SiteName   string
	Reason     string // why its content could not be used
	ReceivedAt time.Time
	Size       int64 // bytes of its payload
	// The signed bytes; DeadLetters leaves them out.
	Header, Signature, Payload []byte
}

// maxLetters bounds a list of quarantined batches.
const maxLetters = 10_000

const qLetters = `
SELECT d.site_id, d.spool_id, d.seq, coalesce(s.name, ''), d.reason, d.received_at, length(d.payload)
FROM dead_letter d LEFT JOIN site s ON s.id = d.site_id
ORDER BY d.site_id, d.spool_id, d.seq
LIMIT $1`

const qLetter = `
SELECT coalesce(s.name, ''), d.reason, d.received_at, d.header, d.signature, d.payload
FROM dead_letter d LEFT JOIN site s ON s.id = d.site_id
WHERE d.site_id = $1 AND d.spool_id = $2 AND d.seq = $3
FOR UPDATE OF d`

const qLetterReason = `UPDATE dead_letter SET reason = $4 WHERE site_id = $1 AND spool_id = $2 AND seq = $3`

const qDropLetter = `DELETE FROM dead_letter WHERE site_id = $1 AND spool_id = $2 AND seq = $3`

// qUse gives a quarantined batch its payload back. Its acknowledgement stands, so received_at does too.
const qUse = `UPDATE batch SET disposition = 1, payload = $4 WHERE site_id = $1 AND spool_id = $2 AND seq = $3 AND disposition = 2`

const qUsedTotals = `UPDATE batch_total SET quarantined = quarantined - 1, samples = samples + $3 WHERE site_id = $1 AND spool_id = $2`

// DeadLetters lists the batches in quarantine, by site, spool and sequence number, without their bytes; more tells that there are further ones.
func DeadLetters(ctx context.Context, pool *pgxpool.Pool, limit int) (letters []Letter, more bool, err error) {
	limit = min(max(limit, 1), maxLetters)
	rows, err := pool.Query(ctx, qLetters, limit+1)
	if err != nil {
		return nil, false, fmt.Errorf("listing the quarantine: %w", err)
	}
	letters, err = pgx.CollectRows(rows, func(r pgx.CollectableRow) (l Letter, err error) {
		var seq int64
		err = r.Scan((*[16]byte)(&l.Site), (*[16]byte)(&l.Spool), &seq, &l.SiteName, &l.Reason, &l.ReceivedAt, &l.Size)
		l.Seq = uint64(seq)
		return l, err
	})
	if err != nil {
		return nil, false, fmt.Errorf("listing the quarantine: %w", err)
	}
	if len(letters) > limit {
		return letters[:limit], true, nil
	}
	return letters, false, nil
}

// DeadLetter returns one quarantined batch with its bytes, or ErrNoLetter.
func DeadLetter(ctx context.Context, pool *pgxpool.Pool, name BatchName) (l Letter, err error) {
	err = pg.InTx(ctx, pool, func(tx pgx.Tx) error {
		l, err = lockLetter(ctx, tx, name)
		return err
	})
	return l, err
}

func lockLetter(ctx context.Context, tx pgx.Tx, name BatchName) (Letter, error) {
	l := Letter{BatchName: name}
	err := tx.QueryRow(ctx, qLetter, uuidOf(name.Site), uuidOf(name.Spool), clampSeq(name.Seq)).Scan(
		&l.SiteName, &l.Reason, &l.ReceivedAt, &l.Header, &l.Signature, &l.Payload)
	if errors.Is(err, pgx.ErrNoRows) {
		return l, fmt.Errorf("batch %d of spool %s of site %s: %w", name.Seq, name.Spool, name.Site, ErrNoLetter)
	}
	if err != nil {
		return l, fmt.Errorf("reading the quarantine: %w", err)
	}
	l.Size = int64(len(l.Payload))
	return l, nil
}

// DropLetter deletes a quarantined batch's payload. Its header stays in the ledger: the name is used up, and what was signed stays provable.
func DropLetter(ctx context.Context, pool *pgxpool.Pool, name BatchName) error {
	tag, err := pool.Exec(ctx, qDropLetter, uuidOf(name.Site), uuidOf(name.Spool), clampSeq(name.Seq))
	if err != nil {
		return fmt.Errorf("dropping a quarantined batch: %w", err)
	}
	if tag.RowsAffected() == 0 {
		return fmt.Errorf("batch %d of spool %s of site %s: %w", name.Seq, name.Spool, name.Site, ErrNoLetter)
	}
	return nil
}

// RetryConfig describes RetryLetter's collaborators. All but Now and Log are required.
type RetryConfig struct {
	Pool   *pgxpool.Pool
	Fleet  *fleet.Store
	Latest *fleet.Latest
	Series *series.Store
	Facts  *facts.Store
	Now    func() time.Time // nil means time.Now
	Log    *slog.Logger     // nil discards
}

// RetryLetter unpacks a quarantined batch again, as a stream does, and moves it with its samples into ledger and series, in one transaction: two retries at
// once, or one that is killed, store it once. A batch that still cannot be used stays where it is, and the error says why.
func RetryLetter(ctx context.Context, c RetryConfig, name BatchName) (samples int64, err error) {
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	d, err := wire.NewDecoder()
	if err != nil {
		return 0, fmt.Errorf("retrying a quarantined batch: %w", err)
	}
	defer d.Close()
	for attempt := 1; ; attempt++ {
		samples, err = retryOnce(ctx, c, d, name)
		if err == nil || attempt == maxAttempts || !c.Series.PartitionGone(err) && !isConflict(err) {
			break
		}
	}
	var refused *unusableError
	if errors.As(err, &refused) {
		if _, e := c.Pool.Exec(ctx, qLetterReason, uuidOf(name.Site), uuidOf(name.Spool), clampSeq(name.Seq), clip(refused.Error(), 1000)); e != nil {
			err = errors.Join(err, fmt.Errorf("recording the reason: %w", e))
		}
	}
	return samples, err
}

// unusableError says why a batch stays in quarantine.
type unusableError struct{ error }

func retryOnce(ctx context.Context, c RetryConfig, d *wire.Decoder, name BatchName) (samples int64, err error) {
	var update *fleet.Update
	var disputes []facts.Dispute
	at := c.Now().UTC().Truncate(time.Millisecond)
	// What needs other connections comes before the transaction: retries that wait for each other must not hold what each of them needs.
	l, err := DeadLetter(ctx, c.Pool, name)
	if err != nil {
		return 0, err
	}
	i, err := openLetter(ctx, c.Fleet, d, l)
	if err != nil {
		return 0, err
	}
	span, err := c.Series.Prepare(ctx, hotBatches([]*item{i}))
	if err != nil {
		return 0, err
	}
	err = pg.InTx(ctx, c.Pool, func(tx pgx.Tx) error {
		if _, err := lockLetter(ctx, tx, name); err != nil { // another retry was faster
			return err
		}
		tag, err := tx.Exec(ctx, qUse, uuidOf(name.Site), uuidOf(name.Spool), clampSeq(name.Seq), i.payload)
		if err != nil {
			return fmt.Errorf("returning a batch to the ledger: %w", err)
		}
		if tag.RowsAffected() != 1 {
			return fmt.Errorf("the ledger does not know batch %d of spool %s as quarantined: look at table batch before anything else", name.Seq, name.Spool)
		}
		if err := i.writeGap(ctx, tx, at); err != nil {
			return unusable(err)
		}
		if i.hour != nil {
			if disputes, err = c.Facts.Keep(ctx, tx, []facts.Signed{i.signed()}, at); err != nil {
				return unusable(err)
			}
		}
		if samples, err = c.Series.Copy(ctx, tx, hotBatches([]*item{i}), span); err != nil {
			return unusable(err)
		}
		update = c.Latest.Collect(latestBatches([]*item{i}), time.UnixMilli(span.EndMS))
		if err := update.Write(ctx, tx); err != nil {
			return unusable(err)
		}
		if _, err := tx.Exec(ctx, qUsedTotals, uuidOf(name.Site), uuidOf(name.Spool), int64(i.header.Samples)); err != nil {
			return fmt.Errorf("adding up batches: %w", err)
		}
		if _, err := tx.Exec(ctx, qDropLetter, uuidOf(name.Site), uuidOf(name.Spool), clampSeq(name.Seq)); err != nil {
			return fmt.Errorf("emptying the quarantine: %w", err)
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	c.Latest.Committed(update)
	c.Facts.Alarm(ctx, disputes)
	if g := i.gap; g != nil {
		if _, err := judgeLinks(ctx, c.Pool, []batchKey{{name.Site, g.Spool, g.LastSeq + 1}}, []int16{linkPending}); err != nil {
			c.Log.WarnContext(ctx, "links were not checked, maintenance will", "err", err)
		}
	}
	return samples, nil
}

// unusable marks an error that lies in the batch; others, such as a database that is away, say nothing about it.
func unusable(err error) error {
	if isDataError(err) {
		return &unusableError{err}
	}
	return err
}

// openLetter checks and unpacks a quarantined batch. A key that was revoked since does not undo what it had signed before.
func openLetter(ctx context.Context, keys *fleet.Store, d *wire.Decoder, l Letter) (*item, error) {
	h, err := evidence.ParseHeader(l.Header)
	if err != nil {
		return nil, fmt.Errorf("a header in quarantine: %w", err)
	}
	key, err := keys.Key(ctx, l.Site, h.Key)
	if err != nil {
		return nil, fmt.Errorf("the key of a quarantined batch: %w", err)
	}
	if err := errors.Join(evidence.VerifyHeader(key.Public, l.Header, l.Signature), h.CheckPayload(l.Payload)); err != nil {
		return nil, fmt.Errorf("batch %d in quarantine is not what its site signed: the table was changed: %w", l.Seq, err)
	}
	i := &item{header: h, hash: h.Hash(), raw: l.Header, signature: l.Signature, payload: l.Payload}
	if err := i.unpack(d, key.Public); err != nil {
		return nil, &unusableError{err}
	}
	return i, nil
}

// clampSeq is a sequence number as the database can hold it.
func clampSeq(seq uint64) int64 { return int64(min(seq, 1<<63-1)) }
