package series

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/klauspost/compress/zstd"
	"google.golang.org/protobuf/proto"

	"github.com/hashinsight/hashinsight/hub/pgtest"
	"github.com/hashinsight/hashinsight/pkg/ident"
	"github.com/hashinsight/hashinsight/pkg/telemetry"
	"github.com/hashinsight/hashinsight/pkg/unit"
	"github.com/hashinsight/hashinsight/pkg/wire"
	samplesv1 "github.com/hashinsight/hashinsight/proto/samples/v1"
)

// story is the polls of a few miners over some hours, some of them failed.
func story(rng *rand.Rand, miners []ident.MinerID, from time.Time, hours int, every time.Duration) []telemetry.Observation {
	var out []telemetry.Observation
	for n, m := range miners {
		var hashes, accepted int64
		started := from.Add(-time.Duration(n) * time.Hour)
		for at := from; at.Before(from.Add(time.Duration(hours) * time.Hour)); at = at.Add(every) {
			o := telemetry.Observation{Miner: m, At: at.Add(time.Duration(rng.IntN(2000)) * time.Millisecond), Outcome: telemetry.OutcomeOK, State: telemetry.StateHashing}
			if rng.IntN(200) == 0 { // the mining program starts again
				started, hashes, accepted = at, 0, 0
			}
			hashes += 100e6 * int64(every/time.Second)
			accepted += int64(rng.IntN(4))
			if rng.IntN(20) == 0 {
				o.Outcome, o.State, o.Errors = telemetry.OutcomeTimeout, telemetry.StateUnknown, []string{"no answer"}
				out = append(out, o)
				continue
			}
			rate := unit.Hashrate(99e6+rng.IntN(2e6)) * unit.MegahashPerSecond
			o.Hashrate, o.HashrateAvg, o.IdealHashrate = unit.Some(rate), unit.Some(rate-5e9), unit.Some(unit.Hashrate(100e12))
			o.TempChip, o.TempBoard = unit.Some(unit.Celsius(70+rng.IntN(100))/10), unit.Some(unit.Celsius(rng.IntN(700))/10)
			o.Power, o.Hashes, o.Accepted = unit.Some(unit.Watts(32000+rng.IntN(99))/10), unit.Some(hashes), unit.Some(accepted)
			o.Uptime = unit.Some(at.Sub(started).Truncate(time.Second))
			o.Fans = []unit.Opt[unit.RPM]{unit.Some(unit.RPM(4000 + rng.IntN(500))), {}, unit.Some(unit.RPM(4100 + rng.IntN(500)))}
			o.Boards = []telemetry.Board{{Index: 1, Hashrate: unit.Some(rate / 2), Temps: []unit.Celsius{60, 61.5}}, {Index: 2, ChipsWorking: unit.Some(int32(rng.IntN(110)))}}
			o.Pools = []telemetry.Pool{{URL: "pool.example:3333", Worker: "farm.7", Alive: unit.Some(true), Active: unit.Some(n%2 == 0), Accepted: unit.Some(accepted)}}
			out = append(out, o)
		}
	}
	return out
}

// kept is everything that blocks and sums hold, as text.
func kept(t *testing.T, pool *pgxpool.Pool) string {
	t.Helper()
	var all []string
	for _, sql := range []string{
		`SELECT t::text FROM telemetry_block t ORDER BY site_id, hour, miner_id`, `SELECT t::text FROM site_5m t ORDER BY site_id, slot`,
		`SELECT t::text FROM miner_day t ORDER BY site_id, day, miner_id`, `SELECT site_id || '/' || hour || '/' || miners || '/' || samples FROM telemetry_hour ORDER BY site_id, hour`,
	} {
		rows, err := pool.Query(t.Context(), sql)
		if err != nil {
			t.Fatal(err)
		}
		lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			t.Fatal(err)
		}
		if len(lines) == 0 {
			t.Errorf("nothing from %s", sql)
		}
		all = append(all, lines...)
	}
	return strings.Join(all, "\n")
}

func seal(t *testing.T, s *Store, now time.Time) {
	t.Helper()
	if err := s.Seal(t.Context(), now); err != nil {
		t.Error(err)
	}
}

func count(t *testing.T, pool *pgxpool.Pool, sql string, args ...any) (n int64) {
	t.Helper()
	if err := pool.QueryRow(t.Context(), sql, args...).Scan(&n); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return n
}

