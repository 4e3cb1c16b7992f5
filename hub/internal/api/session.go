package api

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"
)

// SignInBody is what signing in needs.
type SignInBody struct {
	Key string `json:"key" minLength:"1" maxLength:"200" doc:"An API key, such as hsi_prod_key_…"`
}

// SessionInfo says who is signed in.
type SessionInfo struct {
	KeyID        string   `json:"key_id" format:"uuid" doc:"The key, or the key that opened the session"`
	Name         string   `json:"name" doc:"The key's name"`
	Permissions  []string `json:"permissions" nullable:"false" doc:"What may be done"`
	CustomerID   string   `json:"customer_id,omitempty" format:"uuid" doc:"Whose rows the key reads, and no others; absent: it is the operator's"`
	CustomerName string   `json:"customer_name,omitempty"`
	ExpiresAt    *Time    `json:"expires_at,omitempty" doc:"When the session, or the key, ends; absent when it does not"`
}

type signInInput struct{ Body SignInBody }

type cookieOutput struct {
	SetCookie http.Cookie `header:"Set-Cookie"`
}

type sessionOutput struct{ Body SessionInfo }

func (s *Server) sessionRoutes() {
	register(s, anyone, huma.Operation{
		OperationID: "sign-in", Method: http.MethodPost, Path: "/api/session", Tags: []string{"session"},
		Summary:       "Exchange an API key for a session cookie",
		Description:   "The cookie is HttpOnly and SameSite=Strict, lasts 12 hours and ends with its key. Wrong keys are throttled per address.",
		DefaultStatus: http.StatusNoContent, MaxBodyBytes: 4096,
		Errors: []int{http.StatusUnauthorized, http.StatusForbidden, http.StatusTooManyRequests},
	}, func(ctx context.Context, in *signInInput) (*cookieOutput, error) {
		from := requestOf(ctx).origin
		token, ends, err := s.access.SignIn(ctx, in.Body.Key, from.addr)
		if err != nil {
			return nil, err
		}
		return &cookieOutput{SetCookie: cookie(from, token, ends, s.now())}, nil
	})

	register(s, signedIn, huma.Operation{
		OperationID: "get-session", Method: http.MethodGet, Path: "/api/session", Tags: []string{"session"},
		Summary: "Who is signed in", Errors: []int{http.StatusUnauthorized},
	}, func(ctx context.Context, _ *struct{}) (*sessionOutput, error) {
		p := principal(ctx)
		out := &sessionOutput{Body: SessionInfo{KeyID: uuid.UUID(p.KeyID).String(), Name: p.Name, Permissions: []string{}}}
		if p.Customer != uuid.Nil {
			out.Body.CustomerID, out.Body.CustomerName = p.Customer.String(), p.CustomerName
		}
		for _, perm := range p.Permissions() {
			out.Body.Permissions = append(out.Body.Permissions, string(perm))
		}
		if p.Expires != 0 {
			out.Body.ExpiresAt = &Time{time.Unix(p.Expires, 0).UTC()}
		}
		return out, nil
	})

	register(s, signedIn, huma.Operation{
		OperationID: "sign-out", Method: http.MethodDelete, Path: "/api/session", Tags: []string{"session"},
		Summary: "End the session", DefaultStatus: http.StatusNoContent, Errors: []int{http.StatusUnauthorized, http.StatusForbidden},
	}, func(ctx context.Context, _ *struct{}) (*cookieOutput, error) {
		if err := s.access.SignOut(ctx, principal(ctx), requestOf(ctx).origin.addr); err != nil {
			return nil, err
		}
		return &cookieOutput{SetCookie: cookie(requestOf(ctx).origin, "", time.Time{}, s.now())}, nil
	})
}
