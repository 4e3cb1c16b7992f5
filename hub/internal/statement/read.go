package statement

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/hashinsight/hashinsight/hub/internal/apperr"
	"github.com/hashinsight/hashinsight/hub/internal/sla"
)

const (
	qMayRead = `SELECT EXISTS (SELECT FROM contract WHERE id = $2 AND ($1::uuid IS NULL OR customer_id = $1))`
	// States are only of use for days that had slots in the future when they were computed: those of $4 and later.
	qMonth = `
SELECT site_id, miner_id, day, sums, CASE WHEN day >= $4 THEN states END FROM sla_day
WHERE contract_id = $1 AND day >= $2 AND day < $3`
	qMonthOf = qMonth + ` AND site_id = ANY ($5::uuid[]) AND miner_id = ANY ($6::uuid[])`
	// Whether a miner ever belonged to a contract.
	qHas    = `SELECT EXISTS (SELECT FROM contract_miner WHERE contract_id = $1 AND site_id = $2 AND miner_id = $3)`
	qNames  = `SELECT site_id, id, address FROM miner WHERE site_id = ANY ($1::uuid[]) AND id = ANY ($2::uuid[])`
	qMap    = `SELECT day, sums, states FROM sla_day WHERE contract_id = $1 AND day >= $2 AND day <= $3 AND site_id = $4 AND miner_id = $5 ORDER BY day`
	qDayMap = `
SELECT d.site_id, d.miner_id, d.sums, d.states, coalesce(m.address, '') FROM sla_day d LEFT JOIN miner m ON m.site_id = d.site_id AND m.id = d.miner_id
WHERE d.contract_id = $1 AND d.day = $2 AND (d.site_id, d.miner_id) > ($3, $4) ORDER BY d.site_id, d.miner_id LIMIT $5`
)

// mayRead answers alike for a contract that does not exist and for another customer's.
func (s *Store) mayRead(ctx context.Context, scope Scope, contract uuid.UUID) error {
	var ok bool
	if err := s.c.Pool.QueryRow(ctx, qMayRead, scope.customer(), contract).Scan(&ok); err != nil {
		return fmt.Errorf("looking for contract %s: %w", contract, err)
	}
	if !ok {
		return apperr.E(apperr.NotFound, "NOTFOUND_001", "contract %s does not exist", contract)
	}
	return nil
}

// State says how final a month is.
type State string

// States of a month.
const (
	Provisional State = "provisional"
	Closing     State = "closing" // it is over, its statement is not issued yet
	Done        State = "closed"
)

// SlotCounts counts slots by what they came to.
type SlotCounts struct {
	Up             int64 `json:"up"`
	Degraded       int64 `json:"degraded"`
	Down           int64 `json:"down"`
	UnknownOpen    int64 `json:"unknown_open"`
	UnknownDown    int64 `json:"unknown_down"`
	UnknownExcused int64 `json:"unknown_excused"`
	Curtailment    int64 `json:"curtailment"`
	Maintenance    int64 `json:"maintenance"`
	NotContracted  int64 `json:"not_contracted"`
	Future         int64 `json:"future"`
}

func countsOf(c *sla.Counts) SlotCounts {
	return SlotCounts{
		Up: c[sla.Up], Degraded: c[sla.Degraded], Down: c[sla.Down], UnknownOpen: c[sla.Unknown], UnknownDown: c[sla.UnknownAsDown], UnknownExcused: c[sla.UnknownAsExcused],
		Curtailment: c[sla.ExcusedCurtailment], Maintenance: c[sla.ExcusedMaintenance], NotContracted: c[sla.NotContracted], Future: c[sla.Future],
	}
}

// Burn is what one day took of the slots that may be missed.
type Burn struct {
	Day           time.Time `json:"day"`
	Missed        int64     `json:"missed"` // on this day; of the metric hashrate, work that is missing, in slots
	AllowanceLeft int64     `json:"allowance_left"`
}

