package api

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"

	"github.com/hashinsight/hashinsight/hub/internal/access"
	"github.com/hashinsight/hashinsight/hub/internal/apperr"
)

// APIKey is an API key without its secret, which nobody has but its user.
type APIKey struct {
	ID              string   `json:"id" format:"uuid"`
	Name            string   `json:"name"`
	UserID          string   `json:"user_id,omitempty" doc:"Whose key it is, as text"`
	Permissions     []string `json:"permissions" nullable:"false" doc:"owner stands for all of them"`
	State           string   `json:"state" enum:"active,expiring,expired,revoked" doc:"expiring: it ends in 14 days or less"`
	Old             bool     `json:"old" doc:"It works and is older than 90 days"`
	CreatedAt       Time     `json:"created_at"`
	CreatedBy       string   `json:"created_by,omitempty" doc:"Id of the key that made it, or command"`
	CopiedFrom      string   `json:"copied_from,omitempty" format:"uuid" doc:"The key whose place it takes"`
	ExpiresAt       *Time    `json:"expires_at,omitempty" doc:"Absent: never"`
	RevokedAt       *Time    `json:"revoked_at,omitempty"`
	RevokedWhy      string   `json:"revoked_why,omitempty"`
	LastUsedAt      *Time    `json:"last_used_at,omitempty" doc:"To the minute; absent: never"`
	LastUsedAddress string   `json:"last_used_address,omitempty"`
	RateLimit       *int     `json:"rate_limit,omitempty" doc:"Requests a minute, 0 for exempt; absent: everyone's limit"`
	Certificate     string   `json:"certificate,omitempty" doc:"Identity of the client certificate that stands for the key"`
	CustomerID      string   `json:"customer_id,omitempty" format:"uuid" doc:"Whose rows the key reads, and no others; absent: it is the operator's"`
	CustomerName    string   `json:"customer_name,omitempty"`
}

// APIKeyList is one page of API keys.
type APIKeyList struct {
	Items []APIKey `json:"items" nullable:"false"`
	Next  string   `json:"next,omitempty" doc:"Cursor of the next page; absent on the last"`
}

// NewAPIKey is a key that was just made.
type NewAPIKey struct {
	APIKey
	Key string `json:"key,omitempty" doc:"The key itself: shown here and never again. Absent for a key that a client certificate stands for"`
}

// APIKeyOrder is what a new key shall be.
type APIKeyOrder struct {
	Name          string   `json:"name,omitempty" maxLength:"100" doc:"Who uses it for what; with copy_from that key's name by default"`
	UserID        string   `json:"user_id,omitempty" maxLength:"100" doc:"Whose key it is; text, not checked against users"`
	Permissions   []string `json:"permissions,omitempty" maxItems:"100" doc:"None that your own key does not have. With copy_from those of that key by default"`
	ExpiresInDays int      `json:"expires_in_days,omitempty" minimum:"1" maximum:"366" doc:"90 by default"`
	CopyFrom      string   `json:"copy_from,omitempty" format:"uuid" doc:"Take this key's place: it works on beside the new one for 7 days, then ends"`
	CustomerID    string   `json:"customer_id,omitempty" format:"uuid" doc:"Make the key that customer's: it reads its rows and no others, and may hold contracts:read, sla:read and statements:read, all of them by default. A copy keeps it"`
	RateLimit     *int     `json:"rate_limit,omitempty" minimum:"0" maximum:"1000000" doc:"Requests a minute, 0 for exempt; needs ratelimits:write"`
	Certificate   string   `json:"certificate,omitempty" maxLength:"1024" doc:"Identity of a client certificate that shall stand for the key: uri: and its URI, or dn: and its subject"`
}

type apiKeysInput struct {
	Limit  int    `query:"limit" default:"100" minimum:"1" maximum:"500"`
	Cursor string `query:"cursor" maxLength:"100" doc:"next of the page before"`
}

type apiKeyListOutput struct{ Body APIKeyList }

type apiKeyOrderInput struct{ Body APIKeyOrder }

type newAPIKeyOutput struct{ Body NewAPIKey }

type apiKeyInput struct {
	ID  string `path:"id" format:"uuid" doc:"The key's id"`
	Why string `query:"why" maxLength:"500" doc:"For the list and the audit log"`
}

// actor is who orders a change, for subjects.
func actor(ctx context.Context) access.Actor {
	return access.ActorOf(principal(ctx), requestOf(ctx).origin.addr)
}

