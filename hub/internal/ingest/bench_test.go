//go:build linux

package ingest

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/hashinsight/hashinsight/hub/internal/pg"
	"github.com/hashinsight/hashinsight/hub/internal/series"
	"github.com/hashinsight/hashinsight/pkg/bench"
	"github.com/hashinsight/hashinsight/pkg/evidence"
	"github.com/hashinsight/hashinsight/pkg/telemetry"
	"github.com/hashinsight/hashinsight/pkg/unit"
	"github.com/hashinsight/hashinsight/pkg/wire"
	telemetryv1 "github.com/hashinsight/hashinsight/proto/telemetry/v1"
)

const (
	benchMiners  = 5000 // and so rows of a batch
	benchBatches = 60   // of one measurement
	benchRounds  = 5
)

// benchRun is one measurement's batches, and the same rows as COPY streams.
type benchRun struct {
	batches []*telemetryv1.Batch
	copies  [][]byte
}

// TestBenchIngest measures P6 and P7: batches through the whole hub against bare binary COPY of the same rows into an identical table, alternating
// in one run, on a PostgreSQL that syncs.
func TestBenchIngest(t *testing.T) {
	if os.Getenv(bench.FileVariable) == "" {
		t.Skip("a measurement of a minute: set " + bench.FileVariable + " to the file for its results")
	}
	d, pool := benchDatabase(t)
	h := newHubOn(t, pool, nil)
	s := h.newSite(t, "bench", benchMiners)
	l := h.connect(t, s)
	createBareTable(t, h)

	// A page is open: changes are read once a second, as the API does.
	watch, stop := context.WithCancel(t.Context())
	var watcher sync.WaitGroup
	watcher.Go(func() { watchChanges(watch, h) })
	defer watcher.Wait()
	defer stop()

	at := time.Now().UTC().Truncate(24 * time.Hour).Add(-20 * time.Hour)
	warm := makeRun(t, s, &at, 5)
	throughHub(t, l, warm.batches)
	bareCopy(t, pool, warm.copies)

	var hubRate, bareRate, ratios, hubCPU, pgCPU []float64
	var hubWAL, bareWAL int64
	const rows = benchMiners * benchBatches
	for range benchRounds {
		run := makeRun(t, s, &at, benchBatches)
		checkpoint(t, pool)
		lsn, self, server := walPosition(t, h), selfCPU(t), d.cpu()
		took := throughHub(t, l, run.batches)
		hubCPU, pgCPU = append(hubCPU, (selfCPU(t)-self)/rows*1e6), append(pgCPU, (d.cpu()-server)/rows*1e6)
		hubWAL += walPosition(t, h) - lsn
		hubRate = append(hubRate, rows/took.Seconds())

		checkpoint(t, pool)
		lsn = walPosition(t, h)
		took = bareCopy(t, pool, run.copies)
		bareWAL += walPosition(t, h) - lsn
		bareRate = append(bareRate, rows/took.Seconds())
		ratios = append(ratios, hubRate[len(hubRate)-1]/bareRate[len(bareRate)-1])
	}
	h.want(t, "hot rows", `SELECT count(*) FROM telemetry_hot`, rows*benchRounds+5*benchMiners)
	h.want(t, "bare rows", `SELECT count(*) FROM bare_hot`, rows*benchRounds+5*benchMiners)

	// The ledger's share of the WAL: batches of the same payload bytes whose samples are not unpacked.
	var opaque []*telemetryv1.Batch
	run := makeRun(t, s, &at, benchBatches)
	s.seq -= benchBatches
	for _, b := range run.batches {
		opaque = append(opaque, s.sign(evidence.KindHour, evidence.CodecZstd, b.Payload, wire.Meta{Samples: benchMiners, Miners: benchMiners}))
	}
	checkpoint(t, pool)
	lsn := walPosition(t, h)
	throughHub(t, l, opaque)
	ledgerWAL := (walPosition(t, h) - lsn) * benchRounds
	samplesWAL := float64(hubWAL - ledgerWAL)

	payload := 0
	for _, b := range run.batches {
		payload += len(b.Payload)
	}
	record(t, bench.Result{
		ID: "P6", What: fmt.Sprintf("hub end to end, one stream over mTLS, batches of %d samples, 2 writers, live changes read every second, without roll-ups (none exist yet), against bare binary COPY on one connection",
			benchMiners), Floor: bench.Median(bareRate), Value: bench.Median(hubRate), Unit: "rows/s", Ratio: bench.Median(ratios), Target: "≥ 0.65 × bare COPY",
		Met: bench.Median(ratios) >= 0.65, Samples: map[string][]float64{"hub": hubRate, "bare": bareRate, "ratio": ratios},
	})
	cpu := bench.Median(hubCPU) / bench.Median(pgCPU)
	record(t, bench.Result{
		ID: "P6-cpu", What: "the same: CPU of the hub's process, which here holds the sending side of the stream too, against PostgreSQL's", Floor: bench.Median(pgCPU),
		Value: bench.Median(hubCPU), Unit: "µs/row", Ratio: cpu, Target: "≤ 0.5 × PostgreSQL", Met: cpu <= 0.5, Samples: map[string][]float64{"hub": hubCPU, "postgres": pgCPU},
	})
	wal := samplesWAL / float64(bareWAL)
	const all = rows * benchRounds
	record(t, bench.Result{
		ID: "P7", What: fmt.Sprintf("WAL of samples and latest rows against WAL of plain COPY of the samples; the ledger apart: %.1f B a sample, of which payload %.1f",
			float64(ledgerWAL)/all, float64(payload)/rows), Floor: float64(bareWAL) / all, Value: samplesWAL / all, Unit: "B/row", Ratio: wal,
		Target: "≤ 1.05 × plain COPY", Met: wal <= 1.05, Samples: map[string][]float64{"hub": {float64(hubWAL)}, "ledger": {float64(ledgerWAL)}, "bare": {float64(bareWAL)}},
	})
}

