// Package webui serves the operator's page: the files that `make build` leaves in dist/app, embedded in
// the program, or a note when they were not built. It holds no data and asks nobody who is calling, for
// these files are public; hubd passes its handler to package api, which sends everything here that is no API route.
package webui

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"path"
	"strings"
	"time"
)

// dist holds the committed note (index.html) and, after a build of the page, app/ with the page, app/docs/ with the
// renderer of the API's description and app/verify/ with the checker of proof files.
//
//go:embed all:dist
var dist embed.FS

// Policies of what a document may load: no document loads code or pictures from any other host. The renderer of /docs writes
// style elements of its own; the page does not need that right and does not get it.
const (
	pagePolicy = "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
	docsPolicy = "default-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)

// verifyPolicy returns the policy of the verifier, which shares nothing with the page and loads nothing from anywhere: its script, which it also runs in a
// worker, and its style stand in the document. It asks the chain's endpoints that its reader names, over TLS or on the reader's own machine, and nobody else.
func verifyPolicy(doc []byte) string {
	return "default-src 'none'; script-src " + inlined(doc, "script") + "; style-src " + inlined(doc, "style") + "; img-src data:; worker-src blob:; " +
		"connect-src https: http://127.0.0.1:* http://localhost:*; object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
}

// inlined names by its hash the content of the first element of that name in doc, as policies do; without one, nothing is allowed.
func inlined(doc []byte, element string) string {
	_, rest, _ := bytes.Cut(doc, []byte("<"+element+">"))
	content, _, found := bytes.Cut(rest, []byte("</"+element+">"))
	if !found {
		return "'none'"
	}
	sum := sha256.Sum256(content)
	return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
}

// maxTotal bounds the embedded files, which are held in memory with their compressed forms.
const maxTotal = 64 << 20

// contentTypes are the types of what a page is made of. The system's own table is not asked: it differs between machines.
var contentTypes = map[string]string{
	".html": "text/html; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".mjs": "text/javascript; charset=utf-8",
	".css": "text/css; charset=utf-8", ".json": "application/json", ".map": "application/json", ".svg": "image/svg+xml",
	".txt": "text/plain; charset=utf-8", ".webmanifest": "application/manifest+json",
	".png": "image/png", ".ico": "image/x-icon", ".webp": "image/webp", ".woff2": "font/woff2", ".woff": "font/woff",
}

// Handler serves the files. It is made once and never changes.
type Handler struct {
	files map[string]*file // by URL path without the leading slash
	index *file            // the page, or the note that it was not built
	built bool
}

type file struct {
	name   string
	kind   string // Content-Type
	body   []byte
	gzip   []byte // nil where it would not be smaller
	etag   string
	cache  string // Cache-Control
	policy string // Content-Security-Policy
}

// New reads files, nil meaning those embedded in the program, and compresses what compresses.
func New(files fs.FS) (*Handler, error) {
	if files == nil {
		sub, err := fs.Sub(dist, "dist")
		if err != nil {
			return nil, fmt.Errorf("embedded page: %w", err)
		}
		files = sub
	}
	h := &Handler{files: make(map[string]*file)}
	note, err := load(files, "index.html", "index.html")
	if err != nil {
		return nil, fmt.Errorf("embedded page: %w", err)
	}
	h.index = note
	total := 0
	err = fs.WalkDir(files, "app", func(name string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) && name == "app" {
			return fs.SkipAll // the page was not built
		}
		if err != nil || d.IsDir() {
			return err
		}
		f, err := load(files, name, strings.TrimPrefix(name, "app/"))
		if err != nil {
			return err
		}
		if total += len(f.body) + len(f.gzip); total > maxTotal {
			return fmt.Errorf("the page's files exceed %d bytes", maxTotal)
		}
		h.files[f.name] = f
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("embedded page: %w", err)
	}
	if app, ok := h.files["index.html"]; ok {
		h.index, h.built = app, true
	}
	return h, nil
}

// Built reports whether the page itself is in the program, not only the note.
func (h *Handler) Built() bool { return h.built }

func load(files fs.FS, name, as string) (*file, error) {
	body, err := fs.ReadFile(files, name)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(body)
	f := &file{name: as, body: body, etag: `"` + hex.EncodeToString(sum[:12]) + `"`, cache: "no-cache", policy: pagePolicy}
	ext := path.Ext(as)
	if f.kind = contentTypes[ext]; f.kind == "" {
		f.kind = "application/octet-stream"
	}
	// The bundler puts a hash of the content into the names of this folder's files.
	if strings.HasPrefix(as, "assets/") {
		f.cache = "public, max-age=31536000, immutable"
	}
	switch {
	case strings.HasPrefix(as, "docs/"):
		f.policy = docsPolicy
	case strings.HasPrefix(as, "verify/"):
		f.policy = verifyPolicy(body)
	}
	if len(body) < 1024 || ext == ".png" || ext == ".webp" || ext == ".woff" || ext == ".woff2" {
		return f, nil
	}
	var zipped bytes.Buffer
	w, err := gzip.NewWriterLevel(&zipped, 6)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(body); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	if zipped.Len() < len(body) {
		f.gzip = zipped.Bytes()
	}
	return f, nil
}

// noRenderer is what /docs says when the page was not built.
const noRenderer = "The renderer of the API's description was not built into this program. The description itself is at /openapi.json.\n"

// ServeHTTP serves a file of the page, or for any path that names no file the page itself, which knows its own routes.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "the page's files can only be read", http.StatusMethodNotAllowed)
		return
	}
	name := strings.TrimPrefix(path.Clean("/"+r.URL.Path), "/")
	switch f, ok := h.files[name]; {
	case ok:
		f.serve(w, r)
	case name == "docs" && h.files["docs/index.html"] != nil:
		if !strings.HasSuffix(r.URL.Path, "/") { // its files are named relative to it
			w.Header().Set("Cache-Control", "no-cache")
			http.Redirect(w, r, "/docs/", http.StatusFound)
			return
		}
		h.files["docs/index.html"].serve(w, r)
	case name == "docs":
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = w.Write([]byte(noRenderer))
	case name == "verify" && h.files["verify/index.html"] != nil: // it loads no other file
		h.files["verify/index.html"].serve(w, r)
	case path.Ext(name) != "" || strings.HasPrefix(name, "assets/") || strings.HasPrefix(name, "docs/") || strings.HasPrefix(name, "verify/"):
		http.Error(w, "the page has no such file", http.StatusNotFound)
	default:
		h.index.serve(w, r)
	}
}

