package wire

import (
	"errors"
	"fmt"
	"math/bits"
	"slices"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/hashinsight/hashinsight/pkg/ident"
	"github.com/hashinsight/hashinsight/pkg/telemetry"
	"github.com/hashinsight/hashinsight/pkg/unit"
)

// Col is one reading of every row of a table, spread out so that index i is row i.
type Col struct {
	Values []int64
	Has    []bool // nil: every row has a value
}

// Get returns row i's value and whether it has one. The zero Col has none.
func (c *Col) Get(i int) (int64, bool) {
	if c.Values == nil || c.Has != nil && !c.Has[i] {
		return 0, false
	}
	return c.Values[i], true
}

// Samples is an unpacked payload by columns, checked in every bound: rows sorted strictly by miner and then by time.
type Samples struct {
	Miners  []ident.MinerID // ascending, each once
	MinerOf []int32         // row → index into Miners
	TimeMS  []int64         // row → ms since 1970 UTC
	Infos   []telemetry.MinerInfo
	Meta    Meta

	columns [FieldDuty0 + telemetry.MaxFans]Col
	boards  subtable
	pools   subtable
	errors  subtable
	strings []string
	decoder *Decoder
	left    int // integers that may still be unpacked
}

// Len is the number of rows.
func (s *Samples) Len() int { return len(s.TimeMS) }

// Column returns one reading of all rows; its Values are nil when no row has it.
func (s *Samples) Column(f Field) *Col {
	if int(f) >= len(s.columns) {
		return &Col{}
	}
	return &s.columns[f]
}

type tableKind uint8

const (
	tableSamples tableKind = iota
	tableBoards
	tablePools
	tableErrors
)

// Bounds of the boards, pools and errors of one payload.
const (
	maxSubrows  = 4 * MaxSamples
	maxSubfield = 32
)

// subtable holds the sub-rows of all rows: those of row i are start[i] to start[i+1].
type subtable struct {
	start   []int32
	columns map[Field]*Col
}

// layout is that of s's subtable t.
func (s *Samples) layout(t *subtable) layout {
	n := t.start[s.Len()]
	l := layout{miner: make([]int32, 0, n), lane: make([]uint8, 0, n)}
	for i, m := range s.MinerOf {
		for j := range t.start[i+1] - t.start[i] {
			l.miner, l.lane = append(l.miner, m), append(l.lane, uint8(j))
		}
	}
	return l
}

// Decoder unpacks payloads. It is for one goroutine.
type Decoder struct {
	zstd    *zstd.Decoder
	samples []column[obs]
	boards  []column[telemetry.Board]
	pools   []column[telemetry.Pool]
	errors  []column[string]
	raw     []byte
	lanes   lanes
	values  []int64
	rows    []int32
}

// NewDecoder returns a Decoder.
func NewDecoder() (*Decoder, error) {
	z, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxRaw), zstd.WithDecoderMaxWindow(8<<20))
	if err != nil {
		return nil, fmt.Errorf("set up decompression: %w", err)
	}
	return &Decoder{zstd: z, samples: sampleColumns(), boards: boardColumns(), pools: poolColumns(), errors: errorColumns()}, nil
}

// Close releases the decompressor.
func (d *Decoder) Close() { d.zstd.Close() }

