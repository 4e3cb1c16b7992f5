//go:build unix

package series

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/hashinsight/hashinsight/hub/pgtest"
	"github.com/hashinsight/hashinsight/pkg/bench"
	"github.com/hashinsight/hashinsight/pkg/ident"
	"github.com/hashinsight/hashinsight/pkg/telemetry"
	"github.com/hashinsight/hashinsight/pkg/unit"
)

// machine makes polls like those of an Antminer: rates in steps of 10 MH/s, whole degrees, fans in steps of 30 rpm, everything wandering a little.
type machine struct {
	id                         ident.MinerID
	phase                      time.Duration
	rate, avg, chip            float64
	fan                        [4]float64
	accepted, rejected, errors int64
}

func (m *machine) poll(rng *rand.Rand, at, began time.Time, parts bool) telemetry.Observation {
	m.rate = 100e6 + 0.5*(m.rate-100e6) + rng.NormFloat64()*0.8e6
	m.avg += (m.rate - m.avg) / 200
	m.chip += (70-m.chip)/20 + rng.NormFloat64()*0.5
	o := telemetry.Observation{
		Miner: m.id, At: at.Add(m.phase + time.Duration(rng.ExpFloat64()*20)*time.Millisecond).Truncate(time.Millisecond), Outcome: telemetry.OutcomeOK, State: telemetry.StateHashing,
		Hashrate: unit.Some(unit.Hashrate(float64(int64(m.rate/10)*10) * 1e6)), HashrateAvg: unit.Some(unit.Hashrate(float64(int64(m.avg/10)*10) * 1e6)),
		TempBoard: unit.Some(unit.Celsius(int(m.chip - 12))), TempChip: unit.Some(unit.Celsius(int(m.chip))), TempInlet: unit.Some(unit.Celsius(int(25 + m.chip/70))),
		Power: unit.Some(unit.Watts(int(3250 + (m.rate-100e6)/1e5))), Uptime: unit.Some(at.Sub(began).Truncate(time.Second)),
	}
	m.accepted += int64(rng.IntN(9) + 2)
	if rng.IntN(60) == 0 {
		m.rejected++
		m.errors += int64(rng.IntN(3))
	}
	o.Accepted, o.Rejected, o.HardwareErrors = unit.Some(m.accepted), unit.Some(m.rejected), unit.Some(m.errors)
	for i := range m.fan {
		m.fan[i] += (5400-m.fan[i])/10 + rng.NormFloat64()*25
		o.Fans = append(o.Fans, unit.Some(unit.RPM(int(m.fan[i]/30)*30)))
	}
	if !parts {
		return o
	}
	o.Hashes, o.DiffAccepted, o.BestShare = unit.Some(int64(at.Sub(began).Seconds()*m.avg)), unit.Some(m.accepted*65536), unit.Some(int64(1)<<40)
	o.IdealHashrate = unit.Some(unit.Hashrate(100e12))
	for i := range 3 {
		o.Boards = append(o.Boards, telemetry.Board{
			Index: int32(i), Chips: unit.Some(int32(126)), ChipsWorking: unit.Some(int32(126)), Hashrate: unit.Some(unit.Hashrate(float64(int64(m.rate/30)*10) * 1e6)),
			FrequencyMHz: unit.Some(float64(545)), HardwareErrors: unit.Some(m.errors / 3), Temps: []unit.Celsius{unit.Celsius(int(m.chip - 14)), unit.Celsius(int(m.chip - 12)), unit.Celsius(int(m.chip))},
		})
		o.Pools = append(o.Pools, telemetry.Pool{
			URL: fmt.Sprintf("stratum%d.pool.example:3333", i), Worker: "farm." + m.id.String()[:8], Priority: unit.Some(int32(i)), Alive: unit.Some(true), Active: unit.Some(i == 0),
			Accepted: unit.Some(m.accepted * int64(max(0, 1-i))), Rejected: unit.Some(m.rejected * int64(max(0, 1-i))), Stale: unit.Some(int64(0)),
		})
	}
	return o
}

// fleetHours stores polls of miners every interval in order of time, as they come, and returns the number of rows and the bytes of their batches.
func fleetHours(t *testing.T, s *Store, pool *pgxpool.Pool, site ident.SiteID, fleet []*machine, from, to time.Time, every time.Duration, parts bool) (rows, bytes int64) {
	t.Helper()
	rng := rand.New(rand.NewPCG(uint64(from.Unix()), 5))
	for at := from; at.Before(to); {
		var group []Batch
		for ; at.Before(to) && len(group) < 60; at = at.Add(every) {
			obs := make([]telemetry.Observation, 0, len(fleet))
			for _, m := range fleet {
				obs = append(obs, m.poll(rng, at, from.Add(-time.Hour), parts))
			}
			b, size := packed(t, obs)
			group = append(group, Batch{site, b})
			bytes += int64(size) + 204 + 64 // header and signature
		}
		rows += write(t, s, pool, group)
	}
	return rows, bytes
}

