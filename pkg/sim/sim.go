// Package sim is a fleet of simulated miners: they speak the cgminer API as real firmware does, faults included, and they
// know exactly what they have said. It is the oracle of every test that crosses the whole system: each answered summary
// carries a number in Best Share that rises per miner for ever, and what was answered, and what a miner would answer at
// any moment, can be asked from the model. It makes no requests and judges nobody. The program hashinsight-sim serves it
// on TCP; tests run it in their own process, over TCP or in memory, in virtual time too.
package sim

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/netip"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashinsight/hashinsight/pkg/unit"
)

// Config says what a fleet consists of. The zero Config with Miners set is a healthy fleet on 127.20.0.1:4028 and up.
type Config struct {
	Miners     int
	Base       netip.Addr // address of the first miner, the others follow; zero means 127.20.0.1
	Port       int        // same port on every address; 0 means 4028
	Seed       uint64     // decides every machine, rate, phase and fault
	Mix        string     // "antminer-s19=2,whatsminer=1"; "" means DefaultMix
	Latency    Latency    // usual time to answer; zero means 2 to 20 ms
	Instant    bool       // answer at once: Latency is ignored
	Faulty     float64    // share of miners with a fault from the beginning, 0 to 1, spread evenly over the fleet
	Faults     []Fault    // scheduled when the fleet is made
	Recordings []Recording

	Boot       time.Duration // oldest uptime at the beginning; ages spread up to it. 0 means 20 days
	StateFile  string        // serial numbers and counters outlive the process here; "" means they do not
	RecordFile string        // every answered summary is appended here as a line of JSON; "" means not
	KeepLast   int           // how many answers Answers can give; 0 means none are kept
	OnAnswer   func(Answer)  // called after every answered summary, one at a time per miner; must be quick

	Now func() time.Time // nil means time.Now
	Log *slog.Logger     // nil means discard
}

// Fleet is a set of miners. Make it with New, optionally open sockets with Listen, then Run it; DialContext reaches its
// miners in memory, and waits until the fleet runs.
type Fleet struct {
	conf     Config
	now      func() time.Time
	log      *slog.Logger
	miners   []*miner
	byAddr   map[string]*miner
	started  time.Time
	answers  *journal
	state    *stateFile
	buffers  sync.Pool
	answered atomic.Uint64
	served   atomic.Uint64 // connections

	mu      sync.Mutex
	began   bool          // Run was called
	tcp     bool          // Listen was called
	up      chan struct{} // closed when Run serves
	stopped chan struct{} // closed when Run ends
	work    sync.WaitGroup
}

// Miner describes one miner of a fleet.
type Miner struct {
	Address  string // host:port
	Machine  string // "antminer-s19", or the recording's name
	Family   string // "antminer", "whatsminer", "avalon", "avalon-home", "braiins", "cgminer", "recorded"
	Maker    string
	Model    string // as the machine says it
	MAC      string // "" where the family does not tell it on this port
	Recorded bool   // served from a folder: no serial numbers, no model
}

// Expectation is what the model says of one miner at one moment.
type Expectation struct {
	Hashrate     unit.Hashrate // mean over Window: what the miner reports as its shortest rate, before rounding
	Window       time.Duration // shortest window that the firmware reports
	TotalMH      float64       // MH since Boot; the counter reports the whole part
	Boot         time.Time     // when the mining program that runs then started
	Factor       float64       // share of the usual rate in force
	Healthy      bool          // served without fault, and the window holds the usual rate only
	HealthySince time.Time     // zero: from the beginning; meaningless unless Healthy
	Fault        string        // behaviour in force, mendable ones included; "" for none
	Serial       uint64        // last serial number given out
}

// Fault schedules a behaviour for the miners that Select picks.
type Fault struct {
	Select Selection
	After  time.Duration // from the call of Schedule, or from New for those of the Config
	For    time.Duration // 0 means for ever
	Behaviour
}

// Selection picks miners: those that meet every given condition, and of those the share or count wanted, evenly spread.
type Selection struct {
	All       bool
	Addresses []string
	Family    string
	Machine   string
	Share     float64 // of the miners that meet the rest; 0 means all of them
	Count     int     // at most that many; 0 means all of them
}