// Live is what a contract's month has come to.
type Live struct {
	Contract        uuid.UUID         `json:"contract_id"`
	Month           sla.CalendarMonth `json:"month"`
	State           State             `json:"state"`
	WaitingFor      []string          `json:"waiting_for"`
	ComputedAt      time.Time         `json:"computed_at"`
	Statement       string            `json:"statement,omitempty"` // hash of the newest
	Metric          sla.Metric        `json:"metric"`
	TargetPPM       int64             `json:"target_ppm"`
	AvailabilityPPM *int64            `json:"availability_ppm,omitempty"` // nil: nothing was due
	Met             *bool             `json:"met,omitempty"`
	Slots           SlotCounts        `json:"slots"`
	Due             int64             `json:"due"`
	Allowance       int64             `json:"allowance"`
	Missed          int64             `json:"missed"`
	CreditBP        int64             `json:"credit_bp"`
	CreditMinor     int64             `json:"credit_minor"`
	Currency        string            `json:"currency,omitempty"`
	BelowPPM        *int64            `json:"below_ppm,omitempty"` // the tier that gives the credit
	BurnDown        []Burn            `json:"burn_down"`           // a day up to now
}

// Live returns what a contract's month has come to.
func (s *Store) Live(ctx context.Context, scope Scope, contract uuid.UUID, m sla.CalendarMonth) (l Live, err error) {
	if err := s.mayRead(ctx, scope, contract); err != nil {
		return l, err
	}
	now := s.c.Now().UTC()
	l = Live{Contract: contract, Month: m, State: Provisional, WaitingFor: []string{}, ComputedAt: now, BurnDown: []Burn{}}
	rules, result, err := s.month(ctx, contract, m, now)
	if err != nil {
		return l, err
	}
	st, issued, err := s.newest(ctx, s.c.Pool, contract, m)
	switch {
	case err != nil:
		return l, err
	case issued:
		l.State, l.Statement = Done, hex.EncodeToString(st.Hash[:])
	case now.UnixMilli() >= m.ToMS():
		l.State = Closing
		if l.WaitingFor, err = s.waits(ctx, s.c.Pool, contract, m, rules, now); err != nil {
			return l, err
		}
	}
	if rules == nil {
		return l, s.noRules(ctx, contract, m, &l)
	}
	terms := rules.MonthTerms()
	l.Metric, l.TargetPPM, l.Slots = terms.Metric, terms.TargetPPM, countsOf(&result.Slots)
	l.Due, l.Allowance, l.Missed = result.Slots.Due(), result.Allowance.Slots, result.Allowance.Used
	if result.Due {
		l.AvailabilityPPM, l.Met = &result.Availability.PPM, &result.Met
	}
	l.CreditBP, l.CreditMinor, l.Currency = result.Credit.BP, result.Credit.Minor, result.Credit.Currency
	for i := range terms.Tiers {
		if below := terms.Tiers[i].BelowPPM; result.Credit.BP > 0 && result.Availability.Below(below) {
			l.BelowPPM = &below
		}
	}
	var before int64
	for _, b := range result.Burn {
		if int64(b.Day)*sla.DayMS > now.UnixMilli() {
			break
		}
		l.BurnDown = append(l.BurnDown, Burn{Day: time.UnixMilli(int64(b.Day) * sla.DayMS).UTC(), Missed: b.Used - before, AllowanceLeft: b.Left})
		before = b.Used
	}
	return l, nil
}

// noRules fills in a month in which nothing is contracted.
func (s *Store) noRules(ctx context.Context, contract uuid.UUID, m sla.CalendarMonth, l *Live) error {
	versions, err := s.c.Customers.Versions(ctx, s.c.Pool, contract)
	if err != nil || len(versions) == 0 {
		return err
	}
	t := &versions[0]
	for i := range versions {
		if versions[i].FromMS < m.ToMS() {
			t = &versions[i]
		}
	}
	l.Metric, l.TargetPPM, l.Currency = t.Metric, t.TargetPPM, t.Currency
	return nil
}

// inlineTimeout bounds what a reader waits for days that are computed again for it.
const inlineTimeout = 20 * time.Second

// month adds up the kept days of a contract's month as they are seen now. Without rules nothing is contracted in it. What it returns is shared: nobody changes it.
func (s *Store) month(ctx context.Context, contract uuid.UUID, m sla.CalendarMonth, now time.Time) (*sla.Rules, *sla.MonthResult, error) {
	rules, result, err := s.sum(ctx, contract, m, now)
	if !errors.Is(err, sla.ErrStale) {
		return rules, result, err
	}
	// Terms, miners or excuses have changed a moment ago. Who changed them looks at the result now.
	catchUp, cancel := context.WithTimeout(ctx, inlineTimeout)
	defer cancel()
	if err := s.take(catchUp, now); err != nil {
		return nil, nil, err
	}
	for {
		if n, err := s.computeMonth(catchUp, contract, m, now); err != nil {
			return nil, nil, err
		} else if n == 0 {
			break
		}
	}
	if rules, result, err = s.sum(ctx, contract, m, now); errors.Is(err, sla.ErrStale) {
		err = apperr.E(apperr.Conflict, "CONFLICT_001", "the days of %s are being computed again: ask again in a minute", m)
	}
	return rules, result, err
}

