package archive

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/hashinsight/hashinsight/pkg/ident"
)

// chainPage is how many batches of a chain one query reads; one payload is in memory at a time.
const chainPage = 500

const qChain = `SELECT ` + batchColumns + ` WHERE b.site_id = $1 AND b.spool_id = $2 AND b.seq >= $3 AND b.seq <= $4 ORDER BY b.seq LIMIT $5`

// Querier is a pool or a transaction.
type Querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

// Chain calls f with the batches first to last of a chain in order, wherever their payloads lie; those that are not stored are passed over. a may be nil: then
// nothing can lie in the archive. f gets the error of a batch whose payload cannot be had, with what is known of the batch, and must not use q.
// An error that f returns ends it.
func Chain(ctx context.Context, q Querier, a *Archive, site ident.SiteID, spool ident.SpoolID, first, last uint64, f func(*Batch, error) error) (err error) {
	o := &objects{a: a, many: true}
	defer func() { err = errors.Join(err, o.Close()) }()
	for n := chainPage; n == chainPage; {
		rows, err := q.Query(ctx, qChain, site, spool, int64(min(first, 1<<63-1)), int64(min(last, 1<<63-1)), chainPage)
		if err != nil {
			return fmt.Errorf("reading a chain: %w", err)
		}
		n = 0
		for rows.Next() {
			n++
			b := Batch{Ref: Ref{Site: site, Spool: spool}}
			p, err := b.scan(rows)
			if err == nil {
				err = f(&b, b.fill(ctx, p, o))
			}
			if err != nil {
				rows.Close()
				return err
			}
			first = b.Seq + 1
		}
		if err := rows.Err(); err != nil {
			return fmt.Errorf("reading a chain: %w", err)
		}
	}
	return nil
}
