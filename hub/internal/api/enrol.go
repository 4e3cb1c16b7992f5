package api

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/hashinsight/hashinsight/hub/internal/access"
	"github.com/hashinsight/hashinsight/hub/internal/apperr"
	"github.com/hashinsight/hashinsight/hub/internal/enrol"
	"github.com/hashinsight/hashinsight/pkg/ident"
)

// JoinToken is a token with which a site joins, without its secret, which nobody has but whom it was given to.
type JoinToken struct {
	ID         string `json:"id"`
	SiteName   string `json:"site_name"`
	State      string `json:"state" enum:"open,waiting,approved,refused,used,revoked,expired" doc:"waiting: somebody came with it, and a person has to compare fingerprints"`
	Source     string `json:"source,omitempty" doc:"Network that it may be used from; absent: any"`
	Approval   bool   `json:"approval" doc:"A person compares fingerprints before the site is let in"`
	ReplaceKey bool   `json:"replace_key" doc:"A known site may come with another evidence key, which ends the old one"`
	CreatedAt  Time   `json:"created_at"`
	CreatedBy  string `json:"created_by"`
	ExpiresAt  Time   `json:"expires_at"`
	UsedAt     *Time  `json:"used_at,omitempty"`
	UsedFrom   string `json:"used_from,omitempty"`
	SiteID     string `json:"site_id,omitempty" format:"uuid" doc:"The site that joined with it"`

	Fingerprint  string `json:"fingerprint,omitempty" doc:"Of the keys that came with it, as the site's screen shows it"`
	CameAt       *Time  `json:"came_at,omitempty"`
	CameFrom     string `json:"came_from,omitempty"`
	AgentVersion string `json:"agent_version,omitempty"`
	DecidedBy    string `json:"decided_by,omitempty"`
}

// NewJoinToken is a token that was just made.
type NewJoinToken struct {
	JoinToken
	Token string `json:"token" doc:"The token itself: shown here and never again"`
	Hub   string `json:"hub" doc:"host:port that the agent is given beside the token, or several, separated by commas"`
}

// JoinTokenList is one page of tokens.
type JoinTokenList struct {
	Items []JoinToken `json:"items" nullable:"false"`
	Next  string      `json:"next,omitempty" doc:"Cursor of the next page; absent on the last"`
}

// JoinTokenOrder is what a new token shall be.
type JoinTokenOrder struct {
	SiteName     string `json:"site_name" minLength:"1" maxLength:"100" doc:"The site that joins with it; a known one comes back under its id"`
	ValidMinutes int    `json:"valid_minutes,omitempty" minimum:"1" maximum:"1440" doc:"60 by default"`
	Source       string `json:"source,omitempty" maxLength:"50" doc:"Network that it may be used from, such as 203.0.113.0/24; any by default"`
	Approval     bool   `json:"approval,omitempty" doc:"Let the site in only after a person has compared fingerprints"`
	ReplaceKey   bool   `json:"replace_key,omitempty" doc:"The site's machine is a new one: its other evidence keys end"`
}

// Decision names the fingerprint that was compared.
type Decision struct {
	Fingerprint string `json:"fingerprint" minLength:"1" maxLength:"100" doc:"As the site's screen shows it, which must be the one of the token's waiting agent"`
}

// SiteRevocation says why a site is cut off.
type SiteRevocation struct {
	Why string `json:"why" minLength:"1" maxLength:"500" doc:"The site's agent shows it"`
}

type joinTokensInput struct {
	Limit  int    `query:"limit" default:"100" minimum:"1" maximum:"500"`
	Cursor string `query:"cursor" maxLength:"100" doc:"next of the page before"`
}

type joinTokenListOutput struct{ Body JoinTokenList }
type joinTokenOrderInput struct{ Body JoinTokenOrder }
type newJoinTokenOutput struct{ Body NewJoinToken }

type joinTokenInput struct {
	ID string `path:"id" maxLength:"32" doc:"The token's id"`
}

type decisionInput struct {
	ID   string `path:"id" maxLength:"32" doc:"The token's id"`
	Body Decision
}

