package spool

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/hashinsight/hashinsight/pkg/evidence"
	"github.com/hashinsight/hashinsight/pkg/ident"
	"github.com/hashinsight/hashinsight/pkg/wire"
)

const (
	maxBatches   = 1 << 16 // in one segment: bounds its acknowledgement bits to 8 kB
	segmentSlack = 64 << 10
	maxGaps      = 64 // gap records for one dropped segment; beyond that one record covers the rest
	tidyEvery    = 10 * time.Second
	saveAcks     = 2 * time.Second
)

// lost is a range of batches that cannot be read back.
type lost struct {
	path     string // file to set aside once the gap record is stored; empty for a batch of a sound segment
	spool    ident.SpoolID
	chain    uint32
	first    uint64
	last     uint64
	lastHash evidence.Hash
}

// seal notes that a segment is no longer written and lets go of its file. The caller holds mu.
func (s *Spool) seal(g *segment) {
	_ = g.close() // every commit in it has returned: closing cannot lose anything
	if info, err := os.Stat(g.path); err == nil {
		g.size = info.Size()
	}
	s.ifFull(g)
}

// ifFull starts the grace period of a sealed segment whose last batch is acknowledged. The caller holds mu.
func (s *Spool) ifFull(g *segment) {
	if g.acknowledged() && g.fullAt.IsZero() && g != s.segs[len(s.segs)-1] {
		g.fullAt, g.acked = s.cfg.Now(), nil
	}
}

