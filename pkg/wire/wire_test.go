package wire

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"github.com/hashinsight/hashinsight/pkg/ident"
	"github.com/hashinsight/hashinsight/pkg/telemetry"
	"github.com/hashinsight/hashinsight/pkg/unit"
	samplesv1 "github.com/hashinsight/hashinsight/proto/samples/v1"
)

func newCodec(t testing.TB) (*Encoder, *Decoder) {
	t.Helper()
	e, err := NewEncoder()
	if err != nil {
		t.Fatal(err)
	}
	d, err := NewDecoder()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Close)
	return e, d
}

var epoch = time.Unix(0, 0)

func opt[T any](t *rapid.T, g *rapid.Generator[T], name string) unit.Opt[T] {
	if rapid.Bool().Draw(t, name+" present") {
		return unit.Some(g.Draw(t, name))
	}
	return unit.Opt[T]{}
}

// drawObservation draws any observation whose readings lie on the stored grid (MH/s, tenths, seconds, ms), so that it
// must come back equal.
func drawObservation(t *rapid.T, miners []ident.MinerID) telemetry.Observation {
	counts := rapid.Int64Range(0, 1<<62)
	small := rapid.Int32Range(0, 1<<20)
	hashrate := rapid.Custom(func(t *rapid.T) unit.Hashrate {
		return unit.Hashrate(rapid.Int64Range(0, 1<<40).Draw(t, "MH/s")) * unit.MegahashPerSecond
	})
	celsius := rapid.Custom(func(t *rapid.T) unit.Celsius { return unit.Celsius(rapid.Int64Range(-500, 2000).Draw(t, "0.1 C")) / 10 })
	duration := rapid.Custom(func(t *rapid.T) time.Duration {
		return time.Duration(rapid.Int64Range(0, 1<<31-1).Draw(t, "s")) * time.Second
	})
	texts := rapid.StringN(1, 40, telemetry.MaxText)
	o := telemetry.Observation{
		Miner:   rapid.SampledFrom(miners).Draw(t, "miner"),
		At:      time.UnixMilli(rapid.Int64Range(0, maxTimeMS).Draw(t, "ms")).UTC(),
		Took:    time.Duration(rapid.IntRange(0, 1<<20).Draw(t, "took")) * time.Millisecond,
		Outcome: telemetry.Outcome(rapid.Uint8Range(1, 255).Draw(t, "outcome")),
		State:   telemetry.State(rapid.Uint8().Draw(t, "state")),
		Flags:   telemetry.Flags(rapid.Uint32().Draw(t, "flags")),
		Repairs: telemetry.Repairs(rapid.Uint32().Draw(t, "repairs")),

		Hashrate: opt(t, hashrate, "rate"), HashrateWindow: opt(t, duration, "window"), HashrateAvg: opt(t, hashrate, "avg"),
		IdealHashrate: opt(t, hashrate, "ideal"), Hashes: opt(t, counts, "hashes"), Uptime: opt(t, duration, "uptime"),
		TempBoard: opt(t, celsius, "board"), TempChip: opt(t, celsius, "chip"), TempInlet: opt(t, celsius, "inlet"),
		Power:      opt(t, rapid.Custom(func(t *rapid.T) unit.Watts { return unit.Watts(small.Draw(t, "0.1 W")) / 10 }), "power"),
		PowerLimit: opt(t, rapid.Custom(func(t *rapid.T) unit.Watts { return unit.Watts(small.Draw(t, "0.1 W")) / 10 }), "power limit"),
		Energy:     opt(t, counts, "energy"), Accepted: opt(t, counts, "accepted"), Rejected: opt(t, counts, "rejected"), Stale: opt(t, counts, "stale"),
		DiffAccepted: opt(t, counts, "diff accepted"), DiffRejected: opt(t, counts, "diff rejected"), DiffStale: opt(t, counts, "diff stale"),
		HardwareErrors: opt(t, counts, "errors"), BestShare: opt(t, counts, "best"), FanPercent: opt(t, small, "duty"),
		Errors: rapid.SliceOfN(texts, 0, 3).Draw(t, "errors"),
	}
	for range rapid.IntRange(0, telemetry.MaxFans).Draw(t, "fans") {
		o.Fans = append(o.Fans, opt(t, rapid.Custom(func(t *rapid.T) unit.RPM { return unit.RPM(small.Draw(t, "rpm")) }), "fan"))
	}
	for range rapid.IntRange(0, 2).Draw(t, "duties") {
		o.FanDuty = append(o.FanDuty, unit.Some(small.Draw(t, "duty of a fan")))
	}
	for len(o.Fans) > 0 && !o.Fans[len(o.Fans)-1].Present() { // absent ones behind the last are not stored
		o.Fans = o.Fans[:len(o.Fans)-1]
	}
	for range rapid.IntRange(0, 3).Draw(t, "boards") {
		o.Boards = append(o.Boards, telemetry.Board{
			Index: small.Draw(t, "index"), Chips: opt(t, small, "chips"), ChipsWorking: opt(t, small, "working"), Hashrate: opt(t, hashrate, "board rate"),
			FrequencyMHz:   opt(t, rapid.Custom(func(t *rapid.T) float64 { return float64(small.Draw(t, "0.1 MHz")) / 10 }), "frequency"),
			Power:          opt(t, rapid.Custom(func(t *rapid.T) unit.Watts { return unit.Watts(small.Draw(t, "0.1 W")) / 10 }), "board power"),
			HardwareErrors: opt(t, counts, "board errors"), Temps: rapid.SliceOfN(celsius, 0, telemetry.MaxBoardTemps).Draw(t, "temps"),
		})
	}
	for range rapid.IntRange(0, 3).Draw(t, "pools") {
		o.Pools = append(o.Pools, telemetry.Pool{
			URL: texts.Draw(t, "url"), Worker: texts.Draw(t, "worker"), Priority: opt(t, small, "priority"), Alive: opt(t, rapid.Bool(), "alive"),
			Active: opt(t, rapid.Bool(), "active"), Accepted: opt(t, counts, "pool accepted"), Rejected: opt(t, counts, "pool rejected"),
			Stale: opt(t, counts, "pool stale"), DiffAccepted: opt(t, counts, "pool diff"),
			Enabled: opt(t, rapid.Bool(), "enabled"), Fee: opt(t, rapid.Bool(), "fee"), Group: opt(t, small, "group"),
		})
	}
	return o
}

