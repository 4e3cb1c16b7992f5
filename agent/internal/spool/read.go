package spool

import (
	"context"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"slices"

	"github.com/hashinsight/hashinsight/pkg/evidence"
	"github.com/hashinsight/hashinsight/pkg/ident"
)

// Skip tells the spool what its reader does not want: it returns the lowest sequence number at or after ref.Seq that may be
// returned. Identity means "take it". It must not call the spool.
type Skip func(ref Ref) uint64

// Changed returns a channel that is closed when a batch has been appended, or the spool closed, since the call.
func (s *Spool) Changed() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.changed
}

// Live returns the newest batch that is neither acknowledged nor refused among the newest depth ones that skip lets through.
func (s *Spool) Live(depth int, skip Skip) (Batch, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return Batch{}, false, ErrClosed
	}
	for i := len(s.segs) - 1; i >= 0 && depth > 0; i-- {
		g := s.segs[i]
		for seq := g.last; seq >= g.first && depth > 0; seq-- {
			depth--
			if g.isAcked(seq) || g.refused.has(seq-g.first) || skip(Ref{g.spool, seq}) != seq {
				continue
			}
			b, err := s.read(g, seq, true)
			if errors.Is(err, errBatch) || errors.Is(err, errCorrupt) {
				return Batch{}, false, nil // noted as lost; the next call looks elsewhere
			}
			return b, err == nil, err
		}
	}
	return Batch{}, false, nil
}

// Backlog returns the oldest batches, neither acknowledged nor refused, that skip lets through, oldest first: at most maxBatches, and at most
// maxBytes together unless the first alone is larger.
func (s *Spool) Backlog(maxBatches, maxBytes int, skip Skip) ([]Batch, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, ErrClosed
	}
	var out []Batch
	for _, g := range append([]*segment(nil), s.segs...) {
		for seq, ok := g.nextToSend(g.first); ok && len(out) < maxBatches; {
			if want := skip(Ref{g.spool, seq}); want > seq {
				seq, ok = g.nextToSend(want)
				continue
			}
			b, err := s.read(g, seq, true)
			switch {
			case errors.Is(err, errCorrupt):
				ok = false // the rest of the segment is lost too
				continue
			case errors.Is(err, errBatch):
				seq, ok = g.nextToSend(seq + 1)
				continue
			case err != nil:
				return out, err
			}
			if maxBytes -= b.Size(); maxBytes < 0 && len(out) > 0 {
				return out, nil
			}
			out = append(out, b)
			seq, ok = g.nextToSend(seq + 1)
		}
	}
	return out, nil
}

// Stored returns the next batches of a chain from a sequence number on, acknowledged or not, in order: at most maxBatches, and at most
// maxBytes together unless the first alone is larger. Numbers that are not here, or cannot be read, are passed over; none means that
// nothing is stored from there on.
func (s *Spool) Stored(id ident.SpoolID, from uint64, maxBatches, maxBytes int) ([]Batch, error) {
	return s.stored(id, from, maxBatches, maxBytes, true)
}

// Headers calls fn with the header of every batch of a chain that is stored now, in order.
func (s *Spool) Headers(ctx context.Context, id ident.SpoolID, fn func(*evidence.Header) error) error {
	const some = 256 // under one lock
	for next := uint64(0); ctx.Err() == nil; {
		batches, err := s.stored(id, next, some, math.MaxInt, false)
		if err != nil || len(batches) == 0 {
			return err
		}
		for i := range batches {
			if err := fn(&batches[i].Header); err != nil {
				return err
			}
		}
		next = batches[len(batches)-1].Header.Seq + 1
	}
	return ctx.Err()
}

func (s *Spool) stored(id ident.SpoolID, from uint64, maxBatches, maxBytes int, withPayload bool) ([]Batch, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, ErrClosed
	}
	var out []Batch
	for _, g := range slices.Clone(s.segs) {
		if g.spool != id || g.last < from {
			continue
		}
		for seq := max(from, g.first); seq <= g.last && len(out) < maxBatches; seq++ {
			b, err := s.read(g, seq, withPayload)
			switch {
			case errors.Is(err, errCorrupt):
				seq = g.last // the rest of the segment is lost too
				continue
			case errors.Is(err, errBatch):
				continue
			case err != nil:
				return out, err
			}
			if maxBytes -= b.Size(); maxBytes < 0 && len(out) > 0 {
				return out, nil
			}
			out = append(out, b)
		}
	}
	return out, nil
}

