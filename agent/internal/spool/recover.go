package spool

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/hashinsight/hashinsight/pkg/evidence"
	"github.com/hashinsight/hashinsight/pkg/ident"
	"github.com/hashinsight/hashinsight/pkg/wire"
)

// recover finds out what the directory holds.
func (s *Spool) recover(ctx context.Context) error {
	entries, err := os.ReadDir(s.cfg.Dir)
	if err != nil {
		return fmt.Errorf("spool directory: %w", err)
	}
	var highest uint32
	for _, e := range entries {
		name := e.Name()
		if strings.HasSuffix(name, tmpSuffix) { // a file that a kill left unfinished
			if err := os.Remove(filepath.Join(s.cfg.Dir, name)); err != nil {
				return fmt.Errorf("spool directory: %w", err)
			}
			continue
		}
		chain, first, ok := parseSegmentName(name)
		if old, found := strings.CutSuffix(name, corruptSuffix); found {
			chain, _, _ = parseSegmentName(old)
		}
		highest = max(highest, chain)
		if ok {
			s.segs = append(s.segs, &segment{path: filepath.Join(s.cfg.Dir, name), chain: chain, first: first})
		}
	}
	slices.SortFunc(s.segs, func(a, b *segment) int { return strings.Compare(filepath.Base(a.path), filepath.Base(b.path)) })

	m, err := readMeta(s.cfg.Dir, s.cfg.Site)
	if err != nil {
		return err
	}
	known := readAcks(s.cfg.Dir)
	var good []*segment
	newestLost := true // also when there is none
	newKey := false
	for i, g := range s.segs {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		newest := i == len(s.segs)-1
		err := g.open(!newest, s.cfg.SegmentBytes)
		if err == nil {
			err = g.load()
		}
		switch {
		case errors.Is(err, errCorrupt):
			s.quarantine(g, err, known)
			continue
		case err != nil:
			return err
		}
		if newest {
			newestLost = g.chain != m.Chain || g.spool != m.Spool
		} else if err := g.close(); err != nil {
			return err
		}
		known.apply(g)
		good = append(good, g)
	}
	s.segs = good
	if !newestLost {
		s.chain, s.id = m.Chain, m.Spool
		err = s.loadHead()
		if errors.Is(err, errCorrupt) {
			s.quarantine(s.segs[len(s.segs)-1], err, known)
			s.segs = s.segs[:len(s.segs)-1]
			newestLost, err = true, nil
		}
	}
	switch {
	case newestLost:
		err = s.newChain(max(highest, m.Chain) + 1)
	case s.rememberKey(&m):
		newKey = true
	}
	if err != nil {
		return err
	}
	// Before the key is noted: killed in between, the chain has the key twice, which is better than not at all.
	g := s.segs[len(s.segs)-1]
	s.untold = s.cfg.TellKey && (newKey || g.first == 1 && g.count() == 0)
	if told := s.tellKey(); told != nil { // nor are gaps recorded now: whether the key is on disk is in doubt until the first Append
		s.suspect = true
		s.log.WarnContext(ctx, "the site's key could not be told in the chain; the next batch tries again", "err", told)
		return nil
	}
	if err := s.recordLost(); err != nil {
		return err
	}
	if newKey {
		if failed := writeMeta(s.cfg.Dir, m); failed != nil { // only "spool verify" misses it, and a full disk must not keep the agent from starting
			s.log.WarnContext(ctx, "the site's public key could not be noted in the spool", "err", failed)
		}
	}
	return nil
}

// tellKey makes the site's key a batch of the chain, unless that says it already. The caller holds appendMu, or is Open.
func (s *Spool) tellKey() error {
	if !s.untold {
		return nil
	}
	k := evidence.Key{Site: s.cfg.Site, Public: s.cfg.Key.Public().(ed25519.PublicKey)} //nolint:forcetypeassert // ed25519 has no other
	now := s.cfg.Now().UnixMilli()
	_, err := s.append(evidence.KindKey, k.Bytes(), wire.Meta{FirstMS: now, LastMS: now})
	s.untold = err != nil
	return err
}

