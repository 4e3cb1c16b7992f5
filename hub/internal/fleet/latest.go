package fleet

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/hashinsight/hashinsight/pkg/ident"
	"github.com/hashinsight/hashinsight/pkg/telemetry"
	"github.com/hashinsight/hashinsight/pkg/unit"
	"github.com/hashinsight/hashinsight/pkg/wire"
)

// LatestConfig describes a Latest.
type LatestConfig struct {
	Every       time.Duration         // a miner's row is written at most so often; 0 means 5 s
	Detail      time.Duration         // its boards and pools at most so often, unless they are others or in another state; 0 means 1 min
	MaxMiners   int                   // whose last write is remembered; 0 means 1,000,000
	MaxSite     int                   // miners that one site may have; 0 means 20,000
	MaxUnpolled int                   // miners of a site that it describes and never polls; 0 means 1,000
	MaxFleet    int                   // miners that all sites together may have; 0 means MaxSnapshot, beyond which the fleet cannot be shown
	Now         func() time.Time      // nil means time.Now
	Registerer  prometheus.Registerer // nil means no metrics
}

// Latest writes the latest poll of each miner within ingest's transactions. It remembers when it wrote which row, so that most samples
// of a fast fleet cost the database nothing; what it forgets costs one update more. A change of state or outcome is
// written at once. Boards and pools are most of what a poll says and change little: their row is rewritten at once when there are others or
// one is in another state, and else every minute. It is safe for concurrent use.
type Latest struct {
	every     time.Duration
	detail    time.Duration
	seed      maphash.Seed // of shapes
	maxMiners int
	maxSite   int64
	unpolled  int64
	maxFleet  int64
	now       func() time.Time
	mu        sync.Mutex
	seen      map[minerKey]seen
	written   prometheus.Counter
	detailed  prometheus.Counter
	throttled prometheus.Counter
	forgotten prometheus.Counter
	refused   *prometheus.CounterVec // by reason
}

type minerKey struct {
	site  ident.SiteID
	miner ident.MinerID
}

func (k minerKey) compare(o minerKey) int {
	if c := slices.Compare(k.site[:], o.site[:]); c != 0 {
		return c
	}
	return k.miner.Compare(o.miner)
}

// seen is what was last written of a miner.
type seen struct {
	atMS       int64
	answeredMS int64
	wrote      time.Time
	outcome    telemetry.Outcome
	state      telemetry.State
	detailed   time.Time // when its boards and pools were written, and
	shape      uint64    // how they were made up
}

// NewLatest returns a Latest.
func NewLatest(c LatestConfig) (*Latest, error) {
	if c.Every == 0 {
		c.Every = 5 * time.Second
	}
	if c.Detail == 0 {
		c.Detail = time.Minute
	}
	if c.MaxMiners == 0 {
		c.MaxMiners = 1_000_000
	}
	if c.MaxSite == 0 {
		c.MaxSite = 20_000
	}
	if c.MaxUnpolled == 0 {
		c.MaxUnpolled = 1000
	}
	if c.MaxFleet == 0 {
		c.MaxFleet = MaxSnapshot
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "hashinsight_latest_" + name, Help: help})
	}
	l := &Latest{
		every: c.Every, detail: c.Detail, seed: maphash.MakeSeed(), maxMiners: c.MaxMiners, maxSite: int64(c.MaxSite), unpolled: int64(c.MaxUnpolled), maxFleet: int64(c.MaxFleet), now: c.Now, seen: map[minerKey]seen{},
		written:   counter("written_total", "Rows of the latest table written."),
		detailed:  counter("details_written_total", "Rows of boards and pools written."),
		throttled: counter("throttled_total", "Newer polls not written because the miner's row was written a moment before."),
		forgotten: counter("forgotten_total", "Times the memory of written rows was full and emptied."),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "hashinsight_latest_refused_total",
			Help: "Miners that a batch named and that are not shown, by reason: claimed, another site has the id; site_full and fleet_full, there are too many; never_polled, the site describes too many without a poll. Their samples stay evidence.",
		}, []string{"reason"}),
	}
	if c.Registerer != nil {
		for _, m := range []prometheus.Collector{l.written, l.detailed, l.throttled, l.forgotten, l.refused} {
			if err := c.Registerer.Register(m); err != nil {
				return nil, fmt.Errorf("metrics of the latest table: %w", err)
			}
		}
	}
	return l, nil
}

