// Package wire packs observations into the payload of a batch and unpacks them: protobuf columns,
// sorted by (miner, time), each in as few bits as its wandering needs, compressed with zstd. It is the one converter between proto and domain:
// field numbers and units stand in the table of fields.go. The bytes it makes are signed and kept as they
// are; nothing here encodes a payload twice. The agent's batcher encodes, the hub's ingest and
// `spool export` decode.
package wire

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"unicode/utf8"

	"github.com/klauspost/compress/zstd"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/hashinsight/hashinsight/pkg/ident"
	"github.com/hashinsight/hashinsight/pkg/telemetry"
)

// Meta is what a batch header tells of its payload.
type Meta struct {
	Miners  uint32 // distinct miners
	Samples uint32 // rows
	FirstMS int64  // time of the earliest sample, ms since 1970 UTC
	LastMS  int64  // time of the latest sample
}

// Bounds of one payload. A sender stays below them, a receiver refuses what is beyond.
const (
	MaxSamples = 100_000
	MaxPayload = 8 << 20  // compressed bytes
	maxRaw     = 64 << 20 // bytes after decompression
	maxStrings = 100_000
)

// Encoder packs batches. It keeps buffers between calls and is for one goroutine.
type Encoder struct {
	zstd    *zstd.Encoder
	samples []column[obs]
	boards  []column[telemetry.Board]
	pools   []column[telemetry.Pool]
	errors  []column[string]
	rows    []*obs
	packer  packer
	miners  []int32 // row → index into the payload's miners
	raw     []byte
	cuts    []int // ends of what may become a block of its own, ascending
}

// Field numbers of the tables in the message Samples, and the packed bytes from which on a column gets a block of its own.
const (
	fieldBoards = 5
	fieldErrors = 7
	minBlock    = 2048
)

// NewEncoder returns an Encoder.
func NewEncoder() (*Encoder, error) {
	z, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedDefault), zstd.WithWindowSize(1<<20))
	if err != nil {
		return nil, fmt.Errorf("set up compression: %w", err)
	}
	return &Encoder{zstd: z, samples: sampleColumns(), boards: boardColumns(), pools: poolColumns(), errors: errorColumns()}, nil
}

// Samples packs observations, in any order, and descriptions of miners into one payload. observations must not be
// empty; it is not changed. The payload is a fresh slice. A reading outside what its column may hold is left out, as if the
// miner had not reported it: one miner's nonsense must not make a hub refuse the samples of all others.
func (e *Encoder) Samples(observations []telemetry.Observation, infos []telemetry.MinerInfo) ([]byte, Meta, error) {
	if len(observations) == 0 {
		return nil, Meta{}, errors.New("a batch of samples needs at least one")
	}
	if len(observations) > MaxSamples {
		return nil, Meta{}, fmt.Errorf("%d samples in one batch, at most %d are allowed", len(observations), MaxSamples)
	}
	e.rows = e.rows[:0]
	defer func() { clear(e.rows) }() // a batch with all its boards and pools must not live until the next one comes
	for i := range observations {
		if err := checkBounds(&observations[i]); err != nil {
			return nil, Meta{}, err
		}
		e.rows = append(e.rows, &observations[i])
	}
	slices.SortStableFunc(e.rows, func(a, b *obs) int {
		if c := a.Miner.Compare(b.Miner); c != 0 {
			return c
		}
		return a.At.Compare(b.At)
	})
	msg := &message{}
	meta := e.keys(msg)
	in := newInterner()
	msg.columns = encodeColumns(&e.packer, tableSamples, e.samples, e.rows, in, &layout{miner: e.miners})
	msg.boards = encodeTable(e, tableBoards, e.boards, in, func(o *obs) []telemetry.Board { return o.Boards })
	msg.pools = encodeTable(e, tablePools, e.pools, in, func(o *obs) []telemetry.Pool { return o.Pools })
	msg.errors = encodeTable(e, tableErrors, e.errors, in, func(o *obs) []string { return o.Errors })
	msg.strings = in.strings
	if len(in.strings) > maxStrings {
		return nil, Meta{}, fmt.Errorf("%d samples hold %d texts, at most %d are allowed", len(observations), len(in.strings), maxStrings)
	}
	for _, t := range []*tableMessage{msg.boards, msg.pools, msg.errors} {
		n := 0
		if t == nil {
			continue
		}
		for _, c := range t.counts {
			n += int(c)
		}
		if n > maxSubrows {
			return nil, Meta{}, fmt.Errorf("%d samples hold %d boards, pools or errors, at most %d of each are allowed", len(observations), n, maxSubrows)
		}
	}
	for i := range infos {
		msg.infos = append(msg.infos, infoMessageOf(&infos[i]))
	}
	e.raw = msg.append(e.raw[:0])
	payload, err := e.compress()
	if err != nil {
		return nil, Meta{}, fmt.Errorf("compress %d samples: %w", len(observations), err)
	}
	if len(e.raw) > maxRaw || len(payload) > MaxPayload {
		return nil, Meta{}, fmt.Errorf("%d samples make a payload of %d bytes (%d packed), more than a hub accepts: use shorter batches", len(observations), len(e.raw), len(payload))
	}
	return payload, meta, nil
}

