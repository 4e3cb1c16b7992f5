package api

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/hashinsight/hashinsight/hub/internal/access"
	"github.com/hashinsight/hashinsight/hub/internal/apperr"
	"github.com/hashinsight/hashinsight/pkg/ident"
)

func TestRefusalsAreProblems(t *testing.T) {
	w := newWorld(t)
	for _, c := range []struct {
		method, path, body string
		status             int
		code               string
	}{
		{"GET", "/api/unknown", "", 404, "NOTFOUND_001"},
		{"GET", "/api", "", 404, "NOTFOUND_001"},
		{"GET", "/health/unknown", "", 404, "NOTFOUND_001"},
		{"DELETE", "/api/miners", "", 405, "VALID_001"},
		{"GET", "/api/miners/" + ident.NewMinerID().String(), "", 404, "NOTFOUND_001"},
		{"GET", "/api/sites/" + ident.NewSiteID().String(), "", 404, "NOTFOUND_001"},
		{"GET", "/api/miners/not-an-id", "", 422, "VALID_001"},
		{"POST", "/api/session", `{"key":1}`, 422, "VALID_001"},
		{"POST", "/api/session", `{"key"`, 400, "VALID_001"},
		{"POST", "/api/session", ``, 400, "VALID_001"},
		{"POST", "/api/session", `{"key":"` + strings.Repeat("x", 5000) + `"}`, 413, "VALID_001"},
	} {
		res, body := w.request(c.method, c.path, c.body, "Authorization", "Bearer "+w.owner, "Content-Type", "application/json")
		wantProblem(t, res, body, c.status, c.code)
		if c.status == 405 && !strings.Contains(res.Header.Get("Allow"), "GET") {
			t.Errorf("%s %s: Allow %q", c.method, c.path, res.Header.Get("Allow"))
		}
	}
	res, body := w.request("POST", "/api/session", `{"key":["hsi_dev_key_secret"]}`, "Content-Type", "application/json")
	if wantProblem(t, res, body, 422, "VALID_001"); bytes.Contains(body, []byte("secret")) {
		t.Errorf("the refusal repeats the key: %s", body)
	}
}

func TestHealth(t *testing.T) {
	w := newWorld(t)
	w.miners(1)
	res, body := w.request("GET", "/health", "")
	h := want[map[string]any](t, res, body)
	if h["status"] != "healthy" || h["version"] != "1.2.3" || h["timestamp"] != w.clock.now().Format(timeLayout) || len(h) != 4 || fmt.Sprint(h["modules"]) != "[api page]" {
		t.Errorf("health: %s", body)
	}
	res, body = w.request("GET", "/health/detailed", "")
	if d := want[map[string]any](t, res, body); d["database"] != "connected" || d["cache"] != "memory" || d["sites"] != nil {
		t.Errorf("without a key: %s", body)
	}
	res, body = w.get("/health/detailed")
	if d := want[DetailedHealth](t, res, body); d.Sites == nil || d.Sites.Known != 1 || d.Sites.Connected != 0 {
		t.Errorf("with a key: %s", body)
	}
	w.pool.Close()
	w.clock.advance(2 * time.Second)
	res, body = w.get("/health/detailed")
	var d DetailedHealth
	if err := json.Unmarshal(body, &d); err != nil || res.StatusCode != http.StatusServiceUnavailable || d.Status != "unhealthy" || d.Database != "disconnected" {
		t.Errorf("without the database: %d %s", res.StatusCode, body)
	}
	res, body = w.request("GET", "/health", "")
	want[Health](t, res, body)
}

// Customers get generic help; who runs the hub is told which setting to look at.
func TestHelpIsForWhoAsks(t *testing.T) {
	for permission, names := range map[access.Permission]bool{access.Owner: true, access.MinersRead: false} {
		info := &requestInfo{log: slog.New(slog.DiscardHandler), principal: &access.Principal{Granted: []access.Permission{permission}}}
		p := problemOf(context.WithValue(t.Context(), requestKey{}, info), apperr.E(apperr.Internal, "DB_001", "the database cannot be reached"))
		if p.Help == "" || strings.Contains(p.Help, "DATABASE_URL") != names {
			t.Errorf("%s is told %q", permission, p.Help)
		}
	}
}

