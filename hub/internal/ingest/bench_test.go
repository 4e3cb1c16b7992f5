//go:build linux

package ingest

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"google.golang.org/protobuf/proto"

	"github.com/hashinsight/hashinsight/hub/internal/audit"
	"github.com/hashinsight/hashinsight/hub/internal/facts"
	"github.com/hashinsight/hashinsight/hub/internal/fleet"
	"github.com/hashinsight/hashinsight/hub/internal/pg"
	"github.com/hashinsight/hashinsight/hub/internal/series"
	"github.com/hashinsight/hashinsight/pkg/bench"
	"github.com/hashinsight/hashinsight/pkg/ident"
	"github.com/hashinsight/hashinsight/pkg/telemetry"
	"github.com/hashinsight/hashinsight/pkg/unit"
	"github.com/hashinsight/hashinsight/pkg/wire"
	telemetryv1 "github.com/hashinsight/hashinsight/proto/telemetry/v1"
)

const (
	benchMiners  = 5000 // and so rows of a batch
	benchBatches = 40   // of one measurement
	benchRounds  = 3
	benchGroup   = 10_000 // rows of one COPY of the floor, as of one transaction of the hub
)

// benchRun is one measurement's batches, and the same rows as COPY streams.
type benchRun struct {
	batches []*telemetryv1.Batch
	copies  [][]byte
}

// benchSide is a hub in one configuration with its own site, and what was measured of it.
type benchSide struct {
	id, what string
	hub      *hub
	site     *site
	sender   *remote
	at       time.Time // of its newest samples

	rate, bare, ratio            []float64 // rows/s
	hubCPU, pgCPU, bareCPU, send []float64 // µs/row: of the hub, of PostgreSQL below the hub and below the floor, of the sender
	wal                          map[string]int64
	bareWAL                      int64
}

