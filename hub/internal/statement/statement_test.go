package statement

import (
	"bytes"
	"encoding/hex"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/hashinsight/hashinsight/hub/internal/apperr"
	"github.com/hashinsight/hashinsight/hub/internal/facts/factstest"
	"github.com/hashinsight/hashinsight/hub/internal/sla"
	"github.com/hashinsight/hashinsight/pkg/evidence"
)

var december = time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC) //nolint:gochecknoglobals // a constant that Go has no form for

const month = sla.CalendarMonth(2026*12 + 10)

// short is a contract at the end of November, so that a month's statement takes few hours of evidence.
func (w *world) short(s *factstest.Site, from time.Time) uuid.UUID {
	w.t.Helper()
	c := w.contract("Hosting", w.terms(from))
	miners := make([]int, len(s.Miners))
	for i := range miners {
		miners[i] = i
	}
	w.assign(c, s, miners, from, time.Time{})
	return c
}

// A month runs, is provisional, then closing and says what it waits for, then closed with a signed statement that the evidence gives byte for byte.
func TestAMonthFromItsFirstSlotToItsStatement(t *testing.T) {
	from := december.Add(-12 * time.Hour)
	w := newWorld(t, from)
	s := w.Site("North", 2)
	c := w.short(s, from)
	w.update()
	live, err := w.store.Live(t.Context(), Scope{}, c, month)
	w.must(err)
	if live.State != Provisional || live.AvailabilityPPM != nil || live.Slots.Future != 2*144 || live.Allowance != 2 {
		t.Errorf("at its first moment: %+v", live)
	}
	s.Run(from, december, func(miner int, at time.Time) factstest.Does {
		if miner == 1 && at.After(from.Add(2*time.Hour)) && at.Before(from.Add(3*time.Hour)) {
			return factstest.Idles
		}
		return factstest.Hashes
	})
	w.update()
	live, err = w.store.Live(t.Context(), Scope{}, c, month)
	w.must(err)
	if live.State != Closing || len(live.WaitingFor) != 1 || !strings.Contains(live.WaitingFor[0], "2026-12-04T00:00:00Z") {
		t.Errorf("after its end: %s, waiting for %q", live.State, live.WaitingFor)
	}
	if live.Slots.Down == 0 || live.Slots.Up+live.Slots.Down+live.Slots.Degraded != 2*144 || live.Met == nil || *live.Met || live.CreditBP == 0 {
		t.Errorf("after its end: %+v", live)
	}
	if days := live.BurnDown; len(days) != 30 || days[29].Missed != live.Missed || days[28].Missed != 0 || days[29].AllowanceLeft != live.Allowance-live.Missed {
		t.Errorf("burn-down %+v", days)
	}
	w.Set(december.Add(72 * time.Hour))
	w.must(w.store.Close(t.Context(), w.now()))
	if list, err := w.store.Statements(t.Context(), Scope{}, Filter{Limit: 10}); err != nil || len(list) != 0 {
		t.Fatalf("a statement before its time: %v, %v", list, err)
	}
	w.Set(december.Add(72*time.Hour + time.Minute))
	w.update()
	other := w.hub()
	errs := make(chan error, 2) // two hubs at once issue one
	for _, hub := range []*Store{w.store, other} {
		go func() { errs <- hub.Close(t.Context(), w.now()) }()
	}
	w.must(errors.Join(<-errs, <-errs))
	w.must(w.store.Close(t.Context(), w.now()))
	list, err := w.store.Statements(t.Context(), Scope{}, Filter{Limit: 10})
	if err != nil || len(list) != 1 {
		t.Fatalf("%d statements, %v", len(list), err)
	}
	st, err := w.store.Statement(t.Context(), Scope{}, list[0].Hash)
	w.must(err)
	w.must(evidence.VerifyStatement(st.PublicKey, st.Bytes, st.Signature))
	said, err := sla.ParseStatement(st.Bytes)
	w.must(err)
	if len(said.Hours) != 12 || len(said.Miners) != 2 || said.Totals.Slots.Down != live.Slots.Down || st.CreditMinor != live.CreditMinor || st.AvailabilityPPM == nil {
		t.Errorf("the statement: %+v", said)
	}
	live, err = w.store.Live(t.Context(), Scope{}, c, month)
	w.must(err)
	if live.State != Done || live.Statement == "" || len(live.WaitingFor) != 0 {
		t.Errorf("after its statement: %+v", live)
	}
	var log bytes.Buffer
	v, err := w.store.Recompute(t.Context(), st.Hash, &log)
	if err != nil || !v.Same {
		t.Errorf("recomputed: %+v, %v\n%s", v, err, log.String())
	}
	for _, sql := range []string{`UPDATE statement SET met = true`, `DELETE FROM statement`, `TRUNCATE statement`} {
		if _, err := w.pool.Exec(t.Context(), sql); err == nil || !strings.Contains(err.Error(), "never changed") {
			t.Errorf("%s: %v", sql, err)
		}
	}
}