// New makes a fleet; nothing is served yet. An existing state file is read.
func New(c Config) (*Fleet, error) {
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if !c.Base.IsValid() {
		c.Base = netip.AddrFrom4([4]byte{127, 20, 0, 1})
	}
	if c.Port == 0 {
		c.Port = 4028
	}
	if c.Mix == "" {
		c.Mix = DefaultMix
	}
	if c.Latency == (Latency{}) {
		c.Latency = Latency{Min: 2 * time.Millisecond, Max: 20 * time.Millisecond}
	}
	if c.Instant {
		c.Latency = Latency{}
	}
	if c.Boot == 0 {
		c.Boot = 20 * 24 * time.Hour
	}
	if err := c.check(); err != nil {
		return nil, err
	}
	f := &Fleet{
		conf: c, now: c.Now, log: c.Log, byAddr: make(map[string]*miner), up: make(chan struct{}), stopped: make(chan struct{}),
		started: c.Now().UTC().Round(0), answers: newJournal(c),
	}
	f.buffers.New = func() any { b := make([]byte, 0, 16<<10); return &b }
	if err := f.populate(); err != nil {
		return nil, err
	}
	if c.StateFile != "" {
		f.state = &stateFile{path: c.StateFile}
		if err := f.state.load(f); err != nil {
			return nil, err
		}
	}
	if err := f.breakSome(); err != nil {
		return nil, err
	}
	if _, err := f.Schedule(c.Faults...); err != nil {
		return nil, err
	}
	return f, nil
}

func (c *Config) check() error {
	var errs []error
	if n := c.Miners + len(c.Recordings); c.Miners < 0 || n < 1 || n > 1_000_000 {
		errs = append(errs, fmt.Errorf("%d miners: between 1 and 1000000 are possible", n))
	}
	if c.Port < 1 || c.Port > 65535 {
		errs = append(errs, fmt.Errorf("port %d is not between 1 and 65535", c.Port))
	}
	if !(c.Faulty >= 0 && c.Faulty <= 1) {
		errs = append(errs, fmt.Errorf("faulty share %g is not between 0 and 1", c.Faulty))
	}
	if c.Boot < 0 || c.KeepLast < 0 {
		errs = append(errs, errors.New("boot and keep-last must not be negative"))
	}
	errs = append(errs, c.Latency.check())
	return errors.Join(errs...)
}

// populate makes the miners and gives them their addresses.
func (f *Fleet) populate() error {
	kinds, weights, err := parseMix(f.conf.Mix, specs())
	if err != nil {
		return err
	}
	addr := f.conf.Base
	place := func(m *miner) error {
		if !addr.IsValid() || addr.IsLoopback() != f.conf.Base.IsLoopback() {
			return fmt.Errorf("%d miners do not fit behind %s; choose a lower base address", f.conf.Miners+len(f.conf.Recordings), f.conf.Base)
		}
		m.address = netip.AddrPortFrom(addr, uint16(f.conf.Port)).String()
		f.miners, f.byAddr[m.address] = append(f.miners, m), m
		addr = addr.Next()
		return nil
	}
	for i, s := range deal(f.conf.Miners, kinds, weights) {
		seed := mix64(f.conf.Seed ^ mix64(uint64(i)))
		age := time.Hour + time.Duration(unitOf(seed, 7)*float64(f.conf.Boot))
		if err := place(newMiner(i, "", s, f.conf.Seed, f.started.Add(-age).Truncate(time.Second))); err != nil {
			return err
		}
	}
	for _, r := range f.conf.Recordings {
		rec, err := r.load()
		if err != nil {
			return err
		}
		m := &miner{index: len(f.miners), record: rec, seed: mix64(f.conf.Seed ^ mix64(uint64(len(f.miners)))),
			turn: make(chan struct{}, 1), slots: make(chan struct{}, backlog+1), wake: make(chan struct{}, 1)}
		m.plan.steps = []step{{at: f.started, boot: f.started, factor: 1}}
		if err := place(m); err != nil {
			return err
		}
	}
	return nil
}

