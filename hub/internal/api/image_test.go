package api

import (
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/hashinsight/hashinsight/hub/internal/fleet"
)

// The fleet is read with a plan for the values given. PostgreSQL's plan for all values, which it tries from the sixth run on, took
// 19 s for 10,000 miners on tables without statistics.
func TestCompleteReadsAreNeverPlannedForAllValues(t *testing.T) {
	w := newWorld(t)
	w.miners(50)
	c := w.pool.Config()
	c.MinConns, c.MaxConns = 1, 1
	pool, err := pgxpool.NewWithConfig(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	if w.server.fleet, err = fleet.New(fleet.Config{Pool: pool, Now: w.clock.now}); err != nil {
		t.Fatal(err)
	}
	var img *image
	for range 16 {
		w.clock.advance(time.Second)
		if img, err = w.server.loadImage(t.Context(), img); err != nil {
			t.Fatal(err)
		}
		if _, err := w.server.loadImage(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
	}
	var generic int
	err = pool.QueryRow(t.Context(), `SELECT count(*) FROM pg_prepared_statements WHERE statement LIKE '%FROM miner_latest%' AND generic_plans > 0`,
		pgx.QueryExecModeExec).Scan(&generic)
	if err != nil || generic != 0 {
		t.Errorf("%d statements have a plan for all values, %v", generic, err)
	}
}

// Rows that did not change are the same rows in the next image: that is what a patch is made from.
func TestImagesShareWhatDidNotChange(t *testing.T) {
	w := newWorld(t)
	ids := w.miners(4)
	first, err := w.server.loadImage(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	w.observe(nil, w.poll(ids[2], 1e12))
	second, err := w.server.loadImage(t.Context(), first)
	if err != nil {
		t.Fatal(err)
	}
	w.clock.advance(2 * reloadEvery)
	third, err := w.server.loadImage(t.Context(), second)
	if err != nil {
		t.Fatal(err)
	}
	if third.loadedAt.Equal(second.loadedAt) || first.version >= second.version || second.version >= third.version || third.since != first.since {
		t.Errorf("versions %d %d %d, since %d %d", first.version, second.version, third.version, first.since, third.since)
	}
	for i, r := range first.rows {
		changed := r.Info.Miner == ids[2]
		if (second.rows[i] != r) != changed || third.rows[i] != second.rows[i] {
			t.Errorf("row %d: changed %v, shared %v, then %v", i, changed, second.rows[i] == r, third.rows[i] == second.rows[i])
		}
	}
	if got := third.changedSince(first); len(got) != 1 || got[0].Info.Miner != ids[2] {
		t.Errorf("changed since the first: %d rows", len(got))
	}
	// A miner that is gone cannot be taken out by a patch: clients begin again.
	if _, err := w.pool.Exec(t.Context(), `DELETE FROM miner_latest WHERE miner_id = $1`, [16]byte(ids[0])); err != nil {
		t.Fatal(err)
	}
	w.clock.advance(2 * reloadEvery)
	fourth, err := w.server.loadImage(t.Context(), third)
	if err != nil {
		t.Fatal(err)
	}
	if len(fourth.rows) != 3 || fourth.since <= third.version {
		t.Errorf("%d rows, since %d after %d", len(fourth.rows), fourth.since, third.version)
	}
}
