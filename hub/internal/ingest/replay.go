package ingest

import (
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/hashinsight/hashinsight/pkg/ident"
	telemetryv1 "github.com/hashinsight/hashinsight/proto/telemetry/v1"
)

// What one look at the ledger may cost, and what is asked for at a time.
const (
	holesRows       = 50_000 // batches looked at by one query
	holesRanges     = 64     // holes taken from it
	replayBatches   = 2_000  // asked for in one step; the agent's window bounds what is then on its way
	replayGrowth    = 16     // times as many after a step of which nothing came: what an agent deleted lies together
	maxReplays      = 250    // requests on one stream, beyond which agents no longer listen; the next stream goes on
	replayEvery     = 2 * time.Second
	replayPatience  = 30 * time.Second // without one more batch of a step, before the rest of it is given up
	backlogPatience = time.Minute      // without a change, before a hole that a backlog may fill is asked for
	maxReplaying    = 4                // looks at a time, of all streams
)

// qHoles returns where the look ends ($3 <= seq < reached was looked at), and the ranges in it that neither the ledger has nor a gap record names.
const qHoles = `
WITH stored AS MATERIALIZED (
	SELECT seq FROM batch WHERE site_id = $1 AND spool_id = $2 AND seq >= $3 AND seq < $4 ORDER BY seq LIMIT $5
), gap AS MATERIALIZED (
	SELECT first_seq, last_seq FROM batch_gap WHERE site_id = $1 AND spool_id = $2 AND last_seq >= $3 ORDER BY last_seq LIMIT $5
), reach AS (
	SELECT least($4::bigint,
		CASE WHEN (SELECT count(*) FROM stored) = $5 THEN (SELECT max(seq) + 1 FROM stored) END,
		CASE WHEN (SELECT count(*) FROM gap) = $5 THEN (SELECT max(last_seq) + 1 FROM gap) END) AS reached
), known AS (
	SELECT seq AS first_seq, seq AS last_seq FROM stored
	UNION ALL SELECT first_seq, last_seq FROM gap
	UNION ALL SELECT reached, reached FROM reach
), hole AS (
	SELECT coalesce(max(last_seq) OVER (ORDER BY first_seq, last_seq ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), $3 - 1) + 1 AS first_seq,
		first_seq - 1 AS last_seq
	FROM known
)
SELECT reached, h.first_seq, h.last_seq
FROM reach LEFT JOIN hole h ON h.last_seq >= greatest(h.first_seq, $3) AND h.last_seq < reached
ORDER BY h.first_seq
LIMIT $6`

const qCompleteBelow = `SELECT complete_below FROM batch_total WHERE site_id = $1 AND spool_id = $2`

const qSetComplete = `UPDATE batch_total SET complete_below = $3 WHERE site_id = $1 AND spool_id = $2 AND complete_below < $3`

const qArrived = `
SELECT count(*) FROM unnest($3::bigint[], $4::bigint[]) r (first_seq, last_seq)
JOIN batch b ON b.site_id = $1 AND b.spool_id = $2 AND b.seq BETWEEN r.first_seq AND r.last_seq`

// seqRange is a range of sequence numbers, both ends included.
type seqRange struct{ first, last int64 }

func size(ranges []seqRange) (n int64) {
	for _, r := range ranges {
		n += r.last - r.first + 1
	}
	return n
}

// replay looks for batches that this database has lost: it was restored to a moment before they were stored and acknowledged. It asks the
// agent for them step by step, and remembers how far the ledger is complete, so that the next stream looks only at what is new.
//
// Whatever is below the agent's oldest pending batch was acknowledged once, and a hole there is asked for at once. Above it a hole may be
// backlog that comes by itself: it is asked for when the backlog has stopped filling it.
func (ss *session) replay(ctx context.Context) {
	for _, o := range ss.others {
		if !ss.askForOther(ctx, o) {
			return
		}
	}
	newest := min(ss.newest, math.MaxInt64-1)
	acked := int64(newest + 1)
	if ss.oldestPending > 0 {
		acked = int64(min(ss.oldestPending, newest+1))
	}
	from, ok := ss.completeBelow(ctx, ss.spool)
	if !ok {
		return
	}
	var before []seqRange
	room := int64(replayBatches)
	for end := acked; from < int64(newest+1) && ctx.Err() == nil; {
		holes, reached, err := ss.holes(ctx, ss.spool, from, end, room)
		switch {
		case err != nil:
			if ctx.Err() == nil {
				ss.server.c.Log.WarnContext(ctx, "the ledger was not looked at for lost batches, it will be", "site", ss.site, "err", err)
			}
			if pause(ctx, backlogPatience) != nil {
				return
			}
			continue
		case len(holes) == 0:
			before, from = nil, reached
			ss.setComplete(ctx, ss.spool, from)
			if from >= end {
				end = int64(newest + 1)
			}
			continue
		case end > acked && !slices.Equal(holes, before):
			before = holes
			if pause(ctx, backlogPatience) != nil {
				return
			}
			continue
		}
		before = nil
		if ss.asked == maxReplays {
			ss.end(status.Error(codes.Unavailable, "this hub has more to ask for than one stream may: connect again"))
			return
		}
		holes = holes[:min(len(holes), maxReplays-ss.asked)]
		missing, ok := ss.ask(ctx, holes)
		if !ok {
			return
		}
		if room = replayBatches; missing == size(holes) {
			room = min(size(holes), math.MaxInt64/replayGrowth) * replayGrowth
		}
		if missing > 0 {
			ss.server.metrics.replay.WithLabelValues("missing").Add(float64(missing))
			ss.server.c.Log.WarnContext(ctx, "batches that this hub lost did not come again: the agent no longer keeps them", "site", ss.site, "spool", ss.spool,
				"batches", missing, "first_seq", holes[0].first, "last_seq", holes[len(holes)-1].last)
		}
		from = holes[len(holes)-1].last + 1
		ss.setComplete(ctx, ss.spool, from)
	}
}

