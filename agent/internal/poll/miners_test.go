package poll

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashinsight/hashinsight/pkg/ident"
	"github.com/hashinsight/hashinsight/pkg/telemetry"
)

func TestIDsSurviveARestartAndAMove(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFarm(t)
		f.add("1", 2, true, nil)
		a, b := f.targets[0].Address, f.targets[1].Address
		f.miners[a] = &device{mac: "02:00:00:00:00:0A", outcome: telemetry.OutcomeOK}
		f.run(30 * time.Second)
		f.miners[b], f.miners[a] = f.miners[a], nil
		f.run(2 * time.Minute)
		ids, addresses := map[ident.MinerID]bool{}, map[string]bool{}
		for _, s := range f.stored {
			for _, o := range s.obs {
				ids[o.Miner] = true
			}
			for _, i := range s.infos {
				addresses[i.Address] = true
			}
		}
		if len(ids) != 1 || !addresses[a] || !addresses[b] {
			t.Errorf("a miner that moved over a restart has %d ids and was described at %v", len(ids), addresses)
		}
	})
}

func TestMinersAreDescribedAtFirstSightOnChangeAndHourly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFarm(t)
		f.add("1", 1, false, healthy)
		f.start()
		time.Sleep(90 * time.Minute)
		f.mu.Lock()
		f.miners[f.targets[0].Address] = &device{outcome: telemetry.OutcomeOK, mac: "02:00:00:00:00:0A"}
		f.mu.Unlock()
		time.Sleep(10 * time.Minute)
		if err := f.stop(); err != nil {
			t.Fatal(err)
		}
		var macs []string
		for _, s := range f.stored {
			for _, i := range s.infos {
				macs = append(macs, i.MAC)
			}
		}
		if want := []string{"", "", "02:00:00:00:00:0A"}; !slices.Equal(macs, want) {
			t.Errorf("described %q, want %q", macs, want)
		}
	})
}
