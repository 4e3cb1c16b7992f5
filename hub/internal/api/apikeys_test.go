package api

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/hashinsight/hashinsight/hub/internal/access"
)

func (w *world) send(method, path, key, body string) (*http.Response, []byte) {
	w.t.Helper()
	return w.request(method, path, body, "Authorization", "Bearer "+key, "Content-Type", "application/json")
}

func TestKeysAreMadeListedCopiedAndRevoked(t *testing.T) {
	w := newWorld(t)
	make := func(key, order string) NewAPIKey {
		t.Helper()
		res, body := w.send("POST", "/api/apikeys", key, order)
		var k NewAPIKey
		if res.StatusCode != http.StatusCreated || json.Unmarshal(body, &k) != nil {
			t.Fatalf("%d %s", res.StatusCode, body)
		}
		return k
	}
	first := make(w.owner, `{"name":"report","user_id":"7","permissions":["sites:read","apikeys:read"]}`)
	if !strings.HasPrefix(first.Key, "hsi_dev_key_") || first.State != "active" || first.ExpiresAt.Sub(first.CreatedAt.Time) != 90*24*time.Hour {
		t.Errorf("%+v", first)
	}
	res, body := w.send("GET", "/api/sites", first.Key, "")
	want[SiteList](t, res, body)
	copied := make(w.owner, `{"copy_from":"`+first.ID+`","expires_in_days":10}`)
	if copied.Name != "report" || copied.UserID != "7" || copied.State != "expiring" || copied.CopiedFrom != first.ID {
		t.Errorf("%+v", copied)
	}
	for _, k := range []string{first.Key, copied.Key} {
		res, body = w.send("GET", "/api/sites", k, "")
		want[SiteList](t, res, body)
	}
	// What a key that may only make keys cannot do.
	weak := make(w.owner, `{"name":"weak","permissions":["apikeys:write"]}`)
	for order, code := range map[string]int{
		`{"name":"x","permissions":["sites:read"]}`:                   http.StatusForbidden,
		`{"name":"x","permissions":["owner"]}`:                        http.StatusForbidden,
		`{"copy_from":"` + first.ID + `"}`:                            http.StatusForbidden,
		`{"name":"x","permissions":["apikeys:write"],"rate_limit":0}`: http.StatusForbidden,
		`{"name":"x","permissions":["nothing:read"]}`:                 http.StatusUnprocessableEntity,
		`{"name":"x"}`: http.StatusUnprocessableEntity,
		`{"name":"x","permissions":["apikeys:write"],"bootstrap":true}`: http.StatusUnprocessableEntity,
	} {
		res, body = w.send("POST", "/api/apikeys", weak.Key, order)
		if res.StatusCode != code {
			t.Errorf("%s: %d %s", order, res.StatusCode, body)
		}
	}
	res, body = w.send("DELETE", "/api/apikeys/"+first.ID, weak.Key, "")
	wantProblem(t, res, body, http.StatusForbidden, "AUTH_002")
	if res, body = w.send("DELETE", "/api/apikeys/"+first.ID+"?why=lost", w.owner, ""); res.StatusCode != http.StatusNoContent {
		t.Errorf("revoke: %d %s", res.StatusCode, body)
	}
	res, body = w.send("GET", "/api/sites", first.Key, "")
	wantProblem(t, res, body, http.StatusUnauthorized, "AUTH_001")

	var states []string
	next := ""
	for range 10 {
		res, body = w.send("GET", "/api/apikeys?limit=2&cursor="+next, copied.Key, "")
		page := want[APIKeyList](t, res, body)
		for _, k := range page.Items {
			states = append(states, k.Name+" "+k.State)
		}
		if next = page.Next; next == "" {
			break
		}
	}
	if got := strings.Join(states, ", "); len(states) != 4 || !strings.Contains(got, "report revoked") || !strings.Contains(got, "owner active") {
		t.Errorf("list: %s", got)
	}
	if strings.Contains(string(body), first.Key[len("hsi_dev_key_"):]) {
		t.Error("the list holds a key")
	}
	res, body = w.get("/api/audit?category=api_key")
	log := want[AuditList](t, res, body)
	if len(log.Items) != 5 || log.Items[0].Action != "apikey_revoke" || log.Items[0].Details["why"] != "lost" || log.Items[0].UserRole != "owner" || log.Items[0].IPAddress != "127.0.0.1" {
		t.Errorf("audit log: %s", body)
	}
	for _, k := range []NewAPIKey{first, copied, weak} {
		if strings.Contains(string(body), k.Key) || strings.Contains(w.log.String(), k.Key) {
			t.Error("a key is in a log")
		}
	}
}

