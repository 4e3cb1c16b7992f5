package statement

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/hashinsight/hashinsight/hub/internal/customer"
	"github.com/hashinsight/hashinsight/hub/internal/facts"
	"github.com/hashinsight/hashinsight/hub/internal/pg"
	"github.com/hashinsight/hashinsight/hub/internal/sla"
	"github.com/hashinsight/hashinsight/pkg/evidence"
	"github.com/hashinsight/hashinsight/pkg/ident"
)

const (
	// chunk is for how many miners a day's facts are in memory at once: about 10 kB each.
	chunk = 512
	// groupsAtOnce is how many days of a contract's month one transaction computes: the rules of the month are made once for them.
	groupsAtOnce = 16
	// timeAlone is the backfill deadline from which on nothing but the end of a slot can change a day before it is over; readers see that themselves.
	timeAlone = 25 * time.Hour
)

const (
	qDue = `
SELECT contract_id, day FROM sla_group WHERE dirty OR due_at <= $1
ORDER BY contract_id, day LIMIT $2`
	qBehind = `SELECT count(*) FROM sla_group WHERE dirty OR due_at <= $1`
	qLock   = `
SELECT site_id, day FROM sla_group WHERE contract_id = $1 AND day >= $2 AND day < $3 AND (dirty OR due_at <= $4)
ORDER BY day, site_id LIMIT $5 FOR UPDATE SKIP LOCKED`
	qAccept = `SELECT accept_until FROM statement WHERE contract_id = $1 AND month = $2 ORDER BY seq DESC LIMIT 1`
	qDays   = `
INSERT INTO sla_day AS d (contract_id, site_id, day, miner_id, sums, states)
SELECT $1, $2, $3, u.* FROM unnest($4::uuid[], $5::bytea[], $6::bytea[]) u (miner_id, sums, states)
ON CONFLICT (contract_id, day, site_id, miner_id) DO UPDATE SET sums = excluded.sums, states = excluded.states
WHERE d.sums <> excluded.sums OR d.states <> excluded.states`
	qDaysGone  = `DELETE FROM sla_day WHERE contract_id = $1 AND site_id = $2 AND day = $3 AND miner_id <> ALL ($4::uuid[])`
	qGroupDone = `UPDATE sla_group SET dirty = false, due_at = $4, computed_at = $5 WHERE contract_id = $1 AND site_id = $2 AND day = $3`
	qGroupGone = `DELETE FROM sla_group WHERE contract_id = $1 AND site_id = $2 AND day = $3`
)

// maxPasses bounds one call of Update; what is left waits for the next.
const maxPasses = 10_000

// Update computes the days again that something has changed for: facts, terms, assignments, excuses, or time. It is safe to call at any time by any number of
// hubs, and what it has done or not done when it is stopped makes no difference to any result. An error tells of what failed; the rest is done.
func (s *Store) Update(ctx context.Context, now time.Time) error {
	errs := []error{s.take(ctx, now)}
	type month struct {
		contract uuid.UUID
		month    sla.CalendarMonth
	}
	failed := map[month]bool{}
	for range maxPasses {
		rows, err := s.jobs.Query(ctx, qDue, now, 1000)
		if err != nil {
			return errors.Join(append(errs, fmt.Errorf("finding days to compute: %w", err))...)
		}
		var todo []month
		var contract uuid.UUID
		var day int
		if _, err := pgx.ForEachRow(rows, []any{&contract, &day}, func() error {
			if m := (month{contract, sla.MonthOf(int64(day) * sla.DayMS)}); !failed[m] && !slices.Contains(todo, m) {
				todo = append(todo, m)
			}
			return nil
		}); err != nil {
			return errors.Join(append(errs, fmt.Errorf("finding days to compute: %w", err))...)
		}
		done := 0
		for _, m := range todo {
			n, err := s.computeMonth(ctx, m.contract, m.month, now)
			if err != nil {
				if ctx.Err() != nil {
					return errors.Join(append(errs, err)...)
				}
				s.metrics.failed.Inc()
				failed[m] = true
				errs = append(errs, fmt.Errorf("days of contract %s in %s: %w", m.contract, m.month, err))
			}
			done += n
		}
		if done == 0 { // nothing is due, another hub is at it, or it fails
			break
		}
	}
	var behind int64
	if err := s.jobs.QueryRow(ctx, qBehind, now).Scan(&behind); err != nil {
		return errors.Join(append(errs, fmt.Errorf("counting days that wait: %w", err))...)
	}
	s.metrics.behind.Set(float64(behind))
	return errors.Join(errs...)
}

// group is one site and day of a contract.
type group struct {
	site ident.SiteID
	day  int
}

