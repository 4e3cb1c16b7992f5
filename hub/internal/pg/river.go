package pg

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"
)

// RiverSchema is the schema that holds the tables of River, the library that runs the hub's jobs. River brings its own
// migrations; they run after the hub's, under the same lock.
const RiverSchema = "river"

const (
	qRiverSchema  = `CREATE SCHEMA IF NOT EXISTS river`
	qRiverKnown   = `SELECT to_regclass('river.river_migration') IS NOT NULL`
	qRiverApplied = `SELECT version, created_at FROM river.river_migration WHERE line = 'main'`
)

// withRiver opens a connection for River's migrations, with the settings of the hub's own.
func withRiver(ctx context.Context, databaseURL string, use func(*pgxpool.Pool, *rivermigrate.Migrator[pgx.Tx]) error) error {
	cfg, err := PoolConfig(databaseURL)
	if err != nil {
		return err
	}
	cfg.MinConns, cfg.MaxConns = 0, 1
	cfg.ConnConfig.RuntimeParams["statement_timeout"] = "0"
	cfg.ConnConfig.RuntimeParams["lock_timeout"] = migrationLockTimeout
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		return err
	}
	defer pool.Close()
	m, err := rivermigrate.New(riverpgxv5.New(pool), &rivermigrate.Config{Schema: RiverSchema, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	return use(pool, m)
}

// migrateRiver brings River's tables up to date.
func migrateRiver(ctx context.Context, databaseURL string) (done []Migration, err error) {
	err = withRiver(ctx, databaseURL, func(pool *pgxpool.Pool, m *rivermigrate.Migrator[pgx.Tx]) error {
		// Asked first: a role that may not make schemas can still run a hub whose schema was made for it.
		var known bool
		if err := pool.QueryRow(ctx, qRiverKnown).Scan(&known); err != nil {
			return err
		}
		if !known {
			if _, err := pool.Exec(ctx, qRiverSchema); err != nil {
				return err
			}
		}
		r, err := m.Migrate(ctx, rivermigrate.DirectionUp, nil)
		if r != nil {
			for _, v := range r.Versions {
				done = append(done, Migration{Version: int64(v.Version), Name: riverName(v.Version)})
			}
		}
		return err
	})
	if err != nil {
		return done, fmt.Errorf("the tables of River (schema %s): %w", RiverSchema, err)
	}
	return done, nil
}

// riverStatus lists River's migrations.
func riverStatus(ctx context.Context, databaseURL string) (all []Migration, err error) {
	err = withRiver(ctx, databaseURL, func(pool *pgxpool.Pool, m *rivermigrate.Migrator[pgx.Tx]) error {
		applied := map[int]time.Time{}
		var known bool
		if err := pool.QueryRow(ctx, qRiverKnown).Scan(&known); err != nil {
			return err
		}
		if known {
			rows, err := pool.Query(ctx, qRiverApplied)
			var version int
			var at time.Time
			if _, ferr := pgx.ForEachRow(rows, []any{&version, &at}, func() error { applied[version] = at; return nil }); errors.Join(err, ferr) != nil {
				return errors.Join(err, ferr)
			}
		}
		for _, v := range m.AllVersions() {
			all = append(all, Migration{Version: int64(v.Version), Name: riverName(v.Version), AppliedAt: applied[v.Version]})
		}
		return nil
	})
	return all, err
}

func riverName(version int) string { return path.Join(RiverSchema, strconv.Itoa(version)) }
