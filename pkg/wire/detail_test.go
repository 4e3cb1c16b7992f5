package wire

import (
	"reflect"
	"testing"

	"pgregory.net/rapid"

	"github.com/hashinsight/hashinsight/pkg/ident"
	"github.com/hashinsight/hashinsight/pkg/telemetry"
)

func TestDetailAndColumnsMakeTheObservationAgain(t *testing.T) {
	e, d := newCodec(t)
	miners := []ident.MinerID{ident.NewMinerID(), ident.NewMinerID()}
	except := []Field{FieldHashrate, FieldTempChip, FieldFan0, FieldFlags, FieldOutcome, FieldState}
	a := NewAssembler()
	rapid.Check(t, func(t *rapid.T) {
		var all []telemetry.Observation
		for range rapid.IntRange(1, 20).Draw(t, "rows") {
			all = append(all, drawObservation(t, miners))
		}
		payload, _, err := e.Samples(all, nil)
		if err != nil {
			t.Fatal(err)
		}
		s, err := d.Samples(payload)
		if err != nil {
			t.Fatal(err)
		}
		details := s.Details(except)
		for i := range s.Len() {
			want := s.Observation(i)
			got := telemetry.Observation{Miner: want.Miner, At: want.At}
			for _, f := range except {
				if v, ok := s.Column(f).Get(i); ok {
					a.Set(&got, f, v)
				}
			}
			b := details.Append(nil, i)
			if len(b) > MaxDetail {
				t.Fatalf("a detail of %d bytes", len(b))
			}
			if err := a.Detail(&got, b); err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got, want) {
				t.Fatalf("row %d:\ngot  %+v\nwant %+v", i, got, want)
			}
		}
	})
}

func TestARowWithoutDetailHasNone(t *testing.T) {
	e, d := newCodec(t)
	payload, _, err := e.Samples([]telemetry.Observation{{Miner: ident.NewMinerID(), At: epoch, Outcome: telemetry.OutcomeTimeout}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	s, err := d.Samples(payload)
	if err != nil {
		t.Fatal(err)
	}
	if b := s.Details([]Field{FieldOutcome, FieldState, FieldTook}).Append(nil, 0); len(b) > 0 {
		t.Errorf("detail %x", b)
	}
}

func FuzzDetail(f *testing.F) {
	f.Add([]byte{1, 13, 2, 0, 1, 1, 1, 4, 0, 0, 0})
	f.Add([]byte{1, 0, 0, 1, 1, 1, 3, 'a', 'b', 'c', 2, 1, 0, 0, 0})
	f.Fuzz(func(_ *testing.T, b []byte) {
		var o telemetry.Observation
		if NewAssembler().Detail(&o, b) == nil && (len(o.Boards) > telemetry.MaxBoards || len(o.Pools) > telemetry.MaxPools) {
			panic("more than an observation may hold")
		}
	})
}