// computeMonth computes some of a contract's days in one month that are due, and returns how many. Days that another hub works on are left to it.
func (s *Store) computeMonth(ctx context.Context, contract uuid.UUID, m sla.CalendarMonth, now time.Time) (done int, err error) {
	err = pg.InTx(ctx, s.jobs, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, qLock, contract, m.FirstDay(), (m + 1).FirstDay(), now, groupsAtOnce)
		if err != nil {
			return err
		}
		groups, err := pgx.CollectRows(rows, func(r pgx.CollectableRow) (g group, err error) { return g, r.Scan((*[16]byte)(&g.site), &g.day) })
		if err != nil || len(groups) == 0 {
			return err
		}
		// What changes from here on leaves a note that stays.
		var accept *time.Time
		if err := tx.QueryRow(ctx, qAccept, contract, int32(m)).Scan(&accept); err != nil && !errors.Is(err, pgx.ErrNoRows) {
			return err
		}
		in, err := s.inputs(ctx, tx, contract, m)
		if err != nil {
			return err
		}
		in.AsOfMS = now.UnixMilli()
		if accept != nil {
			in.AcceptUntilMS = min(accept.UnixMilli(), in.AsOfMS)
		}
		rules, err := newRules(in)
		if err != nil {
			return err
		}
		for _, g := range groups {
			if err := s.computeGroup(ctx, tx, contract, rules, g, now); err != nil {
				return fmt.Errorf("site %s, %s: %w", g.site, dayName(g.day), err)
			}
		}
		done = len(groups)
		return nil
	})
	return done, err
}

// inputs reads what package sla makes the rules of a contract's month from, all but the times.
func (s *Store) inputs(ctx context.Context, q customer.Querier, contract uuid.UUID, m sla.CalendarMonth) (in sla.RulesInput, err error) {
	in = sla.RulesInput{Engine: sla.EngineVersion, Month: m}
	if in.Terms, err = s.c.Customers.Versions(ctx, q, contract); err != nil {
		return in, err
	}
	if in.Assignments, err = s.c.Customers.Assignments(ctx, q, contract, m.FromMS(), m.ToMS()); err != nil {
		return in, err
	}
	if in.Excuses, err = s.c.Customers.Excuses(ctx, q, sitesOf(in.Assignments), m.FromMS(), m.ToMS()); err != nil {
		return in, err
	}
	return in, nil
}

// newRules makes rules, and none for a month in which no terms hold or no miner is assigned: then nothing is contracted.
func newRules(in sla.RulesInput) (*sla.Rules, error) {
	if len(in.Assignments) == 0 || !slices.ContainsFunc(in.Terms, func(t sla.Terms) bool { return t.FromMS < in.Month.ToMS() }) {
		return nil, nil //nolint:nilnil // none is an answer here
	}
	return sla.NewRules(in)
}

// sitesOf returns the sites of assignments, each once, in order.
func sitesOf(assigned []sla.Assignment) []ident.SiteID {
	var sites []ident.SiteID
	seen := map[ident.SiteID]bool{}
	for i := range assigned {
		if !seen[assigned[i].Site] {
			seen[assigned[i].Site] = true
			sites = append(sites, assigned[i].Site)
		}
	}
	slices.SortFunc(sites, func(a, b ident.SiteID) int { return slices.Compare(a[:], b[:]) })
	return sites
}

// computeGroup computes and keeps the days of a contract's miners at one site. The group's lock is held.
func (s *Store) computeGroup(ctx context.Context, tx pgx.Tx, contract uuid.UUID, rules *sla.Rules, g group, now time.Time) error {
	next := int64(math.MaxInt64)
	var miners [][16]byte
	var sums, states [][]byte
	if rules != nil {
		source := func(ctx context.Context, miners []ident.MinerID, f func(m ident.MinerID, h sla.HourFacts)) error {
			return s.kept(ctx, tx, g, miners, f)
		}
		err := eachDay(ctx, rules, g, source, func(m ident.MinerID, d *sla.DayResult) {
			miners, sums = append(miners, m), append(sums, packSums(&d.DaySums))
			p := d.States.Pack()
			states = append(states, p[:])
			next = min(next, due(rules, d))
		})
		if err != nil {
			return err
		}
	}
	s.metrics.computed.Add(float64(len(miners)))
	if _, err := tx.Exec(ctx, qDaysGone, contract, g.site, g.day, append([][16]byte{}, miners...)); err != nil {
		return err
	}
	if len(miners) == 0 {
		_, err := tx.Exec(ctx, qGroupGone, contract, g.site, g.day)
		return err
	}
	if _, err := tx.Exec(ctx, qDays, contract, g.site, g.day, miners, sums, states); err != nil {
		return err
	}
	var at *time.Time
	if next < math.MaxInt64 {
		t := time.UnixMilli(next).UTC()
		at = &t
	}
	_, err := tx.Exec(ctx, qGroupDone, contract, g.site, g.day, at, now)
	return err
}

