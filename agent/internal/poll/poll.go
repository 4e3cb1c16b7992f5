// Package poll reads every miner of a site at its interval and turns what they say into signed batches. A schedule gives each
// miner a fixed phase inside its interval, one request in flight at a time and a deadline; miners that do not answer
// are tried less often and in slots of their own, so that they never delay the others. Observations of a short time become
// one payload (package wire), which goes to the spool. It does not speak to miners (package asic does), nor to the
// hub. agentd builds and runs it.
package poll

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/hashinsight/hashinsight/agent/internal/inventory"
	"github.com/hashinsight/hashinsight/pkg/ident"
	"github.com/hashinsight/hashinsight/pkg/telemetry"
	"github.com/hashinsight/hashinsight/pkg/wire"
)

// Target is one address to poll.
type Target struct {
	Address        string // host:port
	Scan           bool   // from a network or range: a miner only once something answers there
	Interval       time.Duration
	ConnectTimeout time.Duration
	Timeout        time.Duration // of a whole poll
}

// Reader reads one miner once. A failed read is an observation with its outcome. It is called by one goroutine at a time
// and returns soon after the deadline of ctx, which is never cancelled: its Done is nil.
type Reader func(ctx context.Context) (telemetry.Observation, telemetry.MinerInfo)

// Config configures a Poller.
type Config struct {
	Targets       []Target
	Open          func(Target) Reader // makes the reader of an address; it is kept while something answers there
	MaxInFlight   int                 // reads at the same time; 0 means 2048
	BatchInterval time.Duration       // 0 means 2 s
	MaxSamples    int                 // of one batch; 0 means 20,000
	MaxPending    int64               // bytes of payloads kept in memory while they cannot be stored; 0 means 64 MiB
	Inventory     *inventory.Inventory
	// Append stores a payload durably. After an error the same payload is given again.
	Append func(ctx context.Context, payload []byte, m wire.Meta) error
	// Skewed reports whether the wall clock is known to be more than 30 s from the hub's; nil means that nobody knows.
	Skewed func() bool
	// MakeRoom is told why the inventory could not be stored and reports whether that was mended; nil means that nothing can be.
	MakeRoom   func(error) bool
	Now        func() time.Time // wall clock of the readers; nil means time.Now
	Log        *slog.Logger     // nil means none
	Registerer prometheus.Registerer
}

