package api

import (
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"

	"github.com/hashinsight/hashinsight/hub/internal/access"
)

// bodies are requests that operations accept, by method and path; others take none. ID stands for the id in the path.
var bodies = map[string]string{ //nolint:gochecknoglobals // a table of the test below
	"POST /api/apikeys":                      `{"name":"x","permissions":["apikeys:write"]}`,
	"POST /api/peers":                        `{"site_id":"SITE","public_key":"KEY"}`,
	"PATCH /api/peers/{id}":                  `{"keepalive_s":20}`,
	"POST /api/join-tokens":                  `{"site_name":"north"}`,
	"POST /api/join-tokens/{id}/approve":     `{"fingerprint":"0101-0101-0101-0101-0101-0101-0101-0101"}`,
	"POST /api/join-tokens/{id}/refuse":      `{"fingerprint":"0101-0101-0101-0101-0101-0101-0101-0101"}`,
	"POST /api/sites/{id}/revoke":            `{"why":"a test"}`,
	"POST /api/customers":                    `{"name":"Third"}`,
	"POST /api/contracts":                    `{"customer_id":"CUSTOMER","name":"Hall 7","terms":{"rate_mhs":100000000}}`,
	"POST /api/contracts/{id}/versions":      `{"terms":{"target_ppm":980000,"from":"2026-06-01T00:00:00Z"}}`,
	"POST /api/contracts/{id}/miners":        `{"miners":[{"site_id":"SITE","miner_id":"MINER","from":"2026-05-01T12:00:00Z"}]}`,
	"POST /api/contracts/{id}/miners/end":    `{"assignment_ids":["ASSIGNMENT"],"at":"2026-05-03T00:00:00Z"}`,
	"POST /api/excuses":                      `{"kind":"maintenance","site_id":"SITE","from":"2026-05-03T00:00:00Z","to":"2026-05-03T06:00:00Z","note":"transformer"}`,
	"POST /api/contracts/{id}/statements":    `{"month":"2026-03","reason":"a test"}`,
	"POST /api/excuses/{id}/end":             `{"at":"2026-05-03T13:00:00Z"}`,
	"PUT /api/admin/rate-limit":              `{"requests_per_minute":5000}`,
	"PUT /api/admin/apikeys/{id}/rate-limit": `{"requests_per_minute":5000}`,
}