// compress makes one zstd frame of e.raw in which columns do not share a block, as far as they are long enough to pay for
// one. It hardly shortens packed columns, but ids, texts, counts and presence, and keeps apart what has an entropy table of its own: that
// saves 3 % where rows have boards and pools (measured, 5,000 samples). Any zstd decoder reads it.
func (e *Encoder) compress() ([]byte, error) {
	e.cuts = e.cuts[:0]
	if err := e.cut(e.raw, 0, true); err != nil {
		return nil, err
	}
	out := bytes.NewBuffer(make([]byte, 0, len(e.raw)/3+256))
	e.zstd.ResetContentSize(out, int64(len(e.raw)))
	from := 0
	for _, to := range e.cuts {
		if to-from < minBlock || len(e.raw)-to < minBlock {
			continue
		}
		if _, err := e.zstd.Write(e.raw[from:to]); err != nil {
			return nil, err
		}
		if err := e.zstd.Flush(); err != nil {
			return nil, err
		}
		from = to
	}
	if _, err := e.zstd.Write(e.raw[from:]); err != nil {
		return nil, err
	}
	if err := e.zstd.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// cut notes where the fields of a packed message end, and within tables where their columns end.
func (e *Encoder) cut(b []byte, at int, tables bool) error {
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return protowire.ParseError(n)
		}
		size := protowire.ConsumeFieldValue(num, typ, b[n:])
		if size < 0 {
			return protowire.ParseError(size)
		}
		if tables && typ == protowire.BytesType && num >= fieldBoards && num <= fieldErrors {
			inner, _ := protowire.ConsumeBytes(b[n:])
			if err := e.cut(inner, at+n+size-len(inner), false); err != nil {
				return err
			}
		}
		at += n + size
		b = b[n+size:]
		e.cuts = append(e.cuts, at)
	}
	return nil
}

// keys writes the key columns (miner, time) of e.rows, which are sorted.
func (e *Encoder) keys(msg *message) Meta {
	meta := Meta{Samples: uint32(len(e.rows)), FirstMS: e.rows[0].At.UnixMilli(), LastMS: e.rows[0].At.UnixMilli()}
	times, rows, miner := make([]int64, len(e.rows)), make([]int32, len(e.rows)), e.miners[:0]
	for i, o := range e.rows {
		if i == 0 || o.Miner != e.rows[i-1].Miner {
			msg.miners = append(msg.miners, o.Miner[:]...)
			msg.rowsPerMiner = append(msg.rowsPerMiner, 0)
			meta.Miners++
		}
		msg.rowsPerMiner[len(msg.rowsPerMiner)-1]++
		ms := o.At.UnixMilli()
		meta.FirstMS, meta.LastMS = min(meta.FirstMS, ms), max(meta.LastMS, ms)
		times[i], rows[i], miner = ms, int32(i), append(miner, int32(len(msg.rowsPerMiner)-1))
	}
	e.miners = miner
	msg.timesMS = e.packer.pack(times, rows, &layout{miner: miner})
	return meta
}