func TestEveryReadingComesBack(t *testing.T) {
	e, d := newCodec(t)
	rapid.Check(t, func(t *rapid.T) {
		miners := []ident.MinerID{{1}, {2}, {2, 1}, {255}}
		in := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) telemetry.Observation { return drawObservation(t, miners) }), 1, 20).Draw(t, "observations")
		payload, meta, err := e.Samples(in, []telemetry.MinerInfo{{Miner: miners[0], Address: "192.0.2.1:4028", Model: "Antminer S19"}})
		if err != nil {
			t.Fatal(err)
		}
		out, err := d.Samples(payload)
		if err != nil {
			t.Fatal(err)
		}
		want := slices.Clone(in)
		slices.SortStableFunc(want, func(a, b telemetry.Observation) int {
			if c := a.Miner.Compare(b.Miner); c != 0 {
				return c
			}
			return a.At.Compare(b.At)
		})
		for i := range want {
			normalise(&want[i])
			got := out.Observation(i)
			normalise(&got)
			if !reflect.DeepEqual(got, want[i]) {
				t.Fatalf("row %d\n got %+v\nwant %+v", i, got, want[i])
			}
		}
		if out.Meta != meta || int(meta.Samples) != len(in) {
			t.Fatalf("meta %+v decoded, %+v encoded", out.Meta, meta)
		}
		if len(out.Infos) != 1 || out.Infos[0].Model != "Antminer S19" {
			t.Fatalf("infos %+v", out.Infos)
		}
	})
}

// normalise makes empty and nil lists alike.
func normalise(o *telemetry.Observation) {
	if len(o.Errors) == 0 {
		o.Errors = nil
	}
	if len(o.Fans) == 0 {
		o.Fans = nil
	}
	for i := range o.Boards {
		if len(o.Boards[i].Temps) == 0 {
			o.Boards[i].Temps = nil
		}
	}
}

func TestFactsOfARowAreThoseOfItsObservation(t *testing.T) {
	e, d := newCodec(t)
	rapid.Check(t, func(t *rapid.T) {
		miners := []ident.MinerID{{1}, {2}, {2, 1}, {255}}
		in := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) telemetry.Observation { return drawObservation(t, miners) }), 1, 20).Draw(t, "observations")
		payload, _, err := e.Samples(in, nil)
		if err != nil {
			t.Fatal(err)
		}
		s, err := d.Samples(payload)
		if err != nil {
			t.Fatal(err)
		}
		row := 0
		s.EachFact(func(o *telemetry.Observation) {
			all := s.Observation(row)
			want := telemetry.Observation{
				Miner: all.Miner, At: all.At, Outcome: all.Outcome, State: all.State, Flags: all.Flags,
				Hashrate: all.Hashrate, Hashes: all.Hashes, Uptime: all.Uptime, Energy: all.Energy, DiffAccepted: all.DiffAccepted,
			}
			if !reflect.DeepEqual(*o, want) {
				t.Fatalf("row %d: %+v, want %+v", row, *o, want)
			}
			row++
		})
		if row != s.Len() {
			t.Fatalf("%d rows, want %d", row, s.Len())
		}
	})
}

