package spool

import (
	"errors"
	"fmt"
	"time"

	"github.com/hashinsight/hashinsight/pkg/ident"
)

// ErrBadRange: a range of batches that cannot exist.
var ErrBadRange = errors.New("range of batches is not valid")

// tryRefused is how long a batch that the hub refused for good is left alone. A hub that was mended gets it then.
const tryRefused = 24 * time.Hour

// Unacked says what became of a range that is wanted again.
type Unacked struct {
	Again   uint64 // batches that were acknowledged, or refused, and are to be sent again
	Pending uint64 // batches that were to be sent anyway
	Gone    uint64 // batches that are no longer kept
}

// Unack makes acknowledged batches pending again, as far as they are kept: a hub that was restored to an earlier moment asks
// for them. Their segments are safe from deletion from then on, after a crash too. The range is inclusive; one that ends after
// the newest batch of its chain is ErrBadRange. The cost is bounded by what the spool keeps, not by the length of the range.
func (s *Spool) Unack(id ident.SpoolID, first, last uint64) (Unacked, error) {
	if first == 0 || last < first {
		return Unacked{}, fmt.Errorf("%w: batches %d to %d of spool %s", ErrBadRange, first, last, id)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return Unacked{}, ErrClosed
	}
	for _, c := range s.chains() {
		if c.ID == id && last > c.Newest {
			return Unacked{}, fmt.Errorf("%w: batches %d to %d of spool %s, whose newest is %d", ErrBadRange, first, last, id, c.Newest)
		}
	}
	u := Unacked{Gone: last - first + 1}
	for _, g := range s.segs {
		if g.spool != id || g.count() == 0 {
			continue
		}
		for seq := max(first, g.first); seq <= min(last, g.last); seq++ {
			u.Gone--
			if g.unack(seq) {
				u.Again++
			} else {
				u.Pending++
			}
		}
	}
	if u.Again > 0 {
		s.metrics.unacked.Add(float64(u.Again))
		s.writeAcks(s.cfg.Now(), true)
		s.wake()
	}
	return u, nil
}

// Refuse notes that the hub will not take a stored batch. It stays pending and is not handed out for a day, across restarts,
// unless the hub asks for it.
func (s *Spool) Refuse(ref Ref) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	g, err := s.find(ref)
	if err != nil {
		return err
	}
	now := s.cfg.Now()
	if g.refuse(ref.Seq, now) {
		s.acksOld = true
		s.saveAcks(now)
	}
	return nil
}

// unack marks a batch as one to send and reports whether that is news.
func (g *segment) unack(seq uint64) bool {
	i := seq - g.first
	again := g.allow(seq)
	if !g.isAcked(seq) {
		return again
	}
	if g.acked == nil { // all are, and the bits were let go
		for j := range g.count() {
			g.acked.set(j)
		}
	}
	g.acked.clear(i)
	g.ackedN--
	g.fullAt = time.Time{}
	return true
}

// refuse marks a batch as one that the hub will not take and reports whether that is news.
func (g *segment) refuse(seq uint64, now time.Time) bool {
	if g.isAcked(seq) || g.refused.has(seq-g.first) {
		return false
	}
	if g.refusedN == 0 {
		g.refusedAt = now
	}
	g.refused.set(seq - g.first)
	g.refusedN++
	return true
}

// allow takes a refusal back and reports whether there was one.
func (g *segment) allow(seq uint64) bool {
	if !g.refused.has(seq - g.first) {
		return false
	}
	g.refused.clear(seq - g.first)
	g.refusedN--
	return true
}

// nextToSend returns the first batch at or after seq that is neither acknowledged nor refused.
func (g *segment) nextToSend(seq uint64) (uint64, bool) {
	seq, ok := g.nextPending(seq)
	for ok && g.refused.has(seq-g.first) {
		seq, ok = g.nextPending(seq + 1)
	}
	return seq, ok
}

// allowOld takes refusals back that are old enough to be tried again. The caller holds mu.
func (s *Spool) allowOld(now time.Time) {
	for _, g := range s.segs {
		if g.refusedN > 0 && now.Sub(g.refusedAt) >= tryRefused {
			g.refused, g.refusedN = nil, 0
			s.acksOld = true
			s.wake()
		}
	}
}