// TestBenchIngest measures P6 and P7: batches through the whole hub against bare binary COPY of the same rows into an identical table, alternating
// in one run, on a PostgreSQL that syncs. The sending side is a process of its own.
func TestBenchIngest(t *testing.T) {
	if os.Getenv(senderVariable) != "" {
		runSender(t)
		return
	}
	if os.Getenv(bench.FileVariable) == "" {
		t.Skip("a measurement of a minute: set " + bench.FileVariable + " to the file for its results")
	}
	d, pool := benchDatabase(t)
	var sides []*benchSide
	for writers := 1; writers <= 2; writers++ {
		h, address := newBenchHub(t, pool, writers)
		s := h.newSite(t, fmt.Sprintf("bench-%d", writers), benchMiners)
		sides = append(sides, &benchSide{hub: h, site: s, sender: startSender(t, setupOf(t, h, s, address)),
			at: time.Now().UTC().Truncate(24 * time.Hour).Add(-20 * time.Hour), wal: map[string]int64{}})
	}
	sides[0].id, sides[0].what = "P6", "1 writer"
	sides[1].id, sides[1].what = "P6-two-writers", "2 writers, the default"
	one, two := sides[0], sides[1]
	createBareTable(t, one.hub)

	// A page is open: changes are read once a second, as the API does.
	watch, stop := context.WithCancel(t.Context())
	var watcher sync.WaitGroup
	watcher.Go(func() { watchChanges(watch, one.hub) })
	defer watcher.Wait()
	defer stop()

	for _, side := range sides { // to warm up
		run := makeRun(t, side.site, &side.at, 4)
		side.throughHub(t, run.batches)
		bareCopy(t, pool, run.copies)
	}
	const rows = benchMiners * benchBatches
	payload := 0
	for round := range benchRounds {
		for _, side := range sides {
			run := makeRun(t, side.site, &side.at, benchBatches)
			for _, b := range run.batches {
				payload += len(b.Payload)
			}
			if round%2 == 0 {
				side.measureHub(t, d, run.batches)
				side.measureBare(t, d, run.copies)
			} else {
				side.measureBare(t, d, run.copies)
				side.measureHub(t, d, run.batches)
			}
			last := len(side.rate) - 1
			side.ratio = append(side.ratio, side.rate[last]/side.bare[last])
		}
	}
	const all = 2 * (rows*benchRounds + 4*benchMiners)
	one.hub.want(t, "hot rows", `SELECT count(*) FROM telemetry_hot`, all)
	one.hub.want(t, "bare rows", `SELECT count(*) FROM bare_hot`, all)
	one.hub.want(t, "rows with boards and pools", `SELECT count(*) FROM telemetry_hot WHERE length(detail) > 100`, all)

	for _, side := range sides {
		ratio := bench.Median(side.ratio)
		record(t, bench.Result{
			ID: side.id, What: fmt.Sprintf("hub end to end, %s, one stream over mTLS from another process, batches of %d samples with 3 boards and 2 pools each: authentication, signature, "+
				"validation, ledger row, hot rows, hours noted for the roll-ups (which jobs sum later, not in here), latest rows, signed acknowledgement, live changes read every second; "+
				"against binary COPY of the same rows on one connection, %d at a time, into an identical table", side.what, benchMiners, benchGroup),
			Floor: bench.Median(side.bare), Value: bench.Median(side.rate), Unit: "rows/s", Ratio: ratio, Target: "≥ 0.65 × bare COPY", Met: ratio >= 0.65,
			Samples: map[string][]float64{"hub": side.rate, "bare": side.bare, "ratio": side.ratio},
		})
	}
	cpu := bench.Median(one.hubCPU) / bench.Median(one.pgCPU)
	record(t, bench.Result{
		ID: "P6-cpu", What: fmt.Sprintf("P6: CPU of the hub's process, which sends nothing, against PostgreSQL's; PostgreSQL under bare COPY takes %.2f µs/row, the sender %.2f; with 2 writers the hub %.2f, PostgreSQL %.2f",
			bench.Median(one.bareCPU), bench.Median(one.send), bench.Median(two.hubCPU), bench.Median(two.pgCPU)),
		Floor: bench.Median(one.pgCPU), Value: bench.Median(one.hubCPU), Unit: "µs/row", Ratio: cpu, Target: "≤ 0.5 × PostgreSQL", Met: cpu <= 0.5,
		Samples: map[string][]float64{"hub": one.hubCPU, "postgres": one.pgCPU, "postgres-bare": one.bareCPU, "sender": one.send, "hub-two-writers": two.hubCPU, "postgres-two-writers": two.pgCPU},
	})
	const each = rows * benchRounds
	per := func(class string) float64 { return float64(one.wal[class]) / each }
	value := per("samples") + per("latest") + per("hours") + per("other")
	wal := value * each / float64(one.bareWAL)
	record(t, bench.Result{
		ID: "P7", What: fmt.Sprintf("WAL of P6 without the ledger against that of plain COPY of the same rows: hot rows %.1f B a sample, latest rows %.2f, hours noted %.3f, commits and other %.2f; "+
			"the ledger apart: batch rows with headers %.1f, of which payload %.1f, totals %.3f", per("samples"), per("latest"), per("hours"), per("other"), per("batch"), float64(payload)/(2*each), per("totals")),
		Floor: float64(one.bareWAL) / each, Value: value, Unit: "B/row", Ratio: wal, Target: "≤ 1.05 × plain COPY", Met: wal <= 1.05,
		Samples: map[string][]float64{"samples": {per("samples")}, "latest": {per("latest")}, "hours": {per("hours")}, "other": {per("other")}, "batch": {per("batch")}, "totals": {per("totals")},
			"bare": {float64(one.bareWAL) / each}},
	})
}

// measureHub sends batches through the hub.
func (s *benchSide) measureHub(t *testing.T, d *database, batches []*telemetryv1.Batch) {
	t.Helper()
	rows := float64(len(batches) * benchMiners)
	file := writeGroup(t, batches)
	s.sender.report(file)
	checkpoint(t, s.hub.pool)
	lsn, self, server := walPosition(t, s.hub), processCPU(), d.cpu()
	result := s.sender.report("send")
	self, server = processCPU()-self, d.cpu()-server
	s.hubCPU, s.pgCPU, s.send = append(s.hubCPU, self/rows*1e6), append(s.pgCPU, server/rows*1e6), append(s.send, result.CPU/rows*1e6)
	s.rate = append(s.rate, rows/result.Seconds)
	for class, n := range walByClass(t, s.hub, lsn) {
		s.wal[class] += n
	}
}

// measureBare copies the same rows.
func (s *benchSide) measureBare(t *testing.T, d *database, streams [][]byte) {
	t.Helper()
	const rows = benchBatches * benchMiners
	checkpoint(t, s.hub.pool)
	lsn, server := walPosition(t, s.hub), d.cpu()
	took := bareCopy(t, s.hub.pool, streams)
	s.bareCPU = append(s.bareCPU, (d.cpu()-server)/rows*1e6)
	s.bare = append(s.bare, rows/took.Seconds())
	for _, n := range walByClass(t, s.hub, lsn) {
		s.bareWAL += n
	}
}