// Update is what one transaction writes about miners. Make it with Latest.Collect, write it with Write, and tell Latest by
// Committed.
type Update struct {
	latest   map[minerKey]*latestRow
	answered map[minerKey]int64 // miners of which only an older answer is news
	infos    map[minerKey]infoRow
	at       time.Time

	unknown           map[minerKey]bool // of these, Latest does not know whether they have a row
	maxSite, maxFleet int64
	maxDescribed      int64
	refused           map[string]int // miners that were taken out, by reason
}

type latestRow struct {
	obs        telemetry.Observation
	answeredMS int64  // 0: none known here
	detail     bool   // boards and pools are written too
	shape      uint64 // of those
}

type infoRow struct {
	info telemetry.MinerInfo
	atMS int64
}

// SiteSamples are unpacked samples and the site that signed them.
type SiteSamples struct {
	Site    ident.SiteID
	Samples *wire.Samples
}

// Collect picks from new batches what the latest table must learn. Samples later than notAfter are passed over: they come from a clock that is
// wrong, and would hide every true sample for as long.
func (l *Latest) Collect(batches []SiteSamples, notAfter time.Time) *Update {
	u := &Update{
		latest: map[minerKey]*latestRow{}, answered: map[minerKey]int64{}, infos: map[minerKey]infoRow{}, at: l.now(),
		unknown: map[minerKey]bool{}, maxSite: l.maxSite, maxDescribed: l.unpolled, maxFleet: l.maxFleet, refused: map[string]int{},
	}
	limit := notAfter.UnixMilli()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, b := range batches {
		s := b.Samples
		for _, info := range s.Infos {
			k := minerKey{b.Site, info.Miner}
			if _, ok := l.seen[k]; !ok {
				u.unknown[k] = true
			}
			if old, ok := u.infos[k]; !ok || old.atMS <= s.Meta.LastMS {
				u.infos[k] = infoRow{info, min(s.Meta.LastMS, limit)}
			}
		}
		end := s.Len()
		for m := len(s.Miners) - 1; m >= 0; m-- {
			first := end - 1
			for first > 0 && s.MinerOf[first-1] == int32(m) {
				first--
			}
			l.collectMiner(u, b.Site, s, first, end, limit)
			end = first
		}
	}
	return u
}

// collectMiner looks at the rows [first, end) of one miner, which are in order of time.
func (l *Latest) collectMiner(u *Update, site ident.SiteID, s *wire.Samples, first, end int, limit int64) {
	last := end - 1
	for last >= first && s.TimeMS[last] > limit {
		last--
	}
	if last < first {
		return
	}
	outcomes, states := s.Column(wire.FieldOutcome), s.Column(wire.FieldState)
	var answeredMS int64
	for i := last; i >= first; i-- {
		if o, _ := outcomes.Get(i); telemetry.Outcome(o).Answered() {
			answeredMS = s.TimeMS[i]
			break
		}
	}
	k := minerKey{site, s.Miners[s.MinerOf[last]]}
	known, ok := l.seen[k]
	if row := u.latest[k]; row != nil && s.TimeMS[last] < row.obs.At.UnixMilli() {
		row.answeredMS = max(row.answeredMS, answeredMS)
		return
	} else if row != nil {
		u.latest[k] = l.row(known, u.at, latestOf(s, last), max(row.answeredMS, answeredMS))
		return
	}
	if ok && s.TimeMS[last] < known.atMS && known.atMS <= u.at.Add(clockTolerance).UnixMilli() {
		if answeredMS > known.answeredMS {
			u.answered[k] = max(u.answered[k], answeredMS)
		}
		return
	}
	outcome, _ := outcomes.Get(last)
	state, _ := states.Get(last)
	_, described := u.infos[k]
	if ok && !described && known.outcome == telemetry.Outcome(outcome) && known.state == telemetry.State(state) &&
		u.at.Sub(known.wrote) < l.every && !u.at.Before(known.wrote) {
		l.throttled.Inc()
		return
	}
	if !ok {
		u.unknown[k] = true
		if _, described := u.infos[k]; !described { // a row of its own, in case the site's description is still to come
			u.infos[k] = infoRow{telemetry.MinerInfo{Miner: k.miner}, 0}
		}
	}
	u.latest[k] = l.row(known, u.at, latestOf(s, last), answeredMS)
}