func record(t *testing.T, r bench.Result) {
	t.Helper()
	if err := bench.Record(r); err != nil {
		t.Error(err)
	}
}

// benchDatabase is a PostgreSQL of its own, with all safety on.
func benchDatabase(t *testing.T) (*database, *pgxpool.Pool) {
	t.Helper()
	d := newDatabase(t)
	if _, err := pg.Migrate(t.Context(), d.e.URL(), nil); err != nil {
		t.Fatal(err)
	}
	cfg, err := pg.PoolConfig(d.e.URL())
	if err != nil {
		t.Fatal(err)
	}
	pool, err := pgxpool.NewWithConfig(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return d, pool
}

// createBareTable makes bare_hot like telemetry_hot, with the same indexes and partitions.
func createBareTable(t *testing.T, h *hub) {
	t.Helper()
	today := time.Now().UTC().Truncate(24 * time.Hour)
	sql := []string{
		`CREATE TABLE bare_hot (LIKE telemetry_hot) PARTITION BY RANGE (ts)`,
		`CREATE INDEX ON bare_hot (miner_id, ts)`, `CREATE INDEX ON bare_hot USING brin (ts)`,
	}
	for i, from := range []time.Time{today.Add(-24 * time.Hour), today} {
		sql = append(sql, fmt.Sprintf(`CREATE TABLE bare_hot_%d PARTITION OF bare_hot FOR VALUES FROM ('%s') TO ('%s')`,
			i, from.Format(time.RFC3339), from.Add(24*time.Hour).Format(time.RFC3339)))
	}
	for _, q := range sql {
		if _, err := h.pool.Exec(t.Context(), q); err != nil {
			t.Fatal(err)
		}
	}
}

// makeRun makes batches of one poll of every miner, 10 s apart.
func makeRun(t *testing.T, s *site, at *time.Time, batches int) benchRun {
	t.Helper()
	dec, err := wire.NewDecoder()
	if err != nil {
		t.Fatal(err)
	}
	defer dec.Close()
	var run benchRun
	for range batches {
		*at = at.Add(10 * time.Second)
		obs := make([]telemetry.Observation, 0, len(s.miners))
		for i, m := range s.miners {
			s.counter++
			n, drift := s.counter, float64(s.counter*2654435761%1000)
			obs = append(obs, telemetry.Observation{
				Miner: m, At: at.Add(time.Duration(i*2) * time.Millisecond), Took: time.Duration(200+n%300) * time.Millisecond, Outcome: telemetry.OutcomeOK, State: telemetry.StateHashing,
				Hashrate: unit.Some(unit.Hashrate(100e12 + drift*1e9)), HashrateWindow: unit.Some(5 * time.Second), HashrateAvg: unit.Some(unit.Hashrate(100e12 + drift*1e7)),
				Uptime: unit.Some(at.Sub(at.Truncate(24 * time.Hour))), TempBoard: unit.Some(unit.Celsius(60 + drift/100)), TempChip: unit.Some(unit.Celsius(75 + drift/100)),
				TempInlet: unit.Some(unit.Celsius(25)), Power: unit.Some(unit.Watts(3200 + drift/10)), Accepted: unit.Some(n / 7), Rejected: unit.Some(n / 1000), HardwareErrors: unit.Some(n / 500),
				BestShare: unit.Some(n), Fans: []unit.Opt[unit.RPM]{unit.Some(unit.RPM(5880)), unit.Some(unit.RPM(5900 + n%60)), unit.Some(unit.RPM(6000)), unit.Some(unit.RPM(5940))},
			})
		}
		b := s.batchOf(t, obs, nil)
		samples, err := dec.Samples(b.Payload)
		if err != nil {
			t.Fatal(err)
		}
		stream, err := io.ReadAll(series.NewCopyReader([]series.Batch{{Site: s.id, Samples: samples}}, series.Span{EndMS: 1 << 60}))
		if err != nil {
			t.Fatal(err)
		}
		run.batches, run.copies = append(run.batches, b), append(run.copies, stream)
	}
	return run
}

// throughHub sends batches as fast as the hub takes them and returns when the last is acknowledged.
func throughHub(t *testing.T, l *link, batches []*telemetryv1.Batch) time.Duration {
	t.Helper()
	begin := time.Now()
	var sender sync.WaitGroup
	sender.Go(func() {
		for _, b := range batches {
			if err := l.stream.Send(&telemetryv1.StreamRequest{Message: &telemetryv1.StreamRequest_Batches{Batches: &telemetryv1.BatchGroup{Batches: []*telemetryv1.Batch{b}}}}); err != nil {
				return // Recv tells why
			}
		}
	})
	for range batches {
		if r := l.recv(); r.GetAck().GetDisposition() != stored {
			t.Fatalf("answer %v, want an acknowledgement", r)
		}
	}
	sender.Wait()
	return time.Since(begin)
}

// bareCopy copies each stream in a transaction of its own on one connection.
func bareCopy(t *testing.T, pool *pgxpool.Pool, streams [][]byte) time.Duration {
	t.Helper()
	conn, err := pool.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Release()
	sql := strings.Replace(series.CopySQL, "telemetry_hot", "bare_hot", 1)
	begin := time.Now()
	for _, b := range streams {
		if _, err := conn.Conn().PgConn().CopyFrom(t.Context(), bytes.NewReader(b), sql); err != nil {
			t.Fatal(err)
		}
	}
	return time.Since(begin)
}

func watchChanges(ctx context.Context, h *hub) {
	var version uint64
	for {
		snap, err := h.fleet.Changes(ctx, version)
		if err == nil {
			version = snap.Version
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Second):
		}
	}
}