func TestRequestsAreLimitedByKeyAndByRealAddress(t *testing.T) {
	w := newWorld(t)
	ten := 10
	if err := w.limiter.SetLimit(t.Context(), access.CommandLine(), &ten); err != nil {
		t.Fatal(err)
	}
	key := w.key("sites:read")
	until := func(status int, ask func() (*http.Response, []byte)) (n int, res *http.Response, body []byte) {
		for ; n < 30; n++ {
			if res, body = ask(); res.StatusCode != status {
				return n, res, body
			}
		}
		return n, res, body
	}
	// One at a time and no exchange runs: a fifth passes, the rest waits for the exchange that does not come, and passes too.
	n, res, body := until(http.StatusOK, func() (*http.Response, []byte) { return w.send("GET", "/api/sites", key, "") })
	wantProblem(t, res, body, http.StatusTooManyRequests, "API_001")
	if n != 10 || res.Header.Get("Retry-After") == "" || res.Header.Get("Retry-After") == "0" {
		t.Errorf("%d pass, Retry-After %q", n, res.Header.Get("Retry-After"))
	}
	from := func(addr string) func() (*http.Response, []byte) {
		return func() (*http.Response, []byte) { return w.request("GET", "/api/sites", "", "X-Forwarded-For", addr) }
	}
	n, res, body = until(http.StatusUnauthorized, from("203.0.113.7"))
	wantProblem(t, res, body, http.StatusTooManyRequests, "API_001")
	if n != 10 {
		t.Errorf("%d of an address without a key are answered", n)
	}
	if res, _ := from("203.0.113.8")(); res.StatusCode != http.StatusUnauthorized {
		t.Errorf("another address: %d", res.StatusCode)
	}
	if res, _ := w.request("GET", "/api/nothing", "", "X-Forwarded-For", "203.0.113.7"); res.StatusCode != http.StatusTooManyRequests {
		t.Errorf("a path that does not exist: %d", res.StatusCode)
	}
	if _, res, _ := w.signIn(w.owner, "X-Forwarded-For", "203.0.113.7"); res.StatusCode != http.StatusTooManyRequests {
		t.Errorf("sign-in: %d", res.StatusCode)
	}
	for _, path := range []string{"/health", "/health/detailed", "/"} {
		if res, body := w.request("GET", path, "", "X-Forwarded-For", "203.0.113.7"); res.StatusCode != http.StatusOK {
			t.Errorf("%s: %d %s", path, res.StatusCode, body)
		}
	}
	// A limit of its own, and none, set at run time.
	for limit, pass := range map[string]int{"0": 30, "5": 5} {
		key := w.key("sites:read")
		res, body := w.send("PUT", "/api/admin/apikeys/"+w.keyID(key)+"/rate-limit", w.owner, `{"requests_per_minute":`+limit+`}`)
		if res.StatusCode != http.StatusNoContent {
			t.Fatalf("%d %s", res.StatusCode, body)
		}
		if n, _, _ := until(http.StatusOK, func() (*http.Response, []byte) { return w.send("GET", "/api/sites", key, "") }); n != pass {
			t.Errorf("with a limit of %s: %d pass", limit, n)
		}
	}
	res, body = w.send("PUT", "/api/admin/rate-limit", w.owner, `{}`)
	if got := want[RateLimit](t, res, body); got.RequestsPerMinute != access.MaxRate || !got.Enabled {
		t.Errorf("%s", body)
	}
	res, body = w.send("GET", "/api/sites", key, "")
	want[SiteList](t, res, body)
}
