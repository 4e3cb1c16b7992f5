package fleet

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/hashinsight/hashinsight/pkg/ident"
	"github.com/hashinsight/hashinsight/pkg/telemetry"
	"github.com/hashinsight/hashinsight/pkg/unit"
)

// Miner is a miner and its latest poll. When that poll failed, State is unknown, Outcome says why, and no reading is present: the
// rate of a miner that went off two hours ago must not look alive.
type Miner struct {
	Site     ident.SiteID
	SiteName string
	Info     telemetry.MinerInfo // Info.Miner is the id

	At           time.Time // of the latest poll; the agent's clock
	AnsweredAt   time.Time // of the latest poll that was answered; zero before the first
	PollInterval time.Duration
	Stale        bool // see the function Stale
	Version      uint64
	Outcome      telemetry.Outcome
	State        telemetry.State
	Repairs      telemetry.Repairs

	Hashrate       unit.Opt[unit.Hashrate] // these as in telemetry.Observation
	HashrateWindow unit.Opt[time.Duration]
	HashrateAvg    unit.Opt[unit.Hashrate]
	IdealHashrate  unit.Opt[unit.Hashrate]
	TempBoard      unit.Opt[unit.Celsius]
	TempChip       unit.Opt[unit.Celsius]
	TempInlet      unit.Opt[unit.Celsius]
	Power          unit.Opt[unit.Watts]
	Uptime         unit.Opt[time.Duration]
	Accepted       unit.Opt[int64]
	Rejected       unit.Opt[int64]
	StaleShares    unit.Opt[int64]
	HardwareErrors unit.Opt[int64]
	BestShare      unit.Opt[int64]
	FanPercent     unit.Opt[int32]
	Fans           []unit.Opt[unit.RPM]
	Worker         string // of the active pool; empty when unknown
}

// MinerDetail is a Miner with what only its own page shows.
type MinerDetail struct {
	Miner
	DetailAt time.Time // when boards, pools and errors were read: up to a minute before At while nothing but their values changes
	Boards   []telemetry.Board
	Pools    []telemetry.Pool
	Errors   []string
}

// minerColumns and minerTables are shared by every query that yields Miners; $1 is the time now.
const minerColumns = `
	s.id, s.name, m.id, m.address, m.mac, m.serial, m.maker, m.model, m.firmware, m.firmware_version, m.hostname,
	l.at, l.answered_at, coalesce(a.poll_interval_ms, 60000), ` + isStale + `, l.version::text::bigint,
	l.outcome, l.state, l.repairs, l.hashrate_mhs, l.hashrate_window_s, l.hashrate_avg_mhs, l.hashrate_ideal_mhs, l.temp_board_dc,
	l.temp_chip_dc, l.temp_inlet_dc, l.power_dw, l.uptime_s, l.accepted, l.rejected, l.stale, l.hw_errors, l.best_share,
	l.fan_percent, l.fans_rpm, coalesce(l.worker, '')`

const minerTables = `
FROM miner_latest l
JOIN miner m ON m.site_id = l.site_id AND m.id = l.miner_id
JOIN site s ON s.id = l.site_id
LEFT JOIN agent a ON a.site_id = l.site_id`

// minerRow receives one row of minerColumns.
type minerRow struct {
	m                                                   Miner
	answered                                            *time.Time
	intervalMS                                          int64
	version, repairs                                    int64
	outcome, state                                      int16
	hashrate, avg, ideal                                *int64
	window, tempBoard, tempChip, tempInlet, power, upti *int32
	accepted, rejected, stale, hwErrors, bestShare      *int64
	fanPercent                                          *int32
	fans                                                []*int32
}

func (x *minerRow) targets(extra ...any) []any {
	m := &x.m
	return append([]any{
		(*[16]byte)(&m.Site), &m.SiteName, (*[16]byte)(&m.Info.Miner), &m.Info.Address, &m.Info.MAC, &m.Info.Serial, &m.Info.Maker, &m.Info.Model,
		&m.Info.Firmware, &m.Info.FirmwareVersion, &m.Info.Hostname, &m.At, &x.answered, &x.intervalMS, &m.Stale, &x.version, &x.outcome, &x.state,
		&x.repairs, &x.hashrate, &x.window, &x.avg, &x.ideal, &x.tempBoard, &x.tempChip, &x.tempInlet, &x.power, &x.upti, &x.accepted, &x.rejected,
		&x.stale, &x.hwErrors, &x.bestShare, &x.fanPercent, &x.fans, &m.Worker,
	}, extra...)
}

func (x *minerRow) miner() Miner {
	m := x.m
	m.At = m.At.UTC()
	if x.answered != nil {
		m.AnsweredAt = x.answered.UTC()
	}
	m.PollInterval = time.Duration(x.intervalMS) * time.Millisecond
	m.Version = uint64(x.version)
	m.Outcome = telemetry.Outcome(x.outcome)
	m.State = telemetry.State(x.state)
	m.Repairs = telemetry.Repairs(x.repairs)
	m.Hashrate, m.HashrateAvg, m.IdealHashrate = rate(x.hashrate), rate(x.avg), rate(x.ideal)
	m.HashrateWindow, m.Uptime = seconds(x.window), seconds(x.upti)
	m.TempBoard, m.TempChip, m.TempInlet = tenths[unit.Celsius](x.tempBoard), tenths[unit.Celsius](x.tempChip), tenths[unit.Celsius](x.tempInlet)
	m.Power = tenths[unit.Watts](x.power)
	m.Accepted, m.Rejected, m.StaleShares, m.HardwareErrors, m.BestShare = opt(x.accepted), opt(x.rejected), opt(x.stale), opt(x.hwErrors), opt(x.bestShare)
	m.FanPercent = opt(x.fanPercent)
	for _, f := range x.fans {
		if f == nil {
			m.Fans = append(m.Fans, unit.Opt[unit.RPM]{})
		} else {
			m.Fans = append(m.Fans, unit.Some(unit.RPM(*f)))
		}
	}
	return m
}

