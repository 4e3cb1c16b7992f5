package api

import (
	"context"
	"encoding/hex"
	"net/http"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"

	"github.com/hashinsight/hashinsight/hub/internal/access"
	"github.com/hashinsight/hashinsight/hub/internal/apperr"
	"github.com/hashinsight/hashinsight/hub/internal/sla"
	"github.com/hashinsight/hashinsight/hub/internal/statement"
	"github.com/hashinsight/hashinsight/pkg/evidence"
	"github.com/hashinsight/hashinsight/pkg/ident"
)

// SlotCounts counts slots of 5 minutes by what they came to.
type SlotCounts struct {
	Up             int64 `json:"up"`
	Degraded       int64 `json:"degraded"`
	Down           int64 `json:"down"`
	UnknownOpen    int64 `json:"unknown_open" doc:"Nothing is known yet, and data may still come"`
	UnknownDown    int64 `json:"unknown_down" doc:"Nothing is known, and the contract counts it as down"`
	UnknownExcused int64 `json:"unknown_excused" doc:"Nothing is known, and the contract does not count it"`
	Curtailment    int64 `json:"curtailment" doc:"Excused: stopped on order"`
	Maintenance    int64 `json:"maintenance" doc:"Excused: announced maintenance"`
	NotContracted  int64 `json:"not_contracted"`
	Future         int64 `json:"future"`
}

// Credit is what a contract gives back for a month.
type Credit struct {
	BP       int64  `json:"bp" doc:"Of the month's fee, in 1/100 %"`
	Minor    int64  `json:"minor" doc:"In minor units of the currency; 0 where the contract names no fee"`
	Currency string `json:"currency,omitempty" doc:"ISO 4217"`
	BelowPPM *int64 `json:"below_ppm,omitempty" doc:"The tier that gives it"`
}

// BurnDown is what one day took of the slots that may be missed.
type BurnDown struct {
	Day           string `json:"day" format:"date"`
	Missed        int64  `json:"missed" doc:"Slots missed on this day"`
	AllowanceLeft int64  `json:"allowance_left" doc:"Slots that could still be missed after it; below zero: the target is missed"`
}

// ContractSLA is what a contract's month has come to.
type ContractSLA struct {
	ContractID      string     `json:"contract_id" format:"uuid"`
	Month           string     `json:"month" doc:"UTC, such as 2026-11"`
	State           string     `json:"state" enum:"provisional,closing,closed" doc:"closing: the month is over and its statement waits; closed: a statement was issued"`
	WaitingFor      []string   `json:"waiting_for" nullable:"false" doc:"What keeps the statement from being issued"`
	ComputedAt      Time       `json:"computed_at"`
	Statement       string     `json:"statement,omitempty" doc:"Hash of the newest statement of the month"`
	Metric          string     `json:"metric" enum:"time,hashrate"`
	TargetPPM       int64      `json:"target_ppm"`
	AvailabilityPPM *int64     `json:"availability_ppm,omitempty" doc:"So far, rounded down; absent: nothing was due"`
	Met             *bool      `json:"met,omitempty" doc:"Whether the target is met so far; absent: nothing was due"`
	Slots           SlotCounts `json:"slots"`
	Due             int64      `json:"due" doc:"Slots contracted and not excused so far"`
	Allowance       int64      `json:"allowance" doc:"Slots of the whole month that may be missed"`
	Missed          int64      `json:"missed"`
	Credit          Credit     `json:"credit"`
	BurnDown        []BurnDown `json:"burn_down" nullable:"false" doc:"One entry a day up to now"`
}

// MinerSLA is what one miner's month has come to under a contract.
type MinerSLA struct {
	SiteID          string     `json:"site_id" format:"uuid"`
	MinerID         string     `json:"miner_id" format:"uuid"`
	Name            string     `json:"name,omitempty" doc:"Its address at the site; absent for customers; text from outside, never markup"`
	Slots           SlotCounts `json:"slots"`
	AvailabilityPPM *int64     `json:"availability_ppm,omitempty"`
}

// MinerSLAList is one page of miners, in order of site and id.
type MinerSLAList struct {
	Items []MinerSLA `json:"items" nullable:"false"`
	Next  string     `json:"next,omitempty" doc:"Cursor of the next page; absent on the last"`
}

