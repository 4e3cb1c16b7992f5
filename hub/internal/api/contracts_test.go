package api

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/hashinsight/hashinsight/hub/internal/access"
	"github.com/hashinsight/hashinsight/hub/internal/customer"
	"github.com/hashinsight/hashinsight/hub/internal/fleet"
	"github.com/hashinsight/hashinsight/hub/internal/pg"
	"github.com/hashinsight/hashinsight/hub/internal/sla"
	"github.com/hashinsight/hashinsight/pkg/ident"
)

// party is a customer with a contract, a site of its own with one miner, and an excuse for it.
type party struct {
	name                                   string
	customer, contract, assignment, excuse uuid.UUID
	statement                              string // hash; where the test has made one
	site                                   ident.SiteID
	miner                                  ident.MinerID
}

// marks are texts that name the party: another one's answers hold none of them.
func (p *party) marks() []string {
	marks := []string{p.name, p.customer.String(), p.contract.String(), p.assignment.String(), p.excuse.String(), p.site.String(), p.miner.String()}
	if p.statement != "" {
		marks = append(marks, p.statement)
	}
	return marks
}

func (w *world) party(name string) party {
	w.t.Helper()
	p := party{name: name, site: ident.NewSiteID(), miner: ident.NewMinerID()}
	ctx, by, now := w.t.Context(), access.CommandLine(), w.clock.now()
	must := func(err error) {
		w.t.Helper()
		if err != nil {
			w.t.Fatal(err)
		}
	}
	key, _, err := ed25519.GenerateKey(nil)
	must(err)
	must(pg.InTx(ctx, w.pool, func(tx pgx.Tx) error {
		if err := fleet.RegisterSite(ctx, tx, fleet.Registration{Site: p.site, Name: "Site of " + name, Key: key, At: now}); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, `INSERT INTO miner (site_id, id, address, first_seen_at, info_at) VALUES ($1, $2, '10.7.7.7:4028', $3, $3)`, p.site, p.miner, now)
		return err
	}))
	c, err := w.customers.AddCustomer(ctx, by, name)
	must(err)
	terms := sla.DefaultTerms()
	terms.RateMHs, terms.FromMS = 100_000_000, now.Truncate(24*time.Hour).UnixMilli()
	k, _, err := w.customers.AddContract(ctx, by, c.ID, "Hall of "+name, terms)
	must(err)
	a, err := w.customers.Assign(ctx, by, k.ID, []customer.NewAssignment{{Site: p.site, Miner: p.miner, FromMS: terms.FromMS}})
	must(err)
	x, err := w.customers.Excuse(ctx, by, customer.NewExcuse{
		Kind: sla.Maintenance, Site: p.site, FromMS: now.Add(48 * time.Hour).UnixMilli(), ToMS: now.Add(50 * time.Hour).UnixMilli(), Note: "for " + name,
	})
	must(err)
	p.customer, p.contract, p.assignment, p.excuse = c.ID, k.ID, uuid.UUID(a[0].ID), uuid.UUID(x.ID)
	return p
}

// customerKey makes a key of a customer through the API.
func (w *world) customerKey(customer uuid.UUID) NewAPIKey {
	w.t.Helper()
	res, body := w.send("POST", "/api/apikeys", w.owner, `{"name":"theirs","customer_id":"`+customer.String()+`"}`)
	var k NewAPIKey
	if res.StatusCode != http.StatusCreated || json.Unmarshal(body, &k) != nil {
		w.t.Fatalf("%d %s", res.StatusCode, body)
	}
	return k
}

