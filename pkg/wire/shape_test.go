package wire

import (
	"bytes"
	"runtime"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	samplesv1 "github.com/hashinsight/hashinsight/proto/samples/v1"
)

// A few kB that decompress to millions of tiny parts would cost gigabytes to unmarshal.
func TestBombsAreRefusedBeforeTheyAreUnmarshalled(t *testing.T) {
	field := func(num protowire.Number, content []byte) []byte {
		return protowire.AppendBytes(protowire.AppendTag(nil, num, protowire.BytesType), content)
	}
	column := func(deltas int) []byte { return field(3, make([]byte, deltas)) }
	const many = 8 << 20
	for name, raw := range map[string][]byte{
		"descriptions":            bytes.Repeat(field(9, nil), many),
		"columns":                 bytes.Repeat(field(4, nil), many),
		"columns of a table":      field(5, bytes.Repeat(field(2, nil), many)),
		"tables that are merged":  bytes.Repeat(field(6, nil), many),
		"texts":                   bytes.Repeat(field(8, nil), many),
		"times":                   field(3, make([]byte, 3*many)),
		"counts":                  field(7, field(1, make([]byte, 3*many))),
		"values of known columns": bytes.Repeat(field(4, column(100_000)), 400),
	} {
		e, err := NewEncoder()
		if err != nil {
			t.Fatal(err)
		}
		d, err := NewDecoder()
		if err != nil {
			t.Fatal(err)
		}
		payload := e.zstd.EncodeAll(raw, nil)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err = d.Samples(payload)
		runtime.ReadMemStats(&after)
		d.Close()
		if err == nil || !strings.Contains(err.Error(), "no samples message") {
			t.Errorf("%s: %v", name, err)
		}
		if mb := (after.TotalAlloc - before.TotalAlloc) >> 20; mb > 192 { // decompression alone takes up to twice maxRaw
			t.Errorf("%s: %d bytes of payload made the decoder allocate %d MB", name, len(payload), mb)
		}
	}
}

// The numbers of fields in shapeOf are those of the message.
func TestShapeKnowsTheMessage(t *testing.T) {
	col := []*samplesv1.Column{{Field: 1, Present: []byte{1}, Deltas: []int64{1, -2, 300}}}
	table := &samplesv1.Table{Counts: []uint32{1, 2}, Columns: col}
	raw, err := proto.Marshal(&samplesv1.Samples{
		Miners: make([]byte, 16), RowsPerMiner: []uint32{7}, TimeDeltaMs: []int64{1, 1000}, Columns: col, Boards: table, Pools: table, Errors: table,
		Strings: []string{"a", "b"}, Infos: []*samplesv1.MinerInfo{{}, {}, {}},
	})
	if err != nil {
		t.Fatal(err)
	}
	s, err := shapeOf(raw)
	if want := (shape{columns: 4, integers: 1 + 2 + 3 + 3*(2+3), strings: 2, infos: 3, tables: 3}); err != nil || s != want {
		t.Errorf("%+v, %v, want %+v", s, err, want)
	}
}