// statesDoc explains the letters of slot maps.
const statesDoc = "288 letters, one for each 5 minutes of the UTC day: . not contracted, c curtailed on order, m announced maintenance, U up, d degraded, D down, " +
	"? unknown and open, X unknown and counted as down, x unknown and not counted, space in the future"

// MinerDay is one miner's UTC day, slot by slot.
type MinerDay struct {
	Day    string `json:"day" format:"date"`
	States string `json:"states" doc:"See the operation"`
}

// MinerDays is some days of one miner.
type MinerDays struct {
	Items []MinerDay `json:"items" nullable:"false"`
}

// DayMiner is one miner on a day, slot by slot.
type DayMiner struct {
	SiteID  string `json:"site_id" format:"uuid"`
	MinerID string `json:"miner_id" format:"uuid"`
	Name    string `json:"name,omitempty" doc:"Its address at the site; absent for customers; text from outside, never markup"`
	States  string `json:"states" doc:"See the operation"`
}

// DayMiners is one page of a day's miners, in order of site and id.
type DayMiners struct {
	Items []DayMiner `json:"items" nullable:"false"`
	Next  string     `json:"next,omitempty" doc:"Cursor of the next page; absent on the last"`
}

// Why says why a slot is what it is.
type Why struct {
	SlotStart      Time        `json:"slot_start"`
	SlotEnd        Time        `json:"slot_end"`
	Letter         string      `json:"letter" doc:"As in slot maps"`
	Rule           string      `json:"rule" doc:"The rule that decided"`
	Hashes         string      `json:"hashes" doc:"Done in the slot, MH, decimal"`
	Needed         string      `json:"needed" doc:"From this on it is up, MH, decimal"`
	DegradedNeeded string      `json:"degraded_needed" doc:"From this on it is degraded, below it down, MH, decimal"`
	RateMHs        int64       `json:"rate_mhs" doc:"Contracted, MH/s"`
	ThetaPPM       int64       `json:"theta_ppm"`
	PollsMade      int64       `json:"polls_made"`
	PollsAnswered  int64       `json:"polls_answered"`
	Source         string      `json:"source" enum:"none,counter,rate" doc:"Where the number of hashes comes from"`
	Flags          []string    `json:"flags" nullable:"false" doc:"What polls have seen: reachable, hashing, sleeping, overheated, bridged, clock_step, curtail_seen, skewed"`
	Deadline       *Time       `json:"deadline,omitempty" doc:"Until then facts of the slot count; absent: it is not contracted"`
	Open           bool        `json:"open" doc:"It is unknown and the deadline has not passed"`
	Hour           WhyHour     `json:"hour" doc:"The first of hours"`
	Hours          []WhyHour   `json:"hours,omitempty" doc:"One for each chain: a site that lost its disk has two in that hour"`
	Polls          []WhyPoll   `json:"polls" nullable:"false" doc:"At most 1000"`
	PollsGone      string      `json:"polls_gone,omitempty" doc:"Why polls are not shown"`
	Excuses        []WhyExcuse `json:"excuses" nullable:"false" doc:"Those that touch the slot and the miner, whether they count or not"`
	Terms          *WhyTerms   `json:"terms,omitempty" doc:"Absent: none held"`
}

// WhyHour is the signed hour that the slot's facts come from.
type WhyHour struct {
	State      string `json:"state" enum:"none,pending,agreed,disputed,incomplete"`
	ReceivedAt *Time  `json:"received_at,omitempty" doc:"When all of it had come, by the hub's clock"`
	Spool      string `json:"spool,omitempty"`
	Seq        uint64 `json:"seq,omitempty" doc:"Of the batch that signs it"`
	HeaderHash string `json:"header_hash,omitempty"`
	Root       string `json:"root,omitempty"`
	Reason     string `json:"reason,omitempty" doc:"Of a dispute, or what it waits for"`
}

