package series

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/hashinsight/hashinsight/pkg/ident"
	"github.com/hashinsight/hashinsight/pkg/telemetry"
	"github.com/hashinsight/hashinsight/pkg/unit"
	"github.com/hashinsight/hashinsight/pkg/wire"
)

// BoardSeries is the series of one hash board.
type BoardSeries struct {
	Index  int32        // as the firmware numbers it
	Points []BoardPoint // one for each step of the query
}

// BoardPoint sums up the polls of one step.
type BoardPoint struct {
	At             time.Time
	Polls          int64                   // that showed the board
	Hashrate       unit.Opt[unit.Hashrate] // mean
	Temp           unit.Opt[unit.Celsius]  // highest of all its sensors
	ChipsWorking   unit.Opt[int32]         // fewest
	HardwareErrors unit.Opt[int64]         // at the latest poll

	sum    float64
	n      int64
	lastMS int64
}

// PoolSeries is the series of one mining pool, as the miner saw it.
type PoolSeries struct {
	URL    string
	Worker string
	Points []PoolPoint // one for each step of the query
}

// PoolPoint sums up the polls of one step. Counters are those of the latest poll.
type PoolPoint struct {
	At       time.Time
	Polls    int64 // that showed the pool
	Alive    int64 // polls that showed it alive
	Active   int64 // polls that showed it mined on
	Accepted unit.Opt[int64]
	Rejected unit.Opt[int64]
	Stale    unit.Opt[int64]

	lastMS int64
}

// maxParts bounds the boards or pools of one answer; further ones are left out.
const maxParts = 32

// Boards returns the series of one miner's boards, in order of their numbers.
func (s *Store) Boards(ctx context.Context, q Query) ([]BoardSeries, error) {
	byIndex := map[int32][]BoardPoint{}
	err := s.eachPoll(ctx, q, func(o *telemetry.Observation, at int, blank func() []time.Time) {
		for i := range o.Boards {
			b := &o.Boards[i]
			points, ok := byIndex[b.Index]
			if !ok {
				if len(byIndex) >= maxParts {
					continue
				}
				for _, t := range blank() {
					points = append(points, BoardPoint{At: t})
				}
				byIndex[b.Index] = points
			}
			points[at].add(b, o.At.UnixMilli())
		}
	})
	if err != nil {
		return nil, err
	}
	out := make([]BoardSeries, 0, len(byIndex))
	for index, points := range byIndex {
		for i := range points {
			if p := &points[i]; p.n > 0 {
				p.Hashrate = unit.Some(unit.Hashrate(p.sum / float64(p.n)))
			}
		}
		out = append(out, BoardSeries{index, points})
	}
	slices.SortFunc(out, func(a, b BoardSeries) int { return int(a.Index) - int(b.Index) })
	return out, nil
}

func (p *BoardPoint) add(b *telemetry.Board, ms int64) {
	p.Polls++
	if v, ok := b.Hashrate.Get(); ok {
		p.sum += float64(v)
		p.n++
	}
	for _, c := range b.Temps {
		if t, ok := p.Temp.Get(); !ok || c > t {
			p.Temp = unit.Some(c)
		}
	}
	if v, ok := b.ChipsWorking.Get(); ok {
		if w, has := p.ChipsWorking.Get(); !has || v < w {
			p.ChipsWorking = unit.Some(v)
		}
	}
	if ms >= p.lastMS {
		p.lastMS, p.HardwareErrors = ms, b.HardwareErrors
	}
}

// Pools returns the series of one miner's pools, in order of address and worker.
func (s *Store) Pools(ctx context.Context, q Query) ([]PoolSeries, error) {
	type name struct{ url, worker string }
	byName := map[name][]PoolPoint{}
	err := s.eachPoll(ctx, q, func(o *telemetry.Observation, at int, blank func() []time.Time) {
		for i := range o.Pools {
			p := &o.Pools[i]
			points, ok := byName[name{p.URL, p.Worker}]
			if !ok {
				if len(byName) >= maxParts {
					continue
				}
				for _, t := range blank() {
					points = append(points, PoolPoint{At: t})
				}
				byName[name{p.URL, p.Worker}] = points
			}
			points[at].add(p, o.At.UnixMilli())
		}
	})
	if err != nil {
		return nil, err
	}
	out := make([]PoolSeries, 0, len(byName))
	for n, points := range byName {
		out = append(out, PoolSeries{n.url, n.worker, points})
	}
	slices.SortFunc(out, func(a, b PoolSeries) int {
		if c := strings.Compare(a.URL, b.URL); c != 0 {
			return c
		}
		return strings.Compare(a.Worker, b.Worker)
	})
	return out, nil
}