// Every operation says who may call it, and nobody else can.
func TestEveryRouteKeepsItsPermission(t *testing.T) {
	w := newWorld(t)
	miner := w.miners(1)[0]
	party := w.party("Acme")
	var open []string
	for path, item := range w.server.api.OpenAPI().Paths {
		for method, op := range map[string]*huma.Operation{"GET": item.Get, "POST": item.Post, "PUT": item.Put, "PATCH": item.Patch, "DELETE": item.Delete} {
			if op == nil {
				continue
			}
			name := method + " " + path
			who, _ := op.Extensions[permissionExtension].(string)
			if who == string(anyone) {
				open = append(open, name)
				continue
			}
			id := miner.String()
			switch {
			case strings.Contains(path, "/sites/"), strings.Contains(path, "/peers/"):
				id = w.site.String()
			case strings.Contains(path, "/apikeys/"):
				id = w.keyID(w.key(who))
			case strings.Contains(path, "/join-tokens/"):
				id = w.waitingToken()
			case strings.Contains(path, "/customers/"):
				id = party.customer.String()
			case strings.Contains(path, "/contracts/"):
				id = party.contract.String()
			case strings.Contains(path, "/excuses/"):
				id = party.excuse.String()
			}
			body, headers := strings.NewReplacer("CUSTOMER", party.customer.String(), "ASSIGNMENT", party.assignment.String(), "MINER", miner.String()).Replace(bodies[name]), []string{"Content-Type", "application/json"}
			target := strings.NewReplacer("{id}", id, "{site}", w.site.String(), "{miner}", miner.String(), "{hour}", "2026-05-01T11:00:00Z", "{index}", "0").Replace(path)
			if strings.HasSuffix(path, "/consistency") {
				target += "?from=1&to=1"
			}
			if strings.Contains(path, "/sla") || strings.Contains(path, "/slots") || strings.HasSuffix(path, "/why") || strings.Contains(path, "/statements") {
				target = w.closedMonth().target(path)
			}
			t.Run(name, func(t *testing.T) {
				res, answer := w.request(method, target, body, headers...)
				wantProblem(t, res, answer, http.StatusUnauthorized, "AUTH_001")
				if res.Header.Get("WWW-Authenticate") == "" {
					t.Error("no WWW-Authenticate")
				}
				res, answer = w.request(method, target, body, append(headers, "Authorization", "Bearer hsi_dev_key_"+strings.Repeat("x", 43))...)
				wantProblem(t, res, answer, http.StatusUnauthorized, "AUTH_001")
				if who == string(signedIn) {
					return
				}
				if who == string(ofTheLog) { // any key, a customer's too
					for _, key := range []string{w.key(string(access.PeersRead)), w.customerKey(party.customer).Key} {
						res, answer = w.request(method, target, body, append(headers, "Authorization", "Bearer "+key)...)
						wantAnswer(t, res, answer)
					}
					return
				}
				if !slices.Contains(access.Permissions(), access.Permission(who)) {
					t.Fatalf("%q is no permission", who)
				}
				var others []string
				for _, p := range access.Permissions() {
					if string(p) != who {
						others = append(others, string(p))
					}
				}
				res, answer = w.request(method, target, body, append(headers, "Authorization", "Bearer "+w.key(others...))...)
				wantProblem(t, res, answer, http.StatusForbidden, "AUTH_002")
				for _, other := range others { // and none of them alone opens it either
					res, answer = w.request(method, target, body, append(headers, "Authorization", "Bearer "+w.key(other))...)
					wantProblem(t, res, answer, http.StatusForbidden, "AUTH_002")
				}
				if path == eventsPath {
					return // it does not end by itself; its own test shows that it begins
				}
				if strings.HasPrefix(path, "/api/peers") {
					body = strings.ReplaceAll(body, "KEY", w.withPeer().PublicKey.String())
				}
				body = strings.ReplaceAll(body, "SITE", w.site.String())
				res, answer = w.request(method, target, body, append(headers, "Authorization", "Bearer "+w.key(who))...)
				wantAnswer(t, res, answer)
				w.clock.advance(time.Minute) // the wrong keys shown here must not add up to a throttled address
			})
		}
	}
	slices.Sort(open)
	if want := []string{"GET /health", "GET /health/detailed", "POST /api/session"}; !slices.Equal(open, want) {
		t.Errorf("open to anyone: %v, want %v", open, want)
	}
}

// wantAnswer checks that a request was let through. This world has no log: its routes say so.
func wantAnswer(t *testing.T, res *http.Response, body []byte) {
	t.Helper()
	if res.StatusCode >= 200 && res.StatusCode <= 299 || res.StatusCode == http.StatusServiceUnavailable && strings.Contains(string(body), "does not have the ") {
		return
	}
	t.Errorf("with the permission: %d %s", res.StatusCode, body)
}

// Where the operator has made the log public it is read without a key, each request counting for its address; a key that is shown must be one.
func TestAPublicLogIsReadWithoutAKey(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := newWorldOn(t, l, func(c *Config) { c.Transparency.Public = true })
	for _, path := range []string{"/api/log/checkpoint", "/api/log/entries", "/api/log/entries/0", "/api/log/entries/0/inclusion", "/api/log/consistency?from=1&to=1", "/api/anchors", "/api/anchors/status", "/api/proofs/entries/0"} {
		res, body := w.request("GET", path, "")
		wantAnswer(t, res, body)
		res, body = w.request("GET", path, "", "Cookie", sessionCookie+"=one that has ended")
		wantAnswer(t, res, body)
		res, body = w.request("GET", path, "", "Authorization", "Bearer "+w.owner)
		wantAnswer(t, res, body)
		res, body = w.request("GET", path, "", "Authorization", "Bearer hsi_dev_key_"+strings.Repeat("x", 43))
		wantProblem(t, res, body, http.StatusUnauthorized, "AUTH_001")
	}
	for _, path := range []string{"/api/statements/" + strings.Repeat("0", 64) + "/proof", "/api/statements/" + strings.Repeat("0", 64) + "/bundle", "/api/proofs/hours/" + w.site.String() + "/" + w.site.String() + "/0"} {
		res, body := w.request("GET", path, "")
		wantProblem(t, res, body, http.StatusUnauthorized, "AUTH_001")
	}
	one := 1
	if err := w.limiter.SetLimit(t.Context(), access.CommandLine(), &one); err != nil {
		t.Fatal(err)
	}
	w.clock.advance(2 * time.Minute)
	w.request("GET", "/api/log/checkpoint", "")
	res, body := w.request("GET", "/api/log/checkpoint", "")
	wantProblem(t, res, body, http.StatusTooManyRequests, "API_001")
}

