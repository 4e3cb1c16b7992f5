package customer

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/hashinsight/hashinsight/hub/internal/access"
	"github.com/hashinsight/hashinsight/hub/internal/apperr"
	"github.com/hashinsight/hashinsight/hub/internal/audit"
	"github.com/hashinsight/hashinsight/hub/internal/fleet"
	"github.com/hashinsight/hashinsight/hub/internal/pg"
	"github.com/hashinsight/hashinsight/hub/internal/sla"
	"github.com/hashinsight/hashinsight/hub/pgtest"
	"github.com/hashinsight/hashinsight/pkg/ident"
)

// noted is one call of Changed.
type noted struct {
	contract     uuid.UUID
	fromMS, toMS int64
}

// world is a store over a real database, with two sites and a clock that tests move.
type world struct {
	t      *testing.T
	pool   *pgxpool.Pool
	audit  *audit.Log
	store  *Store
	mu     sync.Mutex
	at     time.Time
	closed map[string]bool // months of which a statement was issued, for every contract
	notes  []noted
	by     access.Actor
}

const rate = 100_000_000 // MH/s

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, pool: pgtest.New(t), at: ms("2026-11-10T12:00:00Z"), closed: map[string]bool{}, by: access.CommandLine()}
	var err error
	if w.audit, err = audit.New(audit.Config{Pool: w.pool, Now: w.now}); err != nil {
		t.Fatal(err)
	}
	w.store, err = New(Config{
		DB: w.pool, Audit: w.audit, Now: w.now,
		Changed: func(_ context.Context, _ pgx.Tx, contract uuid.UUID, fromMS, toMS int64) error {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.notes = append(w.notes, noted{contract, fromMS, toMS})
			return nil
		},
		Closed: func(_ context.Context, _ pgx.Tx, _ uuid.UUID, fromMS, toMS int64) (bool, error) {
			for m := range w.closed {
				begin, end := month(at(m + "-01T00:00:00Z"))
				if fromMS < end && openEnd(toMS) > begin {
					return true, nil
				}
			}
			return false, nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *world) now() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.at
}

func (w *world) is(s string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.at = ms(s)
}

func ms(s string) time.Time {
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		panic(err)
	}
	return t
}

func at(s string) int64 { return ms(s).UnixMilli() }