// standing is the round of faults that Config.Faulty hands out. All ten thousand of a large fleet or the twenty of a small
// one get the same variety.
func standing() []Behaviour {
	out := []Behaviour{{Kind: Dead}, {Kind: Hang}, {Kind: Malformed, Form: Cut}, {Kind: Sleeping}, {Kind: Overheated},
		{Kind: Reset}, {Kind: Empty}, {Kind: Droop, Factor: 0.6}, {Kind: Endless}, {Kind: Malformed, Form: Garbage}, {Kind: NoPool}}
	for i, form := range Forms() {
		if form != Cut && form != Garbage {
			at := min(len(out), 2*i+3)
			out = append(out[:at], append([]Behaviour{{Kind: Malformed, Form: form}}, out[at:]...)...)
		}
	}
	return out
}

// breakSome gives the share Config.Faulty of the miners a standing fault each. The first miner is spared: it carries
// the markup that the page must not run.
func (f *Fleet) breakSome() error {
	n := f.conf.Miners
	count := int(math.Round(f.conf.Faulty * float64(n)))
	round := standing()
	for k, i := range spread(n, count, 1) {
		m := f.miners[i]
		// In force since before the machine booted, so that its counters agree with it.
		en := entry{from: m.plan.steps[0].boot, Behaviour: round[k%len(round)]}
		if en.from.After(f.started) {
			en.from = f.started
		}
		if err := m.plan.add(&m.rhythm, en, f.started); err != nil {
			return fmt.Errorf("miner %s: %w", m.address, err)
		}
	}
	return nil
}

// spread picks count of n indices evenly, none below first.
func spread(n, count, first int) []int {
	if room := n - first; count > room {
		count = max(room, 0)
	}
	out := make([]int, 0, count)
	for k := range count {
		out = append(out, first+(2*k+1)*(n-first)/(2*count))
	}
	return out
}

// Schedule puts faults into force and returns for how many miners. Nothing is scheduled when it fails.
func (f *Fleet) Schedule(faults ...Fault) (int, error) {
	now := f.now().UTC().Round(0)
	type job struct {
		m  *miner
		en entry
	}
	var jobs []job
	for i, ft := range faults {
		if err := ft.check(); err != nil {
			return 0, fmt.Errorf("fault %d: %w", i+1, err)
		}
		if ft.After < 0 || ft.For < 0 {
			return 0, fmt.Errorf("fault %d: after %v and for %v must not be negative", i+1, ft.After, ft.For)
		}
		hit, err := f.pick(ft.Select)
		if err != nil {
			return 0, fmt.Errorf("fault %d: %w", i+1, err)
		}
		en := entry{from: now.Add(ft.After), Behaviour: ft.Behaviour}
		if ft.For > 0 {
			en.to = en.from.Add(ft.For)
		}
		for _, m := range hit {
			if m.record != nil && (en.factor() != 1 || en.Kind == NoPool) {
				return 0, fmt.Errorf("fault %d: %s is a recording, which cannot be %s", i+1, m.address, en.Kind)
			}
			jobs = append(jobs, job{m, en})
		}
	}
	for _, j := range jobs {
		j.m.mu.Lock()
		err := j.m.plan.add(&j.m.rhythm, j.en, now)
		j.m.mu.Unlock()
		if err != nil {
			return 0, fmt.Errorf("miner %s: %w", j.m.address, err)
		}
	}
	for _, j := range jobs {
		j.m.poke()
	}
	if f.state != nil {
		f.state.dirty.Store(true)
	}
	return len(jobs), nil
}

