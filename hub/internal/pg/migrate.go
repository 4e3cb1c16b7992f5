package pg

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
)

// Migrations are named by UTC time (YYYYMMDDHHMMSS_subject.sql), go forward only once released, and leave the schema
// usable by the previous binary.
//
//go:embed migrations/*.sql
var migrations embed.FS

// migrateLock keeps several hubs that start at once from migrating at once. The number is arbitrary but fixed.
const migrateLock = 7_305_221_190

// migrationLockTimeout bounds how long a migration waits for a table, because everyone else queues behind it.
const migrationLockTimeout = "30s"

// Migration is the state of one migration.
type Migration struct {
	Version   int64
	Name      string
	AppliedAt time.Time // zero while pending
}

// Migrate brings the schema up to date, the tables of River included, and returns what it applied. It is safe from several
// processes at once: one migrates, the others wait and then find nothing to do.
func Migrate(ctx context.Context, databaseURL string, log *slog.Logger) ([]Migration, error) {
	var done []Migration
	err := withProvider(databaseURL, func(db *sql.DB, p *goose.Provider) (err error) {
		unlock, err := lockMigrations(ctx, db)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, unlock()) }()
		results, err := p.Up(ctx)
		for _, r := range results {
			done = append(done, Migration{Version: r.Source.Version, Name: r.Source.Path})
			if log != nil {
				log.InfoContext(ctx, "migration applied", "migration", r.Source.Path, "duration_ms", r.Duration.Milliseconds())
			}
		}
		if err != nil {
			return err
		}
		river, err := migrateRiver(ctx, databaseURL)
		if len(river) > 0 && log != nil {
			log.InfoContext(ctx, "migrations of River applied", "count", len(river))
		}
		done = append(done, river...)
		return err
	})
	if err != nil {
		return done, fmt.Errorf("migrating the database: %w", err)
	}
	return done, nil
}

// lockMigrations takes the lock under which one process migrates. It is tried every second rather than waited for: a
// waiting statement would hold a snapshot, on which CREATE INDEX CONCURRENTLY of the migrating process would wait in turn.
func lockMigrations(ctx context.Context, db *sql.DB) (unlock func() error, err error) {
	locker, err := lock.NewPostgresSessionLocker(lock.WithLockID(migrateLock), lock.WithLockTimeout(1, 1800))
	if err != nil {
		return nil, err
	}
	conn, err := db.Conn(ctx)
	if err != nil {
		return nil, err
	}
	if err := locker.SessionLock(ctx, conn); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return func() error {
		stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		return errors.Join(locker.SessionUnlock(stop, conn), conn.Close())
	}, nil
}

// MigrationStatus lists every migration this program knows, oldest first, River's last.
func MigrationStatus(ctx context.Context, databaseURL string) ([]Migration, error) {
	var all []Migration
	err := withProvider(databaseURL, func(_ *sql.DB, p *goose.Provider) error {
		status, err := p.Status(ctx)
		for _, s := range status {
			all = append(all, Migration{Version: s.Source.Version, Name: s.Source.Path, AppliedAt: s.AppliedAt})
		}
		if err != nil {
			return err
		}
		river, err := riverStatus(ctx, databaseURL)
		all = append(all, river...)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("reading the state of migrations: %w", err)
	}
	return all, nil
}

func withProvider(databaseURL string, use func(*sql.DB, *goose.Provider) error) (err error) {
	cfg, err := pgx.ParseConfig(databaseURL)
	if err != nil {
		return errors.New("DATABASE_URL is malformed: it looks like postgres://user:password@host:5432/database") // pgx's text could hold the password
	}
	cfg.ConnectTimeout = connectTimeout
	cfg.RuntimeParams["application_name"] = applicationName
	// Migrations take as long as they take; waiting for a table's lock does not, because everyone else would queue behind.
	cfg.RuntimeParams["statement_timeout"] = "0"
	cfg.RuntimeParams["lock_timeout"] = migrationLockTimeout
	db := stdlib.OpenDB(*cfg)
	defer func() { err = errors.Join(err, db.Close()) }()
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	p, err := goose.NewProvider(goose.DialectPostgres, db, files,
		goose.WithAllowOutofOrder(true), // two subjects' migrations may be merged in another order than they were written
		goose.WithDisableGlobalRegistry(true),
	)
	if err != nil {
		return err
	}
	return use(db, p)
}
