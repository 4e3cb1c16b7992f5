// Package facts makes the hours that a site signs. It follows the site's own spool: what is committed is read back, decoded and added to
// the facts of its hour (evidence.Facts), and when the hour is over its leaves are salted and their root becomes a batch of its own kind
// in the same spool. Nothing is kept beside the batches, from which the facts of an hour that is not signed yet are computed again after
// a start. It judges nothing, and polling never waits for it. Agentd runs a Signer.
//
// An hour of a chain is signed once. An hour whose end is gone, dropped at the spool's size cap or damaged before it was counted, is
// signed with what lies before the hole; one whose beginning is gone is not signed, nor is the one after, whose first readings continue
// readings of the hour before: the hub may have what is gone here, and would compute something else.
package facts

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/hashinsight/hashinsight/agent/internal/inventory"
	"github.com/hashinsight/hashinsight/agent/internal/spool"
	"github.com/hashinsight/hashinsight/pkg/backoff"
	"github.com/hashinsight/hashinsight/pkg/evidence"
	"github.com/hashinsight/hashinsight/pkg/ident"
	"github.com/hashinsight/hashinsight/pkg/telemetry"
	"github.com/hashinsight/hashinsight/pkg/wire"
)

// Times and bounds.
const (
	settleAfter = 60 * time.Second // the hour's end to its signature: batches of its last readings are committed by then
	lookAgain   = 30 * time.Second // at most, for a clock that was set
	holdOn      = time.Second      // while readings of an hour that is over wait to be stored
	tellFor     = 10 * time.Second // that the first leaf of a miner waits for the hub to take its salt key
	tellAtOnce  = 1000             // keys in one call

	maxWaiting = 8              // hours of one chain that are closed and not stored yet
	maxAhead   = 25 * time.Hour // that an open hour may lie ahead of the clock: the facts of one that a clock began by mistake go after that

	readBatches = 64 // at once
	readBytes   = 8 << 20
)

// Config configures a Signer.
type Config struct {
	Spool *spool.Spool     // opened with Hold
	Salts *inventory.Salts // of the same site
	// Tell gives the hub salt keys that it does not have; ErrOtherKey means that it has another one of some of these miners, and took none.
	// nil means that there is no hub.
	Tell func(ctx context.Context, keys map[ident.MinerID]inventory.SaltKey) error
	// Unstored returns when the oldest reading was made that is not stored yet, zero without any: its hour waits for it. nil means that none
	// ever waits.
	Unstored   func() time.Time
	Now        func() time.Time      // nil means time.Now
	Log        *slog.Logger          // nil means none
	Registerer prometheus.Registerer // nil means no metrics
}

// Signer signs hours. Everything without a lock belongs to the goroutine of Run.
type Signer struct {
	cfg     Config
	log     *slog.Logger
	decoder *wire.Decoder
	metrics *metrics

	planned bool     // false: chains does not tell from where on has to be read
	chains  []*chain // oldest first
	done    map[ident.SpoolID]*hourSet
	floors  map[ident.SpoolID]floor
	gone    map[ident.SpoolID]*hourSet // hours that are not done, of which batches were let go
	last    *Signed
	stale   bool // hours.json is behind

	telling sync.Mutex             // one call to the hub at a time; guards refused
	refused map[ident.MinerID]bool // whose keys the hub does not take
	poke    chan struct{}

	mu     sync.Mutex
	status Status
}

// Status describes a Signer at one moment.
type Status struct {
	Recovering bool    // the facts of hours that are not signed are being computed from the spool
	Last       *Signed // nil before the first
	Waiting    int     // hours that are over and not signed
	Skipped    uint64  // hours that cannot be signed, since the start
	Untold     int     // salt keys that the hub does not have
	Err        error   // why hours are not signed now; nil while they are
	TellErr    error   // why the hub did not take salt keys the last time
}

