package series

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/hashinsight/hashinsight/pkg/ident"
	"github.com/hashinsight/hashinsight/pkg/unit"
)

// MaxPoints is the most steps that one series may have.
const MaxPoints = 2000

// ErrQuery means that a query's own values are at fault; its text says how.
var ErrQuery = errors.New("query")

// Query selects one miner's series.
type Query struct {
	Site     ident.SiteID
	Miner    ident.MinerID
	From, To time.Time     // From is moved back to a whole step since 1970 UTC; To is not included
	Step     time.Duration // whole seconds
}

// Point sums up the polls of one step. A reading is the mean over the polls that gave it, absent without any.
type Point struct {
	At          time.Time // beginning of the step
	Polls       int64     // attempted
	Answered    int64
	Hashrate    unit.Opt[unit.Hashrate]
	HashrateAvg unit.Opt[unit.Hashrate]
	TempBoard   unit.Opt[unit.Celsius]
	TempChip    unit.Opt[unit.Celsius]
	TempInlet   unit.Opt[unit.Celsius]
	Power       unit.Opt[unit.Watts]
	Fan         unit.Opt[unit.RPM] // mean of the fastest fan
}

const qMiner = `
SELECT extract(epoch FROM date_bin($5::interval, ts, 'epoch'::timestamptz))::bigint AS at, count(*), count(*) FILTER (WHERE outcome IN (1, 2)),
	avg(hashrate_mhs)::float8, avg(hashrate_avg_mhs)::float8, avg(temp_board_dc)::float8, avg(temp_chip_dc)::float8, avg(temp_inlet_dc)::float8,
	avg(power_dw)::float8, avg(greatest(fan1_rpm, fan2_rpm, fan3_rpm, fan4_rpm))::float8
FROM telemetry_hot
WHERE miner_id = $2 AND site_id = $1 AND ts >= $3 AND ts < $4
GROUP BY at
ORDER BY at
LIMIT $6`

// Miner returns the series of one miner: every step from From to To in order, empty ones too.
func (s *Store) Miner(ctx context.Context, q Query) ([]Point, error) {
	if q.Step < time.Second || q.Step%time.Second != 0 {
		return nil, fmt.Errorf("%w: step %s is not a whole number of seconds", ErrQuery, q.Step)
	}
	step := int64(q.Step / time.Second)
	from, to := q.From.Unix()/step*step, q.To.Unix()
	if from < 0 || to <= from {
		return nil, fmt.Errorf("%w: from %s to %s is no time span", ErrQuery, q.From.Format(time.RFC3339), q.To.Format(time.RFC3339))
	}
	steps := (to - from + step - 1) / step
	if steps > MaxPoints {
		return nil, fmt.Errorf("%w: %d steps, at most %d: use a step of at least %ds", ErrQuery, steps, MaxPoints, smallestStep(q.From.Unix(), to))
	}
	rows, err := s.c.Pool.Query(ctx, qMiner, pgtype.UUID{Bytes: q.Site, Valid: true}, pgtype.UUID{Bytes: q.Miner, Valid: true},
		time.Unix(from, 0), time.Unix(to, 0), pgtype.Interval{Microseconds: step * 1e6, Valid: true}, MaxPoints)
	if err != nil {
		return nil, fmt.Errorf("reading the series of miner %s: %w", q.Miner, err)
	}
	points := make([]Point, steps)
	for i := range points {
		points[i].At = time.Unix(from+int64(i)*step, 0).UTC()
	}
	var at, polls, answered int64
	var hashrate, avg, board, chip, inlet, power, fan *float64
	_, err = pgx.ForEachRow(rows, []any{&at, &polls, &answered, &hashrate, &avg, &board, &chip, &inlet, &power, &fan}, func() error {
		p := &points[(at-from)/step]
		p.Polls, p.Answered = polls, answered
		p.Hashrate, p.HashrateAvg = scaled[unit.Hashrate](hashrate, 1e6), scaled[unit.Hashrate](avg, 1e6)
		p.TempBoard, p.TempChip, p.TempInlet = scaled[unit.Celsius](board, 0.1), scaled[unit.Celsius](chip, 0.1), scaled[unit.Celsius](inlet, 0.1)
		p.Power = scaled[unit.Watts](power, 0.1)
		p.Fan = scaled[unit.RPM](fan, 1)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("reading the series of miner %s: %w", q.Miner, err)
	}
	return points, nil
}

// smallestStep is the smallest step, in seconds, of a span that has at most MaxPoints steps wherever its first one begins.
func smallestStep(from, to int64) int64 { return (to-from)/(MaxPoints-1) + 1 }

func scaled[T ~float64 | ~int32](v *float64, by float64) unit.Opt[T] {
	if v == nil {
		return unit.Opt[T]{}
	}
	return unit.Some(T(*v * by))
}