// ask asks the agent for ranges and waits until they are stored, or no more of them come. ok is false when the stream has ended.
func (ss *session) ask(ctx context.Context, ranges []seqRange) (missing int64, ok bool) {
	s, total := ss.server, size(ranges)
	if !ss.sendReplays(ctx, ss.spool, ranges) {
		return total, false
	}
	missing = total
	for waited := time.Duration(0); missing > 0 && waited < replayPatience; waited += replayEvery {
		if pause(ctx, replayEvery) != nil {
			return missing, false
		}
		if s.unavailable() > 0 {
			waited = 0
		}
		arrived, err := ss.arrived(ctx, ranges)
		if err != nil {
			waited = 0 // nothing can arrive while the database is away
			continue
		}
		if total-arrived < missing {
			missing, waited = total-arrived, 0
		}
	}
	s.metrics.replay.WithLabelValues("arrived").Add(float64(total - missing))
	return missing, ctx.Err() == nil
}

// sendReplays asks the agent for ranges; false when the stream has ended.
func (ss *session) sendReplays(ctx context.Context, spool ident.SpoolID, ranges []seqRange) bool {
	s, total := ss.server, size(ranges)
	ss.asked += len(ranges)
	s.metrics.replay.WithLabelValues("asked").Add(float64(total))
	s.c.Log.InfoContext(ctx, "asking an agent for batches that this hub no longer has", "site", ss.site, "spool", spool, "batches", total,
		"ranges", len(ranges), "first_seq", ranges[0].first, "last_seq", ranges[len(ranges)-1].last)
	for _, r := range ranges {
		select {
		case ss.replays <- &telemetryv1.Replay{SpoolId: spool[:], FirstSeq: uint64(r.first), LastSeq: uint64(r.last)}:
		case <-ctx.Done():
			return false
		}
	}
	return true
}

// look runs a query of a replay. Only a few of them run at a time, so that a thousand agents that come back together leave the
// database to their batches.
func (ss *session) look(ctx context.Context, query func(ctx context.Context) error) error {
	select {
	case ss.server.replaying <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-ss.server.replaying }()
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	return query(ctx)
}

// holes returns the first ranges that are missing from from on, at most room batches in all, and up to where it has looked.
func (ss *session) holes(ctx context.Context, spool ident.SpoolID, from, end, room int64) (holes []seqRange, reached int64, err error) {
	err = ss.look(ctx, func(ctx context.Context) error {
		holes, reached, err = findHoles(ctx, ss.server.c.Pool, ss.site, spool, from, end, room)
		return err
	})
	return holes, reached, err
}

func findHoles(ctx context.Context, q querier, site, spool [16]byte, from, end, room int64) (holes []seqRange, reached int64, err error) {
	rows, err := q.Query(ctx, qHoles, uuidOf(site), uuidOf(spool), from, end, holesRows, holesRanges)
	if err != nil {
		return nil, 0, fmt.Errorf("looking for lost batches: %w", err)
	}
	var first, last *int64
	if _, err := pgx.ForEachRow(rows, []any{&reached, &first, &last}, func() error {
		if first != nil && room > 0 {
			r := seqRange{*first, min(*last, *first+room-1)}
			holes, room = append(holes, r), room-(r.last-r.first+1)
		}
		return nil
	}); err != nil {
		return nil, 0, fmt.Errorf("looking for lost batches: %w", err)
	}
	return holes, reached, nil
}

func (ss *session) arrived(ctx context.Context, ranges []seqRange) (n int64, err error) {
	firsts, lasts := make([]int64, len(ranges)), make([]int64, len(ranges))
	for i, r := range ranges {
		firsts[i], lasts[i] = r.first, r.last
	}
	err = ss.look(ctx, func(ctx context.Context) error {
		return ss.server.c.Pool.QueryRow(ctx, qArrived, uuidOf(ss.site), uuidOf(ss.spool), firsts, lasts).Scan(&n)
	})
	if err != nil {
		return 0, fmt.Errorf("counting batches that came again: %w", err)
	}
	return n, nil
}

// completeBelow waits for the database; ok is false when the stream has ended.
func (ss *session) completeBelow(ctx context.Context, spool ident.SpoolID) (from int64, ok bool) {
	for {
		var stored []int64
		err := ss.look(ctx, func(ctx context.Context) error {
			rows, err := ss.server.c.Pool.Query(ctx, qCompleteBelow, uuidOf(ss.site), uuidOf(spool))
			if err != nil {
				return err
			}
			stored, err = pgx.CollectRows(rows, pgx.RowTo[int64])
			return err
		})
		switch {
		case err == nil && len(stored) == 0:
			return 1, true
		case err == nil:
			return stored[0], true
		case pause(ctx, backlogPatience) != nil:
			return 0, false
		}
	}
}

// setComplete remembers that the ledger needs no further look below from. What is not remembered is looked at again.
func (ss *session) setComplete(ctx context.Context, spool ident.SpoolID, from int64) {
	err := ss.look(ctx, func(ctx context.Context) error {
		_, err := ss.server.c.Pool.Exec(ctx, qSetComplete, uuidOf(ss.site), uuidOf(spool), from)
		return err
	})
	if err != nil && ctx.Err() == nil {
		ss.server.c.Log.WarnContext(ctx, "how far the ledger is complete was not recorded, it is looked at again", "site", ss.site, "err", err)
	}
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
