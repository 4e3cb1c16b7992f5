package fleet

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/hashinsight/hashinsight/pkg/ident"
)

// LiveConfig describes a Live.
type LiveConfig struct {
	Store          *Store                // required
	Every          time.Duration         // between two looks at the database; 0 means 1 s
	MaxSubscribers int                   // 0 means 1000
	MaxPending     int                   // miners that one subscriber may be behind; 0 means MaxSnapshot
	Log            *slog.Logger          // nil discards
	Registerer     prometheus.Registerer // nil means no metrics
}

// Live tells subscribers which miners changed. While it has any, it asks the database once a second for rows written since it last
// asked, so it sees what every hub process ingests, and ingest never waits for a subscriber: one that is slow gets one merged patch, one that is too
// slow is told to begin again.
type Live struct {
	c       LiveConfig
	mu      sync.Mutex
	subs    map[*Subscription]struct{}
	wake    chan struct{} // has room for one: a subscriber came
	resets  prometheus.Counter
	refused prometheus.Counter
}

// Patch is what changed.
type Patch struct {
	At      time.Time
	Version uint64  // for Subscribe, to go on from here
	Reset   bool    // begin again with a Snapshot: changes were lost; Miners and Sites are empty
	Miners  []Miner // each once, newest
	Sites   []Site  // whose totals changed
}

// Subscription receives patches. It is for one goroutine.
type Subscription struct {
	live    *Live
	ready   chan struct{} // has room for one: pending is not empty
	since   uint64        // the version it has; 0: only what is new from now on
	joined  bool          // has been brought from since to the round's version
	pending Patch
	index   map[ident.MinerID]int // into pending.Miners
}

// NewLive returns a Live; Run makes it work.
func NewLive(c LiveConfig) (*Live, error) {
	if c.Store == nil {
		return nil, errors.New("fleet live: a store is required")
	}
	if c.Every == 0 {
		c.Every = time.Second
	}
	if c.MaxSubscribers == 0 {
		c.MaxSubscribers = 1000
	}
	if c.MaxPending == 0 {
		c.MaxPending = MaxSnapshot
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	l := &Live{
		c: c, subs: map[*Subscription]struct{}{}, wake: make(chan struct{}, 1),
		resets:  prometheus.NewCounter(prometheus.CounterOpts{Name: "hashinsight_live_resets_total", Help: "Subscribers told to begin again."}),
		refused: prometheus.NewCounter(prometheus.CounterOpts{Name: "hashinsight_live_refused_total", Help: "Subscribers refused because there were too many."}),
	}
	if c.Registerer != nil {
		count := prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "hashinsight_live_subscribers", Help: "Open event streams."}, func() float64 {
			l.mu.Lock()
			defer l.mu.Unlock()
			return float64(len(l.subs))
		})
		for _, m := range []prometheus.Collector{l.resets, l.refused, count} {
			if err := c.Registerer.Register(m); err != nil {
				return nil, fmt.Errorf("metrics of live updates: %w", err)
			}
		}
	}
	return l, nil
}

// ErrTooMany means that no further subscriber is taken.
var ErrTooMany = errors.New("too many open event streams: close some, or ask another hub")

// Subscribe begins a subscription. since is the version of a Snapshot or Patch the caller has: the first patch holds what changed after it.
func (l *Live) Subscribe(since uint64) (*Subscription, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.subs) >= l.c.MaxSubscribers {
		l.refused.Inc()
		return nil, ErrTooMany
	}
	s := &Subscription{live: l, ready: make(chan struct{}, 1), since: since, index: map[ident.MinerID]int{}}
	l.subs[s] = struct{}{}
	select {
	case l.wake <- struct{}{}:
	default:
	}
	return s, nil
}

// Close ends the subscription.
func (s *Subscription) Close() {
	s.live.mu.Lock()
	defer s.live.mu.Unlock()
	delete(s.live.subs, s)
}

// Next waits for the next patch, or for ctx to end.
func (s *Subscription) Next(ctx context.Context) (Patch, error) {
	for {
		select {
		case <-ctx.Done():
			return Patch{}, ctx.Err()
		case <-s.ready:
		}
		// A round may have merged its news into what was signalled before, and signalled again: then this is empty.
		if p := s.take(); p.Reset || len(p.Miners)+len(p.Sites) > 0 {
			return p, nil
		}
	}
}

