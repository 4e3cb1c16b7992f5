package ingest

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/hashinsight/hashinsight/pkg/evidence"
	"github.com/hashinsight/hashinsight/pkg/ident"
	"github.com/hashinsight/hashinsight/pkg/wire"
	telemetryv1 "github.com/hashinsight/hashinsight/proto/telemetry/v1"
)

// SiteRate is what one site may send to one hub process on average: a certificate is no licence to fill the ledger. What a site does not use is kept
// for it up to Reserve, so that the backlog of an outage comes as fast as the hub takes it: with the defaults a full spool (4 GiB), or three days of
// a batch every second. Beyond that its stream is slowed down to the rate; nothing is refused for it. A hub process that starts gives every site
// a full reserve.
type SiteRate struct {
	Batches int           // a second; 0 means 20
	Samples int           // a second; 0 means 40,000, twice what 20,000 miners polled every second make
	Bytes   int           // of payload a second; 0 means 4 MiB
	Reserve time.Duration // how long an unused rate is added up; 0 means 4 h
}

func (r *SiteRate) setDefaults() {
	setDefault(&r.Batches, 20)
	setDefault(&r.Samples, 40_000)
	setDefault(&r.Bytes, 4<<20)
	setDefault(&r.Reserve, 4*time.Hour)
}

// minRest is the shortest time for which a stream is slowed down: a site may owe as much.
const minRest = time.Second

// rates keeps the reserves of sites: one entry for each site that has sent of late.
type rates struct {
	limit SiteRate
	mu    sync.Mutex
	sites map[ident.SiteID]*reserve
}

// reserve is what is left to a site of each kind, as of a moment; below zero it owes.
type reserve struct {
	at   time.Time
	left cost
}

// cost is what batches take of a rate, or what is left of it.
type cost struct{ batches, samples, bytes float64 }

func costOf(b *telemetryv1.Batch) cost {
	c := cost{1, 0, float64(len(b.GetPayload()))}
	if h, err := evidence.ParseHeader(b.GetHeader()); err == nil {
		c.samples = float64(min(h.Samples, wire.MaxSamples))
	}
	return c
}

func (c cost) add(o cost, times float64) cost {
	return cost{c.batches + times*o.batches, c.samples + times*o.samples, c.bytes + times*o.bytes}
}

func (c cost) min(o cost) cost {
	return cost{min(c.batches, o.batches), min(c.samples, o.samples), min(c.bytes, o.bytes)}
}

func (r *rates) perSecond() cost {
	return cost{float64(r.limit.Batches), float64(r.limit.Samples), float64(r.limit.Bytes)}
}

func (r *rates) full() cost { return cost{}.add(r.perSecond(), r.limit.Reserve.Seconds()) }

// take takes c from the reserve of a site, which may owe then. times is -1 to give it back.
func (r *rates) take(site ident.SiteID, c cost, times float64, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.of(site, now)
	s.left = s.left.add(c, -times).min(r.full())
}

// rest returns how long a site must be silent until it owes nothing; 0 while it owes less than minRest brings.
func (r *rates) rest(site ident.SiteID, now time.Time) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	left, rate := r.of(site, now).left, r.perSecond()
	owed := max(-left.batches/rate.batches, -left.samples/rate.samples, -left.bytes/rate.bytes)
	if d := time.Duration(owed * float64(time.Second)); d >= minRest {
		return d
	}
	return 0
}

// of returns the reserve of a site as of now. The caller holds mu.
func (r *rates) of(site ident.SiteID, now time.Time) *reserve {
	s := r.sites[site]
	if s == nil {
		s = &reserve{at: now, left: r.full()}
		r.sites[site] = s
	}
	s.left, s.at = s.left.add(r.perSecond(), max(0, now.Sub(s.at).Seconds())).min(r.full()), now
	return s
}

// forget lets go of sites whose reserve is full again.
func (r *rates) forget(now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for site := range r.sites {
		if r.of(site, now).left == r.full() {
			delete(r.sites, site)
		}
	}
}

// owing counts the sites that are slowed down.
func (r *rates) owing(now time.Time) (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for site := range r.sites {
		if l := r.of(site, now).left; l.batches < 0 || l.samples < 0 || l.bytes < 0 {
			n++
		}
	}
	return n
}

// pace is a pause that a site's rate asks for, and why.
type pace struct {
	wait time.Duration
	text string
}

// slowDown pauses a stream whose site has used up its reserve, and has the agent told so. The answers of what it has sent go on meanwhile.
func (ss *session) slowDown(ctx context.Context) {
	s := ss.server
	wait := s.rates.rest(ss.site, time.Now())
	if wait == 0 {
		return
	}
	s.metrics.bounds.WithLabelValues("site_rate").Inc()
	if l := &s.rates.limit; !ss.slowed {
		ss.slowed = true
		s.c.Log.WarnContext(ctx, "a site sends more than its rate: its stream is slowed down", "site", ss.site, "batches_per_s", l.Batches, "samples_per_s", l.Samples, "bytes_per_s", l.Bytes)
	}
	for until := time.Now().Add(wait); wait > 0; wait = time.Until(until) {
		part := min(wait, maxPace) // an agent that hears nothing for long gives up
		l := &s.rates.limit
		select {
		case ss.paces <- pace{part, fmt.Sprintf("this site has long been sending more than its rate at this hub (%d batches, %d samples, %d bytes a second): the rest is taken at that rate; "+
			"nothing is lost by it. Look for a spool that is sent again and again, or for miners polled too often", l.Batches, l.Samples, l.Bytes)}:
		default: // it has not been told of the last one yet
		}
		t := time.NewTimer(part)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return
		case <-s.stopping:
			t.Stop()
			return
		}
	}
}

// maxPace is the longest pause that an agent is told of at a time.
const maxPace = time.Minute

// maxGroupBatches bounds the batches of one message, and so what a site can owe. Agents send 32.
const maxGroupBatches = 1000