// newChain begins a chain of its own under a new spool id: for a new directory, and when the end of the chain before
// cannot be read, so that no sequence number can ever name two batches.
func (s *Spool) newChain(chain uint32) error {
	id := ident.NewSpoolID()
	m, err := readMeta(s.cfg.Dir, s.cfg.Site)
	if err != nil {
		return err
	}
	m = meta{Format: 1, Site: s.cfg.Site, Spool: id, Chain: chain, Key: s.key.String(), Keys: m.Keys}
	s.rememberKey(&m)
	if err := writeMeta(s.cfg.Dir, m); err != nil {
		return err
	}
	g, err := createSegment(s.cfg.Dir, chain, id, 1, evidence.Hash{}, s.cfg.SegmentBytes)
	if err != nil {
		return s.diskError(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := len(s.segs); n > 0 {
		s.seal(s.segs[n-1])
	}
	s.chain, s.id, s.lastHash = chain, id, evidence.Hash{}
	s.segs = append(s.segs, g)
	s.suspect, s.doubt, s.untold = false, nil, s.cfg.TellKey
	return nil
}

// loadHead reads the hash that the next header has to name.
func (s *Spool) loadHead() error {
	g := s.segs[len(s.segs)-1]
	s.lastHash = g.prev
	if g.count() == 0 {
		return nil
	}
	b, err := g.get(g.last, false)
	if err == nil {
		err = s.verify(&b)
	}
	if errors.Is(err, errBatch) {
		return fmt.Errorf("%w: its last header cannot be trusted: %w", errCorrupt, err)
	}
	if err != nil {
		return err
	}
	s.lastHash = b.Header.Hash()
	return nil
}

// verify checks a header that was read back against its own signature, as far as it was made with the present key.
func (s *Spool) verify(b *Batch) error {
	if b.Header.Key != s.key {
		return nil
	}
	if err := evidence.VerifyHeader(s.cfg.Key.Public().(ed25519.PublicKey), b.HeaderBytes, b.Signature); err != nil {
		return fmt.Errorf("%w: batch %d: %w", errBatch, b.Header.Seq, err)
	}
	return nil
}

// resolve settles the fate of a batch whose commit failed: it reads the segment again from disk. found means that the
// batch is there and is this one.
func (s *Spool) resolve(kind evidence.Kind, payload []byte) (h evidence.Header, found bool, err error) {
	s.mu.Lock()
	suspect := s.suspect || s.segs[len(s.segs)-1].broken.Load()
	s.mu.Unlock()
	if !suspect {
		h, found = s.foundBefore(kind, payload)
		return h, found, nil
	}
	if err := s.reread(); err != nil {
		return h, false, err
	}
	doubt := s.doubt
	s.suspect, s.doubt = false, nil
	h, err = evidence.ParseHeader(doubt)
	if err != nil { // the doubt went with a quarantined segment
		return evidence.Header{}, false, nil //nolint:nilerr // no doubt, no batch: the caller appends
	}
	if s.lastHash == h.Hash() && h.Kind == evidence.KindKey {
		s.untold = false
	}
	switch stored := s.lastHash == h.Hash(); {
	case stored && h.Kind == kind && h.CheckPayload(payload) == nil:
		return h, true, nil
	case stored: // somebody else's, who will ask
		s.found = append(s.found[max(0, len(s.found)+1-maxFound):], h)
	}
	h, found = s.foundBefore(kind, payload)
	return h, found, nil
}

// maxFound bounds the batches that were found stored and not asked for yet. Whoever appends has one payload in doubt at a time, and there
// are two: the poller's samples and the signed hours.
const maxFound = 8

// foundBefore returns the header of a batch with this payload that was in doubt until somebody else's Append found it stored.
func (s *Spool) foundBefore(kind evidence.Kind, payload []byte) (evidence.Header, bool) {
	for i, h := range s.found {
		if h.Kind == kind && h.CheckPayload(payload) == nil {
			s.found = slices.Delete(s.found, i, i+1)
			return h, true
		}
	}
	return evidence.Header{}, false
}

// reread opens the newest segment anew and learns its end. What it finds there must be durable before anyone relies on
// it: the kernel may have forgotten pages whose write failed, so that they are written once more by a commit that succeeds.
func (s *Spool) reread() error {
	s.mu.Lock()
	g := s.segs[len(s.segs)-1]
	before := g.last
	var err error
	if g.broken.Load() {
		err = errCorrupt
	} else if err = g.close(); err == nil {
		err = g.open(false, s.cfg.SegmentBytes)
	}
	if err == nil {
		err = g.load()
	}
	if err == nil {
		err = s.loadHead()
	}
	if err == nil && g.last < before {
		err = fmt.Errorf("segment %s: %w: batch %d was committed and the file ends with %d", filepath.Base(g.path), errCorrupt, before, g.last)
	}
	s.mu.Unlock()
	if err == nil && g.last > before {
		err = g.rewrite(g.last)
	}
	if errors.Is(err, errCorrupt) {
		// The new chain first: there is always a segment to write to, even if this fails.
		if failed := s.newChain(s.chain + 1); failed != nil {
			return failed
		}
		s.mu.Lock()
		s.quarantine(g, err, nil)
		s.mu.Unlock()
		return nil
	}
	if err != nil {
		return fmt.Errorf("spool: read again after a failed commit: %w", err)
	}
	s.mu.Lock()
	if g.last > before {
		s.wake()
	}
	s.mu.Unlock()
	return nil
}
