package series

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/hashinsight/hashinsight/hub/internal/pg"
	"github.com/hashinsight/hashinsight/hub/pgtest"
	"github.com/hashinsight/hashinsight/pkg/ident"
	"github.com/hashinsight/hashinsight/pkg/telemetry"
	"github.com/hashinsight/hashinsight/pkg/unit"
	"github.com/hashinsight/hashinsight/pkg/wire"
)

// noon is the time that stands still in most tests here.
var noon = time.Date(2026, 3, 10, 12, 0, 0, 0, time.UTC)

func samplesOf(t *testing.T, obs []telemetry.Observation) *wire.Samples {
	t.Helper()
	s, _ := packed(t, obs)
	return s
}

// packed is obs as a batch has them, and the bytes of its payload.
func packed(t *testing.T, obs []telemetry.Observation) (*wire.Samples, int) {
	t.Helper()
	enc, err := wire.NewEncoder()
	if err != nil {
		t.Fatal(err)
	}
	payload, _, err := enc.Samples(obs, nil)
	if err != nil {
		t.Fatal(err)
	}
	dec, err := wire.NewDecoder()
	if err != nil {
		t.Fatal(err)
	}
	defer dec.Close()
	s, err := dec.Samples(payload)
	if err != nil {
		t.Fatal(err)
	}
	return s, len(payload)
}

