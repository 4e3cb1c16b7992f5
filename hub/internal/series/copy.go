package series

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"

	"github.com/jackc/pgx/v5"

	"github.com/hashinsight/hashinsight/pkg/ident"
	"github.com/hashinsight/hashinsight/pkg/wire"
)

// hotColumn is a column of telemetry_hot that holds one reading.
type hotColumn struct {
	name  string
	field wire.Field
	width int // bytes of the SQL integer
}

// hotColumns lists them in the order of the table, between ts and site_id.
func hotColumns() []hotColumn {
	return []hotColumn{
		{"hashrate_mhs", wire.FieldHashrate, 8}, {"hashrate_avg_mhs", wire.FieldHashrateAvg, 8}, {"hashes_mh", wire.FieldHashes, 8},
		{"accepted", wire.FieldAccepted, 8}, {"rejected", wire.FieldRejected, 8}, {"stale", wire.FieldStale, 8},
		{"diff_accepted", wire.FieldDiffAccepted, 8}, {"hw_errors", wire.FieldHardwareErrors, 8}, {"best_share", wire.FieldBestShare, 8},
		{"energy_j", wire.FieldEnergy, 8}, {"hashrate_window_s", wire.FieldHashrateWindow, 4}, {"temp_board_dc", wire.FieldTempBoard, 4},
		{"temp_chip_dc", wire.FieldTempChip, 4}, {"temp_inlet_dc", wire.FieldTempInlet, 4}, {"fan1_rpm", wire.FieldFan0, 4},
		{"fan2_rpm", wire.FieldFan0 + 1, 4}, {"fan3_rpm", wire.FieldFan0 + 2, 4}, {"fan4_rpm", wire.FieldFan0 + 3, 4},
		{"power_dw", wire.FieldPower, 4}, {"uptime_s", wire.FieldUptime, 4}, {"took_ms", wire.FieldTook, 4},
		{"flags", wire.FieldFlags, 8}, {"outcome", wire.FieldOutcome, 2}, {"state", wire.FieldState, 2},
	}
}

// CopySQL is the statement that takes what a CopyReader gives.
const CopySQL = `COPY telemetry_hot (ts, hashrate_mhs, hashrate_avg_mhs, hashes_mh, accepted, rejected, stale, diff_accepted, hw_errors, best_share,
	energy_j, hashrate_window_s, temp_board_dc, temp_chip_dc, temp_inlet_dc, fan1_rpm, fan2_rpm, fan3_rpm, fan4_rpm, power_dw, uptime_s, took_ms,
	flags, outcome, state, site_id, miner_id, detail) FROM STDIN (FORMAT binary)`

const qDirty = `INSERT INTO block_dirty (site_id, hour, from_ms) SELECT * FROM unnest($1::uuid[], $2::integer[], $3::integer[])`

// Copy writes the samples of batches whose times lie in span, in the caller's transaction, and notes which hours they change. Rows outside are
// counted and passed over; span comes from Prepare, which has made their partitions.
func (s *Store) Copy(ctx context.Context, tx pgx.Tx, batches []Batch, span Span) (rows int64, err error) {
	sites, hours, from := changedHours(batches, span)
	if len(hours) == 0 {
		return 0, nil
	}
	if _, err := tx.Exec(ctx, qDirty, sites, hours, from); err != nil {
		return 0, fmt.Errorf("noting changed hours: %w", err)
	}
	r := NewCopyReader(batches, span)
	tag, err := tx.Conn().PgConn().CopyFrom(ctx, r, CopySQL)
	if err != nil {
		return 0, fmt.Errorf("copying samples: %w", err)
	}
	return tag.RowsAffected(), nil
}

// changedHours returns each site and hour that rows of batches within span belong to, and the earliest of those rows in ms since the hour's beginning.
func changedHours(batches []Batch, span Span) (sites []ident.SiteID, hours, from []int32) {
	type key struct {
		site ident.SiteID
		hour int32
	}
	at := map[key]int{}
	add := func(site ident.SiteID, ms int64) {
		k := key{site, int32(ms / hourMS)}
		i, ok := at[k]
		if !ok {
			i = len(hours)
			at[k] = i
			sites, hours, from = append(sites, site), append(hours, k.hour), append(from, int32(ms%hourMS))
		}
		from[i] = min(from[i], int32(ms%hourMS))
	}
	for _, b := range batches {
		first, last := b.Samples.Meta.FirstMS, b.Samples.Meta.LastMS
		if first/hourMS == last/hourMS && first >= span.FirstMS && last < span.EndMS {
			add(b.Site, first)
			continue
		}
		for _, ms := range b.Samples.TimeMS {
			if ms >= span.FirstMS && ms < span.EndMS {
				add(b.Site, ms)
			}
		}
	}
	return sites, hours, from
}

