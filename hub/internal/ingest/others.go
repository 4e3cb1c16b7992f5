package ingest

import (
	"context"
	"maps"
	"math"
	"sync"
	"time"

	"github.com/hashinsight/hashinsight/pkg/ident"
	telemetryv1 "github.com/hashinsight/hashinsight/proto/telemetry/v1"
)

// What one stream may ask of spools that are not its own.
const (
	maxOthers    = 16               // spools in a Hello that are looked at
	othersAsked  = 20_000           // batches asked for of one of them at a time
	othersRanges = 4                // in so many ranges
	askAgain     = 10 * time.Minute // before the same hole is asked for again
	maxAsked     = 64               // holes of one site remembered
)

// otherSpool is an older spool of a site, of which the agent still keeps a range and has nothing left to send.
type otherSpool struct {
	id   ident.SpoolID
	kept seqRange
}

// othersOf reads what a Hello says of other spools. What makes no sense there is passed over: the stream is about its own spool.
func (s *Server) othersOf(hello *telemetryv1.Hello) (others []otherSpool) {
	for _, o := range hello.GetOtherSpools() {
		first, last := o.GetOldestKeptSeq(), o.GetNewestSeq()
		if len(o.GetSpoolId()) != len(ident.SpoolID{}) || first == 0 || first > last || last >= math.MaxInt64 {
			continue
		}
		if len(others) == maxOthers {
			s.metrics.bounds.WithLabelValues("other_spools").Inc()
			break
		}
		others = append(others, otherSpool{ident.SpoolID(o.GetSpoolId()), seqRange{int64(first), int64(last)}})
	}
	return others
}

// askForOther looks for batches of an older spool that this database has lost, and asks for the first of them. What the agent keeps of them
// then comes on a stream of its own, which asks for the rest by itself; nothing is waited for here. ok is false when this stream has ended.
func (ss *session) askForOther(ctx context.Context, o otherSpool) (ok bool) {
	from, ok := ss.completeBelow(ctx, o.id)
	if !ok {
		return false
	}
	from = max(from, o.kept.first) // what was before is on no disk any more
	for end := o.kept.last + 1; from < end; {
		holes, reached, err := ss.holes(ctx, o.id, from, end, othersAsked)
		switch {
		case ctx.Err() != nil:
			return false
		case err != nil:
			ss.server.c.Log.WarnContext(ctx, "an older spool was not looked at for lost batches, the next stream will", "site", ss.site, "spool", o.id, "err", err)
			return true
		case len(holes) > 0:
			if !ss.server.asked.first(batchKey{ss.site, o.id, uint64(holes[0].first)}, time.Now()) {
				return true
			}
			return ss.sendReplays(ctx, o.id, holes[:min(len(holes), othersRanges)])
		}
		from = reached
		ss.setComplete(ctx, o.id, from)
	}
	return true
}

// askedSpools remembers holes of older spools that were asked for: an agent that answers with nothing that can be stored would else go to and fro
// between its spools without a pause. Each site has room of its own, so that one that names ever new spools takes nobody's turn.
type askedSpools struct {
	mu    sync.Mutex
	sites map[ident.SiteID]map[batchKey]time.Time
}

// first reports whether the hole that begins at k was not asked for of late, and notes that it is now.
func (a *askedSpools) first(k batchKey, now time.Time) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	asked := a.sites[k.site]
	if at, ok := asked[k]; ok && now.Sub(at) < askAgain {
		return false
	}
	if len(asked) >= maxAsked {
		forgetAsked(asked, now)
	}
	if len(asked) >= maxAsked {
		return false // they get their turn when others are forgotten
	}
	if asked == nil {
		asked = map[batchKey]time.Time{}
		a.sites[k.site] = asked
	}
	asked[k] = now
	return true
}

// forget lets go of what may be asked for again.
func (a *askedSpools) forget(now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for site, asked := range a.sites {
		if forgetAsked(asked, now); len(asked) == 0 {
			delete(a.sites, site)
		}
	}
}

func forgetAsked(asked map[batchKey]time.Time, now time.Time) {
	maps.DeleteFunc(asked, func(_ batchKey, at time.Time) bool { return now.Sub(at) >= askAgain })
}