func TestAbsentIsNotZero(t *testing.T) {
	e, d := newCodec(t)
	payload, _, err := e.Samples([]telemetry.Observation{
		{At: epoch, Outcome: telemetry.OutcomeOK, Accepted: unit.Some(int64(0))},
		{At: epoch, Outcome: telemetry.OutcomeTimeout},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	s, err := d.Samples(payload)
	if err != nil {
		t.Fatal(err)
	}
	if v, ok := s.Column(FieldAccepted).Get(0); !ok || v != 0 {
		t.Errorf("measured zero: got %d, %v", v, ok)
	}
	if v, ok := s.Column(FieldAccepted).Get(1); ok {
		t.Errorf("absent: got %d", v)
	}
}

// A miner that counts down from zero reports 2^64-1, and one such reading must not cost the samples of the other miners: a hub
// refuses a whole payload.
func TestAReadingThatNoColumnCanHoldIsLeftOut(t *testing.T) {
	e, d := newCodec(t)
	extremes := []int64{math.MinInt64, 1 - 1<<62, -1, 0, 1 << 62, math.MaxInt64}
	rapid.Check(t, func(t *rapid.T) {
		number := rapid.SampledFrom(extremes)
		counts := func(name string) unit.Opt[int64] { return unit.Some(number.Draw(t, name)) }
		in := make([]telemetry.Observation, 3)
		for i := range in {
			in[i] = telemetry.Observation{
				Miner: ident.MinerID{byte(i)}, At: epoch, Outcome: telemetry.OutcomeOK, Took: time.Duration(number.Draw(t, "took")),
				Uptime: unit.Some(time.Duration(number.Draw(t, "uptime"))), Accepted: counts("accepted"), BestShare: counts("best"),
				Hashrate: unit.Some(unit.Hashrate(number.Draw(t, "rate")) * 1e6), TempChip: unit.Some(unit.Celsius(number.Draw(t, "chip"))),
				Power: unit.Some(unit.Watts(number.Draw(t, "power"))), FanPercent: unit.Some(int32(number.Draw(t, "duty"))),
				Boards: []telemetry.Board{{Temps: []unit.Celsius{unit.Celsius(number.Draw(t, "temp"))}, HardwareErrors: counts("board errors")}},
				Pools:  []telemetry.Pool{{URL: "p", Priority: unit.Some(int32(math.MinInt32)), DiffAccepted: counts("pool diff")}},
			}
		}
		payload, _, err := e.Samples(in, nil)
		if err != nil {
			t.Fatal(err)
		}
		out, err := d.Samples(payload)
		if err != nil {
			t.Fatal(err)
		}
		for i := range in {
			o, want := out.Observation(i), in[i]
			v, had := want.Accepted.Get()
			if held := had && v > math.MinInt64 && v <= 1<<62; o.Accepted.Present() != held || o.Accepted.Or(v) != v {
				t.Fatalf("accepted %+v came back as %+v", want.Accepted, o.Accepted)
			}
			if len(o.Pools) != 1 || o.Pools[0].URL != "p" || o.Pools[0].Priority.Present() {
				t.Fatalf("pools %+v", o.Pools)
			}
		}
	})
}

func TestMoreTextsOrRowsThanAHubAcceptsAreRefusedByTheSender(t *testing.T) {
	e, _ := newCodec(t)
	many := func(n int, change func(i int, o *telemetry.Observation)) []telemetry.Observation {
		out := make([]telemetry.Observation, n)
		for i := range out {
			out[i] = telemetry.Observation{At: epoch, Outcome: telemetry.OutcomeOK}
			change(i, &out[i])
		}
		return out
	}
	for name, c := range map[string]struct {
		in   []telemetry.Observation
		want string
	}{
		"texts": {many(maxStrings/10+1, func(i int, o *telemetry.Observation) {
			for j := range 10 {
				o.Errors = append(o.Errors, fmt.Sprint(i, j))
			}
		}), "texts"},
		"boards": {many(maxSubrows/telemetry.MaxBoards+1, func(_ int, o *telemetry.Observation) { o.Boards = make([]telemetry.Board, telemetry.MaxBoards) }), "boards"},
	} {
		if _, _, err := e.Samples(c.in, nil); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v", name, err)
		}
	}
}

func TestLyingPayloadsAreRefused(t *testing.T) {
	e, d := newCodec(t)
	good := func() *samplesv1.Samples {
		return &samplesv1.Samples{
			Miners: bytes.Repeat([]byte{7}, 16), RowsPerMiner: []uint32{2}, TimeDeltaMs: []int64{1000, 10},
			Columns: []*samplesv1.Column{{Field: uint32(FieldOutcome), Deltas: []int64{1, 0}}},
		}
	}
	for name, c := range map[string]struct {
		lie  func(*samplesv1.Samples)
		want string
	}{
		"no rows":                  {func(m *samplesv1.Samples) { m.TimeDeltaMs = nil }, "0 samples"},
		"more rows than samples":   {func(m *samplesv1.Samples) { m.RowsPerMiner = []uint32{4_000_000_000} }, "do not fit"},
		"fewer rows than samples":  {func(m *samplesv1.Samples) { m.RowsPerMiner = []uint32{1} }, "1 rows of miners for 2"},
		"id cut short":             {func(m *samplesv1.Samples) { m.Miners = m.Miners[1:] }, "15 bytes of miner ids"},
		"time backwards":           {func(m *samplesv1.Samples) { m.TimeDeltaMs = []int64{1000, -1} }, "order of time"},
		"time before 1970":         {func(m *samplesv1.Samples) { m.TimeDeltaMs = []int64{-1, 1} }, "no time a clock shows"},
		"outcome missing":          {func(m *samplesv1.Samples) { m.Columns = nil }, "no outcome"},
		"outcome too large":        {func(m *samplesv1.Samples) { m.Columns[0].Deltas[0] = 256 }, "out of range"},
		"column too long":          {func(m *samplesv1.Samples) { m.Columns[0].Deltas = []int64{1, 0, 0} }, "3 values for 2 rows"},
		"column twice":             {func(m *samplesv1.Samples) { m.Columns = append(m.Columns, m.Columns[0]) }, "comes twice"},
		"sum overflows":            {func(m *samplesv1.Samples) { overflow(m) }, "out of range"},
		"presence too short":       {func(m *samplesv1.Samples) { present(m, nil, 1) }, "1 values for 2 rows"},
		"presence beyond the rows": {func(m *samplesv1.Samples) { present(m, []byte{0b101}, 2) }, "do not exist"},
		"presence without value":   {func(m *samplesv1.Samples) { present(m, []byte{0b11}, 1) }, "1 values, 2 present"},
		"text that is not there": {func(m *samplesv1.Samples) {
			m.Errors = &samplesv1.Table{Counts: []uint32{1, 0}, Columns: []*samplesv1.Column{{Field: 1, Deltas: []int64{0}}}}
		}, "out of range"},
		"too many boards": {func(m *samplesv1.Samples) { m.Boards = &samplesv1.Table{Counts: []uint32{1, 99}} }, "99 in one row"},
		"long text":       {func(m *samplesv1.Samples) { m.Strings = []string{strings.Repeat("x", telemetry.MaxText+1)} }, "a text of 257 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			m := good()
			c.lie(m)
			raw, err := proto.Marshal(m)
			if err != nil {
				t.Fatal(err)
			}
			_, err = d.Samples(e.zstd.EncodeAll(raw, nil))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got error %v, want one with %q", err, c.want)
			}
		})
	}
	raw, err := proto.Marshal(good())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Samples(e.zstd.EncodeAll(raw, nil)); err != nil {
		t.Errorf("the payload without a lie: %v", err)
	}
	if _, err := d.Samples(e.zstd.EncodeAll(make([]byte, maxRaw+1), nil)); err == nil || !strings.Contains(err.Error(), "decompress") {
		t.Errorf("a payload that grows beyond its bound: %v", err)
	}
}

