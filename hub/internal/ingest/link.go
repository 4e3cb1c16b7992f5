package ingest

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
)

// States of the link to the batch before.
const (
	linkPending int16 = 0 // that one has not come yet
	linkOK      int16 = 1
	linkBroken  int16 = 2 // another one came under its name
)

// qJudge judges links of batches whose predecessor is stored, or was dropped and is named by a gap record.
const qJudge = `
UPDATE batch b SET link_state = CASE WHEN p.hash = substring(b.header FROM 65 FOR 32) THEN 1 ELSE 2 END
FROM unnest($1::uuid[], $2::uuid[], $3::bigint[]) u (site_id, spool_id, seq)
CROSS JOIN LATERAL (
	SELECT header_hash AS hash FROM batch WHERE site_id = u.site_id AND spool_id = u.spool_id AND seq = u.seq - 1
	UNION ALL
	SELECT last_hash FROM batch_gap WHERE site_id = u.site_id AND spool_id = u.spool_id AND last_seq = u.seq - 1
	LIMIT 1
) p
WHERE b.site_id = u.site_id AND b.spool_id = u.spool_id AND b.seq = u.seq AND b.link_state = ANY($4::smallint[])
RETURNING b.link_state`

// qPending finds links that wait although what they wait for is there: a hub process that died between its commit and its look at links leaves them.
const qPending = `
SELECT b.site_id, b.spool_id, b.seq FROM batch b
WHERE b.link_state = 0 AND (
	EXISTS (SELECT FROM batch p WHERE p.site_id = b.site_id AND p.spool_id = b.spool_id AND p.seq = b.seq - 1)
	OR EXISTS (SELECT FROM batch_gap g WHERE g.site_id = b.site_id AND g.spool_id = b.spool_id AND g.last_seq = b.seq - 1))
ORDER BY b.site_id, b.spool_id, b.seq
LIMIT $1`

// sweepLimit bounds the links judged in one round of maintenance.
const sweepLimit = 5000

// querier is a pool or a transaction.
type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

// toLink names the batches whose links may be judged now that w is committed: new ones that wait, and those after new ones.
func (w *written) toLink() []batchKey {
	var keys []batchKey
	for _, i := range w.fresh {
		k := i.key()
		if w.links[k] == linkPending {
			keys = append(keys, k)
		}
		k.seq++
		_, within := w.links[k]
		if !within && int64(i.header.Seq) < w.newest[batchKey{k.site, k.spool, 0}] {
			keys = append(keys, k)
		}
		if i.gap != nil {
			keys = append(keys, batchKey{i.header.Site, i.gap.Spool, i.gap.LastSeq + 1})
		}
	}
	return keys
}

// resolve judges links that wait.
func (s *Server) resolve(ctx context.Context, keys []batchKey) error {
	broken, err := judgeLinks(ctx, s.c.Pool, keys, []int16{linkPending})
	s.metrics.broken.Add(float64(broken))
	return err
}

// judgeLinks judges the links of batches whose link is in one of the given states, and returns how many it found broken.
func judgeLinks(ctx context.Context, q querier, keys []batchKey, states []int16) (broken int, err error) {
	if len(keys) == 0 {
		return 0, nil
	}
	var sites, spools []pgtype.UUID
	var seqs []int64
	for _, k := range keys {
		sites, spools, seqs = append(sites, uuidOf(k.site)), append(spools, uuidOf(k.spool)), append(seqs, int64(k.seq))
	}
	rows, err := q.Query(ctx, qJudge, sites, spools, seqs, states)
	if err != nil {
		return 0, fmt.Errorf("checking links: %w", err)
	}
	judged, err := pgx.CollectRows(rows, pgx.RowTo[int16])
	if err != nil {
		return 0, fmt.Errorf("checking links: %w", err)
	}
	for _, state := range judged {
		if state == linkBroken {
			broken++
		}
	}
	return broken, nil
}

// SweepLinks is a task of the maintenance loop: it judges links that were left waiting by a hub process that died.
func SweepLinks(ctx context.Context, tx pgx.Tx) error {
	rows, err := tx.Query(ctx, qPending, sweepLimit)
	if err != nil {
		return fmt.Errorf("finding links to check: %w", err)
	}
	var keys []batchKey
	var k batchKey
	var seq int64
	if _, err := pgx.ForEachRow(rows, []any{(*[16]byte)(&k.site), (*[16]byte)(&k.spool), &seq}, func() error {
		k.seq = uint64(seq)
		keys = append(keys, k)
		return nil
	}); err != nil {
		return fmt.Errorf("finding links to check: %w", err)
	}
	_, err = judgeLinks(ctx, tx, keys, []int16{linkPending})
	return err
}

// alarm counts and logs what a person must look at.
func (s *Server) alarm(ctx context.Context, w *written) {
	for _, n := range w.unkept {
		s.metrics.forks.Add(float64(n))
	}
	s.c.Facts.Alarm(ctx, w.disputes)
	for _, i := range w.forks {
		s.metrics.forks.Inc()
		s.c.Log.ErrorContext(ctx, "fork: a site signed two batches with one name", "site", i.header.Site, "spool", i.header.Spool, "seq", i.header.Seq)
	}
	for _, i := range w.fresh {
		if i.poison != "" {
			s.c.Log.WarnContext(ctx, "batch quarantined", "site", i.header.Site, "spool", i.header.Spool, "seq", i.header.Seq, "reason", i.poison)
		}
		if w.links[i.key()] == linkBroken {
			s.metrics.broken.Inc()
			s.c.Log.WarnContext(ctx, "broken link: a batch does not follow the one stored before it", "site", i.header.Site, "spool", i.header.Spool, "seq", i.header.Seq)
		}
	}
}
