package api

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/hex"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/hashinsight/hashinsight/hub/internal/access"
	"github.com/hashinsight/hashinsight/hub/internal/webtls"
)

// requestInfo is what is known of a request beside its text. It travels in the context.
type requestInfo struct {
	id        string
	origin    origin
	log       *slog.Logger
	principal *access.Principal   // nil until somebody showed a key or a session
	shown     []*x509.Certificate // the client's certificate and chain, not verified; nil without
	shownErr  error               // the proxy forwarded something else
	client    *webtls.Identity    // who the client's certificate names; nil until it was found to count
	request   *http.Request
}

type requestKey struct{}

// requestOf returns the request's info; outside of a request one that holds nothing and logs nothing.
func requestOf(ctx context.Context) *requestInfo {
	if r, ok := ctx.Value(requestKey{}).(*requestInfo); ok {
		return r
	}
	return &requestInfo{log: slog.New(slog.DiscardHandler)}
}

// response counts what is written, for the access record.
type response struct {
	http.ResponseWriter
	status int
	bytes  int64
}

func (w *response) WriteHeader(status int) {
	if w.status == 0 && status >= 200 { // 1xx come before the answer
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *response) Write(b []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	n, err := w.ResponseWriter.Write(b)
	w.bytes += int64(n)
	return n, err
}

// Unwrap lets http.ResponseController reach flushing and deadlines.
func (w *response) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// Flush implements http.Flusher.
func (w *response) Flush() { _ = http.NewResponseController(w.ResponseWriter).Flush() }

// outermost gives every request its id, origin, deadline, security headers, access record and metrics.
func (s *Server) outermost(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		begin := s.now()
		info := &requestInfo{id: newRequestID(), origin: originOf(r, s.trusted), log: s.log}
		info.shown, info.shownErr = s.shownCertificate(r)
		ctx := context.WithValue(r.Context(), requestKey{}, info)
		if !isStream(r) && !isBundle(r) {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, requestDeadline)
			defer cancel()
		}
		r = r.WithContext(ctx)
		info.request = r
		if r.ContentLength != 0 {
			// net/http reads the rest of a body that nobody wanted before it answers, however slowly that comes. Requests for streams have no body.
			if err := http.NewResponseController(w).SetReadDeadline(time.Now().Add(bodyTimeout)); err != nil {
				s.log.WarnContext(ctx, "the time for a request's body is not bounded", "err", err)
			}
		}
		rw := &response{ResponseWriter: w}
		h := rw.Header()
		h.Set("X-Request-Id", info.id)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Content-Security-Policy", apiPolicy)
		if info.origin.tls {
			h.Set("Strict-Transport-Security", "max-age=31536000")
		}
		if strings.HasPrefix(r.URL.Path, "/api/") || strings.HasPrefix(r.URL.Path, "/health") {
			h.Set("Cache-Control", "no-store")
		}
		defer func() {
			if v := recover(); v != nil && v != http.ErrAbortHandler { //nolint:errorlint // a recovered value is compared as it was thrown
				s.log.ErrorContext(ctx, "request panicked", "request_id", info.id, "panic", v, "stack", string(debug.Stack()))
				if rw.status == 0 {
					writeProblem(rw, newProblem(ctx, http.StatusInternalServerError, "", "an internal error; the log has it under this request's id"))
				}
			} else if v != nil {
				defer panic(v)
			}
			s.record(r, rw, info, s.now().Sub(begin))
		}()
		next.ServeHTTP(rw, r)
	})
}

// apiPolicy is for answers that are no documents; the page's files set their own.
const apiPolicy = "default-src 'none'; frame-ancestors 'none'"

// record writes the access record and counts the request.
func (s *Server) record(r *http.Request, w *response, info *requestInfo, took time.Duration) {
	status := w.status
	if status == 0 {
		status = http.StatusOK
	}
	method, route := r.Method, routeOf(r)
	if !knownMethod(method) {
		method = "OTHER" // methods are the client's text
	}
	s.metrics.request(method, route, status, took, !isStream(r) && !isBundle(r))
	attrs := []any{
		"address", info.origin.addr.String(), "method", method, "route", route, "status", status,
		"duration_ms", float64(took.Microseconds()) / 1000, "bytes", w.bytes, "request_id", info.id,
	}
	if info.principal != nil {
		attrs = append(attrs, "key_id", uuid.UUID(info.principal.KeyID).String())
	}
	s.accessLog.InfoContext(r.Context(), "request", attrs...)
}