func overflow(m *samplesv1.Samples) {
	m.Columns = append(m.Columns, &samplesv1.Column{Field: uint32(FieldAccepted), Deltas: []int64{1 << 62, math.MaxInt64}})
}

func present(m *samplesv1.Samples, bitmap []byte, values int) {
	m.Columns = append(m.Columns, &samplesv1.Column{Field: uint32(FieldAccepted), Present: bitmap, Deltas: make([]int64, values)})
}

func TestColumnsOfANewerAgentAreSkipped(t *testing.T) {
	e, d := newCodec(t)
	m := &samplesv1.Samples{
		Miners: bytes.Repeat([]byte{7}, 16), RowsPerMiner: []uint32{1}, TimeDeltaMs: []int64{1},
		Columns: []*samplesv1.Column{{Field: uint32(FieldOutcome), Deltas: []int64{1}}, {Field: 4711, Deltas: []int64{5}}},
		Pools:   &samplesv1.Table{Counts: []uint32{0}, Columns: []*samplesv1.Column{{Field: 4711}}},
	}
	raw, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Samples(e.zstd.EncodeAll(raw, nil)); err != nil {
		t.Error(err)
	}
}

func TestTextOfAMinerIsCutAndMadeValid(t *testing.T) {
	e, d := newCodec(t)
	long := strings.Repeat("ü", telemetry.MaxText)
	payload, _, err := e.Samples([]telemetry.Observation{{At: epoch, Outcome: telemetry.OutcomeOK, Errors: []string{"bad \xff byte", long}}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	s, err := d.Samples(payload)
	if err != nil {
		t.Fatal(err)
	}
	got := s.Observation(0).Errors
	if got[0] != "bad \uFFFD byte" || got[1] != long[:telemetry.MaxText] {
		t.Errorf("got %q", got)
	}
}

func FuzzDecode(f *testing.F) {
	e, _ := newCodec(f)
	for n := range 4 {
		payload, _, err := e.Samples(fleet(n+1, 2), nil)
		if err != nil {
			f.Fatal(err)
		}
		_, d := newCodec(f)
		raw, err := d.zstd.DecodeAll(payload, nil)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		e, d := newCodec(t)
		s, err := d.Samples(e.zstd.EncodeAll(raw, nil))
		if err != nil {
			return
		}
		// What was accepted can be read in every row, and packs again to the same rows.
		rows := make([]telemetry.Observation, s.Len())
		for i := range rows {
			rows[i] = s.Observation(i)
		}
		payload, _, err := e.Samples(rows, s.Infos)
		if err != nil {
			return // an outcome of 0 or a bound that only senders check
		}
		if _, err := d.Samples(payload); err != nil {
			t.Fatalf("packed again: %v", err)
		}
	})
}

// fleet returns plausible samples of n miners over polls rounds, 10 s apart.
func fleet(n, polls int) []telemetry.Observation {
	r := rand.New(rand.NewPCG(1, 2))
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	var out []telemetry.Observation
	for m := range n {
		var id ident.MinerID
		for i := range id {
			id[i] = byte(r.Uint32())
		}
		id[0] = byte(m >> 8)
		nominal := 110e12 * (0.9 + r.Float64()/5)
		power, accepted, errors, uptime := 3200+r.Float64()*100, int64(r.IntN(50000)), int64(r.IntN(500)), r.IntN(1e6)
		phase := time.Duration(r.IntN(10000)) * time.Millisecond
		for p := range polls {
			at := start.Add(phase + time.Duration(p)*10*time.Second)
			accepted += int64(r.IntN(3))
			o := telemetry.Observation{
				Miner: id, At: at, Outcome: telemetry.OutcomeOK, State: telemetry.StateHashing,
				Hashrate: unit.Some(unit.Hashrate(nominal * (0.97 + r.Float64()*0.06))), HashrateAvg: unit.Some(unit.Hashrate(nominal)),
				TempBoard: unit.Some(unit.Celsius(60 + r.IntN(10))), TempChip: unit.Some(unit.Celsius(75 + r.IntN(10))), TempInlet: unit.Some(unit.Celsius(25)),
				Power: unit.Some(unit.Watts(power + r.Float64()*10)), Accepted: unit.Some(accepted), Rejected: unit.Some(accepted / 500),
				HardwareErrors: unit.Some(errors), Uptime: unit.Some(time.Duration(uptime+10*p) * time.Second),
			}
			for range 4 {
				o.Fans = append(o.Fans, unit.Some(unit.RPM(60*(90+r.IntN(10)))))
			}
			out = append(out, o)
		}
	}
	return out
}

// BenchmarkCorePayload reports the bytes a sample costs with the 18 core columns (limits.md P4: at most 25, 12 and 9 B at
// 1 k, 5 k and 20 k samples a batch), and the CPU of both directions.
func BenchmarkCorePayload(b *testing.B) {
	for _, samples := range []int{1000, 5000, 20000} {
		rows := fleet(samples/10, 10)
		e, d := newCodec(b)
		payload, _, err := e.Samples(rows, nil)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(fmt.Sprintf("encode-%d", samples), func(b *testing.B) {
			for b.Loop() {
				if payload, _, err = e.Samples(rows, nil); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(len(payload))/float64(len(rows)), "B/sample")
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(rows)), "ns/sample")
		})
		b.Run(fmt.Sprintf("decode-%d", samples), func(b *testing.B) {
			for b.Loop() {
				if _, err := d.Samples(payload); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(rows)), "ns/sample")
		})
	}
}
