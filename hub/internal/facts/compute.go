package facts

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hashinsight/hashinsight/hub/internal/archive"
	"github.com/hashinsight/hashinsight/pkg/evidence"
	"github.com/hashinsight/hashinsight/pkg/ident"
	"github.com/hashinsight/hashinsight/pkg/telemetry"
	"github.com/hashinsight/hashinsight/pkg/wire"
)

// computed is what the batches of an hour give.
type computed struct {
	leaves  []evidence.Leaf // in order of miners
	skew    uint16          // slots that skewed batches touch
	batches int
	polls   int64
	first   uint64 // from which batch on

	root     evidence.Hash // of the leaves' tree; zero without leaves
	unsalted int           // leaves whose miners have no salt key here: without them there is no root
	miner    ident.MinerID // one of theirs
	older    bool          // batches before the first one that may count are not here
}

// agrees reports whether this is what the site signed.
func (c *computed) agrees(h *Hour) bool {
	return c.unsalted == 0 && c.root == h.Root && uint32(len(c.leaves)) == h.Leaves && firstSeq(c.leaves) == h.FirstSeq
}

// manyMinersError means that batches have more miners than is taken.
type manyMinersError struct{ first, last uint64 }

func (e *manyMinersError) Error() string {
	return fmt.Sprintf("batches %d to %d have more than %d miners, more than are recomputed", e.first, e.last, MaxLeaves)
}

const (
	// qOlder finds the first batch with polls later than an hour before the hour, whatever lies between, and counts what it looked at.
	qOlder = `
SELECT coalesce(min(seq) FILTER (WHERE kind = 1 AND last_at >= $5), 0), count(*) FROM batch WHERE site_id = $1 AND spool_id = $2 AND seq >= $3 AND seq < $4`
	qPolls = `SELECT coalesce(sum(samples), 0) FROM batch WHERE site_id = $1 AND spool_id = $2 AND seq >= $3 AND seq <= $4`
)

// find computes an hour from the batches first to h.LastSeq. If that does not agree, a clock may have been set back: then the last readings of a miner may
// lie before batches that end long before the hour, and its agent still remembers them. With those it is computed again, as far as that many
// batches are recomputed for an hour.
func (s *Store) find(ctx context.Context, q querier, h *Hour, first uint64, check func(*archive.Batch) error) (c computed, err error) {
	if c, err = s.compute(ctx, q, h, first, check); err != nil || c.unsalted > 0 || c.agrees(h) {
		return c, err
	}
	lowest := uint64(1)
	if h.LastSeq > maxBatches {
		lowest = min(h.LastSeq-maxBatches+1, first)
	}
	var older, there, polls int64
	if err := q.QueryRow(ctx, qOlder, h.Site, h.Spool, int64(lowest), int64(first), h.At().Add(-time.Hour)).Scan(&older, &there); err != nil {
		return c, fmt.Errorf("finding older batches: %w", err)
	}
	c.older = uint64(there) != first-lowest
	if older == 0 {
		return c, nil
	}
	if err := q.QueryRow(ctx, qPolls, h.Site, h.Spool, older, int64(h.LastSeq)).Scan(&polls); err != nil {
		return c, fmt.Errorf("counting older polls: %w", err)
	}
	if polls > maxPolls {
		return c, nil
	}
	again, err := s.compute(ctx, q, h, uint64(older), check)
	var waits *waitError
	var many *manyMinersError
	switch {
	case errors.As(err, &waits), errors.As(err, &many): // what is not needed for certain keeps no lie from being found
		c.older = true
		return c, nil
	case err != nil:
		return c, err
	}
	again.older = c.older
	return again, nil
}

// compute computes the salted leaves of an hour and their root from the batches first to h.LastSeq that are stored. One batch is in memory at a time, and the facts of at most
// MaxLeaves miners. check, where it is not nil, sees each batch before it is used.
func (s *Store) compute(ctx context.Context, q querier, h *Hour, first uint64, check func(*archive.Batch) error) (c computed, err error) {
	decoder, err := wire.NewDecoder()
	if err != nil {
		return c, err
	}
	defer decoder.Close()
	c.first = first
	facts := evidence.NewFactsOf(h.Site, h.Spool, h.Hour)
	miners := map[ident.MinerID]struct{}{}
	err = archive.Chain(ctx, q, s.c.Archive, h.Site, h.Spool, first, h.LastSeq, func(b *archive.Batch, err error) error {
		if err != nil {
			return evidenceError(err)
		}
		if check != nil {
			if err := check(b); err != nil {
				return err
			}
		}
		c.batches++
		if b.Header.Kind != evidence.KindSamples {
			return nil
		}
		if b.Skewed {
			c.skew |= slotsOf(h.Hour, b.Header.FirstMS, b.Header.LastMS)
		}
		samples, err := decoder.Samples(b.Payload)
		if err != nil { // ingest could read it
			return wait("batch %d cannot be read: %v", b.Seq, err)
		}
		for _, m := range samples.Miners {
			miners[m] = struct{}{}
		}
		if len(miners) > MaxLeaves {
			return &manyMinersError{first, h.LastSeq}
		}
		c.polls += int64(samples.Len())
		samples.EachFact(func(o *telemetry.Observation) { facts.Add(b.Seq, o) })
		return ctx.Err()
	})
	if err != nil {
		return c, err
	}
	c.leaves = facts.Close(h.Hour, h.LastSeq)
	if c.unsalted, c.miner, err = s.salt(ctx, q, c.leaves); err != nil || c.unsalted > 0 || len(c.leaves) == 0 {
		return c, err
	}
	tree, err := evidence.NewTree(c.leaves)
	if err != nil {
		return c, fmt.Errorf("the tree of its leaves: %w", err)
	}
	c.root = tree.Root()
	return c, nil
}

// slotsOf returns the slots of an hour that a span of times touches, both ends included.
func slotsOf(hour uint32, firstMS, lastMS int64) (slots uint16) {
	begin := int64(hour) * evidence.HourMS
	for i := range evidence.SlotsPerHour {
		from := begin + int64(i)*evidence.SlotMS
		if firstMS < from+evidence.SlotMS && lastMS >= from {
			slots |= 1 << i
		}
	}
	return slots
}