// chain is what is known of the batches of one spool id.
type chain struct {
	id    ident.SpoolID
	facts *evidence.Facts
	next  uint64 // the batch to read next
	last  uint64 // the newest batch that was read, 0 before the first
	// Hours before from were not to be computed when it was decided from where on to read.
	from int64
	// Hours before sound cannot be computed: something that could count in them is gone.
	sound   int64
	gone    hourSet              // nor can these
	holed   bool                 // batches before the next one are missing
	latest  int64                // ms, of the newest readings
	read    []place              // of batches with readings, as far back as an hour that is not signed may need them
	waiting []*over              // by hour
	ahead   map[uint32]time.Time // hours ahead of the clock that are open, or of which batches are kept, and since when
}

// place is where a batch lies in a chain and in time.
type place struct {
	seq     uint64
	firstMS int64
	lastMS  int64
}

// over is an hour that is closed and not stored.
type over struct {
	hour    uint32
	leaves  []evidence.Leaf // nil once payload is made
	lastSeq uint64
	payload []byte // as it is appended: every attempt has the same bytes
	miners  uint32
}

func (o *over) due() int64 { return endOf(o.hour) + settleAfter.Milliseconds() }

// New checks the configuration and reads which hours are signed. Run does the work.
func New(c Config) (*Signer, error) {
	if c.Spool == nil || c.Salts == nil {
		return nil, errors.New("facts: Spool and Salts are required")
	}
	if c.Unstored == nil {
		c.Unstored = func() time.Time { return time.Time{} }
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	dec, err := wire.NewDecoder()
	if err != nil {
		return nil, err
	}
	s := &Signer{
		cfg: c, log: c.Log, decoder: dec, done: map[ident.SpoolID]*hourSet{}, floors: map[ident.SpoolID]floor{}, gone: map[ident.SpoolID]*hourSet{}, refused: map[ident.MinerID]bool{}, poke: make(chan struct{}, 1), status: Status{Recovering: true},
	}
	n, err := readNote(c.Spool.Dir(), c.Log)
	if err != nil {
		return nil, err
	}
	for _, x := range n.Chains {
		s.done[x.Spool], s.floors[x.Spool], s.gone[x.Spool] = &x.Done, x.floor, &x.Gone
	}
	s.last, s.status.Last = n.Last, n.Last
	s.metrics, err = newMetrics(s, c.Registerer)
	return s, err
}

// Status may be called at any time.
func (s *Signer) Status() Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.status
	st.Untold = s.cfg.Salts.UntoldLen()
	return st
}

func (s *Signer) setStatus(change func(*Status)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(&s.status)
}

// Run works until ctx ends, and returns nil then.
func (s *Signer) Run(ctx context.Context) error {
	defer s.decoder.Close()
	began := time.Now()
	var telling sync.WaitGroup
	if s.cfg.Tell != nil {
		telling.Go(func() { s.tellAll(ctx) })
	}
	defer telling.Wait()
	retry := backoff.Backoff{Min: time.Second, Max: 15 * time.Second}
	recovered := false
	for {
		changed := s.cfg.Spool.Changed()
		wait, err := s.step(ctx)
		if ctx.Err() != nil || errors.Is(err, spool.ErrClosed) {
			return nil
		}
		s.note(ctx, err)
		if err == nil {
			retry.Reset()
			if !recovered {
				recovered = true
				s.metrics.recovery.Set(time.Since(began).Seconds())
				s.setStatus(func(st *Status) { st.Recovering = false })
			}
		} else {
			wait, changed = retry.Next(), nil
		}
		t := time.NewTimer(wait)
		select {
		case <-t.C:
		case <-changed:
		case <-ctx.Done():
		}
		t.Stop()
		if ctx.Err() != nil {
			return nil
		}
	}
}

// note keeps the state for people and logs when it changes.
func (s *Signer) note(ctx context.Context, err error) {
	waiting, now := 0, s.cfg.Now().UnixMilli()
	for _, c := range s.chains {
		for _, o := range c.waiting {
			if o.due() <= now {
				waiting++
			}
		}
		for _, h := range c.facts.Hours() {
			if endOf(h)+settleAfter.Milliseconds() <= now {
				waiting++
			}
		}
	}
	s.mu.Lock()
	before := s.status.Err
	s.status.Err, s.status.Waiting, s.status.Last = err, waiting, s.last
	s.mu.Unlock()
	switch {
	case err != nil && before == nil:
		s.log.ErrorContext(ctx, "hours cannot be signed; they wait", "err", err)
	case err == nil && before != nil:
		s.log.InfoContext(ctx, "hours are being signed again", "waiting", waiting)
	}
}

