package sim_test

import (
	"math"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashinsight/hashinsight/pkg/sim"
)

// counters of a summary that never fall while the program runs.
var counters = []string{"Elapsed", "Total MH", "Accepted", "Rejected", "Stale", "Hardware Errors", "Difficulty Accepted", "Best Share"}

func TestCountersAreTheIntegralOfTheRate(t *testing.T) {
	for _, machine := range []string{"antminer-s21", "antminer-s9", "whatsminer-m50", "avalon-1246", "avalon-q", "braiins-s19", "cgminer"} {
		t.Run(machine, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := only(machine, 1)
				c.Faults = []sim.Fault{
					{Select: sim.Selection{All: true}, After: time.Hour, For: 30 * time.Minute, Behaviour: sim.Behaviour{Kind: sim.Droop, Factor: 0.4}},
					{Select: sim.Selection{All: true}, After: 3 * time.Hour, For: 20 * time.Minute, Behaviour: sim.Behaviour{Kind: sim.NoPool}},
				}
				f, err := sim.New(c)
				if err != nil {
					t.Fatal(err)
				}
				stop := run(t, f)
				defer stop()
				before := summary(t, f, first)
				e, _ := f.Expected(first, time.Now())
				window := e.Window
				for range 6 * 60 {
					// The mean rates of the windows in between must add up to the counter.
					var sum float64
					for range time.Minute / window {
						time.Sleep(window)
						e, _ = f.Expected(first, time.Now())
						sum += float64(e.Hashrate) * window.Seconds() / 1e6
					}
					now := summary(t, f, first)
					for _, k := range counters {
						if now[k].(float64) < before[k].(float64) {
							t.Fatalf("%s fell from %v to %v", k, before[k], now[k])
						}
					}
					total := now["Total MH"].(float64)
					if total != math.Floor(e.TotalMH) {
						t.Fatalf("Total MH %v, the model has %v", total, e.TotalMH)
					}
					if d := total - before["Total MH"].(float64) - sum; math.Abs(d) > 2+1e-9*sum {
						t.Fatalf("the counter rose by %v MH more than the rates say", d)
					}
					if e.Healthy && e.Factor != 1 {
						t.Fatalf("healthy at factor %v", e.Factor)
					}
					before = now
				}
			})
		})
	}
}

func TestReportedRateIsTheExpectedOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, err := sim.New(sim.Config{Miners: 40, Instant: true})
		if err != nil {
			t.Fatal(err)
		}
		stop := run(t, f)
		defer stop()
		for range 200 {
			time.Sleep(17 * time.Second)
			for _, m := range f.Miners() {
				s := summary(t, f, m.Address)
				e, _ := f.Expected(m.Address, time.Now())
				got := math.NaN()
				for key, unit := range map[string]float64{"GHS 5s": 1e9, "MHS 5s": 1e6, "MHS 30s": 1e6} {
					switch v := s[key].(type) {
					case float64:
						got = v * unit
					case string:
						got = parse(t, v) * unit
					}
				}
				if d := math.Abs(got-float64(e.Hashrate)) / float64(e.Hashrate); !(d < 1e-5) {
					t.Fatalf("%s reports %v H/s, the model expects %v", m.Machine, got, e.Hashrate)
				}
				later, _ := f.Expected(m.Address, time.Now().Add(2*time.Minute))
				if d := math.Abs(float64(later.Hashrate-e.Hashrate) / float64(e.Hashrate)); d > 0.007 {
					t.Fatalf("an undisturbed rate moved by %v within two minutes", d)
				}
			}
		}
	})
}

func TestRebootResetsEverythingButTheSerialNumber(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, err := sim.New(only("cgminer", 1))
		if err != nil {
			t.Fatal(err)
		}
		stop := run(t, f)
		defer stop()
		before := summary(t, f, first)
		if _, err := f.Schedule(sim.Fault{Select: sim.Selection{All: true}, After: time.Minute, For: 40 * time.Second,
			Behaviour: sim.Behaviour{Kind: sim.Rebooting}}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(90 * time.Second)
		if _, err := ask(t, f.DialContext, first, `{"command":"summary"}`); !refused(err) {
			t.Errorf("while rebooting: %v, want connection refused", err)
		}
		time.Sleep(20 * time.Second) // 10 s after the start
		s := summary(t, f, first)
		if s["Elapsed"] != 10.0 || s["Total MH"] != 0.0 || s["MHS 5s"] != 0.0 || s["Accepted"] != 0.0 {
			t.Errorf("10 s after a reboot: %v", s)
		}
		if s["Best Share"].(float64) != before["Best Share"].(float64)+1 {
			t.Errorf("serial number %v after %v", s["Best Share"], before["Best Share"])
		}
		if e, _ := f.Expected(first, time.Now()); e.Healthy {
			t.Error("healthy while its boards warm up")
		}
		time.Sleep(20 * time.Second)
		e, _ := f.Expected(first, time.Now())
		if s = summary(t, f, first); !e.Healthy || s["Elapsed"] != 30.0 || s["Total MH"].(float64) <= 0 {
			t.Errorf("30 s after a reboot: healthy %v, %v", e.Healthy, s)
		}
	})
}

func TestOneSeedIsOneFleet(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	at := now.Add(time.Hour)
	make := func(seed uint64) *sim.Fleet {
		f, err := sim.New(sim.Config{Miners: 50, Seed: seed, Faulty: 0.2, Now: func() time.Time { return now }})
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	a, b, other := make(3), make(3), make(4)
	same := 0
	for _, m := range a.Miners() {
		x, _ := a.Expected(m.Address, at)
		y, _ := b.Expected(m.Address, at)
		z, _ := other.Expected(m.Address, at)
		if x != y {
			t.Errorf("%s: %+v and %+v from one seed", m.Address, x, y)
		}
		if x.TotalMH == z.TotalMH && x.TotalMH > 0 {
			same++
		}
	}
	if same > 0 {
		t.Errorf("%d miners are alike under another seed", same)
	}
}

func TestFaultyShareIsSpreadAndSparesTheFirst(t *testing.T) {
	f, err := sim.New(sim.Config{Miners: 200, Faulty: 0.1})
	if err != nil {
		t.Fatal(err)
	}
	faults, healthy, last := make(map[string]bool), 0, 0
	for i, m := range f.Miners() {
		e, _ := f.Expected(m.Address, time.Now())
		if e.Healthy {
			healthy++
		}
		if e.Fault == "" {
			continue
		}
		if i == 0 || i-last > 15 {
			t.Errorf("faults at miner %d and then at %d", last, i)
		}
		faults[e.Fault], last = true, i
	}
	if len(faults) != 20 || healthy < 180 || healthy > 190 {
		t.Errorf("%d kinds of fault (%v) and %d healthy miners", len(faults), faults, healthy)
	}
}
