package facts

import (
	"context"
	"fmt"

	"github.com/hashinsight/hashinsight/hub/internal/archive"
	"github.com/hashinsight/hashinsight/pkg/evidence"
	"github.com/hashinsight/hashinsight/pkg/ident"
	"github.com/hashinsight/hashinsight/pkg/telemetry"
	"github.com/hashinsight/hashinsight/pkg/wire"
)

// computed is what the batches of an hour give.
type computed struct {
	leaves  []evidence.Leaf // in order of miners, without salts
	skew    uint16          // slots that skewed batches touch
	batches int
	polls   int64
}

// manyMinersError means that batches have more miners than is taken.
type manyMinersError struct{ first, last uint64 }

func (e *manyMinersError) Error() string {
	return fmt.Sprintf("batches %d to %d have more than %d miners, more than are recomputed", e.first, e.last, MaxLeaves)
}

// compute computes the leaves of an hour from the batches first to h.LastSeq that are stored. One batch is in memory at a time, and the facts of at most
// MaxLeaves miners. check, where it is not nil, sees each batch before it is used.
func (s *Store) compute(ctx context.Context, q archive.Querier, h *Hour, first uint64, check func(*archive.Batch) error) (c computed, err error) {
	decoder, err := wire.NewDecoder()
	if err != nil {
		return c, err
	}
	defer decoder.Close()
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
