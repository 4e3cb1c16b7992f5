package api

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/hashinsight/hashinsight/hub/internal/access"
	"github.com/hashinsight/hashinsight/hub/internal/customer"
	"github.com/hashinsight/hashinsight/hub/internal/sla"
	"github.com/hashinsight/hashinsight/pkg/evidence"
	"github.com/hashinsight/hashinsight/pkg/ident"
)

// closedMonth is a contract with one miner and a statement for March 2026, in which nothing came from its site.
type closedMonth struct {
	contract uuid.UUID
	site     ident.SiteID
	miner    ident.MinerID
	hash     string
}

// closedMonth makes one. An hour that is judged afterwards gives a restatement something to say.
func (w *world) closedMonth() closedMonth {
	w.t.Helper()
	ctx, by := w.t.Context(), access.Actor{ID: "test"}
	must := func(err error) {
		w.t.Helper()
		if err != nil {
			w.t.Fatal(err)
		}
	}
	m := closedMonth{site: w.site, miner: w.miners(1)[0]}
	march := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	u, err := w.customers.AddCustomer(ctx, by, "Customer "+m.miner.String())
	must(err)
	terms := sla.DefaultTerms()
	terms.FromMS, terms.RateMHs = march.UnixMilli(), 100_000_000
	c, _, err := w.customers.AddContract(ctx, by, u.ID, "Hosting", terms)
	must(err)
	m.contract = c.ID
	_, err = w.customers.Assign(ctx, by, c.ID, []customer.NewAssignment{{Site: m.site, Miner: m.miner, FromMS: march.UnixMilli()}})
	must(err)
	hash, err := w.statements.Issue(ctx, c.ID, sla.MonthOf(march.UnixMilli()))
	must(err)
	must(w.statements.Update(ctx, w.clock.now()))
	m.hash = hex.EncodeToString(hash[:])
	one := sha256.Sum256([]byte(m.hash))
	if _, err := w.pool.Exec(ctx, `
INSERT INTO site_hour (site_id, hour, spool_id, hour_spool, hour_seq, header_hash, root, leaves, first_seq, last_seq, state, reason, twice, skew_slots, received_at, look_at, complete_at, judged_at)
VALUES ($1, $2, $3, $3, 2, $4, $4, 1, 1, 1, 2, 'a test', false, 0, $5, $5, $5, $5)`,
		m.site, march.Unix()/3600, uuid.New(), one[:], march.Add(2*time.Hour)); err != nil {
		w.t.Fatal(err)
	}
	w.clock.advance(time.Minute)
	return m
}

// statementOf puts a statement for March 2026 beside a party's contract, as one that was issued long ago.
func (w *world) statementOf(p *party) string {
	w.t.Helper()
	month, issued := sla.NewCalendarMonth(2026, 3), time.Date(2026, 4, 5, 0, 0, 0, 0, time.UTC)
	terms := sla.DefaultTerms()
	terms.Contract, terms.Customer, terms.Version, terms.FromMS, terms.RateMHs = ident.UUID(p.contract), ident.UUID(p.customer), 1, month.FromMS(), 100_000_000
	var b []byte
	rules, err := sla.NewRules(sla.RulesInput{
		Engine: sla.EngineVersion, Month: month, AsOfMS: issued.UnixMilli(), Terms: []sla.Terms{terms},
		Assignments: []sla.Assignment{{ID: ident.UUID(uuid.New()), Contract: ident.UUID(p.contract), Site: p.site, Miner: p.miner, FromMS: month.ToMS() - 300_000}},
	})
	if err == nil {
		var day sla.DayResult
		if day, err = rules.Plan(sla.MinerKey{Site: p.site, Miner: p.miner}).Day((month+1).FirstDay()-1, nil); err == nil {
			var result sla.MonthResult
			if result, err = rules.Month([]sla.MinerDays{{MinerKey: sla.MinerKey{Site: p.site, Miner: p.miner}, Days: []sla.DaySums{day.DaySums}}}); err == nil {
				var st *sla.Statement
				if st, err = rules.NewStatement(&result, sla.Issue{}); err == nil {
					b = st.Canonical()
				}
			}
		}
	}
	if err != nil {
		w.t.Fatal(err)
	}
	hash, key := sha256.Sum256(b), w.pki.EvidencePublic()
	id := ident.KeyIDOf(key)
	if _, err := w.pool.Exec(w.t.Context(), `
INSERT INTO statement (hash, contract_id, customer_id, month, seq, bytes, signature, key_id, public_key, issued_at, reason, met, credit_bp, credit_minor, currency)
VALUES ($1, $2, $3, $4, 1, $5, $6, $7, $8, $9, '', false, 2500, 0, '')`,
		hash[:], p.contract, p.customer, int32(month), b, evidence.SignStatement(w.pki.EvidenceKey(), b), id[:], []byte(key), issued); err != nil {
		w.t.Fatal(err)
	}
	return hex.EncodeToString(hash[:])
}

