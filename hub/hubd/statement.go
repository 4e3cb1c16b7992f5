package hubd

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/hashinsight/hashinsight/hub/internal/archive"
	"github.com/hashinsight/hashinsight/hub/internal/audit"
	"github.com/hashinsight/hashinsight/hub/internal/facts"
	"github.com/hashinsight/hashinsight/hub/internal/fleet"
	"github.com/hashinsight/hashinsight/hub/internal/pki"
	"github.com/hashinsight/hashinsight/hub/internal/proof"
	"github.com/hashinsight/hashinsight/hub/internal/sla"
	"github.com/hashinsight/hashinsight/hub/internal/statement"
	"github.com/hashinsight/hashinsight/pkg/evidence"
)

// Month is a month in UTC.
type Month = sla.CalendarMonth

// ParseMonth reads a month such as 2026-11.
func ParseMonth(text string) (Month, error) { return sla.ParseMonth(text) }

// ContractMiner names a miner of a site.
type ContractMiner = statement.Miner

// SLAMonth is what a contract's month has come to.
type SLAMonth = statement.Live

// SlotWhy says why a slot is what it is.
type SlotWhy = statement.Why

// StatementHash names a statement.
type StatementHash = evidence.Hash

// StatementLine is a statement in a list.
type StatementLine = statement.Line

// StatementWait is a month that waits for its statement, and for what.
type StatementWait = statement.Waiting

// IssuedStatement is a statement as it was signed.
type IssuedStatement = statement.Issued

// Restatement orders a restatement.
type Restatement = statement.Restatement

// StatementVerdict is what a recomputation found.
type StatementVerdict = statement.Verdict

// opened is what a command works with beside a hub.
type opened struct {
	config     statement.Config
	statements *statement.Store
	keys       *pki.Authority // nil where they were not asked for
}

// withStatements opens what statements are made from. With keys it opens the hub's keys; with an archive it reads payloads that were moved out of the database.
func withStatements(ctx context.Context, c Database, e Evidence, keys bool, work func(ctx context.Context, s *statement.Store) error) error {
	return withOpened(ctx, c, e, keys, func(ctx context.Context, o *opened) error { return work(ctx, o.statements) })
}

func withOpened(ctx context.Context, c Database, e Evidence, keys bool, work func(ctx context.Context, o *opened) error) error {
	return c.use(ctx, true, func(ctx context.Context, pool *pgxpool.Pool, _ string) (err error) {
		l, err := audit.New(audit.Config{Now: c.Now, Log: c.Log})
		if err != nil {
			return err
		}
		fc := facts.Config{Pool: pool, Audit: l, Password: c.EncryptionPassword, Note: proof.Note, Now: c.Now, Log: c.Log}
		if e.URL != "" {
			if fc.Archive, err = e.open(ctx, archive.Config{Pool: pool, Log: c.Log}); err != nil {
				return err
			}
			defer func() { err = errors.Join(err, fc.Archive.Close()) }()
		}
		fleet, err := fleet.New(fleet.Config{Pool: pool})
		if err != nil {
			return err
		}
		fc.Keys = keysOf(fleet)
		o := opened{config: statement.Config{Pool: pool, Audit: l, Archive: fc.Archive, SiteKey: fc.Keys, Note: proof.Note, Now: c.Now, Log: c.Log}}
		sc := &o.config
		if sc.Facts, err = facts.New(fc); err != nil {
			return err
		}
		if sc.Customers, err = customers(pool, l, c.Now); err != nil {
			return err
		}
		if keys {
			a, err := openPKI(ctx, c, pool)
			if err != nil {
				return err
			}
			o.keys, sc.Key = a, a.EvidenceKey
		}
		if o.statements, err = statement.New(*sc); err != nil {
			return err
		}
		return work(ctx, &o)
	})
}

// LiveSLA tells what a contract's month has come to.
func LiveSLA(ctx context.Context, c Database, contract uuid.UUID, m Month) (v SLAMonth, err error) {
	err = withStatements(ctx, c, Evidence{}, true, func(ctx context.Context, s *statement.Store) error {
		v, err = s.Live(ctx, statement.Scope{}, contract, m)
		return err
	})
	return v, err
}

// WhySlot says why a slot of a miner is what it is.
func WhySlot(ctx context.Context, c Database, e Evidence, contract uuid.UUID, m ContractMiner, at time.Time) (v SlotWhy, err error) {
	err = withStatements(ctx, c, e, false, func(ctx context.Context, s *statement.Store) error {
		v, err = s.Why(ctx, statement.Scope{}, contract, m, at)
		return err
	})
	return v, err
}

// Statements lists statements, the newest first, of one contract or, with uuid.Nil, of all; and the months that wait for one.
func Statements(ctx context.Context, c Database, contract uuid.UUID, limit int) (list []StatementLine, waiting []StatementWait, err error) {
	err = withStatements(ctx, c, Evidence{}, true, func(ctx context.Context, s *statement.Store) error {
		if list, err = s.Statements(ctx, statement.Scope{}, statement.Filter{Contract: contract, Limit: limit}); err != nil {
			return err
		}
		waiting, err = s.Waiting(ctx, contract)
		return err
	})
	return list, waiting, err
}

// Statement returns one statement.
func Statement(ctx context.Context, c Database, hash StatementHash) (st IssuedStatement, err error) {
	err = withStatements(ctx, c, Evidence{}, false, func(ctx context.Context, s *statement.Store) error {
		st, err = s.Statement(ctx, statement.Scope{}, hash)
		return err
	})
	return st, err
}

// IssueStatement issues the statement of a contract's month, or says what keeps it.
func IssueStatement(ctx context.Context, c Database, contract uuid.UUID, m Month) (hash StatementHash, err error) {
	err = withStatements(ctx, c, Evidence{}, true, func(ctx context.Context, s *statement.Store) error {
		hash, err = s.Issue(ctx, contract, m)
		return err
	})
	return hash, err
}

// RestateStatement issues a statement that supersedes a month's newest one.
func RestateStatement(ctx context.Context, c Database, o Restatement) (hash StatementHash, err error) {
	err = withStatements(ctx, c, Evidence{}, true, func(ctx context.Context, s *statement.Store) error {
		o.By = "command"
		hash, err = s.Restate(ctx, statement.Scope{}, o)
		return err
	})
	return hash, err
}

// RecomputeStatement computes a statement again from the archived evidence alone, and tells w each step.
func RecomputeStatement(ctx context.Context, c Database, e Evidence, hash StatementHash, w io.Writer) (v StatementVerdict, err error) {
	err = withStatements(ctx, c, e, true, func(ctx context.Context, s *statement.Store) error {
		v, err = s.Recompute(ctx, hash, w)
		return err
	})
	return v, err
}

// ExportStatement writes a statement with everything it was made from into a directory, with batches those that its facts were made from too, and returns the number of files.
func ExportStatement(ctx context.Context, c Database, e Evidence, hash StatementHash, dir string, batches bool) (files int, err error) {
	err = withStatements(ctx, c, e, false, func(ctx context.Context, s *statement.Store) error {
		files, err = s.Export(ctx, hash, dir, batches)
		return err
	})
	return files, err
}
