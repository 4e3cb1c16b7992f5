package localrun

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"time"
)

// What the kill loop does about anchors: it makes the log grow, kills while an anchor is on its way, and waits at its end until all is anchored.

const (
	anchorEvery = 3                     // of the kills of the hub and its PostgreSQL: one in so many waits for an anchor
	signReach   = 30 * time.Millisecond // how long after an anchor was built a kill at it reaches: signed, stored, sent

	// States of an anchor: 1 built, 2 signed, 3 sent; 4 mined, 5 safe and 6 finalized are in a block.
	qUnderWay = `SELECT EXISTS (SELECT FROM anchor WHERE state IN (1, 2, 3))`
	qBehind   = `SELECT (SELECT count(*) FROM log_entry) - (SELECT coalesce(max(size), 0) FROM anchor WHERE state IN (4, 5, 6) AND chain_id = $1 AND contract = decode($2, 'hex'))`
)

// minedReach is how long after an anchor was built the hub can know that it is in a block: the chain makes one a second, and the hub looks as often as
// it anchors, or every 10 s.
func (c Config) minedReach() time.Duration {
	return time.Second + min(10*time.Second, cmp.Or(c.Anchor, anchorDefault))
}

// announce announces maintenance of a day to come, as an operator would, so that the log has something new to be anchored. What the hub has confirmed is
// awaited in the log at the end.
func (s *stack) announce(ctx context.Context) error {
	var b [16]byte
	_, _ = rand.Read(b[:])                      // never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80 // random, by RFC 9562
	id := fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
	from := time.Now().UTC().Truncate(time.Minute).Add(24*time.Hour + time.Duration(len(s.announced))*time.Hour)
	excuse := map[string]any{"id": id, "kind": "maintenance", "from": from, "to": from.Add(time.Hour), "note": "announced by the kill loop"}
	var err error
	if !s.patient(ctx, loopPatience, func() bool { // the same order again is the same excuse: the answer may be lost with a kill
		var miners []apiMiner
		if miners, err = s.miners(ctx); err != nil || len(miners) == 0 {
			return false
		}
		excuse["site_id"] = miners[0].SiteID
		err = s.post(ctx, "/api/excuses", excuse, nil)
		return err == nil
	}) {
		return fmt.Errorf("announce maintenance: %w", errors.Join(err, ctx.Err(), s.failed()))
	}
	s.announced = append(s.announced, b)
	return nil
}

// aimAtAnchor waits until an anchor is on its way, and then for a random part of the time that it is.
func (s *stack) aimAtAnchor(ctx context.Context, r *mathrand.Rand, look *ledger) error {
	var under bool
	var err error
	if !s.patientAt(ctx, progressTick/4, loopPatience, func() bool {
		err = look.ask(ctx, &under, qUnderWay)
		return err == nil && under
	}) {
		return fmt.Errorf("no anchor is on its way within %s although the log has grown: see hub.log: %w", loopPatience, errors.Join(err, ctx.Err(), s.failed()))
	}
	reach := [...]time.Duration{signReach, s.c.minedReach()}[r.IntN(2)]
	s.waitUntil(ctx, time.Now().Add(time.Duration(r.Int64N(int64(reach)))))
	return errors.Join(ctx.Err(), s.failed())
}

// untilAnchored waits until the log has nothing that is not under an anchor in a block.
func (s *stack) untilAnchored(ctx context.Context, look *ledger) error {
	var behind int64
	var err error
	if !s.patient(ctx, loopPatience, func() bool {
		err = look.ask(ctx, &behind, qBehind, chainID, s.contractHex())
		return err == nil && behind <= 0
	}) {
		return fmt.Errorf("%d entries of the log are not anchored within %s: see hub.log: %w", behind, loopPatience, errors.Join(err, ctx.Err(), s.failed()))
	}
	return nil
}

// metAnchor counts kills of the hub and of its PostgreSQL while an anchor was on its way.
func metAnchor(hits []*hit) (n int) {
	for _, h := range hits {
		if h.Anchor && (h.Victim == victimHub || h.Victim == victimServer) {
			n++
		}
	}
	return n
}
