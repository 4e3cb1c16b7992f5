package api

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/hashinsight/hashinsight/hub/internal/access"
	"github.com/hashinsight/hashinsight/hub/internal/apperr"
	"github.com/hashinsight/hashinsight/hub/internal/fleet"
	"github.com/hashinsight/hashinsight/pkg/ident"
	"github.com/hashinsight/hashinsight/pkg/telemetry"
	"github.com/hashinsight/hashinsight/pkg/unit"
)

// Site is a place with one agent, and what its miners do.
type Site struct {
	ID            string      `json:"id" format:"uuid"`
	Name          string      `json:"name"`
	Connected     bool        `json:"connected" doc:"Whether its agent has a live stream"`
	LastBatchAt   *Time       `json:"last_batch_at,omitempty" doc:"When the newest batch was committed, by the hub's clock"`
	LastSeenAt    *Time       `json:"last_seen_at,omitempty" doc:"When the agent was last heard"`
	AgentVersion  string      `json:"agent_version,omitempty"`
	ClockSkewMS   *int64      `json:"clock_skew_ms,omitempty" doc:"Agent's clock minus the hub's when it connected"`
	PollIntervalS *float64    `json:"poll_interval_s,omitempty"`
	PendingLinks  int64       `json:"pending_links" doc:"Batches stored before the one they follow"`
	BrokenLinks   int64       `json:"broken_links" doc:"Batches that name another batch before them than the one stored"`
	Miners        StateCounts `json:"miners"`
	HashrateHS    *float64    `json:"hashrate_hs,omitempty" doc:"Sum over miners whose values are not stale, hashes per second"`
	PowerW        *float64    `json:"power_w,omitempty" doc:"Sum over miners whose values are not stale, watts"`
	RevokedAt     *Time       `json:"revoked_at,omitempty" doc:"Since when the site is cut off; absent: it is not"`
	RevokedWhy    string      `json:"revoked_why,omitempty"`
}

// StateCounts counts miners by state. Stale ones count in their last state too.
type StateCounts struct {
	Total      int64 `json:"total"`
	Hashing    int64 `json:"hashing"`
	Degraded   int64 `json:"degraded"`
	Sleeping   int64 `json:"sleeping"`
	Overheated int64 `json:"overheated"`
	Faulty     int64 `json:"faulty"`
	NoPool     int64 `json:"no_pool"`
	Starting   int64 `json:"starting"`
	Unknown    int64 `json:"unknown"`
	Stale      int64 `json:"stale"`
}

// SiteList is all sites.
type SiteList struct {
	Count int    `json:"count"`
	Items []Site `json:"items" nullable:"false"`
	Next  string `json:"next,omitempty" doc:"Cursor of the next page; absent on the last"`
}

type siteListOutput struct{ Body SiteList }
type siteOutput struct{ Body Site }
type siteInput struct {
	ID string `path:"id" format:"uuid" doc:"The site's id"`
}

func (s *Server) siteRoutes() {
	register(s, audience(access.SitesRead), huma.Operation{
		OperationID: "list-sites", Method: http.MethodGet, Path: "/api/sites", Tags: []string{"sites"},
		Summary: "Sites with their totals, by name", Errors: []int{http.StatusUnauthorized, http.StatusForbidden},
	}, func(ctx context.Context, _ *struct{}) (*siteListOutput, error) {
		l, err := s.sites.get(ctx, fresh)
		if err != nil {
			return nil, err
		}
		out := &siteListOutput{Body: SiteList{Count: len(l), Items: make([]Site, 0, len(l))}}
		for _, x := range l {
			out.Body.Items = append(out.Body.Items, x.site)
		}
		return out, nil
	})

	register(s, audience(access.SitesRead), huma.Operation{
		OperationID: "get-site", Method: http.MethodGet, Path: "/api/sites/{id}", Tags: []string{"sites"},
		Summary: "One site with its totals", Errors: []int{http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound},
	}, func(ctx context.Context, in *siteInput) (*siteOutput, error) {
		id, err := ident.ParseSiteID(in.ID)
		if err != nil {
			return nil, apperr.E(apperr.Invalid, "VALID_001", "%w", err)
		}
		x, err := s.fleet.Site(ctx, id)
		if err != nil {
			return nil, notFound(err, "site", in.ID)
		}
		return &siteOutput{Body: siteBody(&x)}, nil
	})
}

// siteList is the sites with their encoded forms, by which a stream sees what changed.
type siteList []encodedSite

type encodedSite struct {
	site Site
	json []byte
}

func (s *Server) loadSites(ctx context.Context, _ siteList) (siteList, error) {
	sites, err := s.fleet.Sites(ctx)
	if err != nil {
		return nil, err
	}
	out := make(siteList, len(sites))
	for i := range sites {
		out[i].site = siteBody(&sites[i])
		if out[i].json, err = json.Marshal(&out[i].site); err != nil {
			return nil, fmt.Errorf("encode site %s: %w", sites[i].ID, err)
		}
	}
	return out, nil
}

// changed returns the encoded sites of l that are not in before in the same form.
func (l siteList) changed(before siteList) [][]byte {
	old := make(map[string][]byte, len(before))
	for _, x := range before {
		old[x.site.ID] = x.json
	}
	var out [][]byte
	for _, x := range l {
		if !bytes.Equal(old[x.site.ID], x.json) {
			out = append(out, x.json)
		}
	}
	return out
}

func (s *Server) countSites(ctx context.Context) (*SitesCount, error) {
	n, err := s.fleet.Counts(ctx)
	if err != nil {
		return nil, err
	}
	return &SitesCount{Connected: n.Connected, Known: n.Known}, nil
}

func siteBody(x *fleet.Site) Site {
	c := &x.Miners
	out := Site{
		ID: x.ID.String(), Name: x.Name, Connected: x.Connected, LastBatchAt: timeOf(x.LastBatchAt), LastSeenAt: timeOf(x.LastSeenAt),
		AgentVersion: x.AgentVersion, PendingLinks: x.PendingLinks, BrokenLinks: x.BrokenLinks,
		Miners: StateCounts{
			Total: c.Total, Stale: c.Stale, Hashing: c.In(telemetry.StateHashing), Degraded: c.In(telemetry.StateDegraded),
			Sleeping: c.In(telemetry.StateSleeping), Overheated: c.In(telemetry.StateOverheated), Faulty: c.In(telemetry.StateFaulty),
			NoPool: c.In(telemetry.StateNoPool), Starting: c.In(telemetry.StateStarting), Unknown: c.In(telemetry.StateUnknown),
		},
		HashrateHS: number(x.Hashrate), PowerW: number(x.Power), RevokedAt: timeOf(x.RevokedAt), RevokedWhy: x.RevokedWhy,
	}
	if d, ok := x.Skew.Get(); ok {
		ms := d.Milliseconds()
		out.ClockSkewMS = &ms
	}
	if d, ok := x.PollInterval.Get(); ok {
		out.PollIntervalS = secondsOf(d)
	}
	return out
}

// number turns an optional quantity into an optional member.
func number[T ~float64](o unit.Opt[T]) *float64 {
	v, ok := o.Get()
	if !ok {
		return nil
	}
	f := float64(v)
	return &f
}

func pointer[T any](o unit.Opt[T]) *T {
	v, ok := o.Get()
	if !ok {
		return nil
	}
	return &v
}

func secondsOf(d time.Duration) *float64 {
	s := d.Seconds()
	return &s
}