type revokeSiteInput struct {
	ID   string `path:"id" format:"uuid" doc:"The site's id"`
	Body SiteRevocation
}

// joiner is who orders something, as package enrol records it.
func joiner(ctx context.Context) enrol.Actor {
	a := actor(ctx)
	return enrol.Actor{Name: a.ID, ID: a.ID, Role: a.Role, IP: a.Address}
}

// enrolment is what the routes below ask; a hub process that does not know what opens the hub's keys has none.
func (s *Server) enrolment() (*enrol.Store, error) {
	if s.enrol == nil {
		return nil, apperr.E(apperr.Unavailable, "API_004", "this hub process cannot let sites join: it has no ENCRYPTION_PASSWORD")
	}
	return s.enrol, nil
}

func (s *Server) enrolRoutes() {
	register(s, audience(access.SitesWrite), huma.Operation{
		OperationID: "list-join-tokens", Method: http.MethodGet, Path: "/api/join-tokens", Tags: []string{"enrolment"},
		Summary: "Tokens with which sites join, the newest first",
		Errors:  []int{http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden, http.StatusUnprocessableEntity},
	}, s.listJoinTokens)
	register(s, audience(access.SitesWrite), huma.Operation{
		OperationID: "list-waiting-sites", Method: http.MethodGet, Path: "/api/join-tokens/waiting", Tags: []string{"enrolment"},
		Summary: "Tokens whose sites wait for approval, the longest waiting first", Errors: []int{http.StatusUnauthorized, http.StatusForbidden},
	}, func(ctx context.Context, _ *struct{}) (*joinTokenListOutput, error) {
		e, err := s.enrolment()
		if err != nil {
			return nil, err
		}
		list, err := e.Waiting(ctx)
		if err != nil {
			return nil, err
		}
		return &joinTokenListOutput{Body: JoinTokenList{Items: joinTokens(list)}}, nil
	})
	register(s, audience(access.SitesWrite), huma.Operation{
		OperationID: "create-join-token", Method: http.MethodPost, Path: "/api/join-tokens", Tags: []string{"enrolment"},
		Summary: "Make a token with which one site joins, once", DefaultStatus: http.StatusCreated, MaxBodyBytes: 4 << 10,
		Description: "The answer holds the token: it is shown once and not stored.",
		Errors:      []int{http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden, http.StatusConflict, http.StatusUnprocessableEntity},
	}, s.createJoinToken)
	register(s, audience(access.SitesWrite), huma.Operation{
		OperationID: "revoke-join-token", Method: http.MethodDelete, Path: "/api/join-tokens/{id}", Tags: []string{"enrolment"},
		Summary: "End a token that was not used", DefaultStatus: http.StatusNoContent,
		Errors: []int{http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound, http.StatusConflict, http.StatusUnprocessableEntity},
	}, func(ctx context.Context, in *joinTokenInput) (*struct{}, error) {
		e, err := s.enrolment()
		if err != nil {
			return nil, err
		}
		return nil, e.RevokeToken(ctx, in.ID, joiner(ctx))
	})
	for _, d := range []struct {
		name, summary string
		approve       bool
	}{
		{"approve", "Let in the agent that came with a token, after comparing its fingerprint", true},
		{"refuse", "Send away the agent that came with a token, and end the token", false},
	} {
		register(s, audience(access.SitesWrite), huma.Operation{
			OperationID: d.name + "-site", Method: http.MethodPost, Path: "/api/join-tokens/{id}/" + d.name, Tags: []string{"enrolment"},
			Summary: d.summary, DefaultStatus: http.StatusNoContent, MaxBodyBytes: 4 << 10,
			Errors: []int{http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound, http.StatusConflict, http.StatusUnprocessableEntity},
		}, func(ctx context.Context, in *decisionInput) (*struct{}, error) {
			e, err := s.enrolment()
			if err != nil {
				return nil, err
			}
			return nil, e.Decide(ctx, in.ID, in.Body.Fingerprint, d.approve, joiner(ctx))
		})
	}
	register(s, audience(access.SitesRevoke), huma.Operation{
		OperationID: "revoke-site", Method: http.MethodPost, Path: "/api/sites/{id}/revoke", Tags: []string{"enrolment"},
		Summary: "Cut a site off: its certificates and its tunnel end, its stream is closed", DefaultStatus: http.StatusNoContent, MaxBodyBytes: 4 << 10,
		Description: "Within a second no hub process lets the site in. Its data stays. It comes back by a new token for the same name.",
		Errors:      []int{http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound, http.StatusUnprocessableEntity},
	}, func(ctx context.Context, in *revokeSiteInput) (*struct{}, error) {
		e, err := s.enrolment()
		if err != nil {
			return nil, err
		}
		id, err := ident.ParseSiteID(in.ID)
		if err != nil {
			return nil, apperr.E(apperr.Invalid, "VALID_001", "%w", err)
		}
		return nil, e.Revoke(ctx, id, in.Body.Why, joiner(ctx))
	})
}