// Read returns one stored batch, acknowledged or not.
func (s *Spool) Read(ref Ref) (Batch, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	g, err := s.find(ref)
	if err != nil {
		return Batch{}, err
	}
	return s.read(g, ref.Seq, true)
}

func (s *Spool) find(ref Ref) (*segment, error) {
	if s.closed {
		return nil, ErrClosed
	}
	for i := len(s.segs) - 1; i >= 0; i-- {
		if g := s.segs[i]; g.spool == ref.Spool && g.has(ref.Seq) {
			return g, nil
		}
	}
	return nil, fmt.Errorf("%w: spool %s, batch %d", ErrNotFound, ref.Spool, ref.Seq)
}

// read returns a batch and takes note of damage: of the segment as a whole, or of this one batch. The caller holds mu.
func (s *Spool) read(g *segment, seq uint64, withPayload bool) (Batch, error) {
	var b Batch
	err := s.forReading(g)
	if err == nil {
		b, err = g.get(seq, withPayload)
	}
	if err == nil && withPayload {
		err = s.verify(&b)
	}
	switch newest := g == s.segs[len(s.segs)-1]; {
	case errors.Is(err, errBatch):
		// Nothing can be sent in its place; marking it as done keeps it from being read for ever, and the gap record
		// that the next Append stores tells the hub. What the hub has is not missing there.
		if !g.ack(seq) {
			break
		}
		s.ifFull(g)
		s.lost = append(s.lost, lost{spool: g.spool, chain: g.chain, first: seq, last: seq})
		s.metrics.quarantined.Inc()
		s.log.Error("stored batch is corrupt; a gap record will name it: check the disk", "segment", filepath.Base(g.path), "seq", seq, "err", err)
	case errors.Is(err, errCorrupt) && newest:
		g.broken.Store(true) // Append begins a new chain
	case errors.Is(err, errCorrupt):
		s.quarantine(g, err, nil)
	}
	return b, err
}

// forReading opens an older segment; at most one of them is open at a time. The caller holds mu.
func (s *Spool) forReading(g *segment) error {
	if g.broken.Load() {
		return fmt.Errorf("segment %s: %w", filepath.Base(g.path), errCorrupt)
	}
	if g.db != nil {
		return nil
	}
	if s.reader != nil {
		if err := s.reader.close(); err != nil {
			return fmt.Errorf("segment %s: %w", filepath.Base(s.reader.path), err)
		}
		s.reader = nil
	}
	if g == s.segs[len(s.segs)-1] {
		return fmt.Errorf("segment %s is not open: the last commit failed", filepath.Base(g.path))
	}
	if err := g.open(true, s.cfg.SegmentBytes); err != nil {
		return err
	}
	s.reader = g
	return nil
}

// Ack takes the hub's acknowledgement of one batch. It counts only when the signature verifies with a pinned key and the
// acknowledgement names exactly what is stored. Segments whose batches are all acknowledged are deleted after the grace
// period, by a later Append.
func (s *Spool) Ack(a evidence.Ack, hubKey ident.KeyID, signature []byte) error {
	pub := s.cfg.HubKey(hubKey)
	if pub == nil {
		return fmt.Errorf("%w: hub key %s is not pinned at this site", ErrBadAck, hubKey)
	}
	if err := a.Verify(pub, signature); err != nil {
		return fmt.Errorf("%w: batch %d: %w", ErrBadAck, a.Seq, err)
	}
	if a.Site != s.cfg.Site {
		return fmt.Errorf("%w: it is for site %s", ErrBadAck, a.Site)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	g, err := s.find(Ref{a.Spool, a.Seq})
	if err != nil {
		return err
	}
	if g.isAcked(a.Seq) {
		return nil
	}
	b, err := s.read(g, a.Seq, false)
	if err != nil {
		return fmt.Errorf("spool: %w", err)
	}
	if b.Header.Hash() != a.HeaderHash {
		return fmt.Errorf("%w: batch %d has another header hash here", ErrBadAck, a.Seq)
	}
	if g.ack(a.Seq) {
		s.acksOld = true
		s.metrics.acked.Inc()
		s.ifFull(g)
		s.saveAcks(s.cfg.Now())
	}
	return nil
}

// KnowsHubKey reports whether acknowledgements by this hub key can count.
func (s *Spool) KnowsHubKey(id ident.KeyID) bool { return s.cfg.HubKey(id) != nil }

// Site returns the site whose batches the spool holds.
func (s *Spool) Site() ident.SiteID { return s.cfg.Site }