// hotMiner is the series of one miner by nothing but its hot rows: what Miner must agree with.
const hotMiner = `
SELECT extract(epoch FROM date_bin($5::interval, ts, 'epoch'::timestamptz))::bigint AS at, count(*), count(*) FILTER (WHERE outcome IN (1, 2)),
	avg(hashrate_mhs)::float8 * 1e6, avg(temp_chip_dc)::float8 / 10, avg(power_dw)::float8 / 10, avg(greatest(fan1_rpm, fan2_rpm, fan3_rpm, fan4_rpm))::float8
FROM telemetry_hot WHERE miner_id = $2 AND site_id = $1 AND ts >= $3 AND ts < $4 GROUP BY at ORDER BY at`

func wantSameAsHot(t *testing.T, pool *pgxpool.Pool, s *Store, q Query) {
	t.Helper()
	points, err := s.Miner(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	byTime := map[int64]Point{}
	for _, p := range points {
		if p.Polls > 0 {
			byTime[p.At.Unix()] = p
		}
	}
	rows, err := pool.Query(t.Context(), hotMiner, q.Site, q.Miner, points[0].At, q.To, q.Step)
	if err != nil {
		t.Fatal(err)
	}
	var at, polls, answered int64
	var rate, chip, power, fan *float64
	n := 0
	same := func(want *float64, got float64, ok bool) bool {
		return ok == (want != nil) && (want == nil || math.Abs(*want-got) <= 1e-12*math.Abs(*want))
	}
	if _, err := pgx.ForEachRow(rows, []any{&at, &polls, &answered, &rate, &chip, &power, &fan}, func() error {
		n++
		p := byTime[at]
		h, hok := p.Hashrate.Get()
		c, cok := p.TempChip.Get()
		w, wok := p.Power.Get()
		f, fok := p.Fan.Get()
		if p.Polls != polls || p.Answered != answered || !same(rate, float64(h), hok) || !same(chip, float64(c), cok) || !same(power, float64(w), wok) ||
			fok != (fan != nil) || fok && int32(f) != int32(*fan) {
			t.Errorf("%s: %+v, hot rows say %d polls, %d answered", time.Unix(at, 0).UTC(), p, polls, answered)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if n != len(byTime) {
		t.Errorf("%d points with polls, hot rows have %d", len(byTime), n)
	}
}

// Data comes in any order, hubs write blocks at any time and together, hot rows are dropped between: blocks and sums are those of writing all at once.
func TestBlocksAndSumsDoNotDependOnHowDataCame(t *testing.T) {
	for seed := range uint64(3) {
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 1))
			sites := []ident.SiteID{ident.NewSiteID(), ident.NewSiteID()}
			from := noon.Add(-26 * time.Hour)
			data := map[ident.SiteID][]telemetry.Observation{}
			for _, site := range sites {
				data[site] = story(rng, []ident.MinerID{ident.NewMinerID(), ident.NewMinerID(), ident.NewMinerID()}, from, 4, 20*time.Second)
			}
			once := pgtest.New(t)
			now := noon
			one := newStore(t, once, func() time.Time { return now })
			for _, site := range sites {
				write(t, one, once, []Batch{{site, samplesOf(t, data[site])}})
			}
			seal(t, one, now)
			want := kept(t, once)

			pool := pgtest.New(t)
			hubs := []*Store{newStore(t, pool, func() time.Time { return now }), newStore(t, pool, func() time.Time { return now })}
			now = from.Add(time.Hour)
			for _, site := range sites {
				rng.Shuffle(len(data[site]), func(i, j int) { data[site][i], data[site][j] = data[site][j], data[site][i] })
			}
			for round := 0; len(data[sites[0]])+len(data[sites[1]]) > 0; round++ {
				for _, site := range sites {
					n := min(len(data[site]), 1+rng.IntN(900))
					if n > 0 {
						write(t, hubs[rng.IntN(2)], pool, []Batch{{site, samplesOf(t, data[site][:n])}})
						data[site] = data[site][n:]
					}
				}
				now = now.Add(time.Duration(rng.IntN(90)) * time.Minute)
				if round == 2 { // days later: the hot rows are dropped, and more comes
					now = noon.Add(6 * day)
				}
				var both sync.WaitGroup
				for _, h := range hubs {
					both.Go(func() { seal(t, h, now) })
				}
				both.Wait()
				if round >= 2 {
					now = now.Add(2 * time.Hour)
					maintain(t, hubs[0])
					if n := count(t, pool, `SELECT count(*) FROM telemetry_hot`); n != 0 {
						t.Errorf("%d hot rows are left", n)
					}
				}
			}
			now = now.Add(time.Hour)
			seal(t, hubs[0], now)
			if n := count(t, pool, `SELECT count(*) FROM telemetry_hour WHERE sealed_at IS NULL`); n != 0 {
				t.Errorf("%d hours are not sealed", n)
			}
			if got := kept(t, pool); got != want {
				t.Errorf("blocks and sums differ from those of writing all at once: %s", firstDifference(got, want))
			}
		})
	}
}