// Samples unpacks and checks a payload of kind samples. An error means that the bytes are not what an Encoder makes; the
// result does not refer to payload.
func (d *Decoder) Samples(payload []byte) (*Samples, error) {
	if len(payload) > MaxPayload {
		return nil, fmt.Errorf("payload of %d bytes, at most %d are accepted", len(payload), MaxPayload)
	}
	var err error
	if d.raw, err = d.zstd.DecodeAll(payload, d.raw[:0]); err != nil {
		return nil, fmt.Errorf("payload does not decompress: %w", err)
	}
	shape, err := shapeOf(d.raw)
	if err != nil {
		return nil, fmt.Errorf("payload is no samples message: %w", err)
	}
	var msg message
	if err := msg.parse(d.raw); err != nil {
		return nil, fmt.Errorf("payload is no samples message: %w", err)
	}
	s := &Samples{strings: msg.strings, decoder: d, left: maxIntegers - shape.integers}
	if err := s.keys(&msg); err != nil {
		return nil, err
	}
	if err := checkStrings(s.strings); err != nil {
		return nil, err
	}
	for _, c := range msg.columns {
		if c.field >= uint32(len(s.columns)) {
			continue // a newer agent's reading
		}
		if s.columns[c.field].Values != nil {
			return nil, fmt.Errorf("column %d comes twice", c.field)
		}
		col, err := s.decodeColumn(tableSamples, c, s.Len(), &layout{miner: s.MinerOf})
		if err != nil {
			return nil, err
		}
		s.columns[c.field] = col
	}
	if s.columns[FieldOutcome].Values == nil || s.columns[FieldOutcome].Has != nil {
		return nil, errors.New("a sample has no outcome")
	}
	for _, t := range []struct {
		kind tableKind
		name string
		msg  *tableMessage
		into *subtable
		most uint32
	}{
		{tableBoards, "boards", msg.boards, &s.boards, telemetry.MaxBoards},
		{tablePools, "pools", msg.pools, &s.pools, telemetry.MaxPools},
		{tableErrors, "errors", msg.errors, &s.errors, telemetry.MaxErrors},
	} {
		if *t.into, err = s.decodeTable(t.kind, t.msg, t.most); err != nil {
			return nil, fmt.Errorf("%s: %w", t.name, err)
		}
	}
	if len(msg.infos) > MaxSamples {
		return nil, fmt.Errorf("%d descriptions of miners, at most %d are accepted", len(msg.infos), MaxSamples)
	}
	for _, p := range msg.infos {
		m, err := p.info()
		if err != nil {
			return nil, err
		}
		s.Infos = append(s.Infos, m)
	}
	return s, nil
}

func (s *Samples) keys(msg *message) error {
	const width = len(ident.MinerID{})
	n := len(msg.timeDeltaMS)
	packed := len(msg.timesMS) > 0
	if packed {
		if n > 0 {
			return errors.New("times come twice")
		}
		for _, rows := range msg.rowsPerMiner {
			n += min(int(rows), MaxSamples+1)
		}
	}
	if n == 0 || n > MaxSamples {
		return fmt.Errorf("%d samples in a payload, want 1 to %d", n, MaxSamples)
	}
	if len(msg.miners) != width*len(msg.rowsPerMiner) {
		return fmt.Errorf("%d bytes of miner ids for %d miners", len(msg.miners), len(msg.rowsPerMiner))
	}
	s.MinerOf = make([]int32, 0, n)
	for m, rows := range msg.rowsPerMiner {
		id := ident.MinerID(msg.miners[m*width:])
		if m > 0 && id.Compare(s.Miners[m-1]) <= 0 {
			return errors.New("miner ids are not in ascending order")
		}
		if rows == 0 || uint64(rows) > uint64(n-len(s.MinerOf)) {
			return fmt.Errorf("miner %s: %d rows do not fit the payload", id, rows)
		}
		s.Miners = append(s.Miners, id)
		for range rows {
			s.MinerOf = append(s.MinerOf, int32(m))
		}
	}
	if len(s.MinerOf) != n {
		return fmt.Errorf("%d rows of miners for %d samples", len(s.MinerOf), n)
	}
	if packed {
		s.TimeMS = make([]int64, n)
		if err := s.decoder.unpack(msg.timesMS, s.TimeMS, nil, &layout{miner: s.MinerOf}); err != nil {
			return fmt.Errorf("times: %w", err)
		}
	} else {
		s.TimeMS = msg.timeDeltaMS
		var at int64
		for i, d := range s.TimeMS {
			at += d
			s.TimeMS[i] = at
		}
	}
	for i, at := range s.TimeMS {
		if at < 0 || at > maxTimeMS {
			return fmt.Errorf("sample at %d ms since 1970: no time a clock shows", at)
		}
		if i > 0 && s.MinerOf[i] == s.MinerOf[i-1] && at < s.TimeMS[i-1] {
			return errors.New("samples of one miner are not in order of time")
		}
	}
	s.Meta = Meta{Miners: uint32(len(s.Miners)), Samples: uint32(n), FirstMS: s.TimeMS[0], LastMS: s.TimeMS[0]}
	for _, ms := range s.TimeMS {
		s.Meta.FirstMS, s.Meta.LastMS = min(s.Meta.FirstMS, ms), max(s.Meta.LastMS, ms)
	}
	return nil
}

// maxTimeMS is the end of the year 9999: later times have no RFC 3339 form.
const maxTimeMS = 253402300799999

