// Package customer keeps whom the operator serves and what was agreed: customers, contracts with versions of their terms, which miner belongs to
// which contract from when to when, and the excuses under which miners may stand still. It writes the tables customer, contract, contract_version,
// contract_miner and excuse, refuses overlaps, shows gaps, and records every change in the audit log with it. It judges no slot: package sla does,
// from what package statement reads here. Packages api and the command line change things through its Store.
package customer

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/hashinsight/hashinsight/hub/internal/access"
	"github.com/hashinsight/hashinsight/hub/internal/apperr"
	"github.com/hashinsight/hashinsight/hub/internal/audit"
	"github.com/hashinsight/hashinsight/hub/internal/pg"
	"github.com/hashinsight/hashinsight/pkg/proof"
)

// Bounds.
const (
	MaxCustomers   = 10_000
	MaxContracts   = 1_000   // of one customer
	MaxVersions    = 200     // of one contract
	MaxAssignments = 200_000 // of one contract, those that ended too
	MaxBatch       = 5_000   // assignments made or ended by one order
	MaxPage        = 1_000
	MaxExcuses     = 500   // of one site that begin in one month
	MaxExcused     = 5_000 // miners that one excuse names
	MaxShortenings = 20    // of one excuse
	MaxGaps        = 500   // that are shown of one contract

	MaxExcuse = 31 * 24 * time.Hour  // length of an excuse
	MaxAhead  = 366 * 24 * time.Hour // how far from now terms, assignments and excuses may begin, either way
	maxName   = 100                  // bytes
	maxNote   = 500                  // bytes
)

// Querier is a pool or a transaction.
type Querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// Config describes a Store.
type Config struct {
	DB    *pgxpool.Pool
	Audit *audit.Log
	// Changed is told, in the transaction of a change, that what is known of a contract changed for slots from a time to another (0: open). Nil: nobody
	// computes anything from it.
	Changed func(ctx context.Context, tx pgx.Tx, contract uuid.UUID, fromMS, toMS int64) error
	// Closed reports whether a statement has been issued of a month that the time from one to another (0: open) touches: its past changes no more. Nil:
	// there are no statements.
	Closed func(ctx context.Context, tx pgx.Tx, contract uuid.UUID, fromMS, toMS int64) (bool, error)
	// Note puts versions of terms and excuses into the transparency log, in the transaction that records them. Nil: there is no log.
	Note func(ctx context.Context, tx pgx.Tx, entries ...proof.Entry) error
	Now  func() time.Time // nil means time.Now
}

// Store reads and changes what this package keeps. It is safe for concurrent use and keeps no state.
type Store struct{ c Config }

// New checks the configuration. It does not touch the database.
func New(c Config) (*Store, error) {
	if c.DB == nil || c.Audit == nil {
		return nil, errors.New("customer: DB and Audit are required")
	}
	if c.Changed == nil {
		c.Changed = func(context.Context, pgx.Tx, uuid.UUID, int64, int64) error { return nil }
	}
	if c.Closed == nil {
		c.Closed = func(context.Context, pgx.Tx, uuid.UUID, int64, int64) (bool, error) { return false, nil }
	}
	if c.Note == nil {
		c.Note = func(context.Context, pgx.Tx, ...proof.Entry) error { return nil }
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return &Store{c: c}, nil
}

// reader is q, or the store's own pool where the caller has none.
func (s *Store) reader(q Querier) Querier {
	if q == nil {
		return s.c.DB
	}
	return q
}

const (
	// Changes follow each other: what one has read of the others still holds when it commits. Otherwise two orders for one miner would meet in a
	// constraint that cannot name the winner, and an excuse could miss a contract that is being given a miner. They are rare, and people's. The
	// number is this package's alone.
	qLockChanges  = `SELECT pg_advisory_xact_lock(7391204447)`
	qLockContract = `SELECT id FROM contract WHERE id = $1 FOR NO KEY UPDATE`
)

// change makes a change in a transaction of its own, after and before all others. A customer's key makes none, whatever its permissions say.
func (s *Store) change(ctx context.Context, by access.Actor, work func(tx pgx.Tx, now time.Time) error) error {
	if by.Customer != uuid.Nil {
		return apperr.E(apperr.Forbidden, "AUTH_002", "a customer's key changes nothing")
	}
	return pg.InTx(ctx, s.c.DB, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, qLockChanges); err != nil {
			return fmt.Errorf("waiting for other changes of contracts: %w", err)
		}
		return work(tx, s.c.Now().UTC().Truncate(time.Millisecond))
	})
}

// Lock makes changes of a contract, and of the excuses that concern it, wait for the end of the caller's transaction, and the caller for theirs. Who
// issues a statement holds it while reading what the statement rests on.
func Lock(ctx context.Context, tx pgx.Tx, contract uuid.UUID) error {
	var id uuid.UUID
	err := tx.QueryRow(ctx, qLockContract, contract).Scan(&id)
	if errors.Is(err, pgx.ErrNoRows) {
		return noContract(contract)
	}
	if err != nil {
		return fmt.Errorf("locking contract %s: %w", contract, err)
	}
	return nil
}