func firstDifference(got, want string) string {
	g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
	for i := range min(len(g), len(w)) {
		if g[i] != w[i] {
			return fmt.Sprintf("line %d:\ngot  %.300s\nwant %.300s", i, g[i], w[i])
		}
	}
	return fmt.Sprintf("%d lines, want %d", len(g), len(w))
}

func TestSumsEqualARecomputationFromTheHotRows(t *testing.T) {
	pool := pgtest.New(t)
	now := noon.Add(5 * time.Hour)
	s := newStore(t, pool, func() time.Time { return now })
	site := ident.NewSiteID()
	data := story(rand.New(rand.NewPCG(7, 7)), []ident.MinerID{ident.NewMinerID(), ident.NewMinerID()}, noon, 4, 30*time.Second)
	write(t, s, pool, []Batch{{site, samplesOf(t, data)}})
	seal(t, s, now)
	for name, sql := range map[string]string{
		"site_5m": `WITH m AS (SELECT floor(extract(epoch FROM ts) / 300)::integer AS slot, miner_id, count(*) AS polls, count(*) FILTER (WHERE outcome IN (1, 2)) AS answered,
				floor(avg(hashrate_mhs))::bigint AS mhs, floor(avg(power_dw))::bigint AS dw, max(temp_chip_dc) AS chip FROM telemetry_hot GROUP BY 1, 2),
			w AS (SELECT slot, count(*) AS miners, sum(polls) AS polls, sum(answered) AS answered, coalesce(sum(mhs), 0) AS mhs, coalesce(sum(dw), 0) AS dw, max(chip) AS chip FROM m GROUP BY 1)
			SELECT count(*) FROM w FULL JOIN site_5m s USING (slot) WHERE (w.miners, w.polls, w.answered, w.mhs, w.dw, w.chip) IS DISTINCT FROM
				(s.miners::bigint, s.polls::numeric, s.answered::numeric, s.hashrate_mhs::numeric, s.power_dw::numeric, s.temp_chip_dc)`,
		"miner_day": `WITH w AS (SELECT miner_id, count(*) AS samples, count(*) FILTER (WHERE outcome IN (1, 2)) AS answered, count(hashrate_mhs) AS n, sum(hashrate_mhs) AS mhs,
				count(DISTINCT floor(extract(epoch FROM ts) / 300)) AS slots FROM telemetry_hot GROUP BY 1)
			SELECT count(*) FROM w FULL JOIN miner_day d USING (miner_id) WHERE (w.samples, w.answered, w.n, w.mhs, w.slots) IS DISTINCT FROM
				(d.samples::bigint, d.answered::bigint, d.hashrate_n::bigint, d.hashrate_sum::numeric, d.slots_polled::bigint)`,
		"hashes": `WITH d AS (SELECT miner_id, hashes_mh - lag(hashes_mh) OVER w AS done, uptime_s >= lag(uptime_s) OVER w AS run, ts FROM telemetry_hot
				WHERE hashes_mh IS NOT NULL WINDOW w AS (PARTITION BY miner_id, date_trunc('hour', ts) ORDER BY ts)), w AS (SELECT miner_id, sum(done) AS mh FROM d WHERE run AND done >= 0 GROUP BY 1)
			SELECT count(*) FROM w FULL JOIN miner_day d USING (miner_id) WHERE w.mh IS DISTINCT FROM d.hashes_mh`,
	} {
		if n := count(t, pool, sql); n != 0 {
			t.Errorf("%s: %d rows differ", name, n)
		}
	}
	points, err := s.Site(t.Context(), site, noon, noon.Add(4*time.Hour))
	if err != nil || len(points) != 48 || points[0].Miners != 2 || !points[0].Hashrate.Present() {
		t.Errorf("%d points of the site, %v", len(points), err)
	}
}

