package wire

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	samplesv1 "github.com/hashinsight/hashinsight/proto/samples/v1"
)

// rowsOf is a layout of miners with a number of rows each, those in turn in so many lanes.
func rowsOf(perMiner []int, inLanes int) (l layout, rows []int32) {
	for m, n := range perMiner {
		for i := range n {
			rows = append(rows, int32(len(l.miner)))
			l.miner, l.lane = append(l.miner, int32(m)), append(l.lane, uint8(i%inLanes))
		}
	}
	return l, rows
}

func packedAndBack(t interface{ Fatal(args ...any) }, values []int64, rows []int32, l *layout) []byte {
	p, d := &packer{}, &Decoder{}
	packed := p.pack(values, rows, l)
	got := make([]int64, len(values))
	if err := d.unpack(packed, got, rows, l); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(got, values) {
		t.Fatal("got", got, "want", values)
	}
	return packed
}

// Whatever integers a column may hold come back, however they lie.
func TestPackedValuesComeBack(t *testing.T) {
	lo, hi := limits(tableSamples, FieldAccepted)
	rapid.Check(t, func(t *rapid.T) {
		perMiner := rapid.SliceOfN(rapid.IntRange(1, 40), 1, 8).Draw(t, "rows of each miner")
		l, rows := rowsOf(perMiner, rapid.IntRange(1, maxLanes).Draw(t, "lanes"))
		step := rapid.SampledFrom([]int64{1, 10, 300, 1 << 40}).Draw(t, "step")
		value := rapid.OneOf(rapid.Int64Range(lo/step, hi/step), rapid.Int64Range(-3, 3), rapid.Just(int64(0)))
		values := rapid.SliceOfN(value, len(rows), len(rows)).Draw(t, "values")
		for i := range values {
			values[i] *= step
		}
		keep := rapid.IntRange(1, len(rows)).Draw(t, "present")
		packedAndBack(t, values[:keep], rows[len(rows)-keep:], &l)
	})
}

// What a firmware cannot resolve takes no bits, and neither does what does not change or changes evenly.
func TestPackedColumnsAreAsShortAsTheirNews(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	l, rows := rowsOf([]int{360}, 1)
	column := func(at func(i int) int64) []int64 {
		out := make([]int64, len(rows))
		for i := range out {
			out[i] = at(i)
		}
		return out
	}
	for name, c := range map[string]struct {
		values []int64
		most   int // bytes
	}{
		"always the same":        {column(func(int) int64 { return 1 << 50 }), 12},
		"even steps":             {column(func(i int) int64 { return 5000 + int64(i)*600 }), 16},
		"one change in 100":      {column(func(i int) int64 { return int64(i / 100) }), 20},
		"steps of 300, 8 values": {column(func(int) int64 { return 54_000 + 300*r.Int64N(8) }), 360*4/8 + 16},
		"16 bits of noise":       {column(func(int) int64 { return 100e6 + 10*r.Int64N(1<<16) }), 360*17/8 + 16},
	} {
		if n := len(packedAndBack(t, c.values, rows, &l)); n > c.most {
			t.Errorf("%s: %d bytes, want at most %d", name, n, c.most)
		}
	}
}

// P4 in small: a batch of a fleet stays as short as limits.md wants it. The benchmark prints by how much.
func TestAPayloadOfAFleetIsShort(t *testing.T) {
	e, _ := newCodec(t)
	for _, c := range []struct{ polls, bytes int }{{4, 25}, {20, 12}, {80, 9}} {
		rows := fleet(250, c.polls)
		payload, _, err := e.Samples(rows, nil)
		if err != nil || len(payload) > c.bytes*len(rows) {
			t.Errorf("%d samples take %d bytes, want at most %d each; %v", len(rows), len(payload), c.bytes, err)
		}
	}
}

// Bytes that no Encoder makes are refused, however they lie, without reading beyond them.
func TestDamagedPackedColumnsAreRefused(t *testing.T) {
	l, rows := rowsOf([]int{50, 50}, 3)
	values := make([]int64, len(rows))
	for i := range values {
		values[i] = int64(i%7) * int64(i)
	}
	packed := (&packer{}).pack(values, rows, &l)
	d := &Decoder{}
	for n := range packed {
		if err := d.unpack(packed[:n], make([]int64, len(values)), rows, &l); err == nil {
			t.Errorf("cut to %d of %d bytes: no error", n, len(packed))
		}
	}
	r := rand.New(rand.NewPCG(5, 6))
	for range 20_000 { // no claim about the result but that there is one
		lie := slices.Clone(packed)
		for range 1 + r.IntN(4) {
			lie[r.IntN(len(lie))] = byte(r.Uint32())
		}
		_ = d.unpack(lie, make([]int64, len(values)), rows, &l)
	}
}