func (s *Store) record(ctx context.Context, tx pgx.Tx, by access.Actor, action string, details map[string]any) error {
	level := audit.Info
	if details[hindsight] == true {
		level = audit.Warning
	}
	return s.c.Audit.Add(ctx, tx, by.Entry(audit.Entry{Level: level, Category: audit.Configuration, Action: action, Details: details}))
}

// hindsight marks the entry of a change that reaches into slots that are over: while a contract is set up, and when an assignment is called off. Somebody
// shall look at it.
const hindsight = "in_hindsight"

func invalid(format string, args ...any) error {
	return apperr.E(apperr.Unprocessable, "VALID_001", format, args...)
}

func conflict(format string, args ...any) error {
	return apperr.E(apperr.Conflict, "CONFLICT_001", format, args...)
}

// nameOf checks a name and takes the space around it away.
func nameOf(what, name string) (string, error) {
	name = strings.TrimSpace(name)
	if name == "" || len(name) > maxName || !plain(name) {
		return "", invalid("the name of a %s: want 1 to %d bytes of text without control characters", what, maxName)
	}
	return name, nil
}

func plain(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r >= 0x7f && r < 0xa0 || r == '\u2028' || r == '\u2029' })
}

// Customer is whom the operator serves.
type Customer struct {
	ID        uuid.UUID
	Name      string
	CreatedAt time.Time
	Contracts int64
}

const (
	qCountCustomers = `SELECT count(*) FROM customer`
	qAddCustomer    = `INSERT INTO customer (id, name, created_at) VALUES ($1, $2, $3) ON CONFLICT (name) DO NOTHING`
	qCustomerNamed  = `SELECT id FROM customer WHERE name = $1`
	qCustomer       = `SELECT u.id, u.name, u.created_at, (SELECT count(*) FROM contract c WHERE c.customer_id = u.id) FROM customer u WHERE u.id = $1`
	qCustomers      = `SELECT u.id, u.name, u.created_at, (SELECT count(*) FROM contract c WHERE c.customer_id = u.id) FROM customer u
		WHERE (u.name, u.id) > ($1, $2) ORDER BY u.name, u.id LIMIT $3`
)

func scanCustomer(row pgx.CollectableRow) (c Customer, err error) {
	err = row.Scan(&c.ID, &c.Name, &c.CreatedAt, &c.Contracts)
	c.CreatedAt = c.CreatedAt.UTC()
	return c, err
}

func noCustomer(id uuid.UUID) error {
	return apperr.E(apperr.NotFound, "NOTFOUND_001", "customer %s does not exist", id)
}

// AddCustomer adds a customer. Its name is refused when another has it, who is then named: so a repeated order does no harm.
func (s *Store) AddCustomer(ctx context.Context, by access.Actor, name string) (c Customer, err error) {
	if name, err = nameOf("customer", name); err != nil {
		return c, err
	}
	err = s.change(ctx, by, func(tx pgx.Tx, now time.Time) error {
		var n int
		if err := tx.QueryRow(ctx, qCountCustomers).Scan(&n); err != nil {
			return fmt.Errorf("counting customers: %w", err)
		}
		if n >= MaxCustomers {
			return conflict("there are %d customers, which is all that a hub keeps", n)
		}
		c = Customer{ID: uuid.New(), Name: name, CreatedAt: now}
		tag, err := tx.Exec(ctx, qAddCustomer, c.ID, c.Name, now)
		if err != nil {
			return fmt.Errorf("adding a customer: %w", err)
		}
		if tag.RowsAffected() == 0 {
			var other uuid.UUID
			if err := tx.QueryRow(ctx, qCustomerNamed, name).Scan(&other); err != nil {
				return fmt.Errorf("looking for the customer: %w", err)
			}
			return conflict("there is a customer %q already, with the id %s: use that one, or choose another name", name, other)
		}
		return s.record(ctx, tx, by, "customer_added", map[string]any{"customer_id": c.ID.String(), "customer": name})
	})
	return c, err
}

// Customer returns one customer. Q may be nil, here and wherever this package reads: then it is the store's own pool.
func (s *Store) Customer(ctx context.Context, q Querier, id uuid.UUID) (Customer, error) {
	rows, err := s.reader(q).Query(ctx, qCustomer, id)
	if err != nil {
		return Customer{}, fmt.Errorf("reading customer %s: %w", id, err)
	}
	c, err := pgx.CollectExactlyOneRow(rows, scanCustomer)
	if errors.Is(err, pgx.ErrNoRows) {
		return Customer{}, noCustomer(id)
	}
	if err != nil {
		return Customer{}, fmt.Errorf("reading customer %s: %w", id, err)
	}
	return c, nil
}

// Place is where a page of a list by name ends; the zero place begins.
type Place struct {
	Name string
	ID   uuid.UUID
}

// Customers lists customers by name, after a place.
func (s *Store) Customers(ctx context.Context, after Place, limit int) ([]Customer, error) {
	rows, err := s.c.DB.Query(ctx, qCustomers, after.Name, after.ID, page(limit))
	if err != nil {
		return nil, fmt.Errorf("listing customers: %w", err)
	}
	all, err := pgx.CollectRows(rows, scanCustomer)
	if err != nil {
		return nil, fmt.Errorf("listing customers: %w", err)
	}
	return all, nil
}

// page bounds the rows of a page: one more than MaxPage tells the caller whether another one follows.
func page(limit int) int { return min(max(limit, 1), MaxPage+1) }
