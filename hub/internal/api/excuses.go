package api

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"

	"github.com/hashinsight/hashinsight/hub/internal/access"
	"github.com/hashinsight/hashinsight/hub/internal/apperr"
	"github.com/hashinsight/hashinsight/hub/internal/customer"
	"github.com/hashinsight/hashinsight/hub/internal/sla"
	"github.com/hashinsight/hashinsight/pkg/ident"
)

// Excuse is a window in which miners may stand still: announced maintenance, or ordered curtailment.
type Excuse struct {
	ID         string        `json:"id" format:"uuid"`
	Kind       string        `json:"kind" enum:"curtailment,maintenance"`
	SiteID     string        `json:"site_id" format:"uuid"`
	SiteName   string        `json:"site_name"`
	MinerIDs   []string      `json:"miner_ids" nullable:"false" doc:"None: all of the site. A customer sees its own"`
	From       Time          `json:"from"`
	To         Time          `json:"to"`
	EndedAt    *Time         `json:"ended_at,omitempty" doc:"To when it was shortened; the same as from: it was called off"`
	RecordedAt Time          `json:"recorded_at" doc:"By the hub's clock: what decides whether it came in time"`
	RecordedBy string        `json:"recorded_by" doc:"As in the audit log; empty for customers"`
	Note       string        `json:"note" doc:"Customers whose miners it concerns read it too"`
	Contracts  []ExcuseTaken `json:"contracts" nullable:"false" doc:"The contracts that it concerns. A customer sees its own"`
}

// ExcuseTaken says how the terms of a contract take an excuse, by when it was recorded. How much of a month may be excused is another matter.
type ExcuseTaken struct {
	ContractID string `json:"contract_id" format:"uuid"`
	Name       string `json:"name" doc:"The contract's"`
	Version    int    `json:"version" doc:"Of its terms; a window that two versions share has both"`
	Honoured   bool   `json:"honoured" doc:"It was recorded in time. False: it is on record and counts for nothing"`
	Why        string `json:"why" enum:"in_time,late,short_notice" doc:"late: curtailment, recorded too long after its beginning. short_notice: maintenance, recorded too shortly before"`
	Term       string `json:"term" enum:"curtail_late_s,maintenance_notice_s" doc:"The term that decided"`
	TermS      int64  `json:"term_s" doc:"Its value, s"`
	RecordBy   Time   `json:"record_by" doc:"The last moment at which it would have come in time"`
}

// ExcuseList is one page of excuses.
type ExcuseList struct {
	Items []Excuse `json:"items" nullable:"false"`
	Next  string   `json:"next,omitempty" doc:"Cursor of the next page; absent on the last"`
}

// NewExcuse is an excuse to record. Its time of recording is the hub's.
type NewExcuse struct {
	ID       string    `json:"id,omitempty" format:"uuid" doc:"Chosen by the caller, so that the order can be repeated without harm; by default the hub's"`
	Kind     string    `json:"kind" enum:"curtailment,maintenance"`
	SiteID   string    `json:"site_id" format:"uuid"`
	MinerIDs []string  `json:"miner_ids,omitempty" maxItems:"5000" doc:"Absent or none: all of the site"`
	From     time.Time `json:"from" doc:"At most a year from now"`
	To       time.Time `json:"to" doc:"At most 31 days after from"`
	Note     string    `json:"note,omitempty" maxLength:"500" doc:"Customers whose miners it concerns read it"`
}

// EndExcuse shortens an excuse.
type EndExcuse struct {
	At time.Time `json:"at" doc:"The new end; before now it is now, for what was excused until then stays so. At its beginning it is called off"`
}

type excusesInput struct {
	SiteID string `query:"site_id" format:"uuid" doc:"Only this site's"`
	From   string `query:"from" maxLength:"40" doc:"RFC 3339: only what ends after this; 31 days ago by default"`
	To     string `query:"to" maxLength:"40" doc:"RFC 3339: only what begins before this; any time by default"`
	Limit  int    `query:"limit" default:"100" minimum:"1" maximum:"500"`
	Cursor string `query:"cursor" maxLength:"100" doc:"next of the page before"`
}

type newExcuseInput struct{ Body NewExcuse }

type endExcuseInput struct {
	ID   string `path:"id" format:"uuid" doc:"The excuse's id"`
	Body EndExcuse
}

type excuseListOutput struct{ Body ExcuseList }
type excuseOutput struct{ Body Excuse }