func (s *Server) listJoinTokens(ctx context.Context, in *joinTokensInput) (*joinTokenListOutput, error) {
	e, err := s.enrolment()
	if err != nil {
		return nil, err
	}
	var after enrol.TokenCursor
	if in.Cursor != "" {
		micros, id, _ := strings.Cut(in.Cursor, ".")
		n, err := strconv.ParseInt(micros, 10, 64)
		if err != nil || id == "" {
			return nil, apperr.E(apperr.Invalid, "VALID_001", "cursor: not one that this API gave out")
		}
		after = enrol.TokenCursor{CreatedAt: time.UnixMicro(n).UTC(), ID: id}
	}
	list, err := e.Tokens(ctx, after, in.Limit+1)
	if err != nil {
		return nil, err
	}
	out := &joinTokenListOutput{}
	if len(list) > in.Limit {
		list = list[:in.Limit]
		last := &list[in.Limit-1]
		out.Body.Next = fmt.Sprintf("%d.%s", last.CreatedAt.UnixMicro(), last.ID)
	}
	out.Body.Items = joinTokens(list)
	return out, nil
}

func (s *Server) createJoinToken(ctx context.Context, in *joinTokenOrderInput) (*newJoinTokenOutput, error) {
	e, err := s.enrolment()
	if err != nil {
		return nil, err
	}
	o := enrol.NewToken{
		SiteName: in.Body.SiteName, ValidFor: time.Duration(in.Body.ValidMinutes) * time.Minute, Approval: in.Body.Approval, ReplaceKey: in.Body.ReplaceKey,
	}
	if in.Body.Source != "" {
		if o.Source, err = netip.ParsePrefix(in.Body.Source); err != nil {
			return nil, apperr.E(apperr.Invalid, "VALID_001", "source: want a network such as 203.0.113.0/24")
		}
	}
	token, info, err := e.CreateToken(ctx, o, joiner(ctx))
	if err != nil {
		return nil, err
	}
	return &newJoinTokenOutput{Body: NewJoinToken{JoinToken: joinToken(&info), Token: token.Reveal(), Hub: e.HubAddress()}}, nil
}

func joinTokens(list []enrol.TokenInfo) []JoinToken {
	out := make([]JoinToken, len(list))
	for i := range list {
		out[i] = joinToken(&list[i])
	}
	return out
}

func joinToken(t *enrol.TokenInfo) JoinToken {
	out := JoinToken{
		ID: t.ID, SiteName: t.SiteName, State: string(t.State), Approval: t.Approval, ReplaceKey: t.ReplaceKey, CreatedAt: Time{t.CreatedAt}, CreatedBy: t.CreatedBy,
		ExpiresAt: Time{t.ExpiresAt}, UsedAt: timeOf(t.UsedAt), UsedFrom: t.UsedFrom, Fingerprint: t.Fingerprint, CameAt: timeOf(t.ClaimedAt), CameFrom: t.ClaimedFrom,
		AgentVersion: t.ClaimedVersion, DecidedBy: t.DecidedBy,
	}
	if t.Source.IsValid() {
		out.Source = t.Source.String()
	}
	if t.Site != (ident.SiteID{}) {
		out.SiteID = t.Site.String()
	}
	return out
}