// What the hub keeps can be changed by who can write to its database; a recomputation from the evidence finds it.
func TestRecomputeFindsWhatWasTamperedWith(t *testing.T) {
	from := december.Add(-6 * time.Hour)
	issue := func(t *testing.T, tamper func(w *world)) (*world, Verdict, error) {
		w := newWorld(t, from)
		s := w.Site("North", 2)
		w.short(s, from)
		s.Run(from, december, factstest.Always(factstest.Hashes))
		w.update()
		w.Set(december.Add(80 * time.Hour))
		w.update()
		if tamper != nil {
			tamper(w)
		}
		w.must(w.store.Close(t.Context(), w.now()))
		list, err := w.store.Statements(t.Context(), Scope{}, Filter{Limit: 1})
		w.must(err)
		if len(list) != 1 {
			t.Fatal("no statement")
		}
		v, err := w.store.Recompute(t.Context(), list[0].Hash, &bytes.Buffer{})
		return w, v, err
	}
	last := sla.DayOf(december.UnixMilli()) - 1
	t.Run("not at all", func(t *testing.T) {
		if _, v, err := issue(t, nil); err != nil || !v.Same {
			t.Errorf("%+v, %v", v, err)
		}
	})
	t.Run("a kept day before the statement was issued", func(t *testing.T) {
		_, v, err := issue(t, func(w *world) {
			rows, err := w.pool.Query(t.Context(), `SELECT sums FROM sla_day WHERE day = $1 LIMIT 1`, last)
			w.must(err)
			var sums []byte
			for rows.Next() {
				w.must(rows.Scan(&sums))
			}
			d, err := unpackSums(last, sums)
			w.must(err)
			d.Slots[sla.Up], d.Slots[sla.Down] = d.Slots[sla.Up]-6, d.Slots[sla.Down]+6
			w.Exec(`UPDATE sla_day SET sums = $1 WHERE ctid = (SELECT ctid FROM sla_day WHERE day = $2 LIMIT 1)`, packSums(&d), last)
		})
		if err != nil || v.Same || len(v.Differences) < 2 {
			t.Errorf("%+v, %v", v, err)
		}
	})
	t.Run("leaves before days were computed from them", func(t *testing.T) {
		_, v, err := issue(t, func(w *world) {
			w.Exec(`DELETE FROM leaf_page WHERE hour = (SELECT max(hour) FROM leaf_page)`)
			w.Exec(`UPDATE sla_group SET dirty = true`)
			w.must(w.store.Update(t.Context(), w.now()))
		})
		if err != nil || v.Same {
			t.Errorf("%+v, %v", v, err)
		}
	})
	t.Run("a kept day afterwards", func(t *testing.T) {
		w, _, err := issue(t, nil)
		w.must(err)
		w.Exec(`UPDATE sla_day SET states = set_byte(states, 140, 85) WHERE ctid = (SELECT ctid FROM sla_day WHERE day = $1 LIMIT 1)`, last)
		list, err := w.store.Statements(t.Context(), Scope{}, Filter{Limit: 1})
		w.must(err)
		if v, err := w.store.Recompute(t.Context(), list[0].Hash, &bytes.Buffer{}); err != nil || v.Same || len(v.Differences) != 1 {
			t.Errorf("%+v, %v", v, err)
		}
	})
	t.Run("evidence that is gone", func(t *testing.T) {
		w, _, err := issue(t, nil)
		w.must(err)
		w.Exec(`DELETE FROM batch WHERE kind = 1 AND seq = (SELECT max(seq) FROM batch WHERE kind = 1)`)
		list, err := w.store.Statements(t.Context(), Scope{}, Filter{Limit: 1})
		w.must(err)
		if _, err := w.store.Recompute(t.Context(), list[0].Hash, &bytes.Buffer{}); !errors.Is(err, ErrUnchecked) {
			t.Errorf("%v, want that it could not be checked", err)
		}
	})
}

