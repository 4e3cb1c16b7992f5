package poll

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/hashinsight/hashinsight/pkg/ident"
	"github.com/hashinsight/hashinsight/pkg/telemetry"
)

func TestAClockStepClosesTheBatchAndFlagsOnePollOfEachMiner(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFarm(t)
		f.add("1", 50, false, healthy)
		f.start()
		time.Sleep(35 * time.Second)
		f.mu.Lock()
		f.skew = -time.Hour
		f.mu.Unlock()
		time.Sleep(30 * time.Second)
		if err := f.stop(); err != nil {
			t.Fatal(err)
		}
		flagged := map[ident.MinerID]int{}
		for _, s := range f.stored {
			for _, o := range s.obs {
				if d := o.At.Sub(s.obs[0].At).Abs(); d > 2*time.Second {
					t.Errorf("a batch spans %v: it crosses the step", d)
				}
				if o.Flags&telemetry.FlagClockStep != 0 {
					flagged[o.Miner]++
				}
			}
		}
		for id, n := range flagged {
			if n != 1 {
				t.Errorf("%s has %d flagged polls", id, n)
			}
		}
		if len(flagged) != 50 {
			t.Errorf("%d of 50 miners have a flagged poll", len(flagged))
		}
	})
}

func TestAClockStepBetweenBatchesIsCountedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFarm(t)
		f.add("1", 1, false, healthy) // a batch of one sample each: none is open when the clock is set
		f.start()
		time.Sleep(35 * time.Second)
		f.mu.Lock()
		f.skew = time.Minute
		f.mu.Unlock()
		time.Sleep(30 * time.Second)
		if err := f.stop(); err != nil {
			t.Fatal(err)
		}
		if n := testutil.ToFloat64(f.poller.metrics.clockSteps); n != 1 {
			t.Errorf("%v clock steps counted, want 1", n)
		}
	})
}
