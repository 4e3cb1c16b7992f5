package webui

import (
	"compress/gzip"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/fstest"
)

func get(t *testing.T, h http.Handler, path string, headers ...string) *http.Response {
	t.Helper()
	r := httptest.NewRequest(http.MethodGet, path, nil)
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Result()
}

func body(t *testing.T, res *http.Response) string {
	t.Helper()
	var r io.Reader = res.Body
	if res.Header.Get("Content-Encoding") == "gzip" {
		z, err := gzip.NewReader(r)
		if err != nil {
			t.Fatal(err)
		}
		r = z
	}
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func built() fstest.MapFS {
	return fstest.MapFS{
		"index.html":                {Data: []byte("the page was not built")},
		"app/index.html":            {Data: []byte("<html>page</html>")},
		"app/assets/main-abc123.js": {Data: []byte(strings.Repeat("console.log(1);\n", 400))},
		"app/docs/index.html":       {Data: []byte("<html>docs</html>")},
		"app/verify/index.html":     {Data: []byte("<html><style>p{}</style><script>check()</script></html>")},
		"app/favicon.svg":           {Data: []byte("<svg/>")},
	}
}

func TestPageRoutesServeThePage(t *testing.T) {
	h, err := New(built())
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/", "/miners", "/miners/6f1d2c3b-4a5e-4f60-8a7b-9c0d1e2f3a4b", "/sites/"} {
		res := get(t, h, path)
		if got := body(t, res); res.StatusCode != http.StatusOK || got != "<html>page</html>" {
			t.Errorf("%s: %d %q", path, res.StatusCode, got)
		}
		if got := res.Header.Get("Cache-Control"); got != "no-cache" {
			t.Errorf("%s: Cache-Control %q", path, got)
		}
		if got := res.Header.Get("Content-Security-Policy"); !strings.HasPrefix(got, "default-src 'self'") || strings.Contains(got, "unsafe") {
			t.Errorf("%s: policy %q", path, got)
		}
	}
}

func TestHashedFilesAreCachedAndCompressed(t *testing.T) {
	h, err := New(built())
	if err != nil {
		t.Fatal(err)
	}
	res := get(t, h, "/assets/main-abc123.js", "Accept-Encoding", "br, gzip")
	if res.Header.Get("Content-Encoding") != "gzip" || !strings.HasPrefix(body(t, res), "console.log") {
		t.Errorf("not compressed: %v", res.Header)
	}
	if got := res.Header.Get("Cache-Control"); !strings.Contains(got, "immutable") {
		t.Errorf("Cache-Control %q", got)
	}
	if got := res.Header.Get("Content-Type"); got != "text/javascript; charset=utf-8" {
		t.Errorf("Content-Type %q", got)
	}
	plain := get(t, h, "/assets/main-abc123.js", "Accept-Encoding", "gzip;q=0")
	if plain.Header.Get("Content-Encoding") != "" || !strings.HasPrefix(body(t, plain), "console.log") {
		t.Errorf("compressed against the client's will: %v", plain.Header)
	}
	again := get(t, h, "/assets/main-abc123.js", "If-None-Match", plain.Header.Get("ETag"))
	if again.StatusCode != http.StatusNotModified {
		t.Errorf("unchanged file answered %d", again.StatusCode)
	}
}

func TestMissingFilesAreNotThePage(t *testing.T) {
	h, err := New(built())
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/assets/old-000000.js", "/missing.png", "/docs/missing", "/verify/missing", "/../../secret.txt"} {
		if res := get(t, h, path); res.StatusCode != http.StatusNotFound {
			t.Errorf("%s answered %d", path, res.StatusCode)
		}
	}
}

func TestDocsAreServedOrExplained(t *testing.T) {
	h, err := New(built())
	if err != nil {
		t.Fatal(err)
	}
	if res := get(t, h, "/docs"); res.StatusCode != http.StatusFound || res.Header.Get("Location") != "/docs/" {
		t.Errorf("/docs answered %d %q", res.StatusCode, res.Header.Get("Location"))
	}
	if got := body(t, get(t, h, "/docs/")); got != "<html>docs</html>" {
		t.Errorf("/docs/ is %q", got)
	}
	unbuilt, err := New(fstest.MapFS{"index.html": {Data: []byte("the page was not built")}})
	if err != nil {
		t.Fatal(err)
	}
	if got := body(t, get(t, unbuilt, "/docs")); !strings.Contains(got, "/openapi.json") {
		t.Errorf("/docs is %q", got)
	}
	if got := body(t, get(t, unbuilt, "/miners")); got != "the page was not built" || unbuilt.Built() {
		t.Errorf("/miners is %q", got)
	}
}

// The checker of proof files asks the chain's endpoints that its reader names. No other document may, and it may do nothing else that the page may not.
func TestOnlyTheVerifierAsksOtherHosts(t *testing.T) {
	h, err := New(built())
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/verify", "/verify/"} {
		res := get(t, h, path)
		if got := body(t, res); res.StatusCode != http.StatusOK || !strings.Contains(got, "check()") {
			t.Errorf("%s: %d %q", path, res.StatusCode, got)
		}
		policy := map[string]string{}
		for part := range strings.SplitSeq(res.Header.Get("Content-Security-Policy"), "; ") {
			name, value, _ := strings.Cut(part, " ")
			policy[name] = value
		}
		for name, want := range map[string]string{
			// printf 'check()' | openssl dgst -sha256 -binary | base64, and of p{} the same.
			"script-src": "'sha256-kWkzYF+Y/AMY2gAw0daj2vkzuMibKth7u8p7Fa70hJg='", "style-src": "'sha256-gG2yISYereRMiG2lMXrbiUgi0Ubw9p7QCeWcroOvy9Y='",
			"default-src": "'none'", "img-src": "data:", "worker-src": "blob:", "object-src": "'none'", "base-uri": "'none'", "form-action": "'none'", "frame-ancestors": "'none'", "connect-src": "https: http://127.0.0.1:* http://localhost:*",
		} {
			if policy[name] != want {
				t.Errorf("%s: policy %s is %q, want %q", path, name, policy[name], want)
			}
		}
	}
	for _, path := range []string{"/", "/miners", "/docs/"} {
		if got := get(t, h, path).Header.Get("Content-Security-Policy"); strings.Contains(got, "connect-src") || strings.Contains(got, "https:") {
			t.Errorf("%s may ask other hosts: %q", path, got)
		}
	}
	unbuilt, err := New(fstest.MapFS{"index.html": {Data: []byte("the page was not built")}})
	if err != nil {
		t.Fatal(err)
	}
	if got := body(t, get(t, unbuilt, "/verify")); got != "the page was not built" {
		t.Errorf("/verify is %q", got)
	}
}

// The committed note must work in a program that was built without node, and load nothing.
func TestEmbeddedFilesNameNoOtherHost(t *testing.T) {
	h, err := New(nil)
	if err != nil {
		t.Fatal(err)
	}
	page := body(t, get(t, h, "/"))
	for _, bad := range []string{`src="http`, `href="http`, `src="//`, `href="//`} {
		if strings.Contains(page, bad) {
			t.Errorf("the page holds %s", bad)
		}
	}
}