func newStore(t *testing.T, pool *pgxpool.Pool, now func() time.Time) *Store {
	t.Helper()
	s, err := New(Config{Pool: pool, Now: now})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// write stores batches as ingest does: again when another process has dropped a partition meanwhile.
func write(t *testing.T, s *Store, pool *pgxpool.Pool, batches []Batch) (rows int64) {
	t.Helper()
	for {
		span, err := s.Prepare(t.Context(), batches)
		if err != nil {
			t.Fatal(err)
		}
		err = pg.InTx(t.Context(), pool, func(tx pgx.Tx) error {
			var err error
			rows, err = s.Copy(t.Context(), tx, batches, span)
			return err
		})
		if s.PartitionGone(err) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		return rows
	}
}

func TestCopyWritesEveryReadingAndNoneThatIsAbsent(t *testing.T) {
	pool := pgtest.New(t)
	s := newStore(t, pool, func() time.Time { return noon })
	site, full, empty := ident.NewSiteID(), ident.NewMinerID(), ident.NewMinerID()
	at := noon.Add(-123 * time.Millisecond)
	n := unit.Some[int64]
	rows := write(t, s, pool, []Batch{{site, samplesOf(t, []telemetry.Observation{
		{
			Miner: full, At: at, Took: 250 * time.Millisecond, Outcome: telemetry.OutcomePartial, State: telemetry.StateDegraded, Flags: telemetry.FlagClockStep,
			Hashrate: unit.Some(unit.Hashrate(101e12)), HashrateWindow: unit.Some(5 * time.Second), HashrateAvg: unit.Some(unit.Hashrate(99e12)),
			Hashes: n(1 << 50), Uptime: unit.Some(time.Hour), TempBoard: unit.Some(unit.Celsius(-3.5)), TempChip: unit.Some(unit.Celsius(81)),
			TempInlet: unit.Some(unit.Celsius(0)), Power: unit.Some(unit.Watts(3250.4)), Energy: n(7), Accepted: n(1), Rejected: n(2), Stale: n(0),
			FanPercent: unit.Some(int32(70)), Boards: []telemetry.Board{{Index: 2, Chips: unit.Some(int32(110))}}, Pools: []telemetry.Pool{{URL: "pool:3333", Worker: "a.b"}},
			DiffAccepted: n(4), HardwareErrors: n(5), BestShare: n(1 << 60), Fans: []unit.Opt[unit.RPM]{unit.Some(unit.RPM(0)), {}, {}, unit.Some(unit.RPM(4))},
		},
		{Miner: empty, At: at, Outcome: telemetry.OutcomeRefused},
	})}})
	if rows != 2 {
		t.Fatalf("%d rows, want 2", rows)
	}
	for name, sql := range map[string]string{
		"full": `SELECT count(*) FROM telemetry_hot WHERE miner_id = $1 AND site_id = $2 AND ts = $3 AND hashrate_mhs = 101000000 AND hashrate_avg_mhs = 99000000
			AND hashes_mh = 1125899906842624 AND accepted = 1 AND rejected = 2 AND stale = 0 AND diff_accepted = 4 AND hw_errors = 5 AND best_share = 1152921504606846976
			AND energy_j = 7 AND hashrate_window_s = 5 AND temp_board_dc = -35 AND temp_chip_dc = 810 AND temp_inlet_dc = 0 AND fan1_rpm = 0 AND fan2_rpm IS NULL
			AND fan3_rpm IS NULL AND fan4_rpm = 4 AND power_dw = 32504 AND uptime_s = 3600 AND took_ms = 250 AND flags = 1 AND outcome = 2 AND state = 2
			AND position('pool:3333'::bytea IN detail) > 0`,
		"empty": `SELECT count(*) FROM telemetry_hot WHERE miner_id = $1 AND site_id = $2 AND ts = $3 AND outcome = 3 AND state = 0 AND flags = 0 AND took_ms = 0
			AND num_nulls(detail, hashrate_mhs, hashrate_avg_mhs, hashes_mh, accepted, rejected, stale, diff_accepted, hw_errors, best_share, energy_j, hashrate_window_s,
			temp_board_dc, temp_chip_dc, temp_inlet_dc, fan1_rpm, fan2_rpm, fan3_rpm, fan4_rpm, power_dw, uptime_s) = 21`,
	} {
		var found int
		id := map[string]ident.MinerID{"full": full, "empty": empty}[name]
		if err := pool.QueryRow(t.Context(), sql, id[:], site[:], at).Scan(&found); err != nil || found != 1 {
			t.Errorf("%s row: found %d, %v", name, found, err)
		}
	}
}

func TestCopyReaderGivesTheSameBytesWhateverTheBuffer(t *testing.T) {
	var obs []telemetry.Observation
	for i := range 700 {
		obs = append(obs, telemetry.Observation{Miner: ident.NewMinerID(), At: noon.Add(time.Duration(i) * time.Second), Outcome: telemetry.OutcomeOK, Accepted: unit.Some(int64(i))})
	}
	batches := []Batch{{ident.NewSiteID(), samplesOf(t, obs[:300])}, {ident.NewSiteID(), samplesOf(t, obs[300:])}}
	span := Span{0, 1 << 60}
	whole, err := io.ReadAll(NewCopyReader(batches, span))
	if err != nil {
		t.Fatal(err)
	}
	single, err := io.ReadAll(iotest.OneByteReader(NewCopyReader(batches, span)))
	if err != nil {
		t.Fatal(err)
	}
	var large bytes.Buffer
	if _, err := io.CopyBuffer(&large, struct{ io.Reader }{NewCopyReader(batches, span)}, make([]byte, 2*maxRow)); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(whole, single) || !bytes.Equal(whole, large.Bytes()) {
		t.Errorf("%d, %d and %d bytes that differ", len(whole), len(single), large.Len())
	}
	if empty, err := io.ReadAll(NewCopyReader(nil, span)); err != nil || len(empty) != 21 {
		t.Errorf("no rows: %d bytes, %v, want header and end", len(empty), err)
	}
}

func TestPartitionsAreMadeAheadOnDemandAndDroppedBehind(t *testing.T) {
	pool := pgtest.New(t)
	now := noon
	s := newStore(t, pool, func() time.Time { return now })
	days := func() []string {
		t.Helper()
		rows, err := pool.Query(t.Context(), qPartition)
		if err != nil {
			t.Fatal(err)
		}
		names, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			t.Fatal(err)
		}
		for i := range names {
			names[i] = names[i][len(names[i])-4:]
		}
		return names
	}
	maintain(t, s)
	if got := days(); !slices.Equal(got, []string{"0310", "0311", "0312"}) {
		t.Fatalf("partitions after the first round: %v", got)
	}
	site, miner := ident.NewSiteID(), ident.NewMinerID()
	late := Batch{site, samplesOf(t, []telemetry.Observation{
		{Miner: miner, At: noon.Add(-75 * time.Hour), Outcome: telemetry.OutcomeOK}, // the 7th: the oldest day that is kept
		{Miner: miner, At: noon.Add(-15 * day), Outcome: telemetry.OutcomeOK},       // later than any sample may come
		{Miner: miner, At: noon.Add(25 * time.Hour), Outcome: telemetry.OutcomeOK},
	})}
	if rows := write(t, s, pool, []Batch{late}); rows != 1 {
		t.Errorf("%d rows of late samples, want the one within the range", rows)
	}
	if got := days(); !slices.Contains(got, "0307") || slices.Contains(got, "0306") {
		t.Errorf("partitions after late samples: %v", got)
	}
	now = now.Add(46 * time.Hour)
	seal(t, s, now)
	now = now.Add(2 * time.Hour)
	maintain(t, s)
	if got := days(); slices.Contains(got, "0307") || !slices.Contains(got, "0310") || !slices.Contains(got, "0314") {
		t.Errorf("partitions two days later: %v", got)
	}

	// Another process has dropped a partition that this one believes in.
	batch := Batch{site, samplesOf(t, []telemetry.Observation{{Miner: miner, At: now, Outcome: telemetry.OutcomeOK}})}
	if _, err := pool.Exec(t.Context(), `DROP TABLE telemetry_hot_20260312`); err != nil {
		t.Fatal(err)
	}
	span, err := s.Prepare(t.Context(), []Batch{batch})
	if err != nil {
		t.Fatal(err)
	}
	err = pg.InTx(t.Context(), pool, func(tx pgx.Tx) error {
		_, err := s.Copy(t.Context(), tx, []Batch{batch}, span)
		return err
	})
	if !s.PartitionGone(err) {
		t.Fatalf("copy without a partition: %v", err)
	}
	if rows := write(t, s, pool, []Batch{batch}); rows != 1 {
		t.Errorf("%d rows after the repair, want 1", rows)
	}
}

