package pki

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"golang.org/x/crypto/ocsp"

	"github.com/hashinsight/hashinsight/pkg/identity"
)

// pathPrefix is where the handler's routes begin.
const pathPrefix = "/pki/"

const maxOCSPRequest = 4 << 10 // bytes; a usual one has 80

// Handler answers, to anyone, what others need to check this hub's certificates:
//
//	GET  /pki/roots.pem      the trusted roots
//	GET  /pki/ca.crl         the active issuer's revocation list, DER
//	GET  /pki/ISSUER.crl     another issuer's, as its certificates name it
//	POST /pki/ocsp           RFC 6960
//	GET  /pki/ocsp/BASE64    the same, kept by caches
//
// The path is looked at as it came: the base64 of an OCSP request may hold two slashes in a row, which a ServeMux would redirect.
func (a *Authority) Handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		path, ok := strings.CutPrefix(r.URL.EscapedPath(), pathPrefix)
		if !ok {
			http.NotFound(w, r)
			return
		}
		if a.set.Load() == nil {
			w.Header().Set("Retry-After", "5")
			http.Error(w, "the hub is starting", http.StatusServiceUnavailable)
			return
		}
		name, isCRL := strings.CutSuffix(path, ".crl")
		request, isOCSP := strings.CutPrefix(path, "ocsp/")
		get := r.Method == http.MethodGet || r.Method == http.MethodHead
		kind, status := "other", http.StatusNotFound
		switch {
		case path == "ocsp" && r.Method == http.MethodPost:
			kind, status = "ocsp", a.serveOCSPPost(w, r)
		case path == "ocsp" && get, !get:
			w.Header().Set("Allow", "GET, HEAD")
			if path == "ocsp" {
				w.Header().Set("Allow", "POST")
			}
			status = http.StatusMethodNotAllowed
			http.Error(w, "this path does not take "+r.Method, status)
		case path == "roots.pem":
			kind, status = "roots", serveFile(w, r, "application/x-pem-file", []byte(identity.EncodeCertificates(a.Roots())), time.Minute)
		case isCRL:
			kind, status = "crl", a.serveCRL(w, r, name)
		case isOCSP:
			kind, status = "ocsp", a.serveOCSPGet(w, r, request)
		default:
			http.NotFound(w, r)
		}
		a.metrics.served.WithLabelValues(kind, fmt.Sprintf("%dxx", status/100)).Inc()
	})
}

func (a *Authority) serveCRL(w http.ResponseWriter, r *http.Request, name string) int {
	s := a.set.Load()
	by := s.active()
	if name != "ca" {
		by = nil
		for _, i := range s.trusted() {
			if i.id.String() == name {
				by = i
			}
		}
	}
	if by == nil {
		http.NotFound(w, r)
		return http.StatusNotFound
	}
	f, err := a.crl(r.Context(), by)
	if err != nil {
		return a.unavailable(w, r, err)
	}
	return serveFile(w, r, "application/pkix-crl", f.der, time.Minute)
}

// serveFile answers with bytes that caches may keep for a while.
func serveFile(w http.ResponseWriter, r *http.Request, contentType string, body []byte, keep time.Duration) int {
	sum := sha256.Sum256(body)
	tag := `"` + hex.EncodeToString(sum[:12]) + `"`
	h := w.Header()
	h.Set("Content-Type", contentType)
	h.Set("ETag", tag)
	h.Set("Cache-Control", fmt.Sprintf("public, max-age=%d", int(keep.Seconds())))
	if r.Method != http.MethodPost && strings.Contains(r.Header.Get("If-None-Match"), tag) {
		w.WriteHeader(http.StatusNotModified)
		return http.StatusNotModified
	}
	h.Set("Content-Length", strconv.Itoa(len(body)))
	if r.Method != http.MethodHead {
		_, _ = w.Write(body) //nolint:gosec // binary of our own making, of its own content type; an error means the client is gone
	}
	return http.StatusOK
}

func (a *Authority) serveOCSPPost(w http.ResponseWriter, r *http.Request) int {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxOCSPRequest))
	if err != nil {
		http.Error(w, "an OCSP request has at most 4096 bytes", http.StatusRequestEntityTooLarge)
		return http.StatusRequestEntityTooLarge
	}
	return a.serveOCSP(w, r, body)
}

func (a *Authority) serveOCSPGet(w http.ResponseWriter, r *http.Request, text string) int {
	if len(text) > maxOCSPRequest {
		http.Error(w, "an OCSP request has at most 4096 bytes", http.StatusRequestURITooLong)
		return http.StatusRequestURITooLong
	}
	request := []byte(nil)
	if plain, err := url.PathUnescape(text); err == nil {
		request, _ = base64.StdEncoding.DecodeString(plain) // what is malformed is answered as such
	}
	return a.serveOCSP(w, r, request)
}

func (a *Authority) serveOCSP(w http.ResponseWriter, r *http.Request, request []byte) int {
	der, until, err := a.answer(r.Context(), request)
	switch {
	case errors.Is(err, errBusy):
		der = ocsp.TryLaterErrorResponse
	case err != nil:
		a.log.WarnContext(r.Context(), "no OCSP answer", "err", err)
		der = ocsp.InternalErrorErrorResponse
	}
	if until.IsZero() { // an error, which nobody shall keep
		w.Header().Set("Content-Type", "application/ocsp-response")
		w.Header().Set("Cache-Control", "no-store")
		_, _ = w.Write(der) //nolint:gosec // as above
		return http.StatusOK
	}
	return serveFile(w, r, "application/ocsp-response", der, max(0, until.Sub(a.now())))
}

func (a *Authority) unavailable(w http.ResponseWriter, r *http.Request, err error) int {
	a.log.WarnContext(r.Context(), "no revocation list", "err", err)
	w.Header().Set("Retry-After", "10")
	http.Error(w, "the hub cannot answer now: try again", http.StatusServiceUnavailable)
	return http.StatusServiceUnavailable
}