func TestSeriesAreTheSameFromBlocksAndFromHotRows(t *testing.T) {
	pool := pgtest.New(t)
	now := noon
	s := newStore(t, pool, func() time.Time { return now })
	site, miners := ident.NewSiteID(), []ident.MinerID{ident.NewMinerID(), ident.NewMinerID()}
	rng := rand.New(rand.NewPCG(3, 3))
	data := story(rng, miners, noon.Add(-3*time.Hour), 3, 10*time.Second)
	slices.SortFunc(data, func(a, b telemetry.Observation) int { return a.At.Compare(b.At) })
	late := data[300:500]
	rest := slices.Concat(data[:300], data[500:])
	q := Query{Site: site, Miner: miners[0], From: noon.Add(-4 * time.Hour), To: noon.Add(time.Minute), Step: time.Minute}
	check := func() {
		t.Helper()
		wantSameAsHot(t, pool, s, q)
		wantSameAsHot(t, pool, s, Query{site, miners[1], noon.Add(-100 * time.Minute), noon.Add(-17 * time.Minute), 7 * time.Second})
		boards, err := s.Boards(t.Context(), q)
		if err != nil || len(boards) != 2 || boards[1].Index != 2 {
			t.Errorf("boards %v, %v", len(boards), err)
		}
		var polls int64
		for _, b := range boards {
			for _, p := range b.Points {
				polls += p.Polls
			}
		}
		if answered := count(t, pool, `SELECT count(*) FROM telemetry_hot WHERE miner_id = $1 AND outcome = 1`, q.Miner); polls != 2*answered {
			t.Errorf("boards of %d polls, %d answered", polls/2, answered)
		}
		pools, err := s.Pools(t.Context(), q)
		if err != nil || len(pools) != 1 || pools[0].Worker != "farm.7" {
			t.Errorf("pools %v, %v", pools, err)
		}
	}
	for len(rest) > 0 { // every 20 minutes of data blocks are written, and read in between
		n := min(len(rest), 240)
		write(t, s, pool, []Batch{{site, samplesOf(t, rest[:n])}})
		now = rest[n-1].At
		check()
		seal(t, s, now)
		check()
		rest = rest[n:]
	}
	write(t, s, pool, []Batch{{site, samplesOf(t, late)}})
	check()
	now = now.Add(10 * time.Minute)
	seal(t, s, now)
	check()
	if n := count(t, pool, `SELECT count(*) FROM block_dirty`); n != 0 {
		t.Errorf("%d notes are left", n)
	}
	before, err := s.Miner(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}

	// Days later only blocks are left, and answer the same; a damaged one is left out, not shown.
	now = now.Add(6 * day)
	maintain(t, s)
	if n := count(t, pool, `SELECT count(*) FROM telemetry_hot`); n != 0 {
		t.Fatalf("%d hot rows are left", n)
	}
	after, err := s.Miner(t.Context(), q)
	if err != nil || !slices.Equal(before, after) {
		t.Errorf("the series changed when the hot rows went: %v", err)
	}
	if _, err := pool.Exec(t.Context(), `UPDATE telemetry_block SET payload = set_bit(payload, 77, 1 - get_bit(payload, 77)) WHERE miner_id = $1`, q.Miner); err != nil {
		t.Fatal(err)
	}
	after, err = s.Miner(t.Context(), q)
	if err != nil || slices.ContainsFunc(after, func(p Point) bool { return p.Polls > 0 }) {
		t.Errorf("damaged blocks are shown: %v", err)
	}
}