// Every hub process makes and drops partitions when its turn comes; at once they do it like one.
func TestPartitionsAreMadeAndDroppedByManyProcessesAtOnce(t *testing.T) {
	pool := pgtest.New(t)
	now := noon
	stores := make([]*Store, 4)
	for i := range stores {
		stores[i] = newStore(t, pool, func() time.Time { return now })
	}
	for _, want := range []int{3, 3} { // three made; ten days later these are dropped and three others made
		var all sync.WaitGroup
		for _, s := range stores {
			all.Go(func() { maintain(t, s) })
		}
		all.Wait()
		var n int
		if err := pool.QueryRow(t.Context(), `SELECT count(*) FROM pg_inherits WHERE inhparent = 'telemetry_hot'::regclass`).Scan(&n); err != nil || n != want {
			t.Errorf("%d partitions on %s, want %d; %v", n, now, want, err)
		}
		now = now.Add(10 * day)
	}
}

func maintain(t *testing.T, s *Store) {
	t.Helper()
	if err := errors.Join(s.MakePartitions(t.Context()), s.Retain(t.Context(), s.c.Now())); err != nil {
		t.Error(err)
	}
}

func TestSeriesSumsUpStepsAndShowsEmptyOnes(t *testing.T) {
	pool := pgtest.New(t)
	s := newStore(t, pool, func() time.Time { return noon })
	site, miner := ident.NewSiteID(), ident.NewMinerID()
	var obs []telemetry.Observation
	for i := range 6 { // polls of 10 s: one minute, of which the last two failed
		o := telemetry.Observation{Miner: miner, At: noon.Add(-time.Hour + time.Duration(i)*10*time.Second), Outcome: telemetry.OutcomeTimeout}
		if i < 4 {
			o.Outcome, o.Hashrate = telemetry.OutcomeOK, unit.Some(unit.Hashrate(float64(100+i)*1e12))
		}
		obs = append(obs, o)
	}
	write(t, s, pool, []Batch{{site, samplesOf(t, obs)}})
	q := Query{Site: site, Miner: miner, From: noon.Add(-time.Hour - 90*time.Second), To: noon.Add(-time.Hour + 3*time.Minute), Step: time.Minute}
	points, err := s.Miner(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	if len(points) != 5 {
		t.Fatalf("%d points, want 5", len(points))
	}
	p := points[2]
	if rate, _ := p.Hashrate.Get(); p.Polls != 6 || p.Answered != 4 || rate != 101.5e12 || p.TempBoard.Present() || !p.At.Equal(noon.Add(-time.Hour)) {
		t.Errorf("point %+v", p)
	}
	if points[1].Polls != 0 || points[1].Hashrate.Present() {
		t.Errorf("empty point %+v", points[1])
	}
	for name, bad := range map[string]Query{
		"too many steps": {site, miner, noon.Add(-24 * time.Hour), noon, time.Second},
		"no span":        {site, miner, noon, noon, time.Minute},
		"no step":        {site, miner, noon.Add(-time.Hour), noon, 0},
	} {
		if _, err := s.Miner(t.Context(), bad); !errors.Is(err, ErrQuery) {
			t.Errorf("%s: %v, want ErrQuery", name, err)
		}
	}
}