// row is what is written of a miner of which known was written last, the zero value if nothing was.
func (l *Latest) row(known seen, now time.Time, o telemetry.Observation, answeredMS int64) *latestRow {
	r := &latestRow{obs: o, answeredMS: answeredMS, shape: l.shapeOf(&o)}
	r.detail = known.detailed.IsZero() || r.shape != known.shape || now.Sub(known.detailed) >= l.detail || now.Before(known.detailed)
	return r
}

// shapeOf tells apart how a miner's boards and pools are made up and what state they are in, not what they measure and count.
func (l *Latest) shapeOf(o *telemetry.Observation) uint64 {
	var h maphash.Hash
	h.SetSeed(l.seed)
	maphash.WriteComparable(&h, [...]int{int(o.Outcome), int(o.State), len(o.Boards), len(o.Pools), len(o.Errors)})
	for i := range o.Boards {
		b := &o.Boards[i]
		maphash.WriteComparable(&h, b.Index)
		maphash.WriteComparable(&h, b.Chips)
		maphash.WriteComparable(&h, b.ChipsWorking)
		maphash.WriteComparable(&h, [...]bool{b.Hashrate.Present(), b.FrequencyMHz.Present(), b.HardwareErrors.Present()})
		maphash.WriteComparable(&h, len(b.Temps))
	}
	for i := range o.Pools {
		p := &o.Pools[i]
		maphash.WriteComparable(&h, [...]string{p.URL, p.Worker})
		maphash.WriteComparable(&h, p.Priority)
		maphash.WriteComparable(&h, [...]unit.Opt[bool]{p.Alive, p.Active})
	}
	for _, e := range o.Errors {
		maphash.WriteComparable(&h, e)
	}
	return h.Sum64()
}

// latestOf is row i without what a poll that failed cannot know.
func latestOf(s *wire.Samples, i int) telemetry.Observation {
	o := s.Observation(i)
	if !o.Outcome.Answered() {
		o = telemetry.Observation{Miner: o.Miner, At: o.At, Outcome: o.Outcome, Repairs: o.Repairs, Errors: o.Errors}
	}
	return o
}

// Committed remembers what u wrote. Call it after the commit, never before.
func (l *Latest) Committed(u *Update) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.seen)+len(u.latest) > l.maxMiners {
		clear(l.seen)
		l.forgotten.Inc()
	}
	for k, r := range u.latest {
		old := l.seen[k]
		s := seen{r.obs.At.UnixMilli(), max(r.answeredMS, old.answeredMS), u.at, r.obs.Outcome, r.obs.State, old.detailed, old.shape}
		if r.detail {
			s.detailed, s.shape = u.at, r.shape
			l.detailed.Inc()
		}
		l.seen[k] = s
	}
	for k, ms := range u.answered {
		if s, ok := l.seen[k]; ok {
			s.answeredMS = max(s.answeredMS, ms)
			l.seen[k] = s
		}
	}
	l.written.Add(float64(len(u.latest)))
	for reason, n := range u.refused {
		l.refused.WithLabelValues(reason).Add(float64(n))
	}
}