// value is what a request asks for in a parameter: of a party, or, for nil, of nobody. ok is false for a parameter that nobody has thought of.
func value(name, path string, of *party) (text string, id, ok bool) {
	pick := func(f func(*party) string) string {
		if of == nil {
			return uuid.NewString()
		}
		return f(of)
	}
	switch {
	case name == "customer_id":
		return pick(func(p *party) string { return p.customer.String() }), true, true
	case name == "contract_id", name == "id" && strings.HasPrefix(path, "/api/contracts/"):
		return pick(func(p *party) string { return p.contract.String() }), true, true
	case name == "site_id", name == "site":
		return pick(func(p *party) string { return p.site.String() }), true, true
	case name == "miner_id", name == "miner":
		return pick(func(p *party) string { return p.miner.String() }), true, true
	case name == "hash":
		if of == nil {
			return strings.ReplaceAll(uuid.NewString()+uuid.NewString(), "-", ""), true, true
		}
		return of.statement, true, true
	case name == "month":
		return "2026-05", false, true
	case name == "day", name == "from_day", name == "to_day":
		return "2026-05-01", false, true
	case name == "hour":
		return "2026-05-01T11:00:00Z", false, true
	case name == "spool_id":
		return "", false, true // the only one
	case name == "at", name == "from":
		return "2026-05-01T11:00:00Z", false, true
	case name == "to":
		return "2026-05-31T00:00:00Z", false, true
	case name == "limit":
		return "50", false, true
	case name == "cursor":
		return "", false, true // of a page that there is not
	}
	return "", false, false
}

// ask puts a request for an operation together; whose says of whom each parameter that is an id is asked.
func ask(t *testing.T, path string, op *huma.Operation, whose map[string]*party) string {
	t.Helper()
	q := url.Values{}
	for _, p := range op.Parameters {
		text, id, ok := value(p.Name, path, whose[p.Name])
		switch {
		case !ok:
			t.Fatalf("%s takes %s: say in func value what a test asks there", path, p.Name)
		case id:
			if _, asked := whose[p.Name]; !asked {
				continue
			}
		}
		if p.In == "path" {
			path = strings.ReplaceAll(path, "{"+p.Name+"}", text)
		} else if text != "" {
			q.Set(p.Name, text)
		}
	}
	if len(q) > 0 {
		path += "?" + q.Encode()
	}
	return path
}

// Every operation there is, asked with the key of a customer and every combination of another customer's ids: they answer as ids of nobody do, and no
// answer holds a trace of the other.
func TestACustomersKeyReadsNothingOfOthers(t *testing.T) {
	w := newWorld(t)
	mine, theirs := w.party("Acme"), w.party("Umbra")
	mine.statement, theirs.statement = w.statementOf(&mine), w.statementOf(&theirs)
	key := w.customerKey(mine.customer)
	cookie, _, _ := w.signIn(key.Key)
	allowed := access.CustomerPermissions()
	trace := func(t *testing.T, target string, body []byte) {
		t.Helper()
		for _, mark := range theirs.marks() {
			if bytes.Contains(body, []byte(mark)) && !strings.Contains(target, mark) {
				t.Errorf("%s: the answer tells of the other customer (%s): %s", target, mark, body)
			}
		}
	}
	tried := 0
	for path, item := range w.server.api.OpenAPI().Paths {
		for method, op := range map[string]*huma.Operation{"GET": item.Get, "POST": item.Post, "PUT": item.Put, "PATCH": item.Patch, "DELETE": item.Delete} {
			if op == nil {
				continue
			}
			who, _ := op.Extensions[permissionExtension].(string)
			if who == string(anyone) || who == string(signedIn) || who == string(ofTheLog) { // the log tells everyone the same
				continue
			}
			t.Run(method+" "+path, func(t *testing.T) {
				if !slices.Contains(allowed, access.Permission(who)) {
					target := strings.ReplaceAll(path, "{id}", theirs.contract.String())
					for _, headers := range [][]string{{"Authorization", "Bearer " + key.Key}, {"Cookie", cookie.Name + "=" + cookie.Value}} {
						res, body := w.request(method, target, bodies[method+" "+path], append(headers, "Content-Type", "application/json")...)
						wantProblem(t, res, body, http.StatusForbidden, "AUTH_002")
						trace(t, target, body)
					}
					return
				}
				var ids, required []string
				for _, p := range op.Parameters {
					if _, id, _ := value(p.Name, path, nil); id {
						ids = append(ids, p.Name)
						if p.Required {
							required = append(required, p.Name)
						}
					}
				}
				own := map[string]*party{}
				for _, name := range required {
					own[name] = &mine
				}
				target := ask(t, path, op, own)
				res, body := w.send(method, target, key.Key, "")
				if res.StatusCode != http.StatusOK && !strings.Contains(string(body), "does not have the log") {
					t.Errorf("%s of its own: %d %s", target, res.StatusCode, body)
				}
				trace(t, target, body)
				for set := 1; set < 1<<len(ids); set++ {
					whose, nobodys := maps.Clone(own), maps.Clone(own)
					for i, name := range ids {
						if set&(1<<i) != 0 {
							whose[name], nobodys[name] = &theirs, nil
						}
					}
					target, none := ask(t, path, op, whose), ask(t, path, op, nobodys)
					res, body := w.send(method, target, key.Key, "")
					p := wantProblem(t, res, body, http.StatusNotFound, "NOTFOUND_001")
					trace(t, target, body)
					res, body = w.send(method, none, key.Key, "")
					unknown := wantProblem(t, res, body, http.StatusNotFound, "NOTFOUND_001")
					if a, b := withoutIDs(p.Detail), withoutIDs(unknown.Detail); a != b {
						t.Errorf("%s: %q and of nobody's ids %q: they can be told apart", target, p.Detail, unknown.Detail)
					}
					tried++
				}
			})
		}
	}
	if tried < 4 {
		t.Errorf("only %d combinations of another customer's ids were tried", tried)
	}
}

