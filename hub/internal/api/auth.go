package api

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"github.com/hashinsight/hashinsight/hub/internal/access"
	"github.com/hashinsight/hashinsight/hub/internal/apperr"
)

// audience is who may call an operation: a permission's name, or one of these.
type audience string

const (
	anyone   audience = "anyone"                                       // no key needed; a key that is shown is still checked where the operation asks for it
	signedIn audience = "signed in"                                    // any key or session
	ofTheLog audience = "signed in, or anyone where the log is public" // of the log and its anchors
)

// permissionExtension is the member of the OpenAPI document that says who may call an operation.
const permissionExtension = "x-permission"

// sessionCookie holds the page's session.
const sessionCookie = "hsi_session"

// register adds an operation together with who may call it. There is no other way to add one.
func register[I, O any](s *Server, who audience, op huma.Operation, handle func(context.Context, *I) (*O, error)) {
	if op.Extensions == nil {
		op.Extensions = make(map[string]any)
	}
	op.Extensions[permissionExtension] = string(who)
	switch {
	case who == ofTheLog:
		op.Security = []map[string][]string{{"key": {}}, {"session": {}}, {}}
		op.Middlewares = append(huma.Middlewares{s.requireLog()}, op.Middlewares...)
	case who != anyone:
		op.Security = []map[string][]string{{"key": {}}, {"session": {}}}
		op.Middlewares = append(huma.Middlewares{s.require(who)}, op.Middlewares...)
	case isAPI(op.Path): // not /health, which balancers and monitors ask as often as they like
		op.Middlewares = append(huma.Middlewares{s.limited}, op.Middlewares...)
	}
	huma.Register(s.api, op, func(ctx context.Context, in *I) (*O, error) {
		out, err := handle(ctx, in)
		if err != nil {
			return nil, problemOf(ctx, err)
		}
		return out, nil
	})
}

// require lets a request through when it comes with a key or session that may do what the operation needs.
func (s *Server) require(who audience) func(huma.Context, func(huma.Context)) {
	return func(ctx huma.Context, next func(huma.Context)) {
		r, w := humago.Unwrap(ctx)
		p, err := s.authenticate(r)
		switch {
		case err == nil:
			err = s.limitPrincipal(r.Context(), p)
		case apperr.Of(err).HTTP == http.StatusUnauthorized: // counted for its address, and refused for that first
			if limited := s.limitAddress(r.Context()); limited != nil {
				err = limited
			}
		}
		if err == nil && who != signedIn && !p.May(access.Permission(who)) {
			s.access.Denied(r.Context(), p, requestOf(r.Context()).origin.addr, r.Method+" "+routeOf(r), access.Permission(who))
			err = apperr.E(apperr.Forbidden, "AUTH_002", "this needs the permission %s, which your key does not have", string(who))
		}
		if err != nil {
			writeProblem(w, problemOf(r.Context(), err))
			return
		}
		next(ctx)
	}
}

// requireLog lets a request through that may read the log: with any key or session, or with none where the log is public. Each counts for its key or for
// its address.
func (s *Server) requireLog() func(huma.Context, func(huma.Context)) {
	keyed := s.require(signedIn)
	return func(ctx huma.Context, next func(huma.Context)) {
		r, w := humago.Unwrap(ctx)
		if !s.transparency.Public || r.Header.Get("Authorization") != "" { // a wrong key is refused: whoever shows one means to be known by it
			keyed(ctx, next)
			return
		}
		p := s.optionalPrincipal(r.Context()) // a session that has ended is no reason to refuse what needs none
		if p == nil {
			s.limited(ctx, next)
			return
		}
		if err := s.limitPrincipal(r.Context(), *p); err != nil {
			writeProblem(w, problemOf(r.Context(), err))
			return
		}
		next(ctx)
	}
}

// limited counts requests to an operation that is open to anyone for their address.
func (s *Server) limited(ctx huma.Context, next func(huma.Context)) {
	r, w := humago.Unwrap(ctx)
	if err := s.limitAddress(r.Context()); err != nil {
		writeProblem(w, problemOf(r.Context(), err))
		return
	}
	next(ctx)
}

// authenticate finds out who makes a request, from its key or else from its cookie, and notes it for the access record.
func (s *Server) authenticate(r *http.Request) (access.Principal, error) {
	info := requestOf(r.Context())
	p, err := s.credential(r, info.origin)
	if err != nil {
		return access.Principal{}, err
	}
	info.principal = &p
	return p, nil
}

func (s *Server) credential(r *http.Request, from origin) (access.Principal, error) {
	if header := r.Header.Get("Authorization"); header != "" {
		scheme, key, _ := strings.Cut(header, " ")
		if !strings.EqualFold(scheme, "Bearer") {
			return access.Principal{}, apperr.E(apperr.Unauthenticated, "AUTH_001", "the Authorization header must be: Bearer, a space, and your API key")
		}
		return s.access.Key(r.Context(), strings.TrimSpace(key), from.addr)
	}
	if c, err := r.Cookie(sessionCookie); err == nil && c.Value != "" {
		return s.access.Session(r.Context(), c.Value, from.addr)
	}
	if client := requestOf(r.Context()).client; client != nil {
		return s.access.Certificate(r.Context(), client.Name, client.Key, from.addr)
	}
	return access.Principal{}, apperr.E(apperr.Unauthenticated, "AUTH_001", "this needs an API key or a session: nobody is signed in")
}

// principal returns who makes the request of an operation that is not open to anyone.
func principal(ctx context.Context) access.Principal {
	if p := requestOf(ctx).principal; p != nil {
		return *p
	}
	return access.Principal{}
}

// cookie makes the session's cookie; with an empty value one that clears it.
func cookie(from origin, value string, ends, now time.Time) http.Cookie {
	c := http.Cookie{ //nolint:gosec // Secure follows the connection: a plain one on loopback could not keep the cookie
		Name: sessionCookie, Value: value, Path: "/", HttpOnly: true, SameSite: http.SameSiteStrictMode, Secure: from.tls,
		MaxAge: -1,
	}
	if value != "" {
		c.Expires, c.MaxAge = ends, int(ends.Sub(now)/time.Second)
	}
	return c
}

// optionalPrincipal returns who makes a request to an operation that is open to anyone, or nil.
func (s *Server) optionalPrincipal(ctx context.Context) *access.Principal {
	r := requestOf(ctx).request
	if r == nil || (r.Header.Get("Authorization") == "" && len(r.CookiesNamed(sessionCookie)) == 0) {
		return nil
	}
	p, err := s.authenticate(r)
	if err != nil {
		return nil
	}
	return &p
}
