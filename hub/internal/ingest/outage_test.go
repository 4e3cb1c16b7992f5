package ingest

import (
	"context"
	"os"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/hashinsight/hashinsight/hub/internal/pg"
	"github.com/hashinsight/hashinsight/pkg/evidence"
	telemetryv1 "github.com/hashinsight/hashinsight/proto/telemetry/v1"
)

// database is a PostgreSQL of the test's own, which can be killed and started again.
type database struct {
	t   *testing.T
	dir string
	e   *pg.Embedded
}

func (d *database) start() {
	d.t.Helper()
	var err error
	if d.e, err = pg.StartEmbedded(d.t.Context(), pg.EmbeddedConfig{Dir: d.dir}); err != nil {
		d.t.Fatalf("this test needs PostgreSQL: %v", err)
	}
}

// newDatabase makes and starts a PostgreSQL that ends with the test.
func newDatabase(t *testing.T) *database {
	t.Helper()
	dir, err := os.MkdirTemp("", "hsi-ingest-") // short, and open to the server's account
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	d := &database{t: t, dir: dir}
	d.start()
	t.Cleanup(d.crash)
	return d
}

// crash ends the server without letting it write anything out.
func (d *database) crash() {
	ctx, cancel := context.WithCancel(context.WithoutCancel(d.t.Context()))
	cancel()
	_ = d.e.Stop(ctx) // says that it was cut short
}

// pool migrates the database and opens it.
func (d *database) pool() *pgxpool.Pool {
	d.t.Helper()
	url := d.e.URL()
	if _, err := pg.Migrate(d.t.Context(), url, nil); err != nil {
		d.t.Fatal(err)
	}
	cfg, err := pg.PoolConfig(url)
	if err != nil {
		d.t.Fatal(err)
	}
	pool, err := pgxpool.NewWithConfig(d.t.Context(), cfg)
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(pool.Close)
	return pool
}

func TestDatabaseThatCrashesUnderTheStreamLosesNothing(t *testing.T) {
	d := newDatabase(t)
	h := newHubOn(t, d.pool(), func(c *Config) { c.RetryAfter = 50 * time.Millisecond; c.GroupRows = 100 })
	s := h.newSite(t, "north", 50)
	l := h.connect(t, s)
	const total = 400
	pending := map[evidence.Hash]*telemetryv1.Batch{}
	var refused, acked int
	at := time.Now().Add(-10 * time.Minute)
	send := func(b *telemetryv1.Batch) {
		hd, err := evidence.ParseHeader(b.GetHeader())
		if err != nil {
			t.Fatal(err)
		}
		pending[hd.Hash()] = b
		l.send(b)
	}
	for made := 0; acked < total; {
		for made < total && len(pending) < 32 {
			send(s.batch(t, at.Add(time.Duration(made)*time.Second)))
			made++
		}
		r := l.recv()
		if a := r.GetAck(); a != nil {
			if _, ok := pending[evidence.Hash(a.GetHeaderHash())]; !ok {
				t.Fatalf("batch %d acknowledged, which was not on its way", a.GetSeq())
			}
			delete(pending, evidence.Hash(a.GetHeaderHash()))
			if acked++; acked == 60 || acked == 200 {
				d.crash()
			}
			continue
		}
		f := r.GetRefusal()
		if f.GetReason() != telemetryv1.RefusalReason_REFUSAL_REASON_UNAVAILABLE || f.GetRetryAfterMs() == 0 {
			t.Fatalf("answer %v, want patience", r)
		}
		if refused++; refused%40 == 1 {
			select {
			case <-d.e.Done():
				d.start()
			default:
			}
		}
		b := pending[evidence.Hash(f.GetHeaderHash())]
		// As agents do: silence for as long as the hub asks.
		<-time.After(time.Duration(f.GetRetryAfterMs()) * time.Millisecond)
		send(b)
	}
	if refused == 0 {
		t.Error("the database was never away")
	}
	h.want(t, "batches", ledger, total, s.id[:])
	h.want(t, "hot rows", rowsOf, total*50, s.id[:])
	h.want(t, "serial numbers", serials, total*50, s.id[:])
	h.want(t, "totals", `SELECT samples FROM batch_total WHERE site_id = $1`, total*50, s.id[:])
	t.Logf("%d batches, %d times refused", total, refused)
}