func checkpoint(t *testing.T, pool *pgxpool.Pool) {
	t.Helper()
	if _, err := pool.Exec(t.Context(), `CHECKPOINT`, pgx.QueryExecModeSimpleProtocol); err != nil {
		t.Fatal(err)
	}
}

func walPosition(t *testing.T, h *hub) int64 {
	t.Helper()
	return h.count(t, `SELECT (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::bigint`)
}

// ticksPerSecond is USER_HZ, which Linux fixes for its interfaces.
const ticksPerSecond = 100

func selfCPU(t *testing.T) float64 {
	t.Helper()
	return float64(ticks(t, os.Getpid(), false)) / ticksPerSecond
}

// cpu is the CPU time of the server and all its processes, ended ones included, in seconds.
func (d *database) cpu() float64 {
	d.t.Helper()
	file, err := os.ReadFile(filepath.Join(d.dir, "data", "postmaster.pid"))
	if err != nil {
		d.t.Fatal(err)
	}
	first, _, _ := strings.Cut(string(file), "\n")
	postmaster, err := strconv.Atoi(first)
	if err != nil {
		d.t.Fatal(err)
	}
	sum := ticks(d.t, postmaster, true)
	children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", postmaster, postmaster))
	if err != nil {
		d.t.Fatal(err)
	}
	for _, c := range strings.Fields(string(children)) {
		if pid, err := strconv.Atoi(c); err == nil {
			sum += ticks(d.t, pid, false)
		}
	}
	return float64(sum) / ticksPerSecond
}

// ticks reads user and system time of a process, with that of its ended children if asked; 0 when it is gone.
func ticks(t *testing.T, pid int, ended bool) (sum int64) {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:])) // the name before may hold anything
	last := 12
	if ended {
		last = 14
	}
	for _, f := range fields[11 : last+1] { // utime, stime, cutime, cstime
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		sum += n
	}
	return sum
}