func (f *Fleet) pick(s Selection) ([]*miner, error) {
	if !s.All && len(s.Addresses) == 0 && s.Family == "" && s.Machine == "" {
		return nil, errors.New("it selects no miner; give all, addresses, family or machine")
	}
	from := f.miners
	if len(s.Addresses) > 0 {
		from = nil
		for _, a := range s.Addresses {
			m, err := f.find(a)
			if err != nil {
				return nil, err
			}
			from = append(from, m)
		}
	}
	var hit []*miner
	for _, m := range from {
		d := m.describe()
		if (s.Family == "" || s.Family == d.Family) && (s.Machine == "" || s.Machine == d.Machine) {
			hit = append(hit, m)
		}
	}
	n := len(hit)
	if s.Share > 0 {
		n = int(math.Ceil(math.Min(s.Share, 1) * float64(n)))
	}
	if s.Count > 0 {
		n = min(n, s.Count)
	}
	out := make([]*miner, 0, n)
	for _, i := range spread(len(hit), n, 0) {
		out = append(out, hit[i])
	}
	if len(out) == 0 {
		return nil, errors.New("no miner of this fleet matches the selection")
	}
	return out, nil
}

// find looks a miner up by host:port, or by host alone.
func (f *Fleet) find(addr string) (*miner, error) {
	if m := f.byAddr[addr]; m != nil {
		return m, nil
	}
	if m := f.byAddr[addr+":"+strconv.Itoa(f.conf.Port)]; m != nil {
		return m, nil
	}
	return nil, fmt.Errorf("no miner of this fleet has the address %q", addr)
}

func (m *miner) describe() Miner {
	if m.record != nil {
		return Miner{Address: m.address, Machine: m.record.name, Family: "recorded", Recorded: true}
	}
	d := Miner{Address: m.address, Machine: m.spec.name, Family: m.spec.family, Maker: m.spec.maker, Model: m.spec.model}
	switch m.spec.family {
	case "whatsminer", "avalon", "avalon-home":
		d.MAC = m.mac
	}
	return d
}

// Miners lists the fleet, recordings last.
func (f *Fleet) Miners() []Miner {
	out := make([]Miner, len(f.miners))
	for i, m := range f.miners {
		out[i] = m.describe()
	}
	return out
}

// Expected is what the miner at addr would report at a moment; ok is false if there is none.
func (f *Fleet) Expected(addr string, at time.Time) (e Expectation, ok bool) {
	m, err := f.find(addr)
	if err != nil {
		return Expectation{}, false
	}
	return m.expectation(at), true
}

// Run serves the fleet until ctx ends, then closes every connection and socket, writes out the record and the state, and
// returns nil unless that failed. It may run once.
func (f *Fleet) Run(ctx context.Context) error {
	f.mu.Lock()
	again := f.began
	f.began = true
	f.mu.Unlock()
	if again {
		return errors.New("the fleet runs or ran already; make another one with New")
	}
	if err := f.prepare(); err != nil {
		f.closeAll()
		return err
	}
	close(f.up)
	for _, m := range f.miners {
		if f.tcp {
			f.spawn(func() { f.listenLoop(ctx, m) })
		}
	}
	err := f.keep(ctx)
	f.mu.Lock()
	close(f.stopped)
	f.mu.Unlock()
	f.closeAll()
	f.work.Wait()
	errs := []error{err, f.answers.close()}
	if f.state != nil {
		errs = append(errs, f.state.save(f, true))
	}
	return errors.Join(errs...)
}

// prepare opens the record, and reserves serial numbers in the state file before any is given out.
func (f *Fleet) prepare() error {
	if err := f.answers.open(); err != nil {
		return err
	}
	if f.state != nil {
		return f.state.save(f, false)
	}
	return nil
}

// keep writes the record and the state while the fleet runs.
func (f *Fleet) keep(ctx context.Context) error {
	if f.answers.file == nil && f.state == nil {
		<-ctx.Done()
		return nil
	}
	flush := time.NewTicker(flushInterval)
	defer flush.Stop()
	var ticks int
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-flush.C:
		}
		if err := f.answers.flush(); err != nil {
			return err
		}
		if ticks++; f.state != nil && (f.state.dirty.Swap(false) || ticks%600 == 0) {
			if err := f.state.save(f, false); err != nil {
				return err
			}
		}
	}
}

// spawn runs fn and lets Run wait for it; it reports false when the fleet has stopped.
func (f *Fleet) spawn(fn func()) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.halted() {
		return false
	}
	f.work.Go(fn)
	return true
}

func (f *Fleet) halted() bool {
	select {
	case <-f.stopped:
		return true
	default:
		return false
	}
}
