package enrol

import (
	"fmt"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/hashinsight/hashinsight/pkg/bench"
)

// N2: 200 sites join at once. Server time is what a call takes once it has its turn; the wait for it is measured beside.
func TestBenchParallelEnrolments(t *testing.T) {
	if os.Getenv(bench.FileVariable) == "" {
		t.Skip("a benchmark: make bench")
	}
	const sites = 200
	o := newOffice(t)
	var mu sync.Mutex
	var work, whole []float64
	o.metrics.observe = func(d time.Duration) {
		mu.Lock()
		defer mu.Unlock()
		work = append(work, d.Seconds()*1000)
	}
	var all sync.WaitGroup
	start := make(chan struct{})
	for i := range sites {
		m := newMachine(t)
		r := m.enrolRequest(o.Server, o.token(NewToken{SiteName: fmt.Sprintf("site %d", i)}))
		all.Go(func() {
			<-start
			begin := time.Now()
			_, err := o.Enrol(m.ctx(), r)
			mu.Lock()
			defer mu.Unlock()
			whole = append(whole, time.Since(begin).Seconds()*1000)
			if err != nil {
				t.Errorf("site %d: %v", i, err)
			}
		})
	}
	mu.Lock()
	work = nil // what went before were challenges
	mu.Unlock()
	close(start)
	all.Wait()
	addresses, used := o.count(`SELECT count(DISTINCT address) FROM peer`), o.count(`SELECT count(DISTINCT site_id) FROM enrol_token WHERE used_at IS NOT NULL`)
	if addresses != sites || used != sites {
		t.Errorf("%d addresses and %d sites of %d tokens", addresses, used, sites)
	}
	slices.Sort(work)
	slices.Sort(whole)
	p95 := work[len(work)*95/100]
	if err := bench.Record(bench.Result{
		ID: "N2", What: fmt.Sprintf("%d parallel enrolments, %d duplicate addresses, p95 of server time (with the wait for a turn: %.0f ms)", sites, sites-addresses, whole[len(whole)*95/100]),
		Floor: 50, Value: p95, Unit: "ms", Ratio: p95 / 50, Target: "≤ 50 ms", Met: p95 <= 50, Samples: map[string][]float64{"work": work, "whole": whole},
	}); err != nil {
		t.Fatal(err)
	}
}
