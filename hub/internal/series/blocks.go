package series

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/hashinsight/hashinsight/hub/internal/pg"
	"github.com/hashinsight/hashinsight/pkg/ident"
	"github.com/hashinsight/hashinsight/pkg/telemetry"
	"github.com/hashinsight/hashinsight/pkg/wire"
)

const (
	// rewriteEvery is how often the blocks of an hour are written at most, while rows of it arrive.
	rewriteEvery = 5 * time.Minute
	// sealGrace is the time after an hour's end when its blocks are written as whole: what is in time has arrived.
	sealGrace = 2 * time.Minute
	// maxSealHours bounds the hours of one call of Seal; the newest come first, the rest waits for the next.
	maxSealHours = 256
	// blockVersion is the format of what this program writes into telemetry_block: 1 with payloads of schema 1 of package wire, 2 with those of
	// schema 2. Both are read. A hub that knows only 1 leaves blocks of 2 out of a series, says so, and changes none whose hot rows are gone.
	blockVersion = 2
	// blockTimeout bounds each statement on one hour of one site.
	blockTimeout = "600s"
)

const (
	qDue = `
SELECT site_id, hour FROM (
	SELECT d.site_id, d.hour FROM (SELECT DISTINCT site_id, hour FROM block_dirty) d LEFT JOIN telemetry_hour h USING (site_id, hour)
	WHERE h.written_at IS NULL OR h.written_at <= $1 OR h.written_at > $2 OR h.sealed_at IS NULL AND d.hour < $3
	UNION SELECT site_id, hour FROM telemetry_hour WHERE sealed_at IS NULL AND hour < $3) due
ORDER BY hour DESC, site_id LIMIT $4`
	qTimeout  = `SELECT set_config('statement_timeout', $1, true)`
	qHourMake = `INSERT INTO telemetry_hour (site_id, hour, written_at, miners, samples) VALUES ($1, $2, 'epoch', 0, 0) ON CONFLICT DO NOTHING`
	qHourLock = `SELECT sealed_at IS NOT NULL FROM telemetry_hour WHERE site_id = $1 AND hour = $2 FOR UPDATE SKIP LOCKED`
	qClean    = `DELETE FROM block_dirty WHERE site_id = $1 AND hour = $2`
	qDropped  = `SELECT EXISTS (SELECT FROM hot_dropped WHERE day = $1)`
	qHourSeal = `UPDATE telemetry_hour SET sealed_at = $3 WHERE site_id = $1 AND hour = $2`
	qHourDone = `UPDATE telemetry_hour SET written_at = $3, sealed_at = coalesce(sealed_at, $4), miners = $5, samples = $6 WHERE site_id = $1 AND hour = $2`
	qWhole    = `SELECT set_config('cursor_tuple_fraction', '1', true)`
	qOldHour  = `SELECT miner_id, checksum, payload FROM telemetry_block WHERE site_id = $1 AND hour = $2 ORDER BY miner_id`
	// The cursors end with the transaction.
	qHotCursor = `DECLARE hot NO SCROLL CURSOR FOR ` + qHotHour
	qOldCursor = `DECLARE old NO SCROLL CURSOR FOR ` + qOldHour
)

