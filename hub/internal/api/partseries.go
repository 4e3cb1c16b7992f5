package api

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/hashinsight/hashinsight/hub/internal/access"
	"github.com/hashinsight/hashinsight/hub/internal/series"
	"github.com/hashinsight/hashinsight/pkg/unit"
)

// Steps is what the series of a miner's parts begin with.
type Steps struct {
	From  Time    `json:"from" doc:"Beginning of the first step"`
	To    Time    `json:"to"`
	StepS int64   `json:"step_s"`
	Times []int64 `json:"times" nullable:"false" doc:"Beginning of each step, seconds since 1970 UTC"`
}

// BoardsSeries is the values of a miner's hash boards over time.
type BoardsSeries struct {
	Steps
	Boards []BoardSeries `json:"boards" nullable:"false" doc:"The boards that any poll of the span showed, by index; at most 32"`
}

// BoardSeries is one board of BoardsSeries.
type BoardSeries struct {
	Index  int32                 `json:"index" doc:"As the firmware numbers it"`
	Fields map[string][]*float64 `json:"fields" doc:"Each as long as times, null where unknown: hashrate_hs (mean), temp_c (highest of its sensors), chips_working (fewest), hardware_errors (counter at a step's last poll), polls (that showed the board, never null)"`
}

// PoolsSeries is what a miner said of its pools over time.
type PoolsSeries struct {
	Steps
	Pools []PoolSeries `json:"pools" nullable:"false" doc:"The pools that any poll of the span showed, by address and worker; at most 32"`
}

// PoolSeries is one pool of PoolsSeries.
type PoolSeries struct {
	URL    string                `json:"url"`
	Worker string                `json:"worker"`
	Fields map[string][]*float64 `json:"fields" doc:"Each as long as times, null where unknown: accepted, rejected, stale (the miner's counters at a step's last poll; they begin anew when it restarts), polls (that showed the pool), alive and active (how many of those showed it so)"`
}

type boardsSeriesInput struct{ MinerSpan }
type boardsSeriesOutput struct{ Body BoardsSeries }
type poolsSeriesInput struct{ MinerSpan }
type poolsSeriesOutput struct{ Body PoolsSeries }

func (s *Server) partSeriesRoutes() {
	errs := []int{http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound}

	register(s, audience(access.MinersRead), huma.Operation{
		OperationID: "get-miner-boards", Method: http.MethodGet, Path: "/api/miners/{id}/boards", Tags: []string{"miners"},
		Summary: "The values of one miner's boards over time", Errors: errs,
	}, func(ctx context.Context, in *boardsSeriesInput) (*boardsSeriesOutput, error) {
		q, err := s.minerQuery(ctx, &in.MinerSpan)
		if err != nil {
			return nil, err
		}
		found, err := s.series.Boards(ctx, q)
		if err != nil {
			return nil, badQuery(err)
		}
		out := BoardsSeries{Steps: stepsOf(q), Boards: make([]BoardSeries, 0, len(found))}
		for _, b := range found {
			out.Boards = append(out.Boards, BoardSeries{b.Index, map[string][]*float64{
				"polls":           each(b.Points, func(p *series.BoardPoint) *float64 { return counted(p.Polls) }),
				"hashrate_hs":     each(b.Points, func(p *series.BoardPoint) *float64 { return number(p.Hashrate) }),
				"temp_c":          each(b.Points, func(p *series.BoardPoint) *float64 { return number(p.Temp) }),
				"chips_working":   each(b.Points, func(p *series.BoardPoint) *float64 { return whole(p.ChipsWorking) }),
				"hardware_errors": each(b.Points, func(p *series.BoardPoint) *float64 { return whole(p.HardwareErrors) }),
			}})
		}
		return &boardsSeriesOutput{Body: out}, nil
	})

	register(s, audience(access.MinersRead), huma.Operation{
		OperationID: "get-miner-pools", Method: http.MethodGet, Path: "/api/miners/{id}/pools", Tags: []string{"miners"},
		Summary: "What one miner said of its pools over time", Errors: errs,
	}, func(ctx context.Context, in *poolsSeriesInput) (*poolsSeriesOutput, error) {
		q, err := s.minerQuery(ctx, &in.MinerSpan)
		if err != nil {
			return nil, err
		}
		found, err := s.series.Pools(ctx, q)
		if err != nil {
			return nil, badQuery(err)
		}
		out := PoolsSeries{Steps: stepsOf(q), Pools: make([]PoolSeries, 0, len(found))}
		for _, x := range found {
			out.Pools = append(out.Pools, PoolSeries{x.URL, x.Worker, map[string][]*float64{
				"polls":    each(x.Points, func(p *series.PoolPoint) *float64 { return counted(p.Polls) }),
				"alive":    each(x.Points, func(p *series.PoolPoint) *float64 { return counted(p.Alive) }),
				"active":   each(x.Points, func(p *series.PoolPoint) *float64 { return counted(p.Active) }),
				"accepted": each(x.Points, func(p *series.PoolPoint) *float64 { return whole(p.Accepted) }),
				"rejected": each(x.Points, func(p *series.PoolPoint) *float64 { return whole(p.Rejected) }),
				"stale":    each(x.Points, func(p *series.PoolPoint) *float64 { return whole(p.Stale) }),
			}})
		}
		return &poolsSeriesOutput{Body: out}, nil
	})
}

// stepsOf lists the steps of a query that series has answered, and so found to be within its bounds.
func stepsOf(q series.Query) Steps {
	step := int64(q.Step / time.Second)
	return evenSteps(q.From.Unix()/step*step, q.To, step)
}

// evenSteps lists the steps from a time in s since 1970 UTC to an end that is not included.
func evenSteps(from int64, to time.Time, step int64) Steps {
	out := Steps{From: Time{time.Unix(from, 0)}, To: Time{to}, StepS: step, Times: []int64{}}
	for at := from; at < to.Unix(); at += step {
		out.Times = append(out.Times, at)
	}
	return out
}

// each takes one value of every point.
func each[P any](points []P, value func(*P) *float64) []*float64 {
	out := make([]*float64, len(points))
	for i := range points {
		out[i] = value(&points[i])
	}
	return out
}

func counted(n int64) *float64 {
	f := float64(n)
	return &f
}

// whole turns an optional whole number into an optional member.
func whole[T ~int32 | ~int64](o unit.Opt[T]) *float64 {
	v, ok := o.Get()
	if !ok {
		return nil
	}
	return counted(int64(v))
}