// target is a path of an operation with the ids and what must be asked.
func (m closedMonth) target(path string) string {
	path = strings.NewReplacer("{id}", m.contract.String(), "{hash}", m.hash).Replace(path)
	if strings.HasSuffix(path, "/slots") || strings.HasSuffix(path, "/why") {
		path += "?site_id=" + m.site.String() + "&miner_id=" + m.miner.String()
	}
	if strings.Contains(path, "/why?") {
		path += "&at=2026-03-10T12:07:00Z"
	}
	return path
}

func TestAContractsMonthSlotBySlot(t *testing.T) {
	w := newWorld(t)
	m := w.closedMonth()
	base := "/api/contracts/" + m.contract.String()

	res, body := w.get(base + "/sla?month=2026-03")
	live := want[ContractSLA](t, res, body)
	if live.State != "closed" || live.Statement != m.hash || live.Slots.UnknownDown != 31*288 || live.Due != 31*288 || live.Missed != 31*288 || live.AvailabilityPPM == nil ||
		*live.AvailabilityPPM != 0 || live.Met == nil || *live.Met || live.Credit.BP != 2500 || len(live.BurnDown) != 31 || live.BurnDown[0].Day != "2026-03-01" {
		t.Errorf("March: %s", body)
	}
	res, body = w.get(base + "/sla?month=2026-04")
	if april := want[ContractSLA](t, res, body); april.State != "closing" || len(april.WaitingFor) == 0 || april.Statement != "" {
		t.Errorf("April: %s", body)
	}
	res, body = w.get(base + "/sla")
	if may := want[ContractSLA](t, res, body); may.Month != "2026-05" || may.State != "provisional" || may.Slots.Future == 0 || may.Slots.UnknownOpen == 0 || len(may.BurnDown) != 1 {
		t.Errorf("May: %s", body)
	}
	res, body = w.get(base + "/sla?month=2026-13")
	wantProblem(t, res, body, http.StatusBadRequest, "VALID_001")

	res, body = w.get(base + "/sla/miners?month=2026-03")
	if list := want[MinerSLAList](t, res, body); len(list.Items) != 1 || list.Items[0].MinerID != m.miner.String() || list.Items[0].Slots.UnknownDown != 31*288 {
		t.Errorf("miners: %s", body)
	}
	res, body = w.get(base + "/slots?site_id=" + m.site.String() + "&miner_id=" + m.miner.String() + "&from_day=2026-03-01&to_day=2026-03-31")
	if days := want[MinerDays](t, res, body); len(days.Items) != 31 || days.Items[30].Day != "2026-03-31" || days.Items[30].States != strings.Repeat("X", 288) {
		t.Errorf("slots: %.300s", body)
	}
	res, body = w.get(base + "/slots?site_id=" + m.site.String() + "&miner_id=" + m.miner.String() + "&from_day=2026-01-01&to_day=2026-03-31")
	wantProblem(t, res, body, http.StatusBadRequest, "VALID_001")
	res, body = w.get(base + "/slots/day?day=2026-05-01")
	// It is a minute past noon: the slot of noon is not over.
	if list := want[DayMiners](t, res, body); len(list.Items) != 1 || list.Items[0].States != strings.Repeat("?", 144)+strings.Repeat(" ", 144) {
		t.Errorf("a day's slots: %s", body)
	}
	res, body = w.get(m.target(base + "/why"))
	if why := want[Why](t, res, body); why.Letter != "X" || why.Rule != "no_record" || why.Needed != "24000000000" || why.Open || why.Terms == nil || why.Terms.Version != 1 ||
		why.Hour.State != "none" || why.RateMHs != 100_000_000 {
		t.Errorf("why: %s", body)
	}
	// The address in the site's network is the operator's business.
	res, body = w.get(base)
	key := w.customerKey(uuid.MustParse(want[ContractDetail](t, res, body).CustomerID))
	for _, path := range []string{"/sla/miners?month=2026-03", "/slots/day?day=2026-05-01"} {
		res, body = w.get(base + path)
		if list := want[DayMiners](t, res, body); list.Items[0].Name == "" {
			t.Errorf("%s does not name the miner to the operator: %s", path, body)
		}
		res, body = w.send("GET", base+path, key.Key, "")
		if list := want[DayMiners](t, res, body); len(list.Items) != 1 || list.Items[0].Name != "" {
			t.Errorf("%s to the customer: %s", path, body)
		}
	}
	for _, path := range []string{"/sla", "/sla/miners", "/slots/day"} {
		res, body = w.get("/api/contracts/" + uuid.NewString() + path)
		wantProblem(t, res, body, http.StatusNotFound, "NOTFOUND_001")
	}
}

