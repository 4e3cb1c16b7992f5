package api

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/hashinsight/hashinsight/hub/internal/access"
	"github.com/hashinsight/hashinsight/hub/internal/apperr"
	"github.com/hashinsight/hashinsight/hub/internal/series"
	"github.com/hashinsight/hashinsight/pkg/ident"
)

// Defaults of a series that says less.
const (
	defaultSpan = 6 * time.Hour
	defaultStep = time.Minute
)

// Series is a miner's values over time, in steps of equal length.
type Series struct {
	From   Time                  `json:"from" doc:"Beginning of the first step"`
	To     Time                  `json:"to"`
	StepS  int64                 `json:"step_s"`
	Times  []int64               `json:"times" nullable:"false" doc:"Beginning of each step, seconds since 1970 UTC"`
	Fields map[string][]*float64 `json:"fields" doc:"One list a field, as long as times: the mean of a step's readings, null where there were none. polls and answered are counts and always there"`
}

// MinerSpan selects a miner, a span and a step. It is exported because huma passes over embedded structs that are not.
type MinerSpan struct {
	ID   string `path:"id" format:"uuid" doc:"The miner's id"`
	From string `query:"from" maxLength:"40" doc:"RFC 3339; by default 6 hours before to. Moved back to a whole step"`
	To   string `query:"to" maxLength:"40" doc:"RFC 3339, not included; by default now"`
	Step string `query:"step" maxLength:"20" doc:"Such as 60s or 5m; by default a minute, or as much more as the span needs. A series has at most 2,000 steps"`
}

type seriesInput struct {
	MinerSpan
	Fields string `query:"fields" maxLength:"200" doc:"Comma-separated: hashrate_hs, hashrate_avg_hs, temp_board_c, temp_chip_c, temp_inlet_c, power_w, fan_rpm (the units may be left out); by default all"`
}

type seriesOutput struct{ Body Series }

// seriesFields are the fields a series can have, in the order of its documentation.
var seriesFields = []struct {
	name, short string
	value       func(*series.Point) *float64
}{
	{"hashrate_hs", "hashrate", func(p *series.Point) *float64 { return number(p.Hashrate) }},
	{"hashrate_avg_hs", "hashrate_avg", func(p *series.Point) *float64 { return number(p.HashrateAvg) }},
	{"temp_board_c", "temp_board", func(p *series.Point) *float64 { return number(p.TempBoard) }},
	{"temp_chip_c", "temp_chip", func(p *series.Point) *float64 { return number(p.TempChip) }},
	{"temp_inlet_c", "temp_inlet", func(p *series.Point) *float64 { return number(p.TempInlet) }},
	{"power_w", "power", func(p *series.Point) *float64 { return number(p.Power) }},
	{"fan_rpm", "fan", func(p *series.Point) *float64 { return whole(p.Fan) }},
}

func (s *Server) seriesRoutes() {
	register(s, audience(access.MinersRead), huma.Operation{
		OperationID: "get-miner-series", Method: http.MethodGet, Path: "/api/miners/{id}/series", Tags: []string{"miners"},
		Summary: "One miner's values over time",
		Errors:  []int{http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound},
	}, func(ctx context.Context, in *seriesInput) (*seriesOutput, error) {
		wanted, err := in.wanted()
		if err != nil {
			return nil, err
		}
		q, err := s.minerQuery(ctx, &in.MinerSpan)
		if err != nil {
			return nil, err
		}
		points, err := s.series.Miner(ctx, q)
		if err != nil {
			return nil, badQuery(err)
		}
		return &seriesOutput{Body: seriesBody(points, q, wanted)}, nil
	})
}