func (s *Subscription) take() Patch {
	s.live.mu.Lock()
	defer s.live.mu.Unlock()
	p := s.pending
	s.pending = Patch{}
	clear(s.index)
	return p
}

// Run looks for changes until ctx ends, and only while there are subscribers.
func (l *Live) Run(ctx context.Context) error {
	var r round
	for {
		if !l.watched() {
			r = round{}
			select {
			case <-ctx.Done():
				return nil
			case <-l.wake:
			}
		}
		if err := l.look(ctx, &r); err != nil && ctx.Err() == nil {
			l.c.Log.WarnContext(ctx, "live updates wait for the database", "err", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(l.c.Every):
		}
	}
}

func (l *Live) watched() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.subs) > 0
}

// round is what Live knows between two looks.
type round struct {
	version uint64                   // rows at or above it may be new
	told    map[ident.MinerID]uint64 // of those, the ones already told, by their version
	sites   map[ident.SiteID]Site
}

func (l *Live) look(ctx context.Context, r *round) error {
	since, ok := l.oldest(r.version)
	if !ok { // nobody has a version yet: begin with the present one
		version, err := l.c.Store.version(ctx)
		if err != nil {
			return err
		}
		since = version
	}
	snap, err := l.c.Store.Changes(ctx, since)
	if err != nil {
		return err
	}
	sites, err := l.c.Store.Sites(ctx)
	if err != nil {
		return err
	}
	var changed []Site
	known := make(map[ident.SiteID]Site, len(sites))
	for _, s := range sites {
		known[s.ID] = s
		if old, ok := r.sites[s.ID]; !ok || !reflect.DeepEqual(old, s) {
			changed = append(changed, s)
		}
	}
	fresh := make([]Miner, 0, len(snap.Miners))
	told := map[ident.MinerID]uint64{}
	for _, m := range snap.Miners {
		if m.Version >= r.version && r.told[m.Info.Miner] != m.Version {
			fresh = append(fresh, m)
		}
		if m.Version >= snap.Version {
			told[m.Info.Miner] = m.Version
		}
	}
	l.deliver(snap, fresh, changed, sites)
	*r = round{snap.Version, told, known}
	return nil
}

// oldest is the version from which this round must read: the last round's, or a new subscriber's if that is older.
func (l *Live) oldest(last uint64) (uint64, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	oldest := last
	for s := range l.subs {
		if !s.joined && s.since != 0 && (oldest == 0 || s.since < oldest) {
			oldest = s.since
		}
	}
	return oldest, oldest != 0
}

// deliver merges the round's news into what each subscriber has not taken yet.
func (l *Live) deliver(snap Snapshot, fresh []Miner, changed, sites []Site) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for s := range l.subs {
		miners, ofSites := fresh, changed
		switch {
		case s.joined:
		case s.since > snap.Version: // of a database that has since been restored to an earlier time
			l.reset(s, snap)
			s.joined = true
			continue
		default: // what changed before it came is in snap as far as its own version reaches
			miners, ofSites = snap.Miners, sites
		}
		s.add(snap, miners, ofSites)
		s.joined = true
		if len(s.pending.Miners) > l.c.MaxPending {
			l.reset(s, snap)
		}
		if s.pending.Reset || len(s.pending.Miners)+len(s.pending.Sites) > 0 {
			s.signal()
		}
	}
}

func (l *Live) reset(s *Subscription, snap Snapshot) {
	l.resets.Inc()
	s.pending = Patch{At: snap.At, Version: snap.Version, Reset: true}
	clear(s.index)
	s.signal()
}

func (s *Subscription) signal() {
	select {
	case s.ready <- struct{}{}:
	default:
	}
}

func (s *Subscription) add(snap Snapshot, miners []Miner, sites []Site) {
	p := &s.pending
	p.At, p.Version = snap.At, snap.Version
	if p.Reset {
		return // it will read everything anyway
	}
	for _, m := range miners {
		if !s.joined && m.Version < s.since {
			continue
		}
		if i, ok := s.index[m.Info.Miner]; ok {
			p.Miners[i] = m
			continue
		}
		s.index[m.Info.Miner] = len(p.Miners)
		p.Miners = append(p.Miners, m)
	}
	for _, site := range sites {
		replaced := false
		for i := range p.Sites {
			if p.Sites[i].ID == site.ID {
				p.Sites[i], replaced = site, true
			}
		}
		if !replaced {
			p.Sites = append(p.Sites, site)
		}
	}
}
