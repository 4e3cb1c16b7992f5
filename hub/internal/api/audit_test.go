package api

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/hashinsight/hashinsight/hub/internal/audit"
)

// What people do through the API is in the audit log, with who and from where, and the log is read page by page.
func TestAuditLogTellsWhatHappenedAndIsPaged(t *testing.T) {
	w := newWorld(t)
	c, _, _ := w.signIn(w.owner, "X-Forwarded-For", "203.0.113.7")
	w.request("DELETE", "/api/session", "", "Cookie", c.Name+"="+c.Value, "X-Forwarded-For", "203.0.113.7")
	w.signIn("hsi_dev_key_"+strings.Repeat("w", 43), "X-Forwarded-For", "203.0.113.9")
	w.request("GET", "/api/audit", "", "Authorization", "Bearer "+w.key("sites:read"))

	res, body := w.get("/api/audit")
	list := want[AuditList](t, res, body)
	var got []string
	for _, e := range list.Items {
		got = append(got, strings.Join([]string{e.Action, e.Category, e.Level, e.Status, e.UserRole, e.IPAddress}, " "))
	}
	wanted := []string{
		"access_denied permission WARNING denied key 127.0.0.1",
		"login_failed authentication WARNING failure  203.0.113.9",
		"logout authentication INFO success owner 203.0.113.7",
		"login authentication INFO success owner 203.0.113.7",
		"apikey_bootstrap api_key SECURITY success owner ",
	}
	if fmt.Sprint(got) != fmt.Sprint(wanted) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(wanted, "\n"))
	}
	if strings.Contains(string(body), w.owner) || strings.Contains(string(body), "wwwww") {
		t.Error("a key is in the audit log")
	}
	head, err := audit.ParseHead(list.Head)
	if v, verr := w.audit.Verify(t.Context(), head); err != nil || verr != nil || !v.OK() || v.Entries != 5 {
		t.Errorf("head %q: %v %v %+v", list.Head, err, verr, v)
	}

	var walked []int64
	for next, pages := "", 0; ; pages++ {
		res, body := w.get("/api/audit?limit=2&cursor=" + next)
		page := want[AuditList](t, res, body)
		for _, e := range page.Items {
			walked = append(walked, e.Seq)
		}
		if next = page.Next; next == "" || pages > 5 {
			break
		}
	}
	if fmt.Sprint(walked) != "[5 4 3 2 1]" {
		t.Errorf("page by page: %v", walked)
	}
	for query, n := range map[string]int{
		"action=login": 1, "category=authentication": 3, "level=SECURITY": 1, "user=" + list.Items[2].UserID: 2, "action=nothing": 0,
		"since=" + url.QueryEscape(w.clock.now().Add(time.Second).Format(time.RFC3339)): 0,
		"until=" + url.QueryEscape(w.clock.now().Add(time.Second).Format(time.RFC3339)): 5,
	} {
		res, body := w.get("/api/audit?" + query)
		if got := len(want[AuditList](t, res, body).Items); got != n {
			t.Errorf("%s: %d entries, want %d", query, got, n)
		}
	}
	res, body = w.get("/api/audit?cursor=x")
	wantProblem(t, res, body, http.StatusBadRequest, "VALID_001")
}

// Refusals from outside fill the log only so fast; the rest is a number in the next entry.
func TestRefusalsCannotFloodTheAuditLog(t *testing.T) {
	w := newWorld(t)
	for i := range 60 {
		w.signIn("hsi_dev_key_"+strings.Repeat("w", 43), "X-Forwarded-For", fmt.Sprintf("203.0.113.%d", i))
	}
	w.clock.advance(time.Second)
	w.signIn("hsi_dev_key_"+strings.Repeat("w", 43), "X-Forwarded-For", "203.0.113.99")
	res, body := w.get("/api/audit?action=login_failed")
	list := want[AuditList](t, res, body)
	if len(list.Items) != 21 || fmt.Sprint(list.Items[0].Details["not_recorded_before"]) != "40" {
		t.Errorf("%d entries, the last one %v", len(list.Items), list.Items[0].Details)
	}
}