// Evidence on its way keeps a statement until it has come, and after 30 days no longer.
func TestAStatementWaitsForEvidenceAndNotForEver(t *testing.T) {
	from := december.Add(-3 * time.Hour)
	w := newWorld(t, from)
	s := w.Site("North", 1)
	c := w.short(s, from)
	s.Run(from, december, factstest.Always(factstest.Hashes))
	w.update()
	w.Exec(`UPDATE batch SET link_state = 0 WHERE seq = 3`)
	w.Set(december.Add(73 * time.Hour))
	w.update()
	w.must(w.store.Close(t.Context(), w.now()))
	waiting, err := w.store.Waiting(t.Context(), uuid.Nil)
	w.must(err)
	if len(waiting) != 1 || len(waiting[0].For) != 1 || !strings.Contains(waiting[0].For[0], "batch 3 of chain "+s.Spool.String()) {
		t.Fatalf("waiting: %+v", waiting)
	}
	if _, err := w.store.Issue(t.Context(), c, month); err == nil || apperr.Of(err).Code != "CONFLICT_001" || !strings.Contains(err.Error(), "batch 3") {
		t.Errorf("issued on order: %v", err)
	}
	w.Set(december.Add(72*time.Hour + 30*24*time.Hour + time.Minute))
	w.update()
	w.must(w.store.Close(t.Context(), w.now()))
	if list, err := w.store.Statements(t.Context(), Scope{}, Filter{Limit: 10}); err != nil || len(list) != 1 {
		t.Errorf("after 30 more days: %d statements, %v", len(list), err)
	}
}

