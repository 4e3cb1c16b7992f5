//go:build linux

package poll_test

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"testing"
	"time"

	"github.com/hashinsight/hashinsight/agent/internal/facts"
	"github.com/hashinsight/hashinsight/agent/internal/inventory"
	"github.com/hashinsight/hashinsight/agent/internal/spool"
	"github.com/hashinsight/hashinsight/pkg/bench"
	"github.com/hashinsight/hashinsight/pkg/evidence"
	"github.com/hashinsight/hashinsight/pkg/ident"
	"github.com/hashinsight/hashinsight/pkg/telemetry"
	"github.com/hashinsight/hashinsight/pkg/unit"
	"github.com/hashinsight/hashinsight/pkg/wire"
)

// sign runs a signer over a spool until stop.
func sign(t *testing.T, s *spool.Spool, now func() time.Time) (signer *facts.Signer, stop func()) {
	t.Helper()
	salts, err := inventory.OpenSalts(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if signer, err = facts.New(facts.Config{Spool: s, Salts: salts, Now: now}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- signer.Run(ctx) }()
	return signer, func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// caughtUp waits until a signer has computed what is in its spool.
func caughtUp(t *testing.T, s *facts.Signer) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Minute); s.Status().Recovering; time.Sleep(5 * time.Millisecond) { // real time is what is measured
		if time.Now().After(deadline) {
			t.Fatal("the signer does not catch up")
		}
	}
}