// WhyPoll is one poll of the slot, and the batch that holds it.
type WhyPoll struct {
	At          Time    `json:"at" doc:"The site's clock"`
	Outcome     string  `json:"outcome"`
	State       string  `json:"state"`
	HashrateMHs *int64  `json:"hashrate_mhs,omitempty"`
	Hashes      *string `json:"hashes,omitempty" doc:"The miner's counter, MH, decimal"`
	UptimeS     *int64  `json:"uptime_s,omitempty"`
	Spool       string  `json:"spool"`
	Seq         uint64  `json:"seq"`
	HeaderHash  string  `json:"header_hash"`
	ReceivedAt  Time    `json:"received_at"`
}

// WhyExcuse is an excuse that touches the slot.
type WhyExcuse struct {
	ID         string `json:"id" format:"uuid"`
	Kind       string `json:"kind" enum:"curtailment,maintenance"`
	From       Time   `json:"from"`
	To         Time   `json:"to"`
	RecordedAt Time   `json:"recorded_at"`
	Counts     bool   `json:"counts"`
	Why        string `json:"why" doc:"Why it counts or not"`
}

// WhyTerms names the version of the terms that held.
type WhyTerms struct {
	Version int    `json:"version"`
	Hash    string `json:"hash"`
}

type slaInput struct {
	ID    string `path:"id" format:"uuid" doc:"The contract's id"`
	Month string `query:"month" maxLength:"7" doc:"UTC, such as 2026-11; by default the present one"`
}

type slaMinersInput struct {
	ID     string `path:"id" format:"uuid" doc:"The contract's id"`
	Month  string `query:"month" maxLength:"7" doc:"UTC, such as 2026-11; by default the present one"`
	Limit  int    `query:"limit" default:"100" minimum:"1" maximum:"1000"`
	Cursor string `query:"cursor" maxLength:"80" doc:"next of the page before"`
}

type slotsInput struct {
	ID      string `path:"id" format:"uuid" doc:"The contract's id"`
	SiteID  string `query:"site_id" required:"true" format:"uuid"`
	MinerID string `query:"miner_id" required:"true" format:"uuid"`
	FromDay string `query:"from_day" maxLength:"10" doc:"UTC, such as 2026-11-01; by default the first of to_day's month"`
	ToDay   string `query:"to_day" maxLength:"10" doc:"Included; by default today. At most 62 days from from_day"`
}

type daySlotsInput struct {
	ID     string `path:"id" format:"uuid" doc:"The contract's id"`
	Day    string `query:"day" maxLength:"10" doc:"UTC, such as 2026-11-01; by default today"`
	Limit  int    `query:"limit" default:"100" minimum:"1" maximum:"1000"`
	Cursor string `query:"cursor" maxLength:"80" doc:"next of the page before"`
}

type whyInput struct {
	ID      string    `path:"id" format:"uuid" doc:"The contract's id"`
	SiteID  string    `query:"site_id" required:"true" format:"uuid"`
	MinerID string    `query:"miner_id" required:"true" format:"uuid"`
	At      time.Time `query:"at" required:"true" doc:"A moment in the slot"`
}

type (
	contractSLAOutput struct{ Body ContractSLA }
	slaMinersOutput   struct{ Body MinerSLAList }
	slotsOutput       struct{ Body MinerDays }
	daySlotsOutput    struct{ Body DayMiners }
	whyOutput         struct{ Body Why }
)

// slaErrors are what reads of a contract's months can answer.
func slaErrors() []int {
	return []int{http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound, http.StatusUnprocessableEntity}
}