func (c Config) withDefaults() (Config, error) {
	switch {
	case c.Open == nil || c.Append == nil || c.Inventory == nil:
		return c, errors.New("poll: Open, Append and Inventory are required")
	case c.MaxSamples > wire.MaxSamples:
		return c, errors.New("poll: MaxSamples is more than a payload may hold")
	}
	for _, t := range c.Targets {
		if t.Interval <= 0 || t.Timeout <= 0 {
			return c, errors.New("poll: " + t.Address + " has no interval or timeout")
		}
	}
	if c.MaxInFlight <= 0 {
		c.MaxInFlight = 2048
	}
	if c.BatchInterval <= 0 {
		c.BatchInterval = 2 * time.Second
	}
	if c.MaxSamples <= 0 {
		c.MaxSamples = 20_000
	}
	if c.MaxPending <= 0 {
		c.MaxPending = 64 << 20
	}
	if c.Skewed == nil {
		c.Skewed = func() bool { return false }
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c, nil
}

// Poller polls. Everything without a lock belongs to the goroutine of Run.
type Poller struct {
	cfg     Config
	log     *slog.Logger
	metrics *metrics
	store   *store

	schedule schedule
	results  chan result
	start    time.Time // monotonic and wall clock at New, to tell a stepped wall clock
	miners   map[ident.MinerID]*minerState
	batch    batch
	polled   bool          // there has been an observation
	offset   time.Duration // of the wall clock at the latest one

	infosLost atomic.Bool // a dropped batch may have carried descriptions: send all again
	addresses [classes]atomic.Int64
	fullSaid  bool // the full inventory has been logged
}

// minerState is what the poller remembers of a miner between polls.
type minerState struct {
	sent   telemetry.MinerInfo // as last put into a batch
	sentAt time.Time
	energy energy
}

// New checks the configuration; Run does the work.
func New(c Config) (*Poller, error) {
	c, err := c.withDefaults()
	if err != nil {
		return nil, err
	}
	p := &Poller{
		cfg: c, log: c.Log, start: time.Now(), miners: map[ident.MinerID]*minerState{},
		results: make(chan result, 256),
	}
	if p.metrics, err = newMetrics(c.Registerer); err != nil {
		return nil, err
	}
	p.schedule = newSchedule(c.Targets, c.MaxInFlight, p.start, p.cfg.Now(), func(address string) bool {
		_, known := c.Inventory.At(address)
		return known
	})
	if p.store, err = newStore(c, p.metrics, &p.infosLost); err != nil {
		return nil, err
	}
	return p, nil
}

// Status is how polling goes.
type Status struct {
	Answering, Silent, Scanned int64     // addresses that answer, miners that do not, addresses without a miner so far
	Pending                    int64     // bytes of payloads that wait in memory
	Stored                     time.Time // when a batch was last stored; zero before the first
	Unstored                   time.Time // the oldest observation that waits in memory, by its own time; zero without any
	StoreError                 error     // why storing fails now; nil while it works
}

// Status may be called at any time.
func (p *Poller) Status() Status {
	st := Status{Answering: p.addresses[answering].Load(), Silent: p.addresses[silent].Load(), Scanned: p.addresses[scanned].Load()}
	p.store.mu.Lock()
	defer p.store.mu.Unlock()
	st.StoreError, st.Pending, st.Stored = p.store.failure, p.store.bytes, p.store.stored
	if len(p.store.queue) > 0 {
		st.Unstored = time.UnixMilli(p.store.queue[0].meta.FirstMS).UTC()
	}
	return st
}

// result is one finished poll.
type result struct {
	t      *target
	obs    telemetry.Observation
	info   telemetry.MinerInfo
	reader Reader
	ended  time.Time // monotonic
}

// Run polls until ctx ends. Then it starts nothing new, waits for the polls in flight, each of which has a deadline, and
// returns when the last batch is stored, or with an error that says how much could not be.
func (p *Poller) Run(ctx context.Context) error {
	base := context.WithoutCancel(ctx) // polls in flight and the last batch outlive ctx
	storing := make(chan error, 1)
	go func() { storing <- p.store.run(base) }()

	polls := sync.WaitGroup{}
	work, workers := make(chan *target), 0
	next := time.NewTimer(0)
	defer next.Stop()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-next.C:
		}
		p.finishAll()
		now := time.Now()
		p.schedule.release(now)
		for ctx.Err() == nil {
			t := p.schedule.take() // once taken it is in flight, and its end is waited for
			if t == nil {
				break
			}
			p.metrics.started(t, now)
			select {
			case work <- t:
				continue
			default:
			}
			if workers < p.cfg.MaxInFlight {
				workers++
				polls.Go(func() { p.work(base, t, work) })
			} else {
				work <- t // fewer than that are in flight besides t: one is about to be free
			}
		}
		if p.batch.due(now, p.cfg.BatchInterval) {
			p.closeBatch()
		}
		p.metrics.schedule(&p.schedule)
		for c := range classes {
			p.addresses[c].Store(int64(p.schedule.inClass[c]))
		}
		next.Reset(p.wait(now))
	}
	for p.schedule.inFlight() > 0 {
		p.finish(<-p.results)
	}
	close(work)
	polls.Wait()
	p.closeBatch()
	p.store.close()
	return <-storing
}

// wait returns how long nothing is to be done by the clock.
func (p *Poller) wait(now time.Time) time.Duration {
	d := time.Minute
	if due, ok := p.schedule.next(); ok {
		d = min(d, due.Sub(now))
	}
	if p.schedule.inFlight() > 0 {
		d = min(d, p.schedule.untilGrid(now))
	}
	if len(p.batch.obs) > 0 {
		d = min(d, p.batch.opened.Add(p.cfg.BatchInterval).Sub(now))
	}
	return max(d, 0)
}

// work polls t and then whatever comes. Goroutines are kept because their stacks are: a new one would grow its own in
// several steps, each a copy.
func (p *Poller) work(ctx context.Context, t *target, more <-chan *target) {
	for ok := true; ok; t, ok = <-more {
		p.poll(ctx, t)
	}
}

// timeout is a context that tells when it ends and needs no timer to do so. A poll is never cancelled, and whatever it waits
// for is a connection, which is given the deadline.
type timeout struct {
	context.Context
	at time.Time
}

// Deadline implements context.Context.
func (t *timeout) Deadline() (time.Time, bool) { return t.at, true }

// Err implements context.Context.
func (t *timeout) Err() error {
	if time.Now().Before(t.at) {
		return nil
	}
	return context.DeadlineExceeded
}

func (p *Poller) poll(base context.Context, t *target) {
	ctx := &timeout{base, time.Now().Add(t.Timeout)}
	read := t.reader
	if read == nil {
		read = p.cfg.Open(t.Target)
	}
	obs, info := read(ctx)
	p.results <- result{t: t, obs: obs, info: info, reader: read, ended: time.Now()}
}

// finishAll books the polls that have ended. Run looks at them when the grid wakes it, not as each one ends.
func (p *Poller) finishAll() {
	for {
		select {
		case r := <-p.results:
			p.finish(r)
		default:
			return
		}
	}
}