// FACTS-AGENT: processor time of facts as a share of what polling takes, in one run: 1,000 miners a second with a signer at work, and then
// the same batches once more by a signer alone. What a signer adds to the bytes of a commit is measured against a run without one.
func TestBenchFactsAgent(t *testing.T) {
	const (
		miners, rounds = 1000, 3
		interval       = time.Second
		lasting        = 6 * time.Second
	)
	addresses := fleet(t, "--miners", strconv.Itoa(miners), "--base", "127.62.0.1", "--mix", "antminer-s9")
	samples := map[string][]float64{}
	add := func(what string, v float64) { samples[what] = append(samples[what], v) }
	run := func(with bool) {
		runtime.GC()
		a := startAgent(t, addresses, interval)
		stop := func() {}
		if with {
			_, stop = sign(t, a.spool, time.Now)
		}
		time.Sleep(2500 * time.Millisecond) // identification, first batch: once in a miner's life
		before, polled := cpu(t), a.metric(t, "hashinsight_agent_polls_total", "ok")
		time.Sleep(lasting)
		used, done := cpu(t)-before, a.metric(t, "hashinsight_agent_polls_total", "ok")-polled
		if done < miners*lasting.Seconds()*0.9 {
			t.Errorf("the agent made %v good polls", done)
		}
		stop()
		var bytes, rows float64
		err := a.spool.Headers(t.Context(), a.spool.ID(), func(h *evidence.Header) error {
			if h.Kind == evidence.KindSamples && h.Samples >= miners {
				bytes, rows = bytes+float64(h.PayloadLen), rows+float64(h.Samples)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if !with {
			add("agent without, µs per poll", used/done*1e6)
			add("payload without, bytes per sample", bytes/rows)
			a.stop()
			return
		}
		add("payload with, bytes per sample", bytes/rows)
		// The same batches, by a signer alone.
		rows = 0
		if err := a.spool.Headers(t.Context(), a.spool.ID(), func(h *evidence.Header) error { rows += float64(h.Samples); return nil }); err != nil {
			t.Fatal(err)
		}
		a.halt()
		runtime.GC()
		const times = 5
		alone := cpu(t)
		for range times {
			signer, stop := sign(t, a.spool, time.Now)
			caughtUp(t, signer)
			stop()
		}
		of := (cpu(t) - alone) / times / rows * 1e6
		add("facts", of)
		add("agent with, µs per poll", used/done*1e6)
		add("polling", used/done*1e6-of)
		a.stop()
	}
	for range rounds {
		run(false)
		run(true)
	}
	ratios := make([]float64, rounds)
	for i := range ratios {
		ratios[i] = samples["facts"][i] / samples["polling"][i]
	}
	ratio := bench.Median(ratios)
	err := bench.Record(bench.Result{
		ID: "FACTS-AGENT", What: "agent CPU of facts per poll (read back, verify, decode, add) against that of polling, in one run; 1,000 miners a second",
		Floor: bench.Median(samples["polling"]), Value: bench.Median(samples["facts"]), Unit: "µs", Ratio: ratio,
		Target: "≤ 0.10 × polling", Met: ratio <= 0.1, Samples: samples,
	})
	if err != nil {
		t.Fatal(err)
	}
}

// FACTS-RECOVERY: from the start of an agent until the facts of an hour of 10,000 miners, polled every 10 s, are computed from its spool, and
// the memory that takes at most.
func TestBenchFactsRecovery(t *testing.T) {
	if os.Getenv(bench.FileVariable) == "" {
		t.Skipf("a benchmark: set %s to the file that shall receive the result", bench.FileVariable)
	}
	const (
		miners, each = 10_000, 2000 // in a batch of 2 s
		interval     = 10 * time.Second
	)
	defer debug.SetGCPercent(debug.SetGCPercent(50)) // as the program does
	begin := time.Now().Truncate(time.Hour).Add(-2 * time.Hour)
	c := spool.Config{
		Dir: filepath.Join(t.TempDir(), "spool"), Site: ident.SiteID{1}, Key: ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize)), Hold: true,
		HubKey: func(ident.KeyID) ed25519.PublicKey { return nil }, Log: slog.New(slog.DiscardHandler),
	}
	s, err := spool.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	enc, err := wire.NewEncoder()
	if err != nil {
		t.Fatal(err)
	}
	obs, bytes, batches := make([]telemetry.Observation, each), 0, 0
	for at := begin; at.Before(begin.Add(time.Hour)); at = at.Add(interval) {
		for from := 0; from < miners; from += each {
			for i := range obs {
				obs[i] = reading(from+i, at.Add(time.Duration(from+i)*interval/miners), at.Sub(begin))
			}
			payload, meta, err := enc.Samples(obs, nil)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := s.Append(t.Context(), evidence.KindSamples, payload, meta); err != nil {
				t.Fatal(err)
			}
			bytes, batches = bytes+len(payload), batches+1
		}
	}
	samples := map[string][]float64{}
	for range 3 {
		debug.FreeOSMemory()
		base, most := resident(t, "RssAnon:"), 0.0
		before, began := cpu(t), time.Now()
		signer, stop := sign(t, s, func() time.Time { return begin.Add(time.Hour) }) // the hour is not signed yet
		for signer.Status().Recovering {
			most = max(most, resident(t, "RssAnon:"))
			time.Sleep(5 * time.Millisecond) // real time is what is measured
		}
		samples["s"] = append(samples["s"], time.Since(began).Seconds())
		samples["cpu s"] = append(samples["cpu s"], cpu(t)-before)
		samples["memory MB"] = append(samples["memory MB"], most-base)
		stop()
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	r := bench.Result{
		ID: "FACTS-RECOVERY", What: fmt.Sprintf("facts of an hour of 10,000 miners at 10 s from %d batches, %d MB, in the background of a start; beside it memory", batches, bytes/1e6),
		Floor: 60, Value: bench.Median(samples["s"]), Unit: "s", Target: "under a minute, and 100 MB", Samples: samples,
	}
	r.Ratio = r.Value / r.Floor
	r.Met = r.Ratio <= 1 && bench.Median(samples["memory MB"]) <= 100
	if err := bench.Record(r); err != nil {
		t.Fatal(err)
	}
}

// reading is what a miner with three boards and three pools says.
func reading(n int, at time.Time, up time.Duration) telemetry.Observation {
	rate := unit.Hashrate(100+n%7)*unit.TerahashPerSecond + unit.Hashrate(at.UnixNano()%1_000_003)*unit.GigahashPerSecond/1000
	o := telemetry.Observation{
		Miner: ident.MinerID{byte(n), byte(n >> 8), byte(n * 7), 4: byte(n * 31)}, At: at, Took: time.Duration(20+n%50) * time.Millisecond,
		Outcome: telemetry.OutcomeOK, State: telemetry.StateHashing, Hashrate: unit.Some(rate), HashrateAvg: unit.Some(rate),
		Hashes: unit.Some(int64(up/time.Second) * int64(100+n%7) * 1e6), Uptime: unit.Some(up), TempBoard: unit.Some(unit.Celsius(60 + n%9)),
		TempChip: unit.Some(unit.Celsius(70 + n%11)), Power: unit.Some(unit.Watts(3000 + n%300)), Energy: unit.Some(int64(up/time.Second) * int64(3000+n%300)),
		Accepted: unit.Some(int64(up / time.Minute * 6)), Rejected: unit.Some(int64(n % 3)), DiffAccepted: unit.Some(int64(up/time.Minute) * 400_000),
		HardwareErrors: unit.Some(int64(n % 100)), Fans: []unit.Opt[unit.RPM]{unit.Some(unit.RPM(5000 + n%90)), unit.Some(unit.RPM(5010 + n%80))},
	}
	for b := range 3 {
		o.Boards = append(o.Boards, telemetry.Board{Index: int32(b), Chips: unit.Some[int32](126), Hashrate: unit.Some(rate / 3), Temps: []unit.Celsius{60, 61, 70}})
		o.Pools = append(o.Pools, telemetry.Pool{URL: fmt.Sprintf("pool%d.example:3333", b), Worker: "farm.w" + strconv.Itoa(n), Alive: unit.Some(true), Accepted: unit.Some(int64(up / time.Minute * 6))})
	}
	return o
}