func TestStatementsAreListedShownAndDownloadedAsSigned(t *testing.T) {
	w := newWorld(t)
	m := w.closedMonth()
	res, body := w.get("/api/statements?contract_id=" + m.contract.String())
	list := want[StatementList](t, res, body)
	if len(list.Items) != 1 || list.Items[0].Hash != m.hash || list.Items[0].ContractName != "Hosting" || list.Items[0].Credit.BP != 2500 {
		t.Fatalf("list: %s", body)
	}
	res, body = w.restate(m, `{"month":"2026-03","reason":"an hour was disputed"}`)
	if res.StatusCode != http.StatusCreated {
		t.Fatalf("restated: %d %s", res.StatusCode, body)
	}
	var st StatementDetail
	if err := json.Unmarshal(body, &st); err != nil {
		t.Fatal(err)
	}
	if st.Supersedes != m.hash || st.Seq != 2 || st.Changes == nil || st.Changes.Hours != 1 || st.Changes.CreditBP != 0 || !strings.HasPrefix(string(st.Content), `{"form":"hsi/statement/v1"`) {
		t.Errorf("restated: %.600s", body)
	}
	res, body = w.restate(m, `{"month":"2026-03","reason":"once more"}`)
	wantProblem(t, res, body, http.StatusConflict, "CONFLICT_001")
	res, body = w.get("/api/statements?contract_id=" + m.contract.String() + "&limit=1")
	page := want[StatementList](t, res, body)
	if len(page.Items) != 1 || page.Items[0].Hash != st.Hash || page.Next == "" {
		t.Fatalf("first page: %s", body)
	}
	res, body = w.get("/api/statements?contract_id=" + m.contract.String() + "&limit=1&cursor=" + page.Next)
	if page = want[StatementList](t, res, body); len(page.Items) != 1 || page.Items[0].Hash != m.hash || page.Items[0].SupersededBy != st.Hash || page.Next != "" {
		t.Errorf("second page: %s", body)
	}
	res, body = w.get("/api/statements/" + st.Hash + "/download")
	signature, err := hex.DecodeString(res.Header.Get("X-Statement-Signature"))
	if err != nil || evidence.VerifyStatement(w.pki.EvidencePublic(), body, signature) != nil || hex.EncodeToString(hashOf(body)) != st.Hash {
		t.Errorf("downloaded: %d, %v", res.StatusCode, err)
	}
	for _, path := range []string{"/api/statements/" + strings.Repeat("0", 64), "/api/statements/" + strings.Repeat("0", 64) + "/download"} {
		res, body = w.get(path)
		wantProblem(t, res, body, http.StatusNotFound, "NOTFOUND_001")
	}
}

func (w *world) restate(m closedMonth, body string) (*http.Response, []byte) {
	w.t.Helper()
	return w.request("POST", "/api/contracts/"+m.contract.String()+"/statements", body, "Authorization", "Bearer "+w.owner, "Content-Type", "application/json")
}

func hashOf(b []byte) []byte { h := sha256.Sum256(b); return h[:] }
