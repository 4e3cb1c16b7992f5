package asic

import (
	"context"
	"fmt"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashinsight/hashinsight/agent/internal/cgminer"
	"github.com/hashinsight/hashinsight/pkg/sim"
	"github.com/hashinsight/hashinsight/pkg/telemetry"
)

// withFleet runs a simulated fleet in virtual time, in memory, with one reader for each miner.
func withFleet(t *testing.T, c sim.Config, use func(t *testing.T, f *sim.Fleet, readers []*Reader)) {
	synctest.Test(t, func(t *testing.T) {
		c.Seed, c.Instant = 11, true
		f, err := sim.New(c)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- f.Run(ctx) }()
		client := &cgminer.Client{Dial: f.DialContext}
		var readers []*Reader
		for _, m := range f.Miners() {
			readers = append(readers, NewReader(Config{Address: m.Address, Client: client}))
		}
		use(t, f, readers)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// agrees compares a healthy miner's observation with what the model says of that moment.
func agrees(t *testing.T, f *sim.Fleet, m sim.Miner, obs telemetry.Observation, what string) {
	t.Helper()
	want, ok := f.Expected(m.Address, obs.At)
	if !ok {
		t.Fatalf("no model of %s", m.Address)
	}
	name := what + " " + m.Machine
	if obs.Outcome != telemetry.OutcomeOK {
		t.Errorf("%s: outcome %v: %v", name, obs.Outcome, obs.Errors)
		return
	}
	if rate := float64(obs.Hashrate.Or(0)); math.Abs(rate-float64(want.Hashrate)) > 0.01*float64(want.Hashrate) {
		t.Errorf("%s: rate %v, want %v", name, rate, want.Hashrate)
	}
	if w := obs.HashrateWindow.Or(0); w != want.Window {
		t.Errorf("%s: window %v, want %v", name, w, want.Window)
	}
	if done, ok := obs.Hashes.Get(); ok && math.Abs(float64(done)-want.TotalMH) > 2 {
		t.Errorf("%s: %d MH done, want %v", name, done, want.TotalMH)
	} else if !ok && what == "plain" {
		t.Errorf("%s: no counter of hashes", name)
	}
	if best, ok := obs.BestShare.Get(); !ok || uint64(best) != want.Serial {
		t.Errorf("%s: best share %d, want serial %d", name, best, want.Serial)
	}
	if up, ok := obs.Uptime.Get(); !ok || (obs.At.Sub(want.Boot)-up).Abs() > time.Second {
		t.Errorf("%s: uptime %v, want %v", name, up, obs.At.Sub(want.Boot))
	}
	if obs.State != telemetry.StateHashing {
		t.Errorf("%s: state %v (%v)", name, obs.State, obs.Errors)
	}
	if len(obs.Pools) == 0 {
		t.Errorf("%s: no pools", name)
	}
	if len(obs.Boards) == 0 {
		t.Errorf("%s: no boards", name)
	}
}

func TestEveryMachineOfTheSimulator(t *testing.T) {
	withFleet(t, sim.Config{Miners: 44, Boot: 20 * 24 * time.Hour}, func(t *testing.T, f *sim.Fleet, readers []*Reader) {
		for round := range 3 {
			for i, m := range f.Miners() {
				obs, info := readers[i].Read(t.Context())
				agrees(t, f, m, obs, "plain")
				if info.Maker != m.Maker || m.MAC != "" && info.MAC != m.MAC {
					t.Errorf("%s: %+v, want maker %q and MAC %q", m.Machine, info, m.Maker, m.MAC)
				}
				if round > 0 && obs.Took > 2*time.Second {
					t.Errorf("%s: a poll took %v", m.Machine, obs.Took)
				}
			}
			time.Sleep(30 * time.Second)
		}
	})
}

// TestEveryDamageToAReply polls each machine while its replies are damaged in one way, from the first contact
// and, having been known before, later. What can be mended loses no reading; the rest is told as garbage, or
// what it is, and never as a reading.
func TestEveryDamageToAReply(t *testing.T) {
	for _, form := range sim.Forms() {
		for _, knownBefore := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s/known before %v", form, knownBefore), func(t *testing.T) {
				withFleet(t, sim.Config{Miners: 33, Boot: 20 * 24 * time.Hour}, func(t *testing.T, f *sim.Fleet, readers []*Reader) {
					if knownBefore {
						for _, r := range readers {
							r.Read(t.Context())
						}
					}
					if _, err := f.Schedule(sim.Fault{Select: sim.Selection{All: true}, For: time.Hour,
						Behaviour: sim.Behaviour{Kind: sim.Malformed, Form: form}}); err != nil {
						t.Fatal(err)
					}
					for i, m := range f.Miners() {
						obs, _ := readers[i].Read(t.Context())
						if form.Mendable() {
							agrees(t, f, m, obs, string(form))
						} else if obs.Outcome.Answered() || obs.Hashrate.Present() {
							t.Errorf("%s: outcome %v with rate %v", m.Machine, obs.Outcome, obs.Hashrate)
						}
					}
					time.Sleep(2 * time.Hour)
					for i, m := range f.Miners() {
						readers[i].Read(t.Context())
						obs, _ := readers[i].Read(t.Context())
						agrees(t, f, m, obs, "after "+string(form))
					}
				})
			})
		}
	}
}

