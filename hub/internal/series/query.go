package series

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hashinsight/hashinsight/pkg/ident"
	"github.com/hashinsight/hashinsight/pkg/telemetry"
	"github.com/hashinsight/hashinsight/pkg/unit"
	"github.com/hashinsight/hashinsight/pkg/wire"
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

// maxSpan bounds the time of one query of a miner: the span of what is kept.
const maxSpan = 400 * day

// steps checks a query and returns its first step in s since 1970 UTC, its end, the length of a step in s, and the number of steps.
func (q Query) steps() (from, to, step, steps int64, err error) {
	if q.Step < time.Second || q.Step%time.Second != 0 {
		return 0, 0, 0, 0, fmt.Errorf("%w: step %s is not a whole number of seconds", ErrQuery, q.Step)
	}
	step = int64(q.Step / time.Second)
	from, to = q.From.Unix()/step*step, q.To.Unix()
	if from < 0 || to <= from {
		return 0, 0, 0, 0, fmt.Errorf("%w: from %s to %s is no time span", ErrQuery, q.From.Format(time.RFC3339), q.To.Format(time.RFC3339))
	}
	steps = (to - from + step - 1) / step
	if steps > MaxPoints {
		return 0, 0, 0, 0, fmt.Errorf("%w: %d steps, at most %d: use a step of at least %ds", ErrQuery, steps, MaxPoints, smallestStep(q.From.Unix(), to))
	}
	if time.Duration(to-from)*time.Second > maxSpan+q.Step {
		return 0, 0, 0, 0, fmt.Errorf("%w: a span of more than %d days", ErrQuery, maxSpan/day)
	}
	return from, to, step, steps, nil
}

// pointFields are the readings of a Point, after which comes the fastest fan.
var pointFields = [...]wire.Field{
	wire.FieldHashrate, wire.FieldHashrateAvg, wire.FieldTempBoard, wire.FieldTempChip, wire.FieldTempInlet, wire.FieldPower,
}

// bin adds up one step.
type bin struct {
	polls, answered int64
	sum             [len(pointFields) + 1]float64 // whole numbers, exact up to 2^53
	n               [len(pointFields) + 1]int64
}

// Miner returns the series of one miner: every step from From to To in order, empty ones too.
func (s *Store) Miner(ctx context.Context, q Query) ([]Point, error) {
	from, to, step, steps, err := q.steps()
	if err != nil {
		return nil, err
	}
	bins := make([]bin, steps)
	err = s.read(ctx, q.Site, q.Miner, from*1000, to*1000, func(samples *wire.Samples) {
		var columns [len(pointFields)]*wire.Col
		for k, f := range pointFields {
			columns[k] = samples.Column(f)
		}
		var fans [4]*wire.Col
		for k := range fans {
			fans[k] = samples.Column(wire.FieldFan0 + wire.Field(k))
		}
		outcomes := samples.Column(wire.FieldOutcome).Values // package wire has checked that none is absent
		for i, ms := range samples.TimeMS {
			if ms < from*1000 || ms >= to*1000 {
				continue
			}
			b := &bins[(ms/1000-from)/step]
			b.polls++
			if telemetry.Outcome(outcomes[i]).Answered() {
				b.answered++
			}
			for k, c := range columns {
				if v, ok := c.Get(i); ok {
					b.sum[k] += float64(v)
					b.n[k]++
				}
			}
			fastest, any := int64(0), false
			for _, c := range fans {
				if v, ok := c.Get(i); ok && (!any || v > fastest) {
					fastest, any = v, true
				}
			}
			if any {
				b.sum[len(pointFields)] += float64(fastest)
				b.n[len(pointFields)]++
			}
		}
	})
	if err != nil {
		return nil, err
	}
	points := make([]Point, steps)
	for i := range points {
		b := &bins[i]
		points[i] = Point{
			At: time.Unix(from+int64(i)*step, 0).UTC(), Polls: b.polls, Answered: b.answered,
			Hashrate: mean[unit.Hashrate](b, 0, 1e6), HashrateAvg: mean[unit.Hashrate](b, 1, 1e6),
			TempBoard: mean[unit.Celsius](b, 2, 0.1), TempChip: mean[unit.Celsius](b, 3, 0.1), TempInlet: mean[unit.Celsius](b, 4, 0.1),
			Power: mean[unit.Watts](b, 5, 0.1), Fan: mean[unit.RPM](b, 6, 1),
		}
	}
	return points, nil
}

// smallestStep is the smallest step, in seconds, of a span that has at most MaxPoints steps wherever its first one begins.
func smallestStep(from, to int64) int64 { return (to-from)/(MaxPoints-1) + 1 }

// mean is the mean of a reading, in its unit.
func mean[T ~float64 | ~int32](b *bin, k int, by float64) unit.Opt[T] {
	if b.n[k] == 0 {
		return unit.Opt[T]{}
	}
	return unit.Some(T(b.sum[k] / float64(b.n[k]) * by))
}