func (f *file) serve(w http.ResponseWriter, r *http.Request) {
	head := w.Header()
	head.Set("Content-Type", f.kind)
	head.Set("Cache-Control", f.cache)
	head.Set("Content-Security-Policy", f.policy)
	head.Set("Vary", "Accept-Encoding")
	head.Set("ETag", f.etag)
	body := f.body
	if f.gzip != nil && acceptsGzip(r) {
		head.Set("Content-Encoding", "gzip")
		head.Set("ETag", strings.TrimSuffix(f.etag, `"`)+`-gzip"`)
		body = f.gzip
	}
	// ServeContent answers conditional and range requests; the time is unknown, the ETag decides.
	http.ServeContent(w, r, f.name, time.Time{}, bytes.NewReader(body))
}

// acceptsGzip reads the one form of the header that browsers and tools send; a client that refuses gzip
// with a quality of 0 is served the plain file.
func acceptsGzip(r *http.Request) bool {
	for part := range strings.SplitSeq(r.Header.Get("Accept-Encoding"), ",") {
		name, params, _ := strings.Cut(strings.TrimSpace(part), ";")
		if strings.EqualFold(strings.TrimSpace(name), "gzip") {
			return strings.ReplaceAll(params, " ", "") != "q=0"
		}
	}
	return false
}