func (p *PoolPoint) add(o *telemetry.Pool, ms int64) {
	p.Polls++
	if o.Alive.Or(false) {
		p.Alive++
	}
	if o.Active.Or(false) {
		p.Active++
	}
	if ms >= p.lastMS {
		p.lastMS, p.Accepted, p.Rejected, p.Stale = ms, o.Accepted, o.Rejected, o.Stale
	}
}

// eachPoll calls f with every poll of a query and the number of its step; blank returns the beginnings of all steps.
func (s *Store) eachPoll(ctx context.Context, q Query, f func(o *telemetry.Observation, at int, blank func() []time.Time)) error {
	from, to, step, steps, err := q.steps()
	if err != nil {
		return err
	}
	blank := func() []time.Time {
		out := make([]time.Time, steps)
		for i := range out {
			out[i] = time.Unix(from+int64(i)*step, 0).UTC()
		}
		return out
	}
	return s.read(ctx, q.Site, q.Miner, from*1000, to*1000, func(samples *wire.Samples) {
		for i, ms := range samples.TimeMS {
			if ms >= from*1000 && ms < to*1000 {
				o := samples.Observation(i)
				f(&o, int((ms/1000-from)/step), blank)
			}
		}
	})
}

// SitePoint is 5 minutes of a site: the sum over its miners.
type SitePoint struct {
	At             time.Time // beginning
	Miners         int64     // polled
	MinersAnswered int64
	Polls          int64
	Answered       int64
	Hashrate       unit.Opt[unit.Hashrate] // sum of the means of the miners that reported one
	Power          unit.Opt[unit.Watts]    // likewise
	Hashes         int64                   // MH done between polls, of miners that count them
	TempChip       unit.Opt[unit.Celsius]  // highest
}

// maxSitePoints bounds the answer of Site: 31 days and a bit.
const maxSitePoints = 9000

const qSite = `
SELECT slot, miners, miners_answered, polls, answered, hashrate_miners, power_miners, hashrate_mhs, power_dw, hashes_mh, temp_chip_dc
FROM site_5m WHERE site_id = $1 AND slot >= $2 AND slot < $3 ORDER BY slot LIMIT $4`

// Site returns the 5-minute points of a site that begin from from on and before to, as far as its blocks are written: at most 5 minutes behind. Slots without
// a poll are left out.
func (s *Store) Site(ctx context.Context, site ident.SiteID, from, to time.Time) ([]SitePoint, error) {
	const slotS = slotMS / 1000
	first, end := (from.Unix()+slotS-1)/slotS, (to.Unix()+slotS-1)/slotS
	if from.Unix() < 0 || end <= first || end-first > maxSitePoints {
		return nil, fmt.Errorf("%w: from %s to %s is no time span of at most 31 days", ErrQuery, from.Format(time.RFC3339), to.Format(time.RFC3339))
	}
	rows, err := s.c.Pool.Query(ctx, qSite, site, first, end, maxSitePoints)
	if err != nil {
		return nil, fmt.Errorf("reading the series of site %s: %w", site, err)
	}
	var out []SitePoint
	var p SitePoint
	var slot, rates, powers, mhs, dw int64
	var chip *int32
	_, err = pgx.ForEachRow(rows, []any{&slot, &p.Miners, &p.MinersAnswered, &p.Polls, &p.Answered, &rates, &powers, &mhs, &dw, &p.Hashes, &chip}, func() error {
		p.At = time.Unix(slot*slotS, 0).UTC()
		p.Hashrate, p.Power, p.TempChip = unit.Opt[unit.Hashrate]{}, unit.Opt[unit.Watts]{}, unit.Opt[unit.Celsius]{}
		if rates > 0 {
			p.Hashrate = unit.Some(unit.Hashrate(mhs) * unit.MegahashPerSecond)
		}
		if powers > 0 {
			p.Power = unit.Some(unit.Watts(dw) / 10)
		}
		if chip != nil {
			p.TempChip = unit.Some(unit.Celsius(*chip) / 10)
		}
		out = append(out, p)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("reading the series of site %s: %w", site, err)
	}
	return out, nil
}