// Outside counts samples that stay evidence only. Call it after the commit.
func (s *Store) Outside(batches []Batch, span Span) {
	var old, future int
	for _, b := range batches {
		if b.Samples.Meta.FirstMS >= span.FirstMS && b.Samples.Meta.LastMS < span.EndMS {
			continue
		}
		for _, ms := range b.Samples.TimeMS {
			if ms < span.FirstMS {
				old++
			} else if ms >= span.EndMS {
				future++
			}
		}
	}
	s.outside.WithLabelValues("old").Add(float64(old))
	s.outside.WithLabelValues("future").Add(float64(future))
}

// maxRow is the largest encoded row: column count, a length before each of 28 columns, and the values.
const maxRow = 2 + 28*4 + 8 + 11*8 + 11*4 + 2*2 + 2*16 + wire.MaxDetail

// pgEpochMS is 2000-01-01 UTC, from which PostgreSQL counts, in ms since 1970.
const pgEpochMS = 946684800000

// CopyReader reads as the binary COPY stream of the rows of telemetry_hot. It encodes straight from the unpacked columns into
// the reader's buffer, so that a large group costs no memory of its own.
type CopyReader struct {
	batches []Batch
	span    Span
	columns []hotColumn
	except  []wire.Field  // those that have a column
	cols    []*wire.Col   // of the batch being read
	details *wire.Details // of the batch being read
	row     int
	began   bool
	ended   bool
	left    []byte // encoded, not yet read
	buf     []byte
}

// NewCopyReader returns a reader of the rows of batches that lie in span.
func NewCopyReader(batches []Batch, span Span) *CopyReader {
	r := &CopyReader{batches: batches, span: span, columns: hotColumns()}
	r.cols = make([]*wire.Col, len(r.columns))
	for _, c := range r.columns {
		r.except = append(r.except, c.field)
	}
	r.open()
	return r
}

// open points cols at the first batch that is left.
func (r *CopyReader) open() {
	r.row = 0
	if len(r.batches) == 0 {
		return
	}
	for i, c := range r.columns {
		r.cols[i] = r.batches[0].Samples.Column(c.field)
	}
	r.details = r.batches[0].Samples.Details(r.except)
}

// Read implements io.Reader.
func (r *CopyReader) Read(p []byte) (int, error) {
	n := copy(p, r.left)
	r.left = r.left[n:]
	if n > 0 {
		return n, nil
	}
	if r.ended {
		return 0, io.EOF
	}
	if len(p) >= maxRow+64 { // the stream's head is part of the first
		b := r.fill(p[:0:len(p)])
		return len(b), nil
	}
	if len(p) == 0 {
		return 0, nil
	}
	if r.buf == nil {
		r.buf = make([]byte, 0, 2*maxRow)
	}
	r.left = r.fill(r.buf)
	return r.Read(p)
}

// fill appends whole rows as long as they surely fit into b's capacity.
func (r *CopyReader) fill(b []byte) []byte {
	if !r.began {
		r.began = true
		b = append(b, "PGCOPY\n\xff\r\n\x00\x00\x00\x00\x00\x00\x00\x00\x00"...) // signature, no flags, no extension
	}
	for len(r.batches) > 0 {
		batch := &r.batches[0]
		s := batch.Samples
		for ; r.row < s.Len(); r.row++ {
			if cap(b)-len(b) < maxRow {
				return b
			}
			if ms := s.TimeMS[r.row]; ms < r.span.FirstMS || ms >= r.span.EndMS {
				continue
			}
			b = r.appendRow(b, batch.Site, s)
		}
		r.batches = r.batches[1:]
		r.open()
	}
	if cap(b)-len(b) < 2 {
		return b
	}
	r.ended = true
	return append(b, 0xff, 0xff) // the end: a row of -1 columns
}

func (r *CopyReader) appendRow(b []byte, site ident.SiteID, s *wire.Samples) []byte {
	be := binary.BigEndian
	i := r.row
	b = be.AppendUint16(b, uint16(len(r.columns)+4))
	b = be.AppendUint32(b, 8)
	b = be.AppendUint64(b, uint64((s.TimeMS[i]-pgEpochMS)*1000))
	for c, col := range r.cols {
		v, width := int64(0), r.columns[c].width
		switch {
		case col.Values != nil && (col.Has == nil || col.Has[i]):
			v = col.Values[i]
		case r.columns[c].field == wire.FieldFlags || r.columns[c].field == wire.FieldState: // absent means none and unknown
		default:
			b = be.AppendUint32(b, 0xffffffff) // null
			continue
		}
		b = be.AppendUint32(b, uint32(width))
		switch width { // package wire has checked that the values fit
		case 8:
			b = be.AppendUint64(b, uint64(v))
		case 4:
			b = be.AppendUint32(b, uint32(v))
		default:
			b = be.AppendUint16(b, uint16(v))
		}
	}
	b = be.AppendUint32(b, 16)
	b = append(b, site[:]...)
	b = be.AppendUint32(b, 16)
	b = append(b, s.Miners[s.MinerOf[i]][:]...)
	at := len(b)
	b = be.AppendUint32(b, 0xffffffff) // null
	if b = r.details.Append(b, i); len(b) > at+4 {
		be.PutUint32(b[at:], uint32(len(b)-at-4))
	}
	return b
}
