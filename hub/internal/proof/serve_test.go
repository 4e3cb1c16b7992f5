package proof

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"testing"

	"github.com/transparency-dev/tessera/client"
	"golang.org/x/mod/sumdb/note"

	format "github.com/hashinsight/hashinsight/pkg/proof"
)

// A stranger's client for tlog-tiles follows the log over HTTP, with nothing but its public key, and finds each state consistent with the one before.
func TestAForeignClientFollowsTheLog(t *testing.T) {
	w := newWorld(t)
	w.note(300)
	w.run()
	srv := httptest.NewServer(w.store.Handler("/log"))
	defer srv.Close()
	u, err := url.Parse(srv.URL + "/log/")
	if err != nil {
		t.Fatal(err)
	}
	f, err := client.NewHTTPFetcher(u, srv.Client())
	if err != nil {
		t.Fatal(err)
	}
	origin, err := w.store.Origin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	v, err := note.NewVerifier(VerifierKey(origin, public()))
	if err != nil {
		t.Fatal(err)
	}
	raw, err := f.ReadCheckpoint(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	follow, err := client.NewLogStateTracker(t.Context(), f.ReadTile, raw, v, origin, client.UnilateralConsensus(f.ReadCheckpoint))
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		w.note(257)
		w.run()
		if _, _, _, err := follow.Update(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if got := follow.Latest(); got.Size != 1+300+3*257 {
		t.Errorf("the client is at %d entries", got.Size)
	}
	b, err := client.GetEntryBundle(t.Context(), f.ReadEntryBundle, 2, follow.Latest().Size)
	if err != nil || len(b.Entries) != 256 {
		t.Fatalf("%d entries: %v", len(b.Entries), err)
	}
	if e, err := format.ParseEntry(b.Entries[7]); err != nil || e.Kind != format.EntryHubKey {
		t.Errorf("entry 519: %v, %v", e.Kind, err)
	}
	// The project's own reader takes the checkpoint too.
	if c, err := format.OpenCheckpoint(w.checkpoint().Note, public()); err != nil || c.Size != follow.Latest().Size || string(c.Sign(testKey)) != string(w.checkpoint().Note) {
		t.Errorf("checkpoint: %v", err)
	}
}

func TestNothingButTilesIsServed(t *testing.T) {
	w := newWorld(t)
	w.note(600)
	w.run()
	if err := os.WriteFile(filepath.Join(w.dir, "tile", "secret"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(w.store.Handler("/log"))
	defer srv.Close()
	for path, want := range map[string]int{
		"/log/checkpoint": 200, "/log/tile/0/000": 200, "/log/tile/entries/001": 200, "/log/tile/0/002.p/89": 200, "/log/tile/1/000.p/2": 200,
		"/log/tile/0/000.p/1": 404, "/log/tile/0/0": 404, "/log/tile/00/000": 404, "/log/tile/0/x000/000": 404, "/log/tile/secret": 404, "/log/tile/": 404, "/log/tile/0/../secret": 404,
		"/log/tile/0/%2e%2e/secret": 404, "/log/.state/treeState": 404, "/log/writer.lock": 404, "/log/tile/0/000/": 404, "/log/": 404, "/log/tile/64/000": 404,
	} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, srv.URL, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.URL.Path, req.URL.RawPath = path, path
		if un, err := url.PathUnescape(path); err == nil {
			req.URL.Path = un
		}
		res, err := srv.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(res.Body)
		_ = res.Body.Close()
		if res.StatusCode != want || want == 200 && len(b) == 0 {
			t.Errorf("%s: %d, want %d", path, res.StatusCode, want)
		}
	}
	res, err := srv.Client().Post(srv.URL+"/log/checkpoint", "text/plain", nil)
	if err != nil || res.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("POST: %v, %v", res, err)
	}
	_ = res.Body.Close()
}