// withoutIDs is a text with every id in it made the same.
func withoutIDs(s string) string {
	words := strings.FieldsFunc(s, func(r rune) bool { return r == ' ' || r == ':' || r == ',' || r == '"' })
	for i, word := range words {
		if _, err := uuid.Parse(word); err == nil {
			words[i] = "ID"
		}
	}
	return strings.Join(words, " ")
}

func TestACustomersKeyIsNeverWider(t *testing.T) {
	w := newWorld(t)
	mine, theirs := w.party("Acme"), w.party("Umbra")
	for name, c := range map[string]struct {
		order  string
		status int
	}{
		"more than a customer may":     {`{"name":"x","customer_id":"` + mine.customer.String() + `","permissions":["contracts:read","sites:read"]}`, 422},
		"making keys":                  {`{"name":"x","customer_id":"` + mine.customer.String() + `","permissions":["apikeys:write"]}`, 422},
		"everything":                   {`{"name":"x","customer_id":"` + mine.customer.String() + `","permissions":["owner"]}`, 422},
		"of a customer that is not":    {`{"name":"x","customer_id":"` + uuid.NewString() + `"}`, 404},
		"of something that is no id":   {`{"name":"x","customer_id":"Acme"}`, 422},
		"of an operator's key, a copy": {`{"copy_from":"` + w.keyID(w.key("contracts:read")) + `","customer_id":"` + mine.customer.String() + `"}`, 422},
	} {
		t.Run(name, func(t *testing.T) {
			if res, body := w.send("POST", "/api/apikeys", w.owner, c.order); res.StatusCode != c.status {
				t.Errorf("%d %s", res.StatusCode, body)
			}
		})
	}
	k := w.customerKey(mine.customer)
	if k.CustomerID != mine.customer.String() || k.CustomerName != "Acme" || !slices.Equal(k.Permissions, []string{"contracts:read", "sla:read", "statements:read"}) {
		t.Errorf("%+v", k)
	}
	// A copy stays that customer's, and goes to no other.
	res, body := w.send("POST", "/api/apikeys", w.owner, `{"copy_from":"`+k.ID+`","customer_id":"`+theirs.customer.String()+`"}`)
	if res.StatusCode != http.StatusUnprocessableEntity {
		t.Errorf("%d %s", res.StatusCode, body)
	}
	res, body = w.send("POST", "/api/apikeys", w.owner, `{"copy_from":"`+k.ID+`","permissions":["sites:read"]}`)
	if res.StatusCode != http.StatusUnprocessableEntity {
		t.Errorf("%d %s", res.StatusCode, body)
	}
	res, body = w.send("POST", "/api/apikeys", w.owner, `{"copy_from":"`+k.ID+`"}`)
	var c NewAPIKey
	if res.StatusCode != http.StatusCreated || json.Unmarshal(body, &c) != nil || c.CustomerID != k.CustomerID {
		t.Fatalf("%d %s", res.StatusCode, body)
	}
	// Who may not read all contracts cannot give a key that reads one customer's.
	res, body = w.send("POST", "/api/apikeys", w.key("apikeys:write"), `{"name":"x","customer_id":"`+mine.customer.String()+`"}`)
	wantProblem(t, res, body, http.StatusForbidden, "AUTH_002")
	// The database keeps it so, whoever writes.
	if _, err := w.pool.Exec(t.Context(), `UPDATE api_key SET permissions = '{owner}' WHERE id = $1`, uuid.MustParse(c.ID)); err == nil || !strings.Contains(err.Error(), "api_key_customer") {
		t.Errorf("a customer's key was made the owner's: %v", err)
	}
	// And were it not so, the key would do no more.
	p := access.Principal{Granted: []access.Permission{access.Owner}, Customer: mine.customer}
	if got := p.Permissions(); !slices.Equal(got, access.CustomerPermissions()) || p.May(access.Owner) {
		t.Errorf("%v", got)
	}
	res, body = w.send("GET", "/api/apikeys", w.owner, "")
	if list := want[APIKeyList](t, res, body); !slices.ContainsFunc(list.Items, func(k APIKey) bool { return k.CustomerID == mine.customer.String() }) { // made in one millisecond, they come in any order
		t.Errorf("the list does not say whose keys: %s", body)
	}
	res, body = w.get("/api/audit?category=api_key")
	if log := want[AuditList](t, res, body); log.Items[0].Details["customer_id"] != mine.customer.String() {
		t.Errorf("%s", body)
	}
}

