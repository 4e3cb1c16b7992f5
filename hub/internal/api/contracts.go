package api

import (
	"context"
	"encoding/hex"
	"fmt"
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

// ContractTier is a credit for availability below a bound.
type ContractTier struct {
	BelowPPM int64 `json:"below_ppm" doc:"Availability, parts per million"`
	CreditBP int64 `json:"credit_bp" doc:"Of the fee, 1/100 %"`
}

// Terms is what a contract says from a time on.
type Terms struct {
	From                Time           `json:"from" doc:"Holds for slots that begin at or after this, until the next version's"`
	RateMHS             int64          `json:"rate_mhs" doc:"Contracted hashrate of a miner whose assignment names none, MH/s"`
	Metric              string         `json:"metric" enum:"time,hashrate"`
	TargetPPM           int64          `json:"target_ppm" doc:"Availability that was promised, parts per million"`
	ThetaPPM            int64          `json:"theta_ppm" doc:"Of the contracted rate: at or above it a slot is up"`
	DegradedPPM         int64          `json:"degraded_ppm" doc:"At or above it a slot is degraded, below it down"`
	Unknown             string         `json:"unknown" enum:"down,excused,pool" doc:"What a slot counts as that nobody knows about when its deadline has passed"`
	BackfillS           int64          `json:"backfill_s" doc:"How long after an hour its facts count, s"`
	CurtailLateS        int64          `json:"curtail_late_s" doc:"Curtailment counts if it was recorded at most this after its beginning, s"`
	MaintenanceNoticeS  int64          `json:"maintenance_notice_s" doc:"Maintenance counts if it was recorded at least this before its beginning, s"`
	CurtailCapSlots     int64          `json:"curtail_cap_slots" doc:"Most slots of a miner and month that curtailment excuses; -1: no cap"`
	MaintenanceCapSlots int64          `json:"maintenance_cap_slots" doc:"Most slots of a miner and month that maintenance excuses; -1: no cap"`
	Tiers               []ContractTier `json:"tiers" nullable:"false" doc:"By descending bound"`
	CreditCapBP         int64          `json:"credit_cap_bp"`
	FeeMinor            int64          `json:"fee_minor" doc:"Hosting fee of a month in minor units; 0: credits are told in 1/100 % only"`
	Currency            string         `json:"currency" doc:"ISO 4217; empty without a fee"`
}

// TermsOrder is what terms shall say. What is absent stays as it was in the version before; in a contract's first terms it is the default.
type TermsOrder struct {
	From                *time.Time      `json:"from,omitempty" doc:"Now by default. A new version must begin after the last one and after every month of which a statement was issued; before now only in the week after the contract was recorded"`
	RateMHS             *int64          `json:"rate_mhs,omitempty" minimum:"1" doc:"Contracted hashrate of a miner, MH/s; a contract's first terms need it"`
	Metric              *string         `json:"metric,omitempty" enum:"time,hashrate" doc:"time by default"`
	TargetPPM           *int64          `json:"target_ppm,omitempty" minimum:"1" maximum:"1000000" doc:"990000 by default"`
	ThetaPPM            *int64          `json:"theta_ppm,omitempty" minimum:"1" maximum:"1000000" doc:"800000 by default"`
	DegradedPPM         *int64          `json:"degraded_ppm,omitempty" minimum:"1" maximum:"1000000" doc:"100000 by default"`
	Unknown             *string         `json:"unknown,omitempty" enum:"down,excused,pool" doc:"down by default"`
	BackfillS           *int64          `json:"backfill_s,omitempty" minimum:"0" doc:"259200 by default"`
	CurtailLateS        *int64          `json:"curtail_late_s,omitempty" minimum:"0" doc:"900 by default"`
	MaintenanceNoticeS  *int64          `json:"maintenance_notice_s,omitempty" minimum:"0" doc:"86400 by default"`
	CurtailCapSlots     *int64          `json:"curtail_cap_slots,omitempty" minimum:"-1" doc:"-1 (no cap) by default"`
	MaintenanceCapSlots *int64          `json:"maintenance_cap_slots,omitempty" minimum:"-1" doc:"-1 (no cap) by default"`
	Tiers               *[]ContractTier `json:"tiers,omitempty" maxItems:"16" doc:"By default 5 % below 99 %, 10 % below 98 %, 25 % below 95 %, as far as they lie below the target"`
	CreditCapBP         *int64          `json:"credit_cap_bp,omitempty" minimum:"0" maximum:"10000" doc:"10000 by default"`
	FeeMinor            *int64          `json:"fee_minor,omitempty" minimum:"0" doc:"0 by default"`
	Currency            *string         `json:"currency,omitempty" maxLength:"3" doc:"ISO 4217; needed with a fee"`
}

func (o *TermsOrder) order() *customer.TermsOrder {
	out := &customer.TermsOrder{
		RateMHs: o.RateMHS, Metric: o.Metric, TargetPPM: o.TargetPPM, ThetaPPM: o.ThetaPPM, DegradedPPM: o.DegradedPPM, Unknown: o.Unknown, BackfillS: o.BackfillS,
		CurtailLateS: o.CurtailLateS, MaintenanceNoticeS: o.MaintenanceNoticeS, CurtailCapSlots: o.CurtailCapSlots, MaintenanceCapSlots: o.MaintenanceCapSlots,
		CreditCapBP: o.CreditCapBP, FeeMinor: o.FeeMinor, Currency: o.Currency,
	}
	if o.From != nil {
		ms := msOf(*o.From)
		out.FromMS = &ms
	}
	if o.Tiers != nil {
		tiers := make([]sla.Tier, len(*o.Tiers))
		for i, t := range *o.Tiers {
			tiers[i] = sla.Tier{BelowPPM: t.BelowPPM, CreditBP: t.CreditBP}
		}
		out.Tiers = &tiers
	}
	return out
}

// msOf is a time that somebody named, as ms since 1970: never 0, which subjects read as "none named". They refuse the year 1970 anyway.
func msOf(t time.Time) int64 {
	if ms := t.UnixMilli(); ms != 0 {
		return ms
	}
	return -1
}

func timeOfMS(ms int64) Time { return Time{time.UnixMilli(ms).UTC()} }

// optionalMS turns ms into an optional member: 0 is absent.
func optionalMS(ms int64) *Time {
	if ms == 0 {
		return nil
	}
	t := timeOfMS(ms)
	return &t
}

func termsBody(t *sla.Terms) Terms {
	out := Terms{
		From: timeOfMS(t.FromMS), RateMHS: t.RateMHs, Metric: string(t.Metric), TargetPPM: t.TargetPPM, ThetaPPM: t.ThetaPPM, DegradedPPM: t.DegradedPPM, Unknown: string(t.Unknown),
		BackfillS: t.BackfillS, CurtailLateS: t.CurtailLateS, MaintenanceNoticeS: t.MaintenanceNoticeS, CurtailCapSlots: t.CurtailCapSlots,
		MaintenanceCapSlots: t.MaintenanceCapSlots, Tiers: make([]ContractTier, len(t.Tiers)), CreditCapBP: t.CreditCapBP, FeeMinor: t.FeeMinor, Currency: t.Currency,
	}
	for i, tier := range t.Tiers {
		out.Tiers[i] = ContractTier{BelowPPM: tier.BelowPPM, CreditBP: tier.CreditBP}
	}
	return out
}

// Contract is what was agreed with a customer, as lists show it.
type Contract struct {
	ID           string   `json:"id" format:"uuid"`
	CustomerID   string   `json:"customer_id" format:"uuid"`
	CustomerName string   `json:"customer_name"`
	Name         string   `json:"name"`
	CreatedAt    Time     `json:"created_at"`
	Version      int      `json:"version" doc:"Of the terms in force; before the first begins, that one"`
	From         Time     `json:"from" doc:"When that version began"`
	Metric       string   `json:"metric" enum:"time,hashrate"`
	TargetPPM    int64    `json:"target_ppm"`
	Miners       int64    `json:"miners" doc:"That belong to it now"`
	SiteIDs      []string `json:"site_ids" nullable:"false" doc:"Sites at which it has, or had, miners"`
}

// ContractVersion is one version of a contract's terms.
type ContractVersion struct {
	Version    int    `json:"version"`
	From       Time   `json:"from"`
	RecordedAt Time   `json:"recorded_at"`
	RecordedBy string `json:"recorded_by" doc:"As in the audit log; empty for customers"`
	Hash       string `json:"hash" doc:"SHA-256 of the canonical encoding, hex: what statements name the terms by"`
	Terms      Terms  `json:"terms"`
}

// ContractGap is a time in which a miner that belonged to the contract has no contract.
type ContractGap struct {
	SiteID  string `json:"site_id" format:"uuid"`
	MinerID string `json:"miner_id" format:"uuid"`
	From    Time   `json:"from"`
	To      *Time  `json:"to,omitempty" doc:"Absent: it has none since"`
}

// ContractSite names a site of a contract.
type ContractSite struct {
	ID   string `json:"id" format:"uuid"`
	Name string `json:"name"`
}

// ContractDetail is a contract with its terms, sites and gaps.
type ContractDetail struct {
	Contract
	Versions []ContractVersion `json:"versions" nullable:"false" doc:"The first first"`
	Sites    []ContractSite    `json:"sites" nullable:"false"`
	Gaps     []ContractGap     `json:"gaps" nullable:"false" doc:"The newest first. A customer sees those between its own assignments"`
	GapsMore bool              `json:"gaps_more" doc:"There are more gaps than these 500"`
}

// ContractList is one page of contracts.
type ContractList struct {
	Items []Contract `json:"items" nullable:"false"`
	Next  string     `json:"next,omitempty" doc:"Cursor of the next page; absent on the last"`
}

// NewContract is a contract to add.
type NewContract struct {
	CustomerID string     `json:"customer_id" format:"uuid"`
	Name       string     `json:"name" minLength:"1" maxLength:"100" doc:"Unique among the customer's; a name that is taken is refused, and the id of the contract that has it told"`
	Terms      TermsOrder `json:"terms"`
}

// NewVersion is a version of terms to add.
type NewVersion struct {
	Terms TermsOrder `json:"terms"`
}

// Assignment is a miner's time in a contract. A slot belongs to the contract that the miner has at the slot's beginning.
type Assignment struct {
	ID         string `json:"id" format:"uuid"`
	SiteID     string `json:"site_id" format:"uuid"`
	SiteName   string `json:"site_name"`
	MinerID    string `json:"miner_id" format:"uuid"`
	Address    string `json:"address,omitempty" doc:"Of the miner in its site's network; absent for customers"`
	From       Time   `json:"from"`
	To         *Time  `json:"to,omitempty" doc:"Absent: open. The same as from: it was called off"`
	RateMHS    int64  `json:"rate_mhs" doc:"Contracted hashrate, MH/s; 0: the terms'"`
	RecordedAt Time   `json:"recorded_at"`
	EndedAt    *Time  `json:"ended_at,omitempty" doc:"When to was recorded; absent: with the assignment"`
}

// AssignmentList is one page of assignments.
type AssignmentList struct {
	Items []Assignment `json:"items" nullable:"false"`
	Next  string       `json:"next,omitempty" doc:"Cursor of the next page; absent on the last"`
}

// AssignmentsMade is what an order made, or found made.
type AssignmentsMade struct {
	Items []Assignment `json:"items" nullable:"false"`
}

// NewAssignment gives a miner to a contract.
type NewAssignment struct {
	SiteID  string     `json:"site_id" format:"uuid"`
	MinerID string     `json:"miner_id" format:"uuid"`
	From    time.Time  `json:"from" doc:"At most a year from now, not before the contract's first terms, and not in a month of which a statement was issued. Before now only in the week after the contract was recorded"`
	To      *time.Time `json:"to,omitempty" doc:"Absent: open"`
	RateMHS int64      `json:"rate_mhs,omitempty" minimum:"0" doc:"Contracted hashrate, MH/s; 0 or absent: the terms'"`
}

// NewAssignments gives miners to a contract: all of them or none.
type NewAssignments struct {
	Miners []NewAssignment `json:"miners" minItems:"1" maxItems:"5000" nullable:"false"`
}

// EndAssignments ends assignments: all of them or none.
type EndAssignments struct {
	AssignmentIDs []string   `json:"assignment_ids" minItems:"1" maxItems:"5000" nullable:"false"`
	At            *time.Time `json:"at,omitempty" doc:"Absent: now. Slots that are over stay owed, so it does not lie before now. At an assignment's beginning it is called off; one that has begun only within an hour of its recording"`
}

type contractsInput struct {
	CustomerID string `query:"customer_id" format:"uuid" doc:"Only this customer's"`
	Limit      int    `query:"limit" default:"100" minimum:"1" maximum:"500"`
	Cursor     string `query:"cursor" maxLength:"400" doc:"next of the page before"`
}

type contractInput struct {
	ID string `path:"id" format:"uuid" doc:"The contract's id"`
}

type contractMinersInput struct {
	ID     string `path:"id" format:"uuid" doc:"The contract's id"`
	At     string `query:"at" maxLength:"40" doc:"RFC 3339: only those that belong to the contract then"`
	Limit  int    `query:"limit" default:"100" minimum:"1" maximum:"1000"`
	Cursor string `query:"cursor" maxLength:"200" doc:"next of the page before"`
}

type newContractInput struct{ Body NewContract }

type newVersionInput struct {
	ID   string `path:"id" format:"uuid" doc:"The contract's id"`
	Body NewVersion
}

type newAssignmentsInput struct {
	ID   string `path:"id" format:"uuid" doc:"The contract's id"`
	Body NewAssignments
}

type endAssignmentsInput struct {
	ID   string `path:"id" format:"uuid" doc:"The contract's id"`
	Body EndAssignments
}

type contractListOutput struct{ Body ContractList }
type contractOutput struct{ Body ContractDetail }
type assignmentListOutput struct{ Body AssignmentList }
type assignmentsMadeOutput struct{ Body AssignmentsMade }

var contractErrors = []int{http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound, http.StatusConflict, http.StatusUnprocessableEntity}

// batchBody is room for 5,000 assignments as JSON.
const batchBody = 2 << 20

func (s *Server) contractRoutes() {
	register(s, audience(access.ContractsRead), huma.Operation{
		OperationID: "list-contracts", Method: http.MethodGet, Path: "/api/contracts", Tags: []string{"contracts"},
		Summary: "Contracts, by name; a customer's key sees that customer's", Errors: contractErrors,
	}, s.listContracts)
	register(s, audience(access.ContractsRead), huma.Operation{
		OperationID: "get-contract", Method: http.MethodGet, Path: "/api/contracts/{id}", Tags: []string{"contracts"},
		Summary: "One contract with its terms, sites and gaps", Errors: contractErrors,
	}, func(ctx context.Context, in *contractInput) (*contractOutput, error) {
		c, err := s.contractOf(ctx, in.ID)
		if err != nil {
			return nil, err
		}
		return s.contractDetail(ctx, c.ID)
	})
	register(s, audience(access.ContractsWrite), huma.Operation{
		OperationID: "add-contract", Method: http.MethodPost, Path: "/api/contracts", Tags: []string{"contracts"},
		Summary: "Add a contract with its first terms", DefaultStatus: http.StatusCreated, MaxBodyBytes: 64 << 10, Errors: contractErrors,
	}, func(ctx context.Context, in *newContractInput) (*contractOutput, error) {
		id, err := parseID("customer_id", in.Body.CustomerID)
		if err != nil {
			return nil, err
		}
		c, _, err := s.customers.AddContract(ctx, actor(ctx), id, in.Body.Name, in.Body.Terms.order().Apply(sla.DefaultTerms()))
		if err != nil {
			return nil, err
		}
		return s.contractDetail(ctx, c.ID)
	})
	register(s, audience(access.ContractsWrite), huma.Operation{
		OperationID: "amend-contract", Method: http.MethodPost, Path: "/api/contracts/{id}/versions", Tags: []string{"contracts"},
		Summary: "Add a version of a contract's terms", DefaultStatus: http.StatusCreated, MaxBodyBytes: 64 << 10, Errors: contractErrors,
		Description: "What is absent stays as it was in the version before. Earlier versions never change.",
	}, func(ctx context.Context, in *newVersionInput) (*contractOutput, error) {
		c, err := s.contractOf(ctx, in.ID)
		if err != nil {
			return nil, err
		}
		if _, _, err = s.customers.Amend(ctx, actor(ctx), c.ID, in.Body.Terms.order().Apply); err != nil {
			return nil, err
		}
		return s.contractDetail(ctx, c.ID)
	})
	register(s, audience(access.ContractsRead), huma.Operation{
		OperationID: "list-contract-miners", Method: http.MethodGet, Path: "/api/contracts/{id}/miners", Tags: []string{"contracts"},
		Summary: "Which miners belong to a contract from when to when, by site, miner and time, those that left too", Errors: contractErrors,
	}, s.listAssignments)
	register(s, audience(access.ContractsWrite), huma.Operation{
		OperationID: "add-contract-miners", Method: http.MethodPost, Path: "/api/contracts/{id}/miners", Tags: []string{"contracts"},
		Summary: "Give miners to a contract: all of them or none", DefaultStatus: http.StatusCreated, MaxBodyBytes: batchBody, Errors: contractErrors,
		Description: "A miner that has a contract at one of these times is refused, and both are named. The same order again changes nothing.",
	}, s.assign)
	register(s, audience(access.ContractsWrite), huma.Operation{
		OperationID: "end-contract-miners", Method: http.MethodPost, Path: "/api/contracts/{id}/miners/end", Tags: []string{"contracts"},
		Summary: "End miners' time in a contract: all of them or none", MaxBodyBytes: batchBody, Errors: contractErrors,
	}, s.endAssignments)
}

// contractOf finds the contract that a request names. One of another customer is not there for a customer's key, as if there were none.
func (s *Server) contractOf(ctx context.Context, text string) (customer.Contract, error) {
	id, err := parseID("contract", text)
	if err != nil {
		return customer.Contract{}, err
	}
	c, err := s.customers.Contract(ctx, nil, id)
	if err == nil && !c.VisibleTo(principal(ctx).Customer) {
		err = apperr.E(apperr.NotFound, "NOTFOUND_001", "contract %s does not exist", id)
	}
	return c, err
}

func (s *Server) listContracts(ctx context.Context, in *contractsInput) (*contractListOutput, error) {
	after, err := parsePlace(in.Cursor)
	if err != nil {
		return nil, err
	}
	of := principal(ctx).Customer
	if in.CustomerID != "" {
		id, err := parseID("customer_id", in.CustomerID)
		if err != nil {
			return nil, err
		}
		if of != uuid.Nil && id != of {
			return nil, apperr.E(apperr.NotFound, "NOTFOUND_001", "customer %s does not exist", id)
		}
		if _, err := s.customers.Customer(ctx, nil, id); err != nil {
			return nil, err
		}
		of = id
	}
	list, err := s.customers.Summaries(ctx, of, after, in.Limit+1)
	if err != nil {
		return nil, err
	}
	out := &contractListOutput{Body: ContractList{Items: make([]Contract, 0, len(list))}}
	if len(list) > in.Limit {
		list = list[:in.Limit]
		out.Body.Next = placeText(list[in.Limit-1].Name, list[in.Limit-1].ID)
	}
	for i := range list {
		out.Body.Items = append(out.Body.Items, contractBody(&list[i]))
	}
	return out, nil
}

func contractBody(c *customer.Summary) Contract {
	out := Contract{
		ID: c.ID.String(), CustomerID: c.Customer.String(), CustomerName: c.CustomerName, Name: c.Name, CreatedAt: Time{c.CreatedAt}, Version: c.Terms.Version,
		From: timeOfMS(c.Terms.FromMS), Metric: string(c.Terms.Metric), TargetPPM: c.Terms.TargetPPM, Miners: c.Miners, SiteIDs: make([]string, len(c.Sites)),
	}
	for i, site := range c.Sites {
		out.SiteIDs[i] = site.ID.String()
	}
	return out
}

func (s *Server) contractDetail(ctx context.Context, id uuid.UUID) (*contractOutput, error) {
	c, err := s.customers.Summary(ctx, id)
	if err != nil {
		return nil, err
	}
	versions, err := s.customers.Recorded(ctx, nil, id)
	if err != nil {
		return nil, err
	}
	who := principal(ctx).Customer
	gaps, more, err := s.customers.Gaps(ctx, id, who)
	if err != nil {
		return nil, err
	}
	out := &contractOutput{Body: ContractDetail{
		Contract: contractBody(&c), Versions: make([]ContractVersion, len(versions)), Sites: make([]ContractSite, len(c.Sites)), Gaps: make([]ContractGap, len(gaps)), GapsMore: more,
	}}
	for i := range versions {
		v := &versions[i]
		out.Body.Versions[i] = ContractVersion{
			Version: v.Version, From: timeOfMS(v.FromMS), RecordedAt: Time{v.RecordedAt}, RecordedBy: v.RecordedBy, Hash: hex.EncodeToString(v.Hash[:]), Terms: termsBody(&v.Terms),
		}
		if who != uuid.Nil {
			out.Body.Versions[i].RecordedBy = ""
		}
	}
	for i, site := range c.Sites {
		out.Body.Sites[i] = ContractSite{ID: site.ID.String(), Name: site.Name}
	}
	for i, g := range gaps {
		out.Body.Gaps[i] = ContractGap{SiteID: g.Site.String(), MinerID: g.Miner.String(), From: timeOfMS(g.FromMS), To: optionalMS(g.ToMS)}
	}
	return out, nil
}

func (s *Server) listAssignments(ctx context.Context, in *contractMinersInput) (*assignmentListOutput, error) {
	c, err := s.contractOf(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	after, err := parseAssignmentPlace(in.Cursor)
	if err != nil {
		return nil, err
	}
	at := int64(0)
	if in.At != "" {
		t, err := time.Parse(time.RFC3339, in.At)
		if err != nil {
			return nil, badTime("at", in.At)
		}
		at = msOf(t)
	}
	list, err := s.customers.ListAssignments(ctx, c.ID, at, after, in.Limit+1)
	if err != nil {
		return nil, err
	}
	out := &assignmentListOutput{}
	if len(list) > in.Limit {
		list = list[:in.Limit]
		last := &list[in.Limit-1]
		out.Body.Next = fmt.Sprintf("%s.%s.%d.%s", last.Site, last.Miner, last.FromMS, last.ID)
	}
	out.Body.Items = s.assignmentBodies(ctx, list)
	return out, nil
}

func parseAssignmentPlace(cursor string) (p customer.AssignmentPlace, err error) {
	if cursor == "" {
		return p, nil
	}
	parts := strings.Split(cursor, ".")
	if len(parts) != 4 {
		return p, badCursor()
	}
	var errs [4]error
	p.Site, errs[0] = ident.ParseSiteID(parts[0])
	p.Miner, errs[1] = ident.ParseMinerID(parts[1])
	p.FromMS, errs[2] = strconv.ParseInt(parts[2], 10, 64)
	p.ID, errs[3] = uuid.Parse(parts[3])
	for _, err := range errs {
		if err != nil {
			return p, badCursor()
		}
	}
	return p, nil
}

func (s *Server) assignmentBodies(ctx context.Context, list []customer.Assignment) []Assignment {
	out := make([]Assignment, len(list))
	for i := range list {
		a := &list[i]
		out[i] = Assignment{
			ID: a.ID.String(), SiteID: a.Site.String(), SiteName: a.SiteName, MinerID: a.Miner.String(), Address: a.Address, From: timeOfMS(a.FromMS), To: optionalMS(a.ToMS),
			RateMHS: a.RateMHs, RecordedAt: Time{a.RecordedAt}, EndedAt: timeOf(a.EndedAt),
		}
		if principal(ctx).Customer != uuid.Nil {
			out[i].Address = ""
		}
	}
	return out
}

func (s *Server) assign(ctx context.Context, in *newAssignmentsInput) (*assignmentsMadeOutput, error) {
	c, err := s.contractOf(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	list := make([]customer.NewAssignment, len(in.Body.Miners))
	for i := range in.Body.Miners {
		m := &in.Body.Miners[i]
		n := customer.NewAssignment{FromMS: msOf(m.From), RateMHs: m.RateMHS}
		if n.Site, err = siteID(m.SiteID); err != nil {
			return nil, err
		}
		if n.Miner, err = ident.ParseMinerID(m.MinerID); err != nil {
			return nil, apperr.E(apperr.Invalid, "VALID_001", "%w", err)
		}
		if m.To != nil {
			n.ToMS = msOf(*m.To)
		}
		list[i] = n
	}
	made, err := s.customers.Assign(ctx, actor(ctx), c.ID, list)
	if err != nil {
		return nil, err
	}
	return &assignmentsMadeOutput{Body: AssignmentsMade{Items: s.assignmentBodies(ctx, made)}}, nil
}

func (s *Server) endAssignments(ctx context.Context, in *endAssignmentsInput) (*assignmentsMadeOutput, error) {
	c, err := s.contractOf(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	ids := make([]uuid.UUID, len(in.Body.AssignmentIDs))
	for i, text := range in.Body.AssignmentIDs {
		if ids[i], err = parseID("assignment_ids", text); err != nil {
			return nil, err
		}
	}
	at := int64(0)
	if in.Body.At != nil {
		at = msOf(*in.Body.At)
	}
	ended, err := s.customers.EndAssignments(ctx, actor(ctx), c.ID, ids, at)
	if err != nil {
		return nil, err
	}
	return &assignmentsMadeOutput{Body: AssignmentsMade{Items: s.assignmentBodies(ctx, ended)}}, nil
}
