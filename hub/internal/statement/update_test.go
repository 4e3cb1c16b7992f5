package statement

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"strconv"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/hashinsight/hashinsight/hub/internal/customer"
	"github.com/hashinsight/hashinsight/hub/internal/facts"
	"github.com/hashinsight/hashinsight/hub/internal/facts/factstest"
	"github.com/hashinsight/hashinsight/hub/internal/sla"
	"github.com/hashinsight/hashinsight/pkg/evidence"
	"github.com/hashinsight/hashinsight/pkg/ident"
)

// dayKey names one kept day.
type dayKey struct {
	contract uuid.UUID
	miner    sla.MinerKey
	day      int
}

// keptDaysOf reads every kept day as it is seen now.
func (w *world) keptDaysOf() map[dayKey]sla.DayResult {
	w.t.Helper()
	rows, err := w.pool.Query(w.t.Context(), `SELECT contract_id, site_id, miner_id, day, sums, states FROM sla_day`)
	w.must(err)
	all := map[dayKey]sla.DayResult{}
	var k dayKey
	var sums, packed []byte
	_, err = pgx.ForEachRow(rows, []any{&k.contract, (*[16]byte)(&k.miner.Site), (*[16]byte)(&k.miner.Miner), &k.day, &sums, &packed}, func() error {
		d, states, err := unpackDay(k.day, sums, packed, w.now())
		all[k] = sla.DayResult{DaySums: d, States: states}
		return err
	})
	w.must(err)
	return all
}

// computedDaysOf computes every day until now from what packages facts and customer have, with nothing that was kept.
func (w *world) computedDaysOf(contracts []uuid.UUID, months ...sla.CalendarMonth) map[dayKey]sla.DayResult {
	w.t.Helper()
	all := map[dayKey]sla.DayResult{}
	for _, c := range contracts {
		for _, m := range months {
			rules, err := w.store.rules(w.t.Context(), w.pool, c, m, w.now())
			w.must(err)
			if rules == nil {
				continue
			}
			for _, site := range sitesOf(rules.Assignments()) {
				for day := m.FirstDay(); day < (m+1).FirstDay() && day <= sla.DayOf(w.now().UnixMilli()); day++ {
					w.must(eachDay(w.t.Context(), rules, group{site, day}, func(ctx context.Context, miners []ident.MinerID, f func(ident.MinerID, sla.HourFacts)) error {
						return w.Facts.Each(ctx, w.pool, site, uint32(day)*24, uint32(day+1)*24, nil, func(h *facts.Hour, l *evidence.Leaf) error {
							f(l.Miner, hourFacts(h, l))
							return nil
						})
					}, func(miner ident.MinerID, d *sla.DayResult) {
						d.NextMS = 0 // when it must be computed again is not kept with it
						all[dayKey{c, sla.MinerKey{Site: site, Miner: miner}, day}] = *d
					}))
				}
			}
		}
	}
	return all
}

// Whatever comes in whatever order, whatever changes meanwhile and however many hubs are at it: the kept days are those that a computation from the start gives.
func TestKeptDaysEqualAComputationFromTheStart(t *testing.T) {
	for seed := range uint64(2) {
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
			t.Parallel()
			random := rand.New(rand.NewPCG(seed, 7))
			begin := december.Add(-30 * time.Hour)
			w := newWorld(t, begin)
			other := w.hub()
			sites := []*factstest.Site{w.Site("North", 3), w.Site("South", 2)}
			terms := w.terms(begin)
			if seed%2 == 1 { // deadlines that pass within the test, and a policy that excuses
				terms.BackfillS, terms.Unknown = 5400, sla.UnknownExcused
			}
			terms.MaintenanceNoticeS, terms.MaintenanceCapSlots = 3600, 40
			contracts := []uuid.UUID{w.contract("A", terms), w.contract("B", w.terms(begin.Add(-time.Hour)))}
			type owed struct {
				s    *factstest.Site
				list []factstest.Batch
			}
			var due []owed
			free := map[*factstest.Site]map[int]bool{}
			for _, s := range sites {
				free[s] = map[int]bool{}
				for i := range s.Miners {
					free[s][i] = true
				}
			}
			compared := 0
			months := []sla.CalendarMonth{month, month + 1}
			for step := range 60 {
				at := begin.Add(time.Duration(step) * time.Hour)
				w.Set(at.Add(61 * time.Minute))
				for _, s := range sites {
					samples, signed := s.Hour(at, func(int, time.Time) factstest.Does { return factstest.Does(random.IntN(40) / 36 * random.IntN(4)) })
					due = append(due, owed{s, []factstest.Batch{samples, signed}})
				}
				random.Shuffle(len(due), func(i, j int) { due[i], due[j] = due[j], due[i] })
				for n := random.IntN(len(due) + 1); n > 0; n-- {
					o := due[0]
					due = due[1:]
					if len(o.list) == 2 && random.IntN(3) == 0 { // the signed hour before its samples
						o.list[0], o.list[1] = o.list[1], o.list[0]
					}
					if len(o.list) == 2 && random.IntN(4) == 0 { // and the other one later
						due = append(due, owed{o.s, o.list[1:]})
						o.list = o.list[:1]
					}
					o.s.Deliver(o.list...)
				}
				w.change(random, sites, contracts, free)
				if random.IntN(3) > 0 {
					continue
				}
				w.must(w.Facts.Judge(t.Context(), w.now()))
				errs := make(chan error, 2)
				for _, hub := range []*Store{w.store, other} {
					go func() { errs <- hub.Update(t.Context(), w.now()) }()
				}
				w.must(errors.Join(<-errs, <-errs))
				w.must(w.store.Update(t.Context(), w.now())) // what one hub left to the other when that had ended
				kept, computed := w.keptDaysOf(), w.computedDaysOf(contracts, months...)
				if !reflect.DeepEqual(kept, computed) {
					t.Fatalf("after %d hours %d days are kept and %d computed:\n%s", step+1, len(kept), len(computed), firstOf(kept, computed))
				}
				compared += len(kept)
				for _, c := range contracts {
					for _, m := range months {
						if _, err := w.store.Live(t.Context(), Scope{}, c, m); err != nil {
							t.Fatalf("live after %d hours: %v", step+1, err)
						}
					}
				}
			}
			if compared < 50 {
				t.Errorf("only %d days were compared", compared)
			}
		})
	}
}

