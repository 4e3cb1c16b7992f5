package statement

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"reflect"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/hashinsight/hashinsight/hub/internal/customer"
	"github.com/hashinsight/hashinsight/hub/internal/facts/factstest"
	"github.com/hashinsight/hashinsight/hub/internal/sla"
	"github.com/hashinsight/hashinsight/pkg/bench"
	"github.com/hashinsight/hashinsight/pkg/ident"
)

// TestBenchMonth measures the SLA half of P11: a month of 5,000 miners from kept days, terms and miners read included, and on a smaller fleet that it is
// what the signed batches give, bit by bit.
func TestBenchMonth(t *testing.T) {
	if os.Getenv(bench.FileVariable) == "" {
		t.Skip("a measurement of a minute: set " + bench.FileVariable + " to the file for its results")
	}
	const miners, small, smallHours = 5000, 50, 48
	begin := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	w := newWorld(t, begin)
	s := w.Site("North", 0)
	c := w.contract("Hosting", w.terms(begin))
	rows := make([][]any, miners)
	for i := range rows {
		s.Miners = append(s.Miners, ident.NewMinerID())
		rows[i] = []any{s.ID, s.Miners[i], fmt.Sprintf("10.0.%d.%d", i/250, i%250+1), begin, begin}
	}
	_, err := w.pool.CopyFrom(t.Context(), pgx.Identifier{"miner"}, []string{"site_id", "id", "address", "first_seen_at", "info_at"}, pgx.CopyFromRows(rows))
	w.must(err)
	for first := 0; first < miners; first += customer.MaxBatch {
		list := make([]customer.NewAssignment, 0, customer.MaxBatch)
		for _, m := range s.Miners[first:min(miners, first+customer.MaxBatch)] {
			list = append(list, customer.NewAssignment{Site: s.ID, Miner: m, FromMS: begin.UnixMilli()})
		}
		_, err := w.customers.Assign(t.Context(), w.by, c, list)
		w.must(err)
	}
	// Days of a fleet in which a slot of a hundred is not up. Their facts are not there: what is measured is the month.
	random := rand.New(rand.NewPCG(1, 11))
	need := int64(factstest.Contracted) * 300
	var days [][]any
	for day := month.FirstDay(); day < (month + 1).FirstDay(); day++ {
		for _, m := range s.Miners {
			var d sla.DayResult
			for i := range d.States {
				d.States[i] = sla.Up
				if random.IntN(100) == 0 {
					d.States[i] = sla.Down
				}
				d.Slots[d.States[i]]++
			}
			d.Needed, d.Hashes = sla.SlotsPerDay*need, d.Slots[sla.Up]*need
			p := d.States.Pack()
			days = append(days, []any{c, s.ID, m, int32(day), packSums(&d.DaySums), p[:]})
		}
	}
	_, err = w.pool.CopyFrom(t.Context(), pgx.Identifier{"sla_day"}, []string{"contract_id", "site_id", "miner_id", "day", "sums", "states"}, pgx.CopyFromRows(days))
	w.must(err)
	if _, err := w.pool.Exec(t.Context(), `VACUUM ANALYZE sla_day`, pgx.QueryExecModeSimpleProtocol); err != nil {
		t.Fatal(err)
	}
	w.Set(begin.AddDate(0, 1, 1))
	var seconds []float64
	for range 7 {
		w.store.sums = newSums() // added up anew each time, as after a change
		at := time.Now()
		live, err := w.store.Live(t.Context(), Scope{}, c, month)
		w.must(err)
		seconds = append(seconds, time.Since(at).Seconds())
		if live.Due != miners*30*sla.SlotsPerDay || live.AvailabilityPPM == nil || *live.AvailabilityPPM > 991_000 || *live.AvailabilityPPM < 989_000 {
			t.Fatalf("%+v", live)
		}
	}
	same, took := recomputed(t, small, smallHours)
	value := bench.Median(seconds)
	if err := bench.Record(bench.Result{
		ID: "P11-SLA", What: fmt.Sprintf("a month's SLA of %d miners, 30 days each, from kept days: terms, assignments and days read, added up, with burn-down and credit. "+
			"On a fleet of %d miners over %d hours the kept days, the month and the statement are those that its signed batches give, byte for byte: %t (computed again in %.1f s)",
			miners, small, smallHours, same, took.Seconds()),
		Floor: 2, Value: value, Unit: "s", Ratio: value / 2, Target: "≤ 2 s, equal to the recomputation", Met: value <= 2 && same, Samples: map[string][]float64{"month": seconds},
	}); err != nil {
		t.Error(err)
	}
}

// recomputed issues a statement of a small fleet with faults of every kind, and compares everything with what its batches give.
func recomputed(t *testing.T, miners, hours int) (same bool, took time.Duration) {
	t.Helper()
	december := time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC)
	from := december.Add(-time.Duration(hours) * time.Hour)
	w := newWorld(t, from)
	s := w.Site("South", miners)
	c := w.short(s, from)
	random := rand.New(rand.NewPCG(2, 11))
	s.Run(from, december, func(int, time.Time) factstest.Does { return factstest.Does(random.IntN(40) / 36 * random.IntN(4)) })
	w.update()
	w.Set(december.Add(73 * time.Hour))
	w.update()
	same = reflect.DeepEqual(w.keptDaysOf(), w.computedDaysOf([]uuid.UUID{c}, month, month+1))
	hash, err := w.store.Issue(t.Context(), c, month)
	w.must(err)
	at := time.Now()
	var log bytes.Buffer
	v, err := w.store.Recompute(t.Context(), hash, &log)
	w.must(err)
	if !v.Same {
		t.Log(log.String())
	}
	return same && v.Same, time.Since(at)
}