func (s *Server) apiKeyRoutes() {
	register(s, audience(access.APIKeysRead), huma.Operation{
		OperationID: "list-apikeys", Method: http.MethodGet, Path: "/api/apikeys", Tags: []string{"apikeys"},
		Summary: "API keys, the newest first, those that have ended too",
		Errors:  []int{http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden, http.StatusUnprocessableEntity},
	}, func(ctx context.Context, in *apiKeysInput) (*apiKeyListOutput, error) {
		after, err := parseKeyPlace(in.Cursor)
		if err != nil {
			return nil, err
		}
		keys, err := s.access.ListKeys(ctx, after, in.Limit+1)
		if err != nil {
			return nil, err
		}
		out := &apiKeyListOutput{Body: APIKeyList{Items: make([]APIKey, 0, len(keys))}}
		if len(keys) > in.Limit {
			keys = keys[:in.Limit]
			last := &keys[in.Limit-1]
			out.Body.Next = fmt.Sprintf("%d.%s", last.CreatedAt.UnixMicro(), last.ID)
		}
		now := s.now()
		for i := range keys {
			out.Body.Items = append(out.Body.Items, apiKeyOf(&keys[i], now))
		}
		return out, nil
	})

	register(s, audience(access.APIKeysWrite), huma.Operation{
		OperationID: "create-apikey", Method: http.MethodPost, Path: "/api/apikeys", Tags: []string{"apikeys"},
		Summary: "Make an API key", DefaultStatus: http.StatusCreated, MaxBodyBytes: 16 << 10,
		Description: "The answer holds the key: it is shown once and not stored. It may do no more than the key that makes it.",
		Errors:      []int{http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound, http.StatusConflict, http.StatusUnprocessableEntity},
	}, func(ctx context.Context, in *apiKeyOrderInput) (*newAPIKeyOutput, error) {
		o := access.KeyOrder{
			Name: in.Body.Name, UserID: in.Body.UserID, ExpiresIn: time.Duration(in.Body.ExpiresInDays) * 24 * time.Hour,
			RateLimit: in.Body.RateLimit, Certificate: in.Body.Certificate,
		}
		for _, p := range in.Body.Permissions {
			o.Permissions = append(o.Permissions, access.Permission(p))
		}
		if in.Body.CopyFrom != "" {
			id, err := uuid.Parse(in.Body.CopyFrom)
			if err != nil {
				return nil, apperr.E(apperr.Invalid, "VALID_001", "copy_from: want a key's id")
			}
			o.CopyFrom = &id
		}
		if in.Body.CustomerID != "" {
			id, err := parseID("customer_id", in.Body.CustomerID)
			if err != nil {
				return nil, err
			}
			o.Customer = &id
		}
		key, info, err := s.access.CreateKey(ctx, actor(ctx), o)
		if err != nil {
			return nil, err
		}
		return &newAPIKeyOutput{Body: NewAPIKey{APIKey: apiKeyOf(&info, s.now()), Key: key}}, nil
	})

	register(s, audience(access.APIKeysWrite), huma.Operation{
		OperationID: "revoke-apikey", Method: http.MethodDelete, Path: "/api/apikeys/{id}", Tags: []string{"apikeys"},
		Summary: "Revoke an API key, and end the sessions it opened", DefaultStatus: http.StatusNoContent,
		Description: "Within 3 s no hub process lets it in. Only keys that may do no more than the caller's own, and that itself, can be revoked.",
		Errors:      []int{http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound, http.StatusUnprocessableEntity},
	}, func(ctx context.Context, in *apiKeyInput) (*struct{}, error) {
		id, err := uuid.Parse(in.ID)
		if err != nil {
			return nil, apperr.E(apperr.Invalid, "VALID_001", "id: want a key's id")
		}
		_, err = s.access.RevokeKey(ctx, actor(ctx), id, in.Why)
		return nil, err
	})
}

func parseKeyPlace(cursor string) (p access.KeyPlace, err error) {
	if cursor == "" {
		return p, nil
	}
	at, id, _ := strings.Cut(cursor, ".")
	us, aerr := strconv.ParseInt(at, 10, 64)
	if p.ID, err = uuid.Parse(id); err != nil || aerr != nil || us <= 0 || us > 253_000_000_000_000_000 {
		return p, apperr.E(apperr.Invalid, "VALID_001", "cursor: want next of the page before")
	}
	p.CreatedAt = time.UnixMicro(us).UTC()
	return p, nil
}

func apiKeyOf(k *access.KeyInfo, now time.Time) APIKey {
	out := APIKey{
		ID: k.ID.String(), Name: k.Name, UserID: k.UserID, Permissions: make([]string, 0, len(k.Permissions)), State: k.State(now), Old: k.Old(now),
		CreatedAt: Time{k.CreatedAt}, CreatedBy: k.CreatedBy, ExpiresAt: timeOf(k.ExpiresAt), RevokedAt: timeOf(k.RevokedAt), RevokedWhy: k.RevokedWhy,
		LastUsedAt: timeOf(k.LastUsedAt), LastUsedAddress: k.LastAddress, RateLimit: k.RateLimit, Certificate: k.Certificate,
	}
	for _, p := range k.Permissions {
		out.Permissions = append(out.Permissions, string(p))
	}
	if k.Customer != nil {
		out.CustomerID, out.CustomerName = k.Customer.String(), k.CustomerName
	}
	if k.CopiedFrom != nil {
		out.CopiedFrom = k.CopiedFrom.String()
	}
	return out
}