// site adds a site with n miners.
func (w *world) site(name string, n int) (ident.SiteID, []ident.MinerID) {
	w.t.Helper()
	site := ident.NewSiteID()
	key, _, err := ed25519.GenerateKey(nil)
	if err != nil {
		w.t.Fatal(err)
	}
	miners := make([]ident.MinerID, n)
	err = pg.InTx(w.t.Context(), w.pool, func(tx pgx.Tx) error {
		if err := fleet.RegisterSite(w.t.Context(), tx, fleet.Registration{Site: site, Name: name, Key: key, At: w.now()}); err != nil {
			return err
		}
		for i := range miners {
			miners[i] = ident.NewMinerID()
			if _, err := tx.Exec(w.t.Context(), `INSERT INTO miner (site_id, id, address, first_seen_at, info_at) VALUES ($1, $2, $3, $4, $4)`,
				site, miners[i], fmt.Sprintf("10.0.0.%d:4028", i+1), w.now()); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		w.t.Fatal(err)
	}
	slices.SortFunc(miners, ident.MinerID.Compare)
	return site, miners
}

func (w *world) customer(name string) uuid.UUID {
	w.t.Helper()
	c, err := w.store.AddCustomer(w.t.Context(), w.by, name)
	if err != nil {
		w.t.Fatal(err)
	}
	return c.ID
}

// contract adds a contract that begins with November 2026.
func (w *world) contract(customer uuid.UUID, name string, change ...func(*sla.Terms)) uuid.UUID {
	w.t.Helper()
	t := sla.DefaultTerms()
	t.RateMHs, t.FromMS = rate, at("2026-11-01T00:00:00Z")
	for _, f := range change {
		f(&t)
	}
	c, _, err := w.store.AddContract(w.t.Context(), w.by, customer, name, t)
	if err != nil {
		w.t.Fatal(err)
	}
	return c.ID
}

func order(site ident.SiteID, miner ident.MinerID, from, to string) NewAssignment {
	n := NewAssignment{Site: site, Miner: miner, FromMS: at(from)}
	if to != "" {
		n.ToMS = at(to)
	}
	return n
}

func (w *world) assign(contract uuid.UUID, list ...NewAssignment) []Assignment {
	w.t.Helper()
	made, err := w.store.Assign(w.t.Context(), w.by, contract, list)
	if err != nil {
		w.t.Fatal(err)
	}
	return made
}

// refused checks that an error is for the caller, with a status, and says all of these.
func refused(t *testing.T, err error, status int, parts ...string) {
	t.Helper()
	if err == nil {
		t.Fatal("not refused")
	}
	p := apperr.Of(err)
	if p.HTTP != status {
		t.Fatalf("status %d: %v", p.HTTP, err)
	}
	for _, part := range parts {
		if !strings.Contains(p.Text, part) {
			t.Errorf("%q lacks %q", p.Text, part)
		}
	}
}

// actions are what the audit log says was done, in order.
func (w *world) actions() (list []string) {
	w.t.Helper()
	rows, err := w.pool.Query(w.t.Context(), `SELECT action FROM audit_pending ORDER BY event_id`)
	if err == nil {
		list, err = pgx.CollectRows(rows, pgx.RowTo[string])
	}
	if err != nil {
		w.t.Fatal(err)
	}
	return list
}

func TestNamesAreUniqueAndARepeatedOrderNamesWhatIsThere(t *testing.T) {
	w := newWorld(t)
	acme := w.customer(" Acme ")
	_, err := w.store.AddCustomer(t.Context(), w.by, "Acme")
	refused(t, err, 409, acme.String())
	for _, bad := range []string{"", " ", "a\nb", "a\u202e\x00", strings.Repeat("x", 101), "\xff"} {
		_, err = w.store.AddCustomer(t.Context(), w.by, bad)
		refused(t, err, 422, "name of a customer")
	}
	c := w.contract(acme, "Hall 1")
	terms := sla.DefaultTerms()
	terms.RateMHs = rate
	_, _, err = w.store.AddContract(t.Context(), w.by, acme, "Hall 1", terms)
	refused(t, err, 409, c.String(), "Acme")
	w.contract(w.customer("Other"), "Hall 1") // another customer's contract may have the same name
	_, _, err = w.store.AddContract(t.Context(), w.by, uuid.New(), "x", terms)
	refused(t, err, 404)
	terms.RateMHs = 0
	_, _, err = w.store.AddContract(t.Context(), w.by, acme, "Hall 2", terms)
	refused(t, err, 422, "rate_mhs")
	_, err = w.store.AddCustomer(t.Context(), access.Actor{ID: "x", Customer: acme, Granted: []access.Permission{access.Owner}}, "Mine")
	refused(t, err, 403)
	if got := strings.Join(w.actions(), " "); got != "customer_added contract_added customer_added contract_added" {
		t.Errorf("audit log: %s", got)
	}
	list, err := w.store.Customers(t.Context(), Place{}, 10)
	if err != nil || len(list) != 2 || list[0].Name != "Acme" || list[0].Contracts != 1 {
		t.Errorf("%+v %v", list, err)
	}
	if list, err = w.store.Customers(t.Context(), Place{Name: list[0].Name, ID: list[0].ID}, 10); err != nil || len(list) != 1 || list[0].Name != "Other" {
		t.Errorf("%+v %v", list, err)
	}
}

func TestTermsAreVersionsWhosePastStays(t *testing.T) {
	w := newWorld(t)
	c := w.contract(w.customer("Acme"), "Hall 1")
	better := func(from string) func(sla.Terms) sla.Terms {
		return func(last sla.Terms) sla.Terms {
			last.TargetPPM, last.FromMS = 995_000, 0
			if from != "" {
				last.FromMS = at(from)
			}
			return last
		}
	}
	_, _, err := w.store.Amend(t.Context(), w.by, c, better("2026-11-01T00:00:00Z"))
	refused(t, err, 409, "2026-11-01T00:00:00Z", "after")
	_, v, err := w.store.Amend(t.Context(), w.by, c, better("2026-12-01T00:00:00Z"))
	if err != nil || v.Version != 2 || v.Contract != ident.UUID(c) {
		t.Fatalf("%+v %v", v, err)
	}
	if n := w.notes[len(w.notes)-1]; n != (noted{c, at("2026-12-01T00:00:00Z"), 0}) {
		t.Errorf("noted %+v", n)
	}
	_, again, err := w.store.Amend(t.Context(), w.by, c, better("2026-12-01T00:00:00Z"))
	if err != nil || again.Hash != v.Hash || again.Version != 2 {
		t.Errorf("repeated: %+v %v", again, err)
	}
	for name, c := range map[string]struct{ from, part string }{
		"long ago":   {"2019-12-31T23:59:59Z", "from 2020"},
		"far away":   {"2101-01-01T00:00:00Z", "from 2020"},
		"a year off": {"2028-01-01T00:00:00Z", "check the year"},
	} {
		_, _, err = w.store.Amend(t.Context(), w.by, uuid.UUID(v.Contract), better(c.from))
		if name == "long ago" { // before the last version, whatever else
			refused(t, err, 409)
			continue
		}
		refused(t, err, 422, c.part)
	}
	// The statement of November and December has been issued: nothing in them changes any more.
	w.is("2027-01-15T12:00:00Z")
	w.closed["2026-11"], w.closed["2026-12"] = true, true
	_, _, err = w.store.Amend(t.Context(), w.by, c, better("2026-12-31T23:59:59Z"))
	refused(t, err, 409, "statement", "possible from 2027-01-01T00:00:00Z on")
	_, v, err = w.store.Amend(t.Context(), w.by, c, func(last sla.Terms) sla.Terms {
		last.FromMS, last.ThetaPPM = at("2027-02-01T00:00:00Z"), 900_000
		return last
	})
	if err != nil || v.Version != 3 {
		t.Fatalf("%+v %v", v, err)
	}
	list, err := w.store.Versions(t.Context(), nil, c)
	if err != nil || len(list) != 3 || list[0].TargetPPM != 990_000 || list[1].TargetPPM != 995_000 || list[2].ThetaPPM != 900_000 || list[2].TargetPPM != 995_000 {
		t.Errorf("%+v %v", list, err)
	}
	// What somebody changed in the database is found, not believed.
	if _, err := w.pool.Exec(t.Context(), `UPDATE contract_version SET terms = replace(convert_from(terms, 'UTF8'), '995000', '500000')::bytea WHERE version = 2`); err != nil {
		t.Fatal(err)
	}
	if _, err = w.store.Versions(t.Context(), nil, c); err == nil {
		t.Error("changed terms are believed")
	}
}

func TestOneMinerHasOneContractAtATime(t *testing.T) {
	w := newWorld(t)
	site, m := w.site("North", 3)
	acme, other := w.contract(w.customer("Acme"), "Hall 1"), w.contract(w.customer("Other"), "Hall 9")
	// A contract begins inside a slot, and the miner moves to the other customer inside an hour.
	first := w.assign(acme, order(site, m[0], "2026-11-03T00:02:30Z", ""))
	_, err := w.store.Assign(t.Context(), w.by, other, []NewAssignment{order(site, m[0], "2026-11-09T10:20:00Z", "")})
	refused(t, err, 409, m[0].String(), `"Hall 1"`, `"Acme"`, acme.String(), first[0].ID.String(), "2026-11-09T10:20:00Z", "2026-11-03T00:02:30Z")
	w.is("2026-11-09T10:19:00Z")
	ended, err := w.store.EndAssignments(t.Context(), w.by, acme, []uuid.UUID{uuid.UUID(first[0].ID)}, at("2026-11-09T10:20:00Z"))
	if err != nil || ended[0].ToMS != at("2026-11-09T10:20:00Z") {
		t.Fatalf("%+v %v", ended, err)
	}
	moved := w.assign(other, order(site, m[0], "2026-11-09T10:20:00Z", ""))
	// Neither end moves into the other's time.
	_, err = w.store.EndAssignments(t.Context(), w.by, acme, []uuid.UUID{uuid.UUID(first[0].ID)}, at("2026-11-09T10:25:00Z"))
	refused(t, err, 409, moved[0].ID.String(), `"Other"`)
	hour, err := w.store.ByMiner(t.Context(), nil, site, at("2026-11-09T10:00:00Z"), at("2026-11-09T11:00:00Z"))
	if err != nil || len(hour) != 2 || hour[0].Contract != ident.UUID(acme) || hour[1].Contract != ident.UUID(other) || hour[0].ToMS != hour[1].FromMS {
		t.Errorf("%+v %v", hour, err)
	}
	// The same order again is no overlap; a different one is.
	if again := w.assign(other, order(site, m[0], "2026-11-09T10:20:00Z", "")); len(again) != 1 || again[0].ID != moved[0].ID {
		t.Errorf("%+v", again)
	}
	_, err = w.store.Assign(t.Context(), w.by, other, []NewAssignment{order(site, m[1], "2026-11-09T00:00:00Z", ""), order(site, m[0], "2026-11-09T10:20:00Z", "2026-12-01T00:00:00Z")})
	refused(t, err, 409, moved[0].ID.String())
	if rest, err := w.store.ByMiner(t.Context(), nil, site, 0, 0); err != nil || len(rest) != 2 {
		t.Errorf("a refused order left something: %+v %v", rest, err)
	}
	// An end is where it is said to be, and before the beginning nowhere; at the beginning the assignment is called off.
	_, err = w.store.EndAssignments(t.Context(), w.by, other, []uuid.UUID{uuid.UUID(moved[0].ID)}, at("2026-11-09T10:19:59Z"))
	refused(t, err, 422, "calls it off")
	_, err = w.store.EndAssignments(t.Context(), w.by, other, []uuid.UUID{uuid.UUID(first[0].ID)}, at("2026-11-20T00:00:00Z"))
	refused(t, err, 404, first[0].ID.String())
	if _, err = w.store.EndAssignments(t.Context(), w.by, other, []uuid.UUID{uuid.UUID(moved[0].ID)}, at("2026-11-09T10:20:00Z")); err != nil {
		t.Fatal(err)
	}
	if a, err := w.store.Assignments(t.Context(), nil, other, 0, 0); err != nil || len(a) != 0 {
		t.Errorf("called off: %+v %v", a, err)
	}
	w.assign(acme, order(site, m[0], "2026-11-09T10:20:00Z", "")) // so its time is free
	for name, c := range map[string]struct {
		list []NewAssignment
		part string
	}{
		"no miner":               {nil, "0 miners"},
		"too many":               {make([]NewAssignment, MaxBatch+1), "5001 miners"},
		"twice at one time":      {[]NewAssignment{order(site, m[1], "2026-11-09T00:00:00Z", ""), order(site, m[1], "2026-11-10T00:00:00Z", "")}, "twice"},
		"ends before it begins":  {[]NewAssignment{order(site, m[1], "2026-11-09T00:00:00Z", "2026-11-09T00:00:00Z")}, "after from"},
		"before there are terms": {[]NewAssignment{order(site, m[1], "2026-10-31T23:59:59Z", "")}, "terms from 2026-11-01T00:00:00Z"},
		"wrong century":          {[]NewAssignment{order(site, m[1], "2126-11-01T00:00:00Z", "")}, "2020 to 2099"},
		"next year but one":      {[]NewAssignment{order(site, m[1], "2028-11-01T00:00:00Z", "")}, "check the year"},
		"a miner of nobody":      {[]NewAssignment{order(site, ident.NewMinerID(), "2026-11-09T00:00:00Z", "")}, "has no miner"},
		"another site's":         {[]NewAssignment{order(ident.NewSiteID(), m[1], "2026-11-09T00:00:00Z", "")}, "has no miner"},
		"a rate below zero":      {[]NewAssignment{{Site: site, Miner: m[1], FromMS: at("2026-11-09T00:00:00Z"), RateMHs: -1}}, "rate_mhs"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := w.store.Assign(t.Context(), w.by, acme, c.list)
			refused(t, err, 422, c.part)
		})
	}
	_, err = w.store.Assign(t.Context(), w.by, uuid.New(), []NewAssignment{order(site, m[1], "2026-11-09T00:00:00Z", "")})
	refused(t, err, 404)
}

// Who writes past the package meets the constraint.
func TestTheDatabaseItselfKeepsMinersApart(t *testing.T) {
	w := newWorld(t)
	site, m := w.site("North", 1)
	south, _ := w.site("South", 0)
	c := w.contract(w.customer("Acme"), "Hall 1")
	if _, err := w.pool.Exec(t.Context(), `INSERT INTO miner (site_id, id, first_seen_at, info_at) VALUES ($1, $2, $3, $3)`, south, m[0], w.now()); err != nil {
		t.Fatal(err)
	}
	insert := func(site ident.SiteID, from int64, to *int64) error {
		_, err := w.pool.Exec(t.Context(), `INSERT INTO contract_miner (id, contract_id, site_id, miner_id, from_ms, to_ms, rate_mhs, recorded_at, recorded_by) VALUES ($1, $2, $3, $4, $5, $6, 0, $7, 'test')`,
			uuid.New(), c, site, m[0], from, to, w.now())
		return err
	}
	end := at("2026-11-05T00:00:00Z")
	for _, err := range []error{insert(site, at("2026-11-01T00:00:00Z"), &end), insert(site, end, nil), insert(south, at("2026-11-01T00:00:00Z"), nil)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, from := range []int64{at("2026-11-02T00:00:00Z"), end, at("2026-12-02T00:00:00Z")} {
		var pe *pgconn.PgError
		if err := insert(site, from, nil); !errors.As(err, &pe) || pe.ConstraintName != "contract_miner_once" {
			t.Errorf("%d: %v", from, err)
		}
	}
}

func TestTwoOperatorsAssignOneMinerAtTheSameTime(t *testing.T) {
	w := newWorld(t)
	site, m := w.site("North", 20)
	contracts := []uuid.UUID{w.contract(w.customer("Acme"), "Hall 1"), w.contract(w.customer("Other"), "Hall 9")}
	for i := 0; i < len(m); i += 2 {
		var wg sync.WaitGroup
		errs := make([]error, len(contracts))
		for j, c := range contracts {
			list := []NewAssignment{order(site, m[i], "2026-11-05T00:00:00Z", ""), order(site, m[i+1], "2026-11-05T00:00:00Z", "")}
			if j == 1 { // in the other order, and from another time on
				list = []NewAssignment{order(site, m[i+1], "2026-11-06T00:00:00Z", ""), order(site, m[i], "2026-11-06T00:00:00Z", "")}
			}
			wg.Go(func() { _, errs[j] = w.store.Assign(t.Context(), w.by, c, list) })
		}
		wg.Wait()
		loser := 0
		if errs[0] == nil {
			loser = 1
		}
		if errs[1-loser] != nil {
			t.Fatalf("nobody won: %v, %v", errs[0], errs[1])
		}
		refused(t, errs[loser], 409, contracts[1-loser].String(), m[i].String())
	}
	all, err := w.store.ByMiner(t.Context(), nil, site, 0, 0)
	if err != nil || len(all) != len(m) {
		t.Errorf("%d assignments, %v", len(all), err)
	}
}

func TestIssuedMonthsKeepTheirMiners(t *testing.T) {
	w := newWorld(t)
	site, m := w.site("North", 2)
	c := w.contract(w.customer("Acme"), "Hall 1")
	a := w.assign(c, order(site, m[0], "2026-11-03T00:00:00Z", ""))
	if n := w.notes[len(w.notes)-1]; n != (noted{c, at("2026-11-03T00:00:00Z"), 0}) {
		t.Errorf("noted %+v", n)
	}
	// What ends leaves a note of the time between the old end and the new one.
	ids := []uuid.UUID{uuid.UUID(a[0].ID)}
	for _, end := range []struct {
		at       string
		from, to int64
	}{
		{"2026-11-30T00:00:00Z", at("2026-11-30T00:00:00Z"), 0},
		{"2026-12-20T00:00:00Z", at("2026-11-30T00:00:00Z"), at("2026-12-20T00:00:00Z")},
		{"2026-12-19T00:00:00Z", at("2026-12-19T00:00:00Z"), at("2026-12-20T00:00:00Z")},
	} {
		if _, err := w.store.EndAssignments(t.Context(), w.by, c, ids, at(end.at)); err != nil {
			t.Fatal(err)
		}
		if n := w.notes[len(w.notes)-1]; n != (noted{c, end.from, end.to}) {
			t.Errorf("noted %+v", n)
		}
	}
	before := len(w.notes)
	if _, err := w.store.EndAssignments(t.Context(), w.by, c, ids, at("2026-12-19T00:00:00Z")); err != nil || len(w.notes) != before {
		t.Errorf("the same end again: %v, %d notes more", err, len(w.notes)-before)
	}
	w.is("2026-12-10T00:00:00Z")
	w.closed["2026-11"] = true
	_, err := w.store.Assign(t.Context(), w.by, c, []NewAssignment{order(site, m[1], "2026-11-30T23:55:00Z", "")})
	refused(t, err, 409, "statement", "possible from 2026-12-01T00:00:00Z on")
	w.assign(c, order(site, m[1], "2026-12-10T00:00:00Z", "")) // the miner is replaced
}

// Who could say afterwards which slots were owed would leave out those that were missed.
func TestNobodyChoosesInHindsightWhatWasOwed(t *testing.T) {
	w := newWorld(t)
	site, m := w.site("North", 4)
	w.is("2026-11-02T09:00:00Z")
	c := w.contract(w.customer("Acme"), "Hall 1")
	end := func(id uuid.UUID, atMS int64) (Assignment, error) {
		t.Helper()
		list, err := w.store.EndAssignments(t.Context(), w.by, c, []uuid.UUID{id}, atMS)
		if err != nil {
			return Assignment{}, err
		}
		return list[0], nil
	}
	amend := func(from string) error {
		_, _, err := w.store.Amend(t.Context(), w.by, c, func(last sla.Terms) sla.Terms {
			last.ThetaPPM, last.Unknown, last.FromMS = last.ThetaPPM-1, sla.UnknownExcused, at(from)
			return last
		})
		return err
	}
	// While the contract is new, what was agreed before it was typed in is recorded as of then.
	a := w.assign(c, order(site, m[0], "2026-11-01T00:00:00Z", ""), order(site, m[1], "2026-11-01T00:00:00Z", ""), order(site, m[2], "2026-11-05T00:00:00Z", ""))
	if err := amend("2026-11-01T12:00:00Z"); err != nil {
		t.Error(err)
	}
	// A slip: within an hour an assignment is called off, and stays so when it has begun long ago.
	w.is("2026-11-02T09:30:00Z")
	if x, err := end(uuid.UUID(a[1].ID), a[1].FromMS); err != nil || x.ToMS != x.FromMS || !x.EndedAt.Equal(w.now()) {
		t.Errorf("%+v %v", x, err)
	}
	w.is("2026-11-02T10:00:01Z")
	_, err := end(uuid.UUID(a[0].ID), a[0].FromMS)
	refused(t, err, 409, "stays owed", "2026-11-02T10:00:01Z", "from now on")
	if _, err := end(uuid.UUID(a[2].ID), a[2].FromMS); err != nil { // it has not begun
		t.Error(err)
	}
	// The miner broke at 09:00. It is owed until the slot that is running.
	for _, past := range []string{"2026-11-02T09:00:00Z", "2026-11-02T09:55:00Z"} {
		_, err = end(uuid.UUID(a[0].ID), at(past))
		refused(t, err, 409, "stays owed", past)
	}
	w.is("2026-11-02T10:04:59Z")
	if x, err := end(uuid.UUID(a[0].ID), at("2026-11-02T10:00:00Z")); err != nil || x.ToMS != at("2026-11-02T10:00:00Z") || !x.EndedAt.Equal(w.now()) {
		t.Errorf("%+v %v", x, err)
	}
	if x, err := end(uuid.UUID(a[0].ID), 0); err != nil || x.ToMS != at("2026-11-02T10:00:00Z") {
		t.Errorf("ended again, now: %+v %v", x, err)
	}
	// Nor does it come back for a time in which it is known to have been up.
	w.is("2026-11-02T12:00:00Z")
	_, err = end(uuid.UUID(a[0].ID), at("2026-11-03T00:00:00Z"))
	refused(t, err, 409, "has ended at 2026-11-02T10:00:00Z", "add it from now on")
	// A contract that is older than a week takes terms and miners from now on only.
	w.is("2026-11-09T09:00:00Z")
	w.assign(c, order(site, m[3], "2026-11-08T00:00:00Z", "2026-11-09T00:00:00Z"))
	w.is("2026-11-09T09:00:01Z")
	_, err = w.store.Assign(t.Context(), w.by, c, []NewAssignment{order(site, m[3], "2026-11-09T08:55:00Z", "")})
	refused(t, err, 409, "2026-11-09T08:55:00Z", "older than 7 days", "from now on")
	refused(t, amend("2026-11-09T08:55:00Z"), 409, "older than 7 days")
	now := w.assign(c, order(site, m[3], "2026-11-09T09:00:00Z", ""))
	if err := amend("2026-11-09T09:00:00Z"); err != nil {
		t.Error(err)
	}
	w.is("2026-11-09T09:10:00Z")
	if x, err := end(uuid.UUID(now[0].ID), 0); err != nil || x.ToMS != w.now().UnixMilli() {
		t.Errorf("ended now: %+v %v", x, err)
	}
	// What reached into slots that were over stands out in the audit log.
	rows, err := w.pool.Query(t.Context(), `SELECT level || ' ' || (details ->> 'in_hindsight') FROM audit_pending WHERE action LIKE 'contract_miners%' ORDER BY event_id`)
	if err != nil {
		t.Fatal(err)
	}
	levels, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if got := strings.Join(levels, ", "); err != nil || got != "WARNING true, WARNING true, INFO false, INFO false, WARNING true, INFO false, INFO false" {
		t.Errorf("%s %v", got, err)
	}
}

func TestGapsAreShownAndTellNoCustomerOfAnother(t *testing.T) {
	w := newWorld(t)
	site, m := w.site("North", 4)
	mine := w.customer("Acme")
	acme, other := w.contract(mine, "Hall 1"), w.contract(w.customer("Other"), "Hall 9")
	w.assign(acme,
		order(site, m[0], "2026-11-01T00:00:00Z", "2026-11-02T00:00:00Z"), order(site, m[0], "2026-11-03T00:00:00Z", ""), // one gap
		order(site, m[1], "2026-11-01T00:00:00Z", "2026-11-02T00:00:00Z"), // goes to the other customer and comes back
		order(site, m[1], "2026-11-06T00:00:00Z", ""),
		order(site, m[2], "2026-11-01T00:00:00Z", "2026-11-04T00:00:00Z"), // has none since
		order(site, m[3], "2026-11-01T00:00:00Z", "2026-12-24T00:00:00Z"), // will have none: no gap yet
	)
	w.assign(other, order(site, m[1], "2026-11-02T00:00:00Z", "2026-11-05T00:00:00Z"))
	show := func(customer uuid.UUID) string {
		gaps, more, err := w.store.Gaps(t.Context(), acme, customer)
		if err != nil || more {
			t.Fatal(err)
		}
		var out []string
		for _, g := range gaps {
			out = append(out, fmt.Sprintf("%d:%s-%s", slices.Index(m, g.Miner), text(g.FromMS)[8:10], strings.TrimPrefix(text(g.ToMS), "2026-11-")[:2]))
		}
		return strings.Join(out, " ")
	}
	if got := show(uuid.Nil); got != "1:05-06 2:04-op 0:02-03" {
		t.Errorf("for the operator: %s", got)
	}
	// That another customer had the miner for a part of the time does not show.
	got := strings.Fields(show(mine))
	slices.Sort(got)
	if strings.Join(got, " ") != "0:02-03 1:02-06" {
		t.Errorf("for the customer: %s", got)
	}
}

func TestLateExcusesAreRecordedAndSayWhoDoesNotHonourThem(t *testing.T) {
	w := newWorld(t)
	site, m := w.site("North", 3)
	strict := w.contract(w.customer("Acme"), "Hall 1")
	kind := w.contract(w.customer("Other"), "Hall 9", func(t *sla.Terms) { t.MaintenanceNoticeS, t.CurtailLateS = 3600, 7200 })
	w.assign(strict, order(site, m[0], "2026-11-01T00:00:00Z", ""))
	w.assign(kind, order(site, m[1], "2026-11-01T00:00:00Z", ""))
	judged := func(x Excuse, err error) string {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		var out []string
		for _, j := range x.Judged {
			out = append(out, fmt.Sprintf("%s %s %s=%d by %s", j.Name, j.Why, j.Term, j.TermS, text(j.RecordedByMS)))
		}
		return strings.Join(out, "; ")
	}
	record := func(kind sla.ExcuseKind, from, to string, miners ...ident.MinerID) string {
		t.Helper()
		return judged(w.store.Excuse(t.Context(), w.by, NewExcuse{Kind: kind, Site: site, Miners: miners, FromMS: at(from), ToMS: at(to), Note: "transformer"}))
	}
	// It is 12:00 on the 10th. At their bounds both count; a millisecond later the strict contract's does not.
	if got := record(sla.Maintenance, "2026-11-11T12:00:00Z", "2026-11-11T14:00:00Z"); got != "Hall 1 in_time maintenance_notice_s=86400 by 2026-11-10T12:00:00Z; Hall 9 in_time maintenance_notice_s=3600 by 2026-11-11T11:00:00Z" {
		t.Error(got)
	}
	if got := record(sla.Curtailment, "2026-11-10T11:45:00Z", "2026-11-10T14:00:00Z"); !strings.HasPrefix(got, "Hall 1 in_time curtail_late_s=900 by 2026-11-10T12:00:00Z; Hall 9 in_time") {
		t.Error(got)
	}
	w.mu.Lock()
	w.at = w.at.Add(time.Millisecond)
	w.mu.Unlock()
	if got := record(sla.Maintenance, "2026-11-11T12:00:00Z", "2026-11-11T15:00:00Z"); !strings.HasPrefix(got, "Hall 1 short_notice maintenance_notice_s=86400 by 2026-11-10T12:00:00Z; Hall 9 in_time") {
		t.Error(got)
	}
	if got := record(sla.Curtailment, "2026-11-10T11:45:00Z", "2026-11-10T15:00:00Z"); !strings.HasPrefix(got, "Hall 1 late curtail_late_s=900 by 2026-11-10T12:00:00Z; Hall 9 in_time") {
		t.Error(got)
	}
	if got := record(sla.Maintenance, "2026-11-12T12:00:00Z", "2026-11-12T15:00:00Z", m[1]); strings.Contains(got, "Hall 1") || !strings.Contains(got, "Hall 9") {
		t.Errorf("of the other contract's miner only: %s", got)
	}
	if got := record(sla.Maintenance, "2026-11-12T12:00:00Z", "2026-11-12T15:00:00Z", m[2]); got != "" {
		t.Errorf("of a miner without a contract: %s", got)
	}
	// A version that begins within the window has its say too.
	if _, _, err := w.store.Amend(t.Context(), w.by, strict, func(last sla.Terms) sla.Terms {
		last.FromMS, last.MaintenanceNoticeS = at("2026-11-12T00:00:00Z"), 60
		return last
	}); err != nil {
		t.Fatal(err)
	}
	if got := record(sla.Maintenance, "2026-11-11T11:00:00Z", "2026-11-12T01:00:00Z", m[0]); got != "Hall 1 short_notice maintenance_notice_s=86400 by 2026-11-10T11:00:00Z; Hall 1 in_time maintenance_notice_s=60 by 2026-11-11T10:59:00Z" {
		t.Error(got)
	}
	notes := map[noted]bool{}
	for _, n := range w.notes {
		notes[n] = true
	}
	for _, want := range []noted{{strict, at("2026-11-11T12:00:00Z"), at("2026-11-11T14:00:00Z")}, {kind, at("2026-11-11T12:00:00Z"), at("2026-11-11T14:00:00Z")}, {kind, at("2026-11-12T12:00:00Z"), at("2026-11-12T15:00:00Z")}} {
		if !notes[want] {
			t.Errorf("not noted: %+v", want)
		}
	}
	if notes[noted{strict, at("2026-11-12T12:00:00Z"), at("2026-11-12T15:00:00Z")}] {
		t.Error("a contract that an excuse does not concern is noted")
	}
	good := NewExcuse{Kind: sla.Maintenance, Site: site, FromMS: at("2026-11-20T00:00:00Z"), ToMS: at("2026-11-20T01:00:00Z")}
	for name, c := range map[string]struct {
		change func(*NewExcuse)
		status int
		part   string
	}{
		"a kind of its own":    {func(n *NewExcuse) { n.Kind = "weather" }, 422, "curtailment or maintenance"},
		"no length":            {func(n *NewExcuse) { n.ToMS = n.FromMS }, 422, "length"},
		"a month and a moment": {func(n *NewExcuse) { n.ToMS = n.FromMS + MaxExcuse.Milliseconds() + 1 }, 422, "31 days"},
		"in two years":         {func(n *NewExcuse) { n.FromMS += 2 * MaxAhead.Milliseconds(); n.ToMS = n.FromMS + 1000 }, 422, "check the year"},
		"a long note":          {func(n *NewExcuse) { n.Note = strings.Repeat("x", maxNote+1) }, 422, "note"},
		"a note of controls":   {func(n *NewExcuse) { n.Note = "a\x1b[2Jb" }, 422, "note"},
		"an unknown miner":     {func(n *NewExcuse) { n.Miners = []ident.MinerID{ident.NewMinerID()} }, 422, "has no miner"},
		"too many miners":      {func(n *NewExcuse) { n.Miners = distinct(MaxExcused + 1) }, 422, "5001 miners"},
		"an unknown site":      {func(n *NewExcuse) { n.Site = ident.NewSiteID() }, 404, "does not exist"},
	} {
		t.Run(name, func(t *testing.T) {
			n := good
			c.change(&n)
			_, err := w.store.Excuse(t.Context(), w.by, n)
			refused(t, err, c.status, c.part)
		})
	}
}

func distinct(n int) []ident.MinerID {
	out := make([]ident.MinerID, n)
	for i := range out {
		out[i] = ident.NewMinerID()
	}
	return out
}

func TestARepeatedExcuseIsOne(t *testing.T) {
	w := newWorld(t)
	site, m := w.site("North", 2)
	c := w.contract(w.customer("Acme"), "Hall 1")
	w.assign(c, order(site, m[0], "2026-11-01T00:00:00Z", ""))
	n := NewExcuse{ID: uuid.New(), Kind: sla.Curtailment, Site: site, Miners: []ident.MinerID{m[1], m[0], m[1]}, FromMS: at("2026-11-10T12:00:00Z"), ToMS: at("2026-11-10T16:00:00Z")}
	x, err := w.store.Excuse(t.Context(), w.by, n)
	if err != nil || x.ID != ident.UUID(n.ID) || len(x.Miners) != 2 || x.RecordedMS != at("2026-11-10T12:00:00Z") {
		t.Fatalf("%+v %v", x, err)
	}
	w.is("2026-11-10T13:00:00Z") // the answer was lost and the order repeated: it keeps its time
	again, err := w.store.Excuse(t.Context(), w.by, n)
	if err != nil || again.RecordedMS != x.RecordedMS || again.Judged[0].Why != InTime {
		t.Errorf("%+v %v", again, err)
	}
	n.ToMS++
	_, err = w.store.Excuse(t.Context(), w.by, n)
	refused(t, err, 409, n.ID.String())
	n.ToMS--

	// It ends earlier; what is said later of the past changes nothing.
	if x, err = w.store.EndExcuse(t.Context(), w.by, n.ID, at("2026-11-10T15:00:00Z")); err != nil || x.EndedMS != at("2026-11-10T15:00:00Z") {
		t.Fatalf("%+v %v", x, err)
	}
	if last := w.notes[len(w.notes)-1]; last != (noted{c, at("2026-11-10T15:00:00Z"), at("2026-11-10T16:00:00Z")}) {
		t.Errorf("noted %+v", last)
	}
	w.is("2026-11-10T13:00:01Z")
	if x, err = w.store.EndExcuse(t.Context(), w.by, n.ID, at("2026-11-10T12:30:00Z")); err != nil || x.EndedMS != at("2026-11-10T13:00:01Z") {
		t.Errorf("an end in the past is now: %s %v", text(x.EndedMS), err)
	}
	_, err = w.store.EndExcuse(t.Context(), w.by, n.ID, at("2026-11-10T16:00:00Z"))
	refused(t, err, 409, "not lengthened")
	w.is("2026-11-10T14:00:00Z")
	if x, err = w.store.EndExcuse(t.Context(), w.by, n.ID, at("2026-11-10T12:30:00Z")); err != nil || x.EndedMS != at("2026-11-10T13:00:01Z") {
		t.Errorf("repeated: %s %v", text(x.EndedMS), err)
	}
	_, err = w.store.EndExcuse(t.Context(), w.by, uuid.New(), at("2026-11-10T15:00:00Z"))
	refused(t, err, 404)

	// One that has not begun is called off.
	n = NewExcuse{Kind: sla.Maintenance, Site: site, FromMS: at("2026-11-20T00:00:00Z"), ToMS: at("2026-11-20T06:00:00Z")}
	if x, err = w.store.Excuse(t.Context(), w.by, n); err != nil {
		t.Fatal(err)
	}
	_, err = w.store.EndExcuse(t.Context(), w.by, uuid.UUID(x.ID), at("2026-11-19T23:59:59Z"))
	refused(t, err, 422, "calls it off")
	if x, err = w.store.EndExcuse(t.Context(), w.by, uuid.UUID(x.ID), at("2026-11-20T00:00:00Z")); err != nil || x.EndedMS != x.FromMS {
		t.Fatalf("%+v %v", x, err)
	}
	all, err := w.store.Excuses(t.Context(), nil, []ident.SiteID{site}, at("2026-11-10T15:30:00Z"), at("2026-11-10T15:35:00Z"))
	if err != nil || len(all) != 3 || all[0].Ends != (ident.UUID{}) || all[1].Ends != all[0].ID || all[2].Ends != all[0].ID || all[2].ToMS != at("2026-11-10T13:00:01Z") || all[2].RecordedMS != all[2].ToMS {
		t.Errorf("a window comes with what shortens it: %+v %v", all, err)
	}
	for i := range all {
		if err := all[i].Check(); err != nil {
			t.Errorf("record %d: %v", i, err)
		}
	}
	if got := strings.Join(w.actions()[3:], " "); got != "excuse_recorded excuse_ended excuse_ended excuse_recorded excuse_ended" {
		t.Errorf("audit log: %s", got)
	}
}

func TestACustomerSeesItsOwnOfExcuses(t *testing.T) {
	w := newWorld(t)
	site, m := w.site("North", 3)
	south, s := w.site("South", 1)
	mine, theirs := w.customer("Acme"), w.customer("Other")
	acme, other := w.contract(mine, "Hall 1"), w.contract(theirs, "Hall 9")
	w.assign(acme, order(site, m[0], "2026-11-01T00:00:00Z", "2026-11-15T00:00:00Z"))
	w.assign(other, order(site, m[1], "2026-11-01T00:00:00Z", ""), order(south, s[0], "2026-11-01T00:00:00Z", ""))
	record := func(site ident.SiteID, from, to string, miners ...ident.MinerID) uuid.UUID {
		t.Helper()
		x, err := w.store.Excuse(t.Context(), w.by, NewExcuse{Kind: sla.Maintenance, Site: site, Miners: miners, FromMS: at(from), ToMS: at(to)})
		if err != nil {
			t.Fatal(err)
		}
		return uuid.UUID(x.ID)
	}
	whole := record(site, "2026-11-12T00:00:00Z", "2026-11-12T01:00:00Z")
	shared := record(site, "2026-11-12T02:00:00Z", "2026-11-12T03:00:00Z", m...)
	record(site, "2026-11-12T04:00:00Z", "2026-11-12T05:00:00Z", m[1], m[2]) // not its miner
	record(site, "2026-11-15T00:00:00Z", "2026-11-15T01:00:00Z")             // its miner has left
	record(south, "2026-11-12T00:00:00Z", "2026-11-12T01:00:00Z")            // not its site
	list, err := w.store.ListExcuses(t.Context(), ListedExcuses{Customer: mine, Limit: 10})
	if err != nil || len(list) != 2 || list[0].ID != ident.UUID(shared) || list[1].ID != ident.UUID(whole) {
		t.Fatalf("%+v %v", list, err)
	}
	if !slices.Equal(list[0].Miners, m[:1]) || list[0].RecordedBy != "" || len(list[1].Miners) != 0 || len(list[0].Judged) != 1 || list[0].Judged[0].Contract != acme {
		t.Errorf("%+v", list[0])
	}
	_, err = w.store.ListExcuses(t.Context(), ListedExcuses{Customer: mine, Site: south, Limit: 10})
	unknown := ident.NewSiteID()
	_, err2 := w.store.ListExcuses(t.Context(), ListedExcuses{Customer: mine, Site: unknown, Limit: 10})
	refused(t, err, 404)
	refused(t, err2, 404)
	if strings.ReplaceAll(err.Error(), south.String(), "") != strings.ReplaceAll(err2.Error(), unknown.String(), "") {
		t.Errorf("another customer's site and one that is none can be told apart: %v, %v", err, err2)
	}
	all, err := w.store.ListExcuses(t.Context(), ListedExcuses{Limit: 3})
	if err != nil || len(all) != 3 {
		t.Fatalf("%+v %v", all, err)
	}
	rest, err := w.store.ListExcuses(t.Context(), ListedExcuses{Limit: 10, After: ExcusePlace{FromMS: all[2].FromMS, ID: uuid.UUID(all[2].ID)}})
	if err != nil || len(rest) != 2 {
		t.Errorf("second page: %+v %v", rest, err)
	}
}

// Nothing is unbounded: one order of the most miners there may be, and all of it in the audit log.
func TestTheLargestOrder(t *testing.T) {
	w := newWorld(t)
	site, m := w.site("North", MaxBatch)
	c := w.contract(w.customer("Acme"), "Hall 1")
	list := make([]NewAssignment, len(m))
	for i := range m {
		list[i] = order(site, m[i], "2026-11-01T00:00:00Z", "")
	}
	begin := time.Now()
	made := w.assign(c, list...)
	t.Logf("%d miners assigned in %s", len(made), time.Since(begin))
	ids := make([]uuid.UUID, len(made))
	for i := range made {
		ids[i] = uuid.UUID(made[i].ID)
	}
	for name, miners := range map[string][]ident.MinerID{"named": m[:MaxExcused], "all": nil} {
		begin = time.Now()
		x, err := w.store.Excuse(t.Context(), w.by, NewExcuse{Kind: sla.Maintenance, Site: site, Miners: miners, FromMS: at("2026-11-12T00:00:00Z"), ToMS: at("2026-11-12T01:00:00Z")})
		if err != nil || len(x.Judged) != 1 {
			t.Fatalf("%+v %v", x, err)
		}
		t.Logf("excuse of %s of them in %s", name, time.Since(begin))
	}
	begin = time.Now()
	if _, err := w.store.EndAssignments(t.Context(), w.by, c, ids, 0); err != nil {
		t.Fatal(err)
	}
	t.Logf("ended in %s", time.Since(begin))
	var named, dropped int
	if err := w.pool.QueryRow(t.Context(), `SELECT coalesce(sum(jsonb_array_length(convert_from(details::text::bytea, 'UTF8')::jsonb -> 'assignments')), 0),
		count(*) FILTER (WHERE details::text LIKE '%dropped%') FROM audit_pending WHERE action LIKE 'contract_miners%'`).Scan(&named, &dropped); err != nil || named != 2*MaxBatch || dropped != 0 {
		t.Errorf("the audit log names %d assignments, %d entries lack their details: %v", named, dropped, err)
	}
	sum, err := w.store.Summary(t.Context(), c)
	if err != nil || sum.Miners != 0 || len(sum.Sites) != 1 || sum.Sites[0].Name != "North" || sum.Terms.RateMHs != rate {
		t.Errorf("%+v %v", sum, err)
	}
	gaps, more, err := w.store.Gaps(t.Context(), c, uuid.Nil)
	if err != nil || len(gaps) != MaxGaps || !more {
		t.Errorf("%d gaps, more %t: %v", len(gaps), more, err)
	}
	place, seen := AssignmentPlace{}, 0
	for {
		page, err := w.store.ListAssignments(t.Context(), c, at("2026-11-02T00:00:00Z"), place, MaxPage)
		if err != nil {
			t.Fatal(err)
		}
		seen += len(page)
		if len(page) < MaxPage {
			break
		}
		last := page[len(page)-1]
		place = AssignmentPlace{Site: last.Site, Miner: last.Miner, FromMS: last.FromMS, ID: uuid.UUID(last.ID)}
	}
	if seen != MaxBatch {
		t.Errorf("%d listed", seen)
	}
}
