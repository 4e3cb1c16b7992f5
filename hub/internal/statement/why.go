package statement

import (
	"context"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/hashinsight/hashinsight/hub/internal/apperr"
	"github.com/hashinsight/hashinsight/hub/internal/facts"
	"github.com/hashinsight/hashinsight/hub/internal/sla"
	"github.com/hashinsight/hashinsight/pkg/evidence"
	"github.com/hashinsight/hashinsight/pkg/ident"
)

// Why says why a slot is what it is.
type Why struct {
	sla.Why
	TermsHash evidence.Hash // zero: no terms held
	Open      bool          // it is unknown, and facts may still come
	Hours     []facts.Hour  // the signed hours of the slot, one for each chain
	Polls     []facts.Poll  // of the slot, at most maxPolls
	PollsGone string        // why the polls cannot be shown; empty: they are all there
}

// maxPolls bounds the polls of one answer: a slot polled every second has 300.
const maxPolls = 1000

// Why says why the slot that a time lies in is what it is for a miner, by the rules of now, or of the month's newest statement where one was issued.
func (s *Store) Why(ctx context.Context, scope Scope, contract uuid.UUID, m Miner, at time.Time) (w Why, err error) {
	if err := s.mayRead(ctx, scope, contract); err != nil {
		return w, err
	}
	atMS, now := at.UnixMilli(), s.c.Now().UTC()
	if atMS < evidence.HourMS || atMS > now.Add(366*24*time.Hour).UnixMilli() {
		return w, apperr.E(apperr.Invalid, "VALID_001", "at: want a time in a month of the contract")
	}
	month := sla.MonthOf(atMS)
	in, err := s.inputs(ctx, s.c.Pool, contract, month)
	if err != nil {
		return w, err
	}
	in.AsOfMS = now.UnixMilli()
	st, issued, err := s.newest(ctx, s.c.Pool, contract, month)
	if err != nil {
		return w, err
	}
	if issued {
		in.AsOfMS = st.IssuedAt.UnixMilli()
		if !st.AcceptUntil.IsZero() {
			in.AcceptUntilMS = st.AcceptUntil.UnixMilli()
		}
	}
	rules, err := newRules(in)
	if err != nil {
		return w, err
	}
	// One answer for a miner that does not exist and for another customer's: what a customer's key may not see is not told apart from what is not there.
	key := sla.MinerKey(m)
	if rules == nil || !slices.Contains(rules.Miners(), key) {
		return w, apperr.E(apperr.NotFound, "NOTFOUND_001", "miner %s of site %s has no slot of contract %s in %s", m.Miner, m.Site, contract, month)
	}
	hour := uint32(atMS / evidence.HourMS)
	var known []sla.HourFacts
	if err := s.c.Facts.Each(ctx, s.c.Pool, m.Site, hour, hour+1, []ident.MinerID{m.Miner}, func(h *facts.Hour, l *evidence.Leaf) error {
		known = append(known, hourFacts(h, l))
		return nil
	}); err != nil {
		return w, err
	}
	if w.Why, err = rules.Plan(key).Why(atMS, known); err != nil {
		return w, err
	}
	if w.Assignment == nil { // the miner was another customer's then, or nobody's: its polls are none of this contract's business
		return w, nil
	}
	if w.Terms != nil {
		w.TermsHash = w.Terms.Hash()
	}
	w.Open = w.State == sla.Unknown
	if w.Hours, err = s.c.Facts.Hours(ctx, s.c.Pool, m.Site, hour, hour+1); err != nil {
		return w, err
	}
	polls, err := s.c.Facts.Polls(ctx, m.Site, m.Miner, w.SlotMS, w.SlotMS+evidence.SlotMS)
	if err != nil { // an archive that is away, or a damaged object: the verdict stands on the signed facts, so it is told without the polls
		s.c.Log.WarnContext(ctx, "polls of a slot cannot be shown", "site", m.Site, "miner", m.Miner, "err", err)
		w.PollsGone = "the batches of this slot cannot be read now"
		return w, nil
	}
	w.Polls = polls[:min(len(polls), maxPolls)]
	return w, nil
}