// qBlocks writes blocks and adds what they changed to their miners' days. The hour's lock is held: nobody else changes these blocks.
const qBlocks = `
WITH new AS (
	SELECT * FROM unnest($4::uuid[], $5::integer[], $6::integer[], $7::integer[], $8::integer[], $9::integer[], $10::bigint[], $11::bigint[], $12::bigint[],
		$13::integer[], $14::integer[], $15::integer[], $16::integer[], $17::smallint[], $18::smallint[], $19::bytea[], $20::bytea[])
	u (miner_id, first_ms, last_ms, samples, answered, checksum, hashrate_sum, power_sum, hashes_mh, hashrate_n, power_n, temp_chip_dc, temp_board_dc,
		slots_polled, slots_answered, slots, payload)
), old AS (
	SELECT b.miner_id, b.samples, b.answered, b.slots_polled, b.slots_answered, b.hashrate_n, b.power_n, b.hashrate_sum, b.power_sum, b.hashes_mh
	FROM telemetry_block b JOIN new USING (miner_id) WHERE b.site_id = $1 AND b.hour = $2
), written AS (
	INSERT INTO telemetry_block AS b (site_id, hour, version, miner_id, first_ms, last_ms, samples, answered, checksum, hashrate_sum, power_sum, hashes_mh,
		hashrate_n, power_n, temp_chip_dc, temp_board_dc, slots_polled, slots_answered, slots, payload)
	SELECT $1, $2, $3, new.* FROM new
	ON CONFLICT (site_id, hour, miner_id) DO UPDATE SET version = excluded.version, first_ms = excluded.first_ms, last_ms = excluded.last_ms,
		samples = excluded.samples, answered = excluded.answered, checksum = excluded.checksum, hashrate_sum = excluded.hashrate_sum,
		power_sum = excluded.power_sum, hashes_mh = excluded.hashes_mh, hashrate_n = excluded.hashrate_n, power_n = excluded.power_n,
		temp_chip_dc = excluded.temp_chip_dc, temp_board_dc = excluded.temp_board_dc, slots_polled = excluded.slots_polled,
		slots_answered = excluded.slots_answered, slots = excluded.slots, payload = excluded.payload
	WHERE b.payload <> excluded.payload OR b.slots <> excluded.slots
	RETURNING b.*
)
INSERT INTO miner_day AS d (site_id, day, miner_id, samples, answered, slots_polled, slots_answered, hashrate_n, power_n, hashrate_sum, power_sum, hashes_mh,
	temp_chip_dc, temp_board_dc)
SELECT $1, $2 / 24, w.miner_id, w.samples - coalesce(o.samples, 0), w.answered - coalesce(o.answered, 0), w.slots_polled - coalesce(o.slots_polled, 0),
	w.slots_answered - coalesce(o.slots_answered, 0), w.hashrate_n - coalesce(o.hashrate_n, 0), w.power_n - coalesce(o.power_n, 0),
	w.hashrate_sum - coalesce(o.hashrate_sum, 0), w.power_sum - coalesce(o.power_sum, 0), w.hashes_mh - coalesce(o.hashes_mh, 0), w.temp_chip_dc, w.temp_board_dc
FROM written w LEFT JOIN old o USING (miner_id) ORDER BY w.miner_id
ON CONFLICT (site_id, day, miner_id) DO UPDATE SET samples = d.samples + excluded.samples, answered = d.answered + excluded.answered,
	slots_polled = d.slots_polled + excluded.slots_polled, slots_answered = d.slots_answered + excluded.slots_answered,
	hashrate_n = d.hashrate_n + excluded.hashrate_n, power_n = d.power_n + excluded.power_n, hashrate_sum = d.hashrate_sum + excluded.hashrate_sum,
	power_sum = d.power_sum + excluded.power_sum, hashes_mh = d.hashes_mh + excluded.hashes_mh,
	temp_chip_dc = greatest(d.temp_chip_dc, excluded.temp_chip_dc), temp_board_dc = greatest(d.temp_board_dc, excluded.temp_board_dc)`

// Seal writes the blocks, and with them the roll-ups, of hours that have changed: of an open hour every 5 minutes, of an hour that is over once more a
// moment after its end, and again whenever late data has come. It is safe to call at any time by any number of hubs, and what it has
// done or not done when it is stopped makes no difference to any result. An error tells of the hours that failed; the others are done.
func (s *Store) Seal(ctx context.Context, now time.Time) error {
	rows, err := s.c.Jobs.Query(ctx, qDue, now.Add(-rewriteEvery), now, hourOver(now), maxSealHours)
	if err != nil {
		return fmt.Errorf("finding changed hours: %w", err)
	}
	type key struct {
		site ident.SiteID
		hour int64
	}
	var due []key
	var k key
	if _, err := pgx.ForEachRow(rows, []any{(*[16]byte)(&k.site), &k.hour}, func() error { due = append(due, k); return nil }); err != nil {
		return fmt.Errorf("finding changed hours: %w", err)
	}
	s.due.Set(float64(len(due)))
	if len(due) == 0 {
		return nil
	}
	c, err := s.codec()
	if err != nil {
		return err
	}
	defer s.codecs.Put(c)
	var errs []error
	for _, k := range due {
		if ctx.Err() != nil {
			return errors.Join(append(errs, ctx.Err())...)
		}
		if err := s.writeHour(ctx, c, k.site, k.hour, now); err != nil {
			errs = append(errs, fmt.Errorf("blocks of site %s, %s: %w", k.site, time.Unix(k.hour*3600, 0).UTC().Format("2006-01-02T15h"), err))
		}
	}
	return errors.Join(errs...)
}