func checkStrings(texts []string) error {
	if len(texts) > maxStrings {
		return fmt.Errorf("%d texts, at most %d are accepted", len(texts), maxStrings)
	}
	for _, t := range texts {
		if len(t) > telemetry.MaxText {
			return fmt.Errorf("a text of %d bytes, at most %d are accepted", len(t), telemetry.MaxText)
		}
	}
	return nil
}

func (s *Samples) decodeColumn(table tableKind, c *columnMessage, rows int, l *layout) (Col, error) {
	if len(c.packed) > 0 {
		return s.unpackColumn(table, c, rows, l)
	}
	f := Field(c.field)
	deltas := c.deltas
	lo, hi := limits(table, f)
	if isText(table, f) {
		lo, hi = 0, int64(len(s.strings))-1
	}
	var before int64
	check := func(d int64) (int64, error) {
		v := before + d
		if v < lo || v > hi || (d > 0) != (v > before) && d != 0 {
			return 0, fmt.Errorf("column %d: value %d is out of range", f, v)
		}
		before = v
		return v, nil
	}
	if len(c.present) == 0 {
		if len(deltas) != rows {
			return Col{}, fmt.Errorf("column %d: %d values for %d rows", f, len(deltas), rows)
		}
		for i, d := range deltas {
			v, err := check(d)
			if err != nil {
				return Col{}, err
			}
			deltas[i] = v
		}
		return Col{Values: deltas}, nil
	}
	if err := checkBitmap(c.present, rows, len(deltas)); err != nil {
		return Col{}, fmt.Errorf("column %d: %w", f, err)
	}
	col := Col{Values: make([]int64, rows), Has: make([]bool, rows)}
	next := 0
	for i := range rows {
		if c.present[i>>3]&(1<<(i&7)) == 0 {
			continue
		}
		v, err := check(deltas[next])
		if err != nil {
			return Col{}, err
		}
		col.Values[i], col.Has[i] = v, true
		next++
	}
	return col, nil
}

// unpackColumn decodes a packed column.
func (s *Samples) unpackColumn(table tableKind, c *columnMessage, rows int, l *layout) (Col, error) {
	f, d := Field(c.field), s.decoder
	if len(c.deltas) > 0 {
		return Col{}, fmt.Errorf("column %d: its values come twice", f)
	}
	if s.left -= rows; s.left < 0 {
		return Col{}, fmt.Errorf("more than %d integers", maxIntegers)
	}
	col := Col{Values: make([]int64, rows)}
	values, present := col.Values, []int32(nil)
	if bitmap := c.present; len(bitmap) > 0 {
		n := 0
		for _, b := range bitmap {
			n += bits.OnesCount8(b)
		}
		if err := checkBitmap(bitmap, rows, n); err != nil {
			return Col{}, fmt.Errorf("column %d: %w", f, err)
		}
		col.Has = make([]bool, rows)
		present = d.rows[:0]
		for i := range rows {
			if bitmap[i>>3]&(1<<(i&7)) != 0 {
				col.Has[i] = true
				present = append(present, int32(i))
			}
		}
		d.rows = present
		d.values = slices.Grow(d.values[:0], n)[:n]
		values = d.values
	}
	if err := d.unpack(c.packed, values, present, l); err != nil {
		return Col{}, fmt.Errorf("column %d: %w", f, err)
	}
	lo, hi := limits(table, f)
	if isText(table, f) {
		lo, hi = 0, int64(len(s.strings))-1
	}
	for i, v := range values {
		if v < lo || v > hi {
			return Col{}, fmt.Errorf("column %d: value %d is out of range", f, v)
		}
		if col.Has != nil {
			col.Values[present[i]] = v
		}
	}
	return col, nil
}

func checkBitmap(bitmap []byte, rows, values int) error {
	if len(bitmap) != (rows+7)/8 {
		return fmt.Errorf("presence of %d bytes for %d rows", len(bitmap), rows)
	}
	set := 0
	for _, b := range bitmap {
		set += bits.OnesCount8(b)
	}
	if rows%8 != 0 && bitmap[len(bitmap)-1]>>(rows%8) != 0 {
		return errors.New("presence of rows that do not exist")
	}
	if set != values {
		return fmt.Errorf("%d values, %d present", values, set)
	}
	return nil
}

