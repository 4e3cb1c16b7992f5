package sim_test

import (
	"errors"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashinsight/hashinsight/pkg/sim"
)

const slot = 5 * time.Minute

// The truth of the slots is what the counters say that a miner shows at their bounds, to the last MH, and it adds up over any stretch.
func TestTruthIsWhatTheCounterRoseBy(t *testing.T) {
	for _, machine := range []string{"antminer-s21", "whatsminer-m50", "avalon-1246", "braiins-s19", "cgminer"} {
		synctest.Test(t, func(t *testing.T) {
			c := only(machine, 1)
			all := sim.Selection{All: true}
			c.Faults = []sim.Fault{
				{Select: all, After: 17 * time.Minute, For: 20 * time.Minute, Behaviour: sim.Behaviour{Kind: sim.Droop, Factor: 0.3}},
				{Select: all, After: 50 * time.Minute, For: 10 * time.Minute, Behaviour: sim.Behaviour{Kind: sim.NoPool}},
			}
			f, err := sim.New(c)
			if err != nil {
				t.Fatal(err)
			}
			stop := run(t, f)
			defer stop()
			began := time.Now()
			before, first0 := summary(t, f, first)["Total MH"].(float64), summary(t, f, first)["Total MH"].(float64)
			var sum uint64
			for i := range 24 {
				time.Sleep(slot)
				now := summary(t, f, first)["Total MH"].(float64)
				tr, ok := f.Truth(first, time.Now().Add(-slot), time.Now())
				if !ok || float64(tr.Hashes) != now-before {
					t.Errorf("%s, slot %d: %d MH done, the counter rose by %.0f", machine, i, tr.Hashes, now-before)
				}
				if tr.Powered != slot || tr.Answers != slot {
					t.Errorf("%s, slot %d: %+v", machine, i, tr)
				}
				sum += tr.Hashes
				before = now
			}
			if whole, _ := f.Truth(first, began, time.Now()); whole.Hashes != sum || float64(sum) != before-first0 {
				t.Errorf("%s: %d MH in the whole, %d in its slots", machine, whole.Hashes, sum)
			}
			if odd, _ := f.Truth(first, began.Add(13*time.Second), began.Add(61*time.Minute+7*time.Millisecond)); odd.Hashes != partsOf(f, began) {
				t.Errorf("%s: parts do not add up to %d MH", machine, odd.Hashes)
			}
		})
	}
}

// partsOf adds up a stretch in uneven pieces.
func partsOf(f *sim.Fleet, began time.Time) (sum uint64) {
	at, end := began.Add(13*time.Second), began.Add(61*time.Minute+7*time.Millisecond)
	for d := 100 * time.Millisecond; at.Before(end); d += d / 3 {
		to := at.Add(d)
		if to.After(end) {
			to = end
		}
		part, _ := f.Truth(first, at, to)
		sum, at = sum+part.Hashes, to
	}
	return sum
}

func TestTruthOfMinersThatAreOffHungOrRestarted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const off, hung, restarted, average = "127.31.0.1:4028", "127.31.0.2:4028", "127.31.0.3:4028", "127.31.0.4:4028"
		plan := func(address string, k sim.Kind, from, length time.Duration) sim.Fault {
			return sim.Fault{Select: sim.Selection{Addresses: []string{address}}, After: from, For: length, Behaviour: sim.Behaviour{Kind: k}}
		}
		c := only("cgminer", 4)
		c.Faults = []sim.Fault{
			plan(off, sim.Off, 2*slot, 3*slot), plan(hung, sim.Hang, 2*slot, 3*slot),
			plan(restarted, sim.Rebooting, 2*slot+time.Minute, time.Minute), plan(average, sim.AverageTotal, 0, 0),
		}
		f, err := sim.New(c)
		if err != nil {
			t.Fatal(err)
		}
		stop := run(t, f)
		defer stop()
		began := time.Now()
		at := func(address string, i int) sim.Truth {
			from := began.Add(time.Duration(i) * slot)
			tr, ok := f.Truth(address, from, from.Add(slot))
			if !ok {
				t.Fatalf("no truth of %s", address)
			}
			return tr
		}
		for i := range 3 {
			if tr := at(off, 2+i); tr != (sim.Truth{}) {
				t.Errorf("off, slot %d: %+v", 2+i, tr)
			}
			if tr := at(hung, 2+i); tr.Hashes == 0 || tr.Powered != slot || tr.Answers != 0 {
				t.Errorf("hung, slot %d: %+v", 2+i, tr)
			}
		}
		// A minute without the program and 20 s in which the boards warm up.
		whole, part := at(restarted, 1), at(restarted, 2)
		if share := float64(part.Hashes) / float64(whole.Hashes); share < 220.0/300-0.01 || share > 220.0/300+0.01 || part.Powered != slot || part.Answers != 4*time.Minute {
			t.Errorf("restarted: %+v of %+v", part, whole)
		}

		before := summary(t, f, average)["MHS av"].(float64)
		time.Sleep(3 * slot)
		if _, err := f.DialContext(t.Context(), "tcp", off); !errors.Is(err, syscall.EHOSTUNREACH) {
			t.Errorf("a miner without power: %v, want no route to host", err)
		}
		time.Sleep(3 * slot)
		if s := summary(t, f, average); s["Total MH"].(float64) > 1.01*before || at(average, 3).Hashes == 0 {
			t.Errorf("without a counter: Total MH %v at an average rate of %v", s["Total MH"], before)
		}
		s := summary(t, f, off)
		if e, _ := f.Expected(off, time.Now()); s["Elapsed"] != 300.0 || !e.Healthy || e.Boot.Sub(began) != 5*slot {
			t.Errorf("a slot after power came back: %v, %+v", s, e)
		}
		if tr := at(off, 5); s["Total MH"].(float64) != float64(tr.Hashes) {
			t.Errorf("after power came back the counter shows %v, %d were done", s["Total MH"], tr.Hashes)
		}
		if _, ok := f.Truth(off, began.Add(-21*24*time.Hour), began); ok {
			t.Error("truth of a time before the miner was made")
		}
		if _, ok := f.Truth("127.31.0.9:4028", began, began.Add(slot)); ok {
			t.Error("truth of a miner that does not exist")
		}
	})
}
