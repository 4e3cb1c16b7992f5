// Package statement keeps what contracts have come to: for each contract, miner and UTC day the verdicts of package sla, computed again as facts, terms,
// assignments and excuses change, and equal at every moment to a recomputation from the evidence; from them the live SLA of a month, slot maps and why a slot is
// what it is; and, when a month has closed, statements: canonical bytes, signed with the hub's evidence key, never changed, only superseded by a restatement.
// It decides nothing about slots or credits: package sla does, from what packages facts and customer have. Background work calls Update and Close; the API and
// the command line read, restate, recompute and export.
package statement

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/hashinsight/hashinsight/hub/internal/archive"
	"github.com/hashinsight/hashinsight/hub/internal/audit"
	"github.com/hashinsight/hashinsight/hub/internal/customer"
	"github.com/hashinsight/hashinsight/hub/internal/facts"
	"github.com/hashinsight/hashinsight/pkg/ident"
	"github.com/hashinsight/hashinsight/pkg/proof"
)

// Config is what New needs.
type Config struct {
	Pool      *pgxpool.Pool // of reads, and of restatements
	Jobs      *pgxpool.Pool // of background work; nil means Pool
	Customers *customer.Store
	Facts     *facts.Store
	Audit     *audit.Log
	Key       func() ed25519.PrivateKey // the hub's evidence key; nil, or when it returns nil: nothing can be issued by this process
	Archive   *archive.Archive          // where payloads lie that are no longer in the database; nil: nowhere
	// SiteKey returns the public key that checks a site's signatures, one that was revoked since too. Only Recompute and Export need it.
	SiteKey func(context.Context, ident.SiteID, ident.KeyID) (ed25519.PublicKey, error)
	// Note puts statements into the transparency log, in the transaction that issues them. Nil: there is no log.
	Note       func(ctx context.Context, tx pgx.Tx, entries ...proof.Entry) error
	Now        func() time.Time      // nil means time.Now
	Log        *slog.Logger          // nil means no log
	Registerer prometheus.Registerer // nil means no metrics
}

// Store computes, keeps and issues. It is safe for concurrent use, and by any number of hubs on one database.
type Store struct {
	c       Config
	jobs    *pgxpool.Pool
	metrics *metrics
	sums    *sums
}

// New checks the configuration. It does not touch the database.
func New(c Config) (*Store, error) {
	if c.Pool == nil || c.Customers == nil || c.Facts == nil || c.Audit == nil {
		return nil, errors.New("statement: Pool, Customers, Facts and Audit are required")
	}
	if c.Jobs == nil {
		c.Jobs = c.Pool
	}
	if c.Note == nil {
		c.Note = func(context.Context, pgx.Tx, ...proof.Entry) error { return nil }
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	s := &Store{c: c, jobs: c.Jobs, metrics: newMetrics(), sums: newSums()}
	if c.Registerer != nil {
		if err := c.Registerer.Register(s.metrics); err != nil {
			return nil, fmt.Errorf("metrics of statements: %w", err)
		}
	}
	return s, nil
}

// key returns the key that signs; nil when this process does not have it.
func (s *Store) key() ed25519.PrivateKey {
	if s.c.Key == nil {
		return nil
	}
	return s.c.Key()
}

// querier is a pool or a transaction.
type querier interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// Scope is whose contracts a reader may see. What it may not see does not exist for it.
type Scope struct {
	Customer uuid.UUID // uuid.Nil: everyone's, for the operator
}

// customer is the scope as a parameter of queries.
func (s Scope) customer() *uuid.UUID {
	if s.Customer == uuid.Nil {
		return nil
	}
	return &s.Customer
}

// Miner names a miner of a site.
type Miner struct {
	Site  ident.SiteID
	Miner ident.MinerID
}

// String returns the form that ParseMiner reads.
func (m Miner) String() string { return m.Site.String() + "." + m.Miner.String() }

// ParseMiner reads a site's and a miner's id with a full stop between.
func ParseMiner(text string) (m Miner, err error) {
	site, miner, _ := strings.Cut(text, ".")
	if m.Site, err = ident.ParseSiteID(site); err != nil {
		return m, err
	}
	m.Miner, err = ident.ParseMinerID(miner)
	return m, err
}
