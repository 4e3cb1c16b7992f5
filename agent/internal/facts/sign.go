package facts

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/hashinsight/hashinsight/agent/internal/spool"
	"github.com/hashinsight/hashinsight/pkg/evidence"
	"github.com/hashinsight/hashinsight/pkg/ident"
	"github.com/hashinsight/hashinsight/pkg/wire"
)

// takeHour notes the hour that a stored batch signs.
func (s *Signer) takeHour(b *spool.Batch) {
	hour, err := evidence.ParseHour(b.Payload)
	if err != nil {
		s.log.Error("a stored hour cannot be read: was it written by a newer agent?", "seq", b.Header.Seq, "err", err)
		return
	}
	s.signed(&hour, b.Header.Seq, time.UnixMilli(b.Header.LastMS).UTC())
}

// signed notes that an hour is stored.
func (s *Signer) signed(h *evidence.Hour, seq uint64, at time.Time) {
	if s.isDone(h.Spool, h.Hour) {
		return
	}
	if s.done[h.Spool] == nil {
		s.done[h.Spool] = &hourSet{}
	}
	s.done[h.Spool].add(h.Hour)
	s.stale = true
	if s.last == nil || !timeOf(h.Hour).Before(s.last.Hour) {
		s.last = &Signed{Hour: timeOf(h.Hour), Spool: h.Spool, Seq: seq, Miners: h.Leaves, At: at}
	}
}

// sign stores the hours that are over.
func (s *Signer) sign(ctx context.Context) error {
	now := s.cfg.Now()
	for _, c := range s.chains {
		for len(c.waiting) > 0 && c.waiting[0].due() <= now.UnixMilli() {
			o := c.waiting[0]
			if s.isDone(c.id, o.hour) { // an attempt that failed had stored it all the same
				c.waiting = c.waiting[1:]
				continue
			}
			if err := s.seal(ctx, c, o); err != nil {
				return err
			}
			m := wire.Meta{Miners: o.miners, FirstMS: startOf(o.hour), LastMS: endOf(o.hour) - 1}
			h, err := s.cfg.Spool.Append(ctx, evidence.KindHour, o.payload, m)
			if err != nil {
				return fmt.Errorf("facts: hour %s: %w", timeOf(o.hour).Format(time.RFC3339), err)
			}
			hour, err := evidence.ParseHour(o.payload)
			if err != nil {
				return fmt.Errorf("facts: %w", err)
			}
			s.signed(&hour, h.Seq, now.UTC())
			s.metrics.signed.Inc()
			c.waiting = c.waiting[1:]
			s.save(ctx)
		}
	}
	return nil
}

// seal makes the bytes of an hour, once.
func (s *Signer) seal(ctx context.Context, c *chain, o *over) error {
	if o.payload != nil {
		return nil
	}
	miners := make([]ident.MinerID, len(o.leaves))
	for i := range o.leaves {
		miners[i] = o.leaves[i].Miner
	}
	keys, err := s.cfg.Salts.Keys(miners)
	if err != nil && s.cfg.Spool.MakeRoom(err) {
		keys, err = s.cfg.Salts.Keys(miners)
	}
	if err != nil {
		return err
	}
	s.tellBefore(ctx)
	hour := evidence.Hour{Site: s.cfg.Spool.Site(), Hour: o.hour, Spool: c.id, FirstSeq: o.leaves[0].FirstSeq, LastSeq: o.lastSeq, Leaves: o.miners}
	for i := range o.leaves {
		l := &o.leaves[i]
		l.Salt = evidence.SaltOf(keys[i], o.hour)
		hour.FirstSeq = min(hour.FirstSeq, l.FirstSeq)
	}
	tree, err := evidence.NewTree(o.leaves)
	if err != nil {
		return fmt.Errorf("facts: hour %s: %w", timeOf(o.hour).Format(time.RFC3339), err)
	}
	hour.Root = tree.Root()
	o.payload, o.leaves = hour.Bytes(), nil
	return nil
}

// save makes durable which hours are done, and from where on batches are needed, where that has changed. Failing is harmless as long as
// the batches are kept, which release sees to.
func (s *Signer) save(ctx context.Context) {
	if !s.stale {
		return
	}
	n := note{Version: noteVersion, Last: s.last}
	for _, info := range s.cfg.Spool.Chains() {
		if d := s.done[info.ID]; d != nil {
			x := noteChain{Spool: info.ID, Done: *d, floor: s.floors[info.ID]}
			if g := s.gone[info.ID]; g != nil {
				x.Gone = *g
			}
			n.Chains = append(n.Chains, x)
		}
	}
	b, err := marshalNote(&n)
	if err == nil {
		err = s.cfg.Spool.WriteNote(noteName, b)
	}
	if err != nil {
		s.log.WarnContext(ctx, "the note of signed hours could not be written; the spool keeps more meanwhile", "err", err)
		return
	}
	s.stale = false
}

// release lets the spool delete what no hour that is not signed needs: a batch of it, or of the hour before, which its first readings
// continue.
func (s *Signer) release(ctx context.Context) {
	kept := s.cfg.Spool.Chains()
	writing := kept[len(kept)-1].ID
	for _, c := range s.chains {
		open := c.facts.Hours()
		need := hourOf(c.latest)
		for _, hour := range open {
			need = min(need, int64(hour))
		}
		for _, o := range c.waiting {
			need = min(need, int64(o.hour))
		}
		i := slices.IndexFunc(c.read, func(p place) bool { return s.needs(c, &p, need) })
		var f floor
		switch {
		case len(open) == 0 && len(c.waiting) == 0 && c.id != writing:
			s.letGo(c, c.read)
			c.read, f = nil, floor{Seq: c.next, From: uint32(need)}
		case i >= 0:
			s.letGo(c, c.read[:i])
			c.read = slices.Delete(c.read, 0, i)
			f = floor{Seq: c.read[0].seq, From: uint32(need)}
		}
		if f.Seq > s.floors[c.id].Seq {
			s.floors[c.id], s.stale = f, true
		}
	}
	s.save(ctx)
	if s.stale {
		return
	}
	for _, k := range kept {
		s.cfg.Spool.Release(spool.Ref{Spool: k.ID, Seq: s.floors[k.ID].Seq})
	}
	s.chains = slices.DeleteFunc(s.chains, func(c *chain) bool { // an older chain of which nothing is left
		gone := !slices.ContainsFunc(kept, func(k spool.Chain) bool { return k.ID == c.id })
		return gone && len(c.facts.Hours()) == 0 && len(c.waiting) == 0
	})
}
