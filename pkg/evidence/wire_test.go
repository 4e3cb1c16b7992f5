package evidence_test

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/hashinsight/hashinsight/pkg/evidence"
	"github.com/hashinsight/hashinsight/pkg/ident"
	"github.com/hashinsight/hashinsight/pkg/telemetry"
	"github.com/hashinsight/hashinsight/pkg/unit"
	"github.com/hashinsight/hashinsight/pkg/wire"
)

func drawObservation(t *rapid.T) telemetry.Observation {
	count := func(name string) (o unit.Opt[int64]) {
		if rapid.IntRange(0, 4).Draw(t, name+" told") > 0 {
			o = unit.Some(rapid.OneOf(rapid.Int64Range(0, 1<<40), rapid.Int64()).Draw(t, name))
		}
		return o
	}
	o := telemetry.Observation{
		Miner:   rapid.SampledFrom([]ident.MinerID{{1}, {2}, {255}}).Draw(t, "miner"),
		At:      time.Unix(494544*3600, rapid.Int64Range(0, int64(4*time.Hour)).Draw(t, "at")).UTC(),
		Outcome: rapid.SampledFrom([]telemetry.Outcome{1, 1, 1, 2, 4}).Draw(t, "outcome"), State: telemetry.State(rapid.IntRange(0, 7).Draw(t, "state")),
		Hashes: count("hashes"), DiffAccepted: count("shares"), Energy: count("energy"),
	}
	if rapid.IntRange(0, 9).Draw(t, "flagged") == 0 {
		o.Flags = telemetry.Flags(rapid.IntRange(0, 3).Draw(t, "flags"))
	}
	if rapid.IntRange(0, 4).Draw(t, "rate told") > 0 {
		o.Hashrate = unit.Some(unit.Hashrate(rapid.OneOf(rapid.Float64Range(0, 2e14), rapid.Float64Range(-1e30, 1e30)).Draw(t, "rate")))
	}
	if rapid.IntRange(0, 4).Draw(t, "uptime told") > 0 {
		o.Uptime = unit.Some(time.Duration(rapid.OneOf(rapid.Int64Range(0, int64(400*time.Second)), rapid.Int64()).Draw(t, "uptime")))
	}
	return o
}

// What the agent has read, in a payload's order, gives the leaves that the hub computes from the payload: rounding, absent readings and
// those that no payload can carry are the same for both.
func TestFactsOfPayloadsAreThoseOfTheirObservations(t *testing.T) {
	e, err := wire.NewEncoder()
	if err != nil {
		t.Fatal(err)
	}
	d, err := wire.NewDecoder()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Close)
	rapid.Check(t, func(t *rapid.T) {
		read, sent := evidence.NewFacts(ident.SiteID{1}, ident.SpoolID{2}), evidence.NewFacts(ident.SiteID{1}, ident.SpoolID{2})
		batches := rapid.Uint64Range(1, 4).Draw(t, "batches")
		for seq := uint64(1); seq <= batches; seq++ {
			batch := rapid.SliceOfN(rapid.Custom(drawObservation), 1, 30).Draw(t, "observations")
			payload, _, err := e.Samples(batch, nil)
			if err != nil {
				t.Fatal(err)
			}
			samples, err := d.Samples(payload)
			if err != nil {
				t.Fatal(err)
			}
			samples.EachFact(func(o *telemetry.Observation) { sent.Add(seq, o) })
			slices.SortStableFunc(batch, func(a, b telemetry.Observation) int {
				if c := a.Miner.Compare(b.Miner); c != 0 {
					return c
				}
				return a.At.Compare(b.At)
			})
			for i := range batch {
				read.Add(seq, &batch[i])
			}
		}
		if a, b := read.Hours(), sent.Hours(); !slices.Equal(a, b) {
			t.Fatalf("hours %v and %v", a, b)
		}
		for _, h := range read.Hours() {
			if a, b := read.Close(h, batches), sent.Close(h, batches); !slices.Equal(a, b) {
				t.Fatalf("hour %d\nread %+v\nsent %+v", h, a, b)
			}
		}
	})
}
