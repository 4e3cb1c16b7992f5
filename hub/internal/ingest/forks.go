package ingest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/hashinsight/hashinsight/hub/internal/fleet"
	"github.com/hashinsight/hashinsight/pkg/evidence"
	"github.com/hashinsight/hashinsight/pkg/ident"
)

// ErrNoFork means that no fork of a batch of that name was found.
var ErrNoFork = errors.New("no fork of such a batch is known")

// Fork is the kept proof that a site signed two batches with one name.
type Fork struct {
	BatchName
	SiteName  string
	HashB     evidence.Hash // of the header that was refused; the other is the stored one
	FoundAt   time.Time
	Key       ident.KeyID
	PublicKey []byte // that checks both signatures
	Proof     evidence.Fork
}

const forkColumns = `f.site_id, f.spool_id, f.seq, coalesce(s.name, ''), f.hash_b, f.found_at, f.header_a, f.signature_a, f.header_b, f.signature_b
FROM batch_fork f LEFT JOIN site s ON s.id = f.site_id`

const qForks = `SELECT ` + forkColumns + `
ORDER BY f.found_at DESC, f.site_id, f.spool_id, f.seq, f.hash_b
LIMIT $1`

const qForksOf = `SELECT ` + forkColumns + `
WHERE f.site_id = $2 AND f.spool_id = $3 AND f.seq = $4
ORDER BY f.found_at, f.hash_b
LIMIT $1`

const qForksNotKept = `SELECT coalesce(sum(forks_not_kept), 0)::bigint FROM batch_total`

// ForksNotKept is how often a fork came for whose proof there was no room; the same one counts each time.
func ForksNotKept(ctx context.Context, pool *pgxpool.Pool) (n int64, err error) {
	if err := pool.QueryRow(ctx, qForksNotKept).Scan(&n); err != nil {
		return 0, fmt.Errorf("counting forks: %w", err)
	}
	return n, nil
}

// Forks lists forks, the latest found first, without public keys; more tells that there are further ones.
func Forks(ctx context.Context, pool *pgxpool.Pool, limit int) (forks []Fork, more bool, err error) {
	limit = min(max(limit, 1), maxLetters)
	if forks, err = readForks(ctx, pool, qForks, limit+1); err != nil {
		return nil, false, err
	}
	if len(forks) > limit {
		return forks[:limit], true, nil
	}
	return forks, false, nil
}

// ForksOf returns the proofs about one batch with the key that checks them, each checked. Without any the error is ErrNoFork.
func ForksOf(ctx context.Context, pool *pgxpool.Pool, keys *fleet.Store, name BatchName) ([]Fork, error) {
	forks, err := readForks(ctx, pool, qForksOf, maxLetters, uuidOf(name.Site), uuidOf(name.Spool), clampSeq(name.Seq))
	if err != nil {
		return nil, err
	}
	if len(forks) == 0 {
		return nil, fmt.Errorf("batch %d of spool %s of site %s: %w", name.Seq, name.Spool, name.Site, ErrNoFork)
	}
	for n := range forks {
		f := &forks[n]
		key, err := keys.Key(ctx, f.Site, f.Key)
		if err != nil {
			return nil, fmt.Errorf("the key of a fork: %w", err)
		}
		if err := f.Proof.Verify(key.Public); err != nil {
			return nil, fmt.Errorf("a stored fork proves nothing, the table was changed: %w", err)
		}
		f.PublicKey = key.Public
	}
	return forks, nil
}

func readForks(ctx context.Context, pool *pgxpool.Pool, sql string, args ...any) ([]Fork, error) {
	rows, err := pool.Query(ctx, sql, args...)
	if err != nil {
		return nil, fmt.Errorf("reading forks: %w", err)
	}
	forks, err := pgx.CollectRows(rows, func(r pgx.CollectableRow) (f Fork, err error) {
		var seq int64
		var hash []byte
		p := &f.Proof
		if err := r.Scan((*[16]byte)(&f.Site), (*[16]byte)(&f.Spool), &seq, &f.SiteName, &hash, &f.FoundAt, &p.HeaderA, &p.SignatureA, &p.HeaderB, &p.SignatureB); err != nil {
			return f, err
		}
		f.Seq = uint64(seq)
		if len(hash) != len(f.HashB) {
			return f, fmt.Errorf("a header hash of %d bytes", len(hash))
		}
		f.HashB = evidence.Hash(hash)
		h, err := evidence.ParseHeader(p.HeaderB)
		f.Key = h.Key
		return f, err
	})
	if err != nil {
		return nil, fmt.Errorf("reading forks: %w", err)
	}
	return forks, nil
}
