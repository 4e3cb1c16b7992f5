package api

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/hashinsight/hashinsight/hub/internal/access"
)

// Agent is the program at a site, as the hub last saw it. Its own members are absent for a site that never connected.
type Agent struct {
	SiteID              string `json:"site_id" format:"uuid"`
	SiteName            string `json:"site_name"`
	Connected           bool   `json:"connected"`
	RemoteAddress       string `json:"remote_address,omitempty"`
	Version             string `json:"version,omitempty"`
	ConnectedAt         *Time  `json:"connected_at,omitempty"`
	LastSeenAt          *Time  `json:"last_seen_at,omitempty"`
	SpoolID             string `json:"spool_id,omitempty" format:"uuid"`
	NewestSeq           *int64 `json:"newest_seq,omitempty" doc:"Newest batch of its spool that the hub knows of"`
	CommittedBatches    int64  `json:"committed_batches" doc:"Batches of the site that are stored, of all its spools"`
	CertificateNotAfter *Time  `json:"certificate_not_after,omitempty"`
	ClockSkewMS         *int64 `json:"clock_skew_ms,omitempty" doc:"Agent's clock minus the hub's when it connected"`
}

// AgentList is the agents of all sites.
type AgentList struct {
	Count int     `json:"count"`
	Items []Agent `json:"items" nullable:"false"`
}

type agentListOutput struct{ Body AgentList }

func (s *Server) agentRoutes() {
	register(s, audience(access.AgentsRead), huma.Operation{
		OperationID: "list-agents", Method: http.MethodGet, Path: "/api/agents", Tags: []string{"agents"},
		Summary: "Agents, by their site's name", Errors: []int{http.StatusUnauthorized, http.StatusForbidden},
	}, func(ctx context.Context, _ *struct{}) (*agentListOutput, error) {
		agents, err := s.fleet.Agents(ctx)
		if err != nil {
			return nil, err
		}
		out := &agentListOutput{Body: AgentList{Count: len(agents), Items: make([]Agent, 0, len(agents))}}
		for i := range agents {
			a := &agents[i]
			item := Agent{
				SiteID: a.Site.String(), SiteName: a.SiteName, Connected: a.Connected, RemoteAddress: a.Remote, Version: a.Version,
				ConnectedAt: timeOf(a.ConnectedAt), LastSeenAt: timeOf(a.LastSeenAt), CommittedBatches: a.CommittedBatches,
				CertificateNotAfter: timeOf(a.CertificateUntil),
			}
			if spool, ok := a.Spool.Get(); ok {
				item.SpoolID, item.NewestSeq = spool.String(), &a.NewestSeq
			}
			if skew, ok := a.Skew.Get(); ok {
				ms := skew.Milliseconds()
				item.ClockSkewMS = &ms
			}
			out.Body.Items = append(out.Body.Items, item)
		}
		return out, nil
	})
}