// An error's own text may hold anything: only the log gets it, and the request's id leads there.
func TestInternalErrorsStayInTheLog(t *testing.T) {
	w := newWorld(t)
	if _, err := w.pool.Exec(t.Context(), `ALTER TABLE agent RENAME TO agent_hidden`); err != nil {
		t.Fatal(err)
	}
	res, body := w.get("/api/agents")
	var p Problem
	if err := json.Unmarshal(body, &p); err != nil || res.StatusCode != http.StatusInternalServerError || strings.Contains(string(body), "agent_hidden") || strings.Contains(string(body), "relation") {
		t.Errorf("%d %s", res.StatusCode, body)
	}
	if err := w.stop(); err != nil {
		t.Fatal(err)
	}
	if log := w.log.String(); !strings.Contains(log, `"request_id":"`+p.RequestID+`"`) || !strings.Contains(log, "relation") {
		t.Errorf("the log lacks the error: %s", log)
	}
	if rate := w.server.metrics.rate.value(); rate <= 0 || rate > 1 {
		t.Errorf("error rate %v", rate)
	}
}

func TestPageDescriptionAndHeaders(t *testing.T) {
	w := newWorld(t)
	for _, path := range []string{"/", "/miners/some-page"} {
		res, body := w.request("GET", path, "")
		if res.StatusCode != http.StatusOK || !bytes.Contains(body, []byte("HashInsight")) || !strings.HasPrefix(res.Header.Get("Content-Type"), "text/html") {
			t.Errorf("%s: %d %.200s", path, res.StatusCode, body)
		}
		if !strings.HasPrefix(res.Header.Get("Content-Security-Policy"), "default-src 'self'") || res.Header.Get("X-Content-Type-Options") != "nosniff" || res.Header.Get("X-Frame-Options") != "DENY" {
			t.Errorf("%s: %v", path, res.Header)
		}
	}
	res, body := w.request("GET", "/openapi.json", "")
	doc := want[map[string]any](t, res, body)
	if doc["openapi"] != "3.1.0" {
		t.Errorf("openapi %v", doc["openapi"])
	}
	if n := testutil.ToFloat64(w.server.metrics.requests.WithLabelValues("GET", "/", "200")); n != 2 {
		t.Errorf("page requests counted: %v", n)
	}
	// A redirect to the renderer, or a text where the page was not built.
	if res, _ := w.request("GET", "/docs", ""); res.StatusCode != http.StatusOK && res.StatusCode != http.StatusFound {
		t.Errorf("/docs: %d", res.StatusCode)
	}
	if n := testutil.ToFloat64(w.server.metrics.requests.WithLabelValues("GET", "/openapi.json", "200")); n != 1 {
		t.Errorf("requests counted by route: %v", n)
	}
}

func TestNotReadyAnswersOnlyHealth(t *testing.T) {
	w := newWorld(t)
	w.server.ready = func() bool { return false }
	res, body := w.request("GET", "/health", "")
	want[Health](t, res, body)
	res, body = w.get("/api/miners")
	wantProblem(t, res, body, http.StatusServiceUnavailable, "API_003")
	if res.Header.Get("Retry-After") != "5" {
		t.Errorf("Retry-After %q", res.Header.Get("Retry-After"))
	}
}

// A client that sends endless headers is cut off.
func TestHeadersAreBounded(t *testing.T) {
	w := newWorld(t)
	conn, err := net.Dial("tcp", strings.TrimPrefix(w.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	go func() { // ends when the connection is closed
		_, _ = io.WriteString(conn, "GET /health HTTP/1.1\r\nHost: x\r\n")
		for {
			if _, err := io.WriteString(conn, "X-Filler: "+strings.Repeat("x", 4000)+"\r\n"); err != nil {
				return
			}
		}
	}()
	answer, _ := io.ReadAll(conn) // a reset is an answer too
	if len(answer) > 0 && !bytes.HasPrefix(answer, []byte("HTTP/1.1 431")) {
		t.Errorf("answer %.100s", answer)
	}
}