// The page's session and a client certificate carry the customer as the key itself does.
func TestEveryWayInCarriesTheCustomer(t *testing.T) {
	check := func(t *testing.T, mine, theirs party, ask func(path string) (*http.Response, []byte)) {
		t.Helper()
		for range 2 { // looked up, and remembered
			res, body := ask("/api/session")
			if s := want[SessionInfo](t, res, body); s.CustomerID != mine.customer.String() || s.CustomerName != "Acme" || len(s.Permissions) != 3 {
				t.Errorf("%s", body)
			}
			res, body = ask("/api/contracts")
			if list := want[ContractList](t, res, body); len(list.Items) != 1 || list.Items[0].ID != mine.contract.String() {
				t.Errorf("%s", body)
			}
			res, body = ask("/api/contracts/" + theirs.contract.String())
			wantProblem(t, res, body, http.StatusNotFound, "NOTFOUND_001")
			res, body = ask("/api/sites")
			wantProblem(t, res, body, http.StatusForbidden, "AUTH_002")
		}
	}
	w := newWorld(t)
	mine, theirs := w.party("Acme"), w.party("Umbra")
	key := w.customerKey(mine.customer).Key
	cookie, _, _ := w.signIn(key)
	check(t, mine, theirs, func(path string) (*http.Response, []byte) { return w.send("GET", path, key, "") })
	check(t, mine, theirs, func(path string) (*http.Response, []byte) {
		return w.request("GET", path, "", "Cookie", cookie.Name+"="+cookie.Value)
	})

	ca := newTestCA(t)
	w = newWorldOn(t, newListener(t), func(c *Config) { c.TLS = ca.webTLS(true) })
	mine, theirs = w.party("Acme"), w.party("Umbra")
	reader := ca.sign("reader.example.net")
	order := `{"name":"reader","customer_id":"` + mine.customer.String() + `","certificate":"dn:CN=reader.example.net,O=Example"}`
	if res, body, err := w.asked(ca, nil, "POST", "/api/apikeys", w.owner, order); err != nil || res.StatusCode != http.StatusCreated {
		t.Fatalf("%v %s", err, body)
	}
	check(t, mine, theirs, func(path string) (*http.Response, []byte) {
		res, body, err := w.asked(ca, &reader, "GET", path, "", "")
		if err != nil {
			t.Fatal(err)
		}
		return res, body
	})
}

