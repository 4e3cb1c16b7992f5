// Package fleet knows the sites, their agents and their miners: who is registered, who is connected, and what each miner
// said last. It owns the tables site, site_key, agent, miner, miner_latest and miner_detail; every read of them for the API is here, typed
// and bounded. It keeps no samples (package series does) and checks no signatures (package ingest does). Package pki registers
// sites, ingest writes through it, the API reads.
package fleet

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/hashinsight/hashinsight/pkg/ident"
)

// Errors that a caller may branch on.
var (
	ErrNotFound = errors.New("not found")
	// ErrCloned means that another spool of the same site holds the lease: two agents run with one identity.
	ErrCloned = errors.New("another agent of this site is connected")
	// ErrNameTaken means that another site has the name.
	ErrNameTaken = errors.New("another site has this name")
)

// Config describes a Store.
type Config struct {
	Pool *pgxpool.Pool    // required
	Now  func() time.Time // nil means time.Now
	Log  *slog.Logger     // nil discards
}

// Store reads and writes the fleet. It is safe for concurrent use and keeps no state of its own.
type Store struct {
	pool *pgxpool.Pool
	now  func() time.Time
	log  *slog.Logger
}

// New returns a Store.
func New(c Config) (*Store, error) {
	if c.Pool == nil {
		return nil, errors.New("fleet: a database pool is required")
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return &Store{pool: c.Pool, now: c.Now, log: c.Log}, nil
}

// StaleIntervals is the number of poll intervals after which a value is called stale.
const StaleIntervals = 2

// clockTolerance is how far ahead of the hub's clock a poll may be: beyond it the agent's clock is wrong.
const clockTolerance = 2 * time.Minute

// Stale reports whether a poll made at at must not be taken for the present: it is too old, or it comes from a clock so far
// ahead that nobody knows how old it is. Such a poll would else look live for as long as the clock was ahead.
func Stale(now, at time.Time, interval time.Duration) bool {
	age := now.Sub(at)
	return age > StaleIntervals*interval || age < -clockTolerance
}

// querier is what reads need: a pool, a connection or a transaction.
type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

func uuidOf(id [16]byte) pgtype.UUID { return pgtype.UUID{Bytes: id, Valid: true} }

func collect[T any](ctx context.Context, q querier, what, sql string, args []any, scan func(pgx.Rows) (T, error)) ([]T, error) {
	rows, err := q.Query(ctx, sql, args...)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", what, err)
	}
	out, err := pgx.CollectRows(rows, func(r pgx.CollectableRow) (T, error) { return scan(rows) })
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", what, err)
	}
	return out, nil
}

// Key is a site's evidence key.
type Key struct {
	Site      ident.SiteID
	ID        ident.KeyID
	Public    []byte // Ed25519
	AddedAt   time.Time
	RevokedAt time.Time // zero while valid
}
