package series

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/hashinsight/hashinsight/hub/internal/pg"
	"github.com/hashinsight/hashinsight/pkg/ident"
	"github.com/hashinsight/hashinsight/pkg/telemetry"
	"github.com/hashinsight/hashinsight/pkg/wire"
)

const (
	qDirtyOf   = `SELECT hour, min(from_ms) FROM block_dirty WHERE site_id = $1 AND hour >= $2 AND hour <= $3 GROUP BY hour`
	qDroppedOf = `SELECT day FROM hot_dropped WHERE day >= $1 AND day <= $2`
	qBlocksOf  = `SELECT hour, checksum, payload FROM telemetry_block WHERE site_id = $1 AND hour = ANY($2::integer[]) AND hour >= $3 AND hour <= $4 AND miner_id = $5`
)

// read calls f with every poll of one miner whose hour touches fromMS to toMS, each once, some at a time and in no order. It takes blocks, and hot rows only
// of what has come since a block was written; f must not keep what it is given.
func (s *Store) read(ctx context.Context, site ident.SiteID, miner ident.MinerID, fromMS, toMS int64, f func(*wire.Samples)) error {
	c, err := s.codec()
	if err != nil {
		return err
	}
	defer s.codecs.Put(c)
	r := &minerReader{codec: c, site: site, miner: miner, first: fromMS / hourMS, last: (toMS - 1) / hourMS, f: f}
	// One snapshot: what a note speaks of is not yet in the block of that moment.
	err = pg.InTxOptions(ctx, s.c.Pool, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error { return r.read(ctx, tx) })
	if err != nil {
		return fmt.Errorf("reading the series of miner %s: %w", miner, err)
	}
	if r.damaged > 0 {
		s.damaged.Add(float64(r.damaged))
		s.c.Log.ErrorContext(ctx, "damaged blocks are left out of a series", "site", site.String(), "miner", miner.String(), "blocks", r.damaged, "err", errDamaged)
	}
	return nil
}

type minerReader struct {
	codec       *codec
	site        ident.SiteID
	miner       ident.MinerID
	first, last int64 // hours
	f           func(*wire.Samples)
	damaged     int
}

// changes are the rows of an hour that are not in its block.
type changes struct {
	fromMS  int64 // all hot rows from here on are in rows
	rows    []telemetry.Observation
	dropped bool // the block holds rows that hot rows do not
}

func (r *minerReader) read(ctx context.Context, tx pgx.Tx) error {
	changed, err := r.changes(ctx, tx)
	if err != nil {
		return err
	}
	hours := make([]int64, 0, r.last-r.first+1)
	for h := r.first; h <= r.last; h++ {
		hours = append(hours, h)
	}
	rows, err := tx.Query(ctx, qBlocksOf, r.site, hours, r.first, r.last, r.miner)
	if err != nil {
		return err
	}
	var hour int64
	var checksum int32
	var payload []byte
	_, err = pgx.ForEachRow(rows, []any{&hour, &checksum, &payload}, func() error {
		ch := changed[hour]
		delete(changed, hour)
		samples, err := r.codec.unpack(r.miner, checksum, payload)
		if errors.Is(err, errDamaged) {
			r.damaged++
			if ch == nil {
				return nil
			}
			return r.pack(ch.rows)
		}
		if err != nil || ch == nil {
			if err == nil {
				r.f(samples)
			}
			return err
		}
		var old []telemetry.Observation
		for i := range samples.Len() {
			if ch.dropped || samples.TimeMS[i] < ch.fromMS {
				old = append(old, samples.Observation(i))
			}
		}
		return r.pack(mergeRows(old, ch.rows))
	})
	if err != nil {
		return err
	}
	for _, ch := range changed {
		if err := r.pack(ch.rows); err != nil {
			return err
		}
	}
	return nil
}

// changes reads what is not in blocks.
func (r *minerReader) changes(ctx context.Context, tx pgx.Tx) (map[int64]*changes, error) {
	rows, err := tx.Query(ctx, qDirtyOf, r.site, r.first, r.last)
	if err != nil {
		return nil, err
	}
	changed := map[int64]*changes{}
	var hour, from int64
	begin, end := int64(1)<<62, int64(0)
	if _, err := pgx.ForEachRow(rows, []any{&hour, &from}, func() error {
		changed[hour] = &changes{fromMS: hour*hourMS + from}
		begin, end = min(begin, hour*hourMS+from), max(end, (hour+1)*hourMS)
		return nil
	}); err != nil || len(changed) == 0 {
		return nil, err
	}
	if rows, err = tx.Query(ctx, qDroppedOf, r.first/24, r.last/24); err != nil {
		return nil, err
	}
	days, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	if err != nil {
		return nil, err
	}
	for _, d := range days {
		for h := d * 24; h < d*24+24; h++ {
			if ch := changed[h]; ch != nil {
				ch.dropped = true
			}
		}
	}
	if rows, err = tx.Query(ctx, qHotMiner, r.site, time.UnixMilli(begin), time.UnixMilli(end), r.miner); err != nil {
		return nil, err
	}
	defer rows.Close()
	hot := newHotRows(r.codec.asm)
	for rows.Next() {
		o, err := hot.row(rows.RawValues())
		if err != nil {
			return nil, err
		}
		if ch := changed[o.At.UnixMilli()/hourMS]; ch != nil && o.At.UnixMilli() >= ch.fromMS {
			ch.rows = append(ch.rows, o)
		}
	}
	return changed, rows.Err()
}

// pack gives rows to f in the form that blocks have.
func (r *minerReader) pack(rows []telemetry.Observation) error {
	for len(rows) > 0 {
		n := min(len(rows), maxMinerRows)
		payload, _, err := r.codec.enc.Samples(rows[:n], nil)
		if err != nil {
			return err
		}
		samples, err := r.codec.dec.Samples(payload)
		if err != nil {
			return err
		}
		r.f(samples)
		rows = rows[n:]
	}
	return nil
}