func TestContractsThroughTheAPI(t *testing.T) {
	w := newWorld(t)
	miners := w.miners(3)
	made := func(method, path, body string, status int) []byte {
		t.Helper()
		res, answer := w.send(method, path, w.owner, body)
		if res.StatusCode != status {
			t.Fatalf("%s %s %s: %d %s", method, path, body, res.StatusCode, answer)
		}
		return answer
	}
	decode := func(b []byte, v any) {
		t.Helper()
		if err := json.Unmarshal(b, v); err != nil {
			t.Fatalf("%v in %s", err, b)
		}
	}
	var c Customer
	decode(made("POST", "/api/customers", `{"name":"Acme"}`, 201), &c)
	if p := made("POST", "/api/customers", `{"name":"Acme"}`, 409); !bytes.Contains(p, []byte(c.ID)) {
		t.Errorf("the customer that has the name is not told: %s", p)
	}
	var k ContractDetail
	decode(made("POST", "/api/contracts", `{"customer_id":"`+c.ID+`","name":"Hall 1","terms":{"rate_mhs":100000000,"target_ppm":960000,"from":"2026-05-01T00:00:00Z"}}`, 201), &k)
	terms := k.Versions[0].Terms
	if k.CustomerName != "Acme" || k.Version != 1 || terms.RateMHS != 100_000_000 || terms.Unknown != "down" || terms.MaintenanceNoticeS != 86_400 || len(terms.Tiers) != 1 || len(k.Versions[0].Hash) != 64 {
		t.Errorf("%+v", k)
	}
	if p := made("POST", "/api/contracts", `{"customer_id":"`+c.ID+`","name":"Hall 1","terms":{"rate_mhs":1}}`, 409); !bytes.Contains(p, []byte(k.ID)) {
		t.Errorf("the contract that has the name is not told: %s", p)
	}
	for _, bad := range []string{
		`{"customer_id":"` + c.ID + `","name":"Hall 2","terms":{}}`,
		`{"customer_id":"` + c.ID + `","name":"Hall 2","terms":{"rate_mhs":1,"from":"1970-01-01T00:00:00Z"}}`,
		`{"customer_id":"` + c.ID + `","name":"Hall 2","terms":{"rate_mhs":1,"from":"yesterday"}}`,
		`{"customer_id":"` + c.ID + `","name":"Hall 2","terms":{"rate_mhs":1,"metric":"luck"}}`,
		`{"customer_id":"` + c.ID + `","name":"Hall 2","terms":{"rate_mhs":1,"fee_minor":5}}`,
		`{"customer_id":"` + c.ID + `","name":"Hall 2","terms":{"rate_mhs":1,"discount":5}}`,
		`{"customer_id":"` + c.ID + `","name":"` + strings.Repeat("x", 101) + `","terms":{"rate_mhs":1}}`,
	} {
		made("POST", "/api/contracts", bad, 422)
	}
	path := "/api/contracts/" + k.ID
	// What an amendment does not name stays.
	decode(made("POST", path+"/versions", `{"terms":{"theta_ppm":900000,"from":"2026-06-01T00:00:00Z"}}`, 201), &k)
	if v := k.Versions; len(v) != 2 || v[1].Terms.ThetaPPM != 900_000 || v[1].Terms.TargetPPM != 960_000 || v[1].RecordedBy == "" || k.Version != 1 {
		t.Errorf("%+v", k)
	}
	made("POST", path+"/versions", `{"terms":{"theta_ppm":900001,"from":"2026-06-01T00:00:00Z"}}`, 409)

	one := func(m ident.MinerID, rest string) string {
		return `{"site_id":"` + w.site.String() + `","miner_id":"` + m.String() + `","from":"2026-05-01T00:00:00Z"` + rest + `}`
	}
	var a AssignmentsMade
	decode(made("POST", path+"/miners", `{"miners":[`+one(miners[0], "")+`,`+one(miners[1], `,"to":"2026-05-02T00:00:00+02:00","rate_mhs":5`)+`]}`, 201), &a)
	if len(a.Items) != 2 {
		t.Fatalf("%+v", a)
	}
	for _, x := range a.Items {
		if x.MinerID == miners[1].String() && (x.To == nil || x.To.Format(time.RFC3339) != "2026-05-01T22:00:00Z" || x.RateMHS != 5) || x.Address == "" || x.SiteName != "North" {
			t.Errorf("%+v", x)
		}
	}
	made("POST", path+"/miners", `{"miners":[`+one(miners[0], `,"to":"2026-05-02T00:00:00Z"`)+`]}`, 409)
	made("POST", path+"/miners", `{"miners":[`+one(ident.NewMinerID(), "")+`]}`, 422)
	made("POST", path+"/miners", `{"miners":[]}`, 422)
	var ids []string
	next := ""
	for range 5 {
		res, body := w.get(path + "/miners?limit=1&cursor=" + next)
		page := want[AssignmentList](t, res, body)
		for _, x := range page.Items {
			ids = append(ids, x.ID)
		}
		if next = page.Next; next == "" {
			break
		}
	}
	if len(ids) != 2 || ids[0] == ids[1] {
		t.Errorf("pages: %v", ids)
	}
	res, body := w.get(path + "/miners?at=2026-05-01T23:00:00Z")
	if page := want[AssignmentList](t, res, body); len(page.Items) != 1 || page.Items[0].MinerID != miners[0].String() {
		t.Errorf("%s", body)
	}
	for _, bad := range []string{"/miners?at=now", "/miners?cursor=x", "/miners?cursor=a.b.c.d"} {
		res, body := w.get(path + bad)
		wantProblem(t, res, body, http.StatusBadRequest, "VALID_001")
	}
	for i := range a.Items {
		if x := a.Items[i]; x.MinerID == miners[0].String() {
			if p := made("POST", path+"/miners/end", `{"assignment_ids":["`+x.ID+`"],"at":"2026-05-01T06:00:00Z"}`, 409); !bytes.Contains(p, []byte("stays owed")) {
				t.Errorf("%s", p)
			}
			var ended AssignmentsMade
			decode(made("POST", path+"/miners/end", `{"assignment_ids":["`+x.ID+`"]}`, 200), &ended)
			if e := ended.Items[0]; e.To == nil || e.EndedAt == nil || !e.EndedAt.Equal(e.To.Time) || !e.To.Equal(w.clock.now().Truncate(time.Millisecond)) {
				t.Errorf("%+v", e)
			}
		}
	}
	made("POST", path+"/miners/end", `{"assignment_ids":["`+uuid.NewString()+`"],"at":"2026-05-01T06:00:00Z"}`, 404)
	res, body = w.get(path)
	k = want[ContractDetail](t, res, body)
	if len(k.Gaps) != 1 || k.Gaps[0].MinerID != miners[0].String() || k.Gaps[0].To != nil || !k.Gaps[0].From.After(k.Versions[0].Terms.From.Add(12*time.Hour-time.Second)) || k.Miners != 1 ||
		len(k.Sites) != 1 || k.Sites[0].Name != "North" {
		t.Errorf("%s", body)
	}

	// It is 12:00 on the 1st: maintenance tomorrow is announced in time, in an hour it is not, and the answer says by which term.
	excuse := func(kind, from, to, more string, status int) (x Excuse) {
		t.Helper()
		decode(made("POST", "/api/excuses", `{"kind":"`+kind+`","site_id":"`+w.site.String()+`","from":"`+from+`","to":"`+to+`"`+more+`}`, status), &x)
		return x
	}
	id := uuid.NewString()
	late := excuse("maintenance", "2026-05-01T13:00:00Z", "2026-05-01T15:00:00Z", `,"id":"`+id+`","note":"fans"`, 201)
	if late.ID != id || len(late.Contracts) != 1 || late.Contracts[0].Honoured || late.Contracts[0].Why != "short_notice" || late.Contracts[0].Term != "maintenance_notice_s" ||
		late.Contracts[0].ContractID != k.ID || late.Contracts[0].RecordBy.Format(time.RFC3339) != "2026-04-30T13:00:00Z" {
		t.Errorf("%+v", late)
	}
	w.clock.advance(time.Minute)
	if again := excuse("maintenance", "2026-05-01T13:00:00Z", "2026-05-01T15:00:00Z", `,"id":"`+id+`","note":"fans"`, 201); again.RecordedAt != late.RecordedAt {
		t.Errorf("repeated: %+v", again)
	}
	excuse("maintenance", "2026-05-01T13:00:00Z", "2026-05-01T16:00:00Z", `,"id":"`+id+`","note":"fans"`, 409)
	excuse("maintenance", "2026-05-01T13:00:00Z", "2026-06-13T16:00:00Z", "", 422)
	excuse("weather", "2026-05-01T13:00:00Z", "2026-05-01T16:00:00Z", "", 422)
	ordered := excuse("curtailment", "2026-05-01T12:00:00Z", "2026-05-01T16:00:00Z", `,"miner_ids":["`+miners[1].String()+`"]`, 201)
	if len(ordered.Contracts) != 1 || !ordered.Contracts[0].Honoured {
		t.Errorf("%+v", ordered)
	}
	var ended Excuse
	decode(made("POST", "/api/excuses/"+ordered.ID+"/end", `{"at":"2026-05-01T14:00:00Z"}`, 200), &ended)
	if ended.EndedAt == nil || ended.EndedAt.Format(time.RFC3339) != "2026-05-01T14:00:00Z" {
		t.Errorf("%+v", ended)
	}
	made("POST", "/api/excuses/"+uuid.NewString()+"/end", `{"at":"2026-05-01T14:00:00Z"}`, 404)
	var seen []string
	next = ""
	for range 5 {
		res, body := w.get("/api/excuses?limit=1&site_id=" + w.site.String() + "&cursor=" + next)
		page := want[ExcuseList](t, res, body)
		for _, x := range page.Items {
			seen = append(seen, x.ID)
		}
		if next = page.Next; next == "" {
			break
		}
	}
	if !slices.Equal(seen, []string{late.ID, ordered.ID}) {
		t.Errorf("excuses: %v", seen)
	}
	res, body = w.get("/api/excuses?from=2026-05-02T00:00:00Z")
	if list := want[ExcuseList](t, res, body); len(list.Items) != 0 {
		t.Errorf("%s", body)
	}
	res, body = w.get("/api/excuses?site_id=" + uuid.NewString())
	wantProblem(t, res, body, http.StatusNotFound, "NOTFOUND_001")

	// The customer's key sees the note, its miners and its contract; not who recorded it, nor addresses.
	key := w.customerKey(uuid.MustParse(c.ID))
	res, body = w.send("GET", "/api/excuses", key.Key, "")
	if list := want[ExcuseList](t, res, body); len(list.Items) != 2 || list.Items[0].RecordedBy != "" || list.Items[0].Note != "fans" || len(list.Items[0].Contracts) != 1 {
		t.Errorf("%s", body)
	}
	res, body = w.send("GET", path+"/miners", key.Key, "")
	if list := want[AssignmentList](t, res, body); len(list.Items) != 2 || list.Items[0].Address != "" {
		t.Errorf("%s", body)
	}
	res, body = w.send("GET", path, key.Key, "")
	if k := want[ContractDetail](t, res, body); k.Versions[0].RecordedBy != "" || len(k.Gaps) != 0 {
		t.Errorf("%s", body)
	}
}
