//go:build linux

package ingest

import (
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/hashinsight/hashinsight/pkg/bench"
	"github.com/hashinsight/hashinsight/pkg/telemetry"
	telemetryv1 "github.com/hashinsight/hashinsight/proto/telemetry/v1"
)

const (
	fleetMiners   = 10_000 // polled every fleetInterval
	fleetInterval = 10 * time.Second
	fleetBatch    = 1000 // their rows of a second, which are a batch
	outage        = 10 * time.Minute
	backlogRows   = fleetBatch * int(outage/time.Second)
	backlogGroup  = 16 // batches in one message of backlog
	backlogWindow = 48 // batches of backlog under way: an agent leaves a quarter of its window to live data
)

// TestBenchCatchUp measures P8: what 10,000 miners leave in an outage of ten minutes goes through the hub while their live batches come every
// second on the same stream; bare binary COPY of the same backlog alternates with it.
func TestBenchCatchUp(t *testing.T) {
	if os.Getenv(bench.FileVariable) == "" {
		t.Skip("a measurement of a minute: set " + bench.FileVariable + " to the file for its results")
	}
	_, pool := benchDatabase(t)
	h, address := newBenchHub(t, pool, 0)
	s := h.newSite(t, "bench", fleetMiners)
	createBareTable(t, h)
	agent, err := dialSender(t.Context(), setupOf(t, h, s, address))
	if err != nil {
		t.Fatal(err)
	}
	at := time.Now().UTC().Truncate(time.Second).Add(-(benchRounds + 1) * outage)
	warm := makeBacklog(t, s, &at, time.Minute)
	if _, err := agent.sendAll(warm.batches); err != nil {
		t.Fatal(err)
	}
	bareCopy(t, pool, warm.copies)
	answers := make(chan answered, 2*backlogWindow)
	var receiver sync.WaitGroup
	receiver.Go(func() { receive(agent, answers) })
	defer receiver.Wait()
	defer func() { _ = agent.conn.Close() }() // ends the receiver; nothing is left to lose

	var rates, bare, ratios, ages, worst []float64
	live := 0
	for round := range benchRounds {
		run := makeBacklog(t, s, &at, outage)
		floor := func() {
			checkpoint(t, pool)
			bare = append(bare, float64(backlogRows)/bareCopy(t, pool, run.copies).Seconds())
		}
		if round%2 == 1 {
			floor()
		}
		checkpoint(t, pool)
		c := catchUp(t, agent, answers, s, run.batches)
		rates, ages, worst, live = append(rates, float64(backlogRows)/c.took.Seconds()), append(ages, c.acked...), append(worst, c.oldest.Seconds()), live+c.live
		if round%2 == 0 {
			floor()
		}
		ratios = append(ratios, rates[round]/bare[round])
	}
	stored := int64(benchRounds*backlogRows + fleetBatch*int(time.Minute/time.Second))
	h.want(t, "hot rows", `SELECT count(*) FROM telemetry_hot`, stored+int64(live*fleetBatch))
	h.want(t, "bare rows", `SELECT count(*) FROM bare_hot`, stored)

	ratio, rate := bench.Median(ratios), bench.Median(rates)
	const second = float64(fleetBatch)
	record(t, bench.Result{
		ID: "P8", What: fmt.Sprintf("catch-up of %d backlog rows in batches of %d (%d miners every %s, %s of outage), 3 boards and 2 pools each, on one stream with live batches every second, "+
			"hub with 2 writers and the agent's side in one process: %.0f × real time; against binary COPY of the same backlog on one connection, %d rows at a time",
			backlogRows, fleetBatch, fleetMiners, fleetInterval, outage, rate/second, benchGroup),
		Floor: bench.Median(bare), Value: rate, Unit: "rows/s", Ratio: ratio, Target: "≥ 0.6 × bare COPY and ≥ 100 × real time", Met: ratio >= 0.6 && rate >= 100*second,
		Samples: map[string][]float64{"catch-up": rates, "bare": bare, "ratio": ratios},
	})
	oldest := 0.0
	for _, w := range worst {
		oldest = max(oldest, w)
	}
	interval := fleetInterval.Seconds()
	record(t, bench.Result{
		ID: "P8-live", What: fmt.Sprintf("during P8: age of the newest live sample that the hub has acknowledged, at its oldest; %d live batches, acknowledged after %.2f s in the median",
			live, bench.Median(ages)),
		Floor: interval, Value: oldest, Unit: "s", Ratio: oldest / interval, Target: "≤ 2 × poll interval", Met: oldest <= 2*interval,
		Samples: map[string][]float64{"oldest": worst, "acknowledged": ages},
	})
}