// add adds up the kept days of a contract's month. A change after the rules were read gives sla.ErrStale.
func (s *Store) add(ctx context.Context, q querier, contract uuid.UUID, m sla.CalendarMonth, now time.Time) (*sla.Rules, *sla.MonthResult, error) {
	in, err := s.inputs(ctx, q, contract, m)
	if err != nil {
		return nil, nil, err
	}
	in.AsOfMS = now.UnixMilli()
	rules, err := newRules(in)
	if err != nil || rules == nil {
		return nil, nil, err
	}
	kept, err := keptDays(ctx, q, qMonth, now, contract, m.FirstDay(), (m + 1).FirstDay(), sla.DayOf(now.UnixMilli())-1)
	if err != nil {
		return nil, nil, err
	}
	result, err := rules.Month(kept)
	if err != nil {
		return nil, nil, fmt.Errorf("the month %s of contract %s: %w", m, contract, err)
	}
	return rules, &result, nil
}

// keptDays reads kept days as they are seen now, by miner.
func keptDays(ctx context.Context, q querier, sql string, now time.Time, args ...any) ([]sla.MinerDays, error) {
	rows, err := q.Query(ctx, sql, args...)
	if err != nil {
		return nil, fmt.Errorf("reading kept days: %w", err)
	}
	defer rows.Close()
	place := map[sla.MinerKey]int{}
	var kept []sla.MinerDays
	var k sla.MinerKey
	var day int
	var sums, states []byte
	for rows.Next() {
		if err := rows.Scan((*[16]byte)(&k.Site), (*[16]byte)(&k.Miner), &day, &sums, &states); err != nil {
			return nil, fmt.Errorf("reading kept days: %w", err)
		}
		d, _, err := unpackDay(day, sums, states, now)
		if err != nil {
			return nil, fmt.Errorf("%s of miner %s: %w", dayName(day), k.Miner, err)
		}
		i, ok := place[k]
		if !ok {
			i = len(kept)
			place[k], kept = i, append(kept, sla.MinerDays{MinerKey: k, Days: make([]sla.DaySums, 0, 31)})
		}
		kept[i].Days = append(kept[i].Days, d)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("reading kept days: %w", err)
	}
	return kept, nil
}

// unpackDay reads a kept day as it is seen now; without states it has no slots that were in the future.
func unpackDay(day int, sums, packed []byte, now time.Time) (d sla.DaySums, states sla.States, err error) {
	if d, err = unpackSums(day, sums); err != nil || packed == nil {
		return d, states, err
	}
	if states, err = sla.UnpackStates(packed); err != nil {
		return d, states, err
	}
	seen(&d, &states, now)
	return d, states, nil
}

// MinerLine is one miner's month.
type MinerLine struct {
	Miner           Miner
	Name            string // its address
	Slots           SlotCounts
	AvailabilityPPM *int64 // nil: nothing was due
}

// Miners returns a page of a month's miners after one, in order of site and id.
func (s *Store) Miners(ctx context.Context, scope Scope, contract uuid.UUID, m sla.CalendarMonth, after Miner, limit int) ([]MinerLine, error) {
	if err := s.mayRead(ctx, scope, contract); err != nil {
		return nil, err
	}
	_, result, err := s.month(ctx, contract, m, s.c.Now().UTC())
	if err != nil || result == nil {
		return nil, err
	}
	from := sla.MinerKey(after)
	list := result.Miners[len(result.Miners):]
	if i := slices.IndexFunc(result.Miners, func(r sla.MinerResult) bool { return r.Compare(from) > 0 }); i >= 0 {
		list = result.Miners[i:min(len(result.Miners), i+min(max(limit, 1), maxList))]
	}
	lines := make([]MinerLine, len(list))
	for i := range list {
		r := &list[i]
		lines[i] = MinerLine{Miner: Miner(r.MinerKey), Slots: countsOf(&r.Slots)}
		if r.Availability.Den != (sla.Sum{}) {
			lines[i].AvailabilityPPM = &r.Availability.PPM
		}
	}
	return lines, s.name(ctx, lines)
}