func (w *world) signIn(key string, headers ...string) (*http.Cookie, *http.Response, []byte) {
	w.t.Helper()
	res, body := w.request("POST", "/api/session", `{"key":"`+key+`"}`, append([]string{"Content-Type", "application/json"}, headers...)...)
	for _, c := range res.Cookies() {
		if c.Name == sessionCookie {
			return c, res, body
		}
	}
	return nil, res, body
}

func TestSessionCookie(t *testing.T) {
	w := newWorld(t)
	c, res, body := w.signIn(w.owner)
	if c == nil || res.StatusCode != http.StatusNoContent {
		t.Fatalf("sign-in: %d %s", res.StatusCode, body)
	}
	if !c.HttpOnly || c.SameSite != http.SameSiteStrictMode || c.Path != "/" || c.Secure || c.MaxAge != int(access.SessionLifetime/time.Second) || c.Domain != "" {
		t.Errorf("cookie over plain HTTP: %s", res.Header.Get("Set-Cookie"))
	}
	if c, res, _ := w.signIn(w.owner, "X-Forwarded-Proto", "https"); c == nil || !c.Secure {
		t.Errorf("cookie behind a trusted proxy with TLS: %s", res.Header.Get("Set-Cookie"))
	}
	cookie := c.Name + "=" + c.Value

	res, body = w.request("GET", "/api/session", "", "Cookie", cookie)
	info := want[SessionInfo](t, res, body)
	if info.Name != "owner" || len(info.Permissions) != len(access.Permissions()) || info.ExpiresAt == nil {
		t.Errorf("session: %s", body)
	}
	if res.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("Cache-Control %q", res.Header.Get("Cache-Control"))
	}
	res, body = w.request("GET", "/api/sites", "", "Cookie", cookie)
	want[SiteList](t, res, body)

	// A cookie that was changed in one place is none.
	bad := []byte(cookie)
	bad[len(bad)-3] ^= 1
	res, body = w.request("GET", "/api/sites", "", "Cookie", string(bad))
	wantProblem(t, res, body, http.StatusUnauthorized, "AUTH_003")

	res, _ = w.request("DELETE", "/api/session", "", "Cookie", cookie)
	if res.StatusCode != http.StatusNoContent || len(res.Cookies()) != 1 || res.Cookies()[0].MaxAge >= 0 {
		t.Errorf("sign-out: %d %v", res.StatusCode, res.Header)
	}
	res, body = w.request("GET", "/api/sites", "", "Cookie", cookie)
	wantProblem(t, res, body, http.StatusUnauthorized, "AUTH_003")
}

func TestSessionEndsWithTimeAndWithItsKey(t *testing.T) {
	w := newWorld(t)
	c, _, _ := w.signIn(w.owner)
	late, _, _ := w.signIn(w.owner)
	res, body := w.request("GET", "/api/sites", "", "Cookie", c.Name+"="+c.Value)
	want[SiteList](t, res, body)
	if _, err := access.Bootstrap(t.Context(), access.BootstrapConfig{Pool: w.pool, Env: "dev", Now: w.clock.now}); err == nil {
		t.Fatal("a second owner key was made without asking to replace the first")
	}
	next, err := access.Bootstrap(t.Context(), access.BootstrapConfig{Pool: w.pool, Env: "dev", Now: w.clock.now, Replace: true})
	if err != nil {
		t.Fatal(err)
	}
	w.clock.advance(access.CacheFor)
	for _, cookie := range []*http.Cookie{c, late} {
		res, body = w.request("GET", "/api/sites", "", "Cookie", cookie.Name+"="+cookie.Value)
		wantProblem(t, res, body, http.StatusUnauthorized, "AUTH_003")
	}
	res, body = w.get("/api/sites")
	wantProblem(t, res, body, http.StatusUnauthorized, "AUTH_001")

	c, _, _ = w.signIn(next)
	w.clock.advance(access.SessionLifetime)
	res, body = w.request("GET", "/api/sites", "", "Cookie", c.Name+"="+c.Value)
	wantProblem(t, res, body, http.StatusUnauthorized, "AUTH_003")
}

