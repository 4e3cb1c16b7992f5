package ingest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/hashinsight/hashinsight/hub/internal/fleet"
	"github.com/hashinsight/hashinsight/hub/internal/pg"
	"github.com/hashinsight/hashinsight/hub/internal/series"
)

// result says what became of a batch.
type result string

const (
	resultStored      result = "stored"
	resultQuarantined result = "quarantined"
	resultFork        result = "fork"
	resultNoRoom      result = "quarantine_full"
	resultUnavailable result = "unavailable"
)

// answer is what the agent is told of a batch.
type answer struct {
	result    result
	at        time.Time     // hub's time of the commit that stored it
	duplicate bool          // it was stored before
	reason    string        // of a quarantine or refusal
	retry     time.Duration // when to send a refused batch again
}

// write commits groups of batches until the queue is closed.
func (s *Server) write(ctx context.Context) {
	for first := range s.queue {
		group, rows := s.gather(first)
		s.metrics.groupRows.Observe(float64(rows))
		s.commit(ctx, group)
	}
}

// gather adds what waits in the queue to a group, as long as it is small, and waits a moment for more: one large transaction costs the database much
// less than many small ones.
func (s *Server) gather(first *item) (group []*item, rows int) {
	group, rows = []*item{first}, first.rows()
	var more <-chan time.Time
	for rows < s.c.GroupRows && len(group) < maxGroup {
		select {
		case i, ok := <-s.queue:
			if !ok {
				return group, rows
			}
			group, rows = append(group, i), rows+i.rows()
			continue
		default:
		}
		if more == nil {
			t := time.NewTimer(s.c.GroupDelay)
			defer t.Stop()
			more = t.C
		}
		select {
		case i, ok := <-s.queue:
			if !ok {
				return group, rows
			}
			group, rows = append(group, i), rows+i.rows()
		case <-more:
			return group, rows
		}
	}
	return group, rows
}

// maxGroup bounds the batches of one transaction.
const maxGroup = 2000

// transactionTimeout bounds one transaction; beyond it the database is taken to be away.
const transactionTimeout = 60 * time.Second

// maxAttempts bounds how often a transaction is tried again after a conflict with another.
const maxAttempts = 5

// commit stores a group and answers each of its batches. A group that the database finds fault with is halved until the batch at fault
// stands alone; that one goes to quarantine, and nobody else waits for it.
func (s *Server) commit(ctx context.Context, group []*item) {
	group, again := unique(group)
	defer func() {
		if len(again) > 0 {
			s.commit(ctx, again)
		}
	}()
	for attempt := 1; ; attempt++ {
		err := s.store(ctx, group)
		switch {
		case err == nil:
			return
		case attempt < maxAttempts && (s.c.Series.PartitionGone(err) || isConflict(err)):
			s.metrics.failures.WithLabelValues("retried").Inc()
			continue
		case isDataError(err) && len(group) > 1:
			s.metrics.failures.WithLabelValues("halved").Inc()
			s.commit(ctx, group[:len(group)/2])
			s.commit(ctx, group[len(group)/2:])
			return
		case isDataError(err) && group[0].poison == "":
			s.metrics.failures.WithLabelValues("quarantined").Inc()
			i := group[0]
			i.poison, i.samples, i.gap, i.hour = fmt.Sprintf("the database refuses its content: %v", err), nil, nil, nil
			continue
		}
		s.metrics.failures.WithLabelValues("unavailable").Inc()
		if !isDataError(err) { // one batch that cannot even be quarantined is nobody else's trouble
			s.downTill.Store(s.c.Now().Add(s.c.RetryAfter).UnixMilli())
		}
		s.c.Log.WarnContext(ctx, "batches not stored, agents keep them and send them again", "batches", len(group), "err", err)
		for _, i := range group {
			i.answer(answer{result: resultUnavailable, reason: textAway, retry: s.c.RetryAfter})
		}
		return
	}
}

// unique splits off batches whose name stands in the group already: they are judged when the first is stored.
func unique(group []*item) (first, again []*item) {
	seen := make(map[batchKey]bool, len(group))
	for _, i := range group {
		if seen[i.key()] {
			again = append(again, i)
			continue
		}
		seen[i.key()] = true
		first = append(first, i)
	}
	return first, again
}

// store writes a group, whose names are unique, in one transaction, and answers its batches if that is committed.
func (s *Server) store(ctx context.Context, group []*item) error {
	ctx, cancel := context.WithTimeout(ctx, transactionTimeout)
	defer cancel()
	// Durations are the program's own: the hub's clock may be set while they pass.
	at, begin := s.c.Now().UTC().Truncate(time.Millisecond), time.Now()
	if len(group) == 0 {
		return nil
	}
	span, err := s.c.Series.Prepare(ctx, hotBatches(group))
	if err != nil {
		return err
	}
	var w *written
	var update *fleet.Update
	var rows int64
	err = pg.InTx(ctx, s.c.Pool, func(tx pgx.Tx) error {
		var err error
		if w, err = s.writeLedger(ctx, tx, group, at); err != nil {
			return err
		}
		if rows, err = s.c.Series.Copy(ctx, tx, hotBatches(w.fresh), span); err != nil {
			return err
		}
		update = s.c.Latest.Collect(latestBatches(w.fresh), time.UnixMilli(span.EndMS))
		if err := update.Write(ctx, tx); err != nil {
			return err
		}
		return s.writeTotals(ctx, tx, w, at)
	})
	if err != nil {
		return err
	}
	took := time.Since(begin)
	s.metrics.commit.Observe(took.Seconds())
	s.committed(took)
	s.metrics.samples.Add(float64(rows))
	s.c.Latest.Committed(update)
	s.c.Series.Outside(hotBatches(w.fresh), span)
	for _, i := range w.fresh {
		s.metrics.bytes.Add(float64(len(i.payload)))
	}
	s.alarm(ctx, w)
	toLink := w.toLink()
	for n, i := range group {
		i.answer(w.answers[n])
	}
	// What links to batches that another transaction was just writing shows only now.
	if err := s.resolve(ctx, toLink); err != nil {
		s.c.Log.WarnContext(ctx, "links were not checked, maintenance will", "err", err)
	}
	return nil
}

func hotBatches(items []*item) []series.Batch {
	out := make([]series.Batch, 0, len(items))
	for _, i := range items {
		if i.samples != nil {
			out = append(out, series.Batch{Site: i.header.Site, Samples: i.samples})
		}
	}
	return out
}

func latestBatches(items []*item) []fleet.SiteSamples {
	out := make([]fleet.SiteSamples, 0, len(items))
	for _, i := range items {
		if i.samples != nil {
			out = append(out, fleet.SiteSamples{Site: i.header.Site, Samples: i.samples})
		}
	}
	return out
}

// isDataError reports whether the database found fault with what was written, so that writing less may help: data exceptions, violated
// constraints, and limits of the program.
func isDataError(err error) bool {
	var pe *pgconn.PgError
	return errors.As(err, &pe) && (strings.HasPrefix(pe.Code, "22") || strings.HasPrefix(pe.Code, "23") || strings.HasPrefix(pe.Code, "54"))
}

// isConflict reports whether the same transaction may succeed when tried again: deadlocks and the like.
func isConflict(err error) bool {
	var pe *pgconn.PgError
	return errors.As(err, &pe) && strings.HasPrefix(pe.Code, "40")
}