// name fills in what miners are called.
func (s *Store) name(ctx context.Context, lines []MinerLine) error {
	sites, miners := make([][16]byte, len(lines)), make([][16]byte, len(lines))
	place := make(map[Miner]int, len(lines))
	for i := range lines {
		sites[i], miners[i], place[lines[i].Miner] = lines[i].Miner.Site, lines[i].Miner.Miner, i
	}
	rows, err := s.c.Pool.Query(ctx, qNames, sites, miners)
	if err != nil {
		return fmt.Errorf("reading miners' addresses: %w", err)
	}
	var m Miner
	var name string
	if _, err := pgx.ForEachRow(rows, []any{(*[16]byte)(&m.Site), (*[16]byte)(&m.Miner), &name}, func() error {
		if i, ok := place[m]; ok {
			lines[i].Name = name
		}
		return nil
	}); err != nil {
		return fmt.Errorf("reading miners' addresses: %w", err)
	}
	return nil
}

// DayLine is one day of a miner, slot by slot.
type DayLine struct {
	Day    time.Time
	States string
}

// has answers alike for a miner that does not exist and for one that never belonged to the contract.
func (s *Store) has(ctx context.Context, contract uuid.UUID, m Miner) error {
	var ok bool
	if err := s.c.Pool.QueryRow(ctx, qHas, contract, m.Site, m.Miner).Scan(&ok); err != nil {
		return fmt.Errorf("looking for a contract's miner: %w", err)
	}
	if !ok {
		return apperr.E(apperr.NotFound, "NOTFOUND_001", "miner %s of site %s does not belong to contract %s and never has", m.Miner, m.Site, contract)
	}
	return nil
}

// MinerDays returns the slot maps of a miner for some days, both ends included. Days on which it has no contracted slot are left out.
func (s *Store) MinerDays(ctx context.Context, scope Scope, contract uuid.UUID, m Miner, from, to time.Time) ([]DayLine, error) {
	if err := s.mayRead(ctx, scope, contract); err != nil {
		return nil, err
	}
	if err := s.has(ctx, contract, m); err != nil {
		return nil, err
	}
	rows, err := s.c.Pool.Query(ctx, qMap, contract, sla.DayOf(from.UnixMilli()), sla.DayOf(to.UnixMilli()), m.Site, m.Miner)
	if err != nil {
		return nil, fmt.Errorf("reading slot maps: %w", err)
	}
	now := s.c.Now()
	list, err := pgx.CollectRows(rows, func(r pgx.CollectableRow) (l DayLine, err error) {
		var day int
		var sums, packed []byte
		if err := r.Scan(&day, &sums, &packed); err != nil {
			return l, err
		}
		_, states, err := unpackDay(day, sums, packed, now)
		return DayLine{time.UnixMilli(int64(day) * sla.DayMS).UTC(), states.String()}, err
	})
	if err != nil {
		return nil, fmt.Errorf("reading slot maps: %w", err)
	}
	return list, nil
}

// DayMiner is one miner on a day, slot by slot.
type DayMiner struct {
	Miner  Miner
	Name   string // its address
	States string
}

// DayMiners returns a page of the slot maps of a day after one miner, in order of site and id.
func (s *Store) DayMiners(ctx context.Context, scope Scope, contract uuid.UUID, at time.Time, after Miner, limit int) ([]DayMiner, error) {
	if err := s.mayRead(ctx, scope, contract); err != nil {
		return nil, err
	}
	day, now := sla.DayOf(at.UnixMilli()), s.c.Now()
	rows, err := s.c.Pool.Query(ctx, qDayMap, contract, day, after.Site, after.Miner, min(max(limit, 1), maxList))
	if err != nil {
		return nil, fmt.Errorf("reading slot maps: %w", err)
	}
	list, err := pgx.CollectRows(rows, func(r pgx.CollectableRow) (d DayMiner, err error) {
		var sums, packed []byte
		if err := r.Scan((*[16]byte)(&d.Miner.Site), (*[16]byte)(&d.Miner.Miner), &sums, &packed, &d.Name); err != nil {
			return d, err
		}
		_, states, err := unpackDay(day, sums, packed, now)
		d.States = states.String()
		return d, err
	})
	if err != nil {
		return nil, fmt.Errorf("reading slot maps: %w", err)
	}
	return list, nil
}
