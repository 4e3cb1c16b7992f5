package api

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/hashinsight/hashinsight/hub/internal/access"
	"github.com/hashinsight/hashinsight/hub/internal/apperr"
	"github.com/hashinsight/hashinsight/hub/internal/audit"
)

// AuditEntry is one entry of the audit log.
type AuditEntry struct {
	Timestamp Time           `json:"timestamp"`
	EventID   string         `json:"event_id" format:"uuid"`
	Level     string         `json:"level" enum:"INFO,WARNING,ERROR,SECURITY,CRITICAL"`
	Category  string         `json:"category" enum:"authentication,data_access,configuration,permission,encryption,api_key,suspicious"`
	Action    string         `json:"action"`
	UserID    string         `json:"user_id,omitempty" doc:"A user's, a key's or a site's id, or command for the command line"`
	UserEmail string         `json:"user_email,omitempty"`
	UserRole  string         `json:"user_role,omitempty"`
	IPAddress string         `json:"ip_address,omitempty"`
	Status    string         `json:"status" doc:"success, failure or denied"`
	Details   map[string]any `json:"details" nullable:"false" doc:"What is particular to the action. Its texts may come from outside: never markup"`
	Seq       int64          `json:"seq" doc:"Place in the chain, from 1"`
	Hash      string         `json:"hash" doc:"SHA-256 over the hash of the entry before and this entry, hexadecimal"`
}

// AuditList is one page of the audit log.
type AuditList struct {
	Items []AuditEntry `json:"items" nullable:"false"`
	Next  string       `json:"next,omitempty" doc:"Cursor of the next page; absent on the last"`
	Head  string       `json:"head" doc:"The chain's last entry and its hash. Kept elsewhere, hashinsight-hub audit verify --head shows later that nothing up to it was changed or taken away"`
}

type auditInput struct {
	User     string    `query:"user" maxLength:"200" doc:"Only this user's, by id or e-mail"`
	Action   string    `query:"action" maxLength:"63"`
	Category string    `query:"category" enum:"authentication,data_access,configuration,permission,encryption,api_key,suspicious"`
	Level    string    `query:"level" enum:"INFO,WARNING,ERROR,SECURITY,CRITICAL"`
	Since    time.Time `query:"since" doc:"Only entries at or after it"`
	Until    time.Time `query:"until" doc:"Only entries before it"`
	Limit    int       `query:"limit" default:"100" minimum:"1" maximum:"500"`
	Cursor   string    `query:"cursor" maxLength:"20" doc:"next of the page before"`
}

type auditOutput struct{ Body AuditList }

func (s *Server) auditRoutes() {
	register(s, audience(access.AuditRead), huma.Operation{
		OperationID: "list-audit", Method: http.MethodGet, Path: "/api/audit", Tags: []string{"audit"},
		Summary: "Entries of the audit log, the newest first",
		Errors:  []int{http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden, http.StatusUnprocessableEntity},
	}, func(ctx context.Context, in *auditInput) (*auditOutput, error) {
		var before int64
		if in.Cursor != "" {
			var err error
			if before, err = strconv.ParseInt(in.Cursor, 10, 64); err != nil || before < 1 {
				return nil, apperr.E(apperr.Invalid, "VALID_001", "cursor: want next of the page before")
			}
		}
		if err := s.audit.Chain(ctx); err != nil { // what was answered a moment ago is in the list
			return nil, err
		}
		entries, err := s.audit.Before(ctx, before, audit.Filter{
			User: in.User, Action: in.Action, Category: in.Category, Level: in.Level, Since: in.Since, Until: in.Until,
		}, in.Limit+1)
		if err != nil {
			return nil, err
		}
		head, err := s.audit.Head(ctx)
		if err != nil {
			return nil, err
		}
		out := &auditOutput{Body: AuditList{Items: make([]AuditEntry, 0, len(entries)), Head: head.String()}}
		if len(entries) > in.Limit {
			entries = entries[:in.Limit]
			out.Body.Next = strconv.FormatInt(entries[in.Limit-1].Seq, 10)
		}
		for i := range entries {
			out.Body.Items = append(out.Body.Items, auditEntryOf(&entries[i]))
		}
		return out, nil
	})
}

func auditEntryOf(c *audit.Chained) AuditEntry {
	e := AuditEntry{
		Timestamp: Time{c.At}, EventID: c.EventID.String(), Level: c.Level, Category: c.Category, Action: c.Action, UserID: c.UserID, UserEmail: c.UserEmail,
		UserRole: c.UserRole, IPAddress: c.IP, Status: c.Status, Seq: c.Seq, Hash: hex.EncodeToString(c.Hash[:]),
	}
	if json.Unmarshal(c.Details, &e.Details) != nil || e.Details == nil {
		e.Details = map[string]any{} // the database's type lets only JSON in, and Add only objects
	}
	return e
}
