package pg

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// wakeFor is how long a database that does not answer is waited for: hosted ones sleep, and servers restart.
const wakeFor = 60 * time.Second

// Await waits until the database answers and checks that the hub can work with it: PostgreSQL 15 or newer, UTF-8, writable,
// with room for the connections that the pools may open. What waiting cannot cure (a wrong password, no such database) is
// an error at once.
func Await(ctx context.Context, url string, connections int, log *slog.Logger) error {
	cfg, err := PoolConfig(url)
	if err != nil {
		return err
	}
	var last error
	for end := time.Now().Add(wakeFor); ; {
		conn, err := pgx.ConnectConfig(ctx, cfg.ConnConfig)
		if err == nil {
			defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
			return checkServer(ctx, conn, connections)
		}
		var refused *pgconn.PgError
		if errors.As(err, &refused) && (refused.Code[:2] == "28" || refused.Code[:2] == "3D") {
			return fmt.Errorf("the database refuses us (%s): check user, password and name in DATABASE_URL", refused.Message)
		}
		if last == nil {
			log.WarnContext(ctx, "the database does not answer yet", "err", plain(err))
		}
		last = err
		if time.Now().After(end) {
			return fmt.Errorf("the database did not answer within %v: check DATABASE_URL and that the server runs: %s", wakeFor, plain(last))
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Second):
		}
	}
}

// plain is a connection error without the URL that pgx quotes.
func plain(err error) string {
	var ce *pgconn.ConnectError
	if errors.As(err, &ce) {
		if inner := ce.Unwrap(); inner != nil {
			return inner.Error()
		}
	}
	return err.Error()
}

const qServer = `SELECT current_setting('server_version_num')::int, pg_is_in_recovery(), current_setting('server_encoding'),
	current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int,
	current_setting('transaction_read_only') = 'on', has_schema_privilege(current_schema(), 'CREATE')`

func checkServer(ctx context.Context, conn *pgx.Conn, connections int) error {
	var version, room int
	var standby, readOnly bool
	var create *bool
	var encoding string
	if err := conn.QueryRow(ctx, qServer).Scan(&version, &standby, &encoding, &room, &readOnly, &create); err != nil {
		return fmt.Errorf("checking the database: %w", err)
	}
	var errs []error
	if version/10000 < MinMajor {
		errs = append(errs, fmt.Errorf("the server is PostgreSQL %d: HashInsight needs %d or newer", version/10000, MinMajor))
	}
	if standby || readOnly {
		errs = append(errs, errors.New("the server takes no writes (a standby, or read-only): DATABASE_URL must lead to the primary"))
	}
	if encoding != "UTF8" {
		errs = append(errs, fmt.Errorf("the database's encoding is %s: create it with ENCODING 'UTF8'", encoding))
	}
	if create == nil || !*create {
		errs = append(errs, errors.New("the database user may not create tables: GRANT CREATE ON SCHEMA public to it"))
	}
	if room < connections {
		errs = append(errs, fmt.Errorf("the server allows %d connections and this hub may open %d: raise max_connections or lower DB_POOL_SIZE and DB_MAX_OVERFLOW", room, connections))
	}
	return errors.Join(errs...)
}
