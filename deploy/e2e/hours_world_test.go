package e2e

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashinsight/hashinsight/hub/pgtest"
	"github.com/hashinsight/hashinsight/pkg/sim"
)

// What a site signs of each hour is what its hub computes from the batches: with the link cut over two ends of hours, and the agent
// restarted within an hour and off when one ends.
func TestSignedHoursAreWhatTheHubComputes(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	synctest.Test(t, func(t *testing.T) { // begins at midnight UTC
		w := newWorld(t, url, sim.Config{Miners: 10, Seed: 26})
		restart := func(off time.Duration) {
			last := len(w.stops) - 1
			w.stops[last]()
			time.Sleep(off)
			w.stops[last] = w.startAgent()
		}
		time.Sleep(80 * time.Minute)
		w.link.set(true)
		time.Sleep(2 * time.Hour) // 03:20
		restart(time.Second)
		time.Sleep(10 * time.Minute)
		w.link.set(false)
		time.Sleep(20 * time.Minute) // 03:50
		restart(20 * time.Minute)    // 04:10
		time.Sleep(2 * time.Hour)    // 06:10
		w.stop()
		want := []int{0, 1, 2, 3, 4, 5}
		var hour, state, leaves int
		var reason string
		var got []int
		w.query(`SELECT hour % 24, state, leaves, reason FROM site_hour ORDER BY hour`, []any{&hour, &state, &leaves, &reason}, func() {
			got = append(got, hour)
			if state != 1 || leaves != 10 {
				t.Errorf("hour %d: state %d, %d miners: %s", hour, state, leaves, reason)
			}
		})
		if len(got) != len(want) {
			t.Errorf("hours %v, want %v", got, want)
		}
		if n := w.count(`SELECT count(*) FROM miner_salt`); n != 10 {
			t.Errorf("the hub has %d salt keys, want 10", n)
		}
	})
}
