package wire

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/hashinsight/hashinsight/pkg/telemetry"
	"github.com/hashinsight/hashinsight/pkg/unit"
	samplesv1 "github.com/hashinsight/hashinsight/proto/samples/v1"
)

// fleetWithParts is a fleet with what the tables beside the columns hold, and with polls that failed.
func fleetWithParts(miners, polls int) []telemetry.Observation {
	rows := fleet(miners, polls)
	for i := range rows {
		o := &rows[i]
		if i%7 == 3 {
			rows[i] = telemetry.Observation{Miner: o.Miner, At: o.At, Outcome: telemetry.OutcomeTimeout, State: telemetry.StateUnknown, Errors: []string{"no answer", strconv.Itoa(i)}}
			continue
		}
		for b := range 3 - i%2 {
			o.Boards = append(o.Boards, telemetry.Board{Index: int32(b), Chips: unit.Some(int32(76)), Hashrate: unit.Some(unit.Hashrate(36e12 + float64(i*b)*1e6)),
				Temps: []unit.Celsius{unit.Celsius(60 + i%9 + b), 70.5}})
			o.Pools = append(o.Pools, telemetry.Pool{URL: fmt.Sprintf("pool%d.example:3333", b), Worker: o.Miner.String()[:6], Alive: unit.Some(true), Accepted: unit.Some(int64(i * b))})
		}
	}
	return rows
}

// What agents of each payload schema have signed is read for good: the files are what the encoders of those schemas made.
func TestPayloadsOfEverySchemaAreRead(t *testing.T) {
	for name, rows := range map[string][]telemetry.Observation{"schema1.bin": fleetWithParts(5, 12), "schema2.bin": fleetOfAllKinds()} {
		t.Run(name, func(t *testing.T) {
			payload, err := os.ReadFile(filepath.Join("testdata", name))
			if err != nil {
				t.Fatal(err)
			}
			e, d := newCodec(t)
			s, err := d.Samples(payload)
			if err != nil {
				t.Fatal(err)
			}
			if s.Len() != len(rows) {
				t.Fatalf("%d rows, want %d", s.Len(), len(rows))
			}
			again, _, err := e.Samples(rows, nil)
			if err != nil {
				t.Fatal(err)
			}
			today, err := d.Samples(again)
			if err != nil {
				t.Fatal(err)
			}
			for i := range s.Len() {
				if got, want := s.Observation(i), today.Observation(i); !reflect.DeepEqual(got, want) {
					t.Fatalf("row %d: %+v, want %+v", i, got, want)
				}
			}
		})
	}
}

// fleetOfAllKinds makes an encoder choose every way of packing a column.
func fleetOfAllKinds() []telemetry.Observation {
	rows := fleetWithParts(20, 30)
	for i := range rows {
		o := &rows[i]
		if !o.Outcome.Answered() {
			continue
		}
		o.Repairs = telemetry.Repairs(i / 40 % 2)
		if i%97 == 5 {
			o.BestShare = unit.Some(int64(1) << (i % 60))
		}
	}
	return rows
}

// A change of what a column's bytes mean is seen only where the file has such columns.
func TestTheFileOfSchema2HasEveryKindOfPackedColumn(t *testing.T) {
	payload, err := os.ReadFile(filepath.Join("testdata", "schema2.bin"))
	if err != nil {
		t.Fatal(err)
	}
	_, d := newCodec(t)
	raw, err := d.zstd.DecodeAll(payload, nil)
	if err != nil {
		t.Fatal(err)
	}
	var msg samplesv1.Samples
	if err := proto.Unmarshal(raw, &msg); err != nil {
		t.Fatal(err)
	}
	columns := msg.GetColumns()
	for _, table := range []*samplesv1.Table{msg.GetBoards(), msg.GetPools(), msg.GetErrors()} {
		columns = append(columns, table.GetColumns()...)
	}
	seen := map[predictor]bool{}
	runs, sparse, long := false, false, false
	for _, c := range columns {
		p := c.GetPacked()
		if len(p) == 0 {
			t.Fatalf("column %d is not packed", c.GetField())
		}
		seen[predictor(p[0]&^modeRuns)] = true
		runs = runs || p[0]&modeRuns != 0
		sparse = sparse || len(c.GetPresent()) > 0
		long = long || Field(c.GetField()) == FieldBestShare
	}
	if len(seen) != int(predictors) || !runs || !sparse || !long {
		t.Errorf("predictors %v, runs %t, absent values %t, large numbers %t", seen, runs, sparse, long)
	}
}
