//go:build linux

package ingest

import (
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/hashinsight/hashinsight/hub/internal/fleet"
	"github.com/hashinsight/hashinsight/hub/internal/pg"
	"github.com/hashinsight/hashinsight/pkg/bench"
	"github.com/hashinsight/hashinsight/pkg/wire"
)

// qLatestWAL adds up the write-ahead log since a position for each of the tables of latest polls, without the images of whole pages that follow a checkpoint.
const qLatestWAL = `
SELECT coalesce(sum(w.bytes) FILTER (WHERE o.name ~ '^miner_latest'), 0)::bigint, coalesce(sum(w.bytes) FILTER (WHERE o.name ~ '^(miner_detail|pg_toast)'), 0)::bigint,
	coalesce(sum(w.images), 0)::bigint
FROM (SELECT (regexp_match(block_ref, 'rel [0-9]+/[0-9]+/([0-9]+)'))[1]::oid AS node, sum((record_length - fpi_length + 7) / 8 * 8) AS bytes, sum(fpi_length) AS images
	FROM pg_get_wal_records_info($1::bigint + '0/0'::pg_lsn, pg_current_wal_flush_lsn()) GROUP BY 1) w
LEFT JOIN LATERAL (SELECT coalesce(owner.relname, c.relname) AS name FROM pg_class c
	LEFT JOIN pg_index i ON i.indexrelid = c.oid LEFT JOIN pg_class owner ON owner.reltoastrelid = coalesce(i.indrelid, c.oid)
	WHERE c.relfilenode = w.node) o ON true`

// TestBenchLatest measures what latest polls cost at the pace at which they come, beside what their hot rows cost: P7 runs as fast as the hub can,
// which leaves most of them out.
func TestBenchLatest(t *testing.T) {
	if os.Getenv(bench.FileVariable) == "" {
		t.Skip("a measurement of half a minute: set " + bench.FileVariable + " to the file for its results")
	}
	const (
		miners   = 5000
		interval = 10 * time.Second
		polls    = 30 // five minutes, PostgreSQL's time between checkpoints
		slices   = 10 // transactions of one interval
	)
	_, pool := benchDatabase(t)
	h, _ := newBenchHub(t, pool, 1)
	createBareTable(t, h)
	s := h.newSite(t, "bench", miners)
	now := time.Now().UTC().Truncate(24 * time.Hour).Add(-20 * time.Hour)
	latest, err := fleet.NewLatest(fleet.LatestConfig{Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	dec, err := wire.NewDecoder()
	if err != nil {
		t.Fatal(err)
	}
	defer dec.Close()
	poll := func() {
		for slice := range slices {
			now = now.Add(interval / slices)
			b := s.batchOf(t, benchPolls(s, s.miners[slice*miners/slices:(slice+1)*miners/slices], now.Add(-time.Second)), nil)
			samples, err := dec.Samples(b.Payload)
			if err != nil {
				t.Fatal(err)
			}
			u := latest.Collect([]fleet.SiteSamples{{Site: s.id, Samples: samples}}, now.Add(time.Hour))
			if err := pg.InTx(t.Context(), pool, func(tx pgx.Tx) error { return u.Write(t.Context(), tx) }); err != nil {
				t.Fatal(err)
			}
			latest.Committed(u)
		}
	}
	poll()
	checkpoint(t, pool)
	lsn := walPosition(t, h)
	for range polls {
		poll()
	}
	var row, detail, images int64
	if err := pool.QueryRow(t.Context(), qLatestWAL, lsn).Scan(&row, &detail, &images); err != nil {
		t.Fatal(err)
	}
	run := makeRun(t, s, &now, 2)
	checkpoint(t, pool)
	lsn = walPosition(t, h)
	bareCopy(t, pool, run.copies)
	var bare int64
	for _, n := range walByClass(t, h, lsn) {
		bare += n
	}
	floor := float64(bare) / (2 * miners)
	per := func(n int64) float64 { return float64(n) / (miners * polls) }
	value := per(row + detail)
	record(t, bench.Result{
		ID: "P7-live", What: fmt.Sprintf("WAL of the latest rows of %d miners polled every %s as time passes, %d polls of each in %d transactions, against that of plain COPY of their hot rows: "+
			"row %.1f B a poll, boards and pools %.1f; images of pages after one checkpoint %.1f more", miners, interval, polls, polls*slices, per(row), per(detail), per(images)),
		Floor: floor, Value: value, Unit: "B/poll", Ratio: value / floor, Target: "≤ 1.25 × the hot row's", Met: value <= 1.25*floor,
		Samples: map[string][]float64{"row": {per(row)}, "detail": {per(detail)}, "images": {per(images)}},
	})
}