func (s *Server) slaRoutes() {
	register(s, audience(access.SLARead), huma.Operation{
		OperationID: "get-contract-sla", Method: http.MethodGet, Path: "/api/contracts/{id}/sla", Tags: []string{"sla"},
		Summary: "What a contract's month has come to, with its burn-down", Errors: slaErrors(),
	}, s.contractSLA)
	register(s, audience(access.SLARead), huma.Operation{
		OperationID: "list-contract-sla-miners", Method: http.MethodGet, Path: "/api/contracts/{id}/sla/miners", Tags: []string{"sla"},
		Summary: "The same for each miner", Errors: slaErrors(),
	}, s.contractMiners)
	register(s, audience(access.SLARead), huma.Operation{
		OperationID: "get-contract-slots", Method: http.MethodGet, Path: "/api/contracts/{id}/slots", Tags: []string{"sla"},
		Summary: "Slot maps of one miner", Description: statesDoc, Errors: slaErrors(),
	}, s.contractSlots)
	register(s, audience(access.SLARead), huma.Operation{
		OperationID: "list-contract-day-slots", Method: http.MethodGet, Path: "/api/contracts/{id}/slots/day", Tags: []string{"sla"},
		Summary: "Slot maps of a day's miners", Description: statesDoc, Errors: slaErrors(),
	}, s.contractDaySlots)
	register(s, audience(access.SLARead), huma.Operation{
		OperationID: "get-contract-why", Method: http.MethodGet, Path: "/api/contracts/{id}/why", Tags: []string{"sla"},
		Summary: "Why a slot is up, or not", Description: "The verdict with its numbers, the signed hour and the polls it comes from, and the excuses.", Errors: slaErrors(),
	}, s.contractWhy)
}

// scope is what of statements and months the request may see.
func scope(ctx context.Context) statement.Scope {
	return statement.Scope{Customer: principal(ctx).Customer}
}

func contractID(text string) (uuid.UUID, error) {
	id, err := uuid.Parse(text)
	if err != nil {
		return id, apperr.E(apperr.Invalid, "VALID_001", "id: want a contract's id")
	}
	return id, nil
}

// month reads a month, or takes the present one.
func (s *Server) month(text string) (sla.CalendarMonth, error) {
	if text == "" {
		return sla.MonthOf(s.now().UnixMilli()), nil
	}
	m, err := sla.ParseMonth(text)
	if err != nil {
		return 0, apperr.E(apperr.Invalid, "VALID_001", "%w", err)
	}
	return m, nil
}

func day(name, text string, otherwise time.Time) (time.Time, error) {
	if text == "" {
		return otherwise.UTC().Truncate(24 * time.Hour), nil
	}
	t, err := time.Parse(time.DateOnly, text)
	if err != nil || t.Year() < 2009 || t.Year() > 2200 {
		return t, apperr.E(apperr.Invalid, "VALID_001", "%s: want a day such as 2026-11-01", name)
	}
	return t, nil
}

func minerOf(site, miner string) (statement.Miner, error) {
	s, err := siteID(site)
	if err != nil {
		return statement.Miner{}, err
	}
	m, err := ident.ParseMinerID(miner)
	if err != nil {
		return statement.Miner{}, apperr.E(apperr.Invalid, "VALID_001", "%w", err)
	}
	return statement.Miner{Site: s, Miner: m}, nil
}

func (s *Server) contractSLA(ctx context.Context, in *slaInput) (*contractSLAOutput, error) {
	id, err := contractID(in.ID)
	if err != nil {
		return nil, err
	}
	m, err := s.month(in.Month)
	if err != nil {
		return nil, err
	}
	live, err := s.statements.Live(ctx, scope(ctx), id, m)
	if err != nil {
		return nil, err
	}
	return &contractSLAOutput{Body: contractSLABody(&live)}, nil
}

func (s *Server) contractMiners(ctx context.Context, in *slaMinersInput) (*slaMinersOutput, error) {
	id, err := contractID(in.ID)
	if err != nil {
		return nil, err
	}
	m, err := s.month(in.Month)
	if err != nil {
		return nil, err
	}
	after, err := minerPlace(in.Cursor)
	if err != nil {
		return nil, err
	}
	list, err := s.statements.Miners(ctx, scope(ctx), id, m, after, in.Limit+1)
	if err != nil {
		return nil, err
	}
	out := &slaMinersOutput{Body: MinerSLAList{Items: make([]MinerSLA, 0, len(list))}}
	if len(list) > in.Limit {
		list = list[:in.Limit]
		out.Body.Next = list[in.Limit-1].Miner.String()
	}
	for i := range list {
		l := &list[i]
		out.Body.Items = append(out.Body.Items, MinerSLA{
			SiteID: l.Miner.Site.String(), MinerID: l.Miner.Miner.String(), Name: operatorsOnly(ctx, l.Name), Slots: slotCounts(&l.Slots), AvailabilityPPM: l.AvailabilityPPM,
		})
	}
	return out, nil
}