func opt[T any](p *T) unit.Opt[T] {
	if p == nil {
		return unit.Opt[T]{}
	}
	return unit.Some(*p)
}

func rate(mhs *int64) unit.Opt[unit.Hashrate] {
	if mhs == nil {
		return unit.Opt[unit.Hashrate]{}
	}
	return unit.Some(unit.Hashrate(*mhs) * unit.MegahashPerSecond)
}

func seconds(s *int32) unit.Opt[time.Duration] {
	if s == nil {
		return unit.Opt[time.Duration]{}
	}
	return unit.Some(time.Duration(*s) * time.Second)
}

func tenths[T ~float64](v *int32) unit.Opt[T] {
	if v == nil {
		return unit.Opt[T]{}
	}
	return unit.Some(T(*v) / 10)
}

func scanMiner(r pgx.Rows) (Miner, error) {
	var x minerRow
	if err := r.Scan(x.targets()...); err != nil {
		return Miner{}, err
	}
	return x.miner(), nil
}

const qMiner = `
SELECT ` + minerColumns + `, coalesce(d.at, l.at), coalesce(d.boards, '[]'), coalesce(d.pools, '[]'), coalesce(d.errors, '[]')` + minerTables + `
LEFT JOIN miner_detail d ON d.site_id = l.site_id AND d.miner_id = l.miner_id
WHERE l.miner_id = $2 AND l.site_id IN (SELECT site_id FROM miner WHERE id = $2)
ORDER BY m.first_seen_at
LIMIT 1`

// Miner returns one miner, or ErrNotFound.
func (s *Store) Miner(ctx context.Context, id ident.MinerID) (MinerDetail, error) {
	found, err := collect(ctx, s.pool, "miner", qMiner, []any{s.now(), uuidOf(id)}, func(r pgx.Rows) (MinerDetail, error) {
		var x minerRow
		var d MinerDetail
		var boards, pools, errs []byte
		if err := r.Scan(x.targets(&d.DetailAt, &boards, &pools, &errs)...); err != nil {
			return d, err
		}
		d.Miner, d.DetailAt = x.miner(), d.DetailAt.UTC()
		var err error
		if d.Boards, err = decodeDetail(boards, boardDetail.board); err != nil {
			return d, err
		}
		if d.Pools, err = decodeDetail(pools, poolDetail.pool); err != nil {
			return d, err
		}
		return d, json.Unmarshal(errs, &d.Errors)
	})
	if err != nil {
		return MinerDetail{}, err
	}
	if len(found) == 0 {
		return MinerDetail{}, fmt.Errorf("miner %s: %w", id, ErrNotFound)
	}
	return found[0], nil
}

// MaxSnapshot is the largest number of miners that a snapshot holds.
const MaxSnapshot = 100_000

// Snapshot is the whole fleet at one moment.
type Snapshot struct {
	At      time.Time
	Version uint64 // Changes since it, and nothing before, may differ from what is here
	Miners  []Miner
}

const qVersion = `SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint`

const qSnapshot = `SELECT ` + minerColumns + minerTables + `
WHERE ($2::uuid IS NULL OR l.site_id = $2)
ORDER BY l.site_id, l.miner_id
LIMIT $3`

const qChanges = `SELECT ` + minerColumns + minerTables + `
WHERE l.version >= $2::bigint::text::xid8
LIMIT $3`

// Snapshot reads the latest poll of every miner, in the order of (site, id).
func (s *Store) Snapshot(ctx context.Context) (Snapshot, error) {
	return s.changes(ctx, qSnapshot, nil)
}

// Changes reads the miners that were written since version, which a Snapshot or Changes returned, at this hub or another. Rows written while that
// one was read may be among them once more. A version above the result's own comes from a database that has been restored since: the
// caller must then take a Snapshot.
func (s *Store) Changes(ctx context.Context, version uint64) (Snapshot, error) {
	return s.changes(ctx, qChanges, clampInt64(version))
}

func (s *Store) changes(ctx context.Context, sql string, arg any) (Snapshot, error) {
	out := Snapshot{At: s.now().UTC()}
	// The version is read before the rows: whatever commits between the two is in the rows and after the version.
	var err error
	if out.Version, err = s.version(ctx); err != nil {
		return Snapshot{}, err
	}
	// Planned each time, for the values given: after five runs PostgreSQL would try one plan for all values, expects a tenth of the rows
	// because of the limit's parameter, and on tables without statistics joins 10,000 miners by nested loops (19 s instead of 0.1 s).
	args := []any{pgx.QueryExecModeCacheDescribe, out.At, arg, MaxSnapshot + 1}
	if out.Miners, err = collect(ctx, s.pool, "miners", sql, args, scanMiner); err != nil {
		return Snapshot{}, err
	}
	if len(out.Miners) > MaxSnapshot {
		return Snapshot{}, fmt.Errorf("more than %d miners: too many for one snapshot, list them page by page", MaxSnapshot)
	}
	return out, nil
}

func (s *Store) version(ctx context.Context) (uint64, error) {
	var version int64
	if err := s.pool.QueryRow(ctx, qVersion).Scan(&version); err != nil {
		return 0, fmt.Errorf("reading the fleet's version: %w", err)
	}
	return uint64(version), nil
}