func TestEveryBehaviour(t *testing.T) {
	type verdict struct {
		outcome telemetry.Outcome
		states  map[string]telemetry.State // by family; "" for the rest
	}
	whole := func(s telemetry.State) map[string]telemetry.State { return map[string]telemetry.State{"": s} }
	unknown := whole(telemetry.StateUnknown)
	tests := map[sim.Kind]verdict{
		sim.Dead:    {telemetry.OutcomeRefused, unknown},
		sim.Refuse:  {telemetry.OutcomeRefused, unknown},
		sim.Hang:    {telemetry.OutcomeTimeout, unknown},
		sim.Reset:   {telemetry.OutcomeReset, unknown},
		sim.Empty:   {telemetry.OutcomeDenied, unknown},
		sim.Endless: {telemetry.OutcomeTooLarge, unknown},
		sim.NoPool:  {telemetry.OutcomeOK, whole(telemetry.StateNoPool)},
		sim.Droop:   {telemetry.OutcomeOK, map[string]telemetry.State{"": telemetry.StateDegraded, "cgminer": telemetry.StateHashing}},
		sim.Sleeping: {telemetry.OutcomeOK, map[string]telemetry.State{"": telemetry.StateUnknown, "whatsminer": telemetry.StateSleeping,
			"avalon-home": telemetry.StateSleeping}},
		sim.Overheated: {telemetry.OutcomeOK, map[string]telemetry.State{"": telemetry.StateUnknown, "whatsminer": telemetry.StateOverheated}},
	}
	for kind, want := range tests {
		t.Run(string(kind), func(t *testing.T) {
			withFleet(t, sim.Config{Miners: 33, Boot: 20 * 24 * time.Hour}, func(t *testing.T, f *sim.Fleet, readers []*Reader) {
				for _, r := range readers {
					r.Read(t.Context())
				}
				if _, err := f.Schedule(sim.Fault{Select: sim.Selection{All: true}, For: time.Hour, Behaviour: sim.Behaviour{Kind: kind, Factor: 0.5}}); err != nil {
					t.Fatal(err)
				}
				time.Sleep(20 * time.Minute)
				for i, m := range f.Miners() {
					obs, _ := readers[i].Read(t.Context())
					state, ok := want.states[m.Family]
					if !ok {
						state = want.states[""]
					}
					if obs.Outcome != want.outcome || obs.State != state {
						t.Errorf("%s: outcome %v, state %v, want %v, %v (rate %v, %v)", m.Machine, obs.Outcome, obs.State, want.outcome, state, obs.Hashrate, obs.Errors)
					}
					if !obs.Outcome.Answered() && len(obs.Errors) == 0 {
						t.Errorf("%s: no error text", m.Machine)
					}
				}
			})
		})
	}
}

// TestRebootStartsNewCounters: the program comes back with its counters at zero, and the reader follows.
func TestRebootStartsNewCounters(t *testing.T) {
	withFleet(t, sim.Config{Miners: 33, Boot: 20 * 24 * time.Hour}, func(t *testing.T, f *sim.Fleet, readers []*Reader) {
		time.Sleep(10 * time.Minute)
		before := make([]telemetry.Observation, len(readers))
		for i, r := range readers {
			before[i], _ = r.Read(t.Context())
		}
		if _, err := f.Schedule(sim.Fault{Select: sim.Selection{All: true}, For: time.Minute, Behaviour: sim.Behaviour{Kind: sim.Rebooting}}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(30 * time.Second)
		for _, r := range readers {
			if obs, info := r.Read(t.Context()); obs.Outcome != telemetry.OutcomeRefused || info.Firmware == "" {
				t.Errorf("%s: outcome %v, %+v", info.Model, obs.Outcome, info)
			}
		}
		time.Sleep(8 * time.Minute)
		for round := range 2 {
			for i, m := range f.Miners() {
				obs, _ := readers[i].Read(t.Context())
				agrees(t, f, m, obs, "after the reboot")
				if obs.Uptime.Or(0) > 10*time.Minute || obs.Hashes.Or(0) >= before[i].Hashes.Or(0) {
					t.Errorf("%s, round %d: uptime %v, %d MH done after %d", m.Machine, round, obs.Uptime, obs.Hashes.Or(0), before[i].Hashes.Or(0))
				}
			}
		}
	})
}