func TestAnotherOriginCannotUseTheCookie(t *testing.T) {
	w := newWorld(t)
	c, _, _ := w.signIn(w.owner)
	cookie := c.Name + "=" + c.Value
	for _, headers := range [][]string{
		{"Sec-Fetch-Site", "cross-site"},
		{"Sec-Fetch-Site", "same-site"},
		{"Origin", "https://evil.example"},
	} {
		res, body := w.request("DELETE", "/api/session", "", append(headers, "Cookie", cookie)...)
		wantProblem(t, res, body, http.StatusForbidden, "AUTH_002")
		_, res, body = w.signIn(w.owner, headers...)
		wantProblem(t, res, body, http.StatusForbidden, "AUTH_002")
	}
	res, _ := w.request("DELETE", "/api/session", "", "Cookie", cookie, "Sec-Fetch-Site", "same-origin", "Origin", w.url)
	if res.StatusCode != http.StatusNoContent {
		t.Errorf("own page: %d", res.StatusCode)
	}
}

func TestWrongKeysAreThrottledByRealAddress(t *testing.T) {
	w := newWorld(t)
	res, body := w.get("/api/session") // the right key is known before the noise begins
	want[SessionInfo](t, res, body)
	from := func(addr string) (*http.Response, []byte) {
		_, res, body := w.signIn("hsi_dev_key_"+strings.Repeat("w", 43), "X-Forwarded-For", addr)
		return res, body
	}
	for range 10 {
		res, body := from("203.0.113.7")
		wantProblem(t, res, body, http.StatusUnauthorized, "AUTH_001")
	}
	res, body = from("203.0.113.7")
	wantProblem(t, res, body, http.StatusTooManyRequests, "API_001")
	if res.Header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	res, body = from("203.0.113.8")
	wantProblem(t, res, body, http.StatusUnauthorized, "AUTH_001")
	// Who shares the address and has a key that works goes on working.
	w.clock.advance(access.CacheFor)
	res, body = w.request("GET", "/api/sites", "", "Authorization", "Bearer "+w.owner, "X-Forwarded-For", "203.0.113.7")
	want[SiteList](t, res, body)
	w.clock.advance(10 * time.Second)
	res, body = from("203.0.113.7")
	wantProblem(t, res, body, http.StatusUnauthorized, "AUTH_001")
}

func TestUseOfAKeyIsNotedAndNoSecretIsLogged(t *testing.T) {
	w := newWorld(t)
	c, _, _ := w.signIn(w.owner)
	w.request("GET", "/api/sites?unknown=1", "", "Cookie", c.Name+"="+c.Value)
	w.request("POST", "/api/session", `{"key":`+w.owner+`}`, "Content-Type", "application/json")
	res, body := w.request("GET", "/api/session", "", "Authorization", "Bearer "+w.owner, "X-Forwarded-For", "203.0.113.9")
	info := want[SessionInfo](t, res, body)
	if err := w.stop(); err != nil {
		t.Fatal(err)
	}
	log := w.log.String()
	for _, secret := range []string{w.owner, w.owner[len(w.owner)-20:], c.Value} {
		if strings.Contains(log, secret) {
			t.Errorf("the log holds a secret:\n%s", log)
		}
	}
	for _, part := range []string{`"route":"/api/session"`, `"key_id":"` + info.KeyID, `"address":"203.0.113.9"`, `"method":"POST"`, `"status":204`, `"request_id":`, `"duration_ms":`, `"bytes":`} {
		if !strings.Contains(log, part) {
			t.Errorf("the access records lack %s:\n%s", part, log)
		}
	}
	var used bool
	err := w.pool.QueryRow(t.Context(), `SELECT last_used_at = $2 AND last_used_address = '127.0.0.1' FROM api_key WHERE id = $1`, uuid.MustParse(info.KeyID), w.clock.now()).Scan(&used)
	if err != nil || !used {
		t.Errorf("last use: %v %v", used, err)
	}
}