func (s *benchSide) throughHub(t *testing.T, batches []*telemetryv1.Batch) {
	t.Helper()
	s.sender.report(writeGroup(t, batches))
	s.sender.report("send")
}

// writeGroup writes batches for a sender.
func writeGroup(t *testing.T, batches []*telemetryv1.Batch) (file string) {
	t.Helper()
	b, err := proto.Marshal(&telemetryv1.BatchGroup{Batches: batches})
	if err != nil {
		t.Fatal(err)
	}
	file = filepath.Join(t.TempDir(), "batches")
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// newBenchHub is a hub on a real socket.
func newBenchHub(t *testing.T, pool *pgxpool.Pool, writers int) (h *hub, address string) {
	t.Helper()
	return newBenchHubWith(t, pool, func(c *Config) { c.Writers = writers })
}

func newBenchHubWith(t *testing.T, pool *pgxpool.Pool, change func(*Config)) (h *hub, address string) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	h = &hub{pool: pool, ca: newAuthority(t)}
	var err error
	h.fleet, err = fleet.New(fleet.Config{Pool: pool})
	must(err)
	latest, err := fleet.NewLatest(fleet.LatestConfig{})
	must(err)
	h.series, err = series.New(series.Config{Pool: pool})
	must(err)
	var private ed25519.PrivateKey
	h.public, private, err = ed25519.GenerateKey(rand.Reader)
	must(err)
	entries, err := audit.New(audit.Config{})
	must(err)
	h.facts, err = facts.New(facts.Config{Pool: pool, Audit: entries, Password: "a password of this test"})
	must(err)
	c := Config{Pool: pool, Fleet: h.fleet, Latest: latest, Series: h.series, Facts: h.facts, Key: private, TLS: h.ca.serverTLS(t)}
	change(&c)
	h.server, err = NewServer(c)
	must(err)
	lis, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	must(err)
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- h.server.Serve(ctx, lis) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	return h, lis.Addr().String()
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
		`CREATE EXTENSION pg_walinspect`, // of PostgreSQL's own contrib modules
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
	r := newRunMaker(t, s)
	for range batches {
		*at = at.Add(10 * time.Second)
		r.add(benchPolls(s, s.miners, *at))
	}
	return r.done()
}

// runMaker makes the batches of a run and their rows.
type runMaker struct {
	t       *testing.T
	site    *site
	dec     *wire.Decoder
	run     benchRun
	waiting []series.Batch // for their COPY
	rows    int            // of those
}

func newRunMaker(t *testing.T, s *site) *runMaker {
	t.Helper()
	dec, err := wire.NewDecoder()
	if err != nil {
		t.Fatal(err)
	}
	return &runMaker{t: t, site: s, dec: dec}
}

func (r *runMaker) add(obs []telemetry.Observation) {
	r.t.Helper()
	b := r.site.batchOf(r.t, obs, nil)
	samples, err := r.dec.Samples(b.Payload)
	if err != nil {
		r.t.Fatal(err)
	}
	r.run.batches = append(r.run.batches, b)
	r.waiting, r.rows = append(r.waiting, series.Batch{Site: r.site.id, Samples: samples}), r.rows+samples.Len()
	if r.rows >= benchGroup {
		r.flush()
	}
}

func (r *runMaker) flush() {
	r.t.Helper()
	stream, err := io.ReadAll(series.NewCopyReader(r.waiting, series.Span{EndMS: 1 << 60}))
	if err != nil {
		r.t.Fatal(err)
	}
	r.run.copies, r.waiting, r.rows = append(r.run.copies, stream), nil, 0
}

func (r *runMaker) done() benchRun {
	r.t.Helper()
	if r.rows > 0 {
		r.flush()
	}
	r.dec.Close()
	return r.run
}