// makeBacklog makes the batches that an outage leaves, one for each second.
func makeBacklog(t *testing.T, s *site, at *time.Time, outage time.Duration) benchRun {
	t.Helper()
	r := newRunMaker(t, s)
	for n := range int(outage / time.Second) {
		r.add(livePolls(s, n, *at))
		*at = at.Add(time.Second)
	}
	return r.done()
}

// caughtUp is what one catch-up took.
type caughtUp struct {
	took   time.Duration // until the last batch of the backlog was acknowledged
	live   int           // live batches meanwhile
	acked  []float64     // s from each live batch's time to its acknowledgement
	oldest time.Duration // greatest age of the newest acknowledged live batch, its time at the beginning taken to be the beginning
}

// livePolls are the polls of a second: a tenth of the miners, each of which has its turn every fleetInterval.
func livePolls(s *site, second int, at time.Time) []telemetry.Observation {
	first := second % (fleetMiners / fleetBatch) * fleetBatch
	return benchPolls(s, s.miners[first:first+fleetBatch], at)
}

// answered is a batch that the hub has stored, or the end of the stream.
type answered struct {
	seq uint64
	err error
}

// receive reads acknowledgements until the stream ends.
func receive(agent *sender, answers chan<- answered) {
	for {
		seq, err := agent.ack()
		select {
		case answers <- answered{seq, err}:
		case <-agent.stream.Context().Done():
			return
		}
		if err != nil {
			return
		}
	}
}

// catchUp sends the backlog as far as the window goes, and a live batch every second before anything else, as agents do.
func catchUp(t *testing.T, agent *sender, answers <-chan answered, s *site, backlog []*telemetryv1.Batch) caughtUp {
	t.Helper()
	begin := time.Now()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	var c caughtUp
	liveAt := map[uint64]time.Time{} // by sequence number, not yet acknowledged
	newest, underway, left := begin, 0, len(backlog)
	live := func() {
		at := time.Now()
		b := s.batchOf(t, livePolls(s, c.live, at.UTC().Add(-time.Second)), nil) // the second that is over
		if err := agent.send(b); err != nil {
			t.Fatal(err)
		}
		liveAt[s.seq] = at
		c.live++
	}
	for left > 0 || len(liveAt) > 0 {
		select {
		case <-tick.C:
			if left > 0 {
				live()
			}
			continue
		default:
		}
		if n := min(backlogGroup, len(backlog)); n > 0 && underway+n <= backlogWindow {
			if err := agent.send(backlog[:n]...); err != nil {
				t.Fatal(err)
			}
			backlog, underway = backlog[n:], underway+n
			continue
		}
		select {
		case <-tick.C:
			if left > 0 {
				live()
			}
		case a := <-answers:
			if a.err != nil {
				t.Fatal(a.err)
			}
			at, isLive := liveAt[a.seq]
			if !isLive {
				if underway, left = underway-1, left-1; left == 0 {
					c.took = time.Since(begin)
				}
				continue
			}
			delete(liveAt, a.seq)
			c.acked = append(c.acked, time.Since(at).Seconds())
			if c.oldest = max(c.oldest, time.Since(newest)); at.After(newest) {
				newest = at
			}
		}
	}
	return c
}
