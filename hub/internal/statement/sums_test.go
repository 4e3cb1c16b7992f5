package statement

import (
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/hashinsight/hashinsight/hub/internal/customer"
	"github.com/hashinsight/hashinsight/hub/internal/facts/factstest"
	"github.com/hashinsight/hashinsight/hub/internal/sla"
)

// Who looks again at what has not changed costs nothing, and sees every change at once.
func TestAMonthIsAddedUpWhenItHasChanged(t *testing.T) {
	from := december.Add(-12 * time.Hour)
	w := newWorld(t, from)
	s := w.Site("North", 2)
	c := w.short(s, from)
	s.Run(from, from.Add(3*time.Hour), factstest.Always(factstest.Hashes))
	w.update()
	look := func(what string, added float64) Live {
		t.Helper()
		before := testutil.ToFloat64(w.store.metrics.added)
		var live Live
		for range 3 {
			var err error
			live, err = w.store.Live(t.Context(), Scope{}, c, month)
			w.must(err)
			_, err = w.store.Miners(t.Context(), Scope{}, c, month, Miner{}, 10)
			w.must(err)
		}
		if n := testutil.ToFloat64(w.store.metrics.added) - before; n != added {
			t.Errorf("%s: added up %g times, want %g", what, n, added)
		}
		return live
	}
	first := look("first", 1)
	w.Set(w.now().Truncate(5 * time.Minute).Add(5 * time.Minute))
	if live := look("a slot later", 1); live.Slots.Future != first.Slots.Future-2 {
		t.Errorf("a slot later: %+v, before %+v", live.Slots, first.Slots)
	}
	look("again", 0)
	_, err := w.customers.Excuse(t.Context(), w.by, customer.NewExcuse{
		Kind: sla.Curtailment, Site: s.ID, FromMS: w.now().UnixMilli(), ToMS: w.now().Add(time.Hour).UnixMilli(),
	})
	w.must(err)
	w.Set(w.now().Add(time.Second))
	if live := look("curtailed", 1); live.Slots.Curtailment != 24 {
		t.Errorf("an excuse is not seen at once: %+v", live.Slots)
	}
	w.update()
	s.Run(w.now().Truncate(time.Hour), w.now().Truncate(time.Hour).Add(time.Hour), factstest.Always(factstest.Hashes))
	w.update()
	if live := look("an hour later", 1); live.Slots.Up <= first.Slots.Up {
		t.Errorf("an hour's facts are not seen: %+v", live.Slots)
	}
}

func TestKeptSumsAreBounded(t *testing.T) {
	s := newSums()
	k := func(i int) sumKey { return sumKey{uuid.UUID{byte(i >> 8), byte(i)}, month} }
	v := func(miners int) *sum { return &sum{result: &sla.MonthResult{Miners: make([]sla.MinerResult, miners)}} }
	for i := range maxSums + 10 {
		s.put(k(i), v(1))
		s.get(k(0), sumOf{}) // is used, and stays
	}
	if len(s.kept) != maxSums || s.size != maxSums || s.get(k(0), sumOf{}) == nil || s.get(k(1), sumOf{}) != nil {
		t.Errorf("%d sums of %d miners", len(s.kept), s.size)
	}
	for i := range 20 {
		s.put(k(i), v(5000))
	}
	if s.size > maxSumsMiners || s.get(k(19), sumOf{}) == nil {
		t.Errorf("%d sums of %d miners", len(s.kept), s.size)
	}
	s.put(k(19), v(maxSumsMiners))
	if s.get(k(19), sumOf{}) != nil {
		t.Error("one that would push all others out is kept")
	}
}