// operatorsOnly is a text that a customer's key does not read, such as where in a site's network a miner stands.
func operatorsOnly(ctx context.Context, text string) string {
	if principal(ctx).Customer != uuid.Nil {
		return ""
	}
	return text
}

// minerPlace reads a cursor over miners.
func minerPlace(cursor string) (statement.Miner, error) {
	if cursor == "" {
		return statement.Miner{}, nil
	}
	m, err := statement.ParseMiner(cursor)
	if err != nil {
		return m, apperr.E(apperr.Invalid, "VALID_001", "cursor: want next of the page before")
	}
	return m, nil
}

// maxMapDays bounds the days of one answer.
const maxMapDays = 62

func (s *Server) contractSlots(ctx context.Context, in *slotsInput) (*slotsOutput, error) {
	id, err := contractID(in.ID)
	if err != nil {
		return nil, err
	}
	miner, err := minerOf(in.SiteID, in.MinerID)
	if err != nil {
		return nil, err
	}
	to, err := day("to_day", in.ToDay, s.now())
	if err != nil {
		return nil, err
	}
	from, err := day("from_day", in.FromDay, to.AddDate(0, 0, 1-to.Day()))
	if err != nil {
		return nil, err
	}
	if to.Before(from) || to.Sub(from) >= maxMapDays*24*time.Hour {
		return nil, apperr.E(apperr.Invalid, "VALID_001", "to_day: want one of the %d days from from_day on", maxMapDays)
	}
	days, err := s.statements.MinerDays(ctx, scope(ctx), id, miner, from, to)
	if err != nil {
		return nil, err
	}
	out := &slotsOutput{Body: MinerDays{Items: make([]MinerDay, 0, len(days))}}
	for _, d := range days {
		out.Body.Items = append(out.Body.Items, MinerDay{Day: d.Day.Format(time.DateOnly), States: d.States})
	}
	return out, nil
}

func (s *Server) contractDaySlots(ctx context.Context, in *daySlotsInput) (*daySlotsOutput, error) {
	id, err := contractID(in.ID)
	if err != nil {
		return nil, err
	}
	at, err := day("day", in.Day, s.now())
	if err != nil {
		return nil, err
	}
	after, err := minerPlace(in.Cursor)
	if err != nil {
		return nil, err
	}
	list, err := s.statements.DayMiners(ctx, scope(ctx), id, at, after, in.Limit+1)
	if err != nil {
		return nil, err
	}
	out := &daySlotsOutput{Body: DayMiners{Items: make([]DayMiner, 0, len(list))}}
	if len(list) > in.Limit {
		list = list[:in.Limit]
		out.Body.Next = list[in.Limit-1].Miner.String()
	}
	for i := range list {
		l := &list[i]
		out.Body.Items = append(out.Body.Items, DayMiner{SiteID: l.Miner.Site.String(), MinerID: l.Miner.Miner.String(), Name: operatorsOnly(ctx, l.Name), States: l.States})
	}
	return out, nil
}

func (s *Server) contractWhy(ctx context.Context, in *whyInput) (*whyOutput, error) {
	id, err := contractID(in.ID)
	if err != nil {
		return nil, err
	}
	miner, err := minerOf(in.SiteID, in.MinerID)
	if err != nil {
		return nil, err
	}
	w, err := s.statements.Why(ctx, scope(ctx), id, miner, in.At)
	if err != nil {
		return nil, err
	}
	return &whyOutput{Body: whyBody(&w)}, nil
}