// qUpsertInfo writes a description when it is newer and says something new. The same text is rewritten only when it is ten minutes newer:
// sites repeat descriptions.
const qUpsertInfo = `
INSERT INTO miner AS m (site_id, id, address, mac, serial, maker, model, firmware, firmware_version, hostname, info_at, first_seen_at)
SELECT u.*, $12::timestamptz FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[],
	$10::text[], $11::timestamptz[]) u
ON CONFLICT (site_id, id) DO UPDATE SET address = excluded.address, mac = excluded.mac,
	serial = excluded.serial, maker = excluded.maker, model = excluded.model, firmware = excluded.firmware,
	firmware_version = excluded.firmware_version, hostname = excluded.hostname, info_at = excluded.info_at
WHERE excluded.info_at > m.info_at AND (excluded.info_at > m.info_at + interval '10 minutes'
	OR (m.address, m.mac, m.serial, m.maker, m.model, m.firmware, m.firmware_version, m.hostname)
	IS DISTINCT FROM (excluded.address, excluded.mac, excluded.serial, excluded.maker, excluded.model, excluded.firmware,
	excluded.firmware_version, excluded.hostname))`

// qUpsertLatest lets the newer poll win. A stored time that lies in the future was a wrong clock's and loses to any other.
const qUpsertLatest = `
INSERT INTO miner_latest AS l (site_id, miner_id, at, answered_at, outcome, state, repairs, hashrate_mhs, hashrate_window_s, hashrate_avg_mhs,
	hashrate_ideal_mhs, temp_board_dc, temp_chip_dc, temp_inlet_dc, power_dw, uptime_s, accepted, rejected, stale, hw_errors, best_share,
	fan_percent, fans_rpm, worker, version)
SELECT u.site_id, u.miner_id, u.at, u.answered_at, u.outcome, u.state, u.repairs, u.hashrate, u.window_s, u.avg, u.ideal, u.temp_board, u.temp_chip,
	u.temp_inlet, u.power, u.uptime, u.accepted, u.rejected, u.stale, u.hw_errors, u.best_share, u.fan_percent, u.fans::integer[], u.worker,
	pg_current_xact_id()
FROM unnest($1::uuid[], $2::uuid[], $3::timestamptz[], $4::timestamptz[], $5::smallint[], $6::smallint[], $7::bigint[], $8::bigint[], $9::integer[],
	$10::bigint[], $11::bigint[], $12::integer[], $13::integer[], $14::integer[], $15::integer[], $16::integer[], $17::bigint[], $18::bigint[],
	$19::bigint[], $20::bigint[], $21::bigint[], $22::integer[], $23::text[], $24::text[])
	u (site_id, miner_id, at, answered_at, outcome, state, repairs, hashrate, window_s, avg, ideal, temp_board, temp_chip, temp_inlet, power, uptime,
	accepted, rejected, stale, hw_errors, best_share, fan_percent, fans, worker)
ON CONFLICT (site_id, miner_id) DO UPDATE SET at = excluded.at, answered_at = greatest(excluded.answered_at, l.answered_at),
	version = excluded.version, outcome = excluded.outcome, state = excluded.state, repairs = excluded.repairs,
	hashrate_mhs = excluded.hashrate_mhs, hashrate_window_s = excluded.hashrate_window_s, hashrate_avg_mhs = excluded.hashrate_avg_mhs,
	hashrate_ideal_mhs = excluded.hashrate_ideal_mhs, temp_board_dc = excluded.temp_board_dc, temp_chip_dc = excluded.temp_chip_dc,
	temp_inlet_dc = excluded.temp_inlet_dc, power_dw = excluded.power_dw, uptime_s = excluded.uptime_s, accepted = excluded.accepted,
	rejected = excluded.rejected, stale = excluded.stale, hw_errors = excluded.hw_errors, best_share = excluded.best_share,
	fan_percent = excluded.fan_percent, fans_rpm = excluded.fans_rpm, worker = excluded.worker
WHERE excluded.at >= l.at OR l.at > $25::timestamptz
RETURNING l.site_id, l.miner_id`