// benchPolls makes a poll of each miner as stock firmware answers: 3 boards, 2 pools, values that differ from poll to poll.
func benchPolls(s *site, miners []ident.MinerID, at time.Time) []telemetry.Observation {
	obs := make([]telemetry.Observation, 0, len(miners))
	for i, m := range miners {
		s.counter++
		n, drift := s.counter, float64(s.counter*2654435761%1000)
		o := telemetry.Observation{
			Miner: m, At: at.Add(time.Duration(i%500*2) * time.Millisecond), Took: time.Duration(200+n%300) * time.Millisecond, Outcome: telemetry.OutcomeOK, State: telemetry.StateHashing,
			Hashrate: unit.Some(unit.Hashrate(100e12 + drift*1e9)), HashrateWindow: unit.Some(5 * time.Second), HashrateAvg: unit.Some(unit.Hashrate(100e12 + drift*1e7)),
			Uptime: unit.Some(at.Sub(at.Truncate(24 * time.Hour))), TempBoard: unit.Some(unit.Celsius(60 + drift/100)), TempChip: unit.Some(unit.Celsius(75 + drift/100)),
			TempInlet: unit.Some(unit.Celsius(25)), Power: unit.Some(unit.Watts(3200 + drift/10)), Accepted: unit.Some(n / 7), Rejected: unit.Some(n / 1000), HardwareErrors: unit.Some(n / 500),
			BestShare: unit.Some(n), Fans: []unit.Opt[unit.RPM]{unit.Some(unit.RPM(5880)), unit.Some(unit.RPM(5900 + n%60)), unit.Some(unit.RPM(6000)), unit.Some(unit.RPM(5940))},
			Boards: make([]telemetry.Board, 0, 3),
		}
		for b := range int32(3) {
			warm := unit.Celsius(58 + b + int32(n%5))
			o.Boards = append(o.Boards, telemetry.Board{
				Index: b, Chips: unit.Some(int32(126)), Hashrate: unit.Some(unit.Hashrate(33e12 + drift*1e9 + float64(b)*1e10)), FrequencyMHz: unit.Some(525.0),
				HardwareErrors: unit.Some(n / 1500), Temps: []unit.Celsius{warm, warm + 2, warm + 14, warm + 17},
			})
		}
		for p := range int32(2) {
			o.Pools = append(o.Pools, telemetry.Pool{
				URL: "pool" + strconv.Itoa(int(p)) + ".example:3333", Worker: "farm." + strconv.Itoa(i), Priority: unit.Some(p), Alive: unit.Some(true), Active: unit.Some(p == 0),
				Accepted: unit.Some(n / 7 * int64(1-p)), Rejected: unit.Some(n / 1000 * int64(1-p)), Stale: unit.Some(int64(0)), DiffAccepted: unit.Some(n * 9000 * int64(1-p)),
			})
		}
		obs = append(obs, o)
	}
	return obs
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

// qWAL adds up the write-ahead log since a position by what it is of. A record's relation is that of its first block.
const qWAL = `
SELECT CASE WHEN o.name ~ '^(telemetry|bare)_hot' THEN 'samples' WHEN o.name ~ '^batch_total' THEN 'totals' WHEN o.name ~ '^batch' THEN 'batch'
	WHEN o.name ~ '^miner' THEN 'latest' WHEN o.name ~ '^block_dirty' THEN 'hours' ELSE 'other' END, sum(w.bytes)::bigint
FROM (SELECT (regexp_match(block_ref, 'rel [0-9]+/[0-9]+/([0-9]+)'))[1]::oid AS node, sum((record_length + 7) / 8 * 8) AS bytes
	FROM pg_get_wal_records_info($1::bigint + '0/0'::pg_lsn, pg_current_wal_flush_lsn()) GROUP BY 1) w
LEFT JOIN LATERAL (SELECT coalesce(owner.relname, c.relname) AS name FROM pg_class c
	LEFT JOIN pg_index i ON i.indexrelid = c.oid LEFT JOIN pg_class owner ON owner.reltoastrelid = coalesce(i.indrelid, c.oid)
	WHERE c.relfilenode = w.node) o ON true
GROUP BY 1`

// walByClass is the write-ahead log since a position, in bytes by what was written.
func walByClass(t *testing.T, h *hub, from int64) map[string]int64 {
	t.Helper()
	rows, err := h.pool.Query(t.Context(), qWAL, from)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]int64{}
	var class string
	var n int64
	if _, err := pgx.ForEachRow(rows, []any{&class, &n}, func() error { out[class] += n; return nil }); err != nil {
		t.Fatal(err)
	}
	return out
}

// ticksPerSecond is USER_HZ, which Linux fixes for its interfaces.
const ticksPerSecond = 100

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