func whyBody(w *statement.Why) Why {
	out := Why{
		SlotStart: msTime(w.SlotMS), SlotEnd: msTime(w.SlotMS + evidence.SlotMS), Letter: string(rune(w.State.Letter())), Rule: string(w.Reason),
		Hashes: strconv.FormatUint(w.Facts.Hashes, 10), Needed: strconv.FormatUint(w.UpMH, 10), DegradedNeeded: strconv.FormatUint(w.DegradedMH, 10),
		RateMHs: w.NeedMH / (evidence.SlotMS / 1000), PollsMade: int64(w.Facts.Polls), PollsAnswered: int64(w.Facts.Answered), Source: sourceName(w.Facts.Source),
		Flags: flagNames(w.Facts.Flags), Open: w.Open, Hour: WhyHour{State: "none"}, Polls: make([]WhyPoll, 0, len(w.Polls)), PollsGone: w.PollsGone,
		Excuses: make([]WhyExcuse, 0, len(w.Excuses)),
	}
	if w.DeadlineMS != 0 {
		t := msTime(w.DeadlineMS)
		out.Deadline = &t
	}
	if w.Terms != nil {
		out.ThetaPPM, out.Terms = w.Terms.ThetaPPM, &WhyTerms{Version: w.Terms.Version, Hash: hex.EncodeToString(w.TermsHash[:])}
	}
	for i := range w.Hours {
		h := &w.Hours[i]
		out.Hours = append(out.Hours, WhyHour{
			State: h.State.String(), Reason: h.Reason, ReceivedAt: timeOf(h.Received()), Spool: h.Spool.String(), Seq: h.InSeq, HeaderHash: hex.EncodeToString(h.Header[:]),
			Root: hex.EncodeToString(h.Root[:]),
		})
	}
	if len(out.Hours) > 0 {
		out.Hour = out.Hours[0]
	}
	for i := range w.Polls {
		p := &w.Polls[i]
		line := WhyPoll{
			At: Time{p.At}, Outcome: p.Outcome.String(), State: p.State.String(), Spool: p.Spool.String(), Seq: p.Seq, HeaderHash: hex.EncodeToString(p.Header[:]),
			ReceivedAt: Time{p.ReceivedAt},
		}
		if rate, ok := p.Hashrate.Get(); ok {
			mhs := rate.Megahashes()
			line.HashrateMHs = &mhs
		}
		if n, ok := p.Hashes.Get(); ok {
			text := strconv.FormatInt(n, 10)
			line.Hashes = &text
		}
		if up, ok := p.Uptime.Get(); ok {
			seconds := int64(up / time.Second)
			line.UptimeS = &seconds
		}
		out.Polls = append(out.Polls, line)
	}
	for i := range w.Excuses {
		x := &w.Excuses[i]
		out.Excuses = append(out.Excuses, WhyExcuse{
			ID: x.Excuse.ID.String(), Kind: string(x.Excuse.Kind), From: msTime(x.Excuse.FromMS), To: msTime(x.EndMS), RecordedAt: msTime(x.Excuse.RecordedMS),
			Counts: x.Counts, Why: string(x.Reason),
		})
	}
	return out
}

func msTime(ms int64) Time { return Time{time.UnixMilli(ms)} }

func sourceName(s evidence.Source) string {
	switch s {
	case evidence.SourceCounter:
		return "counter"
	case evidence.SourceRate:
		return "rate"
	default:
		return "none"
	}
}

func flagNames(f evidence.SlotFlags) []string {
	names := []string{}
	for i, name := range []string{"reachable", "hashing", "sleeping", "overheated", "bridged", "clock_step", "curtail_seen", "skewed"} {
		if f&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	return names
}

func slotCounts(c *statement.SlotCounts) SlotCounts { return SlotCounts(*c) }

func contractSLABody(l *statement.Live) ContractSLA {
	out := ContractSLA{
		ContractID: l.Contract.String(), Month: l.Month.String(), State: string(l.State), WaitingFor: append([]string{}, l.WaitingFor...), ComputedAt: Time{l.ComputedAt},
		Statement: l.Statement, Metric: string(l.Metric), TargetPPM: l.TargetPPM, AvailabilityPPM: l.AvailabilityPPM, Met: l.Met, Slots: slotCounts(&l.Slots), Due: l.Due,
		Allowance: l.Allowance, Missed: l.Missed, Credit: Credit{l.CreditBP, l.CreditMinor, l.Currency, l.BelowPPM}, BurnDown: make([]BurnDown, 0, len(l.BurnDown)),
	}
	for _, b := range l.BurnDown {
		out.BurnDown = append(out.BurnDown, BurnDown{b.Day.Format(time.DateOnly), b.Missed, b.AllowanceLeft})
	}
	return out
}