const qUpsertDetail = `
INSERT INTO miner_detail AS d (site_id, miner_id, at, boards, pools, errors)
SELECT u.site_id, u.miner_id, u.at, u.boards::jsonb, u.pools::jsonb, u.errors::jsonb
FROM unnest($1::uuid[], $2::uuid[], $3::timestamptz[], $4::text[], $5::text[], $6::text[]) u (site_id, miner_id, at, boards, pools, errors)
ON CONFLICT (site_id, miner_id) DO UPDATE SET at = excluded.at, boards = excluded.boards, pools = excluded.pools, errors = excluded.errors`

const qAnswered = `
UPDATE miner_latest l SET answered_at = u.answered_at, version = pg_current_xact_id()
FROM unnest($1::uuid[], $2::uuid[], $3::timestamptz[]) u (site_id, miner_id, answered_at)
WHERE l.site_id = u.site_id AND l.miner_id = u.miner_id AND (l.answered_at IS NULL OR l.answered_at < u.answered_at)`

// Write writes u in the caller's transaction. Rows are touched in the order of their keys, so that two transactions cannot block each other for good.
func (u *Update) Write(ctx context.Context, tx pgx.Tx) error {
	if err := u.admit(ctx, tx); err != nil {
		return fmt.Errorf("looking for new miners: %w", err)
	}
	if err := u.writeInfos(ctx, tx); err != nil {
		return fmt.Errorf("storing descriptions of miners: %w", err)
	}
	if err := u.writeLatest(ctx, tx); err != nil {
		return fmt.Errorf("storing the latest polls: %w", err)
	}
	if len(u.answered) == 0 {
		return nil
	}
	var k keyColumns
	var at []time.Time
	for _, key := range sortedKeys(u.answered) {
		k.add(key)
		at = append(at, time.UnixMilli(u.answered[key]))
	}
	if _, err := tx.Exec(ctx, qAnswered, k.sites, k.miners, at); err != nil {
		return fmt.Errorf("storing times of answers: %w", err)
	}
	return nil
}

func (u *Update) writeInfos(ctx context.Context, tx pgx.Tx) error {
	if len(u.infos) == 0 {
		return nil
	}
	var k keyColumns
	var texts [8][]string
	var at []time.Time
	for _, key := range sortedKeys(u.infos) {
		r := u.infos[key]
		i := &r.info
		k.add(key)
		for c, s := range []string{i.Address, i.MAC, i.Serial, i.Maker, i.Model, i.Firmware, i.FirmwareVersion, i.Hostname} {
			texts[c] = append(texts[c], clean(s))
		}
		at = append(at, time.UnixMilli(r.atMS))
	}
	_, err := tx.Exec(ctx, qUpsertInfo, k.sites, k.miners, texts[0], texts[1], texts[2], texts[3], texts[4], texts[5], texts[6], texts[7], at, u.at)
	return err
}

func (u *Update) writeLatest(ctx context.Context, tx pgx.Tx) error {
	if len(u.latest) == 0 {
		return nil
	}
	var c latestColumns
	for _, key := range sortedKeys(u.latest) {
		c.add(key, u.latest[key])
	}
	rows, err := tx.Query(ctx, qUpsertLatest, c.args(u.at.Add(clockTolerance))...)
	if err != nil {
		return err
	}
	var d detailColumns
	var key minerKey
	_, err = pgx.ForEachRow(rows, []any{(*[16]byte)(&key.site), (*[16]byte)(&key.miner)}, func() error {
		r := u.latest[key]
		if r == nil {
			return errors.New("the database returned a miner that was not written")
		}
		if !r.detail {
			return nil
		}
		return d.add(key, &r.obs)
	})
	if err != nil || len(d.sites) == 0 {
		return err
	}
	_, err = tx.Exec(ctx, qUpsertDetail, d.sites, d.miners, d.at, d.boards, d.pools, d.errors)
	return err
}

func sortedKeys[V any](m map[minerKey]V) []minerKey {
	keys := make([]minerKey, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, minerKey.compare)
	return keys
}
