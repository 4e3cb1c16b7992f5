package proof

import (
	"bytes"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/transparency-dev/tessera/api/layout"
)

// Handler serves the log as C2SP tlog-tiles has it: <prefix>/checkpoint, <prefix>/tile/<level>/<index>, <prefix>/tile/entries/<index>. It reads nothing else of the directory, and
// nobody needs a key: it is for hubs whose log is public.
func (s *Store) Handler(prefix string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			http.Error(w, "only GET", http.StatusMethodNotAllowed)
			return
		}
		path, ok := strings.CutPrefix(r.URL.Path, prefix+"/")
		if !ok {
			http.NotFound(w, r)
			return
		}
		if path == checkpointName {
			c, err := s.Checkpoint(r.Context())
			if err != nil {
				http.Error(w, "there is no checkpoint to be had now", http.StatusServiceUnavailable)
				return
			}
			w.Header().Set("Content-Type", "text/plain; charset=utf-8")
			w.Header().Set("Cache-Control", "no-store")
			http.ServeContent(w, r, "", c.PublishedAt.Truncate(time.Second), bytes.NewReader(c.Note))
			return
		}
		name, ok := tileName(path)
		if !ok || s.c.Dir == "" {
			http.NotFound(w, r)
			return
		}
		f, err := os.Open(filepath.Join(s.c.Dir, filepath.FromSlash(name)))
		if err != nil {
			http.NotFound(w, r)
			return
		}
		defer func() { _ = f.Close() }()
		// A tile never changes. One that no checkpoint covers is only there sooner.
		w.Header().Set("Content-Type", "application/octet-stream")
		w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
		http.ServeContent(w, r, "", time.Time{}, f)
	})
}

// tileName is the file of a tile's path, if it is a path that a tile can have, in its one form.
func tileName(path string) (name string, ok bool) {
	rest, ok := strings.CutPrefix(path, "tile/")
	if !ok {
		return "", false
	}
	level, index, ok := strings.Cut(rest, "/")
	if !ok {
		return "", false
	}
	i, p, err := layout.ParseTileIndexPartial(index)
	if err != nil {
		return "", false
	}
	if level == "entries" {
		name = layout.EntriesPath(i, p)
	} else if l, err := strconv.ParseUint(level, 10, 6); err == nil {
		name = layout.TilePath(l, i, p)
	}
	return name, name == path
}