func (s *Samples) decodeTable(kind tableKind, t *tableMessage, most uint32) (subtable, error) {
	if t == nil {
		return subtable{}, nil
	}
	if len(t.counts) != s.Len() {
		return subtable{}, fmt.Errorf("%d counts for %d rows", len(t.counts), s.Len())
	}
	out := subtable{start: make([]int32, s.Len()+1), columns: map[Field]*Col{}}
	for i, n := range t.counts {
		if n > most {
			return subtable{}, fmt.Errorf("%d in one row, at most %d are accepted", n, most)
		}
		out.start[i+1] = out.start[i] + int32(n)
	}
	if out.start[s.Len()] > maxSubrows {
		return subtable{}, fmt.Errorf("%d rows in all, at most %d are accepted", out.start[s.Len()], maxSubrows)
	}
	l := s.layout(&out)
	for _, c := range t.columns {
		if c.field >= maxSubfield {
			continue // a newer agent's reading
		}
		if _, twice := out.columns[Field(c.field)]; twice {
			return subtable{}, fmt.Errorf("column %d comes twice", c.field)
		}
		col, err := s.decodeColumn(kind, c, int(out.start[s.Len()]), &l)
		if err != nil {
			return subtable{}, err
		}
		out.columns[Field(c.field)] = &col
	}
	return out, nil
}

func isText(table tableKind, f Field) bool {
	return table == tablePools && (f == poolURL || f == poolWorker) || table == tableErrors && f == errorText
}

// Observation puts row i together again. It is for one row of many (the latest of a miner, an export); a path that
// touches every row reads columns.
func (s *Samples) Observation(i int) telemetry.Observation {
	o := telemetry.Observation{Miner: s.Miners[s.MinerOf[i]], At: time.UnixMilli(s.TimeMS[i]).UTC()}
	for _, c := range s.decoder.samples {
		if v, ok := s.columns[c.field].Get(i); ok {
			c.set(&o, v, s.strings)
		}
	}
	o.Boards = subrows(&s.boards, s.decoder.boards, s.strings, i)
	o.Pools = subrows(&s.pools, s.decoder.pools, s.strings, i)
	o.Errors = subrows(&s.errors, s.decoder.errors, s.strings, i)
	return o
}

// EachFact calls fn with every row, in the payload's order, with those readings alone that the facts of an hour are made of (package
// evidence). It takes a fraction of what Observation does. fn must not keep or change what it is given.
func (s *Samples) EachFact(fn func(*telemetry.Observation)) {
	outcome, state, flags := s.Column(FieldOutcome), s.Column(FieldState), s.Column(FieldFlags)
	rate, uptime := s.Column(FieldHashrate), s.Column(FieldUptime)
	hashes, energy, shares := s.Column(FieldHashes), s.Column(FieldEnergy), s.Column(FieldDiffAccepted)
	opt := func(c *Col, i int) (o unit.Opt[int64]) {
		if v, ok := c.Get(i); ok {
			o = unit.Some(v)
		}
		return o
	}
	var o telemetry.Observation // the other readings stay absent
	for i, ms := range s.TimeMS {
		o.Miner, o.At = s.Miners[s.MinerOf[i]], time.UnixMilli(ms).UTC()
		v, _ := outcome.Get(i) // absent is zero, as for the next two
		o.Outcome = telemetry.Outcome(v)
		v, _ = state.Get(i)
		o.State = telemetry.State(v)
		v, _ = flags.Get(i)
		o.Flags = telemetry.Flags(v)
		o.Hashrate, o.Uptime = unit.Opt[unit.Hashrate]{}, unit.Opt[time.Duration]{}
		if v, ok := rate.Get(i); ok {
			o.Hashrate = unit.Some(unit.Hashrate(v) * unit.MegahashPerSecond)
		}
		if v, ok := uptime.Get(i); ok {
			o.Uptime = unit.Some(time.Duration(v) * time.Second)
		}
		o.Hashes, o.Energy, o.DiffAccepted = opt(hashes, i), opt(energy, i), opt(shares, i)
		fn(&o)
	}
}

func subrows[T any](t *subtable, columns []column[T], texts []string, row int) []T {
	if t.start == nil || t.start[row] == t.start[row+1] {
		return nil
	}
	out := make([]T, t.start[row+1]-t.start[row])
	for j := range out {
		for _, c := range columns {
			col, ok := t.columns[c.field]
			if !ok {
				continue
			}
			if v, ok := col.Get(int(t.start[row]) + j); ok {
				c.set(&out[j], v, texts)
			}
		}
	}
	return out
}