func newFleet(n int) []*machine {
	out := make([]*machine, n)
	for i := range out {
		out[i] = &machine{
			id: ident.NewMinerID(), phase: time.Duration(i%60000) * time.Millisecond / 60, rate: 100e6, avg: 100e6, chip: 70, fan: [4]float64{5400, 5400, 5400, 5400},
		}
	}
	return out
}

const blockSize = `SELECT sum(pg_total_relation_size(i.inhrelid))::bigint FROM pg_inherits i WHERE inhparent = 'telemetry_block'::regclass`

// TestBenchBlocks measures P9, P10 and the fleet's half of P11 on 500 miners polled every minute for a day, the last hour of it open.
func TestBenchBlocks(t *testing.T) {
	if os.Getenv(bench.FileVariable) == "" {
		t.Skip("a measurement of a minute: set " + bench.FileVariable + " to the file for its results")
	}
	const miners = 500
	begin := noon.Truncate(24 * time.Hour)
	now := begin.Add(24*time.Hour + 30*time.Minute)
	pool := pgtest.New(t)
	s := newStore(t, pool, func() time.Time { return now })
	site, fleet := ident.NewSiteID(), newFleet(miners)
	rows, evidence := fleetHours(t, s, pool, site, fleet, begin, now.Add(-3*time.Minute), time.Minute, false)
	work := time.Now()
	seal(t, s, now)
	t.Logf("%d rows into blocks: %.2f µs a row", rows, time.Since(work).Seconds()*1e6/float64(rows))
	blocks := float64(count(t, pool, blockSize)) / float64(rows)
	more, _ := fleetHours(t, s, pool, site, fleet, now.Add(-3*time.Minute), now, time.Minute, false)
	rows += more
	for _, sql := range []string{
		`CREATE TABLE keyed (ts timestamptz NOT NULL, hashrate_mhs bigint, hashrate_avg_mhs bigint, accepted bigint, rejected bigint, hw_errors bigint, temp_board_dc integer,
			temp_chip_dc integer, temp_inlet_dc integer, fan1_rpm integer, fan2_rpm integer, fan3_rpm integer, fan4_rpm integer, power_dw integer, uptime_s integer,
			state smallint, site_id uuid NOT NULL, miner_id uuid NOT NULL, PRIMARY KEY (miner_id, ts))`,
		`INSERT INTO keyed SELECT ts, hashrate_mhs, hashrate_avg_mhs, accepted, rejected, hw_errors, temp_board_dc, temp_chip_dc, temp_inlet_dc, fan1_rpm, fan2_rpm, fan3_rpm,
			fan4_rpm, power_dw, uptime_s, state, site_id, miner_id FROM telemetry_hot`,
		`VACUUM ANALYZE keyed`, `VACUUM ANALYZE telemetry_hot`, `VACUUM ANALYZE telemetry_block`, `VACUUM ANALYZE site_5m`, `VACUUM ANALYZE block_dirty`,
	} {
		if _, err := pool.Exec(t.Context(), sql, pgx.QueryExecModeSimpleProtocol); err != nil {
			t.Fatal(err)
		}
	}
	keyed := float64(count(t, pool, `SELECT pg_total_relation_size('keyed')`)) / float64(rows)
	sums := float64(count(t, pool, `SELECT pg_total_relation_size('site_5m') + pg_total_relation_size('miner_day') + pg_total_relation_size('telemetry_hour')`)) / float64(rows)
	fast, fastEvidence := storageOf(t, 200, 2*time.Hour, 10*time.Second, false)
	full, fullEvidence := storageOf(t, 50, 6*time.Hour, time.Minute, true)
	recordResult(t, bench.Result{
		ID: "P9", What: fmt.Sprintf("bytes a core sample in blocks, key and row heads included, polled every 10 s, against rows with a key. Kept for 13 months in all: blocks %.1f, evidence in batches of 200 samples %.1f. "+
			"Polled every 60 s by %d miners: blocks %.1f (short blocks compress worse), evidence in batches of %d samples %.1f, sums %.1f. With 3 boards, 3 pools and counters at 60 s: blocks %.1f, evidence in batches of 50 samples %.1f",
			fast, fastEvidence, miners, blocks, miners, float64(evidence)/float64(rows-more), sums, full, fullEvidence),
		Floor: keyed, Value: fast, Unit: "B/sample", Ratio: fast / keyed, Target: "≤ 15 B, ≤ 1/8 of rows with a key", Met: fast <= 15 && fast/keyed <= 0.125,
		Samples: map[string][]float64{"blocks 10 s": {fast}, "blocks 60 s": {blocks}, "keyed": {keyed}, "blocks with boards and pools 60 s": {full}},
	})

	q := func(i int) Query {
		return Query{site, fleet[i].id, now.Add(-24 * time.Hour), now, 5 * time.Minute}
	}
	rng := rand.New(rand.NewPCG(1, 2))
	fromRows := func(i int) {
		rows, err := pool.Query(t.Context(), hotMiner, site, fleet[i].id, now.Add(-24*time.Hour), now, 5*time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for rows.Next() {
			n++
		}
		if rows.Err() != nil || n != 288 {
			t.Fatalf("%d points, %v", n, rows.Err())
		}
	}
	var a, b, ratios []float64
	for range 5 {
		var blocks, rows []float64
		for range 100 {
			i := rng.IntN(miners)
			blocks = append(blocks, timed(func() {
				if p, err := s.Miner(t.Context(), q(i)); err != nil || len(p) != 288 || p[287].Polls != 5 {
					t.Fatalf("%d points, %v", len(p), err)
				}
			}))
			rows = append(rows, timed(func() { fromRows(i) }))
		}
		a, b = append(a, p95(blocks)), append(b, p95(rows))
		ratios = append(ratios, a[len(a)-1]/b[len(b)-1])
	}
	recordResult(t, bench.Result{
		ID: "P10", What: "24 h of one miner at 60 s in steps of 5 minutes, the open hour and its last minutes included, p95 of 100, against the indexed row query over a table in the order of time",
		Floor: bench.Median(b), Value: bench.Median(a), Unit: "ms", Ratio: bench.Median(ratios), Target: "≤ 0.5 × rows", Met: bench.Median(ratios) <= 0.5,
		Samples: map[string][]float64{"blocks": a, "rows": b, "ratio": ratios},
	})

	a, b, ratios = nil, nil, nil
	for range 3 {
		var sums, scans []float64
		for range 20 {
			sums = append(sums, timed(func() {
				if p, err := s.Site(t.Context(), site, begin, begin.Add(24*time.Hour)); err != nil || len(p) != 288 || p[100].Miners != miners {
					t.Fatalf("%d points, %v", len(p), err)
				}
			}))
		}
		for range 3 {
			scans = append(scans, timed(func() {
				count(t, pool, `SELECT count(*) FROM (SELECT date_bin('5 minutes', ts, 'epoch'::timestamptz) AS at, count(*), sum(hashrate_mhs), sum(power_dw), max(temp_chip_dc)
					FROM telemetry_hot WHERE site_id = $1 AND ts >= $2 AND ts < $3 GROUP BY at) x`, site, begin, begin.Add(24*time.Hour))
			}))
		}
		a, b = append(a, p95(sums)), append(b, p95(scans))
		ratios = append(ratios, a[len(a)-1]/b[len(b)-1])
	}
	recordResult(t, bench.Result{
		ID: "P11", What: fmt.Sprintf("24 h of a fleet of %d miners at 60 s in steps of 5 minutes, p95, against the scan over rows (a larger fleet makes only the scan longer)", miners),
		Floor: bench.Median(b), Value: bench.Median(a), Unit: "ms", Ratio: bench.Median(ratios), Target: "≤ 1/50 of the scan", Met: bench.Median(ratios) <= 0.02,
		Samples: map[string][]float64{"sums": a, "scan": b, "ratio": ratios},
	})
}

// storageOf is the bytes a sample of blocks and of evidence.
func storageOf(t *testing.T, miners int, span, every time.Duration, parts bool) (blocks, evidence float64) {
	t.Helper()
	pool := pgtest.New(t)
	s := newStore(t, pool, func() time.Time { return noon })
	rows, bytes := fleetHours(t, s, pool, ident.NewSiteID(), newFleet(miners), noon.Add(-span-time.Hour), noon.Add(-time.Hour), every, parts)
	seal(t, s, noon)
	return float64(count(t, pool, blockSize)) / float64(rows), float64(bytes) / float64(rows)
}

func recordResult(t *testing.T, r bench.Result) {
	t.Helper()
	if err := bench.Record(r); err != nil {
		t.Error(err)
	}
}

func timed(f func()) (ms float64) {
	begin := time.Now()
	f()
	return float64(time.Since(begin).Microseconds()) / 1000
}

func p95(samples []float64) float64 {
	s := slices.Clone(samples)
	slices.Sort(s)
	return s[len(s)*95/100]
}
