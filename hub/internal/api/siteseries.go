package api

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/hashinsight/hashinsight/hub/internal/access"
	"github.com/hashinsight/hashinsight/hub/internal/apperr"
	"github.com/hashinsight/hashinsight/hub/internal/series"
	"github.com/hashinsight/hashinsight/pkg/ident"
)

// siteStep is the length of a step of a site's series, s.
const siteStep = 300

// SiteSeries is a site's sums over time, in steps of 5 minutes.
type SiteSeries struct {
	Steps
	Fields map[string][]*float64 `json:"fields" doc:"Each as long as times: hashrate_hs and power_w (sums of the miners' means), temp_chip_c (highest of any miner), null where no miner reported one; miners, miners_answered, polls, answered are counts and always there. The newest steps are written up to 5 minutes late"`
}

type siteSeriesInput struct {
	ID   string `path:"id" format:"uuid" doc:"The site's id"`
	From string `query:"from" maxLength:"40" doc:"RFC 3339; by default 6 hours before to. Moved back to a whole step"`
	To   string `query:"to" maxLength:"40" doc:"RFC 3339, not included; by default now. At most 31 days after from"`
}

type siteSeriesOutput struct{ Body SiteSeries }

func (s *Server) siteSeriesRoutes() {
	register(s, audience(access.SitesRead), huma.Operation{
		OperationID: "get-site-series", Method: http.MethodGet, Path: "/api/sites/{id}/series", Tags: []string{"sites"},
		Summary: "One site's sums over time",
		Errors:  []int{http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound},
	}, func(ctx context.Context, in *siteSeriesInput) (*siteSeriesOutput, error) {
		id, err := ident.ParseSiteID(in.ID)
		if err != nil {
			return nil, apperr.E(apperr.Invalid, "VALID_001", "%w", err)
		}
		from, to, err := span(in.From, in.To, s.now())
		if err != nil {
			return nil, err
		}
		sites, err := s.sites.get(ctx, fresh)
		if err != nil {
			return nil, err
		}
		if !sites.has(id.String()) {
			return nil, apperr.E(apperr.NotFound, "NOTFOUND_001", "site %s does not exist", id)
		}
		from = from.Truncate(siteStep * time.Second) // whole 5 minutes since the year 1 are whole ones since 1970 too
		points, err := s.series.Site(ctx, id, from, to)
		if err != nil {
			return nil, badQuery(err)
		}
		return &siteSeriesOutput{Body: siteSeriesBody(points, evenSteps(from.Unix(), to, siteStep))}, nil
	})
}

func (l siteList) has(id string) bool {
	for i := range l {
		if l[i].site.ID == id {
			return true
		}
	}
	return false
}

// siteSeriesBody puts points, some of which may be left out, onto steps.
func siteSeriesBody(points []series.SitePoint, steps Steps) SiteSeries {
	even := make([]series.SitePoint, len(steps.Times))
	for _, p := range points {
		if i := (p.At.Unix() - steps.From.Unix()) / siteStep; i >= 0 && i < int64(len(even)) {
			even[i] = p
		}
	}
	return SiteSeries{Steps: steps, Fields: map[string][]*float64{
		"hashrate_hs":     each(even, func(p *series.SitePoint) *float64 { return number(p.Hashrate) }),
		"power_w":         each(even, func(p *series.SitePoint) *float64 { return number(p.Power) }),
		"temp_chip_c":     each(even, func(p *series.SitePoint) *float64 { return number(p.TempChip) }),
		"miners":          each(even, func(p *series.SitePoint) *float64 { return counted(p.Miners) }),
		"miners_answered": each(even, func(p *series.SitePoint) *float64 { return counted(p.MinersAnswered) }),
		"polls":           each(even, func(p *series.SitePoint) *float64 { return counted(p.Polls) }),
		"answered":        each(even, func(p *series.SitePoint) *float64 { return counted(p.Answered) }),
	}}
}