// roll begins a new segment when the newest one is full. The caller holds appendMu.
func (s *Spool) roll(payload int) error {
	s.mu.Lock()
	g := s.segs[len(s.segs)-1]
	s.mu.Unlock()
	used, err := g.used()
	if err != nil {
		return err
	}
	if g.count() == 0 || g.count() < maxBatches && used+int64(payload)+segmentSlack <= s.cfg.SegmentBytes {
		return nil
	}
	if err := s.makeRoom(); err != nil {
		return err
	}
	next, err := createSegment(s.cfg.Dir, s.chain, s.id, g.last+1, s.lastHash, s.cfg.SegmentBytes)
	if err != nil {
		return fmt.Errorf("spool: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.segs = append(s.segs, next)
	s.seal(g)
	return nil
}

// makeRoom keeps the directory within its cap when one more segment comes: files set aside go first, then acknowledged
// segments, then the oldest data, with a gap record that is durable before the data is gone. The caller holds appendMu.
func (s *Spool) makeRoom() error {
	for {
		aside, asideBytes := s.asideFiles()
		s.mu.Lock()
		newest := s.segs[len(s.segs)-1]
		if info, err := os.Stat(newest.path); err == nil {
			newest.size = info.Size()
		}
		total := asideBytes + s.cfg.SegmentBytes
		for _, g := range s.segs {
			total += g.size
		}
		if total <= s.cfg.MaxBytes {
			s.mu.Unlock()
			return nil
		}
		if len(aside) > 0 {
			s.mu.Unlock()
			if err := os.Remove(aside[0]); err != nil {
				return fmt.Errorf("spool: %w", err)
			}
			continue
		}
		if len(s.segs) < 2 {
			s.mu.Unlock()
			return nil
		}
		victim := s.segs[0]
		if spare := s.spare(); len(spare) > 0 {
			victim = spare[0]
		}
		if victim.acknowledged() {
			err := s.remove(victim, "cap")
			s.mu.Unlock()
			if err != nil {
				return err
			}
			continue
		}
		gaps, err := s.gapsOf(victim)
		if errors.Is(err, errCorrupt) {
			s.quarantine(victim, err, nil)
		}
		s.mu.Unlock()
		switch {
		case errors.Is(err, errCorrupt):
			if err := s.recordLost(); err != nil {
				return err
			}
			continue
		case err != nil:
			return err
		}
		if err := s.drop(victim, gaps); err != nil {
			return err
		}
	}
}

// drop stores gap records and then deletes the segment that they are about.
func (s *Spool) drop(g *segment, gaps []evidence.Gap) error {
	for i := range gaps {
		if err := s.commitGap(&gaps[i]); err != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := len(gaps); n > 0 {
		s.gap, s.gapRef = gaps[n-1], Ref{s.id, s.segs[len(s.segs)-1].last}
	}
	gone := g.count() - g.ackedN
	s.metrics.dropped.Add(float64(gone))
	s.log.Error("spool reached its size cap and dropped its oldest data: raise the cap, or repair the link to the hub",
		"segment", filepath.Base(g.path), "batches", gone, "cap_bytes", s.cfg.MaxBytes)
	return s.remove(g, "cap")
}

func (s *Spool) commitGap(gap *evidence.Gap) error {
	m := wire.Meta{FirstMS: gap.FirstMS, LastMS: gap.LastMS}
	if _, err := s.commit(evidence.KindGap, gap.Bytes(), m); err != nil {
		return fmt.Errorf("spool: record a gap of batches %d to %d: %w", gap.FirstSeq, gap.LastSeq, err)
	}
	return nil
}

// gapsOf describes what would be missing without g: its runs of unacknowledged batches, joined to the gap record before if
// that is still pending and they touch, as they do while a long outage lasts. Gap records among the dropped batches are
// carried over unless a newer one covers them, so that dropping a segment never forgets an older gap. The caller holds mu.
func (s *Spool) gapsOf(g *segment) ([]evidence.Gap, error) {
	if err := s.forReading(g); err != nil {
		return nil, err
	}
	var gaps []evidence.Gap
	if before, err := s.find(s.gapRef); err == nil && !before.isAcked(s.gapRef.Seq) {
		gaps = append(gaps, s.gap)
	}
	for seq, ok := g.nextPending(g.first); ok; seq, ok = g.nextPending(seq + 1) {
		b, err := g.get(seq, false)
		h := &b.Header
		switch {
		case errors.Is(err, errBatch):
			gaps = append(gaps, evidence.Gap{Reason: evidence.GapCorrupt, Spool: g.spool, FirstSeq: seq, LastSeq: seq})
			continue
		case err != nil:
			return nil, err
		}
		if h.Kind == evidence.KindGap {
			if full, err := g.get(seq, true); err == nil {
				if old, err := evidence.ParseGap(full.Payload); err == nil {
					gaps = append(gaps, old)
				}
			}
		}
		gaps = append(gaps, evidence.Gap{
			Reason: evidence.GapSizeCap, Spool: h.Spool, FirstSeq: seq, LastSeq: seq, FirstMS: h.FirstMS, LastMS: h.LastMS,
			Miners: h.Miners, Samples: uint64(h.Samples), LastHash: h.Hash(),
		})
	}
	return mergeGaps(gaps), nil
}

// mergeGaps joins records of one reason whose ranges touch or overlap. More than maxGaps of them are joined across the
// acknowledged batches between, which the hub has anyway.
func mergeGaps(gaps []evidence.Gap) []evidence.Gap {
	slices.SortStableFunc(gaps, func(a, b evidence.Gap) int {
		return cmp.Or(bytes.Compare(a.Spool[:], b.Spool[:]), cmp.Compare(a.Reason, b.Reason), cmp.Compare(a.FirstSeq, b.FirstSeq),
			cmp.Compare(b.LastSeq, a.LastSeq))
	})
	var out []evidence.Gap
	for _, g := range gaps {
		p := &evidence.Gap{}
		if n := len(out); n > 0 {
			p = &out[n-1]
		}
		switch {
		case p.Spool != g.Spool || p.Reason != g.Reason || len(out) < maxGaps && g.FirstSeq > p.LastSeq+1:
			out = append(out, g)
		case g.LastSeq > p.LastSeq: // what is covered already is counted already
			p.LastSeq, p.LastHash = g.LastSeq, g.LastHash
			p.FirstMS, p.LastMS = min(p.FirstMS, g.FirstMS), max(p.LastMS, g.LastMS)
			p.Miners, p.Samples = max(p.Miners, g.Miners), p.Samples+g.Samples
		}
	}
	return out
}

// tidy deletes acknowledged segments whose grace period is over, and saves acknowledgements, now and then.
func (s *Spool) tidy(force bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.cfg.Now()
	s.saveAcks(now)
	if since := now.Sub(s.tidyAt); !force && since >= 0 && since < tidyEvery {
		return
	}
	s.tidyAt = now
	s.allowOld(now)
	for _, g := range slices.Clone(s.segs[:len(s.segs)-1]) {
		if g.acknowledged() && !s.held(g) && !g.fullAt.IsZero() && now.Sub(g.fullAt) >= s.cfg.Grace {
			if err := s.remove(g, "acknowledged"); err != nil {
				s.log.Error("acknowledged spool segment cannot be deleted", "segment", filepath.Base(g.path), "err", err)
				return
			}
		}
	}
}

// saveAcks writes acks.json when it is behind for long enough. The caller holds mu.
func (s *Spool) saveAcks(now time.Time) {
	if since := now.Sub(s.acksAt); s.acksOld && (since < 0 || since >= saveAcks) {
		s.writeAcks(now, false)
	}
}

// freeAcknowledged deletes acknowledged segments without waiting for their grace period and reports whether it found any.
func (s *Spool) freeAcknowledged() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	freed, held := false, false
	for _, g := range s.spare() { // those that nobody needs first
		if held = held || s.held(g); held && freed {
			break
		}
		freed = s.remove(g, "disk_full") == nil || freed
	}
	return freed
}

// spare lists acknowledged segments in the order in which they may be given up: those that nobody needs, then those that are held, each
// oldest first. The hub has them all; what is lost with a held one is that an hour which is not signed yet cannot be computed again
// after a restart. The caller holds mu.
func (s *Spool) spare() []*segment {
	var free, held []*segment
	for _, g := range s.segs[:len(s.segs)-1] {
		switch {
		case !g.acknowledged():
		case s.held(g):
			held = append(held, g)
		default:
			free = append(free, g)
		}
	}
	return append(free, held...)
}

// held reports whether something is still to be computed from a segment. The caller holds mu.
func (s *Spool) held(g *segment) bool {
	return s.cfg.Hold && g.count() > 0 && g.last >= s.released[g.spool]
}

// Release says that the batches of a chain before this one are not needed any more, see Config.Hold. It never takes back what was released.
func (s *Spool) Release(before Ref) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.released[before.Spool] = max(s.released[before.Spool], before.Seq)
}

// MakeRoom gives up acknowledged segments when err, of whatever else is kept on the same disk, says that the disk is full.
// It reports whether trying again makes sense. The spool's own files need no such help.
func (s *Spool) MakeRoom(err error) bool {
	if !isDiskFull(err) {
		return false
	}
	s.appendMu.Lock()
	defer s.appendMu.Unlock()
	return s.freeAcknowledged()
}

// remove deletes a segment. The caller holds mu.
func (s *Spool) remove(g *segment, why string) error {
	if s.reader == g {
		s.reader = nil
	}
	if err := g.close(); err != nil {
		return fmt.Errorf("segment %s: %w", filepath.Base(g.path), err)
	}
	if err := os.Remove(g.path); err != nil {
		return fmt.Errorf("spool: %w", err)
	}
	s.segs = slices.DeleteFunc(s.segs, func(x *segment) bool { return x == g })
	s.metrics.deleted.WithLabelValues(why).Inc()
	return nil
}

// quarantine gives a segment up: its batches become a lost range, and its file is set aside once the gap record is
// stored. The caller holds mu, or is Open. known may be nil.
func (s *Spool) quarantine(g *segment, cause error, known *ackFile) {
	l := lost{path: g.path, spool: g.spool, chain: g.chain, first: g.first, last: max(g.last, g.first)}
	acked := false
	if known != nil {
		if st, ok := known.Segments[filepath.Base(g.path)]; ok {
			l.spool, l.last = st.Spool, max(l.last, st.Last)
			acked = st.FullMS != 0
		}
	} else {
		acked = g.count() > 0 && g.acknowledged()
		if first, ok := g.nextPending(g.first); ok {
			l.first = first
		}
	}
	for i, x := range s.segs {
		if x == g && i+1 < len(s.segs) && s.segs[i+1].chain == g.chain {
			l.last = s.segs[i+1].first - 1
		}
	}
	if s.reader == g {
		s.reader = nil
	}
	_ = g.close() // its content is given up already
	s.segs = slices.DeleteFunc(slices.Clone(s.segs), func(x *segment) bool { return x == g && known == nil })
	s.metrics.quarantined.Inc()
	s.log.Error("spool segment is corrupt and set aside; a gap record will name what is missing: check the disk",
		"segment", filepath.Base(g.path), "first_seq", l.first, "last_seq", l.last, "acknowledged", acked, "err", cause)
	if acked {
		l.last = 0 // nothing is missing at the hub
	}
	s.lost = append(s.lost, l)
}

// recordLost stores a gap record for everything that could not be read. The caller holds appendMu, or is Open.
func (s *Spool) recordLost() error {
	for {
		s.mu.Lock()
		if len(s.lost) == 0 {
			s.mu.Unlock()
			return nil
		}
		l := s.lost[0]
		gap := s.describe(l)
		s.mu.Unlock()
		if l.last > 0 && gap.Spool != (ident.SpoolID{}) {
			if err := s.roll(evidence.GapSize); err != nil {
				return err
			}
			if err := s.commitGap(&gap); err != nil {
				return err
			}
		}
		if l.path != "" {
			if err := os.Rename(l.path, l.path+corruptSuffix); err != nil && !errors.Is(err, os.ErrNotExist) {
				return fmt.Errorf("spool: set a corrupt segment aside: %w", err)
			}
		}
		s.mu.Lock()
		s.lost = s.lost[1:]
		s.mu.Unlock()
	}
}

// describe makes the gap record of a lost range. What the lost bytes said is taken from their neighbours: the hash of the
// last header stands in the segment after it, and the time span lies between the batches around it. The caller holds mu.
func (s *Spool) describe(l lost) evidence.Gap {
	gap := evidence.Gap{Reason: evidence.GapCorrupt, Spool: l.spool, FirstSeq: l.first, LastSeq: l.last, LastHash: l.lastHash}
	now := s.cfg.Now().UnixMilli()
	gap.FirstMS, gap.LastMS = math.MinInt64, now
	for _, g := range s.segs {
		if g.chain != l.chain || g.count() == 0 {
			continue
		}
		if gap.Spool == (ident.SpoolID{}) {
			gap.Spool = g.spool
		}
		if g.first == l.last+1 {
			gap.LastHash = g.prev
		}
		if s.forReading(g) != nil {
			continue
		}
		if before := min(l.first-1, g.last); before >= g.first && g.first < l.first {
			if b, err := g.get(before, false); err == nil {
				gap.FirstMS = b.Header.LastMS
			}
		}
		if after := max(l.last+1, g.first); after <= g.last && gap.LastMS == now {
			if b, err := g.get(after, false); err == nil {
				gap.LastMS = b.Header.FirstMS
			}
		}
	}
	if gap.FirstMS == math.MinInt64 {
		gap.FirstMS = gap.LastMS
	}
	gap.FirstMS, gap.LastMS = min(gap.FirstMS, gap.LastMS), max(gap.FirstMS, gap.LastMS)
	return gap
}

// asideFiles lists corrupt segments, oldest first, and their size.
func (s *Spool) asideFiles() (paths []string, size int64) {
	paths, _ = filepath.Glob(filepath.Join(s.cfg.Dir, "*"+segmentSuffix+corruptSuffix)) // the pattern is well formed
	slices.Sort(paths)
	for _, p := range paths {
		if info, err := os.Stat(p); err == nil {
			size += info.Size()
		}
	}
	return paths, size
}