func (s *Server) excuseRoutes() {
	register(s, audience(access.ContractsRead), huma.Operation{
		OperationID: "list-excuses", Method: http.MethodGet, Path: "/api/excuses", Tags: []string{"excuses"},
		Summary: "Announced maintenance and ordered curtailment, the latest beginning first; a customer's key sees what concerns that customer's miners", Errors: contractErrors,
	}, s.listExcuses)
	register(s, audience(access.ExcusesWrite), huma.Operation{
		OperationID: "record-excuse", Method: http.MethodPost, Path: "/api/excuses", Tags: []string{"excuses"},
		Summary: "Announce maintenance, or order curtailment", DefaultStatus: http.StatusCreated, MaxBodyBytes: 1 << 20, Errors: contractErrors,
		Description: "One that comes too late for a contract is recorded, and not honoured by it: the answer's contracts say which, and by which of their terms. Ordering curtailment here is a record; it switches nothing.",
	}, s.recordExcuse)
	register(s, audience(access.ExcusesWrite), huma.Operation{
		OperationID: "end-excuse", Method: http.MethodPost, Path: "/api/excuses/{id}/end", Tags: []string{"excuses"},
		Summary: "Shorten an excuse, or call it off", MaxBodyBytes: 16 << 10, Errors: contractErrors,
	}, func(ctx context.Context, in *endExcuseInput) (*excuseOutput, error) {
		id, err := parseID("id", in.ID)
		if err != nil {
			return nil, err
		}
		x, err := s.customers.EndExcuse(ctx, actor(ctx), id, msOf(in.Body.At))
		if err != nil {
			return nil, err
		}
		return &excuseOutput{Body: excuseBody(&x)}, nil
	})
}

func (s *Server) listExcuses(ctx context.Context, in *excusesInput) (*excuseListOutput, error) {
	l := customer.ListedExcuses{Customer: principal(ctx).Customer, FromMS: s.now().Add(-customer.MaxExcuse).UnixMilli(), Limit: in.Limit + 1}
	var err error
	if in.SiteID != "" {
		if l.Site, err = siteID(in.SiteID); err != nil {
			return nil, err
		}
	}
	for _, end := range []struct {
		name, text string
		to         *int64
	}{{"from", in.From, &l.FromMS}, {"to", in.To, &l.ToMS}} {
		if end.text == "" {
			continue
		}
		t, err := time.Parse(time.RFC3339, end.text)
		if err != nil {
			return nil, badTime(end.name, end.text)
		}
		*end.to = msOf(t)
	}
	if l.After, err = parseExcusePlace(in.Cursor); err != nil {
		return nil, err
	}
	list, err := s.customers.ListExcuses(ctx, l)
	if err != nil {
		return nil, err
	}
	out := &excuseListOutput{Body: ExcuseList{Items: make([]Excuse, 0, len(list))}}
	if len(list) > in.Limit {
		list = list[:in.Limit]
		last := &list[in.Limit-1]
		out.Body.Next = fmt.Sprintf("%d.%s", last.FromMS, last.ID)
	}
	for i := range list {
		out.Body.Items = append(out.Body.Items, excuseBody(&list[i]))
	}
	return out, nil
}

func parseExcusePlace(cursor string) (p customer.ExcusePlace, err error) {
	if cursor == "" {
		return p, nil
	}
	at, id, _ := strings.Cut(cursor, ".")
	ms, aerr := strconv.ParseInt(at, 10, 64)
	if p.ID, err = uuid.Parse(id); err != nil || aerr != nil || ms == math.MaxInt64 {
		return p, badCursor()
	}
	p.FromMS = ms
	return p, nil
}

func (s *Server) recordExcuse(ctx context.Context, in *newExcuseInput) (*excuseOutput, error) {
	n := customer.NewExcuse{Kind: sla.ExcuseKind(in.Body.Kind), FromMS: msOf(in.Body.From), ToMS: msOf(in.Body.To), Note: strings.TrimSpace(in.Body.Note)}
	var err error
	if in.Body.ID != "" {
		if n.ID, err = parseID("id", in.Body.ID); err != nil {
			return nil, err
		}
	}
	if n.Site, err = siteID(in.Body.SiteID); err != nil {
		return nil, err
	}
	for _, text := range in.Body.MinerIDs {
		m, err := ident.ParseMinerID(text)
		if err != nil {
			return nil, apperr.E(apperr.Invalid, "VALID_001", "miner_ids: %w", err)
		}
		n.Miners = append(n.Miners, m)
	}
	x, err := s.customers.Excuse(ctx, actor(ctx), n)
	if err != nil {
		return nil, err
	}
	return &excuseOutput{Body: excuseBody(&x)}, nil
}

func excuseBody(x *customer.Excuse) Excuse {
	out := Excuse{
		ID: x.ID.String(), Kind: string(x.Kind), SiteID: x.Site.String(), SiteName: x.SiteName, MinerIDs: make([]string, len(x.Miners)), From: timeOfMS(x.FromMS), To: timeOfMS(x.ToMS),
		EndedAt: optionalMS(x.EndedMS), RecordedAt: timeOfMS(x.RecordedMS), RecordedBy: x.RecordedBy, Note: x.Note, Contracts: make([]ExcuseTaken, len(x.Judged)),
	}
	for i, m := range x.Miners {
		out.MinerIDs[i] = m.String()
	}
	for i := range x.Judged {
		j := &x.Judged[i]
		out.Contracts[i] = ExcuseTaken{
			ContractID: j.Contract.String(), Name: j.Name, Version: j.Version, Honoured: j.Honoured(), Why: j.Why, Term: j.Term, TermS: j.TermS, RecordBy: timeOfMS(j.RecordedByMS),
		}
	}
	return out
}
