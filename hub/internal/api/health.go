package api

import (
	"context"
	"net/http"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/hashinsight/hashinsight/hub/internal/access"
)

// Health is the short answer: the program runs. It touches nothing else.
type Health struct {
	Status    string   `json:"status" enum:"healthy,degraded,unhealthy"`
	Timestamp Time     `json:"timestamp"`
	Version   string   `json:"version" doc:"The hub's version"`
	Modules   []string `json:"modules" nullable:"false" doc:"Modules that this hub process runs; others may run the rest"`
}

// DetailedHealth adds the state of what the hub needs.
type DetailedHealth struct {
	Health
	Database string      `json:"database" enum:"connected,disconnected"`
	Cache    string      `json:"cache" enum:"available,memory,unavailable"`
	Sites    *SitesCount `json:"sites,omitempty" doc:"Only for a key that may see sites"`
}

// SitesCount says how many sites there are and how many have a live stream.
type SitesCount struct {
	Connected int64 `json:"connected"`
	Known     int64 `json:"known"`
}

type healthOutput struct{ Body Health }

type detailedHealthOutput struct {
	Status int
	Body   DetailedHealth
}

func (s *Server) healthy() Health {
	return Health{Status: "healthy", Timestamp: Time{s.now()}, Version: s.version, Modules: s.modules}
}

func (s *Server) healthRoutes() {
	register(s, anyone, huma.Operation{
		OperationID: "health", Method: http.MethodGet, Path: "/health", Tags: []string{"health"},
		Summary: "Whether the program runs", Description: "Does not touch the database.",
	}, func(context.Context, *struct{}) (*healthOutput, error) {
		return &healthOutput{Body: s.healthy()}, nil
	})

	register(s, anyone, huma.Operation{
		OperationID: "health-detailed", Method: http.MethodGet, Path: "/health/detailed", Tags: []string{"health"},
		Summary: "State of what the hub needs",
		Description: "Answers 503 when the database is down, with the same members. Open to anyone, because with the database down no key can be checked; " +
			"the counts are added for a key that may see sites.",
		Responses: map[string]*huma.Response{"503": {Description: "A required part is down", Content: map[string]*huma.MediaType{
			"application/json": {Schema: &huma.Schema{Ref: "#/components/schemas/DetailedHealth"}}}}},
	}, func(ctx context.Context, _ *struct{}) (*detailedHealthOutput, error) {
		out := &detailedHealthOutput{Status: http.StatusOK, Body: DetailedHealth{
			Health:   s.healthy(),
			Database: "connected", Cache: "memory",
		}}
		if !s.database.up(ctx) {
			out.Status, out.Body.Status, out.Body.Database = http.StatusServiceUnavailable, "unhealthy", "disconnected"
			return out, nil
		}
		if s.apiOff {
			return out, nil
		}
		if p := s.optionalPrincipal(ctx); p != nil && p.May(access.SitesRead) {
			n, err := s.countSites(ctx)
			if err != nil {
				return nil, err
			}
			out.Body.Sites = n
		}
		return out, nil
	})
}

// databaseCheck asks the database at most once a second, however many ask: the route is open to anyone.
type databaseCheck struct {
	ping func(context.Context) error
	now  func() time.Time

	mu sync.Mutex
	at time.Time
	ok bool
}

func (d *databaseCheck) up(ctx context.Context) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if now := d.now(); !d.at.IsZero() && now.Sub(d.at) < time.Second {
		return d.ok
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	d.ok = d.ping(ctx) == nil
	d.at = d.now()
	return d.ok
}