// finish books one poll: who it was, what it becomes in the batch, when to try again.
func (p *Poller) finish(r result) {
	t := r.t
	info, known, err := p.identify(r)
	if err != nil && !p.fullSaid {
		p.fullSaid = true
		p.log.Error("a miner cannot be recorded", "err", err)
	}
	p.metrics.finished(&r, known)
	if known {
		p.record(r, info)
	}
	p.schedule.done(t, r.ended, speaks(r.obs.Outcome), known)
	// The reader knows what works with the firmware at this address; after some silence another device may be there.
	t.reader = nil
	if known && t.failures < forgetAfter {
		t.reader = r.reader
	}
}

// forgetAfter is how many failed polls in a row make a reader begin anew.
const forgetAfter = 5

// identify finds or makes the miner's id.
func (p *Poller) identify(r result) (telemetry.MinerInfo, bool, error) {
	r.info.Address = r.t.Address
	return p.cfg.Inventory.See(inventory.Sighting{
		Info: r.info, Answered: r.obs.Outcome.Answered(),
		// In a range, whatever speaks at all is a miner whose owner wants to know why it cannot be read.
		Expected: !r.t.Scan || speaks(r.obs.Outcome) || r.obs.Outcome == telemetry.OutcomeDenied,
	})
}

// speaks reports whether a program answered, readable or not. The others may be off and are tried less often.
func speaks(o telemetry.Outcome) bool {
	switch o {
	case telemetry.OutcomeOK, telemetry.OutcomePartial, telemetry.OutcomeGarbage, telemetry.OutcomeAPIError, telemetry.OutcomeTooLarge:
		return true
	default:
		return false
	}
}

// infoEvery is how often a miner is described again, so that a hub that lost it learns it.
const infoEvery = time.Hour

// clockStep is the difference between wall and monotonic clock that counts as a step.
const clockStep = 2 * time.Second

func (p *Poller) record(r result, info telemetry.MinerInfo) {
	if p.infosLost.Swap(false) {
		for _, m := range p.miners {
			m.sentAt = time.Time{}
		}
	}
	m := p.miners[info.Miner]
	if m == nil {
		m = &minerState{}
		p.miners[info.Miner] = m
	}
	r.obs.Miner = info.Miner
	m.energy.add(&r.obs, r.ended, 2*r.t.Interval)

	// How far the wall clock is from where it would be had nobody set it since New.
	offset := r.obs.At.Round(0).Sub(p.start.Round(0)) - r.ended.Sub(p.start)
	if t := r.t; t.polled && stepped(offset, t.offset) {
		r.obs.Flags |= telemetry.FlagClockStep
	}
	if p.cfg.Skewed() {
		r.obs.Flags |= telemetry.FlagSkewed
	}
	r.t.polled, r.t.offset = true, offset
	if p.polled && stepped(offset, p.offset) {
		p.metrics.clockSteps.Inc()
		p.log.Warn("the clock of this computer was stepped", "by", (offset - p.offset).Round(time.Millisecond))
		p.closeBatch()
	}
	p.polled, p.offset = true, offset
	if len(p.batch.obs) == 0 {
		p.batch.opened = r.ended
	}
	p.batch.obs = append(p.batch.obs, r.obs)
	if m.sentAt.IsZero() || m.sent != info || r.ended.Sub(m.sentAt) >= infoEvery {
		m.sent, m.sentAt = info, r.ended
		p.batch.infos = append(p.batch.infos, info)
	}
	if len(p.batch.obs) >= p.cfg.MaxSamples {
		p.closeBatch()
	}
}

func stepped(a, b time.Duration) bool { return a-b > clockStep || b-a > clockStep }

// batch is the observations since the last payload.
type batch struct {
	obs    []telemetry.Observation
	infos  []telemetry.MinerInfo
	opened time.Time // monotonic, when the first observation came
}

func (b *batch) due(now time.Time, interval time.Duration) bool {
	return len(b.obs) > 0 && now.Sub(b.opened) >= interval
}

func (p *Poller) closeBatch() {
	if len(p.batch.obs) == 0 {
		return
	}
	size := len(p.batch.obs)
	p.store.put(p.batch)
	p.batch = batch{obs: make([]telemetry.Observation, 0, min(size+size/4, p.cfg.MaxSamples))}
}

// energy integrates power over time. It begins with the first reading after a start of the agent.
type energy struct {
	watts  float64
	at     time.Time // monotonic; zero before the first reading
	joules float64
}

// add sets obs.Energy where the poll read the power. Between two readings at most gap apart the mean of both counts; over
// longer times nothing is known and nothing is added.
func (e *energy) add(obs *telemetry.Observation, at time.Time, gap time.Duration) {
	w, ok := obs.Power.Get()
	if !ok {
		return
	}
	if dt := at.Sub(e.at); !e.at.IsZero() && dt > 0 && dt <= gap {
		e.joules += (e.watts + float64(w)) / 2 * dt.Seconds()
	}
	e.watts, e.at = float64(w), at
	obs.Energy = someJoules(e.joules)
}
