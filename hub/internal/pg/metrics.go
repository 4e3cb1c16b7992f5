package pg

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	duration *prometheus.HistogramVec
}

func newMetrics() *metrics {
	return &metrics{duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name:    "hashinsight_db_query_duration_seconds",
		Help:    "Time from sending a statement to its last answer, by the statement's first word.",
		Buckets: []float64{.001, .01, .05, .1, .5, 1},
	}, []string{"query_type"})}
}

// collector reports the pools as they are when they are asked for.
type collector struct {
	*metrics
	pools map[string]*pgxpool.Pool
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	c.duration.Describe(ch)
	ch <- descSize
	ch <- descActive
	ch <- descStatus
}

var (
	descSize   = prometheus.NewDesc("hashinsight_db_connection_pool_size", "Open connections to the database.", []string{"pool"}, nil)
	descActive = prometheus.NewDesc("hashinsight_db_connection_pool_active", "Connections in use.", []string{"pool"}, nil)
	descStatus = prometheus.NewDesc("hashinsight_db_connection_status", "1 when the database answers, 0 when not.", nil, nil)
)

// Collect implements prometheus.Collector.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	c.duration.Collect(ch)
	for name, p := range c.pools {
		st := p.Stat()
		ch <- prometheus.MustNewConstMetric(descSize, prometheus.GaugeValue, float64(st.TotalConns()), name)
		ch <- prometheus.MustNewConstMetric(descActive, prometheus.GaugeValue, float64(st.AcquiredConns()), name)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	up := 0.0
	if c.pools["jobs"].Ping(ctx) == nil {
		up = 1
	}
	ch <- prometheus.MustNewConstMetric(descStatus, prometheus.GaugeValue, up)
}

// tracer measures statements, and bounds the wait for a connection. The clock is the real one: a statement's
// duration is the server's, whatever time the hub believes in.
type tracer struct{ m *metrics }

type traceKey struct{}

type trace struct {
	kind  string
	start time.Time
}

// TraceQueryStart implements pgx.QueryTracer.
func (t tracer) TraceQueryStart(ctx context.Context, _ *pgx.Conn, d pgx.TraceQueryStartData) context.Context {
	return context.WithValue(ctx, traceKey{}, trace{queryType(d.SQL), time.Now()})
}

// TraceQueryEnd implements pgx.QueryTracer.
func (t tracer) TraceQueryEnd(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryEndData) { t.end(ctx) }

// TraceBatchStart implements pgx.BatchTracer.
func (t tracer) TraceBatchStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceBatchStartData) context.Context {
	return context.WithValue(ctx, traceKey{}, trace{"batch", time.Now()})
}

// TraceBatchQuery implements pgx.BatchTracer.
func (tracer) TraceBatchQuery(context.Context, *pgx.Conn, pgx.TraceBatchQueryData) {}

// TraceBatchEnd implements pgx.BatchTracer.
func (t tracer) TraceBatchEnd(ctx context.Context, _ *pgx.Conn, _ pgx.TraceBatchEndData) { t.end(ctx) }

// TraceCopyFromStart implements pgx.CopyFromTracer.
func (t tracer) TraceCopyFromStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceCopyFromStartData) context.Context {
	return context.WithValue(ctx, traceKey{}, trace{"copy", time.Now()})
}

// TraceCopyFromEnd implements pgx.CopyFromTracer.
func (t tracer) TraceCopyFromEnd(ctx context.Context, _ *pgx.Conn, _ pgx.TraceCopyFromEndData) {
	t.end(ctx)
}

func (t tracer) end(ctx context.Context) {
	if tr, ok := ctx.Value(traceKey{}).(trace); ok && t.m != nil {
		t.m.duration.WithLabelValues(tr.kind).Observe(time.Since(tr.start).Seconds())
	}
}

type acquireKey struct{}

// TraceAcquireStart implements pgxpool.AcquireTracer.
func (tracer) TraceAcquireStart(ctx context.Context, _ *pgxpool.Pool, _ pgxpool.TraceAcquireStartData) context.Context {
	ctx, cancel := context.WithTimeout(ctx, acquireTimeout)
	return context.WithValue(ctx, acquireKey{}, cancel)
}

// TraceAcquireEnd implements pgxpool.AcquireTracer.
func (tracer) TraceAcquireEnd(ctx context.Context, _ *pgxpool.Pool, _ pgxpool.TraceAcquireEndData) {
	if cancel, ok := ctx.Value(acquireKey{}).(context.CancelFunc); ok {
		cancel()
	}
}

// queryType is the first word of a statement, out of a closed list: a label must stay bounded.
func queryType(sql string) string {
	word, _, _ := strings.Cut(strings.TrimSpace(sql), " ")
	switch w := strings.ToLower(strings.TrimRight(word, ";\n")); w {
	case "select", "insert", "update", "delete", "copy", "begin", "commit", "rollback", "create", "alter", "drop":
		return w
	case "with":
		return "select"
	default:
		return "other"
	}
}

func shortHash(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:5])
}