// due is when time alone changes a day, in ms; the largest number: never. Slots that end turn from future to open every 5 minutes: while nothing else can
// change, readers make that change themselves (see seen) and the day is computed again with its last slot.
func due(rules *sla.Rules, d *sla.DayResult) int64 {
	switch {
	case d.NextMS == 0:
		return math.MaxInt64
	case d.Slots[sla.Future] == 0 || slices.ContainsFunc(rules.Terms(), func(t sla.Terms) bool { return time.Duration(t.BackfillS)*time.Second < timeAlone }):
		return d.NextMS
	}
	return int64(d.Day+1) * sla.DayMS
}

// source gives the facts of some of a site's miners on one day, of one miner and hour and chain at a time, in any order.
type source func(ctx context.Context, miners []ident.MinerID, f func(m ident.MinerID, h sla.HourFacts)) error

// eachDay calls f with the day of each miner of a site that has a contracted slot on it, in order.
func eachDay(ctx context.Context, rules *sla.Rules, g group, from source, f func(m ident.MinerID, d *sla.DayResult)) error {
	var miners []ident.MinerID
	for _, k := range rules.Miners() {
		if k.Site == g.site {
			miners = append(miners, k.Miner)
		}
	}
	place := make(map[ident.MinerID]int, chunk)
	known := make([][]sla.HourFacts, chunk)
	for len(miners) > 0 {
		some := miners[:min(len(miners), chunk)]
		miners = miners[len(some):]
		clear(place)
		for i, m := range some {
			place[m], known[i] = i, known[i][:0]
		}
		if err := from(ctx, some, func(m ident.MinerID, h sla.HourFacts) {
			if i, ok := place[m]; ok {
				known[i] = append(known[i], h)
			}
		}); err != nil {
			return err
		}
		for i, m := range some {
			d, err := rules.Plan(sla.MinerKey{Site: g.site, Miner: m}).Day(g.day, known[i])
			if err != nil {
				return err
			}
			if d.Slots[sla.NotContracted] < sla.SlotsPerDay {
				f(m, &d)
			}
		}
	}
	return nil
}

// kept is the source that package facts keeps.
func (s *Store) kept(ctx context.Context, q querier, g group, miners []ident.MinerID, f func(m ident.MinerID, h sla.HourFacts)) error {
	from := uint32(g.day) * 24
	return s.c.Facts.Each(ctx, q, g.site, from, from+24, miners, func(h *facts.Hour, l *evidence.Leaf) error {
		f(l.Miner, hourFacts(h, l))
		return nil
	})
}

// hourFacts is what one chain says of a miner's hour, as package sla takes it.
func hourFacts(h *facts.Hour, l *evidence.Leaf) sla.HourFacts {
	return sla.HourFacts{
		Hour: l.Hour, Spool: l.Spool, Slots: l.Slots, Skewed: h.SkewSlots, Disputed: h.State == facts.Disputed, ReceivedMS: h.Received().UnixMilli(),
	}
}

// sumsSize is the length of packed sums: slots by state (2 each), hashes, needed and open (8 each), big-endian.
const sumsSize = 2*sla.StateCount + 3*8

// packSums packs what a day adds to its month.
func packSums(d *sla.DaySums) []byte {
	b := make([]byte, 0, sumsSize)
	be := binary.BigEndian
	for _, n := range d.Slots {
		b = be.AppendUint16(b, uint16(n))
	}
	b = be.AppendUint64(b, uint64(d.Hashes))
	b = be.AppendUint64(b, uint64(d.Needed))
	return be.AppendUint64(b, uint64(d.Open))
}

// unpackSums reads packed sums.
func unpackSums(day int, b []byte) (d sla.DaySums, err error) {
	if len(b) != sumsSize {
		return d, fmt.Errorf("sums of %d bytes, want %d", len(b), sumsSize)
	}
	be := binary.BigEndian
	d.Day = day
	for i := range d.Slots {
		d.Slots[i] = int64(be.Uint16(b[2*i:]))
	}
	b = b[2*sla.StateCount:]
	d.Hashes, d.Needed, d.Open = int64(be.Uint64(b)), int64(be.Uint64(b[8:])), int64(be.Uint64(b[16:]))
	return d, nil
}

// seen turns slots of a kept day that were in the future when it was computed and are over now into open ones, as a computation now would.
func seen(d *sla.DaySums, states *sla.States, now time.Time) {
	over := min(max((now.UnixMilli()-int64(d.Day)*sla.DayMS)/evidence.SlotMS, 0), sla.SlotsPerDay)
	for i := range states[:over] {
		if states[i] == sla.Future {
			states[i] = sla.Unknown
			d.Slots[sla.Future]--
			d.Slots[sla.Unknown]++
		}
	}
}

func dayName(day int) string {
	return time.UnixMilli(int64(day) * sla.DayMS).UTC().Format(time.DateOnly)
}
