package poll

import (
	"testing"
	"time"

	"github.com/hashinsight/hashinsight/pkg/telemetry"
	"github.com/hashinsight/hashinsight/pkg/unit"
)

func TestEnergyIsIntegratedOnlyOverShortTimes(t *testing.T) {
	begin := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	watts := func(w float64) unit.Opt[unit.Watts] { return unit.Some(unit.Watts(w)) }
	var e energy
	for i, c := range []struct {
		at    time.Duration
		power unit.Opt[unit.Watts]
		want  unit.Opt[int64]
	}{
		{0, watts(3000), unit.Some[int64](0)},
		{10 * time.Second, watts(3000), unit.Some[int64](30_000)},
		{20 * time.Second, watts(3100), unit.Some[int64](60_500)},
		{30 * time.Second, unit.Opt[unit.Watts]{}, unit.Opt[int64]{}},
		{40 * time.Second, watts(3100), unit.Some[int64](122_500)}, // bridges one missing reading
		{61 * time.Second, watts(3100), unit.Some[int64](122_500)}, // two intervals and more: unknown, so nothing
		{71 * time.Second, watts(0), unit.Some[int64](138_000)},
	} {
		obs := telemetry.Observation{Power: c.power}
		e.add(&obs, begin.Add(c.at), 20*time.Second)
		if obs.Energy != c.want {
			t.Errorf("reading %d: energy %v, want %v", i, obs.Energy, c.want)
		}
	}
}