// hourOver is the first hour that is not over at now.
func hourOver(now time.Time) int64 { return now.Add(-sealGrace).UnixMilli() / hourMS }

// writeHour writes the blocks of one site and hour from its hot rows, and marks it as written. Hours that another hub works on are left to it.
func (s *Store) writeHour(ctx context.Context, c *codec, site ident.SiteID, hour int64, now time.Time) error {
	if err := s.ensureBlocks(ctx, hour); err != nil {
		return err
	}
	return pg.InTx(ctx, s.c.Jobs, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, qTimeout, blockTimeout); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, qHourMake, site, hour); err != nil {
			return err
		}
		var sealed bool
		if err := tx.QueryRow(ctx, qHourLock, site, hour).Scan(&sealed); err != nil {
			if errors.Is(err, pgx.ErrNoRows) {
				return nil
			}
			return err
		}
		// From here on a row that is committed later leaves a note that stays; all others are seen by the statements below.
		noted, err := tx.Exec(ctx, qClean, site, hour)
		if err != nil {
			return err
		}
		over := hour < hourOver(now)
		if noted.RowsAffected() == 0 {
			if over && !sealed {
				_, err = tx.Exec(ctx, qHourSeal, site, hour, now)
			}
			return err
		}
		var dropped bool
		if err := tx.QueryRow(ctx, qDropped, hour/24).Scan(&dropped); err != nil {
			return err
		}
		w := &hourWriter{tx: tx, codec: c, site: site, hour: hour}
		if err := s.eachMiner(ctx, tx, c, site, hour, dropped, w.miner); err != nil {
			return err
		}
		if err := w.flush(ctx); err != nil {
			return err
		}
		if err := w.slots.write(ctx, tx, site, hour); err != nil {
			return err
		}
		var sealedAt *time.Time
		if over {
			sealedAt = &now
		}
		if _, err := tx.Exec(ctx, qHourDone, site, hour, now, sealedAt, w.miners, w.samples); err != nil {
			return err
		}
		s.written.Add(float64(w.miners))
		return nil
	})
}

// eachMiner calls f with the polls of each miner of a site's hour, miners in order and polls in order of time. Only those of some miners are in memory. When
// the day's hot partition was dropped before, the hot rows are added to what the blocks hold. f may use tx: rows come through cursors, page by page, so that
// no second connection is held while this one waits.
func (s *Store) eachMiner(ctx context.Context, tx pgx.Tx, c *codec, site ident.SiteID, hour int64, dropped bool, f func(context.Context, []telemetry.Observation) error) error {
	// A cursor is planned for its first rows unless told that all are wanted.
	if _, err := tx.Exec(ctx, qWhole); err != nil {
		return err
	}
	from := time.UnixMilli(hour * hourMS).UTC()
	if _, err := tx.Exec(ctx, qHotCursor, site, from, from.Add(time.Hour)); err != nil {
		return err
	}
	h := newHotRows(c.asm)
	hotPage := &cursor[telemetry.Observation]{tx: tx, fetch: "FETCH 2000 FROM hot", read: h.row}
	hot := groups{next: hotPage.next}
	defer func() { s.outside.WithLabelValues("beyond_block").Add(float64(hot.extra)) }()
	if !dropped {
		return hot.each(ctx, f)
	}
	if _, err := tx.Exec(ctx, qOldCursor, site, hour); err != nil {
		return err
	}
	old := &oldBlocks{c, &cursor[oldBlock]{tx: tx, fetch: "FETCH 100 FROM old", read: readOldBlock}}
	return mergeGroups(ctx, old, &hot, f)
}

// codec is what packing and unpacking blocks needs, for one goroutine.
type codec struct {
	enc *wire.Encoder
	dec *wire.Decoder
	asm *wire.Assembler
}

