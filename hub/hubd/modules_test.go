package hubd_test

import (
	"encoding/json"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/hashinsight/hashinsight/hub/hubd"
	"github.com/hashinsight/hashinsight/hub/pgtest"
	"github.com/hashinsight/hashinsight/pkg/ident"
)

// Every module runs in a process of its own: that process listens only where the module needs it, says which modules it has, and
// answers for the others that they are elsewhere.
func TestEachModuleRunsByItself(t *testing.T) {
	all := []string{"ingest", "api", "page", "jobs"}
	cases := map[string][]string{"all": nil, "page and api": {"page", "api"}}
	for _, m := range all {
		cases[m] = []string{m}
	}
	for name, modules := range cases {
		t.Run(name, func(t *testing.T) {
			c := config(pgtest.URL(t))
			c.Modules = modules
			if modules == nil {
				modules = all
			}
			has := func(m string) bool { return slices.Contains(modules, m) }
			if !has("api") {
				c.SessionSecret = ""
			}
			evidence := filepath.Join(t.TempDir(), "evidence")
			c.Evidence.URL = "file://" + filepath.ToSlash(evidence)
			h := start(t, c)
			awaitReady(t, h)
			if _, err := os.Stat(evidence); (err == nil) != (has("jobs") || has("api")) {
				t.Errorf("the directory for evidence: %v", err)
			}
			for what, l := range map[string]struct {
				addr net.Addr
				want bool
			}{"page and API": {h.WebAddr(), has("api") || has("page")}, "agents": {h.GRPCAddr(), has("ingest")}, "metrics": {h.MetricsAddr(), true}} {
				if open := l.addr != nil; open != l.want {
					t.Errorf("listens for %s: %t, want %t", what, open, l.want)
				}
			}
			metrics := "http://" + h.MetricsAddr().String()
			wantHealth(t, metrics, modules)
			if code, _, body := get(t, http.DefaultClient, metrics+"/metrics", ""); code != 200 || strings.Contains(body, "hashinsight_job_runs_total") != has("jobs") {
				t.Errorf("metrics: %d, jobs measured: %t", code, !has("jobs"))
			}
			if has("ingest") {
				tlsConfig, _ := site(t, c, "north", h.GRPCAddr().String())
				hello(t, tlsConfig, ident.NewSpoolID(), h.GRPCAddr().String())
			}
			if h.WebAddr() == nil {
				return
			}
			web := "http://" + h.WebAddr().String()
			wantHealth(t, web, modules)
			wantPart(t, web+"/api/sites", has("api"), http.StatusUnauthorized, modules)
			wantPart(t, web+"/openapi.json", has("api"), http.StatusOK, modules)
			wantPart(t, web+"/", has("page"), http.StatusOK, modules)
		})
	}
}

func wantHealth(t *testing.T, base string, modules []string) {
	t.Helper()
	slices.Sort(modules)
	for _, path := range []string{"/health", "/health/detailed"} {
		code, _, body := get(t, http.DefaultClient, base+path, "")
		var got struct{ Modules []string }
		err := json.Unmarshal([]byte(body), &got)
		slices.Sort(got.Modules)
		if err != nil || code != 200 || !slices.Equal(got.Modules, modules) {
			t.Errorf("%s: %d %s, want the modules %v", path, code, body, modules)
		}
	}
}

// wantPart asks for something that one module answers: with a status if it runs, and else with where to look.
func wantPart(t *testing.T, url string, runs bool, status int, modules []string) {
	t.Helper()
	code, header, body := get(t, http.DefaultClient, url, "")
	if runs {
		if code != status {
			t.Errorf("%s: %d, want %d", url, code, status)
		}
		return
	}
	var p struct{ Code, Detail, Help string }
	err := json.Unmarshal([]byte(body), &p)
	if err != nil || code != 503 || header.Get("Content-Type") != "application/problem+json" || p.Code != "API_004" || p.Help == "" || !strings.Contains(p.Detail, modules[0]) {
		t.Errorf("%s of a module that is off: %d %s", url, code, body)
	}
}

func TestAPlaceForEvidenceThatCannotBeUsedEndsTheHub(t *testing.T) {
	c := config(pgtest.URL(t))
	c.Evidence.URL = "file:///dev/null/evidence"
	if err := hubd.Run(t.Context(), c); err == nil || !strings.Contains(err.Error(), "EVIDENCE_URL") {
		t.Errorf("got %v", err)
	}
}

func TestAnUnknownModuleIsRefusedByName(t *testing.T) {
	c := config("postgres:///nothing")
	c.Modules = []string{"ingest", "billing"}
	_, err := hubd.New(t.Context(), c)
	if err == nil || !strings.Contains(err.Error(), `"billing"`) || !strings.Contains(err.Error(), "ingest, api, page, jobs") {
		t.Errorf("got %v", err)
	}
}