// minerQuery reads a miner's span and finds its site.
func (s *Server) minerQuery(ctx context.Context, in *MinerSpan) (series.Query, error) {
	id, err := ident.ParseMinerID(in.ID)
	if err != nil {
		return series.Query{}, apperr.E(apperr.Invalid, "VALID_001", "%w", err)
	}
	q, err := in.query(s.now())
	if err != nil {
		return q, err
	}
	img, err := s.miners.get(ctx, fresh)
	if err != nil {
		return q, err
	}
	i, ok := img.index[id]
	if !ok {
		return q, apperr.E(apperr.NotFound, "NOTFOUND_001", "miner %s does not exist", id)
	}
	q.Site, q.Miner = img.rows[i].Site, id
	return q, nil
}

// badQuery gives the error of a query that cannot be answered as it is put its code.
func badQuery(err error) error {
	if errors.Is(err, series.ErrQuery) {
		return apperr.E(apperr.Invalid, "VALID_001", "%w", err)
	}
	return err
}

// query reads the span and the step.
func (in *MinerSpan) query(now time.Time) (series.Query, error) {
	var q series.Query
	var err error
	if q.From, q.To, err = span(in.From, in.To, now); err != nil {
		return q, err
	}
	if in.Step == "" {
		// One step more than fits, because the first is moved back.
		least := q.To.Sub(q.From)/(series.MaxPoints-1) + time.Second
		q.Step = max(defaultStep, least.Truncate(time.Second))
		return q, nil
	}
	if n, nerr := strconv.Atoi(in.Step); nerr == nil {
		q.Step = time.Duration(n) * time.Second
	} else if q.Step, err = time.ParseDuration(in.Step); err != nil {
		return q, apperr.E(apperr.Invalid, "VALID_001", "step is %.20q, it must be a length of time such as 60s or 5m", in.Step)
	}
	return q, nil
}

// span reads the ends of a span, either of which may be left out.
func span(from, to string, now time.Time) (begin, end time.Time, err error) {
	end = now
	if to != "" {
		if end, err = time.Parse(time.RFC3339, to); err != nil {
			return begin, end, badTime("to", to)
		}
	}
	begin = end.Add(-defaultSpan)
	if from != "" {
		if begin, err = time.Parse(time.RFC3339, from); err != nil {
			return begin, end, badTime("from", from)
		}
	}
	return begin, end, nil
}

func badTime(name, value string) error {
	return apperr.E(apperr.Invalid, "VALID_001", "%s is %.40q, it must be a time such as 2026-01-02T15:04:05Z", name, value)
}

// wanted returns which of seriesFields to send.
func (in *seriesInput) wanted() ([]bool, error) {
	out := make([]bool, len(seriesFields))
	if in.Fields == "" {
		for i := range out {
			out[i] = true
		}
		return out, nil
	}
next:
	for name := range strings.SplitSeq(in.Fields, ",") {
		name = strings.TrimSpace(name)
		if name == "polls" || name == "answered" {
			continue
		}
		for i, f := range seriesFields {
			if name == f.name || name == f.short {
				out[i] = true
				continue next
			}
		}
		return nil, apperr.E(apperr.Invalid, "VALID_001", "fields has %.40q, which is no field of a series", name)
	}
	return out, nil
}

func seriesBody(points []series.Point, q series.Query, wanted []bool) Series {
	out := Series{To: Time{q.To}, StepS: int64(q.Step / time.Second), Times: make([]int64, len(points)), Fields: make(map[string][]*float64, len(seriesFields)+2)}
	polls, answered := make([]*float64, len(points)), make([]*float64, len(points))
	for i := range points {
		p := &points[i]
		out.Times[i] = p.At.Unix()
		n, m := float64(p.Polls), float64(p.Answered)
		polls[i], answered[i] = &n, &m
	}
	if len(points) > 0 {
		out.From = Time{points[0].At}
	}
	out.Fields["polls"], out.Fields["answered"] = polls, answered
	for k, f := range seriesFields {
		if !wanted[k] {
			continue
		}
		values := make([]*float64, len(points))
		for i := range points {
			values[i] = f.value(&points[i])
		}
		out.Fields[f.name] = values
	}
	return out
}