// codec returns a codec, which the caller gives back to s.codecs.
func (s *Store) codec() (*codec, error) {
	if c, ok := s.codecs.Get().(*codec); ok {
		return c, nil
	}
	enc, err := wire.NewEncoder()
	if err != nil {
		return nil, err
	}
	dec, err := wire.NewDecoder()
	if err != nil {
		return nil, err
	}
	return &codec{enc, dec, wire.NewAssembler()}, nil
}

var errDamaged = errors.New("a block is damaged in the database's storage: restore the database, or write the hour again from its batches")

// unpack checks and unpacks the payload of a miner's block.
func (c *codec) unpack(miner ident.MinerID, checksum int32, payload []byte) (*wire.Samples, error) {
	if checksumOf(payload) != checksum {
		return nil, fmt.Errorf("miner %s: %w", miner, errDamaged)
	}
	samples, err := c.dec.Samples(payload)
	if err != nil {
		return nil, fmt.Errorf("miner %s: %w: %w", miner, errDamaged, err)
	}
	if len(samples.Miners) != 1 || samples.Miners[0] != miner {
		return nil, fmt.Errorf("miner %s: %w: it is another miner's", miner, errDamaged)
	}
	return samples, nil
}

// checksumOf is CRC-32C, with its bits as the database has them: signed.
func checksumOf(payload []byte) int32 {
	return int32(crc32.Checksum(payload, crc32.MakeTable(crc32.Castagnoli)))
}

// hourWriter writes the blocks of one site and hour, some at a time.
type hourWriter struct {
	tx      pgx.Tx
	codec   *codec
	site    ident.SiteID
	hour    int64
	slots   siteHour
	miners  int64
	samples int64

	size              int
	ids               []ident.MinerID
	numbers           [10][]int64
	chips, boards     []*int32
	facts, payloads   [][]byte
	polled, answering []int64
}

// Bounds of the blocks of one statement.
const (
	maxFlushBlocks = 500
	maxFlushBytes  = 4 << 20
)

func (w *hourWriter) miner(ctx context.Context, rows []telemetry.Observation) error {
	payload, _, err := w.codec.enc.Samples(rows, nil)
	if err != nil {
		return fmt.Errorf("packing miner %s: %w", rows[0].Miner, err)
	}
	f := factsOf(rows, w.hour*hourMS)
	w.slots.add(f)
	w.miners++
	w.samples += f.samples
	w.ids = append(w.ids, rows[0].Miner)
	for n, v := range []int64{
		f.firstMS, f.lastMS, f.samples, f.answered, int64(checksumOf(payload)), f.hashrate.total, f.power.total, f.hashes, f.hashrate.n, f.power.n,
	} {
		w.numbers[n] = append(w.numbers[n], v)
	}
	w.chips, w.boards = append(w.chips, f.chip.v), append(w.boards, f.board.v)
	w.polled, w.answering = append(w.polled, f.polledSlots), append(w.answering, f.answeredSlots)
	w.facts, w.payloads = append(w.facts, f.appendSlots(nil)), append(w.payloads, payload)
	if w.size += len(payload); len(w.ids) >= maxFlushBlocks || w.size >= maxFlushBytes {
		return w.flush(ctx)
	}
	return nil
}

func (w *hourWriter) flush(ctx context.Context) error {
	if len(w.ids) == 0 {
		return nil
	}
	n := &w.numbers
	if _, err := w.tx.Exec(ctx, qBlocks, w.site, w.hour, blockVersion, w.ids, n[0], n[1], n[2], n[3], n[4], n[5], n[6], n[7], n[8], n[9], w.chips, w.boards,
		w.polled, w.answering, w.facts, w.payloads); err != nil {
		return fmt.Errorf("writing blocks: %w", err)
	}
	w.size, w.ids = 0, w.ids[:0]
	for i := range n {
		n[i] = n[i][:0]
	}
	w.chips, w.boards, w.polled, w.answering = w.chips[:0], w.boards[:0], w.polled[:0], w.answering[:0]
	w.facts, w.payloads = w.facts[:0], w.payloads[:0]
	return nil
}
