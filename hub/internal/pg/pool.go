// Package pg is the hub's way to PostgreSQL: connection pools with their limits and metrics, transactions, schema
// migrations, and a PostgreSQL server of the hub's own where no other is configured. It holds no subject's SQL: that
// stands beside the code that uses it. hubd opens it; every subject gets a pool from it.
package pg

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
)

const (
	applicationName  = "hashinsight"
	connectTimeout   = 15 * time.Second
	acquireTimeout   = 30 * time.Second
	connLifetime     = 300 * time.Second
	statementTimeout = 30 * time.Second
	jobsConns        = 10 // a handful of loops
)

// Config describes the pools.
type Config struct {
	URL        string                // postgres://…
	MinConns   int32                 // kept open in each pool; 0 means 10
	ExtraConns int32                 // opened on demand above MinConns in each pool; 0 means 20
	Registerer prometheus.Registerer // nil means no metrics
}

// Pools are three pools to one database, so that a slow page cannot starve ingest, nor a job either of them.
type Pools struct {
	API    *pgxpool.Pool
	Ingest *pgxpool.Pool
	Jobs   *pgxpool.Pool // maintenance and other background work

	stop func()
}

// Open makes the pools. It connects lazily: a database that is away is found by Check or the first query.
func Open(ctx context.Context, c Config) (*Pools, error) {
	if c.MinConns == 0 {
		c.MinConns = 10
	}
	if c.ExtraConns == 0 {
		c.ExtraConns = 20
	}
	m := newMetrics()
	pools := make(map[string]*pgxpool.Pool, 3)
	closeAll := func() {
		for _, p := range pools {
			p.Close()
		}
	}
	for _, name := range []string{"api", "ingest", "jobs"} {
		pc, err := PoolConfig(c.URL)
		if err != nil {
			closeAll()
			return nil, err
		}
		pc.MinConns, pc.MaxConns = c.MinConns, c.MinConns+c.ExtraConns
		if name == "jobs" {
			pc.MinConns, pc.MaxConns = 1, jobsConns
		}
		pc.ConnConfig.Tracer = tracer{m}
		p, err := pgxpool.NewWithConfig(ctx, pc)
		if err != nil {
			closeAll()
			return nil, fmt.Errorf("database pool %s: %w", name, err)
		}
		pools[name] = p
	}
	p := &Pools{API: pools["api"], Ingest: pools["ingest"], Jobs: pools["jobs"]}
	if c.Registerer == nil {
		p.stop = closeAll
		return p, nil
	}
	col := &collector{metrics: m, pools: pools}
	if err := c.Registerer.Register(col); err != nil {
		closeAll()
		return nil, fmt.Errorf("database metrics: %w", err)
	}
	p.stop = func() {
		c.Registerer.Unregister(col)
		closeAll()
	}
	return p, nil
}

// Connections returns how many connections the pools may open together.
func (c Config) Connections() int { return 2*int(c.MinConns+c.ExtraConns) + jobsConns }

// PoolConfig returns the settings every pool of the hub shares. Its errors never hold the URL's password.
func PoolConfig(url string) (*pgxpool.Config, error) {
	pc, err := pgxpool.ParseConfig(url)
	if err != nil {
		// pgx's own text can hold parts of the URL.
		return nil, errors.New("DATABASE_URL is malformed: it looks like postgres://user:password@host:5432/database")
	}
	pc.MaxConnLifetime = connLifetime
	pc.MaxConnLifetimeJitter = connLifetime / 10
	pc.PingTimeout = 5 * time.Second
	pc.ConnConfig.ConnectTimeout = connectTimeout
	pc.ConnConfig.RuntimeParams["application_name"] = applicationName
	pc.ConnConfig.RuntimeParams["statement_timeout"] = strconv.FormatInt(statementTimeout.Milliseconds(), 10)
	pc.ConnConfig.RuntimeParams["timezone"] = "UTC"
	pc.ConnConfig.Tracer = tracer{}
	return pc, nil
}

// Check asks the database for an answer, on the pool that pages and agents cannot exhaust.
func (p *Pools) Check(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	return p.Jobs.Ping(ctx)
}

// Close waits until all connections are given back, and closes them.
func (p *Pools) Close() { p.stop() }

// Beginner starts a transaction: a pool, a connection, or a transaction (which makes a savepoint).
type Beginner interface {
	BeginTx(ctx context.Context, opts pgx.TxOptions) (pgx.Tx, error)
}

// InTx runs f in a transaction that is committed when f returns nil, and else rolled back. An error from the commit
// itself means that the outcome is unknown, not that nothing was written.
func InTx(ctx context.Context, db Beginner, f func(tx pgx.Tx) error) error {
	return InTxOptions(ctx, db, pgx.TxOptions{}, f)
}

// InTxOptions is InTx with a chosen isolation level or access mode.
func InTxOptions(ctx context.Context, db Beginner, opts pgx.TxOptions, f func(tx pgx.Tx) error) (err error) {
	tx, err := db.BeginTx(ctx, opts)
	if err != nil {
		return fmt.Errorf("beginning a transaction: %w", err)
	}
	defer func() {
		// After a commit this does nothing; after a failure or a panic the connection must not go back half-way.
		rollback, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		if rerr := tx.Rollback(rollback); rerr != nil && !errors.Is(rerr, pgx.ErrTxClosed) && err != nil {
			err = errors.Join(err, fmt.Errorf("rolling back: %w", rerr))
		}
	}()
	if err := f(tx); err != nil {
		return err
	}
	if err := tx.Commit(ctx); err != nil {
		return fmt.Errorf("committing: %w", err)
	}
	return nil
}
