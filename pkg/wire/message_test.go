package wire

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/klauspost/compress/zstd"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"github.com/hashinsight/hashinsight/pkg/ident"
	"github.com/hashinsight/hashinsight/pkg/telemetry"
	samplesv1 "github.com/hashinsight/hashinsight/proto/samples/v1"
)

// same holds what is read by hand against what protobuf's own code reads: both take it or both refuse it, it means the same to both, and what is written is what
// protobuf writes.
func same(t *testing.T, raw []byte) {
	t.Helper()
	var theirs samplesv1.Samples
	theirErr := proto.Unmarshal(raw, &theirs)
	var ours message
	err := ours.parse(raw)
	if (err == nil) != (theirErr == nil) {
		t.Fatalf("%x: read by hand %v, by protobuf %v", raw, err, theirErr)
	}
	if err != nil {
		return
	}
	written := ours.append(nil)
	discard(&theirs)
	want, err := proto.MarshalOptions{Deterministic: true}.Marshal(&theirs)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(written, want) {
		t.Fatalf("%x is written as\n%x, by protobuf as\n%x", raw, written, want)
	}
}

// discard drops the fields that no version here knows.
func discard(m *samplesv1.Samples) {
	column := func(all []*samplesv1.Column) {
		for _, c := range all {
			c.ProtoReflect().SetUnknown(nil)
		}
	}
	m.ProtoReflect().SetUnknown(nil)
	column(m.GetColumns())
	for _, t := range []*samplesv1.Table{m.GetBoards(), m.GetPools(), m.GetErrors()} {
		if t != nil {
			t.ProtoReflect().SetUnknown(nil)
			column(t.GetColumns())
		}
	}
	for _, i := range m.GetInfos() {
		i.ProtoReflect().SetUnknown(nil)
	}
}

func rawPayloads(t testing.TB) (all [][]byte) {
	t.Helper()
	z, err := zstd.NewReader(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	for _, name := range []string{"schema1.bin", "schema2.bin"} {
		b, err := os.ReadFile(filepath.Join("testdata", name))
		if err == nil {
			b, err = z.DecodeAll(b, nil)
		}
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, b)
	}
	return all
}

func TestMessagesAreReadAndWrittenAsProtobufDoes(t *testing.T) {
	table := func(b []byte) []byte {
		return protowire.AppendBytes(protowire.AppendTag(nil, 5, protowire.BytesType), b)
	}
	for name, raw := range map[string][]byte{
		"nothing":                      nil,
		"integers one by one":          {2 << 3, 5, 2 << 3, 6, 3 << 3, 5, 3 << 3, 4},
		"packed and single":            {2<<3 | 2, 2, 1, 2, 2 << 3, 3, 2<<3 | 2, 1, 4},
		"a number beyond 32 bits":      {2 << 3, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01},
		"a number of 11 bytes":         {2 << 3, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1},
		"a packed number cut short":    {2<<3 | 2, 1, 0x80},
		"a table twice":                append(table([]byte{1 << 3, 5}), table([]byte{1 << 3, 6, 2<<3 | 2, 2, 1 << 3, 9})...),
		"an empty table":               table(nil),
		"an empty column":              {4<<3 | 2, 0},
		"an empty text":                {8<<3 | 2, 0},
		"a text that is no UTF-8":      {8<<3 | 2, 1, 0xff},
		"a description's bad text":     {9<<3 | 2, 3, 2<<3 | 2, 1, 0xff},
		"bytes twice":                  {1<<3 | 2, 1, 7, 1<<3 | 2, 1, 8},
		"another type than it has":     {1 << 3, 5, 4 << 3, 1, 2<<3 | 5, 1, 2, 3, 4, 8 << 3, 1, 10 << 3, 1},
		"a column's other types":       {4<<3 | 2, 6, 1<<3 | 2, 1, 5, 2 << 3, 1, 0},
		"unknown fields":               {15 << 3, 1, 0xfa, 1, 1, 0, 4<<3 | 2, 2, 15 << 3, 1},
		"a group":                      {15<<3 | 3, 1 << 3, 5, 15<<3 | 4},
		"a group that does not end":    {15<<3 | 3, 1 << 3, 5},
		"an end without a group":       {15<<3 | 4},
		"field 0":                      {0, 1},
		"a length beyond the end":      {1<<3 | 2, 9, 1},
		"fields in another order":      {10<<3 | 2, 1, 1, 1<<3 | 2, 1, 2, 8<<3 | 2, 1, 'a', 2 << 3, 1},
		"a description and its number": {9<<3 | 2, 4, 12<<3 | 2, 2, 'o', 'k'},
	} {
		t.Run(name, func(t *testing.T) { same(t, raw) })
	}
	for _, raw := range rawPayloads(t) {
		same(t, raw)
	}
}

// TestWhatIsEncodedIsWhatProtobufEncodes: an older hub reads the payloads of this agent.
func TestWhatIsEncodedIsWhatProtobufEncodes(t *testing.T) {
	e, _ := newCodec(t)
	rapid.Check(t, func(rt *rapid.T) {
		miners := []ident.MinerID{{1}, {2}, {2, 1}, {255}}
		in := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) telemetry.Observation { return drawObservation(t, miners) }), 1, 20).Draw(rt, "observations")
		infos := []telemetry.MinerInfo{{Miner: miners[0], Address: "192.0.2.1:4028", Model: "Antminer S19", FirmwareBuilt: "yesterday"}, {Miner: miners[1], MAC: "00:00:5e:00:53:01"}}
		if _, _, err := e.Samples(in, infos); err != nil {
			t.Fatal(err)
		}
		var m samplesv1.Samples
		if err := proto.Unmarshal(e.raw, &m); err != nil {
			t.Fatal(err)
		}
		want, err := proto.Marshal(&m)
		if err != nil || !bytes.Equal(e.raw, want) || len(m.GetInfos()) != 2 || m.GetInfos()[0].GetFirmwareBuilt() != "yesterday" || m.GetInfos()[1].GetMac() != infos[1].MAC {
			t.Fatalf("%x, protobuf makes %x of it: %v", e.raw, want, err)
		}
	})
}

func FuzzMessage(f *testing.F) {
	for _, raw := range rawPayloads(f) {
		f.Add(raw[:min(len(raw), 2000)])
	}
	f.Add([]byte{9<<3 | 2, 4, 12<<3 | 2, 2, 'o', 'k'})
	f.Fuzz(func(t *testing.T, raw []byte) { same(t, raw) })
}