// Facts that come after the deadline count for nothing, until a restatement accepts them: it names the statement before, and says what changed.
func TestARestatementAcceptsLateFacts(t *testing.T) {
	from := december.Add(-6 * time.Hour)
	w := newWorld(t, from)
	s := w.Site("North", 1)
	c := w.short(s, from)
	var late []factstest.Batch
	for at := from.Add(-time.Hour); at.Before(december); at = at.Add(time.Hour) {
		w.Set(at.Add(61 * time.Minute))
		samples, signed := s.Hour(at, factstest.Always(factstest.Hashes))
		if at.Equal(december.Add(-time.Hour)) {
			late = append(late, samples, signed)
			continue
		}
		s.Deliver(samples, signed)
	}
	w.Set(december.Add(73 * time.Hour))
	w.update()
	w.must(w.store.Close(t.Context(), w.now()))
	list, err := w.store.Statements(t.Context(), Scope{}, Filter{Limit: 10})
	w.must(err)
	if len(list) != 1 || list[0].Met || list[0].CreditBP == 0 {
		t.Fatalf("statements %+v", list)
	}
	w.Set(december.Add(74 * time.Hour))
	if _, err := w.store.Restate(t.Context(), Scope{}, Restatement{Contract: c, Month: month, Reason: "again"}); err == nil || !strings.Contains(err.Error(), "no fact") {
		t.Errorf("a restatement of nothing: %v", err)
	}
	w.Set(december.Add(100 * time.Hour))
	s.Deliver(late...)
	w.update()
	live, err := w.store.Live(t.Context(), Scope{}, c, month)
	w.must(err)
	if live.Slots.UnknownDown != 12 || live.Statement != hexOf(list[0].Hash) {
		t.Errorf("late facts changed a closed month: %+v", live)
	}
	w.Set(december.Add(101 * time.Hour))
	hash, err := w.store.Restate(t.Context(), Scope{}, Restatement{Contract: c, Month: month, Reason: "the site's link was cut", AcceptUntil: w.now().Add(-time.Minute), By: "test"})
	w.must(err)
	st, err := w.store.Statement(t.Context(), Scope{}, hash)
	w.must(err)
	if st.Seq != 2 || st.Supersedes != list[0].Hash || !st.Met || st.Changes == nil || st.Changes.CreditMinor != -list[0].CreditMinor || st.Changes.Slots.Up != 12 ||
		st.Changes.Slots.UnknownDown != -12 || st.Changes.Hours != 1 || st.Changes.Miners != 1 {
		t.Errorf("restated: %+v, changes %+v", st.Line, st.Changes)
	}
	// What has counted is not taken back.
	w.Set(december.Add(102 * time.Hour))
	_, err = w.store.Restate(t.Context(), Scope{}, Restatement{Contract: c, Month: month, Reason: "not those", AcceptUntil: december.Add(99 * time.Hour), By: "test"})
	if err == nil || !strings.Contains(err.Error(), "takes no fact back") {
		t.Errorf("facts are taken back: %v", err)
	}
	before, err := w.store.Statement(t.Context(), Scope{}, list[0].Hash)
	w.must(err)
	if before.SupersededBy != hash || before.Seq != 1 {
		t.Errorf("the one before: %+v", before.Line)
	}
	for _, h := range []evidence.Hash{hash, list[0].Hash} { // both, each by its own rules
		var log bytes.Buffer
		if v, err := w.store.Recompute(t.Context(), h, &log); err != nil || !v.Same {
			t.Errorf("recomputed: %+v, %v\n%s", v, err, log.String())
		}
	}
	w.update()
	if live, err = w.store.Live(t.Context(), Scope{}, c, month); err != nil || live.Slots.UnknownDown != 0 || live.Statement != hexOf(hash) {
		t.Errorf("the month afterwards: %+v, %v", live, err)
	}
}

// What belongs to another customer answers as what does not exist.
func TestACustomerSeesOnlyItsOwn(t *testing.T) {
	from := december.Add(-2 * time.Hour)
	w := newWorld(t, from)
	s := w.Site("North", 1)
	c := w.short(s, from)
	s.Run(from, december, factstest.Always(factstest.Hashes))
	w.Set(december.Add(73 * time.Hour))
	w.update()
	w.must(w.store.Close(t.Context(), w.now()))
	list, err := w.store.Statements(t.Context(), Scope{w.customer}, Filter{Limit: 10})
	w.must(err)
	if len(list) != 1 {
		t.Fatalf("its own: %+v", list)
	}
	m := Miner{s.ID, s.Miners[0]}
	for name, scope := range map[string]Scope{"its own": {w.customer}, "another": {uuid.New()}} {
		own := scope.Customer == w.customer
		for what, err := range map[string]error{
			"live":       second(w.store.Live(t.Context(), scope, c, month)),
			"miners":     second(w.store.Miners(t.Context(), scope, c, month, Miner{}, 10)),
			"miner days": second(w.store.MinerDays(t.Context(), scope, c, m, from, december)),
			"day miners": second(w.store.DayMiners(t.Context(), scope, c, from, Miner{}, 10)),
			"why":        second(w.store.Why(t.Context(), scope, c, m, from.Add(time.Hour))),
			"statement":  second(w.store.Statement(t.Context(), scope, list[0].Hash)),
		} {
			if own && err != nil || !own && apperr.Of(err).Code != "NOTFOUND_001" {
				t.Errorf("%s, %s: %v", name, what, err)
			}
		}
		all, err := w.store.Statements(t.Context(), scope, Filter{Contract: c, Limit: 10})
		if own && err != nil || !own && apperr.Of(err).Code != "NOTFOUND_001" || (len(all) == 1) != own {
			t.Errorf("%s: %d statements, %v", name, len(all), err)
		}
	}
}

func hexOf(h evidence.Hash) string { return hex.EncodeToString(h[:]) }

func second[T any](_ T, err error) error { return err }
