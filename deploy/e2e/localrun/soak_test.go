package localrun

import (
	"strings"
	"testing"
)

func TestSoakBounds(t *testing.T) {
	// Nine readings of a system that stores a million samples between two of them.
	run := func(heap, hot, latest func(i int) float64) []reading {
		var all []reading
		for i := range 9 {
			all = append(all, reading{
				heap:    map[string]float64{"agent": 20 << 20, "hub": heap(i)},
				tables:  map[string]int64{"telemetry_hot": int64(hot(i)), "miner_latest": int64(latest(i))},
				samples: int64(i) * 1_000_000,
			})
		}
		return all
	}
	flat := func(int) float64 { return 30 << 20 }
	rising := func(each float64) func(int) float64 { return func(i int) float64 { return float64(i) * each } }
	for name, c := range map[string]struct {
		all      []reading
		exceeded string
	}{
		"all within bounds":         {run(flat, rising(200e6), flat), ""},
		"a heap that grows":         {run(rising(10<<20), rising(200e6), flat), "hub heap"},
		"history that costs much":   {run(flat, rising(900e6), flat), "telemetry_hot"},
		"state that grows for ever": {run(flat, rising(200e6), rising(10<<20)), "miner_latest"},
	} {
		t.Run(name, func(t *testing.T) {
			lines, err := bounds(c.all)
			var exceeded []string
			for _, l := range lines {
				if strings.HasSuffix(l, "EXCEEDED") {
					exceeded = append(exceeded, l)
				}
			}
			if c.exceeded == "" && (err != nil || exceeded != nil) || c.exceeded != "" && (err == nil || len(exceeded) != 1 || !strings.HasPrefix(exceeded[0], c.exceeded)) {
				t.Errorf("exceeded %q (%v), want %q\n%s", exceeded, err, c.exceeded, strings.Join(lines, "\n"))
			}
		})
	}
}
