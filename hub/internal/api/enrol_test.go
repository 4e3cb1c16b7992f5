package api

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
)

// waitingToken is a token with which somebody came whose keys have the hash 0101….
func (w *world) waitingToken() string {
	w.t.Helper()
	id := uuid.NewString()[:8]
	if _, err := w.pool.Exec(w.t.Context(), `INSERT INTO enrol_token (id, hash, site_name, approval, replace_key, created_at, created_by, expires_at, claimed_at, claimed_keys, claimed_from)
		VALUES ($1, decode(repeat('00', 32), 'hex'), 'waiting', true, false, $2, 'test', $2::timestamptz + interval '1 hour', $2, decode(repeat('01', 32), 'hex'), '203.0.113.7')`,
		id, w.clock.now()); err != nil {
		w.t.Fatal(err)
	}
	return id
}

func decoded[T any](t *testing.T, body []byte) (v T) {
	t.Helper()
	if err := json.Unmarshal(body, &v); err != nil {
		t.Fatalf("%v in %s", err, body)
	}
	return v
}

func TestTokensAreMadeShownOnceAndEnded(t *testing.T) {
	w := newWorld(t)
	as := []string{"Content-Type", "application/json", "Authorization", "Bearer " + w.key("sites:write")}
	res, body := w.request("POST", "/api/join-tokens", `{"site_name":"north","valid_minutes":30,"source":"203.0.113.0/24","approval":true}`, as...)
	if res.StatusCode != http.StatusCreated {
		t.Fatalf("%d %s", res.StatusCode, body)
	}
	made := decoded[NewJoinToken](t, body)
	if !strings.HasPrefix(made.Token, "hsi_dev_join_"+made.ID+"_") || made.Hub != "hub.example:5443" || made.State != "open" || made.Source != "203.0.113.0/24" || made.ExpiresAt.Sub(w.clock.now()) != 30*time.Minute {
		t.Errorf("made %s", body)
	}
	for _, bad := range []string{`{"site_name":"x","source":"203.0.113.1/24"}`, `{"site_name":"x","source":"here"}`, `{"site_name":" "}`} {
		res, body = w.request("POST", "/api/join-tokens", bad, as...)
		wantProblem(t, res, body, http.StatusBadRequest, "VALID_001")
	}
	w.clock.advance(time.Second)
	_, body = w.request("POST", "/api/join-tokens", `{"site_name":"south"}`, as...)
	second := decoded[NewJoinToken](t, body)
	res, body = w.request("GET", "/api/join-tokens?limit=1", "", as...)
	page := want[JoinTokenList](t, res, body)
	if len(page.Items) != 1 || page.Items[0].ID != second.ID || page.Next == "" || strings.Contains(string(body), second.Token) {
		t.Fatalf("first page %s", body)
	}
	res, body = w.request("GET", "/api/join-tokens?limit=1&cursor="+page.Next, "", as...)
	if page = want[JoinTokenList](t, res, body); len(page.Items) != 1 || page.Items[0].ID != made.ID || page.Next != "" {
		t.Fatalf("second page %s", body)
	}
	res, body = w.request("DELETE", "/api/join-tokens/"+made.ID, "", as...)
	if res.StatusCode != http.StatusNoContent {
		t.Fatalf("%d %s", res.StatusCode, body)
	}
	res, body = w.request("DELETE", "/api/join-tokens/"+made.ID, "", as...)
	wantProblem(t, res, body, http.StatusConflict, "CONFLICT_001")
	res, body = w.request("DELETE", "/api/join-tokens/nothing", "", as...)
	wantProblem(t, res, body, http.StatusNotFound, "NOTFOUND_001")
}

func TestASiteThatIsCutOffSaysSoInTheList(t *testing.T) {
	w := newWorld(t)
	site := w.site
	as := []string{"Content-Type", "application/json", "Authorization", "Bearer " + w.key("sites:revoke", "sites:read")}
	res, body := w.request("GET", "/api/sites/"+site.String(), "", as...)
	if s := want[Site](t, res, body); s.RevokedAt != nil {
		t.Fatalf("before: %s", body)
	}
	if res, body = w.request("POST", "/api/sites/"+site.String()+"/revoke", `{"why":"<b>stolen</b>"}`, as...); res.StatusCode != http.StatusNoContent {
		t.Fatalf("%d %s", res.StatusCode, body)
	}
	res, body = w.request("GET", "/api/sites/"+site.String(), "", as...)
	if s := want[Site](t, res, body); s.RevokedAt == nil || !s.RevokedAt.Equal(w.clock.now()) || s.RevokedWhy != "<b>stolen</b>" {
		t.Fatalf("after: %s", body)
	}
}

func TestWhoWaitsIsComparedByFingerprint(t *testing.T) {
	w := newWorld(t)
	id := w.waitingToken()
	as := []string{"Content-Type", "application/json", "Authorization", "Bearer " + w.key("sites:write")}
	res, body := w.request("GET", "/api/join-tokens/waiting", "", as...)
	list := want[JoinTokenList](t, res, body)
	if len(list.Items) != 1 || list.Items[0].Fingerprint != strings.Repeat("-0101", 8)[1:] || list.Items[0].CameFrom != "203.0.113.7" || list.Items[0].State != "waiting" {
		t.Fatalf("waiting %s", body)
	}
	res, body = w.request("POST", "/api/join-tokens/"+id+"/approve", `{"fingerprint":"0101-0202"}`, as...)
	wantProblem(t, res, body, http.StatusConflict, "CONFLICT_001")
	res, body = w.request("POST", "/api/join-tokens/"+id+"/refuse", `{"fingerprint":"`+list.Items[0].Fingerprint+`"}`, as...)
	if res.StatusCode != http.StatusNoContent {
		t.Fatalf("%d %s", res.StatusCode, body)
	}
	res, body = w.request("POST", "/api/sites/"+uuid.NewString()+"/revoke", `{"why":"gone"}`, "Content-Type", "application/json", "Authorization", "Bearer "+w.key("sites:revoke"))
	wantProblem(t, res, body, http.StatusNotFound, "NOTFOUND_001")
}
