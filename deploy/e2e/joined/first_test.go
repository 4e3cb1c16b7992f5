package joined

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/hashinsight/hashinsight/pkg/bench"
)

// firstBatch makes a token, joins with it, starts the agent and says how long all of that took until the hub had stored the first
// batch, and how much of it was after the agent's start.
func firstBatch(t *testing.T, h *hub, f *fleet, i int) (whole, agent time.Duration) {
	t.Helper()
	begun := time.Now()
	s, err := h.join(fmt.Sprintf("site %d", i))
	if err != nil {
		t.Fatal(err)
	}
	s.config.BatchInterval = 50 * time.Millisecond
	s.poll(f, 10*i, 10, time.Second)
	started := time.Now()
	s.start()
	var at []time.Time
	await(t, "first batch", time.Minute, func() bool { at = h.storedAt(s.id); return len(at) > 0 })
	if !h.inTunnel(s.id) {
		t.Error("the site's stream does not come through the tunnel")
	}
	s.stop()
	return at[0].Sub(begun), at[0].Sub(started)
}

func TestFirstBatchOfANewSite(t *testing.T) {
	h, f := newHub(t), newFleet(t, 30)
	for i := range 3 {
		whole, agent := firstBatch(t, h, f, i)
		t.Logf("token, joining and first batch stored: %.0f ms, of which %.0f ms after the agent's start", ms(whole), ms(agent))
		if whole > 10*time.Second {
			t.Errorf("a new site's first batch took %s", whole)
		}
	}
	h.wantEachAnswerOnce(f)
}

// N1 from end to end: an operator's token, the site's keys, certificate, address and peer, its agent's start, and the first batch.
func TestBenchFirstBatchOfANewSite(t *testing.T) {
	needBench(t)
	const n = 40
	h, f := newHub(t), newFleet(t, 10*n)
	var whole, agent []float64
	for i := range n {
		w, a := firstBatch(t, h, f, i)
		whole, agent = append(whole, ms(w)), append(agent, ms(a))
	}
	slowest := slices.Max(whole)
	measured(t, bench.Result{
		ID: "N1b", What: fmt.Sprintf("token made, site joined, agent started, first batch of 10 miners stored through the tunnel: the slowest of %d (median %.0f ms; of the part from the agent's start, with polling and 50 ms of gathering, %.0f ms)", n, bench.Median(whole), bench.Median(agent)),
		Value: slowest, Floor: 120_000, Unit: "ms", Ratio: slowest / 120_000, Target: "none of its own; a site joins in 2 min", Met: slowest <= 120_000 && !t.Failed(),
		Samples: map[string][]float64{"whole": whole, "agent": agent},
	})
}

func ms(d time.Duration) float64 { return d.Seconds() * 1e3 }