// change changes a contract at random as people do.
func (w *world) change(random *rand.Rand, sites []*factstest.Site, contracts []uuid.UUID, free map[*factstest.Site]map[int]bool) {
	w.t.Helper()
	ctx := w.t.Context()
	s := sites[random.IntN(len(sites))]
	now := w.now()
	near := func() time.Time { return now.Add(time.Duration(random.IntN(8*60)-4*60) * time.Minute) } // also inside a slot
	switch random.IntN(6) {
	case 0, 1: // a miner gets a contract
		for i := range maps.Keys(free[s]) {
			c := contracts[random.IntN(len(contracts))]
			a := customer.NewAssignment{Site: s.ID, Miner: s.Miners[i], FromMS: now.Add(-time.Duration(random.IntN(120)) * time.Minute).UnixMilli()}
			if _, err := w.customers.Assign(ctx, w.by, c, []customer.NewAssignment{a}); err == nil {
				delete(free[s], i)
			}
			return
		}
	case 2: // and goes
		list, err := w.customers.ByMiner(ctx, nil, s.ID, now.UnixMilli(), now.Add(time.Hour).UnixMilli())
		w.must(err)
		if len(list) == 0 {
			return
		}
		a := list[random.IntN(len(list))]
		if _, err := w.customers.EndAssignments(ctx, w.by, uuid.UUID(a.Contract), []uuid.UUID{uuid.UUID(a.ID)}, max(a.FromMS+1, near().UnixMilli())); err != nil {
			return // refused: it was ended before, or so
		}
		for i, m := range s.Miners {
			if m == a.Miner {
				free[s][i] = true
			}
		}
	case 3, 4: // somebody orders or announces, in time or not
		from := near()
		x := customer.NewExcuse{Kind: sla.Curtailment, Site: s.ID, FromMS: from.UnixMilli(), ToMS: from.Add(time.Duration(random.IntN(300)+1) * time.Minute).UnixMilli(), Note: "test"}
		if random.IntN(2) == 0 {
			x.Kind = sla.Maintenance
		}
		if random.IntN(2) == 0 {
			x.Miners = s.Miners[:1]
		}
		made, err := w.customers.Excuse(ctx, w.by, x)
		if err == nil && random.IntN(2) == 0 {
			_, _ = w.customers.EndExcuse(ctx, w.by, uuid.UUID(made.ID), near().UnixMilli()) // may be refused
		}
	}
}

func firstOf(kept, computed map[dayKey]sla.DayResult) string {
	for k, want := range computed {
		if got, ok := kept[k]; !ok || !reflect.DeepEqual(got, want) {
			return fmt.Sprintf("%s of miner %s, contract %s\nkept     %v %s %+v\ncomputed %s %+v", dayName(k.day), k.miner.Miner, k.contract, ok, got.States.String(), got.DaySums, want.States.String(), want.DaySums)
		}
	}
	for k, got := range kept {
		if _, ok := computed[k]; !ok {
			return fmt.Sprintf("%s of miner %s, contract %s is kept: %s", dayName(k.day), k.miner.Miner, k.contract, got.States.String())
		}
	}
	return ""
}
