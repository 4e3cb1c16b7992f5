package api

import (
	"context"
	"encoding/hex"
	"net/http"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/hashinsight/hashinsight/hub/internal/access"
	"github.com/hashinsight/hashinsight/hub/internal/apperr"
	"github.com/hashinsight/hashinsight/hub/internal/facts"
	"github.com/hashinsight/hashinsight/pkg/ident"
)

// SignedHour is an hour whose facts a site has signed.
type SignedHour struct {
	Hour         Time   `json:"hour" doc:"Its beginning"`
	SpoolID      string `json:"spool_id" format:"uuid" doc:"The chain of batches that its leaves are of; a site has a second one after its agent has lost its disk"`
	State        string `json:"state" enum:"pending,agreed,disputed,incomplete" doc:"pending: something it needs may still come; agreed: the batches give the signed root; disputed: they do not, or the site signed two; incomplete: nobody can recompute it, its slots are unknown"`
	Reason       string `json:"reason,omitempty" doc:"What it waits for, or why it is not agreed"`
	Root         string `json:"root" doc:"As signed, hexadecimal"`
	ComputedRoot string `json:"computed_root,omitempty" doc:"From the batches; absent until it was computed"`
	Leaves       uint32 `json:"leaves" doc:"Miners with facts, as signed"`
	FirstSeq     uint64 `json:"first_seq" doc:"First batch of the chain that counts"`
	LastSeq      uint64 `json:"last_seq" doc:"Last batch of the chain when it was signed"`
	HeaderHash   string `json:"header_hash" doc:"Of the batch that signs it"`
	SkewedSlots  []int  `json:"skewed_slots" nullable:"false" doc:"Slots of 5 minutes, from 0, in which the hub has measured a wrong clock of the site: they are unknown"`
	ReceivedAt   Time   `json:"received_at"`
	CompleteAt   *Time  `json:"complete_at,omitempty" doc:"When the last of what counts had come, the hub's time: deadlines are compared with it"`
	JudgedAt     *Time  `json:"judged_at,omitempty"`
}

// SignedHourList is the signed hours of a site.
type SignedHourList struct {
	From  Time         `json:"from"`
	To    Time         `json:"to"`
	Items []SignedHour `json:"items" nullable:"false" doc:"In order of hour and chain"`
}

type siteHoursInput struct {
	ID   string `path:"id" format:"uuid" doc:"The site's id"`
	From string `query:"from" maxLength:"40" doc:"RFC 3339; by default 6 hours before to. Moved back to a whole hour"`
	To   string `query:"to" maxLength:"40" doc:"RFC 3339, not included; by default now. At most 31 days after from"`
}

type siteHoursOutput struct{ Body SignedHourList }

func (s *Server) siteHourRoutes() {
	register(s, audience(access.SitesRead), huma.Operation{
		OperationID: "list-site-hours", Method: http.MethodGet, Path: "/api/sites/{id}/hours", Tags: []string{"sites"},
		Summary: "Hours that a site has signed, and what became of them",
		Errors:  []int{http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound},
	}, s.listSiteHours)
}

// maxHourSpan is the longest span of one list of hours.
const maxHourSpan = 31 * 24 * time.Hour

func (s *Server) listSiteHours(ctx context.Context, in *siteHoursInput) (*siteHoursOutput, error) {
	id, err := ident.ParseSiteID(in.ID)
	if err != nil {
		return nil, apperr.E(apperr.Invalid, "VALID_001", "%w", err)
	}
	from, to, err := span(in.From, in.To, s.now())
	if err != nil {
		return nil, err
	}
	from = from.Truncate(time.Hour)
	if from.Unix() < 0 || to.Before(from) || to.Sub(from) > maxHourSpan+time.Hour || to.Unix()/3600 >= 1<<31 {
		return nil, apperr.E(apperr.Invalid, "VALID_001", "from %s to %s: want at most 31 days in order", from.Format(time.RFC3339), to.Format(time.RFC3339))
	}
	sites, err := s.sites.get(ctx, fresh)
	if err != nil {
		return nil, err
	}
	if !sites.has(id.String()) {
		return nil, apperr.E(apperr.NotFound, "NOTFOUND_001", "site %s does not exist", id)
	}
	hours, err := s.facts.SiteHours(ctx, id, uint32(from.Unix()/3600), uint32((to.Unix()+3599)/3600))
	if err != nil {
		return nil, err
	}
	out := &siteHoursOutput{SignedHourList{From: Time{from}, To: Time{to}, Items: make([]SignedHour, 0, len(hours))}}
	for i := range hours {
		out.Body.Items = append(out.Body.Items, signedHourOf(&hours[i]))
	}
	return out, nil
}

