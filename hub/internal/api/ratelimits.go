package api

import (
	"context"
	"net/http"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"

	"github.com/hashinsight/hashinsight/hub/internal/access"
	"github.com/hashinsight/hashinsight/hub/internal/apperr"
)

// RateLimit is everyone's rate limit.
type RateLimit struct {
	Enabled             bool `json:"enabled" doc:"Whether this hub process limits at all"`
	RequestsPerMinute   int  `json:"requests_per_minute" doc:"By key, or by address without one; 0 is no limit"`
	ConfiguredPerMinute int  `json:"configured_per_minute" doc:"What the settings say, and what holds unless a limit was set at run time"`
}

// RateLimitOrder is a new limit.
type RateLimitOrder struct {
	RequestsPerMinute *int `json:"requests_per_minute,omitempty" minimum:"0" maximum:"1000000" doc:"0 for no limit; absent to go back to the usual"`
}

type rateLimitOutput struct{ Body RateLimit }

type rateLimitInput struct{ Body RateLimitOrder }

type keyRateLimitInput struct {
	ID   string `path:"id" format:"uuid" doc:"The key's id"`
	Body RateLimitOrder
}

func (s *Server) rateLimitRoutes() {
	errs := []int{http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden, http.StatusConflict, http.StatusUnprocessableEntity}
	register(s, audience(access.RateLimitsWrite), huma.Operation{
		OperationID: "get-rate-limit", Method: http.MethodGet, Path: "/api/admin/rate-limit", Tags: []string{"admin"},
		Summary: "Everyone's rate limit", Errors: []int{http.StatusUnauthorized, http.StatusForbidden},
	}, func(context.Context, *struct{}) (*rateLimitOutput, error) {
		return s.rateLimit(), nil
	})

	register(s, audience(access.RateLimitsWrite), huma.Operation{
		OperationID: "set-rate-limit", Method: http.MethodPut, Path: "/api/admin/rate-limit", Tags: []string{"admin"}, MaxBodyBytes: 4096,
		Summary:     "Change everyone's rate limit in all hub processes",
		Description: "Holds in this process at once and in the others within 2 s, until it is changed again.", Errors: errs,
	}, func(ctx context.Context, in *rateLimitInput) (*rateLimitOutput, error) {
		if s.limiter == nil {
			return nil, apperr.E(apperr.Conflict, "CONFLICT_001", "this hub process does not limit requests: its settings switch that off")
		}
		if err := s.limiter.SetLimit(ctx, actor(ctx), in.Body.RequestsPerMinute); err != nil {
			return nil, err
		}
		return s.rateLimit(), nil
	})

	register(s, audience(access.RateLimitsWrite), huma.Operation{
		OperationID: "set-key-rate-limit", Method: http.MethodPut, Path: "/api/admin/apikeys/{id}/rate-limit", Tags: []string{"admin"}, MaxBodyBytes: 4096,
		Summary:       "Give a key a rate limit of its own, or take it away",
		Description:   "Holds in every hub process within 3 s. Only for keys that may do no more than the caller's own.",
		DefaultStatus: http.StatusNoContent, Errors: append(errs, http.StatusNotFound),
	}, func(ctx context.Context, in *keyRateLimitInput) (*struct{}, error) {
		id, err := uuid.Parse(in.ID)
		if err != nil {
			return nil, apperr.E(apperr.Invalid, "VALID_001", "id: want a key's id")
		}
		return nil, s.access.LimitKey(ctx, actor(ctx), id, in.Body.RequestsPerMinute)
	})
}

func (s *Server) rateLimit() *rateLimitOutput {
	out := &rateLimitOutput{}
	if s.limiter != nil {
		out.Body.Enabled = true
		out.Body.RequestsPerMinute, out.Body.ConfiguredPerMinute = s.limiter.Limits()
	}
	return out
}

// limitPrincipal counts a request of a key.
func (s *Server) limitPrincipal(ctx context.Context, p access.Principal) error {
	if s.limiter == nil {
		return nil
	}
	return s.limiter.Principal(ctx, p)
}

// limitAddress counts a request of nobody known.
func (s *Server) limitAddress(ctx context.Context) error {
	if s.limiter == nil {
		return nil
	}
	return s.limiter.Address(ctx, requestOf(ctx).origin.addr)
}

// isAdmin reports whether a path is for administration only.
func isAdmin(path string) bool { return path == "/api/admin" || strings.HasPrefix(path, "/api/admin/") }