func TestLyingPackedPayloadsAreRefused(t *testing.T) {
	e, d := newCodec(t)
	one := &layout{miner: []int32{0, 0}}
	pack := func(values ...int64) []byte { return (&packer{}).pack(values, []int32{0, 1}[:len(values)], one) }
	for name, c := range map[string]struct {
		lie  func(*samplesv1.Samples)
		want string
	}{
		"times twice":                {func(m *samplesv1.Samples) { m.TimeDeltaMs = []int64{1000, 10} }, "times come twice"},
		"times cut short":            {func(m *samplesv1.Samples) { m.TimesMs = m.TimesMs[:2] }, "damaged"},
		"time backwards":             {func(m *samplesv1.Samples) { m.TimesMs = pack(1000, 999) }, "order of time"},
		"time before 1970":           {func(m *samplesv1.Samples) { m.TimesMs = pack(-2, 1) }, "no time a clock shows"},
		"more rows than a payload":   {func(m *samplesv1.Samples) { m.RowsPerMiner = []uint32{4_000_000_000} }, "samples in a payload"},
		"values twice":               {func(m *samplesv1.Samples) { m.Columns[0].Deltas = []int64{1, 0} }, "its values come twice"},
		"value out of range":         {func(m *samplesv1.Samples) { m.Columns[0].Packed = pack(1, 256) }, "out of range"},
		"bits missing":               {func(m *samplesv1.Samples) { m.Columns[0].Packed = pack(1, 200)[:7] }, "damaged"},
		"bytes behind a constant":    {func(m *samplesv1.Samples) { m.Columns[0].Packed = append(pack(1, 1), 0) }, "damaged"},
		"presence beyond the rows":   {func(m *samplesv1.Samples) { m.Columns[1].Present = []byte{0b110} }, "do not exist"},
		"presence too long":          {func(m *samplesv1.Samples) { m.Columns[1].Present = []byte{1, 0} }, "presence of 2 bytes"},
		"predictor of another world": {func(m *samplesv1.Samples) { m.Columns[0].Packed = []byte{0x80, 1, 2, 0, 0, 0, 0} }, "damaged"},
	} {
		t.Run(name, func(t *testing.T) {
			m := &samplesv1.Samples{
				Miners: bytes.Repeat([]byte{7}, 16), RowsPerMiner: []uint32{2}, TimesMs: pack(1000, 1010),
				Columns: []*samplesv1.Column{{Field: uint32(FieldOutcome), Packed: pack(1, 1)}, {Field: uint32(FieldAccepted), Present: []byte{0b10}, Packed: pack(5)}},
			}
			send := func() error {
				raw, err := proto.Marshal(m)
				if err != nil {
					t.Fatal(err)
				}
				_, err = d.Samples(e.zstd.EncodeAll(raw, nil))
				return err
			}
			if err := send(); err != nil {
				t.Fatalf("the payload without a lie: %v", err)
			}
			c.lie(m)
			if err := send(); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got error %v, want one with %q", err, c.want)
			}
		})
	}
}

// A column that never changes takes a few bytes, whatever its length: what all of them together may unfold to is bounded too.
func TestPackedBombsAreRefused(t *testing.T) {
	e, d := newCodec(t)
	constant := []byte{0, 2, 0}
	m := &samplesv1.Samples{TimesMs: constant, Boards: &samplesv1.Table{}, Pools: &samplesv1.Table{}, Errors: &samplesv1.Table{}, Strings: []string{"a", "b"}}
	m.Miners, m.RowsPerMiner = make([]byte, 16), []uint32{MaxSamples}
	m.Columns = []*samplesv1.Column{{Field: uint32(FieldOutcome), Packed: constant}}
	for _, table := range []*samplesv1.Table{m.GetBoards(), m.GetPools(), m.GetErrors()} {
		for range MaxSamples {
			table.Counts = append(table.Counts, maxSubrows/MaxSamples)
		}
		for f := range uint32(maxSubfield) {
			table.Columns = append(table.Columns, &samplesv1.Column{Field: f, Packed: constant})
		}
	}
	raw, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Samples(e.zstd.EncodeAll(raw, nil)); err == nil || !strings.Contains(err.Error(), "integers") {
		t.Errorf("%d bytes: %v", len(raw), err)
	}
}