// A partition holds what no block has yet: it stays, whatever its age, until the block is written.
func TestHotRowsStayUntilTheirBlocksAreWritten(t *testing.T) {
	pool := pgtest.New(t)
	now := noon
	s := newStore(t, pool, func() time.Time { return now })
	site := ident.NewSiteID()
	write(t, s, pool, []Batch{{site, samplesOf(t, story(rand.New(rand.NewPCG(1, 1)), []ident.MinerID{ident.NewMinerID()}, noon.Add(-2*time.Hour), 1, time.Minute))}})
	now = now.Add(8 * day)
	maintain(t, s)
	if n := count(t, pool, `SELECT count(*) FROM telemetry_hot`); n != 60 {
		t.Fatalf("%d hot rows, want the 60 that no block has", n)
	}
	// A hub of an earlier version has left no note.
	if _, err := pool.Exec(t.Context(), `DELETE FROM block_dirty`); err != nil {
		t.Fatal(err)
	}
	maintain(t, s)
	seal(t, s, now)
	now = now.Add(2 * time.Hour)
	maintain(t, s)
	if rows, blocks := count(t, pool, `SELECT count(*) FROM telemetry_hot`), count(t, pool, `SELECT sum(samples) FROM telemetry_block`); rows != 0 || blocks != 60 {
		t.Errorf("%d hot rows and %d samples in blocks, want 0 and 60", rows, blocks)
	}
	now = now.Add(450 * day)
	maintain(t, s)
	if n := count(t, pool, `SELECT (SELECT count(*) FROM telemetry_block) + (SELECT count(*) FROM site_5m) + (SELECT count(*) FROM miner_day) + (SELECT count(*) FROM telemetry_hour)`); n != 0 {
		t.Errorf("%d rows are left after 13 months", n)
	}
}

// schema1 packs outcomes and rates of one miner as programs did that knew only payload schema 1.
func schema1(t *testing.T, obs []telemetry.Observation) []byte {
	t.Helper()
	outcome, rate := &samplesv1.Column{Field: uint32(wire.FieldOutcome)}, &samplesv1.Column{Field: uint32(wire.FieldHashrate)}
	m := &samplesv1.Samples{Miners: obs[0].Miner[:], RowsPerMiner: []uint32{uint32(len(obs))}, Columns: []*samplesv1.Column{outcome, rate}}
	var at, was, before int64
	for _, o := range obs {
		r, _ := o.Hashrate.Get()
		m.TimeDeltaMs = append(m.TimeDeltaMs, o.At.UnixMilli()-at)
		outcome.Deltas, rate.Deltas = append(outcome.Deltas, int64(o.Outcome)-was), append(rate.Deltas, r.Megahashes()-before)
		at, was, before = o.At.UnixMilli(), int64(o.Outcome), r.Megahashes()
	}
	raw, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	z, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	return z.EncodeAll(raw, nil)
}

// Blocks of version 1 stay readable, alone and when late rows are added to them.
func TestBlocksOfVersion1AreRead(t *testing.T) {
	pool := pgtest.New(t)
	now := noon
	s := newStore(t, pool, func() time.Time { return now })
	site, miner := ident.NewSiteID(), ident.NewMinerID()
	var obs []telemetry.Observation
	for i := range int64(360) {
		obs = append(obs, telemetry.Observation{
			Miner: miner, At: noon.Add(-2*time.Hour + time.Duration(i)*10*time.Second), Outcome: telemetry.OutcomeOK, Hashrate: unit.Some(unit.Hashrate(100e12 + float64(i%13)*1e9)),
		})
	}
	write(t, s, pool, []Batch{{site, samplesOf(t, obs[:300])}})
	seal(t, s, now)
	now = now.Add(6 * day)
	maintain(t, s)
	if n := count(t, pool, `SELECT count(*) FROM telemetry_hot`); n != 0 {
		t.Fatalf("%d hot rows are left", n)
	}
	q := Query{Site: site, Miner: miner, From: noon.Add(-3 * time.Hour), To: noon, Step: time.Minute}
	want, err := s.Miner(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	old := schema1(t, obs[:300])
	if _, err := pool.Exec(t.Context(), `UPDATE telemetry_block SET version = 1, payload = $1, checksum = $2`, old, checksumOf(old)); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Miner(t.Context(), q); err != nil || !slices.Equal(got, want) {
		t.Errorf("the series of a block of version 1 differs, %v", err)
	}
	write(t, s, pool, []Batch{{site, samplesOf(t, obs[300:])}})
	seal(t, s, now)
	points, err := s.Miner(t.Context(), q)
	if err != nil || !slices.Equal(points[:110], want[:110]) || points[110].Polls != 6 || points[119].Polls != 6 {
		t.Errorf("late rows beside a block of version 1: %+v, %v", points[109:], err)
	}
	if n := count(t, pool, `SELECT samples FROM telemetry_block WHERE version = 2`); n != 360 {
		t.Errorf("%d samples in a block of version 2, want 360", n)
	}
}