// checkBounds keeps a driver's mistake out of the evidence: what a hub would refuse is refused here.
func checkBounds(o *obs) error {
	switch {
	case o.Outcome == 0:
		return fmt.Errorf("miner %s: an observation without an outcome", o.Miner)
	case o.At.UnixMilli() < 0 || o.At.UnixMilli() > maxTimeMS:
		return fmt.Errorf("miner %s: an observation at %s, which is no time a clock shows", o.Miner, o.At)
	case len(o.Fans) > telemetry.MaxFans, len(o.FanDuty) > telemetry.MaxFans, len(o.Boards) > telemetry.MaxBoards, len(o.Pools) > telemetry.MaxPools, len(o.Errors) > telemetry.MaxErrors:
		return fmt.Errorf("miner %s: more fans, boards, pools or errors than one observation may carry", o.Miner)
	}
	return nil
}

func encodeColumns[T any](p *packer, table tableKind, columns []column[T], in []*T, texts *interner, l *layout) []*columnMessage {
	var out []*columnMessage
	bitmap := make([]byte, (len(in)+7)/8)
	values, rows := make([]int64, 0, len(in)), make([]int32, 0, len(in))
	for _, c := range columns {
		lo, hi := limits(table, c.field)
		clear(bitmap)
		values, rows = values[:0], rows[:0]
		for i, r := range in {
			v, ok := c.get(r, texts)
			if !ok || v < lo || v > hi {
				continue
			}
			bitmap[i>>3] |= 1 << (i & 7)
			values, rows = append(values, v), append(rows, int32(i))
		}
		if len(values) == 0 {
			continue
		}
		col := &columnMessage{field: uint32(c.field), packed: p.pack(values, rows, l)}
		if len(values) < len(in) {
			col.present = slices.Clone(bitmap)
		}
		out = append(out, col)
	}
	return out
}

func encodeTable[T any](e *Encoder, table tableKind, columns []column[T], in *interner, sub func(*obs) []T) *tableMessage {
	var flat []*T
	var l layout
	counts := make([]uint32, len(e.rows))
	for i, r := range e.rows {
		s := sub(r)
		counts[i] = uint32(len(s))
		for j := range s {
			flat = append(flat, &s[j])
			l.miner, l.lane = append(l.miner, e.miners[i]), append(l.lane, uint8(j))
		}
	}
	if len(flat) == 0 {
		return nil
	}
	return &tableMessage{counts: counts, columns: encodeColumns(&e.packer, table, columns, flat, in, &l)}
}

// interner collects the texts of one payload, each once.
type interner struct {
	strings []string
	byText  map[string]int64
}

func newInterner() *interner { return &interner{byText: map[string]int64{}} }

func (n *interner) index(s string) int64 {
	if i, ok := n.byText[s]; ok {
		return i
	}
	i := int64(len(n.strings))
	n.byText[s] = i
	n.strings = append(n.strings, clip(s))
	return i
}

// clip keeps a text within telemetry.MaxText bytes of valid UTF-8, which protobuf demands.
func clip(s string) string {
	if !utf8.ValidString(s) {
		s = string([]rune(s)) // each bad byte becomes U+FFFD
	}
	if len(s) <= telemetry.MaxText {
		return s
	}
	cut := telemetry.MaxText
	for !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut]
}

func infoMessageOf(m *telemetry.MinerInfo) *infoMessage {
	i := &infoMessage{miner: m.Miner[:]}
	for at, s := range infoTextsOf(m) {
		i.texts[at] = clip(*s)
	}
	return i
}

// infoTextsOf is the texts of a description in the order of their field numbers.
func infoTextsOf(m *telemetry.MinerInfo) [infoTexts]*string {
	return [...]*string{
		&m.Address, &m.MAC, &m.Serial, &m.Maker, &m.Model, &m.Firmware, &m.FirmwareVersion, &m.Hostname, &m.ControlBoard, &m.APIVersion, &m.FirmwareBuilt,
	}
}

func (i *infoMessage) info() (m telemetry.MinerInfo, err error) {
	if len(i.miner) != len(m.Miner) {
		return m, fmt.Errorf("miner description with an id of %d bytes, want 16", len(i.miner))
	}
	m.Miner = ident.MinerID(i.miner)
	for at, s := range infoTextsOf(&m) {
		if *s = i.texts[at]; len(*s) > telemetry.MaxText {
			return telemetry.MinerInfo{}, fmt.Errorf("description of miner %s: a text of %d bytes, at most %d are allowed", m.Miner, len(*s), telemetry.MaxText)
		}
	}
	return m, nil
}
