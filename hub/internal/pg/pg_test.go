package pg_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/hashinsight/hashinsight/hub/internal/pg"
	"github.com/hashinsight/hashinsight/hub/pgtest"
)

func TestHubsThatStartAtOnceMigrateOnce(t *testing.T) {
	url := pgtest.EmptyURL(t)
	applied := make([]int, 3)
	var wg sync.WaitGroup
	for i := range applied {
		wg.Go(func() {
			done, err := pg.Migrate(t.Context(), url, nil)
			if err != nil {
				t.Error(err)
			}
			applied[i] = len(done)
		})
	}
	wg.Wait()
	status, err := pg.MigrationStatus(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	if sum := applied[0] + applied[1] + applied[2]; sum != len(status) || sum == 0 {
		t.Errorf("%d migrations were applied %d times (%v)", len(status), sum, applied)
	}
	for _, m := range status {
		if m.AppliedAt.IsZero() {
			t.Errorf("%s is still pending", m.Name)
		}
	}
}

func TestPools(t *testing.T) {
	reg := prometheus.NewRegistry()
	pools, err := pg.Open(t.Context(), pg.Config{URL: pgtest.URL(t), MinConns: 1, ExtraConns: 2, Registerer: reg})
	if err != nil {
		t.Fatal(err)
	}
	if err := pools.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	for setting, want := range map[string]string{"application_name": "hashinsight", "statement_timeout": "30s", "TimeZone": "UTC"} {
		var got string
		if err := pools.API.QueryRow(t.Context(), `SELECT current_setting($1)`, setting).Scan(&got); err != nil || got != want {
			t.Errorf("%s is %q (%v), want %q", setting, got, err, want)
		}
	}
	// A full pool of one kind leaves the others alone.
	for range 3 {
		c, err := pools.API.Acquire(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Release()
	}
	if _, err := pools.Ingest.Exec(t.Context(), `SELECT 1`); err != nil {
		t.Error(err)
	}
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range families {
		names = append(names, f.GetName())
		if f.GetName() == "hashinsight_db_connection_status" && f.GetMetric()[0].GetGauge().GetValue() != 1 {
			t.Error("hashinsight_db_connection_status is not 1")
		}
	}
	for _, want := range []string{"hashinsight_db_query_duration_seconds", "hashinsight_db_connection_pool_size", "hashinsight_db_connection_pool_active", "hashinsight_db_connection_status"} {
		if !strings.Contains(strings.Join(names, " "), want) {
			t.Errorf("there is no metric %s", want)
		}
	}
}

func TestInTx(t *testing.T) {
	pool := pgtest.New(t)
	ctx := t.Context()
	if _, err := pool.Exec(ctx, `CREATE TABLE n (n int)`); err != nil {
		t.Fatal(err)
	}
	insert := func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `INSERT INTO n VALUES (1)`)
		return err
	}
	want := errors.New("no")
	if err := pg.InTx(ctx, pool, func(tx pgx.Tx) error { return errors.Join(insert(tx), want) }); !errors.Is(err, want) {
		t.Errorf("got %v", err)
	}
	func() {
		defer func() { _ = recover() }()
		_ = pg.InTx(ctx, pool, func(tx pgx.Tx) error { panic(insert(tx)) })
	}()
	cancelled, cancel := context.WithCancel(ctx)
	if err := pg.InTx(cancelled, pool, func(tx pgx.Tx) error { err := insert(tx); cancel(); return err }); err == nil {
		t.Error("a cancelled transaction was committed")
	}
	if err := pg.InTx(ctx, pool, insert); err != nil {
		t.Error(err)
	}
	var n int
	if err := pool.QueryRow(ctx, `SELECT count(*) FROM n`).Scan(&n); err != nil || n != 1 {
		t.Errorf("%d rows, %v; want the one that was committed", n, err)
	}
	if got := pool.Stat().AcquiredConns(); got != 0 {
		t.Errorf("%d connections were not given back", got)
	}
}

func TestAwaitNamesWhatWaitingCannotCure(t *testing.T) {
	url := pgtest.URL(t)
	log := slog.New(slog.DiscardHandler)
	if err := pg.Await(t.Context(), url, 10, log); err != nil {
		t.Error(err)
	}
	if err := pg.Await(t.Context(), url, 100_000, log); err == nil || !strings.Contains(err.Error(), "max_connections") {
		t.Errorf("too few connections: %v", err)
	}
	missing := strings.Replace(url, "postgres:///", "postgres:///no_such_", 1)
	if err := pg.Await(t.Context(), missing, 10, log); err == nil || !strings.Contains(err.Error(), "DATABASE_URL") {
		t.Errorf("no such database: %v", err)
	}
	_, err := pg.PoolConfig("postgres://user:hunter2@host:port/db")
	if err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("a malformed URL: %v", err)
	}
}
