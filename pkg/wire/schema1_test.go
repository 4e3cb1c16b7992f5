package wire

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"testing"

	"github.com/hashinsight/hashinsight/pkg/telemetry"
	"github.com/hashinsight/hashinsight/pkg/unit"
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

// What an agent of payload schema 1 has signed is read for good: the file is what the encoder of that schema made.
func TestPayloadsOfSchema1AreRead(t *testing.T) {
	payload, err := os.ReadFile(filepath.Join("testdata", "schema1.bin"))
	if err != nil {
		t.Fatal(err)
	}
	_, d := newCodec(t)
	s, err := d.Samples(payload)
	if err != nil {
		t.Fatal(err)
	}
	rows := fleetWithParts(5, 12)
	if s.Len() != len(rows) {
		t.Fatalf("%d rows, want %d", s.Len(), len(rows))
	}
	again, _, err := newEncoderOf(t).Samples(rows, nil)
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
}

func newEncoderOf(t *testing.T) *Encoder {
	t.Helper()
	e, _ := newCodec(t)
	return e
}