// plan finds out which hours of what is stored are not signed, and from where on each chain has to be read for them.
func (s *Signer) plan(ctx context.Context) error {
	type seen struct {
		lowest, newest uint64 // batches
		read           []place
		firstMS        int64 // of the first of them
		latest         int64 // ms, of the newest readings
		hours          hourSet
	}
	before := s.chains
	s.chains = nil
	chains := s.cfg.Spool.Chains()
	found := make([]seen, len(chains))
	for i, c := range chains {
		v := &found[i]
		err := s.cfg.Spool.Headers(ctx, c.ID, func(h *evidence.Header) error {
			if v.lowest == 0 {
				v.lowest = h.Seq
			}
			v.newest = h.Seq
			switch h.Kind {
			case evidence.KindSamples:
				if len(v.read) == 0 {
					v.firstMS = h.FirstMS
				}
				v.read, v.latest = append(v.read, place{h.Seq, h.FirstMS, h.LastMS}), h.FirstMS
				from, to := hourOf(h.FirstMS), hourOf(h.LastMS)
				v.hours.add(uint32(from))
				v.hours.add(uint32(to))
			case evidence.KindHour:
				b, err := s.cfg.Spool.Read(spool.Ref{Spool: c.ID, Seq: h.Seq})
				if err == nil {
					s.takeHour(&b)
				} else if errors.Is(err, spool.ErrClosed) {
					return err
				} // gone or damaged meanwhile: the note knows it
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	for i, c := range chains {
		v := &found[i]
		n := s.newChain(c.ID)
		for _, b := range before {
			if b.id == c.ID {
				n.waiting = b.waiting // one of them may be stored already, and its attempt is to be made with the same bytes
			}
		}
		n.next, n.last, n.latest = v.newest+1, v.newest, v.latest
		if len(v.read) == 0 {
			n.next, n.last = max(v.lowest, 1), max(v.lowest, 1)-1
			n.holed = v.lowest > 1
			continue
		}
		var sound int64 // hours before it have lost their beginning
		if v.lowest > 1 {
			// Where the batches begin that are needed, only hours lack something that were let go. A threshold would say more: with a batch of a clock that was
			// years ahead as the first one, that nothing can be computed for years.
			if v.lowest > s.floors[c.ID].Seq {
				sound = floor{}.sound(min(v.firstMS, s.cfg.Now().UnixMilli()))
			}
			n.gone = slices.Clone(*s.gone[c.ID])
		}
		need := max(hourOf(v.latest), sound)
		for _, r := range v.hours {
			for hour := int64(r[0]); hour <= int64(r[1]); hour++ {
				switch {
				case s.isDone(c.ID, uint32(hour)) || n.waits(uint32(hour)):
				case hour < sound || n.gone.has(uint32(hour)):
					s.skip(ctx, n, uint32(hour), "batches of it, or of the hour before, are not here any more")
				default:
					need = min(need, hour)
				}
			}
		}
		i := slices.IndexFunc(v.read, func(p place) bool { return p.lastMS >= need*hourMS-hourMS })
		if i >= 0 {
			n.next, n.last = v.read[i].seq, v.read[i].seq-1
		}
		if i == 0 {
			n.sound = sound
		} else {
			n.from = need
		}
	}
	for _, b := range before { // an older chain of which nothing is kept
		if len(b.waiting) > 0 && s.find(b.id) == nil {
			s.newChain(b.id).waiting = b.waiting
		}
	}
	s.planned = true
	return nil
}

// newChain begins to follow a chain from its first batch on.
func (s *Signer) newChain(id ident.SpoolID) *chain {
	c := &chain{id: id, facts: evidence.NewFacts(s.cfg.Spool.Site(), id), next: 1, ahead: map[uint32]time.Time{}}
	s.chains = append(s.chains, c)
	if s.done[id] == nil {
		s.done[id] = &hourSet{}
	}
	if s.gone[id] == nil {
		s.gone[id] = &hourSet{}
	}
	return c
}

// step does what is to be done now and says when to look again at the latest.
func (s *Signer) step(ctx context.Context) (time.Duration, error) {
	unstored := s.cfg.Unstored() // before reading: what is stored meanwhile is read
	for done := false; !done; done = s.planned {
		if !s.planned {
			if err := s.plan(ctx); err != nil {
				return 0, err
			}
		}
		if err := s.follow(ctx); err != nil {
			return 0, err
		}
	}
	now := s.cfg.Now().UnixMilli()
	wait := lookAgain
	for _, c := range s.chains {
		s.giveUpAhead(ctx, c, now)
		for _, hour := range c.facts.Hours() {
			left := time.Duration(endOf(hour)+settleAfter.Milliseconds()-now) * time.Millisecond
			switch {
			case left > 0:
				wait = min(wait, left)
			case !unstored.IsZero() && unstored.UnixMilli() < endOf(hour):
				wait = min(wait, holdOn)
			default:
				s.close(c, hour)
			}
		}
		for _, o := range c.waiting {
			wait = min(wait, max(time.Duration(o.due()-now)*time.Millisecond, 0))
		}
	}
	if err := s.sign(ctx); err != nil {
		return 0, err
	}
	s.release(ctx)
	return max(wait, time.Millisecond), nil
}

// follow reads what is stored and was not read yet. Hours that end on the way are signed on the way.
func (s *Signer) follow(ctx context.Context) error {
	for _, info := range s.cfg.Spool.Chains() {
		c := s.chainOf(info.ID)
		for {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			batches, err := s.cfg.Spool.Stored(c.id, c.next, readBatches, readBytes)
			if err != nil {
				return err
			}
			for i := range batches {
				if s.add(ctx, c, &batches[i]); !s.planned {
					return nil
				}
			}
			if len(batches) == 0 {
				break
			}
			if err := s.sign(ctx); err != nil {
				return err
			}
			if len(batches) > 1 { // far behind: what was computed is no longer needed
				s.release(ctx)
			}
		}
	}
	return nil
}

func (s *Signer) chainOf(id ident.SpoolID) *chain {
	if c := s.find(id); c != nil {
		return c
	}
	return s.newChain(id)
}

func (s *Signer) find(id ident.SpoolID) *chain {
	for _, c := range s.chains {
		if c.id == id {
			return c
		}
	}
	return nil
}

// add takes the next batch of a chain.
func (s *Signer) add(ctx context.Context, c *chain, b *spool.Batch) {
	h := &b.Header
	if h.Seq > c.next {
		s.cut(c)
	}
	c.next = h.Seq + 1
	switch h.Kind {
	case evidence.KindHour:
		s.takeHour(b)
	case evidence.KindSamples:
		samples, err := s.decoder.Samples(b.Payload)
		if err != nil { // of a newer version of this program
			s.log.ErrorContext(ctx, "a stored batch cannot be read and counts in no hour: was it written by a newer agent?", "seq", h.Seq, "err", err)
			s.cut(c)
			return
		}
		for _, hour := range c.facts.Hours() { // as it would have been signed, had nothing kept it
			if t := min(h.FirstMS, s.cfg.Now().UnixMilli()); endOf(hour)+settleAfter.Milliseconds() <= t {
				s.close(c, hour)
			}
		}
		if c.holed {
			c.holed, c.sound = false, floor{}.sound(min(h.FirstMS, s.cfg.Now().UnixMilli()))
		}
		samples.EachFact(func(o *telemetry.Observation) { c.facts.Add(h.Seq, o) })
		for _, hour := range c.facts.Hours() {
			switch {
			case s.isDone(c.id, hour) || c.waits(hour):
				c.facts.Close(hour, h.Seq)
			case int64(hour) < c.sound || c.gone.has(hour):
				c.facts.Close(hour, h.Seq)
				s.skip(ctx, c, hour, "batches of it, or of the hour before, could not be read")
			case int64(hour) < c.from: // the clock was set back: what this hour needs lies before what was read
				s.planned = false
			}
		}
		c.read, c.latest = append(c.read, place{h.Seq, h.FirstMS, h.LastMS}), h.FirstMS
	}
	c.last = h.Seq
}

// cut ends every hour of a chain before a hole: what comes after it cannot be told from what is here.
func (s *Signer) cut(c *chain) {
	for _, hour := range c.facts.Hours() {
		s.close(c, hour)
	}
	c.facts, c.holed = evidence.NewFacts(s.cfg.Spool.Site(), c.id), true
	clear(c.ahead)
}

// close takes an hour's leaves; it is signed when its time has come.
func (s *Signer) close(c *chain, hour uint32) {
	leaves := c.facts.Close(hour, c.last)
	if len(leaves) == 0 || s.isDone(c.id, hour) || c.waits(hour) {
		return
	}
	c.waiting = append(c.waiting, &over{hour: hour, leaves: leaves, lastSeq: c.last, miners: uint32(len(leaves))})
	slices.SortFunc(c.waiting, func(a, b *over) int { return int(int64(a.hour) - int64(b.hour)) })
	if len(c.waiting) > maxWaiting { // ahead of the clock: what is over is signed before more is read
		c.waiting = c.waiting[:maxWaiting]
	}
}

func (c *chain) waits(hour uint32) bool {
	return slices.ContainsFunc(c.waiting, func(o *over) bool { return o.hour == hour })
}

// giveUpAhead lets go of hours that a clock far ahead has begun and that do not come, with the segments that are kept for them.
func (s *Signer) giveUpAhead(ctx context.Context, c *chain, now int64) {
	c.sound = min(c.sound, hourOf(now+hourMS)+1) // it was taken from a clock that may have been ahead
	open := c.facts.Hours()
	ahead := map[uint32]bool{} // and open
	for i := range c.read {
		if hour := uint32(hourOf(c.read[i].lastMS)); startOf(hour) > now {
			ahead[hour] = false
		}
	}
	for _, hour := range open {
		if startOf(hour) > now {
			ahead[hour] = true
		}
	}
	maps.DeleteFunc(c.ahead, func(hour uint32, _ time.Time) bool { _, still := ahead[hour]; return !still })
	for hour, open := range ahead {
		switch _, known := c.ahead[hour]; {
		case !known:
			c.ahead[hour] = time.Now()
		case open && c.givenUp(hour):
			c.facts.Close(hour, c.last)
			s.skip(ctx, c, hour, "the clock was there by mistake")
		}
	}
}

// givenUp reports whether an hour has been ahead of the clock for so long that it is not waited for.
func (c *chain) givenUp(hour uint32) bool {
	since, known := c.ahead[hour]
	return known && time.Since(since) > maxAhead
}

// letGo notes which hours cannot be computed any more once batches are gone, should they come after all: a clock was ahead and is set back, or an hour had
// no readings. Until the next start it can: what they said is in memory.
func (s *Signer) letGo(c *chain, batches []place) {
	for i := range batches {
		for _, ms := range [...]int64{batches[i].firstMS, batches[i].lastMS} {
			for hour := max(hourOf(ms)-1, 0); hour <= hourOf(ms)+1; hour++ {
				if h := uint32(hour); !s.isDone(c.id, h) && !s.gone[c.id].has(h) {
					s.gone[c.id].add(h)
					s.stale = true
				}
			}
		}
	}
}

// needs reports whether an hour from need on, which is not signed, may need a batch: one of the hours of its first and last readings, between which few
// seconds lie unless the clock was set, or of those beside them.
func (s *Signer) needs(c *chain, p *place, need int64) bool {
	for _, ms := range [...]int64{p.firstMS, p.lastMS} {
		of := hourOf(ms)
		for hour := max(of-1, need); hour <= of+1; hour++ {
			if !c.givenUp(uint32(of)) && !s.isDone(c.id, uint32(hour)) {
				return true
			}
		}
	}
	return false
}

// skip notes that an hour is not signed, ever.
func (s *Signer) skip(ctx context.Context, c *chain, hour uint32, why string) {
	if s.isDone(c.id, hour) {
		return
	}
	s.done[c.id].add(hour)
	s.stale = true
	s.metrics.skipped.Inc()
	s.setStatus(func(st *Status) { st.Skipped++ })
	s.log.WarnContext(ctx, "an hour of this site is not signed", "hour", timeOf(hour), "spool", c.id, "why", why)
}

func (s *Signer) isDone(id ident.SpoolID, hour uint32) bool {
	d := s.done[id]
	return d != nil && d.has(hour)
}