func signedHourOf(h *facts.Hour) SignedHour {
	v := SignedHour{
		Hour: Time{h.At()}, SpoolID: h.Spool.String(), State: h.State.String(), Reason: h.Reason, Root: hex.EncodeToString(h.Root[:]), Leaves: h.Leaves,
		FirstSeq: h.FirstSeq, LastSeq: h.LastSeq, HeaderHash: hex.EncodeToString(h.Header[:]), SkewedSlots: []int{},
		ReceivedAt: Time{h.ReceivedAt}, CompleteAt: timeOf(h.CompleteAt), JudgedAt: timeOf(h.JudgedAt),
	}
	if h.Computed() {
		v.ComputedRoot = hex.EncodeToString(h.ComputedRoot[:])
	}
	for i := range 12 {
		if h.SkewSlots&(1<<i) != 0 {
			v.SkewedSlots = append(v.SkewedSlots, i)
		}
	}
	return v
}

// Dispute is a signed hour that does not agree with its batches or with another one.
type Dispute struct {
	ID         string `json:"id"`
	SiteID     string `json:"site_id" format:"uuid"`
	SiteName   string `json:"site_name"`
	Hour       Time   `json:"hour" doc:"Its beginning"`
	SpoolID    string `json:"spool_id" format:"uuid"`
	Kind       string `json:"kind" enum:"root,two_roots" doc:"root: the batches give another root than the site signed; two_roots: the site signed both"`
	Reason     string `json:"reason"`
	FoundAt    Time   `json:"found_at"`
	Root       string `json:"root" doc:"As signed, hexadecimal"`
	HeaderHash string `json:"header_hash" doc:"Of the batch that signs it"`
	InSpoolID  string `json:"in_spool_id" format:"uuid" doc:"The chain in which that batch stands"`
	InSeq      uint64 `json:"in_seq"`
	OtherRoot  string `json:"other_root" doc:"Computed from the batches, or signed in another one"`
	// Of the other batch.
	OtherHeaderHash string `json:"other_header_hash,omitempty"`
	OtherSpoolID    string `json:"other_spool_id,omitempty" format:"uuid"`
	OtherSeq        uint64 `json:"other_seq,omitempty"`
}

// DisputeList is one page of disputes.
type DisputeList struct {
	Items []Dispute `json:"items" nullable:"false" doc:"The latest found first. A dispute stays"`
	Next  string    `json:"next,omitempty" doc:"Cursor of the next page; absent on the last"`
}

type disputesInput struct {
	Limit  int    `query:"limit" default:"100" minimum:"1" maximum:"500"`
	Cursor string `query:"cursor" maxLength:"20" doc:"next of the page before"`
}

type disputesOutput struct{ Body DisputeList }

func (s *Server) disputeRoutes() {
	register(s, audience(access.DisputesRead), huma.Operation{
		OperationID: "list-disputes", Method: http.MethodGet, Path: "/api/disputes", Tags: []string{"disputes"},
		Summary: "Signed hours that do not agree with their batches or with each other",
		Errors:  []int{http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden, http.StatusUnprocessableEntity},
	}, func(ctx context.Context, in *disputesInput) (*disputesOutput, error) {
		var before int64
		if in.Cursor != "" {
			var err error
			if before, err = strconv.ParseInt(in.Cursor, 10, 64); err != nil || before < 1 {
				return nil, apperr.E(apperr.Invalid, "VALID_001", "cursor: want next of the page before")
			}
		}
		list, err := s.facts.Disputes(ctx, before, in.Limit+1)
		if err != nil {
			return nil, err
		}
		out := &disputesOutput{DisputeList{Items: make([]Dispute, 0, len(list))}}
		if len(list) > in.Limit {
			list = list[:in.Limit]
			out.Body.Next = strconv.FormatInt(list[in.Limit-1].ID, 10)
		}
		for i := range list {
			out.Body.Items = append(out.Body.Items, disputeOf(&list[i]))
		}
		return out, nil
	})
}

func disputeOf(d *facts.Dispute) Dispute {
	v := Dispute{
		ID: strconv.FormatInt(d.ID, 10), SiteID: d.Site.String(), SiteName: d.SiteName, Hour: Time{d.At()}, SpoolID: d.Spool.String(), Kind: d.Kind.String(), Reason: d.Reason,
		FoundAt: Time{d.FoundAt}, Root: hex.EncodeToString(d.Root[:]), HeaderHash: hex.EncodeToString(d.Header[:]), InSpoolID: d.InSpool.String(), InSeq: d.InSeq,
		OtherRoot: hex.EncodeToString(d.OtherRoot[:]), OtherSeq: d.OtherSeq,
	}
	if d.OtherSeq > 0 {
		v.OtherHeaderHash, v.OtherSpoolID = hex.EncodeToString(d.OtherHeader[:]), d.OtherSpool.String()
	}
	return v
}
