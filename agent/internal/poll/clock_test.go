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

func TestReadingsByAWrongClockAreFlagged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFarm(t)
		f.add("1", 3, false, healthy)
		f.start()
		time.Sleep(35 * time.Second)
		wrong := time.Now()
		f.skewed.Store(true)
		time.Sleep(30 * time.Second)
		right := time.Now()
		f.skewed.Store(false)
		time.Sleep(30 * time.Second)
		if err := f.stop(); err != nil {
			t.Fatal(err)
		}
		n := 0
		for _, s := range f.stored {
			for _, o := range s.obs {
				// What was read a moment before is booked on the next turn of the grid.
				if d := o.At.Sub(wrong).Abs(); d < time.Second || o.At.Sub(right).Abs() < time.Second {
					continue
				}
				want := o.At.After(wrong) && o.At.Before(right)
				if got := o.Flags&telemetry.FlagSkewed != 0; got != want {
					t.Errorf("a reading at %v is flagged %v, want %v", o.At, got, want)
				}
				n++
			}
		}
		if n < 20 {
			t.Errorf("%d readings", n)
		}
	})
}