// routeOf is the pattern that matched, without its method; never the path itself, which is the client's text.
func routeOf(r *http.Request) string {
	if r.Pattern == "" {
		return "unmatched"
	}
	if _, path, ok := strings.Cut(r.Pattern, " "); ok {
		return path
	}
	return r.Pattern
}

func knownMethod(m string) bool {
	switch m {
	case "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS":
		return true
	}
	return false
}

// isStream reports whether a request is for the event stream, which has no deadline.
func isStream(r *http.Request) bool { return r.URL.Path == eventsPath }

func newRequestID() string {
	var b [10]byte
	_, _ = rand.Read(b[:]) // never fails: it ends the program instead
	return hex.EncodeToString(b[:])
}

// metrics are the HTTP side's.
type metrics struct {
	requests *prometheus.CounterVec
	latency  *prometheus.HistogramVec
	streams  prometheus.Gauge
	refused  prometheus.Counter
	resets   prometheus.Counter
	bundles  prometheus.Counter // refused
	rate     errorRate
}

func newMetrics(version string, now func() time.Time, reg prometheus.Registerer) (*metrics, error) {
	labels := prometheus.Labels{"version": version}
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "hashinsight_requests_total", Help: "HTTP requests by method, route pattern and status.", ConstLabels: labels,
		}, []string{"method", "endpoint", "status"}),
		latency: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "hashinsight_request_latency_seconds", Help: "Time to answer a request, streams left out.", ConstLabels: labels,
			Buckets: []float64{.01, .05, .1, .25, .5, 1, 2.5, 5},
		}, []string{"method", "endpoint"}),
		streams: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "hashinsight_event_streams", Help: "Open event streams.",
		}),
		refused: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "hashinsight_event_streams_refused_total", Help: "Event streams refused because too many were open.",
		}),
		resets: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "hashinsight_event_stream_resets_total", Help: "Times a client was told to fetch the snapshot again because it had fallen behind.",
		}),
	}
	m.bundles = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "hashinsight_bundles_refused_total", Help: "Proof bundles refused because too many were being sent.",
	})
	m.rate.now = now
	rate := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "hashinsight_error_rate", Help: "Share of requests of the last 5 minutes answered with a status of 500 or more, 0 to 1.",
	}, m.rate.value)
	if reg == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.requests, m.latency, m.streams, m.refused, m.resets, m.bundles, rate} {
		if err := reg.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func (m *metrics) request(method, route string, status int, took time.Duration, timed bool) {
	m.requests.WithLabelValues(method, route, strconv.Itoa(status)).Inc()
	if timed {
		m.latency.WithLabelValues(method, route).Observe(took.Seconds())
	}
	m.rate.add(status >= http.StatusInternalServerError)
}

// errorRate counts requests in ten-second cells of the last five minutes.
type errorRate struct {
	now   func() time.Time
	cells [30]struct{ slot, total, failed atomic.Int64 }
}

func (e *errorRate) add(failed bool) {
	slot := e.now().Unix() / 10
	c := &e.cells[slot%int64(len(e.cells))]
	if old := c.slot.Load(); old != slot && c.slot.CompareAndSwap(old, slot) {
		c.total.Store(0) // a request counted by another goroutine just now may be lost: this is a gauge
		c.failed.Store(0)
	}
	c.total.Add(1)
	if failed {
		c.failed.Add(1)
	}
}

func (e *errorRate) value() float64 {
	oldest := e.now().Unix()/10 - int64(len(e.cells)) + 1
	var total, failed int64
	for i := range e.cells {
		if c := &e.cells[i]; c.slot.Load() >= oldest {
			total += c.total.Load()
			failed += c.failed.Load()
		}
	}
	if total == 0 {
		return 0
	}
	return float64(failed) / float64(total)
}
